//! Topics and their settings, and what a target remembers of links.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::{CreateTopicsRequest, DescribeConfigsRequest};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::client::{Client, Isolation, LATEST, lock, topic_name};
use super::error::{self, Code};
use super::meta::Meta;
use super::topic_id;
use crate::connector::{Class, Error, Topic};
use crate::model::{LinkId, TopicPartition};

/// The settings that a copy of a topic gets. What depends on the cluster (replicas, throttles, `message.timestamp.type`, which would have brokers
/// write another time into the records) is not among them.
const COPIED: [&str; 11] = [
    "cleanup.policy",
    "delete.retention.ms",
    "max.compaction.lag.ms",
    MAX_MESSAGE_BYTES,
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
    "segment.jitter.ms",
];

/// The largest record batch that a topic takes, with what is around it.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// What it is where nobody has said anything.
const MAX_MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// A topic's own settings have this source in an answer; others are defaults.
const OF_THE_TOPIC: i8 = 1;

/// The type of a topic among the resources that have settings.
const TOPIC: i8 = 2;

/// How long the limit of a topic is believed.
const LIMIT_AGE_MAX: Duration = Duration::from_secs(30);

/// How long a topic that was made may take until all of its partitions have a leader.
const CREATE_PATIENCE: Duration = Duration::from_secs(15);

/// Does for all lanes what is not the data path.
#[derive(Debug)]
pub(super) struct Admin {
    client: Arc<Client>,
    meta: Meta,
    /// The replicas of topics that are made; -1 is the broker's default.
    replication_factor: i16,
    limits: Mutex<HashMap<Arc<str>, (usize, Instant)>>,
}

impl Admin {
    pub(super) fn new(client: Arc<Client>, replication_factor: Option<i16>) -> Self {
        let replication_factor = replication_factor.unwrap_or(-1);
        Self { meta: Meta::new(client.clone()), client, replication_factor, limits: Mutex::default() }
    }

    /// A topic's id and number of partitions, if it is there.
    pub(super) fn find(&self, name: &Arc<str>) -> Result<Option<(Uuid, u32)>, Error> {
        let metadata = self.client.metadata()?;
        Ok(metadata.topics.get(name).map(|topic| (topic.id, topic.leaders.len() as u32)))
    }

    /// The topic, which is made if it is not there.
    pub(super) fn ensure(
        &self,
        name: &Arc<str>,
        partitions: u32,
        settings: &BTreeMap<String, String>,
    ) -> Result<Topic, Error> {
        let makes = self.find(name)?.is_none();
        if makes {
            self.create(name, partitions, settings)?;
        }
        let deadline = Instant::now() + CREATE_PATIENCE;
        loop {
            if let Some(topic) = self.client.metadata()?.topics.get(name)
                && topic.leaders.iter().all(|leader| leader.broker.is_some())
            {
                let partitions = topic.leaders.len() as u32;
                if makes {
                    self.await_served(name, partitions)?;
                }
                return Ok(Topic { name: name.clone(), id: topic_id(topic.id), partitions });
            }
            if Instant::now() > deadline {
                return Err(error::unknown_topic(name));
            }
            self.client.refresh_in_a_moment()?;
        }
    }

    /// Brokers show a topic that was just made a moment before they take records for it.
    fn await_served(&self, name: &Arc<str>, partitions: u32) -> Result<(), Error> {
        let partitions: Vec<_> = (0..partitions).map(|number| TopicPartition::new(name.clone(), number)).collect();
        self.client.offsets(&partitions, LATEST, Isolation::ReadUncommitted).map(drop)
    }

    fn create(&self, name: &Arc<str>, partitions: u32, settings: &BTreeMap<String, String>) -> Result<(), Error> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let configs = settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions as i32)
            .with_replication_factor(self.replication_factor)
            .with_configs(configs.collect());
        let timeout = self.client.settings().request_timeout.as_millis() as i32;
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout);
        let controller = self.client.metadata()?.controller;
        let answer = self.client.call_broker(controller, 5..=7, &request)?;
        let made = answer.topics.first().ok_or_else(|| error::not_asked("CreateTopics"))?;
        match Code(made.error_code) {
            Code(0) => {
                tracing::info!(topic = &**name, partitions, "made a topic");
                Ok(())
            }
            // Another lane was faster.
            Code::TOPIC_EXISTS => Ok(()),
            code => Err(error::not_created(name, code, made.error_message.as_deref())),
        }
    }

    /// The settings that a copy of the topic gets.
    pub(super) fn settings(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let described = self.describe(name)?.into_iter();
        let copied = described.filter(|setting| {
            let own = setting.config_source == OF_THE_TOPIC || setting.name.as_str() == MAX_MESSAGE_BYTES;
            own && COPIED.contains(&setting.name.as_str())
        });
        Ok(copied.filter_map(|setting| Some((setting.name.to_string(), setting.value?.to_string()))).collect())
    }

    /// The largest record batch that a topic takes; of one that is not there, what it would take.
    pub(super) fn batch_bytes_max(&self, name: &str) -> Result<usize, Error> {
        if let Some((bytes, asked)) = lock(&self.limits).get(name)
            && asked.elapsed() < LIMIT_AGE_MAX
        {
            return Ok(*bytes);
        }
        if self.find(&name.into())?.is_none() {
            return Ok(MAX_MESSAGE_BYTES_DEFAULT);
        }
        let described = self.describe(name)?;
        let limit = described.iter().find(|setting| setting.name.as_str() == MAX_MESSAGE_BYTES);
        let bytes = limit.and_then(|setting| setting.value.as_ref()?.parse().ok()).unwrap_or(MAX_MESSAGE_BYTES_DEFAULT);
        lock(&self.limits).insert(name.into(), (bytes, Instant::now()));
        Ok(bytes)
    }

    /// Somebody was told that a limit has changed.
    pub(super) fn forget_limits(&self) {
        lock(&self.limits).clear();
    }

    fn describe(&self, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Error> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(None);
        let answer = self.client.call_any(1..=4, &DescribeConfigsRequest::default().with_resources(vec![resource]))?;
        let found = answer.results.into_iter().next().ok_or_else(|| error::not_asked("DescribeConfigs"))?;
        match Code(found.error_code) {
            Code(0) => Ok(found.configs),
            code => Err(code.error(&format!("the settings of topic {name}"))),
        }
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

pub(super) fn too_few_partitions(topic: &Topic, needed: u32) -> Error {
    Error {
        class: Class::Fatal,
        code: "target-partitions",
        message: format!(
            "{} has {} partitions in the target, and {needed} in the source",
            topic.name, topic.partitions
        ),
        remedy: "give the target topic as many partitions as the source has (kafka-topics.sh --alter), then start the link",
    }
}
