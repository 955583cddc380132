//! Where in the target a consumer group goes on that was somewhere in the source. Pure.
//!
//! A group at offset *s* of a source partition has had every record before *s*. It goes on in a partition of the target before the first record there that stands for a source
//! offset of *s* or behind it: so it misses nothing. Nothing that it had comes again either, if the records there are of that source partition alone. Where several
//! source partitions feed one, the earliest of their places is taken.
//!
//! Where that first record is, is known of the last days. Of what is older it is known now and then ([`Waypoint`]): the nearest earlier place is taken.
//!
//! Which source partitions feed one is known as long as it is known where their records went. What is older than that may have gone anywhere, if the link has ever had plugins.
//! Without plugins the number of the target's partitions decides. A topic can only gain partitions,
//! and which number a lane used back then is stored nowhere: so every number up to today's counts.
//!
//! The link copies nothing from before its beginning, and the target deletes records too. A group that
//! was further back misses those records at the target, whatever offset it gets, and no other certainty
//! may hide that.
//!
//! A group that is as far as the link, in a partition, goes on at the end: a record that comes later stands for what comes later in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::waypoints::Waypoint;
use crate::connector::{CopiedPartition, GroupOffset, GroupOffsets, PartitionRange};
use crate::model::TopicPartition;

/// How well an offset in the target matches where the group was, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The group misses nothing, and reads nothing again.
    Exact,
    /// Records of several source partitions are mixed in the partition: the earliest of their places was taken, and some may be read again.
    Shared,
    /// The group is ahead of the link: what it has read already and the link has not copied yet, it reads again.
    Ahead,
    /// Where the records are is not known exactly any more, because it was too long ago: the group goes on at the nearest earlier place that was noted.
    Nearest,
    /// The group has not committed an offset of a source partition that feeds this one: all records of that partition are read.
    Uncommitted,
    /// Where the records are is not known any more, nor where any before them are: everything in the partition is read.
    Forgotten,
    /// The group is further back than what the target has: it misses the records before the link's
    /// beginning, which are never copied, or those that the target has deleted. Worse than all others,
    /// since those only repeat records.
    BeforeBeginning,
}

/// Where a group goes on in a partition of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The offset, and what consumers have noted beside theirs.
    pub to: GroupOffset,
    /// How well that matches.
    pub certainty: Certainty,
    /// The source partitions that feed it, and where the group was.
    pub from: BTreeMap<TopicPartition, Option<i64>>,
}

impl Translation {
    /// Go on no further than there, if that is said.
    pub(super) fn keep_below(&mut self, ceiling: Option<&i64>) {
        if let Some(ceiling) = ceiling.filter(|ceiling| **ceiling < self.to.offset) {
            self.to.offset = *ceiling;
            self.certainty = self.certainty.max(Certainty::Shared);
        }
    }
}

/// What has to be known to translate.
#[derive(Debug, Default)]
pub struct Known {
    /// What was copied of source partitions: all that feed the target, whether the group is in them or not.
    pub copied: BTreeMap<TopicPartition, CopiedPartition>,
    /// What is in partitions of the target.
    pub ranges: BTreeMap<TopicPartition, PartitionRange>,
    /// Where the link begins with source partitions, if it has never been told to go on elsewhere.
    pub begins: BTreeMap<TopicPartition, i64>,
    /// The next offset that the link copies. Of a partition that is not here nobody knows what is in the target.
    pub next: BTreeMap<TopicPartition, i64>,
    /// Which partition of the target each source partition keeps to unless a plugin says otherwise.
    pub usual: BTreeMap<TopicPartition, TopicPartition>,
    /// How many partitions the topics of the target have today.
    pub counts: BTreeMap<Arc<str>, u32>,
    /// Whether records may have gone elsewhere.
    pub spreads: bool,
    /// Where the target was long ago.
    pub waypoints: Vec<Waypoint>,
    /// The link epoch of source partitions, where it is not 0.
    pub epochs: BTreeMap<TopicPartition, u64>,
    /// Whether readers may see records before it is known what they stand for.
    pub shows_early: bool,
    /// Source offsets that are copies of what was written to the target while it had the source's place, and where that begins there.
    pub returned: Vec<Returned>,
}

/// What others wrote to a topic of the target while it had the source's place. It went back to the source, and from there it was not copied again: so it stands for source
/// offsets, and the link does not know for which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// The source topic.
    pub topic: Arc<str>,
    /// By source partition, the offset behind the last one that may be such a copy.
    pub until: BTreeMap<u32, i64>,
    /// The topic of the target.
    pub target: Arc<str>,
    /// By partition of the target, where that begins.
    pub begins: Vec<i64>,
}

impl Returned {
    /// Where what has come back begins in a partition of the target, if a group at `offset` of a source partition may not have had it.
    fn before(&self, source: &TopicPartition, offset: i64, target: &TopicPartition) -> Option<i64> {
        let concerns = self.topic == source.topic && self.target == target.topic;
        let until = self.until.get(&source.partition).filter(|until| concerns && offset < **until);
        until.map(|_| self.begins.get(target.partition as usize).copied().unwrap_or(0))
    }
}

impl Known {
    /// The offset to look for when a group is at `offset`: before the link's beginning there is nothing.
    pub fn sought(&self, partition: &TopicPartition, offset: i64) -> i64 {
        self.begins.get(partition).map_or(offset, |begin| offset.max(*begin))
    }

    /// Which source partitions feed each partition of the target.
    pub fn feeders(&self) -> BTreeMap<TopicPartition, BTreeSet<TopicPartition>> {
        let mut feeders: BTreeMap<TopicPartition, BTreeSet<TopicPartition>> = BTreeMap::new();
        let found = self.copied.iter().flat_map(|(source, copied)| copied.first.keys().map(move |to| (source, to)));
        for (source, target) in found.chain(&self.usual) {
            feeders.entry(target.clone()).or_default().insert(source.clone());
        }
        feeders
    }

    /// Where a group goes on that is at `offsets` in the source. Topics in which it has committed nothing do not concern it.
    pub fn translate(
        &self,
        offsets: &GroupOffsets,
        feeders: &BTreeMap<TopicPartition, BTreeSet<TopicPartition>>,
    ) -> BTreeMap<TopicPartition, Translation> {
        let topics: BTreeSet<&Arc<str>> = offsets.keys().map(|partition| &partition.topic).collect();
        let forgotten = offsets.iter().filter(|(source, at)| self.is_forgotten(source, at.offset));
        let forgotten: Vec<&TopicPartition> = forgotten.map(|(source, _)| source).collect();
        let mut translations = BTreeMap::new();
        for (target, sources) in feeders {
            let Some(range) = self.ranges.get(target) else { continue };
            let sources = sources.iter().filter(|source| topics.contains(&source.topic));
            let sources = sources.chain(forgotten.iter().copied().filter(|source| self.may_have_fed(source, target)));
            let from: BTreeMap<&TopicPartition, Option<&GroupOffset>> =
                sources.map(|source| (source, offsets.get(source))).collect();
            let mut committed = from.values().flatten();
            let Some(first) = committed.next() else { continue };
            let metadata = if committed.next().is_none() { first.metadata.clone() } else { "".into() };
            let places = from.iter().map(|(source, at)| self.place(source, target, at.map(|at| at.offset), *range));
            let places: Vec<(i64, Certainty)> = places.collect();
            let offset = places.iter().map(|(offset, _)| *offset).min().unwrap_or(range.end).max(range.log_start);
            let worst = places.iter().map(|(_, certainty)| *certainty).max().unwrap_or(Certainty::Exact);
            let shared = if places.len() > 1 { Certainty::Shared } else { Certainty::Exact };
            // An exact place is that of a record that the group has not had.
            let is_deleted = |(place, of): &(i64, Certainty)| *of == Certainty::Exact && *place < range.log_start;
            let deleted = if places.iter().any(is_deleted) { Certainty::BeforeBeginning } else { Certainty::Exact };
            let from = from.into_iter().map(|(source, at)| (source.clone(), at.map(|at| at.offset))).collect();
            let to = GroupOffset { offset, metadata };
            translations.insert(target.clone(), Translation { to, certainty: worst.max(shared).max(deleted), from });
        }
        translations
    }

    /// Before which offset of `target` there is nothing of `source` at or behind `at`.
    fn place(
        &self,
        source: &TopicPartition,
        target: &TopicPartition,
        at: Option<i64>,
        range: PartitionRange,
    ) -> (i64, Certainty) {
        let (offset, certainty) = self.place_of_copies(source, target, at, range);
        let is_before = at.is_some_and(|at| self.is_before_beginning(source, at));
        let certainty = if is_before { Certainty::BeforeBeginning } else { certainty };
        let returned = self.returned.iter().filter_map(|returned| returned.before(source, at?, target)).min();
        match returned {
            Some(begin) if begin < offset => (begin, certainty.max(Certainty::Shared)),
            _ => (offset, certainty),
        }
    }

    fn place_of_copies(
        &self,
        source: &TopicPartition,
        target: &TopicPartition,
        at: Option<i64>,
        range: PartitionRange,
    ) -> (i64, Certainty) {
        let Some(at) = at else { return (range.log_start, Certainty::Uncommitted) };
        let Some(known) = self.known(source) else { return (range.log_start, Certainty::Forgotten) };
        let sought = self.sought(source, at);
        if sought >= known.end && self.shows_early {
            let last = self.copied.get(source).and_then(|copied| copied.last.get(target));
            return (last.map_or(range.log_start, |last| *last.min(&range.end)), Certainty::Shared);
        }
        if sought >= known.end {
            return (range.end, if at <= known.end { Certainty::Exact } else { Certainty::Ahead });
        }
        if sought < known.start {
            let source = (source, self.epochs.get(source).copied().unwrap_or(0));
            let nearest = self.waypoints.iter().filter_map(|waypoint| waypoint.before(source, sought, target)).max();
            return nearest
                .map_or((range.log_start, Certainty::Forgotten), |at| (at.min(range.end), Certainty::Nearest));
        }
        let first = self.copied.get(source).and_then(|copied| copied.first.get(target)?.get(&sought));
        (first.map_or(range.end, |first| *first.min(&range.end)), Certainty::Exact)
    }

    /// The source offsets of which is known where their records are, up to where the link has come; `None`: that is not known.
    fn known(&self, source: &TopicPartition) -> Option<Range<i64>> {
        let copied = self.copied.get(source).map(|copied| copied.known.clone());
        // Nothing was copied lately.
        copied.or_else(|| self.next.get(source).map(|next| *next..*next))
    }

    /// Whether a group at this offset has not had records that the link never copies.
    fn is_before_beginning(&self, source: &TopicPartition, at: i64) -> bool {
        self.begins.get(source).is_some_and(|begin| at < *begin)
    }

    /// Whether records of a source partition may be in a partition of the target, if it is not known
    /// any more where they went.
    fn may_have_fed(&self, source: &TopicPartition, target: &TopicPartition) -> bool {
        let is_usual = || {
            let usual = self.usual.get(source).filter(|usual| usual.topic == target.topic)?;
            Some(may_have_gone(source.partition, target.partition, *self.counts.get(&usual.topic)?))
        };
        self.spreads || is_usual().unwrap_or(false)
    }

    /// Whether it is not known exactly where a group goes on that is at this offset.
    pub fn is_forgotten(&self, source: &TopicPartition, at: i64) -> bool {
        self.known(source).is_none_or(|known| self.sought(source, at) < known.start)
    }
}

/// Whether a topic that has `count` partitions now, and had fewer before, may ever have had a number
/// of partitions that brings `source` to `target`: a number above `target` that divides how far they
/// are apart.
fn may_have_gone(source: u32, target: u32, count: u32) -> bool {
    let Some(apart) = source.checked_sub(target) else { return false };
    if apart == 0 {
        return source < count;
    }
    let numbers = (1..=apart / (target + 1)).filter(|times| apart.is_multiple_of(*times)).map(|times| apart / times);
    numbers.into_iter().any(|number| number <= count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::waypoints::Ends;
    use super::*;
    use crate::model::TopicId;

    fn source(partition: u32) -> TopicPartition {
        TopicPartition::new("in", partition)
    }

    fn target(partition: u32) -> TopicPartition {
        TopicPartition::new("out", partition)
    }

    fn at(offset: i64) -> GroupOffset {
        GroupOffset { offset, metadata: "note".into() }
    }

    /// What a link did: source partition, source offset, and where its records went.
    #[derive(Clone, Debug)]
    struct World {
        /// Of each source partition the offsets that there are, each with the places of its records in the target.
        records: Vec<BTreeMap<i64, Vec<(u32, i64)>>>,
        ends: Vec<i64>,
        /// Up to where each source partition was copied.
        next: Vec<i64>,
        /// From where on it is known.
        known_from: Vec<i64>,
        /// One for each five steps.
        waypoints: Vec<Waypoint>,
    }

    impl World {
        /// Steps: source partition, how many source offsets are skipped, where outputs go, how many offsets of the target somebody else takes.
        fn build(steps: &[(usize, i64, Vec<u32>, i64)], cut: [i64; 2]) -> Self {
            let mut world = Self {
                records: vec![BTreeMap::new(); 2],
                ends: vec![0; 2],
                next: vec![0; 2],
                known_from: cut.to_vec(),
                waypoints: Vec::new(),
            };
            for (number, (of, skipped, outputs, others)) in steps.iter().enumerate() {
                if number % 5 == 4 {
                    world.waypoints.push(world.waypoint());
                }
                let offset = world.next[*of] + skipped;
                let places = outputs.iter().map(|to| {
                    let end = &mut world.ends[*to as usize];
                    *end += others + 1;
                    (*to, *end - 1)
                });
                let places = places.collect();
                world.records[*of].insert(offset, places);
                world.next[*of] = offset + 1;
            }
            for (from, next) in world.known_from.iter_mut().zip(&world.next) {
                *from = (*from).min(*next);
            }
            world
        }

        fn waypoint(&self) -> Waypoint {
            let ends = Ends { id: TopicId(1), ends: self.ends.clone() };
            let next = self.next.iter().map(|next| Some((*next, 0))).collect();
            Waypoint { at_ms: 0, next: [("in".into(), next)].into(), ends: [("out".into(), ends)].into() }
        }

        fn known(&self, sought: [i64; 2]) -> Known {
            let mut known = Known { waypoints: self.waypoints.clone(), ..Known::default() };
            for (number, records) in (0..).zip(&self.records) {
                let (from, next) = (self.known_from[number as usize], self.next[number as usize]);
                let mut first: BTreeMap<TopicPartition, BTreeMap<i64, i64>> = BTreeMap::new();
                for (offset, places) in records.range(from..) {
                    for (to, place) in places {
                        let found = first.entry(target(*to)).or_default();
                        let sought = sought[number as usize];
                        if *offset >= sought && (from..next).contains(&sought) {
                            found.entry(sought).or_insert(*place);
                        }
                    }
                }
                known
                    .copied
                    .insert(source(number), CopiedPartition { known: from..next, first, ..CopiedPartition::default() });
                known.usual.insert(source(number), target(number));
                known.counts.insert("out".into(), 2);
                known.next.insert(source(number), next);
                known.ranges.insert(target(number), PartitionRange { log_start: 0, end: self.ends[number as usize] });
            }
            known
        }
    }

    proptest! {
        #[test]
        fn nothing_is_missed_and_an_exact_place_gives_nothing_twice(
            steps in prop::collection::vec((0..2_usize, 0..3_i64, prop::collection::vec(0..2_u32, 0..3), 0..2_i64), 0..40),
            cut in [0..20_i64, 0..20_i64], offsets in [0..60_i64, 0..60_i64], spread: bool,
            narrow in prop_oneof![Just(0), 0..40_usize],
        ) {
            let keep = |(number, (of, skipped, outputs, others)): (usize, &(usize, i64, Vec<u32>, i64))| {
                // Without spreading each source partition keeps to its own partition of the target,
                // which has only one for the first steps.
                let own = if number < narrow { 0 } else { *of as u32 };
                let outputs = outputs.iter().map(|to| if spread { *to } else { own }).collect();
                (*of, *skipped, outputs, *others)
            };
            let steps: Vec<_> = steps.iter().enumerate().map(keep).collect();
            let world = World::build(&steps, cut);
            let known = Known { spreads: spread, ..world.known(offsets) };
            let groups: GroupOffsets = (0..2).map(|number| (source(number), at(offsets[number as usize]))).collect();
            for (to, translation) in known.translate(&groups, &known.feeders()) {
                for (number, records) in (0..).zip(&world.records) {
                    for (offset, places) in records {
                        for (_, place) in places.iter().filter(|(partition, _)| target(*partition) == to) {
                            let had = *offset < offsets[number];
                            prop_assert!(had || *place >= translation.to.offset, "missed {offset} of {number} at {place}: {translation:?}");
                            // A source partition that came here long ago, and never since it is known, is not known to.
                            let known = translation.from.contains_key(&source(number as u32));
                            let again = had && known && *place >= translation.to.offset;
                            prop_assert!(!again || translation.certainty != Certainty::Exact, "again {offset} of {number} at {place}: {translation:?}");
                        }
                    }
                }
                let certain = (0..2).all(|number| offsets[number] >= world.known_from[number] && offsets[number] <= world.next[number]);
                if certain && !spread && narrow == 0 {
                    prop_assert_eq!(translation.certainty, Certainty::Exact);
                    prop_assert_eq!(&*translation.to.metadata, "note");
                }
            }
        }
    }

    #[test]
    fn a_partition_that_the_group_has_not_committed_is_read_from_its_beginning_if_it_feeds_the_same() {
        let world = World::build(&[(0, 0, vec![0], 0), (1, 0, vec![0], 0), (0, 0, vec![0], 0)], [0, 0]);
        let known = world.known([2, 0]);
        let translated = known.translate(&[(source(0), at(2))].into(), &known.feeders());
        let Translation { to, certainty, from } = &translated[&target(0)];
        assert_eq!((to.offset, *certainty), (0, Certainty::Uncommitted));
        assert_eq!(*from, [(source(0), Some(2)), (source(1), None)].into());
        assert_eq!(translated.get(&target(1)), None, "the group is in nothing that goes there");
    }

    #[test]
    fn what_was_too_long_ago_is_read_from_the_nearest_earlier_waypoint() {
        let steps: Vec<_> = (0..20).map(|_| (0, 0, vec![0], 0)).collect();
        let known = World::build(&steps, [18, 0]).known([19, 0]);
        let place = |offset| known.translate(&[(source(0), at(offset))].into(), &known.feeders())[&target(0)].clone();
        let places = [3, 4, 8, 13, 17, 18].map(|offset| (place(offset).to.offset, place(offset).certainty));
        let nearest = |offset| (offset, Certainty::Nearest);
        let expected = [(0, Certainty::Forgotten), nearest(4), nearest(4), nearest(9), nearest(14)];
        assert_eq!(places[..5], expected);
        assert_eq!(place(19).certainty, Certainty::Exact);
        // Whoever has cut the target off leaves nobody beyond its end.
        let mut cut = known;
        cut.ranges.insert(target(0), PartitionRange { log_start: 0, end: 7 });
        let translated = cut.translate(&[(source(0), at(13))].into(), &cut.feeders());
        assert_eq!(translated[&target(0)].to.offset, 7);
    }

    #[test]
    fn what_came_back_is_not_passed_over() {
        let steps: Vec<_> = (0..20).map(|_| (0, 0, vec![0], 0)).collect();
        let mut known = World::build(&steps, [0, 0]).known([15, 0]);
        let place = |known: &Known, offset| {
            let translated = known.translate(&[(source(0), at(offset))].into(), &known.feeders());
            (translated[&target(0)].to.offset, translated[&target(0)].certainty)
        };
        assert_eq!(place(&known, 15), (15, Certainty::Exact));
        let (until, begins) = ([(0, 16)].into(), vec![12]);
        known.returned = vec![Returned { topic: "in".into(), until, target: "out".into(), begins }];
        assert_eq!(place(&known, 15), (12, Certainty::Shared));
        assert_eq!(place(&known, 20), (20, Certainty::Exact), "it has had all of that");
        known.returned[0].target = "other".into();
        assert_eq!(place(&known, 15), (15, Certainty::Exact));
    }

    #[test]
    fn what_readers_see_before_it_is_written_down_is_not_passed_over() {
        let steps: Vec<_> = (0..20).map(|_| (0, 0, vec![0], 0)).collect();
        let mut known = World::build(&steps, [0, 0]).known([20, 0]);
        known.shows_early = true;
        known.ranges.insert(target(0), PartitionRange { log_start: 3, end: 25 });
        let place =
            |known: &Known| known.translate(&[(source(0), at(20))].into(), &known.feeders())[&target(0)].clone();
        assert_eq!((place(&known).to.offset, place(&known).certainty), (3, Certainty::Shared));
        known.copied.entry(source(0)).or_default().last.insert(target(0), 20);
        assert_eq!(place(&known).to.offset, 20);
    }

    #[test]
    fn what_is_before_the_links_beginning_was_never_copied() {
        let mut world = World::build(&[(0, 10, vec![0], 3), (0, 0, vec![0], 0)], [10, 0]);
        world.known_from[0] = 10;
        let mut known = world.known([10, 0]);
        let place = |known: &Known| known.translate(&[(source(0), at(4))].into(), &known.feeders())[&target(0)].clone();
        assert_eq!((place(&known).to.offset, place(&known).certainty), (0, Certainty::Forgotten));
        known.begins.insert(source(0), 10);
        assert_eq!((place(&known).to.offset, place(&known).certainty), (3, Certainty::BeforeBeginning));
    }

    #[test]
    fn a_group_before_the_links_beginning_misses_records_wherever_it_goes_on() {
        let steps: Vec<_> = (0..20).map(|number| (0, if number == 0 { 10 } else { 0 }, vec![0], 0)).collect();
        let world = World::build(&steps, [10, 0]);
        let place = |known: &Known, offset| {
            let translated = known.translate(&[(source(0), at(offset))].into(), &known.feeders());
            (translated[&target(0)].to.offset, translated[&target(0)].certainty)
        };
        let begun = |known: Known| Known { begins: [(source(0), 10)].into(), ..known };
        for offset in [0, 5, 9] {
            assert_eq!(place(&begun(world.known([10, 0])), offset), (0, Certainty::BeforeBeginning), "{offset}");
        }
        assert_eq!(place(&begun(world.known([10, 0])), 10), (0, Certainty::Exact), "it has missed nothing");
        assert_eq!(place(&begun(world.known([12, 0])), 12), (2, Certainty::Exact));

        // Nothing was copied yet, or readers see records early, or it was long ago, or something came back.
        let mut none = begun(World::build(&[], [0, 0]).known([10, 0]));
        none.next.insert(source(0), 10);
        none.copied.clear();
        assert_eq!(place(&none, 9), (0, Certainty::BeforeBeginning));
        let early = Known { shows_early: true, ..begun(world.known([30, 0])) };
        assert_eq!(place(&early, 9).1, Certainty::BeforeBeginning);
        let mut late = world.clone();
        late.known_from = vec![20, 0];
        assert_eq!(place(&begun(late.known([10, 0])), 9), (0, Certainty::BeforeBeginning));
        let (until, begins) = ([(0, 30)].into(), vec![0]);
        let returned = vec![Returned { topic: "in".into(), until, target: "out".into(), begins }];
        assert_eq!(place(&Known { returned, ..begun(world.known([10, 0])) }, 9), (0, Certainty::BeforeBeginning));
    }

    #[test]
    fn a_group_misses_what_the_target_has_deleted() {
        let steps: Vec<_> = (0..20).map(|_| (0, 0, vec![0], 0)).collect();
        let place = |offset| {
            let mut known = World::build(&steps, [0, 0]).known([offset, 0]);
            known.ranges.insert(target(0), PartitionRange { log_start: 7, end: 20 });
            let translated = known.translate(&[(source(0), at(offset))].into(), &known.feeders());
            (translated[&target(0)].to.offset, translated[&target(0)].certainty)
        };
        assert_eq!(place(6), (7, Certainty::BeforeBeginning));
        assert_eq!((place(7), place(20)), ((7, Certainty::Exact), (20, Certainty::Exact)));
    }

    #[test]
    fn one_partition_before_the_links_beginning_decides_about_a_shared_one() {
        let world = World::build(&[(0, 5, vec![0], 0), (1, 0, vec![0], 0)], [5, 0]);
        let known = Known { begins: [(source(0), 5), (source(1), 0)].into(), ..world.known([5, 0]) };
        let groups = |first| [(source(0), at(first)), (source(1), at(0))].into();
        let certainty = |first| known.translate(&groups(first), &known.feeders())[&target(0)].certainty;
        assert_eq!((certainty(4), certainty(5)), (Certainty::BeforeBeginning, Certainty::Shared));
        let mut translation = known.translate(&groups(4), &known.feeders())[&target(0)].clone();
        translation.to.offset = 9;
        translation.keep_below(Some(&3));
        assert_eq!((translation.to.offset, translation.certainty), (3, Certainty::BeforeBeginning));
    }

    /// Somebody else has copied it, or it is not known who: a group is never put behind what it has not had.
    #[test]
    fn a_group_goes_on_at_the_beginning_where_it_is_not_known_what_was_copied() {
        let range = PartitionRange { log_start: 3, end: 90 };
        let known = |next: Option<i64>| Known {
            next: next.map(|next| (source(0), next)).into_iter().collect(),
            usual: [(source(0), target(0))].into(),
            counts: [("out".into(), 1)].into(),
            ranges: [(target(0), range)].into(),
            ..Known::default()
        };
        let place = |next: Option<i64>, offset: i64| {
            let known = known(next);
            let groups: GroupOffsets = [(source(0), at(offset))].into();
            let translation = known.translate(&groups, &known.feeders())[&target(0)].clone();
            (translation.to.offset, translation.certainty)
        };
        assert_eq!(place(None, 500), (3, Certainty::Forgotten));
        assert_eq!(place(Some(1000), 500), (3, Certainty::Forgotten), "MirrorMaker 2 has come to 1000");
        assert_eq!(place(Some(1000), 1000), (90, Certainty::Exact));
        assert_eq!(place(Some(0), 500), (90, Certainty::Ahead), "the link has not begun");
    }

    #[test]
    fn old_records_of_a_widened_target_are_where_its_number_of_partitions_brought_them() {
        // Source 1 went to partition 0, the only one, then to partition 1: the first is forgotten.
        let steps = [(1, 0, vec![0], 0), (0, 0, vec![0], 0), (1, 0, vec![1], 0), (1, 0, vec![1], 0)];
        let known = World::build(&steps, [0, 2]).known([1, 0]);
        let groups: GroupOffsets = [(source(0), at(1)), (source(1), at(0))].into();
        let translated = known.translate(&groups, &known.feeders());
        assert_eq!((translated[&target(0)].to.offset, translated[&target(0)].certainty), (0, Certainty::Forgotten));
        assert!(translated[&target(0)].from.contains_key(&source(1)), "{translated:?}");
        // A group that has had all that is forgotten goes on exactly.
        let known = World::build(&steps, [0, 2]).known([1, 2]);
        let groups: GroupOffsets = [(source(0), at(1)), (source(1), at(2))].into();
        let translated = known.translate(&groups, &known.feeders());
        assert_eq!((translated[&target(0)].to.offset, translated[&target(0)].certainty), (2, Certainty::Exact));
    }

    #[test]
    fn the_numbers_of_partitions_that_a_topic_may_have_had_are_all_up_to_that_of_today() {
        for (source, target, count) in (0..24).flat_map(|s| (0..24).flat_map(move |t| (1..24).map(move |c| (s, t, c))))
        {
            let expected = (1..=count).any(|number| source % number == target);
            assert_eq!(may_have_gone(source, target, count), expected, "{source} to {target} with {count}");
        }
    }
}
