//! Handing a record batch on without looking at its records.

use super::encode::FinishedBatch;
use super::frame::RecordBatch;
use crate::model::Codec;

/// Why a record batch cannot be handed on as it is. Its records have to be decoded and encoded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPassable {
    /// It has a marker instead of records.
    #[error("it holds a marker of its own cluster's transactions")]
    Control,
    /// Compaction took some of its records; brokers refuse holes in what is produced.
    #[error("it has holes: {count} records over {offsets} offsets")]
    Holes {
        /// The records that are left.
        count: usize,
        /// The offsets that it had records for.
        offsets: i64,
    },
    /// The time that its records have for a reader is in its header alone, and a broker would put another one there.
    #[error("its records have the time when they were appended")]
    LogAppendTime,
}

/// Which record batches are handed on as they are, rather than decoded and encoded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// The codec that they must have; `None`: any.
    pub codec: Option<Codec>,
}

/// A smaller record batch costs more as a request of its own than it does put together with others, in bytes: uncompressed, and compressed,
/// where it would have to be compressed again.
const BYTES_MIN: usize = 64 << 10;
/// See [`BYTES_MIN`].
const COMPRESSED_BYTES_MIN: usize = 16 << 10;

impl Passing {
    /// Whether this record batch may be handed on, and is better handed on.
    pub(super) fn takes(self, batch: &RecordBatch) -> bool {
        let bytes_min = if batch.codec() == Codec::None { BYTES_MIN } else { COMPRESSED_BYTES_MIN };
        let is_wanted = self.codec.is_none_or(|codec| codec == batch.codec());
        is_wanted && batch.bytes().len() >= bytes_min && batch.check_passable().is_ok()
    }
}

impl RecordBatch {
    /// Whether brokers would take it.
    fn check_passable(&self) -> Result<(), NotPassable> {
        let offsets = self.next_offset() - self.base_offset();
        if self.is_control() {
            return Err(NotPassable::Control);
        }
        if self.count() as i64 != offsets {
            return Err(NotPassable::Holes { count: self.count(), offsets });
        }
        if self.has_log_append_time() {
            return Err(NotPassable::LogAppendTime);
        }
        Ok(())
    }

    /// The same records, to be written by somebody else: no trace of its producer, its leader epoch or a delete horizon is left.
    ///
    /// All records go along: whether some of them lie before the wanted offset, or belong to an aborted transaction, is for
    /// the caller to know.
    ///
    /// # Errors
    /// [`NotPassable`] if a broker would refuse it, or change what readers see.
    pub fn pass_through(&self) -> Result<FinishedBatch, NotPassable> {
        self.check_passable()?;
        Ok(FinishedBatch::anew(self.bytes(), self.count(), self.codec()))
    }
}
