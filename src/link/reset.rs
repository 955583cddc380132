//! A person says where a link goes on: after a loss, which it never passes over by itself.
//!
//! A reset opens the lanes that it concerns, which fences whoever has them, and commits checkpoints that say so with a higher link epoch. Whoever opens
//! the lanes next goes on from there. What is to be done is written into the link's history before it is done: no jump without a word about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::events::Event;
use super::failure::Failure;
use super::genesis::{Genesis, confirm};
use super::lane::{now_ms, settings};
use super::memory::{DROPS_OF_COMMIT, Drops};
use super::orders::{Desired, Order};
use super::status::lock;
use super::supervisor::Link;
use crate::connector::{Class, Cluster, Commit, Error, Opened, Patience, Sink, Target, Topic};
use crate::model::checkpoint::CHECKPOINT_VERSION;
use crate::model::partition::lane_of;
use crate::model::{
    Checkpoint, KeptRow, LinkId, Loss, RevisionNumber, StateChange, StateHead, StoredState, TopicPartition, encode,
};

/// Where the resets are kept in the target.
const RESETS: &str = "resets";

/// The version of their encoding that this program writes.
const RESETS_VERSION: u32 = 1;

/// How long a commit of new checkpoints may take.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// At the first record that is there.
    Earliest,
    /// At the next record that is written.
    Latest,
    /// At this offset, which must be there.
    Offset(i64),
}

/// What a person wants.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The source topic.
    pub topic: Arc<str>,
    /// One of its partitions, or all.
    pub partition: Option<u32>,
    /// Where they go on.
    pub to: ResetTo,
    /// Whether stages forget what they remember of these partitions.
    pub forget_state: bool,
    /// Who wants it.
    pub by: String,
}

/// A reset that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRecord {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Who made it.
    pub by: String,
    /// What the link said of itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Whether stages had to forget what they remembered.
    pub state_forgotten: bool,
    /// The partitions.
    pub partitions: Vec<Moved>,
}

/// A partition that goes on elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where it would have gone on; nothing if it had not begun.
    pub from: Option<i64>,
    /// Where it goes on.
    pub to: i64,
}

/// All resets of a link, oldest first, as they are stored.
#[derive(Debug, Serialize, Deserialize)]
struct Resets {
    v: u32,
    resets: Vec<ResetRecord>,
}

/// Why a reset was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The link does not read such a topic or partition.
    #[error("{0}")]
    NotFound(String),
    /// The offset is not there.
    #[error("{0}")]
    Invalid(String),
    /// Its lanes would go on where they are: without transactions nobody fences them.
    #[error("link {0} runs, and with enable_exactly_once = false its lanes would commit over the reset")]
    Runs(LinkId),
    /// A cluster does not answer, or the link is not what it was.
    #[error("{0}")]
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for ResetError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A partition with its new checkpoint.
struct Place {
    partition: TopicPartition,
    to: i64,
    log_start: i64,
    target: Topic,
    target_end: i64,
}

impl Link {
    /// Have partitions go on elsewhere, and start what has failed.
    ///
    /// # Errors
    /// See [`ResetError`]. After a failure of the target a part of the partitions may go on at the new place: the history says what was to be done.
    pub fn reset(&self, wanted: &Reset) -> Result<ResetRecord, ResetError> {
        let mut running = lock(&self.running);
        if !self.target().is_atomic(self.config().config.enable_exactly_once) && self.desired()? != Desired::Stopped {
            return Err(ResetError::Runs(self.config().id.clone()));
        }
        let genesis = self.genesis()?;
        let topic = self.source_topic(&wanted.topic)?;
        let places = self.places(wanted, &topic)?;
        let known = self.target().checkpoints(&self.config().id, genesis.generation)?;
        places.iter().try_for_each(|place| check_forgets(wanted, &place.partition, known.get(&place.partition)))?;
        // What is stored is known also where the link is stopped.
        let doubt = |place: &Place| Some(known.get(&place.partition)?.doubt.as_ref()?.to_string());
        let failure = || self.state().1.map(|failure| format!("{} ({})", failure.message, failure.code));
        let because = places.iter().find_map(doubt).or_else(failure);
        let record = ResetRecord {
            at_ms: now_ms(),
            by: wanted.by.clone(),
            because,
            state_forgotten: wanted.forget_state,
            partitions: places.iter().map(|place| moved(place, &known)).collect(),
        };
        self.record_reset(&record)?;
        let mut by_lane: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        for place in places {
            by_lane.entry(lane_of(&place.partition, genesis.lanes)).or_default().push(place);
        }
        for (lane, places) in by_lane {
            self.reset_lane(&genesis, lane, places, &topic, wanted.forget_state)?;
        }
        self.announce_reset(&record);
        let desired = self.desired()?;
        if desired != Desired::Stopped {
            // Said once more, so that lanes begin again, here and at other daemons.
            let reason = lock(&self.told).as_ref().and_then(|told| told.reason.clone());
            self.store_order(&Order { resets: self.resets_told() + 1, ..self.order_now(desired, reason) })?;
            self.bring(&mut running, desired).inspect_err(|failure| self.fail(failure.clone()))?;
        }
        Ok(record)
    }

    /// The resets of the link, oldest first.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn resets(&self) -> Result<Vec<ResetRecord>, Failure> {
        resets_of(&**self.target(), &self.config().id)
    }

    fn source_topic(&self, name: &Arc<str>) -> Result<Topic, ResetError> {
        let selected = self.config().selects(name);
        let topics = if selected { self.source().topics()? } else { Vec::new() };
        let found = topics.into_iter().find(|topic| topic.name == *name);
        found.ok_or_else(|| {
            let source = &self.config().source;
            let why = if selected {
                format!("{source} has no topic {name}")
            } else {
                format!("the link does not read {name}")
            };
            ResetError::NotFound(why)
        })
    }

    /// Where the partitions go on, checked against what is there.
    fn places(&self, wanted: &Reset, topic: &Topic) -> Result<Vec<Place>, ResetError> {
        let numbers = match wanted.partition {
            Some(number) if number >= topic.partitions => {
                let message = format!("{} has {} partitions, from 0 on", topic.name, topic.partitions);
                return Err(ResetError::NotFound(message));
            }
            Some(number) => number..number + 1,
            None => 0..topic.partitions,
        };
        let target: Arc<str> = self.config().target_topic(&topic.name).into();
        let target = match self.target().topics()?.into_iter().find(|found| found.name == target) {
            Some(found) => found,
            None => self.make_target(target, topic)?,
        };
        let ranges = self.source().ranges(&topic.name)?;
        let ends: Vec<_> =
            (0..target.partitions).map(|number| TopicPartition::new(target.name.clone(), number)).collect();
        let ends: Vec<i64> = self.target().log_ends(&ends, Patience::Long).into_iter().collect::<Result<_, _>>()?;
        let place = |number: u32| {
            let partition = TopicPartition::new(topic.name.clone(), number);
            let range = *ranges.get(number as usize).ok_or_else(|| gone(&partition))?;
            let to = match wanted.to {
                ResetTo::Earliest => range.log_start,
                ResetTo::Latest => range.end,
                ResetTo::Offset(offset) if (range.log_start..=range.end).contains(&offset) => offset,
                ResetTo::Offset(offset) => {
                    let (start, end) = (range.log_start, range.end);
                    let message = format!("{partition} has offsets {start} to {end}, and not {offset}");
                    return Err(ResetError::Invalid(message));
                }
            };
            let target_end = ends.get(number as usize % ends.len().max(1)).copied().unwrap_or(0);
            Ok(Place { partition, to, log_start: range.log_start, target: target.clone(), target_end })
        };
        numbers.map(place).collect()
    }

    fn make_target(&self, name: Arc<str>, topic: &Topic) -> Result<Topic, ResetError> {
        let settings = self.source().topic_settings(std::slice::from_ref(&topic.name))?.remove(&topic.name);
        let target = Target {
            topic: name,
            partitions: topic.partitions,
            settings: settings.transpose()?.unwrap_or_default(),
            replication_factor: self.config().following.replication_factor,
        };
        let made = self.target().make_topics(&[target])?.into_iter().next();
        let made = made.unwrap_or_else(|| Err(unmade(&topic.name)));
        Ok(made?)
    }

    /// Tell people.
    fn announce_reset(&self, record: &ResetRecord) {
        for Moved { topic, partition, from, to } in &record.partitions {
            let from = from.map_or_else(|| "its beginning".to_owned(), |from| from.to_string());
            let by = &record.by;
            tracing::warn!(link = &*self.config().id, topic, partition, from, to, by, "reset");
            let message = format!("{topic}-{partition} goes on at {to} instead of {from}, says {by}");
            self.events.push(Event::new("reset", message));
        }
    }

    fn record_reset(&self, record: &ResetRecord) -> Result<(), Failure> {
        loop {
            let known = self.target().metadata(&self.config().id, RESETS)?;
            let mut resets = read_resets(known.as_deref())?;
            resets.push(record.clone());
            let text = encode("the list of resets", &Resets { v: RESETS_VERSION, resets })?;
            if self.replace(RESETS, known.as_deref(), &text)? {
                return Ok(());
            }
        }
    }

    /// Take a lane over, and commit where its partitions go on.
    fn reset_lane(
        &self,
        genesis: &Genesis,
        lane: u32,
        places: Vec<Place>,
        topic: &Topic,
        forget: bool,
    ) -> Result<(), Failure> {
        let mut sink = self.target().sink(&settings(self.config(), genesis, lane))?;
        let allowed = || confirm(&**self.target(), &self.config().id, genesis, self.layout_max());
        let Opened { checkpoints: known, revision, states_lost } = sink.open(&allowed)?;
        if let Some(why) = states_lost {
            let message = format!("what the stages of lane {lane} remember is lost: {why}");
            let remedy = "start the link, which stores the loss of each partition, then reset with `--forget-state`";
            return Err(Failure::fatal(Loss::StateLost.code(), message, remedy));
        }
        let revision = match revision {
            Some(revision) => revision,
            None => self.history()?.last().map_or(RevisionNumber(1), |last| last.number),
        };
        let (mut checkpoints, mut states, mut drops) = (BTreeMap::new(), Vec::new(), Drops::default());
        for Place { partition, to, log_start, target, target_end } in places {
            for (stage, StoredState { head, rows }) in sink.states(&partition)?.states {
                if forget {
                    drops.end(&partition, stage, rows.into_keys().map(Arc::from).collect());
                    continue;
                }
                // What is kept of the time before a trial stays what it was.
                if head.departed.is_none() && KeptRow::read_stage(&stage).is_none() {
                    let head = Some(StateHead { next_offset: to, ..head });
                    states.push(StateChange { stage, partition: partition.clone(), head, rows: BTreeMap::new() });
                }
            }
            states.extend(drops.take_heads(&partition));
            let before = known.get(&partition);
            let checkpoint = Checkpoint {
                v: CHECKPOINT_VERSION,
                next_offset: to,
                source_topic_id: topic.id,
                source_log_start: log_start,
                source_leader_epoch: None,
                target_topic_id: target.id,
                target_end_offset: target_end,
                link_epoch: before.map_or(0, |before| before.link_epoch) + 1,
                revision: before.map_or(revision, |before| before.revision),
                last: None,
                doubt: None,
            };
            checkpoints.insert(partition, checkpoint);
        }
        states.extend(drops.take_entries(DROPS_OF_COMMIT));
        commit(&mut *sink, lane, Commit { checkpoints, states, verbatim: true, ..Commit::default() })?;
        while drops.has_entries() {
            let states = drops.take_entries(DROPS_OF_COMMIT);
            if let Err(failure) = commit(&mut *sink, lane, Commit { states, verbatim: true, ..Commit::default() }) {
                // The partitions are reset. What is left is no state, and whoever opens the lane drops it.
                tracing::debug!(lane, code = failure.code, "{failure}");
                break;
            }
        }
        Ok(())
    }
}

/// Refuse to go on with stages that have lost what they remembered, unless that is what is wanted.
fn check_forgets(wanted: &Reset, partition: &TopicPartition, known: Option<&Checkpoint>) -> Result<(), ResetError> {
    let doubt = known.and_then(|known| known.doubt.as_ref()).filter(|doubt| doubt.code == Loss::StateLost);
    match doubt {
        Some(doubt) if !wanted.forget_state => Err(ResetError::Invalid(format!(
            "{partition}: {doubt}: the stages cannot go on with what they remembered: reset with --forget-state"
        ))),
        _ => Ok(()),
    }
}

/// Commit, and wait until it is done.
fn commit(sink: &mut dyn Sink, lane: u32, commit: Commit) -> Result<(), Failure> {
    sink.begin_commit(commit)?;
    let deadline = Instant::now() + COMMIT_PATIENCE;
    while !sink.finish_commit(Duration::from_secs(1))? {
        if Instant::now() > deadline {
            let message = format!("lane {lane} did not commit within {COMMIT_PATIENCE:?}");
            let failure = Failure::fatal("commit-late", message, "look at the target's log, then reset again");
            return Err(Failure { class: Class::Reopen, ..failure });
        }
    }
    Ok(())
}

fn unmade(topic: &str) -> Error {
    Error {
        class: Class::Reopen,
        code: "unknown-topic",
        message: format!("there is no topic for {topic} in the target, and it was not made"),
        remedy: "look at the target's log",
    }
}

fn gone(partition: &TopicPartition) -> ResetError {
    ResetError::NotFound(format!("{partition} is not there any more"))
}

fn moved(place: &Place, known: &BTreeMap<TopicPartition, Checkpoint>) -> Moved {
    Moved {
        topic: place.partition.topic.to_string(),
        partition: place.partition.partition,
        from: known.get(&place.partition).map(|checkpoint| checkpoint.next_offset),
        to: place.to,
    }
}

/// The resets of a link that writes to a cluster, oldest first.
pub(super) fn resets_of(target: &dyn Cluster, link: &LinkId) -> Result<Vec<ResetRecord>, Failure> {
    read_resets(target.metadata(link, RESETS)?.as_deref())
}

fn read_resets(bytes: Option<&[u8]>) -> Result<Vec<ResetRecord>, Failure> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    let unreadable =
        |message: String| Failure::fatal("resets-unreadable", message, "restore the target, or use a newer tidegate");
    let read: Resets =
        serde_json::from_slice(bytes).map_err(|error| unreadable(format!("the link's resets: {error}")))?;
    if read.v > RESETS_VERSION {
        return Err(unreadable(format!("the link's resets have version {}: a newer tidegate wrote them", read.v)));
    }
    Ok(read.resets)
}
