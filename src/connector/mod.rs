//! The edges of the world: where a lane reads and where it writes.
//!
//! A [`Cluster`] is something that holds topics. A lane opens a [`Source`] on one and a [`Sink`] on another. Data flows
//! one way only: nothing is ever acknowledged back to a source, and what a lane has done is known from the checkpoints
//! in the sink alone.
//!
//! Invariants
//! - A sink commits the records, the state of stages, the checkpoints and the first offsets of a revision together or not at all.
//! - [`Sink::open`] fences every earlier opener of the same lane: after it returns, none of them can commit.
//! - Nothing retries inside: an [`Error`] says by its [`Class`] what the lane may do.

pub mod embedded;
pub mod kafka;
mod pieces;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Batch, Checkpoint, Digest, LinkId, RevisionNumber, StateChange, StoredState, TopicId, TopicPartition,
};

/// What a lane may do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Drop everything in memory, wait a little, open the lane again.
    Reopen,
    /// Somebody else opened the lane: as `Reopen`, but wait longer.
    Fenced,
    /// Stop the lane. A person has to do something.
    Fatal,
}

/// What went wrong at a cluster.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the lane may do.
    pub class: Class,
    /// A stable word for the state, for example `corrupt-batch`.
    pub code: &'static str,
    /// What happened and where, for a person.
    pub message: String,
    /// What the operator can do about it.
    pub remedy: &'static str,
}

/// A topic as a cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity.
    pub id: TopicId,
    /// The number of partitions.
    pub partitions: u32,
}

/// What is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    /// The first offset that is still there.
    pub log_start: i64,
    /// The offset that the next record will get.
    pub end: i64,
}

/// Something that holds topics.
pub trait Cluster: Send + Sync {
    /// All topics, by name.
    fn topics(&self) -> Result<Vec<Topic>, Error>;

    /// What is in a partition.
    fn range(&self, partition: &TopicPartition) -> Result<PartitionRange, Error>;

    /// The timestamp of the record at `offset` or of one shortly before it (in the same stored batch), in milliseconds; `None` if
    /// it is not known. Lag in time is measured with it.
    fn timestamp_at(&self, partition: &TopicPartition, offset: i64) -> Result<Option<i64>, Error>;

    /// A number that changes whenever a topic is made, deleted or gets more partitions.
    fn topology_version(&self) -> u64;

    /// Make a topic. One that exists gets more partitions if it has fewer, and keeps them otherwise.
    fn create_topic(&self, name: &str, partitions: u32) -> Result<Topic, Error>;

    /// Append records to a partition, durably, and answer the offset of the first one. Offsets and placements in `batch` do not matter.
    fn produce(&self, partition: &TopicPartition, batch: &Batch) -> Result<i64, Error>;

    /// What the stages of a link remember of a source partition, by stage, as it was committed last.
    fn states(&self, link: &LinkId, partition: &TopicPartition) -> Result<BTreeMap<String, StoredState>, Error>;

    /// The largest record that the topic takes: the bytes of its key, value and headers.
    fn record_bytes_max(&self, topic: &str) -> Result<usize, Error>;

    /// All checkpoints of a link.
    fn checkpoints(&self, link: &LinkId) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error>;

    /// Where each revision of a link began, by partition.
    fn revision_starts(&self, link: &LinkId) -> Result<Vec<RevisionStart>, Error>;

    /// What [`Cluster::put_metadata`] stored for the link under `key`.
    fn metadata(&self, link: &LinkId, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Store something about a link (its desired state, its revisions), durably.
    fn put_metadata(&self, link: &LinkId, key: &str, value: &[u8]) -> Result<(), Error>;

    /// The plugin component with this digest, if it was stored here.
    fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error>;

    /// Store a plugin component under its digest, durably.
    fn put_artifact(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error>;

    /// A reader.
    fn source(&self) -> Result<Box<dyn Source>, Error>;

    /// A writer for lane `lane` of a link.
    fn sink(&self, link: &LinkId, lane: u32) -> Result<Box<dyn Sink>, Error>;
}

/// Reads partitions, each from its own position.
pub trait Source: Send {
    /// Read `partition` from `offset` on. Replaces an earlier position.
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), Error>;

    /// Records of one of the partitions sought, or `None` if `wait` passed without any. Partitions take turns. A
    /// batch has at most `max_records` records, and ends early at about `max_bytes`; it holds one record at least, or none where
    /// only markers of transactions, records of aborted ones and holes were: then it says how far they go with `next_offset`.
    fn poll(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Option<Batch>, Error>;
}

/// What [`Sink::open`] found in the target.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// How far the link has come, in the partitions of all lanes: which of them are a lane's own, the sink cannot know.
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    /// The highest revision that any lane of the link has committed under.
    pub revision: Option<RevisionNumber>,
}

/// The topics that a source topic's records go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The topic.
    pub topic: Arc<str>,
    /// How many partitions it must have at least.
    pub partitions: u32,
}

/// Writes a lane's output, one transaction after the other. While a commit is under way the lane prepares the next
/// transaction; no more than one commit is under way.
pub trait Sink: Send {
    /// Fence every earlier opener of this lane, drop an open transaction, and say what is committed.
    fn open(&mut self) -> Result<Opened, Error>;

    /// Make sure that a topic exists and has enough partitions.
    fn prepare(&mut self, target: &Target) -> Result<Topic, Error>;

    /// Add a batch to the open transaction. Records without a route go to `target`.
    fn write(&mut self, batch: &Batch, target: &Arc<str>) -> Result<(), Error>;

    /// The bytes in the open transaction, as they will be stored.
    fn pending_bytes(&self) -> usize;

    /// Begin to commit the open transaction: its records, and for each source partition the checkpoint. The sink fills in
    /// the target's part of the checkpoints (`target_end_offset`). `started` holds the first offset of each
    /// partition that this revision handled, where that is news.
    fn begin_commit(&mut self, commit: Commit) -> Result<(), Error>;

    /// Whether a commit is under way that has not been finished by [`Sink::finish_commit`].
    fn committing(&self) -> bool;

    /// Wait until the commit is durable, at most `wait`. `false`: not yet. Nothing under way is `true`.
    fn finish_commit(&mut self, wait: Duration) -> Result<bool, Error>;
}

/// What goes into a transaction beside the records.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The new checkpoint of each source partition that moved.
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    /// What changes in the state of stages.
    pub states: Vec<StateChange>,
    /// The first offset of each partition that was handled by a revision, where it is the revision's first commit there.
    pub started: Vec<RevisionStart>,
}

/// The first offset of a source partition that a revision handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionStart {
    /// The source partition.
    pub partition: TopicPartition,
    /// The revision.
    pub revision: RevisionNumber,
    /// Its first offset there.
    pub offset: i64,
}
