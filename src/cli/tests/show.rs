//! What is shown of a link and of plugins: `link show`, `link events`, `plugin history`, `plugin inspect`.

use serde_json::{Value, json};

use super::super::local::print_plugin;
use super::{Scene, told};
use crate::api::control::ControlPlane as _;
use crate::api::wire::{Event, Inspection, Place, Time};
use crate::model::{Digest, Json, Limits};

#[test]
fn links_are_listed_however_many_there_are() {
    let scene = Scene::new();
    for number in 0..2000 {
        let definition = [("topics".to_owned(), Json::Array(vec![Json::String("t".to_owned())]))];
        scene.fake.define(Some(&format!("l{number}")), definition.into(), "ann").expect("defined");
    }
    let listed = scene.run(&["link", "list"]).expect("listed");
    assert_eq!(listed.lines().filter(|line| line.starts_with(['l', 'o'])).count(), 2001);
}

#[test]
fn a_stage_is_shown_with_what_it_may_use_beside_what_it_has_used() {
    let scene = Scene::new();
    let shown = scene.run(&["link", "show", "orders"]).expect("shown");
    let expected = format!(
        "
stage mask: redact 1.0.0, stateful-transform, on_error dead-letter
  digest    {}
  records   10 in, 6 out, 1 dropped, 2 rejected, 1 trapped on
  codes     not-json 2, plugin-panic 1
  traps     plugin-panic 4
  cpu time  800 ns a record; of a call p50 ≤ 30 µs, p99 ≤ 100 µs
  memory    1.0 MiB of 2.0 MiB
  state     1.5 KiB in all partitions together; each may keep 64.0 MiB
  max ahead 3600 s, of timestamps
  dropped   5 log lines and 6 changes of metrics that were over the limits
  metrics   masked 7.5
  limits    time_ms 1000, record_time_ms 100, memory 2.0 MiB, state_bytes 64.0 MiB
            output_bytes 64.0 MiB, records_per_input 10000, component_bytes 64.0 MiB
            table_elements 100000, instances 64, handles 10000
            host_calls_per_record 1000, log_lines_per_s 100, metric_names 64
",
        Digest::of(b"redact")
    );
    assert!(shown.ends_with(&expected), "{shown}");
    assert!(shown.contains("\n  records   10 in, 0 filtered, 0 transformed, 6 out, 3 put aside\n"), "{shown}");
    assert!(shown.contains("\n  letters   orders.dead-letters on west\n"), "{shown}");
}

fn event(kind: &str, count: u64, message: &str) -> Event {
    let (kind, message) = (kind.to_owned(), message.to_owned());
    Event { id: String::new(), time: Time(1_000), kind, code: None, count, message, stage: None, place: None }
}

#[test]
fn what_happened_to_a_link_is_listed_in_the_order_of_time() {
    let scene = Scene::new();
    let place = Some(Place { topic: "orders".into(), partition: 2, offset: 42 });
    let bad = event("record-not-handled", 7, "plugin-panic: panicked\nat \u{1b}[2Jsrc/lib.rs:7:9");
    scene.fake.happened(Event { time: Time(2_000), stage: Some("mask".into()), place, ..bad });
    scene.fake.happened(event("published", 1, "revision 2 by ann"));
    let listed = scene.run(&["link", "events", "orders"]).expect("listed");
    let expected = "\
TIME                      KIND                COUNT  STAGE  PLACE        MESSAGE
1970-01-01T00:00:01.000Z  published           1      -      -            revision 2 by ann
1970-01-01T00:00:02.000Z  record-not-handled  7      mask   orders-2@42  plugin-panic: panicked at \u{fffd}[2Jsrc/lib.rs:7:9
";
    assert_eq!(listed, expected);
    let listed = scene.run(&["link", "events", "orders", "--json"]).expect("listed");
    let listed: Value = serde_json::from_str(&listed).expect("json");
    assert_eq!(listed[1]["place"], json!({"topic": "orders", "partition": 2, "offset": 42}));
    assert_eq!(listed[1]["message"], "plugin-panic: panicked\nat \u{1b}[2Jsrc/lib.rs:7:9");
}

#[test]
fn a_link_to_which_nothing_has_happened_says_so() {
    let scene = Scene::new();
    let listed = scene.run(&["link", "events", "orders"]).expect("listed");
    assert_eq!(listed, "nothing has happened to orders since the daemon started\n");
    assert_eq!(scene.run(&["link", "events", "orders", "--json"]).expect("listed"), "[]\n");
    assert_eq!(told(scene.run(&["link", "events", "nope"])).0, "there is no link nope");
}

#[test]
fn history_says_in_words_what_came_back_and_why() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [("good", b"\0asm1"), ("bad", b"\0asm2")] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("written");
        let file = file.to_str().expect("text");
        scene.run(&["plugin", "publish", "orders", "mask", file]).expect("published");
    }
    scene.fake.go_back("revision 2 rejected 60 of its first 1010 records, more than 5 %");
    scene.run(&["plugin", "rollback", "orders", "--to", "2"]).expect("rolled back");
    let history = scene.run(&["plugin", "history", "orders"]).expect("history");
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[3].contains("  automatic  tidegate  "), "{history}");
    let reason = "the daemon brought revision 1 back: revision 2 rejected 60 of its first 1010 records, more than 5 %";
    assert_eq!(lines[5], format!("revision 3: {reason}"));
    assert!(lines[6].starts_with("revision 4: ") && lines[6].ends_with(" brought revision 2 back"), "{history}");
    assert_eq!(lines.len(), 7, "{history}");
}

#[test]
fn a_plugin_is_inspected_with_its_state_and_its_limits() {
    let mut plugin = Inspection {
        world: "stateful-filter".into(),
        state_version: Some(3),
        name: "dedupe".into(),
        version: "0.1.0".into(),
        needs: vec!["key".into()],
        config_schema: Json::Bool(true),
        imports: Vec::new(),
        exports: vec!["tidegate:plugin/filtering@0.1.0".into()],
        size_bytes: 2048,
        digest: Digest::of(b"dedupe"),
        limits: Limits::default(),
    };
    let printed = |plugin: &Inspection| {
        let mut out = Vec::new();
        print_plugin(plugin, &mut out).expect("printed");
        String::from_utf8(out).expect("text")
    };
    let expected = format!(
        "\
dedupe 0.1.0
  world     stateful-filter
  state     version 3
  reads     key
  imports   nothing
  exports   tidegate:plugin/filtering@0.1.0
  size      2.0 KiB
  digest    {}
  limits    time_ms 1000, record_time_ms 100, memory 64.0 MiB, state_bytes 64.0 MiB
            output_bytes 64.0 MiB, records_per_input 10000, component_bytes 64.0 MiB
            table_elements 100000, instances 64, handles 10000
            host_calls_per_record 1000, log_lines_per_s 100, metric_names 64
            unless the configuration says otherwise
  configuration schema:
true
",
        plugin.digest
    );
    assert_eq!(printed(&plugin), expected);
    plugin.state_version = None;
    assert!(!printed(&plugin).contains("\n  state "));
}

#[test]
fn a_plan_says_what_would_be_made_and_changed() {
    let scene = Scene::new();
    let planned = scene.run(&["link", "plan", "orders"]).expect("planned");
    let expected = "\
make dr.orders (from orders) with 4 partitions
  retention.ms: 60000
  ACL: allow Read to User:ann from *
change audit
  partitions: 2 → 4
  retention.ms: 7 → the default
1 of 3 topics are as they should be
move group billing in 1 partitions (uncommitted)
notice: topic old was deleted at the source (source-topic-deleted)
  help: delete the copy by hand
";
    assert_eq!(planned, expected);
    let planned = scene.run(&["link", "plan", "orders", "--json"]).expect("planned");
    let planned: Value = serde_json::from_str(&planned).expect("json");
    assert_eq!(planned["topics"][0]["action"], "make");
    assert_eq!(planned["topics"][0]["partitions_from"], Value::Null);
    assert_eq!(planned["topics"][1]["settings"][0], json!({"name": "retention.ms", "from": "7", "to": null}));
    assert_eq!(told(scene.run(&["link", "plan", "nope"])).0, "there is no link nope");
    let shown = scene.run(&["link", "show", "orders"]).expect("shown");
    assert!(shown.contains("\n  notice: topic old was deleted at the source (source-topic-deleted)\n"), "{shown}");
}
