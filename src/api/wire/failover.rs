//! The target takes the source's place, and gives it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConsumerGroup, Time};

/// Which way places change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailoverType {
    /// The target takes the source's place.
    Failover,
    /// The source gets it back.
    Failback,
}

super::word!(FailoverType { Failover = "failover", Failback = "failback" });

/// Why places change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverReason {
    /// A person wanted it.
    Manual,
    /// The link was too far behind for too long.
    Lag,
    /// Its lanes failed too often in a row.
    ConsecutiveFailures,
    /// The source did not answer for too long.
    SourceUnreachable,
    /// The source answers again.
    SourceBack,
}

super::word!(FailoverReason {
    Manual = "manual",
    Lag = "lag",
    ConsecutiveFailures = "consecutive-failures",
    SourceUnreachable = "source-unreachable",
    SourceBack = "source-back",
});

/// How far a change of places is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverPhase {
    /// The lanes are fenced, and it is written down where they were.
    Fencing,
    /// The target has the source's place.
    Over,
    /// What was written to the target meanwhile goes back to the source.
    Returning,
    /// Nobody may write to the target any more, and what was written last goes back.
    Closing,
}

super::word!(FailoverPhase {
    Fencing = "fencing",
    Over = "over",
    Returning = "returning",
    Closing = "closing",
});

/// A failover or failback: done, or under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverEvent {
    /// Its name among those of the link.
    pub id: String,
    /// The link.
    pub link_id: String,
    /// Which way.
    #[serde(rename = "type")]
    pub direction: FailoverType,
    /// Why.
    pub reason: FailoverReason,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Who wanted it.
    pub by: String,
    /// The link's source.
    pub source_cluster_id: String,
    /// The link's target.
    pub target_cluster_id: String,
    /// When it began.
    pub timestamp: Time,
    /// Whether it was done; null while it is under way.
    pub success: Option<bool>,
    /// How long it took, or takes by now, in seconds: `5s`, `0.25s`.
    pub duration: String,
    /// How far it is, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<FailoverPhase>,
    /// Whether everything was over that the first side had at the beginning; null if it could not be asked.
    pub drained: Option<bool>,
    /// Records that one side has and the other one has not: of a failover, those of the source; of a failback, those that have not gone back yet. At most: markers of
    /// transactions count too. Null if it is not known.
    pub records_left: Option<u64>,
    /// Of a failback that is done: the records that the source had beside, at most, which are replicated afterwards. Null if it is not known.
    pub records_at_source: Option<u64>,
    /// The consumer groups that were moved.
    pub groups_moved: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Where a partition of the source was when the target took its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverPartition {
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset that would have been replicated.
    pub next_offset: i64,
    /// The offset behind the last record that the source had; null if it could not be asked.
    pub source_end: Option<i64>,
}

/// Where a partition of the target ended then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverTarget {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset behind the last record.
    pub end: i64,
}

/// A failover or failback with all partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverDetails {
    /// What happened.
    #[serde(flatten)]
    pub event: FailoverEvent,
    /// The partitions of the source.
    pub partitions: Vec<FailoverPartition>,
    /// The partitions of the target.
    pub target_partitions: Vec<FailoverTarget>,
}

/// What a failover would do, or a failback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverPlan {
    /// The link.
    pub link_id: String,
    /// Which way.
    #[serde(rename = "type")]
    pub direction: FailoverType,
    /// What would be done, in its order.
    pub steps: Vec<String>,
    /// Whether the source answers.
    pub source_reachable: bool,
    /// Records that one side has and the other one has not: of a failover, those of the source; of a failback, those that would go back. At most; null if it is not known.
    pub records_left: Option<u64>,
    /// Of a failback: the records that the source has beside, at most, which are replicated afterwards. Null if it is not known.
    pub records_at_source: Option<u64>,
    /// The partitions of the source.
    pub partitions: Vec<FailoverPartition>,
    /// The partitions of the target, with their ends as they are now.
    pub target_partitions: Vec<FailoverTarget>,
    /// What would become of the consumer groups that go along; null if there are none, or that is not known.
    pub groups: Option<Vec<ConsumerGroup>>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}
