//! Names of clusters, links, topics and partitions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A link's id: what stands behind `links.` in the configuration.
pub type LinkId = Arc<str>;

/// A cluster's id: what stands behind `clusters.` in the configuration.
pub type ClusterId = Arc<str>;

/// The identity of a topic within its cluster. A topic that is deleted and made again has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub u64);

impl TopicId {
    /// What clusters without topic ids say.
    pub const NIL: Self = Self(0);

    /// Whether both are known and differ.
    pub fn is_another(self, now: Self) -> bool {
        self != now && self != Self::NIL && now != Self::NIL
    }
}

/// The number of a revision within its link: the first is 1, and numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u64);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
