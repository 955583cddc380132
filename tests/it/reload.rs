//! The configuration file is read again while the daemon runs: what has changed reaches every link
//! that it concerns, also those that were defined by REST, or the answer names it.

use std::fs;

use serde_json::{Value, json};
use tidegate::api::wire::{Inspection, Link, LinkStatus, Problem, Reloaded};

use crate::harness::{LINKS, Site, plugin, wait_until};

/// The configuration of a daemon with these keys in `[daemon]`.
fn configure(site: &Site, daemon: &str, rest: &str) {
    let head = format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\n", site.port);
    site.write_config(&format!("{head}{daemon}\n[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n[clusters.west]\nkind = \"embedded\"\n[clusters.north]\nkind = \"embedded\"\n{rest}"));
}

fn define(site: &Site, definition: &Value) {
    let made = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
}

fn run(site: &Site, definition: &Value) {
    define(site, definition);
    let id = definition["id"].as_str().expect("an id");
    let started = site.client.send("POST", &format!("{LINKS}/{id}/start"), None, "");
    assert_eq!(started.status, 200, "{}", started.body);
}

fn reload(site: &Site) -> Reloaded {
    let mut done: Reloaded = site.cli_json(&["reload"]);
    done.changed.sort();
    done
}

fn changed(links: &[&str]) -> Reloaded {
    Reloaded { changed: links.iter().map(|&link| link.into()).collect(), ..Reloaded::default() }
}

fn pipeline(plugin: &str) -> Value {
    json!([{ "stage": "large", "plugin": plugin, "config": { "pointer": "/amount", "at_least": 100 } }])
}

#[test]
fn limits_reach_every_link_and_none_is_disturbed_for_nothing() {
    let site = Site::new("");
    let in_file = "[links.filed]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"filed.\"\n\
        [[links.filed.pipeline]]\nstage = \"large\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = { pointer = \"/amount\", at_least = 100 }\n";
    configure(&site, "", in_file);
    let daemon = site.start();
    let stored: Inspection = site.cli_json(&["plugin", "store", plugin("json-filter").to_str().expect("a path")]);
    let link = |id: &str, more: Value| {
        let mut link = json!({ "id": id, "topics": ["orders"], "topic_prefix": format!("{id}."),
            "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
            "pipeline": pipeline(&stored.digest.to_string()) });
        link.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        link
    };
    run(&site, &link("plain", json!({})));
    let both = json!({ "type": "active-active", "topic_prefix": "", "topics": ["both"], "dead_letters": "both.bad",
        "target_cluster": { "cluster_id": "north" },
        "reverse": { "dead_letters": "both.reverse.bad", "pipeline": pipeline(&stored.digest.to_string()) } });
    run(&site, &link("both", both));
    let all = ["both", "both.reverse", "filed", "plain"];
    let time_of = |id: &str| site.client.link(id).stages[0].limits.time_ms;
    let records: Vec<Value> =
        (0..20).map(|amount| json!({ "value": json!({ "amount": amount * 10 }).to_string() })).collect();
    site.client.produce("east", "orders", &records);
    for id in ["filed", "plain"] {
        site.client.await_caught_up(id);
    }

    configure(&site, "[daemon.limits]\ntime_ms = 77", in_file);
    assert_eq!(reload(&site), changed(&["both", "filed", "plain"]));
    for id in all {
        wait_until("it runs with the new limit", || site.client.link(id).status == LinkStatus::Active);
        assert_eq!(time_of(id), 77, "{id}");
    }
    // They go on where they were.
    site.client.produce("east", "orders", &records);
    for id in ["filed", "plain"] {
        site.client.await_caught_up(id);
        assert_eq!(site.client.ends("west", &format!("{id}.orders")), [20], "{id}");
    }
    let begun = || all.map(|id| site.client.link(id).started_at);
    let before = begun();
    assert_eq!(reload(&site), Reloaded::default(), "nothing has changed");
    configure(&site, "metrics_partitions_max = 7\n[daemon.limits]\ntime_ms = 77", in_file);
    assert_eq!(reload(&site), Reloaded::default(), "no link has to do with that");
    assert_eq!(begun(), before);
    daemon.terminate();
    let _daemon = site.start();
    wait_until("definitions are read", || site.client.get(&format!("{LINKS}/both")).is_ok_and(|it| it.status == 200));
    assert_eq!(all.map(time_of), [77; 4], "a restart changes nothing either");
}

/// No broker answers here: what links say of that names the broker that they try.
#[test]
fn a_cluster_that_has_changed_reaches_every_link_that_uses_it_and_no_other() {
    let site = Site::new("");
    let rest = |port: u16| {
        format!(
            "[clusters.far]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:{port}\"]\n\
             [links.filed]\nsource = \"far\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"filed.\"\n"
        )
    };
    configure(&site, "", &rest(9));
    let _daemon = site.start();
    let link = |id: &str, source: &str, target: &str| {
        json!({ "id": id, "topics": ["orders"], "topic_prefix": format!("{id}."),
            "source_cluster": { "cluster_id": source }, "target_cluster": { "cluster_id": target } })
    };
    run(&site, &link("from", "far", "west"));
    run(&site, &link("near", "east", "west"));
    let tries = |id: &str, port: u16| {
        let link = site.client.link(id);
        let said = serde_json::to_string(&(link.error, link.lanes)).expect("a text");
        said.contains(&format!("127.0.0.1:{port}"))
    };
    for id in ["filed", "from"] {
        wait_until("it tries the broker", || tries(id, 9));
    }
    let near = site.client.link("near").started_at;
    configure(&site, "", &rest(10));
    assert_eq!(reload(&site), changed(&["filed", "from"]));
    for id in ["filed", "from"] {
        wait_until("it tries the other broker", || tries(id, 10));
    }
    assert_eq!(site.client.link("near").started_at, near);

    // The cluster goes, and a link that was not defined in the file needs it.
    configure(&site, "", "");
    let done = reload(&site);
    assert_eq!((&*done.removed, done.failed.len()), (&["filed".to_owned()][..], 1));
    assert!(done.failed[0].starts_with("clusters.far stays: "), "{:?}", done.failed);
    assert!(tries("from", 10));
}

#[test]
fn a_link_that_cannot_follow_goes_on_and_is_named_until_it_can() {
    let site = Site::new("");
    configure(&site, "secrets_dir = \"secrets\"", "");
    fs::create_dir(site.path("secrets")).expect("a directory");
    fs::write(site.path("secrets/password"), "open sesame\n").expect("a file");
    fs::write(site.path("secrets/brokers"), "127.0.0.1\n").expect("a file");
    let daemon = site.start();
    let far = json!({ "cluster_id": "far", "brokers": ["127.0.0.1:9"], "security": {
        "sasl": { "mechanism": "SCRAM-SHA-256", "username": "ann", "password": "${file:password}" } } });
    define(
        &site,
        &json!({ "id": "x", "topics": ["orders"], "source_cluster": { "cluster_id": "east" }, "target_cluster": far }),
    );
    configure(&site, "", "");
    let done = reload(&site);
    assert_eq!((&*done.changed, done.failed.len()), (&[][..], 1));
    assert!(done.failed[0].starts_with("links.x goes on as before: "), "{:?}", done.failed);
    let warned = || {
        let link: Link = site.client.link("x");
        link.notices.iter().any(|notice| notice.code == "definition-unusable")
    };
    assert!(warned());
    configure(&site, "secrets_dir = \"secrets\"", "");
    assert_eq!(reload(&site), Reloaded::default(), "it runs with these settings");
    wait_until("nothing is wrong any more", || !warned());
    daemon.terminate();
}

/// A definition may bring a cluster with it. One of the file would be passed over for it.
#[test]
fn a_cluster_of_the_file_takes_no_id_that_a_definition_has_brought() {
    let site = Site::new("");
    configure(&site, "", "");
    let _daemon = site.start();
    define(
        &site,
        &json!({ "id": "x", "topics": ["orders"], "source_cluster": { "cluster_id": "east" },
        "target_cluster": { "cluster_id": "far", "brokers": ["127.0.0.1:9"] } }),
    );
    configure(&site, "", "[clusters.far]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:10\"]\n");
    let refused = site.client.send("POST", "/api/v1/reload", None, "");
    let problem: Problem = serde_json::from_str(&refused.body).expect("a problem document");
    assert_eq!((refused.status, &*problem.code), (409, "cluster-exists"), "{}", refused.body);
}

/// Both ways of a link are started and stopped as one, also one that has only just come.
#[test]
fn a_link_that_was_stopped_stays_stopped_when_it_becomes_two_way() {
    let link = |kind: &str| {
        format!("[links.pair]\ntype = \"{kind}\"\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n")
    };
    let site = Site::new("");
    configure(&site, "", &link("active-passive"));
    let _daemon = site.start();
    for (order, status) in [("pause", LinkStatus::Paused), ("stop", LinkStatus::Stopped)] {
        configure(&site, "", &link("active-passive"));
        reload(&site);
        for order in ["start", order] {
            let done = site.client.send("POST", &format!("{LINKS}/pair/{order}"), None, "");
            assert!(done.status < 300, "{}", done.body);
        }
        configure(&site, "", &link("active-active"));
        reload(&site);
        for id in ["pair", "pair.reverse"] {
            wait_until("it has found its order", || site.client.link(id).status != LinkStatus::Starting);
            assert_eq!(site.client.link(id).status, status, "{order}: {id}");
        }
        let started = site.client.send("POST", &format!("{LINKS}/pair/start"), None, "");
        assert!(started.status < 300, "{}", started.body);
    }
}
