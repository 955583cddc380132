//! Topics whose brokers compress record batches again: what fits as it is sent does not fit as it is stored.

use kafka_oracle::Record;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use tidegate::api::wire::{Event, LinkStatus};

use crate::clusters::{Pair, Version};
use crate::harness::{LINKS, Site, wait_until};
use crate::scene::PATIENCE;

/// The largest record batch that the topics take, on both sides.
const BATCH_BYTES_MAX: &str = "100000";

/// Records that fit together as they are sent, and one that does not fit as it is stored.
const RECORDS: usize = 40;
const RECORD_BYTES: usize = 8_000;
const LARGE_BYTES: usize = 150_000;

/// Digits of random numbers: zstd makes about half of them, and lz4 almost nothing smaller.
fn digits(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64 + 1);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"0123456789abcdef"[state as usize % 16]
    };
    (0..bytes).map(next).collect()
}

fn record(number: usize, bytes: usize) -> Record {
    let timestamp = 1_700_000_000_000 + number as i64;
    Record { key: None, value: Some(digits(number, bytes)), headers: Vec::new(), timestamp }
}

#[test]
fn what_the_target_makes_larger_is_written_in_smaller_batches_or_becomes_a_dead_letter() {
    let pair = Pair::shared(Version::Two);
    let (east, west) = (pair.source.bootstrap(), pair.target.bootstrap());
    let topics = ["uncompressed", "lz4"].map(|compression| (format!("sizes-{compression}"), compression));
    for (topic, compression) in &topics {
        let limit = ("max.message.bytes", BATCH_BYTES_MAX);
        kafka_oracle::create(&east, topic, 1, &[limit]).expect("a topic");
        kafka_oracle::create(&west, topic, 1, &[limit, ("compression.type", compression)]).expect("a topic");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &east)
            .set("compression.type", "zstd")
            .set("linger.ms", "1000")
            .set("batch.size", "160000")
            .create()
            .expect("a producer");
        for number in 0..RECORDS {
            kafka_oracle::send(&producer, topic, 0, &record(number, RECORD_BYTES)).expect("sent");
        }
        producer.flush(PATIENCE).expect("written");
        kafka_oracle::send(&producer, topic, 0, &record(RECORDS, LARGE_BYTES)).expect("sent");
        producer.flush(PATIENCE).expect("written");
    }
    for (topic, compression) in topics {
        let cluster = |id: &str, brokers: &str| format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\n");
        let link = format!(
            "[links.{topic}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{topic:?}]\n\
             [links.{topic}.config]\ncompression_type = \"zstd\"\n"
        );
        let site = Site::new(&(cluster("east", &east) + &cluster("west", &west) + &link));
        let daemon = site.start();
        let mut expected = kafka_oracle::read(&east, &topic).expect("the source");
        let large = expected.0.get_mut(&0).and_then(Vec::pop).expect("the large record");
        kafka_oracle::await_copy(&expected, &west, &topic, PATIENCE).expect("a copy");
        wait_until("the link is at the end", || site.client.is_caught_up(&topic));
        let letters = format!("{topic}.dead-letters");
        let mut found = Vec::new();
        wait_until("the large record is a dead letter", || {
            let read = kafka_oracle::read(&west, &letters).ok();
            found = read.into_iter().flat_map(|content| content.0.into_values().flatten()).collect();
            !found.is_empty()
        });
        let timestamps: Vec<_> = found.iter().map(|letter| letter.record.timestamp).collect();
        assert_eq!(timestamps, [large.record.timestamp], "{topic}");
        let events: Vec<Event> = site.client.read(&format!("{LINKS}/{topic}/events"));
        let mut failures = events.into_iter().filter(|event| event.kind == "lane-failed");
        if compression == "uncompressed" {
            // What is stored can be told without a try.
            assert_eq!(failures.next(), None, "{topic}");
        } else {
            let codes: Vec<_> = failures.filter_map(|event| event.code).collect();
            assert_eq!(codes, ["batch-refused"], "{topic}");
        }
        assert_eq!(site.client.link(&topic).status, LinkStatus::Active, "{topic}");
        daemon.terminate();
    }
}
