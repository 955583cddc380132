//! Consumer groups: where they are, and members of them.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Result;

/// How long brokers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one call waits for a record.
const POLL: Duration = Duration::from_millis(50);

fn consumer(bootstrap: &str, group: &str) -> KafkaResult<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("session.timeout.ms", "6000")
        .create()
}

/// Have a group be at these offsets of a topic's partitions, as a consumer would that has read up to there.
///
/// Errors: the cluster refuses.
pub fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &BTreeMap<i32, i64>) -> Result<()> {
    let committed = || -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        consumer(bootstrap, group)?.commit(&list, CommitMode::Sync)
    };
    let begun = Instant::now();
    loop {
        match committed() {
            Err(error) if is_starting(&error) && begun.elapsed() < PATIENCE => thread::sleep(POLL),
            done => return done.map_err(|error| format!("group {group} cannot commit: {error}")),
        }
    }
}

/// Whether a cluster has just chosen who coordinates the group.
fn is_starting(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator].contains(&code))
}

/// Where a group is in a topic's partitions; those that it has committed nothing of are not there.
///
/// Errors: the cluster does not answer.
pub fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Result<BTreeMap<i32, i64>> {
    let cannot = |error: KafkaError| format!("group {group} cannot be looked at: {error}");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let _unset = list.add_partition(topic, partition);
    }
    let consumer = consumer(bootstrap, group).map_err(cannot)?;
    let found = consumer.committed_offsets(list, PATIENCE).map_err(cannot)?;
    let offset = |place: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match place.offset() {
        Offset::Offset(offset) => Some((place.partition(), offset)),
        _ => None,
    };
    Ok(found.elements().into_iter().filter_map(offset).collect())
}

/// A consumer that is a member of a group.
pub struct Member(BaseConsumer);

impl Member {
    /// Join a group, and wait until partitions are assigned.
    ///
    /// Errors: none are.
    pub fn join(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        let cannot = |error: KafkaError| format!("group {group} cannot be joined: {error}");
        let consumer = consumer(bootstrap, group).map_err(cannot)?;
        consumer.subscribe(&[topic]).map_err(cannot)?;
        let begun = Instant::now();
        while consumer.assignment().map_err(cannot)?.count() == 0 {
            if begun.elapsed() > PATIENCE {
                return Err(format!("group {group} gets no partitions"));
            }
            let _not_yet = consumer.poll(POLL);
        }
        Ok(Self(consumer))
    }

    /// The offset of the next record, and its partition; `None` if there is none for a while.
    ///
    /// Errors: it does not know where to go on.
    pub fn next(&self, patience: Duration) -> Result<Option<(i32, i64)>> {
        match self.0.poll(patience) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some((message.partition(), message.offset()))),
            Some(Err(error)) => Err(format!("cannot read: {error}")),
        }
    }
}
