//! What a lane has to know of topics: which partitions it owns, where they begin, and where their records go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::past::{Doubted, Ranges, check, doubt};
use super::trial::is_on_trial;
use super::{Position, Progress, Session, lock};
use crate::config::Writing;
use crate::connector::{Class, Error, PartitionRange, Target, Topic, TopicSettings};
use crate::link::failure::Failure;
use crate::link::memory::{Heir, Writer};
use crate::link::pipeline::check_routes;
use crate::link::topics::{Chosen, Found, Looked};
use crate::model::checkpoint::CHECKPOINT_VERSION;
use crate::model::partition::lane_of;
use crate::model::{Checkpoint, Doubt, Loss, TopicPartition};

/// How many topics a lane takes in before it goes on with records. They take some requests together, whatever their number.
const TOPICS_A_TURN: usize = 100;

/// What a lane knows of the link's topics.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// The source's topology that the thread which finds topics was told of.
    told: Option<u64>,
    /// What was found when the lane looked last.
    found: u64,
    /// The number of partitions of each topic that was taken in.
    taken: BTreeMap<Arc<str>, u32>,
    /// What is still to be taken in.
    waiting: Vec<Chosen>,
    /// Topics that went away while the lane was open.
    gone: Vec<Arc<str>>,
    /// The number of what was found when the topic of dead letters was made ready.
    letters: Option<u64>,
}

impl Session {
    /// Take in all topics that there are. Records do not wait for it: none are read yet. What
    /// cannot be read goes on waiting, and the lane opens all the same.
    pub(super) fn take_in_all(&mut self) -> Result<(), Failure> {
        self.topology.told = Some(self.link.source.topology_version());
        let Looked { found, .. } = self.link.find_topics()?;
        self.report_deleted(&found);
        self.take_stock(&found)?;
        let mut taken = Ok(());
        while taken.is_ok() && !self.topology.waiting.is_empty() {
            taken = self.take_in_some().and_then(|()| self.ask_now());
        }
        // All losses are found before any is told, and none is forgotten for another failure.
        self.store_doubts().and(taken)
    }

    /// Take in topics and partitions that are new in the source, some at a time, and let go of those that are not there any more.
    pub(super) fn follow_topology(&mut self) -> Result<(), Failure> {
        let version = self.link.source.topology_version();
        if self.topology.told != Some(version) {
            self.topology.told = Some(version);
            self.link.topics.alarm.ring();
        }
        if self.topology.found != self.link.topics.number() {
            let found = self.link.topics.found();
            self.take_stock(&found)?;
        }
        let taken = if self.topology.waiting.is_empty() { Ok(()) } else { self.take_in_some() };
        let taken = taken.and_then(|()| self.follow_awaited(Instant::now()));
        self.store_doubts().and(taken)
    }

    /// Say which topics have checkpoints and are not there any more.
    fn report_deleted(&mut self, found: &Found) {
        let is_there = |topic: &Arc<str>| found.topics.contains_key(topic);
        for partition in self.checkpoints.keys() {
            let topic = &partition.topic;
            if !is_there(topic) && found.is_gone(topic) && self.link.config.selects(topic) {
                self.link.topics.notices.source_gone(topic, &self.link.events);
            }
        }
        lock(&self.link.lanes[self.lane as usize]).committed.retain(|partition, _| is_there(&partition.topic));
    }

    /// Compare what was found with what was taken in.
    fn take_stock(&mut self, found: &Found) -> Result<(), Failure> {
        if let Some(refused) = &found.refused {
            return Err(refused.clone());
        }
        let gone: Vec<Arc<str>> =
            self.topology.taken.keys().filter(|topic| !found.topics.contains_key(*topic)).cloned().collect();
        if !gone.is_empty() {
            self.let_go(&gone, found)?;
        }
        let is_new = |chosen: &&Chosen| self.topology.taken.get(&chosen.topic.name) != Some(&chosen.topic.partitions);
        self.topology.waiting = found.topics.values().filter(is_new).cloned().collect();
        if let Some(back) = self.topology.waiting.iter().find(|chosen| self.topology.gone.contains(&chosen.topic.name))
        {
            return Err(is_back(&back.topic.name));
        }
        self.topology.found = found.number;
        self.prepare_routes()
    }

    /// Topics are not there any more, or cannot be copied any more: what was read of them is committed, and they are read no further.
    fn let_go(&mut self, topics: &[Arc<str>], found: &Found) -> Result<(), Failure> {
        self.drain()?;
        let mut gone = self.awaited.forget(topics);
        gone.extend(self.positions.keys().filter(|partition| topics.contains(&partition.topic)).cloned());
        let mut status = lock(&self.link.lanes[self.lane as usize]);
        for partition in gone {
            self.source.forget(&partition);
            self.positions.remove(&partition);
            status.committed.remove(&partition);
        }
        drop(status);
        for topic in topics {
            self.topology.taken.remove(topic);
            if found.is_gone(topic) {
                self.link.topics.notices.source_gone(topic, &self.link.events);
            }
        }
        self.topology.gone.extend_from_slice(topics);
        Ok(())
    }

    fn take_in_some(&mut self) -> Result<(), Failure> {
        let left = self.topology.waiting.len().saturating_sub(TOPICS_A_TURN);
        let some = self.topology.waiting.split_off(left);
        self.take_in(&some)?;
        for chosen in &some {
            self.topology.taken.insert(chosen.topic.name.clone(), chosen.topic.partitions);
            self.link.topics.notices.source_is_there(&chosen.topic.name);
        }
        Ok(())
    }

    /// Take in topics: all of them with a few requests. Their partitions are read once both
    /// clusters have said where they begin and end.
    fn take_in(&mut self, topics: &[Chosen]) -> Result<(), Failure> {
        let topics = topics.iter().map(|chosen| (chosen, self.mine(&chosen.topic)));
        let topics: Vec<_> = topics.filter(|(_, mine)| !mine.is_empty()).collect();
        // Also where none of this lane's partitions are new: their number decides where a key goes.
        let targets: Vec<Target> = topics.iter().map(|(chosen, _)| self.target(&chosen.target, chosen)).collect();
        let prepared = self.sink.prepare(&targets)?;
        for ((chosen, mine), target) in topics.into_iter().zip(&prepared) {
            self.awaited.retarget(&chosen.topic.name, target);
            for partition in mine {
                if !self.positions.contains_key(&partition) && !self.awaited.contains(&partition) {
                    self.await_partition(partition, &chosen.topic, target);
                }
            }
        }
        Ok(())
    }

    /// Have a partition wait until it is known where it begins and ends. A loss that is stored is
    /// known already.
    fn await_partition(&mut self, partition: TopicPartition, topic: &Topic, target: &Topic) {
        if let Some(checkpoint) = self.checkpoints.get(&partition) {
            if let Some(doubted) = Doubted::stored(&partition, checkpoint) {
                self.doubted.push(doubted);
                return;
            }
            let progress = Progress { next_offset: checkpoint.next_offset, ..self.progress_before(&partition) };
            lock(&self.link.lanes[self.lane as usize]).committed.insert(partition.clone(), progress);
        }
        self.awaited.add(partition, topic.clone(), target.clone());
    }

    /// The partitions of a topic that are this lane's.
    fn mine(&self, topic: &Topic) -> Vec<TopicPartition> {
        let all = (0..topic.partitions).map(|partition| TopicPartition::new(topic.name.clone(), partition));
        all.filter(|partition| lane_of(partition, self.link.config.lanes) == self.lane).collect()
    }

    fn target(&self, name: &Arc<str>, chosen: &Chosen) -> Target {
        self.target_of(name.clone(), chosen.topic.partitions, TopicSettings::new())
    }

    fn target_of(&self, topic: Arc<str>, partitions: u32, settings: TopicSettings) -> Target {
        Target { topic, partitions, settings, replication_factor: self.link.config.following.replication_factor }
    }

    /// Read a partition, unless something was lost. The inner error: why it cannot be read now.
    pub(super) fn follow_partition(
        &mut self,
        partition: &TopicPartition,
        ranges: Ranges,
        topic: &Topic,
        target: &Topic,
    ) -> Result<Option<Error>, Failure> {
        let (checkpoint, range) = (self.checkpoints.get(partition), ranges.source);
        let (next, doubt) = match checkpoint {
            Some(checkpoint) => (checkpoint.next_offset, check(partition, checkpoint, ranges, topic, target)),
            None => match self.link.genesis_start(partition) {
                Some(start) => (start, check_beginning(partition, start, ranges)),
                None => (range.log_start, None),
            },
        };
        if let Some(doubt) = doubt {
            let begin = || self.beginning(next, ranges, topic, target);
            let checkpoint = checkpoint.cloned().unwrap_or_else(begin);
            self.doubted.push(Doubted::found(partition, checkpoint, doubt));
            return Ok(None);
        }
        self.link.check_behind(partition, next, PartitionRange { end: ranges.log_end, ..range })?;
        let last = checkpoint.and_then(|checkpoint| checkpoint.last);
        // Where retention took the record, nothing can be compared.
        let awaited = last.filter(|last| last.offset >= range.log_start && last.offset < next);
        // One record more is read, to be compared or to be named, and no request more is made.
        let from = match last {
            None => (next - 1).max(range.log_start),
            Some(_) => awaited.map_or(next, |last| last.offset),
        };
        match self.source.seek(partition, from.min(next)) {
            Err(why) if why.class == Class::Reopen => return Ok(Some(why)),
            sought => sought?,
        }
        let seen = lock(&self.link.lanes[self.lane as usize]).open_transactions.get(partition).copied();
        seen.into_iter().for_each(|seen| self.source.recall(partition, seen));
        self.remember(partition)?;
        let checkpoint = self.checkpoints.get(partition);
        let progress = Progress { next_offset: next, ..self.progress_before(partition) };
        let position = Position {
            next,
            source_id: topic.id,
            log_start: range.log_start,
            leader_epoch: checkpoint.and_then(|checkpoint| checkpoint.source_leader_epoch),
            link_epoch: checkpoint.map_or(0, |checkpoint| checkpoint.link_epoch),
            target: target.name.clone(),
            target_id: target.id,
            last,
            awaited,
            revision: checkpoint.map(|checkpoint| checkpoint.revision),
            progress,
        };
        lock(&self.link.lanes[self.lane as usize]).committed.insert(partition.clone(), progress);
        self.positions.insert(partition.clone(), position);
        Ok(None)
    }

    /// The checkpoint of a partition of which nothing was copied.
    fn beginning(&self, next_offset: i64, ranges: Ranges, topic: &Topic, target: &Topic) -> Checkpoint {
        Checkpoint {
            v: CHECKPOINT_VERSION,
            next_offset,
            source_topic_id: topic.id,
            source_log_start: ranges.source.log_start,
            source_leader_epoch: None,
            target_topic_id: target.id,
            target_end_offset: ranges.target_end,
            link_epoch: 0,
            revision: self.transaction.revision,
            last: None,
            doubt: None,
        }
    }

    /// Take in what the stages remember of a partition.
    fn remember(&mut self, partition: &TopicPartition) -> Result<(), Failure> {
        let stored = self.sink.states(partition)?;
        let (link, checkpoint) = (&self.link, self.checkpoints.get(partition));
        let writer = |stage: &str, writer: &Writer| link.stage_of(stage, writer.plugin, writer.revision);
        let pipeline = self.run.pipeline();
        let heir = Heir { link: &link.config.id, pipeline, is_on_trial: is_on_trial(pipeline, link) };
        self.migrated |= self.memory.open(&heir, partition, checkpoint, stored, writer)?;
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
    pub(super) fn most_partitions(&self) -> Option<u32> {
        self.link.topics.found().most_partitions()
    }

    /// Make the topics that plugins may route to, and refuse those that the link reads.
    pub(super) fn prepare_routes(&mut self) -> Result<(), Failure> {
        let routes: Vec<Arc<str>> = self.run.routes().cloned().collect();
        let Some(partitions) = self.most_partitions().filter(|_| !routes.is_empty()) else { return Ok(()) };
        let config = &self.link.config;
        check_routes(config, &routes, &[]).map_err(|refused| Failure::refused(Writing::Routes(config), &refused))?;
        let routes = routes.into_iter().map(|topic| self.target_of(topic, partitions, TopicSettings::new()));
        let routes: Vec<Target> = routes.collect();
        self.sink.prepare(&routes)?;
        Ok(())
    }

    /// Make sure that there is a topic for dead letters. It takes what the source topic takes, and the headers of a letter.
    pub(super) fn prepare_letters(&mut self, letters: &Arc<str>, source: &Arc<str>) -> Result<(), Failure> {
        if self.topology.letters == Some(self.topology.found) {
            return Ok(());
        }
        let partitions = self.most_partitions().unwrap_or(1);
        let mut settings = self.settings_for(letters, source)?;
        settings.retain(|name, _| name == MAX_MESSAGE_BYTES);
        for bytes in settings.values_mut() {
            let source_bytes: u64 = bytes.parse().unwrap_or_default();
            *bytes = (source_bytes + LETTER_BYTES).min(i32::MAX as u64).to_string();
        }
        let target = self.target_of(letters.clone(), partitions, settings);
        self.sink.prepare(&[target])?;
        self.topology.letters = Some(self.topology.found);
        Ok(())
    }

    /// What a topic of the target is to be like, if it has to be made after a topic of the source.
    fn settings_for(&self, target: &Arc<str>, source: &Arc<str>) -> Result<TopicSettings, Failure> {
        if self.link.target.topics()?.iter().any(|topic| topic.name == *target) {
            return Ok(TopicSettings::new());
        }
        let mut settings = self.link.source.topic_settings(std::slice::from_ref(source))?;
        Ok(settings.remove(source).transpose()?.unwrap_or_default())
    }
}

/// Why a partition cannot begin where the genesis has it begin, if it cannot.
fn check_beginning(partition: &TopicPartition, start: i64, ranges: Ranges) -> Option<Doubt> {
    let Ranges { source: PartitionRange { log_start, end }, log_end, .. } = ranges;
    if start < log_start {
        let last = log_start - 1;
        let message =
            format!("{partition}: records {start} to {last} were to be copied first, and are gone from the source");
        return Some(doubt(Loss::DataLost, message, Some((start, log_start))));
    }
    if start <= log_end {
        return None;
    }
    let message = format!(
        "{partition} was to begin at {start}, and ends at {end}: it lost records, or is another topic under the old name"
    );
    Some(doubt(Loss::SourceTruncated, message, Some((end, start))))
}

/// Kafka's name of the largest record batch that a topic takes.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// What the topic of dead letters takes more than the source topic: a letter is a record with more headers.
const LETTER_BYTES: u64 = 64 << 10;

fn is_back(topic: &str) -> Failure {
    let message = format!("topic {topic} was not copied for a while and is to be copied again");
    let failure =
        Failure::fatal("source-topic-back", message, "nothing: the lane opens again and looks whether it is the same");
    Failure { class: Class::Reopen, ..failure }
}
