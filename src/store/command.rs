//! Every change to a store, as data.
//!
//! A command says everything that its effect depends on, beside the store itself: no clock and no randomness is read
//! when it is applied. So the same commands in the same order make the same store, on any machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::stored::StoredBatch;
use crate::model::{
    Checkpoint, Digest, LinkId, RevisionNumber, Standby, StandbyTopics, StateChange, TopicId, TopicPartition,
};

/// The most partitions a topic can have: the daemon keeps a few words in memory for each.
pub const PARTITIONS_MAX: u32 = 10_000;

/// How long a topic keeps records. The default is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Stored batches go when their newest record is older than this, in milliseconds.
    pub retention_ms: Option<u64>,
    /// The oldest stored batches of a partition go while it takes more bytes than this, as stored.
    pub retention_bytes: Option<u64>,
}

/// Records for one partition.
#[derive(Clone, Debug)]
pub struct Append {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: u32,
    /// The records, in order.
    pub batches: Vec<StoredBatch>,
}

/// One transaction of a lane.
#[derive(Clone, Debug)]
pub struct CommitLane {
    /// The link.
    pub link: LinkId,
    /// The lane.
    pub lane: u32,
    /// The epoch that opening the lane gave.
    pub epoch: u64,
    /// The records.
    pub appends: Vec<Append>,
    /// The checkpoints, by source partition. `target_end_offset` is filled in when the command is applied, unless they are stored as they are.
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    /// Whether the checkpoints are stored as they are.
    pub verbatim: bool,
    /// What changes in the state of stages.
    pub states: Vec<StateChange>,
    /// The first offset of a source partition that a revision handled. What is there already stays.
    pub revision_starts: BTreeMap<(TopicPartition, RevisionNumber), i64>,
}

/// Something else to be stored about a link than what is stored now.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The link.
    pub link: LinkId,
    /// Under which key.
    pub key: String,
    /// What is stored there, or nothing is changed.
    pub known: Option<Vec<u8>>,
    /// What is to be stored there; `None`: what is there stays.
    pub value: Option<Vec<u8>>,
    /// Whether the link's topics stand by from then on; `None`: as before.
    pub standby: Option<Standby>,
}

/// A change.
#[derive(Clone, Debug)]
pub enum Command {
    /// The file was opened: records that are appended from now on are of another epoch than all before.
    Begin {
        /// The epoch: a random number of 31 bits.
        epoch: u32,
    },
    /// Make a topic. One that exists gets more partitions if it has fewer, and keeps everything else.
    CreateTopic {
        /// The name.
        name: Arc<str>,
        /// The number of partitions, at least.
        partitions: u32,
        /// How long records are kept.
        retention: Retention,
        /// Whether one that exists is an error.
        new: bool,
    },
    /// Change how long a topic's records are kept: what is named, and nothing else.
    ChangeRetention {
        /// The topic.
        topic: TopicId,
        /// The age, if it is to change.
        retention_ms: Option<Option<u64>>,
        /// The size, if it is to change.
        retention_bytes: Option<Option<u64>>,
    },
    /// Append records to partitions, for somebody who is no link. Topics that stand by do not take them.
    Append(Vec<Append>),
    /// Give a lane a new epoch, which fences whoever has an earlier one.
    OpenLane {
        /// The link.
        link: LinkId,
        /// The lane.
        lane: u32,
    },
    /// Commit what a lane did.
    CommitLane(CommitLane),
    /// Store something about a link.
    PutMetadata {
        /// The link.
        link: LinkId,
        /// Under which key.
        key: String,
        /// What.
        value: Vec<u8>,
    },
    /// Store something about a link, and whether its topics stand by, if nobody else was faster.
    ReplaceMetadata(Replacement),
    /// Remember topics of a link that stand by, as long as any of them do.
    GuardTopics {
        /// The link.
        link: LinkId,
        /// The topics. They need not be there yet.
        topics: StandbyTopics,
        /// Whether other topics of the link stand by no more.
        only: bool,
    },
    /// Forget that topics of a link stand by.
    Release {
        /// The link.
        link: LinkId,
    },
    /// Store a plugin component.
    PutArtifact {
        /// The digest of the bytes.
        digest: Digest,
        /// The component.
        bytes: Vec<u8>,
    },
    /// Drop the stored batches of a partition that end at `to` or before. Records from `to` on stay.
    Truncate {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: u32,
        /// The new log start; one that is not higher than the present one changes nothing.
        to: i64,
    },
}

impl Command {
    /// About how many bytes the command brings.
    pub(super) fn bytes(&self) -> usize {
        let appended = |appends: &[Append]| -> usize {
            appends.iter().flat_map(|append| &append.batches).map(|batch| batch.as_bytes().len()).sum()
        };
        match self {
            Self::Append(appends) => appended(appends),
            Self::CommitLane(commit) => {
                appended(&commit.appends) + commit.states.iter().map(StateChange::bytes).sum::<usize>()
            }
            Self::PutMetadata { value, .. } => value.len(),
            Self::ReplaceMetadata(Replacement { value, .. }) => value.as_ref().map_or(0, Vec::len),
            Self::GuardTopics { topics, .. } => topics.iter().map(|(topic, source)| topic.len() + source.len()).sum(),
            Self::PutArtifact { bytes, .. } => bytes.len(),
            Self::Begin { .. }
            | Self::CreateTopic { .. }
            | Self::ChangeRetention { .. }
            | Self::OpenLane { .. }
            | Self::Release { .. }
            | Self::Truncate { .. } => 0,
        }
    }
}

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The topic as it is now.
    Topic(StoredTopic),
    /// The offset of the first record of each append.
    Appended(Vec<i64>),
    /// The lane's new epoch.
    Opened(u64),
    /// Whether what was known was still stored, and the change is made.
    Replaced(bool),
    /// The change is made.
    Done,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTopic {
    /// Its identity, never used again.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// The number of partitions.
    pub partitions: u32,
    /// How long records are kept.
    pub retention: Retention,
}

/// What is in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredPartition {
    /// The first offset that is still there.
    pub log_start: i64,
    /// The offset that the next record will get.
    pub end: i64,
    /// The bytes of the stored batches.
    pub bytes: u64,
}

/// Whether a topic can have this name: the rules of Kafka.
pub(super) fn check_topic_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=249).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != "..";
    if fits { Ok(()) } else { Err(Error::TopicName(name.to_owned())) }
}

pub(super) fn check_partitions(partitions: u32) -> Result<(), Error> {
    let fits = (1..=PARTITIONS_MAX).contains(&partitions);
    if fits { Ok(()) } else { Err(Error::Partitions { asked: partitions, most: PARTITIONS_MAX }) }
}
