//! The target takes the place of the source, and gives it back.
//!
//! 1. What the source still has is waited for, as far as it answers.
//! 2. It is said in the genesis that the link fails over: nobody opens a lane any more. Then all lanes are fenced, *after* that it is read where they were: what was
//!    committed until then counts, and nothing can be committed later.
//! 3. That is written down, groups are moved, and it is said in the genesis that the target has the source's place.
//!
//! As with lanes that become others (`relane`), each change of the genesis is one comparison and writing, and whoever opens a lane looks there after having fenced.
//! What is between two of them may be done again: by the same daemon when it comes back, by another one when nothing comes on for a while.
//!
//! Reading order: `record` (what is kept), this file, `back` (the way back), `others` (whose records the target has), `standby` (who may write to the target), `trigger` (when it happens by itself).

mod back;
pub(super) mod others;
mod record;
pub(super) mod standby;
pub(super) mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use self::back::{ReturnError, ReturnPreview, ShutOut};
pub use self::record::{Direction, FailedOver, FailoverRecord, Phase, Positions, Reason, TopicPositions};
pub(super) use self::record::{places_of_all, returned_to_source};
pub use self::trigger::{Partitions, Signs, Trigger, is_nothing_read};
use super::events::Event;
use super::failure::Failure;
use super::genesis::{Genesis, Stored, UNDER_WAY, read};
use super::groups::{Fate, GroupPlan, Selected};
use super::lane::{now_ms, settings};
use super::orders::Desired;
use super::status::lock;
use super::supervisor::{Link, stop_lanes};
use super::trace;
use crate::connector::{Class, Error, PartitionRange, Patience};
use crate::model::TopicPartition;
use crate::model::layout::LAYOUT_OF_FAILOVER;

/// How long nothing may come on before another daemon takes it up.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How long our own lanes are given to end by themselves.
const PARTING_PATIENCE: Duration = Duration::from_secs(5);

/// How often is looked whether everything is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many lanes are fenced at once.
const FENCED_AT_ONCE: u32 = 8;

/// What a person or a trigger wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    pub because: Option<String>,
    /// Who.
    pub by: String,
    /// How long what the source still has is waited for.
    pub drain: Duration,
}

/// What a failover would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Where the link is.
    pub positions: Positions,
    /// Whether the source answers.
    pub source_answers: bool,
    /// Whether the link runs: else nothing would come that is waited for.
    pub runs: bool,
    /// What would become of the groups that go along; `None`: there are none, or that cannot be said.
    pub groups: Option<Vec<GroupPlan>>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Why a link does not fail over. Nothing has changed, unless it is said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// The link was never started.
    #[error("the link was never started: its target has nothing to take over")]
    NotStarted,
    /// Its target has the source's place already, or is about to.
    #[error("the link has failed over already")]
    Already(FailedOver),
    /// Its lanes are about to become others.
    #[error("the lanes are about to become others")]
    Relaning,
    /// This daemon is set to a layout in which nothing changes places.
    #[error("this daemon is set to layout {0}, in which nobody takes another's place")]
    LayoutTooOld(u32),
    /// A cluster does not answer. If the genesis says so already, it is gone on with as soon as it does.
    #[error("{0}")]
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for FailoverError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Where is kept what somebody outside was told last.
const TOLD: &str = "failover-told";

/// What was seen of a change of places.
#[derive(Debug)]
pub(super) struct Places {
    /// Whether there may be something that nobody outside was told.
    pub(super) has_news: AtomicBool,
    seen: std::sync::Mutex<Option<(FailedOver, Instant)>>,
    /// Held by whoever sees to it here.
    busy: std::sync::Mutex<()>,
    /// Held while the genesis is read for this: what was read first must not be remembered last.
    pub(super) reading: std::sync::Mutex<()>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            // Somebody may have died before he said it.
            has_news: AtomicBool::new(true),
            seen: std::sync::Mutex::default(),
            busy: std::sync::Mutex::default(),
            reading: std::sync::Mutex::default(),
        }
    }
}

impl Places {
    /// Remember what the genesis says, and since when it does.
    pub(super) fn see(&self, genesis: Option<&Genesis>) {
        let found = genesis.and_then(|genesis| genesis.failover.clone());
        let mut seen = lock(&self.seen);
        *seen = match (found, seen.take()) {
            (None, _) => None,
            (Some(over), Some((known, since))) if known == over => Some((over, since)),
            (Some(over), _) => Some((over, Instant::now())),
        };
    }

    /// What the genesis says, as far as is known here.
    pub(super) fn now(&self) -> Option<FailedOver> {
        lock(&self.seen).as_ref().map(|(over, _)| over.clone())
    }

    /// Whether somebody else does not come on with it. Each daemon that takes it up is given more time than the one before.
    fn is_stalled(&self) -> bool {
        let is_late = |(over, since): &(FailedOver, Instant)| since.elapsed() > STALLED_AFTER * (over.tries + 1);
        lock(&self.seen).as_ref().is_some_and(is_late)
    }
}

impl Link {
    /// That the target has the source's place, or is about to, as far as this daemon has heard.
    pub fn failed_over(&self) -> Option<FailedOver> {
        self.places.now()
    }

    /// Have the target take the source's place. Answers when it has.
    ///
    /// # Errors
    /// See [`FailoverError`].
    pub fn fail_over(&self, wanted: &Wanted) -> Result<FailoverRecord, FailoverError> {
        let _busy = lock(&self.places.busy);
        if self.layout_max() < LAYOUT_OF_FAILOVER {
            return Err(FailoverError::LayoutTooOld(self.layout_max()));
        }
        check(self.stored_genesis()?.as_ref())?;
        let _told = trace::failover(self.config(), &wanted.by).entered();
        let since_ms = now_ms();
        let drained = trace::step("drain").in_scope(|| self.drain(wanted.drain));
        self.check_still_wanted(wanted)?;
        let over = loop {
            let stored = self.stored_genesis()?;
            let stored = check(stored.as_ref())?;
            let over = FailedOver {
                epoch: stored.genesis.link_epoch + 1,
                id: Some(Uuid::new_v4().simple().to_string()),
                back: None,
                phase: Phase::Fencing,
                daemon: self.daemon().to_string(),
                since_ms,
                reason: wanted.reason,
                because: wanted.because.clone(),
                by: wanted.by.clone(),
                drained,
                tries: 0,
            };
            if self.replace_genesis(stored, stored.genesis.failing_over(over.clone()))?.is_some() {
                break over;
            }
        };
        let message = format!("the target takes the source's place, says {}", wanted.by);
        tracing::warn!(link = &*self.config().id, epoch = over.epoch, by = wanted.by, "failing over");
        self.events.push(Event::new("failing-over", message));
        Ok(self.carry_out_failover()?)
    }

    /// Whether there may be something to be told to somebody outside.
    pub fn has_news(&self) -> bool {
        self.places.has_news.load(Relaxed)
    }

    /// Telling has come to nothing: it is to be tried again.
    pub fn keep_news(&self) {
        self.places.has_news.store(true, Relaxed);
    }

    /// What is to be told to somebody outside: the last failover or failback, if it was not yet.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn untold(&self) -> Result<Option<FailoverRecord>, Failure> {
        if !self.places.has_news.swap(false, Relaxed) {
            return Ok(None);
        }
        let read = || -> Result<_, Failure> { Ok((self.failovers()?.0.pop(), self.told()?)) };
        let (last, told) = read().inspect_err(|_| self.places.has_news.store(true, Relaxed))?;
        Ok(last.filter(|last| told.is_none_or(|told| told != last.id())))
    }

    /// Remember that somebody outside was told of it, or cannot be.
    ///
    /// # Errors
    /// The target cannot be written.
    pub fn note_told(&self, record: &FailoverRecord) -> Result<(), Failure> {
        self.store(TOLD, record.id().as_bytes())
    }

    fn told(&self) -> Result<Option<String>, Failure> {
        let bytes = self.target().metadata(&self.config().id, TOLD)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Remember something that happened around the link, for people.
    pub fn note(&self, kind: &'static str, message: String) {
        self.events.push(Event::new(kind, message));
    }

    /// Whether nobody looks after the link any more: the daemon ends, or the link goes.
    pub fn is_dismissed(&self) -> bool {
        self.alarm.is_ended()
    }

    /// What a failover would do. Changes nothing.
    ///
    /// # Errors
    /// See [`FailoverError`].
    pub fn preview_failover(&self) -> Result<Preview, FailoverError> {
        let stored = self.stored_genesis()?;
        let genesis = &check(stored.as_ref())?.genesis;
        let mut warnings = Vec::new();
        let positions = self.positions_now(genesis, &mut warnings)?;
        let source_answers = self.source_answers();
        let selected = &self.config().groups.groups;
        let groups = if selected.is_empty() || !source_answers {
            None
        } else {
            let planned = self.plan_groups(Selected { groups: Some(selected), ..Selected::default() });
            let planned = planned.inspect_err(|failure| warnings.push(format!("groups: {failure}"))).ok();
            warnings.extend(planned.iter().flatten().filter_map(GroupPlan::missing));
            planned
        };
        Ok(Preview { positions, source_answers, runs: self.desired()? == Desired::Running, groups, warnings })
    }

    /// See to it that the target takes the source's place, if that is for us to do now.
    pub(super) fn attend_failover(&self) {
        let Some(over) = self.places.now().filter(|over| over.phase == Phase::Fencing) else { return };
        if *over.daemon != **self.daemon() && !self.places.is_stalled() {
            return;
        }
        let Ok(_busy) = self.places.busy.try_lock() else { return };
        if let Err(failure) = self.carry_out_failover()
            && failure.code != UNDER_WAY
            && let Some(news) = self.repeats.news(format!("failover: {failure}"), Instant::now())
        {
            let (code, repeated) = (failure.code, news.repeated);
            tracing::error!(link = &*self.config().id, code, repeated, "it has not failed over yet: {failure}");
        }
    }

    fn carry_out_failover(&self) -> Result<FailoverRecord, Failure> {
        let stored = self.see_genesis()?;
        let over = stored.as_ref().and_then(|stored| stored.genesis.failover.clone());
        let over = over.filter(|over| over.phase == Phase::Fencing);
        let (Some(mut stored), Some(mut over)) = (stored, over) else { return Err(overtaken().into()) };
        if *over.daemon != **self.daemon() {
            over.daemon = self.daemon().to_string();
            over.tries += 1;
            let taken_up = stored.genesis.failing_over(over.clone());
            stored = self.replace_genesis(&stored, taken_up)?.ok_or_else(overtaken)?;
        }
        trace::step("fence").in_scope(|| {
            self.part(&over);
            self.fence(&stored.genesis, &over)
        })?;
        let mut warnings = Vec::new();
        let positions = self.positions_now(&stored.genesis, &mut warnings)?;
        let positions = self.put_positions(over.epoch, positions)?;
        // So far nothing else is warned of than a source that could not be asked.
        let left = warnings.is_empty().then(|| positions.left()).flatten();
        if let Some(left) = left.filter(|left| *left > 0) {
            warnings.push(format!(
                "at most {left} records of the source are not at the target: they come after a failback"
            ));
        }
        let (groups_moved, of_groups) = trace::step("groups").in_scope(|| self.move_groups());
        warnings.extend(of_groups);
        let record = FailoverRecord {
            direction: Direction::Failover,
            epoch: over.epoch,
            reason: over.reason,
            because: over.because.clone(),
            by: over.by.clone(),
            begun_ms: over.since_ms,
            done_ms: now_ms(),
            drained: over.drained,
            left,
            groups_moved,
            warnings,
        };
        self.put_record(&record)?;
        let done = FailedOver { phase: Phase::Over, since_ms: record.done_ms, ..over };
        self.replace_genesis(&stored, stored.genesis.failing_over(done))?.ok_or_else(overtaken)?;
        self.see_genesis()?;
        let left = record.left.map_or_else(|| "an unknown number of".to_owned(), |left| format!("at most {left}"));
        let message = format!("the target has the source's place; {left} records of the source are not there");
        tracing::warn!(link = &*self.config().id, epoch = record.epoch, "failed over: {message}");
        self.events.push(Event::new("failed-over", message));
        Ok(record)
    }

    /// Let our own lanes end, and others theirs; but not for longer than a moment: one that waits for a source that is gone is fenced like any other.
    fn part(&self, over: &FailedOver) {
        let running = {
            let mut running = lock(&self.running);
            // The warden tries again and again, and succeeds when the source has its place again.
            self.fail(over.as_error().into());
            running.take()
        };
        let (ended, is_ended) = channel();
        let end = move || {
            stop_lanes(&mut { running }, true);
            // Nobody may wait any more.
            let _gone = ended.send(());
        };
        if crate::model::culprit::spawn("parting", end).is_ok() {
            let _late = is_ended.recv_timeout(PARTING_PATIENCE);
        }
        self.await_parting();
    }

    /// Whether the source has answered lately, or does so now.
    pub(super) fn source_answers(&self) -> bool {
        match self.source_answer() {
            Some(answer) => answer.is_reachable(),
            None => self.source().probe().is_ok(),
        }
    }

    /// Wait until everything is over that the source has now. Whether it is; nothing if the source does not answer.
    fn drain(&self, patience: Duration) -> Option<bool> {
        if !self.source_answers() {
            return None;
        }
        let ends: Vec<_> = self.ranges_of_all().ok()?.into_iter().map(|(at, range)| (at, range.end)).collect();
        // Lanes may not have heard of a topic that was just made.
        self.topics.alarm.ring();
        let begun = Instant::now();
        loop {
            let at = self.committed().ok()?;
            let is_over = |(partition, end): &(TopicPartition, i64)| {
                *end == 0 || at.get(partition).is_some_and(|next| next >= end)
            };
            if ends.iter().all(is_over) {
                return Some(true);
            }
            if !self.source_answers() {
                return None;
            }
            if self.at_work().is_none() || begun.elapsed() >= patience || self.is_dismissed() {
                return Some(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What the source has now, in all its topics that the link reads.
    fn ranges_of_all(&self) -> Result<Vec<(TopicPartition, PartitionRange)>, Failure> {
        self.source().look(Duration::ZERO)?;
        let mut partitions: BTreeSet<TopicPartition> = self.committed()?.into_keys().collect();
        for topic in self.source().topics()?.into_iter().filter(|topic| self.config().selects(&topic.name)) {
            partitions.extend((0..topic.partitions).map(|number| TopicPartition::new(topic.name.clone(), number)));
        }
        self.ranges_at_source(partitions.into_iter())
    }

    /// The next offset of each partition: as lanes say, or the target where none run.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn committed(&self) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        let lanes = match self.lanes() {
            lanes if self.at_work().is_none() || lanes.is_empty() => self.lanes_in_target()?,
            lanes => lanes,
        };
        let of_lane = lanes.into_iter().flat_map(|lane| lane.committed);
        Ok(of_lane.map(|(partition, at)| (partition, at.next_offset)).collect())
    }

    /// Whether what was to happen by itself, or by a daemon that ends, is to happen still after it was waited for.
    fn check_still_wanted(&self, wanted: &Wanted) -> Result<(), Failure> {
        let is_held = wanted.reason != Reason::Manual && self.desired()? != Desired::Running;
        if !is_held && !self.is_dismissed() {
            return Ok(());
        }
        let message = "the link was paused or stopped meanwhile, or its daemon ends";
        Err(Failure::fatal("not-wanted-any-more", message, "fail the link over by hand"))
    }

    /// Fence all lanes, as long as the link record says `over`: who has opened one before cannot commit any more, and
    /// finds out there why.
    fn fence(&self, genesis: &Genesis, over: &FailedOver) -> Result<(), Failure> {
        let (target, id) = (&**self.target(), &self.config().id);
        let allowed = || {
            let now = read(target, id)?.and_then(|stored| stored.genesis.failover);
            let is_ours = now.is_some_and(|now| now.epoch == over.epoch && now.phase == over.phase);
            if is_ours { Ok(()) } else { Err(overtaken()) }
        };
        let fence = |lane: u32| -> Result<(), Failure> {
            target.sink(&settings(self.config(), genesis, lane))?.open(&allowed)?;
            Ok(())
        };
        let turns = FENCED_AT_ONCE.min(genesis.lanes);
        std::thread::scope(|scope| {
            let of_turn = |turn: u32| (turn..genesis.lanes).step_by(turns as usize).try_for_each(fence);
            let threads: Vec<_> = (0..turns).map(|turn| scope.spawn(move || of_turn(turn))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(panicked("the fencing of a lane"))))
        })
    }

    /// Where the link is in each partition.
    fn positions_now(&self, genesis: &Genesis, warnings: &mut Vec<String>) -> Result<Positions, Failure> {
        let checkpoints = self.target().checkpoints(&self.config().id, genesis.generation)?;
        let mut topics: BTreeMap<String, TopicPositions> = BTreeMap::new();
        let read = |partition: &TopicPartition| self.config().selects(&partition.topic);
        for (partition, checkpoint) in checkpoints.iter().filter(|(partition, _)| read(partition)) {
            let topic = topics.entry(partition.topic.to_string()).or_default();
            topic.next.insert(partition.partition, checkpoint.next_offset);
        }
        // Clients may write to the copies from now on, also of a topic of which no record is copied yet.
        for name in self.names_at_source() {
            topics.entry(name).or_default();
        }
        self.fill_target_ends(&mut topics)?;
        topics.retain(|_, topic| !(topic.next.is_empty() && topic.target_ends.is_empty()));
        if let Err(failure) = self.fill_source_ends(&mut topics) {
            warnings.push(format!("it is not known what the source still has: {failure}"));
        }
        Ok(Positions::new(topics))
    }

    /// The topics that the link reads: those that its configuration names, and those that the source
    /// has, if it answers.
    fn names_at_source(&self) -> BTreeSet<String> {
        let there = if self.source_answers() { self.source().topics().unwrap_or_default() } else { Vec::new() };
        let there = there.into_iter().map(|topic| topic.name);
        there
            .chain(self.config().named_topics().cloned())
            .filter(|name| self.config().selects(name))
            .map(|name| name.to_string())
            .collect()
    }

    fn fill_target_ends(&self, topics: &mut BTreeMap<String, TopicPositions>) -> Result<(), Failure> {
        let there: BTreeMap<Arc<str>, u32> =
            self.target().topics()?.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
        for (name, topic) in topics.iter_mut() {
            topic.target = self.config().target_topic(name);
            topic.target_ends = vec![0; there.get(&*topic.target).map_or(0, |count| *count as usize)];
        }
        let partitions: Vec<TopicPartition> = topics
            .values()
            .flat_map(|topic| {
                (0..topic.target_ends.len() as u32).map(|number| TopicPartition::new(&*topic.target, number))
            })
            .collect();
        let mut ends = self.target().log_ends(&partitions, Patience::Long).into_iter();
        for topic in topics.values_mut() {
            for (at, end) in topic.target_ends.iter_mut().zip(&mut ends) {
                *at = end?;
            }
        }
        Ok(())
    }

    fn fill_source_ends(&self, topics: &mut BTreeMap<String, TopicPositions>) -> Result<(), Failure> {
        if !self.source_answers() {
            let trouble = self.source_answer().and_then(|answer| answer.trouble);
            let message = trouble.map_or_else(|| "it does not answer".to_owned(), |trouble| trouble.in_full());
            return Err(Failure::fatal("source-unreachable", message, "look at the source"));
        }
        let known: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|(name, topic)| topic.next.keys().map(|number| TopicPartition::new(name.as_str(), *number)))
            .collect();
        for (partition, PartitionRange { end, .. }) in self.ranges_at_source(known.into_iter())? {
            if let Some(topic) = topics.get_mut(&*partition.topic) {
                topic.source_ends.insert(partition.partition, end);
            }
        }
        Ok(())
    }

    /// Where the source ends in those of these partitions that it has.
    fn ranges_at_source(
        &self,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> Result<Vec<(TopicPartition, PartitionRange)>, Failure> {
        let there: BTreeMap<Arc<str>, u32> =
            self.source().topics()?.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
        let is_there = |partition: &TopicPartition| {
            there.get(&partition.topic).is_some_and(|partitions| partition.partition < *partitions)
        };
        let asked: Vec<TopicPartition> = partitions.filter(is_there).collect();
        let ranges = self.source().ranges_of(&asked, Patience::Long);
        asked.into_iter().zip(ranges).map(|(partition, range)| Ok((partition, range?))).collect()
    }

    /// Have the groups that go along go on at the target: their names, and what a person should look at.
    pub fn move_groups(&self) -> (Vec<String>, Vec<String>) {
        let groups = &self.config().groups.groups;
        if groups.is_empty() {
            return (Vec::new(), Vec::new());
        }
        if !self.source_answers() {
            let warning = "groups are where they were moved to last: the source does not answer";
            return (Vec::new(), vec![warning.to_owned()]);
        }
        let plans = match self.sync_groups(Selected { groups: Some(groups), ..Selected::default() }) {
            Ok(plans) => plans,
            Err(failure) => return (Vec::new(), vec![format!("groups were not moved: {failure}")]),
        };
        let target = &self.config().target;
        let warning = |plan: &GroupPlan| match (&plan.failure, plan.fate) {
            (Some(failure), _) => Some(format!("group {} was not moved: {failure}", plan.group)),
            (None, Fate::Active) => {
                Some(format!("group {} has members at {target}, and was left where it is", plan.group))
            }
            (None, _) => plan.missing(),
        };
        let moved = plans.iter().filter(|plan| plan.fate == Fate::Moved).map(|plan| plan.group.to_string());
        (moved.collect(), plans.iter().filter_map(warning).collect())
    }
}

/// What is stored of a link that may fail over.
fn check(stored: Option<&Stored>) -> Result<&Stored, FailoverError> {
    let stored = stored.ok_or(FailoverError::NotStarted)?;
    match &stored.genesis {
        Genesis { failover: Some(over), .. } => Err(FailoverError::Already(over.clone())),
        Genesis { relane: Some(_), .. } => Err(FailoverError::Relaning),
        _ => Ok(stored),
    }
}

/// Somebody else has changed the genesis meanwhile.
fn panicked(what: &str) -> Failure {
    Failure::fatal("internal", format!("{what} panicked: see the log"), "report this, then try again")
}

fn overtaken() -> Error {
    Error {
        class: Class::Reopen,
        code: UNDER_WAY,
        message: "somebody else sees to the change of places".to_owned(),
        remedy: "nothing: see the link's status",
    }
}
