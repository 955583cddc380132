//! Reads a partition of one of our own topics, from some offset to an end that is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::client::{Client, Isolation, topic_name};
use super::error::{Code, not_asked, undecodable};
use super::records::{Bounds, Decoder, Fetched};
use super::source::answer::{BY_NAME, FetchAnswer};
use crate::connector::{Class, Error};
use crate::model::TopicPartition;
use crate::model::batch::RecordRef;

/// What one request asks for, in bytes.
const FETCH_BYTES: i32 = 4 << 20;

/// How long a broker waits for records before it says that there are none.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// What a record batch of ours may take when it is decompressed, in bytes.
const BOUNDS: Bounds = Bounds { decompressed_bytes_max: 64 << 20, merge_bytes: 0 };

/// Show `each` every record of `partition` in `range`, in order. Answers where to go on: the end of the range, or its start if it is empty. A partition that moves is
/// followed.
///
/// # Errors
/// `each` refuses one; or the end is not reached within `patience`: with [`Isolation::ReadCommitted`] a transaction that is open holds
/// up everything behind it.
pub(super) fn read(
    client: &Client,
    partition: &TopicPartition,
    range: std::ops::Range<i64>,
    isolation: Isolation,
    patience: Duration,
    mut each: impl FnMut(RecordRef<'_>) -> Result<(), Error>,
) -> Result<i64, Error> {
    let deadline = Instant::now() + patience;
    let mut next = range.start;
    if next >= range.end {
        return Ok(next);
    }
    let mut connection = client.connect(client.metadata()?.leader(partition)?.0)?;
    // A broker that waits for as long as it has for an answer is one that does not answer.
    let wait = MAX_WAIT.min(client.settings().request_timeout / 2);
    while next < range.end {
        let answer = connection.call_among(BY_NAME, &request(partition, next, isolation, wait)).map_err(Error::from)?;
        let fetched = match fetched(answer, partition, next) {
            Ok(Some(fetched)) => fetched,
            Ok(None) if Instant::now() < deadline => continue,
            Ok(None) => return Err(not_asked("Fetch")),
            Err(code) if code.is_moving() && Instant::now() < deadline => {
                let metadata = client.refresh_in_a_moment()?;
                connection = client.connect(metadata.leader(partition)?.0)?;
                continue;
            }
            Err(code) => return Err(code.error(&format!("reading {partition}"))),
        };
        let mut decoder = Decoder::new(fetched, BOUNDS);
        for batch in &mut decoder {
            let batch = batch.map_err(|error| undecodable(partition, &error))?;
            batch.records().filter(|record| record.offset() < range.end).try_for_each(&mut each)?;
        }
        if decoder.next_offset() == next && Instant::now() > deadline {
            return Err(hanging(partition, next, range.end));
        }
        next = decoder.next_offset();
    }
    // The last answer may go further, with records that nobody has been shown.
    Ok(range.end)
}

fn request(partition: &TopicPartition, from: i64, isolation: Isolation, wait: Duration) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition.partition as i32)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(from)
        .with_partition_max_bytes(FETCH_BYTES);
    let topic = FetchTopic::default().with_topic(topic_name(&partition.topic)).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES)
        .with_isolation_level(isolation as i8)
        // A request outside of any session.
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn fetched(answer: FetchAnswer, partition: &TopicPartition, from: i64) -> Result<Option<Fetched>, Code> {
    answer.code.check()?;
    let Some(data) = answer.partitions.into_iter().find(|data| data.partition == partition.partition) else {
        return Ok(None);
    };
    data.code.check()?;
    Ok(Some(Fetched {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
        from,
        bytes: data.records,
        aborted: data.aborted,
    }))
}

fn hanging(partition: &TopicPartition, next: i64, end: i64) -> Error {
    Error {
        class: Class::Reopen,
        code: "hanging-transaction",
        message: format!("{partition} cannot be read beyond offset {next} of {end}: an open transaction is in the way"),
        remedy: "find it with `kafka-transactions.sh find-hanging`, and abort it; until then the lane tries again",
    }
}
