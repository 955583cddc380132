//! Record batches on their way to be sent, by partition.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::connector::kafka::limits::Limit;
use crate::connector::kafka::records::{Encoder, Error, FinishedBatch, OpenBatch};
use crate::model::Batch;

/// A partition of the target: the index of its topic in the sink, and its number.
pub(super) type Place = (usize, u32);

/// The size that record batches are filled to, in bytes: brokers take about 1 MB by default.
const BATCH_BYTES: usize = 900_000;

/// What is written and not sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: BTreeMap<Place, Queue>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    finished: VecDeque<FinishedBatch>,
    open: OpenBatch,
}

impl Outbox {
    /// The bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Append records of `range` to a partition whose topic has this limit. Answers the indices of those that are too large even
    /// alone; they are left out.
    ///
    /// # Errors
    /// They cannot be compressed.
    pub(super) fn push(
        &mut self,
        encoder: &mut Encoder,
        place: Place,
        batch: &Batch,
        range: Range<usize>,
        limit: Limit,
    ) -> Result<Vec<usize>, Error> {
        let queue = self.queues.entry(place).or_default();
        let before = queue.bytes();
        let (mut next, mut too_large) = (range.start, Vec::new());
        while next < range.end {
            next += queue.open.push(batch, next..range.end, BATCH_BYTES.min(limit.together()));
            if next == range.end {
                break;
            }
            if !queue.open.is_empty() {
                queue.finish(encoder)?;
                continue;
            }
            match limit.encode(encoder, batch, next..next + 1) {
                Ok(alone) => queue.finished.push_back(alone),
                Err(Error::RecordTooLarge { index, .. }) => too_large.push(index),
                Err(error) => return Err(error),
            }
            next += 1;
        }
        self.bytes = self.bytes + queue.bytes() - before;
        Ok(too_large)
    }

    /// Append a record batch as it is.
    ///
    /// # Errors
    /// What is before it cannot be compressed.
    pub(super) fn pass(&mut self, encoder: &mut Encoder, place: Place, batch: FinishedBatch) -> Result<(), Error> {
        let queue = self.queues.entry(place).or_default();
        let before = queue.bytes();
        if !queue.open.is_empty() {
            queue.finish(encoder)?;
        }
        queue.finished.push_back(batch);
        self.bytes = self.bytes + queue.bytes() - before;
        Ok(())
    }

    /// Close the record batches that are not full, so that all can be sent.
    ///
    /// # Errors
    /// They cannot be compressed.
    pub(super) fn flush(&mut self, encoder: &mut Encoder) -> Result<(), Error> {
        let places: Vec<Place> = self.queues.keys().copied().collect();
        places.into_iter().try_for_each(|place| self.flush_one(encoder, place))
    }

    /// Close the record batch of one partition.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub(super) fn flush_one(&mut self, encoder: &mut Encoder, place: Place) -> Result<(), Error> {
        let Some(queue) = self.queues.get_mut(&place).filter(|queue| !queue.open.is_empty()) else { return Ok(()) };
        let before = queue.bytes();
        queue.finish(encoder)?;
        self.bytes = self.bytes + queue.bytes() - before;
        Ok(())
    }

    /// The partitions with a record batch that can be sent.
    pub(super) fn ready(&self) -> impl Iterator<Item = Place> {
        self.queues.iter().filter(|(_, queue)| !queue.finished.is_empty()).map(|(place, _)| *place)
    }

    /// The next record batch of a partition.
    pub(super) fn pop(&mut self, place: Place) -> Option<FinishedBatch> {
        let batch = self.queues.get_mut(&place)?.finished.pop_front()?;
        self.bytes -= batch.bytes();
        Some(batch)
    }

    /// Put a record batch back that was not taken: it is the next one again.
    pub(super) fn put_back(&mut self, place: Place, batch: FinishedBatch) {
        self.bytes += batch.bytes();
        self.queues.entry(place).or_default().finished.push_front(batch);
    }
}

impl Queue {
    fn bytes(&self) -> usize {
        let open = if self.open.is_empty() { 0 } else { self.open.bytes() };
        open + self.finished.iter().map(FinishedBatch::bytes).sum::<usize>()
    }

    fn finish(&mut self, encoder: &mut Encoder) -> Result<(), Error> {
        self.finished.push_back(encoder.finish(std::mem::take(&mut self.open))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::kafka::limits::{Limits, Stated, Storing};
    use crate::model::{BatchBuilder, Codec, Compression};

    const HERE: Place = (0, 0);

    fn encoder(codec: Codec) -> Encoder {
        Encoder::new(Compression::usual(codec))
    }

    fn batch(values: &[usize]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, bytes) in values.iter().enumerate() {
            builder.push(offset as i64, 0, None, Some(&vec![b'x'; *bytes]), std::iter::empty());
        }
        builder.finish("in", 0)
    }

    fn limit(bytes_max: usize) -> Limit {
        let mut limits = Limits::default();
        limits.learn("in".into(), Stated { bytes_max, storing: Storing::AsSent }, std::time::Instant::now());
        limits.of("in")
    }

    fn sent(outbox: &mut Outbox, place: Place) -> Vec<usize> {
        std::iter::from_fn(|| outbox.pop(place)).map(|batch| batch.records()).collect()
    }

    #[test]
    fn record_batches_are_filled_from_many_and_sent_when_full_or_flushed() {
        let (mut outbox, mut encoder) = (Outbox::default(), encoder(Codec::None));
        for _ in 0..10 {
            let left_out =
                outbox.push(&mut encoder, HERE, &batch(&[1000; 200]), 0..200, limit(1 << 20)).expect("pushed");
            assert_eq!(left_out, [] as [usize; 0]);
        }
        assert_eq!(outbox.ready().collect::<Vec<_>>(), [HERE]);
        let full = sent(&mut outbox, HERE);
        assert!(full.len() == 2 && full[0] > 850, "{full:?}");
        assert_eq!(outbox.ready().count(), 0);
        outbox.flush(&mut encoder).expect("flushed");
        assert_eq!(full.iter().sum::<usize>() + sent(&mut outbox, HERE).iter().sum::<usize>(), 2000);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_record_that_its_topic_does_not_take_is_left_out_and_the_others_are_not() {
        let (mut outbox, mut plain) = (Outbox::default(), encoder(Codec::None));
        let records = batch(&[10, 5000, 10, 5000, 10]);
        assert_eq!(outbox.push(&mut plain, HERE, &records, 0..5, limit(1000)).expect("pushed"), [1, 3]);
        assert_eq!(outbox.push(&mut plain, (0, 1), &records, 2..4, limit(1000)).expect("pushed"), [3]);
        outbox.flush(&mut plain).expect("flushed");
        assert_eq!(sent(&mut outbox, HERE).iter().sum::<usize>(), 3);
        let mut zstd = encoder(Codec::Zstd);
        assert_eq!(outbox.push(&mut zstd, HERE, &records, 0..5, limit(1000)).expect("pushed"), [] as [usize; 0]);
        outbox.flush(&mut zstd).expect("flushed");
        assert_eq!(sent(&mut outbox, HERE), [1, 1, 1, 1, 1], "in order, each large one alone");
    }

    #[test]
    fn what_is_put_back_is_next() {
        let (mut outbox, mut encoder) = (Outbox::default(), encoder(Codec::None));
        outbox.push(&mut encoder, HERE, &batch(&[600_000, 500_000, 300_000]), 0..3, limit(1 << 20)).expect("pushed");
        outbox.flush(&mut encoder).expect("flushed");
        let bytes = outbox.bytes();
        let first = outbox.pop(HERE).expect("one");
        outbox.put_back(HERE, first);
        assert_eq!(outbox.bytes(), bytes);
        assert_eq!(sent(&mut outbox, HERE), [1, 2]);
    }
}
