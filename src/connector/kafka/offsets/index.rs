//! Finds stretches again: follows their topic, remembers of each megabyte which offsets it is about, and reads only what is asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Copies, Stretch, partition_of};
use crate::connector::Error;
use crate::connector::kafka::admin::Admin;
use crate::connector::kafka::client::{Client, Isolation};
use crate::connector::kafka::log::{self, Budget};
use crate::model::TopicPartition;

/// What reading takes: a transaction that is open holds it up from commit to commit of a lane, which are a minute apart at most. Most of what is kept
/// is of links with many partitions, in which each commit has a run.
const BUDGET: Budget = Budget { patience: Duration::from_secs(75), total: Duration::from_secs(600), bytes: 2 << 30 };

/// What a partition with its name counts.
const ENTRY_BYTES: usize = 512;

/// How much of the topic is one piece, in bytes of values: what has to be read to find one offset.
const PIECE_BYTES: usize = 1 << 20;

/// What is known of a link's stretches.
#[derive(Debug)]
pub(in crate::connector::kafka) struct Index {
    topic: Arc<str>,
    id: Uuid,
    /// Of each partition of the topic.
    logs: Vec<Log>,
    partitions: BTreeMap<TopicPartition, Known>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    /// The offset to read next.
    next: i64,
    /// Grows with each piece.
    piece: u64,
    /// The bytes of the present one.
    bytes: usize,
}

/// What is known of a source partition.
#[derive(Clone, Debug, Default)]
pub(in crate::connector::kafka) struct Known {
    epoch: u64,
    /// Up to where it was copied, as far as that was read.
    end: i64,
    /// In the order in which they were found.
    runs: Vec<Run>,
    /// The log and the offset of the last record, if that had stretches and was about no offsets.
    unfinished: Option<(u32, i64)>,
    /// In the order of the source.
    targets: BTreeMap<TopicPartition, Vec<Piece>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The partition of the topic.
    log: u32,
    piece: u64,
    /// The offset in the topic.
    at: i64,
}

/// Source offsets of which all copies stand in one piece of the topic, with none missing in between. When lanes become others a source partition goes on in another partition of
/// the topic, and later maybe where it was: a piece may have several runs of it, and what lies between them is elsewhere.
#[derive(Clone, Debug)]
struct Run {
    /// Where the first record is.
    mark: Mark,
    source: Range<i64>,
}

/// The stretches between two partitions in a run.
#[derive(Clone, Debug)]
struct Piece {
    /// Where the run begins.
    run: Mark,
    /// The offset in the topic of the first record.
    at: i64,
    /// The offset in the topic behind the last record.
    end: i64,
    /// The first source offset and the one behind the last.
    source: Range<i64>,
    /// Where the first one is in the target.
    target: i64,
    /// Behind the last one.
    target_end: i64,
}

/// Source offsets to be found between two partitions, with where they are, in the order of the source.
type Wanted = Vec<(i64, Option<i64>)>;

/// What is to be found by reading, by source partition and target partition.
type Sought = BTreeMap<TopicPartition, BTreeMap<TopicPartition, Wanted>>;

impl Index {
    pub(in crate::connector::kafka) fn new(topic: &str) -> Self {
        Self { topic: topic.into(), id: Uuid::nil(), logs: Vec::new(), partitions: BTreeMap::new() }
    }

    /// What is known of a source partition; `None`: nothing.
    pub(in crate::connector::kafka) fn of(&self, partition: &TopicPartition) -> Option<&Known> {
        self.partitions.get(partition)
    }

    /// The source partitions that something is known of.
    pub(in crate::connector::kafka) fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, &Known)> {
        self.partitions.iter()
    }

    /// Read what is new, up to all that has been written by now: what open transactions have written is waited for.
    ///
    /// # Errors
    /// A broker does not answer, or a transaction hangs.
    pub(in crate::connector::kafka) fn follow(&mut self, client: &Client, admin: &Admin) -> Result<(), Error> {
        let Some((id, partitions)) = admin.find(&self.topic)? else {
            *self = Self::new(&self.topic);
            return Ok(());
        };
        if id != self.id {
            *self = Self { id, ..Self::new(&self.topic) };
        }
        self.logs.resize(partitions as usize, Log::default());
        let logs: Vec<_> = (0..partitions).map(|log| TopicPartition::new(self.topic.clone(), log)).collect();
        for (log, range) in &client.ranges(&logs, Isolation::ReadUncommitted)? {
            self.forget(log.partition, range.log_start);
            let mut next = self.logs[log.partition as usize].next.max(range.log_start);
            let mut bytes = self.bytes();
            let read = log::read(client, log, &mut next, range.end, BUDGET, |record| {
                let copies = record.value().and_then(Copies::read);
                if let (Some(of), Some(copies)) = (record.key().and_then(partition_of), copies) {
                    let read = record.value().map_or(0, <[u8]>::len);
                    bytes += self.add(log.partition, record.offset(), of, copies, read);
                }
                Ok(bytes)
            });
            let known = &mut self.logs[log.partition as usize];
            known.next = known.next.max(next);
            read?;
        }
        Ok(())
    }

    /// What is kept, in bytes.
    fn bytes(&self) -> usize {
        self.partitions.values().map(|known| ENTRY_BYTES + known.bytes()).sum()
    }

    /// Take a record with so many bytes. Answers how many more are kept at most.
    fn add(&mut self, log: u32, at: i64, of: TopicPartition, copies: Copies, bytes: usize) -> usize {
        let current = &mut self.logs[log as usize];
        if at < current.next {
            // It was added before something behind it could not be read.
            return 0;
        }
        current.next = at + 1;
        if current.bytes > PIECE_BYTES {
            current.piece += 1;
            current.bytes = 0;
        }
        current.bytes += bytes;
        let mark = Mark { log, piece: current.piece, at };
        let begun = if self.partitions.contains_key(&of) { 0 } else { ENTRY_BYTES };
        let known = self.partitions.entry(of).or_default();
        if copies.epoch < known.epoch {
            return begun;
        }
        if copies.epoch > known.epoch {
            // What was known begins here, with a reset.
            *known = Known { epoch: copies.epoch, ..Known::default() };
        }
        begun + known.add(mark, copies)
    }

    /// Forget what the cluster has deleted: what is in a partition of the topic before `start`.
    fn forget(&mut self, log: u32, start: i64) {
        let gone = |mark: &Mark| mark.log == log && mark.at < start;
        for known in self.partitions.values_mut().filter(|known| known.runs.iter().any(|run| gone(&run.mark))) {
            known.runs.retain(|run| !gone(&run.mark));
            known.targets.values_mut().for_each(|pieces| pieces.retain(|piece| !gone(&piece.run)));
        }
    }

    /// Where in each partition of the target the first record is that stands for a source offset or one behind it, for each of `offsets`, which are in the known range
    /// of their partitions. Where there is none, nothing that was copied stands for any of them.
    ///
    /// # Errors
    /// A broker does not answer.
    pub(in crate::connector::kafka) fn locate(
        &self,
        client: &Client,
        offsets: &BTreeMap<TopicPartition, Vec<i64>>,
    ) -> Result<BTreeMap<TopicPartition, Located>, Error> {
        let mut found: BTreeMap<TopicPartition, Located> = BTreeMap::new();
        let mut reads: BTreeMap<u32, (Vec<Range<i64>>, Sought)> = BTreeMap::new();
        for (of, offsets) in offsets {
            let Some(known) = self.of(of) else { continue };
            for (target, pieces) in &known.targets {
                let located = found.entry(of.clone()).or_default().entry(target.clone()).or_default();
                for source in offsets {
                    let Some(piece) = pieces.iter().find(|piece| piece.source.end > *source) else { continue };
                    if *source <= piece.source.start {
                        located.insert(*source, piece.target);
                        continue;
                    }
                    let (ranges, sought) = reads.entry(piece.run.log).or_default();
                    ranges.push(piece.at..piece.end);
                    let wanted = sought.entry(of.clone()).or_default().entry(target.clone()).or_default();
                    wanted.push((*source, None));
                }
            }
        }
        for (log, (ranges, mut sought)) in reads {
            self.read(client, log, ranges, &mut sought)?;
            for (of, targets) in sought {
                for (target, wanted) in targets {
                    let located = found.entry(of.clone()).or_default().entry(target).or_default();
                    located.extend(wanted.into_iter().filter_map(|(source, at)| Some((source, at?))));
                }
            }
        }
        Ok(found)
    }

    fn read(&self, client: &Client, log: u32, ranges: Vec<Range<i64>>, sought: &mut Sought) -> Result<(), Error> {
        sought.values_mut().flat_map(BTreeMap::values_mut).for_each(|wanted| wanted.sort_unstable());
        let log = TopicPartition::new(self.topic.clone(), log);
        for Range { start: mut next, end } in joined(ranges) {
            // It keeps what it was asked for.
            log::read(client, &log, &mut next, end, BUDGET, |record| {
                let targets = record.key().and_then(partition_of).and_then(|of| sought.get_mut(&of));
                let Some(targets) = targets else { return Ok(0) };
                for (target, stretches) in record.value().and_then(Copies::read).unwrap_or_default().targets {
                    if let Some(wanted) = targets.get_mut(&target) {
                        stretches.iter().for_each(|stretch| look_in(*stretch, wanted));
                    }
                }
                Ok(0)
            })?;
        }
        Ok(())
    }
}

/// Where source offsets are in a partition of the target, by source offset.
type LocatedIn = BTreeMap<i64, i64>;

/// The same for each partition of the target that the source partition has come to.
pub(in crate::connector::kafka) type Located = BTreeMap<TopicPartition, LocatedIn>;

impl Known {
    /// The partitions of the target that it has come to.
    pub(in crate::connector::kafka) fn targets(&self) -> impl Iterator<Item = &TopicPartition> {
        self.targets.keys()
    }

    /// The same, each with where the last record is that is known of, and one behind that.
    pub(in crate::connector::kafka) fn lasts(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        let end = |pieces: &[Piece]| pieces.iter().map(|piece| piece.target_end).max();
        self.targets.iter().filter_map(move |(target, pieces)| Some((target, end(pieces)?)))
    }

    /// The link epoch under which it was copied.
    pub(in crate::connector::kafka) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is kept, in bytes.
    fn bytes(&self) -> usize {
        let pieces: usize = self.targets.values().map(|pieces| ENTRY_BYTES + pieces.len() * size_of::<Piece>()).sum();
        self.runs.len() * size_of::<Run>() + pieces
    }

    /// Answers how many bytes more are kept.
    fn add(&mut self, mark: Mark, mut copies: Copies) -> usize {
        // Early versions said what did not fit into one record in several, of which only the last was
        // about offsets. The cluster may have deleted some of them, so the last proves nothing.
        if self.unfinished == Some((mark.log, copies.range.start)) {
            copies.range.start = copies.range.end;
        } else {
            let is_unfinished = copies.range.is_empty() && !copies.targets.is_empty();
            self.unfinished = is_unfinished.then_some((mark.log, copies.range.start));
        }
        let runs = self.runs.len();
        let run = self.run(mark, &copies.range);
        let mut added = (self.runs.len() - runs) * size_of::<Run>();
        for (target, stretches) in copies.targets {
            let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else { continue };
            let target_end = last.target + last.records;
            let pieces = self.targets.entry(target).or_insert_with(|| {
                added += ENTRY_BYTES;
                Vec::new()
            });
            if let Some(piece) = pieces.iter_mut().rev().find(|piece| piece.run == run) {
                piece.end = mark.at + 1;
                piece.source.end = piece.source.end.max(last.end());
                piece.target_end = piece.target_end.max(target_end);
                continue;
            }
            let place = pieces.partition_point(|piece| piece.source.start <= first.source);
            let source = first.source..last.end();
            let target = first.target;
            pieces.insert(place, Piece { run, at: mark.at, end: mark.at + 1, source, target, target_end });
            added += size_of::<Piece>();
        }
        added
    }

    /// The run that a record about these source offsets belongs to: one that it goes on with, or else a new one.
    fn run(&mut self, mark: Mark, source: &Range<i64>) -> Mark {
        self.end = self.end.max(source.end);
        let goes_on =
            |run: &&mut Run| (run.mark.log, run.mark.piece) == (mark.log, mark.piece) && run.source.end == source.start;
        if let Some(run) = self.runs.iter_mut().rev().find(goes_on) {
            run.source.end = source.end;
            return run.mark;
        }
        self.runs.push(Run { mark, source: source.clone() });
        mark
    }

    /// The newest source offsets of which all copies are known. Empty, at the end of what was copied, if it is not known of the last ones.
    pub(in crate::connector::kafka) fn range(&self) -> Range<i64> {
        let mut runs: Vec<&Range<i64>> = self.runs.iter().map(|run| &run.source).collect();
        runs.sort_unstable_by_key(|run| std::cmp::Reverse(run.start));
        let before = |start: i64, run: &Range<i64>| if run.end >= start { start.min(run.start) } else { start };
        runs.into_iter().fold(self.end, before)..self.end
    }
}

/// Find the offsets that this stretch is the first one to reach.
fn look_in(stretch: Stretch, wanted: &mut Wanted) {
    let open = wanted.partition_point(|(_, found)| found.is_some());
    for (source, found) in &mut wanted[open..] {
        if *source >= stretch.end() {
            break;
        }
        *found = Some(stretch.target + (*source - stretch.source).max(0));
    }
}

/// The same ranges, with those joined that overlap.
fn joined(mut ranges: Vec<Range<i64>>) -> Vec<Range<i64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<i64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> TopicPartition {
        TopicPartition::new("in", 0)
    }

    fn target(partition: u32) -> TopicPartition {
        TopicPartition::new("out", partition)
    }

    fn index() -> Index {
        Index { logs: vec![Log::default(); 2], ..Index::new("offsets") }
    }

    fn copies(epoch: u64, range: Range<i64>, stretches: &[(i64, i64, i64)]) -> Copies {
        let stretch = |(source, target, records): &(i64, i64, i64)| Stretch {
            source: *source,
            target: *target,
            records: *records,
        };
        Copies { epoch, range, targets: [(target(0), stretches.iter().map(stretch).collect())].into() }
    }

    fn pieces(index: &Index) -> Vec<(Range<i64>, i64)> {
        let known = index.of(&source()).expect("known");
        known.targets.get(&target(0)).into_iter().flatten().map(|piece| (piece.source.clone(), piece.target)).collect()
    }

    #[test]
    fn offsets_are_found_where_the_first_record_at_or_behind_them_is() {
        // Dropped: 2, 3; split in two: 5.
        let stretches = [(0, 10, 2), (4, 12, 2), (5, 14, 3)];
        let mut wanted: Wanted = (0..9).map(|source| (source, None)).collect();
        for (source, target, records) in stretches {
            look_in(Stretch { source, target, records }, &mut wanted);
        }
        let found: Vec<_> = wanted.into_iter().map(|(_, found)| found).collect();
        let expected = [10, 11, 12, 12, 12, 13, 15, 16].map(Some);
        assert_eq!(found, [&expected[..], &[None]].concat());
    }

    #[test]
    fn pieces_say_what_they_are_about() {
        let mut index = index();
        index.add(0, 0, source(), copies(0, 0..10, &[(0, 100, 10)]), PIECE_BYTES / 2);
        index.add(0, 2, source(), copies(0, 10..20, &[(12, 111, 8)]), PIECE_BYTES);
        index.add(0, 4, source(), copies(0, 20..30, &[]), 10);
        index.add(0, 6, source(), copies(0, 30..40, &[(30, 120, 10)]), 10);
        assert_eq!(index.of(&source()).map(Known::range), Some(0..40));
        assert_eq!(pieces(&index), [(0..20, 100), (30..40, 120)]);
    }

    /// A read that fails is done again from its beginning.
    #[test]
    fn what_is_read_twice_is_known_once() {
        let mut index = index();
        for _ in 0..3 {
            for number in 0..4 {
                let range = number * 10..number * 10 + 10;
                index.add(0, number, source(), copies(0, range, &[(number * 10, number * 10, 10)]), PIECE_BYTES / 5);
            }
        }
        let known = index.of(&source()).expect("known");
        let pieces: Vec<_> =
            known.targets[&target(0)].iter().map(|piece| (piece.at..piece.end, piece.source.clone())).collect();
        assert_eq!(pieces, [(0..4, 0..40)]);
    }

    #[test]
    fn what_is_kept_is_counted_as_it_grows() {
        let mut index = index();
        let mut grown = 0;
        for number in 0..100 {
            let range = number * 10..number * 10 + 10;
            let (of, bytes) = (TopicPartition::new("in", number as u32 % 3), PIECE_BYTES / 2);
            grown += index.add(0, number, of, copies(0, range, &[(number * 10, number * 10, 10)]), bytes);
            assert_eq!(index.bytes(), grown);
        }
        assert!(grown > 100 * size_of::<Run>());
        index.forget(0, 1_000);
        assert!(index.bytes() < grown / 2);
    }

    #[test]
    fn what_the_cluster_has_deleted_is_not_known_any_more() {
        let mut index = index();
        for number in 0..3 {
            let range = number * 10..number * 10 + 10;
            index.add(0, number, source(), copies(0, range, &[(number * 10, number * 10, 10)]), PIECE_BYTES + 1);
        }
        index.forget(1, 5);
        assert_eq!(index.of(&source()).map(Known::range), Some(0..30), "another partition");
        index.forget(0, 1);
        assert_eq!(index.of(&source()).map(Known::range), Some(10..30));
        assert_eq!(pieces(&index), [(10..20, 10), (20..30, 20)]);
        index.forget(0, 3);
        assert_eq!(index.of(&source()).map(Known::range), Some(30..30), "nothing is left");
        index.add(0, 3, source(), copies(0, 30..35, &[(30, 30, 5)]), 10);
        assert_eq!(index.of(&source()).map(Known::range), Some(30..35));
        assert_eq!(pieces(&index), [(30..35, 30)]);
    }

    #[test]
    fn a_reset_begins_anew_and_what_came_before_does_not_count() {
        let mut index = index();
        index.add(0, 0, source(), copies(0, 0..10, &[(0, 100, 10)]), 10);
        index.add(0, 1, source(), copies(1, 3..6, &[(3, 110, 3)]), 10);
        index.add(1, 0, source(), copies(0, 10..20, &[(10, 110, 10)]), 10);
        assert_eq!(index.of(&source()).map(Known::range), Some(3..6));
        assert_eq!(pieces(&index), [(3..6, 110)]);
    }

    #[test]
    fn partitions_of_the_topic_are_read_in_any_order() {
        let mut index = index();
        // The lane became another one at offset 20, and what it wrote then is read first.
        index.add(0, 0, source(), copies(0, 20..30, &[(20, 120, 10)]), 10);
        index.add(1, 0, source(), copies(0, 0..10, &[(0, 100, 10)]), PIECE_BYTES + 1);
        assert_eq!(index.of(&source()).map(Known::range), Some(20..30));
        index.add(1, 1, source(), copies(0, 10..20, &[(10, 110, 10)]), 10);
        assert_eq!(index.of(&source()).map(Known::range), Some(0..30));
        assert_eq!(pieces(&index), [(0..10, 100), (10..20, 110), (20..30, 120)]);
        index.forget(1, 1);
        assert_eq!(index.of(&source()).map(Known::range), Some(10..30));
    }

    #[test]
    fn what_another_lane_wrote_in_between_is_not_passed_over() {
        let written = || {
            let mut index = index();
            // In one piece, and in between elsewhere: the lanes became others, and then those of before again.
            index.add(0, 0, source(), copies(0, 0..10, &[(0, 100, 10)]), 10);
            index.add(1, 0, source(), copies(0, 10..20, &[(10, 110, 10)]), 10);
            index.add(0, 1, source(), copies(0, 20..30, &[(20, 120, 10)]), 10);
            index
        };
        let range = |index: &Index| index.of(&source()).map(Known::range);
        let mut index = written();
        assert_eq!(range(&index), Some(0..30));
        assert_eq!(pieces(&index), [(0..10, 100), (10..20, 110), (20..30, 120)]);
        index.forget(0, 1);
        assert_eq!((range(&index), pieces(&index).len()), (Some(10..30), 2));
        index.forget(1, 1);
        assert_eq!((range(&index), pieces(&index)), (Some(20..30), vec![(20..30, 120)]));
        // The last one is gone first: nothing is known up to the end.
        let mut index = written();
        index.forget(0, 2);
        assert_eq!((range(&index), pieces(&index)), (Some(30..30), vec![(10..20, 110)]));
    }

    /// An index of records from one of several on, as a daemon has it that reads them for the first time.
    fn read_from(records: &[Copies], first: usize) -> Index {
        let mut index = index();
        for (number, copies) in records.iter().enumerate().skip(first) {
            index.add(0, number as i64, source(), copies.clone(), PIECE_BYTES / 2);
        }
        index
    }

    #[test]
    fn of_a_commit_in_several_records_only_what_is_left_is_believed() {
        let stretches: Vec<_> = (0..200).map(|number| (number * 2, number, 1)).collect();
        let mut builder = crate::model::BatchBuilder::new();
        copies(0, 0..400, &stretches).write_within(60, b"in/0", 0, &mut builder);
        let batch = builder.finish("", 0);
        let values = batch.records().map(|record| Copies::read(record.value().expect("a value")).expect("readable"));
        let records: Vec<Copies> = values.collect();
        assert!(records.len() > 5, "{}", records.len());
        let first_at = |records: &[Copies], offset: i64| {
            let mut stretches = records.iter().flat_map(|record| record.targets.values().flatten());
            stretches.find(|stretch| stretch.end() > offset).map(|stretch| stretch.target)
        };
        for first in 0..records.len() {
            // The log starts there before the index reads it, or afterwards.
            let mut forgetful = read_from(&records, 0);
            forgetful.forget(0, first as i64);
            for (index, how) in [(read_from(&records, first), "read"), (forgetful, "forgotten")] {
                let known = index.of(&source()).map(Known::range).expect("known");
                assert_eq!(known.end, 400, "{how} from {first} on");
                for offset in known {
                    let (left, all) = (first_at(&records[first..], offset), first_at(&records, offset));
                    assert_eq!(left, all, "{offset}, {how} from {first} on");
                }
            }
            let known = read_from(&records, first).of(&source()).map(Known::range).expect("known");
            assert!(known.start < 400, "something is known from {first} on");
        }
    }

    #[test]
    fn a_commit_of_which_some_records_said_nothing_of_offsets_is_not_believed() {
        let records = [
            copies(0, 0..5, &[(0, 0, 5)]),
            copies(0, 5..5, &[(5, 5, 50)]),
            copies(0, 5..5, &[(55, 55, 50)]),
            copies(0, 5..155, &[(105, 105, 50)]),
            copies(0, 155..160, &[(155, 155, 5)]),
        ];
        for first in 0..3 {
            assert_eq!(read_from(&records, first).of(&source()).map(Known::range), Some(155..160), "from {first} on");
        }
        assert_eq!(read_from(&records[..4], 0).of(&source()).map(Known::range), Some(155..155), "the end is known");
    }

    #[test]
    fn a_hole_is_not_passed_over() {
        let mut index = index();
        index.add(0, 0, source(), copies(0, 0..10, &[(0, 100, 10)]), 10);
        index.add(0, 1, source(), copies(0, 15..20, &[(15, 110, 5)]), 10);
        assert_eq!(index.of(&source()).map(Known::range), Some(15..20));
        index.add(1, 0, source(), copies(0, 10..15, &[]), 10);
        assert_eq!(index.of(&source()).map(Known::range), Some(0..20), "it was elsewhere");
    }

    #[test]
    fn ranges_are_read_once() {
        assert_eq!(joined(vec![5..9, 0..3, 3..4, 8..12, 20..21]), [0..4, 5..12, 20..21]);
    }
}
