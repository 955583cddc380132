//! Topics made and deleted, and who leads their partitions.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use crate::Result;

/// How long brokers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Make a topic with the cluster's default number of replicas and these settings. Nothing of it is ever deleted unless they say so: the records
/// have timestamps of the past.
///
/// Errors: the cluster refuses, or the topic is there already.
pub fn create(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)).set("retention.ms", "-1");
    for (name, value) in settings {
        wanted = wanted.set(name, value);
    }
    let made = futures_executor::block_on(admin(bootstrap)?.create_topics(&[wanted], &AdminOptions::new()));
    outcome("make", topic, made)
}

/// Give a topic more partitions.
///
/// Errors: the cluster refuses.
pub fn grow(bootstrap: &str, topic: &str, partitions: i32) -> Result<()> {
    let wanted = NewPartitions::new(topic, partitions as usize);
    let made = futures_executor::block_on(admin(bootstrap)?.create_partitions(&[wanted], &AdminOptions::new()));
    outcome("give more partitions to", topic, made)
}

/// Delete a topic.
///
/// Errors: the cluster refuses, or there is none of this name.
pub fn delete(bootstrap: &str, topic: &str) -> Result<()> {
    outcome(
        "delete",
        topic,
        futures_executor::block_on(admin(bootstrap)?.delete_topics(&[topic], &AdminOptions::new())),
    )
}

/// Delete all records that a partition has now, as retention does with old ones.
///
/// Errors: the cluster refuses.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32) -> Result<()> {
    let cannot = |error: KafkaError| format!("cannot delete records of topic {topic}: {error}");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::End).map_err(cannot)?;
    let deleted = futures_executor::block_on(admin(bootstrap)?.delete_records(&offsets, &AdminOptions::new()));
    deleted.and_then(|list| list.elements().iter().try_for_each(|element| element.error())).map_err(cannot)
}

/// The number of the broker that leads a partition now. None: no broker does.
///
/// Errors: no broker answers, or there is no such partition.
pub fn leader(bootstrap: &str, topic: &str, partition: i32) -> Result<Option<i32>> {
    let cannot = |error: KafkaError| format!("cannot ask {bootstrap} about topic {topic}: {error}");
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().map_err(cannot)?;
    let metadata = client.fetch_metadata(Some(topic), PATIENCE).map_err(cannot)?;
    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let found = partitions.find(|found| found.id() == partition);
    let leader = found.ok_or_else(|| format!("there is no partition {topic}-{partition}"))?.leader();
    Ok(Some(leader).filter(|leader| *leader >= 0))
}

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    let client = ClientConfig::new().set("bootstrap.servers", bootstrap).create();
    client.map_err(|error| format!("no client of {bootstrap}: {error}"))
}

fn outcome(what: &str, topic: &str, answers: KafkaResult<Vec<TopicResult>>) -> Result<()> {
    let answers = answers.map_err(|error| format!("cannot {what} topic {topic}: {error}"))?;
    let failed = answers.into_iter().find_map(TopicResult::err);
    failed.map_or(Ok(()), |(_, error)| Err(format!("cannot {what} topic {topic}: {error}")))
}
