//! Consumer groups that go along with a link.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, Trouble, word};

/// The body of a request to move consumer groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupsRequest {
    /// Names, and regular expressions between slashes; none: what the link's configuration names.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether groups are moved back, too.
    #[serde(default)]
    pub rewind: bool,
    /// Whether it is only said what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A consumer group of a link's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerGroup {
    /// Its name, in both clusters.
    pub group: String,
    /// Whether the link's configuration says that it goes along.
    pub follows: bool,
    /// Its state at the source, in Kafka's words.
    pub source_state: String,
    /// Its state at the target; null where it is not known there.
    pub target_state: Option<String>,
    /// What becomes of it.
    pub fate: GroupFate,
    /// Where it goes on, by partition of the target.
    pub partitions: Vec<GroupPartition>,
    /// Why it could not be looked at or moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
}

/// What becomes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupFate {
    /// It is to be moved.
    Move,
    /// It was moved.
    Moved,
    /// It is where it should be, or further.
    Stays,
    /// It has members at the target, and says itself where it is.
    Active,
    /// It could not be looked at, or not be moved.
    Failed,
}

word!(GroupFate { Move = "move", Moved = "moved", Stays = "stays", Active = "active", Failed = "failed" });

/// Where a group goes on in a partition of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupPartition {
    /// The topic of the target.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset that it is to read, according to where it is at the source.
    pub offset: i64,
    /// The one that it was to read; null if it had none.
    pub present_offset: Option<i64>,
    /// Whether it is moved from that one to the other.
    pub moves: bool,
    /// How well that matches where it is at the source.
    pub certainty: GroupCertainty,
    /// Where it is at the source, in the partitions that go here.
    pub from: Vec<GroupPlace>,
}

/// How well an offset of the target matches where a group is at the source, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GroupCertainty {
    /// It misses nothing and reads nothing again.
    Exact,
    /// Several source partitions go to this one: some records may be read again.
    Shared,
    /// The group is ahead of the link, and reads again what is copied later.
    Ahead,
    /// It was too long ago to know exactly: it goes on at the nearest earlier place that was noted, and may read some records again.
    Nearest,
    /// It has no offset in a source partition that goes here: all records of that one are read.
    Uncommitted,
    /// It was too long ago, and no earlier place was noted: all that is there is read.
    Forgotten,
    /// It is further back than what the target has: it misses the records before the link's beginning,
    /// which are never copied, or those that the target has deleted.
    BeforeBeginning,
}

word!(GroupCertainty {
    Exact = "exact",
    Shared = "shared",
    Ahead = "ahead",
    Nearest = "nearest",
    Uncommitted = "uncommitted",
    Forgotten = "forgotten",
    BeforeBeginning = "before-beginning",
});

#[cfg(test)]
mod tests {
    use super::GroupCertainty::*;

    #[test]
    fn certainties_have_one_word_each_in_text_and_json_and_the_worst_one_loses_records() {
        let all = [Exact, Shared, Ahead, Nearest, Uncommitted, Forgotten, BeforeBeginning];
        for certainty in all {
            assert_eq!(serde_json::to_value(certainty).expect("JSON"), certainty.word());
        }
        assert!(all.is_sorted());
        assert_eq!(BeforeBeginning.word(), "before-beginning");
    }
}

/// Where a group is at the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupPlace {
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset that it reads; null if it has committed none.
    pub offset: Option<i64>,
}

/// What the last round of moving groups has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupRound {
    /// When it ended.
    pub time: Time,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How many groups go along.
    pub groups: u64,
    /// How many of them were moved.
    pub moved: u64,
    /// How many are active at the target.
    pub active: u64,
    /// How many could not be moved.
    pub failed: u64,
}
