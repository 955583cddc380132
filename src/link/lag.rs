//! How far a link is behind its source, measured in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lane::now_ms;
use super::observer::Aside;
use super::status::lock;
use crate::connector::{Cluster, Error, PartitionRange, Patience};
use crate::model::TopicPartition;
use crate::model::time::age_ms;

/// How often is measured, at most.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// A round that takes long is followed by the next after so many times as long: a far source, or one with many partitions, is asked less often.
const TIMES_AS_LONG: u32 = 10;

/// What was measured longer ago is not known any more.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Of how many partitions a round finds out when their next record was written. Each takes a small request, and the source sends a whole record
/// batch.
const TIMESTAMPS_A_ROUND: usize = 32;

/// How far a partition is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Records that the source has and the link has not committed.
    pub records: u64,
    /// How long ago the first of them was written, in milliseconds; `None`: that is not known.
    pub ms: Option<u64>,
}

/// How far the lanes are behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lags {
    /// When that was.
    at: Instant,
    /// The same, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The partitions of the lanes of this daemon whose ends are known.
    pub partitions: BTreeMap<TopicPartition, Lag>,
    /// Those of lanes that run elsewhere, or nowhere.
    elsewhere: BTreeMap<TopicPartition, Lag>,
    /// How many more this daemon's lanes have.
    pub unknown: usize,
    /// Whether the source says of no partition where it ends, whoever has its lane.
    pub is_silent: bool,
    /// Since when each lane that is at work has had something to commit, and has not. Lanes that have nothing are left out.
    waiting: BTreeMap<u32, Instant>,
    /// Since when each partition of this daemon's lanes that are at work has had records, and has not moved.
    standing: BTreeMap<TopicPartition, Instant>,
}

impl Lags {
    #[cfg(test)]
    pub(super) fn of(lags: &[Lag], unknown: usize, waited: Option<Duration>) -> Self {
        let name = |(partition, lag): (u32, &Lag)| (TopicPartition::new("t", partition), *lag);
        let since = waited.and_then(|waited| Instant::now().checked_sub(waited));
        let waiting = since.map(|since| (0, since)).into_iter().collect();
        Self {
            at: Instant::now(),
            at_ms: now_ms(),
            partitions: (0..).zip(lags).map(name).collect(),
            elsewhere: BTreeMap::new(),
            unknown,
            is_silent: false,
            waiting,
            standing: since.map(|since| (TopicPartition::new("t", 0), since)).into_iter().collect(),
        }
    }

    /// How long ago the first record was written, in milliseconds, that the link has not committed of a partition that is behind.
    pub fn ms_of(&self, partition: &TopicPartition) -> Option<u64> {
        match self.partitions.get(partition).or_else(|| self.elsewhere.get(partition))? {
            // It was written since then.
            Lag { records: 0, .. } => Some(self.at.elapsed().as_millis() as u64),
            lag => lag.ms,
        }
    }

    /// The partition that is behind the most, in milliseconds.
    pub fn worst_ms(&self) -> Option<u64> {
        self.partitions.values().filter_map(|lag| lag.ms).max()
    }

    /// Whether nothing is unknown about any partition.
    pub fn are_all_known(&self) -> bool {
        self.unknown == 0 && self.partitions.values().all(|lag| lag.ms.is_some())
    }

    /// The partitions that have had records and have not moved for longer than `most`, and for how long.
    pub fn standing(&self, most: Duration) -> impl Iterator<Item = (&TopicPartition, Duration)> {
        let standing = self.standing.iter().map(|(partition, since)| (partition, since.elapsed()));
        standing.filter(move |(_, stood)| *stood > most)
    }

    /// For how long the lane that waits longest has had something to commit, and has not.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiting.values().map(Instant::elapsed).max()
    }
}

/// A lane, as it is looked at for this.
#[derive(Clone, Debug)]
pub(super) struct LaneView {
    pub(super) number: u32,
    /// Whether it is this daemon's.
    pub(super) is_here: bool,
    /// Whether it should move records.
    pub(super) works: bool,
    pub(super) last_commit_ms: Option<i64>,
    /// The next offset of each partition.
    pub(super) committed: Vec<(TopicPartition, i64)>,
}

/// What was measured, and what is kept for the next time.
#[derive(Debug, Default)]
pub(super) struct LagBoard {
    aside: Aside,
    last: Mutex<Option<Arc<Lags>>>,
    memory: Mutex<Memory>,
}

impl LagBoard {
    pub(super) fn is_due(&self) -> bool {
        self.aside.is_due(|took| (took * TIMES_AS_LONG).clamp(MEASURE_EVERY, AGE_MAX / 2))
    }

    /// Measure. Not to be begun before it is due.
    pub(super) fn measure(self: &Arc<Self>, source: &Arc<dyn Cluster>, lanes: Vec<LaneView>) {
        let (me, source) = (self.clone(), source.clone());
        let measure = move || {
            if source.probe().is_ok() {
                let partitions = lanes.iter().flat_map(|lane| &lane.committed).map(|(partition, _)| partition);
                let Ends { known: ends, is_silent } = ends_of(&*source, partitions);
                let written = |partition: &_, offset| source.timestamp_at(partition, offset).ok().flatten();
                let lags = lock(&me.memory).measure(&lanes, &ends, written);
                *lock(&me.last) = Some(Arc::new(Lags { is_silent, ..lags }));
            }
        };
        // After a panic the last lags get old, and are not known then.
        self.aside.begin("lag", measure, |_| {});
    }

    pub(super) fn last(&self) -> Option<Arc<Lags>> {
        lock(&self.last).clone().filter(|lags| lags.at.elapsed() < AGE_MAX)
    }
}

/// What is remembered from one round to the next.
#[derive(Debug, Default)]
struct Memory {
    round: u64,
    /// Of the partitions that are behind.
    partitions: BTreeMap<TopicPartition, Known>,
    lanes: BTreeMap<u32, Waiting>,
    /// The next offset of each partition that has records, and since when it is that.
    standing: BTreeMap<TopicPartition, (i64, Instant)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The round in which it was asked for.
    round: u64,
    /// The offset that was the next one then.
    offset: i64,
    /// When that record was written, as its producer says.
    written_ms: Option<i64>,
    /// How far the partition was behind then.
    lag_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    last_commit_ms: Option<i64>,
    since: Instant,
}

impl Memory {
    /// Compare how far lanes have come with where partitions end. `written` says when a record was written.
    fn measure(
        &mut self,
        lanes: &[LaneView],
        ends: &BTreeMap<TopicPartition, i64>,
        written: impl FnMut(&TopicPartition, i64) -> Option<i64>,
    ) -> Lags {
        self.round += 1;
        let committed = || lanes.iter().flat_map(|lane| &lane.committed);
        let behind = |(partition, next): &(TopicPartition, i64)| {
            let end = ends.get(partition)?;
            Some((partition.clone(), (*next, end.saturating_sub(*next).max(0).unsigned_abs())))
        };
        let behind: BTreeMap<TopicPartition, (i64, u64)> = committed().filter_map(behind).collect();
        self.partitions.retain(|partition, _| behind.get(partition).is_some_and(|(_, records)| *records > 0));
        self.ask_timestamps(&behind, written);
        let waiting = self.follow_lanes(lanes, &behind);
        let standing = self.follow_partitions(lanes, &behind);
        let now = now_ms();
        let lag = |(partition, (next, records)): (&TopicPartition, &(i64, u64))| {
            let known = self.partitions.get(partition);
            let ms = if *records == 0 { Some(0) } else { known.and_then(|known| known.lag_at(*next, now)) };
            (partition.clone(), Lag { records: *records, ms })
        };
        let here = || lanes.iter().filter(|lane| lane.is_here).flat_map(|lane| &lane.committed);
        let is_here: BTreeSet<&TopicPartition> = here().map(|(partition, _)| partition).collect();
        let (partitions, elsewhere): (BTreeMap<_, _>, BTreeMap<_, _>) =
            behind.iter().map(lag).partition(|(partition, _)| is_here.contains(partition));
        let unknown = here().count() - partitions.len();
        let at = Instant::now();
        Lags { at, at_ms: now, unknown, is_silent: false, partitions, elsewhere, waiting, standing }
    }

    /// Find out when the next records of some partitions were written: of those first that were asked for longest ago. Who has not come on since then
    /// need not be asked for again.
    fn ask_timestamps(
        &mut self,
        behind: &BTreeMap<TopicPartition, (i64, u64)>,
        mut written: impl FnMut(&TopicPartition, i64) -> Option<i64>,
    ) {
        let known = |partition: &TopicPartition| self.partitions.get(partition).copied();
        let mut wanted: Vec<(u64, &TopicPartition, i64)> = behind
            .iter()
            .filter(|(_, (_, records))| *records > 0)
            .map(|(partition, (next, _))| (known(partition), partition, *next))
            .filter(|(known, _, next)| known.is_none_or(|known| known.offset != *next || known.written_ms.is_none()))
            .map(|(known, partition, next)| (known.map_or(0, |known| known.round), partition, next))
            .collect();
        wanted.sort_unstable();
        for (_, partition, next) in wanted.into_iter().take(TIMESTAMPS_A_ROUND) {
            let written_ms = written(partition, next);
            let lag_ms = written_ms.and_then(|written| age_ms(written, now_ms()));
            // One that cannot be told goes to the end of the line as well.
            let known = Known { round: self.round, offset: next, written_ms, lag_ms };
            self.partitions.insert(partition.clone(), known);
        }
    }

    /// Since when each partition that is to be read has had records, and has not moved.
    fn follow_partitions(
        &mut self,
        lanes: &[LaneView],
        behind: &BTreeMap<TopicPartition, (i64, u64)>,
    ) -> BTreeMap<TopicPartition, Instant> {
        let read = lanes.iter().filter(|lane| lane.works && lane.is_here).flat_map(|lane| &lane.committed);
        let has_records =
            |(partition, _): &&(TopicPartition, i64)| behind.get(partition).is_some_and(|(_, records)| *records > 0);
        let standing = read.filter(has_records).map(|(partition, next)| {
            let known = self.standing.get(partition).filter(|(known, _)| known == next);
            (partition.clone(), known.copied().unwrap_or_else(|| (*next, Instant::now())))
        });
        self.standing = standing.collect();
        self.standing.iter().map(|(partition, (_, since))| (partition.clone(), *since)).collect()
    }

    /// Since when each lane has had something to commit.
    fn follow_lanes(
        &mut self,
        lanes: &[LaneView],
        behind: &BTreeMap<TopicPartition, (i64, u64)>,
    ) -> BTreeMap<u32, Instant> {
        let is_behind = |lane: &LaneView| {
            let records =
                |(partition, _): &(TopicPartition, i64)| behind.get(partition).map_or(0, |(_, records)| *records);
            lane.works && lane.committed.iter().any(|partition| records(partition) > 0)
        };
        let waiting = lanes.iter().filter(|lane| is_behind(lane)).map(|lane| {
            let known = self.lanes.get(&lane.number).filter(|known| known.last_commit_ms == lane.last_commit_ms);
            let since = known.map_or_else(Instant::now, |known| known.since);
            (lane.number, Waiting { last_commit_ms: lane.last_commit_ms, since })
        });
        self.lanes = waiting.collect();
        self.lanes.iter().map(|(lane, waiting)| (*lane, waiting.since)).collect()
    }
}

impl Known {
    /// How far the partition is behind. One that has come on since it was asked for is as far behind as then, as far as is known.
    fn lag_at(&self, next: i64, now_ms: i64) -> Option<u64> {
        let stands = self.written_ms.filter(|_| self.offset == next);
        stands.map_or(self.lag_ms, |written| age_ms(written, now_ms))
    }
}

/// What a source says of where its partitions end.
#[derive(Debug)]
pub struct Ends {
    /// As far as it is known.
    pub known: BTreeMap<TopicPartition, i64>,
    /// Whether it says nothing of all that it was asked for.
    pub is_silent: bool,
}

impl Ends {
    fn of(answers: impl Iterator<Item = (TopicPartition, Result<PartitionRange, Error>)>) -> Self {
        let (mut known, mut unsaid) = (BTreeMap::new(), 0_usize);
        for (partition, range) in answers {
            match range {
                Ok(range) => drop(known.insert(partition, range.end)),
                Err(_) => unsaid += 1,
            }
        }
        Self { is_silent: known.is_empty() && unsaid > 0, known }
    }
}

/// Ask a source where those of these partitions end that it has.
pub fn ends_of<'a>(source: &dyn Cluster, partitions: impl Iterator<Item = &'a TopicPartition>) -> Ends {
    let there = source.topics().unwrap_or_default().into_iter();
    let there: BTreeMap<_, _> = there.map(|topic| (topic.name, topic.partitions)).collect();
    let is_there = |partition: &&TopicPartition| there.get(&partition.topic) > Some(&partition.partition);
    let asked: Vec<TopicPartition> = partitions.filter(is_there).cloned().collect();
    let ranges = source.ranges_of(&asked, Patience::Short);
    Ends::of(asked.into_iter().zip(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::{Class, Each};
    use crate::link::double::Panics;

    fn partition(number: u32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    /// A lane that works, with so many partitions from 0 on, all of which have come to `next`.
    fn lane(last_commit_ms: i64, partitions: u32, next: i64) -> LaneView {
        let committed = (0..partitions).map(|number| (partition(number), next)).collect();
        LaneView { number: 0, is_here: true, works: true, last_commit_ms: Some(last_commit_ms), committed }
    }

    fn ends(partitions: u32, end: i64) -> BTreeMap<TopicPartition, i64> {
        (0..partitions).map(|number| (partition(number), end)).collect()
    }

    fn ago(ms: i64) -> Option<i64> {
        Some(now_ms() - ms)
    }

    #[test]
    fn lag_is_what_the_source_has_more_and_how_old_it_is() {
        let mut memory = Memory::default();
        let lags = memory.measure(
            &[lane(1, 3, 10)],
            &BTreeMap::from([(partition(0), 10), (partition(1), 17)]),
            |_, offset| {
                assert_eq!(offset, 10);
                ago(5_000)
            },
        );
        assert_eq!(lags.partitions[&partition(0)], Lag { records: 0, ms: Some(0) });
        let behind = lags.partitions[&partition(1)];
        assert_eq!(behind.records, 7);
        assert!(behind.ms.is_some_and(|ms| (5_000..60_000).contains(&ms)), "{behind:?}");
        assert_eq!((lags.partitions.len(), lags.unknown), (2, 1), "where partition 2 ends is not known");
        assert!(!lags.are_all_known());
        assert_eq!(lags.worst_ms(), behind.ms);
    }

    #[test]
    fn a_source_is_silent_if_it_says_nothing_of_what_it_is_asked() {
        let range = |end| Ok(PartitionRange { log_start: 0, end });
        let no_leader = || {
            Err(Error {
                class: Class::Reopen,
                code: "no-leader",
                message: "nobody leads it".to_owned(),
                remedy: "wait",
            })
        };
        let ends = |answers: Each<PartitionRange>| Ends::of((0..).map(partition).zip(answers));
        let some = ends(vec![no_leader(), range(7)]);
        assert_eq!((some.known, some.is_silent), (BTreeMap::from([(partition(1), 7)]), false));
        assert!(ends(vec![no_leader(), no_leader()]).is_silent);
        assert!(!ends(Vec::new()).is_silent, "it was asked for nothing");
    }

    #[test]
    fn a_partition_that_has_records_and_does_not_move_stands() {
        let mut memory = Memory::default();
        let stands = |lags: &Lags| lags.standing.keys().map(|partition| partition.partition).collect::<Vec<_>>();
        let since = |lags: &Lags| lags.standing[&partition(1)];
        let ends = |end| BTreeMap::from([(partition(0), 10), (partition(1), end)]);
        let first = memory.measure(&[lane(1, 2, 10)], &ends(12), |_, _| None);
        assert_eq!(stands(&first), [1], "the other one has nothing");
        // The lane commits, and the source grows.
        let second = memory.measure(&[lane(2, 2, 10)], &ends(15), |_, _| None);
        assert_eq!(since(&second), since(&first));
        assert_eq!(second.standing(Duration::from_secs(3_600)).count(), 0);
        let moved = memory.measure(&[lane(3, 2, 11)], &ends(15), |_, _| None);
        assert!(since(&moved) > since(&first), "it has moved");
        let idle = LaneView { works: false, ..lane(3, 2, 11) };
        assert_eq!(stands(&memory.measure(&[idle], &ends(15), |_, _| None)), [0; 0], "nobody reads it");
    }

    #[test]
    fn a_record_whose_time_is_known_is_not_asked_for_again() {
        let mut memory = Memory::default();
        let written = ago(5_000);
        memory.measure(&[lane(1, 1, 10)], &ends(1, 11), |_, _| written);
        let lags = memory.measure(&[lane(1, 1, 10)], &ends(1, 12), |_, _| unreachable!("it has not come on"));
        assert!(lags.worst_ms().is_some_and(|ms| ms >= 5_000));
        let mut asked = Vec::new();
        memory.measure(&[lane(2, 1, 11)], &ends(1, 12), |_, offset| {
            asked.push(offset);
            written
        });
        assert_eq!(asked, [11]);
    }

    #[test]
    fn a_round_that_panics_is_not_under_way_for_ever() {
        let board = Arc::new(LagBoard::default());
        let source: Arc<dyn Cluster> = Arc::new(Panics { answers_probes: true });
        board.measure(&source, vec![lane(1, 1, 0)]);
        while board.aside.under_way().is_some() {
            std::thread::yield_now();
        }
        assert_eq!(board.last(), None);
        assert!(board.aside.is_due(|_| Duration::ZERO));
    }

    /// A link with very many busy partitions must not read its source twice.
    #[test]
    fn a_round_asks_for_some_and_those_that_waited_longest_come_first() {
        let (mut memory, partitions) = (Memory::default(), 2 * TIMESTAMPS_A_ROUND as u32 + 1);
        let mut rounds: Vec<Vec<u32>> = Vec::new();
        for round in 0..3 {
            let mut asked = Vec::new();
            let lags = memory.measure(&[lane(round, partitions, round)], &ends(partitions, 100), |partition, _| {
                asked.push(partition.partition);
                ago(0)
            });
            let known = lags.partitions.values().filter(|lag| lag.ms.is_some()).count();
            assert_eq!(
                known,
                (partitions as usize).min((round as usize + 1) * TIMESTAMPS_A_ROUND),
                "those before stay known"
            );
            rounds.push(asked);
        }
        assert!(rounds.iter().all(|asked| asked.len() == TIMESTAMPS_A_ROUND));
        assert!(rounds[1].iter().all(|partition| !rounds[0].contains(partition)));
        assert_eq!(rounds[2][0], 2 * TIMESTAMPS_A_ROUND as u32, "the one that was never asked for");
    }

    #[test]
    fn what_cannot_be_told_is_asked_for_again_behind_the_others() {
        let mut memory = Memory::default();
        let lags = memory.measure(&[lane(1, 1, 0)], &ends(1, 5), |_, _| None);
        assert_eq!(lags.partitions[&partition(0)], Lag { records: 5, ms: None });
        let lags = memory.measure(&[lane(1, 1, 0)], &ends(1, 5), |_, _| ago(7));
        assert!(lags.are_all_known());
    }

    #[test]
    fn a_timestamp_that_says_nothing_gives_no_lag_and_is_not_asked_for_again() {
        let now = now_ms();
        for absurd in [i64::MIN, -1_000_000, -1, 0, now + 2 * 3_600_000, now * 1000, i64::MAX] {
            let mut memory = Memory::default();
            let lags = memory.measure(&[lane(1, 1, 10)], &ends(1, 17), |_, _| Some(absurd));
            assert_eq!(lags.partitions[&partition(0)], Lag { records: 7, ms: None }, "{absurd}");
            assert!(!lags.are_all_known(), "{absurd}");
            assert_eq!((lags.ms_of(&partition(0)), lags.worst_ms()), (None, None), "{absurd}");
            let lags = memory.measure(&[lane(1, 1, 10)], &ends(1, 18), |_, _| unreachable!("it has not come on"));
            assert_eq!(lags.partitions[&partition(0)], Lag { records: 8, ms: None }, "{absurd}");
        }
    }

    #[test]
    fn a_lane_waits_since_it_has_had_something_to_commit() {
        let mut memory = Memory::default();
        let mut since =
            |lanes: &[LaneView], end| memory.measure(lanes, &ends(1, end), |_, _| None).waiting.get(&0).copied();
        assert_eq!(since(&[lane(1, 1, 5)], 5), None, "it may be idle for long");
        let begun = since(&[lane(1, 1, 5)], 6);
        assert!(begun.is_some());
        assert_eq!(since(&[lane(1, 1, 5)], 9), begun);
        let committed = since(&[lane(2, 1, 8)], 9);
        assert!(committed > begun, "a commit begins it anew");
        let paused = LaneView { works: false, ..lane(2, 1, 8) };
        assert_eq!(since(&[paused], 9), None);
        assert!(since(&[lane(2, 1, 8)], 9) > committed, "it did not wait while it was paused");
    }
}
