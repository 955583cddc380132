//! Reading a topic from its beginning, with `read_committed`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::{Content, Header, Placed, Record, Result, compare};

/// How long brokers may be silent, a restart of one included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one call waits for a record.
const POLL: Duration = Duration::from_millis(50);

/// All partitions of a topic, from the beginning.
pub(crate) struct Tail {
    consumer: BaseConsumer,
    partitions: BTreeSet<i32>,
}

/// What came.
pub(crate) enum Event {
    /// A record of a partition.
    Record(i32, Placed),
    /// All that is committed in this partition was read.
    End(i32),
    /// Nothing for now.
    Nothing,
}

impl Tail {
    /// Errors: the topic is not there, or its brokers do not answer.
    pub(crate) fn open(bootstrap: &str, topic: &str) -> Result<Self> {
        let cannot = |error: KafkaError| format!("cannot read topic {topic} at {bootstrap}: {error}");
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "kafka-oracle")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            // A record that went away after it was seen must not be a silent jump.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            // A broker that was restarted is to be found again soon.
            .set("reconnect.backoff.max.ms", "500")
            // One that is stopped where it is says nothing, and is to be given up before the tests give up: by default after a minute.
            .set("socket.timeout.ms", "5000")
            .create()
            .map_err(cannot)?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(cannot)?;
        let found = metadata.topics().first().filter(|found| found.error().is_none() && !found.partitions().is_empty());
        let found = found.ok_or_else(|| format!("there is no topic {topic} at {bootstrap}"))?;
        let partitions: BTreeSet<i32> =
            found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
        let mut assigned = TopicPartitionList::new();
        for partition in &partitions {
            assigned.add_partition_offset(topic, *partition, Offset::Beginning).map_err(cannot)?;
        }
        consumer.assign(&assigned).map_err(cannot)?;
        Ok(Self { consumer, partitions })
    }

    /// Empty partitions.
    pub(crate) fn nothing_yet(&self) -> Content {
        Content(self.partitions.iter().map(|partition| (*partition, Vec::new())).collect())
    }

    /// All that is committed now.
    fn each(&self, mut take: impl FnMut(i32, Placed)) -> Result<()> {
        let mut unfinished = self.partitions.clone();
        let mut last = Instant::now();
        while !unfinished.is_empty() {
            match self.poll()? {
                Event::Record(partition, placed) => take(partition, placed),
                Event::End(partition) => _ = unfinished.remove(&partition),
                Event::Nothing if last.elapsed() > PATIENCE => {
                    return Err(format!(
                        "nothing more comes of partitions {unfinished:?}; is a transaction left open?"
                    ));
                }
                Event::Nothing => continue,
            }
            last = Instant::now();
        }
        Ok(())
    }

    /// What comes next. Connections that fail are made again inside.
    ///
    /// Errors: records are gone that were not read yet, or no longer where they were.
    pub(crate) fn poll(&self) -> Result<Event> {
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => Ok(Event::Record(message.partition(), placed(&message))),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Event::End(partition)),
            Some(Err(error)) if is_loss(&error) => Err(format!("the topic has lost records: {error}")),
            Some(Err(_)) | None => Ok(Event::Nothing),
        }
    }
}

fn is_loss(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::BadMessage)
    )
}

fn placed(message: &BorrowedMessage<'_>) -> Placed {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
        key: header.key.to_owned(),
        value: header.value.map(<[u8]>::to_vec),
    };
    let record = Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
    };
    Placed { offset: message.offset(), record }
}

/// All that is committed in a topic now.
///
/// Errors: the topic is not there, or nothing comes of a partition for a minute, as when a transaction on it is left open.
pub fn read(bootstrap: &str, topic: &str) -> Result<Content> {
    let tail = Tail::open(bootstrap, topic)?;
    let mut content = tail.nothing_yet();
    tail.each(|partition, placed| content.0.entry(partition).or_default().push(placed))?;
    Ok(content)
}

/// How many records are committed in a topic now.
///
/// Errors: those of [`read`].
pub fn count(bootstrap: &str, topic: &str) -> Result<u64> {
    let mut records = 0;
    Tail::open(bootstrap, topic)?.each(|_, _| records += 1)?;
    Ok(records)
}

/// Wait until the target has as many records in each partition as are expected, and compare it then. Answers what it holds.
///
/// Errors: the first difference, at the latest when no record has come for the time `still`; or the target cannot be read.
pub fn await_copy(expected: &Content, bootstrap: &str, topic: &str, still: Duration) -> Result<Content> {
    let tail = Tail::open(bootstrap, topic)?;
    let mut missing: BTreeMap<i32, usize> =
        expected.0.iter().map(|(number, records)| (*number, records.len())).collect();
    let mut last = Instant::now();
    while missing.values().any(|count| *count > 0) && last.elapsed() < still {
        if let Event::Record(partition, _) = tail.poll()? {
            missing.entry(partition).and_modify(|count| *count = count.saturating_sub(1));
            last = Instant::now();
        }
    }
    let content = read(bootstrap, topic)?;
    compare(expected, &content)?;
    Ok(content)
}
