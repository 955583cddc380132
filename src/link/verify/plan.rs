//! What is to be compared with what, and what cannot be: decided once, before anything is read.
//!
//! The order of looking matters. First where the target ends, then the checkpoints: so every record below that end stands for offsets
//! below the checkpoints, also while the link runs. Then where the target ends once more: so everything that the checkpoints stand
//! for is below that second end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::replay::{Replay, Stage};
use super::report::{NotCovered, Side};
use super::terms::Terms;
use super::writers::Writers;
use crate::config::LinkConfig;
use crate::connector::{self, Cluster, PartitionRange, Patience, RevisionStart, Topic};
use crate::link::components::{Components, Guard};
use crate::link::failover::others::{Others, written_by_others};
use crate::link::failure::Failure;
use crate::link::genesis::{self, of_lanes};
use crate::link::pipeline::Pipeline;
use crate::link::revision::History;
use crate::link::run::Run;
use crate::link::watch::Watch;
use crate::model::{Checkpoint, RevisionNumber, TopicPartition};

/// How much longer than a transaction may take it is waited for one that is open.
pub(super) const TRANSACTION_GRACE: Duration = Duration::from_secs(15);

/// A source partition.
pub(super) struct Feed {
    pub(super) replay: Replay,
    /// Its first records are gone from the source.
    pub(super) head_lost: bool,
    /// Compaction may have taken any of its records.
    pub(super) porous: bool,
    /// It cannot be replayed to its checkpoint.
    pub(super) tail_lost: bool,
    /// It has records behind its checkpoint, or may have.
    pub(super) goes_on: bool,
}

/// A target partition.
pub(super) struct Place {
    pub(super) partition: TopicPartition,
    pub(super) terms: Terms,
    /// The first offset that is there.
    pub(super) from: i64,
    /// Everything that the checkpoints stand for is below.
    pub(super) end: i64,
    /// What others may have written.
    pub(super) others: Vec<Range<i64>>,
}

impl Place {
    /// Whether a record is to be compared.
    pub(super) fn covers(&self, offset: i64) -> bool {
        offset < self.end && !self.others.iter().any(|range| range.contains(&offset))
    }
}

/// What is compared with what.
pub(super) struct Plan {
    pub(super) feeds: Vec<Feed>,
    pub(super) places: Vec<Place>,
    pub(super) not_covered: Vec<NotCovered>,
    pub(super) writers: Writers,
    /// Source partitions with records and without a checkpoint, and where their records go.
    unread: Vec<(TopicPartition, Arc<str>)>,
    /// Topics that plugins route to.
    routes: BTreeSet<Arc<str>>,
    /// Whether a plugin may choose the target partition.
    chooses: bool,
}

/// What a plan is made of.
pub(super) struct Survey<'v> {
    pub(super) source: &'v dyn Cluster,
    pub(super) target: &'v dyn Cluster,
    pub(super) components: &'v Components,
    pub(super) history: &'v dyn Fn() -> Result<History, Failure>,
}

impl Survey<'_> {
    /// Look at both clusters, and load every revision that handled anything.
    pub(super) fn plan(&self, stage: &mut Stage<'_>) -> Result<Plan, Failure> {
        let config = stage.config.clone();
        let link = &config.id;
        let mut plan = Plan {
            feeds: Vec::new(),
            places: Vec::new(),
            not_covered: Vec::new(),
            writers: Writers::new(&config),
            unread: Vec::new(),
            routes: BTreeSet::new(),
            chooses: false,
        };
        let mut sources = self.source.topics()?;
        sources.retain(|topic| config.selects(&topic.name));
        let starts_now =
            || of_lanes(self.target, link, |generation| Ok(self.target.revision_starts(link, generation)?));
        self.load(&starts_now()?, stage, &mut plan)?;
        let first_ends = self.ranges(&plan.topics(&sources, &config))?;
        let patience = Duration::from_millis(config.config.transaction_timeout_ms) + TRANSACTION_GRACE;
        // A transaction that hangs must not keep the rest from being looked at.
        let (is_shown, checkpoints) = of_lanes(self.target, link, |generation| {
            let is_shown = self.target.await_checkpoints(link, generation, patience)?;
            Ok((is_shown, self.target.checkpoints(link, generation)?))
        })?;
        let exactly_once = self.target.is_atomic(config.config.enable_exactly_once);
        let starts = starts_now()?;
        self.load(&starts, stage, &mut plan)?;
        let topics = plan.topics(&sources, &config);
        let ranges = self.ranges(&topics)?;
        plan.writers.find_links(self.target, &self.target.topics()?)?;
        for (topic, ranges) in &ranges {
            let partitions = (0..ranges.len() as u32).map(|number| TopicPartition::new(topic.clone(), number));
            let ends = self.target.log_ends(&partitions.collect::<Vec<_>>(), Patience::Long);
            let porous = is_compacted(self.target, topic)?;
            stage.partitions.insert(topic.clone(), ranges.len() as u32);
            for (partition, (range, end)) in (0..).zip(ranges.iter().zip(ends)) {
                let end = end?;
                let first = first_ends.get(topic).and_then(|ranges| ranges.get(partition as usize));
                let scope_end = first.map_or(range.log_start, |first| first.end);
                let floor_end = if is_shown && exactly_once { scope_end } else { i64::MIN };
                let terms = Terms {
                    head_lost: range.log_start > 0,
                    porous,
                    floor_end,
                    scope_end,
                    has_unread: false,
                    others: plan.writers.others(topic),
                    exactly_once,
                };
                let partition = TopicPartition::new(topic.clone(), partition);
                plan.places.push(Place { partition, terms, from: range.log_start, end, others: Vec::new() });
            }
        }
        plan.leave_out_others(written_by_others(self.target, link)?);
        for place in plan.places.iter().filter(|place| place.terms.head_lost) {
            let reason = "retention has taken these from the target";
            plan.not_covered.push(not_covered(Side::Target, &place.partition, 0, place.from, reason));
        }
        self.plan_sources(&sources, &checkpoints, &starts, stage, &mut plan)?;
        plan.bound(stage);
        Ok(plan)
    }

    /// Where the partitions of those topics begin and end that are there.
    fn ranges(&self, topics: &BTreeSet<Arc<str>>) -> Result<BTreeMap<Arc<str>, Vec<PartitionRange>>, Failure> {
        let there = self.target.topics()?.into_iter().filter(|topic| topics.contains(&topic.name));
        there.map(|topic| Ok((topic.name.clone(), self.target.ranges(&topic.name)?))).collect()
    }

    /// Load the revisions that are named and not known yet.
    fn load(&self, starts: &[RevisionStart], stage: &mut Stage<'_>, plan: &mut Plan) -> Result<(), Failure> {
        let numbers: BTreeSet<RevisionNumber> = starts.iter().map(|start| start.revision).collect();
        if numbers.iter().all(|number| stage.revisions.contains_key(number)) {
            return Ok(());
        }
        let history = (self.history)()?;
        let genesis = genesis::read(self.target, &stage.config.id)?.map(|stored| stored.genesis);
        let guard = Guard::of(self.target, &stage.config, genesis.as_ref())?;
        stage.undone = history.last().map(|last| history.undone_by(last.number)).unwrap_or_default();
        for record in history.revisions().iter().filter(|record| numbers.contains(&record.number)) {
            if stage.revisions.contains_key(&record.number) {
                continue;
            }
            let loaded =
                self.components.pipeline(&history, record.clone(), &guard, Watch::default()).and_then(|pipeline| {
                    let pipeline = Arc::new(pipeline);
                    plan.routes.extend(Run::new(&stage.config, &pipeline)?.routes().cloned());
                    pipeline.builtins.timed_headers().for_each(|name| stage.printer.mask_times(name));
                    Ok(pipeline)
                });
            plan.chooses |= loaded.as_ref().is_ok_and(|pipeline| pipeline.transforms());
            plan.writers.add_revision(loaded.as_ref().ok().map(|pipeline| &**pipeline));
            let loaded = loaded.map_err(|failure| format!("revision {} cannot be run: {failure}", record.number));
            stage.revisions.insert(record.number, loaded);
        }
        Ok(())
    }

    /// What becomes of each source partition. Their ends are read behind those of the target: what is in the target by then stands for
    /// records below them.
    fn plan_sources(
        &self,
        sources: &[Topic],
        checkpoints: &BTreeMap<TopicPartition, Checkpoint>,
        starts: &[RevisionStart],
        stage: &Stage<'_>,
        plan: &mut Plan,
    ) -> Result<(), Failure> {
        let mut ranges: HashMap<Arc<str>, Vec<PartitionRange>> = HashMap::new();
        let mut porous: HashMap<Arc<str>, bool> = HashMap::new();
        for topic in sources {
            ranges.insert(topic.name.clone(), self.source.ranges(&topic.name)?);
            porous.insert(topic.name.clone(), is_compacted(self.source, &topic.name)?);
        }
        for (topic, ranges) in &ranges {
            let numbered = (0..).zip(ranges).map(|(number, range)| (TopicPartition::new(topic.clone(), number), range));
            let unread = numbered.filter(|(partition, range)| range.end > 0 && !checkpoints.contains_key(partition));
            let target: Arc<str> = stage.config.target_topic(topic).into();
            plan.unread.extend(unread.map(|(partition, _)| (partition, target.clone())));
        }
        let genesis = genesis::read(self.target, &stage.config.id)?.map(|stored| stored.genesis);
        for (partition, checkpoint) in checkpoints {
            let taken_over = genesis.as_ref().is_some_and(|genesis| genesis.is_taken_over(partition));
            let mut starts: Vec<(RevisionNumber, i64)> = starts
                .iter()
                .filter(|start| start.partition == *partition)
                .map(|start| (start.revision, start.offset))
                .collect();
            starts.sort_unstable();
            if let Some(first) = starts.first_mut().filter(|first| taken_over && stage.copies(first.0)) {
                // It has copied what was there as it was, from the beginning on, and so would the link.
                first.1 = 0;
            }
            let range =
                ranges.get(&partition.topic).and_then(|ranges| ranges.get(partition.partition as usize)).copied();
            let id = sources.iter().find(|topic| topic.name == partition.topic).map(|topic| topic.id);
            let known = Known {
                partition,
                next_offset: checkpoint.next_offset,
                starts: &starts,
                range: range.filter(|_| id == Some(checkpoint.source_topic_id)),
                porous: porous.get(&partition.topic).copied().unwrap_or(false),
                was_reset: checkpoint.link_epoch > 0,
                taken_over,
            };
            let feed = known.feed(stage, &mut plan.not_covered);
            plan.feeds.push(feed);
        }
        Ok(())
    }
}

impl Plan {
    /// Others write to a target that has the source's place. Where they began was written down before they could.
    fn leave_out_others(&mut self, mut others: Others) {
        for place in &mut self.places {
            place.others = others.remove(&place.partition).unwrap_or_default();
            for range in &place.others {
                let (from, to) = (range.start.max(place.from), range.end.min(place.end));
                if from < to {
                    let reason = "the target had the source's place: others may have written these";
                    self.not_covered.push(not_covered(Side::Target, &place.partition, from, to, reason));
                }
            }
        }
    }

    /// Where no source partition has records behind its checkpoint, everything that is there has to stand for one before it, however
    /// the target commits.
    fn bound(&mut self, stage: &Stage<'_>) {
        for index in 0..self.places.len() {
            let may_feed = |from: &TopicPartition, target: &Arc<str>| {
                self.may_bring(from, target, &self.places[index].partition, stage)
            };
            let has_unread = self.unread.iter().any(|(from, target)| may_feed(from, target));
            let mut feeds = self.feeds.iter().filter(|feed| feed.goes_on);
            let goes_on = has_unread || feeds.any(|feed| may_feed(&feed.replay.partition, &feed.replay.target));
            let Place { terms, end, .. } = &mut self.places[index];
            terms.has_unread = has_unread;
            if !goes_on {
                (terms.floor_end, terms.scope_end) = (*end, *end);
            }
        }
    }

    /// The topics of the target that the link writes.
    fn topics(&self, sources: &[Topic], config: &LinkConfig) -> BTreeSet<Arc<str>> {
        let mapped = sources.iter().map(|topic| config.target_topic(&topic.name).into());
        mapped.chain([config.dead_letters.as_str().into()]).chain(self.routes.iter().cloned()).collect()
    }

    /// Whether records of a source partition may go to a target partition.
    pub(super) fn may_feed(&self, feed: usize, place: usize, stage: &Stage<'_>) -> bool {
        let replay = &self.feeds[feed].replay;
        self.may_bring(&replay.partition, &replay.target, &self.places[place].partition, stage)
    }

    /// Whether records of a source partition that is copied to the topic `target` may go to a target partition.
    fn may_bring(&self, from: &TopicPartition, target: &Arc<str>, to: &TopicPartition, stage: &Stage<'_>) -> bool {
        let keeps = |topic: &Arc<str>| {
            let count = stage.partitions.get(topic).copied().unwrap_or(1).max(1);
            *topic == to.topic && from.partition % count == to.partition
        };
        let letters = *to.topic == *stage.config.dead_letters;
        letters && keeps(&to.topic)
            || !letters && self.chooses && (*target == to.topic || self.routes.contains(&to.topic))
            || keeps(target)
    }

    /// Source and target partitions that have to be looked at together.
    pub(super) fn groups(&self, stage: &Stage<'_>) -> Vec<(Vec<usize>, Vec<usize>)> {
        let mut group_of: Vec<usize> = (0..self.places.len()).collect();
        for feed in 0..self.feeds.len() {
            let mut places = (0..self.places.len()).filter(|place| self.may_feed(feed, *place, stage));
            let Some(first) = places.next() else { continue };
            for place in places {
                let (group, other) = (group_of[first], group_of[place]);
                group_of.iter_mut().filter(|group| **group == other).for_each(|it| *it = group);
            }
        }
        let mut groups: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (place, group) in group_of.iter().enumerate() {
            groups.entry(*group).or_default().1.push(place);
        }
        let mut alone = Vec::new();
        for feed in 0..self.feeds.len() {
            match (0..self.places.len()).find(|place| self.may_feed(feed, *place, stage)) {
                Some(place) => groups.entry(group_of[place]).or_default().0.push(feed),
                None => alone.push((vec![feed], Vec::new())),
            }
        }
        groups.into_values().chain(alone).collect()
    }
}

/// What is known of a source partition that has a checkpoint.
struct Known<'k> {
    partition: &'k TopicPartition,
    next_offset: i64,
    /// The first offset of each revision, by revision.
    starts: &'k [(RevisionNumber, i64)],
    /// Where it begins and ends; `None` if it is gone, or another one under the old name.
    range: Option<PartitionRange>,
    porous: bool,
    /// Whether somebody has said where it goes on.
    was_reset: bool,
    /// Whether MirrorMaker 2 has copied records of it before.
    taken_over: bool,
}

impl Known<'_> {
    fn feed(&self, stage: &Stage<'_>, not_covered: &mut Vec<NotCovered>) -> Feed {
        let target: Arc<str> = stage.config.target_topic(&self.partition.topic).into();
        let begin = self.starts.first().map_or(self.next_offset, |(_, offset)| *offset);
        let mut leave_out = |from: i64, to: i64, reason: &str| {
            if from < to {
                not_covered.push(self::not_covered(Side::Source, self.partition, from, to, reason));
            }
        };
        let nothing = |from: i64| Feed {
            replay: Replay::new(self.partition.clone(), target.clone(), from, from, []),
            head_lost: true,
            porous: false,
            tail_lost: true,
            goes_on: true,
        };
        let Some(range) = self.range else {
            leave_out(
                begin,
                self.next_offset,
                "the link does not read the source topic any more, or it is gone, or another one under the same name",
            );
            return nothing(begin);
        };
        if self.was_reset {
            leave_out(
                begin,
                self.next_offset,
                "the link was reset here, and what was written before and after that is not told apart",
            );
            return nothing(begin);
        }
        if self.starts.is_empty() {
            leave_out(
                range.log_start,
                self.next_offset,
                "the target does not say under which revision these were handled",
            );
            return nothing(range.log_start);
        }
        let to = self.next_offset.min(range.end);
        leave_out(to, self.next_offset, "the source partition ends before the checkpoint");
        let before_stages = self.taken_over && begin > 0;
        if before_stages {
            leave_out(range.log_start, begin, "MirrorMaker 2 has copied these, and no stage has handled them");
        }
        leave_out(begin, range.log_start.min(to), "retention has taken these from the source");
        let (from, borders) = match self.first_replayed(range.log_start, stage) {
            Ok(found) => found,
            Err(reason) => {
                leave_out(range.log_start.max(begin), to, &reason);
                return nothing(to);
            }
        };
        leave_out(range.log_start.max(begin), from.min(to), "a stage remembers what is gone from the source");
        if self.porous
            && borders.iter().any(|(number, _)| stateful(*number, stage).is_ok_and(|stages| !stages.is_empty()))
        {
            leave_out(from, to, "a stage remembers, and compaction may have taken records from the source");
            return nothing(to);
        }
        let replay = Replay::new(self.partition.clone(), target, from.min(to), to, borders);
        Feed {
            replay,
            head_lost: from > begin || before_stages,
            porous: self.porous,
            tail_lost: to < self.next_offset,
            goes_on: range.end > self.next_offset,
        }
    }

    /// The first offset that can be replayed, and the revisions from there on. What a stage remembers of records that are gone is
    /// not known until the stage is gone too.
    fn first_replayed(&self, log_start: i64, stage: &Stage<'_>) -> Result<(i64, Vec<(RevisionNumber, i64)>), String> {
        let (_, begin) = self.starts[0];
        if log_start <= begin {
            return Ok((begin, self.starts.to_vec()));
        }
        let mut unknown = BTreeSet::new();
        for (index, (number, offset)) in self.starts.iter().enumerate() {
            let remembers = stateful(*number, stage)?;
            let carries_on = !unknown.is_disjoint(&remembers);
            unknown = if *offset < log_start || carries_on { remembers } else { BTreeSet::new() };
            let end = self.starts.get(index + 1).map_or(i64::MAX, |(_, offset)| *offset);
            if unknown.is_empty() && end > log_start {
                return Ok(((*offset).max(log_start), self.starts[index..].to_vec()));
            }
        }
        let stages: Vec<String> = unknown.into_iter().collect();
        Err(format!("stage {} remembers, and the first records are gone from the source", stages.join(", ")))
    }
}

/// The stages of a revision that remember.
fn stateful(number: RevisionNumber, stage: &Stage<'_>) -> Result<BTreeSet<String>, String> {
    let names = |pipeline: &Arc<Pipeline>| {
        let stages = pipeline.stages.iter().filter(|stage| stage.plugin.state_version().is_some());
        stages.map(|stage| stage.spec.name.clone()).collect()
    };
    match stage.revisions.get(&number) {
        Some(Ok(pipeline)) => Ok(names(pipeline)),
        Some(Err(why)) => Err(why.clone()),
        None => Err(format!("revision {number} is not in the link's history")),
    }
}

fn is_compacted(cluster: &dyn Cluster, topic: &Arc<str>) -> Result<bool, Failure> {
    let settings = cluster.topic_settings(std::slice::from_ref(topic))?.remove(topic).transpose()?.unwrap_or_default();
    Ok(connector::is_compacted(&settings))
}

pub(super) fn not_covered(side: Side, partition: &TopicPartition, from: i64, to: i64, reason: &str) -> NotCovered {
    NotCovered {
        side,
        partition: partition.clone(),
        from: Some(from),
        to: Some(to),
        records: None,
        reason: reason.to_owned(),
    }
}
