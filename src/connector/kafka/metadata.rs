//! What a cluster says of itself: its brokers, its topics, and who leads their partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use uuid::Uuid;

use super::error;
use crate::config::check_topic_name;
use crate::connector::Error;
use crate::model::TopicPartition;

/// What a cluster said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The addresses of the brokers that are up.
    pub(super) brokers: BTreeMap<i32, Arc<str>>,
    /// The broker that administrative requests go to.
    pub(super) controller: i32,
    /// All topics that we may see, those of the cluster itself aside.
    pub(super) topics: BTreeMap<Arc<str>, TopicMetadata>,
    /// The topics of the cluster itself.
    pub(super) internal: BTreeSet<Arc<str>>,
    /// How many topics were left out for names that no topic can have.
    pub(super) impossible: usize,
}

/// A topic in [`Metadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicMetadata {
    /// Its id; nil where the cluster has none (before Kafka 2.8).
    pub(super) id: Uuid,
    /// Of each partition the broker that leads it, if one does, and since which epoch.
    pub(super) leaders: Vec<Leader>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    /// The broker; `None` while there is none.
    pub(super) broker: Option<i32>,
    /// Grows with each election.
    pub(super) epoch: i32,
}

impl Metadata {
    /// The leader of a partition.
    ///
    /// # Errors
    /// No such partition, or nobody leads it now.
    pub(super) fn leader(&self, partition: &TopicPartition) -> Result<(i32, Leader), Error> {
        let topic = self.topics.get(&partition.topic).ok_or_else(|| error::unknown_topic(&partition.topic))?;
        let leader = topic.leaders.get(partition.partition as usize);
        let leader = *leader.ok_or_else(|| error::unknown_partition(partition, topic.leaders.len()))?;
        let broker = leader.broker.ok_or_else(|| error::no_leader(partition))?;
        Ok((broker, leader))
    }

    /// Whether there are the same topics with as many partitions.
    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        let shape = |(name, topic): (&Arc<str>, &TopicMetadata)| (name.clone(), topic.id, topic.leaders.len());
        self.topics.iter().map(shape).eq(other.topics.iter().map(shape))
    }

    /// Take in what a broker says.
    pub(super) fn read(answer: MetadataResponse) -> Self {
        let brokers = answer.brokers.into_iter().map(|broker| {
            // It is shown in errors.
            let host = broker.host.escape_debug();
            // An IPv6 address needs brackets before a port.
            let host = if broker.host.contains(':') { format!("[{host}]") } else { host.to_string() };
            (broker.node_id.0, format!("{host}:{}", broker.port).into())
        });
        // What no topic can be called comes from no broker: nothing behind this has to expect it in keys, paths and texts.
        let name_of = |topic: &MetadataResponseTopic| topic.name.as_ref().map(|name| name.0.as_str().to_owned());
        let is_possible =
            |topic: &MetadataResponseTopic| name_of(topic).is_some_and(|it| check_topic_name(&it).is_ok());
        let (possible, impossible): (Vec<_>, Vec<_>) = answer.topics.into_iter().partition(is_possible);
        let (internal, topics): (Vec<_>, Vec<_>) = possible.into_iter().partition(|topic| topic.is_internal);
        let internal = internal.into_iter().filter_map(|topic| Some(topic.name?.0.as_str().into())).collect();
        let topics = topics.into_iter().filter(|topic| topic.error_code == 0);
        let topics = topics.filter_map(|topic| {
            let mut leaders = vec![Leader { broker: None, epoch: -1 }; topic.partitions.len()];
            for partition in &topic.partitions {
                let place = usize::try_from(partition.partition_index).ok()?;
                let broker = Some(partition.leader_id.0).filter(|broker| *broker >= 0);
                *leaders.get_mut(place)? = Leader { broker, epoch: partition.leader_epoch };
            }
            Some((topic.name?.0.as_str().into(), TopicMetadata { id: topic.topic_id, leaders }))
        });
        let (brokers, topics) = (brokers.collect(), topics.collect());
        Self { brokers, controller: answer.controller_id.0, topics, internal, impossible: impossible.len() }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

    use super::*;
    use crate::connector::kafka::client::topic_name;

    /// A broker can name topics as it likes, and the names become keys, texts and topics of the target.
    #[test]
    fn topics_that_no_broker_can_have_are_left_out() {
        let long = "x".repeat(250);
        let names = ["orders", "a/b", "..", "", "a\u{1b}[2J", "a\0b", &long, "__consumer_offsets", "a b\n"];
        let topic = |name: &&str| {
            MetadataResponseTopic::default()
                .with_name(Some(topic_name(name)))
                .with_is_internal(name.starts_with("__") || name.contains('\n'))
                .with_partitions(vec![MetadataResponsePartition::default()])
        };
        let read = Metadata::read(MetadataResponse::default().with_topics(names.iter().map(topic).collect()));
        assert_eq!(read.topics.keys().map(|name| &**name).collect::<Vec<_>>(), ["orders"]);
        assert_eq!(read.internal.iter().map(|name| &**name).collect::<Vec<_>>(), ["__consumer_offsets"]);
        assert_eq!(read.impossible, 7);
    }
}
