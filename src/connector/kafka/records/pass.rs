//! Handing a record batch on without looking at its records.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use super::encode::Stamp;
use super::frame::{self, CHECKED_FROM, HEADER_BYTES, RecordBatch};

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

/// A record batch to be produced: first the header, then the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The new header.
    pub header: [u8; HEADER_BYTES],
    /// The records, the very bytes that were fetched.
    pub records: Bytes,
}

impl RecordBatch {
    /// The same records, as written by `stamp`'s producer: base offset 0, no partition leader epoch, no delete horizon, and
    /// a checksum of its own.
    ///
    /// All records go along: whether some of them lie before the wanted offset, or belong to an aborted transaction, is for
    /// the caller to know.
    ///
    /// # Errors
    /// [`NotPassable`] if a broker would refuse it, or change what readers see.
    pub fn pass_through(&self, stamp: Stamp) -> Result<Passed, NotPassable> {
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
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.bytes()[..HEADER_BYTES]);
        frame::stamp(&mut header, stamp.attributes(self.codec()), stamp);
        let records = self.bytes().slice(HEADER_BYTES..);
        let mut checksum = Digest::new(CrcAlgorithm::Crc32Iscsi);
        checksum.update(&header[CHECKED_FROM..]);
        checksum.update(&records);
        frame::put_checksum(&mut header, checksum.finalize() as u32);
        Ok(Passed { header, records })
    }
}
