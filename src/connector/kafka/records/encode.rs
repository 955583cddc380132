//! Records of a batch to one record batch.

use std::ops::Range;

use super::error::Error;
use super::frame::{self, CHECKED_FROM, HEADER_BYTES, LENGTH_END, MAGIC, TRANSACTIONAL};
use super::varint;
use crate::model::batch::HeaderSpan;
use crate::model::codec::Compressor;
use crate::model::{Batch, Codec, Compression, Span};

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
        u16::from(codec.id()) | if self.transactional { TRANSACTIONAL } else { 0 }
    }
}

/// A record batch that records are appended to until it is full. Offsets begin at 0, timestamps are create times, and placements
/// do not matter.
#[derive(Debug, Default)]
pub struct OpenBatch {
    /// Room for the header, and the records as they are before they are compressed.
    bytes: Vec<u8>,
    records: usize,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl OpenBatch {
    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Its size before it is compressed, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Append records of `range`, in order, as long as it stays within `bytes_max` bytes before it is compressed. How many these are: none if
    /// the first one does not fit.
    ///
    /// # Panics
    /// If the batch has no such range.
    pub fn push(&mut self, batch: &Batch, range: Range<usize>, bytes_max: usize) -> usize {
        // Lengths on the wire have 31 bits.
        let bytes_max = bytes_max.min(i32::MAX as usize);
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.resize(HEADER_BYTES, 0);
            self.base_timestamp = batch.timestamps[range.clone()].first().copied().unwrap_or(0);
            self.max_timestamp = i64::MIN;
        }
        let before = self.records;
        for index in range {
            let record = Record::new(batch, index, self.base_timestamp, self.records);
            if self.bytes.len() + record.bytes() > bytes_max {
                break;
            }
            record.put(&mut self.bytes);
            self.records += 1;
            self.max_timestamp = self.max_timestamp.max(batch.timestamps[index]);
        }
        self.records - before
    }
}

/// How large a record batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// The number of its records.
    pub records: usize,
    /// What it takes, in bytes.
    pub bytes: usize,
    /// The same before it was compressed; `None` of one that somebody else has written.
    pub uncompressed: Option<usize>,
}

/// A record batch that is whole, but for who writes it: see [`FinishedBatch::seal`].
#[derive(Debug)]
pub struct FinishedBatch {
    bytes: Vec<u8>,
    records: usize,
    uncompressed: Option<usize>,
}

impl FinishedBatch {
    /// What somebody else has written, in a buffer of its own: a header is to be written into it.
    pub(super) fn anew(bytes: &[u8], records: usize, codec: Codec) -> Self {
        let mut bytes = bytes.to_vec();
        // All other attributes are the cluster's that it comes from.
        bytes[21..23].copy_from_slice(&u16::from(codec.id()).to_be_bytes());
        Self { bytes, records, uncompressed: None }
    }

    /// How large it is.
    pub fn size(&self) -> BatchSize {
        BatchSize { records: self.records, bytes: self.bytes.len(), uncompressed: self.uncompressed }
    }

    /// Its size, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The number of its records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Say who writes it. It can be said anew, when it is to be sent once more.
    pub fn seal(&mut self, stamp: Stamp) -> &[u8] {
        let attributes = stamp.attributes(frame::codec_of(&self.bytes));
        frame::stamp(&mut self.bytes, attributes, stamp);
        let checksum = crc_fast::crc32_iscsi(&self.bytes[CHECKED_FROM..]);
        frame::put_checksum(&mut self.bytes, checksum);
        &self.bytes
    }
}

/// Writes record batches.
pub struct Encoder {
    compressor: Compressor,
}

impl Encoder {
    /// An encoder that compresses in this way.
    pub fn new(compression: Compression) -> Self {
        Self { compressor: Compressor::new(compression) }
    }

    /// Compress what was appended. What compression would make larger stays as it is.
    ///
    /// # Errors
    /// [`Error::Compress`].
    pub fn finish(&mut self, open: OpenBatch) -> Result<FinishedBatch, Error> {
        let OpenBatch { mut bytes, records, base_timestamp, max_timestamp } = open;
        let uncompressed = Some(bytes.len());
        let mut codec = self.compressor.codec();
        if codec != Codec::None {
            let mut compressed = Vec::with_capacity(HEADER_BYTES + bytes.len() / 2);
            compressed.resize(HEADER_BYTES, 0);
            let appended = self.compressor.append(&bytes[HEADER_BYTES..], &mut compressed);
            appended.map_err(|message| Error::Compress { codec, message })?;
            if compressed.len() < bytes.len() {
                bytes = compressed;
            } else {
                codec = Codec::None;
            }
        }
        write_header(&mut bytes, records, base_timestamp, max_timestamp, codec);
        Ok(FinishedBatch { bytes, records, uncompressed })
    }

    /// One record batch with as many of the records in `range` as go into `together` bytes before they are compressed, and
    /// one at least.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] if the first record is too large for Kafka's protocol.
    ///
    /// # Panics
    /// If the batch has no such range, or the range is empty.
    pub fn encode(&mut self, batch: &Batch, range: Range<usize>, together: usize) -> Result<FinishedBatch, Error> {
        let mut open = OpenBatch::default();
        if open.push(batch, range.clone(), together) > 0 {
            return self.finish(open);
        }
        let index = range.start;
        if open.push(batch, index..index + 1, usize::MAX) == 0 {
            let bytes = i32::MAX as usize;
            return Err(Error::RecordTooLarge { index, bytes, bytes_max: bytes });
        }
        self.finish(open)
    }
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

/// Fill in what the header of the record batch `bytes` says of its records, which are there.
fn write_header(bytes: &mut [u8], records: usize, base_timestamp: i64, max_timestamp: i64, codec: Codec) {
    let length = (bytes.len() - LENGTH_END) as i32;
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(8, &length.to_be_bytes());
    put(16, &[MAGIC]);
    put(21, &u16::from(codec.id()).to_be_bytes());
    put(23, &(records as i32 - 1).to_be_bytes());
    put(27, &base_timestamp.to_be_bytes());
    put(35, &max_timestamp.to_be_bytes());
    put(57, &(records as i32).to_be_bytes());
}
