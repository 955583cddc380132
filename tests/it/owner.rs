//! Topics whose settings several links could change: one of them does, and soon nothing changes any
//! more.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;
use tidegate::api::wire::{Event, Link, Plan, PlannedAction, PlannedTopic};

use crate::harness::{LINKS, Site, wait_until};

const HOUR_MS: u64 = 3_600_000;

/// Links between clusters.
struct Net {
    clusters: &'static [&'static str],
    /// From where to where.
    links: &'static [(&'static str, &'static str)],
    /// What each link says of itself.
    says: &'static str,
}

const TWO_WAY: Net =
    Net { clusters: &["east", "west"], links: &[("east", "west")], says: "type = \"active-active\"\n" };
const MARKED: Net =
    Net { clusters: &["east", "west"], links: &[("east", "west"), ("west", "east")], says: "provenance = true\n" };
const RING: Net = Net {
    clusters: &["east", "west", "north"],
    links: &[("east", "west"), ("west", "north"), ("north", "east")],
    says: "provenance = true\n",
};
const STAR: Net = Net {
    clusters: &["east", "west", "north"],
    links: &[("east", "west"), ("east", "north")],
    says: "type = \"star\"\n",
};
const FAN_IN: Net =
    Net { clusters: &["east", "west", "north"], links: &[("east", "north"), ("west", "north")], says: "" };
const FAN_OUT: Net =
    Net { clusters: &["east", "west", "north"], links: &[("east", "north"), ("east", "west")], says: "" };

impl Net {
    /// `declared`: the hours that records of `t` stay at a cluster.
    fn config(&self, declared: &[(&str, u64)], autostart: bool) -> String {
        let cluster = |id: &&str| format!("[clusters.{id}]\nkind = \"embedded\"\n");
        let topic = |(id, hours): &(&str, u64)| format!("[clusters.{id}.topics.t]\nretention = \"{hours}h\"\n");
        let link = |(from, to): &(&str, &str)| {
            format!(
                "[links.{from}-{to}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"t\", \"/look-.*/\"]\n\
                 topic_refresh = \"100ms\"\nautostart = {autostart}\n{}",
                self.says
            )
        };
        let clusters = self.clusters.iter().map(cluster);
        let declared = declared.iter().filter(|(id, _)| self.clusters.contains(id));
        clusters.chain(declared.map(topic)).chain(self.links.iter().map(link)).collect()
    }
}

fn links(site: &Site) -> Vec<String> {
    site.client.read::<Vec<Link>>(LINKS).into_iter().map(|link| link.id).collect()
}

/// The hours that records of a topic stay.
fn hours(site: &Site, cluster: &str) -> Option<u64> {
    let topic: tidegate::api::wire::Topic = site.client.read(&format!("/api/v1/clusters/{cluster}/topics/t"));
    topic.retention.expect("embedded").age_ms_max.map(|age| age / HOUR_MS)
}

fn create(site: &Site, cluster: &str, topic: &str) {
    let answer = site.client.post(&format!("/api/v1/clusters/{cluster}/topics"), json!({ "name": topic }).to_string());
    assert!([201, 409].contains(&answer.expect("an answer").status));
}

/// Wait until every link has compared its topics so many times: it does so when it has copied a
/// topic that is new.
fn await_refreshes(site: &Site, times: usize) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..times {
        let number = NUMBER.fetch_add(1, Relaxed);
        for link in links(site).into_iter().map(|id| site.client.link(&id)) {
            let topic = format!("look-{number}-{}", link.source);
            create(site, &link.source, &topic);
            wait_until(&format!("{} copies {topic}", link.id), || {
                site.client.topics(&link.target).iter().any(|found| found.name == topic)
            });
        }
    }
}

/// How often settings were changed.
fn changes(site: &Site) -> u64 {
    let of = |link: String| {
        let events: Vec<Event> = site.client.read(&format!("{LINKS}/{link}/events"));
        events.iter().filter(|event| event.kind == "topic-settings-changed").map(|event| event.count).sum::<u64>()
    };
    links(site).into_iter().map(of).sum()
}

/// Nothing changes any more, and no link plans that anything will.
fn is_settled(site: &Site, what: &str) {
    await_refreshes(site, 3);
    let before = changes(site);
    await_refreshes(site, 5);
    assert_eq!(changes(site), before, "{what}: settings change again and again");
    for link in links(site) {
        let is_done = |topic: &PlannedTopic| {
            topic.action == PlannedAction::Keep && topic.settings.is_empty() && topic.acls.is_empty()
        };
        // The topic that was created last may still go round.
        wait_until(&format!("{what}: {link} has nothing to do"), || {
            let plan: Plan = site.client.read(&format!("{LINKS}/{link}/plan"));
            plan.topics.iter().all(is_done)
        });
    }
}

/// Have every cluster keep `t` as long as `stays` says (no word: for ever), with nobody declaring
/// it any more, before the links start.
fn played(net: &Net, stays: &[(&str, u64)], declared: &[(&str, u64)], is_everywhere: bool) -> Site {
    let site = Site::new(&net.config(stays, false));
    let daemon = site.start();
    if is_everywhere {
        net.clusters.iter().for_each(|cluster| create(&site, cluster, "t"));
    }
    daemon.terminate();
    site.configure(&net.config(declared, true));
    site
}

/// What is on several sides before the links come stays as it is there: nobody knows who was first.
#[test]
fn topics_of_several_sides_keep_their_settings_where_records_go_both_ways() {
    for (name, net) in [("two-way", TWO_WAY), ("marked", MARKED), ("ring", RING), ("star", STAR)] {
        let site = played(&net, &[("west", 1)], &[], true);
        let _daemon = site.start();
        is_settled(&site, name);
        assert_eq!(hours(&site, "west"), Some(1), "{name}");
        for cluster in net.clusters.iter().filter(|cluster| **cluster != "west") {
            assert_eq!(hours(&site, cluster), None, "{name}: {cluster}");
        }
        let differ = |link: &String| {
            let notices = site.client.link(link).notices;
            notices.iter().any(|notice| notice.code == "topic-settings-differ" && notice.topic.as_deref() == Some("t"))
        };
        assert!(links(&site).iter().any(differ), "{name}: nothing is said of it");
    }
}

/// What a file declares counts there, and only there.
#[test]
fn a_declaration_counts_where_it_is_made() {
    for (name, net) in [("two-way", TWO_WAY), ("marked", MARKED), ("ring", RING), ("star", STAR)] {
        let site = played(&net, &[("west", 1)], &[("west", 2)], true);
        let _daemon = site.start();
        is_settled(&site, name);
        assert_eq!((hours(&site, "west"), hours(&site, "east")), (Some(2), None), "{name}");
        let site = played(&net, &[], &[("west", 1), ("east", 3)], true);
        let _daemon = site.start();
        is_settled(&site, name);
        assert_eq!((hours(&site, "west"), hours(&site, "east")), (Some(1), Some(3)), "{name}");
    }
}

/// What links create has the settings of where it was first, through all of them.
#[test]
fn copies_follow_the_topic_that_was_first() {
    for (name, net) in [("two-way", TWO_WAY), ("marked", MARKED), ("ring", RING), ("star", STAR), ("fan-out", FAN_OUT)]
    {
        let site = played(&net, &[("east", 1)], &[("east", 1)], false);
        let daemon = site.start();
        is_settled(&site, name);
        for cluster in net.clusters {
            assert_eq!(hours(&site, cluster), Some(1), "{name}: {cluster}");
        }
        // The root changes, and its copies follow.
        daemon.terminate();
        site.configure(&net.config(&[("east", 4)], true));
        let daemon = site.start();
        wait_until("all follow", || net.clusters.iter().all(|cluster| hours(&site, cluster) == Some(4)));
        daemon.terminate();
        // A copy that somebody changes is set back.
        site.configure(&net.config(&[("east", 4), ("north", 7), ("west", 7)], true));
        let daemon = site.start();
        let mut others = net.clusters.iter().filter(|cluster| **cluster != "east");
        assert!(others.all(|cluster| hours(&site, cluster) == Some(7)), "{name}");
        daemon.terminate();
        site.configure(&net.config(&[], true));
        let _daemon = site.start();
        wait_until("all follow again", || net.clusters.iter().all(|cluster| hours(&site, cluster) == Some(4)));
        is_settled(&site, name);
    }
}

/// A definition loses one of its ways: what that has claimed is free.
#[test]
fn a_way_that_a_link_loses_keeps_no_settings() {
    let cluster = |id: &str| format!("[clusters.{id}]\nkind = \"embedded\"\n");
    let topic = |id: &str, hours: u64| format!("[clusters.{id}.topics.t]\nretention = \"{hours}h\"\n");
    let clusters = ["east", "west", "north"].map(cluster).concat();
    let site = Site::new(&(clusters + &topic("west", 1) + &topic("north", 2)));
    let _daemon = site.start();
    let define = |id: &str, source: &str, target: &str, topology: &str| {
        let definition = json!({
            "id": id, "type": topology, "source_cluster": { "cluster_id": source }, "target_cluster": { "cluster_id": target },
            "topics": ["t"], "topic_refresh": "100ms", "autostart": true,
        });
        let answer = site.client.send("POST", LINKS, None, &definition.to_string());
        assert_eq!(answer.status, 201, "{}", answer.body);
    };
    define("pair", "east", "west", "active-active");
    wait_until("the reverse way creates its copy", || {
        site.client.topics("east").iter().any(|topic| topic.name == "t") && hours(&site, "east") == Some(1)
    });
    let paused = site.client.send("POST", &format!("{LINKS}/pair/pause"), None, "");
    assert_eq!(paused.status, 200, "{}", paused.body);
    let changed = json!({ "type": "active-passive", "topics": ["other"] }).to_string();
    let answer = site.client.send("PUT", &format!("{LINKS}/pair"), None, &changed);
    assert_eq!(answer.status, 200, "{}", answer.body);
    define("single", "north", "east", "active-passive");
    wait_until("another link keeps its settings", || hours(&site, "east") == Some(2));
}

/// Of two links into one topic, one keeps its settings; when it is gone, the other one does.
#[test]
fn two_links_into_one_topic_do_not_fight() {
    let site = played(&FAN_IN, &[("east", 1), ("west", 2)], &[], true);
    let daemon = site.start();
    is_settled(&site, "fan-in");
    let first = hours(&site, "north").expect("one of them keeps it");
    let (owner, other) = if first == 1 { ("east", "west") } else { ("west", "east") };
    let notices = site.client.link(&format!("{other}-north")).notices;
    let said = notices.iter().find(|notice| notice.code == "topic-settings-differ").expect("a notice");
    assert!(said.message.contains(&format!("{owner}-north")), "{said:?}");
    let rest = Net { links: if first == 1 { &[("west", "north")] } else { &[("east", "north")] }, ..FAN_IN };
    site.configure(&rest.config(&[], true));
    assert_eq!(site.client.post("/api/v1/reload", "").expect("an answer").status, 200);
    wait_until("the other one keeps it", || hours(&site, "north") == Some(3 - first));
    is_settled(&site, "fan-in");
    drop(daemon);
}
