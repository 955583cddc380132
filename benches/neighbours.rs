//! What a link reaches beside a hostile one. `cargo bench --bench neighbours`
//!
//! Two links share a process and the target: a good one whose throughput is measured, and one whose plugin burns all the CPU that it
//! gets. The hostile ones are compared with one that burns as much and behaves.

#![allow(clippy::print_stderr, clippy::expect_used, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{batch, component, median, process_cpu_time};
use tidegate::config::Config;
use tidegate::connector::Cluster;
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::link::{Desired, Link, StageSpec};
use tidegate::model::{Digest, Json, JsonObject, Limits, OnError, TopicPartition};
use tidegate::plugin::PluginEngine;
use tidegate::store::{Options, Store};

/// Records that the good link copies in a run.
const RECORDS: i64 = 300_000;
/// Records that the other link has before it: more than it can handle meanwhile.
const OTHERS: usize = 40_000;
const PAIRS: usize = 5;

/// What a plugin that behaves does with a batch, before it keeps every record.
const BEHAVED: &str = "(call $burn (i32.const 6000000))";

/// What others do in its place; the first is not there at all.
const PLUGINS: [(&str, Option<&str>); 5] = [
    ("is not there", None),
    ("loops until its time is over", Some("(loop $ever (br $ever))")),
    ("traps on every record", Some("unreachable")),
    ("floods the log and burns", Some("(call $flood) (call $burn (i32.const 5000000))")),
    ("takes all memory and traps", Some("(call $grow) unreachable")),
];

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = PluginEngine::new(None).expect("an engine");
    let source = filled_source(dir.path());
    let behaved = plugin(BEHAVED);
    let beside = |plugin: Option<&Arc<[u8]>>| beside(dir.path(), &engine, &source, plugin);
    // The first run warms up.
    beside(Some(&behaved));
    println!(
        "a link of {RECORDS} x 100 B beside one that burns CPU, against the same beside one that burns it and behaves"
    );
    for (name, body) in PLUGINS {
        let plugin = body.map(plugin);
        let pairs: Vec<(Run, Run)> = (0..PAIRS).map(|_| (beside(Some(&behaved)), beside(plugin.as_ref()))).collect();
        let of = |value: fn(&(Run, Run)) -> f64| median(&mut pairs.iter().map(value).collect::<Vec<_>>());
        let (ratio, mine) = (of(|(behaved, run)| run.rate / behaved.rate), of(|(_, run)| run.cpus));
        let must = if body.is_some() { "(must: 90 %)" } else { "" };
        println!(
            "  {name:<30}{:>6.1} % {must:<13} the process used {:.2} and {mine:.2} CPUs",
            ratio * 100.0,
            of(|(behaved, _)| behaved.cpus)
        );
    }
}

/// What a good link reached.
struct Run {
    /// Records per second.
    rate: f64,
    /// What the whole process used meanwhile.
    cpus: f64,
}

/// A filter that keeps every record, after `body`.
fn plugin(body: &str) -> Arc<[u8]> {
    wat::parse_str(include_str!("neighbours.wat").replace("<<body>>", body)).expect("a component").into()
}

fn open(path: &Path) -> Arc<EmbeddedCluster> {
    Arc::new(EmbeddedCluster::new(Arc::new(Store::open(path, Options::default()).expect("a store"))))
}

fn filled_source(dir: &Path) -> Arc<dyn Cluster> {
    let source = open(&dir.join("east.redb"));
    for (topic, records) in [("good", RECORDS as usize), ("bad", OTHERS)] {
        source.create_topic(topic, 1).expect("a topic");
        for first in (0..records).step_by(10_000) {
            source.produce(&TopicPartition::new(topic, 0), &batch(10_000, 100, first as i64)).expect("produced");
        }
    }
    source
}

fn link(
    dir: &Path,
    engine: &PluginEngine,
    source: &Arc<dyn Cluster>,
    target: Arc<dyn Cluster>,
    id: &str,
    component: Arc<[u8]>,
) -> Link {
    // Small batches, so that a search for poison ends soon when the link is halted.
    let batch_size = if id == "bad" { 30 } else { 1000 };
    let text = format!(
        "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n\
         [links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"{id}\"]\nlanes = 1\n\
         [links.{id}.config]\nbatch_size = {batch_size}\ncheckpoint_interval_ms = 50\n[links.{id}.breaker]\nrejected_percent = 100\ntrapped_percent = 100\n"
    );
    let (config, _) = Config::parse(&text, "bench", dir).expect("a configuration");
    let config = config.links.into_values().next().expect("a link");
    let spec = StageSpec {
        name: "filter".to_owned(),
        plugin_digest: Digest::of(&component),
        plugin_name: id.to_owned(),
        plugin_version: "0.1.0".to_owned(),
        config: Json::Object(JsonObject::new()),
        on_error: OnError::DeadLetter,
        time_ahead_max_ms: None,
        limits: Limits { time_ms: 20, record_time_ms: 20, ..Limits::default() },
    };
    Link::new(config, "bench".into(), source.clone(), target, engine.clone(), vec![(spec, component)])
}

fn done(link: &Link) -> i64 {
    link.lanes().iter().flat_map(|lane| lane.committed.values()).map(|progress| progress.next_offset).sum()
}

/// Let a good link copy its records beside another.
fn beside(dir: &Path, engine: &PluginEngine, source: &Arc<dyn Cluster>, plugin: Option<&Arc<[u8]>>) -> Run {
    let path = dir.join("west.redb");
    let target = open(&path);
    let good = link(dir, engine, source, target.clone(), "good", component("byte-filter").into());
    let bad = plugin.map(|plugin| link(dir, engine, source, target, "bad", plugin.clone()));
    if let Some(bad) = &bad {
        bad.order(Desired::Running).expect("running");
        sleep(Duration::from_millis(100));
    }
    let (begun, cpu) = (Instant::now(), process_cpu_time());
    good.order(Desired::Running).expect("running");
    while done(&good) < RECORDS {
        sleep(Duration::from_millis(1));
    }
    let wall = begun.elapsed().as_secs_f64();
    let cpu = (process_cpu_time() - cpu).as_secs_f64();
    if let Some(bad) = &bad {
        assert!(done(bad) < OTHERS as i64, "the other link has run out of records");
        bad.halt();
    }
    good.halt();
    drop((good, bad));
    fs::remove_file(path).expect("removed");
    Run { rate: RECORDS as f64 / wall, cpus: cpu / wall }
}
