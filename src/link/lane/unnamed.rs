//! Record batches that passed encoded, the newest of each partition, until a record of it is named in a checkpoint.
//!
//! A checkpoint names the first record of the batch that passed last: of a batch a source has all records or none, and the first takes no more than a block to be
//! decompressed. Even that has a budget, since a lane may have any number of busy partitions: where it does not suffice, each has its turn, and a checkpoint may name a
//! record that is older than the last batch before its offset.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use crate::connector::Encoded;
use crate::model::{Codec, TopicPartition};

/// Record batches are kept up to about so many bytes, and one at least: those that are named first.
const KEPT_BYTES: usize = 8 << 20;

/// So many compressed bytes are decompressed for names in a second, and at once: some hundredths of a core.
const NAMING_BYTES: usize = 4 << 20;

/// The first record of a batch that has as many bytes or more takes about so many of them: what a codec makes of its first block.
const FIRST_BYTES: usize = 32 << 10;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Unnamed {
    batches: BTreeMap<TopicPartition, Kept>,
    bytes: usize,
    /// The partition that was named last: those behind it have their turns, then those before it.
    named: Option<TopicPartition>,
    /// What may be decompressed, as of `filled`.
    budget: usize,
    filled: Instant,
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

    /// What its first record takes of the budget.
    fn cost(&self) -> usize {
        if self.encoded.records.codec() == Codec::None { 0 } else { self.bytes().min(FIRST_BYTES) }
    }
}

impl Unnamed {
    pub(super) fn new(now: Instant) -> Self {
        Self { batches: BTreeMap::new(), bytes: 0, named: None, budget: NAMING_BYTES, filled: now }
    }

    /// Keep what has passed, instead of what passed before of the partition. What there is no room for is the answer, to be named now.
    pub(super) fn keep(
        &mut self,
        partition: &TopicPartition,
        encoded: Encoded,
        now: Instant,
    ) -> Vec<(TopicPartition, Encoded)> {
        self.forget(partition);
        let kept = Kept { encoded, is_detached: false };
        self.bytes += kept.bytes();
        self.batches.insert(partition.clone(), kept);
        self.fill(now);
        let mut taken = Vec::new();
        while self.bytes > KEPT_BYTES
            && self.batches.len() > 1
            && let Some(last) = self.last_in_turn()
            && let Some(kept) = self.remove(&last)
        {
            // Half of the budget is for those whose turn it is, or the same ones would be crowded out and named each time.
            if self.spend(kept.cost(), NAMING_BYTES / 2) {
                taken.push((last, kept.encoded));
            }
        }
        taken
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

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).min(Duration::from_secs(1));
        self.budget = NAMING_BYTES.min(self.budget + (NAMING_BYTES as f64 * since.as_secs_f64()) as usize);
        self.filled = self.filled.max(now);
    }

    /// Whether the budget suffices, without what is kept back of it.
    fn spend(&mut self, cost: usize, kept_back: usize) -> bool {
        let suffices = cost <= self.budget.saturating_sub(kept_back);
        self.budget -= if suffices { cost } else { 0 };
        suffices
    }

    /// Those of which a record is to be named now: all of them, or as many as the budget suffices for.
    pub(super) fn take(&mut self, all: bool, now: Instant) -> Vec<(TopicPartition, Encoded)> {
        let mut taken = Vec::new();
        self.fill(now);
        while let Some(partition) = self.first_in_turn()
            && let Some(cost) = self.batches.get(&partition).map(Kept::cost)
            && (self.spend(cost, 0) || all)
            && let Some(kept) = self.remove(&partition)
        {
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

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    const COMPRESSED: Codec = Codec::Zstd;

    fn place(partition: u32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    /// Bytes that a codec makes half of, and no less: what it cannot make smaller would be stored as it is.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 60) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn encoded(partition: u32, bytes: usize, codec: Codec) -> Encoded {
        let mut builder = BatchBuilder::new();
        let bytes = if codec == Codec::None { bytes } else { 2 * bytes };
        builder.push(0, 0, None, Some(&noise(bytes)), []);
        let batch = builder.finish("orders", partition);
        let mut written = Encoder::new(Compression::usual(codec)).encode(&batch, 0..1, usize::MAX).expect("encoded");
        let bytes = written.seal(Stamp::NONE).to_vec();
        let records = RecordBatches::new(bytes.into()).next().expect("a record batch").expect("sound");
        assert_eq!(records.codec(), codec);
        Encoded { topic: "orders".into(), partition, next_offset: 1, records }
    }

    fn partitions(taken: &[(TopicPartition, Encoded)]) -> Vec<u32> {
        taken.iter().map(|(partition, _)| partition.partition).collect()
    }

    /// All partitions are busy, and there are commits: how many of them were named after each.
    fn named(batches: &[Encoded], commits: usize, interval: Duration) -> Vec<usize> {
        let mut now = Instant::now();
        let mut unnamed = Unnamed::new(now);
        let mut commit = || {
            let mut named = BTreeSet::new();
            for encoded in batches {
                named.extend(partitions(&unnamed.keep(&place(encoded.partition), encoded.clone(), now)));
                assert!(unnamed.bytes <= KEPT_BYTES || unnamed.batches.len() == 1);
            }
            now += interval;
            named.extend(partitions(&unnamed.take(false, now)));
            named.len()
        };
        (0..commits).map(|_| commit()).collect()
    }

    /// As long as the budget suffices, each checkpoint names a record of the last batch, however much is kept.
    #[test]
    fn every_checkpoint_names_a_record_of_what_passed_last() {
        for (count, bytes, codec) in [
            (3, MIB, COMPRESSED),
            (20, MIB, COMPRESSED),
            (60, 20 * KIB, COMPRESSED),
            (3, 9 * MIB, COMPRESSED),
            (40, MIB, Codec::None),
            (300, 64 * KIB, Codec::None),
        ] {
            let batches: Vec<Encoded> = (0..count).map(|partition| encoded(partition, bytes, codec)).collect();
            let named = named(&batches, 20, Duration::from_secs(1));
            assert_eq!(named, vec![count as usize; 20], "{count} partitions, {bytes} bytes each, {codec}");
        }
    }

    /// However many partitions are busy, and however large what passes of them: each is named in its turn, and the budget is kept to.
    #[test]
    fn no_busy_partition_waits_for_ever() {
        for (count, bytes) in [(600, 20 * KIB), (300, 200 * KIB), (160, MIB)] {
            let one = encoded(0, bytes, COMPRESSED);
            let batches: Vec<Encoded> = (0..count).map(|partition| Encoded { partition, ..one.clone() }).collect();
            let (mut now, mut named) = (Instant::now(), BTreeSet::new());
            let mut unnamed = Unnamed::new(now);
            let seconds = 2 + count as usize * FIRST_BYTES / NAMING_BYTES;
            let mut taken = 0;
            for _ in 0..seconds * 10 {
                for encoded in &batches {
                    let evicted = unnamed.keep(&place(encoded.partition), encoded.clone(), now);
                    taken += evicted.len();
                    named.extend(partitions(&evicted));
                    now += Duration::from_millis(100) / count;
                }
                let due = unnamed.take(false, now);
                taken += due.len();
                named.extend(partitions(&due));
            }
            assert_eq!(named.len(), count as usize, "{count} partitions, {bytes} bytes each");
            assert!(taken * bytes.min(FIRST_BYTES) <= (seconds + 1) * NAMING_BYTES, "{taken} were named");
        }
    }

    #[test]
    fn at_the_end_all_of_it_is_taken() {
        let now = Instant::now();
        let mut unnamed = Unnamed::new(now);
        assert!(unnamed.spend(NAMING_BYTES - FIRST_BYTES, 0));
        (0..5).for_each(|partition| drop(unnamed.keep(&place(partition), encoded(partition, MIB, COMPRESSED), now)));
        assert_eq!(partitions(&unnamed.take(false, now)), [0]);
        assert_eq!(partitions(&unnamed.take(false, now)), [0; 0], "the budget is spent");
        unnamed.keep(&place(0), encoded(0, MIB, COMPRESSED), now);
        unnamed.forget(&place(3));
        assert_eq!(partitions(&unnamed.take(true, now)), [1, 2, 4, 0]);
        assert_eq!((unnamed.bytes, unnamed.take(true, now).len()), (0, 0));
    }

    /// What waits long does not hold the answer that it came with.
    #[test]
    fn what_waits_has_a_buffer_of_its_own() {
        let now = Instant::now();
        let mut unnamed = Unnamed::new(now);
        assert!(unnamed.spend(NAMING_BYTES, 0));
        let waiting = encoded(1, MIB, COMPRESSED);
        unnamed.keep(&place(1), waiting.clone(), now);
        assert_eq!(partitions(&unnamed.take(false, now)), [0; 0]);
        assert!(waiting.records.bytes().is_unique(), "it is still held");
        let taken = unnamed.take(true, now);
        assert_eq!(taken[0].1.records, waiting.records);
    }
}
