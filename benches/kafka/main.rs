//! Kafka to Kafka: `cargo bench --bench kafka [-- PART …]`, after `cargo xtask plugins`. It starts its own brokers.
//!
//! | part | what it prints |
//! |---|---|
//! | `speed` | records per CPU second and wall time of a link, against MirrorMaker 2 and a bare librdkafka loop, and what guarantees and plugins cost |
//! | `latency` | from the producer to a `read_committed` consumer, with commits each 100 ms and as fast as brokers allow |
//! | `wan` | how much of a far network one lane uses |
//! | `scale` | 1,000 partitions over 8 lanes: time to run, memory and CPU of an idle partition |
//! | `groups` | how long it takes to move 200 consumer groups in 100 partitions each |
//! | `opening` | how long a lane takes to open after 1,000,000 commits |
//!
//! Without a part: `speed`, `latency`, `wan`, `scale` and `groups`. Ratios are of one run; absolute figures mean nothing on a shared machine. Everything that is
//! measured is a process of its own, so its CPU time is its own.

#![allow(clippy::print_stderr, reason = "this talks to a person at a terminal")]

#[path = "../common/mod.rs"]
mod common;
mod latency;
mod link;
mod scale;
mod speed;
mod wan;

use std::process::ExitCode;

use kafka_brokers::{Cluster, Options};

pub(crate) type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    kafka_rivals::run_if_child();
    link::run_if_child();
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let parts = if parts.is_empty() {
        ["speed", "latency", "wan", "scale", "groups"].map(str::to_owned).to_vec()
    } else {
        parts
    };
    for part in parts {
        let done = match &*part {
            "speed" => speed::run(),
            "latency" => latency::run(),
            "wan" => wan::run(),
            "scale" => scale::run(),
            "groups" => scale::groups(),
            "opening" => scale::opening(),
            other => Err(format!("there is no part {other}: speed, latency, wan, scale, groups, opening")),
        };
        if let Err(error) = done {
            eprintln!("{part}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A cluster of brokers that are not in the way of what is measured: both compilers and more memory.
pub(crate) fn cluster(options: Options) -> Result<Cluster> {
    let java_options = ["-Xmx1g", "-XX:TieredStopAtLevel=4"].map(str::to_owned).to_vec();
    Cluster::start(&Options { java_options, ..options })
}
