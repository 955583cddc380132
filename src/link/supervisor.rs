//! A link: its lanes' threads, what they are told to do, and how its pipeline is replaced.

mod ahead;
mod desired;
mod publish;
mod state;
mod threads;
mod verify;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::behind::Past;
use super::components::{Components, Guard};
use super::events::{Event, Events};
use super::failover::Places;
use super::failure::{Attempts, Failure};
use super::genesis::{Genesis, of_lanes, only_waits};
use super::groups::Groups;
use super::heartbeats::{Heartbeats, Latency};
use super::lane::now_ms;
use super::observer::Observer;
use super::orders::{Desired, Order, Orders, Ours};
use super::pipeline::{Pipeline, Stage};
use super::relane::Seen;
use super::revision::{History, StageSpec};
use super::sight::Sights;
use super::status::{Counters, LaneState, LaneStatus, Meter, lock};
use super::throttle::Throttle;
use super::topics::Topics;
use super::upgrade::Colleagues;
use super::warden::Alarm;
use super::watch::Watch;
use crate::config::{BreakerAction, LinkConfig, Neighbours};
use crate::connector::{Class, Cluster, LaneGroup, RevisionStart};
use crate::model::layout::LAYOUT_NEWEST;
use crate::model::{ClusterId, Culprit, Digest, LinkId, Repeats, RevisionNumber, TopicPartition};
use crate::plugin::PluginEngine;

pub use ahead::OrderError;
pub use publish::{NewPlugin, Publication, PublishError};
pub use state::LinkState;
pub use verify::VerifyError;

/// Where the history is kept in the target.
const HISTORY: &str = "revisions";

/// How long a publish waits for the lanes before it answers that it is under way.
const SWAP_PATIENCE: Duration = Duration::from_secs(10);

/// What the lanes of a link share.
pub(super) struct Shared {
    pub(super) config: LinkConfig,
    pub(super) source: Arc<dyn Cluster>,
    pub(super) target: Arc<dyn Cluster>,
    pub(super) slot: ArcSwap<Pipeline>,
    pub(super) orders: Orders,
    pub(super) lanes: Vec<Mutex<LaneStatus>>,
    pub(super) counters: Arc<Counters>,
    pub(super) events: Arc<Events>,
    pub(super) repeats: Arc<Repeats>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) topics: Arc<Topics>,
    pub(super) latency: Arc<Latency>,
    pub(super) throttle: Arc<Throttle>,
    components: Arc<Components>,
    pub(super) genesis: Genesis,
    /// What that asks of every pipeline.
    pub(super) guard: Guard,
    /// The newest layout that this daemon knows.
    pub(super) layout_max: u32,
    /// Whether a lane has found out that these lanes do not count any more.
    pub(super) outlived: AtomicBool,
    /// Why it is not known which lanes are ours.
    pub(super) trouble: Mutex<Option<Failure>>,
    /// What links from the target have written to the source without a mark, once it is known.
    pub(super) behind: OnceLock<Vec<Past>>,
}

impl Shared {
    /// Where the link begins in a partition, if the genesis says so.
    pub(super) fn genesis_start(&self, partition: &TopicPartition) -> Option<i64> {
        self.genesis.start_of(partition, &self.config.start)
    }

    /// What a lane is to run that has committed under `committed` before. A revision that is not known here was published by another daemon that runs
    /// the link, and is taken from the target.
    pub(super) fn pipeline_after(&self, committed: Option<RevisionNumber>) -> Result<Arc<Pipeline>, Failure> {
        let known = self.slot.load_full();
        if committed <= Some(known.number()) {
            return Ok(known);
        }
        let history = history_of(&*self.target, &self.config.id)?;
        if let Some(newest) = history.last() {
            // Whoever has published it watches it.
            self.take_over(self.components.pipeline(&history, newest.clone(), &self.guard, Watch::default())?);
        }
        Ok(self.slot.load_full())
    }

    /// Put a newer pipeline into the slot. Another lane, or a publish, may have been faster.
    pub(super) fn take_over(&self, newest: Pipeline) {
        let newest = Arc::new(newest);
        self.slot.rcu(|now| if now.number() < newest.number() { newest.clone() } else { now.clone() });
    }

    /// A stage as an earlier revision had it.
    pub(super) fn stage_of(&self, stage: &str, plugin: Digest, revision: RevisionNumber) -> Result<Stage, Failure> {
        let history = history_of(&*self.target, &self.config.id)?;
        let record = history.get(revision);
        let spec = record.and_then(|record| record.stages.iter().find(|spec| spec.name == stage));
        let spec = spec.filter(|spec| spec.plugin_digest == plugin).ok_or_else(|| {
            let message = format!("revision {revision}, which wrote the state of stage {stage}, is not in the history");
            Failure::fatal(
                "revision-unknown",
                message,
                "the link's history in the target is damaged: restore the target",
            )
        })?;
        self.components.stage(spec)
    }

    /// A lane cannot go on. If it is the plugins' fault, a revision on probation has not passed: the one that the lane ran, for another one may just have come.
    pub(super) fn blame(&self, failure: &Failure, lane: u32) {
        self.events.push(Event {
            code: Some(failure.code.to_owned()),
            stage: failure.stage.clone(),
            ..Event::new("lane-failed", failure.message.clone())
        });
        let (present, ran) = (self.slot.load(), lock(&self.lanes[lane as usize]).runs);
        if failure.stage.is_some() && ran == Some(present.number()) && present.watch.is_on_probation() {
            present.watch.raise(BreakerAction::Rollback, failure.message.clone());
            self.alarm.ring();
        }
    }
}

/// The code of an order to a link that nobody looks after any more: its definition has changed, or the daemon ends.
pub const LINK_REPLACED: &str = "link-replaced";

/// A replication from one cluster to another.
pub struct Link {
    config: LinkConfig,
    /// The name of this daemon.
    daemon: Arc<str>,
    /// The newest layout that it takes part in.
    layout_max: u32,
    /// The version of its definition; 0 for one of the configuration file.
    pub(super) definition: u64,
    /// The definition that its work is done for, if one has brought it.
    culprit: Option<Culprit>,
    source: Arc<dyn Cluster>,
    target: Arc<dyn Cluster>,
    pub(super) around: ArcSwap<Around>,
    pub(super) components: Arc<Components>,
    pub(super) events: Arc<Events>,
    /// What is in the log of failures that last.
    pub(super) repeats: Arc<Repeats>,
    /// How often it was tried to do what the desired state says.
    resuming: Mutex<Attempts>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) topics: Arc<Topics>,
    pub(super) groups: Groups,
    pub(super) heartbeats: Heartbeats,
    pub(super) throttle: Arc<Throttle>,
    pub(super) observer: Observer,
    pub(super) sights: Sights,
    /// Held for the length of a start, stop, publish or rollback: one after the other.
    pub(super) running: Mutex<Option<Running>>,
    /// What reads look at: never held for long.
    pub(super) view: Mutex<View>,
    /// What it was told last, here or at another daemon.
    pub(super) told: Mutex<Option<Order>>,
    /// What was said here and is not known to the target: it counts before what is stored.
    ahead: Mutex<Option<Desired>>,
    /// What was stored about the link when this daemon looked last: see [`Cluster::metadata_version`].
    pub(super) followed: Mutex<Option<u64>>,
    /// What the lanes are to become, if that was seen.
    pub(super) relaning: Mutex<Option<Seen>>,
    pub(super) colleagues: Colleagues,
    pub(super) places: Places,
    counters: Arc<Counters>,
    meter: Meter,
    /// One more than the largest lag seen; 0 is none.
    lag_ms_max: AtomicU64,
    verifying: verify::Verifying,
}

/// What a link knows of others.
#[derive(Default)]
pub struct Around {
    /// The links that it shares records with.
    pub neighbours: Arc<Neighbours>,
    /// Their clusters.
    pub clusters: BTreeMap<ClusterId, Arc<dyn Cluster>>,
}

/// What is shown of a link that does not concern its lanes.
#[derive(Clone, Default)]
pub(super) struct View {
    pub(super) shared: Option<Arc<Shared>>,
    /// Why the link could not be started.
    pub(super) failure: Option<Failure>,
    started_ms: Option<i64>,
    pub(super) starting: bool,
    pub(super) stopped: bool,
}

pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The resets that it was started after.
    resets: u64,
}

impl Link {
    /// A link that does not run yet, and is starting until it was told what to do. `configured` is the pipeline of the configuration file, with the bytes of its components.
    pub fn new(
        config: LinkConfig,
        daemon: Arc<str>,
        source: Arc<dyn Cluster>,
        target: Arc<dyn Cluster>,
        engine: PluginEngine,
        configured: Vec<(StageSpec, Arc<[u8]>)>,
    ) -> Self {
        Self {
            daemon,
            layout_max: LAYOUT_NEWEST,
            definition: 0,
            culprit: None,
            source,
            around: ArcSwap::default(),
            components: Arc::new(Components::new(engine, target.clone(), configured)),
            target,
            events: Arc::default(),
            repeats: Arc::default(),
            resuming: Mutex::default(),
            alarm: Arc::default(),
            topics: Arc::default(),
            groups: Groups::default(),
            heartbeats: Heartbeats::default(),
            observer: Observer::default(),
            sights: Sights::default(),
            throttle: Arc::new(Throttle::new(config.config.throttle_rate)),
            config,
            running: Mutex::new(None),
            view: Mutex::new(View { starting: true, ..View::default() }),
            told: Mutex::default(),
            ahead: Mutex::default(),
            followed: Mutex::default(),
            relaning: Mutex::default(),
            colleagues: Colleagues::default(),
            places: Places::default(),
            counters: Arc::default(),
            meter: Meter::default(),
            lag_ms_max: AtomicU64::new(0),
            verifying: verify::Verifying::default(),
        }
    }

    /// Have it know this of other links from now on.
    #[must_use]
    pub fn with_around(self, around: Around) -> Self {
        self.introduce(around);
        self
    }

    /// The same for a link that runs: other links come and go.
    pub fn introduce(&self, around: Around) {
        self.around.store(Arc::new(around));
    }

    /// Have it take part in layouts up to this one only.
    #[must_use]
    pub fn with_layout_max(self, layout_max: u32) -> Self {
        Self { layout_max, ..self }
    }

    /// Have it be of this version of its definition.
    #[must_use]
    pub fn with_definition(self, definition: u64) -> Self {
        Self { definition, ..self }
    }

    /// Have its work be done for this definition.
    #[must_use]
    pub fn with_culprit(self, culprit: Option<Culprit>) -> Self {
        Self { culprit, ..self }
    }

    /// The definition that its work is done for, if one has brought it.
    pub fn culprit(&self) -> Option<Culprit> {
        self.culprit
    }

    /// The newest layout that this daemon takes part in.
    pub fn layout_max(&self) -> u32 {
        self.layout_max
    }

    /// Its configuration.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// The name of this daemon.
    pub fn daemon(&self) -> &Arc<str> {
        &self.daemon
    }

    /// The cluster it reads.
    pub fn source(&self) -> &Arc<dyn Cluster> {
        &self.source
    }

    /// The cluster it writes.
    pub fn target(&self) -> &Arc<dyn Cluster> {
        &self.target
    }

    /// What happened to it lately.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What it has done since the daemon started.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its rates. Whoever owns the link samples them about once a second.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Remember a lag that was seen, in milliseconds.
    pub fn note_lag_ms(&self, lag: u64) {
        self.lag_ms_max.fetch_max(lag.saturating_add(1), Relaxed);
    }

    /// The largest lag that was seen since the daemon started, in milliseconds.
    pub fn lag_ms_max(&self) -> Option<u64> {
        self.lag_ms_max.load(Relaxed).checked_sub(1)
    }

    /// When it was started, in milliseconds since 1970-01-01 UTC.
    pub fn started_ms(&self) -> Option<i64> {
        lock(&self.view).started_ms
    }

    /// What the lanes share, while they move records.
    pub(super) fn at_work(&self) -> Option<Arc<Shared>> {
        let view = lock(&self.view);
        let shared = view.shared.as_ref().filter(|_| !view.stopped && !view.starting && view.failure.is_none())?;
        (shared.orders.desired() == Desired::Running).then(|| shared.clone())
    }

    /// The pipeline that lanes run, or have run last.
    pub(super) fn present(&self) -> Option<Arc<Pipeline>> {
        lock(&self.view).shared.as_ref().map(|shared| shared.slot.load_full())
    }

    /// Do what the desired state says, when the daemon starts. It may take as long as a plugin takes to compile. If a cluster does not answer, the warden
    /// tries again.
    pub fn resume_desired(&self) {
        let mut running = lock(&self.running);
        if !lock(&self.view).starting {
            // Somebody has said otherwise meanwhile.
            return;
        }
        if self.ahead() == Some(Desired::Stopped) {
            return self.view_anew(|view| view.stopped = true);
        }
        if let Ok(Some(order)) = self.stored_order() {
            *lock(&self.told) = Some(order);
        }
        // A link that was stopped shows too that it has failed over, and how fast it is to be.
        let _unreachable = (self.see_genesis(), self.follow_throttle());
        let outcome = self.desired().and_then(|desired| self.bring(&mut running, desired));
        match outcome {
            Ok(()) => lock(&self.resuming).begin_again(),
            Err(failure) => self.fail_for_now(failure),
        }
    }

    /// Bring the lanes up or down. The warden tries again what has failed for a reason that passes.
    pub(super) fn bring_or_retry(&self, running: &mut Option<Running>, desired: Desired) -> Result<(), Failure> {
        self.bring(running, desired).inspect_err(|failure| self.fail_for_now(failure.clone()))
    }

    /// The lanes could not be brought up or down.
    fn fail_for_now(&self, failure: Failure) {
        if !only_waits(failure.code) {
            lock(&self.resuming).failed(failure.class, Instant::now());
            if let Some(news) = self.repeats.news(format!("resuming: {failure}"), Instant::now()) {
                let repeated = news.repeated;
                tracing::error!(link = &*self.config.id, code = failure.code, repeated, "{failure}");
            }
        }
        let again = failure.class == Class::Reopen;
        self.fail(failure);
        lock(&self.view).starting = again;
    }

    /// Whether the link has not been started yet, because a cluster did not answer, and it is time to try again.
    pub(super) fn is_to_be_resumed(&self, now: Instant) -> bool {
        let view = lock(&self.view);
        view.starting && view.failure.is_some() && lock(&self.resuming).is_due(now)
    }

    /// Stop the lanes after they have committed, without touching the desired state: the daemon ends.
    pub fn halt(&self) {
        self.end_verification();
        stop_lanes(&mut lock(&self.running), false);
        self.view_anew(|view| view.stopped = true);
    }

    /// The lanes, by number; empty if the link was never started.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.each_lane(|_, lane| lane.clone())
    }

    /// Look at each lane, by number. A lane waits meanwhile if it has something to say.
    pub fn each_lane<T>(&self, mut look: impl FnMut(u32, &LaneStatus) -> T) -> Vec<T> {
        let shared = lock(&self.view).shared.clone();
        let lanes = shared.iter().flat_map(|shared| (0..).zip(&shared.lanes));
        lanes.map(|(number, lane)| look(number, &lock(lane))).collect()
    }

    /// Whether any lane is known here without asking the target.
    pub fn has_lanes(&self) -> bool {
        lock(&self.view).shared.is_some()
    }

    /// The stages of the newest pipeline that was started.
    pub fn stages(&self) -> Vec<Stage> {
        lock(&self.view).shared.as_ref().map(|shared| shared.slot.load().stages.clone()).unwrap_or_default()
    }

    /// All revisions, oldest first.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn history(&self) -> Result<History, Failure> {
        history_of(&*self.target, &self.config.id)
    }

    /// The same for who looks often: what is stored is decoded only if it is not what `before` was read from.
    pub(super) fn history_after(&self, before: &Arc<History>) -> Result<Arc<History>, Failure> {
        let stored = self.target.metadata(&self.config.id, HISTORY)?;
        if stored.as_deref() == before.stored() { Ok(before.clone()) } else { Ok(Arc::new(decode_history(stored)?)) }
    }

    /// Where each revision began.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn revision_starts(&self) -> Result<Vec<RevisionStart>, Failure> {
        let id = &self.config.id;
        of_lanes(&*self.target, id, |generation| Ok(self.target.revision_starts(id, generation)?))
    }

    /// Whether every lane has committed under `number` or a later revision.
    pub fn is_complete(&self, number: RevisionNumber) -> bool {
        let lanes = self.lanes();
        !lanes.is_empty() && lanes.iter().all(|lane| lane.revision >= Some(number))
    }

    pub(super) fn fail(&self, failure: Failure) {
        // What only has to be waited for is tried again by the warden.
        let waits = only_waits(failure.code);
        self.counters.errors.fetch_add(u64::from(!waits), Relaxed);
        self.view_anew(|view| (view.failure, view.starting) = (Some(failure), waits));
    }

    /// Show nothing but the lanes as they were last, and what `change` says.
    pub(super) fn view_anew(&self, change: impl FnOnce(&mut View)) {
        let mut view = lock(&self.view);
        *view = View { shared: view.shared.take(), ..View::default() };
        change(&mut view);
    }

    /// Bring the lanes up or down, or tell those that are up what to do.
    pub(super) fn bring(&self, running: &mut Option<Running>, desired: Desired) -> Result<(), Failure> {
        if desired == Desired::Stopped {
            stop_lanes(running, true);
            self.view_anew(|view| view.stopped = true);
            return Ok(());
        }
        // Lanes that were told to stop, whoever told them, have ended or will.
        if let Some(up) = running.as_ref().filter(|up| up.shared.orders.desired() != Desired::Stopped) {
            let healthy = up.shared.lanes.iter().all(|lane| lock(lane).state != LaneState::Failed);
            if healthy && up.resets == self.resets_told() {
                up.shared.orders.set(desired);
                self.await_lanes(&up.shared, desired);
                return Ok(());
            }
        }
        // Lanes that failed, or are to go on elsewhere, are brought up anew, together with the others.
        stop_lanes(running, false);
        self.view_anew(|view| view.starting = true);
        let genesis = self.genesis()?;
        let group = LaneGroup {
            link: self.config.id.clone(),
            lanes: genesis.lanes,
            generation: genesis.generation,
            daemon: self.daemon.clone(),
            layout: self.layout_max,
        };
        let membership = self.target.membership(&group);
        let ours = if membership.is_some() { Ours::Unknown } else { Ours::All };
        let shared = Arc::new(self.shared(Orders::new(desired, ours), genesis)?);
        // Before anything moves: what is held back must not run free until the warden looks.
        self.follow_throttle()?;
        let threads = threads::spawn_threads(&shared, membership, group)?;
        let view = View { shared: Some(shared.clone()), started_ms: Some(now_ms()), ..View::default() };
        *lock(&self.view) = view;
        // Who has said otherwise meanwhile has not seen these.
        self.have_lanes_obey();
        self.await_lanes(&shared, desired);
        *running = Some(Running { shared, threads, resets: self.resets_told() });
        Ok(())
    }

    /// Wait until no lane is between two states.
    fn await_lanes(&self, shared: &Shared, desired: Desired) {
        let settled = |state: LaneState| match desired {
            _ if state == LaneState::Elsewhere => true,
            Desired::Paused => matches!(state, LaneState::Paused | LaneState::Failed | LaneState::Retrying),
            _ => !matches!(state, LaneState::Opening | LaneState::Paused | LaneState::Stopped),
        };
        // Somebody may say otherwise meanwhile.
        let is_over =
            || shared.orders.desired() != desired || shared.lanes.iter().all(|lane| settled(lock(lane).state));
        shared.orders.wait_until(SWAP_PATIENCE, is_over);
    }

    fn shared(&self, orders: Orders, genesis: Genesis) -> Result<Shared, Failure> {
        let (history, record) = self.history_to_run()?;
        let watch = self.watch(&history, None);
        let guard = Guard::of(&*self.target, &self.config, Some(&genesis))?;
        Ok(Shared {
            // What the file says counts for a link that is new.
            config: LinkConfig { lanes: genesis.lanes, ..self.config.clone() },
            source: self.source.clone(),
            target: self.target.clone(),
            slot: ArcSwap::from_pointee(self.components.pipeline(&history, record, &guard, watch)?),
            orders,
            lanes: (0..genesis.lanes).map(|_| Mutex::default()).collect(),
            counters: self.counters.clone(),
            events: self.events.clone(),
            repeats: self.repeats.clone(),
            alarm: self.alarm.clone(),
            topics: self.topics.clone(),
            latency: self.heartbeats.latency.clone(),
            throttle: self.throttle.clone(),
            components: self.components.clone(),
            genesis,
            guard,
            layout_max: self.layout_max,
            outlived: AtomicBool::new(false),
            trouble: Mutex::default(),
            behind: OnceLock::new(),
        })
    }
}

/// The history of a link that writes to a cluster.
pub(super) fn history_of(target: &dyn Cluster, link: &LinkId) -> Result<History, Failure> {
    decode_history(target.metadata(link, HISTORY)?)
}

fn decode_history(stored: Option<Vec<u8>>) -> Result<History, Failure> {
    let Some(bytes) = stored else { return Ok(History::default()) };
    History::decode(&bytes)
        .map_err(|message| Failure::fatal("history-unreadable", message, "restore the target, or use a newer tidegate"))
}

pub(super) fn stop_lanes(running: &mut Option<Running>, leaving: bool) {
    if let Some(Running { shared, threads, .. }) = running.take() {
        threads::stop(&shared, threads, leaving);
    }
}
