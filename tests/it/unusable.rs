//! Definitions that cannot be used: whatever the reason, they are listed, shown, replaced and
//! deleted, and the other links go on.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::api::wire::{Link, LinkDefinition, LinkStatus, Problem, Status};
use tidegate::connector::Cluster;
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::model::Culprit;
use tidegate::store::{Options, Store};

use crate::harness::{Answer, Daemon, LINKS, Site, wait_until};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n\
    [clusters.west]\nkind = \"embedded\"\n";
const SOUTH: &str = "[clusters.south]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:9\"]\n";
const OF_FILE: &str =
    "[links.of-file]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"file.\"\n";
/// What `x` would write to stands by for this one.
const STANDS_BY: &str = "[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n\
    topic_prefix = \"x.\"\nautostart = false\nfailover_config = { enabled = true }\n";

/// A definition that can be used.
fn usable(id: &str) -> Value {
    json!({
        "id": id, "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        "topics": ["orders"], "topic_prefix": format!("{id}."),
    })
}

fn with(mut definition: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("an object") {
        definition[key] = value.clone();
    }
    definition
}

/// Why the definition of `x` cannot be used.
struct Case {
    name: &'static str,
    /// What is defined while it can be used; `None`: what is stored is written past the daemon.
    defined: Option<Value>,
    /// What is changed while no daemon runs.
    breaks: fn(&Site),
    /// How the daemon is begun.
    words: &'static [&'static str],
    code: &'static str,
    /// What the definition becomes by a change with which it can be used.
    good: Value,
    /// Whether a start is enough.
    starts: bool,
}

impl Case {
    fn new(name: &'static str, breaks: fn(&Site), good: Value) -> Self {
        let code = "definition-unusable";
        Self { name, defined: Some(usable("x")), breaks, words: &[], code, good, starts: false }
    }
}

fn configure(site: &Site, links: &str) {
    let daemon =
        format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nsecrets_dir = \"secrets\"\n", site.port);
    site.write_config(&[&*daemon, CLUSTERS, links, OF_FILE].concat());
}

/// Write a definition as another version of Tidegate might.
fn store(site: &Site, text: &str) {
    let store = Store::open(site.path("data/links.redb"), Options::default()).expect("the store of definitions");
    let cluster = EmbeddedCluster::new(Arc::new(store));
    cluster.put_metadata(&"x".into(), "definition", text.as_bytes()).expect("written");
}

fn store_definition(site: &Site, definition: &Value) {
    let stored =
        json!({ "v": 1, "version": 4, "created_ms": 1, "changed_ms": 2, "by": "ann", "definition": definition });
    store(site, &stored.to_string());
}

fn cases() -> Vec<Case> {
    let in_place = json!({ "cluster_id": "south", "brokers": ["127.0.0.1:9"] });
    let secured = json!({ "cluster_id": "dr", "brokers": ["127.0.0.1:9"], "security": {
        "sasl": { "mechanism": "SCRAM-SHA-256", "username": "ann", "password": "${file:password}" } } });
    let of_south = with(usable("x"), &json!({ "source_cluster": { "cluster_id": "south" } }));
    let no_password = |site: &Site| fs::remove_file(site.path("secrets/password")).expect("removed");
    let without_component = |site: &Site| {
        let plugin = format!("sha256:{}", "0".repeat(64));
        store_definition(site, &with(usable("x"), &json!({ "pipeline": [{ "stage": "s", "plugin": plugin }] })));
    };
    let newer_key = |site: &Site| store_definition(site, &with(usable("x"), &json!({ "newer": 1 })));
    let newer_form = |site: &Site| store(site, r#"{"v":2,"version":4,"definition":"packed","more":[]}"#);
    let died_twice = |site: &Site| {
        let mut crashes = fs::File::options().append(true).open(site.path("data/crashes")).expect("a record");
        let line = Culprit::of("x", 1).line().repeat(2);
        crashes.write_all(&line).expect("written");
    };
    let config = json!({ "config": { "batch_size": 7 } });
    vec![
        Case {
            defined: Some(of_south),
            ..Case::new("no cluster", |site| configure(site, ""), json!({ "source_cluster": in_place }))
        },
        Case {
            defined: Some(with(usable("x"), &json!({ "target_cluster": secured }))),
            ..Case::new("no secret", no_password, json!({ "target_cluster": { "security": null } }))
        },
        Case { defined: None, ..Case::new("no component", without_component, json!({ "pipeline": null })) },
        Case::new("stands by", |site| configure(site, &[SOUTH, STANDS_BY].concat()), json!({ "topic_prefix": "y." })),
        Case { defined: None, ..Case::new("a newer key", newer_key, json!({ "newer": null })) },
        Case { defined: None, code: "definition-unreadable", ..Case::new("a newer form", newer_form, usable("x")) },
        Case { code: "set-aside", starts: true, ..Case::new("died twice", died_twice, config.clone()) },
        Case { code: "held", starts: true, words: &["--hold", "x"], ..Case::new("held", |_| {}, config.clone()) },
        Case { code: "held", starts: true, words: &["--hold-all"], ..Case::new("all held", |_| {}, config) },
    ]
}

fn problem(answer: &Answer, status: u16, code: &str, what: &str) -> Problem {
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    let problem: Problem = serde_json::from_str(&answer.body).expect("a problem document");
    assert_eq!(problem.code, code, "{what}: {}", answer.body);
    problem
}

fn define(site: &Site, definition: &Value) {
    let made = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
}

fn begin(site: &Site, words: &[&str]) -> Daemon {
    let mut command = site.command();
    command.args(words);
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);
    daemon
}

/// A site where `x` is defined, and cannot be used any more, beside two other links.
fn broken(case: &Case) -> (Site, Daemon) {
    let site = Site::new("");
    fs::create_dir(site.path("secrets")).expect("a directory");
    fs::write(site.path("secrets/password"), "hunter2").expect("a file");
    fs::write(site.path("secrets/brokers"), "127.0.0.1\n").expect("a file");
    configure(&site, SOUTH);
    let daemon = site.start();
    define(&site, &usable("other"));
    site.client.send("POST", &format!("{LINKS}/other/start"), None, "");
    case.defined.iter().for_each(|definition| define(&site, definition));
    site.client.await_caught_up("other");
    daemon.terminate();
    (case.breaks)(&site);
    let daemon = begin(&site, case.words);
    if case.words == ["--hold-all"] {
        site.client.send("POST", &format!("{LINKS}/other/start"), None, "");
    }
    (site, daemon)
}

/// The other links copy what comes.
fn others_go_on(site: &Site) {
    site.client.produce("east", "orders", &[json!({ "partition": 0, "value": "1" })]);
    site.client.await_caught_up("other");
    site.client.await_caught_up("of-file");
}

fn x() -> String {
    format!("{LINKS}/x")
}

/// It is listed and shown with the reason, and whatever would need it to run says that.
fn check_shown(site: &Site, case: &Case) -> Link {
    let name = case.name;
    let link = site.client.link("x");
    let error = link.error.as_ref().unwrap_or_else(|| panic!("{name}: a reason"));
    assert_eq!((link.status, &*error.code), (LinkStatus::Failed, case.code), "{name}: {}", error.message);
    for part in ["tidegate link update x", "tidegate link delete x"] {
        assert!(error.remedy.contains(part), "{name}: {}", error.remedy);
    }
    let listed: Vec<Link> = site.client.read(LINKS);
    assert!(listed.contains(&link), "{name}: {listed:?}");
    let status: Status = site.client.read("/api/v1/status");
    assert!(status.links.iter().any(|it| it.id == "x" && it.error == link.error), "{name}: {:?}", status.links);
    let shown = site.client.send("GET", &format!("{}/definition", x()), None, "");
    if case.code == "definition-unreadable" {
        problem(&shown, 409, case.code, name);
    } else {
        let shown: LinkDefinition =
            serde_json::from_str(&shown.body).unwrap_or_else(|_| panic!("{name}: {}", shown.body));
        assert_eq!((Some(shown.version), &*shown.definition["topics"].to_string()), (link.version, r#"["orders"]"#));
    }
    for (method, rest, body) in [
        ("POST", "/pause", ""),
        ("POST", "/resume", ""),
        ("POST", "/stop", ""),
        ("GET", "/plan", ""),
        ("GET", "/checkpoints", ""),
        ("POST", "/relane", r#"{"lanes":2}"#),
    ] {
        let answer = site.client.send(method, &format!("{}{rest}", x()), None, body);
        problem(&answer, 409, case.code, &format!("{name}: {rest}"));
    }
    let again = site.client.send("POST", LINKS, None, &usable("x").to_string());
    problem(&again, 409, "link-exists", name);
    link
}

#[test]
fn a_definition_that_cannot_be_used_is_shown_and_replaced() {
    for case in cases() {
        let name = case.name;
        let (site, daemon) = broken(&case);
        let link = check_shown(&site, &case);
        let change = |version: Option<&str>, patch: &Value| site.client.send("PUT", &x(), version, &patch.to_string());
        problem(&change(Some("\"99\""), &case.good), 412, "version-outdated", name);
        problem(&change(None, &json!({ "lanes": 0 })), 400, "invalid-document", name);
        others_go_on(&site);
        let version = link.version.expect("a version");
        let changed = change(Some(&format!("\"{version}\"")), &case.good);
        assert_eq!(changed.status, 200, "{name}: {}", changed.body);
        let link: Link = serde_json::from_str(&changed.body).expect("a link");
        assert_eq!(link.version, Some(version + 1), "{name}");
        // A broker that does not answer is another trouble.
        assert!(link.error.as_ref().is_none_or(|error| error.code != case.code), "{name}: {:?}", link.error);
        others_go_on(&site);
        daemon.terminate();
        let _daemon = site.spawn();
        wait_until("the definition is read", || {
            let found = site.client.get(&x()).ok().filter(|found| found.status == 200);
            found.is_some_and(|found| found.json()["error"]["code"] != case.code)
        });
    }
}

#[test]
fn a_definition_that_cannot_be_used_is_deleted() {
    for case in cases() {
        let name = case.name;
        let (site, daemon) = broken(&case);
        let deletion = |version: Option<&str>| site.client.send("DELETE", &x(), version, "");
        problem(&deletion(Some("\"99\"")), 412, "version-outdated", name);
        let deleted = deletion(None);
        assert_eq!(deleted.status, 204, "{name}: {}", deleted.body);
        problem(&site.client.send("GET", &x(), None, ""), 404, "link-not-found", name);
        others_go_on(&site);
        daemon.terminate();
        let _daemon = site.start();
        let listed: Vec<Link> = site.client.read(LINKS);
        assert!(listed.iter().all(|link| link.id != "x"), "{name}: {listed:?}");
    }
}

#[test]
fn a_definition_that_cannot_be_used_is_tried_when_it_is_started() {
    for case in cases() {
        let (site, _daemon) = broken(&case);
        let started = site.client.send("POST", &format!("{}/start", x()), None, "");
        if case.starts {
            assert_eq!(started.status, 200, "{}: {}", case.name, started.body);
            site.client.await_caught_up("x");
        } else {
            problem(&started, 409, case.code, case.name);
        }
        others_go_on(&site);
    }
}

#[test]
fn a_definition_whose_secret_comes_back_is_used_and_the_log_says_once_why_it_was_not() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "no secret").expect("a case");
    let (site, daemon) = broken(case);
    // Whatever changes is a reason to examine it again, and none to say again what was said.
    for id in ["one", "two", "three"] {
        define(&site, &usable(id));
    }
    fs::write(site.path("secrets/password"), "hunter2").expect("a file");
    wait_until("it is used", || site.client.link("x").error.is_none_or(|error| error.code != case.code));
    let log = daemon.stderr();
    let told = log.lines().filter(|line| line.contains(case.code)).count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_definition_with_the_id_of_a_link_of_the_file_is_a_notice_of_that_link() {
    let site = Site::new("");
    fs::create_dir(site.path("secrets")).expect("a directory");
    configure(&site, SOUTH);
    let daemon = site.start();
    define(&site, &usable("x"));
    daemon.terminate();
    // In the file now, too: the file is first.
    let in_file = "[links.x]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"x.\"\n";
    configure(&site, in_file);
    let _daemon = site.start();
    let link = site.client.link("x");
    assert_eq!((link.version, link.error), (None, None));
    assert!(link.notices.iter().any(|notice| notice.code == "link-in-file"), "{:?}", link.notices);
    assert_eq!(site.client.read::<Vec<Link>>(LINKS).len(), 2, "the link is there once");
    problem(&site.client.send("DELETE", &x(), None, ""), 409, "link-in-file", "it is the file's");
    for what in ["stop", "start"] {
        let answer = site.client.send("POST", &format!("{}/{what}", x()), None, "");
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    }
    // Out of the file again.
    configure(&site, SOUTH);
    assert_eq!(site.client.send("POST", "/api/v1/reload", None, "").status, 200);
    wait_until("it is as it was defined", || {
        let found = site.client.send("GET", &x(), None, "");
        found.status == 200 && found.json()["version"] == 1 && found.json()["error"].is_null()
    });
}

#[test]
fn definitions_in_a_cluster_that_is_out_of_reach_say_so() {
    let site = Site::new("");
    let daemon = format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nmetadata = \"south\"\n", site.port);
    site.write_config(&[&*daemon, CLUSTERS, SOUTH, OF_FILE].concat());
    let _daemon = site.spawn();
    let asked = |method: &str| site.client.try_send(method, &x(), None, if method == "PUT" { "{}" } else { "" });
    let says = |method: &str| asked(method).is_ok_and(|answer| answer.status == 503 && answer.body.contains("south"));
    wait_until("it is known why", || says("GET"));
    for method in ["PUT", "DELETE"] {
        assert!(says(method), "{method}: {:?}", asked(method));
    }
    site.client.produce("east", "orders", &[json!({ "partition": 0, "value": "1" })]);
    site.client.await_caught_up("of-file");
}
