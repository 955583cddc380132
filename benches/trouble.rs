//! What safety costs: limits on the hot path, bad records, state. Ratios of one run.

#![allow(clippy::print_stdout, clippy::expect_used, missing_docs, reason = "a bench prints, and may fail loudly")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{batch, byte_filter, component, median, process_cpu_time, thread_cpu_time};
use tidegate::config::Config;
use tidegate::connector::Cluster;
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::link::{Desired, Link};
use tidegate::model::{Batch, Limits, TopicPartition};
use tidegate::plugin::{PluginEngine, State};
use tidegate::store::Store;

mod bare {
    //! The contract as a host without limits would have it.
    wasmtime::component::bindgen!({
        path: "wit/0.1.0",
        inline: "
            package tidegate:every;
            world every {
                include tidegate:plugin/filter@0.1.0;
                include tidegate:plugin/transform@0.1.0;
            }
        ",
        world: "tidegate:every/every",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bare::exports::tidegate::plugin::{filtering, lifecycle};
use bare::tidegate::plugin::{host, types};

const PAIRS: usize = 9;
const BATCH: usize = 1000;
const RECORDS: usize = 300_000;
const POISONED: usize = 100;

fn main() {
    epochs();
    state();
    let dir = tempfile::tempdir().expect("a directory");
    let engine = PluginEngine::new(None).expect("an engine");
    let clean = source(dir.path(), "clean", |_| None);
    isolation(dir.path(), &engine, &clean);
    let rejected = source(dir.path(), "rejected", |index| (index % 100 == 50).then_some(b'R'));
    let trapping = source(dir.path(), "trapping", |index| (index % 100 == 50).then_some(b'P'));
    let ratio = |bad: &Arc<dyn Cluster>| {
        let pairs = (0..PAIRS).map(|_| {
            let (good, bad) = (run(dir.path(), &engine, &clean), run(dir.path(), &engine, bad));
            (good.0 / bad.0 * 100.0, good.1 / bad.1 * 100.0)
        });
        let (mut wall, mut cpu): (Vec<f64>, Vec<f64>) = pairs.unzip();
        (median(&mut wall), median(&mut cpu))
    };
    println!("a link with bad records against the same without, {RECORDS} x 100 B, median of {PAIRS} pairs");
    let (wall, cpu) = ratio(&rejected);
    println!(
        "  1 % rejected, to dead letters  {wall:>6.1} % of the records per second ({cpu:.1} % per CPU second; must: 80)"
    );
    let (wall, cpu) = ratio(&trapping);
    println!(
        "  1 % trapping, to dead letters  {wall:>6.1} % of the records per second ({cpu:.1} % per CPU second; must: 20)"
    );
}

struct Nothing;

impl types::Host for Nothing {}

impl host::Host for Nothing {
    fn log(&mut self, _: host::Level, _: String) {}
    fn count(&mut self, _: String, _: u64) {}
    fn gauge(&mut self, _: String, _: f64) {}
    fn working_on(&mut self, _: u32) {}
}

/// The same component in an engine that cannot interrupt it and limits nothing.
fn epochs() {
    let engine = PluginEngine::new(None).expect("an engine");
    let plugin = engine.load(&component("byte-filter")).expect("a plugin");
    let configured = plugin.configure(&"bench".into(), "{}", &Limits::default(), &Arc::default());
    let mut instance = Some(configured.expect("configured"));

    let mut config = wasmtime::Config::new();
    config.wasm_component_model(true).concurrency_support(false);
    let engine = wasmtime::Engine::new(&config).expect("an engine");
    let bytes = component("byte-filter");
    let compiled = wasmtime::component::Component::from_binary(&engine, &bytes).expect("a component");
    let mut linker = wasmtime::component::Linker::new(&engine);
    host::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |state: &mut Nothing| state)
        .expect("linked");
    types::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |state: &mut Nothing| state)
        .expect("linked");
    let mut store = wasmtime::Store::new(&engine, Nothing);
    let pre = linker.instantiate_pre(&compiled).expect("linked");
    let bare = pre.instantiate(&mut store).expect("an instance");
    let lifecycle = lifecycle::GuestIndices::new(&pre).expect("exported").load(&mut store, &bare).expect("exported");
    let filter = filtering::GuestIndices::new(&pre).expect("exported").load(&mut store, &bare).expect("exported");
    lifecycle.call_configure(&mut store, "bench", "{}").expect("called").expect("configured");

    println!("what limits cost on the hot path, a filter over batches of {BATCH}, with over without");
    for len in [100, 1000] {
        let input = batch(BATCH, len, 0);
        let rounds = 200;
        let mut ratios: Vec<f64> = (0..3 * PAIRS)
            .map(|_| {
                let with = time(rounds, || {
                    let called = instance.take().expect("an instance").call(&input, Duration::from_secs(9), None);
                    let (back, verdict) = called.expect("no trap");
                    instance = Some(back);
                    black_box(verdict);
                });
                let without = time(rounds, || {
                    let called = filter.call_filter(&mut store, lower(&input));
                    black_box(called.expect("no trap"));
                });
                with / without
            })
            .collect();
        println!("  values of {len:>4} B  {:>6.2} (must: 1.30)", median(&mut ratios));
    }
}

/// The batch with the one column that the filter needs.
fn lower(batch: &Batch) -> types::Batch<'_> {
    types::Batch {
        topic: &batch.topic,
        partition: batch.partition,
        count: batch.len() as u32,
        arena: &batch.arena,
        keys: &[],
        values: bytemuck::cast_slice(&batch.values),
        header_ends: &[],
        headers: &[],
        timestamps: &[],
        offsets: &[],
        first_ordinal: 0,
    }
}

/// A get and a put of a plugin in Rust.
fn state() {
    const TIMES: usize = 10;
    let engine = PluginEngine::new(None).expect("an engine");
    let plugin = engine.load(&component("state-filter")).expect("a plugin");
    let costs = |times: usize| {
        let config = format!("{{\"times\":{times}}}");
        let configured = plugin.configure(&"bench".into(), &config, &Limits::default(), &Arc::default());
        let mut instance = Some(configured.expect("configured"));
        let mut state = State::new(BTreeMap::new(), i64::MIN, 1 << 30);
        let input = batch(BATCH, 100, 0);
        let mut taken: Vec<f64> = (0..PAIRS)
            .map(|_| {
                time(20, || {
                    let called =
                        instance.take().expect("an instance").call(&input, Duration::from_secs(9), Some(&mut state));
                    instance = Some(called.expect("no trap").0);
                    state.accept();
                    black_box(state.take_changes());
                })
            })
            .collect();
        median(&mut taken)
    };
    let cost = (costs(TIMES) - costs(0)) / (2 * TIMES * BATCH) as f64;
    println!("state, a thousand keys: a get or a put takes {cost:.0} ns, the mean of both (must: 500)");
}

/// Nanoseconds of this thread's CPU time for one of `rounds`.
fn time(rounds: usize, mut work: impl FnMut()) -> f64 {
    let begun = thread_cpu_time();
    (0..rounds).for_each(|_| work());
    (thread_cpu_time() - begun).as_nanos() as f64 / rounds as f64
}

fn open(path: &Path) -> Arc<dyn Cluster> {
    Arc::new(EmbeddedCluster::new(Arc::new(Store::open(path, Default::default()).expect("a store"))))
}

/// A topic with one partition. `bad` says which records end with which letter.
fn source(dir: &Path, name: &str, bad: impl Fn(usize) -> Option<u8>) -> Arc<dyn Cluster> {
    let source = open(&dir.join(format!("{name}.redb")));
    source.create_topic("orders", 1).expect("a topic");
    let partition = TopicPartition::new("orders", 0);
    for first in (0..RECORDS).step_by(BATCH) {
        let mut batch = batch(BATCH, 100, first as i64);
        let mut arena = batch.arena.to_vec();
        for index in 0..BATCH {
            if let Some(letter) = bad(first + index) {
                let value = batch.values[index];
                arena[(value.start + value.len) as usize - 1] = letter;
            }
        }
        batch.arena = arena.into();
        source.produce(&partition, &batch).expect("produced");
    }
    source
}

/// Run a link over a source, to a fresh target; wall and CPU seconds.
fn run(dir: &Path, engine: &PluginEngine, source: &Arc<dyn Cluster>) -> (f64, f64) {
    let text = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n\
                [links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n\
                [links.l.breaker]\nrejected_percent = 100\ntrapped_percent = 100\n";
    let (config, _) = Config::parse(text, "bench", dir).expect("a configuration");
    let config = config.links.into_values().next().expect("a link");
    let path = dir.join("target.redb");
    let link = Link::new(config, "bench".into(), source.clone(), open(&path), engine.clone(), vec![byte_filter()]);
    let (begun, cpu) = (Instant::now(), process_cpu_time());
    link.order(Desired::Running).expect("running");
    let end = source.range(&TopicPartition::new("orders", 0)).expect("a range").end;
    let done = || -> i64 {
        link.lanes().iter().flat_map(|lane| lane.committed.values()).map(|progress| progress.next_offset).sum()
    };
    while done() < end {
        sleep(Duration::from_millis(1));
    }
    let taken = (begun.elapsed().as_secs_f64(), (process_cpu_time() - cpu).as_secs_f64());
    link.halt();
    drop(link);
    fs::remove_file(path).expect("removed");
    taken
}

fn isolation(dir: &Path, engine: &PluginEngine, clean: &Arc<dyn Cluster>) {
    let cost = |letter: u8, poisoned: usize| {
        let name = format!("poisoned-{letter}");
        let bad = source(dir, &name, |index| (index % BATCH == 500 && index < poisoned * BATCH).then_some(letter));
        let mut costs: Vec<f64> =
            (0..3).map(|_| (run(dir, engine, &bad).0 - run(dir, engine, clean).0) / poisoned as f64 * 1000.0).collect();
        median(&mut costs)
    };
    println!("to find one bad record of a batch of {BATCH} and put it aside");
    println!("  that panics       {:>8.1} ms (must: 50)", cost(b'P', POISONED));
    println!("  that never ends   {:>8.1} ms (a quarter of a transaction: 15000)", cost(b'L', 1));
}
