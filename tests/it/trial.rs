//! A revision on trial that does not pass is undone whole: the stages remember what they did when it began.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate::api::wire::{LinkStatus, Revision, RevisionOrigin, Swap};
use tidegate::model::{StateChange, StoredState, StoredStates, TopicPartition};
use tidegate::store::{Command, CommitLane, Outcome, Store};

use crate::harness::{Daemon, LINKS, Site, plugin, wait_until};

/// A link with the stage `once`, whose plugin remembers.
fn site(plugin: &str, config: &str, more: &str) -> Site {
    Site::new(&links("once", plugin, config, more))
}

fn links(stage: &str, plugin: &str, config: &str, more: &str) -> String {
    format!(
        r#"
        [clusters.east]
        kind = "embedded"
        topics.in = {{ partitions = 1 }}
        [clusters.west]
        kind = "embedded"
        [links.flow]
        source = "east"
        target = "west"
        topics = ["in"]
        [links.flow.config]
        checkpoint_interval_ms = 5
        {more}
        [[links.flow.pipeline]]
        stage = "{stage}"
        plugin = "PLUGINS/{plugin}.wasm"
        config = {config}
        "#
    )
}

const DEDUPE: &str = "{ by = \"key\", max_age_ms = 3600000 }";

/// Records of these keys, which are no JSON.
fn keyed(keys: std::ops::Range<u64>) -> Vec<Value> {
    keys.map(|key| json!({"key": format!("k{key}"), "timestamp": 1_000_000 + key, "value": "text"})).collect()
}

fn produce(site: &Site, records: &[Value]) {
    site.client.produce("east", "in", records);
    site.client.await_caught_up("flow");
}

fn publish(site: &Site, name: &str, config: &Value) {
    let (file, config) = (plugin(name).display().to_string(), config.to_string());
    let _swap: Swap = site.cli_json(&["plugin", "publish", "flow", "once", &file, "--config", &config]);
}

/// How often each key is in the target.
fn copies(site: &Site) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for record in site.client.records("west", "in", 0) {
        *copies.entry(String::from_utf8_lossy(&record.key.unwrap_or_default()).into_owned()).or_default() += 1;
    }
    copies
}

fn await_rollback(site: &Site) {
    let is_back = || {
        let history: Vec<Revision> = site.client.revisions("flow");
        history.last().is_some_and(|last| last.origin == RevisionOrigin::Automatic)
            && site.client.link("flow").status == LinkStatus::Active
    };
    wait_until("the revision before is back", is_back);
}

fn assert_verified(site: &Site) {
    let verified = site.cli(&["verify", "flow"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// What of state is stored when the daemon has ended.
fn stored(site: &Site, daemon: Daemon) -> BTreeMap<String, StoredState> {
    daemon.terminate();
    let store = Store::open(site.path("data/west.redb"), Default::default()).expect("the store");
    let StoredStates { states, left } = store.states("flow", &TopicPartition::new("in", 0)).expect("states");
    assert_eq!(left, BTreeMap::new(), "entries without a head");
    states
}

/// With the trial: end the daemon and start it again. Without it: nothing.
fn again(site: &Site, daemon: Daemon, restarts: bool) -> Daemon {
    if !restarts {
        return daemon;
    }
    daemon.kill();
    let daemon = site.start();
    wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
    daemon
}

/// Whether the daemon dies amid the trial, and whether a bad record stops the lane, which then opens under the revision that came back.
const WAYS: [(bool, bool); 3] = [(false, false), (true, false), (false, true)];

fn with_policy(config: &str, stops: bool) -> String {
    format!("{config}\non_error = \"{}\"", if stops { "stop" } else { "dead-letter" })
}

#[test]
fn a_stage_that_had_no_state_on_trial_has_its_own_again() {
    for (restarts, stops) in WAYS {
        let site = site("dedupe", &with_policy(DEDUPE, stops), "");
        let daemon = site.start();
        produce(&site, &keyed(0..200));
        publish(&site, "json-filter", &json!({"pointer": "/n", "at_least": 0}));
        produce(&site, &[json!({"key": "good", "value": "{\"n\":1}"})]);
        let daemon = again(&site, daemon, restarts);
        // None of them is JSON.
        site.client.produce("east", "in", &keyed(200..400));
        await_rollback(&site);
        produce(&site, &keyed(0..200));
        let copies = copies(&site);
        assert!(copies.values().all(|count| *count == 1), "doubled after the rollback: {copies:?}");
        assert_eq!(copies.len(), if stops { 401 } else { 201 });
        assert_verified(&site);
        let stored = stored(&site, daemon);
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["once"]);
        assert_eq!((stored["once"].head.departed, stored["once"].rows.len() >= 200), (None, true));
    }
}

#[test]
fn what_a_plugin_on_trial_did_to_the_state_is_undone() {
    for (restarts, stops) in WAYS {
        let site = site("obey", &with_policy("{}", stops), "");
        let daemon = site.start();
        let order = |n: u64| json!({"timestamp": 1000 + n, "value": json!({"do": "pass", "n": n}).to_string()});
        produce(&site, &(0..50).map(order).collect::<Vec<_>>());
        publish(&site, "obey", &json!({"reject_every": 1, "reject_after": 60}));
        produce(&site, &(50..60).map(order).collect::<Vec<_>>());
        let daemon = again(&site, daemon, restarts);
        site.client.produce("east", "in", &(60..260).map(order).collect::<Vec<_>>());
        await_rollback(&site);
        produce(&site, &[order(300)]);
        // The first record that the revision handled which came back: the others were put aside, or it was the one that had stopped the lane.
        let records = site.client.records("west", "in", 0);
        let header = records[60].headers.iter().find(|header| header.name == b"obeyed");
        let said = String::from_utf8(header.and_then(|header| header.value.clone()).expect("obeyed")).expect("text");
        assert!(said.starts_with("51 handled, "), "the stage goes on where the trial began, and says: {said}");
        assert_verified(&site);
        assert_eq!(stored(&site, daemon).keys().collect::<Vec<_>>(), ["once"]);
    }
}

#[test]
fn a_rollback_within_the_trial_has_the_old_layout_as_it_was() {
    let site = site("counter", "{ keep_ms = 1000000, fragile = true }", "");
    let daemon = site.start();
    let record = |n: u64| json!({"key": "k", "timestamp": 1000 + n, "value": "{}"});
    produce(&site, &(0..10).map(record).collect::<Vec<_>>());
    publish(&site, "counter-2", &json!({"keep_ms": 1_000_000, "fragile": true}));
    produce(&site, &(10..15).map(record).collect::<Vec<_>>());
    let _swap: Swap = site.cli_json(&["plugin", "rollback", "flow"]);
    produce(&site, &[record(20)]);
    let records = site.client.records("west", "in", 0);
    let headers = &records.last().expect("a record").headers;
    let count = headers.iter().find(|header| header.name == b"count").and_then(|header| header.value.clone());
    let count = String::from_utf8(count.expect("a count")).expect("text");
    assert_eq!(count, "11 of 11", "ten were counted before the trial");
    assert_verified(&site);
    assert_eq!(stored(&site, daemon).keys().collect::<Vec<_>>(), ["once"]);
}

/// Each value names a key of the second range, which a stage that goes by `/x` remembers.
fn naming(keys: std::ops::Range<u64>, named: std::ops::Range<u64>) -> Vec<Value> {
    let naming = |(key, named)| json!({"n": key, "x": format!("k{named}")}).to_string();
    let values = keys.clone().zip(named).map(naming);
    let mut records = keyed(keys);
    records.iter_mut().zip(values).for_each(|(record, value)| record["value"] = value.into());
    records
}

fn roll_back(site: &Site) {
    let _swap: Swap = site.cli_json(&["plugin", "rollback", "flow"]);
}

fn say(site: &Site, what: &str) {
    let said = site.cli(&["link", what, "flow"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// What the stage saw before the trial is dropped as seen, and what it saw in the trial alone is not.
fn assert_undone(site: &Site) {
    produce(site, &naming(0..100, 1000..1100));
    produce(site, &naming(200..300, 1100..1200));
    let copies = copies(site);
    let of = |keys: std::ops::Range<u64>| keys.map(|key| copies.get(&format!("k{key}")).copied().unwrap_or_default());
    assert_eq!(of(0..100).filter(|count| *count != 1).count(), 0, "doubled: {copies:?}");
    assert_eq!(of(200..300).filter(|count| *count != 1).count(), 0, "taken for seen: {copies:?}");
    assert_verified(site);
}

#[test]
fn a_rollback_that_no_lane_runs_undoes_the_trial_all_the_same() {
    let by_value = ("dedupe", json!({"by": {"pointer": "/x"}, "max_age_ms": 3_600_000}));
    let by_key = ("dedupe", json!({"by": "key", "max_age_ms": 1_800_000}));
    let filter = |least: i64| ("json-filter", json!({"pointer": "/n", "at_least": least}));
    // What is on trial, what is published after the rollback, and whether that is undone too.
    let ways = [
        (by_value.clone(), by_key.clone(), false),
        (by_value.clone(), by_value.clone(), true),
        (by_value, filter(0), true),
        (filter(0), by_key, false),
        (filter(0), filter(-1), true),
    ];
    for ((trial, trial_config), (next, next_config), is_undone_too) in ways {
        let way = format!("{trial} {trial_config}, then {next} {next_config}");
        println!("{way}");
        let site = site("dedupe", DEDUPE, "");
        let daemon = site.start();
        produce(&site, &naming(0..100, 2000..2100));
        publish(&site, trial, &trial_config);
        produce(&site, &naming(100..200, 200..300));
        say(&site, "stop");
        roll_back(&site);
        publish(&site, next, &next_config);
        say(&site, "start");
        if is_undone_too {
            produce(&site, &naming(400..500, 200..300));
            roll_back(&site);
        }
        assert_undone(&site);
        assert_eq!(stored(&site, daemon).keys().filter(|name| name.contains("@2")).count(), 0, "{way}");
    }
}

fn await_passed(site: &Site) {
    let has_passed = || {
        let events: Value = site.client.read(&format!("{LINKS}/flow/events"));
        events.as_array().is_some_and(|events| events.iter().any(|event| event["kind"] == "probation-passed"))
    };
    wait_until("the probation is over", has_passed);
    // The lane looks between two batches.
    (0..3).for_each(|n| produce(site, &naming(700 + n..701 + n, 700..701)));
}

const SHORT_PROBATION: &str = "[links.flow.probation]\nrecords = 50";

#[test]
fn a_rollback_after_the_probation_has_passed_undoes_what_the_history_says() {
    for (restarts, trial) in [(false, "dedupe"), (true, "dedupe"), (false, "json-filter"), (true, "json-filter")] {
        let site = site("dedupe", DEDUPE, SHORT_PROBATION);
        let daemon = site.start();
        produce(&site, &naming(0..100, 2000..2100));
        let config = match trial {
            "dedupe" => json!({"by": {"pointer": "/x"}, "max_age_ms": 3_600_000}),
            _ => json!({"pointer": "/n", "at_least": 0}),
        };
        publish(&site, trial, &config);
        produce(&site, &naming(100..200, 200..300));
        await_passed(&site);
        let daemon = again(&site, daemon, restarts);
        roll_back(&site);
        assert_undone(&site);
        assert_eq!(stored(&site, daemon).keys().collect::<Vec<_>>(), ["once"]);
    }
}

/// Set the time back at which the newest revision was published, and with it the end of its trial.
fn publish_an_hour_ago(site: &Site) {
    let store = Store::open(site.path("data/west.redb"), Default::default()).expect("the store");
    let stored = store.metadata("flow", "revisions").expect("readable").expect("a history");
    let mut history: Value = serde_json::from_slice(&stored).expect("JSON");
    let newest = history["revisions"].as_array_mut().and_then(|revisions| revisions.last_mut()).expect("a revision");
    for time in ["at_ms", "trial_until_ms"] {
        newest[time] = (newest[time].as_i64().expect("a time") - 3_600_000).into();
    }
    let value = history.to_string().into_bytes();
    let replaced = Command::PutMetadata { link: "flow".into(), key: "revisions".to_owned(), value };
    store.execute(replaced).expect("stored");
}

#[test]
fn what_was_kept_is_dropped_when_the_time_of_the_trial_is_over() {
    let site = site("dedupe", DEDUPE, SHORT_PROBATION);
    let daemon = site.start();
    produce(&site, &keyed(0..200));
    publish(&site, "json-filter", &json!({"pointer": "/n", "at_least": 0}));
    produce(&site, &naming(300..450, 300..450));
    await_passed(&site);
    assert_eq!(stored(&site, daemon)["once"].head.departed.map(|trial| trial.0), Some(2), "it can still be undone");
    publish_an_hour_ago(&site);
    let daemon = site.start();
    wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
    (0..3).for_each(|n| produce(&site, &naming(500 + n..501 + n, 0..1)));
    assert!(stored(&site, daemon).is_empty());
}

/// The file says less now than when the revision was published, as it may say at another daemon.
#[test]
fn another_probation_moves_no_trial_that_is_under_way() {
    let site = site("dedupe", DEDUPE, "[links.flow.probation]\ntime = \"2h\"");
    let daemon = site.start();
    produce(&site, &naming(0..100, 2000..2100));
    publish(&site, "dedupe", &json!({"by": {"pointer": "/x"}, "max_age_ms": 3_600_000}));
    produce(&site, &naming(100..200, 200..300));
    daemon.terminate();
    publish_an_hour_ago(&site);
    site.configure(&links("once", "dedupe", DEDUPE, "[links.flow.probation]\ntime = \"1s\""));
    let daemon = site.start();
    wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
    // The lane looks between two batches.
    (0..3).for_each(|n| produce(&site, &naming(700 + n..701 + n, 700..701)));
    roll_back(&site);
    let history = site.client.revisions("flow");
    assert_eq!(history.last().and_then(|last| last.undoes), Some(2), "{history:?}");
    assert_undone(&site);
    assert_eq!(stored(&site, daemon).keys().collect::<Vec<_>>(), ["once"]);
}

/// Larger than what one commit drops.
#[test]
fn a_large_state_is_dropped_with_several_commits() {
    let site = site("dedupe", DEDUPE, "");
    let daemon = site.start();
    (0..7).for_each(|part| produce(&site, &keyed(part * 10_000..(part + 1) * 10_000)));
    publish(&site, "json-filter", &json!({"pointer": "/n", "at_least": 0}));
    assert!(stored(&site, daemon)["once"].rows.len() >= 70_000);
    publish_an_hour_ago(&site);
    let daemon = site.start();
    wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
    // Each waits for a commit.
    (0..4).for_each(|n| produce(&site, &naming(500 + n..501 + n, 0..1)));
    assert!(stored(&site, daemon).is_empty());
}

/// As after a crash between the commits that drop the state of the stage.
fn leave_entries_without_a_head(site: &Site) {
    let store = Store::open(site.path("data/west.redb"), Default::default()).expect("the store");
    let opened = store.execute(Command::OpenLane { link: "flow".into(), lane: 0 }).expect("opened");
    let Outcome::Opened(epoch) = opened else { panic!("{opened:?}") };
    let (stage, partition) = ("once".to_owned(), TopicPartition::new("in", 0));
    let gone = StateChange { stage, partition: partition.clone(), head: None, rows: BTreeMap::new() };
    let commit = CommitLane {
        link: "flow".into(),
        lane: 0,
        epoch,
        appends: Vec::new(),
        checkpoints: BTreeMap::new(),
        verbatim: true,
        states: vec![gone],
        revision_starts: BTreeMap::new(),
    };
    store.execute(Command::CommitLane(commit)).expect("committed");
    let left = store.states("flow", &partition).expect("states");
    assert_eq!((left.states.len(), left.left["once"].len() >= 200), (0, true));
}

#[test]
fn what_a_crash_has_left_of_a_dropped_state_is_dropped_and_is_no_state() {
    for stage in ["once", "another"] {
        let site = site("dedupe", DEDUPE, "");
        let daemon = site.start();
        produce(&site, &keyed(0..200));
        daemon.terminate();
        leave_entries_without_a_head(&site);
        // Another stage of the same name begins, or none.
        site.configure(&links(stage, "dedupe", DEDUPE, "[links.flow.probation]\nrecords = 0"));
        let daemon = site.start();
        wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
        (0..3).for_each(|n| produce(&site, &keyed(n * 10..(n + 1) * 10)));
        let copies = copies(&site);
        assert!((0..30).all(|key| copies[&format!("k{key}")] == 2), "it remembered what was dropped: {copies:?}");
        let stored = stored(&site, daemon);
        assert_eq!(stored.keys().collect::<Vec<_>>(), [stage]);
        assert!(stored[stage].rows.len() < 200, "{} entries", stored[stage].rows.len());
    }
}

#[test]
fn a_reset_that_forgets_leaves_nothing_behind() {
    let site = site("dedupe", DEDUPE, "");
    let daemon = site.start();
    (0..7).for_each(|part| produce(&site, &keyed(part * 10_000..(part + 1) * 10_000)));
    say(&site, "stop");
    let reset = site.cli(&["link", "reset", "flow", "--topic", "in", "--to", "latest", "--forget-state"]);
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    assert!(stored(&site, daemon).is_empty());
}

/// Without records, so that none of them can fail its probation.
fn publish_all(site: &Site, configs: &[&Value]) {
    configs.iter().for_each(|config| publish(site, "obey", config));
}

/// Two revisions of one content are two revisions: what is brought back is the one before, whatever
/// had its content, or that of the bad one, earlier.
#[test]
fn a_bad_revision_goes_to_the_one_before_it_whatever_had_the_same_content_earlier() {
    let (good, other) = (json!({}), json!({"reject_every": 2, "reject_after": 1_000_000}));
    let bad = json!({"reject_every": 1});
    // What is published behind `bad` of the file, or behind `good`; and what comes back.
    let ways = [
        (&bad, vec![&good, &bad], 2, &good),
        (&good, vec![&bad, &other, &bad], 3, &other),
        (&good, vec![&bad, &other, &good, &bad], 4, &good),
    ];
    for (first, published, back, expected) in ways {
        let first = format!("{{ reject_every = {} }}", first["reject_every"].as_i64().unwrap_or(0));
        let site = site("obey", &with_policy(&first, false), "");
        let daemon = site.start();
        publish_all(&site, &published);
        let order = |n: u64| json!({"timestamp": 1000 + n, "value": json!({"do": "pass", "n": n}).to_string()});
        site.client.produce("east", "in", &(0..200).map(order).collect::<Vec<_>>());
        await_rollback(&site);
        let history = site.client.revisions("flow");
        let last = history.last().expect("a revision");
        assert_eq!((last.restores, &last.stages[0].config.to_string()), (Some(back), &expected.to_string()));
        let told = site.cli(&["plugin", "history", "flow"]);
        let told = String::from_utf8(told.stdout).expect("text");
        assert!(told.contains(&format!(" brought revision {back} back")), "{told}");
        daemon.terminate();
    }
}

/// By hand, one at a time, through revisions of the same content.
#[test]
fn rollbacks_by_hand_go_back_revision_by_revision() {
    let site = site("obey", "{}", "");
    let daemon = site.start();
    let (one, two) = (json!({"reject_after": 1}), json!({"reject_after": 2}));
    publish_all(&site, &[&one, &two, &one]);
    for restored in [3, 2, 1] {
        roll_back(&site);
        assert_eq!(site.client.revisions("flow").last().and_then(|last| last.restores), Some(restored));
    }
    let refused = site.cli(&["plugin", "rollback", "flow"]);
    assert!(!refused.status.success(), "there is nothing before the first");
    daemon.terminate();
}

/// How a trial ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    ByHand,
    Automatic,
    /// While no lane runs.
    Stopped,
    /// The same, and with another revision behind it: no lane ever runs the one that went back.
    PassedBy,
}

/// A link that follows topics that come later.
fn following(plugin: &str, config: &str, more: &str) -> Site {
    let links = links("once", plugin, config, more);
    Site::new(&links.replace("topics = [\"in\"]", "topics = [\"in\", \"later\"]\ntopic_refresh = \"100ms\""))
}

/// Make the topic `later`, and copy these records of it.
fn produce_later(site: &Site, records: &[Value]) {
    let _there = site.cli(&["topic", "create", "east", "later"]);
    site.client.produce("east", "later", records);
    site.client.await_caught_up("flow");
}

fn end_trial(site: &Site, end: End, next: &Value) {
    match end {
        End::ByHand => roll_back(site),
        End::Automatic => {
            // They have no pointer to go by.
            site.client.produce("east", "in", &keyed(3000..3300));
            await_rollback(site);
        }
        End::Stopped | End::PassedBy => {
            say(site, "stop");
            roll_back(site);
            if end == End::PassedBy {
                publish(site, "dedupe", next);
            }
            say(site, "start");
        }
    }
    wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
}

/// What of the state of a topic's partition is stored when the daemon has ended.
fn stored_of(site: &Site, topic: &str) -> BTreeMap<String, StoredState> {
    let store = Store::open(site.path("data/west.redb"), Default::default()).expect("the store");
    store.states("flow", &TopicPartition::new(topic, 0)).expect("states").states
}

/// Nothing was remembered of it before the trial, so nothing of the trial is afterwards.
#[test]
fn a_partition_that_begins_in_a_trial_has_no_state_when_that_is_undone() {
    let by_value = json!({"by": {"pointer": "/x"}, "max_age_ms": 3_600_000});
    let by_key = json!({"by": "key", "max_age_ms": 1_800_000});
    for end in [End::ByHand, End::Automatic, End::Stopped, End::PassedBy] {
        for restarts in [false, true] {
            println!("{end:?}, restarts {restarts}");
            let site = following("dedupe", &with_policy(DEDUPE, false), "");
            let daemon = site.start();
            produce(&site, &naming(1000..1100, 2000..2100));
            publish(&site, "dedupe", &by_value);
            // From now on the state of `later` has the keys of the next records.
            produce_later(&site, &naming(200..300, 0..100));
            let daemon = again(&site, daemon, restarts);
            end_trial(&site, end, &by_key);
            produce_later(&site, &naming(0..100, 5000..5100));
            produce_later(&site, &naming(0..100, 6000..6100));
            let records = site.client.records("west", "later", 0);
            let keys: Vec<_> = records.into_iter().filter_map(|record| record.key).collect();
            let of = |key: u64| keys.iter().filter(|found| **found == format!("k{key}").into_bytes()).count();
            assert_eq!(
                (0..100).filter(|key| of(*key) != 1).count(),
                0,
                "it goes by what the trial has seen, or nothing"
            );
            assert_verified(&site);
            daemon.terminate();
            let stored = stored_of(&site, "later");
            assert_eq!(stored.keys().collect::<Vec<_>>(), ["once"]);
            assert_eq!(stored["once"].rows.len(), 100, "nothing of the trial is left");
        }
    }
}

/// The stage had no state before the trial: of no partition is there any afterwards.
#[test]
fn a_state_that_began_in_a_trial_is_gone_when_that_is_undone() {
    let by_key = json!({"by": "key", "max_age_ms": 1_800_000});
    for restarts in [false, true] {
        let site = following("json-filter", "{ pointer = \"/n\", at_least = 0 }", "");
        let daemon = site.start();
        produce(&site, &naming(1000..1100, 2000..2100));
        publish(&site, "dedupe", &json!({"by": "key", "max_age_ms": 3_600_000}));
        produce(&site, &naming(0..100, 0..100));
        produce_later(&site, &naming(0..100, 0..100));
        let daemon = again(&site, daemon, restarts);
        end_trial(&site, End::PassedBy, &by_key);
        produce(&site, &naming(0..100, 0..100));
        produce_later(&site, &naming(0..100, 0..100));
        for topic in ["in", "later"] {
            let keys = site.client.records("west", topic, 0).into_iter().filter_map(|record| record.key);
            let found = keys.filter(|key| key == b"k7").count();
            assert_eq!(found, 2, "{topic}: once in the trial and once after it");
        }
        assert_verified(&site);
        daemon.terminate();
    }
}

/// A stage that the trial has not changed goes on as ever, also where it has begun in it.
#[test]
fn a_partition_that_begins_in_the_trial_of_another_stage_keeps_its_state() {
    for restarts in [false, true] {
        let more = "[[links.flow.pipeline]]\nstage = \"first\"\nplugin = \"PLUGINS/dedupe.wasm\"\nconfig = { by = \"key\", max_age_ms = 3600000 }";
        let site = following("json-filter", "{ pointer = \"/n\", at_least = 0 }", more);
        let daemon = site.start();
        produce(&site, &naming(1000..1100, 2000..2100));
        publish(&site, "json-filter", &json!({"pointer": "/n", "at_least": -1}));
        produce_later(&site, &naming(0..100, 0..100));
        let daemon = again(&site, daemon, restarts);
        end_trial(&site, End::ByHand, &Value::Null);
        produce_later(&site, &naming(0..100, 0..100));
        assert_eq!(site.client.records("west", "later", 0).len(), 100, "seen is seen");
        assert_verified(&site);
        daemon.terminate();
    }
}

/// When the trial is over nobody can undo it: the state is one like any other.
#[test]
fn a_state_that_began_in_a_trial_stays_when_that_has_passed() {
    let site = following("dedupe", DEDUPE, SHORT_PROBATION);
    let daemon = site.start();
    produce(&site, &naming(1000..1100, 2000..2100));
    publish(&site, "dedupe", &json!({"by": "key", "max_age_ms": 1_800_000}));
    produce_later(&site, &naming(0..100, 0..100));
    await_passed(&site);
    daemon.terminate();
    assert_eq!(stored_of(&site, "later")["once"].head.begun.map(|trial| trial.0), Some(2), "it can still be undone");
    publish_an_hour_ago(&site);
    let daemon = site.start();
    wait_until("the link runs", || site.client.link("flow").status == LinkStatus::Active);
    (0..3).for_each(|n| produce_later(&site, &naming(500 + n..501 + n, 0..1)));
    roll_back(&site);
    produce_later(&site, &naming(0..100, 0..100));
    assert_eq!(site.client.records("west", "later", 0).len(), 103, "seen is seen");
    daemon.terminate();
    assert_eq!(stored_of(&site, "later")["once"].head.begun, None);
}
