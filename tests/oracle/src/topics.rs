//! Topics made and deleted.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;

use crate::Result;

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

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    let client = ClientConfig::new().set("bootstrap.servers", bootstrap).create();
    client.map_err(|error| format!("no client of {bootstrap}: {error}"))
}

fn outcome(what: &str, topic: &str, answers: KafkaResult<Vec<TopicResult>>) -> Result<()> {
    let answers = answers.map_err(|error| format!("cannot {what} topic {topic}: {error}"))?;
    let failed = answers.into_iter().find_map(TopicResult::err);
    failed.map_or(Ok(()), |(_, error)| Err(format!("cannot {what} topic {topic}: {error}")))
}
