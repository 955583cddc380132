//! Where the target was when the link was somewhere in the source: noted now and then, for groups at offsets that are older than all that is known exactly.
//!
//! First the ends of the target's partitions are read, as far as readers see them; then all is waited for that readers see by then, and the checkpoints are read. A record that
//! stands for a source offset behind its checkpoint was not committed when the ends were read, so it is at or behind the end of its partition, whatever plugins do. A group that goes on there
//! misses nothing, and reads again what was copied between the offset noted and its own. After a reset what was noted before does not count: the target may have been cut off.
//!
//! Time is cut into periods. For each power of two there are four slots, taken in turn by the periods whose number it divides and the next power does not. So the older, the
//! sparser; and what is found is at most two thirds older than what was looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::super::genesis::of_lanes;
use super::super::lane::now_ms;
use super::super::supervisor::Link;
use crate::connector::Patience;
use crate::model::{TopicId, TopicPartition, encode};

/// How long a period is, in milliseconds.
const PERIOD_MS: u64 = 600_000;

/// Powers of two that are told apart: the last one is 57 days, of which four are kept.
const LEVELS: u32 = 14;

/// How many are kept of each.
const KEPT: u64 = 4;

/// How long it may take until readers see all of what they have seen in part.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the link was in the source, and how far the target was then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waypoint {
    /// When it was noted, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// By source topic: of each partition the next offset that the link copies, and its link epoch; `None`: it has copied nothing.
    pub next: BTreeMap<String, Vec<Option<(i64, u64)>>>,
    /// How far the topics of the target were.
    pub ends: BTreeMap<String, Ends>,
}

/// How far a topic of the target was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Its identity: what is said of one that was deleted does not hold for another one of that name.
    pub id: TopicId,
    /// The end of each partition, as readers saw it.
    pub ends: Vec<i64>,
}

impl Waypoint {
    /// Where in a partition of the target everything was still to come that stands for `offset` of a source partition, or for what is behind it.
    /// `epoch` is the link epoch of the source partition now: what was noted before a reset does not count.
    pub(super) fn before(
        &self,
        (source, epoch): (&TopicPartition, u64),
        offset: i64,
        target: &TopicPartition,
    ) -> Option<i64> {
        let (next, of) = (*self.next.get(&*source.topic)?.get(source.partition as usize)?)?;
        let end = *self.ends.get(&*target.topic)?.ends.get(target.partition as usize)?;
        (next <= offset && of == epoch).then_some(end)
    }
}

/// Where a waypoint of a period is kept.
fn slot(period: u64) -> String {
    let level = period.trailing_zeros().min(LEVELS - 1);
    key(u64::from(level) * KEPT + (period >> (level + 1)) % KEPT)
}

fn key(slot: u64) -> String {
    format!("waypoint-{slot}")
}

/// The partitions of a topic of which anything is kept: a list has room for all that are before one.
const PARTITIONS_MAX: u32 = 1 << 20;

/// The values of partitions in a list each topic, of which those that are missing are `none`.
fn by_topic<T: Clone>(values: BTreeMap<TopicPartition, T>, none: &T) -> BTreeMap<String, Vec<T>> {
    let mut topics: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (partition, value) in values.into_iter().filter(|(partition, _)| partition.partition < PARTITIONS_MAX) {
        let list = topics.entry(partition.topic.to_string()).or_default();
        list.resize(partition.partition as usize, none.clone());
        list.push(value);
    }
    topics
}

impl Link {
    /// Note where the link is, unless that was done in this period: `last` is the one in which it was done last.
    pub(super) fn note_waypoint(&self, last: &mut Option<u64>) -> Result<(), Failure> {
        let now = now_ms();
        let period = now.unsigned_abs() / PERIOD_MS;
        let has_groups = self.target().has_groups() && self.source().has_groups();
        // Otherwise readers see records before the checkpoint says so.
        let is_atomic = self.target().is_atomic(self.config().config.enable_exactly_once);
        if *last == Some(period) || !has_groups || !is_atomic {
            return Ok(());
        }
        let Some(waypoint) = self.waypoint(now)? else { return Ok(()) };
        self.store(&slot(period), &encode("a waypoint", &waypoint)?)?;
        *last = Some(period);
        Ok(())
    }

    /// `None`: readers did not see all of it in time.
    fn waypoint(&self, at_ms: i64) -> Result<Option<Waypoint>, Failure> {
        let (id, target) = (&self.config().id, self.target());
        let ends = self.ends_there()?;
        let checkpoints = of_lanes(&**target, id, |generation| {
            let is_shown = target.await_checkpoints(id, generation, PATIENCE)?;
            Ok(is_shown.then(|| target.checkpoints(id, generation)).transpose()?)
        })?;
        Ok(checkpoints.map(|checkpoints| {
            let next = checkpoints
                .into_iter()
                .map(|(partition, at)| (partition, Some((at.next_offset, at.link_epoch))))
                .collect();
            Waypoint { at_ms, next: by_topic(next, &None), ends }
        }))
    }

    /// How far the topics of the target are that the link is known to write to. Those that only plugins name are known where groups go along by themselves.
    fn ends_there(&self) -> Result<BTreeMap<String, Ends>, Failure> {
        let (config, target) = (self.config(), self.target());
        let names = self.source().topics()?.into_iter().map(|topic| topic.name);
        let topics: BTreeSet<Arc<str>> = names.filter(|name| config.selects(name)).collect();
        let usual: BTreeSet<TopicPartition> = self.usual(&topics, &self.partition_counts()?)?.into_values().collect();
        let usual: Vec<TopicPartition> = usual.into_iter().collect();
        let ranges = if config.groups.groups.is_empty() {
            let ranges: Result<Vec<_>, _> = target.ranges_of(&usual, Patience::Long).into_iter().collect();
            usual.iter().cloned().zip(ranges?).collect()
        } else {
            target.copied(&config.id, &usual, &BTreeMap::new())?.ranges
        };
        let ids = self.target_ids()?;
        // Of a partition that nobody asked for everything counts as still to come: so nothing is missed there.
        let ends = by_topic(ranges.into_iter().map(|(partition, range)| (partition, range.end)).collect(), &0);
        Ok(ends
            .into_iter()
            .filter_map(|(topic, ends)| Some((topic.clone(), Ends { id: *ids.get(&*topic)?, ends })))
            .collect())
    }

    pub(super) fn target_ids(&self) -> Result<BTreeMap<Arc<str>, TopicId>, Failure> {
        Ok(self.target().topics()?.into_iter().map(|topic| (topic.name, topic.id)).collect())
    }

    /// What was noted, as far as the topics of the target are those of then.
    pub(super) fn waypoints(&self) -> Result<Vec<Waypoint>, Failure> {
        let ids = self.target_ids()?;
        let mut found = Vec::new();
        for slot in 0..u64::from(LEVELS) * KEPT {
            let Some(bytes) = self.target().metadata(&self.config().id, &key(slot))? else { continue };
            // What cannot be read is as good as what was not noted: a group reads more again.
            let mut waypoint = match serde_json::from_slice::<Waypoint>(&bytes) {
                Ok(waypoint) => waypoint,
                Err(error) => {
                    tracing::warn!(link = &*self.config().id, slot, "a waypoint cannot be read: {error}");
                    continue;
                }
            };
            waypoint.ends.retain(|topic, ends| ids.get(&**topic) == Some(&ends.id));
            found.push(waypoint);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waypoint_says_what_was_still_to_come() {
        let place = TopicPartition::new;
        let next = [(place("in", 0), Some((10, 1))), (place("in", 2), Some((30, 1)))].into();
        let ends = [(place("out", 1), 500)].into();
        let waypoint = Waypoint {
            at_ms: 0,
            next: by_topic(next, &None),
            ends: [("out".into(), Ends { id: TopicId(1), ends: by_topic(ends, &0).remove("out").expect("a topic") })]
                .into(),
        };
        let before = |source, offset, target| waypoint.before((&place("in", source), 1), offset, &place("out", target));
        assert_eq!(before(0, 10, 1), Some(500));
        assert_eq!(before(0, 99, 0), Some(0), "an end that was not asked for");
        assert_eq!(before(0, 9, 1), None, "it was too late");
        assert_eq!(before(1, 99, 1), None, "nothing of it was copied");
        assert_eq!(before(2, 30, 1), Some(500));
        assert_eq!((before(3, 99, 1), before(0, 99, 2)), (None, None));
        assert_eq!(waypoint.before((&place("in", 0), 1), 99, &place("other", 0)), None);
        assert_eq!(waypoint.before((&place("in", 0), 2), 99, &place("out", 1)), None, "it was reset since");
    }

    #[test]
    fn what_is_kept_is_at_most_two_thirds_older_than_what_was_looked_for() {
        let mut kept: BTreeMap<String, u64> = BTreeMap::new();
        let now = 3_000_000;
        kept.extend((0..=now).map(|period| (slot(period), period)));
        assert_eq!(kept.len() as u64, u64::from(LEVELS) * KEPT);
        let mut ages: Vec<u64> = kept.values().map(|period| now - period).collect();
        ages.sort_unstable();
        let oldest = *ages.last().expect("some");
        assert!(oldest * PERIOD_MS > 200 * 86_400_000, "{oldest} periods");
        for age in 0..=oldest {
            let found = ages[ages.partition_point(|kept| *kept < age)];
            assert!(found <= age + 1 + age * 2 / 3, "{age}: {found}");
        }
    }
}
