//! Records that a plugin cannot handle, as an operator sees it: what becomes of them, and of everything else.
//!
//! The plugin `obey` does with each record what its value says, and counts: whatever a bad record leaves behind would show in what the
//! records behind it become.

use serde_json::{Value, json};
use tidegate::api::wire::{Link, LinkStatus, Record, Revision, RevisionOrigin};
use tidegate::model::TopicPartition;
use tidegate::store::Store;

use crate::harness::{Dice, LINKS, Site, percent_encoded, plugin_bytes, wait_until};

const CLUSTERS: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.in]
    partitions = 2
    [clusters.west]
    kind = "embedded"
"#;

/// A link to `west` with the stage `obey`, and what else its configuration says.
fn link(batch_size: u32, settings: &str, stage: &str) -> String {
    format!(
        r#"
        [links.flow]
        source = "east"
        target = "west"
        topics = ["in"]
        [links.flow.config]
        batch_size = {batch_size}
        checkpoint_interval_ms = 5
        {settings}
        [[links.flow.pipeline]]
        stage = "obey"
        plugin = "PLUGINS/obey.wasm"
        {stage}
        "#
    )
}

fn site(settings: &str, stage: &str) -> Site {
    Site::new(&(CLUSTERS.to_owned() + &link(1000, settings, stage)))
}

/// No record is too bad for this link to go on.
const PATIENT: &str =
    "[links.flow.breaker]\nrejected_percent = 100\ntrapped_percent = 100\n[links.flow.probation]\nrecords = 0";

fn order(partition: u64, number: u64, what: &str) -> Value {
    let value = json!({"do": what, "n": number}).to_string();
    json!({"partition": partition, "timestamp": 1000 + number, "key": format!("k{number}"), "value": value})
}

fn letters(site: &Site) -> Vec<Record> {
    let partitions = site.client.ends("west", "flow.dead-letters").len() as u32;
    (0..partitions).flat_map(|partition| site.client.records("west", "flow.dead-letters", partition)).collect()
}

fn header(record: &Record, name: &str) -> String {
    let wanted = format!("tidegate.dlq.{name}");
    let header = record.headers.iter().find(|header| header.name == wanted.as_bytes());
    let value = header.unwrap_or_else(|| panic!("no {wanted}")).value.clone();
    String::from_utf8(value.expect("a value")).expect("text")
}

/// What `obey` has said of each record of a partition, by the record's own number.
fn obeyed(site: &Site, partition: u32) -> Vec<(u64, String)> {
    let said = |record: Record| {
        let value: Value = serde_json::from_slice(&record.value.expect("a value")).expect("JSON");
        let header = record.headers.iter().rev().find(|header| header.name == b"obeyed").expect("obeyed");
        let text = String::from_utf8(header.value.clone().expect("a value")).expect("text");
        (value["n"].as_u64().expect("a number"), text)
    };
    site.client.records("west", "in", partition).into_iter().map(said).collect()
}

#[test]
fn bad_records_become_dead_letters_with_the_reason_and_leave_no_trace() {
    let site = site(PATIENT, "limits = { time_ms = 100, record_time_ms = 30 }");
    let daemon = site.start();
    let bad = [(3, "panic"), (7, "reject"), (8, "loop"), (11, "memory"), (12, "panic")];
    let what = |number| bad.iter().find(|(at, _)| *at == number).map_or("pass", |(_, what)| *what);
    let orders: Vec<Value> = (0..20).map(|number| order(0, number, what(number))).collect();
    site.client.produce("east", "in", &orders);
    site.client.await_caught_up("flow");

    let letters = letters(&site);
    let seen: Vec<_> = letters.iter().map(|letter| (header(letter, "offset"), header(letter, "code"))).collect();
    let codes = ["plugin-panic", "told-to", "plugin-time-limit", "plugin-memory-limit", "plugin-panic"];
    let wanted: Vec<_> = bad.iter().zip(codes).map(|((at, _), code)| (at.to_string(), code.to_owned())).collect();
    assert_eq!(seen, wanted);
    let first = &letters[0];
    let original = &site.client.records("east", "in", 0)[3];
    assert_eq!((&first.key, &first.value, first.timestamp), (&original.key, &original.value, original.timestamp));
    let message = header(first, "message");
    assert!(message.contains("told to") && message.contains("obey/src/lib.rs:"), "{message}");
    for (name, value) in [("link", "flow"), ("cluster", "east"), ("topic", "in"), ("partition", "0"), ("ordinal", "0")]
    {
        assert_eq!(header(first, name), value);
    }
    for (name, value) in [("stage", "obey"), ("plugin", "obey 0.1.0"), ("revision", "1"), ("tries", "2")] {
        assert_eq!(header(first, name), value);
    }
    assert_eq!((header(first, "timestamp"), header(&letters[1], "tries")), ("1003".to_owned(), "1".to_owned()));

    // As if the bad ones had never been there.
    let said = obeyed(&site, 0);
    let good: Vec<u64> = (0..20).filter(|number| what(*number) == "pass").collect();
    assert_eq!(said.iter().map(|(number, _)| *number).collect::<Vec<_>>(), good);
    for (index, (number, text)) in said.iter().enumerate() {
        let start = format!("{} handled, ", index + 1);
        let time = format!("time {}, ", 1000 + number);
        assert!(text.starts_with(&start) && text.contains(&time), "{number}: {text}");
    }

    let link = site.client.link("flow");
    let stage = &link.stages[0];
    assert_eq!((link.status, stage.records_in, stage.records_out), (LinkStatus::Active, 20, 15));
    assert_eq!((stage.rejected, stage.trapped, link.counters.records_put_aside), (1, 4, 5));
    assert_eq!(stage.not_handled_by_code["plugin-panic"], 2);
    assert!(stage.traps_by_kind["plugin-time-limit"] >= 2);
    assert!(stage.state_bytes.is_some_and(|bytes| bytes > 0));
    let events: Value = site.client.read(&format!("{LINKS}/flow/events"));
    let bad = events.as_array().expect("events").iter().filter(|event| event["kind"] == "record-not-handled");
    let counts: std::collections::BTreeMap<_, _> =
        bad.map(|event| (event["code"].as_str().expect("a code"), event["count"].as_u64())).collect();
    assert_eq!((counts["plugin-panic"], counts["told-to"], counts.len()), (Some(2), Some(1), 4));
    daemon.terminate();
}

#[test]
fn each_policy_does_what_it_says() {
    for (policy, numbers, put_aside) in
        [("skip", vec![0, 2, 4], 0), ("pass", vec![0, 1, 2, 3, 4], 0), ("dead-letter", vec![0, 2, 4], 2)]
    {
        let site = site(PATIENT, &format!("on_error = \"{policy}\""));
        let _daemon = site.start();
        let orders = ["ok", "panic", "ok", "reject", "ok"];
        let orders: Vec<Value> = (0..5).map(|number| order(0, number, orders[number as usize])).collect();
        site.client.produce("east", "in", &orders);
        site.client.await_caught_up("flow");
        let number = |record: &Record| {
            let value: Value = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
            value["n"].as_u64().expect("a number")
        };
        let copied: Vec<u64> = site.client.records("west", "in", 0).iter().map(number).collect();
        assert_eq!((copied, letters(&site).len()), (numbers, put_aside), "{policy}");
    }
}

#[test]
fn a_link_that_stops_at_a_bad_record_has_copied_what_is_before_it() {
    let site = site(PATIENT, "on_error = \"stop\"");
    let _daemon = site.start();
    let orders: Vec<Value> = (0..10).map(|n| order(0, n, if n == 6 { "panic" } else { "ok" })).collect();
    site.client.produce("east", "in", &orders);
    wait_until("the link fails", || site.client.link("flow").status == LinkStatus::Failed);
    let trouble = site.client.link("flow").error.expect("an error");
    assert_eq!((trouble.code.as_str(), trouble.place.expect("a place").offset), ("plugin-panic", 6));
    assert_eq!(obeyed(&site, 0).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let partition = &site.client.link("flow").lanes[0].partitions[0];
    assert_eq!(partition.target_offset, Some(6));
}

/// What a link has made of a recorded run: target, dead letters and state.
fn replay(batch_size: u32, orders: &[Value]) -> (Vec<Vec<Record>>, Vec<Record>, String) {
    let pipeline = r#"
        [[links.flow.pipeline]]
        stage = "unique"
        plugin = "PLUGINS/dedupe.wasm"
        config = { max_keys = 20 }
    "#;
    let split = r#"
        [[links.flow.pipeline]]
        stage = "split"
        plugin = "PLUGINS/explode.wasm"
        config = { pointer = "/orders" }
    "#;
    let obey = link(batch_size, PATIENT, "limits = { time_ms = 100, record_time_ms = 30 }");
    let (head, tail) = obey.split_once("[[links").expect("a pipeline");
    let site = Site::new(&format!("{CLUSTERS}{head}{split}[[links{tail}{pipeline}"));
    let daemon = site.start();
    site.client.produce("east", "in", orders);
    site.client.await_caught_up("flow");
    let target = (0..2).map(|partition| site.client.records("west", "in", partition)).collect();
    let letters = letters(&site);
    daemon.terminate();
    let store = Store::open(site.path("data/west.redb"), Default::default()).expect("the store");
    let state = |partition| store.states("flow", &TopicPartition::new("in", partition)).expect("a state");
    (target, letters, format!("{:?} {:?}", state(0), state(1)))
}

#[test]
fn batches_of_any_size_give_the_same_bytes_and_the_same_state() {
    let mut dice = Dice::new(4711);
    let mut one = || {
        let what = ["panic", "reject", "drop", "twice", "not json", "loop"];
        match dice.below(60) {
            0 => what[5],
            roll if roll < 15 => what[roll as usize % 5],
            _ => "ok",
        }
    };
    let orders: Vec<Value> = (0..240_u64)
        .map(|number| {
            let orders: Vec<Value> = (0..number % 4).map(|_| json!({"do": one(), "n": number})).collect();
            let value = json!({"orders": orders}).to_string();
            // Not in the order of time, some far ahead, and keys that come again.
            let time = 1_000_000 + number * 3 % 50 + if number % 37 == 0 { 40 } else { 0 };
            json!({"partition": number % 2, "timestamp": time, "key": format!("k{}", number * 7 % 100), "value": value})
        })
        .collect();
    let whole = replay(1000, &orders);
    let counts = (whole.0[0].len(), whole.0[1].len(), whole.1.len());
    assert!(counts.0 > 50 && counts.1 > 50 && counts.2 > 20, "{counts:?}");
    for batch_size in [1, 7, 50] {
        let cut = replay(batch_size, &orders);
        assert!(cut.0 == whole.0, "the outputs of batches of {batch_size} differ");
        assert!(cut.1 == whole.1, "the dead letters of batches of {batch_size} differ");
        assert!(cut.2 == whole.2, "the state of batches of {batch_size} differs");
    }
}

fn publish(site: &Site, config: &Value) -> Value {
    let config = percent_encoded(&config.to_string());
    let path = format!("{LINKS}/flow/stages/obey/revisions?config={config}");
    let answer = site.client.post(&path, plugin_bytes("obey")).expect("an answer");
    assert!(answer.status < 300, "{}", answer.body);
    answer.json()
}

fn history(site: &Site) -> Vec<Revision> {
    site.client.revisions("flow")
}

/// A day in the life: a plugin that is fine at first.
#[test]
fn a_revision_that_turns_bad_is_replaced_within_its_window_and_history_tells_why() {
    let site = site("", "");
    let daemon = site.start();
    let produce = |range: std::ops::Range<u64>| {
        let orders: Vec<Value> = range.map(|number| order(0, number, "ok")).collect();
        site.client.produce("east", "in", &orders);
    };
    produce(0..500);
    site.client.await_caught_up("flow");
    publish(&site, &json!({"reject_every": 3, "reject_after": 1500}));
    produce(500..5000);
    site.client.await_caught_up("flow");
    wait_until("the revision before is back", || history(&site).len() == 3);
    produce(5000..6000);
    site.client.await_caught_up("flow");

    let revisions = history(&site);
    assert_eq!(revisions.len(), 3, "once is enough");
    let last = &revisions[2];
    assert_eq!(
        (last.origin, last.by.as_str(), last.digest),
        (RevisionOrigin::Automatic, "tidegate", revisions[0].digest)
    );
    let reason = last.reason.as_deref().expect("a reason");
    assert!(reason.starts_with("revision 2 rejected ") && reason.contains("more than 5 %"), "{reason}");
    let story = String::from_utf8(site.cli(&["plugin", "history", "flow"]).stdout).expect("text");
    assert!(story.contains(reason), "{story}");

    // Every record is in the target or in a letter, exactly once.
    let letters = letters(&site);
    let back_at = last.first_offsets[0].offset;
    let mut rejected: Vec<u64> =
        letters.iter().map(|letter| header(letter, "offset").parse().expect("a number")).collect();
    assert!(!rejected.is_empty() && letters.iter().all(|letter| header(letter, "code") == "every-so-many"));
    assert!(rejected.iter().all(|offset| (1000..back_at as u64).contains(offset)), "{rejected:?}");
    rejected.extend(obeyed(&site, 0).iter().map(|(number, _)| *number));
    rejected.sort_unstable();
    assert_eq!(rejected, (0..6000).collect::<Vec<u64>>());
    daemon.terminate();
}

#[test]
fn a_publish_that_comes_before_the_rollback_stays() {
    let site = site("", "");
    let _daemon = site.start();
    let orders: Vec<Value> = (0..2000).map(|number| order(0, number, "ok")).collect();
    for round in 0..3 {
        publish(&site, &json!({"reject_every": 2, "reject_after": round}));
        site.client.produce("east", "in", &orders);
        publish(&site, &json!({"reject_every": 0, "reject_after": round}));
    }
    site.client.await_caught_up("flow");
    let revisions = history(&site);
    // Whoever was first, a good revision is the last, and no rollback has undone a publish that came after the trouble.
    let last = revisions.last().expect("a revision");
    let every =
        |revision: &Revision| serde_json::to_value(&revision.stages[0].config).expect("JSON")["reject_every"].clone();
    assert_eq!(every(last), 0, "{revisions:?}");
    for pair in revisions.windows(2).filter(|pair| pair[1].origin == RevisionOrigin::Automatic) {
        assert_eq!(every(&pair[0]), 2, "{revisions:?}");
    }
}

#[test]
fn too_many_bad_records_pause_the_link_until_somebody_resumes_it() {
    let breaker =
        "[links.flow.breaker]\nwindow_records = 100\nrejected_percent = 20\n[links.flow.probation]\nrecords = 0";
    let site = site(breaker, "");
    let daemon = site.start();
    let orders: Vec<Value> =
        (0..100).map(|number| order(0, number, if number < 50 { "ok" } else { "reject" })).collect();
    site.client.produce("east", "in", &orders[..50]);
    site.client.await_caught_up("flow");
    site.client.produce("east", "in", &orders[50..]);
    let paused = |link: &Link| link.status == LinkStatus::Paused;
    wait_until("the link pauses", || paused(&site.client.link("flow")));
    let trouble = site.client.link("flow").error.expect("the reason");
    assert_eq!(trouble.code, "breaker-open");
    assert!(trouble.message.contains("stage obey rejected 21 records, more than 20 %"), "{}", trouble.message);
    assert!(letters(&site).is_empty(), "the batch that opened the breaker is not committed");

    // The reason outlives the daemon.
    daemon.kill();
    let _daemon = site.start();
    wait_until("the link is paused again", || paused(&site.client.link("flow")));
    assert_eq!(site.client.link("flow").error.expect("the reason").code, "breaker-open");
    publish(&site, &json!({"reject_every": 0}));
    let answer = site.client.post(&format!("{LINKS}/flow/resume"), "").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let events = || site.client.read::<Value>(&format!("{LINKS}/flow/events"));
    let paused_again = |events: Value| events.as_array().expect("events").iter().any(|event| event["kind"] == "paused");
    wait_until("it is paused by the same records", || paused_again(events()));
}

#[test]
fn an_open_breaker_brings_the_revision_before_back_where_it_is_told_to() {
    let breaker = "[links.flow.breaker]\nwindow_records = 100\nrejected_percent = 20\nthen = \"rollback\"\n[links.flow.probation]\nrecords = 0";
    let site = site(breaker, "");
    let _daemon = site.start();
    let orders: Vec<Value> = (0..200).map(|number| order(0, number, "ok")).collect();
    site.client.produce("east", "in", &orders[..10]);
    site.client.await_caught_up("flow");
    publish(&site, &json!({"reject_every": 2}));
    site.client.produce("east", "in", &orders[10..]);
    site.client.await_caught_up("flow");
    let last = history(&site).pop().expect("a revision");
    let reason = last.reason.as_deref().expect("a reason");
    assert_eq!((last.number, last.origin), (3, RevisionOrigin::Automatic));
    assert!(reason.starts_with("revision 2 stage obey rejected 21 records, more than 20 %"), "{reason}");
    // The batch that opened the breaker was given back whole, and the revision before has handled it.
    assert!(letters(&site).is_empty());
    assert_eq!(obeyed(&site, 0).iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..200).collect::<Vec<u64>>());
}

/// One batch, of which only the oldest record is good: each rejected one is ahead of it in time, and what was said of those behind counts
/// only when it is gone.
#[test]
fn thousands_of_bad_records_in_a_batch_are_put_aside_and_the_daemon_lives() {
    let site = Site::new(&(CLUSTERS.to_owned() + &link(100_000, PATIENT, "")));
    let daemon = site.start();
    assert!(site.cli(&["link", "pause", "flow"]).status.success());
    const BAD: u64 = 5000;
    let mut orders: Vec<Value> = (0..BAD).map(|number| order(0, BAD - number, "reject")).collect();
    orders.push(order(0, 0, "ok"));
    site.client.produce("east", "in", &orders);
    assert!(site.cli(&["link", "resume", "flow"]).status.success());
    site.client.await_caught_up("flow");
    let letters = letters(&site);
    let offsets: Vec<_> = letters.iter().map(|letter| header(letter, "offset")).collect();
    assert_eq!(offsets, (0..BAD).map(|offset| offset.to_string()).collect::<Vec<_>>());
    let said = obeyed(&site, 0);
    assert!(said.len() == 1 && said[0].1.starts_with("1 handled, 1 recent, time 1000, "), "{said:?}");
    daemon.terminate();
}
