//! What one broker is asked for: a fetch session (KIP-227). No IO.
//!
//! The broker remembers the partitions and offsets that it was told, so a request names only what changed since the one before,
//! and an answer only what has something to say: with a thousand idle partitions both are nearly empty. A broker without room
//! for a session is told everything each time.
//!
//! Invariants
//! - One request at a time: an answer belongs to what was told last.
//! - Partitions take turns. In a session the broker moves those that it sent records of to the end; outside of one, we do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::answer::{BY_NAME, FetchAnswer, SESSIONS};
use super::faults;
use super::positions::{Index, Position, Positions};
use crate::config::Tuning;
use crate::connector::kafka::client::Isolation;
use crate::connector::kafka::error::Code;
use crate::connector::kafka::wire::Call;

/// How much a broker may answer with, in bytes. A record batch that is larger comes all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) all: i32,
    pub(super) partition: i32,
}

/// What became of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer's partitions are to be looked at.
    Answered,
    /// The broker knows the session no more. The next request tells it everything again.
    Forgotten,
    /// Something else is wrong with the request.
    Failed,
}

/// The partitions that are fetched from one broker.
#[derive(Debug)]
pub(super) struct Session {
    version: i16,
    limits: Limits,
    /// How long a broker waits for records before it answers that there are none, in milliseconds.
    /// No partition is held up by another one: there is an answer as soon as any has records.
    max_wait_ms: i32,
    /// Which transactions are read.
    isolation: Isolation,
    /// Where we are, as the brokers call it; empty: they are not told.
    rack: StrBytes,
    /// 0: there is none.
    id: i32,
    /// 0: the next request names everything.
    epoch: i32,
    /// The partitions, those whose turn was last at the end.
    members: Vec<Index>,
    /// The offsets that the broker was told.
    told: HashMap<Index, i64>,
    /// Members of which the broker has to be told something.
    news: BTreeSet<Index>,
    /// What the broker was told and is to forget: topic and partition.
    leaving: Vec<(TopicName, Uuid, i32)>,
    /// The members that the request under way told the broker of.
    asked: Vec<Index>,
}

impl Session {
    /// Nothing yet, with a broker that speaks this version of Fetch.
    pub(super) fn new(version: i16, limits: Limits, rack: Option<&str>) -> Self {
        Self {
            version,
            limits,
            max_wait_ms: Tuning::default().fetch_max_wait.as_millis() as i32,
            isolation: Isolation::ReadCommitted,
            rack: StrBytes::from_string(rack.unwrap_or_default().to_owned()),
            id: 0,
            epoch: 0,
            members: Vec::new(),
            told: HashMap::new(),
            news: BTreeSet::new(),
            leaving: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// The same with a broker that waits for so long at most.
    pub(super) fn waiting(self, max_wait: Duration) -> Self {
        Self { max_wait_ms: max_wait.as_millis() as i32, ..self }
    }

    /// The same for a reader that sees these transactions.
    pub(super) fn reading(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn members(&self) -> &[Index] {
        &self.members
    }

    /// The partitions that the request under way had news of.
    pub(super) fn asked(&self) -> &[Index] {
        &self.asked
    }

    /// The offset that the broker was told of a partition.
    pub(super) fn told(&self, index: Index) -> Option<i64> {
        self.told.get(&index).copied()
    }

    /// Fetch a partition too.
    pub(super) fn add(&mut self, index: Index) {
        if !self.members.contains(&index) {
            self.members.push(index);
        }
        self.news.insert(index);
    }

    /// Do not fetch a partition any more.
    pub(super) fn remove(&mut self, index: Index, position: &Position) {
        self.members.retain(|member| *member != index);
        self.news.remove(&index);
        self.asked.retain(|asked| *asked != index);
        if self.told.remove(&index).is_some() {
            self.leaving.push((position.name.clone(), position.topic, position.place.partition as i32));
        }
    }

    /// The position of a partition has changed.
    pub(super) fn moved(&mut self, index: Index) {
        self.news.insert(index);
    }

    /// Records of a partition have come: it had its turn.
    pub(super) fn had_turn(&mut self, index: Index) {
        self.news.insert(index);
        if let Some(at) = self.members.iter().position(|member| *member == index) {
            let index = self.members.remove(at);
            self.members.push(index);
        }
    }

    /// The next request.
    pub(super) fn request(&mut self, positions: &Positions) -> FetchRequest {
        let full = self.epoch == 0;
        if full {
            self.told.clear();
            self.leaving.clear();
            self.asked.clone_from(&self.members);
        } else {
            // One that left and came back is told anew, so it must not be forgotten in the same request.
            let told: Vec<_> = self.news.iter().map(|index| &positions[*index]).collect();
            self.leaving.retain(|(_, topic, partition)| {
                !told.iter().any(|there| there.topic == *topic && there.place.partition as i32 == *partition)
            });
            self.asked = self.news.iter().copied().collect();
        }
        self.news.clear();
        for index in &self.asked {
            self.told.insert(*index, positions[*index].next);
        }
        let request = FetchRequest::default()
            .with_max_wait_ms(self.max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(self.limits.all)
            .with_isolation_level(self.isolation as i8)
            .with_rack_id(self.rack(positions))
            .with_topics(self.topics(positions));
        if self.version < SESSIONS {
            return request;
        }
        let leaving = std::mem::take(&mut self.leaving);
        request.with_session_id(self.id).with_session_epoch(self.epoch).with_forgotten_topics_data(forgotten(leaving))
    }

    /// The rack, unless the leader of a partition is to give its records itself.
    fn rack(&self, positions: &Positions) -> StrBytes {
        let is_told = self.version >= RACKS && !self.members.iter().any(|index| positions[*index].wants_leader());
        if is_told { self.rack.clone() } else { StrBytes::default() }
    }

    /// What was asked for, each run of partitions of a topic together: the order is the order of turns.
    fn topics(&self, positions: &Positions) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for index in &self.asked {
            let position = &positions[*index];
            let mut partition = FetchPartition::default()
                .with_partition(position.place.partition as i32)
                .with_current_leader_epoch(position.leader_epoch)
                .with_fetch_offset(position.next)
                .with_partition_max_bytes(self.limits.partition);
            if self.version >= LAST_FETCHED_EPOCH {
                partition.last_fetched_epoch = position.tail_epoch;
            }
            match topics.last_mut() {
                Some(topic) if topic.topic == position.name => topic.partitions.push(partition),
                _ => {
                    let topic = FetchTopic::default().with_topic(position.name.clone()).with_topic_id(position.topic);
                    topics.push(topic.with_partitions(vec![partition]));
                }
            }
        }
        topics
    }

    /// What an answer says of the session.
    pub(super) fn answered(&mut self, answer: &FetchAnswer) -> Outcome {
        // A request that names all partitions needs no session.
        let needs_session = self.epoch != 0;
        if needs_session && faults::is_session_lost(answer.code) {
            self.begin_anew(answer);
            return Outcome::Forgotten;
        }
        if answer.code != Code::NONE {
            return Outcome::Failed;
        }
        // No session, or one that the broker has no room for.
        (self.id, self.epoch) = match answer.session {
            0 => (0, 0),
            id => (id, if self.epoch == i32::MAX { 1 } else { self.epoch + 1 }),
        };
        Outcome::Answered
    }

    /// Have the broker find something else than it expects.
    #[cfg(test)]
    pub(super) fn disturb(&mut self, id: i32, epochs: i32) {
        self.id += id;
        self.epoch += epochs;
    }

    fn begin_anew(&mut self, answer: &FetchAnswer) {
        // A session that is still there is replaced by the new one; another one would wait for the broker to throw it away.
        if answer.code == Code::FETCH_SESSION_NOT_FOUND {
            self.id = 0;
        }
        self.epoch = 0;
    }
}

/// From this version on a broker names a replica that is nearer.
const RACKS: i16 = 11;

/// From this version on a broker compares its log with what was read.
const LAST_FETCHED_EPOCH: i16 = 12;

fn forgotten(leaving: Vec<(TopicName, Uuid, i32)>) -> Vec<ForgottenTopic> {
    let mut topics: BTreeMap<(Uuid, TopicName), Vec<i32>> = BTreeMap::new();
    for (name, topic, partition) in leaving {
        topics.entry((topic, name)).or_default().push(partition);
    }
    let forgotten = topics.into_iter().map(|((id, name), partitions)| {
        ForgottenTopic::default().with_topic(name).with_topic_id(id).with_partitions(partitions)
    });
    forgotten.collect()
}

/// The versions of Fetch that are spoken with a cluster whose topics have ids, or have none.
pub(super) fn versions(have_ids: bool) -> std::ops::RangeInclusive<i16> {
    if have_ids { FetchRequest::SPOKEN } else { BY_NAME }
}
