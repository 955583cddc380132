//! Timestamps that cannot be true: what producers with a broken clock do to what stages remember,
//! to retention and to lag.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidegate::api::wire::{LinkStatus, Record, Topic, Verdict, Verification};

use crate::harness::{Site, wait_until};

const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;

/// Beyond every clock: microseconds and nanoseconds for milliseconds, and what a program writes
/// that has not set it.
fn absurd(now: i64) -> [i64; 4] {
    [now * 1000, now + 2 * HOUR, i64::MAX, now.saturating_mul(1_000_000)]
}

/// Before everything.
const ANCIENT: [i64; 4] = [i64::MIN, i64::MIN + 1, -1, 0];

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

const CLUSTERS: &str = r#"
    [clusters.east]
    kind = "embedded"
    topics.in = { partitions = 1 }
    [clusters.west]
    kind = "embedded"
    [links.flow]
    source = "east"
    target = "west"
    topics = ["in"]
    config = { checkpoint_interval_ms = 5 }
    breaker = { rejected_percent = 100, trapped_percent = 100 }
    probation = { records = 0 }
"#;

fn dedupe(stage: &str) -> String {
    let config = "config = { by = \"key\", max_age_ms = 10000 }";
    format!("{CLUSTERS}[[links.flow.pipeline]]\nstage = \"d\"\nplugin = \"PLUGINS/dedupe.wasm\"\n{config}\n{stage}\n")
}

fn record(key: &str, timestamp: i64) -> Value {
    json!({"partition": 0, "key": key, "value": "v", "timestamp": timestamp})
}

/// The keys of a topic's records.
fn keys(site: &Site, topic: &str) -> Vec<String> {
    let key = |record: Record| String::from_utf8(record.key.expect("a key")).expect("text");
    site.client.records("west", topic, 0).into_iter().map(key).collect()
}

fn header(letter: &Record, name: &str) -> String {
    let wanted = format!("tidegate.dlq.{name}");
    let header = letter.headers.iter().find(|header| header.name == wanted.as_bytes()).expect(name);
    String::from_utf8(header.value.clone().expect("a value")).expect("text")
}

fn assert_is_fine(site: &Site) {
    let done: Verification = site.cli_json(&["verify", "flow"]);
    assert_eq!(done.verdict, Some(Verdict::Fine), "{done:?}");
}

#[test]
fn a_timestamp_ahead_of_all_clocks_ends_no_memory() {
    let site = Site::new(&dedupe(""));
    let _daemon = site.start();
    let now = now();
    // The night before the second record was quiet: that it is ahead of the record time alone is
    // nothing.
    let mut records = vec![record("old", now - 20 * HOUR), record("a", now)];
    records.extend(absurd(now).map(|timestamp| record("bad", timestamp)));
    records.extend(ANCIENT.map(|timestamp| record("a", timestamp)));
    records.extend([record("a", now + 1), record("b", now + 2), record("b", now + 3), record("a", now + 20_000)]);
    // In one batch and record by record: it makes no difference.
    site.client.produce("east", "in", &records);
    site.client.await_caught_up("flow");
    let again =
        [record("a", now + 20_001), record("bad", now * 1000), record("a", now + 20_002), record("a", now + 40_000)];
    for record in again {
        site.client.produce("east", "in", &[record]);
        site.client.await_caught_up("flow");
    }
    assert_eq!(keys(&site, "in"), ["old", "a", "b", "a", "a"], "what is known is known, and expires in its time");
    let letters = site.client.records("west", "flow.dead-letters", 0);
    assert_eq!(keys(&site, "flow.dead-letters"), ["bad"; 5]);
    for letter in &letters {
        assert_eq!((header(letter, "code").as_str(), header(letter, "stage").as_str()), ("timestamp-ahead", "d"));
        assert!(
            header(letter, "message").contains("is more than 1h ahead of the clock"),
            "{}",
            header(letter, "message")
        );
    }
    assert_is_fine(&site);
}

/// A rejected record does not move the record time, so what comes behind it is judged as if it had
/// never been there: in one batch as in many.
#[test]
fn a_rejected_record_makes_no_other_one_timely() {
    let minutes = |count: i64| now() + count * 60_000;
    let value = |number: u32, what: &str| json!({"do": what, "n": number}).to_string();
    let records = [(0, "", 0), (1, "reject", 50), (2, "", 100), (3, "", 1)].map(|(number, what, minute)| {
        json!({"partition": 0, "key": number.to_string(), "value": value(number, what), "timestamp": minutes(minute)})
    });
    for batch_size in [1, 1000] {
        let stage = "[[links.flow.pipeline]]\nstage = \"o\"\nplugin = \"PLUGINS/obey.wasm\"\n";
        let sized = CLUSTERS
            .replace("checkpoint_interval_ms = 5", &format!("checkpoint_interval_ms = 5, batch_size = {batch_size}"));
        let site = Site::new(&format!("{sized}{stage}"));
        let _daemon = site.start();
        site.client.produce("east", "in", &records);
        site.client.await_caught_up("flow");
        assert_eq!(keys(&site, "in"), ["0", "3"], "{batch_size}");
        let letters = site.client.records("west", "flow.dead-letters", 0);
        assert_eq!(keys(&site, "flow.dead-letters"), ["1", "2"], "{batch_size}");
        assert_ne!(header(&letters[0], "code"), "timestamp-ahead", "{batch_size}");
        assert_eq!(header(&letters[1], "code"), "timestamp-ahead", "{batch_size}");
        assert_is_fine(&site);
    }
}

#[test]
fn a_record_that_is_ahead_goes_the_way_of_the_stage_s_policy() {
    for (policy, expected) in [("skip", &["a", "b"][..]), ("pass", &["a", "bad", "b"])] {
        let site = Site::new(&dedupe(&format!("on_error = \"{policy}\"")));
        let _daemon = site.start();
        let now = now();
        site.client.produce(
            "east",
            "in",
            &[record("a", now), record("bad", i64::MAX), record("a", now), record("b", now)],
        );
        site.client.await_caught_up("flow");
        assert_eq!(keys(&site, "in"), expected, "{policy}");
        assert_is_fine(&site);
    }
}

#[test]
fn a_lane_that_stops_at_a_record_that_is_ahead_says_what_to_do() {
    let site = Site::new(&dedupe("on_error = \"stop\"\ntime_ahead_max = \"1m\""));
    let _daemon = site.start();
    let now = now();
    site.client.produce("east", "in", &[record("a", now), record("bad", now * 1000)]);
    wait_until("the lane stops", || site.client.link("flow").status == LinkStatus::Failed);
    let trouble = site.client.link("flow").lanes[0].error.clone().expect("an error");
    assert_eq!((trouble.code.as_str(), trouble.place.expect("a place").offset), ("timestamp-ahead", 1));
    assert!(trouble.message.contains("is more than 1m ahead"), "{}", trouble.message);
    assert!(trouble.remedy.contains("time_ahead_max"), "{}", trouble.remedy);
    assert_eq!(keys(&site, "in"), ["a"]);
}

/// States from before there was a bound, or under one that was too large, are of no use: the error
/// says why, and what it says helps.
#[test]
fn a_state_whose_time_is_ahead_is_named_and_begun_anew() {
    let site = Site::new(&dedupe("time_ahead_max = \"36500d\""));
    let daemon = site.start();
    let now = now();
    site.client.produce("east", "in", &[record("far", now + 50 * YEAR)]);
    site.client.await_caught_up("flow");
    daemon.terminate();
    site.configure(&dedupe("on_error = \"stop\"\nlimits = { state_bytes = \"1KiB\" }"));
    let daemon = site.start();
    wait_until("the log says so", || daemon.stderr().contains("which is ahead of the clock"));
    let records: Vec<Value> = (0..20).map(|number| record(&format!("k{number}"), now + number * 20_000)).collect();
    site.client.produce("east", "in", &records);
    wait_until("the lane stops", || site.client.link("flow").status == LinkStatus::Failed);
    let trouble = site.client.link("flow").lanes[0].error.clone().expect("an error");
    assert_eq!(trouble.code, "plugin-state-limit");
    let remedy = "`tidegate link reset flow --topic in --partition 0 --to OFFSET --forget-state`";
    assert!(trouble.message.contains(remedy), "{}", trouble.message);
    let at = trouble.place.expect("a place").offset.to_string();
    let reset = ["link", "reset", "flow", "--topic", "in", "--partition", "0", "--to", &at, "--forget-state"];
    let output = site.cli(&reset);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(site.cli(&["link", "start", "flow"]).status.success());
    site.client.await_caught_up("flow");
    let keys = keys(&site, "in");
    assert_eq!(keys.len(), 21, "each expires before the limit: {keys:?}, {at}, {}", trouble.message);
}

#[test]
fn windows_are_closed_by_clocks_that_can_be_true() {
    let config = "config = { window_ms = 1000, functions = [\"count\"] }";
    let stage = format!("[[links.flow.pipeline]]\nstage = \"a\"\nplugin = \"PLUGINS/aggregate.wasm\"\n{config}\n");
    let site = Site::new(&format!("{CLUSTERS}{stage}"));
    let _daemon = site.start();
    let now = now() / 1000 * 1000;
    let mut records: Vec<Value> = ANCIENT.map(|timestamp| record("k", timestamp)).into();
    records.push(record("k", now));
    records.extend(absurd(now).map(|timestamp| record("k", timestamp)));
    records.extend([record("k", now + 1), record("k", now + 5000)]);
    site.client.produce("east", "in", &records);
    site.client.await_caught_up("flow");
    let results = site.client.records("west", "in", 0);
    let last: Value =
        serde_json::from_slice(results.last().expect("a result").value.as_ref().expect("a value")).expect("JSON");
    assert_eq!(last["count"], 2, "both of this second: {last}");
    assert_is_fine(&site);
}

#[test]
fn retention_goes_by_the_arrival_of_what_has_no_true_time() {
    let topic = |name: &str| format!("[clusters.e.topics.{name}]\nretention = \"1h\"\n");
    let config = format!("[clusters.e]\nkind = \"embedded\"\n{}{}", topic("a"), topic("z"));
    let site = Site::new(&config);
    let daemon = site.start();
    let now = now();
    for timestamp in [-1, now, now + YEAR, i64::MAX, -1] {
        site.client.produce("e", "a", &[record(&timestamp.to_string(), timestamp)]);
    }
    site.client.produce("e", "z", &[record("two hours old", now - 2 * HOUR)]);
    daemon.terminate();
    let _daemon = site.start();
    // Topics are looked at in the order of their names.
    let count =
        |topic: &str| site.client.read::<Topic>(&format!("/api/v1/clusters/e/topics/{topic}")).partitions[0].records;
    wait_until("retention has come by", || count("z") == 0);
    assert_eq!(count("a"), 5, "all were written a moment ago");
}

#[test]
fn lag_is_that_of_the_next_record_and_unknown_where_its_timestamp_says_nothing() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    let now = now();
    assert!(site.cli(&["link", "pause", "flow"]).status.success());
    let times = [now - 10 * HOUR, now - HOUR, -1, 0, now * 1000, i64::MIN, i64::MAX, now - 2 * HOUR];
    let records: Vec<Value> = times.iter().map(|timestamp| record("k", *timestamp)).collect();
    site.client.produce("east", "in", &records);
    for (offset, hours) in
        [(0, Some(10)), (1, Some(1)), (2, None), (3, None), (4, None), (5, None), (6, None), (7, Some(2))]
    {
        let at = offset.to_string();
        let output = site.cli(&["link", "reset", "flow", "--topic", "in", "--partition", "0", "--to", &at]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lag = || {
            let lanes = site.client.link("flow").lanes;
            let partition = lanes[0].partitions.first()?.clone();
            (partition.target_offset == Some(offset)).then_some(partition.lag_ms)
        };
        // What was measured before may be shown for a moment.
        let is_right = |lag: Option<u64>| match hours {
            Some(hours) => lag.is_some_and(|lag| lag / HOUR.unsigned_abs() == hours),
            None => lag.is_none(),
        };
        wait_until(&format!("the lag at {offset} is {hours:?} h"), || lag().is_some_and(is_right));
        if hours.is_none() {
            let metrics = site.client.get("/metrics").expect("answered").body;
            assert!(
                !metrics.lines().any(|line| line.starts_with("tidegate_replication_lag_ms{")),
                "{offset}: {metrics}"
            );
        }
    }
}
