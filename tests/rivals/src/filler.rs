//! Records for a measurement.

use std::time::{Duration, Instant};

use kafka_oracle::Codec;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::Result;

/// The digits of a key.
const KEY_BYTES: usize = 16;
/// What values are made of: text that compresses about as well as the JSON of real topics does.
const WORDS: [&str; 16] = [
    "\"order\":",
    "\"id\":",
    "\"amount\":",
    "\"city\":",
    "true,",
    "null,",
    "Berlin ",
    "Oslo ",
    "7",
    "42",
    "1999",
    "03",
    "5",
    "61",
    "8",
    "200",
];
/// How often to say how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How long brokers may take for the last of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Make a topic and fill it with records of this size, key and value together, equally in all partitions and in batches of 1 MB.
///
/// Errors: those of the brokers.
pub fn fill(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    records: u64,
    record_bytes: usize,
    codec: Codec,
) -> Result<()> {
    kafka_oracle::create(bootstrap, topic, partitions, &[])?;
    write(bootstrap, topic, partitions, records, record_bytes, codec)
        .map_err(|error| format!("cannot fill topic {topic}: {error}"))
}

fn write(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    records: u64,
    record_bytes: usize,
    codec: Codec,
) -> KafkaResult<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("compression.type", codec.name())
        .set("batch.size", "1000000")
        .set("batch.num.messages", "1000000")
        .set("linger.ms", "100")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let mut said = Instant::now();
    let mut random = 1_u64;
    let mut value = Vec::new();
    for number in 0..records {
        let key = format!("{number:0KEY_BYTES$}");
        fill_value(&mut value, record_bytes.saturating_sub(KEY_BYTES), &mut random);
        let partition = (number % u64::from(partitions.unsigned_abs())) as i32;
        let mut record = BaseRecord::to(topic).partition(partition).key(&*key).payload(&*value);
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        if said.elapsed() > SAY_EVERY {
            println!("  {topic}: {number} of {records} records written");
            said = Instant::now();
        }
    }
    producer.flush(PATIENCE)
}

fn fill_value(value: &mut Vec<u8>, bytes: usize, random: &mut u64) {
    value.clear();
    while value.len() < bytes {
        // Xorshift: fast, and good enough for text. One number makes sixteen words.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (0..16).for_each(|word| value.extend(WORDS[(*random >> (word * 4) & 15) as usize].as_bytes()));
    }
    value.truncate(bytes);
}
