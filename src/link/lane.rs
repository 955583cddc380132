//! A lane: the loop that moves the records of its source partitions.
//!
//! It opens (fence, read the checkpoints, seek), then reads, transforms and writes batches, and commits at intervals. After
//! any doubt it drops what it has in memory and opens again: that is the only recovery there is.

mod awaited;
mod heartbeat;
mod output;
mod past;
mod stalled;
mod times;
mod topology;
mod transaction;
mod trial;
mod unnamed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::span::EnteredSpan;

use super::ahead::WallClock;
use super::failure::{Backoff, Failure};
use super::genesis::Genesis;
use super::journal;
use super::memory::{self, Memory};
use super::orders::{Desired, Turn};
use super::run::{Processed, Run, Search, Stop};
use super::status::{LaneState, LaneStatus, Progress, lock};
use super::supervisor::Shared;
use super::trace;
use crate::config::LinkConfig;
use crate::connector::{Class, Commit, LaneSettings, Opened, Polled, RevisionStart, Sink, Source};
pub(super) use crate::model::time::now_ms;
use crate::model::{Batch, Checkpoint, LastRecord, RevisionNumber, TopicId, TopicPartition};
use awaited::Awaited;
use past::{Doubted, Read, check_revision, checkpoint, looked_at_again};
use stalled::Looks;
use transaction::Transaction;
use unnamed::Unnamed;

/// How long a lane waits for records before it looks at its orders and at the slot again.
const IDLE_WAIT: Duration = Duration::from_millis(50);

/// How long a lane with nothing to do waits for a commit before it looks at the source again.
const TURN: Duration = Duration::from_millis(5);

/// How long a search for bad records may take before the lane commits what precedes: less than a commit takes to be due. A record
/// that panics is found in a few milliseconds, and a commit for each would cost more than the search.
const QUICK_SEARCH: Duration = Duration::from_millis(100);

/// A lane commits when about so many changes of state wait: a plugin may make many without any output.
const STATE_CHANGES_MAX: usize = 100_000;

/// How long a lane waits for a commit before it says so in the log.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Lane {
    link: Arc<Shared>,
    number: u32,
    backoff: Backoff,
}

impl Lane {
    pub(super) fn new(link: Arc<Shared>, number: u32) -> Self {
        Self { link, number, backoff: Backoff::default() }
    }

    /// Move records, as long as the lane is ours, until the link is stopped.
    pub(super) fn run(mut self) {
        loop {
            let turn = self.link.orders.turn(self.number);
            match turn {
                Turn::Stopped => {
                    return self.status(|status| {
                        status.state = LaneState::Stopped;
                        status.stalled.clear();
                        status.open_transactions.clear();
                    });
                }
                Turn::Here => self.work(),
                Turn::Unknown => self.link.orders.wait_turn(self.number, turn, None),
                Turn::Elsewhere => {
                    self.backoff.reset();
                    self.status(|status| {
                        status.state = LaneState::Elsewhere;
                        status.failure = None;
                        status.stalled.clear();
                        status.open_transactions.clear();
                    });
                    self.link.orders.wait_turn(self.number, turn, None);
                }
            }
        }
    }

    /// From opening to whatever comes next: a failure and the wait after it, or the end of our turn.
    fn work(&mut self) {
        let (link, number) = (self.link.clone(), self.number);
        let journal = || journal::of_lane(&link, number, link.slot.load().number());
        let opening = journal();
        let Err(failure) = self.session() else { return };
        drop(opening);
        let _ended = journal();
        if self.link.orders.turn(self.number) != Turn::Here {
            // Who has it now has fenced us while we were committing.
            tracing::debug!(code = failure.code, "{failure}");
            return;
        }
        self.link.counters.add_failure();
        self.link.blame(&failure, self.number);
        let (class, since) = (failure.class, Instant::now());
        let wait = self.backoff.after(class);
        if let Some(news) = self.link.repeats.news(format!("lane {number}: {failure}"), since) {
            tracing::error!(code = failure.code, retry = ?wait, repeated = news.repeated, "{failure}");
        }
        self.status(|status| {
            status.state = if wait.is_some() { LaneState::Retrying } else { LaneState::Failed };
            status.failure = Some(failure);
        });
        self.link.orders.notify();
        let orders = &self.link.orders;
        // A lane that stops is not opened again before a person has said so.
        orders.wait_turn(self.number, Turn::Here, wait);
        if class == Class::Fenced {
            // Another daemon may have been assigned the lane, and we have not heard of it.
            orders.wait_confirmed(self.number, since);
        }
    }

    /// From opening to the first failure, or to the end.
    fn session(&mut self) -> Result<(), Failure> {
        self.status(|status| status.state = LaneState::Opening);
        let mut session = Session::open(self.link.clone(), self.number)?;
        self.status(|status| {
            status.state = LaneState::Running;
            status.failure = None;
            status.daemon = None;
        });
        loop {
            match self.link.orders.desired_of(self.number) {
                Desired::Stopped => return session.drain(),
                Desired::Paused => {
                    session.drain()?;
                    self.status(|status| status.state = LaneState::Paused);
                    self.link.orders.wait_while(self.number, Desired::Paused, IDLE_WAIT);
                    // A paused lane takes part in a swap, or a publish would never be complete.
                    session.swap_if_published()?;
                }
                Desired::Running => {
                    self.status(|status| status.state = LaneState::Running);
                    session.step()?;
                }
            }
            if session.has_committed() {
                self.backoff.reset();
            }
        }
    }

    fn status(&self, change: impl FnOnce(&mut LaneStatus)) {
        change(&mut lock(&self.link.lanes[self.number as usize]));
    }
}

/// A source partition that the lane owns.
#[derive(Debug)]
struct Position {
    /// The next offset to read.
    next: i64,
    source_id: TopicId,
    log_start: i64,
    /// Since when the source's leader led who had what was read last.
    leader_epoch: Option<i32>,
    link_epoch: u64,
    target: Arc<str>,
    target_id: TopicId,
    /// The record that its checkpoint names, or will with the open transaction.
    last: Option<LastRecord>,
    /// The record that is to be compared with what the source has now, before anything else is read.
    awaited: Option<LastRecord>,
    /// The revision that its checkpoint names, or will with the open transaction.
    revision: Option<RevisionNumber>,
    progress: Progress,
}

/// An opened lane.
struct Session {
    link: Arc<Shared>,
    lane: u32,
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    run: Run,
    memory: Memory,
    topology: topology::Topology,
    /// The topic of heartbeats, if the lane reads it.
    heartbeats: Option<Arc<str>>,
    checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    positions: BTreeMap<TopicPartition, Position>,
    /// Partitions that are not read yet.
    awaited: Awaited,
    /// Losses that were found, and are not all stored.
    doubted: Vec<Doubted>,
    unnamed: Unnamed,
    /// When partitions that stand still are looked for.
    looks: Looks,
    transaction: Transaction,
    /// What the commit under way stands for.
    committing: Option<Transaction>,
    /// When it was begun.
    commit_begun: Instant,
    committed_once: bool,
    /// Whether state was migrated that is to be committed before the next record.
    migrated: bool,
    /// What stands in each line of the log.
    journal: EnteredSpan,
}

impl Session {
    fn open(link: Arc<Shared>, lane: u32) -> Result<Self, Failure> {
        let source = link.source.source()?;
        let mut sink = link.target.sink(&settings(&link.config, &link.genesis, lane))?;
        let Opened { checkpoints, revision, states_lost } = sink.open(&|| link.confirm())?;
        let pipeline = link.pipeline_after(revision)?;
        lock(&link.lanes[lane as usize]).runs = Some(pipeline.number());
        check_revision(revision, &pipeline)?;
        let run = Run::new(&link.config, &pipeline)?;
        let transaction = Transaction { revision: pipeline.number(), ..Transaction::default() };
        let said = journal::of_lane(&link, lane, pipeline.number());
        let mut session = Self {
            topology: topology::Topology::default(),
            heartbeats: None,
            link,
            lane,
            source,
            sink,
            run,
            memory: Memory::default(),
            checkpoints,
            positions: BTreeMap::new(),
            awaited: Awaited::default(),
            doubted: Vec::new(),
            unnamed: Unnamed::new(Instant::now()),
            looks: Looks::new(Instant::now()),
            transaction,
            committing: None,
            commit_begun: Instant::now(),
            committed_once: false,
            migrated: false,
            journal: said,
        };
        if let Some(why) = states_lost {
            session.doubt_states(&why)?;
        }
        session.take_in_all()?;
        session.listen_for_heartbeats();
        // A lane without partitions names its revision too.
        session.transaction.begun = Some(Instant::now());
        Ok(session)
    }

    /// Read, transform and write one batch, and commit if it is time to.
    fn step(&mut self) -> Result<(), Failure> {
        self.swap_if_published()?;
        self.end_trial();
        self.follow_topology()?;
        self.note_stalled(Instant::now());
        self.finish_commit(Duration::ZERO)?;
        if self.run.pipeline().watch.is_held() {
            return self.wait_held();
        }
        let config = &self.link.config.config;
        let interval = Duration::from_millis(config.checkpoint_interval_ms);
        let wait = match self.transaction.begun {
            // What comes next then is most likely of the target.
            _ if self.committing.is_some() => Duration::ZERO,
            Some(begun) => interval.saturating_sub(begun.elapsed()).min(IDLE_WAIT),
            None => IDLE_WAIT,
        };
        let (throttle, lanes) = (&self.link.throttle, self.link.config.lanes);
        let held = throttle.wait(Instant::now(), || self.link.orders.share(lanes));
        if !held.is_zero() {
            self.link.orders.wait_while(self.lane, Desired::Running, held.min(wait.max(TURN)));
            return if self.is_due(interval) { self.commit() } else { Ok(()) };
        }
        let records = config.batch_size as usize;
        let bytes = throttle.read_bytes(config.max_bytes as usize, lanes);
        let copies = self.run.pipeline().copies() && throttle.lets_whole(lanes);
        let polled = match self.sink.passing().filter(|_| copies) {
            Some(passing) => self.source.poll_passing(passing, records, bytes, wait),
            None => self.source.poll(records, bytes, wait).map(|batch| batch.map(Polled::Batch)),
        };
        match self.settle(polled.map_err(looked_at_again))? {
            Some(Polled::Batch(batch)) if self.is_heartbeat(&batch) => self.pass_heartbeats(&batch)?,
            Some(Polled::Batch(batch)) => self.handle(batch)?,
            Some(Polled::Encoded(encoded)) => self.pass(encoded)?,
            None => {
                self.name_records(false);
                self.finish_commit(TURN)?;
            }
        }
        if self.is_due(interval) {
            self.commit()?;
        }
        Ok(())
    }

    /// Commit what precedes a failure of the source or of a plugin: it is whole. After a failure of the sink nothing is known of
    /// the open transaction, so it is never committed.
    fn settle<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.is_err() {
            self.drain()?;
        }
        result
    }

    /// There is trouble under this revision: commit what is done, and wait for what becomes of it.
    fn wait_held(&mut self) -> Result<(), Failure> {
        self.drain()?;
        self.link.orders.wait_while(self.lane, Desired::Running, IDLE_WAIT);
        Ok(())
    }

    fn handle(&mut self, batch: Batch) -> Result<(), Failure> {
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        let Some(batch) = self.check_past(&partition, batch)? else { return Ok(()) };
        let read = Read::of(&batch);
        let first = batch.offsets.first().copied();
        let _told = self.trace(&partition, batch.len());
        self.transaction.note_timestamp(batch.timestamps.first().copied());
        match self.process(&partition, batch, None) {
            Err(Stop::Interrupted) => self.read_again(&partition),
            Ok(processed) => self.write(&partition, processed, read),
            Err(Stop::Halted(halted)) => {
                let (batch, failure) = *halted;
                if batch.offsets.first().copied() != first {
                    return self.settle(Err(internal("a batch that was halted did not come back whole")));
                }
                let before = failure.place.as_ref().map_or(0, |place| place.offset);
                let records = batch.offsets.partition_point(|offset| *offset < before);
                let fine = batch.slice(0..records);
                let read = Read { next_offset: before, ..Read::of(&fine) };
                // The records before the one that stops the lane went well a moment ago.
                if let Ok(processed) = self.process(&partition, fine, Some(self.patience())) {
                    self.write(&partition, processed, read)?;
                }
                self.settle(Err(failure))
            }
            Err(Stop::Breaker(reason)) => self.open_breaker(&partition, reason),
            Err(Stop::Poisoned(_)) => self.settle(Err(internal("a search that was not asked for"))),
            Err(Stop::Late(_)) => {
                self.open_breaker(&partition, "takes too long at the records that it cannot handle".to_owned())
            }
            Err(Stop::Failed(failure)) => self.settle(Err(*failure)),
        }
    }

    /// Until the answer is dropped, what is done is done with this batch.
    fn trace(&mut self, partition: &TopicPartition, records: usize) -> EnteredSpan {
        let (config, lane, transaction) = (&self.link.config, self.lane, &mut self.transaction);
        let begin = || trace::transaction(config, lane, transaction.revision);
        trace::batch(transaction.span.get_or_insert_with(begin), partition, records).entered()
    }

    /// Give the batch at hand back.
    fn read_again(&mut self, partition: &TopicPartition) -> Result<(), Failure> {
        match self.positions.get(partition) {
            Some(position) => Ok(self.source.seek(partition, position.next)?),
            None => Ok(()),
        }
    }

    /// Give the batch back, and hold all lanes until somebody has done something.
    fn open_breaker(&mut self, partition: &TopicPartition, reason: String) -> Result<(), Failure> {
        self.read_again(partition)?;
        self.run.forget_windows();
        self.run.pipeline().watch.raise(self.link.config.breaker.then, reason);
        self.link.alarm.ring();
        Ok(())
    }

    /// Let a batch go through the pipeline. Unless it is processed, no trace of it is left.
    fn process(
        &mut self,
        partition: &TopicPartition,
        batch: Batch,
        patience: Option<Duration>,
    ) -> Result<Processed, Stop> {
        let link = self.link.clone();
        let revision = self.transaction.revision;
        let lane = self.lane;
        let interrupted = || link.orders.desired_of(lane) != Desired::Running || link.slot.load().number() != revision;
        let search = patience.map(|patience| Search { deadline: Instant::now() + patience, interrupted: &interrupted });
        let states = self.memory.of(partition);
        let clock = WallClock(now_ms());
        let processed = self.run.process(batch, states, &clock, search);
        match processed {
            Ok(processed) => {
                self.transaction.state_changes = memory::accept(states);
                if self.run.pipeline().watch.add(&processed.tallies) {
                    self.link.alarm.ring();
                }
                Ok(processed)
            }
            Err(Stop::Poisoned(batch)) if patience.is_none() => {
                memory::undo(states);
                match self.process(partition, *batch, Some(QUICK_SEARCH)) {
                    Err(Stop::Late(batch)) => {
                        // The search takes long, so what precedes must not wait for it.
                        self.commit().map_err(|failure| Stop::Failed(Box::new(failure)))?;
                        self.process(partition, *batch, Some(self.patience()))
                    }
                    done => done,
                }
            }
            Err(stop) => {
                memory::undo(states);
                Err(stop)
            }
        }
    }

    /// How long a search may take: a quarter of what a target gives a transaction.
    fn patience(&self) -> Duration {
        Duration::from_millis(self.link.config.config.transaction_timeout_ms / 4)
    }

    fn is_due(&self, interval: Duration) -> bool {
        let config = &self.link.config.config;
        let full = self.sink.pending_bytes() as u64 >= config.max_bytes
            || config.max_messages.is_some_and(|max| self.transaction.tally.records_in >= max)
            || self.transaction.state_changes > STATE_CHANGES_MAX;
        self.transaction.begun.is_some_and(|begun| full || begun.elapsed() >= interval)
    }

    /// Begin to commit what was written; the commit before it is finished first.
    fn commit(&mut self) -> Result<(), Failure> {
        self.commit_naming(false)
    }

    /// The same. `all`: the checkpoints name the newest records that are known.
    fn commit_naming(&mut self, all: bool) -> Result<(), Failure> {
        if all || self.transaction.begun.is_some() {
            self.name_records(all);
        }
        if self.transaction.begun.is_none() {
            return Ok(());
        }
        while !self.finish_commit(COMMIT_PATIENCE)? {
            tracing::warn!("a commit takes unusually long");
        }
        let next = Transaction { revision: self.transaction.revision, ..Transaction::default() };
        let mut transaction = std::mem::replace(&mut self.transaction, next);
        for (partition, progress) in &transaction.moved {
            if let Some(position) = self.positions.get_mut(partition) {
                position.take_epoch(self.source.leader_epoch(partition, progress.next_offset));
            }
        }
        let (mut checkpoints, mut targets) = (BTreeMap::new(), BTreeMap::new());
        for (partition, progress) in &transaction.moved {
            let Some(position) = self.positions.get(partition) else { continue };
            let next = checkpoint(position, progress.next_offset, transaction.revision);
            checkpoints.insert(partition.clone(), next);
            targets.insert(partition.clone(), position.target.clone());
        }
        let started = std::mem::take(&mut transaction.started);
        let states = self.take_states(&transaction);
        let begun = Instant::now();
        transaction.commit = transaction.span.as_ref().map(|span| {
            trace::note_tally(span, &transaction.tally);
            trace::commit(span)
        });
        self.sink.begin_commit(Commit { checkpoints, targets, states, started, verbatim: false })?;
        (self.committing, self.commit_begun) = (Some(transaction), begun);
        self.finish_commit(Duration::ZERO).map(|_| ())
    }

    /// Whether no commit is under way any more, after waiting for at most `wait`.
    fn finish_commit(&mut self, wait: Duration) -> Result<bool, Failure> {
        if self.committing.is_none() {
            return Ok(true);
        }
        if !self.sink.finish_commit(wait)? {
            return Ok(false);
        }
        if let Some(transaction) = self.committing.take() {
            self.note_times(&transaction);
            self.publish_progress(&transaction);
            self.note_heartbeats(&transaction.heartbeats);
            self.committed_once = true;
        }
        Ok(true)
    }

    fn publish_progress(&mut self, transaction: &Transaction) {
        self.link.counters.add(transaction.tally);
        let mut status = lock(&self.link.lanes[self.lane as usize]);
        for (partition, moved) in &transaction.moved {
            let Some(position) = self.positions.get_mut(partition) else { continue };
            position.progress.next_offset = moved.next_offset;
            position.progress.records_out += moved.records_out;
            position.progress.bytes_out += moved.bytes_out;
            status.committed.insert(partition.clone(), position.progress);
        }
        status.revision = Some(transaction.revision);
        status.last_commit_ms = Some(now_ms());
        status.state_bytes = self.memory.bytes();
        drop(status);
        self.link.orders.notify();
    }

    /// Commit everything and wait for it.
    fn drain(&mut self) -> Result<(), Failure> {
        self.commit_naming(true)?;
        while !self.finish_commit(COMMIT_PATIENCE)? {
            tracing::warn!("a commit takes unusually long");
        }
        Ok(())
    }

    fn has_committed(&mut self) -> bool {
        std::mem::take(&mut self.committed_once)
    }

    /// Take over the revision in the slot, if it is another one. This is between two batches, and nowhere else.
    fn swap_if_published(&mut self) -> Result<(), Failure> {
        let pipeline = self.link.slot.load();
        if pipeline.number() == self.transaction.revision {
            return Ok(());
        }
        let (pipeline, begun) = (Arc::clone(&pipeline), Instant::now());
        lock(&self.link.lanes[self.lane as usize]).runs = Some(pipeline.number());
        // The old instances live until the new ones stand.
        let run = self.settle(Run::new(&self.link.config, &pipeline))?;
        let old = self.run.pipeline().clone();
        let migrates = memory::migrates(&old, &pipeline);
        if migrates {
            // A migration that fails must find nothing to commit but what was there before it.
            self.drain()?;
        }
        let migrates = self.hand_over_memory(&old, &pipeline)? || migrates;
        self.run = run;
        self.transaction.revision = pipeline.number();
        self.transaction.begun.get_or_insert_with(Instant::now);
        self.name_revision();
        self.prepare_routes()?;
        if migrates {
            // State in the new layout is committed with a checkpoint that says so, before the first record.
            self.commit()?;
        }
        let pause = begun.elapsed();
        lock(&self.link.lanes[self.lane as usize]).last_swap_pause = Some(pause);
        self.link.counters.timings.swap_pause.observe(pause);
        self.journal = journal::of_lane(&self.link, self.lane, pipeline.number());
        tracing::info!(?pause, "swapped");
        Ok(())
    }

    /// Have the next commit name the present revision for every partition, also if no record comes.
    fn name_revision(&mut self) {
        let revision = self.transaction.revision;
        for (partition, position) in &mut self.positions {
            if position.revision.replace(revision) != Some(revision) {
                self.transaction.touch(partition, position.next);
                let start = RevisionStart { partition: partition.clone(), revision, offset: position.next };
                self.transaction.started.push(start);
            }
        }
    }
}

/// How a lane of this link writes.
pub(super) fn settings(config: &LinkConfig, genesis: &Genesis, lane: u32) -> LaneSettings {
    LaneSettings {
        link: config.id.clone(),
        lane,
        lanes: genesis.lanes,
        generation: genesis.generation,
        layout: genesis.layout,
        source: config.source.clone(),
        transaction_timeout: Duration::from_millis(config.config.transaction_timeout_ms),
        exactly_once: config.config.enable_exactly_once,
        compression: config.config.compression,
    }
}

fn internal(what: &str) -> Failure {
    Failure::fatal("internal", what, "report this, then start the link")
}
