//! Stages that remember, and records that they cannot handle, at random places.

use serde_json::{Value, json};

use super::{Scene, play};
use crate::harness::Dice;
use crate::oracle::ORIGIN;

/// Records that are ahead of their time, and so would move the record time if they were not put aside.
const AHEAD_MS_MAX: u64 = 4_000;

#[test]
fn what_a_stage_remembers_is_as_if_no_kill_and_no_poison_had_been() {
    play(&remembering());
}

/// And as if the lanes had always been as many.
#[test]
fn what_a_stage_remembers_is_the_same_whatever_becomes_of_its_lane() {
    play(&Scene { relanes: true, ..remembering() });
}

fn remembering() -> Scene {
    let check = |missing: &str| json!({"pointer": "/n", "at_least": 10, "missing": missing});
    let count = |keep_ms: u32, fragile: bool| json!({"keep_ms": keep_ms, "fragile": fragile});
    Scene {
        record: counted,
        relanes: false,
        put_aside: &["missing", "plugin-panic", "poison"],
        pipeline: r#"
            [links.flow.probation]
            records = 0
            [links.flow.breaker]
            rejected_percent = 100
            trapped_percent = 100
            [[links.flow.pipeline]]
            stage = "check"
            plugin = "PLUGINS/json-filter.wasm"
            config = { pointer = "/n", at_least = 10, missing = "reject" }
            [[links.flow.pipeline]]
            stage = "once"
            plugin = "PLUGINS/dedupe.wasm"
            config = { max_keys = 40 }
            [[links.flow.pipeline]]
            stage = "count"
            plugin = "PLUGINS/counter.wasm"
            config = { keep_ms = 700, fragile = true }"#,
        swaps: vec![
            ("count", "counter-2", count(700, true)),
            ("once", "dedupe", json!({"max_keys": 15, "max_age_ms": 900})),
            ("count", "counter", count(2_000, true)),
            ("check", "json-filter", check("keep")),
            ("once", "dedupe", json!({"max_age_ms": 400})),
            ("count", "counter-2", count(300, true)),
            ("check", "json-filter", check("reject")),
            ("count", "counter", count(700, false)),
            ("once", "dedupe", json!({"max_keys": 60})),
        ],
    }
}

#[test]
fn poison_among_the_parts_of_a_record_is_put_aside_once_and_windows_hold_the_rest() {
    let sums = |window_ms: u32, functions: Value| json!({"window_ms": window_ms, "value": "/n", "functions": functions, "grace_ms": 100, "late_route": "late"});
    let count = |fragile: bool| json!({"keep_ms": 500, "fragile": fragile});
    play(&Scene {
        record: split,
        relanes: false,
        put_aside: &["not-a-number", "plugin-panic", "poison"],
        pipeline: r#"
            [links.flow.probation]
            records = 0
            [links.flow.breaker]
            rejected_percent = 100
            trapped_percent = 100
            [[links.flow.pipeline]]
            stage = "split"
            plugin = "PLUGINS/explode.wasm"
            config = { pointer = "/lines", key_from = "/sku" }
            [[links.flow.pipeline]]
            stage = "count"
            plugin = "PLUGINS/counter.wasm"
            config = { keep_ms = 500, fragile = true }
            [[links.flow.pipeline]]
            stage = "sum"
            plugin = "PLUGINS/aggregate.wasm"
            config = { window_ms = 500, value = "/n", functions = ["count", "sum"], grace_ms = 100, late_route = "late" }"#,
        swaps: vec![
            ("sum", "aggregate", sums(300, json!(["max", "sum"]))),
            ("count", "counter-2", count(true)),
            ("split", "explode", json!({"pointer": "/lines"})),
            ("sum", "aggregate", json!({"window_ms": 400, "functions": ["count"], "grace_ms": 50})),
            ("count", "counter", count(true)),
            ("split", "explode", json!({"pointer": "/lines", "key_from": "/sku"})),
            ("sum", "aggregate", sums(500, json!(["count", "sum", "min", "max"]))),
            ("count", "counter-2", count(false)),
            ("count", "counter", count(true)),
        ],
    });
}

/// Records whose time goes on, with keys that come again; some have nothing that can be counted, some are poison.
fn counted(seed: u64, partition: u32, number: u64) -> String {
    let mut dice = Dice::new(seed ^ (u64::from(partition) << 40) ^ number);
    let poison = poison(&mut dice);
    let n = if dice.below(60) == 0 { String::new() } else { format!(r#""n":{},"#, dice.below(100)) };
    let value = (dice.below(60) > 0).then(|| format!(r#"{{{n}{poison}"id":"{partition}-{number}"}}"#));
    let is_bad = value.is_none() || n.is_empty() || !poison.is_empty();
    record(&mut dice, partition, number, is_bad, value)
}

/// Records of several parts, of which some are poison and some have no number.
fn split(seed: u64, partition: u32, number: u64) -> String {
    let mut dice = Dice::new(seed ^ (u64::from(partition) << 40) ^ number);
    let mut is_bad = false;
    let mut lines = Vec::new();
    for _ in 0..dice.below(4) {
        let poison = poison(&mut dice);
        let n = if dice.below(80) == 0 { "null".to_owned() } else { dice.below(100).to_string() };
        is_bad |= !poison.is_empty() || n == "null";
        lines.push(format!(r#"{{{poison}"n":{n}, "sku":"s{}"}}"#, dice.below(30)));
    }
    let value = format!(r#"{{"id":"{partition}-{number}","lines":[{}]}}"#, lines.join(" ,"));
    let value = (dice.below(60) > 0).then_some(value);
    record(&mut dice, partition, number, is_bad, value)
}

/// A field that makes a record poison, or nothing.
fn poison(dice: &mut Dice) -> &'static str {
    match dice.below(300) {
        0..2 => r#""poison":"panic","#,
        2..5 => r#""poison":"reject","#,
        _ => "",
    }
}

fn record(dice: &mut Dice, partition: u32, number: u64, is_bad: bool, value: Option<String>) -> String {
    let ahead = if is_bad { dice.below(AHEAD_MS_MAX) } else { dice.below(200) };
    let mut record = json!({
        "partition": partition,
        "timestamp": 1_700_000_000_000_u64 + 10 * number + ahead,
        "headers": [[ORIGIN, partition.to_string()], ["number", number.to_string()], ["null", null]],
        "value": value,
    });
    match dice.below(20) {
        0 => {}
        1 => record["key_base64"] = "gP8A".into(),
        _ => record["key"] = format!("k{}", dice.below(120)).into(),
    }
    record.to_string()
}
