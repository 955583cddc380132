//! Topics, and what is asked and answered about the records in them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionStatus>,
    /// How long records stay. Null where the cluster itself sees to that.
    pub retention: Option<Retention>,
}

/// What is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionStatus {
    /// Its number, from 0.
    pub partition: u32,
    /// The first offset that is still there.
    pub log_start: i64,
    /// The offset that the next record will get.
    pub end: i64,
    /// How many records are there.
    pub records: u64,
}

/// How long records stay. Null: as long as there is room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retention {
    /// Older records may go, in milliseconds.
    pub age_ms_max: Option<u64>,
    /// The oldest records of a partition with more bytes may go.
    pub bytes_max: Option<u64>,
}

/// The body that makes a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    #[serde(default = "one")]
    pub partitions: u32,
}

fn one() -> u32 {
    1
}

/// What a produce request has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProduceAnswer {
    /// How many records are durable.
    pub records: u64,
    /// Where they are, by partition.
    pub partitions: Vec<Appended>,
}

/// Records that a produce request has appended to a partition, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Appended {
    /// The partition.
    pub partition: u32,
    /// The offset of the first.
    pub first_offset: i64,
    /// How many.
    pub records: u64,
}

/// Where to begin to read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The first record that is still there.
    Earliest,
    /// After the last record.
    Latest,
    /// This offset.
    Offset(i64),
}

/// A text that is not a [`ReadFrom`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an offset: write a number from 0, earliest or latest")]
pub struct NotAnOffset;

impl FromStr for ReadFrom {
    type Err = NotAnOffset;

    fn from_str(text: &str) -> Result<Self, NotAnOffset> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            number => match number.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                _ => Err(NotAnOffset),
            },
        }
    }
}

impl fmt::Display for ReadFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => offset.fmt(f),
        }
    }
}
