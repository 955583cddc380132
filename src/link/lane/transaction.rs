//! What a lane has written and not committed.

use std::collections::BTreeMap;
use std::time::Instant;

use tracing::Span;

use crate::connector::RevisionStart;
use crate::link::status::{Progress, Tally};
use crate::model::{RevisionNumber, TopicPartition};

/// What has been written but not committed.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// When its first batch was read; `None` while it is empty.
    pub(super) begun: Option<Instant>,
    /// The partitions that moved, with the records and bytes written of each.
    pub(super) moved: BTreeMap<TopicPartition, Progress>,
    pub(super) started: Vec<RevisionStart>,
    pub(super) tally: Tally,
    /// When the heartbeats in it were sent, in milliseconds since 1970-01-01 UTC.
    pub(super) heartbeats: Vec<i64>,
    /// The timestamp of the oldest of the records that its batches begin with.
    pub(super) oldest_ms: Option<i64>,
    /// Changes of state that wait in the partition that moved last.
    pub(super) state_changes: usize,
    pub(super) revision: RevisionNumber,
    /// What is told a collector of it, and of its commit.
    pub(super) span: Option<Span>,
    pub(super) commit: Option<Span>,
}

impl Transaction {
    pub(super) fn touch(&mut self, partition: &TopicPartition, next_offset: i64) -> &mut Progress {
        self.begun.get_or_insert_with(Instant::now);
        let progress = self.moved.entry(partition.clone()).or_default();
        progress.next_offset = next_offset;
        progress
    }

    /// Count what was written of a partition.
    pub(super) fn count(
        &mut self,
        partition: &TopicPartition,
        next_offset: i64,
        records_in: u64,
        records_out: u64,
        bytes: u64,
    ) {
        let progress = self.touch(partition, next_offset);
        progress.records_out += records_out;
        progress.bytes_out += bytes;
        self.tally.records_in += records_in;
        self.tally.records_out += records_out;
        self.tally.bytes_out += bytes;
    }
}
