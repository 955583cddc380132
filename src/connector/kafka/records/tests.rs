//! Record batches against bytes made by hand, against themselves, and against damage.

mod damage;
mod decoding;
mod encoding;
mod first;

use std::sync::Arc;

use bytes::Bytes;

use std::ops::Range;

use super::*;
use crate::model::{Batch, BatchBuilder, Codec, Compression, HeaderRef};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const BOUNDS: Bounds = Bounds { decompressed_bytes_max: 1 << 20, merge_bytes: 1 << 20 };

/// A record as a test wants to compare it.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn plain(batch: &Batch) -> Vec<Plain> {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let records = batch.records().map(|record| Plain {
        offset: record.offset(),
        timestamp: record.timestamp(),
        key: owned(record.key()),
        value: owned(record.value()),
        headers: record.headers().map(|header| (header.name.to_vec(), owned(header.value))).collect(),
    });
    records.collect()
}

fn batch_of(records: &[Plain]) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() });
        builder.push(record.offset, record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    }
    builder.finish("orders", 3)
}

/// A record with nothing but a value.
fn record(offset: i64, value: &[u8]) -> Plain {
    Plain { offset, timestamp: 1000 + offset, key: None, value: Some(value.to_vec()), headers: Vec::new() }
}

fn values(values: &[&str]) -> Batch {
    let records = values.iter().enumerate().map(|(index, value)| record(index as i64, value.as_bytes()));
    batch_of(&records.collect::<Vec<_>>())
}

fn encoder(codec: Codec) -> Encoder {
    Encoder::new(Compression::usual(codec))
}

/// How many records went into a record batch, and its bytes.
fn encode(
    codec: Codec,
    batch: &Batch,
    range: Range<usize>,
    stamp: Stamp,
    bytes_max: usize,
) -> Result<(usize, Vec<u8>), Error> {
    let mut finished = encoder(codec).encode(batch, range, bytes_max)?;
    // Who writes it may be said more than once.
    finished.seal(Stamp::NONE);
    Ok((finished.records(), finished.seal(stamp).to_vec()))
}

/// One record batch with all records of `batch`, as a broker would hold it at `base_offset`.
fn stored(batch: &Batch, codec: Codec, stamp: Stamp, base_offset: i64) -> Vec<u8> {
    let (taken, mut bytes) = encode(codec, batch, 0..batch.len(), stamp, 1 << 24).expect("encodes");
    assert_eq!(taken, batch.len());
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes
}

/// Change the header of a record batch, and its checksum.
fn patch(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
    let checksum = crc_fast::crc32_iscsi(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
}

fn set_attributes(bytes: &mut [u8], more: u16) {
    let attributes = u16::from_be_bytes([bytes[21], bytes[22]]) | more;
    patch(bytes, 21, &attributes.to_be_bytes());
}

const TRANSACTIONAL: u16 = 1 << 4;
const ABORT: u8 = 0;
const COMMIT: u8 = 1;

fn in_transaction(producer_id: i64) -> Stamp {
    Stamp { producer_id, producer_epoch: 1, base_sequence: 0, transactional: true }
}

/// The marker that ends a transaction.
fn marker(producer_id: i64, kind: u8, offset: i64) -> Vec<u8> {
    let mut control = record(0, &[0, 0, 0, 0, 0, 1]);
    control.key = Some(vec![0, 0, 0, kind]);
    let mut bytes = stored(&batch_of(&[control]), Codec::None, in_transaction(producer_id), offset);
    set_attributes(&mut bytes, TRANSACTIONAL | 1 << 5);
    bytes
}

fn fetched(bytes: impl Into<Bytes>, from: i64, aborted: &[(i64, i64)]) -> Fetched {
    let transaction = |(producer_id, first_offset): &(i64, i64)| AbortedTransaction {
        producer_id: *producer_id,
        first_offset: *first_offset,
    };
    Fetched {
        topic: Arc::from("orders"),
        partition: 3,
        from,
        bytes: bytes.into(),
        aborted: aborted.iter().map(transaction).collect(),
    }
}

fn decode(bytes: impl Into<Bytes>, from: i64, aborted: &[(i64, i64)]) -> Vec<Batch> {
    Decoder::new(fetched(bytes, from, aborted), BOUNDS).collect::<Result<_, _>>().expect("sound bytes")
}

fn first_error(bytes: impl Into<Bytes>) -> Error {
    Decoder::new(fetched(bytes, 0, &[]), BOUNDS).find_map(Result::err).expect("an error")
}

/// Offset and value of each record.
fn seen(batches: &[Batch]) -> Vec<(i64, String)> {
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    batches.iter().flat_map(Batch::records).map(|record| (record.offset(), text(record.value()))).collect()
}

fn expected(records: &[(i64, &str)]) -> Vec<(i64, String)> {
    records.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

/// Made by hand after the protocol guide: base offset 42, leader epoch 7, two records.
const BY_HAND: &str = "000000000000002a 0000004d 00000007 02 881d2e28 0000 00000001 0000018bcfe56800 0000018bcfe5692c \
     ffffffffffffffff ffff ffffffff 00000002 \
     18 00 00 00 02 6b 0a 68656c6c6f 00 \
     1c 00 d804 02 01 01 04 02 68 02 31 02 68 01";

/// The same records at offset 0, as producer 9 of epoch 3 writes them in a transaction from sequence 11 on.
const BY_HAND_IN_TRANSACTION: &str = "0000000000000000 0000004d ffffffff 02 5b1d2a5f 0010 00000001 0000018bcfe56800 0000018bcfe5692c \
     0000000000000009 0003 0000000b 00000002 \
     18 00 00 00 02 6b 0a 68656c6c6f 00 \
     1c 00 d804 02 01 01 04 02 68 02 31 02 68 01";

const STAMP: Stamp = Stamp { producer_id: 9, producer_epoch: 3, base_sequence: 11, transactional: true };

fn by_hand(value: &str) -> Vec<Plain> {
    let headers = vec![(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), None)];
    let first = Plain {
        offset: 42,
        timestamp: 1_700_000_000_000,
        key: Some(b"k".to_vec()),
        value: Some(value.into()),
        headers: Vec::new(),
    };
    vec![first, Plain { offset: 43, timestamp: 1_700_000_000_300, key: None, value: None, headers }]
}
