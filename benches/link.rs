//! A whole link. `cargo bench --bench link`
//!
//! - its throughput with a WebAssembly filter against the same link with the same filter native, embedded to embedded;
//! - the pause of a swap under load;
//! - the daemon: from kill -9 to progress after the restart, and the memory of an idle one.

#![allow(clippy::print_stderr, clippy::expect_used, missing_docs)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Filtered, batch, byte_filter, component, median, percentile, process_cpu_time, spawn};
use tidegate::config::Config;
use tidegate::connector::Cluster;
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::link::supervisor::NewPlugin;
use tidegate::link::{Desired, Link};
use tidegate::model::TopicPartition;
use tidegate::plugin::PluginEngine;
use tidegate::store::{Options, Store};

const PARTITIONS: u32 = 4;
const RECORDS: usize = 2_000_000;
const PAIRS: usize = 9;
const SWAPS: usize = 100;
const KILLS: usize = 10;

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = PluginEngine::new(None).expect("an engine");
    let source = filled_source(dir.path());
    throughput(dir.path(), &engine, &source);
    swaps(dir.path(), &engine, &source);
    drop(source);
    daemon(dir.path());
}

fn open(path: &Path) -> Arc<EmbeddedCluster> {
    Arc::new(EmbeddedCluster::new(Arc::new(Store::open(path, Options::default()).expect("a store"))))
}

fn filled_source(dir: &Path) -> Arc<dyn Cluster> {
    let source = open(&dir.join("east.redb"));
    source.create_topic("orders", PARTITIONS).expect("a topic");
    for first in (0..RECORDS).step_by(10_000) {
        let partition = TopicPartition::new("orders", (first / 10_000) as u32 % PARTITIONS);
        source.produce(&partition, &batch(10_000, 100, first as i64)).expect("produced");
    }
    source
}

fn link(dir: &Path, engine: &PluginEngine, source: Arc<dyn Cluster>, target: Arc<dyn Cluster>, stage: bool) -> Link {
    let text = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n\
                [links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\nlanes = 2\n";
    let (config, _) = Config::parse(text, "bench", dir).expect("a configuration");
    let config = config.links.into_values().next().expect("a link");
    let stages = if stage { vec![byte_filter()] } else { Vec::new() };
    Link::new(config, "bench".into(), source, target, engine.clone(), stages)
}

/// Run a link over the whole source; wall and CPU seconds.
fn run_over(link: &Link) -> (f64, f64) {
    let (begun, cpu) = (Instant::now(), process_cpu_time());
    link.order(Desired::Running).expect("running");
    while done(link) < RECORDS as i64 {
        sleep(Duration::from_millis(1));
    }
    let taken = (begun.elapsed().as_secs_f64(), (process_cpu_time() - cpu).as_secs_f64());
    link.halt();
    taken
}

fn done(link: &Link) -> i64 {
    link.lanes().iter().flat_map(|lane| lane.committed.values()).map(|progress| progress.next_offset).sum()
}

fn throughput(dir: &Path, engine: &PluginEngine, source: &Arc<dyn Cluster>) {
    let native_source: Arc<dyn Cluster> = Arc::new(Filtered(source.clone()));
    let (mut walls, mut cpus, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..=PAIRS {
        let run = |name: &str, source: &Arc<dyn Cluster>, stage: bool| {
            let path = dir.join(format!("{name}-{pair}.redb"));
            let taken = run_over(&link(dir, engine, source.clone(), open(&path), stage));
            fs::remove_file(path).expect("removed");
            taken
        };
        let (native, wasm) = (run("native", &native_source, false), run("wasm", source, true));
        // The first pair warms up.
        if pair > 0 {
            walls.push(native.0 / wasm.0);
            cpus.push(native.1 / wasm.1);
            rates.push(RECORDS as f64 / wasm.0);
        }
    }
    println!(
        "link with a WebAssembly filter against the same with a native one, {RECORDS} x 100 B, median of {PAIRS} pairs"
    );
    println!("  records per CPU second    {:>6.1} %   (must: 95 %)", median(&mut cpus) * 100.0);
    println!("  records per second        {:>6.1} %", median(&mut walls) * 100.0);
    println!("  (with the filter: {:.0} records per second here)", median(&mut rates));
}

fn swaps(dir: &Path, engine: &PluginEngine, source: &Arc<dyn Cluster>) {
    let component = component("byte-filter");
    let mut pauses = Vec::new();
    let mut round = 0;
    while pauses.len() < SWAPS {
        round += 1;
        let link = link(dir, engine, source.clone(), open(&dir.join(format!("swap-{round}.redb"))), true);
        link.order(Desired::Running).expect("running");
        while done(&link) < RECORDS as i64 && pauses.len() < SWAPS {
            let swapped = link
                .publish(NewPlugin {
                    stage: "filter",
                    component: &component,
                    config: None,
                    by: "bench",
                    others: &[],
                    is_wanted: &|| true,
                })
                .expect("published");
            pauses.extend(swapped.pause_max.map(|pause| pause.as_secs_f64() * 1000.0));
        }
        link.halt();
    }
    println!("pause of a swap under load, the longest of 2 lanes, {SWAPS} swaps");
    println!(
        "  p50 {:.2} ms, p99 {:.2} ms (must: 5, goal: 1)",
        percentile(&mut pauses, 50),
        percentile(&mut pauses, 99)
    );
}

fn daemon(dir: &Path) {
    let dir = dir.join("daemon");
    fs::create_dir(&dir).expect("a directory");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins/byte-filter.wasm");
    let config = format!(
        "[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{port}\"\n\
         [clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n\
         [links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\nlanes = 2\n\
         [[links.l.pipeline]]\nstage = \"filter\"\nplugin = \"{}\"\n",
        plugin.display()
    );
    fs::write(dir.join("tidegate.toml"), config).expect("written");
    fs::create_dir(dir.join("data")).expect("a directory");
    drop(filled_source(&dir.join("data")));

    let mut waits = Vec::new();
    let mut child = spawn(&dir);
    let mut seen = progress_beyond(port, 0);
    for _ in 0..KILLS {
        child.kill().and_then(|()| child.wait()).expect("killed");
        // There is always something to do, or there would be no progress to see.
        {
            let east = open(&dir.join("data/east.redb"));
            east.produce(&TopicPartition::new("orders", 0), &batch(10_000, 100, 0)).expect("produced");
        }
        let begun = Instant::now();
        child = spawn(&dir);
        seen = progress_beyond(port, seen);
        waits.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    println!("restart after kill -9 until the first new commit, {KILLS} kills");
    println!(
        "  p50 {:.0} ms, longest {:.0} ms (must: 5000, goal: 1000)",
        percentile(&mut waits, 50),
        percentile(&mut waits, 100)
    );
    child.kill().and_then(|()| child.wait()).expect("killed");

    let idle = dir.join("idle");
    fs::create_dir(&idle).expect("a directory");
    fs::copy(dir.join("tidegate.toml"), idle.join("tidegate.toml")).expect("copied");
    let mut child = spawn(&idle);
    while progress(port).is_none() {
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_secs(2));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().trim().to_owned();
    let kib: f64 = resident.trim_end_matches(" kB").parse().unwrap_or_default();
    println!(
        "memory of an idle daemon with one link and one plugin\n  {:.1} MiB resident (must: 50, goal: 30)",
        kib / 1024.0
    );
    child.kill().and_then(|()| child.wait()).expect("killed");
}

/// Wait until the checkpoints are beyond `seen`; what they are then.
fn progress_beyond(port: u16, seen: i64) -> i64 {
    loop {
        match progress(port) {
            Some(now) if now > seen => return now,
            _ => sleep(Duration::from_millis(2)),
        }
    }
}

/// The sum of the checkpoints, if the daemon answers.
fn progress(port: u16) -> Option<i64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .write_all(b"GET /api/v1/replication/links/l/metrics HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
    let partitions = body["partition_metrics"].as_object()?;
    Some(partitions.values().filter_map(|partition| partition["target_offset"].as_i64()).sum())
}
