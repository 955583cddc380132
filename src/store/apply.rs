//! What each command does to the tables.
//!
//! A command is checked before it writes anything. So one that is refused leaves no trace in the
//! transaction that it shares with others.

use std::collections::BTreeMap;

use redb::{ReadableTable, StorageError, Table, TableError, WriteTransaction};

use super::command::{
    Append, Command, CommitLane, Outcome, Replacement, Retention, StoredPartition, StoredTopic, check_partitions,
    check_topic_name,
};
use super::error::Error;
use super::tables::{
    ARTIFACTS, BATCHES, CHECKPOINTS, Changes, EPOCH, EPOCHS, LANES, META, METADATA, NEXT_TOPIC_ID, PARTITIONS,
    REVISION_STARTS, STANDBY_TOPICS, STANDBYS, STATE, STATE_HEADS, StateKey, TOPIC_IDS, TOPICS, decode_topic,
    encode_topic, partition_of_row, row_of_partition,
};
use crate::model::{LinkId, NotEncodable, Standby, StandbyTopics, StateChange, TopicId};

/// Why a command was not applied.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command is wrong. The transaction is as it was before.
    Refused(Error),
    /// The storage failed. The transaction is lost.
    Storage(String),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// Something of the command may have been written before: the transaction is lost.
impl From<NotEncodable> for Failure {
    fn from(error: NotEncodable) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The tables, open for writing.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    topic_ids: Table<'t, &'static str, u64>,
    topics: Table<'t, u64, &'static [u8]>,
    partitions: Table<'t, (u64, u32), (i64, i64, u64)>,
    epochs: Table<'t, (u64, u32, i64), u32>,
    batches: Table<'t, (u64, u32, i64), &'static [u8]>,
    lanes: Table<'t, (&'static str, u32), u64>,
    checkpoints: Table<'t, (&'static str, &'static str, u32), &'static [u8]>,
    revision_starts: Table<'t, (&'static str, u64, &'static str, u32), i64>,
    state_heads: Table<'t, (&'static str, &'static str, u32, &'static str), &'static [u8]>,
    state: Table<'t, StateKey<'static>, &'static [u8]>,
    metadata: Table<'t, (&'static str, &'static str), &'static [u8]>,
    standbys: Table<'t, &'static str, u8>,
    standby_topics: Table<'t, (&'static str, &'static str), &'static str>,
    artifacts: Table<'t, &'static [u8; 32], &'static [u8]>,
}

impl<'t> Tables<'t> {
    /// Open all tables; those that do not exist are made.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            topic_ids: transaction.open_table(TOPIC_IDS)?,
            topics: transaction.open_table(TOPICS)?,
            partitions: transaction.open_table(PARTITIONS)?,
            epochs: transaction.open_table(EPOCHS)?,
            batches: transaction.open_table(BATCHES)?,
            lanes: transaction.open_table(LANES)?,
            checkpoints: transaction.open_table(CHECKPOINTS)?,
            revision_starts: transaction.open_table(REVISION_STARTS)?,
            state_heads: transaction.open_table(STATE_HEADS)?,
            state: transaction.open_table(STATE)?,
            metadata: transaction.open_table(METADATA)?,
            standbys: transaction.open_table(STANDBYS)?,
            standby_topics: transaction.open_table(STANDBY_TOPICS)?,
            artifacts: transaction.open_table(ARTIFACTS)?,
        })
    }

    /// Apply a command, and note in `changes` what readers have to know once it is durable.
    pub(super) fn apply(&mut self, command: &Command, changes: &mut Changes) -> Result<Outcome, Failure> {
        match command {
            Command::Begin { epoch } => {
                self.meta.insert(EPOCH, u64::from(*epoch))?;
                Ok(Outcome::Done)
            }
            Command::CreateTopic { name, partitions, retention, new } => {
                if *new && self.topic_ids.get(&**name)?.is_some() {
                    return Err(Error::TopicExists(name.clone()).into());
                }
                self.create_topic(name, *partitions, *retention, changes)
            }
            Command::ChangeRetention { topic, retention_ms, retention_bytes } => {
                let topic = self.topic(*topic)?;
                let retention = Retention {
                    retention_ms: retention_ms.unwrap_or(topic.retention.retention_ms),
                    retention_bytes: retention_bytes.unwrap_or(topic.retention.retention_bytes),
                };
                self.put_topic(StoredTopic { retention, ..topic }, changes)
            }
            Command::Append(appends) => {
                self.check_appends(appends, None)?;
                Ok(Outcome::Appended(self.append(appends, changes)?))
            }
            Command::OpenLane { link, lane } => self.open_lane(link, *lane),
            Command::CommitLane(commit) => self.commit_lane(commit, changes),
            Command::PutMetadata { link, key, value } => {
                self.metadata.insert((&**link, key.as_str()), value.as_slice())?;
                Ok(Outcome::Done)
            }
            Command::ReplaceMetadata(replacement) => self.replace_metadata(replacement),
            Command::GuardTopics { link, topics, only } => self.guard_topics(link, topics, *only),
            Command::Release { link } => {
                self.standbys.remove(&**link)?;
                self.standby_topics.retain(|(_, of), _| of != &**link)?;
                Ok(Outcome::Done)
            }
            Command::PutArtifact { digest, bytes } => {
                self.artifacts.insert(digest.as_bytes(), bytes.as_slice())?;
                Ok(Outcome::Done)
            }
            Command::Truncate { topic, partition, to } => self.truncate(*topic, *partition, *to, changes),
        }
    }

    fn create_topic(
        &mut self,
        name: &std::sync::Arc<str>,
        partitions: u32,
        retention: Retention,
        changes: &mut Changes,
    ) -> Result<Outcome, Failure> {
        check_topic_name(name)?;
        check_partitions(partitions)?;
        let existing = self.topic_ids.get(&**name)?.map(|id| id.value());
        let topic = match existing {
            Some(id) => {
                let mut topic = self.topic(TopicId(id))?;
                if topic.partitions >= partitions {
                    return Ok(Outcome::Topic(topic));
                }
                topic.partitions = partitions;
                topic
            }
            None => {
                let id = self.meta.get(NEXT_TOPIC_ID)?.map_or(1, |id| id.value());
                self.meta.insert(NEXT_TOPIC_ID, id + 1)?;
                self.topic_ids.insert(&**name, id)?;
                StoredTopic { id: TopicId(id), name: name.clone(), partitions, retention }
            }
        };
        self.put_topic(topic, changes)
    }

    fn put_topic(&mut self, topic: StoredTopic, changes: &mut Changes) -> Result<Outcome, Failure> {
        self.topics.insert(topic.id.0, encode_topic(&topic)?.as_slice())?;
        changes.topics.push(topic.clone());
        Ok(Outcome::Topic(topic))
    }

    fn topic(&self, id: TopicId) -> Result<StoredTopic, Failure> {
        let row = self.topics.get(id.0)?.ok_or(Error::UnknownTopicId(id))?;
        decode_topic(id.0, row.value())
            .map_err(|error| Failure::Storage(format!("the topic with id {} is damaged: {error}", id.0)))
    }

    fn check_partition(&self, id: TopicId, partition: u32) -> Result<StoredTopic, Failure> {
        let topic = self.topic(id)?;
        if partition < topic.partitions {
            return Ok(topic);
        }
        Err(Error::UnknownPartition { topic: topic.name, partition, partitions: topic.partitions }.into())
    }

    fn partition(&self, topic: TopicId, partition: u32) -> Result<StoredPartition, StorageError> {
        let row = self.partitions.get((topic.0, partition))?;
        Ok(row.map(|row| partition_of_row(row.value())).unwrap_or_default())
    }

    fn put_partition(
        &mut self,
        topic: TopicId,
        partition: u32,
        state: StoredPartition,
        changes: &mut Changes,
    ) -> Result<(), StorageError> {
        self.partitions.insert((topic.0, partition), row_of_partition(&state))?;
        changes.partitions.insert((topic, partition), state);
        Ok(())
    }

    /// Whether `writer`, or somebody who is no link, may append this.
    fn check_appends(&self, appends: &[Append], writer: Option<&LinkId>) -> Result<(), Failure> {
        appends.iter().try_for_each(|append| {
            let topic = self.check_partition(append.topic, append.partition)?;
            self.check_guard(topic, writer)
        })
    }

    /// Whether a topic takes records of `writer`: what stands by does so of its own links only.
    fn check_guard(&self, topic: StoredTopic, writer: Option<&LinkId>) -> Result<(), Failure> {
        let mut guard: Option<LinkId> = None;
        for row in self.standby_topics.range((&*topic.name, "")..)? {
            let (key, _) = row?;
            let (of, link) = key.value();
            if of != &*topic.name {
                break;
            }
            if writer.is_some_and(|writer| **writer == *link) {
                return Ok(());
            }
            let is_guarded = self.standbys.get(link)?.is_some_and(|found| found.value() == Standby::Guarded.number());
            if is_guarded && guard.is_none() {
                guard = Some(link.into());
            }
        }
        guard.map_or(Ok(()), |link| Err(Error::StandingBy { topic: topic.name, link }.into()))
    }

    fn replace_metadata(&mut self, replacement: &Replacement) -> Result<Outcome, Failure> {
        let Replacement { link, key, known, value, standby } = replacement;
        let place = (&**link, key.as_str());
        let is_known = self.metadata.get(place)?.as_ref().map(|now| now.value()) == known.as_deref();
        if !is_known {
            return Ok(Outcome::Replaced(false));
        }
        if let Some(value) = value {
            self.metadata.insert(place, value.as_slice())?;
        }
        if let Some(standby) = standby {
            self.standbys.insert(&**link, standby.number())?;
        }
        Ok(Outcome::Replaced(true))
    }

    fn guard_topics(&mut self, link: &LinkId, topics: &StandbyTopics, only: bool) -> Result<Outcome, Failure> {
        if self.standbys.get(&**link)?.is_none() {
            // It was released meanwhile.
            return Ok(Outcome::Done);
        }
        if only {
            self.standby_topics.retain(|(topic, of), _| of != &**link || topics.contains_key(topic))?;
        }
        for (topic, source) in topics {
            self.standby_topics.insert((&**topic, &**link), &**source)?;
        }
        Ok(Outcome::Done)
    }

    /// Append what was checked; the offset of the first record of each.
    fn append(&mut self, appends: &[Append], changes: &mut Changes) -> Result<Vec<i64>, Failure> {
        let mut bases = Vec::with_capacity(appends.len());
        for append in appends {
            let mut state = self.partition(append.topic, append.partition)?;
            bases.push(state.end);
            self.note_epoch(append.topic, append.partition, state.end)?;
            for batch in &append.batches {
                self.batches.insert((append.topic.0, append.partition, state.end), batch.as_bytes())?;
                state.end += i64::from(batch.records());
                state.bytes += batch.as_bytes().len() as u64;
            }
            self.put_partition(append.topic, append.partition, state, changes)?;
        }
        Ok(bases)
    }

    /// Note where the present epoch begins in a partition, unless that is known.
    fn note_epoch(&mut self, topic: TopicId, partition: u32, offset: i64) -> Result<(), StorageError> {
        let Some(epoch) = self.meta.get(EPOCH)?.and_then(|epoch| u32::try_from(epoch.value()).ok()) else {
            return Ok(());
        };
        let all = (topic.0, partition, i64::MIN)..=(topic.0, partition, i64::MAX);
        let last = self.epochs.range(all)?.next_back().transpose()?.map(|(_, epoch)| epoch.value());
        if last != Some(epoch) {
            self.epochs.insert((topic.0, partition, offset), epoch)?;
        }
        Ok(())
    }

    /// Forget the epochs whose records are gone. The one that ends at the log start is kept: whoever has read up to there may ask.
    fn drop_epochs(&mut self, topic: TopicId, partition: u32, log_start: i64) -> Result<(), StorageError> {
        let before = (topic.0, partition, i64::MIN)..(topic.0, partition, log_start);
        let starts = self.epochs.range(before)?.map(|row| Ok(row?.0.value().2));
        let starts = starts.collect::<Result<Vec<i64>, StorageError>>()?;
        let old = starts.split_last().map_or(&[][..], |(_, old)| old);
        old.iter().try_for_each(|start| self.epochs.remove((topic.0, partition, *start)).map(drop))
    }

    fn epoch(&self, link: &LinkId, lane: u32) -> Result<u64, StorageError> {
        Ok(self.lanes.get((&**link, lane))?.map_or(0, |epoch| epoch.value()))
    }

    fn open_lane(&mut self, link: &LinkId, lane: u32) -> Result<Outcome, Failure> {
        let epoch = self.epoch(link, lane)? + 1;
        self.lanes.insert((&**link, lane), epoch)?;
        Ok(Outcome::Opened(epoch))
    }

    fn commit_lane(&mut self, commit: &CommitLane, changes: &mut Changes) -> Result<Outcome, Failure> {
        let CommitLane { link, lane, epoch, .. } = commit;
        let current = self.epoch(link, *lane)?;
        if *epoch != current {
            return Err(Error::Fenced { link: link.clone(), lane: *lane, epoch: *epoch, current }.into());
        }
        self.check_appends(&commit.appends, Some(link))?;
        let mut targets = BTreeMap::new();
        for checkpoint in commit.checkpoints.values().filter(|_| !commit.verbatim) {
            targets.insert(checkpoint.target_topic_id, self.topic(checkpoint.target_topic_id)?.partitions);
        }
        let bases = self.append(&commit.appends, changes)?;
        for (source, checkpoint) in &commit.checkpoints {
            let mut checkpoint = checkpoint.clone();
            if let Some(partitions) = targets.get(&checkpoint.target_topic_id) {
                let partition = source.partition % partitions;
                checkpoint.target_end_offset = self.partition(checkpoint.target_topic_id, partition)?.end;
            }
            self.checkpoints.insert((&**link, &*source.topic, source.partition), checkpoint.encode()?.as_slice())?;
        }
        commit.states.iter().try_for_each(|change| self.change_state(link, change))?;
        for ((source, revision), offset) in &commit.revision_starts {
            let key = (&**link, revision.0, &*source.topic, source.partition);
            if self.revision_starts.get(key)?.is_none() {
                self.revision_starts.insert(key, *offset)?;
            }
        }
        Ok(Outcome::Appended(bases))
    }

    fn change_state(&mut self, link: &LinkId, change: &StateChange) -> Result<(), Failure> {
        let StateChange { stage, partition, head, rows } = change;
        let place = (&**link, &*partition.topic, partition.partition, stage.as_str());
        let key = |name| (place.0, place.1, place.2, place.3, name);
        match head {
            Some(head) => drop(self.state_heads.insert(place, head.encode()?.as_slice())?),
            None => drop(self.state_heads.remove(place)?),
        }
        for (name, row) in rows {
            match row {
                Some(row) => drop(self.state.insert(key(name.as_slice()), row.encode().as_slice())?),
                None => drop(self.state.remove(key(name.as_slice()))?),
            }
        }
        Ok(())
    }

    fn truncate(&mut self, topic: TopicId, partition: u32, to: i64, changes: &mut Changes) -> Result<Outcome, Failure> {
        self.check_partition(topic, partition)?;
        let mut state = self.partition(topic, partition)?;
        let to = to.min(state.end);
        if to <= state.log_start {
            return Ok(Outcome::Done);
        }
        let bases = self.bases(topic, partition, to)?;
        for (index, base) in bases.iter().enumerate() {
            let end = bases.get(index + 1).copied().unwrap_or(state.end);
            if end > to {
                break;
            }
            if let Some(batch) = self.batches.remove((topic.0, partition, *base))? {
                state.bytes = state.bytes.saturating_sub(batch.value().len() as u64);
            }
        }
        state.log_start = to;
        self.drop_epochs(topic, partition, to)?;
        self.put_partition(topic, partition, state, changes)?;
        Ok(Outcome::Done)
    }

    /// The base offsets up to `to`, and the one after: where a batch ends is where the next one begins.
    fn bases(&self, topic: TopicId, partition: u32, to: i64) -> Result<Vec<i64>, StorageError> {
        let all = (topic.0, partition, i64::MIN)..=(topic.0, partition, i64::MAX);
        let mut bases = Vec::new();
        for row in self.batches.range(all)? {
            let base = row?.0.value().2;
            bases.push(base);
            if base >= to {
                break;
            }
        }
        Ok(bases)
    }
}
