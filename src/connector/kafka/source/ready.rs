//! What was fetched and not given out yet: each partition has its turns, of about a mebibyte each.
//!
//! A record batch that cannot be decoded is the trouble of its partition alone. It is fetched again and again: it may have been damaged on its way, and one that takes too
//! much memory is there until somebody skips it. It is known until something behind it is given out, or the partition is sought.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::faults;
use super::positions::Index;
use crate::connector::kafka::records::{Bounds, Decoder, Fetched, Passing, Piece};
use crate::connector::pieces::Pieces;
use crate::connector::{Class, Encoded, Error, Polled, STALLED_AFTER, Stalled};
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
    /// Record batches that cannot be decoded.
    undecodable: BTreeMap<Index, Undecodable>,
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

/// A record batch that cannot be decoded.
#[derive(Debug)]
struct Undecodable {
    place: TopicPartition,
    /// Everything before it was given out.
    offset: i64,
    since: Instant,
    why: Error,
    /// Whether the source has to fetch it again, and does not know.
    is_news: bool,
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

    /// Where partitions have to be fetched again, and why, each once.
    pub(super) fn take_refused(&mut self) -> Vec<(Index, i64, Error)> {
        let news = self.undecodable.iter_mut().filter_map(|(index, known)| {
            std::mem::take(&mut known.is_news).then(|| (*index, known.offset, known.why.clone()))
        });
        news.collect()
    }

    /// The partitions whose next record batch cannot be decoded, if people should hear of it.
    pub(super) fn stalled(&self, now: Instant) -> impl Iterator<Item = Stalled> {
        let is_to_be_told = move |known: &&Undecodable| {
            known.why.class == Class::Fatal || now.saturating_duration_since(known.since) >= STALLED_AFTER
        };
        let told = self.undecodable.values().filter(is_to_be_told);
        told.map(|known| Stalled { partition: known.place.clone(), why: known.why.clone() })
    }

    /// A record batch of the partition cannot be decoded. What was fetched behind it is of no use.
    fn refuse(&mut self, turn: &Turn, why: Error) {
        let (place, offset) = (turn.place.clone(), turn.decoder.next_offset());
        let before = self.undecodable.remove(&turn.index).filter(|before| before.offset == offset);
        let since = before.map_or_else(Instant::now, |before| before.since);
        self.undecodable.insert(turn.index, Undecodable { place, offset, since, why, is_news: true });
        self.drop_turns(turn.index);
    }

    /// What was given out of a partition goes up to there.
    fn given(&mut self, index: Index, next_offset: i64) {
        if self.undecodable.get(&index).is_some_and(|known| next_offset > known.offset) {
            self.undecodable.remove(&index);
        }
    }

    fn drop_turns(&mut self, index: Index) {
        let bytes = &mut self.bytes;
        self.turns.retain(|turn| {
            let stays = turn.index != index;
            *bytes -= if stays { 0 } else { turn.bytes };
            stays
        });
    }

    /// Drop what is here of a partition.
    pub(super) fn forget(&mut self, index: Index, place: &TopicPartition) {
        self.undecodable.remove(&index);
        self.drop_turns(index);
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
                    self.given(turn.index, next_offset);
                    self.turns.push_back(turn);
                    return Ok(Some(Polled::Encoded(Encoded { topic, partition, next_offset, records })));
                }
                Some(Ok(Piece::Batch(batch))) => {
                    turn.given_to = batch.next_offset;
                    self.given(turn.index, batch.next_offset);
                    self.current = Some(Pieces::new(batch));
                    self.turns.push_back(turn);
                    continue;
                }
                Some(Err(error)) => self.refuse(&turn, faults::no_batch(&turn.place, &error)),
                None => self.given(turn.index, turn.decoder.next_offset()),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::connector::kafka::records::Stamp;
    use crate::connector::kafka::source::tests::stage::{Plain, encoded};
    use crate::model::Codec;

    /// A record batch with one record, at this offset.
    fn at(offset: i64) -> Vec<u8> {
        let mut bytes = encoded(Codec::None, Stamp::NONE, &[Plain::new(None, Some("value"))]).to_vec();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    }

    /// The same with a byte that was changed.
    fn damaged(offset: i64) -> Vec<u8> {
        let mut bytes = at(offset);
        *bytes.last_mut().expect("bytes") ^= 1;
        bytes
    }

    fn fetched(from: i64, batches: &[Vec<u8>]) -> Fetched {
        let bytes = Bytes::from(batches.concat());
        Fetched { topic: "t".into(), partition: 0, from, bytes, aborted: Vec::new() }
    }

    /// The offsets of all that is given out.
    fn given(ready: &mut Ready) -> Vec<i64> {
        let mut offsets = Vec::new();
        while let Some(polled) = ready.give(None, 10, 1 << 20).expect("no failure") {
            let Polled::Batch(batch) = polled else { continue };
            offsets.extend_from_slice(&batch.offsets);
        }
        offsets
    }

    #[test]
    fn what_cannot_be_decoded_is_fetched_again_and_nothing_behind_it_is_given_out_before() {
        let (mut ready, begun) = (Ready::default(), Instant::now());
        let stalled = |ready: &Ready, seconds| {
            let at = begun + Duration::from_secs(seconds);
            ready.stalled(at).map(|stalled| stalled.why.code).collect::<Vec<_>>()
        };
        ready.push(7, fetched(0, &[at(0), damaged(1), at(2)]));
        ready.push(8, fetched(5, &[at(5)]));
        assert_eq!(given(&mut ready), [0, 5]);
        let again: Vec<_> = ready.take_refused().into_iter().map(|(index, offset, _)| (index, offset)).collect();
        assert_eq!((again, ready.take_refused().len(), ready.bytes()), (vec![(7, 1)], 0, 0));
        assert_eq!((stalled(&ready, 0), stalled(&ready, 60)), (vec![], vec!["corrupt-batch"]), "it may be the network");
        ready.push(7, fetched(1, &[damaged(1), at(2)]));
        assert_eq!((given(&mut ready), ready.take_refused().len()), (vec![], 1));
        ready.push(7, fetched(1, &[at(1), at(2)]));
        assert_eq!((given(&mut ready), stalled(&ready, 60), ready.take_refused().len()), (vec![1, 2], vec![], 0));
    }

    #[test]
    fn what_is_passed_over_by_a_seek_is_no_trouble_any_more() {
        let mut ready = Ready::default();
        ready.push(7, fetched(0, &[damaged(0)]));
        assert!(given(&mut ready).is_empty());
        ready.forget(7, &TopicPartition::new("t", 0));
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!((ready.stalled(later).count(), ready.take_refused().len()), (0, 0));
    }
}
