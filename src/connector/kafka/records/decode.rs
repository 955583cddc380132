//! Fetched bytes to batches.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use super::aborted::{Aborted, AbortedTransaction};
use super::columns::Columns;
use super::error::Error;
use super::frame::{HEADER_BYTES, RecordBatch, RecordBatches};
use super::pass::Passing;
use crate::model::{Batch, Codec};

/// What a fetch answer holds of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset that was asked for.
    pub from: i64,
    /// The record batches. The first may begin before `from`, and the last may be cut short.
    pub bytes: Bytes,
    /// The transactions that were aborted, as the answer lists them.
    pub aborted: Vec<AbortedTransaction>,
}

/// How much is decoded at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What the records of one record batch may take when they are decompressed, in bytes; 1 GiB at most.
    pub decompressed_bytes_max: usize,
    /// Record batches that follow each other make one batch until its arena has this many bytes. 0: each makes one.
    pub merge_bytes: usize,
}

/// Spans count in 32 bits: an arena of twice this can still be pointed into.
const ARENA_BYTES_MAX: usize = 1 << 30;

/// Decodes what was fetched, a [`Batch`] with at least one record at a time. Ends after the first error.
///
/// The arena of records that were not compressed is what was fetched, as it is. What came compressed is decompressed into
/// one arena. Record batches of the two kinds do not share a batch.
#[derive(Debug)]
pub struct Decoder {
    topic: Arc<str>,
    partition: u32,
    bytes: Bytes,
    /// Where in `bytes` the next record batch begins.
    at: usize,
    batches: Peekable<RecordBatches>,
    aborted: Aborted,
    from: i64,
    next_offset: i64,
    bounds: Bounds,
    /// What was found behind the records that were answered last.
    failure: Option<Error>,
}

/// What a [`Decoder`] gives.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on and taken apart at once")]
pub enum Piece {
    /// Records.
    Batch(Batch),
    /// A record batch that was not looked into.
    Whole(RecordBatch),
}

/// What becomes the next [`Batch`].
#[derive(Debug, Default)]
struct Run {
    columns: Columns,
    /// The place in what was fetched that is the arena; empty if the records came compressed.
    fetched: std::ops::Range<usize>,
    /// The arena of records that came compressed.
    decompressed: Vec<u8>,
}

impl Run {
    fn arena_bytes(&self) -> usize {
        self.fetched.len().max(self.decompressed.len())
    }

    /// Whether it may take the records of `batch` too.
    fn takes(&self, batch: &RecordBatch, merge_bytes: usize) -> bool {
        // Markers stand between the transactions of a compressed topic, and are not compressed themselves.
        let adds_nothing = batch.is_control() || batch.count() == 0;
        let same_kind = (batch.codec() == Codec::None) == self.decompressed.is_empty();
        adds_nothing || self.columns.is_empty() || (same_kind && self.arena_bytes() < merge_bytes)
    }
}

impl Decoder {
    /// Begin with what was fetched.
    pub fn new(mut fetched: Fetched, bounds: Bounds) -> Self {
        // No answer has more than 31 bits of length; what is behind counts as cut short, and spans reach everything.
        fetched.bytes.truncate(i32::MAX as usize);
        let bounds = Bounds {
            decompressed_bytes_max: bounds.decompressed_bytes_max.min(ARENA_BYTES_MAX),
            merge_bytes: bounds.merge_bytes.min(ARENA_BYTES_MAX),
        };
        Self {
            topic: fetched.topic,
            partition: fetched.partition,
            at: 0,
            batches: RecordBatches::new(fetched.bytes.clone()).peekable(),
            bytes: fetched.bytes,
            aborted: Aborted::new(fetched.aborted),
            from: fetched.from,
            next_offset: fetched.from,
            bounds,
            failure: None,
        }
    }

    /// The offset after everything that was decoded so far, what is left out and holes included: the one to fetch from when
    /// the decoder has ended. It may have moved although there was no record at all.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The next batch; or a record batch as it is, if it is to be handed on so.
    pub fn next_piece(&mut self, passing: Option<Passing>) -> Option<Result<Piece, Error>> {
        self.failure.take().map_or_else(|| self.read(passing), Err).transpose()
    }

    fn read(&mut self, passing: Option<Passing>) -> Result<Option<Piece>, Error> {
        let mut run = Run::default();
        let from = self.from;
        let passes =
            |batch: &RecordBatch| passing.is_some_and(|passing| batch.base_offset() >= from && passing.takes(batch));
        while let Some(batch) = self.batches.next_if(|next| match next {
            Ok(batch) => run.takes(batch, self.bounds.merge_bytes) && (run.columns.is_empty() || !passes(batch)),
            Err(_) => true,
        }) {
            if let Ok(batch) = &batch
                && passes(batch)
            {
                self.at += batch.bytes().len();
                self.next_offset = batch.next_offset();
                if self.aborted.hides(batch, self.bounds.decompressed_bytes_max)? {
                    continue;
                }
                return Ok(Some(Piece::Whole(batch.clone())));
            }
            let Err(error) = batch.and_then(|batch| self.take(&batch, &mut run)) else { continue };
            self.batches = RecordBatches::new(Bytes::new()).peekable();
            if run.columns.is_empty() {
                return Err(error);
            }
            // What is sound before it is answered first.
            self.failure = Some(error);
        }
        Ok((!run.columns.is_empty()).then(|| Piece::Batch(self.finish(run))))
    }

    fn take(&mut self, batch: &RecordBatch, run: &mut Run) -> Result<(), Error> {
        let place = self.at..self.at + batch.bytes().len();
        self.at = place.end;
        let hidden = self.aborted.hides(batch, self.bounds.decompressed_bytes_max)?;
        if !hidden && batch.count() > 0 && batch.next_offset() > self.from {
            self.append(batch, place, run)?;
        }
        self.next_offset = self.next_offset.max(batch.next_offset());
        Ok(())
    }

    fn append(&self, batch: &RecordBatch, place: std::ops::Range<usize>, run: &mut Run) -> Result<(), Error> {
        if run.columns.is_empty() {
            run.fetched = place.start..place.start;
            run.decompressed.clear();
        }
        let appended = if batch.codec() == Codec::None {
            let start = place.start + HEADER_BYTES - run.fetched.start;
            run.fetched.end = place.end;
            let arena = &self.bytes[run.fetched.clone()];
            run.columns.append(batch, arena, start..arena.len(), self.from)
        } else {
            let start = run.decompressed.len();
            batch.append_decompressed(&mut run.decompressed, self.bounds.decompressed_bytes_max)?;
            let end = run.decompressed.len();
            run.columns.append(batch, &run.decompressed, start..end, self.from)
        };
        appended.map_err(|what| batch.corrupt(what))
    }

    fn finish(&self, run: Run) -> Batch {
        let arena =
            if run.decompressed.is_empty() { self.bytes.slice(run.fetched) } else { Bytes::from(run.decompressed) };
        run.columns.into_batch(self.topic.clone(), self.partition, arena, self.next_offset)
    }
}

impl Iterator for Decoder {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece(None).map(|piece| match piece? {
            Piece::Batch(batch) => Ok(batch),
            Piece::Whole(whole) => Err(whole.corrupt("it was to be decoded")),
        })
    }
}
