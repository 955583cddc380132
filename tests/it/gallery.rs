//! The fixtures of the plugins, through the built components and the real host. `plugins/README.md` says what
//! they look like.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::api::wire;
use tidegate::model::{Batch, BatchBuilder, HeaderRef, Limits};
use tidegate::plugin::{Instance, PluginEngine, Reject, State};

use crate::harness::plugin_bytes;

/// The topic of the records; outputs that stay in it name none.
const TOPIC: &str = "fixtures";

/// Every folder that has fixtures, with its cases.
fn cases() -> Vec<(String, PathBuf)> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    let mut cases = Vec::new();
    for plugin in folders(&plugins) {
        let name = plugin.file_name().expect("a name").to_string_lossy().into_owned();
        cases.extend(folders(&plugin.join("fixtures")).into_iter().map(|case| (name.clone(), case)));
    }
    cases
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", file.display()));
    text.lines().filter(|line| !line.is_empty()).map(parse).collect()
}

fn batch(records: &[wire::Record]) -> Batch {
    let mut builder = BatchBuilder::default();
    for record in records {
        let headers =
            record.headers.iter().map(|header| HeaderRef { name: &header.name, value: header.value.as_deref() });
        let (offset, timestamp) = (record.offset.unwrap_or_default(), record.timestamp.unwrap_or_default());
        builder.push(offset, timestamp, record.key.as_deref(), record.value.as_deref(), headers.collect::<Vec<_>>());
    }
    builder.finish(TOPIC, records.first().and_then(|record| record.partition).unwrap_or_default())
}

/// The records that came out, in the shape of the fixtures.
fn outputs(batch: &Batch) -> Vec<Value> {
    let output = |index: usize| {
        let record = batch.record(index);
        let header = |header: HeaderRef<'_>| wire::Header {
            name: header.name.to_vec(),
            value: header.value.map(<[u8]>::to_vec),
        };
        let placement = batch.placement(index);
        let record = wire::Record {
            topic: placement.topic.map(|topic| batch.topics[topic as usize].to_string()),
            partition: Some(batch.partition),
            offset: Some(record.offset()),
            timestamp: Some(record.timestamp()),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().map(header).collect(),
        };
        let mut json = serde_json::to_value(&record).expect("a record");
        if let Some(key) = placement.partition_key.get(&batch.arena) {
            json["partition_key"] = String::from_utf8_lossy(key).into();
        }
        json
    };
    (0..batch.len()).map(|index| normal(output(index))).collect()
}

/// Without what may be missing or null, so that both ways of writing it are the same.
fn normal(mut record: Value) -> Value {
    if let Some(object) = record.as_object_mut() {
        object.retain(|_, value| !value.is_null() && *value != json!([]));
    }
    record
}

fn shown(reject: &Reject) -> Value {
    json!({"reject": {"offset": reject.offset, "code": reject.code, "message": reject.message}})
}

/// An expected reject without a message takes any.
fn matches(expected: &Value, found: &Value) -> bool {
    let mut found = found.clone();
    if expected["reject"].is_object() && expected["reject"]["message"].is_null() {
        found["reject"].as_object_mut().map(|reject| reject.remove("message"));
    }
    *expected == found
}

/// What comes out if the input is cut into batches of at most `size` records.
fn run(mut instance: Instance, mut state: Option<State>, input: &[wire::Record], size: usize) -> Vec<Value> {
    let (mut found, mut rejects) = (Vec::new(), Vec::new());
    let mut waiting: Vec<Batch> = input.chunks(size).rev().map(batch).collect();
    while let Some(batch) = waiting.pop() {
        let called = instance.call(&batch, Limits::default().time(), state.as_mut());
        let (next, verdict) = called.unwrap_or_else(|trapped| panic!("{}", trapped.trap));
        instance = next;
        if let (Some(certain), Some(mark), Some(state)) = (verdict.certain, verdict.mark, &mut state) {
            // A rejected record has moved the record time: those behind it are worked on again, without it.
            state.undo(mark);
            let last = verdict.rejects[certain - 1].index;
            rejects.extend(verdict.rejects[..certain].iter().map(shown));
            waiting.push(batch.slice(last + 1..batch.len()));
            let fine = |index: &usize| !verdict.rejects.iter().any(|reject| reject.index == *index);
            waiting.extend((0..last).filter(fine).map(|index| batch.slice(index..index + 1)).rev());
            continue;
        }
        state.iter_mut().for_each(State::accept);
        rejects.extend(verdict.rejects.iter().map(shown));
        found.extend(outputs(&verdict.apply(batch).batch));
    }
    found.extend(rejects);
    found
}

#[test]
fn every_fixture_holds_in_one_batch_and_in_batches_of_one() {
    let engine = PluginEngine::new(None).expect("an engine");
    let cases = cases();
    let mut wrong = Vec::new();
    for (plugin, case) in &cases {
        let component = engine.load(&plugin_bytes(plugin)).unwrap_or_else(|refusal| panic!("{plugin}: {refusal}"));
        let config = fs::read_to_string(case.join("config.json")).expect("config.json");
        let input: Vec<wire::Record> = lines(&case.join("input.jsonl"))
            .into_iter()
            .map(|record| serde_json::from_value(record).expect("a record"))
            .collect();
        let expected: Vec<Value> = lines(&case.join("expected.jsonl")).into_iter().map(normal).collect();
        for size in [input.len().max(1), 1] {
            let stage: Arc<str> = "stage".into();
            let instance = component.configure(&stage, &config, &Limits::default(), &Arc::default());
            let state = component.state_version().map(|_| State::new(BTreeMap::new(), i64::MIN, u64::MAX));
            let found = run(instance.unwrap_or_else(|error| panic!("{plugin}: {error}")), state, &input, size);
            let same = expected.len() == found.len() && expected.iter().zip(&found).all(|(e, f)| matches(e, f));
            if !same {
                let text = |records: &[Value]| -> String { records.iter().map(|r| format!("\n    {r}")).collect() };
                let (case, expected, found) = (case.display(), text(&expected), text(&found));
                wrong.push(format!("{case} in batches of {size}:\n  expected{expected}\n  found{found}"));
            }
        }
    }
    assert!(cases.len() >= 4, "the fixtures were not found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
