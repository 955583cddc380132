//! Links that are defined through the API, and a configuration file that is read anew.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::api::wire::{Inspection, Link, LinkDefinition, LinkStatus, ManagedBy, Problem, Reloaded, Throttle};

use crate::harness::{Answer, Daemon, LINKS, Site, plugin, wait_until};

const CLUSTERS: &str =
    "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 2\n[clusters.west]\nkind = \"embedded\"\n";

fn definition() -> Value {
    json!({
        "name": "DR Replication", "type": "active-passive",
        "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        "topics": ["orders"], "lanes": 2, "config": { "batch_size": 100 },
    })
}

fn problem(answer: &Answer, status: u16, code: &str) -> Problem {
    assert_eq!(answer.status, status, "{}", answer.body);
    let problem: Problem = serde_json::from_str(&answer.body).expect("a problem document");
    assert_eq!(problem.code, code, "{}", answer.body);
    problem
}

fn say(site: &Site, link: &str, what: &str) {
    let answer = site.client.send("POST", &format!("{LINKS}/{link}/{what}"), None, "");
    assert_eq!(answer.status, 200, "{what}: {}", answer.body);
}

fn produce(site: &Site, values: std::ops::Range<u32>) {
    let record = |value: u32| json!({ "partition": value % 2, "value": value.to_string() });
    site.client.produce("east", "orders", &values.map(record).collect::<Vec<_>>());
}

#[test]
fn no_more_links_are_defined_than_the_daemon_takes() {
    let site = Site::new(CLUSTERS);
    let text = fs::read_to_string(site.config()).expect("the file");
    site.write_config(&text.replacen("[daemon]", "[daemon]\ndefinitions_max = 2", 1));
    let _daemon = site.start();
    let define = |id: &str, letters: &str| {
        let definition = json!({
            "id": id, "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
            "topics": ["orders"], "topic_prefix": id, "dead_letters": letters,
        });
        site.client.send("POST", LINKS, None, &definition.to_string())
    };
    assert_eq!((define("a", "la").status, define("b", "lb").status), (201, 201));
    let refused = problem(&define("c", "lc"), 409, "too-many-definitions");
    assert!(refused.detail.contains("definitions_max") && !refused.remedy.is_empty(), "{refused:?}");
    let change = site.client.send("PUT", &format!("{LINKS}/a"), None, "{\"name\": \"other\"}");
    assert_eq!(change.status, 200, "what is there can be changed: {}", change.body);
    assert_eq!(site.client.delete(&format!("{LINKS}/a")).expect("an answer").status, 204);
    assert_eq!(define("c", "lc").status, 201, "one that was deleted does not count");
    let reserved = define("b.back1", "lr");
    assert!(reserved.status == 400 && reserved.body.contains("fails back"), "{}", reserved.body);
}

#[test]
fn a_link_lives_from_its_definition_to_its_deletion() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    let made = site.client.send("POST", LINKS, None, &definition().to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    let link: Link = serde_json::from_str(&made.body).expect("a link");
    let place = format!("{LINKS}/{}", link.id);
    assert_eq!(
        (made.headers["location"].as_bytes(), made.headers["etag"].as_bytes()),
        (place.as_bytes(), &b"\"1\""[..])
    );
    assert_eq!((link.status, link.managed_by, link.version), (LinkStatus::Stopped, ManagedBy::Api, Some(1)));
    assert_eq!((link.config.batch_size, &*link.source_cluster.cluster_id), (100, "east"));
    let id = &*link.id;

    produce(&site, 0..10);
    say(&site, id, "start");
    site.client.await_caught_up(id);
    let refused = site.client.send("PUT", &place, None, "{}");
    assert_eq!(problem(&refused, 409, "wrong-state").allowed, ["pause", "stop", "failover"]);
    problem(&site.client.send("DELETE", &place, None, ""), 409, "wrong-state");
    say(&site, id, "pause");
    let outdated = site.client.send("PUT", &place, Some("\"7\""), r#"{"config":{"batch_size":7}}"#);
    problem(&outdated, 412, "version-outdated");
    for never in ["\"+1\"", "\"01\"", "W/\"1\"", "\"x\"", "\"7\", \"8\""] {
        for (method, body) in [("PUT", r#"{"config":{"batch_size":7}}"#), ("DELETE", "")] {
            problem(&site.client.send(method, &place, Some(never), body), 412, "version-outdated");
        }
    }
    let changed =
        site.client.send("PUT", &place, Some("\"1\""), r#"{"config":{"batch_size":7,"max_messages":50},"name":null}"#);
    assert_eq!((changed.status, changed.headers["etag"].as_bytes()), (200, &b"\"2\""[..]), "{}", changed.body);
    let changed: Link = serde_json::from_str(&changed.body).expect("a link");
    assert_eq!((changed.config.batch_size, changed.config.max_messages, &*changed.name), (7, Some(50), id));
    wait_until("it is paused, as it was", || site.client.link(id).status == LinkStatus::Paused);
    say(&site, id, "resume");

    daemon.kill();
    let _daemon = after_a_restart(&site, id);
    say(&site, id, "stop");
    assert_eq!(site.client.send("DELETE", &place, Some("W/\"5\", \"4\", \"5\""), "").status, 204);
    problem(&site.client.send("GET", &place, None, ""), 404, "link-not-found");
}

/// What was defined and said is known to the next process; what was deleted is not, and what its target knows of it is still there.
fn after_a_restart(site: &Site, id: &str) -> Daemon {
    let daemon = site.start();
    let link = site.client.link(id);
    assert_eq!((link.version, link.config.batch_size), (Some(2), 7));
    produce(site, 10..20);
    site.client.await_caught_up(id);
    say(site, id, "stop");
    assert_eq!(site.client.send("DELETE", &format!("{LINKS}/{id}"), None, "").status, 204);
    daemon.terminate();
    let daemon = site.start();
    assert_eq!(site.client.read::<Vec<Link>>(LINKS), []);
    let mut again = definition();
    again["id"] = id.into();
    let made = site.client.send("POST", LINKS, None, &again.to_string());
    assert_eq!((made.status, made.headers["etag"].as_bytes()), (201, &b"\"4\""[..]), "{}", made.body);
    produce(site, 20..22);
    say(site, id, "start");
    site.client.await_caught_up(id);
    assert_eq!(site.client.ends("west", "orders"), [11, 11], "it goes on at its checkpoints: nothing comes twice");
    let shown: LinkDefinition = site.cli_json(&["link", "definition", id]);
    assert_eq!((shown.version, &*shown.definition["topics"].to_string()), (4, r#"["orders"]"#));
    say(site, id, "stop");
    let patch = r#"{"config":{"batch_size":8}}"#;
    assert_eq!(site.client.send("PUT", &format!("{LINKS}/{id}"), Some("\"4\""), patch).status, 200);
    daemon
}

#[test]
fn every_error_of_a_definition_is_named_with_its_path() {
    let site = Site::new(&format!(
        "{CLUSTERS}[links.own]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"own.\"\n"
    ));
    let _daemon = site.start();
    let faults = |change: Value| -> Vec<String> {
        let mut wrong = definition();
        for (key, value) in change.as_object().expect("an object") {
            wrong[key] = value.clone();
        }
        let answer = site.client.send("POST", LINKS, None, &wrong.to_string());
        let problem = problem(&answer, 400, "invalid-document");
        problem.errors.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    };
    let many = faults(
        json!({ "config": { "batch_size": "many", "max_messagse": 1 }, "topics": ["a", "/(/"], "lanes": 0, "type": "ring" }),
    );
    for path in ["$.config.batch_size: ", "$.config.max_messagse: ", "$.topics[1]: ", "$.lanes: ", "$.type: "] {
        assert!(many.iter().any(|fault| fault.starts_with(path)), "{path} is in {many:?}");
    }
    assert_eq!(faults(json!({ "id": "a/b" })).len(), 1);
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    for (change, path, part) in [
        (json!({ "source_cluster": null }), "$: ", "\"source_cluster\" is missing"),
        (json!({ "source_cluster": "east" }), "$.source_cluster: ", "expected a table"),
        (json!({ "source_cluster": { "cluster_id": "north" } }), "$.source_cluster.cluster_id: ", "no cluster"),
        (
            json!({ "source_cluster": { "cluster_id": "east", "brokers": ["a:1"] } }),
            "$.source_cluster.cluster_id: ",
            "configuration file",
        ),
        (json!({ "target_cluster": { "cluster_id": "x", "brokers": [] } }), "$.target_cluster.brokers: ", "one broker"),
        (
            json!({ "target_cluster": { "cluster_id": "x", "brokers": ["a:1"], "request_timeout": "10" } }),
            "$.target_cluster.request_timeout: ",
            "not a duration",
        ),
        (
            json!({ "config": { "batch_size": 18_446_744_073_709_551_615_u64 } }),
            "$.config.batch_size: ",
            "out of range",
        ),
        (json!({ "topics": [null] }), "$.topics[0]: ", "null"),
        (json!({ "rename": deep }), "$.rename", "nested too deeply"),
        (json!({ "target_cluster": { "cluster_id": "east" } }), "$.topics[0]: ", "read what it writes"),
        (json!({ "pipeline": [{ "stage": "s", "plugin": "/etc/passwd" }] }), "$.pipeline[0].plugin: ", "digest"),
        (
            json!({ "pipeline": [{ "stage": "s", "plugin": format!("sha256:{}", "0".repeat(64)) }] }),
            "$.pipeline[0].plugin: ",
            "not stored",
        ),
    ] {
        let found = faults(change.clone());
        assert!(found.iter().any(|it| it.starts_with(path) && it.contains(part)), "{change}: {found:?}");
    }
    for body in ["", "[]", "{", "nonsense", "{\"id\":1}"] {
        assert_eq!(site.client.send("POST", LINKS, None, body).status, 400, "{body}");
    }
    let of_file = format!("{LINKS}/own");
    problem(&site.client.send("PUT", &of_file, None, "{}"), 409, "link-in-file");
    problem(&site.client.send("DELETE", &of_file, None, ""), 409, "link-in-file");
    problem(&site.client.send("POST", LINKS, None, r#"{"id":"own"}"#), 409, "link-exists");
    for malformed in ["x", "\"1", "*, \"1\"", "\"1\" \"2\""] {
        problem(&site.client.send("PUT", &of_file, Some(malformed), "{}"), 400, "bad-if-match");
    }
    problem(&site.client.send("PUT", &of_file, Some("W/\"x\""), "{}"), 409, "link-in-file");
    problem(&site.client.send("PUT", &format!("{LINKS}/none"), Some("W/\"x\""), "{}"), 404, "link-not-found");
    problem(&site.client.send("PUT", &format!("{LINKS}/none"), None, "{}"), 404, "link-not-found");
}

#[test]
fn a_definition_uses_files_of_one_directory_only() {
    let daemon = |site: &Site| {
        format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nsecrets_dir = \"secrets\"\n", site.port)
    };
    let site = Site::new("");
    fs::create_dir(site.path("secrets")).expect("a directory");
    fs::write(site.path("secrets/password"), "hunter2").expect("a file");
    fs::write(site.path("secrets/brokers"), "127.0.0.1\n").expect("a file");
    fs::write(site.path("outside"), "hunter3").expect("a file");
    std::os::unix::fs::symlink(site.path("outside"), site.path("secrets/way-out")).expect("a link");
    site.write_config(&(daemon(&site) + CLUSTERS));
    let _daemon = site.start();
    let with = |password: &str| {
        let mut link = definition();
        link["target_cluster"] = json!({ "cluster_id": "dr", "brokers": ["127.0.0.1:1"], "security": {
            "sasl": { "mechanism": "SCRAM-SHA-256", "username": "ann", "password": password } } });
        site.client.send("POST", LINKS, None, &link.to_string())
    };
    for refused in
        ["hunter2", "${env:PATH}", "${file:../outside}", "${file:/etc/passwd}", "${file:way-out}", "${file:none}"]
    {
        let answer = with(refused);
        let found = problem(&answer, 400, "invalid-document");
        assert!(found.errors[0].path.ends_with(".password"), "{}", answer.body);
        assert!(!answer.body.contains("hunter") && !answer.body.contains("root:"), "{}", answer.body);
    }
    let made = with("${file:password}");
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(!made.body.contains("hunter2"));
}

#[test]
fn a_defined_link_has_plugins_that_were_stored() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    let stored: Inspection = site.cli_json(&["plugin", "store", plugin("json-filter").to_str().expect("a path")]);
    let mut link = definition();
    link["id"] = "filtered".into();
    let config = json!({ "pointer": "/amount", "at_least": 100 });
    link["pipeline"] = json!([{ "stage": "large", "plugin": stored.digest, "config": config }]);
    fs::write(site.path("link.json"), link.to_string()).expect("a file");
    let file = site.path("link.json").display().to_string();
    let made: Link = site.cli_json(&["link", "create", "-f", &file, "--start"]);
    assert_eq!(made.stages.len(), 1);
    daemon.kill();
    let _daemon = site.start();
    site.client.produce(
        "east",
        "orders",
        &[json!({ "partition": 0, "value": "{\"amount\":1}" }), json!({ "partition": 0, "value": "{\"amount\":100}" })],
    );
    let caught_up = site.cli(&["link", "wait", "filtered", "--for", "caught-up"]);
    assert!(caught_up.status.success(), "{caught_up:?}");
    assert_eq!(site.client.ends("west", "orders"), [1, 0]);
    // What it waits for does not come by itself.
    let in_vain = site.cli(&["link", "wait", "filtered", "--for", "paused", "--timeout", "1ms"]);
    assert_eq!(in_vain.status.code(), Some(3), "{in_vain:?}");
}

/// A topic that was just made is in no lane yet, and what was just written is in no lag that was measured.
#[test]
fn who_waits_until_a_link_has_caught_up_has_all_that_the_source_had() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    let mut link = definition();
    link["id"] = "all".into();
    (link["topics"], link["topic_refresh"]) = (json!(["/.*/"]), json!("1s"));
    assert_eq!(site.client.send("POST", LINKS, None, &link.to_string()).status, 201);
    say(&site, "all", "start");
    for number in 0..3 {
        let topic = format!("new-{number}");
        let topics = "/api/v1/clusters/east/topics";
        let made = site.client.send("POST", topics, None, &json!({ "name": topic, "partitions": 1 }).to_string());
        assert_eq!(made.status, 201, "{}", made.body);
        site.client.produce("east", &topic, &[json!({ "partition": 0, "value": "1" })]);
        site.client.produce("east", "orders", &[json!({ "partition": 0, "value": "1" })]);
        let caught_up = site.cli(&["link", "wait", "all", "--for", "caught-up"]);
        assert!(caught_up.status.success(), "{caught_up:?}");
        assert_eq!(
            (site.client.ends("west", &topic), site.client.ends("west", "orders")),
            (vec![1], vec![number + 1, 0])
        );
    }
}

/// A rate is a bound from below on how long something takes: no machine is too slow for it.
#[test]
fn a_link_keeps_to_its_rate_and_is_let_go_while_it_runs() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    let mut throttled = definition();
    throttled["id"] = "slow".into();
    throttled["config"] = json!({ "throttle_rate_bytes_per_sec": 50_000, "batch_size": 10 });
    assert_eq!(site.client.send("POST", LINKS, None, &throttled.to_string()).status, 201);
    let value = "x".repeat(1_000);
    let records: Vec<Value> = (0..200).map(|number| json!({ "partition": number % 2, "value": value })).collect();
    site.client.produce("east", "orders", &records);
    let begun = Instant::now();
    say(&site, "slow", "start");
    wait_until("half of it is over", || site.client.ends("west", "orders").iter().sum::<i64>() >= 100);
    assert!(begun.elapsed() > Duration::from_millis(1_500), "100 kB at 50 kB a second, {:?}", begun.elapsed());
    let place = format!("{LINKS}/slow/throttle");
    for wrong in [r#"{"throttle_rate_bytes_per_sec":1}"#, r#"{"rate":1}"#, "{}", ""] {
        assert_eq!(site.client.send("POST", &place, None, wrong).status, 400, "{wrong}");
    }
    let slower: Throttle = site.cli_json(&["link", "throttle", "slow", "1KiB"]);
    assert_eq!(slower.throttle_rate_bytes_per_sec, Some(1024));
    daemon.terminate();
    let _daemon = site.start();
    let rate = site.client.link("slow").throttle.throttle_rate_bytes_per_sec;
    assert_eq!(rate, Some(1024), "the next process knows the rate before anything moves");
    assert!(!site.client.is_caught_up("slow"), "the rest would take over a minute");
    let free: Throttle = site.cli_json(&["link", "throttle", "slow", "none"]);
    assert_eq!(free.throttle_rate_bytes_per_sec, None);
    site.client.await_caught_up("slow");
    let configured: Throttle = site.cli_json(&["link", "throttle", "slow", "configured"]);
    assert_eq!((configured.throttle_rate_bytes_per_sec, configured.set_by), (Some(50_000), None));
}

/// Neither what the first batch of each lane has, nor what a daemon owes that is killed, is over the rate by more than a record.
#[test]
fn a_rate_is_kept_from_the_first_record_on_and_over_a_kill() {
    let site = Site::new(CLUSTERS);
    let mut daemon = site.start();
    let mut throttled = definition();
    throttled["id"] = "slow".into();
    throttled["config"] = json!({ "throttle_rate_bytes_per_sec": 2_000 });
    assert_eq!(site.client.send("POST", LINKS, None, &throttled.to_string()).status, 201);
    let value = "x".repeat(1_000);
    let records: Vec<Value> = (0..400).map(|number| json!({ "partition": number % 2, "value": value })).collect();
    site.client.produce("east", "orders", &records);
    let begun = Instant::now();
    say(&site, "slow", "start");
    let over = || site.client.ends("west", "orders").iter().sum::<i64>();
    for kills in 0..3 {
        let before = over();
        wait_until("some are over", || over() > before + 2);
        let found = over();
        // Two records a second, and one of each partition whenever a daemon begins.
        let most = begun.elapsed().as_secs_f64() * 2.0 + f64::from(2 * (kills + 1));
        assert!(found as f64 <= most, "{found} records where {most} may be");
        daemon.kill();
        daemon = site.start();
    }
    daemon.terminate();
}

fn link(id: &str, more: &str) -> String {
    format!(
        "[links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"{id}.\"\n{more}"
    )
}

#[test]
fn a_file_that_has_changed_is_read_anew() {
    let site = Site::new(&[CLUSTERS, &link("stays", ""), &link("changes", ""), &link("goes", "")].concat());
    let daemon = site.start();
    produce(&site, 0..4);
    for id in ["stays", "changes", "goes"] {
        site.client.await_caught_up(id);
    }
    let since = site.client.link("stays").started_at;

    site.configure(&[CLUSTERS, &link("stays", ""), "[links.wrong]\n"].concat());
    let refused = site.client.send("POST", "/api/v1/reload", None, "");
    let found = problem(&refused, 400, "invalid-document");
    let wrong = found.errors.iter().find(|fault| fault.path == "$.links.wrong").expect(&refused.body);
    let (file, column) = wrong.place.rsplit_once(':').expect("a place");
    let (file, line) = file.rsplit_once(':').expect("a line");
    assert!(file.ends_with("tidegate.toml") && line != "0" && column != "0", "{}", wrong.place);
    assert_eq!(site.client.read::<Vec<Link>>(LINKS).len(), 3, "an invalid file changes nothing");

    let now = [
        CLUSTERS,
        "[clusters.north]\nkind = \"embedded\"\n",
        &link("stays", ""),
        &link("changes", "lanes = 1\n[links.changes.config]\nbatch_size = 9\n"),
        &link("comes", ""),
    ];
    let other = format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nname = \"other\"\n", site.port);
    site.write_config(&(other + &now.concat()));
    let done: Reloaded = site.cli_json(&["reload"]);
    let expected = Reloaded {
        added: vec!["comes".into()],
        changed: vec!["changes".into()],
        removed: vec!["goes".into()],
        needs_restart: vec!["daemon.name".into()],
        ..Reloaded::default()
    };
    assert_eq!(done, expected);
    produce(&site, 4..6);
    for id in ["stays", "changes", "comes"] {
        site.client.await_caught_up(id);
        assert_eq!(site.client.ends("west", &format!("{id}.orders")), [3, 3], "{id}");
    }
    assert_eq!(site.client.ends("west", "goes.orders"), [2, 2]);
    assert_eq!((site.client.link("stays").started_at, site.client.link("changes").config.batch_size), (since, 9));
    assert_eq!(site.client.topics("north"), []);

    site.configure(&[CLUSTERS, &link("stays", "")].concat());
    daemon.signal(Signal::HUP);
    wait_until("SIGHUP does the same", || site.client.read::<Vec<Link>>(LINKS).len() == 1);
    daemon.terminate();
}

#[test]
fn links_come_in_pages() {
    let site = Site::new(&[CLUSTERS, &link("a", ""), &link("b", ""), &link("c", "")].concat());
    let _daemon = site.start();
    let first = site.client.send("GET", &format!("{LINKS}?limit=2"), None, "");
    let ids = |answer: &Answer| -> Vec<String> {
        serde_json::from_str::<Vec<Link>>(&answer.body).expect("links").into_iter().map(|link| link.id).collect()
    };
    assert_eq!(ids(&first), ["a", "b"]);
    let next = first.headers["link"].to_str().expect("text").to_owned();
    let next = next.strip_prefix('<').and_then(|next| next.strip_suffix(">; rel=\"next\"")).expect("a link");
    let second = site.client.send("GET", next, None, "");
    assert_eq!((ids(&second), second.headers.get("link")), (vec!["c".to_owned()], None));
    problem(&site.client.send("GET", &format!("{LINKS}?limit=0"), None, ""), 400, "bad-query");
}

/// Nothing can be told to a link whose target does not answer. A typo must not stay for ever.
#[test]
fn a_link_whose_target_is_out_of_reach_can_be_mended_and_deleted() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    let with_brokers = |broker: &str| json!({ "cluster_id": "nowhere", "brokers": [broker], "request_timeout": "2s" });
    let mut link = definition();
    link["id"] = json!("typo");
    link["target_cluster"] = with_brokers("127.0.0.1:9");
    assert_eq!(site.client.send("POST", LINKS, None, &link.to_string()).status, 201);
    let path = format!("{LINKS}/typo");
    let change = |patch: &Value| site.client.send("PUT", &path, None, &patch.to_string()).status;
    wait_until("it can be mended", || change(&json!({ "target_cluster": with_brokers("127.0.0.1:10") })) == 200);
    wait_until("it can be deleted", || site.client.delete(&path).expect("an answer").status == 204);
    assert_eq!(site.client.get(&path).expect("an answer").status, 404);
}
