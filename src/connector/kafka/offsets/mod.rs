//! Where the records of a source partition are in the target: kept so that consumer groups can be moved there.
//!
//! With each commit a lane writes, in the same transaction and behind all answers of the brokers, the [`Stretch`]es that it has copied. They say it exactly: records that a
//! filter dropped and those that a transform split in two are seen by what is missing between stretches, or is there twice. Older ones are deleted by the
//! cluster; what lies before the oldest is not known any more.
//!
//! Records of another key say nothing: a transaction writes one when it begins, so that the partition has joined it by then.
//!
//! Reading order: this file (what is written), [`index`] (how it is found again).

mod index;

use std::collections::BTreeMap;
use std::ops::Range;

pub(super) use self::index::Index;
use super::records::varint;
use crate::model::{BatchBuilder, TopicPartition};

/// The version of [`Copies`]' encoding.
const VERSION: i64 = 1;

/// How many bytes a record of ours has at most: about half of what brokers take by default.
///
/// A single source record that went to several thousand partitions is all that does not fit.
const RECORD_BYTES: usize = 400_000;

/// Records of a source partition with consecutive offsets, which have consecutive offsets in a partition of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first offset in the source.
    pub(super) source: i64,
    /// The first offset in the target.
    pub(super) target: i64,
    /// The number of records; more than 0.
    pub(super) records: i64,
}

impl Stretch {
    /// The source offset behind the last record.
    pub(super) fn end(self) -> i64 {
        self.source + self.records
    }

    /// The records before the source offset `cut`, and the others.
    fn split(self, cut: i64) -> (Option<Self>, Option<Self>) {
        let before = (cut - self.source).clamp(0, self.records);
        let (source, target) = (self.source + before, self.target + before);
        let first = Self { records: before, ..self };
        let second = Self { source, target, records: self.records - before };
        (Some(first).filter(|it| it.records > 0), Some(second).filter(|it| it.records > 0))
    }
}

/// What a commit has copied of a source partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// The link epoch: a reset begins a new one, and with it source offsets may come again.
    pub(super) epoch: u64,
    /// The source offsets that this is about, from the first one to before the last one: all that is copied of them is here.
    pub(super) range: Range<i64>,
    /// The stretches in each partition of the target, in their order there.
    pub(super) targets: BTreeMap<TopicPartition, Vec<Stretch>>,
}

/// The key of records about a source partition.
fn key(partition: &TopicPartition) -> String {
    format!("{}/{}", partition.topic, partition.partition)
}

/// The source partition that a key names.
pub(super) fn partition_of(key: &[u8]) -> Option<TopicPartition> {
    let (topic, partition) = std::str::from_utf8(key).ok()?.rsplit_once('/')?;
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

impl Copies {
    /// Append the records that say this. Where it is too much for one, each of several is about source
    /// offsets of its own, and has all that was copied of them: the cluster may delete some and leave
    /// the rest, and what is left says nothing about the others.
    pub(super) fn write(&self, of: &TopicPartition, now_ms: i64, out: &mut BatchBuilder) {
        self.write_within(RECORD_BYTES, key(of).as_bytes(), now_ms, out);
    }

    fn write_within(&self, bytes_max: usize, key: &[u8], now_ms: i64, out: &mut BatchBuilder) {
        let value = self.value();
        if value.len() <= bytes_max {
            out.push(0, now_ms, Some(key), Some(&value), std::iter::empty());
            return;
        }
        if let Some(cut) = self.middle() {
            let (before, behind) = self.split(cut);
            before.write_within(bytes_max, key, now_ms, out);
            behind.write_within(bytes_max, key, now_ms, out);
            return;
        }
        // So many places of a single source record do not fit. Only the first and the last one in each
        // partition are ever looked for.
        let outermost = self.outermost();
        let value = outermost.value();
        if value.len() <= bytes_max {
            out.push(0, now_ms, Some(key), Some(&value), std::iter::empty());
            return;
        }
        // A record in so many partitions is not known to the index. That its source partition feeds
        // them is, and up to where it was copied.
        let Range { start, end } = self.range;
        outermost.write_targets(bytes_max, start, |value| {
            out.push(0, now_ms, Some(key), Some(value), std::iter::empty());
        });
        let end = Self { epoch: self.epoch, range: end..end, targets: BTreeMap::new() };
        out.push(0, now_ms, Some(key), Some(&end.value()), std::iter::empty());
    }

    /// Write the stretches as said of no source offset, in as many records as it takes.
    fn write_targets(&self, bytes_max: usize, start: i64, mut push: impl FnMut(&[u8])) {
        let new = || Self { epoch: self.epoch, range: start..start, targets: BTreeMap::new() };
        let mut part = new();
        for (target, stretches) in &self.targets {
            part.targets.insert(target.clone(), stretches.clone());
            if part.targets.len() > 1 && part.value().len() > bytes_max {
                part.targets.remove(target);
                push(&part.value());
                part = new();
                part.targets.insert(target.clone(), stretches.clone());
            }
        }
        push(&part.value());
    }

    /// Where to cut this in two, so that each part has fewer stretches; `None`: it is about one source
    /// offset, or none.
    fn middle(&self) -> Option<i64> {
        if self.range.end - self.range.start < 2 {
            return None;
        }
        let largest = self.targets.values().max_by_key(|stretches| stretches.len());
        let middle = largest.and_then(|stretches| stretches.get(stretches.len() / 2));
        let middle = middle.map_or(self.range.start, |stretch| stretch.source);
        Some(middle.clamp(self.range.start + 1, self.range.end - 1))
    }

    /// What this says about the source offsets before `cut`, and about the others.
    fn split(&self, cut: i64) -> (Self, Self) {
        let part = |range: Range<i64>| Self { epoch: self.epoch, range, targets: BTreeMap::new() };
        let (mut before, mut behind) = (part(self.range.start..cut), part(cut..self.range.end));
        for (target, stretches) in &self.targets {
            for stretch in stretches {
                let (first, second) = stretch.split(cut);
                let parts = [(&mut before, first), (&mut behind, second)];
                for (part, stretch) in parts.into_iter().filter_map(|(part, stretch)| Some((part, stretch?))) {
                    part.targets.entry(target.clone()).or_default().push(stretch);
                }
            }
        }
        (before, behind)
    }

    /// This with only the first and the last stretch in each partition of the target.
    fn outermost(&self) -> Self {
        let ends = |stretches: &Vec<Stretch>| match stretches[..] {
            [first, .., last] => vec![first, last],
            _ => stretches.clone(),
        };
        let targets = self.targets.iter().map(|(target, stretches)| (target.clone(), ends(stretches)));
        Self { targets: targets.collect(), ..self.clone() }
    }

    /// The value of a record that says this. All numbers are of variable length (zigzag): version, epoch,
    /// first source offset, number of source offsets; then for each partition of the target: the length
    /// of its topic's name, the name, its number, the number of stretches, and of each stretch how far
    /// it begins behind the end of the one before (behind 0 if it is the first) in the source and in
    /// the target, and its number of records.
    fn value(&self) -> Vec<u8> {
        let mut value = Vec::new();
        for number in [VERSION, self.epoch as i64, self.range.start, self.range.end - self.range.start] {
            varint::put(&mut value, number);
        }
        for (partition, stretches) in &self.targets {
            varint::put(&mut value, partition.topic.len() as i64);
            value.extend_from_slice(partition.topic.as_bytes());
            varint::put(&mut value, partition.partition.into());
            varint::put(&mut value, stretches.len() as i64);
            let (mut source, mut target) = (0, 0);
            for stretch in stretches {
                varint::put(&mut value, stretch.source - source);
                varint::put(&mut value, stretch.target - target);
                varint::put(&mut value, stretch.records);
                (source, target) = (stretch.end(), stretch.target + stretch.records);
            }
        }
        value
    }

    /// Read the value of a record. `None`: it is not one of these.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let mut next = || varint::take(bytes, &mut at);
        if next()? != VERSION {
            return None;
        }
        let (epoch, start, length) = (next()?, next()?, next()?);
        let range = start..start.checked_add(length).filter(|end| *end >= start)?;
        let mut targets: BTreeMap<TopicPartition, Vec<Stretch>> = BTreeMap::new();
        while at < bytes.len() {
            let length = usize::try_from(varint::take(bytes, &mut at)?).ok()?;
            let topic = std::str::from_utf8(bytes.get(at..at.checked_add(length)?)?).ok()?;
            at += length;
            let partition = u32::try_from(varint::take(bytes, &mut at)?).ok()?;
            let stretches = targets.entry(TopicPartition::new(topic, partition)).or_default();
            read_stretches(bytes, &mut at, stretches)?;
        }
        Some(Self { epoch: u64::try_from(epoch).ok()?, range, targets })
    }
}

fn read_stretches(bytes: &[u8], at: &mut usize, stretches: &mut Vec<Stretch>) -> Option<()> {
    let (mut source, mut target) = (0_i64, 0_i64);
    for _ in 0..varint::take(bytes, at)? {
        source = source.checked_add(varint::take(bytes, at)?)?;
        target = target.checked_add(varint::take(bytes, at)?)?;
        let records = varint::take(bytes, at).filter(|records| *records > 0)?;
        stretches.push(Stretch { source, target, records });
        source = source.checked_add(records)?;
        target = target.checked_add(records)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(partition: u32) -> TopicPartition {
        TopicPartition::new("out", partition)
    }

    fn written(copies: &Copies) -> Vec<Vec<u8>> {
        let mut builder = BatchBuilder::new();
        copies.write(&TopicPartition::new("in", 7), 0, &mut builder);
        let batch = builder.finish("", 0);
        batch
            .records()
            .map(|record| {
                assert_eq!(partition_of(record.key().expect("a key")), Some(TopicPartition::new("in", 7)));
                record.value().expect("a value").to_vec()
            })
            .collect()
    }

    #[test]
    fn version_1_is_what_it_was() {
        let copies = Copies {
            epoch: 2,
            range: 10..20,
            targets: [(
                place(3),
                vec![
                    Stretch { source: 10, target: 100, records: 4 },
                    // A record was dropped, one was split, and a marker is in between.
                    Stretch { source: 15, target: 104, records: 1 },
                    Stretch { source: 15, target: 106, records: 5 },
                ],
            )]
            .into(),
        };
        let bytes = [2, 4, 20, 20, 6, b'o', b'u', b't', 6, 6, 20, 200, 1, 8, 2, 0, 2, 1, 2, 10];
        assert_eq!(written(&copies), [bytes]);
        assert_eq!(Copies::read(&bytes), Some(copies));
    }

    /// Of all that records say, stretch by stretch, where the first record at or behind an offset is.
    fn place_of<'a>(copies: impl IntoIterator<Item = &'a Copies>, to: &TopicPartition, offset: i64) -> Option<i64> {
        let stretches = copies.into_iter().flat_map(|copies| copies.targets.get(to).into_iter().flatten());
        let mut reaches = stretches.filter(|stretch| stretch.end() > offset);
        reaches.next().map(|stretch| stretch.target + (offset - stretch.source).max(0))
    }

    fn read(copies: &Copies, bytes_max: usize) -> Vec<Copies> {
        let mut builder = BatchBuilder::new();
        copies.write_within(bytes_max, b"in/7", 0, &mut builder);
        let batch = builder.finish("", 0);
        let values = batch.records().map(|record| record.value().expect("a value").to_vec());
        let values = values.inspect(|value| assert!(value.len() <= bytes_max, "{} bytes", value.len()));
        values.map(|value| Copies::read(&value).expect("readable")).collect()
    }

    /// What a link may have copied: records of consecutive source offsets, each to some partitions.
    fn copies(records: &[Vec<u32>], start: i64) -> Copies {
        let mut targets: BTreeMap<TopicPartition, Vec<Stretch>> = BTreeMap::new();
        let mut ends: BTreeMap<u32, i64> = BTreeMap::new();
        for (source, outputs) in (start..).zip(records) {
            for to in outputs {
                let end = ends.entry(*to).or_default();
                let stretches = targets.entry(place(*to)).or_default();
                match stretches.last_mut() {
                    Some(last) if last.end() == source && last.target + last.records == *end => last.records += 1,
                    _ => stretches.push(Stretch { source, target: *end, records: 1 }),
                }
                *end += 1;
            }
        }
        Copies { epoch: 3, range: start..start + records.len() as i64, targets }
    }

    proptest! {
        #[test]
        fn each_of_several_records_is_whole_for_offsets_of_its_own(
            records in prop::collection::vec(prop::collection::vec(0..3_u32, 0..4), 1..60),
            start in 0..1_000_i64, bytes_max in 80..200_usize,
        ) {
            let all = copies(&records, start);
            let parts = read(&all, bytes_max);
            let ranges: Vec<_> = parts.iter().map(|part| part.range.clone()).collect();
            prop_assert_eq!(ranges.first().map(|range| range.start), Some(all.range.start));
            prop_assert_eq!(ranges.last().map(|range| range.end), Some(all.range.end));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{:?}", ranges);
            for (number, part) in parts.iter().enumerate() {
                prop_assert_eq!(part.epoch, 3);
                for stretch in part.targets.values().flatten() {
                    prop_assert!(part.range.start <= stretch.source && stretch.end() <= part.range.end, "{:?}", part);
                }
                // What is left after the records before it are gone is as good as all.
                for offset in part.range.clone() {
                    for to in (0..3).map(place) {
                        prop_assert_eq!(place_of(&parts[number..], &to, offset), place_of([&all], &to, offset));
                    }
                }
            }
        }
    }

    #[test]
    fn a_record_that_went_to_too_many_places_is_said_by_the_first_and_the_last_one_in_each_partition() {
        let parts = read(&copies(&[vec![0; 400], vec![0]], 5), 100);
        assert_eq!(parts.iter().map(|part| part.range.clone()).collect::<Vec<_>>(), [5..6, 6..7]);
        let ends = parts[0].targets[&place(0)].iter().map(|stretch| stretch.target).collect::<Vec<_>>();
        assert_eq!(ends, [0, 399]);
        assert_eq!((place_of(&parts, &place(0), 5), place_of(&parts, &place(0), 6)), (Some(0), Some(400)));
    }

    #[test]
    fn a_record_that_went_to_too_many_partitions_is_not_known_but_all_that_it_feeds_is() {
        let parts = read(&copies(&[vec![0], (0..200).collect(), vec![0]], 5), 100);
        let ranges: Vec<_> = parts.iter().map(|part| part.range.clone()).collect();
        let (first, rest) = ranges.split_first().expect("some");
        let (rest, [end, last]) = rest.split_at(rest.len() - 2) else { panic!("{ranges:?}") };
        assert_eq!((first, end, last), (&(5..6), &(7..7), &(7..8)));
        assert!(rest.len() > 5 && rest.iter().all(|range| *range == (6..6)), "{rest:?}");
        let fed: std::collections::BTreeSet<_> = parts.iter().flat_map(|part| part.targets.keys()).collect();
        assert_eq!(fed.len(), 200);
    }

    #[test]
    fn what_does_not_fit_in_a_record_is_cut_by_source_offsets() {
        let stretch = |number: i64| Stretch { source: number * 3, target: number * 2, records: 1 };
        let stretches: Vec<_> = (0..400_000).map(stretch).collect();
        let copies = Copies {
            epoch: 0,
            range: 0..2_000_000,
            targets: [(place(0), stretches.clone()), (place(1), vec![stretch(9)])].into(),
        };
        let read: Vec<_> = written(&copies).iter().map(|bytes| Copies::read(bytes).expect("readable")).collect();
        assert!(read.len() > 2, "{}", read.len());
        assert!(read.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
        assert_eq!((read[0].range.start, read[read.len() - 1].range.end), (0, 2_000_000));
        let all: Vec<_> =
            read.iter().flat_map(|copies| copies.targets.get(&place(0)).cloned().unwrap_or_default()).collect();
        assert!(all == stretches);
    }

    #[test]
    fn a_partition_of_which_nothing_was_copied_is_known_too() {
        let copies = Copies { epoch: 0, range: 5..9, targets: BTreeMap::new() };
        assert_eq!(written(&copies).iter().map(|bytes| Copies::read(bytes)).collect::<Vec<_>>(), [Some(copies)]);
    }

    proptest! {
        #[test]
        fn anything_else_is_refused_and_does_no_harm(bytes in any::<Vec<u8>>()) {
            let _ = (Copies::read(&bytes), partition_of(&bytes));
        }
    }
}
