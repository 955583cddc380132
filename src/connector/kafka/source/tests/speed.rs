//! What reading costs: `cargo test --release --lib -- --ignored --nocapture kafka::source::tests::speed`.

use std::time::{Duration, Instant};

use kafka_brokers::{Cluster, Options};
use rustix::time::{ClockId, clock_gettime};

use super::stage::*;
use crate::connector::Source;
use crate::connector::kafka::records::Stamp;
use crate::model::Codec;
use crate::model::TopicPartition;

const RECORDS: usize = 3_000_000;
const PARTITIONS: u32 = 4;

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "a measurement")]
fn records_per_cpu_second() {
    let options = Options { java_options: vec!["-Xmx1g".to_owned()], ..Options::default() };
    let cluster = Cluster::start(&options).expect("a cluster");
    let client = client(&cluster);
    for (codec, batch) in [(Codec::None, 80), (Codec::None, 4000), (Codec::Zstd, 4000)] {
        let topic = format!("speed-{codec}-{batch}");
        create(&client, &topic, PARTITIONS, &[("max.message.bytes", "2000000")]);
        let places: Vec<_> = (0..PARTITIONS).map(|partition| TopicPartition::new(topic.clone(), partition)).collect();
        let records: Vec<_> = (0..batch).map(|number| Plain::new(None, Some(&format!("{number:0200}")))).collect();
        let bytes = encoded(codec, Stamp::NONE, &records);
        for turn in 0..RECORDS / batch {
            let place = &places[turn % places.len()];
            eventually("records", || send(&client, place, None, bytes.clone()));
        }
        for _ in 0..3 {
            let mut source = source_of(&client, &places);
            let (begun, cpu) = (Instant::now(), cpu_time());
            let (mut read, mut batches) = (0, 0);
            while read < RECORDS / batch * batch {
                if let Some(batch) = source.poll(100_000, usize::MAX, Duration::from_secs(1)).expect("polled") {
                    read += batch.len();
                    batches += 1;
                }
            }
            let (wall, cpu) = (begun.elapsed(), cpu_time() - cpu);
            let per_second = read as f64 / cpu.as_secs_f64() / 1e6;
            eprintln!(
                "{topic}: {per_second:.1} million records per CPU second, {batches} batches, {wall:?} wall, {cpu:?} CPU"
            );
        }
    }
}
