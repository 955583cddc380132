//! When a record was written, for whoever measures lag.

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::session;
use crate::connector::Error;
use crate::connector::kafka::client::{Client, Isolation, topic_name};
use crate::connector::kafka::error::Code;
use crate::connector::kafka::records::RecordBatches;
use crate::model::TopicPartition;

/// The highest timestamp of the stored batch that has `offset`, in milliseconds: that of the record or of one shortly after
/// it. `None` if nothing that is committed is there. One small fetch.
///
/// # Errors
/// The partition is not known, or its leader does not answer.
pub(in crate::connector::kafka) fn timestamp_at(
    client: &Client,
    partition: &TopicPartition,
    offset: i64,
) -> Result<Option<i64>, Error> {
    let metadata = client.metadata()?;
    let (broker, leader) = metadata.leader(partition)?;
    let topic = metadata.topics.get(&partition.topic).map(|topic| topic.id).unwrap_or_default();
    // The record batch comes whole all the same.
    const BYTES: i32 = 1;
    let wanted = FetchPartition::default()
        .with_partition(partition.partition as i32)
        .with_current_leader_epoch(leader.epoch)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(BYTES);
    let topic = FetchTopic::default().with_topic(topic_name(&partition.topic)).with_topic_id(topic);
    let request = FetchRequest::default()
        .with_max_bytes(BYTES)
        .with_isolation_level(Isolation::ReadCommitted as i8)
        .with_topics(vec![topic.with_partitions(vec![wanted])]);
    let have_ids = !request.topics[0].topic_id.is_nil();
    let answer = client.call_broker_among(broker, session::versions(have_ids), &request)?;
    let found = answer.partitions.into_iter().next();
    let code = found.as_ref().map_or(answer.code, |found| found.code);
    match code {
        Code::NONE => {}
        Code::OFFSET_OUT_OF_RANGE => return Ok(None),
        code => {
            client.refresh()?;
            return Err(code.error(&format!("the record of {partition} at offset {offset}")));
        }
    }
    let first = found.and_then(|found| RecordBatches::new(found.records).next());
    Ok(first.and_then(Result::ok).map(|batch| batch.max_timestamp()))
}
