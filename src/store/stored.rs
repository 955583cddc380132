//! A stored batch: the bytes under one key of the table `batches`.
//!
//! Layout, version 2. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | layout version, 2 |
//! | 1–4 | CRC-32C of everything from byte 5 on |
//! | 5 | codec of the body: 0 as it is, 1 zstd, 2 gzip, 3 snappy, 4 lz4 |
//! | 6–9 | number of records, `n`; never 0 |
//! | 10–13 | number of headers, `h` |
//! | 14–17 | length of the arena |
//! | 18–25 | timestamp of the first record, milliseconds since 1970-01-01 UTC |
//! | 26–33 | highest timestamp |
//! | 34–41 | arrival: when the batch was begun by the clock of its writer, milliseconds since 1970-01-01 UTC |
//! | 42– | the body |
//!
//! Version 1 has no arrival, and its body begins at byte 34. It is read, and never written.
//!
//! The body, once decompressed: the arena; `n` × i64 timestamps, each less the one before it (the first less the
//! first record's); `n` × u32 key lengths; `n` × u32 value lengths; and if `h` is not 0, `n` × u32 header counts,
//! `h` × u32 name lengths, `h` × u32 value lengths. The length 0xffffffff is null. In the arena lie, record by record,
//! the key, the value, and name and value of each header, with nothing between them: that is why lengths
//! are enough. Offsets are not stored: the records are the base offset of the key and those after it.
//!
//! The arena comes first so that records are appended to the very bytes that are stored.

use std::sync::Arc;

use crate::model::batch::{Batch, HeaderSpan, RecordRef, Span};
use crate::model::codec::{self, Codec, Compression, Refused};

/// The version of the layout above.
pub const STORED_VERSION: u8 = 2;

/// The version without an arrival.
const VERSION_WITHOUT_ARRIVAL: u8 = 1;

/// A stored batch is closed before it grows past this, uncompressed. The storage library writes a value in a page of a
/// power of two: this fits 1 MiB with what it adds, and it bounds what a reader holds.
pub const STORED_BYTES_MAX: usize = 1000 * 1024 + 256;

/// The largest record, with its key and headers: a bound on what damaged bytes can make a reader allocate.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

const HEADER_BYTES: usize = 42;
/// The same in version 1.
const HEADER_BYTES_WITHOUT_ARRIVAL: usize = 34;
/// The codecs by their numbers: zstd was here first.
const CODECS: [Codec; 5] = [Codec::None, Codec::Zstd, Codec::Gzip, Codec::Snappy, Codec::Lz4];
const NULL: u32 = u32::MAX;

/// Bytes a record and a header take in the columns.
const RECORD_COLUMNS: usize = 16;
const RECORD_COLUMNS_WITH_HEADERS: usize = 20;
const HEADER_COLUMNS: usize = 8;

/// Bodies from this size on are sampled before they are compressed: a smaller one costs less than the samples.
const SAMPLED_FROM: usize = 64 * 1024;
const SAMPLE_BYTES_MAX: usize = 4 * 1024;
const SAMPLES: usize = 4;

/// Records, encoded as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    bytes: Vec<u8>,
    records: u32,
}

impl StoredBatch {
    /// The bytes as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of records; never 0.
    pub fn records(&self) -> u32 {
        self.records
    }
}

#[cfg(test)]
impl StoredBatch {
    /// The same as a program wrote it that did not say when.
    pub(super) fn without_arrival(mut self) -> Self {
        self.bytes.drain(HEADER_BYTES_WITHOUT_ARRIVAL..HEADER_BYTES);
        self.bytes[0] = VERSION_WITHOUT_ARRIVAL;
        let checksum = crc_fast::crc32_iscsi(&self.bytes[5..]);
        self.bytes[1..5].copy_from_slice(&checksum.to_le_bytes());
        self
    }
}

/// A record over [`RECORD_BYTES_MAX`], with its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTooLarge(pub usize);

/// Compresses bodies, where that makes them smaller. Keep one for a writer.
#[derive(Debug)]
pub struct Compressor {
    inner: codec::Compressor,
    /// Whether the body before did not shrink: the next one is then sampled first.
    doubt: bool,
}

impl Compressor {
    /// A compressor that compresses in this way.
    pub fn new(compression: Compression) -> Self {
        Self { inner: codec::Compressor::new(compression), doubt: true }
    }

    fn codec_id(&self) -> u8 {
        CODECS.iter().position(|codec| *codec == self.inner.codec()).unwrap_or_default() as u8
    }

    /// `bytes[HEADER_BYTES..]` compressed behind room for the header, if that is smaller.
    fn compress(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let body = &bytes[HEADER_BYTES..];
        let is_hopeless = self.doubt && body.len() >= SAMPLED_FROM && !self.samples_shrink(body);
        if self.inner.codec() == Codec::None || is_hopeless {
            return None;
        }
        let mut packed = Vec::with_capacity(HEADER_BYTES + body.len() / 2);
        packed.resize(HEADER_BYTES, 0);
        self.inner.append(body, &mut packed).ok()?;
        packed.shrink_to_fit();
        self.doubt = packed.len() >= bytes.len();
        (!self.doubt).then_some(packed)
    }

    /// Whether a few samples lose a twentieth at least. Compressing what does not shrink costs as much as writing it.
    fn samples_shrink(&mut self, body: &[u8]) -> bool {
        // A sixty-fourth of the body: what it costs to find out stays small beside what it costs to store.
        let length = (body.len() / (SAMPLES * 64)).min(SAMPLE_BYTES_MAX);
        let stride = (body.len() - length) / (SAMPLES - 1);
        let mut packed = Vec::with_capacity(2 * SAMPLES * SAMPLE_BYTES_MAX);
        let mut append = |sample: usize| self.inner.append(&body[sample * stride..][..length], &mut packed).is_ok();
        (0..SAMPLES).all(&mut append) && packed.len() * 20 < SAMPLES * length * 19
    }
}

/// Packs the records for one partition into stored batches, in the order they come.
#[derive(Debug)]
pub struct Packer {
    /// When its records arrive, milliseconds since 1970-01-01 UTC.
    arrival: i64,
    done: Vec<StoredBatch>,
    done_bytes: usize,
    /// Room for the header, then the arena.
    bytes: Vec<u8>,
    timestamps: Vec<i64>,
    max_timestamp: i64,
    keys: Vec<u32>,
    values: Vec<u32>,
    header_counts: Vec<u32>,
    header_names: Vec<u32>,
    header_values: Vec<u32>,
}

impl Packer {
    /// A packer for records that arrive at `arrival_ms`, milliseconds since 1970-01-01 UTC.
    pub fn new(arrival_ms: i64) -> Self {
        Self {
            arrival: arrival_ms,
            done: Vec::new(),
            done_bytes: 0,
            bytes: Vec::new(),
            timestamps: Vec::new(),
            max_timestamp: 0,
            keys: Vec::new(),
            values: Vec::new(),
            header_counts: Vec::new(),
            header_names: Vec::new(),
            header_values: Vec::new(),
        }
    }

    /// Append a record. Its bytes are copied once.
    ///
    /// # Errors
    /// If the record is larger than [`RECORD_BYTES_MAX`]; nothing is appended then.
    pub fn push(&mut self, record: RecordRef<'_>, compressor: &mut Compressor) -> Result<(), RecordTooLarge> {
        let (key, value, headers) = (record.key(), record.value(), record.headers());
        let mut size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + RECORD_COLUMNS_WITH_HEADERS;
        let header_count = headers.len();
        if header_count > 0 {
            let bytes = record.headers().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len));
            size += bytes.sum::<usize>() + header_count * HEADER_COLUMNS;
        }
        if size > RECORD_BYTES_MAX {
            return Err(RecordTooLarge(size));
        }
        if !self.timestamps.is_empty() && self.open_bytes() + size > STORED_BYTES_MAX {
            self.close(compressor);
        }
        if self.bytes.is_empty() {
            // A large record comes alone: room for it and its columns at once, so that it is not moved.
            self.bytes.reserve(HEADER_BYTES + size);
            self.bytes.resize(HEADER_BYTES, 0);
            self.max_timestamp = record.timestamp();
        }
        self.timestamps.push(record.timestamp());
        self.max_timestamp = self.max_timestamp.max(record.timestamp());
        let length = append(&mut self.bytes, key);
        self.keys.push(length);
        let length = append(&mut self.bytes, value);
        self.values.push(length);
        self.header_counts.push(header_count as u32);
        for header in headers {
            let length = append(&mut self.bytes, Some(header.name));
            self.header_names.push(length);
            let length = append(&mut self.bytes, header.value);
            self.header_values.push(length);
        }
        Ok(())
    }

    /// The bytes of all records, as far as they are encoded as they will be stored, and uncompressed beyond that.
    pub fn bytes(&self) -> usize {
        self.done_bytes + self.open_bytes()
    }

    /// All records, encoded.
    pub fn finish(mut self, compressor: &mut Compressor) -> Vec<StoredBatch> {
        self.close(compressor);
        self.done
    }

    fn open_bytes(&self) -> usize {
        self.bytes.len()
            + self.timestamps.len() * RECORD_COLUMNS_WITH_HEADERS
            + self.header_names.len() * HEADER_COLUMNS
    }

    fn close(&mut self, compressor: &mut Compressor) {
        let Some(first_timestamp) = self.timestamps.first().copied() else { return };
        let records = self.timestamps.len() as u32;
        let headers = self.header_names.len() as u32;
        let arena = (self.bytes.len() - HEADER_BYTES) as u32;
        let mut raw = std::mem::take(&mut self.bytes);
        self.append_columns(&mut raw, first_timestamp);
        let (codec, mut bytes) = match compressor.compress(&raw) {
            Some(packed) => (compressor.codec_id(), packed),
            None => (0, raw),
        };
        bytes[0] = STORED_VERSION;
        bytes[5] = codec;
        bytes[6..10].copy_from_slice(&records.to_le_bytes());
        bytes[10..14].copy_from_slice(&headers.to_le_bytes());
        bytes[14..18].copy_from_slice(&arena.to_le_bytes());
        bytes[18..26].copy_from_slice(&first_timestamp.to_le_bytes());
        bytes[26..34].copy_from_slice(&self.max_timestamp.to_le_bytes());
        bytes[34..42].copy_from_slice(&self.arrival.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&bytes[5..]);
        bytes[1..5].copy_from_slice(&checksum.to_le_bytes());
        self.done_bytes += bytes.len();
        self.done.push(StoredBatch { bytes, records });
    }

    fn append_columns(&mut self, bytes: &mut Vec<u8>, first_timestamp: i64) {
        let mut before = first_timestamp;
        for timestamp in &mut self.timestamps {
            let delta = timestamp.wrapping_sub(before);
            before = *timestamp;
            *timestamp = delta;
        }
        append_numbers(bytes, &self.timestamps, i64::to_le_bytes);
        append_numbers(bytes, &self.keys, u32::to_le_bytes);
        append_numbers(bytes, &self.values, u32::to_le_bytes);
        if !self.header_names.is_empty() {
            append_numbers(bytes, &self.header_counts, u32::to_le_bytes);
            append_numbers(bytes, &self.header_names, u32::to_le_bytes);
            append_numbers(bytes, &self.header_values, u32::to_le_bytes);
        }
        self.timestamps.clear();
        self.keys.clear();
        self.values.clear();
        self.header_counts.clear();
        self.header_names.clear();
        self.header_values.clear();
    }
}

fn append(arena: &mut Vec<u8>, bytes: Option<&[u8]>) -> u32 {
    let Some(bytes) = bytes else { return NULL };
    arena.extend_from_slice(bytes);
    bytes.len() as u32
}

fn append_numbers<T: Copy, const N: usize>(bytes: &mut Vec<u8>, numbers: &[T], encode: fn(T) -> [u8; N]) {
    let start = bytes.len();
    bytes.resize(start + numbers.len() * N, 0);
    for (to, number) in bytes[start..].chunks_exact_mut(N).zip(numbers) {
        to.copy_from_slice(&encode(*number));
    }
}

/// Why some bytes are not a stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Fewer bytes than a header has.
    #[error("it is shorter than its header")]
    Short,
    /// Another program wrote it.
    #[error("it has layout version {0}, and this program reads version {STORED_VERSION}")]
    Version(u8),
    /// The bytes are not those that were written.
    #[error("its checksum is {found:08x} and should be {expected:08x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// No codec of this layout.
    #[error("its codec is {0}, which does not exist")]
    Codec(u8),
    /// Counts and lengths that contradict each other.
    #[error("its lengths contradict each other")]
    Lengths,
    /// The body is not what its codec writes.
    #[error("its body cannot be decompressed")]
    Body,
}

/// What the header of a stored batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredHeader {
    checksum: u32,
    codec: u8,
    pub(super) records: u32,
    headers: u32,
    arena: u32,
    pub(super) first_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// When the batch was written; `None` before version 2.
    pub(super) arrival: Option<i64>,
}

impl StoredHeader {
    /// Read the header alone. The checksum is not looked at.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let (length, has_arrival) = match bytes.first() {
            None => return Err(Damage::Short),
            Some(&STORED_VERSION) => (HEADER_BYTES, true),
            Some(&VERSION_WITHOUT_ARRIVAL) => (HEADER_BYTES_WITHOUT_ARRIVAL, false),
            Some(version) => return Err(Damage::Version(*version)),
        };
        if bytes.len() < length {
            return Err(Damage::Short);
        }
        let u32_at = |at: usize| u32::from_le_bytes(array(&bytes[at..]));
        let i64_at = |at: usize| i64::from_le_bytes(array(&bytes[at..]));
        Ok(Self {
            checksum: u32_at(1),
            codec: bytes[5],
            records: u32_at(6),
            headers: u32_at(10),
            arena: u32_at(14),
            first_timestamp: i64_at(18),
            max_timestamp: i64_at(26),
            arrival: has_arrival.then(|| i64_at(34)),
        })
    }

    /// Read the header of a batch that is what was written.
    pub(super) fn read_checked(bytes: &[u8]) -> Result<Self, Damage> {
        let header = Self::read(bytes)?;
        let found = crc_fast::crc32_iscsi(&bytes[5..]);
        if found == header.checksum { Ok(header) } else { Err(Damage::Checksum { expected: header.checksum, found }) }
    }

    /// Where the body begins.
    fn bytes(&self) -> usize {
        if self.arrival.is_some() { HEADER_BYTES } else { HEADER_BYTES_WITHOUT_ARRIVAL }
    }

    fn columns_bytes(&self) -> u64 {
        let headers = u64::from(self.headers);
        let record = if headers == 0 { RECORD_COLUMNS } else { RECORD_COLUMNS_WITH_HEADERS };
        u64::from(self.records) * record as u64 + headers * HEADER_COLUMNS as u64
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

/// Decode a stored batch whose first record has offset `base`. Any bytes give a batch that keeps the invariants of
/// [`Batch`] or an error, and never take more memory than a small multiple of [`RECORD_BYTES_MAX`].
pub fn decode(bytes: &[u8], base: i64, topic: &Arc<str>, partition: u32) -> Result<Batch, Damage> {
    let header = StoredHeader::read_checked(bytes)?;
    let mut body = decode_body(&header, &bytes[header.bytes()..])?;
    let next_offset = base.checked_add(i64::from(header.records)).ok_or(Damage::Lengths)?;
    let columns = Columns::split(&header, &body[header.arena as usize..]);
    let mut batch = Batch {
        topic: topic.clone(),
        partition,
        arena: bytes::Bytes::new(),
        keys: Vec::with_capacity(header.records as usize),
        values: Vec::with_capacity(header.records as usize),
        header_ends: Vec::with_capacity(header.records as usize),
        headers: Vec::with_capacity(header.headers as usize),
        timestamps: columns.timestamps(header.first_timestamp),
        offsets: (base..next_offset).collect(),
        placements: Vec::new(),
        first_ordinal: 0,
        topics: Arc::default(),
        next_offset,
    };
    columns.read_spans(&header, &mut batch)?;
    body.truncate(header.arena as usize);
    batch.arena = body.into();
    Ok(batch)
}

fn decode_body(header: &StoredHeader, stored: &[u8]) -> Result<Vec<u8>, Damage> {
    let length = u64::from(header.arena) + header.columns_bytes();
    let bound = (2 * RECORD_BYTES_MAX) as u64;
    if length > bound || header.records == 0 {
        return Err(Damage::Lengths);
    }
    let length = length as usize;
    let codec = *CODECS.get(usize::from(header.codec)).ok_or(Damage::Codec(header.codec))?;
    let mut body = Vec::new();
    codec::decompress(codec, stored, &mut body, length).map_err(|refused| match refused {
        Refused::TooLarge => Damage::Lengths,
        Refused::Damaged => Damage::Body,
    })?;
    if body.len() == length { Ok(body) } else { Err(Damage::Lengths) }
}

/// The columns of a body, each as its bytes.
struct Columns<'a> {
    timestamps: &'a [u8],
    keys: &'a [u8],
    values: &'a [u8],
    /// Empty if no record has a header.
    header_counts: &'a [u8],
    header_names: &'a [u8],
    header_values: &'a [u8],
}

impl<'a> Columns<'a> {
    /// `bytes` has the length that the header asks for.
    fn split(header: &StoredHeader, bytes: &'a [u8]) -> Self {
        let (records, headers) = (header.records as usize, header.headers as usize);
        let (timestamps, rest) = bytes.split_at(records * 8);
        let (keys, rest) = rest.split_at(records * 4);
        let (values, rest) = rest.split_at(records * 4);
        let (header_counts, rest) = rest.split_at(if headers == 0 { 0 } else { records * 4 });
        let (header_names, header_values) = rest.split_at(headers * 4);
        Self { timestamps, keys, values, header_counts, header_names, header_values }
    }

    fn timestamps(&self, first: i64) -> Vec<i64> {
        let deltas = self.timestamps.chunks_exact(8).map(|delta| i64::from_le_bytes(array(delta)));
        deltas
            .scan(first, |timestamp, delta| {
                *timestamp = timestamp.wrapping_add(delta);
                Some(*timestamp)
            })
            .collect()
    }

    /// Lay the spans one behind the other, as they are in the arena.
    fn read_spans(&self, header: &StoredHeader, batch: &mut Batch) -> Result<(), Damage> {
        let mut layer = Layer { at: 0, end: u64::from(header.arena) };
        let mut names = numbers(self.header_names);
        let mut header_values = numbers(self.header_values);
        let mut counts = numbers(self.header_counts);
        for (key, value) in numbers(self.keys).zip(numbers(self.values)) {
            batch.keys.push(layer.lay(key)?);
            batch.values.push(layer.lay(value)?);
            for _ in 0..counts.next().unwrap_or(0) {
                let (Some(name), Some(value)) = (names.next(), header_values.next()) else {
                    return Err(Damage::Lengths);
                };
                let name = layer.lay(name)?;
                if name.is_null() {
                    return Err(Damage::Lengths);
                }
                batch.headers.push(HeaderSpan { name, value: layer.lay(value)? });
            }
            batch.header_ends.push(batch.headers.len() as u32);
        }
        if names.next().is_some() || layer.at != layer.end { Err(Damage::Lengths) } else { Ok(()) }
    }
}

fn numbers(column: &[u8]) -> impl Iterator<Item = u32> + '_ {
    column.chunks_exact(4).map(|number| u32::from_le_bytes(array(number)))
}

/// Lays spans in the arena.
struct Layer {
    at: u64,
    end: u64,
}

impl Layer {
    fn lay(&mut self, len: u32) -> Result<Span, Damage> {
        if len == NULL {
            return Ok(Span::NULL);
        }
        let start = self.at as u32;
        self.at += u64::from(len);
        if self.at > self.end {
            return Err(Damage::Lengths);
        }
        Ok(Span { start, len })
    }
}

#[cfg(test)]
mod tests;
