//! Where the records of a lane went: what is on its way, by partition of the target, and what brokers have acknowledged.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::outbox::Place;
use crate::connector::kafka::offsets::{Copies, Stretch};
use crate::model::TopicPartition;

/// The records of a lane between [`Ledger::wrote`] and [`Ledger::take`].
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sources: Vec<TopicPartition>,
    numbers: HashMap<TopicPartition, usize>,
    tails: HashMap<Place, Tail>,
    /// What was acknowledged since it was taken last, by source partition.
    known: BTreeMap<(usize, Place), Vec<Stretch>>,
    /// Up to where it was said of source partitions what was copied.
    told: HashMap<TopicPartition, i64>,
}

/// Where a partition of the target ends, as far as is known.
#[derive(Debug, Default)]
struct Tail {
    /// Where it ended behind our last record that was acknowledged; 0 before there is one.
    known: i64,
    /// The records since then.
    unacknowledged: i64,
    /// Where they come from, in order.
    pending: VecDeque<Pending>,
}

/// Records with consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    /// The number of their source partition.
    of: usize,
    source: i64,
    records: i64,
}

impl Ledger {
    /// The number of a source partition, for [`Ledger::wrote`].
    pub(super) fn number(&mut self, of: &TopicPartition) -> usize {
        if let Some(number) = self.numbers.get(of) {
            return *number;
        }
        self.sources.push(of.clone());
        self.numbers.insert(of.clone(), self.sources.len() - 1);
        self.sources.len() - 1
    }

    /// Records with these offsets, of a source partition, are on their way.
    pub(super) fn wrote(&mut self, of: usize, place: Place, offsets: impl IntoIterator<Item = i64>) {
        let tail = self.tails.entry(place).or_default();
        let mut open: Option<Pending> = None;
        for source in offsets {
            tail.unacknowledged += 1;
            match &mut open {
                Some(open) if open.source + open.records == source => open.records += 1,
                open => {
                    open.replace(Pending { of, source, records: 1 }).into_iter().for_each(|done| tail.append(done));
                }
            }
        }
        open.into_iter().for_each(|done| tail.append(done));
    }

    /// The same for records whose offsets follow each other.
    pub(super) fn passed(&mut self, of: usize, place: Place, source: i64, records: i64) {
        let tail = self.tails.entry(place).or_default();
        tail.unacknowledged += records;
        tail.append(Pending { of, source, records });
    }

    /// The first `records` records that are on their way to a partition are there, from offset `base` on.
    pub(super) fn acknowledged(&mut self, place: Place, base: i64, records: i64) {
        let tail = self.tails.entry(place).or_default();
        tail.unacknowledged -= records;
        tail.known = base + records;
        let (mut target, mut left) = (base, records);
        while left > 0 {
            let Some(first) = tail.pending.front_mut() else { return };
            let count = first.records.min(left);
            let (of, source) = (first.of, first.source);
            first.source += count;
            first.records -= count;
            if first.records == 0 {
                tail.pending.pop_front();
            }
            let stretches = self.known.entry((of, place)).or_default();
            match stretches.last_mut() {
                Some(last) if last.end() == source && last.target + last.records == target => last.records += count,
                _ => stretches.push(Stretch { source, target, records: count }),
            }
            target += count;
            left -= count;
        }
    }

    /// Where a partition ends at least, all that is on its way counted.
    pub(super) fn end(&self, place: Place) -> i64 {
        self.tails.get(&place).map_or(0, |tail| tail.known + tail.unacknowledged)
    }

    /// What was copied of a source partition is told up to this offset.
    pub(super) fn told(&mut self, of: &TopicPartition, offset: i64) {
        self.told.insert(of.clone(), offset);
    }

    /// What was copied of a source partition since it was told last, up to the offset `next`. `begin` is where the link begins with it, if it does now.
    pub(super) fn take(
        &mut self,
        of: &TopicPartition,
        (begin, next): (Option<i64>, i64),
        epoch: u64,
        name: impl Fn(Place) -> TopicPartition,
    ) -> Copies {
        let start = self.told.insert(of.clone(), next).or(begin).unwrap_or(next);
        let number = self.number(of);
        let all = (number, (0, 0))..=(number, (usize::MAX, u32::MAX));
        let places: Vec<Place> = self.known.range(all).map(|((_, place), _)| *place).collect();
        let stretches = |place| Some((name(place), self.known.remove(&(number, place))?));
        Copies { epoch, range: start..next, targets: places.into_iter().filter_map(stretches).collect() }
    }

    /// Nobody wants to know of what was acknowledged and not taken: no checkpoint stands for it.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

impl Tail {
    fn append(&mut self, pending: Pending) {
        match self.pending.back_mut() {
            Some(last) if last.of == pending.of && last.source + last.records == pending.source => {
                last.records += pending.records;
            }
            _ => self.pending.push_back(pending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(partition: u32) -> TopicPartition {
        TopicPartition::new("in", partition)
    }

    fn name(place: Place) -> TopicPartition {
        TopicPartition::new(["out", "other"][place.0], place.1)
    }

    fn stretch(source: i64, target: i64, records: i64) -> Stretch {
        Stretch { source, target, records }
    }

    #[test]
    fn holes_and_splits_are_seen_and_the_rest_is_one_stretch() {
        let mut ledger = Ledger::default();
        let of = ledger.number(&source(0));
        ledger.wrote(of, (0, 0), [0, 1, 2, 4, 5]);
        ledger.wrote(of, (0, 0), [6, 6, 7]);
        ledger.passed(of, (0, 0), 8, 10);
        // The broker takes them in two parts, with a marker between.
        ledger.acknowledged((0, 0), 100, 6);
        ledger.acknowledged((0, 0), 107, 12);
        let copies = ledger.take(&source(0), (Some(0), 18), 3, name);
        assert_eq!((copies.epoch, copies.range), (3, 0..18));
        let expected = vec![stretch(0, 100, 3), stretch(4, 103, 3), stretch(6, 107, 12)];
        assert_eq!(copies.targets, [(name((0, 0)), expected)].into());
        assert_eq!(ledger.end((0, 0)), 119);
    }

    #[test]
    fn what_is_on_its_way_is_told_when_it_is_there() {
        let mut ledger = Ledger::default();
        let (one, two) = (ledger.number(&source(0)), ledger.number(&source(1)));
        ledger.wrote(one, (0, 0), 0..3);
        ledger.wrote(two, (0, 0), 50..52);
        ledger.wrote(one, (1, 4), 3..4);
        // Written while the first ones are being committed.
        ledger.wrote(one, (0, 0), 4..6);
        ledger.acknowledged((0, 0), 10, 5);
        ledger.acknowledged((1, 4), 7, 1);
        assert_eq!(ledger.end((0, 0)), 17);
        let copies = ledger.take(&source(0), (Some(0), 4), 0, name);
        let expected = [(name((0, 0)), vec![stretch(0, 10, 3)]), (name((1, 4)), vec![stretch(3, 7, 1)])];
        assert_eq!((copies.range, copies.targets), (0..4, expected.into()));
        ledger.acknowledged((0, 0), 16, 2);
        let copies = ledger.take(&source(0), (None, 9), 0, name);
        assert_eq!((copies.range, copies.targets), (4..9, [(name((0, 0)), vec![stretch(4, 16, 2)])].into()));
        let copies = ledger.take(&source(1), (None, 60), 0, name);
        assert_eq!(copies.range, 60..60, "nobody knows where it began");
        assert_eq!(copies.targets, [(name((0, 0)), vec![stretch(50, 13, 2)])].into());
    }

    #[test]
    fn records_of_our_own_are_not_told() {
        let mut ledger = Ledger::default();
        ledger.acknowledged((0, 0), 5, 2);
        assert_eq!(ledger.take(&source(0), (None, 1), 0, name).targets, BTreeMap::new());
    }
}
