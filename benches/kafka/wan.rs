//! How much of a far network one lane uses.

use std::time::Duration;

use kafka_brokers::{Cluster, Options, Wan};
use kafka_oracle::Codec;
use kafka_rivals::fill;

use crate::link::Job;
use crate::{Result, cluster};

const BYTES_PER_SECOND: u64 = 50_000_000;
const ROUND_TRIP: Duration = Duration::from_millis(80);
const RECORDS: u64 = 300_000;
const RECORD_BYTES: usize = 2000;
const PARTITIONS: i32 = 4;

pub(crate) fn run() -> Result<()> {
    println!(
        "\nwan: one lane over a round trip of 80 ms and 50 MB/s, commits of 1 s, {RECORDS} records of {RECORD_BYTES} bytes"
    );
    let options = || Options { proxied: true, ..Options::default() };
    let (source, target) = (cluster(options())?, cluster(options())?);
    fill(&source.bootstrap(), "far", PARTITIONS, RECORDS, RECORD_BYTES, Codec::None)?;
    for (name, far_source) in [("the target is far", false), ("the source is far", true)] {
        let far = if far_source { &source } else { &target };
        set_wan(far, Some(Wan { round_trip: ROUND_TRIP, bytes_per_second: BYTES_PER_SECOND, window: 16 << 20 }));
        let bootstrap = |cluster: &Cluster, far: bool| match cluster.proxied_bootstrap() {
            Some(proxied) if far => proxied,
            _ => cluster.bootstrap(),
        };
        let prefix = if far_source { "s-" } else { "t-" };
        let (from, to) = (bootstrap(&source, far_source), bootstrap(&target, !far_source));
        let taken = Job { interval_ms: 1000, records: Some(RECORDS), ..Job::new(&from, &to, "far", prefix) }.run()?;
        set_wan(far, None);
        let rate = taken.warm_records * RECORD_BYTES as f64 / taken.warm_wall_seconds;
        println!("  {name}: {:.0} % of the cap  (must: 80)", 100.0 * rate / BYTES_PER_SECOND as f64);
    }
    Ok(())
}

fn set_wan(cluster: &Cluster, wan: Option<Wan>) {
    cluster.brokers().iter().filter_map(|broker| broker.proxy()).for_each(|proxy| proxy.set_wan(wan));
}
