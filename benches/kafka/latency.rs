//! How long a record takes from the producer to a consumer that reads what is committed.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_brokers::{Cluster, Options};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::Result;
use crate::common::percentile;
use crate::link::Job;

const PARTITIONS: i32 = 4;
const RECORDS_PER_SECOND: u64 = 10_000;
const SECONDS: u64 = 25;
/// What is not counted: brokers that have just begun still compile.
const WARMING: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run() -> Result<()> {
    println!(
        "\nlatency: {RECORDS_PER_SECOND} records of 100 bytes a second, from the producer to a read_committed consumer"
    );
    for (brokers, interval_ms, bound) in [(1, 100, "must: 150"), (1, 1, "goal: 40"), (3, 1, "goal: 150")] {
        let options = |brokers| Options { brokers, ..Options::default() };
        // With one compiler, which is done soon: two compile for a minute, and here nothing shall be in the way.
        let (source, target) = (Cluster::start(&options(1))?, Cluster::start(&options(brokers))?);
        let mut taken = measure(&source.bootstrap(), &target.bootstrap(), interval_ms)?;
        println!(
            "  {brokers} broker(s) in the target, commits each {interval_ms} ms: p50 {:.0} ms, p99 {:.0} ms  ({bound})",
            percentile(&mut taken, 50),
            percentile(&mut taken, 99)
        );
    }
    Ok(())
}

fn measure(source: &str, target: &str, interval_ms: u64) -> Result<Vec<f64>> {
    kafka_oracle::create(source, "ticks", PARTITIONS, &[])?;
    let mut link = Job { interval_ms, ..Job::new(source, target, "ticks", "far-") }.start_and_await()?;
    let consumer = consumer(target, "far-ticks")?;
    let ticking = {
        let source = source.to_owned();
        thread::spawn(move || tick(&source))
    };
    let (begun, mut taken) = (Instant::now(), Vec::new());
    let last = Duration::from_secs(SECONDS);
    while begun.elapsed() < last {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.map_err(|error| error.to_string())?;
        let sent =
            message.payload().and_then(|value| value.first_chunk()).map_or(0, |nanos| u64::from_be_bytes(*nanos));
        if begun.elapsed() > WARMING {
            taken.push((now() - sent) as f64 / 1e6);
        }
    }
    let ended = link.kill().and_then(|()| link.wait());
    ended.map_err(|error| error.to_string())?;
    ticking.join().map_err(|_| "the producer panicked".to_owned())??;
    if taken.is_empty() { Err("no record came".to_owned()) } else { Ok(taken) }
}

fn consumer(target: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", target)
        .set("group.id", "bench")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20")
        .create()
        .map_err(|error| error.to_string())?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning).map_err(|error| error.to_string())?;
    }
    consumer.assign(&partitions).map_err(|error| error.to_string())?;
    Ok(consumer)
}

/// Produce at an even pace. Each record says when it was sent.
fn tick(source: &str) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", source)
        // As librdkafka has it: with less, what is measured is how many requests a broker can take.
        .set("linger.ms", "5")
        // Brokers that have just begun are slow; nothing shall be left out because of that.
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .map_err(|error| error.to_string())?;
    let begun = Instant::now();
    for number in 0..RECORDS_PER_SECOND * SECONDS {
        let due = Duration::from_nanos(number * 1_000_000_000 / RECORDS_PER_SECOND);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            thread::sleep(early);
        }
        let mut value = [0; 100];
        value[..8].copy_from_slice(&now().to_be_bytes());
        let record: BaseRecord<'_, (), [u8]> = BaseRecord::to("ticks").partition((number % 4) as i32).payload(&value);
        producer.send(record).map_err(|(error, _)| error.to_string())?;
    }
    producer.flush(PATIENCE).map_err(|error| error.to_string())
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
