//! An opened lane: what it has sent and not sent, and the connections that it has for that.

mod answers;
mod connecting;
mod last;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, ProduceRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use self::last::{Last, copied};
use super::flow::{Flow, Leave, Mode, Outcome, Step, Unsent};
use super::joined::{Joined, Kept};
use super::ledger::Ledger;
use super::outbox::{Outbox, Place};
use super::{TargetTopic, Topics};
use crate::connector::kafka::admin::Admin;
use crate::connector::kafka::client::{Client, topic_name};
use crate::connector::kafka::error;
use crate::connector::kafka::limits::Limit;
use crate::connector::kafka::pace::Pace;
use crate::connector::kafka::produce::{self, TopicRecords};
use crate::connector::kafka::records::{BatchSize, Encoder, FinishedBatch, Stamp};
use crate::connector::kafka::wire::Connection;
use crate::connector::{Commit, Error, LaneSettings};
use crate::model::{Batch, Checkpoint, StoredStates, TopicPartition};

/// How long after a commit the next transaction begins. A broker that is asked before the markers of the last one are written asks itself again
/// 20 ms later, and they take some milliseconds where it has other things to do.
const BREATH: Duration = Duration::from_millis(4);

/// A transaction that has sent nothing for so long sends what there is, full record batches or not: its partitions join it now, and the commit has less
/// to wait for.
const BEGIN_AFTER: Duration = Duration::from_millis(30);

/// How long after CONCURRENT_TRANSACTIONS the same request is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

/// How long that may go on: after many partitions were aborted it took 13 s.
pub(super) const AGAIN_PATIENCE: Duration = Duration::from_secs(20);

/// Who a producer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// The broker that a lane's transactions are coordinated by.
#[derive(Debug)]
pub(super) struct Coordinator {
    connection: Connection,
    asked: Option<Asked>,
    /// From when on it listens.
    listens_from: Instant,
}

#[derive(Debug)]
struct Asked {
    what: Question,
    version: i16,
    at: Instant,
}

#[derive(Debug)]
enum Question {
    Register(Vec<Place>),
    End,
}

/// A broker that leads partitions of ours.
#[derive(Debug)]
struct Broker {
    connection: Connection,
    pace: Pace,
    flights: VecDeque<Flight>,
    /// The bytes of all flights.
    bytes: usize,
}

/// A request on its way.
#[derive(Debug)]
struct Flight {
    at: Instant,
    version: i16,
    bytes: usize,
    /// Of each partition what is written to it.
    parts: Vec<(Place, BatchSize)>,
    /// The records, if they may have to be sent once more.
    kept: Vec<Kept<FinishedBatch>>,
}

impl Flight {
    /// How large the record batch for a partition is.
    fn size(&self, place: Place) -> Option<BatchSize> {
        self.parts.iter().find(|(other, _)| *other == place).map(|(_, size)| *size)
    }
}

pub(super) struct Session {
    client: Arc<Client>,
    lane: LaneSettings,
    flow: Flow,
    transactional_id: Option<String>,
    identity: Identity,
    coordinator: Option<Coordinator>,
    brokers: BTreeMap<i32, Broker>,
    leaders: HashMap<Place, i32>,
    joined: Joined<FinishedBatch>,
    sequences: HashMap<Place, i32>,
    pub(super) ledger: Ledger,
    /// Where the target of each source partition ended at least, by its last checkpoint.
    floors: BTreeMap<TopicPartition, i64>,
    /// What belongs to the transaction that is open or being committed.
    sending: Outbox,
    /// What was written while a commit is under way.
    waiting: Outbox,
    last: Last,
    not_before: Option<Instant>,
    /// When the last commit was done, or the session began.
    finished: Instant,
    again_since: Option<Instant>,
    states: BTreeMap<TopicPartition, StoredStates>,
    pub(super) checkpoints: Place,
    /// Where it is said which offsets were copied to where. `None`: nowhere.
    offsets: Option<Place>,
}

impl Session {
    pub(super) fn new(
        client: Arc<Client>,
        lane: LaneSettings,
        mode: Mode,
        identity: Identity,
        coordinator: Option<(Connection, String)>,
        checkpoints: Place,
    ) -> Self {
        let (coordinator, transactional_id) = coordinator.unzip();
        Self {
            client,
            lane,
            flow: Flow::new(mode),
            transactional_id,
            identity,
            coordinator: coordinator.map(|connection| Coordinator {
                connection,
                asked: None,
                listens_from: Instant::now(),
            }),
            brokers: BTreeMap::new(),
            leaders: HashMap::new(),
            joined: Joined::default(),
            sequences: HashMap::new(),
            ledger: Ledger::default(),
            floors: BTreeMap::new(),
            sending: Outbox::default(),
            waiting: Outbox::default(),
            last: Last::default(),
            not_before: None,
            finished: Instant::now(),
            again_since: None,
            states: BTreeMap::new(),
            checkpoints,
            offsets: None,
        }
    }

    /// Begin where the lane has come to, and say at `offsets` which offsets are copied to where.
    pub(super) fn resume(
        &mut self,
        checkpoints: &BTreeMap<TopicPartition, Checkpoint>,
        states: BTreeMap<TopicPartition, StoredStates>,
        offsets: Place,
    ) {
        for (partition, checkpoint) in checkpoints {
            self.floors.insert(partition.clone(), checkpoint.target_end_offset);
            self.ledger.told(partition, checkpoint.next_offset);
        }
        self.states = states;
        self.offsets = Some(offsets);
    }

    pub(super) fn is_committing(&self) -> bool {
        self.flow.is_committing()
    }

    pub(super) fn take_states(&mut self, partition: &TopicPartition) -> StoredStates {
        self.states.remove(partition).unwrap_or_default()
    }

    /// Where what is written now belongs.
    fn outbox(&mut self) -> &mut Outbox {
        if self.is_committing() { &mut self.waiting } else { &mut self.sending }
    }

    /// Add records to what is to be sent. Answers those that their topic does not take.
    pub(super) fn push(
        &mut self,
        encoder: &mut Encoder,
        place: Place,
        batch: &Batch,
        range: Range<usize>,
        limit: Limit,
    ) -> Result<Vec<usize>, Error> {
        self.outbox().push(encoder, place, batch, range, limit).map_err(error::not_encoded)
    }

    /// Add a record batch as it is.
    pub(super) fn pass(&mut self, encoder: &mut Encoder, place: Place, batch: FinishedBatch) -> Result<(), Error> {
        self.outbox().pass(encoder, place, batch).map_err(error::not_encoded)
    }

    /// Send what can be sent, and wait while more is in memory than may be.
    pub(super) fn make_room(&mut self, encoder: &mut Encoder, topics: &Topics) -> Result<(), Error> {
        if self.flow.is_unbegun() && self.finished.elapsed() > BEGIN_AFTER {
            self.sending.flush(encoder).map_err(error::not_encoded)?;
        }
        self.pump(encoder, topics, Instant::now())?;
        while self.outbox().bytes() > self.queue_bytes() {
            if !self.is_committing() && self.sending.ready().next().is_none() {
                // Many partitions, and none with a full record batch.
                self.sending.flush(encoder).map_err(error::not_encoded)?;
            }
            self.pump(encoder, topics, Instant::now() + AGAIN_AFTER)?;
        }
        Ok(())
    }

    /// How many bytes may wait to be sent before a lane waits for the brokers.
    fn queue_bytes(&self) -> usize {
        let windows = self.brokers.values().map(|broker| broker.pace.window());
        windows.min().unwrap_or_else(|| self.client.windows().smallest())
    }

    /// Commit what was written, and wait until it is done.
    pub(super) fn commit_alone(&mut self, encoder: &mut Encoder, topics: &Topics) -> Result<(), Error> {
        self.sending.flush(encoder).map_err(error::not_encoded)?;
        self.flow.commit();
        // Nothing else is to be written behind it.
        self.flow.all_written();
        while self.is_committing() {
            self.pump(encoder, topics, Instant::now() + AGAIN_PATIENCE)?;
        }
        Ok(())
    }

    /// Begin to commit what was written, and `commit` with it.
    pub(super) fn commit(
        &mut self,
        mut commit: Commit,
        admin: &Admin,
        encoder: &mut Encoder,
        topics: &mut Topics,
    ) -> Result<(), Error> {
        if self.is_committing() {
            return Err(error::commit_under_way(&self.lane));
        }
        self.check_identities(topics)?;
        for (partition, checkpoint) in &mut commit.checkpoints {
            let floor = self.floors.entry(partition.clone()).or_default();
            if commit.verbatim {
                *floor = checkpoint.target_end_offset;
                self.ledger.told(partition, checkpoint.next_offset);
                continue;
            }
            // By its name: clusters without topic ids have the same for all.
            let place = commit.targets.get(partition).and_then(|name| topics.by_name.get(name).copied());
            let end = place.map_or(0, |index| {
                let partitions = topics.list[index].partitions.max(1);
                self.ledger.end((index, partition.partition % partitions))
            });
            *floor = end.max(*floor);
            checkpoint.target_end_offset = *floor;
        }
        let mut records = super::open::checkpoint_records(&commit, self.checkpoints)?;
        if !commit.states.is_empty() {
            records.push(super::open::state_records(&commit, admin, topics, &self.lane)?);
        }
        self.last = Last { records: Vec::new(), copied: if commit.verbatim { Vec::new() } else { copied(&commit) } };
        if self.flow.mode() == Mode::Idempotent {
            self.last.records = records;
        } else {
            self.push_all(records, encoder, topics)?;
        }
        self.sending.flush(encoder).map_err(error::not_encoded)?;
        self.flow.commit();
        self.pump(encoder, topics, Instant::now())
    }

    /// Refuse to go on in a topic that was deleted, or deleted and made again: versions of Produce that name topics would not notice. Opening
    /// again finds out what that means.
    fn check_identities(&self, topics: &Topics) -> Result<(), Error> {
        let metadata = self.client.metadata()?;
        let is_same = |topic: &&TargetTopic| metadata.topics.get(&topic.name).is_some_and(|now| now.id == topic.id);
        match topics.list.iter().find(|topic| !is_same(topic)) {
            Some(topic) => Err(error::unknown_topic(&topic.name)),
            None => Ok(()),
        }
    }

    fn push_all(&mut self, last: Vec<(Place, Batch)>, encoder: &mut Encoder, topics: &Topics) -> Result<(), Error> {
        for (place, batch) in last {
            let topic = &topics.list[place.0];
            let outbox = &mut self.sending;
            let pushed = outbox.push(encoder, place, &batch, 0..batch.len(), topic.limit);
            if let Some(index) = pushed.map_err(error::not_encoded)?.first() {
                return Err(error::own_record_too_large(&topic.name, batch.record_bytes(*index)));
            }
        }
        Ok(())
    }

    /// Send what can be sent and take the answers, until the commit under way is done, there is nothing to wait for, or the deadline has passed.
    pub(super) fn pump(&mut self, encoder: &mut Encoder, topics: &Topics, deadline: Instant) -> Result<(), Error> {
        let committing = self.is_committing();
        loop {
            self.take_answers(topics)?;
            if committing && !self.is_committing() {
                return Ok(());
            }
            let unsent = self.unsent(topics)?;
            let step = self.flow.step(unsent);
            let early = self.not_before.filter(|not_before| *not_before > Instant::now());
            match (step, early) {
                (Step::Finished, _) => {
                    self.finish();
                    return Ok(());
                }
                (Step::Last, _) => self.push_last(encoder, topics)?,
                (Step::Wait, _) if !self.is_awaiting() && self.held_until().is_none() => return Ok(()),
                (Step::Wait, _) => {
                    if Instant::now() >= deadline {
                        return self.check_patience();
                    }
                    self.wait(deadline)?;
                }
                (_, Some(not_before)) => {
                    if deadline < not_before {
                        return Ok(());
                    }
                    std::thread::sleep(not_before.saturating_duration_since(Instant::now()));
                }
                (Step::Send, None) => {
                    self.join(encoder, topics)?;
                    self.send(topics)?;
                }
                (Step::Register, None) => self.register(topics)?,
                (Step::End, None) => self.end()?,
            }
        }
    }

    fn unsent(&mut self, topics: &Topics) -> Result<Unsent, Error> {
        let mut unsent = Unsent { any: !self.sending.is_empty(), ..Unsent::default() };
        for place in self.sending.ready().collect::<Vec<_>>() {
            let broker = self.leader(place, topics)?;
            if self.room(broker) > 0 {
                unsent.ready = true;
                unsent.unregistered |= !self.joined.has(place);
            }
        }
        Ok(unsent)
    }

    fn leader(&mut self, place: Place, topics: &Topics) -> Result<i32, Error> {
        if let Some(broker) = self.leaders.get(&place) {
            return Ok(*broker);
        }
        let partition = TopicPartition::new(topics.list[place.0].name.clone(), place.1);
        let (broker, _) = self.client.metadata()?.leader(&partition)?;
        self.leaders.insert(place, broker);
        Ok(broker)
    }

    /// How many bytes may still go to a broker.
    fn room(&self, broker: i32) -> usize {
        match self.brokers.get(&broker) {
            Some(broker) => broker.pace.room(broker.bytes, Instant::now()),
            None => self.client.windows().begin(broker).window(),
        }
    }

    /// Whether records of a partition may go out: a transaction of version 1 has to have it first, or no marker ends what is written there.
    fn may_be_written(&self, place: Place) -> bool {
        self.flow.mode() != Mode::Version1 || self.joined.has(place)
    }

    /// Send one request to each broker that has room.
    fn send(&mut self, topics: &Topics) -> Result<(), Error> {
        let mut by_broker: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        for place in self.sending.ready().collect::<Vec<_>>() {
            let broker = self.leader(place, topics)?;
            // A broker may have room now that had none when it was decided that nothing has to be registered.
            if self.may_be_written(place) && self.room(broker) > 0 {
                by_broker.entry(broker).or_default().push(place);
            }
        }
        for (broker, places) in by_broker {
            let mut batches = Vec::new();
            let mut room = self.room(broker);
            for place in places {
                if room == 0 {
                    break;
                }
                let Some(batch) = self.sending.pop(place) else { continue };
                room = room.saturating_sub(batch.bytes());
                batches.push((place, batch));
            }
            self.send_to(broker, batches, topics)?;
        }
        Ok(())
    }

    fn send_to(&mut self, broker: i32, mut batches: Vec<(Place, FinishedBatch)>, topics: &Topics) -> Result<(), Error> {
        self.connect(broker)?;
        let Some(to) = self.brokers.get_mut(&broker) else { return Ok(()) };
        let joins = self.flow.mode() == Mode::Version2;
        let versions = if joins { produce::JOINING } else { produce::PLAIN };
        let version = to.connection.version_among::<ProduceRequest>(versions)?;
        let (mut parts, mut sequences, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut request: Vec<TopicRecords<'_>> = Vec::new();
        let mut previous = None;
        for (place, batch) in &mut batches {
            let sequence = self.sequences.entry(*place).or_default();
            let stamp = Stamp {
                producer_id: self.identity.id,
                producer_epoch: self.identity.epoch,
                base_sequence: *sequence,
                transactional: self.transactional_id.is_some(),
            };
            sequences.push(*sequence);
            *sequence = sequence_after(*sequence, batch.records());
            parts.push((*place, batch.size()));
            bytes += batch.bytes();
            let TargetTopic { name, id, .. } = &topics.list[place.0];
            if previous.replace(place.0) != Some(place.0) {
                request.push(TopicRecords { name, id: *id, partitions: Vec::new() });
            }
            if let Some(topic) = request.last_mut() {
                topic.partitions.push((place.1, batch.seal(stamp)));
            }
        }
        let timeout = self.client.settings().request_timeout;
        // If it fails, some of it may be on its way all the same.
        self.flow.sent();
        produce::send(&mut to.connection, version, self.transactional_id.as_deref(), timeout, &request)?;
        drop(request);
        to.bytes += bytes;
        let kept = batches.into_iter().zip(sequences);
        let kept = kept.map(|((place, batch), sequence)| Kept { place, sequence, batch });
        let kept = kept.filter(|kept| joins && !self.joined.has(kept.place)).collect();
        to.flights.push_back(Flight { at: Instant::now(), version, bytes, parts, kept });
        Ok(())
    }

    fn register(&mut self, topics: &Topics) -> Result<(), Error> {
        self.wake_coordinator()?;
        // What comes last is known from the beginning.
        let last = [Some(self.checkpoints), self.offsets];
        let places: BTreeSet<Place> = self.sending.ready().chain(last.into_iter().flatten()).collect();
        let new: Vec<Place> = places.into_iter().filter(|place| !self.joined.has(*place)).collect();
        let mut by_topic: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &new {
            by_topic.entry(*topic).or_default().push(*partition as i32);
        }
        let by_topic = by_topic.into_iter().map(|(topic, partitions)| {
            let name = topic_name(&topics.list[topic].name);
            AddPartitionsToTxnTopic::default().with_name(name).with_partitions(partitions)
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id())
            .with_v3_and_below_producer_id(self.identity.id.into())
            .with_v3_and_below_producer_epoch(self.identity.epoch)
            .with_v3_and_below_topics(by_topic.collect());
        let coordinator = self.coordinator.as_mut().ok_or_else(error::no_coordinator)?;
        let version = coordinator.connection.version::<AddPartitionsToTxnRequest>()?;
        coordinator.connection.send(version, &request)?;
        let at = coordinator.listens_from.max(Instant::now());
        coordinator.asked = Some(Asked { what: Question::Register(new), version, at });
        self.flow.registering();
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.wake_coordinator()?;
        self.flow.end(Outcome::Committed).map_or(Ok(()), |leave| self.ask_to_end(leave))
    }

    fn ask_to_end(&mut self, leave: Leave) -> Result<(), Error> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(self.identity.id.into())
            .with_producer_epoch(self.identity.epoch)
            .with_committed(leave.outcome() == Outcome::Committed);
        let coordinator = self.coordinator.as_mut().ok_or_else(error::no_coordinator)?;
        let versions = if self.flow.mode() == Mode::Version2 { 5..=5 } else { 1..=4 };
        let version = coordinator.connection.version_among::<EndTxnRequest>(versions)?;
        coordinator.connection.send(version, &request)?;
        let at = coordinator.listens_from.max(Instant::now());
        coordinator.asked = Some(Asked { what: Question::End, version, at });
        Ok(())
    }

    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.transactional_id.clone().unwrap_or_default()))
    }

    /// The commit is done: what was written meanwhile is the next transaction.
    fn finish(&mut self) {
        if self.flow.is_open() {
            self.not_before = Some(Instant::now() + BREATH);
        }
        self.flow.finished();
        self.finished = Instant::now();
        self.sending = std::mem::take(&mut self.waiting);
        self.joined.clear();
        self.again_since = None;
    }
}

/// A lane that stops with an open transaction says so if it may, so that readers of the target need not wait for it to time out. If it
/// may not, or the word is lost, whoever opens the lane next ends it.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(leave) = self.flow.end(Outcome::Aborted) {
            drop(self.ask_to_end(leave));
        }
    }
}

/// The sequence number behind `records` records: it begins at 0 again behind the largest number of 31 bits.
fn sequence_after(sequence: i32, records: usize) -> i32 {
    ((i64::from(sequence) + records as i64) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX - 4, 4), i32::MAX);
        assert_eq!(sequence_after(i32::MAX - 4, 5), 0);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
    }
}
