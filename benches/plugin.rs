//! What a WebAssembly filter costs over a native one, and what a link's own filter and transform cost, per record. `cargo bench --bench plugin`
//!
//! Both look at one byte of each value. Pairs are taken in turns, each of the median of many batches; what is printed is
//! the difference, in nanoseconds of wall time a record.

#![allow(clippy::print_stderr, clippy::expect_used, missing_docs)]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{batch, component, median, native_filter};
use tidegate::link::builtins::Builtins;
use tidegate::model::{Batch, BatchBuilder, HeaderRef, Limits};
use tidegate::plugin::{Instance, PluginEngine, StageMetrics};

const PAIRS: usize = 31;

/// More than any call takes.
const TIME: Duration = Duration::from_secs(10);

fn main() {
    let engine = PluginEngine::new(None).expect("an engine");
    let plugin = engine.load(&component("byte-filter")).expect("a plugin");
    let configured = plugin.configure(&"bench".into(), "{}", &Limits::default(), &Arc::<StageMetrics>::default());
    let mut instance = Some(configured.expect("configured"));
    println!("a WebAssembly filter over a native one, ns a record (epochs on; must: 20 at 1000 x 100 B)");
    println!("{:>12} {:>10} {:>10} {:>10}", "value bytes", "batch 1", "batch 100", "batch 1000");
    for len in [10, 100, 1000] {
        let costs: Vec<String> =
            [1, 100, 1000].map(|count| format!("{:>10.1}", difference(&mut instance, count, len))).to_vec();
        println!("{len:>12} {}", costs.join(" "));
    }
    built_ins();
}

/// What a link does without plugins, to records of 100 bytes with two headers in batches of 1,000.
fn built_ins() {
    let filter = |value| serde_json::json!({ "filter": value });
    let rows = [
        ("none", serde_json::json!({})),
        ("include_patterns = [\".*important.*\"]", filter(serde_json::json!({"include_patterns": [".*important.*"]}))),
        ("exclude_patterns = [\"important\"]", filter(serde_json::json!({"exclude_patterns": ["important"]}))),
        ("filter_by_header, one", filter(serde_json::json!({"filter_by_header": {"region": "us-west-1"}}))),
        ("key_prefix, one", filter(serde_json::json!({"key_prefix": ["key"]}))),
        (
            "add_headers, one of them ${now}",
            serde_json::json!({"transform": {"add_headers": {"a": "x", "b": "${now}"}}}),
        ),
        ("add_headers, ${offset}", serde_json::json!({"transform": {"add_headers": {"a": "${offset}"}}})),
        ("remove_headers, one", serde_json::json!({"transform": {"remove_headers": ["region"]}})),
    ];
    let input = with_headers(&batch(1000, 100, 0));
    println!("what a link does without plugins, ns a record (1000 x 100 B)");
    for (name, spec) in rows {
        let spec = serde_json::from_value(spec).expect("built-ins");
        let builtins = Builtins::new(&spec).expect("built-ins");
        let mut differences: Vec<f64> = (0..PAIRS)
            .map(|_| {
                let nothing = time(50, &input, |batch| batch);
                let something = time(50, &input, |mut batch| {
                    builtins.apply(&mut batch, || 1_700_000_000_000);
                    batch
                });
                (something - nothing) / input.len() as f64
            })
            .collect();
        println!("{:>8.1}  {name}", median(&mut differences));
    }
}

fn with_headers(batch: &Batch) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in batch.records() {
        let headers = [("trace", "4711"), ("region", "us-west-1")];
        let headers = headers.map(|(name, value)| HeaderRef { name: name.as_bytes(), value: Some(value.as_bytes()) });
        builder.push(record.offset(), record.timestamp(), record.key(), record.value(), headers);
    }
    builder.finish("orders", 0)
}

/// Nanoseconds a record, median of pairs.
fn difference(instance: &mut Option<Instance>, count: usize, len: usize) -> f64 {
    let input = batch(count, len, 0);
    let rounds = (20_000 / count).max(20);
    let mut differences: Vec<f64> = (0..PAIRS)
        .map(|_| {
            let native = time(rounds, &input, |mut batch| {
                native_filter(&mut batch);
                batch
            });
            let wasm = time(rounds, &input, |batch| {
                let called = instance.take().expect("an instance").call(&batch, TIME, None);
                let (back, verdict) = called.expect("no trap");
                *instance = Some(back);
                verdict.apply(batch).batch
            });
            (wasm - native) / count as f64
        })
        .collect();
    median(&mut differences)
}

/// Nanoseconds a batch. Copying the input is not in it.
fn time(rounds: usize, input: &Batch, mut work: impl FnMut(Batch) -> Batch) -> f64 {
    let mut taken: Vec<f64> = (0..rounds)
        .map(|_| {
            let batch = input.clone();
            let begun = Instant::now();
            let output = black_box(work(black_box(batch)));
            let nanos = begun.elapsed().as_nanos() as f64;
            drop(output);
            nanos
        })
        .collect();
    median(&mut taken)
}
