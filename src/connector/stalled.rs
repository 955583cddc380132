//! Partitions that a source cannot read for now.

use std::time::{Duration, Instant};

use super::{Error, Source};
use crate::model::{Batch, TopicPartition};

/// A partition that a source cannot read at present, and keeps trying to.
#[derive(Clone, Debug)]
pub struct Stalled {
    /// The partition.
    pub partition: TopicPartition,
    /// Why it cannot be read.
    pub why: Error,
}

/// Read what comes next, for a caller that reads nothing else meanwhile.
///
/// # Errors
/// Those of [`Source::poll`], and why nothing can be read.
pub fn poll_or_fail(
    source: &mut dyn Source,
    max_records: usize,
    max_bytes: usize,
    wait: Duration,
) -> Result<Option<Batch>, Error> {
    match source.poll(max_records, max_bytes, wait)? {
        Some(batch) => Ok(Some(batch)),
        None => source.stalled(Instant::now()).pop().map_or(Ok(None), |stalled| Err(stalled.why)),
    }
}
