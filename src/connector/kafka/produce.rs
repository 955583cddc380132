//! The request Produce, encoded by hand so that records are gathered from where they are and not copied.
//!
//! Layout: Kafka's protocol guide, Produce versions 9 to 13 (<https://kafka.apache.org/protocol.html#The_Messages_Produce>). Versions up to 12
//! name topics, 13 has their ids.

use std::io::IoSlice;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;
use uuid::Uuid;

use super::client::Client;
use super::error::{self, Code};
use super::records::{FinishedBatch, Stamp};
use super::wire::{Connection, WireError};
use crate::connector::Error;
use crate::model::TopicPartition;

/// The versions in which what is sent joins a transaction of version 2 by itself.
pub(super) const JOINING: RangeInclusive<i16> = 12..=13;
/// The versions for everything else. Sending newer ones to a cluster without transactions of version 2 wedges the transactional id.
pub(super) const PLAIN: RangeInclusive<i16> = 9..=11;

/// The first version that has ids instead of names.
const WITH_IDS: i16 = 13;

/// A topic, and of each partition one record batch: brokers refuse two.
pub(super) struct TopicRecords<'a> {
    pub(super) name: &'a str,
    pub(super) id: Uuid,
    pub(super) partitions: Vec<(u32, &'a [u8])>,
}

/// Send record batches. All in-sync replicas must have them before the answer comes.
///
/// # Errors
/// The connection is of no use any more.
pub(super) fn send(
    connection: &mut Connection,
    version: i16,
    transactional_id: Option<&str>,
    timeout: Duration,
    topics: &[TopicRecords<'_>],
) -> Result<(), WireError> {
    let mut fields = Vec::with_capacity(256);
    // Where records lie between the fields, in order.
    let mut cuts = Vec::new();
    match transactional_id {
        Some(id) => put_compact(&mut fields, id.as_bytes()),
        None => fields.push(0),
    }
    fields.extend_from_slice(&(-1_i16).to_be_bytes());
    fields.extend_from_slice(&i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).to_be_bytes());
    put_length(&mut fields, topics.len());
    for topic in topics {
        if version >= WITH_IDS {
            fields.extend_from_slice(topic.id.as_bytes());
        } else {
            put_compact(&mut fields, topic.name.as_bytes());
        }
        put_length(&mut fields, topic.partitions.len());
        for (partition, records) in &topic.partitions {
            fields.extend_from_slice(&partition.to_be_bytes());
            put_length(&mut fields, records.len());
            cuts.push((fields.len(), *records));
            fields.push(NO_TAGS);
        }
        fields.push(NO_TAGS);
    }
    fields.push(NO_TAGS);
    let mut parts = Vec::with_capacity(2 * cuts.len() + 1);
    let mut from = 0;
    for (at, records) in cuts {
        parts.push(IoSlice::new(&fields[from..at]));
        parts.push(IoSlice::new(records));
        from = at;
    }
    parts.push(IoSlice::new(&fields[from..]));
    connection.send_parts::<ProduceRequest>(version, &parts).map(drop)
}

impl Client {
    /// Append a record batch to a partition, outside of any transaction, and answer its first offset.
    ///
    /// # Errors
    /// It is not known to be there.
    pub(super) fn produce(&self, partition: &TopicPartition, mut batch: FinishedBatch) -> Result<i64, Error> {
        let metadata = self.metadata()?;
        let (broker, _) = metadata.leader(partition)?;
        let id = metadata.topics.get(&partition.topic).map_or(Uuid::nil(), |topic| topic.id);
        let mut connection = self.connect(broker)?;
        let version = connection.version_among::<ProduceRequest>(PLAIN)?;
        let deadline = Instant::now() + self.settings().request_timeout;
        let size = batch.size();
        let partitions = vec![(partition.partition, batch.seal(Stamp::NONE))];
        let topics = [TopicRecords { name: &partition.topic, id, partitions }];
        send(&mut connection, version, None, self.settings().request_timeout, &topics)?;
        let answer = connection.receive(deadline)?.decode::<ProduceRequest>(version)?;
        let part = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let part = part.ok_or_else(|| error::not_asked("Produce"))?;
        match Code(part.error_code) {
            Code(0) => Ok(part.base_offset),
            code => {
                if code.is_too_large() {
                    self.limits().refuse(&partition.topic, size);
                }
                self.refresh()?;
                let message = part.error_message.as_deref();
                Err(error::not_written(&partition.topic, partition.partition, code, message))
            }
        }
    }
}

/// An empty list of tagged fields.
const NO_TAGS: u8 = 0;

/// A compact length: one more than it is, as an unsigned varint.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length + 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_compact(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}
