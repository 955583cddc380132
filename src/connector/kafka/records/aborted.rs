//! Which record batches belong to transactions that were aborted.

use std::collections::{HashSet, VecDeque};

use super::columns::RecordParts;
use super::error::Error;
use super::frame::RecordBatch;

/// An aborted transaction, as a fetch answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: i64,
    /// Its first offset in the partition. It ends with the producer's next abort marker.
    pub first_offset: i64,
}

/// The type of an abort marker: the second number in the key of a control record.
const ABORT: i16 = 0;

/// Follows the record batches of one fetch answer, in order.
#[derive(Clone, Debug)]
pub(super) struct Aborted {
    /// Those that have not begun yet, by first offset.
    coming: VecDeque<AbortedTransaction>,
    /// The producers whose transaction is an aborted one at this point.
    open: HashSet<i64>,
}

impl Aborted {
    /// Nothing has been read yet.
    pub(super) fn new(mut transactions: Vec<AbortedTransaction>) -> Self {
        transactions.sort_unstable_by_key(|transaction| transaction.first_offset);
        Self { coming: transactions.into(), open: HashSet::new() }
    }

    /// Whether a consumer does not see the records of `batch`: markers, and records of aborted transactions. Every record batch
    /// has to be shown, in order.
    pub(super) fn hides(&mut self, batch: &RecordBatch, decompressed_bytes_max: usize) -> Result<bool, Error> {
        while let Some(begun) = self.coming.pop_front_if(|next| next.first_offset < batch.next_offset()) {
            self.open.insert(begun.producer_id);
        }
        if !batch.is_control() {
            return Ok(batch.is_transactional() && self.open.contains(&batch.producer_id()));
        }
        if self.open.contains(&batch.producer_id()) && is_abort_marker(batch, decompressed_bytes_max)? {
            self.open.remove(&batch.producer_id());
        }
        Ok(true)
    }
}

/// Whether a control batch says "abort". One that compaction emptied says nothing.
fn is_abort_marker(batch: &RecordBatch, decompressed_bytes_max: usize) -> Result<bool, Error> {
    if batch.count() == 0 {
        return Ok(false);
    }
    let mut records = Vec::new();
    batch.append_decompressed(&mut records, decompressed_bytes_max)?;
    let marker = RecordParts::take(&records, &mut 0).map_err(|what| batch.corrupt(what))?;
    let key = marker.key.get(&records).unwrap_or_default();
    // The key is a version and a type, each of two bytes; newer versions may add to it.
    let kind = key.get(2..4).ok_or_else(|| batch.corrupt("its marker has no type"))?;
    Ok(kind == ABORT.to_be_bytes())
}
