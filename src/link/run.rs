//! How a batch goes through the built-ins and the stages of a lane, and how a record that a plugin cannot handle is found and put aside.
//!
//! A batch goes through a stage whole. If the plugin traps, [`Run::process`] gives up, so that the lane can undo what the stages
//! remember; then it is called again with a deadline, and searches: the same records once more, then ever smaller parts, until
//! the record is alone. Each part goes on to the next stage by itself, in order. That is right because results do not depend
//! on how batches are cut; what a stage remembers is undone with every call that traps.
//!
//! **Invariant:** nothing here calls itself. How many records are bad, and in how many stages, decides only how long the list of
//! [`Task`]s is. The tasks are ranges of one batch for each stage, so the list takes memory in proportion to that batch.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ahead::{self, Clock, Guard};
use super::builtins::{self, Kept};
use super::failure::{Failure, Place};
use super::lane::now_ms;
use super::letters::{Cause, Letter};
use super::pipeline::{Instances, Pipeline};
use super::stats::{Tally, Window};
use super::trace;
use crate::config::{BreakerConfig, LinkConfig};
use crate::model::{Batch, HeaderRef, OnError, TopicPartition};
use crate::plugin::instance::{Trapped, Verdict};
use crate::plugin::state::State;

/// How many calls may be undone because of rejects before the lane is asked for a deadline. A batch usually has a few rejects that others
/// may have seen; without a deadline, a slow plugin that rejects everything in this way would hold the lane for hours.
const UNDONE_MAX: u32 = 64;

/// How much may come of a batch that is searched, beside as much as came in: what so many calls may answer.
const CALLS_KEPT: usize = 4;

/// A lane's instances of a pipeline.
#[derive(Debug)]
pub(super) struct Run {
    link: Arc<str>,
    breaker: BreakerConfig,
    pipeline: Arc<Pipeline>,
    instances: Instances,
    /// What each stage could not handle lately.
    windows: Vec<Window>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Processed {
    /// What is to be written, in order.
    pub(super) outputs: Vec<Batch>,
    /// What was put aside, in the order of offset, stage and ordinal.
    pub(super) letters: Vec<Letter>,
    /// What the built-ins did.
    pub(super) builtins: builtins::Done,
    /// What each stage did.
    pub(super) tallies: Vec<Tally>,
}

impl Processed {
    /// This is where records leave for the sink, dead letters too: nothing changes them any more.
    fn seal(&mut self, kept: &Kept, marks: &[HeaderRef<'_>]) {
        let letters = self.letters.iter_mut().map(|letter| &mut letter.record);
        self.outputs.iter_mut().chain(letters).for_each(|batch| kept.seal(marks, batch));
    }
}

/// Why a batch was not processed. What the stages remember is to be undone by the lane.
#[derive(Debug)]
pub(super) enum Stop {
    /// A plugin trapped, or rejected so much that the search takes long, and no search was asked for. The batch comes back.
    Poisoned(Box<Batch>),
    /// A record of this batch stops the lane: the one at the failure's place. Those before it can be processed.
    Halted(Box<(Batch, Failure)>),
    /// The search has not come to an end by its deadline. The batch comes back.
    Late(Box<Batch>),
    /// Something else is wanted of the lane than to go on searching.
    Interrupted,
    /// Too much could not be handled: why.
    Breaker(String),
    /// A stage cannot go on at all.
    Failed(Box<Failure>),
}

impl Stop {
    /// The same, about the batch that came in and not about a part of it.
    fn about(self, original: Option<&Batch>) -> Self {
        match (self, original) {
            (Self::Poisoned(_), Some(batch)) => Self::Poisoned(Box::new(batch.clone())),
            (Self::Late(_), Some(batch)) => Self::Late(Box::new(batch.clone())),
            (Self::Halted(halted), Some(batch)) => Self::Halted(Box::new((batch.clone(), halted.1))),
            (stop, _) => stop,
        }
    }
}

/// What a search for bad records keeps to.
#[derive(Clone, Copy)]
pub(super) struct Search<'s> {
    /// When it must have come to an end.
    pub(super) deadline: Instant,
    /// Whether something else is wanted of the lane.
    pub(super) interrupted: &'s dyn Fn() -> bool,
}

/// What is still to be done with a batch. The task that was pushed last is the next one, so parts are pushed from the last to the first.
enum Task {
    /// A batch goes to a stage, or out.
    Flow { stage: usize, batch: Rc<Batch> },
    /// A stage works on some records of a batch.
    Part(Part),
    /// A stage cannot handle a record of a batch.
    PutAside { stage: usize, batch: Rc<Batch>, index: usize, cause: Cause },
    /// The record that the plugin pointed at has been tried alone: with `trapped` records that it trapped on before, did it tell the truth?
    Judge { stage: usize, trapped: u64 },
}

/// Some records of the batch that a stage was given.
#[derive(Clone)]
struct Part {
    stage: usize,
    batch: Rc<Batch>,
    range: Range<usize>,
    /// Whether the plugin has handled these records a moment ago, in a call that was undone because of others.
    handled: bool,
}

impl Part {
    /// The records from `from` up to `to`, counted from the first of this part.
    fn of(&self, from: usize, to: usize, handled: bool) -> Task {
        let range = self.range.start + from..self.range.start + to;
        Task::Part(Self { range, handled, batch: self.batch.clone(), stage: self.stage })
    }

    fn put_aside(&self, index: usize, cause: Cause) -> Task {
        Task::PutAside { stage: self.stage, batch: self.batch.clone(), index: self.range.start + index, cause }
    }
}

/// How many records a stage is given at once. Where calls are undone, records are handed over again and again; if that were always
/// all that is left, the work would grow with the square of the bad records. So the next part is as long as what the last undone
/// call has settled, and grows with each call that goes well: the work stays in proportion to the records.
#[derive(Clone, Copy, Debug)]
struct Pace {
    records: usize,
    /// Whether the plugin has rejected records that it had handled before. Nothing it says can be built on: it gets one record at a time.
    is_erratic: bool,
}

impl Pace {
    const FULL: Self = Self { records: usize::MAX, is_erratic: false };

    fn most(self, part: &Part) -> usize {
        // Of what was handled a moment ago nothing has to be done twice.
        if part.handled && !self.is_erratic { usize::MAX } else { self.records }
    }

    fn went_well(&mut self, records: usize) {
        if !self.is_erratic {
            self.records = self.records.max(records.saturating_mul(2));
        }
    }

    fn was_undone(&mut self, settled: usize) {
        self.records = if self.is_erratic { 1 } else { settled.max(1) };
    }
}

/// A batch on its way.
struct Work<'s> {
    /// What each stage remembers of the batch's partition; `None` for those without state.
    states: &'s mut [Option<State>],
    done: Processed,
    /// The source record that each stage was given last, and how many siblings of it so far.
    siblings: Vec<(i64, u32)>,
    /// How much each stage is given at once.
    paces: Vec<Pace>,
    /// Whether and how long it may search.
    search: Option<Search<'s>>,
    /// What timestamps are held against.
    clock: &'s dyn Clock,
    /// Whether plugins have told the truth about what they were working on.
    trusts_hints: bool,
    /// How many calls were undone because of rejects.
    undone: u32,
    /// How many bytes what comes of the batch may still take while it is searched.
    room: usize,
    /// What is to be done; the last is the next.
    tasks: Vec<Task>,
}

impl Work<'_> {
    fn undo(&mut self, stage: usize, verdict: &Verdict) {
        if let (Some(state), Some(mark)) = (&mut self.states[stage], verdict.mark) {
            state.undo(mark);
        }
    }
}

impl Run {
    pub(super) fn new(config: &LinkConfig, pipeline: &Arc<Pipeline>) -> Result<Self, Failure> {
        Ok(Self {
            link: (*config.id).into(),
            breaker: config.breaker.clone(),
            instances: pipeline.take_instances(&config.id)?,
            windows: vec![Window::default(); pipeline.stages.len()],
            pipeline: pipeline.clone(),
        })
    }

    pub(super) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Begin to count anew what the stages cannot handle.
    pub(super) fn forget_windows(&mut self) {
        self.windows.fill(Window::default());
    }

    /// The topics that the stages may route to.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.instances.iter().flatten().flat_map(|instance| instance.routes())
    }

    /// Let a batch go through the built-ins and all stages. If it is to search, look for the records
    /// that a plugin traps on. `clock` says which timestamps cannot be true.
    pub(super) fn process(
        &mut self,
        mut batch: Batch,
        states: &mut [Option<State>],
        clock: &dyn Clock,
        search: Option<Search<'_>>,
    ) -> Result<Processed, Stop> {
        let stages = self.pipeline.stages.len();
        let has_builtins = !self.pipeline.builtins.is_empty();
        // A plugin that traps in a single stage has the whole batch in hand, and without any stage nothing stops. A record that halts the lane is alone: those before it are in
        // the original.
        let may_halt = self.pipeline.stages.iter().any(|stage| stage.spec.on_error == OnError::Stop);
        // A stage that remembers gets a batch in parts where a record was ahead of its time or has
        // left traces.
        let may_part = states.iter().any(Option::is_some);
        let keeps = stages > 1 || search.is_some() || has_builtins && stages > 0 || may_halt || may_part;
        let original = keeps.then(|| batch.clone());
        let mut done = Processed { tallies: vec![Tally::default(); stages], ..Processed::default() };
        let kept = self.pipeline.needs_seal().then(|| Kept::of(&batch));
        if has_builtins {
            done.builtins = self.pipeline.builtins.apply(&mut batch, now_ms);
        }
        let room = search.map_or(usize::MAX, |_| self.room(&batch));
        let siblings = vec![(i64::MIN, 0); stages];
        let mut work = Work {
            states,
            done,
            siblings,
            paces: vec![Pace::FULL; stages],
            search,
            clock,
            trusts_hints: true,
            undone: 0,
            room,
            tasks: vec![Task::Flow { stage: 0, batch: Rc::new(batch) }],
        };
        while let Some(task) = work.tasks.pop() {
            self.turn(task, &mut work).map_err(|stop| stop.about(original.as_ref()))?;
        }
        let mut done = work.done;
        // Parts go through all stages one after the other, so the order of finding depends on how the batch was cut.
        done.letters.sort_by_key(Letter::order);
        if let Some(kept) = kept {
            done.seal(&kept, &self.pipeline.builtins.marks());
        }
        for ((window, tally), stage) in self.windows.iter_mut().zip(&done.tallies).zip(&self.pipeline.stages) {
            window.add(tally, self.breaker.window_records);
            stage.stats.add(tally);
        }
        Ok(done)
    }

    /// How many bytes may come of a batch that is searched.
    fn room(&self, batch: &Batch) -> usize {
        let of_a_call = self.pipeline.stages.iter().map(|stage| stage.spec.limits.output_bytes).max().unwrap_or(0);
        usize::try_from(of_a_call)
            .unwrap_or(usize::MAX)
            .saturating_mul(CALLS_KEPT)
            .saturating_add(batch.payload_bytes())
    }

    fn turn(&mut self, task: Task, work: &mut Work<'_>) -> Result<(), Stop> {
        match task {
            Task::Flow { stage, batch } => self.flow(stage, Rc::unwrap_or_clone(batch), work),
            Task::Part(part) => self.part(part, work),
            Task::PutAside { stage, batch, index, cause } => {
                self.put_aside(stage, batch.slice(index..index + 1), cause, work)
            }
            Task::Judge { stage, trapped } => {
                // Who always points at a wrong record would have the search go on record by record.
                work.trusts_hints &= work.done.tallies[stage].trapped > trapped;
                Ok(())
            }
        }
    }

    /// Hand a batch to a stage.
    fn flow(&self, stage: usize, mut batch: Batch, work: &mut Work<'_>) -> Result<(), Stop> {
        let Some((first, last)) = batch.offsets.first().copied().zip(batch.offsets.last().copied()) else {
            return Ok(());
        };
        if stage == self.pipeline.stages.len() {
            if work.search.is_some() {
                work.room = work.room.checked_sub(batch.payload_bytes()).ok_or_else(too_much)?;
            }
            work.done.outputs.push(batch);
            return Ok(());
        }
        let (offset, count) = work.siblings[stage];
        batch.first_ordinal = if offset == first { count } else { 0 };
        work.siblings[stage] = (last, batch.ordinal(batch.len() - 1) + 1);
        batch.compact_if_sparse();
        let range = 0..batch.len();
        work.tasks.push(Task::Part(Part { stage, batch: Rc::new(batch), range, handled: false }));
        Ok(())
    }

    /// Let a stage work on a part of a batch, or on as much of it as it is given at once.
    fn part(&mut self, mut part: Part, work: &mut Work<'_>) -> Result<(), Stop> {
        let (stage, records) = (part.stage, part.range.len());
        if records == 0 {
            return Ok(());
        }
        let most = work.paces[stage].most(&part);
        if records > most {
            work.tasks.push(part.of(most, records, part.handled));
            part.range.end = part.range.start + most;
        }
        if let Some((ahead, most_ms)) = self.first_ahead(&part, work)? {
            let cause = Cause::ahead(part.batch.timestamps[part.range.start + ahead], most_ms);
            work.tasks.push(part.of(ahead + 1, part.range.len(), part.handled));
            work.tasks.push(part.put_aside(ahead, cause));
            if ahead == 0 {
                return Ok(());
            }
            // None of these is ahead.
            part.range.end = part.range.start + ahead;
        }
        let whole = part.batch.len();
        if part.range.len() == whole {
            return match self.attempt(stage, &part.batch, whole, work)? {
                Ok(verdict) => self.accept(part, None, verdict, work),
                Err(trapped) => self.search(&part, &trapped, work),
            };
        }
        let records = part.batch.slice(part.range.clone());
        match self.attempt(stage, &records, whole, work)? {
            Ok(verdict) => self.accept(part, Some(records), verdict, work),
            Err(trapped) => self.search(&part, &trapped, work),
        }
    }

    /// The first record of a part whose timestamp is ahead of all clocks, for a stage that
    /// remembers anything; and by how much it may be.
    fn first_ahead(&self, part: &Part, work: &Work<'_>) -> Result<Option<(usize, i64)>, Stop> {
        let Some((guard, time)) = self.guard(part.stage, work) else { return Ok(None) };
        let ahead = guard.first_ahead(&part.batch, part.range.clone(), time, std::iter::empty())?;
        Ok(ahead.map(|ahead| (ahead - part.range.start, guard.most_ms)))
    }

    /// What a stage that remembers anything holds timestamps against, and its record time.
    fn guard<'g>(&'g self, stage: usize, work: &Work<'g>) -> Option<(Guard<'g>, i64)> {
        let (spec, state) = (&self.pipeline.stages[stage].spec, work.states[stage].as_ref()?);
        Some((Guard { stage: spec, clock: work.clock, most_ms: spec.time_ahead_max()? }, state.time()))
    }

    /// How many of the rejects are certain, if a record was timely only because of a rejected one
    /// before it: that did not move the record time.
    fn certain_in_time(
        &self,
        stage: usize,
        records: &Batch,
        verdict: &Verdict,
        work: &Work<'_>,
    ) -> Result<Option<usize>, Stop> {
        let rejects = &verdict.rejects;
        if rejects.is_empty() {
            return Ok(None);
        }
        let (Some((guard, _)), Some(mark)) = (self.guard(stage, work), verdict.mark) else { return Ok(None) };
        let rejected = rejects.iter().map(|reject| reject.index);
        let ahead = guard.first_ahead(records, 0..records.len(), mark.time(), rejected)?;
        Ok(ahead.map(|ahead| rejects.partition_point(|reject| reject.index < ahead)))
    }

    /// Call the plugin once. The outer error is that there is no plugin to call, or no time.
    fn attempt(
        &mut self,
        stage: usize,
        batch: &Batch,
        whole: usize,
        work: &mut Work<'_>,
    ) -> Result<Result<Verdict, Trapped>, Stop> {
        let at = &self.pipeline.stages[stage];
        if let Some(search) = work.search {
            if (search.interrupted)() {
                return Err(Stop::Interrupted);
            }
            if Instant::now() > search.deadline {
                return Err(Stop::Late(Box::new(batch.clone())));
            }
        }
        let instance = match self.instances[stage].take() {
            Some(instance) => instance,
            None => at.instance(&self.link).map_err(|failure| Stop::Failed(Box::new(failure)))?,
        };
        let limits = &at.spec.limits;
        let time = time_for(batch.len(), whole, limits.time(), limits.record_time());
        let _told = trace::stage(&at.spec.name, batch.len()).entered();
        let begun = Instant::now();
        let called = instance.call(batch, time, work.states[stage].as_mut());
        let took = &mut work.done.tallies[stage].took;
        *took = Some(took.unwrap_or_default() + begun.elapsed());
        match called {
            Ok((instance, verdict)) => {
                at.stats.add_call(verdict.cpu_time, instance.memory_bytes());
                self.instances[stage] = Some(instance);
                Ok(Ok(verdict))
            }
            Err(trapped) => {
                at.stats.add_trap(trapped.trap.kind);
                Ok(Err(trapped))
            }
        }
    }

    /// Take what a plugin answered for a part, and go on with it. `records` is the part, unless it is the whole batch.
    fn accept(
        &mut self,
        part: Part,
        records: Option<Batch>,
        verdict: Verdict,
        work: &mut Work<'_>,
    ) -> Result<(), Stop> {
        let stage = part.stage;
        let stays = matches!(self.pipeline.stages[stage].spec.on_error, OnError::DeadLetter | OnError::Skip);
        let in_time = self.certain_in_time(stage, records.as_ref().unwrap_or(&part.batch), &verdict, work)?;
        let certain = verdict.certain.into_iter().chain(in_time).min();
        if !verdict.rejects.is_empty() && (!stays || certain.is_some()) {
            return self.part_again(&part, verdict, certain, work);
        }
        for reject in &verdict.rejects {
            let index = part.range.start + reject.index;
            self.put_aside(stage, part.batch.slice(index..index + 1), Cause::rejected(reject), work)?;
        }
        work.paces[stage].went_well(part.range.len());
        let batch = records.unwrap_or_else(|| Rc::unwrap_or_clone(part.batch));
        let tally = &mut work.done.tallies[stage];
        tally.records_in += (batch.len() - verdict.rejects.len()) as u64;
        if let Some(cpu_time) = verdict.cpu_time {
            tally.cpu_time += cpu_time;
            tally.timed_records += batch.len() as u64;
        }
        let done = verdict.apply(batch);
        tally.records_out += done.batch.len() as u64;
        tally.dropped += done.dropped as u64;
        tally.changed += done.changed as u64;
        work.tasks.push(Task::Flow { stage: stage + 1, batch: Rc::new(done.batch) });
        Ok(())
    }

    /// Have the rejected records come out first, and the others worked on without them. Only the
    /// first `certain` rejects count, if there is such a number.
    fn part_again(
        &self,
        part: &Part,
        verdict: Verdict,
        certain: Option<usize>,
        work: &mut Work<'_>,
    ) -> Result<(), Stop> {
        let stage = part.stage;
        work.undo(stage, &verdict);
        work.undone += 1;
        if work.search.is_none() && work.undone > UNDONE_MAX {
            return Err(Stop::Poisoned(Box::new(part.batch.as_ref().clone())));
        }
        let rejects = &verdict.rejects[..certain.unwrap_or(verdict.rejects.len())];
        let settled = rejects.last().map_or(0, |last| last.index + 1);
        let pace = &mut work.paces[stage];
        pace.is_erratic |= part.handled;
        pace.was_undone(settled);
        let (mut end, mut handled) = (part.range.len(), certain.is_none());
        for reject in rejects.iter().rev() {
            work.tasks.push(part.of(reject.index + 1, end, handled));
            work.tasks.push(part.put_aside(reject.index, Cause::rejected(reject)));
            (end, handled) = (reject.index, true);
        }
        work.tasks.push(part.of(0, end, handled));
        Ok(())
    }

    /// Find the records that the plugin traps on. It has just trapped on `part`.
    fn search(&self, part: &Part, trapped: &Trapped, work: &mut Work<'_>) -> Result<(), Stop> {
        if work.search.is_none() {
            return Err(Stop::Poisoned(Box::new(part.batch.as_ref().clone())));
        }
        let (stage, records) = (part.stage, part.range.len());
        if records == 1 {
            // Where one is bad the next often is, too.
            work.paces[stage].was_undone(1);
            work.tasks.push(part.put_aside(0, Cause::trapped(&trapped.trap)));
            return Ok(());
        }
        // Of records that were handled before the one that the plugin pointed at, it traps on none: unless the pointer was wrong.
        work.trusts_hints &= !part.handled;
        let hint = trapped.hint.filter(|hint| work.trusts_hints && *hint < records);
        let Some(hint) = hint else {
            let middle = records / 2;
            work.tasks.push(part.of(middle, records, false));
            work.tasks.push(part.of(0, middle, false));
            return Ok(());
        };
        work.paces[stage].was_undone(hint + 1);
        work.tasks.push(part.of(hint + 1, records, false));
        work.tasks.push(Task::Judge { stage, trapped: work.done.tallies[stage].trapped });
        work.tasks.push(part.of(hint, hint + 1, false));
        work.tasks.push(part.of(0, hint, true));
        Ok(())
    }

    /// Do with a record that the stage cannot handle what its settings say.
    fn put_aside(&mut self, stage: usize, record: Batch, cause: Cause, work: &mut Work<'_>) -> Result<(), Stop> {
        let at = &self.pipeline.stages[stage];
        let tally = &mut work.done.tallies[stage];
        tally.records_in += 1;
        tally.note(&cause, &record);
        let (rejected, trapped) = (tally.rejected, tally.trapped);
        if let Some(reason) = self.windows[stage].opens(rejected, trapped, &self.breaker) {
            let hint = self.time_hint(stage, &record, work).map_or(String::new(), |hint| format!("; {hint}"));
            return Err(Stop::Breaker(format!("stage {} {reason}, the last with {cause}{hint}", at.spec.name)));
        }
        match at.spec.on_error {
            OnError::DeadLetter => work.done.letters.push(Letter { stage: Some(stage), record, cause }),
            OnError::Skip => {}
            OnError::Pass => {
                tally.records_out += 1;
                work.tasks.push(Task::Flow { stage: stage + 1, batch: Rc::new(record) });
            }
            OnError::Stop => {
                let failure = halted(&at.spec.name, &record, &cause, self.time_hint(stage, &record, work));
                return Err(Stop::Halted(Box::new((record, failure))));
            }
        }
        Ok(())
    }

    /// What to do about the stage's record time, if that is why it cannot go on.
    fn time_hint(&self, stage: usize, record: &Batch, work: &Work<'_>) -> Option<String> {
        let (guard, time) = self.guard(stage, work)?;
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        ahead::hint(&self.link, &partition, time, guard.most_ms, now_ms())
    }
}

/// Limits hold for a call, and a search makes many: together they have one, too.
fn too_much() -> Stop {
    let reason = "makes more of the records of one batch than goes into memory: lower the link's batch_size";
    Stop::Breaker(reason.to_owned())
}

/// The CPU time for a part: its share of the whole, but never less than a record that is alone.
fn time_for(records: usize, whole: usize, time: Duration, record_time: Duration) -> Duration {
    match records {
        1 => record_time,
        _ => time.mul_f64(records as f64 / whole as f64).max(record_time),
    }
}

fn halted(stage: &str, record: &Batch, cause: &Cause, hint: Option<String>) -> Failure {
    let place = Place::of(record);
    let message = format!(
        "stage {stage} and the record of {}-{} at offset {}: {cause}{}",
        place.topic,
        place.partition,
        place.offset,
        hint.map_or(String::new(), |hint| format!("; {hint}"))
    );
    let remedy = match cause.failure_code() {
        ahead::CODE => ahead::REMEDY,
        _ => "publish a plugin or a configuration that handles this record, or another on_error; then start the link",
    };
    Failure { place: Some(place), ..Failure::fatal(cause.failure_code(), message, remedy).at_stage(stage) }
}

#[cfg(test)]
mod tests;
