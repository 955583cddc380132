//! Consumer groups, and where in a target the records are that a link has copied for them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::PartitionRange;
use crate::model::TopicPartition;

/// A consumer group of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// Its state, as its cluster calls it: `Stable`, `Empty`, …
    pub state: Arc<str>,
    /// Whether it has members, which alone may say where it is then.
    pub is_active: bool,
}

/// Where a consumer group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The next offset that it will read.
    pub offset: i64,
    /// What its consumers have noted beside it.
    pub metadata: Arc<str>,
}

/// Where a consumer group is, by partition.
pub type GroupOffsets = BTreeMap<TopicPartition, GroupOffset>;

/// What a target knows of where the records of a link's source partitions are.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// By source partition, all of which something is known.
    pub partitions: BTreeMap<TopicPartition, CopiedPartition>,
    /// What is in partitions of the target. A record of the link that is not below the end stands for a source offset behind what was known before the end was read.
    pub ranges: BTreeMap<TopicPartition, PartitionRange>,
}

/// The same of a source partition.
#[derive(Clone, Debug, Default)]
pub struct CopiedPartition {
    /// The link epoch under which that was: a reset begins a new one.
    pub epoch: u64,
    /// The source offsets of which is known where their records are.
    pub known: Range<i64>,
    /// By partition of the target and source offset: the first record there that stands for this offset or one behind it. Where there is none, none was copied.
    pub first: BTreeMap<TopicPartition, BTreeMap<i64, i64>>,
    /// By partition of the target: the offset behind the last record there that is known of.
    pub last: BTreeMap<TopicPartition, i64>,
}
