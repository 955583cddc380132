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
