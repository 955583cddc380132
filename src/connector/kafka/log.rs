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

/// What a reading may cost. Every client with the right to write to a topic of ours decides what is in it, and a broker says where it ends: neither is believed
/// without a bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// How long nothing may arrive while the end is not reached. An open transaction holds up everything behind it.
    pub(super) patience: Duration,
    /// How long all of it may take, however well it goes on.
    pub(super) total: Duration,
    /// What the reader may keep of it, in bytes.
    pub(super) bytes: usize,
}

/// How far a reading has come, and since when.
struct Progress<'a> {
    partition: &'a TopicPartition,
    end: i64,
    budget: Budget,
    begun: Instant,
    moved: Instant,
}

impl<'a> Progress<'a> {
    fn begin(partition: &'a TopicPartition, end: i64, budget: Budget, now: Instant) -> Self {
        Self { partition, end, budget, begun: now, moved: now }
    }

    /// Whether something that does not go on yet is still waited for.
    fn is_patient(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.moved) < self.budget.patience
    }

    /// The reading has come from one offset to another one.
    ///
    /// # Errors
    /// It is not done, and its time is over.
    fn advance(&mut self, from: i64, to: i64, now: Instant) -> Result<(), Error> {
        if to > from {
            self.moved = now;
        }
        if to >= self.end {
            return Ok(());
        }
        if !self.is_patient(now) {
            return Err(hanging(self.partition, to, self.end));
        }
        if now.saturating_duration_since(self.begun) >= self.budget.total {
            return Err(too_slow(self.partition, to, self.end, self.budget.total));
        }
        Ok(())
    }
}

/// Show `each` every record of `partition` from `next` on and before `end` that is not of an aborted transaction, in order. It answers how many bytes its reader
/// keeps by now. `next` moves to where to go on, even where an error ends this: what was shown is not read again. A partition that moves is followed.
///
/// # Errors
/// `each` refuses one; or the budget is exceeded.
pub(super) fn read(
    client: &Client,
    partition: &TopicPartition,
    next: &mut i64,
    end: i64,
    budget: Budget,
    mut each: impl FnMut(RecordRef<'_>) -> Result<usize, Error>,
) -> Result<(), Error> {
    if *next >= end {
        return Ok(());
    }
    let mut progress = Progress::begin(partition, end, budget, Instant::now());
    let mut connection = client.connect(client.metadata()?.leader(partition)?.0)?;
    // A broker that waits for as long as it has for an answer is one that does not answer.
    let wait = MAX_WAIT.min(client.settings().request_timeout / 2);
    while *next < end {
        let answer = connection.call_among(BY_NAME, &request(partition, *next, wait)).map_err(Error::from)?;
        let fetched = match fetched(answer, partition, *next) {
            Ok(Some(fetched)) => fetched,
            Ok(None) if progress.is_patient(Instant::now()) => continue,
            Ok(None) => return Err(not_asked("Fetch")),
            Err(code) if code.is_moving() && progress.is_patient(Instant::now()) => {
                let metadata = client.refresh_in_a_moment()?;
                connection = client.connect(metadata.leader(partition)?.0)?;
                continue;
            }
            Err(code) => return Err(code.error(&format!("reading {partition}"))),
        };
        let mut decoder = Decoder::new(fetched, BOUNDS);
        while let Some(batch) = decoder.next() {
            let batch = batch.map_err(|error| undecodable(partition, &error))?;
            for record in batch.records().filter(|record| record.offset() < end) {
                if each(record)? > budget.bytes {
                    return Err(too_large(partition, budget.bytes));
                }
            }
            // One answer may hold gigabytes once it is decompressed.
            go_on(&mut progress, next, decoder.next_offset())?;
        }
        // The last answer may go further, with records that nobody has been shown.
        go_on(&mut progress, next, decoder.next_offset())?;
    }
    Ok(())
}

fn go_on(progress: &mut Progress<'_>, next: &mut i64, to: i64) -> Result<(), Error> {
    let from = std::mem::replace(next, to.min(progress.end));
    progress.advance(from, *next, Instant::now())
}

fn request(partition: &TopicPartition, from: i64, wait: Duration) -> FetchRequest {
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
        .with_isolation_level(Isolation::ReadCommitted as i8)
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

fn too_slow(partition: &TopicPartition, next: i64, end: i64, after: Duration) -> Error {
    let seconds = after.as_secs();
    Error {
        class: Class::Reopen,
        code: "own-topic-too-long",
        message: format!("{partition} was read for {seconds} s up to offset {next} of {end}, and that is not all"),
        remedy: "see whether something else than tidegate writes to the topic, and whether the brokers compact it; it is tried again",
    }
}

/// The error that a topic of ours has more than is kept of one.
pub(super) fn too_large(partition: &TopicPartition, bytes_max: usize) -> Error {
    Error {
        class: Class::Reopen,
        code: "own-topic-too-large",
        message: format!(
            "what counts in {partition} has more than {bytes_max} bytes, which is more than is kept of it"
        ),
        remedy: "let nothing but tidegate write to the topic, and write a tombstone for each key in it that tidegate has not written",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { patience: Duration::from_secs(10), total: Duration::from_secs(60), bytes: 1 };

    #[test]
    fn a_reading_ends_however_it_goes_on() {
        let (partition, begun) = (TopicPartition::new("own", 0), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let code = |moves: &[(u64, i64)], end: i64| {
            let mut progress = Progress::begin(&partition, end, BUDGET, begun);
            let mut from = 0;
            moves.iter().find_map(|(seconds, to)| {
                let advanced = progress.advance(from, *to, at(*seconds));
                from = *to;
                advanced.err().map(|error| (*seconds, error.code))
            })
        };
        assert_eq!(code(&[(5, 0), (9, 0)], 10), None);
        assert_eq!(code(&[(9, 0), (10, 0)], 10), Some((10, "hanging-transaction")));
        assert_eq!(code(&[(9, 1), (18, 2), (27, 2), (28, 2)], 10), Some((28, "hanging-transaction")));
        // An offset now and then, and no end.
        let dripping: Vec<_> = (1..100).map(|step| (step * 3, step as i64)).collect();
        assert_eq!(code(&dripping, 1 << 62), Some((60, "own-topic-too-long")));
        assert_eq!(code(&dripping[..20], 20), None, "it is done when its time is over");
    }
}
