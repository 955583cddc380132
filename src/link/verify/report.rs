//! What a verification has found out.

use super::findings::{Difference, DifferenceKind};
use crate::model::TopicPartition;

/// What a verification has found out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was compared of each source partition.
    pub sources: Vec<SourceCovered>,
    /// What was compared of each target partition.
    pub targets: Vec<TargetCovered>,
    /// What could not be compared, and why.
    pub not_covered: Vec<NotCovered>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// How many differences there are, by kind.
    pub counts: Vec<(DifferenceKind, u64)>,
    /// Records that are in the target twice, as a link without exactly once may write them.
    pub duplicates_allowed: u64,
    /// Whether a record may be in the target twice.
    pub exactly_once: bool,
}

impl Report {
    /// How many differences there are.
    pub fn differences_total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// The offsets of a source partition whose records were replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCovered {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
    /// How many records.
    pub records: u64,
    /// Under how many revisions.
    pub revisions: u64,
}

/// The offsets of a target partition whose records were compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetCovered {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset and the one behind the last, if there was any record.
    pub range: Option<(i64, i64)>,
    /// How many records are what they should be.
    pub matched: u64,
}

/// Which cluster something is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Side {
    Source,
    Target,
}

/// What could not be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCovered {
    /// Where it is.
    pub side: Side,
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset, if it is known.
    pub from: Option<i64>,
    /// The offset behind the last, if it is known.
    pub to: Option<i64>,
    /// How many records, if that is known.
    pub records: Option<u64>,
    /// Why.
    pub reason: String,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Source offsets that were replayed.
    pub offsets_done: u64,
    /// Source offsets that are to be replayed.
    pub offsets_total: u64,
    /// Records of the target that are what they should be.
    pub matched: u64,
    /// Records that are missing or too much, so far.
    pub suspicious: u64,
}
