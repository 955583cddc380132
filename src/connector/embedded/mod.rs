//! The embedded store as a cluster: a source, a sink, and what lies between the store's words and those of the room.
//!
//! Reading order: this file, [`source`], [`sink`].
//!
//! Invariants
//! - A source holds the records of one stored batch at most: what it gives has been read from the store once.
//! - A sink's transaction is one command to the store.

pub mod sink;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Class, Cluster, Copying, Each, EpochEnd, Error, LaneSettings, PartitionRange, Patience, RevisionStart,
    SettingChanges, Sink, Source, Standbys, Target, Topic, TopicSettings, check_name, is_retention_in_force,
};
use crate::model::time::now_ms;
use crate::model::{Batch, Checkpoint, Digest, LinkId, Standby, StandbyTopics, TopicPartition};
use crate::store::{
    Append, Command, EpochEnd as StoredEpochEnd, Outcome, Packer, Replacement, Retention, Store, StoredTopic, stored,
};
use sink::EmbeddedSink;
use source::EmbeddedSource;

/// A store as a cluster.
#[derive(Clone, Debug)]
pub struct EmbeddedCluster {
    store: Arc<Store>,
}

impl EmbeddedCluster {
    /// The cluster that `store` holds.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// The store behind it, for what only an embedded cluster has: retention, its file.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        let class = match error {
            crate::store::Error::Fenced { .. } => Class::Fenced,
            // Who opens again leaves the topic out.
            crate::store::Error::StandingBy { .. } => Class::Reopen,
            // All others come again as long as nobody does something about them.
            _ => Class::Fatal,
        };
        Self { class, code: error.code(), message: error.to_string(), remedy: error.remedy() }
    }
}

impl From<StoredTopic> for Topic {
    fn from(topic: StoredTopic) -> Self {
        Self { name: topic.name, id: topic.id, partitions: topic.partitions }
    }
}

/// The topic with this name, or the error that there is none.
fn find(store: &Store, name: &Arc<str>) -> Result<StoredTopic, Error> {
    store.topic(name).ok_or_else(|| crate::store::Error::UnknownTopic(name.clone()).into())
}

fn too_large(stored::RecordTooLarge(bytes): stored::RecordTooLarge) -> Error {
    crate::store::Error::RecordTooLarge { bytes, most: stored::RECORD_BYTES_MAX }.into()
}

/// Kafka's names of what a store keeps to.
const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";

/// The settings that a topic of a store has.
const KNOWN: [&str; 2] = [RETENTION_BYTES, RETENTION_MS];

/// Kafka's word for no limit.
const UNLIMITED: &str = "-1";

/// What the settings of a topic say about retention. A topic of Kafka that is only compacted loses nothing by it, whatever limits it has.
fn retention(settings: &TopicSettings) -> Retention {
    let in_force = is_retention_in_force(settings);
    let limit = |name: &str| settings.get(name).filter(|_| in_force).and_then(|value| value.parse().ok());
    Retention { retention_ms: limit(RETENTION_MS), retention_bytes: limit(RETENTION_BYTES) }
}

/// The same the other way round. A store has no defaults for its topics: both settings always have a value.
fn settings(retention: Retention) -> TopicSettings {
    let settings = [(RETENTION_MS, retention.retention_ms), (RETENTION_BYTES, retention.retention_bytes)];
    let said = |limit: Option<u64>| limit.map_or_else(|| UNLIMITED.to_owned(), |limit| limit.to_string());
    settings.into_iter().map(|(name, limit)| (name.to_owned(), said(limit))).collect()
}

impl EmbeddedCluster {
    fn change(&self, name: &Arc<str>, changes: &SettingChanges) -> Result<(), Error> {
        let topic = find(&self.store, name)?;
        let changed = |name: &str| changes.get(name).map(|value| value.as_ref().and_then(|value| value.parse().ok()));
        let (retention_ms, retention_bytes) = (changed(RETENTION_MS), changed(RETENTION_BYTES));
        if retention_ms.or(retention_bytes).is_some() {
            self.store.execute(Command::ChangeRetention { topic: topic.id, retention_ms, retention_bytes })?;
        }
        Ok(())
    }
}

impl Cluster for EmbeddedCluster {
    fn probe(&self) -> Result<(), Error> {
        self.store.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn topics(&self) -> Result<Vec<Topic>, Error> {
        Ok(self.store.topics().into_iter().map(Topic::from).collect())
    }

    fn ranges(&self, topic: &str) -> Result<Vec<PartitionRange>, Error> {
        let partitions = find(&self.store, &topic.into())?.partitions;
        (0..partitions).map(|partition| self.range(&TopicPartition::new(topic, partition))).collect()
    }

    fn range(&self, partition: &TopicPartition) -> Result<PartitionRange, Error> {
        let topic = find(&self.store, &partition.topic)?;
        let range = self.store.range(topic.id, partition.partition)?;
        Ok(PartitionRange { log_start: range.log_start, end: range.end })
    }

    fn timestamp_at(&self, partition: &TopicPartition, offset: i64) -> Result<Option<i64>, Error> {
        let topic = find(&self.store, &partition.topic)?;
        Ok(self.store.timestamp_at(topic.id, partition.partition, offset)?)
    }

    fn ends_of_epochs(&self, epochs: &[(TopicPartition, i32)], _patience: Patience) -> Each<EpochEnd> {
        let end = |(partition, epoch): &(TopicPartition, i32)| {
            let topic = find(&self.store, &partition.topic)?;
            let Ok(epoch) = u32::try_from(*epoch) else { return Ok(EpochEnd::Unknown) };
            Ok(match self.store.end_of_epoch(topic.id, partition.partition, epoch)? {
                StoredEpochEnd::At(end) => EpochEnd::At(end),
                StoredEpochEnd::Unknown => EpochEnd::Unknown,
            })
        };
        epochs.iter().map(end).collect()
    }

    fn topology_version(&self) -> u64 {
        self.store.topology_version()
    }

    fn create_topic(&self, name: &str, partitions: u32) -> Result<Topic, Error> {
        check_name(name)?;
        Ok(self.store.create_topic(name, partitions, Retention::default())?.into())
    }

    fn make_topics(&self, targets: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error> {
        let make = |target: &Target| {
            check_name(&target.topic)?;
            let made = self.store.create_topic(&target.topic, target.partitions, retention(&target.settings));
            made.map(Topic::from).map_err(Error::from)
        };
        Ok(targets.iter().map(make).collect())
    }

    fn produce(&self, partition: &TopicPartition, batch: &Batch) -> Result<i64, Error> {
        check_name(&partition.topic)?;
        let topic = find(&self.store, &partition.topic)?;
        let end = self.store.range(topic.id, partition.partition)?.end;
        if batch.is_empty() {
            return Ok(end);
        }
        let mut compressor = self.store.compressor(None);
        let mut packer = Packer::new(now_ms());
        for record in batch.records() {
            packer.push(record, &mut compressor).map_err(too_large)?;
        }
        let batches = packer.finish(&mut compressor);
        let append = Append { topic: topic.id, partition: partition.partition, batches };
        match self.store.execute(Command::Append(vec![append]))? {
            Outcome::Appended(bases) => Ok(bases.first().copied().unwrap_or(end)),
            _ => Ok(end),
        }
    }

    fn topic_settings(&self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error> {
        let settings_of = |name| Some(settings(self.store.topic(name)?.retention));
        let found = topics.iter().filter_map(|name| Some((name.clone(), Ok(settings_of(name)?))));
        Ok(found.collect())
    }

    fn settings_known(&self) -> &'static [&'static str] {
        &KNOWN
    }

    fn settings_kept(&self, wanted: &TopicSettings) -> TopicSettings {
        settings(retention(wanted))
    }

    fn change_settings(
        &self,
        changes: &BTreeMap<Arc<str>, SettingChanges>,
    ) -> Result<BTreeMap<Arc<str>, Error>, Error> {
        let refused = |(name, changes)| Some((Arc::clone(name), self.change(name, changes).err()?));
        Ok(changes.iter().filter_map(refused).collect())
    }

    fn record_bytes_max(&self, _topic: &str) -> Result<usize, Error> {
        Ok(stored::RECORD_BYTES_MAX)
    }

    /// One transaction of the store, whatever the link says.
    fn is_atomic(&self, _enable_exactly_once: bool) -> bool {
        true
    }

    /// The store assigns the offsets in the step that commits the checkpoint.
    fn knows_target_ends(&self) -> bool {
        true
    }

    fn checkpoints(&self, link: &LinkId, _generation: u32) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error> {
        Ok(self.store.checkpoints(link)?)
    }

    fn revision_starts(&self, link: &LinkId, _generation: u32) -> Result<Vec<RevisionStart>, Error> {
        let starts = self.store.revision_starts(link)?.into_iter();
        Ok(starts.map(|(revision, partition, offset)| RevisionStart { partition, revision, offset }).collect())
    }

    /// What lanes write of themselves is kept by source partition here, whichever lane it is: there is nothing to copy.
    fn copy_lanes(&self, copying: &Copying, copied: &mut dyn FnMut(u32) -> Result<(), Error>) -> Result<(), Error> {
        let from = &copying.from;
        for lane in 0..from.lanes {
            self.store.execute(Command::OpenLane { link: from.link.clone(), lane })?;
        }
        copied(from.lanes)
    }

    fn metadata(&self, link: &LinkId, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.store.metadata(link, key)?)
    }

    fn metadata_of_all(&self, key: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        Ok(self.store.metadata_of_all(key)?)
    }

    fn put_metadata(&self, link: &LinkId, key: &str, value: &[u8]) -> Result<(), Error> {
        let command = Command::PutMetadata { link: link.clone(), key: key.to_owned(), value: value.to_vec() };
        self.store.execute(command)?;
        Ok(())
    }

    fn replace_metadata(&self, link: &LinkId, key: &str, known: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        self.replace(link, key, known, Some(value), None)
    }

    fn standbys(&self) -> Option<&dyn Standbys> {
        Some(self)
    }

    fn metadata_version(&self) -> Result<u64, Error> {
        // Whoever stores something here is this process, and knows.
        Ok(0)
    }

    fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.store.artifact(digest)?)
    }

    fn put_artifact(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.store.execute(Command::PutArtifact { digest: *digest, bytes: bytes.to_vec() })?;
        Ok(())
    }

    fn source(&self) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(EmbeddedSource::new(self.store.clone())))
    }

    fn sink(&self, lane: &LaneSettings) -> Result<Box<dyn Sink>, Error> {
        Ok(Box::new(EmbeddedSink::new(self.store.clone(), lane)))
    }
}

impl Standbys for EmbeddedCluster {
    fn replace(
        &self,
        link: &LinkId,
        key: &str,
        known: Option<&[u8]>,
        value: Option<&[u8]>,
        standby: Option<Standby>,
    ) -> Result<bool, Error> {
        let (known, value) = (known.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        let replacement = Replacement { link: link.clone(), key: key.to_owned(), known, value, standby };
        Ok(self.store.execute(Command::ReplaceMetadata(replacement))? == Outcome::Replaced(true))
    }

    fn guard(&self, link: &LinkId, topics: StandbyTopics, only: bool) -> Result<(), Error> {
        self.store.execute(Command::GuardTopics { link: link.clone(), topics, only })?;
        Ok(())
    }

    fn release(&self, link: &LinkId) -> Result<(), Error> {
        if self.store.standbys()?.contains(link) {
            self.store.execute(Command::Release { link: link.clone() })?;
        }
        Ok(())
    }

    fn guarded_by_others(&self, link: &LinkId) -> Result<BTreeMap<Arc<str>, LinkId>, Error> {
        Ok(self.store.guarded_by_others(link)?)
    }

    fn standby_topics(&self, link: &LinkId) -> Result<StandbyTopics, Error> {
        Ok(self.store.standby_topics(link)?)
    }
}

#[cfg(test)]
mod tests;
