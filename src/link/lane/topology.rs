//! What a lane has to know of topics: which partitions it owns, where they begin, and where their records go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Position, Progress, Session, lock};
use crate::config::{Start, would_loop};
use crate::connector::{Class, PartitionRange, Target, Topic};
use crate::link::failure::Failure;
use crate::link::memory::Writer;
use crate::model::partition::lane_of;
use crate::model::{Checkpoint, TopicPartition};

impl Session {
    /// Take in topics and partitions that are new in the source.
    pub(super) fn follow_topology(&mut self) -> Result<(), Failure> {
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
        self.prepare_routes()?;
        if std::mem::take(&mut self.migrated) {
            self.commit()?;
        }
        Ok(())
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
        let mine: Vec<_> = mine.collect();
        if mine.is_empty() {
            return Ok(());
        }
        let settings = self.settings_for(&target, &topic.name)?;
        let prepared = self.sink.prepare(&Target { topic: target, partitions: topic.partitions, settings })?;
        let source = self.link.source.ranges(&topic.name)?;
        // A foreign transaction that hangs hides what is behind it: that is no loss.
        let written = self.link.target.log_ends(&prepared.name)?;
        for partition in mine {
            let range_of = |ranges: &[PartitionRange]| ranges.get(partition.partition as usize).copied();
            let range = range_of(&source).ok_or_else(|| shrunk(&partition))?;
            // Where the target has fewer partitions, several source partitions share one.
            let written = written.get(partition.partition as usize % written.len().max(1));
            let ranges = Ranges { source: range, target_end: written.copied().unwrap_or(0) };
            self.follow_partition(partition, ranges, topic, &prepared)?;
        }
        Ok(())
    }

    fn follow_partition(
        &mut self,
        partition: TopicPartition,
        ranges: Ranges,
        topic: &Topic,
        target: &Topic,
    ) -> Result<(), Failure> {
        let range = ranges.source;
        self.remember(&partition)?;
        let checkpoint = self.checkpoints.get(&partition);
        let next = match checkpoint {
            Some(checkpoint) => {
                check(&partition, checkpoint, ranges, topic, target)?;
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
            leader_epoch: checkpoint.and_then(|checkpoint| checkpoint.source_leader_epoch),
            link_epoch: checkpoint.map_or(0, |checkpoint| checkpoint.link_epoch),
            target: target.name.clone(),
            target_id: target.id,
            revision: checkpoint.map(|checkpoint| checkpoint.revision),
            progress,
        };
        lock(&self.link.lanes[self.lane as usize]).committed.insert(partition.clone(), progress);
        self.positions.insert(partition, position);
        Ok(())
    }

    /// Take in what the stages remember of a partition.
    fn remember(&mut self, partition: &TopicPartition) -> Result<(), Failure> {
        let stored = self.sink.states(partition)?;
        let (link, checkpoint) = (&self.link, self.checkpoints.get(partition));
        let writer = |stage: &str, writer: &Writer| link.stage_of(stage, writer.plugin, writer.revision);
        let pipeline = self.run.pipeline();
        self.migrated |= self.memory.open(&link.config.id, partition, pipeline, checkpoint, stored, writer)?;
        Ok(())
    }

    /// What was counted of the partition before the lane opened again.
    fn progress_before(&self, partition: &TopicPartition) -> Progress {
        lock(&self.link.lanes[self.lane as usize]).committed.get(partition).copied().unwrap_or_default()
    }

    /// The most partitions of a topic that the link reads.
    ///
    /// Of the whole source, not of this lane: a topic that another lane makes larger a moment later would send a partition key to
    /// another partition than before.
    pub(super) fn most_partitions(&self) -> Result<Option<u32>, Failure> {
        let topics = self.link.source.topics()?;
        Ok(topics.iter().filter(|topic| self.link.config.selects(&topic.name)).map(|topic| topic.partitions).max())
    }

    /// Make the topics that plugins may route to, and refuse those that the link reads.
    pub(super) fn prepare_routes(&mut self) -> Result<(), Failure> {
        let routes: Vec<Arc<str>> = self.run.routes().cloned().collect();
        if routes.is_empty() {
            return Ok(());
        }
        let Some(partitions) = self.most_partitions()? else { return Ok(()) };
        for topic in routes {
            if would_loop(&self.link.config, &topic) {
                return Err(loops("a routed record", &topic));
            }
            self.sink.prepare(&Target { topic, partitions, settings: BTreeMap::new() })?;
        }
        Ok(())
    }

    /// Make sure that there is a topic for dead letters. It takes what the source topic takes, and the headers of a letter.
    pub(super) fn prepare_letters(&mut self, letters: &Arc<str>, source: &str) -> Result<(), Failure> {
        let partitions = self.most_partitions()?.unwrap_or(1);
        let mut settings = self.settings_for(letters, source)?;
        settings.retain(|name, _| name == MAX_MESSAGE_BYTES);
        for bytes in settings.values_mut() {
            let source_bytes: u64 = bytes.parse().unwrap_or_default();
            *bytes = (source_bytes + LETTER_BYTES).min(i32::MAX as u64).to_string();
        }
        self.sink.prepare(&Target { topic: letters.clone(), partitions, settings })?;
        Ok(())
    }

    /// What a topic of the target is to be like, if it has to be made after a topic of the source.
    fn settings_for(&self, target: &Arc<str>, source: &str) -> Result<BTreeMap<String, String>, Failure> {
        if self.link.target.topics()?.iter().any(|topic| topic.name == *target) {
            return Ok(BTreeMap::new());
        }
        Ok(self.link.source.topic_settings(source)?)
    }
}

/// Kafka's name of the largest record batch that a topic takes.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// What the topic of dead letters takes more than the source topic: a letter is a record with more headers.
const LETTER_BYTES: u64 = 64 << 10;

/// Where a source partition and its target begin and end.
#[derive(Clone, Copy)]
struct Ranges {
    source: PartitionRange,
    target_end: i64,
}

/// Compare the checkpoint with what source and target are now: loss is a state with a name, never a jump.
fn check(
    partition: &TopicPartition,
    checkpoint: &Checkpoint,
    ranges: Ranges,
    topic: &Topic,
    target: &Topic,
) -> Result<(), Failure> {
    let Ranges { source, target_end } = ranges;
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
    } else if checkpoint.target_end_offset > target_end {
        let (had, has) = (checkpoint.target_end_offset, target_end);
        ("target-truncated", format!("the target partition of {partition} ended at {had} and ends at {has} now"))
    } else {
        return Ok(());
    };
    let remedy = "restore the cluster's data, or copy into a new link with another target topic";
    Err(Failure::fatal(code, message, remedy))
}

fn shrunk(partition: &TopicPartition) -> Failure {
    let error = "the topic was made again with fewer partitions while it was looked at";
    Failure { class: Class::Reopen, ..Failure::fatal("source-recreated", format!("{partition}: {error}"), "nothing") }
}

pub(super) fn loops(what: &str, target: &str) -> Failure {
    Failure::fatal(
        "would-loop",
        format!("{what} would go to {target}, which the link itself reads"),
        "give the link a topic_prefix, or narrow its topics",
    )
}
