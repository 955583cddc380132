//! Topics and their settings, and what a target remembers of links.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::client::{Client, Isolation, LATEST, topic_name};
use super::error::{self, Code};
use super::limits::Limit;
use super::meta::Meta;
use super::metadata::TopicMetadata;
use super::topic_id;
use super::wire::Call;
use crate::connector::{Error, Target, Topic, TopicSettings};
use crate::model::{LinkId, TopicPartition};

/// How many topics one request is about: brokers answer it well within [`Settings::request_timeout`](super::wire::Settings), and its answer stays small.
pub(super) const TOPICS_AT_ONCE: usize = 100;

/// How long a topic that was made may take until all of its partitions have a leader.
const CREATE_PATIENCE: Duration = Duration::from_secs(15);

/// Does for all lanes what is not the data path.
#[derive(Debug)]
pub(super) struct Admin {
    client: Arc<Client>,
    meta: Meta,
    /// The replicas of topics that are made; -1 is the broker's default.
    replication_factor: i16,
}

fn described(name: &Arc<str>, topic: &TopicMetadata) -> Topic {
    Topic { name: name.clone(), id: topic_id(topic.id), partitions: topic.leaders.len() as u32 }
}

impl Admin {
    pub(super) fn new(client: Arc<Client>, replication_factor: Option<i16>) -> Self {
        let replication_factor = replication_factor.unwrap_or(-1);
        Self { meta: Meta::new(client.clone()), client, replication_factor }
    }

    /// A topic's id and number of partitions, if it is there.
    pub(super) fn find(&self, name: &Arc<str>) -> Result<Option<(Uuid, u32)>, Error> {
        let metadata = self.client.recent()?;
        Ok(metadata.topics.get(name).map(|topic| (topic.id, topic.leaders.len() as u32)))
    }

    /// The topic, which is made if it is not there. One that is there keeps its number of partitions.
    pub(super) fn ensure(&self, name: &Arc<str>, partitions: u32, settings: &TopicSettings) -> Result<Topic, Error> {
        let target = Target { topic: name.clone(), partitions, settings: settings.clone(), replication_factor: None };
        let made = self.ensure_some(std::slice::from_ref(&target), false)?;
        made.into_iter().next().ok_or_else(|| error::not_asked("CreateTopics"))?
    }

    /// The topics, which are made if they are not there, and get more partitions if they have too few.
    ///
    /// # Errors
    /// The cluster does not answer. The inner ones: why a topic is not as it should be.
    pub(super) fn ensure_all(&self, targets: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error> {
        let mut made = Vec::with_capacity(targets.len());
        for some in targets.chunks(TOPICS_AT_ONCE) {
            made.extend(self.ensure_some(some, true)?);
        }
        Ok(made)
    }

    fn ensure_some(&self, targets: &[Target], widens: bool) -> Result<Vec<Result<Topic, Error>>, Error> {
        let known = self.client.recent()?;
        let has = |target: &Target| known.topics.get(&target.topic).map(|topic| topic.leaders.len());
        let missing: Vec<&Target> = targets.iter().filter(|target| has(target).is_none()).collect();
        let narrow = |target: &&Target| has(target).is_some_and(|has| widens && has < target.partitions as usize);
        let narrow: Vec<&Target> = targets.iter().filter(narrow).collect();
        let mut refused = HashMap::new();
        if !missing.is_empty() {
            refused.extend(self.create(&missing)?);
        }
        if !narrow.is_empty() {
            refused.extend(self.widen(&narrow)?);
        }
        let wanted = |target: &Target| if widens { target.partitions as usize } else { 1 };
        // One that is as it should be is not waited for: which of its partitions nobody leads now
        // shows when they are asked for, and concerns no other.
        let is_there = |target: &&Target| widens && has(target).is_some_and(|has| has >= wanted(target));
        let (there, awaited): (Vec<&Target>, Vec<&Target>) = targets.iter().partition(is_there);
        let mut made = self.await_made(awaited, &refused, wanted)?;
        made.extend(there.into_iter().filter_map(|target| {
            let (name, topic) = known.topics.get_key_value(&target.topic)?;
            Some((name.clone(), described(name, topic)))
        }));
        let changed = missing.into_iter().chain(narrow).filter(|target| !refused.contains_key(&target.topic));
        self.await_served(changed.filter(|target| made.contains_key(&target.topic)))?;
        let result = |target: &Target| match (refused.get(&target.topic), made.get(&target.topic)) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(topic)) => Ok(topic.clone()),
            (None, None) => Err(error::unknown_topic(&target.topic)),
        };
        Ok(targets.iter().map(result).collect())
    }

    /// Wait until the topics are there, each with as many partitions as are wanted, and with leaders. What is not there in the end is left out.
    fn await_made(
        &self,
        mut awaited: Vec<&Target>,
        refused: &HashMap<Arc<str>, Error>,
        wanted: impl Fn(&Target) -> usize,
    ) -> Result<HashMap<Arc<str>, Topic>, Error> {
        let mut made = HashMap::new();
        awaited.retain(|target| !refused.contains_key(&target.topic));
        let deadline = Instant::now() + CREATE_PATIENCE;
        loop {
            let metadata = self.client.recent()?;
            awaited.retain(|target| {
                let Some(topic) = metadata.topics.get(&target.topic) else { return true };
                let ready =
                    topic.leaders.len() >= wanted(target) && topic.leaders.iter().all(|leader| leader.broker.is_some());
                if ready {
                    made.insert(target.topic.clone(), described(&target.topic, topic));
                }
                !ready
            });
            if awaited.is_empty() || Instant::now() > deadline {
                return Ok(made);
            }
            self.client.refresh_in_a_moment()?;
        }
    }

    /// Brokers show partitions that were just made a moment before they take records for them.
    fn await_served<'a>(&self, targets: impl Iterator<Item = &'a Target>) -> Result<(), Error> {
        let of =
            |target: &'a Target| (0..target.partitions).map(|number| TopicPartition::new(target.topic.clone(), number));
        let partitions: Vec<_> = targets.flat_map(of).collect();
        self.client.offsets(&partitions, LATEST, Isolation::ReadUncommitted).map(drop)
    }

    /// Make topics. Answers why those were not made that are not there.
    fn create(&self, targets: &[&Target]) -> Result<Vec<(Arc<str>, Error)>, Error> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let topic = |target: &&Target| {
            let configs = target.settings.iter().map(|(name, value)| {
                CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
            });
            CreatableTopic::default()
                .with_name(topic_name(&target.topic))
                .with_num_partitions(target.partitions as i32)
                .with_replication_factor(target.replication_factor.unwrap_or(self.replication_factor))
                .with_configs(configs.collect())
        };
        let timeout = self.client.settings().request_timeout.as_millis() as i32;
        let topics = targets.iter().map(topic).collect();
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(timeout);
        let answer = self.ask_controller(&request)?;
        let mut refused = Vec::new();
        for made in answer.topics {
            let name: Arc<str> = made.name.0.as_str().into();
            match Code(made.error_code) {
                Code(0) => tracing::info!(topic = &*name, "made a topic"),
                // Another lane was faster.
                Code::TOPIC_EXISTS => {}
                code => refused.push((name.clone(), error::not_created(&name, code, made.error_message.as_deref()))),
            }
        }
        Ok(refused)
    }

    /// Give topics more partitions. Answers why those did not get them that have too few.
    fn widen(&self, targets: &[&Target]) -> Result<Vec<(Arc<str>, Error)>, Error> {
        let topic = |target: &&Target| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(&target.topic))
                .with_count(target.partitions as i32)
                .with_assignments(None)
        };
        let timeout = self.client.settings().request_timeout.as_millis() as i32;
        let topics = targets.iter().map(topic).collect();
        let request = CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(timeout);
        let answer = self.ask_controller(&request)?;
        let mut refused = Vec::new();
        for result in answer.results {
            let name: Arc<str> = result.name.0.as_str().into();
            match Code(result.error_code) {
                Code(0) => tracing::info!(topic = &*name, "gave a topic more partitions"),
                // As many as it has: somebody else was faster.
                Code::INVALID_PARTITIONS => {}
                code => refused.push((name.clone(), error::not_widened(&name, code, result.error_message.as_deref()))),
            }
        }
        Ok(refused)
    }

    /// Ask the broker that administrative requests go to.
    pub(super) fn ask_controller<R: Call>(&self, request: &R) -> Result<R::Answer, Error> {
        let controller = self.client.recent()?.controller;
        self.client.call_broker(controller, request)
    }

    /// How large the record batches may be that a topic takes; of one that is not there, what it would be.
    pub(super) fn limit(&self, name: &str) -> Result<Limit, Error> {
        self.learn_limits(&[name.into()])?;
        Ok(self.client.limits().of(name))
    }

    /// Ask for the limits of topics that are not known, all at once.
    pub(super) fn learn_limits(&self, names: &[Arc<str>]) -> Result<(), Error> {
        let mut unknown = self.client.limits().unknown(names, Instant::now());
        // Of topics that are not there nothing is asked: we may lack the right to hear that.
        let there = self.client.recent()?;
        unknown.retain(|name| there.topics.contains_key(name));
        if unknown.is_empty() {
            return Ok(());
        }
        let stated = self.stated(&unknown)?;
        let (mut limits, now) = (self.client.limits(), Instant::now());
        limits.keep(|topic| there.topics.contains_key(topic));
        stated.into_iter().for_each(|(name, stated)| limits.learn(name, stated, now));
        Ok(())
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What the target remembers of a link under `name`.
    pub(super) fn metadata(&self, link: &LinkId, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.meta.get(self, &super::layout::metadata_key(link, name))
    }

    /// Have the target remember something of a link, durably.
    pub(super) fn put_metadata(&self, link: &LinkId, name: &str, value: &[u8]) -> Result<(), Error> {
        self.meta.put(self, [(super::layout::metadata_key(link, name), value)])
    }

    /// The same, if `known` is what it remembers. Whether it was.
    pub(super) fn replace_metadata(
        self: &Arc<Self>,
        link: &LinkId,
        name: &str,
        known: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, Error> {
        self.meta.replace(self, link, &super::layout::metadata_key(link, name), known, value)
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }
}
