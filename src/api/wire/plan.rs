//! What would be made or changed for a link.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConsumerGroup, word};

/// What would be made or changed at the target if the link ran now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The link.
    pub link: String,
    /// Every topic that it reads, by name, those without changes too.
    pub topics: Vec<PlannedTopic>,
    /// The consumer groups that go along.
    #[serde(default)]
    pub groups: Vec<ConsumerGroup>,
    /// What is odd, or is left out.
    pub notices: Vec<Notice>,
}

/// A topic in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedTopic {
    /// Its name at the source.
    pub source: String,
    /// Its name in the target.
    pub target: String,
    /// What would be done about the topic itself.
    pub action: PlannedAction,
    /// How many partitions it has in the target; null where it is not there.
    pub partitions_from: Option<u32>,
    /// How many it would have.
    pub partitions_to: u32,
    /// The settings that would change.
    pub settings: Vec<PlannedSetting>,
    /// The ACLs that would be added.
    pub acls: Vec<PlannedAcl>,
}

/// What would be done about a topic itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedAction {
    /// It would be made.
    Make,
    /// It would get more partitions.
    AddPartitions,
    /// It is there.
    Keep,
}

word!(PlannedAction { Make = "make", AddPartitions = "add-partitions", Keep = "keep" });

/// A setting that would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedSetting {
    /// Its name in Kafka.
    pub name: String,
    /// What it is; null: the target's default.
    pub from: Option<String>,
    /// What it would be; null: the target's default.
    pub to: Option<String>,
}

/// An ACL that would be added, on the topic by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedAcl {
    /// Who, for example `User:alice`.
    pub principal: String,
    /// From where; `*` is anywhere.
    pub host: String,
    /// What, in Kafka's words: `Read`, `Describe`, …
    pub operation: String,
    /// `Allow` or `Deny`.
    pub permission: String,
}

/// Something odd that does not keep the link from going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// A stable word, for example `source-topic-deleted`.
    pub code: String,
    /// The topic; null if it is about all of them.
    pub topic: Option<String>,
    /// What happened.
    pub message: String,
    /// What the operator can do about it; empty where there is nothing.
    pub remedy: String,
}
