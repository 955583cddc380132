//! Makes of a source partition what the link makes of it: the same pipeline, revision by revision, with the code that lanes run.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::findings::Either;
use super::judged::{Judged, ReplayClock};
use super::print::{Line, Printer};
use crate::config::{BreakerConfig, LinkConfig};
use crate::connector::Cluster;
use crate::link::failure::Failure;
use crate::link::lane::now_ms;
use crate::link::letters::{Letter, dead_letters};
use crate::link::memory::{self, Heir, Memory, Writer};
use crate::link::pipeline::{self, Pipeline};
use crate::link::run::{Processed, Run, Search, Stop};
use crate::model::partition::partition_of_key;
use crate::model::{Batch, RevisionNumber, StoredStates, TopicPartition};

/// How long a search for the records that a plugin traps on may take. No transaction waits for it.
const SEARCH_PATIENCE: Duration = Duration::from_secs(600);

/// Instances of so many revisions are kept: source partitions come to a border one after the other.
const RUNS_MAX: usize = 4;

/// More records than this that the target may not have taken are not looked after.
const EITHER_MAX: usize = 10_000;

/// Why a source partition cannot be replayed further.
#[derive(Debug)]
pub(super) enum Halt {
    /// Somebody does not want to know any more.
    Cancelled,
    /// In words.
    Because(String),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Because(format!("{}: {}", failure.code, failure.message))
    }
}

/// What all source partitions of a link are replayed with.
pub(super) struct Stage<'v> {
    pub(super) config: LinkConfig,
    pub(super) target: Arc<dyn Cluster>,
    pub(super) revisions: BTreeMap<RevisionNumber, Result<Arc<Pipeline>, String>>,
    /// The revisions whose trial was undone, also by one that no lane has run.
    pub(super) undone: BTreeSet<RevisionNumber>,
    /// The partitions of each topic of the target.
    pub(super) partitions: HashMap<Arc<str>, u32>,
    pub(super) printer: Printer,
    pub(super) cancelled: &'v (dyn Fn() -> bool + Sync),
    pub(super) either: Vec<Either>,
    judged: Arc<Judged<'v>>,
    runs: Vec<Run>,
    bytes_max: HashMap<Arc<str>, usize>,
}

impl<'v> Stage<'v> {
    /// Whether a revision hands every record on as it is.
    pub(super) fn copies(&self, revision: RevisionNumber) -> bool {
        matches!(self.revisions.get(&revision), Some(Ok(pipeline)) if pipeline.copies())
    }

    pub(super) fn new(config: &LinkConfig, target: Arc<dyn Cluster>, cancelled: &'v (dyn Fn() -> bool + Sync)) -> Self {
        // What was committed has passed the breaker: it must not end a replay.
        let breaker = BreakerConfig {
            window_records: u64::MAX / 1000,
            rejected_percent: 100,
            trapped_percent: 100,
            ..config.breaker.clone()
        };
        let judged = Judged::new(&config.id, &config.source, &config.dead_letters, target.clone(), cancelled, now_ms());
        Self {
            judged: Arc::new(judged),
            config: LinkConfig { breaker, ..config.clone() },
            target,
            revisions: BTreeMap::new(),
            undone: BTreeSet::new(),
            partitions: HashMap::new(),
            printer: Printer::default(),
            cancelled,
            either: Vec::new(),
            runs: Vec::new(),
            bytes_max: HashMap::new(),
        }
    }

    /// Where records were taken for timely without knowing: see [`Judged::assumed`].
    pub(super) fn assumed(&self) -> BTreeMap<TopicPartition, i64> {
        self.judged.assumed()
    }

    /// The pipeline of a revision.
    pub(super) fn pipeline(&self, number: RevisionNumber) -> Result<Arc<Pipeline>, Halt> {
        match self.revisions.get(&number) {
            Some(Ok(pipeline)) => Ok(pipeline.clone()),
            Some(Err(why)) => Err(Halt::Because(why.clone())),
            None => Err(Halt::Because(format!("revision {number} is not in the link's history"))),
        }
    }

    /// The stage that wrote a state.
    fn wrote(&self, name: &str, writer: &Writer) -> Result<pipeline::Stage, Failure> {
        let wrote = self.pipeline(writer.revision).ok().and_then(|pipeline| pipeline.stage(name).cloned());
        wrote.ok_or_else(|| {
            let message = format!("revision {}, which wrote the state of stage {name}, is not known", writer.revision);
            Failure::fatal("not-replayed", message, "")
        })
    }

    fn run(&mut self, pipeline: &Arc<Pipeline>) -> Result<&mut Run, Halt> {
        let at = self.runs.iter().position(|run| run.pipeline().number() == pipeline.number());
        let run = match at {
            Some(at) => self.runs.remove(at),
            None => Run::new(&self.config, pipeline)?,
        };
        if self.runs.len() == RUNS_MAX {
            self.runs.remove(0);
        }
        self.runs.push(run);
        self.runs.last_mut().ok_or_else(|| Halt::Because("no instance".to_owned()))
    }

    /// The largest record that a topic of the target takes, in bytes.
    fn bytes_max(&mut self, topic: &Arc<str>) -> Result<usize, Halt> {
        if let Some(bytes) = self.bytes_max.get(topic) {
            return Ok(*bytes);
        }
        let bytes = self.target.record_bytes_max(topic).map_err(Failure::from)?;
        self.bytes_max.insert(topic.clone(), bytes);
        Ok(bytes)
    }

    /// Let a batch go through a pipeline, as a lane does.
    pub(super) fn process(
        &mut self,
        pipeline: &Arc<Pipeline>,
        batch: Batch,
        memory: &mut Memory,
    ) -> Result<Processed, Stop> {
        let failed = |halt: Halt| {
            let Halt::Because(message) = halt else { return Stop::Interrupted };
            Stop::Failed(Box::new(Failure::fatal("not-replayed", message, "")))
        };
        let cancelled = self.cancelled;
        let judged = self.judged.clone();
        let clock = ReplayClock { judged: &judged, published_ms: pipeline.record.at_ms };
        let run = self.run(pipeline).map_err(failed)?;
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        let next_offset = batch.next_offset;
        let states = memory.of(&partition);
        run.forget_windows();
        let processed = match run.process(batch, states, &clock, None) {
            Err(Stop::Poisoned(batch)) => {
                memory::undo(states);
                let search = Search { deadline: Instant::now() + SEARCH_PATIENCE, interrupted: &cancelled };
                run.process(*batch, states, &clock, Some(search))
            }
            done => done,
        };
        match &processed {
            Ok(_) => drop(memory::accept(states)),
            Err(_) => memory::undo(states),
        }
        // Nothing is committed here; what waits for a commit would only grow.
        drop((memory.take_changes(&partition, next_offset, pipeline), memory.take_drops()));
        processed
    }
}

/// A source partition on its way through the history of its link.
pub(super) struct Replay {
    pub(super) partition: TopicPartition,
    /// Where its records go, unless a plugin routes them.
    pub(super) target: Arc<str>,
    /// The first offset that is replayed.
    pub(super) from: i64,
    /// The next offset.
    pub(super) next: i64,
    /// The offset behind the last.
    pub(super) to: i64,
    /// The records replayed so far.
    pub(super) records: u64,
    /// The offsets without a record so far.
    pub(super) holes: u64,
    /// The revisions that handled any of these records.
    pub(super) revisions: u64,
    /// Where each revision begins.
    starts: Vec<(RevisionNumber, i64)>,
    /// Those that are still to come.
    borders: VecDeque<(RevisionNumber, i64)>,
    memory: Memory,
    pipeline: Option<Arc<Pipeline>>,
    is_new: bool,
}

/// A record that is expected in a target partition.
pub(super) type Expected = (TopicPartition, Line);

impl Replay {
    /// A partition that is replayed from `from` to `to`, from there on under the first revision of `borders`.
    pub(super) fn new(
        partition: TopicPartition,
        target: Arc<str>,
        from: i64,
        to: i64,
        borders: impl IntoIterator<Item = (RevisionNumber, i64)>,
    ) -> Self {
        let starts: Vec<_> = borders.into_iter().collect();
        Self {
            borders: starts.iter().copied().collect(),
            starts,
            partition,
            target,
            from,
            next: from,
            to,
            records: 0,
            holes: 0,
            revisions: 0,
            memory: Memory::default(),
            pipeline: None,
            is_new: true,
        }
    }

    /// The revision that handled a record.
    pub(super) fn revision_at(&self, offset: i64) -> Option<RevisionNumber> {
        self.starts.iter().rev().find(|(_, start)| *start <= offset).map(|(number, _)| *number)
    }

    /// Whether all of it has been replayed.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.to
    }

    /// What becomes of a batch that was read at the next offset, as far as it is to be replayed. If it does not get to the end, `each` has
    /// had all that precedes, and the next offset is where it stopped.
    pub(super) fn advance(
        &mut self,
        mut batch: Batch,
        stage: &mut Stage<'_>,
        mut each: impl FnMut(Expected),
    ) -> Result<(), Halt> {
        loop {
            self.cross_borders(stage)?;
            let end = self.borders.front().map_or(self.to, |(_, offset)| (*offset).min(self.to));
            let count = batch.offsets.partition_point(|offset| *offset < end);
            let rest = (count < batch.len() || batch.next_offset > end).then(|| batch.slice(count..batch.len()));
            let mut part = if rest.is_some() { batch.slice(0..count) } else { batch };
            part.next_offset = part.next_offset.min(end);
            self.replay(part, stage, &mut each)?;
            match rest {
                Some(rest) if !self.is_done() => batch = rest,
                _ => return Ok(()),
            }
        }
    }

    /// Take over the revisions that begin at the next offset, one after the other, as a lane did.
    fn cross_borders(&mut self, stage: &Stage<'_>) -> Result<(), Halt> {
        while let Some((number, _)) = self.borders.front().copied().filter(|(_, offset)| *offset <= self.next) {
            let pipeline = stage.pipeline(number)?;
            // What a lane keeps counts only where the trial was undone, which the history says.
            let is_on_trial = stage.undone.contains(&number);
            let heir = Heir { link: &stage.config.id, pipeline: &pipeline, is_on_trial };
            let next = self.next;
            match self.pipeline.take() {
                Some(before) => {
                    let wrote = |name: &str, writer: &Writer| stage.wrote(name, writer);
                    self.memory.swap(&before, &heir, |_| next, wrote)?;
                }
                None => {
                    let nobody =
                        |_: &str, _: &memory::Writer| Err(Failure::fatal("internal", "no state was stored", ""));
                    self.memory.open(&heir, &self.partition, None, StoredStates::default(), nobody)?;
                }
            }
            self.pipeline = Some(pipeline);
            self.is_new = true;
            self.borders.pop_front();
        }
        Ok(())
    }

    fn replay(&mut self, part: Batch, stage: &mut Stage<'_>, each: &mut impl FnMut(Expected)) -> Result<(), Halt> {
        let Some(pipeline) = self.pipeline.clone() else {
            return Err(Halt::Because("no revision is known for its first record".to_owned()));
        };
        let (records, next) = (part.len(), part.next_offset);
        if records > 0 {
            let processed = match stage.process(&pipeline, part, &mut self.memory) {
                Ok(processed) => processed,
                Err(stop) => return Err(self.stop(stop, &pipeline, stage, each)?),
            };
            self.hand_on(&processed, &pipeline, stage, each)?;
        }
        self.pass_by(records, next);
        Ok(())
    }

    fn pass_by(&mut self, records: usize, next: i64) {
        self.revisions += u64::from(self.is_new && records > 0);
        self.is_new &= records == 0;
        self.records += records as u64;
        self.holes += (next - self.next).max(0).unsigned_abs().saturating_sub(records as u64);
        self.next = self.next.max(next);
    }

    /// A lane would not have gone on here. What precedes is replayed.
    fn stop(
        &mut self,
        stop: Stop,
        pipeline: &Arc<Pipeline>,
        stage: &mut Stage<'_>,
        each: &mut impl FnMut(Expected),
    ) -> Result<Halt, Halt> {
        let number = pipeline.number();
        Ok(match stop {
            Stop::Interrupted => Halt::Cancelled,
            Stop::Halted(halted) => {
                let (batch, failure) = *halted;
                let before = failure.place.as_ref().map_or(0, |place| place.offset);
                let records = batch.offsets.partition_point(|offset| *offset < before);
                if let Ok(processed) = stage.process(pipeline, batch.slice(0..records), &mut self.memory) {
                    self.hand_on(&processed, pipeline, stage, each)?;
                    self.pass_by(records, before);
                }
                Halt::Because(format!("revision {number} stops here: {failure}"))
            }
            Stop::Failed(failure) => Halt::Because(format!("revision {number}: {failure}")),
            Stop::Breaker(reason) => Halt::Because(format!("revision {number} {reason}")),
            Stop::Late(_) | Stop::Poisoned(_) => {
                Halt::Because(format!("revision {number} takes too long at the records that it traps on"))
            }
        })
    }

    /// Say where everything goes that was made of a batch, by the rules of the sinks.
    fn hand_on(
        &self,
        processed: &Processed,
        pipeline: &Arc<Pipeline>,
        stage: &mut Stage<'_>,
        each: &mut impl FnMut(Expected),
    ) -> Result<(), Halt> {
        let letters: Arc<str> = stage.config.dead_letters.as_str().into();
        if let Some(batch) = self.letters(&processed.letters, &letters, pipeline, stage)? {
            let place = self.place(&letters, None, stage);
            batch.records().for_each(|record| each((place.clone(), stage.printer.line(record))));
        }
        for batch in &processed.outputs {
            for (index, record) in batch.records().enumerate() {
                let placement = batch.placement(index);
                let topic = placement.topic.map_or(&self.target, |topic| &batch.topics[topic as usize]);
                let line = stage.printer.line(record);
                let place = self.place(topic, placement.partition_key.get(&batch.arena), stage);
                if batch.record_bytes(index) > stage.bytes_max(topic)? && stage.either.len() < EITHER_MAX {
                    let letter = Letter::too_large(batch.slice(index..index + 1));
                    if let Some(letter) = self.letters(&[letter], &letters, pipeline, stage)? {
                        let letter = stage.printer.print(letter.record(0));
                        stage.either.push(Either { record: line.print, letter });
                    }
                }
                each((place, line));
            }
        }
        Ok(())
    }

    fn letters(
        &self,
        letters: &[Letter],
        topic: &Arc<str>,
        pipeline: &Pipeline,
        stage: &mut Stage<'_>,
    ) -> Result<Option<Batch>, Halt> {
        if letters.is_empty() {
            return Ok(None);
        }
        let bytes_max = stage.bytes_max(topic)?;
        Ok(dead_letters(letters, &stage.config.id, &stage.config.source, pipeline, bytes_max))
    }

    fn place(&self, topic: &Arc<str>, key: Option<&[u8]>, stage: &Stage<'_>) -> TopicPartition {
        let count = stage.partitions.get(topic).copied().unwrap_or(1).max(1);
        let partition = key.map_or(self.partition.partition % count, |key| partition_of_key(key, count));
        TopicPartition::new(topic.clone(), partition)
    }
}
