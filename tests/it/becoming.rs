//! Links that become two-way when they have copied records already: nothing goes back to where it
//! came from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use tidegate::api::wire::RevisionOrigin;

use crate::harness::{Daemon, LINKS, Site, wait_until};

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

/// Both ways of `l` find no difference, and nothing comes again after a kill.
fn is_right_after_a_kill(site: &Site, daemon: Daemon) {
    for link in ["l", "l.reverse"] {
        let verified = site.cli(&["verify", link]);
        assert!(matches!(verified.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&verified.stdout));
    }
    daemon.kill();
    let _daemon = site.start();
    is_everywhere_once(site, ["l", "l.reverse"], "after a restart");
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

fn reload(site: &Site, text: &str) {
    site.configure(text);
    let done = site.client.post("/api/v1/reload", "").expect("an answer");
    assert_eq!(done.status, 200, "{}", done.body);
}

/// What ends circles is a property of the link: no revision that comes back takes it away.
#[test]
fn a_rollback_takes_no_marks_away() {
    let site = Site::new(&(CLUSTERS.to_owned() + &link("l", "east", "west", "")));
    let daemon = site.start();
    write(&site, "east", &["e1", "e2"]);
    site.client.await_caught_up("l");
    reload(&site, &(CLUSTERS.to_owned() + &link("l", "east", "west", "type = \"active-active\"\n")));
    write(&site, "west", &["w1", "w2"]);
    ["l", "l.reverse"].iter().for_each(|link| site.client.await_caught_up(link));
    let refused = site.client.post(&format!("{LINKS}/l/rollback"), "").expect("an answer");
    assert_eq!(refused.status, 409, "nothing but the marks has changed: {}", refused.body);
    assert!(site.cli(&["plugin", "rollback", "l", "--to", "1"]).status.success());
    write(&site, "east", &["e3", "e4", "e5"]);
    write(&site, "west", &["w3"]);
    is_everywhere_once(&site, ["l", "l.reverse"], "after a rollback");
    is_right_after_a_kill(&site, daemon);
}

#[test]
fn an_automatic_rollback_takes_no_marks_away() {
    let site = Site::new(&(CLUSTERS.to_owned() + &link("l", "east", "west", "")));
    let _daemon = site.start();
    write(&site, "east", &["e1", "e2"]);
    site.client.await_caught_up("l");
    let stage = "reverse = { pipeline = [] }\n[[links.l.pipeline]]\nstage = \"s\"\nplugin = \"PLUGINS/json-filter.wasm\"\n\
                 config = { pointer = \"/a\", exists = true }\n";
    let two_way = link("l", "east", "west", &format!("type = \"active-active\"\n{stage}"));
    reload(&site, &(CLUSTERS.to_owned() + &two_way));
    // None of them is JSON.
    let bad: Vec<Value> = (0..2000).map(|_| json!({ "partition": 0, "value": "bad" })).collect();
    site.client.produce("east", "t", &bad);
    wait_until("the revision before is back", || site.client.revisions("l").len() == 3);
    assert_eq!(site.client.revisions("l")[2].origin, RevisionOrigin::Automatic);
    write(&site, "west", &["w1"]);
    write(&site, "east", &["e3"]);
    wait_until("records go on", || {
        ["east", "west"].iter().all(|at| ["w1", "e3"].iter().all(|value| values(&site, at).contains_key(*value)))
    });
    (0..2).flat_map(|_| ["l", "l.reverse"]).for_each(|link| site.client.await_caught_up(link));
    for cluster in ["east", "west"] {
        let values = values(&site, cluster);
        assert!(values.iter().all(|(value, count)| value == "bad" || *count == 1), "{cluster}: {values:?}");
        assert!(values["bad"] <= 2000, "{cluster}: {values:?}");
    }
}

/// A link that marked and goes one way now marks on: what it writes meanwhile does not go back.
#[test]
fn two_ways_become_one_and_two_again() {
    let two_way = CLUSTERS.to_owned() + &link("l", "east", "west", "type = \"active-active\"\n");
    let one_way = CLUSTERS.to_owned() + &link("l", "east", "west", "");
    let site = Site::new(&two_way);
    let daemon = site.start();
    write(&site, "east", &["e1", "e2"]);
    write(&site, "west", &["w1"]);
    ["l", "l.reverse"].iter().for_each(|link| site.client.await_caught_up(link));
    reload(&site, &one_way);
    write(&site, "east", &["e3", "e4"]);
    write(&site, "west", &["w2"]);
    site.client.await_caught_up("l");
    reload(&site, &two_way);
    write(&site, "east", &["e5"]);
    write(&site, "west", &["w3"]);
    is_everywhere_once(&site, ["l", "l.reverse"], "two ways again");
    is_right_after_a_kill(&site, daemon);
}

/// A link that has begun long ago comes back, and another one has written to its source without a
/// mark meanwhile: nobody knows what clients have written among that.
#[test]
fn what_was_copied_while_the_other_way_was_gone_is_named() {
    // Also if it began behind what that one had written before.
    [false, true].into_iter().for_each(comes_back_behind_another);
}

fn comes_back_behind_another(was_there_before: bool) {
    let marked = |id, from, to| link(id, from, to, "provenance = true\n");
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    if was_there_before {
        reload(&site, &(CLUSTERS.to_owned() + &link("l", "east", "west", "")));
        write(&site, "east", &["e8", "e9"]);
        site.client.await_caught_up("l");
    }
    reload(&site, &(CLUSTERS.to_owned() + &marked("m", "west", "east")));
    write(&site, "west", &["w1", "w2"]);
    site.client.await_caught_up("m");
    reload(&site, &(CLUSTERS.to_owned() + &link("l", "east", "west", "")));
    write(&site, "east", &["e1", "e2"]);
    site.client.await_caught_up("l");
    let both = |l: &str| CLUSTERS.to_owned() + &link("l", "east", "west", l) + &marked("m", "west", "east");
    reload(&site, &both("provenance = true\n"));
    let error = || site.client.link("m").error;
    wait_until("it is refused", || error().is_some_and(|error| error.code == "start-unknown"));
    let (message, remedy) = error().map(|error| (error.message, error.remedy)).expect("an error");
    assert!(message.contains("link l") && remedy.contains("reset"), "{message}; {remedy}");
    assert!(site.cli(&["link", "reset", "m", "--topic", "t", "--to", "latest"]).status.success());
    write(&site, "east", &["e3", "e4"]);
    write(&site, "west", &["w3"]);
    wait_until("records go on", || {
        ["east", "west"].iter().all(|at| ["w3", "e3", "e4"].iter().all(|value| values(&site, at).contains_key(*value)))
    });
    (0..2).flat_map(|_| ["l", "m"]).for_each(|link| site.client.await_caught_up(link));
    // A link without marks looks at none: it has copied w1 and w2 once more.
    for cluster in ["east", "west"] {
        let mut values = values(&site, cluster);
        values.retain(|value, _| value.starts_with('e') || value == "w3");
        assert!(values.values().all(|count| *count == 1), "{cluster}: {values:?}");
    }
}

/// Clusters that had a link without marks get into a star: its records would come on two ways.
#[test]
fn an_old_link_between_spokes_of_a_star_is_named() {
    let clusters = CLUSTERS.to_owned() + "[clusters.hub]\nkind = \"embedded\"\ntopics.t.partitions = 2\n";
    let star = |id: &str, to: &str, more: &str| link(id, "hub", to, &format!("type = \"star\"\n{more}"));
    let spoke = |to: &str| star(if to == "east" { "he" } else { "hw" }, to, "");
    // Whichever of the spokes comes first, or both at once.
    for steps in
        [vec![vec!["east", "west"]], vec![vec!["east"], vec!["east", "west"]], vec![vec!["west"], vec!["east", "west"]]]
    {
        let what = format!("{steps:?}");
        let site = Site::new(&(clusters.clone() + &link("old", "east", "west", "")));
        let _daemon = site.start();
        write(&site, "east", &["e1", "e2", "e3"]);
        site.client.await_caught_up("old");
        let mut known: Vec<&str> = Vec::new();
        for step in &steps {
            reload(&site, &(clusters.clone() + &step.iter().map(|to| spoke(to)).collect::<String>()));
            let new = step.iter().filter(|to| !known.contains(*to)).map(|to| if *to == "east" { "he" } else { "hw" });
            for id in new.flat_map(|id| [id.to_owned(), format!("{id}.reverse")]) {
                if step.len() == 1 {
                    site.client.await_caught_up(&id);
                    continue;
                }
                let error = || site.client.link(&id).error;
                wait_until(&format!("{what}: {id} is refused"), || {
                    error().is_some_and(|it| it.code == "start-unknown")
                });
                assert!(error().is_some_and(|it| it.message.contains("link old")), "{what}: {:?}", error());
            }
            known = step.clone();
        }
        // A person says which way they go.
        let late = "start = \"latest\"\nreverse = { start = \"latest\" }\n";
        let said = match &*steps[0] {
            ["west"] => spoke("west") + &star("he", "east", late),
            _ => spoke("east") + &star("hw", "west", late),
        };
        if steps.len() > 1 {
            reload(&site, &(clusters.clone() + &said));
        } else {
            reload(&site, &(clusters.clone() + &spoke("east")));
            assert_eq!(site.client.send("POST", &format!("{LINKS}/he/start"), None, "").status, 200);
            ["he", "he.reverse"].iter().for_each(|id| site.client.await_caught_up(id));
            reload(&site, &(clusters.clone() + &said));
        }
        for id in ["he", "he.reverse", "hw", "hw.reverse"] {
            site.client.await_caught_up(id);
        }
        write(&site, "west", &["w1", "w2"]);
        write(&site, "hub", &["h1"]);
        let has_all = |at: &&str| ["w1", "w2", "h1"].iter().all(|value| values(&site, at).contains_key(*value));
        wait_until(&format!("{what}: records go on"), || ["east", "west", "hub"].iter().all(has_all));
        for _ in 0..2 {
            ["he", "he.reverse", "hw", "hw.reverse"].iter().for_each(|id| site.client.await_caught_up(id));
        }
        for cluster in ["east", "west", "hub"] {
            let values = values(&site, cluster);
            assert!(values.len() == 6 && values.values().all(|count| *count == 1), "{what}: {cluster}: {values:?}");
        }
    }
}

/// What nobody doubts begins by itself: a chain that was there before it got marks.
#[test]
fn a_chain_that_gets_marks_begins_by_itself() {
    let clusters = CLUSTERS.to_owned() + "[clusters.hub]\nkind = \"embedded\"\ntopics.t.partitions = 2\n";
    let site = Site::new(&(clusters.clone() + &link("he", "hub", "east", "")));
    let _daemon = site.start();
    write(&site, "hub", &["h1", "h2"]);
    site.client.await_caught_up("he");
    let star = |id, to| link(id, "hub", to, "type = \"star\"\n");
    reload(&site, &(clusters + &star("he", "east") + &star("hw", "west")));
    write(&site, "west", &["w1", "w2"]);
    write(&site, "east", &["e1", "e2"]);
    let has_all = |at: &&str| values(&site, at).len() == 6;
    wait_until("everything is everywhere", || ["east", "west", "hub"].iter().all(has_all));
    for _ in 0..2 {
        ["he", "he.reverse", "hw", "hw.reverse"].iter().for_each(|id| site.client.await_caught_up(id));
    }
    for cluster in ["east", "west", "hub"] {
        assert!(values(&site, cluster).values().all(|count| *count == 1), "{cluster}: {:?}", values(&site, cluster));
    }
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
