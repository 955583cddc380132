//! The first record of a record batch, without the others.

use std::sync::Arc;

use bytes::Bytes;

use super::columns::{self, Columns};
use super::error::Error;
use super::frame::{HEADER_BYTES, RecordBatch};
use crate::model::codec::{self, Refused};
use crate::model::{Batch, Codec};

/// What is decompressed at first: records are small, most of them.
const START_BYTES: usize = 4 << 10;

impl RecordBatch {
    /// A batch of its first record alone, decompressed no further than that takes. `None`: it has
    /// none.
    ///
    /// # Errors
    /// It is damaged as far as was looked, or its first record takes more than `bytes_max`.
    pub fn first_record(&self, topic: &Arc<str>, partition: u32, bytes_max: usize) -> Result<Option<Batch>, Error> {
        if self.count() == 0 {
            return Ok(None);
        }
        let mut arena = self.start(START_BYTES.min(bytes_max))?;
        let end = columns::first_end(&arena).unwrap_or_default();
        if end > bytes_max {
            return Err(Error::DecompressedTooLarge { offset: self.base_offset(), bytes_max });
        }
        if end > arena.len() {
            arena = self.start(end)?;
        }
        let columns = Columns::first(self, &arena).map_err(|what| self.corrupt(what))?;
        let next_offset = self.next_offset();
        Ok(Some(columns.into_batch(topic.clone(), partition, arena, next_offset)))
    }

    /// The beginning of its records.
    fn start(&self, bytes: usize) -> Result<Bytes, Error> {
        if self.codec() == Codec::None {
            return Ok(self.bytes().slice(HEADER_BYTES..));
        }
        let mut start = Vec::new();
        codec::decompress_start(self.codec(), self.payload(), &mut start, bytes).map_err(|refused| match refused {
            Refused::TooLarge => Error::DecompressedTooLarge { offset: self.base_offset(), bytes_max: bytes },
            Refused::Damaged => self.corrupt("its records cannot be decompressed"),
        })?;
        Ok(start.into())
    }
}
