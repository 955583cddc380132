//! Record batches of Kafka, version 2 (magic 2): bytes to [`Batch`](crate::model::Batch)es and back. No IO.
//!
//! The layout is that of Kafka's protocol guide, section "Record Batch" (<https://kafka.apache.org/documentation/#recordbatch>),
//! made by [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging),
//! with the delete horizon of KIP-534 and the codec zstd of KIP-110. Numbers are big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0–7 | base offset |
//! | 8–11 | length: the bytes after this field |
//! | 12–15 | partition leader epoch |
//! | 16 | magic: 2 |
//! | 17–20 | CRC-32C of everything from byte 21 on |
//! | 21–22 | attributes: codec (bits 0–2), log append time (3), transactional (4), control (5), delete horizon (6) |
//! | 23–26 | last offset delta |
//! | 27–34 | base timestamp |
//! | 35–42 | max timestamp |
//! | 43–50 | producer id |
//! | 51–52 | producer epoch |
//! | 53–56 | base sequence |
//! | 57–60 | number of records |
//! | 61– | the records, compressed together |
//!
//! A record is, with zigzag varints for all numbers: length of the rest, attributes (one byte, unused), timestamp delta, offset
//! delta, key length (-1: null) and key, value length and value, number of headers, and for each header name length and
//! name, value length and value.
//!
//! Reading order: [`RecordBatches`] cuts the bytes of a fetch answer into record batches, [`Decoder`] makes batches of them and
//! leaves out what was [aborted](AbortedTransaction), [`Encoder`] writes one, [`RecordBatch::pass_through`] hands one on as it is, [`RecordBatch::first_record`] looks at the
//! first record alone.
//!
//! Invariants
//! - Any bytes give records or an [`Error`], never a panic. A checksum is verified before anything behind it is believed.
//! - Nothing is allocated by a number from outside: record counts are held against the bytes that are there, and what is
//!   decompressed against a limit of the caller.
//! - What a consumer with `read_committed` does not see is not decoded.

mod aborted;
mod columns;
mod decode;
mod encode;
mod error;
mod first;
mod frame;
mod pass;
pub(super) mod varint;

#[cfg(test)]
mod tests;

pub use aborted::AbortedTransaction;
pub use decode::{Bounds, Decoder, Fetched, Piece};
pub use encode::{BatchSize, Encoder, FinishedBatch, OpenBatch, Stamp};
pub use error::Error;
pub use frame::{HEADER_BYTES, RecordBatch, RecordBatches, Tail, first_end, tail};
pub use pass::{NotPassable, Passing};
