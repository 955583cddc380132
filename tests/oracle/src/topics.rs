//! Topics made and deleted, and who leads their partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use crate::Result;

/// How long brokers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many topics are made by one request.
const TOPICS_AT_ONCE: usize = 250;

/// Make a topic with the cluster's default number of replicas and these settings. Nothing of it is ever deleted unless they say so: the records
/// have timestamps of the past.
///
/// Errors: the cluster refuses, or the topic is there already.
pub fn create(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    let mut wanted = new_topic(topic, partitions);
    for (name, value) in settings {
        wanted = wanted.set(name, value);
    }
    let made = futures_executor::block_on(admin(bootstrap)?.create_topics(&[wanted], &AdminOptions::new()));
    outcome("make", topic, made)
}

/// Make a topic with a partition on each of these lists of brokers, of which the first leads it, and with these settings.
///
/// Errors: those of [`create`].
pub fn create_on(bootstrap: &str, topic: &str, brokers: &[&[i32]], settings: &[(&str, &str)]) -> Result<()> {
    let partitions = i32::try_from(brokers.len()).unwrap_or(i32::MAX);
    let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Variable(brokers)).set("retention.ms", "-1");
    for (name, value) in settings {
        wanted = wanted.set(name, value);
    }
    let made = futures_executor::block_on(admin(bootstrap)?.create_topics(&[wanted], &AdminOptions::new()));
    outcome("make", topic, made)
}

fn new_topic(topic: &str, partitions: i32) -> NewTopic<'_> {
    NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)).set("retention.ms", "-1")
}

/// Make many topics as [`create`] does, without settings.
///
/// Errors: the cluster refuses one of them.
pub fn create_all(bootstrap: &str, topics: &[String], partitions: i32) -> Result<()> {
    let admin = admin(bootstrap)?;
    for some in topics.chunks(TOPICS_AT_ONCE) {
        let wanted: Vec<_> = some.iter().map(|topic| new_topic(topic, partitions)).collect();
        let made = futures_executor::block_on(admin.create_topics(&wanted, &AdminOptions::new()));
        outcome("make", &some[0], made)?;
    }
    Ok(())
}

/// Give a topic more partitions: so many in all.
///
/// Errors: the cluster refuses.
pub fn widen(bootstrap: &str, topic: &str, partitions: usize) -> Result<()> {
    let wanted = NewPartitions::new(topic, partitions);
    let widened = futures_executor::block_on(admin(bootstrap)?.create_partitions(&[wanted], &AdminOptions::new()));
    outcome("widen", topic, widened)
}

/// Give a topic these settings and the cluster's defaults for all others.
///
/// Errors: the cluster refuses.
pub fn set(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
    let mut wanted = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in settings {
        wanted = wanted.set(name, value);
    }
    let changed = futures_executor::block_on(admin(bootstrap)?.alter_configs(&[wanted], &AdminOptions::new()));
    let changed = changed.map_err(|error| format!("cannot change topic {topic}: {error}"))?;
    match changed.into_iter().find_map(std::result::Result::err) {
        Some((_, error)) => Err(format!("cannot change topic {topic}: {error}")),
        None => Ok(()),
    }
}

/// The settings that a topic has of its own.
///
/// Errors: the cluster does not answer, or there is no such topic.
pub fn settings(bootstrap: &str, topic: &str) -> Result<BTreeMap<String, String>> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot describe topic {topic}: {error}");
    let resources = [ResourceSpecifier::Topic(topic)];
    let described = futures_executor::block_on(admin(bootstrap)?.describe_configs(&resources, &AdminOptions::new()));
    let described = described.map_err(|error| cannot(&error))?.pop().ok_or_else(|| cannot(&"no answer"))?;
    let entries = described.map_err(|error| cannot(&error))?.entries.into_iter();
    let own = entries.filter(|entry| matches!(entry.source, ConfigSource::DynamicTopic));
    Ok(own.filter_map(|entry| Some((entry.name, entry.value?))).collect())
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

/// Where a partition ends now: behind everything that was written to it, committed or not.
///
/// Errors: its leader does not answer, or there is no such partition.
pub fn end(bootstrap: &str, topic: &str, partition: i32) -> Result<i64> {
    end_for("read_uncommitted", bootstrap, topic, partition)
}

/// Whether records of a transaction are in a partition that is neither committed nor aborted.
///
/// Errors: its leader does not answer, or there is no such partition.
pub fn is_transaction_open(bootstrap: &str, topic: &str, partition: i32) -> Result<bool> {
    // The stable end first: it never passes the other one.
    let stable = end_for("read_committed", bootstrap, topic, partition)?;
    Ok(stable < end(bootstrap, topic, partition)?)
}

fn end_for(isolation: &str, bootstrap: &str, topic: &str, partition: i32) -> Result<i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("isolation.level", isolation);
    let client = config.create::<BaseConsumer>();
    let ends = client.and_then(|client| client.fetch_watermarks(topic, partition, PATIENCE));
    ends.map(|(_, end)| end)
        .map_err(|error| format!("cannot ask {bootstrap} for the end of {topic}-{partition}: {error}"))
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
