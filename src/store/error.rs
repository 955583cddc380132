//! What can go wrong in a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{LinkId, TopicId};

/// What went wrong in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file could not be made or opened.
    #[error("cannot open {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process, or another handle in this one, has the file open.
    #[error("{0} is in use by another daemon")]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{0} is not a tidegate store")]
    NotAStore(PathBuf),
    /// A newer program wrote the file.
    #[error("{path} has layout version {found}, and this tidegate reads up to version {readable}")]
    NewerLayout {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The highest version that this program reads.
        readable: u64,
    },
    /// The store stopped at an earlier failure, and takes no change until it is opened again.
    #[error("the store {path} stopped: {cause}")]
    Stopped {
        /// The file.
        path: PathBuf,
        /// The failure that stopped it.
        cause: String,
    },
    /// A read failed.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Something in the file is not what was written there.
    #[error("{what} in {path} is damaged: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What it is, in words.
        what: String,
        /// How that shows.
        reason: String,
    },
    /// A stored batch is not what was written there.
    #[error("the batch at base offset {base} of {topic}-{partition} in {path} is damaged: {reason}")]
    CorruptBatch {
        /// The file.
        path: PathBuf,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset of the batch's first record.
        base: i64,
        /// How that shows.
        reason: String,
    },
    /// Records that were asked for are not there any more.
    #[error(
        "{topic}-{partition} begins at offset {log_start}: the records from offset {asked} to {log_start} are lost"
    )]
    DataLost {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset that was asked for.
        asked: i64,
        /// The first offset that is still there.
        log_start: i64,
    },
    /// An offset that was never written.
    #[error("{topic}-{partition} ends at offset {end}, before offset {asked}")]
    OffsetBeyondEnd {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset that was asked for.
        asked: i64,
        /// The offset that the next record will get.
        end: i64,
    },
    /// A newer opener of the lane is at work.
    #[error("lane {lane} of link {link} was opened again: epoch {epoch} is over, {current} is the current one")]
    Fenced {
        /// The link.
        link: LinkId,
        /// The lane.
        lane: u32,
        /// The epoch that the change came with.
        epoch: u64,
        /// The epoch that counts.
        current: u64,
    },
    /// The topic is a link's, which alone writes to it.
    #[error("topic {topic} stands by for link {link}: only that writes to it")]
    StandingBy {
        /// The topic.
        topic: Arc<str>,
        /// The link.
        link: LinkId,
    },
    /// No topic of that name.
    #[error("there is no topic {0}")]
    UnknownTopic(Arc<str>),
    /// No topic with that identity.
    #[error("there is no topic with id {}", .0.0)]
    UnknownTopicId(TopicId),
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partitions, and no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// A topic that was to be a new one.
    #[error("topic {0} exists")]
    TopicExists(Arc<str>),
    /// A name that a topic cannot have.
    #[error("{0:?} cannot be the name of a topic: use 1 to 249 of a-z A-Z 0-9 . _ - and not . or .. alone")]
    TopicName(String),
    /// A number of partitions that a topic cannot have.
    #[error("a topic has 1 to {most} partitions, not {asked}")]
    Partitions {
        /// What was asked for.
        asked: u32,
        /// What is possible.
        most: u32,
    },
    /// A record over the limit.
    #[error("a record of {bytes} bytes is larger than the store takes: {most} bytes")]
    RecordTooLarge {
        /// Its size with key, headers and a little around them.
        bytes: usize,
        /// What is possible.
        most: usize,
    },
}

impl Error {
    /// A stable word for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "store-open",
            Self::InUse(_) => "store-in-use",
            Self::NotAStore(_) => "not-a-store",
            Self::NewerLayout { .. } => "newer-layout",
            Self::Stopped { .. } => "store-stopped",
            Self::Read { .. } => "store-read",
            Self::Corrupt { .. } => "corrupt-store",
            Self::CorruptBatch { .. } => "corrupt-batch",
            Self::DataLost { .. } => "data-lost",
            Self::OffsetBeyondEnd { .. } => "offset-beyond-end",
            Self::Fenced { .. } => "fenced",
            Self::StandingBy { .. } => "standing-by",
            Self::UnknownTopic(_) | Self::UnknownTopicId(_) => "unknown-topic",
            Self::UnknownPartition { .. } => "unknown-partition",
            Self::TopicExists(_) => "topic-exists",
            Self::TopicName(_) => "invalid-topic-name",
            Self::Partitions { .. } => "invalid-partitions",
            Self::RecordTooLarge { .. } => "record-too-large",
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Open { .. } => "make the directory exist and writable for the daemon, with space left on its disk",
            Self::InUse(_) => "stop the other daemon, or give this one another data directory",
            Self::NotAStore(_) => "move the file away, or give the cluster another path",
            Self::NewerLayout { .. } => "use the newer tidegate that wrote the file",
            Self::Stopped { .. } => "free space on the disk or repair it, then restart the daemon",
            Self::Read { .. } => "check the disk, then restart the daemon",
            Self::Corrupt { .. } => "restore the file from a backup",
            Self::CorruptBatch { .. } => "restore the file from a backup, then start the link",
            Self::DataLost { .. } => "restore the source, or copy into a new link with another target topic",
            Self::OffsetBeyondEnd { .. } => "restore the source, or copy into a new link with another target topic",
            Self::Fenced { .. } => "make sure that only one daemon runs the link",
            Self::StandingBy { .. } => {
                "write to the source; or, when that is gone, fail the link over: `tidegate link failover LINK`"
            }
            Self::UnknownTopic(_) | Self::UnknownTopicId(_) => "create the topic",
            Self::UnknownPartition { .. } => "choose another partition, or create the topic with more of them",
            Self::TopicExists(_) | Self::TopicName(_) => "choose another name",
            Self::Partitions { .. } => "choose another number",
            Self::RecordTooLarge { .. } => "split the record, or keep it out of the link with a filter",
        }
    }

    pub(super) fn read(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Read { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn corrupt(path: &Path, what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into(), reason: reason.to_string() }
    }
}
