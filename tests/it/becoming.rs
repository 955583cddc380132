//! Links that become two-way when they have copied records already: nothing goes back to where it
//! came from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{LINKS, Site, wait_until};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.t.partitions = 2\n\
                        [clusters.west]\nkind = \"embedded\"\ntopics.t.partitions = 2\n";

fn link(id: &str, from: &str, to: &str, says: &str) -> String {
    format!("[links.{id}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"t\"]\n{says}")
}

fn write(site: &Site, cluster: &str, values: &[&str]) {
    let record = |(number, value): (usize, &&str)| json!({ "partition": number % 2, "value": value });
    site.client.produce(cluster, "t", &values.iter().enumerate().map(record).collect::<Vec<Value>>());
}

/// How often each value is at a cluster.
fn values(site: &Site, cluster: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in (0..2).flat_map(|partition| site.client.records(cluster, "t", partition)) {
        *counts.entry(String::from_utf8(record.value.expect("a value")).expect("text")).or_default() += 1;
    }
    counts
}

/// Both clusters have all that was written to either, once, and stay so.
fn is_everywhere_once(site: &Site, links: [&str; 2], what: &str) {
    let all: BTreeMap<String, usize> =
        ["e1", "e2", "e3", "e4", "e5", "w1", "w2", "w3"].map(|value| (value.to_owned(), 1)).into();
    wait_until(&format!("{what}: everything is everywhere"), || {
        ["east", "west"].iter().all(|cluster| values(site, cluster).len() == all.len())
    });
    // What still went round would be copied until both are at the ends of what they read.
    (0..2).flat_map(|_| links).for_each(|link| site.client.await_caught_up(link));
    for cluster in ["east", "west"] {
        assert_eq!(values(site, cluster), all, "{what}: {cluster}");
    }
}

#[test]
fn what_was_copied_before_does_not_go_back() {
    let two_way = |kind: &str| link("l", "east", "west", &format!("type = \"{kind}\"\n"));
    let marked = |id, from, to| link(id, from, to, "provenance = true\n");
    let becomes = [
        ("active-active", two_way("active-active"), ["l", "l.reverse"]),
        ("star", two_way("star"), ["l", "l.reverse"]),
        ("two links", marked("l", "east", "west") + &marked("m", "west", "east"), ["l", "m"]),
    ];
    for (kind, links, ids) in becomes {
        for by_reload in [true, false] {
            let what = format!("{kind}, by reload: {by_reload}");
            let site = Site::new(&(CLUSTERS.to_owned() + &link("l", "east", "west", "")));
            let mut daemon = site.start();
            write(&site, "east", &["e1", "e2", "e3"]);
            site.client.await_caught_up("l");
            write(&site, "west", &["w1", "w2"]);
            site.configure(&(CLUSTERS.to_owned() + &links));
            if by_reload {
                assert_eq!(site.client.post("/api/v1/reload", "").expect("an answer").status, 200);
            } else {
                daemon.kill();
                daemon = site.start();
            }
            write(&site, "east", &["e4", "e5"]);
            write(&site, "west", &["w3"]);
            is_everywhere_once(&site, ids, &what);
            // Also after another start.
            daemon.kill();
            let _daemon = site.start();
            is_everywhere_once(&site, ids, &what);
        }
    }
}

/// One link marks for a while, and the other way comes later.
#[test]
fn the_other_way_may_come_later() {
    let marked = |id, from, to| link(id, from, to, "provenance = true\n");
    let site = Site::new(&(CLUSTERS.to_owned() + &link("l", "east", "west", "")));
    let daemon = site.start();
    write(&site, "east", &["e1", "e2"]);
    site.client.await_caught_up("l");
    write(&site, "west", &["w1", "w2"]);
    daemon.terminate();
    site.configure(&(CLUSTERS.to_owned() + &marked("l", "east", "west")));
    let daemon = site.start();
    write(&site, "east", &["e3", "e4", "e5"]);
    site.client.await_caught_up("l");
    daemon.terminate();
    site.configure(&(CLUSTERS.to_owned() + &marked("l", "east", "west") + &marked("m", "west", "east")));
    let _daemon = site.start();
    write(&site, "west", &["w3"]);
    is_everywhere_once(&site, ["l", "m"], "later");
}

#[test]
fn a_defined_link_becomes_two_way() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    let definition = json!({
        "id": "l", "topics": ["t"],
        "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
    });
    assert_eq!(site.client.send("POST", LINKS, None, &definition.to_string()).status, 201);
    let say = |what: &str| assert_eq!(site.client.send("POST", &format!("{LINKS}/l/{what}"), None, "").status, 200);
    say("start");
    write(&site, "east", &["e1", "e2", "e3"]);
    site.client.await_caught_up("l");
    write(&site, "west", &["w1", "w2"]);
    say("pause");
    let put = site.client.send("PUT", &format!("{LINKS}/l"), None, r#"{"type":"active-active"}"#);
    assert_eq!(put.status, 200, "{}", put.body);
    say("start");
    write(&site, "east", &["e4", "e5"]);
    write(&site, "west", &["w3"]);
    is_everywhere_once(&site, ["l", "l.reverse"], "by REST");
}

/// A plugin may have sent records anywhere: the other way does not begin until somebody says where.
#[test]
fn where_it_is_not_known_what_was_copied_somebody_has_to_say() {
    let stage = "[[links.l.pipeline]]\nstage = \"s\"\nplugin = \"PLUGINS/route.wasm\"\nconfig = { pointer = \"/k\", routes = {}, partition_by = \"/k\" }\n";
    let site = Site::new(&(CLUSTERS.to_owned() + &link("l", "east", "west", "") + stage));
    let daemon = site.start();
    write(&site, "east", &["{\"k\":1}", "{\"k\":2}", "{\"k\":3}"]);
    site.client.await_caught_up("l");
    daemon.terminate();
    let both = |says: &str| {
        let links = link("l", "east", "west", "provenance = true\n") + stage + &link("m", "west", "east", says);
        site.configure(&(CLUSTERS.to_owned() + &links));
    };
    both("provenance = true\n");
    let daemon = site.start();
    wait_until("it is refused", || site.client.link("m").error.is_some_and(|error| error.code == "start-unknown"));
    let error = site.client.link("m").error.expect("an error");
    assert!(error.message.contains("link l") && error.remedy.contains("start"), "{error:?}");
    assert_eq!(values(&site, "east").len(), 3);
    daemon.terminate();
    both("provenance = true\nstart = \"latest\"\n");
    let _daemon = site.start();
    site.client.await_caught_up("m");
    assert!(values(&site, "east").values().all(|count| *count == 1));
}
