//! Hot swap as a user sees it, over the command line: publish, roll back, refusals, and links that stopped by themselves.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidegate::api::wire::{LinkStatus, Revision, RevisionOrigin, RevisionState, Swap};

use crate::harness::{LINKS, Site, plugin, plugin_bytes, wait_until};

const CLUSTERS: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.in]
    partitions = 2
    [clusters.west]
    kind = "embedded"
"#;

/// A link with one stage, `keep`.
fn link(id: &str, prefix: &str, config: &str) -> String {
    format!(
        r#"
        [links.{id}]
        source = "east"
        target = "west"
        topics = ["in"]
        topic_prefix = "{prefix}"
        lanes = 2
        [links.{id}.config]
        checkpoint_interval_ms = 5
        [[links.{id}.pipeline]]
        stage = "keep"
        plugin = "PLUGINS/json-filter.wasm"
        on_error = "stop"
        config = {config}
        "#
    )
}

fn one_link() -> Site {
    Site::new(&(CLUSTERS.to_owned() + &link("flow", "", r#"{ pointer = "/n", at_least = 10 }"#)))
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(|n| json!({"partition": n % 2, "value": json!({"n": n}).to_string()})).collect()
}

/// The numbers in a topic of the target, of both partitions, sorted.
fn copied(site: &Site, topic: &str) -> Vec<u64> {
    let partitions = 0..site.client.ends("west", topic).len() as u32;
    let records = partitions.flat_map(|partition| site.client.records("west", topic, partition));
    let number =
        |value: Vec<u8>| serde_json::from_slice::<Value>(&value).expect("JSON")["n"].as_u64().expect("a number");
    let mut numbers: Vec<u64> = records.map(|record| number(record.value.expect("a value"))).collect();
    numbers.sort_unstable();
    numbers
}

fn publish(site: &Site, config: &str) -> Swap {
    let file = plugin("json-filter").display().to_string();
    site.cli_json(&["plugin", "publish", "flow", "keep", &file, "--config", config])
}

fn history(site: &Site) -> Vec<Revision> {
    site.cli_json(&["plugin", "history", "flow"])
}

/// Run a publish that must be refused, with this in the error; nothing may have changed.
fn refused(site: &Site, file: &str, config: Option<&str>, reason: &str) {
    let before = history(site);
    let mut words = vec!["plugin", "publish", "flow", "keep", file];
    words.extend(config.into_iter().flat_map(|config| ["--config", config]));
    let output = site.cli(&words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: ") && error.contains(reason), "expected {reason:?} in {error}");
    assert_eq!(history(site), before);
    assert_eq!(site.client.link("flow").status, LinkStatus::Active);
}

/// A component made of text.
fn component(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.path(name);
    fs::write(&path, wat::parse_str(text).expect("a component")).expect("a file");
    path
}

/// All that came with it in one batch and stands before it is in the target when the lane stops.
#[test]
fn what_precedes_a_record_that_stops_its_lane_is_committed() {
    let config = r#"{ pointer = "/n", at_least = 10 }"#;
    let filter = "[links.flow.filter]\nexclude_patterns = ['nothing like this']\n";
    let second = "[[links.flow.pipeline]]\nstage = \"again\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = { pointer = \"/n\", at_least = 0 }\n";
    for more in ["", filter, second] {
        let site = Site::new(&(CLUSTERS.to_owned() + &link("flow", "", config) + more));
        let daemon = site.start();
        assert!(site.cli(&["link", "pause", "flow"]).status.success());
        let mut records: Vec<Value> =
            (0..30).map(|n| json!({"partition": 0, "value": json!({"n": n}).to_string()})).collect();
        records.insert(25, json!({ "partition": 0, "value": "nonsense" }));
        site.client.produce("east", "in", &records);
        // Its lane may have stopped before this answers.
        site.cli(&["link", "resume", "flow"]);
        wait_until("the lane has stopped", || site.client.link("flow").status == LinkStatus::Failed);
        assert_eq!(copied(&site, "in"), (10..25).collect::<Vec<u64>>(), "{more}");
        let verified = site.cli(&["verify", "flow"]);
        assert_eq!(verified.status.code(), Some(0), "{more}: {}", String::from_utf8_lossy(&verified.stdout));
        daemon.terminate();
    }
}

#[test]
fn a_publish_on_an_idle_link_is_complete_and_is_in_the_history() {
    let site = one_link();
    let daemon = site.start();
    site.client.produce("east", "in", &numbers(0..20));
    site.client.await_caught_up("flow");
    let swap = publish(&site, r#"{"pointer":"/n","at_least":30}"#);
    assert_eq!((swap.revision, swap.state), (2, RevisionState::Complete));
    assert!(swap.swap_pause_us_max.is_some());
    site.client.produce("east", "in", &numbers(20..40));
    site.client.await_caught_up("flow");
    assert_eq!(copied(&site, "in"), (10..20).chain(30..40).collect::<Vec<u64>>());

    let history = history(&site);
    let origins: Vec<_> = history.iter().map(|revision| (revision.number, revision.origin, revision.state)).collect();
    assert_eq!(
        origins,
        [(1, RevisionOrigin::Toml, RevisionState::Superseded), (2, RevisionOrigin::Publish, RevisionState::Complete)]
    );
    assert_ne!(history[0].digest, history[1].digest);
    let firsts = |index: usize| -> Vec<i64> { history[index].first_offsets.iter().map(|first| first.offset).collect() };
    assert_eq!((firsts(0), firsts(1)), (vec![0, 0], vec![10, 10]));
    daemon.terminate();
}

#[test]
fn a_rollback_brings_back_the_content_of_an_earlier_revision() {
    let site = one_link();
    let _daemon = site.start();
    publish(&site, r#"{"pointer":"/n","at_least":30}"#);
    publish(&site, r#"{"pointer":"/n","at_least":50}"#);
    let back: Swap = site.cli_json(&["plugin", "rollback", "flow"]);
    let further: Swap = site.cli_json(&["plugin", "rollback", "flow"]);
    let third: Swap = site.cli_json(&["plugin", "rollback", "flow", "--to", "3"]);
    let history = history(&site);
    assert_eq!((back.revision, further.revision, third.revision), (4, 5, 6));
    assert_eq!([back.digest, further.digest, third.digest], [history[1].digest, history[0].digest, history[2].digest]);
    assert_eq!(history[3].origin, RevisionOrigin::Rollback);
    let output = site.cli(&["plugin", "rollback", "flow", "--to", "99"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_swap_on_a_paused_link_completes_and_moves_nothing() {
    let site = one_link();
    let _daemon = site.start();
    site.cli_json::<Value>(&["link", "pause", "flow"]);
    site.client.produce("east", "in", &numbers(0..40));
    let swap = publish(&site, r#"{"pointer":"/n","at_least":30}"#);
    assert_eq!(swap.state, RevisionState::Complete);
    assert_eq!((site.client.link("flow").status, copied(&site, "in")), (LinkStatus::Paused, vec![]));
    site.cli_json::<Value>(&["link", "resume", "flow"]);
    site.client.await_caught_up("flow");
    assert_eq!(copied(&site, "in"), (30..40).collect::<Vec<u64>>());
}

#[test]
fn a_published_revision_outlives_the_daemon_and_a_changed_file_replaces_it() {
    let site = one_link();
    let daemon = site.start();
    publish(&site, r#"{"pointer":"/n","at_least":30}"#);
    daemon.kill();
    let daemon = site.start();
    site.client.produce("east", "in", &numbers(0..40));
    site.client.await_caught_up("flow");
    assert_eq!(copied(&site, "in"), (30..40).collect::<Vec<u64>>());
    assert_eq!(history(&site).len(), 2);
    daemon.terminate();

    site.configure(&(CLUSTERS.to_owned() + &link("flow", "", r#"{ pointer = "/n", at_least = 45 }"#)));
    let _daemon = site.start();
    site.client.produce("east", "in", &numbers(40..50));
    site.client.await_caught_up("flow");
    assert_eq!(copied(&site, "in"), (30..40).chain(45..50).collect::<Vec<u64>>());
    let history = history(&site);
    assert_eq!((history.len(), history[2].origin), (3, RevisionOrigin::Toml));
}

/// What was published before the first start was once replaced by the file's pipeline at that start.
#[test]
fn a_publish_to_a_link_that_was_never_started_runs_when_it_starts() {
    let stopped =
        link("flow", "", r#"{ pointer = "/n", at_least = 10 }"#).replace("lanes = 2", "lanes = 2\nautostart = false");
    let site = Site::new(&(CLUSTERS.to_owned() + &stopped));
    let _daemon = site.start();
    site.client.produce("east", "in", &numbers(0..40));
    assert_eq!(publish(&site, r#"{"pointer":"/n","at_least":30}"#).revision, 2);
    site.cli_json::<Value>(&["link", "start", "flow"]);
    site.client.await_caught_up("flow");
    assert_eq!(copied(&site, "in"), (30..40).collect::<Vec<u64>>());
    let origins: Vec<_> = history(&site).iter().map(|revision| revision.origin).collect();
    assert_eq!(origins, [RevisionOrigin::Toml, RevisionOrigin::Publish]);
}

#[test]
fn a_refused_publish_changes_nothing_and_says_why() {
    let site = one_link();
    let _daemon = site.start();
    wait_until("the first revision is complete", || history(&site)[0].state == RevisionState::Complete);
    let text = |path: PathBuf| path.display().to_string();
    let filter = text(plugin("json-filter"));
    refused(&site, &text(plugin("redact")), Some(r#"{"pointers":["/n"]}"#), "wrong world");
    refused(&site, &filter, Some(r#"{"pointer":"n","at_least":1}"#), "/pointer");
    refused(&site, &filter, Some(r#"{"pointer":"/n"}"#), "give one of");
    let file = site.path("text.wasm");
    fs::write(&file, "not wasm").expect("a file");
    refused(&site, &text(file), None, "not a WebAssembly component");
    refused(&site, &text(component(&site, "core.wasm", "(module)")), None, "core WebAssembly module");
    let empty = component(&site, "empty.wasm", "(component)");
    refused(&site, &text(empty), None, "exports neither");
    let clock = r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance)))"#;
    refused(&site, &text(component(&site, "clock.wasm", clock)), None, "wasi:clocks/monotonic-clock@0.2.0");
    let state = r#"(component (import "tidegate:plugin/state@0.1.0" (instance)))"#;
    refused(&site, &text(component(&site, "state.wasm", state)), None, "does not export tidegate:plugin/migrating");
    let mut cut = plugin_bytes("json-filter");
    cut.truncate(cut.len() / 2);
    let file = site.path("cut.wasm");
    fs::write(&file, cut).expect("a file");
    refused(&site, &text(file), None, "not a valid component");
    let large = site.path("large.wasm");
    fs::write(&large, vec![0; (64 << 20) + 1]).expect("a file");
    refused(&site, &text(large), None, "large");
    let output = site.cli(&["plugin", "publish", "flow", "kept", &filter]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no stage kept"), "{output:?}");
}

#[test]
fn a_rejected_record_stops_its_link_alone_and_nothing_is_lost_or_doubled() {
    let strict = link("flow", "", r#"{ pointer = "/n", at_least = 0, missing = "reject" }"#);
    let other = link("other", "other-", r#"{ pointer = "/n", at_least = 0, missing = "drop" }"#);
    let site = Site::new(&(CLUSTERS.to_owned() + &strict + &other));
    let daemon = site.start();
    site.client.produce("east", "in", &numbers(0..10));
    site.client.await_caught_up("flow");
    site.client.produce("east", "in", &[json!({"partition": 1, "value": r#"{"m":1}"#})]);
    site.client.produce("east", "in", &numbers(10..20));
    wait_until("the link fails", || site.client.link("flow").status == LinkStatus::Failed);

    let trouble = site.client.link("flow").error.expect("an error");
    let place = trouble.place.expect("a place");
    assert_eq!((trouble.code.as_str(), trouble.stage.as_deref()), ("record-rejected", Some("keep")));
    assert_eq!((place.topic.as_str(), place.partition, place.offset), ("in", 1, 5));
    assert!(trouble.message.contains("\"/n\""), "{}", trouble.message);
    site.client.await_caught_up("other");
    assert_eq!(copied(&site, "other-in"), (0..20).collect::<Vec<u64>>());
    assert_eq!(site.client.link("other").status, LinkStatus::Active);

    // What was committed stays, also over a crash; and the record is still refused.
    daemon.kill();
    let _daemon = site.start();
    wait_until("the link fails again", || site.client.link("flow").status == LinkStatus::Failed);
    let before = copied(&site, "in");
    assert!((0..10).all(|n| before.contains(&n)), "{before:?}");

    publish(&site, r#"{"pointer":"/n","at_least":0,"missing":"drop"}"#);
    site.cli_json::<Value>(&["link", "start", "flow"]);
    site.client.await_caught_up("flow");
    assert_eq!(copied(&site, "in"), (0..20).collect::<Vec<u64>>());
}

#[test]
fn a_revision_that_traps_is_replaced_by_the_one_before_by_itself() {
    let site = one_link();
    let _daemon = site.start();
    site.client.produce("east", "in", &numbers(0..20));
    site.client.await_caught_up("flow");
    let broken = component(&site, "trap.wasm", TRAPS);
    let answer =
        site.client.post(&format!("{LINKS}/flow/stages/keep/revisions"), fs::read(broken).expect("the component"));
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    site.client.produce("east", "in", &numbers(20..22));
    wait_until("the revision before is back", || history(&site).len() == 3);
    let revisions = history(&site);
    let reason = revisions[2].reason.as_deref().expect("a reason");
    assert_eq!((revisions[2].origin, revisions[2].digest), (RevisionOrigin::Automatic, revisions[0].digest));
    assert!(
        reason.contains("revision 2") && reason.contains("at offset 10") && reason.contains("unreachable"),
        "{reason}"
    );
    wait_until("both records were copied", || copied(&site, "in") == (10..22).collect::<Vec<u64>>());
    assert_eq!(site.client.link("flow").status, LinkStatus::Active);
}

/// A filter that takes every configuration and traps on every batch.
const TRAPS: &str = include_str!("traps.wat");
