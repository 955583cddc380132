//! When a record was written, for whoever measures lag.

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::session;
use crate::connector::Error;
use crate::connector::kafka::client::{Client, Isolation, topic_name};
use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::records::{Bounds, Decoder, Fetched};
use crate::model::TopicPartition;

/// So many record batches are looked into for the next record: markers, and records of aborted
/// transactions, may come first.
const BATCHES_MAX: usize = 4;

/// A record batch may take so much when it is decompressed, as for lanes.
const BOUNDS: Bounds = Bounds { decompressed_bytes_max: 256 << 20, merge_bytes: 0 };

/// The timestamp of the first record from `offset` on that a reader of `isolation` sees, in
/// milliseconds. `None` if there is none. A few small fetches at most.
///
/// # Errors
/// The partition is not known, its leader does not answer, or what is there is damaged.
pub(in crate::connector::kafka) fn timestamp_at(
    client: &Client,
    partition: &TopicPartition,
    mut offset: i64,
    isolation: Isolation,
) -> Result<Option<i64>, Error> {
    for _ in 0..BATCHES_MAX {
        let Some(fetched) = fetch(client, partition, offset, isolation)? else { return Ok(None) };
        let mut decoder = Decoder::new(fetched, BOUNDS);
        let first = decoder.next().transpose().map_err(|what| error::undecodable(partition, &what))?;
        if let Some(timestamp) = first.and_then(|batch| batch.timestamps.first().copied()) {
            return Ok(Some(timestamp));
        }
        if decoder.next_offset() <= offset {
            return Ok(None);
        }
        offset = decoder.next_offset();
    }
    Ok(None)
}

/// The record batch that has `offset`, or comes next; `None` if `offset` is not there.
fn fetch(
    client: &Client,
    partition: &TopicPartition,
    offset: i64,
    isolation: Isolation,
) -> Result<Option<Fetched>, Error> {
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
        .with_isolation_level(isolation as i8)
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
    let (topic, number) = (partition.topic.clone(), partition.partition);
    Ok(found.map(|found| Fetched {
        topic,
        partition: number,
        from: offset,
        bytes: found.records,
        aborted: found.aborted,
    }))
}
