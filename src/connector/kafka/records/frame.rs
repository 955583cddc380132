//! Where record batches begin and end, and what their headers say.

use bytes::Bytes;

use super::encode::Stamp;
use super::error::Error;
use crate::model::Codec;
use crate::model::codec::{self, Refused};

/// The bytes of a record batch before its records.
pub const HEADER_BYTES: usize = 61;

/// The bytes up to and with the length, which does not count them.
pub(super) const LENGTH_END: usize = 12;
const MAGIC_AT: usize = 16;
/// The checksum covers everything from here on.
pub(super) const CHECKED_FROM: usize = 21;
/// The only magic that is read and written.
pub(super) const MAGIC: u8 = 2;

const CODEC_BITS: u16 = 7;
const LOG_APPEND_TIME: u16 = 1 << 3;
/// The attribute of record batches in transactions.
pub(super) const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;

/// A record batch with a sound header and checksum. Its records have not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
    codec: Codec,
}

impl RecordBatch {
    /// All its bytes, from the base offset on.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same in a buffer of its own: what else was fetched with it is not held by it.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), codec: self.codec }
    }

    /// The offset of its first record, when it was written.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.array(0))
    }

    /// The offset after its last record, when it was written: compaction removes records, and not this.
    pub fn next_offset(&self) -> i64 {
        // Cannot overflow: checked when it was cut.
        self.base_offset() + i64::from(self.last_offset_delta()) + 1
    }

    /// The number of records that are there.
    pub fn count(&self) -> usize {
        // Not negative: checked when it was cut.
        i32::from_be_bytes(self.array(57)) as usize
    }

    /// How its records are compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether it holds a marker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// Whether all its records have the time when the broker appended them.
    pub fn has_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// The producer that wrote it, or -1.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.array(43))
    }

    pub(super) fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.array(23))
    }

    /// The timestamp of its first record, in milliseconds.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.array(27))
    }

    /// The highest timestamp of its records, or the time when the broker appended them, in milliseconds.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.array(35))
    }

    /// The records, as they are compressed.
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Append its records, decompressed, to `out`: at most `bytes_max`, or an error and `out` is as before.
    pub(super) fn append_decompressed(&self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Error> {
        let start = out.len();
        codec::decompress(self.codec, self.payload(), out, bytes_max).map_err(|refused| {
            out.truncate(start);
            match refused {
                Refused::TooLarge => Error::DecompressedTooLarge { offset: self.base_offset(), bytes_max },
                Refused::Damaged => self.corrupt("its records cannot be decompressed"),
            }
        })
    }

    /// An [`Error::Corrupt`] of this record batch.
    pub(super) fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { offset: self.base_offset(), what }
    }

    fn attributes(&self) -> u16 {
        u16::from_be_bytes(self.array(21))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        array(&self.bytes, at)
    }

    /// Check `bytes`, which are as many as the length says.
    fn check(bytes: Bytes) -> Result<Self, Error> {
        let mut batch = Self { bytes, codec: Codec::None };
        let checksum = u32::from_be_bytes(batch.array(17));
        if checksum != crc_fast::crc32_iscsi(&batch.bytes[CHECKED_FROM..]) {
            return Err(batch.corrupt("its checksum does not match its bytes"));
        }
        let codec = (batch.attributes() & CODEC_BITS) as u8;
        batch.codec = Codec::from_id(codec).ok_or(Error::UnknownCodec { offset: batch.base_offset(), codec })?;
        if i32::from_be_bytes(batch.array(57)) < 0 {
            return Err(batch.corrupt("it has less than no records"));
        }
        let delta = i64::from(batch.last_offset_delta());
        if batch.base_offset() < 0 || delta < 0 || batch.base_offset().checked_add(delta + 1).is_none() {
            return Err(batch.corrupt("its offsets are not possible"));
        }
        Ok(batch)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// The record batches in what a fetch answer holds of one partition. A broker cuts the last one short where the answer
/// is full: it is left out. Ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordBatches {
    rest: Bytes,
    next_offset: i64,
}

impl RecordBatches {
    /// Cut `bytes`. The first record batch may begin before the offset that was asked for.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, next_offset: 0 }
    }

    fn cut(&mut self) -> Result<Option<RecordBatch>, Error> {
        if self.rest.len() <= MAGIC_AT {
            return Ok(None);
        }
        let offset = i64::from_be_bytes(array(&self.rest, 0));
        magic(&self.rest, offset)?;
        let length = i32::from_be_bytes(array(&self.rest, 8));
        let bytes = usize::try_from(length).unwrap_or(0) + LENGTH_END;
        if bytes < HEADER_BYTES {
            return Err(Error::Corrupt { offset, what: "it is shorter than a header" });
        }
        if bytes > self.rest.len() {
            return Ok(None);
        }
        RecordBatch::check(self.rest.split_to(bytes)).map(Some)
    }
}

impl Iterator for RecordBatches {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.next_offset;
        let cut = self.cut().and_then(|cut| match cut {
            Some(batch) if batch.base_offset() < first => Err(batch.corrupt("it overlaps the one before it")),
            cut => Ok(cut),
        });
        match &cut {
            Ok(Some(batch)) => self.next_offset = batch.next_offset(),
            Ok(None) | Err(_) => self.rest = Bytes::new(),
        }
        cut.transpose()
    }
}

/// The codec in a header that was written here.
pub(super) fn codec_of(header: &[u8]) -> Codec {
    let attributes = u16::from_be_bytes(array(header, 21));
    Codec::from_id((attributes & CODEC_BITS) as u8).unwrap_or(Codec::None)
}

/// The offset after the first whole record batch of what was fetched, without a look at its checksum, which covers no offset. `None` if there is none.
pub fn first_end(bytes: &[u8]) -> Option<i64> {
    let header = bytes.get(..HEADER_BYTES)?;
    let delta = i32::from_be_bytes(array(header, 23));
    Some(i64::from_be_bytes(array(header, 0)).saturating_add(i64::from(delta)).saturating_add(1))
}

/// What the last whole record batch of a fetch answer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The offset after it.
    pub next_offset: i64,
    /// The leader epoch under which it was appended.
    pub leader_epoch: i32,
}

/// Where what was fetched ends, without a look at checksums: enough to know where the next fetch begins, because whoever decodes
/// what was fetched stops at damage. `None` if nothing was fetched.
///
/// # Errors
/// There is something, and it does not begin with a whole record batch.
pub fn tail(mut bytes: &[u8]) -> Result<Option<Tail>, Error> {
    let mut last = None;
    while !bytes.is_empty() {
        match whole(bytes) {
            Ok(length) => {
                last = Some(bytes);
                bytes = &bytes[length..];
            }
            // A broker cuts the last one short.
            Err(_) if last.is_some() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(last.map(|last| {
        let (base, delta) = (i64::from_be_bytes(array(last, 0)), i32::from_be_bytes(array(last, 23)));
        let leader_epoch = i32::from_be_bytes(array(last, 12));
        Tail { next_offset: base.saturating_add(i64::from(delta)).saturating_add(1), leader_epoch }
    }))
}

/// The length of the record batch that `bytes` begin with, all of which is there.
fn whole(bytes: &[u8]) -> Result<usize, Error> {
    if bytes.len() <= MAGIC_AT {
        return Err(Error::Corrupt { offset: -1, what: "it is shorter than a header" });
    }
    let (offset, length) = (i64::from_be_bytes(array(bytes, 0)), i32::from_be_bytes(array(bytes, 8)));
    magic(bytes, offset)?;
    let bytes_of_it = usize::try_from(length).unwrap_or(0).saturating_add(LENGTH_END);
    if bytes_of_it < HEADER_BYTES {
        return Err(Error::Corrupt { offset, what: "it is shorter than a header" });
    }
    if bytes_of_it > bytes.len() {
        return Err(Error::Corrupt { offset, what: "it is not whole" });
    }
    Ok(bytes_of_it)
}

/// Check that these bytes, more than [`MAGIC_AT`], are of the one format that is read.
fn magic(bytes: &[u8], offset: i64) -> Result<(), Error> {
    match bytes[MAGIC_AT] {
        MAGIC => Ok(()),
        magic @ (0 | 1) => Err(Error::OldFormat { offset, magic }),
        _ => Err(Error::Corrupt { offset, what: "its magic is not known" }),
    }
}

/// Write into a header what a producer decides: everything that does not depend on the records.
pub(super) fn stamp(header: &mut [u8], attributes: u16, stamp: Stamp) {
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, &0_i64.to_be_bytes());
    put(12, &(-1_i32).to_be_bytes());
    put(21, &attributes.to_be_bytes());
    put(43, &stamp.producer_id.to_be_bytes());
    put(51, &stamp.producer_epoch.to_be_bytes());
    put(53, &stamp.base_sequence.to_be_bytes());
}

/// Write the checksum of everything behind it into a header.
pub(super) fn put_checksum(header: &mut [u8], checksum: u32) {
    header[17..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
}
