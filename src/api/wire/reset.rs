//! Where a link goes on because a person has said so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// The body of a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// The source topic.
    pub topic: String,
    /// One of its partitions; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where they go on.
    pub to: ResetPlace,
    /// Whether stages forget what they remember of these partitions.
    #[serde(default)]
    pub forget_state: bool,
}

/// Where a partition goes on: `"earliest"`, `"latest"`, or an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected \"earliest\", \"latest\" or an offset")]
pub enum ResetPlace {
    /// At one of its ends.
    End(ResetEnd),
    /// At this offset.
    Offset(i64),
}

/// An end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResetEnd {
    /// The first record that is there.
    Earliest,
    /// The next record that is written.
    Latest,
}

/// A reset that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reset {
    /// When.
    pub time: Time,
    /// Who made it.
    pub by: String,
    /// What the link said of itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Whether stages had to forget what they remembered.
    pub state_forgotten: bool,
    /// The partitions.
    pub partitions: Vec<MovedPartition>,
}

/// A partition that goes on elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovedPartition {
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where it would have gone on; nothing if it had not begun.
    pub from: Option<i64>,
    /// Where it goes on.
    pub to: i64,
}
