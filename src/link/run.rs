//! How a batch goes through the built-ins and the stages of a lane, and how a record that a plugin cannot handle is found and put aside.
//!
//! A batch goes through a stage whole. If the plugin traps, [`Run::process`] gives up, so that the lane can undo what the stages
//! remember; then it is called again with a deadline, and searches: the same records once more, then ever smaller parts, until
//! the record is alone. Each part goes on to the next stage by itself, in order. That is right because results do not depend
//! on how batches are cut; what a stage remembers is undone with every call that traps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ahead::{self, Clock, Guard};
use super::builtins;
use super::failure::{Failure, Place};
use super::lane::now_ms;
use super::letters::{Cause, Letter};
use super::pipeline::{Instances, Pipeline};
use super::stats::{Tally, Window};
use super::trace;
use crate::config::{BreakerConfig, LinkConfig};
use crate::model::{Batch, OnError, TopicPartition};
use crate::plugin::instance::{Trapped, Verdict};
use crate::plugin::state::State;

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

/// Why a batch was not processed. What the stages remember is to be undone by the lane.
#[derive(Debug)]
pub(super) enum Stop {
    /// A plugin trapped, and no search was asked for. The batch comes back.
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
    fn about(self, original: Option<Batch>) -> Self {
        match (self, original) {
            (Self::Poisoned(_), Some(batch)) => Self::Poisoned(Box::new(batch)),
            (Self::Late(_), Some(batch)) => Self::Late(Box::new(batch)),
            (Self::Halted(halted), Some(batch)) => Self::Halted(Box::new((batch, halted.1))),
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

/// A batch on its way.
struct Work<'s> {
    /// What each stage remembers of the batch's partition; `None` for those without state.
    states: &'s mut [Option<State>],
    done: Processed,
    /// The source record that each stage was given last, and how many siblings of it so far.
    siblings: Vec<(i64, u32)>,
    /// Whether and how long it may search.
    search: Option<Search<'s>>,
    /// What timestamps are held against.
    clock: &'s dyn Clock,
    /// The largest record that the target takes, in bytes.
    record_bytes_max: usize,
    /// Whether plugins have told the truth about what they were working on.
    trusts_hints: bool,
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

    /// Let a batch go through the built-ins and all stages, to a target that takes records of
    /// `record_bytes_max` bytes. If it is to search, look for the records that a plugin traps on.
    /// `clock` says which timestamps cannot be true.
    pub(super) fn process(
        &mut self,
        mut batch: Batch,
        states: &mut [Option<State>],
        record_bytes_max: usize,
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
        if has_builtins {
            done.builtins = self.pipeline.builtins.apply(&mut batch, now_ms);
        }
        let siblings = vec![(i64::MIN, 0); stages];
        let mut work = Work { states, done, siblings, search, clock, record_bytes_max, trusts_hints: true };
        self.flow(0, batch, &mut work).map_err(|stop| stop.about(original))?;
        let mut done = work.done;
        // Parts go through all stages one after the other, so the order of finding depends on how the batch was cut.
        done.letters.sort_by_key(Letter::order);
        for ((window, tally), stage) in self.windows.iter_mut().zip(&done.tallies).zip(&self.pipeline.stages) {
            window.add(tally, self.breaker.window_records);
            stage.stats.add(tally);
        }
        Ok(done)
    }

    /// Hand a batch to a stage.
    fn flow(&mut self, stage: usize, mut batch: Batch, work: &mut Work<'_>) -> Result<(), Stop> {
        let Some((first, last)) = batch.offsets.first().copied().zip(batch.offsets.last().copied()) else {
            return Ok(());
        };
        if stage == self.pipeline.stages.len() {
            work.done.outputs.push(batch);
            return Ok(());
        }
        let (offset, count) = work.siblings[stage];
        batch.first_ordinal = if offset == first { count } else { 0 };
        work.siblings[stage] = (last, batch.ordinal(batch.len() - 1) + 1);
        batch.compact_if_sparse();
        let whole = batch.len();
        self.part(stage, batch, whole, work)
    }

    /// Let a stage work on a part of a batch of `whole` records.
    fn part(&mut self, stage: usize, batch: Batch, whole: usize, work: &mut Work<'_>) -> Result<(), Stop> {
        let mut next = 0;
        while let Some((ahead, most_ms)) = self.first_ahead(stage, &batch, next, work)? {
            self.timely(stage, batch.slice(next..ahead), whole, work)?;
            let cause = Cause::ahead(batch.timestamps[ahead], most_ms);
            next = ahead + 1;
            self.put_aside(stage, batch.slice(ahead..next), cause, work)?;
        }
        let rest = if next == 0 { batch } else { batch.slice(next..batch.len()) };
        self.timely(stage, rest, whole, work)
    }

    /// The first record from `next` on whose timestamp is ahead of all clocks, for a stage that
    /// remembers anything; and by how much it may be.
    fn first_ahead(
        &self,
        stage: usize,
        batch: &Batch,
        next: usize,
        work: &Work<'_>,
    ) -> Result<Option<(usize, i64)>, Stop> {
        let Some((guard, time)) = self.guard(stage, work) else { return Ok(None) };
        let ahead = guard.first_ahead(batch, next, time, std::iter::empty())?;
        Ok(ahead.map(|ahead| (ahead, guard.most_ms)))
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
        batch: &Batch,
        verdict: &Verdict,
        work: &Work<'_>,
    ) -> Result<Option<usize>, Stop> {
        let (Some((guard, _)), Some(mark)) = (self.guard(stage, work), verdict.mark) else { return Ok(None) };
        let rejects = &verdict.rejects;
        let ahead = guard.first_ahead(batch, 0, mark.time(), rejects.iter().map(|reject| reject.index))?;
        Ok(ahead.map(|ahead| rejects.partition_point(|reject| reject.index < ahead)))
    }

    /// Let a stage work on records of which none is ahead of its time.
    fn timely(&mut self, stage: usize, batch: Batch, whole: usize, work: &mut Work<'_>) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.attempt(stage, &batch, whole, work)? {
            Ok(verdict) => self.accept(stage, batch, verdict, whole, work),
            Err(trapped) if work.search.is_some() => self.search(stage, &batch, &trapped, whole, work),
            Err(_) => Err(Stop::Poisoned(Box::new(batch))),
        }
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
                match verdict.larger_than(work.record_bytes_max) {
                    Some(too_large) => {
                        work.undo(stage, &verdict);
                        Ok(Err(too_large))
                    }
                    None => Ok(Ok(verdict)),
                }
            }
            Err(trapped) => {
                at.stats.add_trap(trapped.trap.kind);
                Ok(Err(trapped))
            }
        }
    }

    /// Take what a plugin answered, and go on with it.
    fn accept(
        &mut self,
        stage: usize,
        batch: Batch,
        verdict: Verdict,
        whole: usize,
        work: &mut Work<'_>,
    ) -> Result<(), Stop> {
        let stays = matches!(self.pipeline.stages[stage].spec.on_error, OnError::DeadLetter | OnError::Skip);
        let in_time = match verdict.rejects.is_empty() {
            true => None,
            false => self.certain_in_time(stage, &batch, &verdict, work)?,
        };
        let certain = verdict.certain.into_iter().chain(in_time).min();
        if verdict.rejects.is_empty() || stays && certain.is_none() {
            for reject in &verdict.rejects {
                let record = batch.slice(reject.index..reject.index + 1);
                self.put_aside(stage, record, Cause::rejected(reject), work)?;
            }
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
            return self.flow(stage + 1, done.batch, work);
        }
        // The rejected records come out first, and the others are worked on without them.
        work.undo(stage, &verdict);
        let certain = certain.unwrap_or(verdict.rejects.len());
        let mut next = 0;
        for reject in &verdict.rejects[..certain] {
            self.part(stage, batch.slice(next..reject.index), whole, work)?;
            next = reject.index + 1;
            let record = batch.slice(reject.index..next);
            self.put_aside(stage, record, Cause::rejected(reject), work)?;
        }
        self.part(stage, batch.slice(next..batch.len()), whole, work)
    }

    /// Find the records that the plugin traps on. It has just trapped on `batch`.
    fn search(
        &mut self,
        stage: usize,
        batch: &Batch,
        trapped: &Trapped,
        whole: usize,
        work: &mut Work<'_>,
    ) -> Result<(), Stop> {
        if batch.len() == 1 {
            return self.put_aside(stage, batch.clone(), Cause::trapped(&trapped.trap), work);
        }
        let hint = trapped.hint.filter(|hint| work.trusts_hints && *hint < batch.len());
        let Some(hint) = hint else {
            let middle = batch.len() / 2;
            self.part(stage, batch.slice(0..middle), whole, work)?;
            return self.part(stage, batch.slice(middle..batch.len()), whole, work);
        };
        self.part(stage, batch.slice(0..hint), whole, work)?;
        let before = work.done.tallies[stage].trapped;
        self.part(stage, batch.slice(hint..hint + 1), whole, work)?;
        // Who always points at a wrong record would have the search go on record by record.
        work.trusts_hints &= work.done.tallies[stage].trapped > before;
        self.part(stage, batch.slice(hint + 1..batch.len()), whole, work)
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
                return self.flow(stage + 1, record, work);
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
