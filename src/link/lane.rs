//! A lane: the loop that moves the records of its source partitions.
//!
//! It opens (fence, read the checkpoints, seek), then reads, transforms and writes batches, and commits at intervals. After
//! any doubt it drops what it has in memory and opens again: that is the only recovery there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::{Backoff, Failure};
use super::orders::Desired;
use super::pipeline::{Pipeline, Run};
use super::status::{LaneState, LaneStatus, Progress, Tally, lock};
use super::supervisor::Shared;
use crate::config::{Start, would_loop};
use crate::connector::{Commit, Opened, RevisionStart, Sink, Source, Target, Topic};
use crate::model::checkpoint::CHECKPOINT_VERSION;
use crate::model::partition::lane_of;
use crate::model::{Batch, Checkpoint, RevisionNumber, TopicId, TopicPartition};

/// How long a lane waits for records before it looks at its orders and at the slot again.
const IDLE_WAIT: Duration = Duration::from_millis(50);

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

    /// Move records until the link is stopped, or a failure needs a person.
    pub(super) fn run(mut self) {
        loop {
            let Err(failure) = self.session() else {
                self.status(|status| status.state = LaneState::Stopped);
                return;
            };
            self.link.counters.add_failure();
            let wait = self.backoff.after(failure.class);
            tracing::error!(link = &*self.link.config.id, lane = self.number, code = failure.code, retry = ?wait, "{failure}");
            self.status(|status| {
                status.state = if wait.is_some() { LaneState::Retrying } else { LaneState::Failed };
                status.failure = Some(failure);
            });
            let Some(wait) = wait else { return };
            if self.link.orders.wait_for_stop(wait) {
                self.status(|status| status.state = LaneState::Stopped);
                return;
            }
        }
    }

    /// From opening to the first failure, or to the end.
    fn session(&mut self) -> Result<(), Failure> {
        self.status(|status| status.state = LaneState::Opening);
        let mut session = Session::open(self.link.clone(), self.number)?;
        self.status(|status| {
            status.state = LaneState::Running;
            status.failure = None;
        });
        loop {
            match self.link.orders.desired() {
                Desired::Stopped => return session.drain(),
                Desired::Paused => {
                    session.drain()?;
                    self.status(|status| status.state = LaneState::Paused);
                    self.link.orders.wait_while(Desired::Paused, IDLE_WAIT);
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
    target: Arc<str>,
    target_id: TopicId,
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
    /// The source's topology when the positions were taken.
    topology: Option<u64>,
    checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    positions: BTreeMap<TopicPartition, Position>,
    transaction: Transaction,
    /// What the commit under way stands for.
    committing: Option<Transaction>,
    committed_once: bool,
}

/// What has been written but not committed.
#[derive(Debug, Default)]
struct Transaction {
    /// When its first batch was read; `None` while it is empty.
    begun: Option<Instant>,
    /// The partitions that moved, with the records and bytes written of each.
    moved: BTreeMap<TopicPartition, Progress>,
    started: Vec<RevisionStart>,
    tally: Tally,
    revision: RevisionNumber,
}

impl Transaction {
    fn touch(&mut self, partition: &TopicPartition, next_offset: i64) -> &mut Progress {
        self.begun.get_or_insert_with(Instant::now);
        let progress = self.moved.entry(partition.clone()).or_default();
        progress.next_offset = next_offset;
        progress
    }
}

impl Session {
    fn open(link: Arc<Shared>, lane: u32) -> Result<Self, Failure> {
        let source = link.source.source()?;
        let mut sink = link.target.sink(&link.config.id, lane)?;
        let Opened { checkpoints, revision } = sink.open()?;
        let pipeline = link.slot.load_full();
        check_revision(revision, &pipeline)?;
        let run = Run::new(&link.config.id, &pipeline)?;
        let transaction = Transaction { revision: pipeline.number(), ..Transaction::default() };
        let mut session = Self {
            topology: None,
            link,
            lane,
            source,
            sink,
            run,
            checkpoints,
            positions: BTreeMap::new(),
            transaction,
            committing: None,
            committed_once: false,
        };
        session.follow_topology()?;
        // A lane without partitions names its revision too.
        session.transaction.begun = Some(Instant::now());
        Ok(session)
    }

    /// Read, transform and write one batch, and commit if it is time to.
    fn step(&mut self) -> Result<(), Failure> {
        self.swap_if_published()?;
        self.follow_topology()?;
        self.finish_commit(Duration::ZERO)?;
        let config = &self.link.config.config;
        let interval = Duration::from_millis(config.checkpoint_interval_ms);
        let wait = match self.transaction.begun {
            Some(begun) => interval.saturating_sub(begun.elapsed()).min(IDLE_WAIT),
            None => IDLE_WAIT,
        };
        let polled = self.source.poll(config.batch_size as usize, config.max_bytes as usize, wait);
        if let Some(batch) = self.settle(polled.map_err(Failure::from))? {
            self.handle(batch)?;
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

    fn handle(&mut self, batch: Batch) -> Result<(), Failure> {
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        let (records_in, next_offset) = (batch.len() as u64, batch.next_offset);
        let processed = self.run.process(batch);
        let processed = self.settle(processed)?;
        let Some(position) = self.positions.get_mut(&partition) else { return Ok(()) };
        self.sink.write(&processed.batch, &position.target)?;
        position.next = next_offset;
        let (records_out, bytes_out) = (processed.batch.len() as u64, processed.batch.payload_bytes() as u64);
        let progress = self.transaction.touch(&partition, next_offset);
        progress.records_out += records_out;
        progress.bytes_out += bytes_out;
        let tally = &mut self.transaction.tally;
        tally.records_in += records_in;
        tally.records_filtered += processed.dropped;
        tally.records_transformed += processed.changed;
        tally.records_out += records_out;
        tally.bytes_out += bytes_out;
        Ok(())
    }

    fn is_due(&self, interval: Duration) -> bool {
        let config = &self.link.config.config;
        let full = self.sink.pending_bytes() as u64 >= config.max_bytes
            || config.max_messages.is_some_and(|max| self.transaction.tally.records_in >= max);
        self.transaction.begun.is_some_and(|begun| full || begun.elapsed() >= interval)
    }

    /// Begin to commit what was written; the commit before it is finished first.
    fn commit(&mut self) -> Result<(), Failure> {
        if self.transaction.begun.is_none() {
            return Ok(());
        }
        while !self.finish_commit(COMMIT_PATIENCE)? {
            tracing::warn!(link = &*self.link.config.id, lane = self.lane, "a commit takes unusually long");
        }
        let next = Transaction { revision: self.transaction.revision, ..Transaction::default() };
        let mut transaction = std::mem::replace(&mut self.transaction, next);
        let checkpoints = transaction
            .moved
            .iter()
            .filter_map(|(partition, progress)| {
                let position = self.positions.get(partition)?;
                Some((partition.clone(), checkpoint(position, progress.next_offset, transaction.revision)))
            })
            .collect();
        let started = std::mem::take(&mut transaction.started);
        self.sink.begin_commit(Commit { checkpoints, started })?;
        self.committing = Some(transaction);
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
            self.publish_progress(&transaction);
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
        drop(status);
        self.link.orders.notify();
    }

    /// Commit everything and wait for it.
    fn drain(&mut self) -> Result<(), Failure> {
        self.commit()?;
        while !self.finish_commit(COMMIT_PATIENCE)? {
            tracing::warn!(link = &*self.link.config.id, lane = self.lane, "a commit takes unusually long");
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
        let pipeline = Arc::clone(&pipeline);
        let begun = Instant::now();
        // The old instances live until the new ones stand.
        let run = Run::new(&self.link.config.id, &pipeline);
        self.run = self.settle(run)?;
        self.transaction.revision = pipeline.number();
        self.transaction.begun.get_or_insert_with(Instant::now);
        self.name_revision();
        self.prepare_routes()?;
        let pause = begun.elapsed();
        lock(&self.link.lanes[self.lane as usize]).last_swap_pause = Some(pause);
        tracing::info!(
            link = &*self.link.config.id,
            lane = self.lane,
            revision = pipeline.number().0,
            ?pause,
            "swapped"
        );
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

    /// Take in topics and partitions that are new in the source.
    fn follow_topology(&mut self) -> Result<(), Failure> {
        let version = self.link.source.topology_version();
        if self.topology == Some(version) {
            return Ok(());
        }
        for topic in self.link.source.topics()? {
            if self.link.config.selects(&topic.name) {
                self.follow_topic(&topic)?;
            }
        }
        self.topology = Some(version);
        self.name_revision();
        self.prepare_routes()
    }

    fn follow_topic(&mut self, topic: &Topic) -> Result<(), Failure> {
        let target: Arc<str> = self.link.config.target_topic(&topic.name).into();
        if would_loop(&self.link.config, &target) {
            return Err(loops(&topic.name, &target));
        }
        let mine = (0..topic.partitions)
            .map(|partition| TopicPartition::new(topic.name.clone(), partition))
            .filter(|partition| lane_of(partition, self.link.config.lanes) == self.lane)
            .filter(|partition| !self.positions.contains_key(partition));
        for partition in mine.collect::<Vec<_>>() {
            let prepared = self.sink.prepare(&Target { topic: target.clone(), partitions: topic.partitions })?;
            self.follow_partition(partition, topic, &prepared)?;
        }
        Ok(())
    }

    fn follow_partition(&mut self, partition: TopicPartition, topic: &Topic, target: &Topic) -> Result<(), Failure> {
        let range = self.link.source.range(&partition)?;
        let checkpoint = self.checkpoints.get(&partition);
        let next = match checkpoint {
            Some(checkpoint) => {
                self.check(&partition, checkpoint, topic, target)?;
                checkpoint.next_offset
            }
            None => match (self.link.config.start, self.link.genesis_end(&partition)) {
                (Start::Latest, Some(end)) => end,
                _ => range.log_start,
            },
        };
        self.source.seek(&partition, next)?;
        let progress = Progress { next_offset: next, ..self.progress_before(&partition) };
        let position = Position {
            next,
            source_id: topic.id,
            log_start: range.log_start,
            target: target.name.clone(),
            target_id: target.id,
            revision: checkpoint.map(|checkpoint| checkpoint.revision),
            progress,
        };
        lock(&self.link.lanes[self.lane as usize]).committed.insert(partition.clone(), progress);
        self.positions.insert(partition, position);
        Ok(())
    }

    /// What was counted of the partition before the lane opened again.
    fn progress_before(&self, partition: &TopicPartition) -> Progress {
        lock(&self.link.lanes[self.lane as usize]).committed.get(partition).copied().unwrap_or_default()
    }

    /// Compare the checkpoint with what source and target are now: loss is a state with a name, never a jump.
    fn check(
        &self,
        partition: &TopicPartition,
        checkpoint: &Checkpoint,
        topic: &Topic,
        target: &Topic,
    ) -> Result<(), Failure> {
        let source = self.link.source.range(partition)?;
        let written = self.link.target.range(&TopicPartition::new(target.name.clone(), partition.partition))?;
        let next = checkpoint.next_offset;
        let name = &target.name;
        let (code, message) = if checkpoint.source_topic_id != topic.id {
            ("source-recreated", format!("the source topic of {partition} was deleted and made again"))
        } else if next < source.log_start {
            let start = source.log_start;
            ("data-lost", format!("{partition}: records {next} to {} are gone from the source", start - 1))
        } else if next > source.end {
            let end = source.end;
            ("source-truncated", format!("{partition} ends at {end}, and records up to {} were copied", next - 1))
        } else if checkpoint.target_topic_id != target.id {
            ("target-recreated", format!("the target topic {name} of {partition} was deleted and made again"))
        } else if checkpoint.target_end_offset > written.end {
            let (had, has) = (checkpoint.target_end_offset, written.end);
            ("target-truncated", format!("the target partition of {partition} ended at {had} and ends at {has} now"))
        } else {
            return Ok(());
        };
        let remedy = "restore the cluster's data, or copy into a new link with another target topic";
        Err(Failure::fatal(code, message, remedy))
    }

    /// Make the topics that plugins may route to, and refuse those that the link reads.
    fn prepare_routes(&mut self) -> Result<(), Failure> {
        let routes: Vec<Arc<str>> = self.run.routes().cloned().collect();
        if routes.is_empty() {
            return Ok(());
        }
        // Of the whole source, not of this lane: a topic that another lane makes larger a moment later would send a
        // partition key to another partition than before.
        let topics = self.link.source.topics()?;
        let read = topics.iter().filter(|topic| self.link.config.selects(&topic.name));
        let Some(partitions) = read.map(|topic| topic.partitions).max() else { return Ok(()) };
        for topic in routes {
            if would_loop(&self.link.config, &topic) {
                return Err(loops("a routed record", &topic));
            }
            self.sink.prepare(&Target { topic, partitions })?;
        }
        Ok(())
    }
}

fn checkpoint(position: &Position, next_offset: i64, revision: RevisionNumber) -> Checkpoint {
    Checkpoint {
        v: CHECKPOINT_VERSION,
        next_offset,
        source_topic_id: position.source_id,
        source_log_start: position.log_start,
        target_topic_id: position.target_id,
        // The sink knows it when it commits.
        target_end_offset: 0,
        link_epoch: 0,
        revision,
    }
}

fn check_revision(committed: Option<RevisionNumber>, pipeline: &Pipeline) -> Result<(), Failure> {
    match committed {
        Some(committed) if committed > pipeline.number() => Err(Failure::fatal(
            "revision-unknown",
            format!("the target was written under revision {committed}, and {} is the newest known", pipeline.number()),
            "the link's history in the target is damaged: restore the target",
        )),
        _ => Ok(()),
    }
}

fn loops(what: &str, target: &str) -> Failure {
    Failure::fatal(
        "would-loop",
        format!("{what} would go to {target}, which the link itself reads"),
        "give the link a topic_prefix, or narrow its topics",
    )
}

pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}
