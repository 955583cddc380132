//! Consumer groups of the source that go along to the target.
//!
//! Reading order: [`translate`] (where a group goes on, pure), this file (what would be done about each group, and doing it), [`waypoints`] (what is known of times
//! long ago).
//!
//! Invariants
//! - A group that has members at the target is never moved: its cluster refuses that, whatever we believe.
//! - A group is moved forward only, unless a person asks for the other: it may have run at the target in the meantime.
//! - What a plan shows and what is done comes from one function.

pub mod translate;
pub mod waypoints;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::translate::{Certainty, Known, Returned, Translation};
use super::failover::places_of_all;
use super::failure::Failure;
use super::genesis::of_lanes;
use super::lane::now_ms;
use super::status::lock;
use super::supervisor::Link;
use super::topics::notices::{About, Notice};
use super::warden::Alarm;
use crate::config::{GroupSelection, Start, is_own_group};
use crate::connector::{Cluster, CopiedPartition, Group, GroupOffsets};
use crate::model::{LinkId, TopicPartition};

/// How soon it is tried again after a failure, unless groups are moved more often anyway.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What would be done about a group, or was.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// Its name.
    pub group: Arc<str>,
    /// Whether the configuration says that it goes along.
    pub follows: bool,
    /// Its state at the source.
    pub source_state: Arc<str>,
    /// Its state at the target; `None`: it is not known there.
    pub target_state: Option<Arc<str>>,
    /// What becomes of it.
    pub fate: Fate,
    /// Where it goes on, by partition of the target.
    pub partitions: BTreeMap<TopicPartition, PlannedOffset>,
    /// Why it could not be looked at or moved.
    pub failure: Option<Failure>,
}

impl GroupPlan {
    /// That the group misses records where it is moved to, if it was before the link's beginning.
    pub fn missing(&self) -> Option<String> {
        let is_before =
            |planned: &PlannedOffset| planned.moves && planned.translation.certainty == Certainty::BeforeBeginning;
        let mut places = self.partitions.iter().filter(|(_, planned)| is_before(planned));
        let (first, _) = places.next().filter(|_| matches!(self.fate, Fate::Move | Fate::Moved))?;
        let count = 1 + places.count();
        Some(format!(
            "group {} misses records in {count} partitions, among them {first}: it is further back than what the target has",
            self.group
        ))
    }
}

/// What becomes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is to be moved.
    Move,
    /// It was moved.
    Moved,
    /// It is where it should be, or further.
    Stays,
    /// It has members at the target, and says itself where it is.
    Active,
    /// It could not be looked at, or not be moved.
    Failed,
}

/// Where a group goes on in a partition of the target.
#[derive(Clone, Debug)]
pub struct PlannedOffset {
    /// Where it goes on according to where it is at the source.
    pub translation: Translation,
    /// Where it is at the target now.
    pub present: Option<i64>,
    /// Whether it is to be moved there.
    pub moves: bool,
}

/// Which groups, and what may be done with them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selected<'a> {
    /// Those that this selects; `None`: all that have committed offsets of the link's topics.
    pub groups: Option<&'a GroupSelection>,
    /// Whether a group may also be moved back.
    pub rewinds: bool,
}

/// What the last round of moving groups has done.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// How long it took.
    pub took: Duration,
    /// How many groups go along.
    pub groups: usize,
    /// How many of them were moved.
    pub moved: usize,
    /// How many are active at the target.
    pub active: usize,
    /// How many could not be moved.
    pub failed: usize,
}

/// The groups of a link.
#[derive(Debug, Default)]
pub(super) struct Groups {
    last: Mutex<Option<Round>>,
    /// Wakes the thread that moves them.
    pub(super) alarm: Alarm,
}

impl Link {
    /// What would be done about groups. Changes nothing.
    ///
    /// # Errors
    /// A cluster does not answer, or has no groups.
    pub fn plan_groups(&self, selected: Selected<'_>) -> Result<Vec<GroupPlan>, Failure> {
        let wanted = |group: &Group| match selected.groups {
            None => !is_own_group(&group.name),
            Some(selection) => selection.selects(&group.name),
        };
        let groups = self.source().groups()?.ok_or_else(|| no_groups(&self.config().source))?;
        let groups: Vec<Group> = groups.into_iter().filter(wanted).collect();
        let present = self.target().groups()?.ok_or_else(|| no_groups(&self.config().target))?;
        let present: BTreeMap<Arc<str>, Group> = present.into_iter().map(|group| (group.name.clone(), group)).collect();
        let names: Vec<Arc<str>> = groups.iter().map(|group| group.name.clone()).collect();
        let mut at_source = self.source().group_offsets(&names)?;
        // Also of those that were not listed: a coordinator that just moves leaves some out.
        let mut at_target = self.target().group_offsets(&at_source.keys().cloned().collect::<Vec<_>>())?;
        for offsets in at_source.values_mut().flatten() {
            offsets.retain(|partition, _| self.config().selects(&partition.topic));
        }
        let known = self.known(at_source.values().flatten())?;
        let feeders = known.feeders();
        let plan = |group: &Group| -> Option<GroupPlan> {
            let there = present.get(&group.name);
            let mut plan = GroupPlan {
                group: group.name.clone(),
                follows: self.config().groups.groups.selects(&group.name),
                source_state: group.state.clone(),
                target_state: there.map(|there| there.state.clone()),
                fate: Fate::Failed,
                partitions: BTreeMap::new(),
                failure: None,
            };
            let offsets = match at_source.remove(&group.name)? {
                Ok(offsets) if offsets.is_empty() => return None,
                Ok(offsets) => offsets,
                Err(error) => return Some(GroupPlan { failure: Some(error.into()), ..plan }),
            };
            let here = match at_target.remove(&group.name).unwrap_or_else(|| Ok(GroupOffsets::new())) {
                Ok(here) => here,
                Err(error) => return Some(GroupPlan { failure: Some(error.into()), ..plan }),
            };
            if let Some(topic) = offsets.keys().map(|partition| &partition.topic).find(|topic| self.is_mixed(topic)) {
                return Some(GroupPlan { failure: Some(mixed(topic)), ..plan });
            }
            let mut translations = known.translate(&offsets, &feeders);
            for (target, translation) in &mut translations {
                translation.keep_below(self.config().groups.unread.get(target));
            }
            plan.partitions = moves(translations, &here, selected.rewinds);
            plan.fate = match plan.partitions.values().any(|partition| partition.moves) {
                _ if there.is_some_and(|there| there.is_active) => Fate::Active,
                true => Fate::Move,
                false => Fate::Stays,
            };
            Some(plan)
        };
        Ok(groups.iter().filter_map(plan).collect())
    }

    /// Move groups, and say what was done about each.
    ///
    /// # Errors
    /// A cluster does not answer, or has no groups.
    pub fn sync_groups(&self, selected: Selected<'_>) -> Result<Vec<GroupPlan>, Failure> {
        let mut plans = self.plan_groups(selected)?;
        for plan in plans.iter_mut().filter(|plan| plan.fate == Fate::Move) {
            let moves = plan.partitions.iter().filter(|(_, partition)| partition.moves);
            let offsets = moves.map(|(target, partition)| (target.clone(), partition.translation.to.clone())).collect();
            match self.target().move_group(&plan.group, &offsets) {
                Ok(true) => plan.fate = Fate::Moved,
                // It came to life in between.
                Ok(false) => plan.fate = Fate::Active,
                Err(error) => {
                    plan.fate = Fate::Failed;
                    plan.failure = Some(error.into());
                }
            }
        }
        Ok(plans)
    }

    /// What the last round of moving groups has done; `None`: there was none since the daemon started, here at least.
    pub fn group_round(&self) -> Option<Round> {
        lock(&self.groups.last).clone()
    }

    /// Move the groups that the configuration names, again and again, until [`Link::dismiss`], and note now and then where the link is. Work for the whole link: one
    /// daemon does it.
    pub fn follow_groups(&self) {
        let config = &self.config().groups;
        let has_groups = self.source().has_groups() && self.target().has_groups();
        if config.groups.is_empty() && !has_groups {
            return;
        }
        let mut wait = AGAIN_AFTER.min(config.interval);
        let mut noted = None;
        while self.groups.alarm.wait(wait) {
            if self.at_work().is_none() || !self.leads() {
                continue;
            }
            if let Err(failure) = self.note_waypoint(&mut noted) {
                tracing::debug!(link = &*self.config().id, code = failure.code, "no waypoint: {failure}");
            }
            if config.groups.is_empty() {
                wait = config.interval;
                continue;
            }
            let begun = Instant::now();
            let done = self.sync_groups(Selected { groups: Some(&config.groups), ..Selected::default() });
            wait = match &done {
                Ok(_) => config.interval.saturating_sub(begun.elapsed()),
                Err(_) => AGAIN_AFTER.min(config.interval),
            };
            self.note_round(done, begun.elapsed());
        }
    }

    fn note_round(&self, done: Result<Vec<GroupPlan>, Failure>, took: Duration) {
        let failure = match done {
            Err(failure) => Some(failure),
            Ok(mut plans) => {
                let count = |fate| plans.iter().filter(|plan| plan.fate == fate).count();
                let (moved, active, failed) = (count(Fate::Moved), count(Fate::Active), count(Fate::Failed));
                let round = Round { at_ms: now_ms(), took, groups: plans.len(), moved, active, failed };
                tracing::debug!(link = &*self.config().id, ?round, "groups");
                *lock(&self.groups.last) = Some(round);
                plans.iter_mut().find_map(|plan| plan.failure.take())
            }
        };
        let notices = failure.map(|failure| Notice::of(&"".into(), failure)).into_iter().collect();
        self.topics.notices.replace(About::Groups, notices, &self.events);
    }

    /// Whether records of a source topic may come from the topic that it is copied to. What a way back reads does not: it begins behind all that came.
    fn is_mixed(&self, topic: &str) -> bool {
        let config = self.config();
        let is_way_back = matches!(config.start, Start::Offsets(_));
        !is_way_back && config.is_written_on_both_sides(topic)
    }

    /// What is to be known of where records are, for groups with these offsets.
    fn known<'a>(&self, groups: impl Iterator<Item = &'a GroupOffsets>) -> Result<Known, Failure> {
        let (config, target) = (self.config(), self.target());
        let mut known = Known::default();
        let (checkpoints, starts) = of_lanes(&**target, &config.id, |generation| {
            let checkpoints = target.checkpoints(&config.id, generation)?;
            Ok((checkpoints, target.revision_starts(&config.id, generation)?))
        })?;
        // What MirrorMaker 2 has copied before, what was copied before a reset, and what had come from the target itself is there too.
        let genesis = self.known_genesis()?;
        let came_from_target =
            |partition: &TopicPartition| matches!(&config.start, Start::Offsets(from) if from.contains_key(partition));
        let is_all = |partition: &TopicPartition| {
            let taken_over = genesis.as_ref().is_some_and(|genesis| genesis.is_taken_over(partition));
            !taken_over
                && !came_from_target(partition)
                && checkpoints.get(partition).is_some_and(|at| at.link_epoch == 0)
        };
        for start in starts.into_iter().filter(|start| is_all(&start.partition)) {
            let begin = known.begins.entry(start.partition).or_insert(start.offset);
            *begin = start.offset.min(*begin);
        }
        let offsets: Vec<(&TopicPartition, i64)> =
            groups.flatten().map(|(partition, at)| (partition, at.offset)).collect();
        known.next = checkpoints.iter().map(|(partition, at)| (partition.clone(), at.next_offset)).collect();
        // Of a partition without a checkpoint the link record says where the link is going to begin: at its first record, unless it says where. What MirrorMaker 2 has
        // copied is not known before there is such a record.
        let is_known = genesis.is_some() || !matches!(config.start, Start::MirrorMaker(_));
        let without = offsets.iter().filter(|(partition, _)| is_known && !checkpoints.contains_key(*partition));
        for (partition, _) in without {
            let start = genesis.as_ref().and_then(|genesis| genesis.start_of(partition, &config.start));
            known.next.insert((*partition).clone(), start.unwrap_or(0));
            let is_taken_over = genesis.as_ref().is_some_and(|genesis| genesis.is_taken_over(partition));
            if let Some(start) = start.filter(|_| !is_taken_over && !came_from_target(partition)) {
                known.begins.insert((*partition).clone(), start);
            }
        }
        known.epochs = checkpoints.iter().map(|(partition, at)| (partition.clone(), at.link_epoch)).collect();
        known.shows_early = !target.is_atomic(config.config.enable_exactly_once);
        known.returned = returned(&**target, &config.id)?;
        let mut sought: BTreeMap<TopicPartition, BTreeSet<i64>> = BTreeMap::new();
        for (partition, at) in offsets {
            sought.entry(partition.clone()).or_default().insert(known.sought(partition, at));
        }
        let topics: BTreeSet<Arc<str>> = sought.keys().map(|partition| partition.topic.clone()).collect();
        known.counts = self.partition_counts()?;
        known.usual = self.usual(&topics, &known.counts)?;
        known.spreads = self.history()?.revisions().iter().any(|revision| !revision.stages.is_empty());
        let usual: Vec<TopicPartition> = known.usual.values().cloned().collect();
        let copied = target.copied(&config.id, &usual, &sought)?;
        let is_letter = |partition: &TopicPartition| *partition.topic == *config.dead_letters;
        // What was copied before a reset says nothing of what comes after it.
        let is_outdated = |partition: &TopicPartition, copied: &CopiedPartition| {
            checkpoints.get(partition).is_some_and(|at| copied.epoch < at.link_epoch)
        };
        let of_topics = |(partition, mut copied): (TopicPartition, CopiedPartition)| {
            copied.first.retain(|to, _| !is_letter(to));
            let counts = topics.contains(&partition.topic) && !is_outdated(&partition, &copied);
            counts.then_some((partition, copied))
        };
        known.copied = copied.partitions.into_iter().filter_map(of_topics).collect();
        known.ranges = copied.ranges;
        let ids = self.target_ids()?;
        let made_again = checkpoints.iter().filter_map(|(partition, at)| {
            let target = config.target_topic(&partition.topic);
            ids.get(&*target).is_some_and(|id| *id != at.target_topic_id).then_some(target)
        });
        // Nothing that is known holds for a topic that was made again: the lane stops for that, and so does this.
        let made_again: BTreeSet<_> = made_again.collect();
        known.ranges.retain(|target, _| !made_again.contains(&*target.topic));
        let is_forgotten = |(partition, offsets): (_, &BTreeSet<i64>)| {
            offsets.first().is_some_and(|earliest| known.is_forgotten(partition, *earliest))
        };
        if sought.iter().any(is_forgotten) {
            known.waypoints = self.waypoints()?;
        }
        Ok(known)
    }

    /// How many partitions each topic of the target has.
    fn partition_counts(&self) -> Result<BTreeMap<Arc<str>, u32>, Failure> {
        Ok(self.target().topics()?.into_iter().map(|topic| (topic.name, topic.partitions)).collect())
    }

    /// Which partition of the target each partition of these source topics keeps to today, where both are
    /// there. `counts` says how many partitions the topics of the target have.
    fn usual(
        &self,
        topics: &BTreeSet<Arc<str>>,
        counts: &BTreeMap<Arc<str>, u32>,
    ) -> Result<BTreeMap<TopicPartition, TopicPartition>, Failure> {
        let mut usual = BTreeMap::new();
        for topic in self.source().topics()?.into_iter().filter(|topic| topics.contains(&topic.name)) {
            let target: Arc<str> = self.config().target_topic(&topic.name).into();
            let Some(count) = counts.get(&target).filter(|count| **count > 0) else { continue };
            for partition in 0..topic.partitions {
                let to = TopicPartition::new(target.clone(), partition % count);
                usual.insert(TopicPartition::new(topic.name.clone(), partition), to);
            }
        }
        Ok(usual)
    }
}

/// What others wrote to the target while it had the source's place.
fn returned(target: &dyn Cluster, link: &LinkId) -> Result<Vec<Returned>, Failure> {
    let mut all = Vec::new();
    for (left, found) in places_of_all(target, link)? {
        for (name, topic) in left.topics {
            let ends = found.as_ref().map(|found| found.topics.get(&name).map(|topic| topic.source_ends.clone()));
            let until = match ends {
                Some(ends) => ends.unwrap_or_default(),
                // It has not come back: no group can have had it.
                None => topic.next.keys().map(|number| (*number, i64::MAX)).collect(),
            };
            let (topic, target, begins) = (name.into(), topic.target.into(), topic.target_ends);
            all.push(Returned { topic, until, target, begins });
        }
    }
    Ok(all)
}

fn mixed(topic: &str) -> Failure {
    Failure::fatal(
        "groups-mixed",
        format!(
            "{topic} is written on both sides and goes both ways under one name: what a group has had of the other side's records is not known"
        ),
        "use a topic_prefix; or have the group begin at a time when it still read here (kafka-consumer-groups.sh --reset-offsets --to-datetime)",
    )
}

/// Which offsets of a group change.
fn moves(
    translations: BTreeMap<TopicPartition, Translation>,
    here: &GroupOffsets,
    rewinds: bool,
) -> BTreeMap<TopicPartition, PlannedOffset> {
    let planned = |(target, translation): (TopicPartition, Translation)| {
        let (present, to) = (here.get(&target).map(|at| at.offset), translation.to.offset);
        let moves = present.is_none_or(|present| present < to || rewinds && present > to);
        (target, PlannedOffset { translation, present, moves })
    };
    translations.into_iter().map(planned).collect()
}

fn no_groups(cluster: &str) -> Failure {
    Failure::fatal(
        "no-consumer-groups",
        format!("cluster {cluster} has no consumer groups: only Kafka clusters do"),
        "use a link between Kafka clusters",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::GroupOffset;

    #[test]
    fn a_group_is_moved_forward_only_unless_somebody_asks_for_the_other() {
        let place = |partition| TopicPartition::new("out", partition);
        let at = |offset| GroupOffset { offset, metadata: "".into() };
        let translation = |offset| Translation { to: at(offset), certainty: Certainty::Exact, from: BTreeMap::new() };
        let translations: BTreeMap<_, _> = (0..4).map(|partition| (place(partition), translation(10))).collect();
        let here: GroupOffsets = [(place(0), at(9)), (place(1), at(10)), (place(2), at(11))].into();
        let moved = |rewinds| {
            moves(translations.clone(), &here, rewinds).into_values().map(|planned| planned.moves).collect::<Vec<_>>()
        };
        assert_eq!(moved(false), [true, false, false, true]);
        assert_eq!(moved(true), [true, false, true, true]);
    }

    #[test]
    fn a_group_that_misses_records_is_moved_and_that_is_said() {
        let translation = |certainty| Translation {
            to: GroupOffset { offset: 10, metadata: "".into() },
            certainty,
            from: BTreeMap::new(),
        };
        let certainties = [Certainty::Forgotten, Certainty::BeforeBeginning, Certainty::BeforeBeginning];
        let places = (0..).map(|partition| TopicPartition::new("out", partition));
        let translations: BTreeMap<_, _> = places.zip(certainties.map(translation)).collect();
        let plan = |here: &GroupOffsets, fate| GroupPlan {
            group: "billing".into(),
            follows: true,
            source_state: "Empty".into(),
            target_state: None,
            fate,
            partitions: moves(translations.clone(), here, false),
            failure: None,
        };
        let none = GroupOffsets::new();
        assert!(plan(&none, Fate::Move).partitions.values().all(|planned| planned.moves));
        let said = plan(&none, Fate::Moved).missing().expect("it is said");
        assert!(said.contains("billing misses records in 2 partitions, among them out-1"), "{said}");
        assert_eq!(plan(&none, Fate::Active).missing(), None, "it is left where it is");
        let there = translations.iter().map(|(place, translation)| (place.clone(), translation.to.clone())).collect();
        assert_eq!(plan(&there, Fate::Stays).missing(), None);
    }
}
