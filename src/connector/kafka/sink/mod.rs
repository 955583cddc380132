//! Writes the output of a lane into a Kafka cluster.
//!
//! Reading order: this file (what a lane sees), [`flow`] (the order of requests), [`joined`] (what a transaction has, and what is sent again), [`session`] (what is open, and how requests come and
//! go), [`open`] (from fencing to the checkpoint), [`outbox`] (records on their way), [`ledger`] (where they went), [`alone`] (what does not belong to a lane), [`copy`] (lanes
//! that become others).
//!
//! Invariants
//! - The checkpoint is read after fencing and up to the high watermark, never before.
//! - Nothing is ever sent again from memory, but for what was to join a transaction and was refused because the coordinator was not ready. After
//!   anything else the lane opens again and reads the source again.
//! - One connection to a broker for all of a lane's records: a broker keeps one pending partition of a transaction only.

pub(super) mod alone;
pub(super) mod copy;
mod flow;
mod joined;
mod ledger;
mod open;
mod outbox;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::outbox::Place;
use self::session::Session;
use super::admin::Admin;
use super::client::Client;
use super::error::not_open;
use super::layout::OwnTopic;
use super::limits::Limit;
use super::records::{Encoder, Passing};
use crate::connector::{Commit, Encoded, Error, LaneSettings, Opened, Sink, Target, Topic, check_target};
use crate::model::partition::partition_of_key;
use crate::model::{Batch, Codec, Compression, StoredStates, TopicPartition};

/// A topic that the lane writes to.
#[derive(Clone, Debug)]
struct TargetTopic {
    name: Arc<str>,
    id: Uuid,
    partitions: u32,
    /// How large the record batches may be that it takes.
    limit: Limit,
}

/// A topic of ours, as it is there.
#[derive(Clone, Debug)]
struct OwnTarget {
    of: OwnTopic,
    topic: TargetTopic,
}

/// The topics that the lane writes to; a [`Place`] names one by its index.
#[derive(Debug, Default)]
struct Topics {
    list: Vec<TargetTopic>,
    by_name: HashMap<Arc<str>, usize>,
    /// Those of ours are found by what only we can name.
    own: HashMap<OwnTopic, usize>,
}

impl Topics {
    fn put(&mut self, topic: TargetTopic) -> usize {
        if let Some(index) = self.by_name.get(&topic.name) {
            self.list[*index] = topic;
            return *index;
        }
        self.by_name.insert(topic.name.clone(), self.list.len());
        self.list.push(topic);
        self.list.len() - 1
    }

    fn put_own(&mut self, own: OwnTarget) -> usize {
        let OwnTarget { of, topic } = own;
        let index = *self.own.entry(of).or_insert(self.list.len());
        if index == self.list.len() {
            self.list.push(topic)
        } else {
            self.list[index] = topic
        }
        index
    }

    fn find_own(&self, of: &OwnTopic) -> Option<usize> {
        self.own.get(of).copied()
    }

    /// What an answer is about: it has a name, or an id and no name. Clusters without ids say nil of every topic.
    fn answered(&self, name: &str, id: Uuid) -> Option<usize> {
        let among_all = || {
            self.list.iter().position(|topic| match name {
                "" => topic.id == id && !id.is_nil(),
                name => *topic.name == *name,
            })
        };
        self.by_name.get(name).copied().or_else(among_all)
    }

    fn find(&self, name: &Arc<str>) -> Result<usize, Error> {
        self.by_name.get(name).copied().ok_or_else(|| super::error::unknown_topic(name))
    }
}

/// A writer for one lane.
pub(super) struct KafkaSink {
    client: Arc<Client>,
    admin: Arc<Admin>,
    lane: LaneSettings,
    encoder: Encoder,
    passing: Passing,
    topics: Topics,
    /// `None` until the lane is opened, and after an error.
    session: Option<Session>,
    /// The error since the lane was opened.
    failure: Option<Error>,
}

impl KafkaSink {
    pub(super) fn new(client: Arc<Client>, admin: Arc<Admin>, lane: LaneSettings, compression: Compression) -> Self {
        let encoder = Encoder::new(compression);
        // Who has not asked for a codec is content with the source's.
        let passing = Passing { codec: Some(compression.codec()).filter(|codec| *codec != Codec::None) };
        Self { client, admin, lane, encoder, passing, topics: Topics::default(), session: None, failure: None }
    }

    /// After an error nothing goes on before the lane is opened again.
    fn failed(&mut self, error: Error) -> Error {
        self.session = None;
        // It may be that a topic takes less than before.
        self.client.limits().ask_again();
        self.client.windows().begin_again();
        self.failure.get_or_insert(error).clone()
    }

    fn learn(&mut self, name: &Arc<str>) -> Result<(), Error> {
        check_target(&self.lane.link, name)?;
        let metadata = self.client.metadata()?;
        let topic = metadata.topics.get(name).ok_or_else(|| super::error::unknown_topic(name))?;
        let limit = self.admin.limit(name)?;
        let partitions = topic.leaders.len() as u32;
        self.topics.put(TargetTopic { name: name.clone(), id: topic.id, partitions, limit });
        Ok(())
    }

    /// Add records to the outbox. Runs of records with one destination go together.
    fn enqueue(&mut self, batch: &Batch, target: &Arc<str>) -> Result<Vec<usize>, Error> {
        let target = self.topics.find(target)?;
        let routed = batch.topics.iter().map(|topic| self.topics.find(topic)).collect::<Result<Vec<_>, _>>()?;
        let topics = &self.topics.list;
        let place_of = |index: usize| -> Place {
            let placement = batch.placement(index);
            let topic = placement.topic.map_or(target, |topic| routed[topic as usize]);
            let partitions = topics[topic].partitions.max(1);
            match placement.partition_key.get(&batch.arena) {
                Some(key) => (topic, partition_of_key(key, partitions)),
                None => (topic, batch.partition % partitions),
            }
        };
        let session = opened(&mut self.session, self.failure.as_ref(), &self.lane)?;
        let of = session.ledger.number(&TopicPartition::new(batch.topic.clone(), batch.partition));
        let (mut start, mut too_large) = (0, Vec::new());
        while start < batch.len() {
            let place = place_of(start);
            let end = match batch.placements.is_empty() {
                true => batch.len(),
                false => (start + 1..batch.len()).find(|index| place_of(*index) != place).unwrap_or(batch.len()),
            };
            let left_out = session.push(&mut self.encoder, place, batch, start..end, topics[place.0].limit)?;
            let written = (start..end).filter(|index| left_out.is_empty() || !left_out.contains(index));
            session.ledger.wrote(of, place, written.map(|index| batch.offsets[index]));
            too_large.extend(left_out);
            start = end;
        }
        Ok(too_large)
    }
}

/// The session, or why nothing goes on before the lane is opened again.
fn opened<'s>(
    session: &'s mut Option<Session>,
    failure: Option<&Error>,
    lane: &LaneSettings,
) -> Result<&'s mut Session, Error> {
    session.as_mut().ok_or_else(|| failure.cloned().unwrap_or_else(|| not_open(lane)))
}

impl Sink for KafkaSink {
    fn open(&mut self, allowed: &dyn Fn() -> Result<(), Error>) -> Result<Opened, Error> {
        (self.session, self.failure) = (None, None);
        self.topics = Topics::default();
        let (session, opened) = open::open(&self.client, &self.admin, &self.lane, &mut self.topics, allowed)?;
        self.session = Some(session);
        Ok(opened)
    }

    fn prepare(&mut self, targets: &[Target]) -> Result<Vec<Topic>, Error> {
        targets.iter().try_for_each(|target| check_target(&self.lane.link, &target.topic))?;
        let known = self.client.recent()?;
        if let Some(target) = targets.iter().find(|target| known.internal.contains(&target.topic)) {
            return Err(Error::internal(&target.topic));
        }
        let topics = self.admin.ensure_all(targets)?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
        self.admin.learn_limits(&names)?;
        names.iter().try_for_each(|name| self.learn(name))?;
        Ok(topics)
    }

    fn states(&mut self, partition: &TopicPartition) -> Result<StoredStates, Error> {
        let session = opened(&mut self.session, self.failure.as_ref(), &self.lane)?;
        Ok(session.take_states(partition))
    }

    fn begin_states(&mut self) -> Result<(), Error> {
        open::begin_states(&self.admin, &self.lane, &mut self.topics).map(drop)
    }

    fn write(&mut self, batch: &Batch, target: &Arc<str>) -> Result<Vec<usize>, Error> {
        let written = self.enqueue(batch, target).and_then(|too_large| {
            let session = opened(&mut self.session, self.failure.as_ref(), &self.lane)?;
            session.make_room(&mut self.encoder, &self.topics)?;
            Ok(too_large)
        });
        written.map_err(|error| self.failed(error))
    }

    fn passing(&self) -> Option<Passing> {
        Some(self.passing)
    }

    fn pass(&mut self, encoded: Encoded, target: &Arc<str>) -> Result<Option<Batch>, Error> {
        let index = self.topics.find(target)?;
        let topic = &self.topics.list[index];
        let place = (index, encoded.partition % topic.partitions.max(1));
        let fits = topic.limit.passes(encoded.records.codec(), encoded.records.bytes().len());
        let Some(batch) = encoded.records.pass_through().ok().filter(|_| fits) else {
            return super::decode(&encoded).map(Some);
        };
        let session = opened(&mut self.session, self.failure.as_ref(), &self.lane)?;
        let of = session.ledger.number(&TopicPartition::new(encoded.topic.clone(), encoded.partition));
        session.ledger.passed(of, place, encoded.records.base_offset(), batch.records() as i64);
        let passed = session.pass(&mut self.encoder, place, batch);
        let passed = passed.and_then(|()| session.make_room(&mut self.encoder, &self.topics));
        passed.map(|()| None).map_err(|error| self.failed(error))
    }

    fn begin_commit(&mut self, commit: Commit) -> Result<(), Error> {
        let session = opened(&mut self.session, self.failure.as_ref(), &self.lane)?;
        let begun = session.commit(commit, &self.admin, &mut self.encoder, &mut self.topics);
        begun.map_err(|error| self.failed(error))
    }

    fn committing(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_committing)
    }

    fn finish_commit(&mut self, wait: Duration) -> Result<bool, Error> {
        let session = opened(&mut self.session, self.failure.as_ref(), &self.lane)?;
        let deadline = Instant::now() + wait;
        session.pump(&mut self.encoder, &self.topics, deadline).map_err(|error| self.failed(error))?;
        Ok(!self.committing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record that a plugin routes to a topic of ours finds none, also where the lane itself writes to that.
    #[test]
    fn no_name_leads_to_a_topic_of_ours() {
        let mut topics = Topics::default();
        let topic = |name: &Arc<str>| TargetTopic {
            name: name.clone(),
            id: Uuid::nil(),
            partitions: 1,
            limit: Limit::default(),
        };
        let own = super::super::layout::checkpoint_topic("l", 1);
        let index = topics.put_own(OwnTarget { of: own.clone(), topic: topic(own.name()) });
        let orders = topics.put(topic(&"orders".into()));
        assert_eq!((index, orders, topics.find_own(&own)), (0, 1, Some(0)));
        assert_eq!(topics.find(own.name()).expect_err("ours").code, "unknown-topic");
        assert_eq!(topics.find(&"orders".into()).expect("learned"), orders);
        // It was learned anew.
        assert_eq!(topics.put_own(OwnTarget { of: own.clone(), topic: topic(own.name()) }), index);
        assert_eq!(topics.list.len(), 2);
    }

    /// A commit that failed is not done, whoever asks after it.
    #[test]
    fn a_failed_sink_answers_its_failure() {
        let lane = LaneSettings {
            link: "l".into(),
            lane: 0,
            lanes: 1,
            generation: 1,
            layout: 1,
            source: "east".into(),
            transaction_timeout: Duration::ZERO,
            exactly_once: true,
            compression: None,
        };
        let failure = super::super::error::unknown_topic("gone");
        let code = |failure: Option<&Error>| opened(&mut None, failure, &lane).err().map(|error| error.code);
        assert_eq!((code(None), code(Some(&failure))), (Some("not-open"), Some("unknown-topic")));
    }

    /// Up to version 12 answers name topics, and those of ours are no names of targets.
    #[test]
    fn an_answer_is_about_a_topic_by_its_name_or_by_its_id() {
        let mut topics = Topics::default();
        let topic =
            |name: &Arc<str>, id| TargetTopic { name: name.clone(), id, partitions: 1, limit: Limit::default() };
        let own = super::super::layout::checkpoint_topic("l", 1);
        let (ours, theirs) = (Uuid::from_u128(7), Uuid::from_u128(8));
        topics.put_own(OwnTarget { of: own.clone(), topic: topic(own.name(), ours) });
        topics.put(topic(&"orders".into(), theirs));
        topics.put(topic(&"old".into(), Uuid::nil()));
        for (name, id, index) in [
            (&**own.name(), Uuid::nil(), Some(0)),
            ("orders", Uuid::nil(), Some(1)),
            ("old", Uuid::nil(), Some(2)),
            ("", ours, Some(0)),
            ("", theirs, Some(1)),
            ("", Uuid::from_u128(9), None),
            ("others", ours, None),
            ("", Uuid::nil(), None),
        ] {
            assert_eq!(topics.answered(name, id), index, "{name:?} {id}");
        }
    }
}
