//! The target of a link takes the place of its source, and gives it back. What is where in the end is compared with what was written, by hand.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tidegate::api::wire::{
    FailoverDetails, FailoverEvent, FailoverPhase, FailoverPlan, LinkStatus, ManagedBy, Verdict, Verification,
};

use crate::harness::{Daemon, Dice, LINKS, Site, wait_until};

const CLUSTERS: &str =
    "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 2\n[clusters.west]\nkind = \"embedded\"\n";

fn link(more: &str) -> String {
    let link = "[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"dr.\"\nlanes = 2\n";
    format!("{CLUSTERS}{link}failover_config = {{ enabled = true, failover_timeout_ms = 3600000 }}\n{more}")
}

fn path(rest: &str) -> String {
    format!("{LINKS}/copy/{rest}")
}

/// So many records of both partitions, with values that nobody else writes.
fn write(site: &Site, cluster: &str, topic: &str, what: &str, count: usize) -> Vec<String> {
    let values: Vec<String> = (0..count).map(|number| format!("{what}-{number}")).collect();
    let records: Vec<Value> =
        (0..).zip(&values).map(|(number, value)| json!({ "partition": number % 2, "value": value })).collect();
    site.client.produce(cluster, topic, &records);
    values
}

/// The values of a topic, each with how often it is there.
fn values(site: &Site, cluster: &str, topic: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for partition in 0..site.client.ends(cluster, topic).len() as u32 {
        for record in site.client.records(cluster, topic, partition) {
            let value = String::from_utf8(record.value.expect("a value")).expect("text");
            *found.entry(value).or_default() += 1;
        }
    }
    found
}

fn once(values: &[&[String]]) -> BTreeMap<String, usize> {
    values.iter().flat_map(|values| values.iter()).map(|value| (value.clone(), 1)).collect()
}

/// Whether everything that was written is on both sides, once.
fn check_both_have_all(site: &Site, all: &[Vec<String>], round: u32) {
    let expected = once(&all.iter().map(|values| &**values).collect::<Vec<_>>());
    assert_eq!(values(site, "east", "orders"), expected, "round {round}");
    assert_eq!(values(site, "west", "dr.orders"), expected, "round {round}");
}

fn post<T: serde::de::DeserializeOwned>(site: &Site, rest: &str, status: u16) -> T {
    let answer = site.client.post(&path(rest), "").expect("an answer");
    assert_eq!(answer.status, status, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("an answer")
}

fn status(site: &Site) -> LinkStatus {
    site.client.link("copy").status
}

fn events(site: &Site) -> Vec<FailoverEvent> {
    site.client.read(&path("failovers"))
}

fn await_done(site: &Site, id: &str) -> FailoverEvent {
    wait_until("it is done", || events(site).iter().any(|event| event.id == id && event.success == Some(true)));
    events(site).into_iter().find(|event| event.id == id).expect("it is listed")
}

/// Restarted now and then, a link goes there and back twice.
#[test]
fn a_link_goes_there_and_back_and_nothing_is_lost_or_doubled() {
    let site = Site::new(&link(""));
    let mut daemon = site.start();
    let mut all = vec![write(&site, "east", "orders", "first", 101)];
    site.client.await_caught_up("copy");
    let refused =
        site.client.post("/api/v1/clusters/west/topics/dr.orders/records", r#"[{"value":"x"}]"#).expect("an answer");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("standing-by")), "{}", refused.body);

    for round in 1..=2_u32 {
        let plan: FailoverPlan = post(&site, "failover?dry_run=true", 200);
        assert_eq!(plan.records_left, Some(0), "{plan:?}");
        assert_eq!((plan.partitions.len(), plan.groups, status(&site)), (2, None, LinkStatus::Active));
        let event: FailoverEvent = post(&site, "failover?by=ann", 200);
        assert_eq!(
            (event.success, event.drained, event.records_left, &*event.by),
            (Some(true), Some(true), Some(0), "ann")
        );
        assert_eq!(event.id, format!("failover-{round}"));
        assert_eq!(status(&site), LinkStatus::FailedOver);
        for refused in ["failover", "start", "pause", "resume", "stop"] {
            let answer = site.client.post(&path(refused), "").expect("an answer");
            assert_eq!(
                (answer.status, &answer.json()["allowed"]),
                (409, &json!(["failback"])),
                "{refused}: {}",
                answer.body
            );
        }
        if round == 1 {
            daemon.kill();
            daemon = site.start();
            assert_eq!(status(&site), LinkStatus::FailedOver);
        }

        // Both sides are written to: what comes to the source is found, and goes over later.
        all.push(write(&site, "west", "dr.orders", &format!("there-{round}"), 57));
        all.push(write(&site, "east", "orders", &format!("meanwhile-{round}"), 6));
        let plan: FailoverPlan = post(&site, "failback?dry_run=true", 200);
        let at_source: i64 = plan.partitions.iter().map(|at| at.source_end.expect("it answers") - at.next_offset).sum();
        assert_eq!((plan.records_left, plan.records_at_source, at_source), (Some(57), Some(6), 6), "{plan:?}");
        assert!(plan.warnings[0].contains("6 records"), "{plan:?}");
        let answer = site.client.post(&path("failback?by=bob"), "").expect("an answer");
        assert!([200, 202].contains(&answer.status), "{}", answer.body);
        let event = await_done(&site, &format!("failback-{round}"));
        assert_eq!((&*event.by, event.records_left, event.records_at_source), ("bob", Some(0), Some(6)), "{event:?}");
        wait_until("the link runs again", || status(&site) == LinkStatus::Active);
        all.push(write(&site, "east", "orders", &format!("after-{round}"), 10));
        site.client.await_caught_up("copy");
        check_both_have_all(&site, &all, round);
    }
    check_verified(&site, 2);
    let links: Vec<Value> = site.client.read(LINKS);
    assert_eq!(links.len(), 1, "the way back is gone: {links:?}");
    let again = site.client.post(&path("failback"), "").expect("an answer");
    assert_eq!((again.status, again.json()["code"].as_str()), (409, Some("not-failed-over")));
    let ids: Vec<String> = events(&site).into_iter().map(|event| event.id).collect();
    assert_eq!(ids, ["failover-1", "failback-1", "failover-2", "failback-2"]);
    let details: FailoverDetails = site.client.read(&path("failovers/failover-2"));
    assert_eq!((details.partitions.len(), details.target_partitions.len()), (2, 2));
    daemon.terminate();
}

/// What others have written to the target while it had the source's place is not held against the link; all else is.
fn check_verified(site: &Site, rounds: usize) {
    let verified: Verification = serde_json::from_slice(&site.cli(&["verify", "copy", "--json"]).stdout).expect("JSON");
    let report = verified.report.expect("a report");
    assert_eq!((verified.verdict, report.differences_total), (Some(Verdict::NotCovered), 0), "{report:#?}");
    let others = report.not_covered.iter().filter(|it| it.reason.contains("others"));
    let records: i64 = others.clone().map(|it| it.to.expect("an end") - it.from.expect("a beginning")).sum();
    assert_eq!((others.count(), records), (2 * rounds, 57 * rounds as i64), "{report:#?}");
}

/// What is said in vain is refused: somebody may rely on it.
#[test]
fn what_is_said_in_the_wrong_place_does_nothing() {
    let site = Site::new(&link(""));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 3);
    site.client.await_caught_up("copy");
    for said in ["failover", "failback", "pause", "stop", "start", "resume"] {
        for body in [r#"{"dry_run":true}"#, "garbage"] {
            let answer = site.client.post(&path(said), body).expect("an answer");
            assert_eq!(answer.status, 400, "{said} {body}: {}", answer.body);
        }
    }
    assert_eq!((status(&site), events(&site).len()), (LinkStatus::Active, 0));
    assert_eq!(site.client.post(&path("pause"), "{}").expect("an answer").status, 200);

    // Nothing comes of a link that is paused, and nobody waits for it.
    write(&site, "east", "orders", "left", 5);
    let plan: FailoverPlan = post(&site, "failover?dry_run=true&drain_timeout=7s", 200);
    assert!(plan.steps[0].contains("does not run"), "{plan:?}");
    let event: FailoverEvent = post(&site, "failover?drain_timeout=1h", 200);
    assert_eq!((event.drained, event.records_left), (Some(false), Some(5)));
    assert!(event.warnings.iter().any(|warning| warning.contains("5 records")), "{event:?}");
    let refused = site.client.post(&path("start"), "").expect("an answer").json();
    assert!(refused["remedy"].as_str().is_some_and(|remedy| remedy.contains("link failback copy")), "{refused}");
}

#[test]
fn a_topic_that_was_just_made_is_waited_for() {
    let site = Site::new(&link("").replace("[\"orders\"]", "[\"orders\", \"new\"]"));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 3);
    site.client.await_caught_up("copy");
    for round in 0..3 {
        if round == 0 {
            site.client.post("/api/v1/clusters/east/topics", r#"{"name":"new","partitions":2}"#).expect("an answer");
        }
        write(&site, "east", "new", &format!("new-{round}"), 20);
        let plan: FailoverPlan = post(&site, "failover?dry_run=true&drain_timeout=7s", 200);
        assert!(plan.steps[0].contains("wait for nothing") || plan.steps[0].contains("7000 ms"), "{plan:?}");
        let event: FailoverEvent = post(&site, "failover", 200);
        assert_eq!((event.drained, event.records_left), (Some(true), Some(0)), "{event:?}");
        assert_eq!(site.client.ends("west", "dr.new").iter().sum::<i64>(), 20 * (round + 1));
        post::<Value>(&site, "failback", 200);
        wait_until("the link runs again", || status(&site) == LinkStatus::Active);
    }
}

/// Links that are stopped and paused fail over too; one that was never started has nothing to take over.
#[test]
fn a_link_that_does_not_run_fails_over_as_it_is() {
    let site = Site::new(&link("autostart = false\n"));
    let _daemon = site.start();
    let refused = site.client.post(&path("failover"), "").expect("an answer");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("not-started")), "{}", refused.body);
    let before = write(&site, "east", "orders", "before", 10);
    site.client.post(&path("start"), "").expect("started");
    site.client.await_caught_up("copy");
    for (round, state) in [(1, "pause"), (2, "stop")] {
        site.client.post(&path(state), "").expect("an answer");
        let paused = status(&site);
        write(&site, "east", "orders", &format!("left-{round}"), 4);
        let event: FailoverEvent = post(&site, "failover?drain_timeout=0s", 200);
        assert_eq!((event.drained, event.records_left), (Some(false), Some(4)), "{event:?}");
        assert_eq!(status(&site), LinkStatus::FailedOver);
        assert_eq!(values(&site, "west", "dr.orders").len(), 10 + 4 * (round - 1));
        assert!(site.client.post(&path("failback"), "").expect("an answer").status < 300);
        await_done(&site, &format!("failback-{round}"));
        wait_until("it is as it was told before", || status(&site) == paused);
        site.client.post(&path("start"), "").expect("started");
        site.client.await_caught_up("copy");
        assert_eq!(values(&site, "west", "dr.orders").len(), before.len() + 4 * round);
    }
}

/// The way back goes against its link, which is no circle, and nobody else's business.
#[test]
fn other_links_are_defined_and_changed_while_one_fails_back() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    let definition = |id: &str| {
        let [source, target] = ["east", "west"].map(|cluster| json!({ "cluster_id": cluster }));
        json!({ "id": id, "source_cluster": source, "target_cluster": target, "topics": [id] }).to_string()
    };
    let ask = |method: &str, path: &str, body: &str, status: u16| {
        let answer = site.client.send(method, &format!("{LINKS}{path}"), None, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    };
    ask("POST", "", &definition("orders"), 201);
    ask("POST", "", &definition("other"), 201);
    ask("POST", "/orders/start", "", 200);
    ask("POST", "/orders/failover", "", 200);
    thread::scope(|scope| {
        let back = scope.spawn(|| site.client.post(&format!("{LINKS}/orders/failback"), "").expect("an answer"));
        wait_until("it is on its way back", || {
            site.client.get(&format!("{LINKS}/orders.back1")).is_ok_and(|answer| answer.status == 200)
        });
        ask("POST", "", &definition("third"), 201);
        ask("PUT", "/other", r#"{"config":{"batch_size":7}}"#, 200);
        assert!(back.join().expect("an answer").status < 300);
    });
}

/// The daemon is killed at any moment of a failover and of a failback.
#[test]
fn a_daemon_that_dies_goes_on_with_it() {
    let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand_seed);
    println!("TIDEGATE_SEED={seed}");
    let mut dice = Dice::new(seed);
    let site = Site::new(&link(""));
    let mut daemon = site.start();
    let mut all = vec![write(&site, "east", "orders", "first", 300)];
    let rounds: u32 = std::env::var("TIDEGATE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3);
    for round in 1..=rounds {
        daemon = killed_during(&site, daemon, "failover", dice.below(40));
        let id = format!("failover-{round}");
        if !events(&site).iter().any(|event| event.id == id) {
            // It died before it had said so anywhere.
            post::<FailoverEvent>(&site, "failover", 200);
        }
        await_done(&site, &id);
        all.push(write(&site, "west", "dr.orders", &format!("there-{round}"), 100));
        daemon = killed_during(&site, daemon, "failback", dice.below(1500));
        if status(&site) == LinkStatus::FailedOver && events(&site).last().is_some_and(|event| event.id == id) {
            let answer = site.client.post(&path("failback"), "").expect("an answer");
            assert!(answer.status < 300, "{}", answer.body);
        }
        await_done(&site, &format!("failback-{round}"));
        wait_until("the link runs again", || status(&site) == LinkStatus::Active);
        all.push(write(&site, "east", "orders", &format!("after-{round}"), 20));
        site.client.await_caught_up("copy");
        check_both_have_all(&site, &all, round);
    }
    daemon.terminate();
}

fn rand_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").subsec_nanos().into()
}

/// Ask for it, kill the daemon a moment later, and start another one.
fn killed_during(site: &Site, daemon: Daemon, what: &str, after_ms: u64) -> Daemon {
    let url = format!("http://127.0.0.1:{}{}", site.port, path(what));
    let asking = thread::spawn(move || drop(ureq::post(&url).send_empty()));
    thread::sleep(std::time::Duration::from_millis(after_ms));
    daemon.kill();
    asking.join().expect("asked");
    site.start()
}

/// While somebody writes to the target the source does not get its place; called off, the target keeps it.
#[test]
fn a_failback_waits_for_writers_and_can_be_called_off() {
    let site = Site::new(&link(""));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 10);
    site.client.await_caught_up("copy");
    let not_yet = site.client.delete(&path("failback")).expect("an answer");
    assert_eq!((not_yet.status, not_yet.json()["code"].as_str()), (409, Some("not-failing-back")));
    post::<FailoverEvent>(&site, "failover", 200);
    write(&site, "west", "dr.orders", "there", 10);
    // The way back cannot be gone while its link is stopped... but it is restarted; so the source's topic is taken away from it instead.
    let (asked, path_of) = (site.client.post(&path("failback"), "").expect("an answer"), path("failback"));
    assert!(asked.status < 300, "{}", asked.body);
    let called_off = site.client.delete(&path_of).expect("an answer");
    match called_off.status {
        200 => {
            assert_eq!(status(&site), LinkStatus::FailedOver);
            write(&site, "west", "dr.orders", "still-there", 5);
            assert!(site.client.post(&path_of, "").expect("an answer").status < 300);
        }
        // It was faster.
        409 => {}
        other => panic!("{other}: {}", called_off.body),
    }
    await_done(&site, "failback-1");
    wait_until("the link runs again", || status(&site) == LinkStatus::Active);
    site.client.await_caught_up("copy");
    assert_eq!(values(&site, "east", "orders"), values(&site, "west", "dr.orders"));
}

/// Somebody outside is told, signed; once more if it was not taken, and nowhere else if that is what is answered.
#[test]
fn somebody_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for (answer, stream) in
            ["503 Service Unavailable", "204 No Content", "302 Found\r\nlocation: http://127.0.0.1:1/"]
                .iter()
                .zip(listener.incoming())
        {
            let mut stream = stream.expect("a connection");
            tell.send(request(&mut stream)).expect("the test waits");
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("answered");
        }
    });
    let site = Site::new(CLUSTERS);
    std::fs::write(site.path("hook"), "between-us\n").expect("written");
    let webhook = format!("http://127.0.0.1:{port}/hook?key=1");
    site.configure(&link("").replace(
        "enabled = true,",
        &format!("enabled = true, notification_webhook = \"{webhook}\", notification_secret = \"${{file:hook}}\", notification_allow_private = true,"),
    ));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 10);
    site.client.await_caught_up("copy");
    post::<FailoverEvent>(&site, "failover", 200);
    let (first, second) = (told.recv().expect("told"), told.recv().expect("told again"));
    assert_eq!(first.1, second.1, "the same message");
    let event: FailoverEvent = serde_json::from_slice(&second.1).expect("an event");
    assert_eq!((&*event.id, event.success), ("failover-1", Some(true)));
    check_signature(&second);
    let kinds = || -> Vec<(String, String)> {
        let events: Vec<Value> = site.client.read(&path("events"));
        events.iter().map(|event| (event["kind"].to_string(), event["message"].to_string())).collect()
    };
    wait_until("it is noted", || kinds().iter().any(|(kind, _)| kind.contains("webhook-delivered")));
    assert!(site.client.post(&path("failback"), "").expect("an answer").status < 300);
    told.recv().expect("told of the way back");
    let refused = || kinds().into_iter().find(|(kind, _)| kind.contains("webhook-failed"));
    wait_until("the redirect is not followed", || refused().is_some());
    let (_, message) = refused().expect("noted");
    assert!(message.contains("redirect") && !message.contains("key=1"), "{message}");
}

/// Head and body of a request.
pub fn request(stream: &mut impl Read) -> (String, Vec<u8>) {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut part).expect("read");
        bytes.extend_from_slice(&part[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return (head, bytes[end + 4..].to_vec());
        }
    }
}

fn check_signature((head, body): &(String, Vec<u8>)) {
    let line = head.lines().find_map(|line| line.strip_prefix("x-tidegate-signature: ")).expect("signed");
    let (time, hex) = line.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("two parts");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"between-us").expect("a key");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
    assert!(!head.contains("between-us"));
}

/// What the command line says of all that.
#[test]
fn the_command_line_does_all_of_it() {
    let site = Site::new(&link(""));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 10);
    site.client.await_caught_up("copy");
    let said = |words: &[&str]| {
        let output = site.cli(words);
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, text) = said(&["link", "failover", "copy", "--dry-run"]);
    assert!(good && text.contains("Nothing has changed") && text.contains("fence all lanes"), "{text}");
    let (good, text) = said(&["link", "failover", "copy", "--drain", "5s"]);
    assert!(good && text.contains("failover-1 done in"), "{text}");
    let (good, text) = said(&["link", "failover", "copy"]);
    assert!(!good && text.contains("failback"), "{text}");
    let (good, text) = said(&["link", "failback", "copy", "--dry-run"]);
    assert!(good && text.contains("copy up to 0 records from west back to east"), "{text}");
    let event: FailoverEvent = site.cli_json(&["link", "failback", "copy"]);
    assert!(event.success == Some(true) || event.phase == Some(FailoverPhase::Returning), "{event:?}");
    await_done(&site, "failback-1");
    let (good, text) = said(&["link", "failovers", "copy"]);
    assert!(good && text.contains("failover-1") && text.contains("manual"), "{text}");
    let (good, text) = said(&["link", "failovers", "copy", "failback-1"]);
    assert!(good && text.contains("orders-0"), "{text}");
    let (good, text) = said(&["link", "failovers", "copy", "failover-9"]);
    assert!(!good && text.contains("link failovers copy"), "{text}");
    assert_eq!(site.client.link("copy").managed_by, ManagedBy::File);
}

/// What was published stays: a failover is no change that anybody has made.
#[test]
fn a_link_comes_back_with_the_revision_that_it_had() {
    let stage = "[[links.copy.pipeline]]\nstage = \"keep\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = { pointer = \"/n\", at_least = 10 }\n";
    let site = Site::new(&link(stage));
    let daemon = site.start();
    site.client.produce("east", "orders", &[json!({ "value": "{\"n\":5}" }), json!({ "value": "{\"n\":15}" })]);
    site.client.await_caught_up("copy");
    let file = crate::harness::plugin("json-filter").display().to_string();
    let published =
        site.cli(&["plugin", "publish", "copy", "keep", &file, "--config", r#"{"pointer":"/n","at_least":0}"#]);
    assert!(published.status.success(), "{published:?}");
    post::<FailoverEvent>(&site, "failover", 200);
    site.client.produce("west", "dr.orders", &[json!({ "value": "{\"n\":25}" })]);
    assert!(site.client.post(&path("failback"), "").expect("an answer").status < 300);
    await_done(&site, "failback-1");
    wait_until("the link runs again", || status(&site) == LinkStatus::Active);
    site.client.produce("east", "orders", &[json!({ "value": "{\"n\":6}" })]);
    site.client.await_caught_up("copy");
    daemon.kill();
    let _daemon = site.start();
    site.client.produce("east", "orders", &[json!({ "value": "{\"n\":7}" })]);
    site.client.await_caught_up("copy");
    assert_eq!(site.client.revisions("copy").len(), 2, "{:?}", site.client.revisions("copy"));
    let copied = ["{\"n\":15}", "{\"n\":25}", "{\"n\":6}", "{\"n\":7}"].map(str::to_owned);
    assert_eq!(values(&site, "west", "dr.orders"), once(&[&copied]));
}

/// Its clusters are both written to: what went to the target has come back already.
#[test]
fn a_link_with_provenance_does_not_change_places() {
    let failover = "failover_config = { enabled = true, failover_timeout_ms = 3600000 }\n";
    let site = Site::new(&link("provenance = true\n").replace(failover, ""));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 10);
    site.client.await_caught_up("copy");
    let refused = site.client.post(&path("failover"), "").expect("an answer");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("active-active")), "{}", refused.body);
}

/// A topic that was added later and has no record is no reason to wait, or not to know.
#[test]
fn a_link_of_several_topics_knows_where_each_of_them_was() {
    let site = Site::new(&link("").replace("topics = [\"orders\"]", "topics = [\"/o.*/\"]\ntopic_refresh = \"200ms\""));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 10);
    site.client.post("/api/v1/clusters/east/topics", r#"{"name":"others","partitions":1}"#).expect("an answer");
    wait_until("it is made there", || site.client.topics("west").iter().any(|topic| topic.name == "dr.others"));
    wait_until("it is copied", || site.client.ends("west", "dr.orders").iter().sum::<i64>() == 10);
    let event: FailoverEvent = post(&site, "failover", 200);
    assert_eq!((event.drained, event.records_left), (Some(true), Some(0)), "{event:?}");
    let written = write(&site, "west", "dr.orders", "there", 10);
    site.client.produce("west", "dr.others", &[json!({ "partition": 0, "value": "other" })]);
    assert!(site.client.post(&path("failback"), "").expect("an answer").status < 300);
    await_done(&site, "failback-1");
    wait_until("the link runs again", || status(&site) == LinkStatus::Active);
    assert_eq!(values(&site, "east", "orders").len(), 10 + written.len());
    assert_eq!(values(&site, "east", "others"), once(&[&["other".to_owned()]]));
}

/// A failback copies what was written to the target, and so would the other way.
#[test]
fn a_link_that_has_failed_over_does_not_become_two_way() {
    let link = |more: &str| {
        format!("{CLUSTERS}[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n{more}\n")
    };
    let site = Site::new(&link(""));
    let _daemon = site.start();
    let mut all = write(&site, "east", "orders", "first", 4);
    site.client.await_caught_up("copy");
    post::<FailoverEvent>(&site, "failover", 200);
    all.extend(write(&site, "west", "orders", "there", 4));
    site.configure(&link("type = \"active-active\""));
    assert!(site.cli(&["reload"]).status.success());
    let reverse = || site.client.read::<tidegate::api::wire::Link>(&format!("{LINKS}/copy.reverse"));
    wait_until("the other way says why it does not run", || {
        reverse().error.is_some_and(|error| error.code == "failed-over" && error.message.contains("link copy"))
    });
    site.configure(&link(""));
    assert!(site.cli(&["reload"]).status.success());
    assert!(site.client.post(&path("failback"), "").expect("an answer").status < 300);
    await_done(&site, "failback-1");
    assert_eq!(values(&site, "east", "orders"), once(&[&all]));
}

/// Nothing of the topic is copied yet, so no checkpoint names it.
#[test]
fn what_is_written_to_a_copy_without_records_goes_back() {
    let site = Site::new(&link("").replace("topics = [\"orders\"]", "topics = [\"/o.*/\"]"));
    let _daemon = site.start();
    write(&site, "east", "orders", "first", 10);
    wait_until("it is copied", || site.client.ends("west", "dr.orders").iter().sum::<i64>() == 10);
    post::<Value>(&site, "pause", 200);
    for (cluster, topic) in [("east", "others"), ("west", "dr.others")] {
        let body = json!({ "name": topic, "partitions": 1 }).to_string();
        let made = site.client.post(&format!("/api/v1/clusters/{cluster}/topics"), body).expect("an answer");
        assert_eq!(made.status, 201, "{}", made.body);
    }
    post::<FailoverEvent>(&site, "failover", 200);
    site.client.produce("west", "dr.others", &[json!({ "partition": 0, "value": "other" })]);
    assert!(site.client.post(&path("failback"), "").expect("an answer").status < 300);
    await_done(&site, "failback-1");
    assert_eq!(values(&site, "east", "others"), once(&[&["other".to_owned()]]));
}

/// Link epochs are counted in the target, and checkpoints of failback links are in the source: one that is lost or replaced begins again at 1, and nothing of a failback of before counts.
#[test]
fn a_target_that_is_new_goes_back_from_its_own_failover() {
    let said = |target: &str, enabled: bool| {
        let more = if enabled { "failover_config = { enabled = true, failover_timeout_ms = 3600000 }\n" } else { "" };
        let west = format!("[clusters.{target}]\nkind = \"embedded\"\n");
        let link =
            format!("[links.copy]\nsource = \"east\"\ntarget = \"{target}\"\ntopics = [\"orders\"]\nlanes = 2\n");
        format!("[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 2\n{west}{link}{more}")
    };
    let there_and_back = |site: &Site, target: &str, epoch: u32, what: &str| {
        post::<FailoverEvent>(site, "failover", 200);
        let written = write(site, target, "orders", what, 6);
        let answer = site.client.post(&path("failback"), "").expect("an answer");
        assert!([200, 202].contains(&answer.status), "{}", answer.body);
        await_done(site, &format!("failback-{epoch}"));
        wait_until("the link runs again", || status(site) == LinkStatus::Active);
        written
    };
    for (is_lost, count, enabled) in [(true, 0, true), (true, 4, false), (false, 4, true), (false, 0, false)] {
        let what = format!("lost: {is_lost}, {count} records, enabled: {enabled}");
        let site = Site::new(&said("west", enabled));
        let daemon = site.start();
        let mut all = vec![write(&site, "east", "orders", "first", count)];
        site.client.await_caught_up("copy");
        if count == 0 {
            // A drill.
            post::<FailoverEvent>(&site, "failover", 200);
            post::<FailoverEvent>(&site, "failback", 200);
            wait_until("the link runs again", || status(&site) == LinkStatus::Active);
        } else {
            all.push(there_and_back(&site, "west", 1, "drill"));
        }
        daemon.terminate();
        let target = if is_lost { "west" } else { "north" };
        if is_lost {
            std::fs::remove_file(site.path("data/west.redb")).expect("it was there");
        }
        site.configure(&said(target, enabled));
        let daemon = site.start();
        all.push(write(&site, "east", "orders", "second", 5));
        for epoch in 1..=2 {
            all.push(there_and_back(&site, target, epoch, &format!("there-{epoch}")));
            all.push(write(&site, "east", "orders", &format!("after-{epoch}"), 3));
            site.client.await_caught_up("copy");
            let expected = once(&all.iter().map(|values| &**values).collect::<Vec<_>>());
            assert_eq!(values(&site, "east", "orders"), expected, "{what}, failover {epoch}: east");
            assert_eq!(values(&site, target, "orders"), expected, "{what}, failover {epoch}: {target}");
        }
        daemon.terminate();
    }
}
