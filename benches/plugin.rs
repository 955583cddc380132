//! What a WebAssembly filter costs over a native one, per record. `cargo bench --bench plugin`
//!
//! Both look at one byte of each value. Pairs are taken in turns, each of the median of many batches; what is printed is
//! the difference, in nanoseconds of wall time a record.

#![allow(clippy::print_stderr, clippy::expect_used, missing_docs)]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{batch, component, median, native_filter};
use tidegate::model::{Batch, Limits};
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
