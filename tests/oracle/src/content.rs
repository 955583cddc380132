//! What a topic holds, and how two differ.

use std::collections::BTreeMap;

use crate::{Record, Result};

/// What a consumer with `read_committed` sees of a topic: the records of each partition, in order. A partition without any is there too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(pub BTreeMap<i32, Vec<Placed>>);

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// In its partition.
    pub offset: i64,
    /// The record.
    pub record: Record,
}

impl Content {
    /// How many records all partitions have together.
    pub fn records(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What a target must hold if a link makes these records of each record.
    pub fn map(&self, pipeline: impl Fn(&Record) -> Vec<Record>) -> Self {
        let of_one = |Placed { offset, record }: &Placed| {
            let offset = *offset;
            pipeline(record).into_iter().map(move |record| Placed { offset, record })
        };
        let partitions = self.0.iter();
        Self(partitions.map(|(number, records)| (*number, records.iter().flat_map(of_one).collect())).collect())
    }
}

/// Whether the target holds exactly what is expected, record by record in each partition: key, value, headers, timestamp, order. Offsets may differ.
///
/// Errors: the first difference, in words.
pub fn compare(expected: &Content, target: &Content) -> Result<()> {
    let numbers = |content: &Content| content.0.keys().copied().collect::<Vec<_>>();
    if numbers(expected) != numbers(target) {
        return Err(format!("the source has partitions {:?}, the target {:?}", numbers(expected), numbers(target)));
    }
    let partitions = expected.0.iter().zip(target.0.values());
    partitions.into_iter().try_for_each(|((number, expected), target)| compare_partition(*number, expected, target))
}

fn compare_partition(number: i32, expected: &[Placed], target: &[Placed]) -> Result<()> {
    let same = |(one, other): &(&Placed, &Placed)| one.record == other.record;
    let index = expected.iter().zip(target).take_while(same).count();
    if index == expected.len() && index == target.len() {
        return Ok(());
    }
    let side = |records: &[Placed]| match records.get(index) {
        Some(Placed { offset, record }) => format!("offset {offset}: {record}"),
        None => "nothing more".to_owned(),
    };
    Err(format!(
        "partition {number}, record {index}{}\n  expected ({} records) {}\n  target   ({} records) {}",
        guess(index, expected, target),
        expected.len(),
        side(expected),
        target.len(),
        side(target)
    ))
}

/// What probably happened, for whoever reads the difference.
fn guess(index: usize, expected: &[Placed], target: &[Placed]) -> &'static str {
    let has = |records: &[Placed], one: &Placed| records.iter().any(|placed| placed.record == one.record);
    let (wanted, found) = match (expected.get(index), target.get(index)) {
        (Some(wanted), Some(found)) => (wanted, found),
        (Some(_), None) => return ": the end is missing",
        _ => return ": there is too much at the end",
    };
    if has(&target[..index], found) {
        return ": one is doubled";
    }
    match (has(&target[index..], wanted), has(&expected[index..], found)) {
        (true, true) => ": the order differs",
        (true, false) => ": one is there that should not be",
        (false, true) => ": one is lost",
        (false, false) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(numbers: &[u64]) -> Content {
        let place = |(offset, number): (usize, &u64)| Placed {
            offset: i64::try_from(offset).expect("a small one"),
            record: Record::generate(1, *number, 1).1,
        };
        Content([(0, numbers.iter().enumerate().map(place).collect())].into())
    }

    #[track_caller]
    fn check(target: &[u64], says: &str) {
        let difference = compare(&content(&[1, 2, 3, 4]), &content(target)).expect_err("a difference");
        assert!(difference.contains(says), "{difference}");
    }

    #[test]
    fn the_first_difference_is_said_in_words() {
        assert_eq!(compare(&content(&[1, 2, 3, 4]), &content(&[1, 2, 3, 4])), Ok(()));
        check(&[1, 2, 2, 3, 4], "partition 0, record 2: one is doubled");
        check(&[1, 2, 9, 3, 4], "record 2: one is there that should not be");
        check(&[1, 3, 4], "record 1: one is lost");
        check(&[1, 3, 2, 4], "record 1: the order differs");
        check(&[1, 2, 3], "record 3: the end is missing");
        check(&[1, 2, 3, 4, 1], "record 4: there is too much at the end");
        check(&[1, 2, 9, 4], "record 2\n");
    }

    #[test]
    fn partitions_must_be_the_same_even_if_they_are_empty() {
        let mut target = content(&[1]);
        target.0.insert(1, Vec::new());
        let difference = compare(&content(&[1]), &target).expect_err("a difference");
        assert_eq!(difference, "the source has partitions [0], the target [0, 1]");
    }

    #[test]
    fn what_a_pipeline_does_is_expected() {
        let twice = |record: &Record| vec![record.clone(), record.clone()];
        assert_eq!(compare(&content(&[1, 2]).map(twice), &content(&[1, 1, 2, 2])), Ok(()));
        assert_eq!(compare(&content(&[1, 2]).map(|_| Vec::new()), &content(&[])), Ok(()));
    }
}
