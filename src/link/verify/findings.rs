//! Makes differences of what is missing and what is too much: two that belong together are one difference.

use std::collections::HashMap;
use std::fmt;

use super::print::{Line, Preview, Print};
use super::sheet::{Extra, Lost};
use crate::model::TopicPartition;

/// How far apart what is missing and what stands for it may be, in gaps of the target partition.
const GAPS_APART_MAX: usize = 16;

/// What may be the cause of a record that no source record becomes.
const UNEXPECTED: &str =
    "no source record becomes it: another link or producer may have written it, or another configuration of this link";

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// It is not in the target.
    Missing,
    /// It is in the target, and should not be.
    Unexpected,
    /// It is in the target once more than it should be.
    Doubled,
    /// Something about it is different.
    Different,
    /// It is at another place among the others than it should be.
    OutOfOrder,
}

impl DifferenceKind {
    /// All kinds, by their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("missing", Self::Missing),
        ("unexpected", Self::Unexpected),
        ("doubled", Self::Doubled),
        ("different", Self::Different),
        ("out-of-order", Self::OutOfOrder),
    ];
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name))
    }
}

/// A record that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is wrong.
    pub kind: DifferenceKind,
    /// The parts that differ: key, value, header, timestamp, partition.
    pub parts: Vec<&'static str>,
    /// The source record that should have become it, if it is known.
    pub source: Option<(TopicPartition, i64)>,
    /// Where it is in the target; without an offset where it should be.
    pub target: (TopicPartition, Option<i64>),
    /// The beginning of the value that it should have.
    pub expected: Option<String>,
    /// The beginning of the value that it has.
    pub found: Option<String>,
    /// What else is known: which other revision would make of the source record what was found, or what may be the cause.
    pub note: Option<String>,
}

/// A record that may have gone to the target, or, because the target did not take it, to the dead letters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Either {
    pub(super) record: Print,
    pub(super) letter: Print,
}

/// Everything that is missing or too much, of all target partitions.
#[derive(Debug, Default)]
pub(super) struct Findings {
    lost: Vec<(TopicPartition, Lost)>,
    extra: Vec<(TopicPartition, Extra)>,
}

/// A difference with what it was found by.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) difference: Difference,
    /// The record in the target, if there is one.
    pub(super) print: Option<Print>,
}

impl Findings {
    pub(super) fn add(&mut self, partition: &TopicPartition, lost: Vec<Lost>, extra: Vec<Extra>) {
        self.lost.extend(lost.into_iter().map(|lost| (partition.clone(), lost)));
        self.extra.extend(extra.into_iter().map(|extra| (partition.clone(), extra)));
    }

    pub(super) fn len(&self) -> usize {
        self.lost.len() + self.extra.len()
    }

    /// All differences, by place in the target. `feeds` are the source partitions.
    pub(super) fn resolve(mut self, feeds: &[TopicPartition], either: &[Either]) -> Vec<Found> {
        let mut found = Vec::new();
        self.drop_letters_instead(either);
        self.pair(
            |lost, extra| lost.1.line.print == extra.1.line.print && lost.0 == extra.0,
            |lost, extra| {
                found.push(pair(DifferenceKind::OutOfOrder, Vec::new(), &lost, &extra, feeds));
            },
        );
        self.pair(
            |lost, extra| lost.1.line.print == extra.1.line.print,
            |lost, extra| {
                found.push(pair(DifferenceKind::Different, vec!["partition"], &lost, &extra, feeds));
            },
        );
        self.pair_changed(|lost, extra| {
            let parts = lost.1.line.print.differs(&extra.1.line.print);
            found.push(pair(DifferenceKind::Different, parts, &lost, &extra, feeds));
        });
        found.extend(self.lost.iter().map(|lost| missing(lost, feeds)));
        found.extend(self.extra.iter().map(unexpected));
        let place = |found: &Found| {
            let Difference { kind, source, target, .. } = &found.difference;
            (target.0.clone(), target.1.unwrap_or(i64::MAX), source.as_ref().map(|source| source.1), *kind)
        };
        found.sort_by_cached_key(place);
        found
    }

    /// A record is not missing if the letter is there that was written instead.
    fn drop_letters_instead(&mut self, either: &[Either]) {
        for Either { record, letter } in either {
            let lost = self.lost.iter().position(|(_, lost)| lost.line.print == *record);
            let extra = self.extra.iter().position(|(_, extra)| extra.line.print == *letter);
            if let (Some(lost), Some(extra)) = (lost, extra) {
                self.lost.remove(lost);
                self.extra.remove(extra);
            }
        }
    }

    /// Take out all pairs of equal records for which `belong` holds, in order.
    fn pair(
        &mut self,
        belong: impl Fn(&(TopicPartition, Lost), &(TopicPartition, Extra)) -> bool,
        mut each: impl FnMut((TopicPartition, Lost), (TopicPartition, Extra)),
    ) {
        let mut extras: HashMap<Print, Vec<(TopicPartition, Extra)>> = HashMap::new();
        for extra in std::mem::take(&mut self.extra) {
            extras.entry(extra.1.line.print).or_default().push(extra);
        }
        for lost in std::mem::take(&mut self.lost) {
            let equal = extras.get_mut(&lost.1.line.print);
            let found = equal.and_then(|equal| {
                let index = equal.iter().position(|extra| belong(&lost, extra))?;
                Some(equal.remove(index))
            });
            match found {
                Some(extra) => each(lost, extra),
                None => self.lost.push(lost),
            }
        }
        self.extra = extras.into_values().flatten().collect();
        self.extra.sort_by(|a, b| (&a.0, a.1.line.offset).cmp(&(&b.0, b.1.line.offset)));
    }

    /// Take out each missing record with the one nearby that resembles it most.
    fn pair_changed(&mut self, mut each: impl FnMut((TopicPartition, Lost), (TopicPartition, Extra))) {
        let mut by_gap: HashMap<(TopicPartition, usize), Vec<Extra>> = HashMap::new();
        for (partition, extra) in std::mem::take(&mut self.extra) {
            by_gap.entry((partition, extra.gap)).or_default().push(extra);
        }
        for (partition, lost) in std::mem::take(&mut self.lost) {
            let near = lost.gap.saturating_sub(GAPS_APART_MAX)..=lost.gap + GAPS_APART_MAX;
            let candidates = near.filter_map(|gap| Some((gap, by_gap.get(&(partition.clone(), gap))?)));
            let candidates = candidates
                .flat_map(|(gap, extras)| extras.iter().enumerate().map(move |(index, extra)| (gap, index, extra)));
            // One that is there twice stands for nothing that is missing.
            let alike = candidates.filter(|(_, _, extra)| !extra.again && lost.line.print.resembles(&extra.line.print));
            let best = alike.min_by_key(|(gap, index, extra)| {
                (lost.line.print.differs(&extra.line.print).len(), gap.abs_diff(lost.gap), *index)
            });
            let taken = best.map(|(gap, index, _)| (gap, index));
            let extra = taken.and_then(|(gap, index)| Some(by_gap.get_mut(&(partition.clone(), gap))?.remove(index)));
            match extra {
                Some(extra) => each((partition.clone(), lost), (partition, extra)),
                None => self.lost.push((partition, lost)),
            }
        }
        let left = by_gap
            .into_iter()
            .flat_map(|((partition, _), extras)| extras.into_iter().map(move |extra| (partition.clone(), extra)));
        self.extra = left.collect();
    }
}

fn shown(preview: Preview) -> Option<String> {
    Some(preview.to_string())
}

fn source_of(lost: &Lost, feeds: &[TopicPartition]) -> Option<(TopicPartition, i64)> {
    Some((feeds.get(lost.feed)?.clone(), lost.line.offset))
}

fn pair(
    kind: DifferenceKind,
    parts: Vec<&'static str>,
    (_, lost): &(TopicPartition, Lost),
    (partition, extra): &(TopicPartition, Extra),
    feeds: &[TopicPartition],
) -> Found {
    let difference = Difference {
        kind,
        parts,
        source: source_of(lost, feeds),
        target: (partition.clone(), Some(extra.line.offset)),
        expected: shown(lost.line.preview),
        found: shown(extra.line.preview),
        note: None,
    };
    Found { difference, print: Some(extra.line.print) }
}

fn missing((partition, lost): &(TopicPartition, Lost), feeds: &[TopicPartition]) -> Found {
    let difference = Difference {
        kind: DifferenceKind::Missing,
        parts: Vec::new(),
        source: source_of(lost, feeds),
        target: (partition.clone(), None),
        expected: shown(lost.line.preview),
        found: None,
        note: None,
    };
    Found { difference, print: None }
}

fn unexpected((partition, extra): &(TopicPartition, Extra)) -> Found {
    let Line { offset, print, preview, .. } = extra.line.clone();
    let difference = Difference {
        kind: if extra.again { DifferenceKind::Doubled } else { DifferenceKind::Unexpected },
        parts: Vec::new(),
        source: None,
        target: (partition.clone(), Some(offset)),
        expected: None,
        found: shown(preview),
        note: (!extra.again).then(|| UNEXPECTED.to_owned()),
    };
    Found { difference, print: Some(print) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::verify::print::Printer;
    use crate::model::BatchBuilder;

    fn line(printer: &Printer, value: &str, timestamp: i64) -> Line {
        let mut builder = BatchBuilder::new();
        builder.push(7, timestamp, None, Some(value.as_bytes()), []);
        printer.line(builder.finish("t", 0).record(0))
    }

    fn target(partition: u32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn lost(line: &Line, gap: usize) -> Lost {
        Lost { feed: 0, line: line.clone(), gap }
    }

    fn extra(line: &Line, gap: usize, again: bool) -> Extra {
        Extra { line: line.clone(), gap, again }
    }

    fn kinds(findings: Findings, either: &[Either]) -> Vec<(DifferenceKind, Vec<&'static str>)> {
        let found = findings.resolve(&[TopicPartition::new("s", 0)], either);
        found.into_iter().map(|found| (found.difference.kind, found.difference.parts)).collect()
    }

    #[test]
    fn a_record_in_another_partition_is_one_difference() {
        let printer = Printer::default();
        let record = line(&printer, "a", 1);
        let mut findings = Findings::default();
        findings.add(&target(0), vec![lost(&record, 1)], Vec::new());
        findings.add(&target(1), Vec::new(), vec![extra(&record, 1, false)]);
        assert_eq!(kinds(findings, &[]), [(DifferenceKind::Different, vec!["partition"])]);
    }

    #[test]
    fn what_is_nearer_and_more_alike_belongs_together() {
        let printer = Printer::default();
        let (record, alike, far) = (line(&printer, "a", 1), line(&printer, "b", 1), line(&printer, "c", 1));
        let mut findings = Findings::default();
        findings.add(&target(0), vec![lost(&record, 5)], vec![extra(&far, 2, false), extra(&alike, 5, false)]);
        let expected = [(DifferenceKind::Different, vec!["value"]), (DifferenceKind::Unexpected, vec![])];
        let mut found = kinds(findings, &[]);
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected);
        // One that is there twice stands for nothing that is missing.
        let mut findings = Findings::default();
        findings.add(&target(0), vec![lost(&record, 5)], vec![extra(&alike, 5, true)]);
        let kinds: Vec<_> = kinds(findings, &[]).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [DifferenceKind::Doubled, DifferenceKind::Missing]);
    }

    #[test]
    fn a_record_that_became_a_letter_is_not_missing() {
        let printer = Printer::default();
        let (record, letter) = (line(&printer, "large", 1), line(&printer, "about it", 1));
        let either = [Either { record: record.print, letter: letter.print }];
        let findings = |extras: Vec<Extra>| {
            let mut findings = Findings::default();
            findings.add(&target(0), vec![lost(&record, 1)], Vec::new());
            findings.add(&target(1), Vec::new(), extras);
            findings
        };
        assert_eq!(kinds(findings(vec![extra(&letter, 1, false)]), &either), []);
        assert_eq!(kinds(findings(Vec::new()), &either), [(DifferenceKind::Missing, vec![])]);
    }
}
