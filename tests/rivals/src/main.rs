//! Measures the rivals alone: `cargo run --release -p kafka-rivals [RECORDS [BYTES [CODEC]]]`.

#![allow(clippy::print_stderr, reason = "this talks to a person at a terminal")]

use std::env;
use std::process::ExitCode;

use kafka_brokers::{Cluster, Options};
use kafka_oracle::Codec;
use kafka_rivals::{Job, Measured, Result, fill, librdkafka, mirror_maker, run_if_child};

const USAGE: &str = "usage: kafka-rivals [RECORDS [BYTES [none|gzip|snappy|lz4|zstd]]]";
const PARTITIONS: i32 = 4;

fn main() -> ExitCode {
    run_if_child();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let word = |index: usize, default: &str| words.get(index).map_or(default.to_owned(), Clone::clone);
    let (records, bytes) = (word(0, "3000000").parse(), word(1, "200").parse());
    let codec = Codec::ALL.into_iter().find(|codec| codec.name() == word(2, "none"));
    let (Ok(records), Ok(bytes), Some(codec), true) = (records, bytes, codec, words.len() <= 3) else {
        return Err(USAGE.to_owned());
    };
    let options = Options { java_options: brokers_options(), ..Options::default() };
    let (source, target) = (Cluster::start(&options)?, Cluster::start(&options)?);
    let program = env::current_exe().map_err(|error| format!("where is this program: {error}"))?;
    let job = |topic: &str| Job {
        source: source.bootstrap(),
        target: target.bootstrap(),
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        records,
        codec,
    };
    for topic in ["bare", "mirror"] {
        fill(&source.bootstrap(), topic, PARTITIONS, records, bytes, codec)?;
    }
    say("librdkafka", &librdkafka(&program, &job("bare"))?);
    say("MirrorMaker 2", &mirror_maker(target.dir(), &job("mirror"))?);
    Ok(())
}

/// Brokers that are measured against are not to be in the way: both compilers and more memory.
fn brokers_options() -> Vec<String> {
    ["-Xmx1g", "-XX:TieredStopAtLevel=4"].map(str::to_owned).to_vec()
}

fn say(name: &str, measured: &Measured) {
    println!(
        "{name}: {:.0} records per CPU second ({:.2} s CPU, {:.2} s wall), warm {:.0} ({:.2} s CPU, {:.2} s wall)",
        measured.whole(),
        measured.cpu_seconds,
        measured.wall_seconds,
        measured.warm(),
        measured.warm_cpu_seconds,
        measured.warm_wall_seconds
    );
}
