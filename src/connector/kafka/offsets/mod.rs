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
    /// Append the records that say this. It may take several: those before the last say that they are about no offsets, so that nothing counts as known before the last one
    /// is there.
    pub(super) fn write(&self, of: &TopicPartition, now_ms: i64, out: &mut BatchBuilder) {
        let key = key(of);
        let mut record = Written::new(self);
        for (partition, stretches) in &self.targets {
            let mut rest = &stretches[..];
            while !rest.is_empty() {
                let taken = record.push(partition, rest);
                rest = &rest[taken..];
                if !rest.is_empty() {
                    let full = std::mem::replace(&mut record, Written::new(self));
                    out.push(0, now_ms, Some(key.as_bytes()), Some(&full.finish(self.range.start)), std::iter::empty());
                }
            }
        }
        out.push(0, now_ms, Some(key.as_bytes()), Some(&record.finish(self.range.end)), std::iter::empty());
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

/// A record that is being written. All numbers are of variable length (zigzag): version, epoch, first source offset, number of source offsets; then for each partition of
/// the target: the length of its topic's name, the name, its number, the number of stretches, and of each stretch how far it begins behind the end of the one before
/// (behind 0 if it is the first) in the source and in the target, and its number of records.
struct Written {
    epoch: u64,
    start: i64,
    bytes: Vec<u8>,
}

impl Written {
    fn new(of: &Copies) -> Self {
        Self { epoch: of.epoch, start: of.range.start, bytes: Vec::new() }
    }

    /// Append as many stretches as there is room for; one at least, if the record is empty. Answers how many.
    fn push(&mut self, partition: &TopicPartition, stretches: &[Stretch]) -> usize {
        let mut body = Vec::new();
        let (mut source, mut target, mut taken) = (0, 0, 0);
        for stretch in stretches {
            varint::put(&mut body, stretch.source - source);
            varint::put(&mut body, stretch.target - target);
            varint::put(&mut body, stretch.records);
            (source, target) = (stretch.end(), stretch.target + stretch.records);
            taken += 1;
            if self.bytes.len() + body.len() > RECORD_BYTES {
                break;
            }
        }
        varint::put(&mut self.bytes, partition.topic.len() as i64);
        self.bytes.extend_from_slice(partition.topic.as_bytes());
        varint::put(&mut self.bytes, partition.partition.into());
        varint::put(&mut self.bytes, taken as i64);
        self.bytes.extend_from_slice(&body);
        taken
    }

    /// The value, about the source offsets before `end`.
    fn finish(self, end: i64) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.bytes.len() + 24);
        for number in [VERSION, self.epoch as i64, self.start, end - self.start] {
            varint::put(&mut value, number);
        }
        value.extend_from_slice(&self.bytes);
        value
    }
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

    #[test]
    fn what_does_not_fit_in_a_record_is_known_when_the_last_one_is_there() {
        let stretch = |number: i64| Stretch { source: number * 3, target: number * 2, records: 1 };
        let stretches: Vec<_> = (0..400_000).map(stretch).collect();
        let copies = Copies {
            epoch: 0,
            range: 0..2_000_000,
            targets: [(place(0), stretches.clone()), (place(1), vec![stretch(9)])].into(),
        };
        let read: Vec<_> = written(&copies).iter().map(|bytes| Copies::read(bytes).expect("readable")).collect();
        assert!(read.len() > 2, "{}", read.len());
        let (last, before) = read.split_last().expect("some");
        assert!(before.iter().all(|copies| copies.range == (0..0)));
        assert_eq!(last.range, 0..2_000_000);
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
