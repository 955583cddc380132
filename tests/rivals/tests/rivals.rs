//! The librdkafka loop copies exactly, and is measured. MirrorMaker 2 takes half a minute to start: the benchmark tries it, and checks its copy.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use kafka_brokers::{Cluster, Options};
use kafka_oracle::{Codec, compare, read};
use kafka_rivals::{Job, fill, librdkafka};

const RECORDS: u64 = 100_000;

#[test]
fn the_bare_loop_copies_exactly_and_what_it_takes_is_measured() {
    let (source, target) = (Cluster::start(&Options::default()).unwrap(), Cluster::start(&Options::default()).unwrap());
    let job = Job {
        source: source.bootstrap(),
        target: target.bootstrap(),
        topic: "orders".to_owned(),
        partitions: 4,
        records: RECORDS,
        codec: Codec::Zstd,
    };
    fill(&job.source, &job.topic, job.partitions, RECORDS, 200, Codec::Zstd).unwrap();
    let filled = read(&job.source, &job.topic).unwrap();
    assert_eq!(filled.records() as u64, RECORDS);
    let record = &filled.0[&3][7].record;
    let bytes = [&record.key, &record.value].map(|part| part.as_ref().map_or(0, Vec::len));
    assert_eq!(bytes, [16, 184]);

    let measured = librdkafka(Path::new(env!("CARGO_BIN_EXE_kafka-rivals")), &job).unwrap();
    println!("{measured:?}");
    assert_eq!(measured.records, RECORDS);
    assert!(measured.cpu_seconds > 0.0 && measured.wall_seconds >= measured.warm_wall_seconds);
    assert!(measured.warm_records <= RECORDS && measured.warm_cpu_seconds <= measured.cpu_seconds);
    assert_eq!(compare(&filled, &read(&job.target, &job.topic).unwrap()), Ok(()));
    let again = librdkafka(Path::new(env!("CARGO_BIN_EXE_kafka-rivals")), &job).unwrap_err();
    assert!(again.contains("cannot make topic orders"), "{again}");
}
