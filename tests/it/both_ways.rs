//! Clusters that all are written to, with the same topic names everywhere: each record is at each of them once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use tidegate::api::wire::{Link, LinkStatus, Verdict, Verification};

use crate::harness::{LINKS, Site, wait_until};

/// Links between clusters, and how they are written.
struct Net<'a> {
    clusters: &'a [&'a str],
    links: &'a [(&'a str, &'a str)],
    /// What each link says of itself.
    says: &'a str,
}

impl Net<'_> {
    fn site(&self) -> Site {
        let cluster = |id: &&str| format!("[clusters.{id}]\nkind = \"embedded\"\ntopics.orders.partitions = 3\n");
        let link = |(from, to): &(&str, &str)| {
            let says = self.says;
            format!("[links.{from}-{to}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"orders\"]\n{says}\n")
        };
        Site::new(&(self.clusters.iter().map(cluster).chain(self.links.iter().map(link)).collect::<String>()))
    }
}

fn write(site: &Site, cluster: &str, round: usize) {
    let record = |number: usize| json!({ "key": format!("{number}"), "value": format!("{cluster}-{round}-{number}") });
    site.client.produce(cluster, "orders", &(0..100).map(record).collect::<Vec<Value>>());
}

/// How often each value is at a cluster.
fn values(site: &Site, cluster: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in (0..3).flat_map(|partition| site.client.records(cluster, "orders", partition)) {
        let value = String::from_utf8(record.value.expect("a value")).expect("text");
        *counts.entry(value).or_default() += 1;
    }
    counts
}

/// Write everywhere, kill the daemon, write again, and see that everything is everywhere once, and stays so.
fn everything_comes_everywhere_once(net: &Net<'_>) {
    let (site, clusters) = (net.site(), net.clusters);
    let mut daemon = site.start();
    for round in 0..3 {
        clusters.iter().for_each(|cluster| write(&site, cluster, round));
        daemon.kill();
        daemon = site.start();
    }
    let all = 300 * clusters.len();
    let has_all = |cluster: &&str| values(&site, cluster).len() == all;
    wait_until("everything is everywhere", || clusters.iter().all(has_all));
    // What still went round would be copied until all links are at the ends of what they read.
    let links: Vec<Link> = serde_json::from_str(&site.client.get(LINKS).expect("an answer").body).expect("links");
    links.iter().for_each(|link| site.client.await_caught_up(&link.id));
    for cluster in clusters {
        assert!(values(&site, cluster).values().all(|count| *count == 1), "{cluster} has something twice");
    }
    links.iter().for_each(|link| only_others_are_left_out(&site, link, all as u64));
}

/// The verification of a link whose target has `all` records: those that it has not written are counted, and everything else is compared.
fn only_others_are_left_out(site: &Site, link: &Link, all: u64) {
    let output = site.cli(&["verify", &link.id, "--json"]);
    let verified: Verification = serde_json::from_slice(&output.stdout).expect("JSON");
    let report = verified.report.expect("a report");
    assert_eq!(report.differences_total, 0, "{}: {report:#?}", link.id);
    let reason = format!("these do not say tidegate.via {}: others have written them", link.source);
    assert!(report.not_covered.iter().all(|entry| entry.reason == reason), "{}: {report:#?}", link.id);
    let of_others: u64 = report.not_covered.iter().map(|entry| entry.records.expect("a number")).sum();
    assert_eq!(report.records_matched + of_others, all, "{}: {report:#?}", link.id);
    let verdict = if of_others > 0 { Verdict::NotCovered } else { Verdict::Fine };
    assert_eq!((verified.verdict, output.status.code()), (Some(verdict), Some(if of_others > 0 { 3 } else { 0 })));
}

#[test]
fn two_clusters_both_ways() {
    let links = &[("east", "west"), ("west", "east")];
    everything_comes_everywhere_once(&Net { clusters: &["east", "west"], links, says: "provenance = true" });
}

#[test]
fn three_clusters_in_a_ring() {
    let links = &[("east", "west"), ("west", "north"), ("north", "east")];
    everything_comes_everywhere_once(&Net { clusters: &["east", "west", "north"], links, says: "provenance = true" });
}

/// A plugin that drops what says where a record comes from, and says that it comes from elsewhere.
#[test]
fn a_plugin_decides_nothing_about_where_records_come_from() {
    let cluster = |id: &str| format!("[clusters.{id}]\nkind = \"embedded\"\ntopics.orders.partitions = 3\n");
    let link = |(from, to): (&str, &str)| {
        format!(
            "[links.{from}-{to}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"orders\"]\nprovenance = true\n"
        )
    };
    let stage = "[[links.a-b.pipeline]]\nstage = \"forge\"\nplugin = \"forger.wasm\"\n";
    // Whoever believes the plugin does not send them to c, or sends them round for ever.
    let links = [("a", "b"), ("b", "c"), ("c", "a")].map(link);
    let site = Site::new(&(["a", "b", "c"].map(cluster).concat() + &links.concat() + stage));
    std::fs::write(site.path("forger.wasm"), wat::parse_str(include_str!("forger.wat")).expect("a component"))
        .expect("a file");
    let _daemon = site.start();
    ["a", "b", "c"].iter().for_each(|cluster| write(&site, cluster, 0));
    let links: Vec<Link> = serde_json::from_str(&site.client.get(LINKS).expect("an answer").body).expect("links");
    wait_until("everything is everywhere", || ["a", "b", "c"].iter().all(|at| values(&site, at).len() == 300));
    links.iter().for_each(|link| site.client.await_caught_up(&link.id));
    for cluster in ["a", "b", "c"] {
        assert!(values(&site, cluster).values().all(|count| *count == 1), "{cluster} has something twice");
    }
    for record in (0..3).flat_map(|partition| site.client.records("b", "orders", partition)) {
        let value = String::from_utf8(record.value.clone().expect("a value")).expect("text");
        let way: Vec<_> = record.headers.iter().map(|header| header.value.clone().expect("a cluster")).collect();
        let expected: &[&[u8]] = match &value[..1] {
            "a" => &[b"a"],
            "b" => &[],
            // From c to a to b: the plugin has dropped it and forged it, and it is what it was.
            _ => &[b"c", b"a"],
        };
        assert_eq!(way, expected, "{record:?}");
    }
    links.iter().for_each(|link| only_others_are_left_out(&site, link, 300));
}

/// One hub, three spokes, one of which is the hub of another.
#[test]
fn a_star() {
    let links = &[("hub", "east"), ("hub", "west"), ("hub", "north"), ("north", "pole")];
    let clusters = &["hub", "east", "west", "north", "pole"];
    everything_comes_everywhere_once(&Net { clusters, links, says: "type = \"star\"" });
}

#[test]
fn neither_half_of_an_active_active_link_is_left_alone() {
    let site = Net { clusters: &["east", "west"], links: &[], says: "" }.site();
    let _daemon = site.start();
    let link = json!({
        "id": "pair", "type": "active-active", "topics": ["orders"],
        "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
    });
    assert_eq!(site.client.send("POST", LINKS, None, &link.to_string()).status, 201);
    let say = |what: &str| site.client.send("POST", &format!("{LINKS}/{what}"), None, "").status;
    let both = |status: LinkStatus| {
        wait_until("both do the same", || {
            ["pair", "pair.reverse"].iter().all(|id| site.client.link(id).status == status)
        });
    };
    assert_eq!(say("pair.reverse/start"), 200);
    both(LinkStatus::Active);
    let pair = format!("{LINKS}/pair");
    assert_eq!(site.client.delete(&pair).expect("an answer").status, 409);
    assert_eq!(site.client.send("PUT", &pair, None, r#"{"config":{"batch_size":7}}"#).status, 409);
    assert_eq!(say("pair/stop"), 200);
    both(LinkStatus::Stopped);
    assert_eq!(site.client.delete(&pair).expect("an answer").status, 204);
    assert_eq!(site.client.get(&format!("{pair}.reverse")).expect("an answer").status, 404);
}

/// One object with both directions: in the file, and by REST.
#[test]
fn an_active_active_link_is_started_and_stopped_as_one() {
    let clusters = ["east", "west", "edge"]
        .map(|id| format!("[clusters.{id}]\nkind = \"embedded\"\ntopics.orders.partitions = 3\n"));
    let link = "[links.filed]\ntype = \"active-active\"\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n";
    let spoke = "[links.known]\ntype = \"star\"\nsource = \"east\"\ntarget = \"edge\"\ntopics = [\"known\"]\n";
    let site = Site::new(&(clusters.concat() + link + spoke));
    let daemon = site.start();
    write(&site, "east", 0);
    write(&site, "west", 0);
    wait_until("both have all", || ["east", "west"].iter().all(|cluster| values(&site, cluster).len() == 200));
    assert_eq!(site.client.link("filed").kind, "active-active");
    let definition = json!({
        "id": "both", "type": "active-active", "topics": ["/pay.*/"], "topic_prefix": "copy.",
        "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        "transform": { "add_headers": { "from": "${source.cluster}" } },
    });
    let done = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(done.status, 201, "{}", done.body);
    for cluster in ["east", "west"] {
        let made =
            site.client.post(&format!("/api/v1/clusters/{cluster}/topics"), r#"{"name":"payments","partitions":3}"#);
        assert_eq!(made.expect("an answer").status, 201);
    }
    let states = || ["both", "both.reverse"].map(|id| site.client.link(id).status);
    assert_eq!(site.client.post(&format!("{LINKS}/both/start"), "").expect("an answer").status, 200);
    wait_until("both ways are active", || states() == [LinkStatus::Active; 2]);
    for (cluster, other) in [("east", "west"), ("west", "east")] {
        site.client.produce(cluster, "payments", &[json!({ "value": cluster, "partition": 0 })]);
        wait_until("it comes over", || {
            site.client.topics(other).iter().any(|topic| topic.name == "copy.payments")
                && site.client.ends(other, "copy.payments")[0] == 1
        });
        let copy = &site.client.records(other, "copy.payments", 0)[0];
        assert!(copy.headers.iter().any(|header| header.value.as_deref() == Some(cluster.as_bytes())), "{copy:?}");
    }
    for what in ["failover", "failback"] {
        let refused = site.client.post(&format!("{LINKS}/both/{what}"), "").expect("an answer");
        assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("active-active")), "{}", refused.body);
    }
    daemon.kill();
    let _daemon = site.start();
    wait_until("both ways are active again", || states() == [LinkStatus::Active; 2]);
    let topics = |cluster: &str| site.client.topics(cluster).into_iter().map(|topic| topic.name).collect::<Vec<_>>();
    assert!(
        !topics("east").iter().chain(&topics("west")).any(|name| name.starts_with("copy.copy.")),
        "a copy was copied"
    );
    let refused = site.client.send("DELETE", &format!("{LINKS}/both.reverse"), None, "");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("other-way")), "{}", refused.body);
    assert_eq!(site.client.post(&format!("{LINKS}/both/stop"), "").expect("an answer").status, 200);
    assert_eq!(states(), [LinkStatus::Stopped; 2]);
    assert_eq!(site.client.send("DELETE", &format!("{LINKS}/both"), None, "").status, 204);
    let star = |hub: &str| {
        let definition = json!({
            "id": "spoke", "type": "star", "topics": ["pay"],
            "source_cluster": { "cluster_id": hub }, "target_cluster": { "cluster_id": "edge" },
        });
        site.client.send("POST", LINKS, None, &definition.to_string())
    };
    let refused = star("west");
    let error = &refused.json()["errors"][0];
    assert_eq!(
        (refused.status, error["path"].as_str()),
        (400, Some("$.target_cluster.cluster_id")),
        "{}",
        refused.body
    );
    assert_eq!(star("east").status, 201);
    assert_eq!(["spoke", "spoke.reverse"].map(|id| site.client.link(id).kind), ["star"; 2]);
    for id in ["both", "both.reverse"] {
        assert_eq!(site.client.get(&format!("{LINKS}/{id}")).expect("an answer").status, 404);
    }
}

/// Two clusters with `orders`, and a link between them that reads everything there is.
fn all_topics(kind: &str, more: &str) -> String {
    let clusters =
        ["east", "west"].map(|id| format!("[clusters.{id}]\nkind = \"embedded\"\ntopics.orders.partitions = 3\n"));
    let link = format!(
        "[links.pair]\ntype = \"{kind}\"\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"/.*/\"]\ntopic_refresh = \"100ms\"\n{more}\n"
    );
    clusters.concat() + &link
}

fn make_topic(site: &Site, cluster: &str, name: &str) {
    let body = json!({ "name": name, "partitions": 1 }).to_string();
    let made = site.client.post(&format!("/api/v1/clusters/{cluster}/topics"), body).expect("an answer");
    assert_eq!(made.status, 201, "{}", made.body);
}

fn has_topic(site: &Site, cluster: &str, name: &str) -> bool {
    site.client.topics(cluster).iter().any(|topic| topic.name == name)
}

/// The dead letters of one way were topics that the other way read, and could not copy: it failed for good.
#[test]
fn a_bad_record_stops_neither_way_and_no_dead_letter_is_copied() {
    let stage = "[[links.pair.pipeline]]\nstage = \"f\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = { pointer = \"/a\", exists = true }";
    let site = Site::new(&all_topics("active-active", stage));
    let _daemon = site.start();
    for cluster in ["east", "west"] {
        let of = |value: &str| json!({ "value": value, "partition": 0 });
        site.client.produce(cluster, "orders", &[of("{\"a\":1}"), of("bad"), of("{\"a\":2}")]);
    }
    let letters = [("west", "pair.dead-letters"), ("east", "pair.reverse.dead-letters")];
    for (cluster, topic) in letters {
        wait_until("there is a dead letter", || {
            has_topic(&site, cluster, topic) && site.client.ends(cluster, topic).iter().sum::<i64>() == 1
        });
    }
    // Topics that come later: when they are there, each way has seen the dead letters.
    for (cluster, other) in [("east", "west"), ("west", "east")] {
        let late = format!("late-{cluster}");
        make_topic(&site, cluster, &late);
        wait_until("it is copied", || has_topic(&site, other, &late));
    }
    for cluster in ["east", "west"] {
        site.client.produce(cluster, "orders", &[json!({ "value": "{\"a\":3}", "partition": 1 })]);
    }
    wait_until("records go on both ways", || {
        ["east", "west"].iter().all(|cluster| site.client.ends(cluster, "orders")[1] == 2)
    });
    for id in ["pair", "pair.reverse"] {
        assert_eq!((site.client.link(id).status, site.client.link(id).notices.len()), (LinkStatus::Active, 0), "{id}");
    }
    assert!(!has_topic(&site, "east", "pair.dead-letters") && !has_topic(&site, "west", "pair.reverse.dead-letters"));
}

/// Marks name clusters by their ids, and stay in the records.
#[test]
fn a_cluster_that_is_renamed_gets_nothing_back() {
    let config = |id: &str| {
        format!(
            "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 3\n\
             [clusters.{id}]\nkind = \"embedded\"\npath = \"data/west.redb\"\ntopics.orders.partitions = 3\n\
             [links.pair]\ntype = \"active-active\"\nsource = \"east\"\ntarget = \"{id}\"\ntopics = [\"orders\"]\n"
        )
    };
    let site = Site::new(&config("west"));
    let daemon = site.start();
    write(&site, "west", 0);
    wait_until("it is copied", || values(&site, "east").len() == 100);
    // The forward way has not read what came from the target yet, or has: neither goes back.
    daemon.terminate();
    site.configure(&config("renamed"));
    let daemon = site.start();
    for (id, code) in [("pair", "target-renamed"), ("pair.reverse", "source-changed")] {
        wait_until("it says why it does not run", || {
            site.client.link(id).error.is_some_and(|error| error.code == code)
        });
    }
    assert!(values(&site, "renamed").values().all(|count| *count == 1));
    daemon.terminate();
    site.configure(&config("west"));
    let _daemon = site.start();
    write(&site, "east", 1);
    wait_until("both go on", || values(&site, "west").len() == 200);
    assert!(values(&site, "west").values().all(|count| *count == 1));
}

/// One topic of many has a name that its copy cannot have.
#[test]
fn a_name_that_cannot_be_copied_keeps_no_other_topic_from_it() {
    let rename = "rename = [{ match = \"(x+)\", to = \"$1$1\" }]";
    let site = Site::new(&all_topics("active-passive", rename));
    let daemon = site.start();
    let long = "x".repeat(125);
    for name in [&long, "pair.dead-letters", "late"] {
        make_topic(&site, "east", name);
    }
    wait_until("the others are copied", || has_topic(&site, "west", "late"));
    let left_out = || {
        let notices = site.client.link("pair").notices;
        notices.into_iter().map(|notice| (notice.code, notice.topic)).collect::<Vec<_>>()
    };
    let code = || "invalid-topic-name".to_owned();
    let expected = vec![(code(), Some("pair.dead-letters".to_owned())), (code(), Some(long.clone()))];
    wait_until("both are named", || left_out() == expected);
    // Lanes that open know the topics already.
    daemon.kill();
    let _daemon = site.start();
    site.client.produce("east", "orders", &[json!({ "value": "v", "partition": 0 })]);
    wait_until("records go on", || site.client.ends("west", "orders")[0] == 1);
    wait_until("both are named again", || left_out() == expected);
    assert_eq!(site.client.link("pair").status, LinkStatus::Active);
}

/// The file is read beside the links that were defined by REST.
#[test]
fn a_reload_goes_together_with_links_by_rest() {
    let clusters = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";
    let site = Site::new(clusters);
    let _daemon = site.start();
    let definition = json!({
        "id": "back", "topics": ["t"], "dead_letters": "bad",
        "source_cluster": { "cluster_id": "west" }, "target_cluster": { "cluster_id": "east" },
    });
    assert_eq!(site.client.send("POST", LINKS, None, &definition.to_string()).status, 201);
    let link = |from: &str, to: &str, more: &str| {
        format!("{clusters}[links.filed]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"t\"]\n{more}\n")
    };
    for (text, said) in [
        (link("east", "west", ""), "records would go round for ever"),
        (link("west", "east", "topic_prefix = \"p.\"\ndead_letters = \"bad\""), "links.back"),
    ] {
        site.configure(&text);
        let refused = site.client.send("POST", "/api/v1/reload", None, "");
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body.contains(said), "{}", refused.body);
        assert_eq!(site.client.get(&format!("{LINKS}/filed")).expect("an answer").status, 404);
    }
    site.configure(&link("west", "east", "topic_prefix = \"p.\""));
    assert_eq!(site.client.send("POST", "/api/v1/reload", None, "").status, 200);
}

/// The id of the other way is the daemon's own, whoever asks for it and however: no link has it that a two-way one
/// would have to take it from.
#[test]
fn no_link_loses_its_id_to_the_other_way_of_another() {
    let clusters = ["east", "west", "north"].map(|id| format!("[clusters.{id}]\nkind = \"embedded\"\n")).concat();
    let filed = "[links.\"a.reverse\"]\nsource = \"north\"\ntarget = \"east\"\ntopics = [\"logs\"]\n";
    let site = Site::new(&(clusters.clone() + filed));
    let checked = site.cli(&["check", "--config", &site.config().display().to_string()]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(!checked.status.success() && said.contains("is the id of the reverse way of \"a\""), "{said}");
    site.configure(&clusters);
    let daemon = site.start();
    let define = |id: &str, more: Value| {
        let mut definition = json!({
            "id": id, "topics": ["orders"],
            "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        });
        definition.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        site.client.send("POST", LINKS, None, &definition.to_string())
    };
    assert_eq!(define("b", json!({ "topics": ["others"] })).status, 201);
    let refused = define("b.reverse", json!({ "topics": ["more"] }));
    let said = refused.json();
    assert_eq!((refused.status, said["code"].as_str()), (400, Some("invalid-document")), "{}", refused.body);
    let two_way = site.client.send("PUT", &format!("{LINKS}/b"), None, r#"{"type":"active-active"}"#);
    assert_eq!(two_way.status, 200, "{}", two_way.body);
    daemon.kill();
    let _daemon = site.start();
    wait_until("both ways are back", || {
        site.client.get(&format!("{LINKS}/b.reverse")).is_ok_and(|it| it.status == 200)
    });
    assert_eq!((&*site.client.link("b.reverse").source, &*site.client.link("b").source), ("west", "east"));
}
