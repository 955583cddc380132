//! Records as they are written, into the columns of a batch.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::RecordBatch;
use super::varint;
use crate::model::batch::HeaderSpan;
use crate::model::{Batch, Span};

/// The least that a record takes: seven numbers of one byte.
const RECORD_BYTES_MIN: usize = 7;
/// The least that a header takes: two lengths.
const HEADER_BYTES_MIN: usize = 2;

/// The most records and headers of a record batch. Their columns take several times the bytes that
/// the smallest ones have, so the bound on decompressed bytes alone would allow gigabytes.
const RECORDS_MAX: usize = 8 << 20;
const HEADERS_MAX: usize = 8 << 20;

const CUT: &str = "a record ends too early";

/// A record up to its headers.
pub(super) struct RecordParts {
    pub(super) key: Span,
    value: Span,
    timestamp_delta: i64,
    offset_delta: i64,
    /// Where it ends.
    end: usize,
}

impl RecordParts {
    /// The record at `at`, which moves to the number of its headers.
    #[inline]
    pub(super) fn take(bytes: &[u8], at: &mut usize) -> Result<Self, &'static str> {
        let length = number(bytes, at)?;
        let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length)).ok_or(CUT)?;
        let record = bytes.get(..end).ok_or(CUT)?;
        // The record's attributes: none has a meaning.
        *at += 1;
        let timestamp_delta = number(record, at)?;
        let offset_delta = number(record, at)?;
        let key = span(record, at)?;
        let value = span(record, at)?;
        Ok(Self { key, value, timestamp_delta, offset_delta, end })
    }
}

/// Where a record that begins at the beginning of `bytes` ends; `None` if they are too few to say so.
pub(super) fn first_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let length = usize::try_from(varint::take(bytes, &mut at)?).ok()?;
    at.checked_add(length)
}

/// What the records of a record batch have of its header.
struct Header {
    base_offset: i64,
    base_timestamp: i64,
    appended_at: Option<i64>,
    last_delta: i64,
}

impl Header {
    fn of(batch: &RecordBatch) -> Self {
        Self {
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            appended_at: batch.has_log_append_time().then(|| batch.max_timestamp()),
            last_delta: i64::from(batch.last_offset_delta()),
        }
    }
}

#[inline]
fn number(bytes: &[u8], at: &mut usize) -> Result<i64, &'static str> {
    varint::take(bytes, at).ok_or(CUT)
}

/// Bytes with their length before them. Any negative length is null, as it is for other clients.
#[inline]
fn span(bytes: &[u8], at: &mut usize) -> Result<Span, &'static str> {
    let Ok(len) = usize::try_from(number(bytes, at)?) else { return Ok(Span::NULL) };
    let start = *at;
    if len > bytes.len().saturating_sub(start) {
        return Err(CUT);
    }
    *at += len;
    // Fits: whoever calls checks that there are less than 4 GiB.
    Ok(Span { start: start as u32, len: len as u32 })
}

/// The columns of a [`Batch`] that grows by whole record batches.
#[derive(Debug, Default)]
pub(super) struct Columns {
    keys: Vec<Span>,
    values: Vec<Span>,
    header_ends: Vec<u32>,
    headers: Vec<HeaderSpan>,
    timestamps: Vec<i64>,
    offsets: Vec<i64>,
}

impl Columns {
    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Append those records of `batch` that have offset `from` or a later one. `arena` has them, decompressed, in `place`.
    /// After an error nothing was appended.
    pub(super) fn append(
        &mut self,
        batch: &RecordBatch,
        arena: &[u8],
        place: Range<usize>,
        from: i64,
    ) -> Result<(), &'static str> {
        let (records, headers) = (self.offsets.len(), self.headers.len());
        let appended = self.append_all(batch, &arena[..place.end], place.start, from);
        if appended.is_err() {
            self.truncate(records, headers);
        }
        appended
    }

    fn append_all(&mut self, batch: &RecordBatch, arena: &[u8], start: usize, from: i64) -> Result<(), &'static str> {
        if batch.count() > (arena.len() - start) / RECORD_BYTES_MIN {
            return Err("it claims more records than it has bytes for");
        }
        if batch.count() > RECORDS_MAX {
            return Err("it has more than 8,388,608 records");
        }
        self.reserve(batch.count());
        let header = Header::of(batch);
        let mut before = -1;
        let mut at = start;
        for _ in 0..batch.count() {
            before = self.take(&header, arena, &mut at, before, from)?;
        }
        if at == arena.len() { Ok(()) } else { Err("there are bytes behind its last record") }
    }

    /// The first record of `batch`, whose records begin at the beginning of `arena`.
    pub(super) fn first(batch: &RecordBatch, arena: &[u8]) -> Result<Self, &'static str> {
        let mut columns = Self::default();
        columns.take(&Header::of(batch), arena, &mut 0, -1, i64::MIN)?;
        Ok(columns)
    }

    /// Append the record at `at`, which moves behind it, unless its offset is before `from`. `before`: the offset delta of the one before it. Answers its own.
    #[inline]
    fn take(
        &mut self,
        header: &Header,
        arena: &[u8],
        at: &mut usize,
        before: i64,
        from: i64,
    ) -> Result<i64, &'static str> {
        let record = RecordParts::take(arena, at)?;
        if record.offset_delta <= before || record.offset_delta > header.last_delta {
            return Err("its records are out of order");
        }
        let headers = self.headers.len();
        self.take_headers(&arena[..record.end], at)?;
        if *at != record.end {
            return Err("a record is longer than its parts");
        }
        let offset = header.base_offset + record.offset_delta;
        if offset < from {
            self.headers.truncate(headers);
            return Ok(record.offset_delta);
        }
        // Writers subtract without looking for an overflow, so that adding in the same way gives what they had.
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        self.keys.push(record.key);
        self.values.push(record.value);
        self.header_ends.push(self.headers.len() as u32);
        self.timestamps.push(header.appended_at.unwrap_or(timestamp));
        self.offsets.push(offset);
        Ok(record.offset_delta)
    }

    #[inline]
    fn take_headers(&mut self, record: &[u8], at: &mut usize) -> Result<(), &'static str> {
        let count = number(record, at)?;
        let possible = record.len().saturating_sub(*at) / HEADER_BYTES_MIN;
        let count = usize::try_from(count).ok().filter(|count| *count <= possible);
        let count = count.ok_or("a record claims more headers than it has bytes for")?;
        if self.headers.len() + count > HEADERS_MAX {
            return Err("its records have more than 8,388,608 headers");
        }
        for _ in 0..count {
            let name = span(record, at)?;
            if name.is_null() {
                return Err("a header has no name");
            }
            let value = span(record, at)?;
            self.headers.push(HeaderSpan { name, value });
        }
        Ok(())
    }

    fn reserve(&mut self, records: usize) {
        self.keys.reserve(records);
        self.values.reserve(records);
        self.header_ends.reserve(records);
        self.timestamps.reserve(records);
        self.offsets.reserve(records);
    }

    fn truncate(&mut self, records: usize, headers: usize) {
        self.keys.truncate(records);
        self.values.truncate(records);
        self.header_ends.truncate(records);
        self.headers.truncate(headers);
        self.timestamps.truncate(records);
        self.offsets.truncate(records);
    }

    /// The batch of all that was appended, whose spans point into `arena`.
    pub(super) fn into_batch(self, topic: Arc<str>, partition: u32, arena: Bytes, next_offset: i64) -> Batch {
        Batch {
            topic,
            partition,
            arena,
            keys: self.keys,
            values: self.values,
            header_ends: self.header_ends,
            headers: self.headers,
            timestamps: self.timestamps,
            offsets: self.offsets,
            placements: Vec::new(),
            topics: Arc::default(),
            first_ordinal: 0,
            next_offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of two bytes takes sixteen when it is decoded.
    #[test]
    fn headers_are_bounded_by_number_and_not_only_by_their_bytes() {
        let record = |count: usize| {
            let mut record = Vec::new();
            varint::put(&mut record, count as i64);
            record.resize(record.len() + count * HEADER_BYTES_MIN, 0);
            record
        };
        let taken = |columns: &mut Columns, count| columns.take_headers(&record(count), &mut 0);
        let mut columns = Columns::default();
        assert_eq!(taken(&mut columns, 3), Ok(()));
        assert_eq!(columns.headers.len(), 3);
        assert!(taken(&mut columns, HEADERS_MAX - 2).is_err());
        assert_eq!(columns.headers.capacity(), 4, "nothing was reserved for them");
    }
}
