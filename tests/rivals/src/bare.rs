//! A bare librdkafka loop: consume, produce, and a transaction every 100 ms with one small checkpoint record. It opens nothing again and checks nothing.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::start_child;
use kafka_oracle::Codec;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::{Job, Measured, Result};

/// The variable that makes a program a child; it holds the job.
const CHILD: &str = "KAFKA_RIVALS_CHILD";
/// How long a transaction is open.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// How long brokers may take. No call waits for ever: librdkafka's own default for a commit does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measure the loop. `program` is one that calls [`run_if_child`] before anything else, as in `std::env::current_exe()`.
///
/// Errors: the topic is there at the target already, or the loop fails.
pub fn librdkafka(program: &Path, job: &Job) -> Result<Measured> {
    job.create_target()?;
    kafka_oracle::create(&job.target, &checkpoints(&job.topic), 1, &[("cleanup.policy", "compact")])?;
    let mut command = Command::new(program);
    command.env(CHILD, write(job)).stdin(Stdio::null());
    let begun = Instant::now();
    let mut process = start_child(command).map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let measured = job.measure("librdkafka", &mut process, begun);
    // One that has ended needs no killing.
    let _ended = process.kill().and_then(|()| process.wait());
    measured
}

/// Be the loop, and never return, if this process was started for that.
pub fn run_if_child() {
    let Ok(text) = env::var(CHILD) else { return };
    let job = read(&text).unwrap_or_else(|| fail("the job cannot be read"));
    if let Err(error) = run(&job) {
        fail(&error.to_string());
    }
    // Until it is measured and killed.
    loop {
        thread::park();
    }
}

#[allow(clippy::print_stderr, reason = "this is a process of its own")]
fn fail(error: &str) -> ! {
    eprintln!("librdkafka loop: {error}");
    std::process::exit(1)
}

fn write(job: &Job) -> String {
    let Job { source, target, topic, partitions, records, codec } = job;
    format!("{source} {target} {topic} {partitions} {records} {}", codec.name())
}

fn read(text: &str) -> Option<Job> {
    let mut words = text.split(' ');
    let mut next = || words.next().map(str::to_owned);
    let (source, target, topic) = (next()?, next()?, next()?);
    let (partitions, records, name) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?);
    let codec = Codec::ALL.into_iter().find(|codec| codec.name() == name)?;
    Some(Job { source, target, topic, partitions, records, codec })
}

fn checkpoints(topic: &str) -> String {
    format!("{topic}-checkpoints")
}

fn run(job: &Job) -> KafkaResult<()> {
    let (consumer, producer) = (consumer(job)?, producer(job)?);
    let checkpoints = checkpoints(&job.topic);
    producer.init_transactions(PATIENCE)?;
    producer.begin_transaction()?;
    let mut begun = Instant::now();
    let mut copied = 0;
    while copied < job.records {
        if let Some(message) = consumer.poll(COMMIT_EVERY) {
            let message = message?;
            let timestamp = message.timestamp().to_millis().unwrap_or(-1);
            let mut record =
                BaseRecord::<[u8], [u8]>::to(&job.topic).partition(message.partition()).timestamp(timestamp);
            record.key = message.key();
            record.payload = message.payload();
            send(&producer, record)?;
            copied += 1;
        }
        if copied == job.records || begun.elapsed() >= COMMIT_EVERY {
            let checkpoint = copied.to_string();
            send(&producer, BaseRecord::to(&checkpoints).partition(0).key(&b"0"[..]).payload(checkpoint.as_bytes()))?;
            producer.commit_transaction(PATIENCE)?;
            producer.begin_transaction()?;
            begun = Instant::now();
        }
    }
    Ok(())
}

fn send(producer: &BaseProducer, mut record: BaseRecord<'_, [u8], [u8]>) -> KafkaResult<()> {
    while let Err((error, back)) = producer.send(record) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            return Err(error);
        }
        producer.poll(Duration::from_millis(1));
        record = back;
    }
    Ok(())
}

fn consumer(job: &Job) -> KafkaResult<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &job.source)
        .set("group.id", "kafka-rivals")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("queued.min.messages", "100000")
        .create()?;
    let mut assigned = TopicPartitionList::new();
    for partition in 0..job.partitions {
        assigned.add_partition_offset(&job.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;
    Ok(consumer)
}

fn producer(job: &Job) -> KafkaResult<BaseProducer> {
    ClientConfig::new()
        .set("bootstrap.servers", &job.target)
        .set("transactional.id", format!("kafka-rivals-{}", job.topic))
        .set("compression.type", job.codec.name())
        .set("batch.size", "1000000")
        .set("batch.num.messages", "1000000")
        // Half of a transaction: of 5, 50 and 1000 ms the one with the best wall time, and a tenth fewer CPU seconds than 5.
        .set("linger.ms", "50")
        .set("queue.buffering.max.messages", "1000000")
        .create()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_reads_the_job_that_it_was_given() {
        let job = Job {
            source: "127.0.0.1:1,127.0.0.1:2".to_owned(),
            target: "127.0.0.1:3".to_owned(),
            topic: "orders".to_owned(),
            partitions: 4,
            records: 3_000_000,
            codec: Codec::Zstd,
        };
        let again = read(&write(&job)).expect("a job");
        assert_eq!(format!("{again:?}"), format!("{job:?}"));
    }
}
