//! Reads both sides and lets them be compared, group by group: source partitions and the target partitions that they share.
//!
//! Whatever a sheet needs next is read, and nothing ahead: so what is held is what lies between a record of the source and its place in
//! the target, up to [`HELD_MAX`] records.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::findings::{Findings, Found};
use super::plan::{Plan, Survey, TRANSACTION_GRACE, not_covered};
use super::readers::Readers;
use super::replay::{Expected, Halt, Replay, Stage};
use super::report::{NotCovered, Progress, Report, Side, SourceCovered, TargetCovered};
use super::sheet::{Lost, Outcome, Sheet, Step, Stream};
use crate::config::LinkConfig;
use crate::connector::{Class, Cluster};
use crate::link::builtins::has_come_through;
use crate::link::components::Components;
use crate::link::failure::Failure;
use crate::link::memory::{Heir, Memory};
use crate::link::revision::History;
use crate::model::{Batch, RecordRef, RevisionNumber, StoredStates, TopicPartition};

/// From so many records on, sheets go on with what they know.
const HELD_MANY: usize = 100_000;

/// So many records are held at most: about 80 bytes each.
const HELD_MAX: usize = 1_000_000;

/// After so many differences the rest is not looked at.
const DIFFERENCES_MAX: usize = 100_000;

/// How long records that are there may take to come.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before a cluster is asked again that did not answer.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a verification looks at.
pub(super) struct Job<'v> {
    pub(super) config: &'v LinkConfig,
    pub(super) source: Arc<dyn Cluster>,
    pub(super) target: Arc<dyn Cluster>,
    pub(super) components: &'v Components,
    pub(super) history: &'v dyn Fn() -> Result<History, Failure>,
    pub(super) cancelled: &'v (dyn Fn() -> bool + Sync),
    pub(super) progress: &'v dyn Fn(Progress),
    /// How many differences are shown.
    pub(super) differences: usize,
}

/// Why a verification has no report.
#[derive(Debug)]
pub(super) enum Ended {
    Cancelled,
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Job<'_> {
    pub(super) fn run(&self) -> Result<Report, Ended> {
        let mut stage = Stage::new(self.config, self.target.clone(), self.cancelled);
        let survey =
            Survey { source: &*self.source, target: &*self.target, components: self.components, history: self.history };
        let mut plan = survey.plan(&mut stage)?;
        let mut work = Work {
            job: self,
            findings: Findings::default(),
            not_covered: std::mem::take(&mut plan.not_covered),
            targets: Vec::new(),
            allowed: 0,
            matched: 0,
            sources: Readers::new(self.source.clone()),
            found: Readers::new(self.target.clone()),
        };
        for (feeds, places) in plan.groups(&stage) {
            work.compare(&mut plan, &mut stage, &feeds, &places)?;
        }
        self.report(plan, stage, work)
    }

    /// What all records of the link have in a partition of the target, if others may write there too. A plugin may take it away again.
    fn mark_of(&self, partition: &TopicPartition) -> Option<&str> {
        let config = self.config;
        let is_marked = config.pipeline.is_empty() && *partition.topic != *config.dead_letters;
        config.builtins.provenance.as_ref().filter(|_| is_marked)?.mark.as_deref()
    }

    fn report(&self, plan: Plan, mut stage: Stage<'_>, work: Work<'_>) -> Result<Report, Ended> {
        let feeds: Vec<TopicPartition> = plan.feeds.iter().map(|feed| feed.replay.partition.clone()).collect();
        let mut not_covered = work.not_covered;
        for feed in plan.feeds.iter().filter(|feed| feed.porous && feed.replay.holes > 0) {
            let replay = &feed.replay;
            let reason = "compaction may have taken records from the source at the offsets where none is";
            let mut entry = self::not_covered(Side::Source, &replay.partition, replay.from, replay.next, reason);
            entry.records = Some(replay.holes);
            not_covered.push(entry);
        }
        let mut found = work.findings.resolve(&feeds, &stage.either);
        // What is found fine is fine, whatever was decided about these.
        for (partition, from) in stage.assumed().into_iter().filter(|_| !found.is_empty()) {
            let to =
                plan.feeds.iter().find(|feed| feed.replay.partition == partition).map_or(from, |feed| feed.replay.next);
            let reason = "whether records were ahead of the clock when the lane read them (time_ahead_max) is not written anywhere, so a difference may be none";
            not_covered.push(self::not_covered(Side::Source, &partition, from, to, reason));
        }
        let mut counts = BTreeMap::new();
        found.iter().for_each(|found| *counts.entry(found.difference.kind).or_default() += 1);
        found.truncate(self.differences);
        for found in &mut found {
            if (self.cancelled)() {
                return Err(Ended::Cancelled);
            }
            found.difference.note = self.other_revision(found, &plan, &mut stage);
        }
        let covered = |replay: &Replay| SourceCovered {
            partition: replay.partition.clone(),
            from: replay.from,
            to: replay.next,
            records: replay.records,
            revisions: replay.revisions,
        };
        Ok(Report {
            sources: plan.feeds.iter().map(|feed| covered(&feed.replay)).collect(),
            targets: work.targets,
            not_covered,
            differences: found.into_iter().map(|found| found.difference).collect(),
            counts: counts.into_iter().collect(),
            duplicates_allowed: work.allowed,
            exactly_once: self.config.config.enable_exactly_once,
        })
    }

    /// Which other revision makes of the source record what was found; or drops it, if nothing was found. Only revisions that
    /// remember nothing can say so.
    fn other_revision(&self, found: &Found, plan: &Plan, stage: &mut Stage<'_>) -> Option<String> {
        let (partition, offset) = found.difference.source.as_ref()?;
        let replay = &plan.feeds.iter().find(|feed| feed.replay.partition == *partition)?.replay;
        if found.difference.parts.is_empty() && found.print.is_some() {
            return None;
        }
        let mut readers = Readers::new(self.source.clone());
        let until = Instant::now() + READ_PATIENCE;
        let batch = loop {
            match readers.read(partition, *offset).ok()? {
                Some(batch) => break batch,
                None if Instant::now() > until || (self.cancelled)() => return None,
                None => {}
            }
        };
        let at = batch.offsets.iter().position(|at| at == offset)?;
        let record = batch.slice(at..at + 1);
        let numbers: Vec<RevisionNumber> = stage.revisions.keys().copied().collect();
        let makes = |number: RevisionNumber| {
            let pipeline = stage.pipeline(number).ok()?;
            if pipeline.stages.iter().any(|stage| stage.plugin.state_version().is_some()) {
                return None;
            }
            let mut memory = Memory::default();
            let nobody = |_: &str, _: &_| Err(Failure::fatal("internal", "no state was stored", ""));
            let heir = Heir { link: &self.config.id, pipeline: &pipeline, is_on_trial: false };
            memory.open(&heir, partition, None, StoredStates::default(), nobody).ok()?;
            let processed = stage.process(&pipeline, record.clone(), &mut memory).ok()?;
            let mut outputs =
                processed.outputs.iter().flat_map(|batch| batch.records()).map(|record| stage.printer.print(record));
            let says = match found.print {
                Some(print) => {
                    outputs.any(|output| output == print).then(|| format!("revision {number} makes this of it"))
                }
                None => (processed.letters.is_empty() && outputs.next().is_none())
                    .then(|| format!("revision {number} drops it")),
            };
            Some((number, says?))
        };
        let (number, says) = numbers.into_iter().filter_map(makes).next()?;
        let handled = replay.revision_at(*offset).filter(|handled| *handled != number)?;
        Some(format!("handled by the wrong revision? {says}, and {handled} is the one for this offset"))
    }
}

/// What has come of the groups so far.
struct Work<'w> {
    job: &'w Job<'w>,
    findings: Findings,
    not_covered: Vec<NotCovered>,
    targets: Vec<TargetCovered>,
    allowed: u64,
    matched: u64,
    sources: Readers,
    found: Readers,
}

/// A target partition that is being compared.
struct Open {
    place: usize,
    sheet: Sheet,
    done: bool,
    /// When more of it was asked for last and came.
    moved: Instant,
}

impl Work<'_> {
    /// Compare source partitions with the target partitions that they share.
    fn compare(
        &mut self,
        plan: &mut Plan,
        stage: &mut Stage<'_>,
        feeds: &[usize],
        places: &[usize],
    ) -> Result<(), Ended> {
        let mut open: Vec<Open> = places.iter().map(|place| self::open(plan, stage, feeds, *place)).collect();
        let by_place: HashMap<TopicPartition, usize> =
            places.iter().enumerate().map(|(index, place)| (plan.places[*place].partition.clone(), index)).collect();
        for feed in feeds {
            self.end_if_done(plan, &mut open, *feed);
        }
        loop {
            if (self.job.cancelled)() {
                return Err(Ended::Cancelled);
            }
            let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
            let held: usize = open.iter().map(|open| open.sheet.held()).sum();
            for open in open.iter_mut().filter(|open| !open.done) {
                for feed in self.fill(plan, stage, open, held > HELD_MANY)? {
                    *wanted.entry(feed).or_default() += 1;
                }
            }
            self.tell(plan, &open);
            // A partition that feeds nothing is replayed too: something else may be found out on the way.
            let next = wanted
                .iter()
                .max_by_key(|(feed, sheets)| (**sheets, std::cmp::Reverse(share(&plan.feeds[**feed].replay))));
            let Some(feed) = next
                .map(|(feed, _)| *feed)
                .or_else(|| feeds.iter().copied().find(|feed| !plan.feeds[*feed].replay.is_done()))
            else {
                break;
            };
            if held > HELD_MAX || self.findings.len() > DIFFERENCES_MAX {
                let reason = match held > HELD_MAX {
                    true => format!(
                        "more than {HELD_MAX} records lie between source records and their places in the target"
                    ),
                    false => format!("more than {DIFFERENCES_MAX} records differ: the rest was not looked at"),
                };
                feeds.iter().for_each(|feed| self.leave(plan, *feed, &reason));
                break;
            }
            self.advance(plan, stage, &mut open, &by_place, feed)?;
        }
        for open in open {
            self.close(plan, open);
        }
        Ok(())
    }

    /// Compare a target partition as far as can be, and read more of it as it needs it. The source partitions it waits for.
    fn fill(&mut self, plan: &Plan, stage: &Stage<'_>, open: &mut Open, relaxed: bool) -> Result<Vec<usize>, Ended> {
        while !open.done {
            match open.sheet.step(relaxed) {
                Step::Done => open.done = true,
                Step::Feeds(feeds) => return Ok(feeds),
                Step::Target => self.read_target(plan, stage, open),
            }
            if (self.job.cancelled)() {
                return Err(Ended::Cancelled);
            }
        }
        Ok(Vec::new())
    }

    fn read_target(&mut self, plan: &Plan, stage: &Stage<'_>, open: &mut Open) {
        let place = &plan.places[open.place];
        let next = open.sheet.next_offset();
        if next >= place.end {
            return open.sheet.end_target();
        }
        // A transaction that is open hides what is behind it, and ends some time.
        let patience = Duration::from_millis(self.job.config.config.transaction_timeout_ms) + TRANSACTION_GRACE;
        let why = match self.found.read(&place.partition, next) {
            Ok(Some(batch)) => {
                open.moved = Instant::now();
                let mark = self.job.mark_of(&place.partition);
                let is_ours = |record: &RecordRef<'_>| mark.is_none_or(|mark| has_come_through(*record, mark));
                let records = batch.records().filter(|record| place.covers(record.offset()) && is_ours(record));
                return open.sheet.find(records.map(|record| stage.printer.line(record)), batch.next_offset);
            }
            Ok(None) if open.moved.elapsed() < patience => return,
            Ok(None) => "a transaction that does not end hides these in the target".to_owned(),
            Err(error) if error.class != Class::Fatal && open.moved.elapsed() < READ_PATIENCE => {
                return std::thread::sleep(AGAIN_AFTER);
            }
            Err(error) => format!("cannot be read: {}: {error}", error.code),
        };
        self.not_covered.push(not_covered(Side::Target, &place.partition, next, place.end, &why));
        open.done = true;
    }

    /// Replay the next records of a source partition.
    fn advance(
        &mut self,
        plan: &mut Plan,
        stage: &mut Stage<'_>,
        open: &mut [Open],
        by_place: &HashMap<TopicPartition, usize>,
        feed: usize,
    ) -> Result<(), Ended> {
        let replay = &mut plan.feeds[feed].replay;
        let advanced = self.read_source(replay).and_then(|batch| {
            let findings = &mut self.findings;
            replay.advance(batch, stage, |(place, line): Expected| match by_place.get(&place) {
                Some(index) if !open[*index].done => open[*index].sheet.expect(feed, line),
                Some(_) => {}
                // There is no such topic in the target.
                None => findings.add(&place, vec![Lost { feed, line, gap: 0 }], Vec::new()),
            })
        });
        match advanced {
            Ok(()) => self.end_if_done(plan, open, feed),
            Err(Halt::Cancelled) => return Err(Ended::Cancelled),
            Err(Halt::Because(reason)) => {
                self.leave(plan, feed, &reason);
                self.end_if_done(plan, open, feed);
            }
        }
        Ok(())
    }

    fn read_source(&mut self, replay: &Replay) -> Result<Batch, Halt> {
        let until = Instant::now() + READ_PATIENCE;
        loop {
            if (self.job.cancelled)() {
                return Err(Halt::Cancelled);
            }
            let why = match self.sources.read(&replay.partition, replay.next) {
                Ok(Some(batch)) => return Ok(batch),
                Ok(None) => "the records before the checkpoint do not come".to_owned(),
                Err(error) if error.class == Class::Fatal => {
                    return Err(Halt::Because(format!("cannot be read: {}: {error}", error.code)));
                }
                Err(error) => {
                    std::thread::sleep(AGAIN_AFTER);
                    format!("cannot be read: {}: {error}", error.code)
                }
            };
            if Instant::now() > until {
                return Err(Halt::Because(why));
            }
        }
    }

    /// A source partition is not replayed any further.
    fn leave(&mut self, plan: &mut Plan, feed: usize, reason: &str) {
        let feed = &mut plan.feeds[feed];
        let replay = &mut feed.replay;
        if !replay.is_done() {
            self.not_covered.push(not_covered(Side::Source, &replay.partition, replay.next, replay.to, reason));
            replay.to = replay.next;
            feed.tail_lost = true;
        }
    }

    fn end_if_done(&self, plan: &Plan, open: &mut [Open], feed: usize) {
        let at = &plan.feeds[feed];
        if at.replay.is_done() {
            open.iter_mut().for_each(|open| open.sheet.end_feed(feed, at.tail_lost));
        }
    }

    /// Take what has come of a target partition.
    fn close(&mut self, plan: &Plan, open: Open) {
        let place = &plan.places[open.place];
        let held = open.sheet.next_offset();
        let outcome = open.sheet.into_outcome();
        let Outcome { matched, lost, extra, uncovered, gone, allowed, ambiguous, given_up, looked_at } = outcome;
        self.matched += matched;
        self.allowed += allowed;
        let partition = &place.partition;
        let mut leave_out = |from: Option<i64>, to: Option<i64>, records: Option<u64>, reason: &str| {
            let (partition, reason) = (partition.clone(), reason.to_owned());
            self.not_covered.push(NotCovered { side: Side::Target, partition, from, to, records, reason });
        };
        if let Some((count, first, last)) = uncovered {
            let reason = "these may stand for source records that were not replayed";
            leave_out(Some(first), Some(last + 1), Some(count), reason);
        }
        if gone > 0 {
            leave_out(None, None, Some(gone), "retention or compaction may have taken these from the target");
        }
        if given_up {
            leave_out(Some(held), Some(place.end), None, "so many records differ that the rest was not looked at");
        }
        if ambiguous && lost.len() + extra.len() > 0 {
            let reason = "equal records of several source partitions: which of them is where could not be told, so a difference may be none";
            leave_out(Some(place.from), Some(place.end), None, reason);
        }
        self.findings.add(partition, lost, extra);
        if matched > 0 || looked_at.is_some() {
            self.targets.push(TargetCovered { partition: partition.clone(), range: looked_at, matched });
        }
    }

    fn tell(&self, plan: &Plan, open: &[Open]) {
        let sum = |count: fn(&Replay) -> i64| -> u64 {
            plan.feeds.iter().map(|feed| count(&feed.replay).max(0).unsigned_abs()).sum()
        };
        (self.job.progress)(Progress {
            offsets_done: sum(|replay| replay.next - replay.from),
            offsets_total: sum(|replay| replay.to - replay.from),
            matched: self.matched + open.iter().map(|open| open.sheet.matched()).sum::<u64>(),
            suspicious: (self.findings.len() + open.iter().map(|open| open.sheet.suspicious()).sum::<usize>()) as u64,
        });
    }
}

/// How much of a source partition has been replayed, in thousandths.
fn share(replay: &Replay) -> i64 {
    (replay.next - replay.from) * 1000 / (replay.to - replay.from).max(1)
}

/// A sheet for a target partition.
fn open(plan: &Plan, stage: &Stage<'_>, feeds: &[usize], index: usize) -> Open {
    let place = &plan.places[index];
    let feeding = feeds.iter().filter(|feed| plan.may_feed(**feed, index, stage));
    let streams = feeding.map(|feed| {
        let at = &plan.feeds[*feed];
        Stream::new(*feed, at.head_lost, at.porous)
    });
    let sheet = Sheet::new(place.terms, streams.collect(), place.from);
    Open { place: index, sheet, done: false, moved: Instant::now() }
}
