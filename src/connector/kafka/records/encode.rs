//! Records of a batch to one record batch.

use std::ops::Range;

use super::codec::{Codec, Compression, Compressor};
use super::error::Error;
use super::frame::{self, CHECKED_FROM, HEADER_BYTES, LENGTH_END, MAGIC, TRANSACTIONAL};
use super::varint;
use crate::model::batch::HeaderSpan;
use crate::model::{Batch, Span};

/// Who writes a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence number of the first record.
    pub base_sequence: i32,
    /// Whether it belongs to the producer's open transaction.
    pub transactional: bool,
}

impl Stamp {
    /// Nobody in particular: a producer that is neither idempotent nor transactional.
    pub const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, transactional: false };

    pub(super) fn attributes(self, codec: Codec) -> u16 {
        codec.id() | if self.transactional { TRANSACTIONAL } else { 0 }
    }
}

/// Writes record batches.
pub struct Encoder {
    compressor: Compressor,
    /// Records before they are compressed.
    records: Vec<u8>,
}

/// What was written of a batch, and what the header has to say about it.
struct Written {
    records: usize,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Encoder {
    /// An encoder that compresses in this way.
    pub fn new(compression: Compression) -> Self {
        Self { compressor: Compressor::new(compression), records: Vec::new() }
    }

    /// Append one record batch of at most `bytes_max` bytes to `out`, with as many of the records in `range` as go into it
    /// before they are compressed, and answer how many these are: one at least, unless the range is empty, which writes nothing.
    /// Offsets begin at 0, timestamps are create times, and placements do not matter.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] if the first record does not fit alone, even compressed. Nothing was written then.
    ///
    /// # Panics
    /// If the batch has no such range.
    pub fn encode(
        &mut self,
        batch: &Batch,
        range: Range<usize>,
        stamp: Stamp,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        // Lengths on the wire have 31 bits.
        let bytes_max = bytes_max.min(i32::MAX as usize);
        let start = out.len();
        let written = self.write(batch, range, bytes_max, out);
        if !matches!(written, Ok(Written { records: 1.., .. })) {
            out.truncate(start);
            return written.map(|written| written.records);
        }
        let written = written?;
        write_header(&mut out[start..], &written, stamp.attributes(self.compressor.codec()), stamp);
        Ok(written.records)
    }

    /// Append room for a header, and records.
    fn write(
        &mut self,
        batch: &Batch,
        mut range: Range<usize>,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Written, Error> {
        let start = out.len();
        loop {
            out.resize(start + HEADER_BYTES, 0);
            if self.compressor.codec() == Codec::None {
                return write_records(batch, range, bytes_max, bytes_max, out);
            }
            self.records.clear();
            let written = write_records(batch, range.clone(), bytes_max, i32::MAX as usize, &mut self.records)?;
            self.compressor.append(&self.records, out)?;
            let bytes = out.len() - start;
            if bytes <= bytes_max {
                return Ok(written);
            }
            if written.records == 1 {
                return Err(Error::RecordTooLarge { index: range.start, bytes, bytes_max });
            }
            // Bytes that compression made more of; half of the records leave room for that.
            range.end = range.start + written.records / 2;
            out.truncate(start);
        }
    }
}

/// Append records to `out` as long as a record batch with them has `bytes_max` bytes at most; the first one even if it has
/// `first_bytes_max`.
fn write_records(
    batch: &Batch,
    range: Range<usize>,
    bytes_max: usize,
    first_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<Written, Error> {
    let base_timestamp = batch.timestamps[range.clone()].first().copied().unwrap_or(0);
    let mut written = Written { records: 0, base_timestamp, max_timestamp: i64::MIN };
    let mut bytes = HEADER_BYTES;
    for index in range {
        let record = Record::new(batch, index, base_timestamp, written.records);
        bytes += record.bytes();
        let first = written.records == 0;
        if first && bytes > first_bytes_max.max(bytes_max) {
            return Err(Error::RecordTooLarge { index, bytes, bytes_max });
        }
        if !first && bytes > bytes_max {
            break;
        }
        record.put(out);
        written.records += 1;
        written.max_timestamp = written.max_timestamp.max(batch.timestamps[index]);
    }
    Ok(written)
}

/// A record, about to be written.
struct Record<'a> {
    arena: &'a [u8],
    key: Span,
    value: Span,
    headers: &'a [HeaderSpan],
    timestamp_delta: i64,
    offset_delta: i64,
    /// The bytes behind its length.
    body_bytes: usize,
}

impl<'a> Record<'a> {
    fn new(batch: &'a Batch, index: usize, base_timestamp: i64, offset_delta: usize) -> Self {
        let (key, value) = (batch.keys[index], batch.values[index]);
        let headers = batch.header_spans(index);
        // Readers add in the same way, so that what overflows here comes back there.
        let timestamp_delta = batch.timestamps[index].wrapping_sub(base_timestamp);
        let offset_delta = offset_delta as i64;
        let header_bytes: usize = headers.iter().map(|header| span_bytes(header.name) + span_bytes(header.value)).sum();
        let body_bytes = 1
            + varint::size(timestamp_delta)
            + varint::size(offset_delta)
            + span_bytes(key)
            + span_bytes(value)
            + varint::size(headers.len() as i64)
            + header_bytes;
        Self { arena: &batch.arena, key, value, headers, timestamp_delta, offset_delta, body_bytes }
    }

    fn bytes(&self) -> usize {
        varint::size(self.body_bytes as i64) + self.body_bytes
    }

    fn put(&self, out: &mut Vec<u8>) {
        varint::put(out, self.body_bytes as i64);
        out.push(0);
        varint::put(out, self.timestamp_delta);
        varint::put(out, self.offset_delta);
        self.put_span(self.key, out);
        self.put_span(self.value, out);
        varint::put(out, self.headers.len() as i64);
        for header in self.headers {
            self.put_span(header.name, out);
            self.put_span(header.value, out);
        }
    }

    fn put_span(&self, span: Span, out: &mut Vec<u8>) {
        let bytes = span.get(self.arena);
        varint::put(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
        out.extend_from_slice(bytes.unwrap_or_default());
    }
}

/// What a span takes with its length before it.
fn span_bytes(span: Span) -> usize {
    if span.is_null() { 1 } else { varint::size(span.len.into()) + span.len as usize }
}

/// Fill in the header of the record batch `bytes`, whose records are there.
fn write_header(bytes: &mut [u8], written: &Written, attributes: u16, stamp: Stamp) {
    let length = (bytes.len() - LENGTH_END) as i32;
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(8, &length.to_be_bytes());
    put(16, &[MAGIC]);
    put(23, &(written.records as i32 - 1).to_be_bytes());
    put(27, &written.base_timestamp.to_be_bytes());
    put(35, &written.max_timestamp.to_be_bytes());
    put(57, &(written.records as i32).to_be_bytes());
    frame::stamp(bytes, attributes, stamp);
    let checksum = crc_fast::crc32_iscsi(&bytes[CHECKED_FROM..]);
    frame::put_checksum(bytes, checksum);
}
