//! Verifications: whether a target holds what the pipeline makes of the source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Place, Time, Trouble, word};

/// A verification of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// The link.
    pub link: String,
    /// Whether it is under way, or how it ended.
    pub state: VerificationState,
    /// When it was begun.
    pub started_at: Time,
    /// When it ended; null while it is under way.
    pub ended_at: Option<Time>,
    /// How far it is.
    pub progress: VerificationProgress,
    /// What has come of it; null unless it is done.
    pub verdict: Option<Verdict>,
    /// Why it failed.
    pub error: Option<Trouble>,
    /// What it has found out; null unless it is done.
    pub report: Option<VerificationReport>,
}

/// Whether a verification is under way, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerificationState {
    /// It reads and compares.
    Running,
    /// It has a report.
    Done,
    /// Somebody has ended it.
    Cancelled,
    /// It could not be carried out.
    Failed,
}

word!(VerificationState { Running = "running", Done = "done", Cancelled = "cancelled", Failed = "failed" });

/// What has come of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was compared, and is what it should be.
    Fine,
    /// Something is not what it should be.
    Differences,
    /// Everything that could be compared is what it should be, and something could not be.
    NotCovered,
}

word!(Verdict { Fine = "fine", Differences = "differences", NotCovered = "not covered" });

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerificationProgress {
    /// Source offsets that were replayed.
    pub offsets_done: u64,
    /// Source offsets that are to be replayed.
    pub offsets_total: u64,
    /// Records of the target that are what they should be.
    pub records_matched: u64,
    /// Records that are missing or too much so far. Two of them may be one difference.
    pub suspicious: u64,
}

/// What a verification has found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerificationReport {
    /// Source records that were replayed.
    pub records_replayed: u64,
    /// Target records that are what they should be.
    pub records_matched: u64,
    /// How many differences there are.
    pub differences_total: u64,
    /// The same by kind: missing, unexpected, doubled, different, out-of-order.
    pub differences_by_kind: std::collections::BTreeMap<String, u64>,
    /// The first differences, by place in the target.
    pub differences: Vec<Difference>,
    /// What could not be compared.
    pub not_covered: Vec<NotCovered>,
    /// What was compared of each source partition.
    pub sources: Vec<SourceCovered>,
    /// What was compared of each target partition.
    pub targets: Vec<TargetCovered>,
    /// Whether the link writes exactly once. If not, a record may be in the target twice.
    pub exactly_once: bool,
    /// Records that are in the target twice because of that: no differences.
    pub duplicates_allowed: u64,
}

/// A record that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// missing, unexpected, doubled, different or out-of-order.
    pub kind: String,
    /// What of the record is different: key, value, header, timestamp, partition.
    pub parts: Vec<String>,
    /// The source record that it should have come of; null if none is known.
    pub source: Option<Place>,
    /// The partition of the target.
    pub target: TargetPlace,
    /// The beginning of the value that it should have.
    pub expected: Option<String>,
    /// The beginning of the value that it has.
    pub found: Option<String>,
    /// What else is known, for a person.
    pub note: Option<String>,
}

/// Where a record is in the target, or should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetPlace {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset; null if the record is not there.
    pub offset: Option<i64>,
}

/// What could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotCovered {
    /// `source` or `target`.
    pub side: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset, if it is known.
    pub from: Option<i64>,
    /// The offset behind the last, if it is known.
    pub to: Option<i64>,
    /// How many records, if that is known.
    pub records: Option<u64>,
    /// Why, for a person.
    pub reason: String,
}

/// What was compared of a source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCovered {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
    /// How many records.
    pub records: u64,
    /// Under how many revisions.
    pub revisions: u64,
}

/// What was compared of a target partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetCovered {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset; null if there was no record.
    pub from: Option<i64>,
    /// The offset behind the last.
    pub to: Option<i64>,
    /// How many records are what they should be.
    pub records: u64,
}
