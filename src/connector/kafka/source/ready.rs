//! What was fetched and not given out yet: each partition has its turns, of about a mebibyte each.

use std::collections::VecDeque;

use super::positions::Index;
use crate::connector::kafka::error::undecodable;
use crate::connector::kafka::records::{Bounds, Decoder, Fetched, Passing, Piece};
use crate::connector::pieces::Pieces;
use crate::connector::{Encoded, Error, Polled};
use crate::model::{BatchBuilder, TopicPartition};

/// Small record batches are put together until a batch has so many bytes: what comes after has its costs for each batch.
/// A record batch may take 256 MiB when it is decompressed: more than brokers take uncompressed, so beyond that it is an attack.
const BOUNDS: Bounds = Bounds { decompressed_bytes_max: 256 << 20, merge_bytes: 1 << 20 };

/// Fetched records on their way to the lane.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The one at the front has the next turn.
    turns: VecDeque<Turn>,
    /// What is left of the batch whose turn it is.
    current: Option<Pieces>,
    /// Given out when everything else has been.
    failure: Option<Error>,
    /// What the turns hold, in bytes as they were fetched.
    bytes: usize,
}

#[derive(Debug)]
struct Turn {
    index: Index,
    place: TopicPartition,
    decoder: Decoder,
    bytes: usize,
    /// The offset after what was given out.
    given_to: i64,
}

impl Ready {
    /// The bytes that were fetched and not decoded to their end.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to give out.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.current.is_none() && self.failure.is_none()
    }

    /// Take in what was fetched of a partition.
    pub(super) fn push(&mut self, index: Index, fetched: Fetched) {
        let place = TopicPartition::new(fetched.topic.clone(), fetched.partition);
        let (bytes, given_to) = (fetched.bytes.len(), fetched.from);
        self.bytes += bytes;
        self.turns.push_back(Turn { index, place, decoder: Decoder::new(fetched, BOUNDS), bytes, given_to });
    }

    /// Reading cannot go on. What is here already is sound, and is given out first.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Drop what is here of a partition.
    pub(super) fn forget(&mut self, index: Index, place: &TopicPartition) {
        self.turns.retain(|turn| turn.index != index);
        self.bytes = self.turns.iter().map(|turn| turn.bytes).sum();
        self.current.take_if(|current| {
            let batch = current.batch();
            batch.topic == place.topic && batch.partition == place.partition
        });
    }

    /// The next records. A batch without any says that there are none up to its `next_offset`.
    pub(super) fn give(
        &mut self,
        passing: Option<Passing>,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Option<Polled>, Error> {
        loop {
            if let Some(piece) = Pieces::give(&mut self.current, max_records, max_bytes) {
                return Ok(Some(Polled::Batch(piece)));
            }
            let Some(mut turn) = self.turns.pop_front() else { return self.failure.take().map_or(Ok(None), Err) };
            match turn.decoder.next_piece(passing) {
                Some(Ok(Piece::Whole(records))) => {
                    let (topic, partition) = (turn.place.topic.clone(), turn.place.partition);
                    let next_offset = turn.decoder.next_offset();
                    turn.given_to = next_offset;
                    self.turns.push_back(turn);
                    return Ok(Some(Polled::Encoded(Encoded { topic, partition, next_offset, records })));
                }
                Some(Ok(Piece::Batch(batch))) => {
                    turn.given_to = batch.next_offset;
                    self.current = Some(Pieces::new(batch));
                    self.turns.push_back(turn);
                    continue;
                }
                Some(Err(error)) => self.fail(undecodable(&turn.place, &error)),
                None => {}
            }
            self.bytes -= turn.bytes;
            if turn.decoder.next_offset() > turn.given_to {
                let mut nothing = BatchBuilder::new().finish(turn.place.topic, turn.place.partition);
                nothing.next_offset = turn.decoder.next_offset();
                return Ok(Some(Polled::Batch(nothing)));
            }
        }
    }
}
