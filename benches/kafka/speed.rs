//! How fast a link copies, against what else does.

use kafka_brokers::Options;
use kafka_oracle::Codec;
use kafka_rivals::{Measured, fill, librdkafka, mirror_maker};

use crate::link::{Job, Taken, Work};
use crate::{Result, cluster};

const PARTITIONS: i32 = 4;

/// Runs of each kind of link, in turns; the median counts.
const RUNS: usize = 5;

pub(crate) fn run() -> Result<()> {
    println!("speed: one broker on each side, {PARTITIONS} partitions, transactions of 100 ms, one lane");
    let (source, target) = (cluster(Options::default())?, cluster(Options::default())?);
    let rivals = std::env::var_os("TIDEGATE_BENCH_NO_RIVALS").is_none();
    for (records, bytes) in [(3_000_000, 200), (300_000, 2000)] {
        for codec in [Codec::None, Codec::Zstd] {
            let topic = format!("t{bytes}{}", codec.name());
            println!("\n{records} records of {bytes} bytes, {} on both sides", codec.name());
            fill(&source.bootstrap(), &topic, PARTITIONS, records, bytes, codec)?;
            let kinds = [
                ("exactly once", true, Work::Nothing),
                ("at least once", false, Work::Nothing),
                ("exactly once, plugin", true, Work::Plugin),
                ("exactly once, the same filter native", true, Work::Native),
            ];
            let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); kinds.len()];
            for round in 0..RUNS {
                for (kind, (_, exactly_once, work)) in kinds.into_iter().enumerate() {
                    let prefix = format!("k{kind}r{round}-");
                    let job = Job {
                        exactly_once,
                        work,
                        codec: codec.name().to_owned(),
                        records: Some(records),
                        ..Job::new(&source.bootstrap(), &target.bootstrap(), &topic, &prefix)
                    };
                    taken[kind].push(job.run()?);
                    kafka_oracle::delete(&target.bootstrap(), &format!("{prefix}{topic}"))?;
                }
            }
            let medians: Vec<Taken> = taken.into_iter().map(median).collect();
            for ((name, ..), taken) in kinds.iter().zip(&medians) {
                say(name, taken);
            }
            let [exactly, at_least, plugin, native] = &medians[..] else { return Err("a kind is missing".to_owned()) };
            println!("  exactly once over at least once       {:.2}  (must: 0.95)", exactly.warm() / at_least.warm());
            println!(
                "  plugin over the same filter native    {:.2}  (must: 0.88, goal 0.95)",
                plugin.warm() / native.warm()
            );
            if rivals {
                let job = kafka_rivals::Job {
                    source: source.bootstrap(),
                    target: target.bootstrap(),
                    topic,
                    partitions: PARTITIONS,
                    records,
                    codec,
                };
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let bare = librdkafka(&program, &job)?;
                kafka_oracle::delete(&target.bootstrap(), &job.topic)?;
                let mirror = mirror_maker(target.dir(), &job)?;
                compare("librdkafka", "must: 3, goal 6; with zstd 2", exactly, &bare);
                compare("MirrorMaker 2", "must: 12, goal 25", exactly, &mirror);
                kafka_oracle::delete(&target.bootstrap(), &job.topic)?;
            }
        }
    }
    Ok(())
}

fn median(mut runs: Vec<Taken>) -> Taken {
    runs.sort_by(|a, b| a.warm().total_cmp(&b.warm()));
    runs[runs.len() / 2]
}

fn say(name: &str, taken: &Taken) {
    println!(
        "  {name:<37} {:>10.0} records per CPU second warm, {:>10.0} whole; {:.2} s wall, {:.0} MiB",
        taken.warm(),
        taken.whole(),
        taken.wall_seconds,
        taken.resident_mib
    );
}

fn compare(name: &str, bound: &str, link: &Taken, rival: &Measured) {
    println!(
        "  {name:<37} {:>10.0} records per CPU second warm, {:>10.0} whole; {:.2} s wall",
        rival.warm(),
        rival.whole(),
        rival.wall_seconds
    );
    println!(
        "  link over {name:<27} {:.1} warm, {:.1} whole, {:.1} by the clock  ({bound})",
        link.warm() / rival.warm(),
        link.whole() / rival.whole(),
        rival.wall_seconds / link.wall_seconds
    );
}
