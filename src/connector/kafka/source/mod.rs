//! Reads partitions of a Kafka cluster: one connection to each broker that leads some of them, one fetch under way on each.
//!
//! Everything happens on the lane's thread, in [`Source::poll`], but what may take long there: connecting to a broker and asking who
//! leads a partition are done aside, and partitions of other brokers are read meanwhile. The next fetch is sent as soon as an answer has been taken, before
//! it is decoded: while the lane works, the broker reads ahead and the kernel receives. Nothing is taken from the kernel while
//! enough is held, so a source holds [`HELD_BYTES`] and one answer at most, however many brokers there are.
//!
//! Leaders move, brokers restart, and sessions are forgotten: that is the normal life of a cluster and is dealt with here, with
//! positions kept. A partition that cannot be read is tried again for as long as it takes; if it lasts, [`Source::stalled`] names it.
//! Whatever means loss is an error.
//!
//! Reading order: this file; [`positions`] (where each partition is read, and who leads it), [`session`] (what a broker is asked
//! for), [`answer`] (what it says), [`faults`] (what its codes mean), [`ready`] (what is decoded, in turns); [`broker`] is the
//! connection. Only this file, [`broker`] and [`timestamp`] do IO.
//!
//! Invariants
//! - What an answer has is taken only if it begins at the offset that the partition is at: a seek makes what is under way void.
//! - All that was fetched before a failure is given out before the failure.
//! - Nothing behind an open transaction is read, and nothing of an aborted one.

pub(super) mod answer;
mod broker;
mod faults;
mod positions;
mod ready;
mod session;
mod timestamp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::answer::{FetchAnswer, PartitionAnswer};
use self::broker::Broker;
use self::positions::{Index, Positions};
use self::ready::Ready;
use self::session::Outcome;
use super::client::{Client, Isolation, Metadata};
use super::error::{self, Code};
use super::records::{self, Fetched, Passing};
use super::wire::wait_readable;
use crate::background::Errand;
use crate::connector::{Class, Error, OpenTransaction, PartitionRange, Polled, Source, Stalled};
use crate::model::{Batch, TopicPartition};

pub(super) use timestamp::timestamp_at;

/// No answer is taken while so many bytes wait to be decoded.
const HELD_BYTES: usize = 4 << 20;

/// How often what is known of the cluster is compared with where partitions are fetched: a broker that stopped without a word
/// answers nothing, and others know who leads its partitions now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often is looked what has become of what is done aside.
const ERRAND_LOOK_EVERY: Duration = Duration::from_millis(2);

/// How many brokers are connected to at once, each on a thread of its own: a cluster says itself how many lead its partitions.
const JOINING_MAX: usize = 64;

/// The longest that one poll waits: a bound that keeps the arithmetic of instants sound.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A reader of a Kafka cluster.
#[derive(Debug)]
pub(super) struct KafkaSource {
    client: Arc<Client>,
    /// Which transactions it reads.
    isolation: Isolation,
    positions: Positions,
    /// Those that lead partitions which are read.
    brokers: BTreeMap<i32, Broker>,
    /// The broker whose answer was taken last: the next one has its turn.
    turn: i32,
    ready: Ready,
    metadata: Arc<Metadata>,
    look_at: Instant,
    /// The cluster is being asked who leads what.
    asking: Option<Errand<Result<Arc<Metadata>, Error>>>,
    /// Brokers that are being connected to, and the partitions that wait for it.
    joining: BTreeMap<i32, Joining>,
    /// Partitions that had nothing at their offset, and whose leaders are asked what they have.
    ranging: Vec<Ranging>,
}

/// A partition that had nothing at its offset.
#[derive(Debug)]
struct Ranging {
    index: Index,
    place: TopicPartition,
    /// Where it was read.
    offset: i64,
    range: Errand<Result<PartitionRange, Error>>,
}

/// A broker that is being connected to.
#[derive(Debug)]
struct Joining {
    opened: Errand<Result<Broker, Error>>,
    waiting: Vec<Index>,
}

impl KafkaSource {
    /// A source that reads nothing yet.
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            isolation: Isolation::ReadCommitted,
            positions: Positions::default(),
            brokers: BTreeMap::new(),
            turn: -1,
            ready: Ready::default(),
            metadata: Arc::default(),
            look_at: Instant::now(),
            asking: None,
            joining: BTreeMap::new(),
            ranging: Vec::new(),
        }
    }

    /// The same, reading these transactions.
    pub(super) fn reading(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// Take the answers that have arrived, each broker in turn, until enough is held.
    fn take_answers(&mut self, now: Instant) {
        let after = self.brokers.range(self.turn.saturating_add(1)..);
        let nodes: Vec<i32> = after.chain(self.brokers.range(..=self.turn)).map(|(node, _)| *node).collect();
        for node in nodes {
            if self.ready.bytes() >= HELD_BYTES {
                break;
            }
            let Some(broker) = self.brokers.get_mut(&node) else { continue };
            match broker.take(now) {
                Ok(Some(answer)) => {
                    self.turn = node;
                    self.take_answer(node, answer, now);
                }
                Ok(None) => {}
                Err(error) => self.lose(node, now, &error.into()),
            }
        }
    }

    fn take_answer(&mut self, node: i32, answer: FetchAnswer, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&node) else { return };
        match broker.session.answered(&answer) {
            Outcome::Answered => {}
            Outcome::Forgotten => return self.fetch(node, now),
            Outcome::Failed => {
                return self.lose(node, now, &answer.code.error(&format!("a fetch from broker {node}")));
            }
        }
        let mut fetched = Vec::new();
        for partition in answer.partitions {
            let Some(index) = self.positions.find(&partition.topic, partition.partition) else { continue };
            // Whoever sought it meanwhile, or found it elsewhere, does not want this.
            if broker.session.told(index) != Some(self.positions[index].next) {
                continue;
            }
            if let Some(replica) = partition.nearer.filter(|replica| *replica != node) {
                broker.session.remove(index, &self.positions[index]);
                let is_known = self.client.metadata().is_ok_and(|metadata| metadata.brokers.contains_key(&replica));
                self.positions.prefer(index, replica, is_known, now);
                continue;
            }
            let (last_stable, high_watermark) = (partition.last_stable, partition.high_watermark);
            let taken = take_partition(&mut self.positions, index, partition);
            // Who reads what is not committed waits for no transaction.
            if self.isolation == Isolation::ReadCommitted {
                self.positions[index].note_open_transaction(last_stable, high_watermark, now);
            }
            match taken {
                Ok(None) => {}
                Ok(Some(records)) => {
                    broker.session.had_turn(index);
                    fetched.push((index, records));
                }
                Err(trouble) => {
                    broker.session.remove(index, &self.positions[index]);
                    let asked = trouble.settle(&self.client, &mut self.positions, &mut self.ready, now);
                    self.ranging.extend(asked);
                }
            }
        }
        // All others that it was asked for are fetched without an error.
        for index in broker.session.asked() {
            self.positions[*index].recovered();
        }
        // Before anything is decoded, so that the broker works too.
        self.fetch(node, now);
        for (index, records) in fetched {
            self.ready.push(index, records);
        }
    }

    /// Send a broker its next fetch.
    fn fetch(&mut self, node: i32, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&node) else { return };
        if broker.session.is_empty() {
            self.brokers.remove(&node);
        } else if let Err(error) = broker.fetch(&self.positions, now) {
            self.lose(node, now, &error.into());
        }
    }

    /// A connection is of no use any more. Its partitions look for their leaders.
    fn lose(&mut self, node: i32, now: Instant, why: &Error) {
        tracing::debug!(broker = node, code = why.code, "{why}");
        let Some(broker) = self.brokers.remove(&node) else { return };
        for index in broker.session.members() {
            self.positions.unsettle(*index, now, why.clone());
        }
    }

    /// Compare what is known of the cluster with where partitions are fetched.
    fn look_around(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let mut moved = self.positions.ask_leaders_again(now);
        // Whoever looks for a leader meets the error too.
        if let Ok(metadata) = self.client.metadata()
            && !Arc::ptr_eq(&metadata, &self.metadata)
        {
            moved.extend(self.positions.follow(&metadata));
            self.metadata = metadata;
        }
        for (node, index) in moved {
            if let Some(broker) = self.brokers.get_mut(&node) {
                broker.session.remove(index, &self.positions[index]);
            }
        }
        self.brokers.retain(|_, broker| !broker.session.is_empty());
    }

    /// Go back to the record batches that could not be decoded.
    fn fetch_again(&mut self, now: Instant) {
        for (index, offset, why) in self.ready.take_refused() {
            if let Some(broker) = self.positions[index].broker.and_then(|node| self.brokers.get_mut(&node)) {
                broker.session.remove(index, &self.positions[index]);
            }
            self.positions.go_back(index, offset, now, why);
        }
    }

    /// Find the leaders of partitions that have none, and fetch from them.
    fn settle(&mut self, now: Instant) -> Result<(), Error> {
        self.take_joined(now);
        self.take_ranges(now);
        let Some(metadata) = self.leaders(now) else { return Ok(()) };
        for (node, index) in self.positions.settle(&metadata, now)? {
            self.join(node, index, now);
        }
        Ok(())
    }

    /// What the cluster says of its leaders, if it was asked for partitions that are due and has answered.
    fn leaders(&mut self, now: Instant) -> Option<Arc<Metadata>> {
        if self.positions.due(now).is_none_or(|due| due > now) {
            // Nobody wants to know any more.
            self.asking = None;
            return None;
        }
        let client = &self.client;
        let asking = self.asking.get_or_insert_with(|| {
            let client = client.clone();
            Errand::begin("leaders", move || client.refresh())
        });
        let answered = asking.done()?;
        self.asking = None;
        match answered.map_err(|unfinished| error::not_done("asking for leaders", &unfinished)).flatten() {
            Ok(metadata) => Some(metadata),
            Err(why) => {
                self.positions.postpone(now, &why);
                None
            }
        }
    }

    /// Fetch a partition from a broker, once there is a connection.
    fn join(&mut self, node: i32, index: Index, now: Instant) {
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.session.add(index);
            return self.fetch(node, now);
        }
        if self.joining.len() >= JOINING_MAX && !self.joining.contains_key(&node) {
            return self.positions.unsettle(index, now, faults::too_many_at_once(node));
        }
        let (client, have_ids, isolation) = (&self.client, self.positions.have_ids(), self.isolation);
        let joining = self.joining.entry(node).or_insert_with(|| {
            let client = client.clone();
            let opened = Errand::begin("broker", move || Broker::open(&client, node, have_ids, isolation));
            Joining { opened, waiting: Vec::new() }
        });
        joining.waiting.push(index);
    }

    /// Fetch from brokers that there is a connection to by now.
    fn take_joined(&mut self, now: Instant) {
        for node in self.joining.keys().copied().collect::<Vec<_>>() {
            let Some(opened) = self.joining.get(&node).and_then(|joining| joining.opened.done()) else { continue };
            let waiting = self.joining.remove(&node).map(|joining| joining.waiting).unwrap_or_default();
            // A partition that nobody reads any more, or that is led by another broker now, is not waiting for this one.
            let waiting = waiting.into_iter().filter(|index| self.positions[*index].broker == Some(node));
            let waiting: Vec<Index> = waiting.collect();
            match opened.map_err(|unfinished| error::not_done("connecting to a broker", &unfinished)).flatten() {
                Ok(mut broker) => {
                    waiting.into_iter().for_each(|index| broker.session.add(index));
                    self.brokers.insert(node, broker);
                    self.fetch(node, now);
                }
                Err(why) => waiting.into_iter().for_each(|index| self.positions.unsettle(index, now, why.clone())),
            }
        }
    }

    /// Find out what it means that partitions had nothing at their offsets, where their leaders
    /// have said what they have.
    fn take_ranges(&mut self, now: Instant) {
        for Ranging { index, place, offset, range } in std::mem::take(&mut self.ranging) {
            let Some(done) = range.done() else {
                self.ranging.push(Ranging { index, place, offset, range });
                continue;
            };
            // It may be read no more, or elsewhere.
            if self.positions.place(&place) != Some(index) || !self.positions.release(index) {
                continue;
            }
            let position = &mut self.positions[index];
            if position.next != offset {
                continue;
            }
            let range = done.map_err(|unfinished| error::not_done("asking where a partition begins", &unfinished));
            match range.flatten().map(|range| faults::out_of_range(&place, offset, position.has_read(), range)) {
                Ok(Some(lost)) => self.ready.fail(lost),
                // By now it is there; or the broker knows too little of epochs to compare them.
                Ok(None) => {
                    position.tail_epoch = -1;
                    self.positions.unsettle(index, now, faults::not_fetched(&place, Code::OFFSET_OUT_OF_RANGE));
                }
                Err(error) => self.positions.unsettle(index, now, error),
            }
        }
    }

    /// Wait for an answer, or for something else to do.
    fn wait(&self, now: Instant, deadline: Instant) -> Result<(), Error> {
        let answers = self.brokers.values().filter_map(Broker::awaited);
        let is_any_aside = self.asking.is_some() || !self.joining.is_empty() || !self.ranging.is_empty();
        let aside = is_any_aside.then(|| now + ERRAND_LOOK_EVERY);
        let due = self.positions.due(now).filter(|_| self.asking.is_none());
        let until = answers.chain(due).chain(aside).chain([self.look_at, deadline]).min().unwrap_or(deadline);
        let readable = wait_readable(self.brokers.values().map(|broker| &broker.connection), until);
        readable.map(drop).map_err(|error| Error {
            class: Class::Reopen,
            code: "connection-lost",
            message: format!("cannot wait for answers: {error}"),
            remedy: "look at the system's log",
        })
    }
}

/// How far records may be behind the end that their answer names, in offsets: a partition may get some while the answer is put together. No checksum covers the offset
/// of a record batch, so one whose upper bits were changed on the way is found by this.
const BEHIND_MAX: i64 = 1 << 31;

/// Why a partition of an answer has no records to take.
enum Trouble {
    /// It is tried again, where it is led.
    Again(Index, Error),
    /// There is nothing at its offset.
    OutOfRange(Index),
    /// Reading cannot go on.
    Fatal(Error),
}

/// Take what an answer has of a partition. Its position moves behind it.
fn take_partition(
    positions: &mut Positions,
    index: Index,
    answer: PartitionAnswer,
) -> Result<Option<Fetched>, Trouble> {
    let position = &mut positions[index];
    let from = position.next;
    match answer.code {
        Code::NONE => {}
        Code::OFFSET_OUT_OF_RANGE => return Err(Trouble::OutOfRange(index)),
        code => return Err(Trouble::Again(index, faults::not_fetched(&position.place, code))),
    }
    if let Some(end) = answer.diverges_at {
        // A replica may have more than was ever committed, or less than the leader.
        if position.is_nearer() {
            return Err(Trouble::Again(index, faults::diverged(&position.place, from, end)));
        }
        return Err(Trouble::Fatal(faults::diverged(&position.place, from, end)));
    }
    let place = &position.place;
    let fetched =
        |bytes, aborted| Fetched { topic: place.topic.clone(), partition: place.partition, from, bytes, aborted };
    let begins_before = records::first_end(&answer.records).is_some_and(|end| end <= from);
    let tail = records::tail(&answer.records);
    match tail.map_err(|why| Trouble::Again(index, faults::no_batch(place, &why)))? {
        Some(tail) if answer.high_watermark >= 0 && tail.next_offset - BEHIND_MAX > answer.high_watermark => {
            let what = format!("it ends at {}, and has records up to {}", answer.high_watermark, tail.next_offset);
            Err(Trouble::Again(index, error::impossible(place, &what)))
        }
        // Each batch that is taken must have something new: what is passed over as old would be lost if only its offset is wrong.
        Some(tail) if tail.next_offset > from && !begins_before => {
            let fetched = fetched(answer.records, answer.aborted);
            position.advance(tail);
            Ok(Some(fetched))
        }
        Some(_) => Err(Trouble::Again(index, faults::no_progress(place, from))),
        None => Ok(None),
    }
}

impl Trouble {
    /// Answers what is asked aside, if something has to be.
    fn settle(
        self,
        client: &Arc<Client>,
        positions: &mut Positions,
        ready: &mut Ready,
        now: Instant,
    ) -> Option<Ranging> {
        match self {
            Self::Again(index, error) => positions.unsettle(index, now, error),
            Self::Fatal(error) => ready.fail(error),
            // A replica may have less than the leader, or nothing of what is older.
            Self::OutOfRange(index) if positions[index].is_nearer() => {
                let error = faults::not_fetched(&positions[index].place, Code::OFFSET_OUT_OF_RANGE);
                positions.unsettle(index, now, error);
            }
            Self::OutOfRange(index) => {
                positions.hold(index);
                let (place, offset) = (positions[index].place.clone(), positions[index].next);
                let (client, of) = (client.clone(), place.clone());
                let range = Errand::begin("range", move || client.range(&of, Isolation::ReadUncommitted));
                return Some(Ranging { index, place, offset, range });
            }
        }
        None
    }
}

impl Source for KafkaSource {
    fn stalled(&self, now: Instant) -> Vec<Stalled> {
        let mut stalled = self.positions.stalled(now);
        // What is wrong with a record batch is known while it is fetched again, too.
        let undecodable: Vec<Stalled> = self.ready.stalled(now).collect();
        stalled.retain(|it| undecodable.iter().all(|known| known.partition != it.partition));
        stalled.extend(undecodable);
        stalled
    }

    fn is_read(&self, partition: &TopicPartition) -> bool {
        self.positions.place(partition).is_some_and(|index| self.positions[index].is_read())
    }

    fn open_transactions(&self) -> BTreeMap<TopicPartition, OpenTransaction> {
        self.positions.open_transactions()
    }

    fn recall(&mut self, partition: &TopicPartition, seen: OpenTransaction) {
        if let Some(index) = self.positions.place(partition) {
            self.positions[index].recall(seen);
        }
    }

    fn leader_epoch(&self, partition: &TopicPartition, next_offset: i64) -> Option<i32> {
        let index = self.positions.place(partition)?;
        self.positions[index].epoch_up_to(next_offset)
    }

    /// Nothing is asked of the broker: whether the offset is there shows with the first fetch.
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        let find = |metadata: Arc<Metadata>| {
            let topic = metadata.topics.get(&partition.topic);
            let topic = topic.ok_or_else(|| super::error::unknown_topic(&partition.topic))?;
            let count = topic.leaders.len();
            let known = (partition.partition as usize) < count;
            known.then_some(topic.id).ok_or_else(|| super::error::unknown_partition(partition, count))
        };
        let topic = find(self.client.metadata()?).or_else(|_| find(self.client.refresh()?))?;
        let index = self.positions.seek(partition, topic, offset);
        self.ready.forget(index, partition);
        if let Some(broker) = self.positions[index].broker.and_then(|node| self.brokers.get_mut(&node)) {
            broker.session.moved(index);
        }
        Ok(())
    }

    fn forget(&mut self, partition: &TopicPartition) {
        let Some((index, broker)) = self.positions.forget(partition) else { return };
        self.ready.forget(index, partition);
        if let Some(broker) = broker.and_then(|node| self.brokers.get_mut(&node)) {
            broker.session.remove(index, &self.positions[index]);
        }
    }

    fn poll(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Option<Batch>, Error> {
        match self.next(None, max_records, max_bytes, wait)? {
            Some(Polled::Batch(batch)) => Ok(Some(batch)),
            // Nothing is given so that was not asked for so.
            Some(Polled::Encoded(encoded)) => super::decode(&encoded).map(Some),
            None => Ok(None),
        }
    }

    fn poll_passing(
        &mut self,
        passing: Passing,
        max_records: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Option<Polled>, Error> {
        self.next(Some(passing), max_records, max_bytes, wait)
    }
}

impl KafkaSource {
    fn next(
        &mut self,
        passing: Option<Passing>,
        max_records: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Option<Polled>, Error> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        loop {
            if let Some(polled) = self.ready.give(passing, max_records, max_bytes)? {
                return Ok(Some(polled));
            }
            let now = Instant::now();
            self.fetch_again(now);
            self.take_answers(now);
            self.look_around(now);
            if let Err(error) = self.settle(now) {
                self.ready.fail(error);
            }
            if self.ready.is_empty() {
                if now >= deadline {
                    return Ok(None);
                }
                self.wait(now, deadline)?;
            }
        }
    }
}
