//! Record batches that passed encoded, the newest of each partition, until the last record of one is named in a checkpoint.
//!
//! Decoding each of them would cost what passing them saves. So some are decoded each second, each partition in its turn, and a checkpoint may name a
//! record that is some seconds older than its offset.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use crate::connector::Encoded;
use crate::model::TopicPartition;

/// Record batches are kept up to about so many bytes, and one at least: those that are decoded first.
const KEPT_BYTES: usize = 8 << 20;

/// So many bytes of them are decoded in a commit, and how often.
const DECODED_BYTES: usize = 1 << 20;
const DECODE_EVERY: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Unnamed {
    batches: BTreeMap<TopicPartition, Kept>,
    bytes: usize,
    /// The partition that was named last: those behind it have their turns, then those before it.
    named: Option<TopicPartition>,
    due: Instant,
}

#[derive(Debug)]
struct Kept {
    encoded: Encoded,
    /// Whether it has a buffer of its own, and holds nothing else that was fetched.
    is_detached: bool,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.encoded.records.bytes().len()
    }
}

impl Default for Unnamed {
    fn default() -> Self {
        Self { batches: BTreeMap::new(), bytes: 0, named: None, due: Instant::now() }
    }
}

impl Unnamed {
    /// Keep what has passed, instead of what passed before of the partition.
    pub(super) fn keep(&mut self, partition: &TopicPartition, encoded: Encoded) {
        self.forget(partition);
        let kept = Kept { encoded, is_detached: false };
        self.bytes += kept.bytes();
        self.batches.insert(partition.clone(), kept);
        while self.bytes > KEPT_BYTES
            && self.batches.len() > 1
            && let Some(last) = self.last_in_turn()
        {
            self.forget(&last);
        }
    }

    /// Drop what is kept of a partition.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.remove(partition);
    }

    fn remove(&mut self, partition: &TopicPartition) -> Option<Kept> {
        let kept = self.batches.remove(partition)?;
        self.bytes -= kept.bytes();
        Some(kept)
    }

    fn first_in_turn(&self) -> Option<TopicPartition> {
        let behind = self.named.as_ref().and_then(|named| self.batches.range((Excluded(named), Unbounded)).next());
        behind.or_else(|| self.batches.first_key_value()).map(|(partition, _)| partition.clone())
    }

    fn last_in_turn(&self) -> Option<TopicPartition> {
        let before = self.named.as_ref().and_then(|named| self.batches.range(..=named).next_back());
        before.or_else(|| self.batches.last_key_value()).map(|(partition, _)| partition.clone())
    }

    /// Those of which a record is to be named now: all of them, or what is due.
    pub(super) fn take(&mut self, all: bool, now: Instant) -> Vec<(TopicPartition, Encoded)> {
        let mut taken = Vec::new();
        if self.batches.is_empty() || (!all && now < self.due) {
            return taken;
        }
        self.due = now + DECODE_EVERY;
        let mut left = if all { usize::MAX } else { DECODED_BYTES };
        while left > 0
            && let Some(partition) = self.first_in_turn()
            && let Some(kept) = self.remove(&partition)
        {
            left = left.saturating_sub(kept.bytes());
            self.named = Some(partition.clone());
            taken.push((partition, kept.encoded));
        }
        for kept in self.batches.values_mut().filter(|kept| !kept.is_detached) {
            kept.encoded.records = kept.encoded.records.detached();
            kept.is_detached = true;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::connector::kafka::records::{Encoder, RecordBatches, Stamp};
    use crate::model::{BatchBuilder, Compression};

    const MIB: usize = 1 << 20;

    fn place(partition: u32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn encoded(partition: u32, bytes: usize) -> Encoded {
        let mut builder = BatchBuilder::new();
        builder.push(0, 0, None, Some(&vec![7; bytes]), []);
        let batch = builder.finish("orders", partition);
        let mut written = Encoder::new(Compression::NONE).encode(&batch, 0..1, usize::MAX).expect("encoded");
        let bytes = written.seal(Stamp::NONE).to_vec();
        let records = RecordBatches::new(bytes.into()).next().expect("a record batch").expect("sound");
        Encoded { topic: "orders".into(), partition, next_offset: 1, records }
    }

    fn partitions(taken: &[(TopicPartition, Encoded)]) -> Vec<u32> {
        taken.iter().map(|(partition, _)| partition.partition).collect()
    }

    /// However many partitions are busy, and however large what passes of them: each is named in its turn.
    #[test]
    fn no_busy_partition_waits_for_ever() {
        for (count, bytes) in [(3, MIB), (6, MIB / 2), (20, MIB), (4, 3 * MIB), (3, 9 * MIB)] {
            let batches: Vec<Encoded> = (0..count).map(|partition| encoded(partition, bytes)).collect();
            let (mut unnamed, mut now, mut named) = (Unnamed::default(), Instant::now(), BTreeSet::new());
            for _ in 0..count {
                for encoded in &batches {
                    unnamed.keep(&place(encoded.partition), encoded.clone());
                    assert!(unnamed.bytes <= KEPT_BYTES || unnamed.batches.len() == 1);
                }
                now += DECODE_EVERY;
                let taken = unnamed.take(false, now);
                assert!(partitions(&taken).len() <= DECODED_BYTES.div_ceil(bytes));
                named.extend(partitions(&taken));
            }
            assert_eq!(named.len(), count as usize, "{count} partitions, {bytes} bytes each");
        }
    }

    #[test]
    fn what_is_due_is_taken_and_at_the_end_all_of_it() {
        let mut unnamed = Unnamed::default();
        let now = Instant::now() + DECODE_EVERY;
        (0..5).for_each(|partition| unnamed.keep(&place(partition), encoded(partition, MIB)));
        assert_eq!(partitions(&unnamed.take(false, now)), [0]);
        assert_eq!(partitions(&unnamed.take(false, now)), [0; 0], "not due");
        unnamed.keep(&place(0), encoded(0, MIB));
        unnamed.forget(&place(3));
        assert_eq!(partitions(&unnamed.take(true, now)), [1, 2, 4, 0]);
        assert_eq!((unnamed.bytes, unnamed.take(true, now).len()), (0, 0));
    }

    /// What waits long does not hold the answer that it came with.
    #[test]
    fn what_waits_has_a_buffer_of_its_own() {
        let mut unnamed = Unnamed::default();
        let waiting = encoded(1, MIB);
        unnamed.keep(&place(0), encoded(0, MIB));
        unnamed.keep(&place(1), waiting.clone());
        let now = Instant::now() + DECODE_EVERY;
        assert_eq!(partitions(&unnamed.take(false, now)), [0]);
        assert!(waiting.records.bytes().is_unique(), "it is still held");
        let taken = unnamed.take(true, now);
        assert_eq!(taken[0].1.records, waiting.records);
    }
}
