//! The tables of the file, and how they are read.
//!
//! Layout, version 1. The keys of redb's tuples sort by their parts; its numbers are little-endian.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | a word | number: `layout` is the version, `next_topic_id` the id that the next topic gets, `epoch` the present epoch |
//! | `topic_ids` | topic name | topic id |
//! | `topics` | topic id | JSON: `v` (1), `name`, `partitions`, `retention_ms`, `retention_bytes` |
//! | `partitions` | topic id, partition | log start, end, stored bytes; none for a partition never written to |
//! | `epochs` | topic id, partition, offset | the epoch of the records from there on; none for records of a time before epochs |
//! | `batches` | topic id, partition, base offset | see [`stored`](super::stored) |
//! | `lanes` | link, lane | epoch |
//! | `checkpoints` | link, source topic, source partition | JSON, see [`Checkpoint`](crate::model::Checkpoint) |
//! | `state_heads` | link, source topic, source partition, stage | JSON, see [`StateHead`](crate::model::StateHead) |
//! | `state` | link, source topic, source partition, stage, key | see [`StateRow`](crate::model::StateRow) |
//! | both | a stage `<stage>@<revision>` | the state before a trial, see [`KeptRow`](crate::model::KeptRow) |
//! | `revision_starts` | link, revision, source topic, source partition | the revision's first offset there |
//! | `metadata` | link, key | any bytes |
//! | `standbys` | link | whether its topics stand by: 1 only the link writes to them, 2 they have the place of the source's |
//! | `standby_topics` | topic name, link | the source topic that it is a copy of |
//! | `artifacts` | SHA-256 of the value | a plugin component |
//!
//! Files that were made before there were `standbys` and `standby_topics` get them with the first change.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use super::command::{Retention, StoredPartition, StoredTopic};
use super::error::Error;
use crate::model::{NotEncodable, TopicId, encode};

/// The version of the layout that this program writes, and the highest that it reads.
pub const LAYOUT_VERSION: u64 = 1;

pub(super) const LAYOUT: &str = "layout";
pub(super) const NEXT_TOPIC_ID: &str = "next_topic_id";
pub(super) const EPOCH: &str = "epoch";

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const TOPIC_IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("topic_ids");
pub(super) const TOPICS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("topics");
pub(super) const PARTITIONS: TableDefinition<'_, (u64, u32), (i64, i64, u64)> = TableDefinition::new("partitions");
pub(super) const EPOCHS: TableDefinition<'_, (u64, u32, i64), u32> = TableDefinition::new("epochs");
pub(super) const BATCHES: TableDefinition<'_, (u64, u32, i64), &[u8]> = TableDefinition::new("batches");
pub(super) const LANES: TableDefinition<'_, (&str, u32), u64> = TableDefinition::new("lanes");
pub(super) const CHECKPOINTS: TableDefinition<'_, (&str, &str, u32), &[u8]> = TableDefinition::new("checkpoints");
pub(super) const REVISION_STARTS: TableDefinition<'_, (&str, u64, &str, u32), i64> =
    TableDefinition::new("revision_starts");
pub(super) const STATE_HEADS: TableDefinition<'_, (&str, &str, u32, &str), &[u8]> = TableDefinition::new("state_heads");
/// Link, source topic, source partition, stage, key.
pub(super) type StateKey<'a> = (&'a str, &'a str, u32, &'a str, &'a [u8]);

pub(super) const STATE: TableDefinition<'_, StateKey<'_>, &[u8]> = TableDefinition::new("state");
pub(super) const METADATA: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("metadata");
pub(super) const STANDBYS: TableDefinition<'_, &str, u8> = TableDefinition::new("standbys");
/// Topic, link.
pub(super) const STANDBY_TOPICS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("standby_topics");
pub(super) const ARTIFACTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("artifacts");

/// The value of the table `topics`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TopicRow {
    v: u32,
    name: String,
    partitions: u32,
    #[serde(flatten)]
    retention: Retention,
}

/// The stored form of a topic.
///
/// # Errors
/// There is none.
pub(super) fn encode_topic(topic: &StoredTopic) -> Result<Vec<u8>, NotEncodable> {
    let row = TopicRow { v: 1, name: topic.name.to_string(), partitions: topic.partitions, retention: topic.retention };
    encode("a topic", &row)
}

/// Read the stored form of a topic.
pub(super) fn decode_topic(id: u64, bytes: &[u8]) -> Result<StoredTopic, serde_json::Error> {
    let row: TopicRow = serde_json::from_slice(bytes)?;
    Ok(StoredTopic { id: TopicId(id), name: row.name.into(), partitions: row.partitions, retention: row.retention })
}

pub(super) fn partition_of_row((log_start, end, bytes): (i64, i64, u64)) -> StoredPartition {
    StoredPartition { log_start, end, bytes }
}

pub(super) fn row_of_partition(partition: &StoredPartition) -> (i64, i64, u64) {
    (partition.log_start, partition.end, partition.bytes)
}

/// What readers have to know of the topics, in memory: what the last durable commit left.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) topics: BTreeMap<Arc<str>, StoredTopic>,
    pub(super) names: HashMap<TopicId, Arc<str>>,
    /// Partitions never written to are not here.
    pub(super) partitions: HashMap<(TopicId, u32), StoredPartition>,
}

/// What a group of commands changed in the [`Catalog`].
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) topics: Vec<StoredTopic>,
    pub(super) partitions: HashMap<(TopicId, u32), StoredPartition>,
}

impl Catalog {
    pub(super) fn load(database: &redb::Database, path: &Path) -> Result<Self, Error> {
        let read = |error: &dyn std::fmt::Display| Error::read(path, error);
        let transaction = database.begin_read().map_err(|error| read(&error))?;
        let mut catalog = Self::default();
        let topics = open(&transaction, TOPICS, path)?;
        for row in topics.iter().map_err(|error| read(&error))? {
            let (id, bytes) = row.map_err(|error| read(&error))?;
            let topic = decode_topic(id.value(), bytes.value())
                .map_err(|error| Error::corrupt(path, format!("the topic with id {}", id.value()), error))?;
            catalog.names.insert(topic.id, topic.name.clone());
            catalog.topics.insert(topic.name.clone(), topic);
        }
        let partitions = open(&transaction, PARTITIONS, path)?;
        for row in partitions.iter().map_err(|error| read(&error))? {
            let (key, value) = row.map_err(|error| read(&error))?;
            let (topic, partition) = key.value();
            catalog.partitions.insert((TopicId(topic), partition), partition_of_row(value.value()));
        }
        Ok(catalog)
    }

    /// Whether the number of topics or partitions changed.
    pub(super) fn apply(&mut self, changes: Changes) -> bool {
        let topology = !changes.topics.is_empty();
        for topic in changes.topics {
            self.names.insert(topic.id, topic.name.clone());
            self.topics.insert(topic.name.clone(), topic);
        }
        self.partitions.extend(changes.partitions);
        topology
    }

    pub(super) fn topic(&self, id: TopicId) -> Option<&StoredTopic> {
        self.topics.get(self.names.get(&id)?)
    }
}

/// A table for reading. The tables exist from the making of the file on.
pub(super) fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
    path: &Path,
) -> Result<redb::ReadOnlyTable<K, V>, Error> {
    transaction.open_table(table).map_err(|error| Error::read(path, error))
}

/// A table that files have only since they were last written to; `None`: it is not there yet.
pub(super) fn open_newer<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
    path: &Path,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, Error> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(Error::read(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that version 0.1.0 writes. They must be read for ever.
    #[test]
    fn topics_of_version_1_are_what_they_were() {
        let bytes = br#"{"v":1,"name":"orders","partitions":4,"retention_ms":60000,"retention_bytes":null}"#;
        let retention = Retention { retention_ms: Some(60_000), retention_bytes: None };
        let topic = StoredTopic { id: TopicId(7), name: "orders".into(), partitions: 4, retention };
        assert_eq!(encode_topic(&topic).expect("JSON"), bytes);
        assert_eq!(decode_topic(7, bytes).expect("readable"), topic);
    }
}
