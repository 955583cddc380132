//! A topic that stands by takes records of its link only, whatever has happened to the link or the daemon.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::api::wire::{FailoverEvent, FailoverPhase, LinkStatus};

use crate::harness::{Client, Daemon, LINKS, Site, comes_true, wait_until};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 2\n\
    [clusters.west]\nkind = \"embedded\"\ntopics.\"dr.orders\".partitions = 2\n";

const STANDING_BY: &str = "standing-by";

fn link(more: &str) -> String {
    format!(
        "{CLUSTERS}[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\", \"/follow.*/\"]\n\
         topic_prefix = \"dr.\"\n{more}"
    )
}

const ENABLED: &str = "failover_config = { enabled = true, failover_timeout_ms = 3600000 }\n";

/// What a client is told that writes a record: nothing if it is taken.
fn refusal(client: &Client, topic: &str, value: &str) -> Option<String> {
    let record = json!([{ "partition": 0, "value": value }]).to_string();
    let answer = client.post(&format!("/api/v1/clusters/west/topics/{topic}/records"), record).expect("an answer");
    match answer.status {
        200 => None,
        _ => Some(answer.json()["code"].as_str().unwrap_or(&answer.body).to_owned()),
    }
}

fn say(site: &Site, what: &str) {
    let answer = site.client.post(&format!("{LINKS}/copy/{what}"), "").expect("an answer");
    assert!([200, 202].contains(&answer.status), "{what}: {}", answer.body);
}

fn events(site: &Site) -> Vec<FailoverEvent> {
    site.client.read(&format!("{LINKS}/copy/failovers"))
}

fn await_done(site: &Site, id: &str) {
    wait_until("it is done", || events(site).iter().any(|event| event.id == id && event.success == Some(true)));
}

fn create(site: &Site, cluster: &str, topic: &str) {
    let answer = site.client.post(&format!("/api/v1/clusters/{cluster}/topics"), json!({ "name": topic }).to_string());
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
}

/// Whether a client may write, now and after a daemon was killed and begun again.
fn check(site: &Site, daemon: &mut Option<Daemon>, expected: Option<&str>, what: &str) {
    for restarted in [false, true] {
        if restarted {
            daemon.take().expect("it runs").kill();
            *daemon = Some(site.start());
        }
        let found = refusal(&site.client, "dr.orders", "foreign");
        assert_eq!(found.as_deref(), expected, "{what}, restarted: {restarted}");
    }
}

#[test]
fn a_topic_stands_by_whatever_its_link_does() {
    let site = Site::new(&link(&format!("autostart = false\n{ENABLED}")));
    let mut daemon = Some(site.start());
    let guarded = Some(STANDING_BY);
    check(&site, &mut daemon, guarded, "it was never started");
    say(&site, "start");
    site.client.produce("east", "orders", &[json!({ "partition": 0, "value": "first" })]);
    site.client.await_caught_up("copy");
    check(&site, &mut daemon, guarded, "it runs");
    say(&site, "pause");
    check(&site, &mut daemon, guarded, "it is paused");
    say(&site, "stop");
    check(&site, &mut daemon, guarded, "it is stopped");
    say(&site, "start");
    say(&site, "failover");
    check(&site, &mut daemon, None, "it has failed over");
    say(&site, "failback");
    await_done(&site, "failback-1");
    check(&site, &mut daemon, guarded, "it has failed back");
}

#[test]
fn a_topic_that_is_found_later_stands_by_from_its_beginning() {
    let site = Site::new(&link(ENABLED));
    let _daemon = site.start();
    create(&site, "east", "follow.running");
    let there = || site.client.topics("west").iter().any(|topic| topic.name == "dr.follow.running");
    wait_until("it is copied", there);
    assert_eq!(refusal(&site.client, "dr.follow.running", "foreign").as_deref(), Some(STANDING_BY));
    say(&site, "stop");
    create(&site, "east", "follow.stopped");
    create(&site, "west", "dr.follow.stopped");
    wait_until("it is guarded", || refusal(&site.client, "dr.follow.stopped", "foreign").is_some());
    create(&site, "west", "dr.other");
    assert_eq!(refusal(&site.client, "dr.other", "own"), None, "no topic of the source would become this");
}

#[test]
fn what_the_file_says_no_more_is_guarded_no_more() {
    let site = Site::new(&link(ENABLED));
    let mut daemon = Some(site.start());
    check(&site, &mut daemon, Some(STANDING_BY), "enabled");
    for (text, expected, what) in [
        (link(""), None, "not enabled"),
        (link(ENABLED), Some(STANDING_BY), "enabled again"),
        (link(ENABLED).replace("topic_prefix = \"dr.\"", "topic_prefix = \"dr2.\""), None, "copied elsewhere"),
        (link(ENABLED), Some(STANDING_BY), "copied there again"),
        (CLUSTERS.to_owned(), None, "gone"),
    ] {
        site.configure(&text);
        let answer = site.client.post("/api/v1/reload", "").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        check(&site, &mut daemon, expected, what);
    }
    // The same across a restart, with nobody there who could be told.
    for (text, expected) in [(link(ENABLED), Some(STANDING_BY)), (CLUSTERS.to_owned(), None), (link(""), None)] {
        daemon.take().expect("it runs").kill();
        site.configure(&text);
        daemon = Some(site.start());
        let is_so = || refusal(&site.client, "dr.orders", "foreign").as_deref() == expected;
        wait_until("it is as the file says", is_so);
    }
}

#[test]
fn a_topic_stands_by_as_its_definition_says() {
    let site = Site::new(CLUSTERS);
    let mut daemon = Some(site.start());
    let definition = json!({
        "id": "copy", "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        "topics": ["orders"], "topic_prefix": "dr.", "failover_config": { "enabled": true },
    });
    let place = format!("{LINKS}/copy");
    let send = |method: &str, path: &str, body: &Value, status: u16| {
        let answer = site.client.send(method, path, None, &body.to_string());
        assert_eq!(answer.status, status, "{}", answer.body);
    };
    check(&site, &mut daemon, None, "there is no link");
    send("POST", LINKS, &definition, 201);
    check(&site, &mut daemon, Some(STANDING_BY), "defined, and never started");
    wait_until("it is stopped", || site.client.link("copy").status == LinkStatus::Stopped);
    send("PUT", &place, &json!({ "name": "another name" }), 200);
    check(&site, &mut daemon, Some(STANDING_BY), "with another definition");
    wait_until("it is stopped", || site.client.link("copy").status == LinkStatus::Stopped);
    send("PUT", &place, &json!({ "failover_config": null }), 200);
    check(&site, &mut daemon, None, "not enabled");
    wait_until("it is stopped", || site.client.link("copy").status == LinkStatus::Stopped);
    send("PUT", &place, &json!({ "failover_config": { "enabled": true } }), 200);
    check(&site, &mut daemon, Some(STANDING_BY), "enabled again");
    wait_until("it is stopped", || site.client.link("copy").status == LinkStatus::Stopped);
    assert_eq!(site.client.delete(&place).expect("an answer").status, 204);
    check(&site, &mut daemon, None, "deleted");
}

/// Of what was acknowledged between a failover and the end of its failback nothing is lost, whoever writes on while the source gets its place back, and however often the
/// daemon begins again.
#[test]
fn nothing_that_is_acknowledged_is_lost_at_a_failback_after_a_restart() {
    let site = Site::new(&link(ENABLED));
    let mut daemon = site.start();
    site.client.produce("east", "orders", &[json!({ "partition": 0, "value": "first" })]);
    site.client.await_caught_up("copy");
    for round in 1..=3 {
        say(&site, "failover");
        daemon.kill();
        daemon = site.start();
        let ended = AtomicBool::new(false);
        let acknowledged = thread::scope(|scope| {
            let write = || {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if ended.load(SeqCst) {
                        break;
                    }
                    let value = format!("round-{round}-{number}");
                    match refusal(&site.client, "dr.orders", &value) {
                        None => acknowledged.push(value),
                        Some(_) => thread::sleep(Duration::from_millis(5)),
                    }
                }
                acknowledged
            };
            let writer = scope.spawn(write);
            wait_until("it is written to", || site.client.ends("west", "dr.orders")[0] > 2 * round);
            say(&site, "failback");
            let id = format!("failback-{round}");
            let is_done = || events(&site).iter().any(|event| event.id == id && event.success == Some(true));
            let done = comes_true(Duration::from_secs(120), is_done);
            ended.store(true, SeqCst);
            let acknowledged = writer.join().expect("joined");
            assert!(done, "it is not done");
            acknowledged
        });
        let found: Vec<String> = site.client.records("east", "orders", 0).into_iter().map(value).collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|value| !found.contains(value)).collect();
        assert!(lost.is_empty() && !acknowledged.is_empty(), "of {}: {lost:?}", acknowledged.len());
    }
}

fn value(record: tidegate::api::wire::Record) -> String {
    String::from_utf8(record.value.expect("a value")).expect("text")
}

#[test]
fn nobody_writes_while_a_failback_closes_and_the_daemon_begins_again() {
    let site = Site::new(&link(ENABLED));
    let mut daemon = Some(site.start());
    site.client.await_caught_up("copy");
    say(&site, "failover");
    assert_eq!(refusal(&site.client, "dr.orders", "there"), None);
    thread::scope(|scope| {
        // It answers when all is over, or not at all.
        scope.spawn(|| drop(site.client.post(&format!("{LINKS}/copy/failback"), "")));
        let is_closing = || events(&site).iter().any(|event| event.phase == Some(FailoverPhase::Closing));
        wait_until("it closes", is_closing);
        assert_eq!(refusal(&site.client, "dr.orders", "foreign").as_deref(), Some(STANDING_BY));
        daemon.take().expect("it runs").kill();
    });
    daemon = Some(site.start());
    assert_eq!(refusal(&site.client, "dr.orders", "foreign").as_deref(), Some(STANDING_BY));
    await_done(&site, "failback-1");
    check(&site, &mut daemon, Some(STANDING_BY), "it has failed back");
    let found: Vec<String> = site.client.records("east", "orders", 0).into_iter().map(value).collect();
    assert_eq!(found, ["there"]);
}
