//! A link: its lanes' threads, what they are told to do, and how its pipeline is replaced.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::failure::Failure;
use super::genesis::{GENESIS_VERSION, Genesis};
use super::lane::{Lane, now_ms};
use super::orders::{Desired, Orders};
use super::pipeline::{Pipeline, Stage, check_routes};
use super::revision::{History, Origin, RevisionRecord, StageSpec, digest_of};
use super::status::{Counters, LaneState, LaneStatus, Meter, StageStats, lock};
use crate::config::{LinkConfig, Start};
use crate::connector::{Cluster, RevisionStart};
use crate::model::{Digest, RevisionNumber, TopicPartition};
use crate::plugin::{Plugin, PluginEngine};

/// Where the history is kept in the target.
const HISTORY: &str = "revisions";
/// Where the desired state is kept in the target.
const DESIRED: &str = "desired";
/// Where the genesis is kept in the target.
const GENESIS: &str = "genesis";

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
    genesis: Genesis,
}

impl Shared {
    /// Where a partition ended at genesis, if the link starts at `latest` and the partition was there.
    pub(super) fn genesis_end(&self, partition: &TopicPartition) -> Option<i64> {
        self.genesis.ends.get(&partition.to_string()).copied()
    }
}

/// A replication from one cluster to another.
pub struct Link {
    config: LinkConfig,
    source: Arc<dyn Cluster>,
    target: Arc<dyn Cluster>,
    engine: PluginEngine,
    /// The pipeline as the configuration file has it, with the components' bytes.
    configured: Vec<(StageSpec, Arc<[u8]>)>,
    stages: Mutex<BTreeMap<String, Arc<StageStats>>>,
    /// Held for the length of a start, stop, publish or rollback: one after the other.
    running: Mutex<Option<Running>>,
    /// What reads look at: never held for long.
    view: Mutex<View>,
    counters: Arc<Counters>,
    meter: Meter,
    /// One more than the largest lag seen; 0 is none.
    lag_ms_max: AtomicU64,
}

/// What is shown of a link that does not concern its lanes.
#[derive(Clone, Default)]
struct View {
    shared: Option<Arc<Shared>>,
    /// Why the link could not be started.
    failure: Option<Failure>,
    started_ms: Option<i64>,
    starting: bool,
    stopped: bool,
}

struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LinkState {
    Stopped,
    Starting,
    Active,
    Paused,
    Failed,
}

/// What a publish or rollback has done.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The new revision.
    pub record: RevisionRecord,
    /// Whether every lane has committed under it.
    pub complete: bool,
    /// The longest pause of a lane, once all have swapped.
    pub pause_max: Option<Duration>,
}

/// Why a publish or rollback was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no such stage.
    #[error("the link has no stage {0}")]
    NoStage(String),
    /// There is nothing to go back to.
    #[error("there is no revision to go back to")]
    NoRevision,
    /// The component or its configuration is refused, with the reason.
    #[error("{0}")]
    Refused(String),
    /// The target could not store it.
    #[error("{0}")]
    Failed(Failure),
}

impl Link {
    /// A link that does not run yet, and is starting until it was told what to do. `configured` is the pipeline of the configuration file, with the bytes of its components.
    pub fn new(
        config: LinkConfig,
        source: Arc<dyn Cluster>,
        target: Arc<dyn Cluster>,
        engine: PluginEngine,
        configured: Vec<(StageSpec, Arc<[u8]>)>,
    ) -> Self {
        Self {
            config,
            source,
            target,
            engine,
            configured,
            stages: Mutex::default(),
            running: Mutex::new(None),
            view: Mutex::new(View { starting: true, ..View::default() }),
            counters: Arc::default(),
            meter: Meter::default(),
            lag_ms_max: AtomicU64::new(0),
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// The cluster it reads.
    pub fn source(&self) -> &Arc<dyn Cluster> {
        &self.source
    }

    /// The cluster it writes.
    pub fn target(&self) -> &Arc<dyn Cluster> {
        &self.target
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

    /// What the desired state says, or the configuration if nobody has said anything yet.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn desired(&self) -> Result<Desired, Failure> {
        let stored = self.target.metadata(&self.config.id, DESIRED)?;
        let stored = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(stored.unwrap_or(if self.config.autostart { Desired::Running } else { Desired::Stopped }))
    }

    /// Do what the desired state says, when the daemon starts. It may take as long as a plugin takes to compile.
    pub fn resume_desired(&self) {
        let mut running = lock(&self.running);
        let outcome = self.desired().and_then(|desired| self.bring(&mut running, desired));
        if let Err(failure) = outcome {
            tracing::error!(link = &*self.config.id, code = failure.code, "{failure}");
            self.fail(failure);
        }
    }

    /// Change what the link is to do, durably, and wait until it does it.
    ///
    /// # Errors
    /// The target cannot be written, or the link cannot start.
    pub fn order(&self, desired: Desired) -> Result<(), Failure> {
        // What is stored and what runs change under one lock, or two orders at once could leave them apart.
        let mut running = lock(&self.running);
        let text = serde_json::to_vec(&desired).unwrap_or_default();
        self.target.put_metadata(&self.config.id, DESIRED, &text)?;
        self.bring(&mut running, desired).inspect_err(|failure| self.fail(failure.clone()))
    }

    /// Stop the lanes after they have committed, without touching the desired state: the daemon ends.
    pub fn halt(&self) {
        self.stop_lanes(&mut lock(&self.running));
        self.view_anew(|view| view.stopped = true);
    }

    fn stop_lanes(&self, running: &mut Option<Running>) {
        if let Some(Running { shared, threads }) = running.take() {
            stop(&shared, threads);
        }
    }

    /// The state, and why if it failed.
    pub fn state(&self) -> (LinkState, Option<Failure>) {
        let view = lock(&self.view).clone();
        if let Some(failure) = view.failure {
            return (LinkState::Failed, Some(failure));
        }
        if view.starting {
            return (LinkState::Starting, None);
        }
        let Some(shared) = view.shared.filter(|_| !view.stopped) else { return (LinkState::Stopped, None) };
        let lanes: Vec<LaneStatus> = shared.lanes.iter().map(|lane| lock(lane).clone()).collect();
        let failed = lanes.iter().find(|lane| lane.state == LaneState::Failed);
        let retrying = lanes.iter().find(|lane| lane.state == LaneState::Retrying);
        let failure = failed.or(retrying).and_then(|lane| lane.failure.clone());
        let state = if failed.is_some() {
            LinkState::Failed
        } else if lanes.iter().any(|lane| lane.state == LaneState::Opening) {
            LinkState::Starting
        } else if shared.orders.desired() == Desired::Paused {
            LinkState::Paused
        } else {
            LinkState::Active
        };
        (state, failure)
    }

    /// The lanes, by number; empty if the link was never started.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        let shared = lock(&self.view).shared.clone();
        shared.map(|shared| shared.lanes.iter().map(|lane| lock(lane).clone()).collect()).unwrap_or_default()
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
        let Some(bytes) = self.target.metadata(&self.config.id, HISTORY)? else { return Ok(History::default()) };
        History::decode(&bytes).map_err(|message| {
            Failure::fatal("history-unreadable", message, "restore the target, or use a newer tidegate")
        })
    }

    /// Where each revision began.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn revision_starts(&self) -> Result<Vec<RevisionStart>, Failure> {
        Ok(self.target.revision_starts(&self.config.id)?)
    }

    /// When the link was made, in milliseconds since 1970-01-01 UTC, if it was.
    pub fn created_ms(&self) -> Option<i64> {
        self.stored_genesis().ok().flatten().map(|genesis| genesis.at_ms)
    }

    /// Whether every lane has committed under `number` or a later revision.
    pub fn is_complete(&self, number: RevisionNumber) -> bool {
        let lanes = self.lanes();
        !lanes.is_empty() && lanes.iter().all(|lane| lane.revision >= Some(number))
    }

    /// Replace the plugin of a stage.
    ///
    /// # Errors
    /// The component or its configuration is refused, or the target cannot store it. Then nothing has changed.
    pub fn publish(
        &self,
        stage: &str,
        bytes: &[u8],
        config: Option<Value>,
        by: &str,
    ) -> Result<Publication, PublishError> {
        // Compiling may take seconds: before the lock.
        let plugin = self.engine.load(bytes).map_err(|refusal| PublishError::Refused(refusal.to_string()))?;
        let running = lock(&self.running);
        // What the file says comes first, or it would replace what is published at the next start.
        let mut stages = self.revision_to_run().map_err(PublishError::Failed)?.stages;
        let mut history = self.history().map_err(PublishError::Failed)?;
        let spec = stages.iter_mut().find(|spec| spec.name == stage);
        let spec = spec.ok_or_else(|| PublishError::NoStage(stage.to_owned()))?;
        self.check_world(spec, &plugin)?;
        spec.plugin_digest = plugin.digest();
        spec.plugin_name.clone_from(&plugin.description().name);
        spec.plugin_version.clone_from(&plugin.description().version);
        if let Some(config) = config {
            spec.config = config;
        }
        // A component is stored when it is known to work, and loaded from there like any other.
        let stage = Stage { spec: spec.clone(), plugin: plugin.clone(), stats: self.stats(&spec.name) };
        self.check_stage(&stage)?;
        self.target.put_artifact(&plugin.digest(), bytes).map_err(|error| PublishError::Failed(error.into()))?;
        self.release(running.as_ref(), &mut history, stages, Origin::Publish, by)
    }

    /// Publish the content of an earlier revision again.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub fn rollback(&self, to: Option<RevisionNumber>, by: &str) -> Result<Publication, PublishError> {
        let running = lock(&self.running);
        self.revision_to_run().map_err(PublishError::Failed)?;
        let mut history = self.history().map_err(PublishError::Failed)?;
        let old = match to {
            Some(number) => history.get(number),
            None => history.previous(),
        };
        let stages = old.ok_or(PublishError::NoRevision)?.stages.clone();
        self.release(running.as_ref(), &mut history, stages, Origin::Rollback, by)
    }

    /// A refused plugin of another world: the stage's place in the pipeline was made for what it has.
    fn check_world(&self, spec: &StageSpec, new: &Plugin) -> Result<(), PublishError> {
        // Publishing is also the cure for an old component that is gone or damaged.
        let Ok(old) = self.load(&spec.plugin_digest) else { return Ok(()) };
        if old.world() == new.world() {
            return Ok(());
        }
        let (name, old, new) = (&spec.name, old.world(), new.world());
        Err(PublishError::Refused(format!("wrong world: stage {name} runs a {old}, and this plugin is a {new}")))
    }

    fn check_stage(&self, stage: &Stage) -> Result<(), PublishError> {
        let instance = stage.configure(&self.config.id).map_err(|error| PublishError::Refused(error.to_string()))?;
        check_routes(&self.config, instance.routes()).map_err(PublishError::Refused)
    }

    /// Number a pipeline, make it durable, and only then let the lanes see it.
    fn release(
        &self,
        running: Option<&Running>,
        history: &mut History,
        stages: Vec<StageSpec>,
        origin: Origin,
        by: &str,
    ) -> Result<Publication, PublishError> {
        let record = history.push(stages, origin, by, now_ms()).clone();
        let pipeline = self.compile(record.clone()).map_err(PublishError::Failed)?;
        pipeline.stages.iter().try_for_each(|stage| self.check_stage(stage))?;
        if running.is_some() {
            pipeline.make_spares(&self.config.id, self.config.lanes).map_err(PublishError::Failed)?;
        }
        self.store_history(history).map_err(PublishError::Failed)?;
        tracing::info!(link = &*self.config.id, revision = record.number.0, digest = %record.digest, by, "published");
        let Some(running) = running else { return Ok(Publication { record, complete: false, pause_max: None }) };
        let shared = &running.shared;
        shared.slot.store(Arc::new(pipeline));
        shared.orders.notify();
        let lane_failed = || shared.lanes.iter().any(|lane| lock(lane).state == LaneState::Failed);
        shared.orders.wait_until(SWAP_PATIENCE, || self.is_complete(record.number) || lane_failed());
        self.engine.forget_unused();
        let complete = self.is_complete(record.number);
        let pauses = shared.lanes.iter().filter_map(|lane| lock(lane).last_swap_pause);
        Ok(Publication { complete, pause_max: pauses.max().filter(|_| complete), record })
    }

    fn store_history(&self, history: &History) -> Result<(), Failure> {
        Ok(self.target.put_metadata(&self.config.id, HISTORY, &history.encode())?)
    }

    /// Compile a revision from the components that the target holds.
    fn compile(&self, record: RevisionRecord) -> Result<Pipeline, Failure> {
        let stage = |spec: &StageSpec| {
            let plugin = self.load(&spec.plugin_digest)?;
            Ok(Stage { spec: spec.clone(), plugin, stats: self.stats(&spec.name) })
        };
        let stages = record.stages.iter().map(stage).collect::<Result<_, Failure>>()?;
        Ok(Pipeline::new(record, stages))
    }

    fn load(&self, digest: &Digest) -> Result<Arc<Plugin>, Failure> {
        let configured = self.configured.iter().find(|(spec, _)| spec.plugin_digest == *digest);
        let bytes = match configured {
            Some((_, bytes)) => bytes.to_vec(),
            None => self.target.artifact(digest)?.ok_or_else(|| {
                let message = format!("the component {digest} is not in the target");
                Failure::fatal("artifact-missing", message, "publish the plugin again")
            })?,
        };
        self.engine.load(&bytes).map_err(|refusal| {
            Failure::fatal("plugin-refused", format!("the component {digest}: {refusal}"), "publish another plugin")
        })
    }

    fn stats(&self, stage: &str) -> Arc<StageStats> {
        lock(&self.stages).entry(stage.to_owned()).or_default().clone()
    }

    fn fail(&self, failure: Failure) {
        self.counters.errors.fetch_add(1, Relaxed);
        self.view_anew(|view| view.failure = Some(failure));
    }

    /// Show nothing but the lanes as they were last, and what `change` says.
    fn view_anew(&self, change: impl FnOnce(&mut View)) {
        let mut view = lock(&self.view);
        *view = View { shared: view.shared.take(), ..View::default() };
        change(&mut view);
    }

    /// Bring the lanes up or down, or tell those that are up what to do.
    fn bring(&self, running: &mut Option<Running>, desired: Desired) -> Result<(), Failure> {
        if desired == Desired::Stopped {
            self.stop_lanes(running);
            self.view_anew(|view| view.stopped = true);
            return Ok(());
        }
        if let Some(up) = &*running {
            let healthy = up.shared.lanes.iter().all(|lane| lock(lane).state != LaneState::Failed);
            if healthy {
                up.shared.orders.set(desired);
                self.await_lanes(&up.shared, desired);
                return Ok(());
            }
        }
        // Lanes that failed are brought up anew, together with the others.
        self.stop_lanes(running);
        self.view_anew(|view| view.starting = true);
        let shared = Arc::new(self.shared(desired)?);
        let threads = spawn_lanes(&shared)?;
        let view = View { shared: Some(shared.clone()), started_ms: Some(now_ms()), ..View::default() };
        *lock(&self.view) = view;
        self.await_lanes(&shared, desired);
        *running = Some(Running { shared, threads });
        Ok(())
    }

    /// Wait until no lane is between two states.
    fn await_lanes(&self, shared: &Shared, desired: Desired) {
        let settled = |state: LaneState| match desired {
            Desired::Paused => matches!(state, LaneState::Paused | LaneState::Failed | LaneState::Retrying),
            _ => !matches!(state, LaneState::Opening | LaneState::Paused | LaneState::Stopped),
        };
        shared.orders.wait_until(SWAP_PATIENCE, || shared.lanes.iter().all(|lane| settled(lock(lane).state)));
    }

    fn shared(&self, desired: Desired) -> Result<Shared, Failure> {
        let genesis = self.genesis()?;
        let record = self.revision_to_run()?;
        Ok(Shared {
            config: self.config.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            slot: ArcSwap::from_pointee(self.compile(record)?),
            orders: Orders::new(desired),
            lanes: (0..self.config.lanes).map(|_| Mutex::default()).collect(),
            counters: self.counters.clone(),
            genesis,
        })
    }

    /// The published revision; or a new one, if the configuration file has changed since it was last published.
    fn revision_to_run(&self) -> Result<RevisionRecord, Failure> {
        let mut history = self.history()?;
        let stages: Vec<StageSpec> = self.configured.iter().map(|(spec, _)| spec.clone()).collect();
        let known = history.last_from_toml().is_some_and(|revision| revision.digest == digest_of(&stages));
        if let Some(last) = history.last().filter(|_| known) {
            return Ok(last.clone());
        }
        for (spec, bytes) in &self.configured {
            self.target.put_artifact(&spec.plugin_digest, bytes)?;
        }
        let record = history.push(stages, Origin::Toml, "configuration file", now_ms()).clone();
        self.store_history(&history)?;
        Ok(record)
    }

    fn stored_genesis(&self) -> Result<Option<Genesis>, Failure> {
        let Some(bytes) = self.target.metadata(&self.config.id, GENESIS)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::fatal("genesis-unreadable", format!("the link's genesis: {error}"), "restore the target")
        })
    }

    /// What the link was made with; it is made if the target does not know it.
    fn genesis(&self) -> Result<Genesis, Failure> {
        if let Some(genesis) = self.stored_genesis()? {
            return genesis.checked(&self.config);
        }
        let ends = match self.config.start {
            Start::Latest => self.source_ends()?,
            Start::Earliest => BTreeMap::new(),
        };
        let source = self.config.source.to_string();
        let genesis = Genesis { v: GENESIS_VERSION, at_ms: now_ms(), lanes: self.config.lanes, source, ends };
        let bytes = serde_json::to_vec(&genesis).unwrap_or_default();
        self.target.put_metadata(&self.config.id, GENESIS, &bytes)?;
        Ok(genesis)
    }

    fn source_ends(&self) -> Result<BTreeMap<String, i64>, Failure> {
        let mut ends = BTreeMap::new();
        for topic in self.source.topics()?.iter().filter(|topic| self.config.selects(&topic.name)) {
            for partition in 0..topic.partitions {
                let partition = TopicPartition::new(topic.name.clone(), partition);
                ends.insert(partition.to_string(), self.source.range(&partition)?.end);
            }
        }
        Ok(ends)
    }
}

fn stop(shared: &Shared, threads: Vec<JoinHandle<()>>) {
    shared.orders.set(Desired::Stopped);
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// All lanes, or none.
fn spawn_lanes(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, Failure> {
    let mut threads = Vec::new();
    for number in 0..shared.config.lanes {
        match spawn(shared, number) {
            Ok(thread) => threads.push(thread),
            Err(failure) => {
                stop(shared, threads);
                return Err(failure);
            }
        }
    }
    Ok(threads)
}

fn spawn(shared: &Arc<Shared>, number: u32) -> Result<JoinHandle<()>, Failure> {
    let shared = shared.clone();
    lock(&shared.lanes[number as usize]).state = LaneState::Opening;
    let body = move || {
        let lane = Lane::new(shared.clone(), number);
        if catch_unwind(AssertUnwindSafe(|| lane.run())).is_err() {
            let failure =
                Failure::fatal("internal", "the lane panicked: see the log", "report this, then start the link");
            let mut status = lock(&shared.lanes[number as usize]);
            status.state = LaneState::Failed;
            status.failure = Some(failure);
        }
        shared.orders.notify();
    };
    thread::Builder::new().name(format!("lane-{number}")).spawn(body).map_err(|error| {
        Failure::fatal("no-thread", format!("no thread for lane {number}: {error}"), "raise the limit of processes")
    })
}
