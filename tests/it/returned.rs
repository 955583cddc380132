//! Links of the same two clusters fail over and back. What a failback of one brings is there for that one, and for all
//! others it is as new as any record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::api::wire::{FailoverEvent, LinkStatus, Verification};
use tidegate::config::{Config, LinkConfig};
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::connector::{Cluster, Patience, Source};
use tidegate::link::failover::{Phase, Reason, Wanted};
use tidegate::link::{Desired, Link};
use tidegate::model::{BatchBuilder, LinkId, TopicPartition};
use tidegate::plugin::PluginEngine;
use tidegate::store::{Options, Store};

use crate::harness::{Dice, LINKS, Site, wait_until};

/// Values with how often each is there.
type Values = BTreeMap<String, usize>;

fn once<'v>(values: impl IntoIterator<Item = &'v str>) -> Values {
    values.into_iter().map(|value| (value.to_owned(), 1)).collect()
}

const CLUSTERS: &str = "[clusters.s]\nkind = \"embedded\"\n[clusters.t]\nkind = \"embedded\"\n";

fn link(id: &str, from: &str, to: &str, more: &str) -> String {
    format!("[links.{id}]\nsource = \"{from}\"\ntarget = \"{to}\"\n{more}\n")
}

fn site(links: &[String]) -> Site {
    let clusters = CLUSTERS.replace("\n[clusters.t]", "\ntopics.a.partitions = 1\n[clusters.t]");
    Site::new(&format!("{clusters}topics.a.partitions = 1\ntopics.report.partitions = 1\n{}", links.concat()))
}

fn put(site: &Site, cluster: &str, topic: &str, values: &[&str]) {
    let records: Vec<Value> = values.iter().map(|value| json!({ "partition": 0, "value": value })).collect();
    site.client.produce(cluster, topic, &records);
}

fn got(site: &Site, cluster: &str, topic: &str) -> Values {
    let mut found = Values::new();
    for record in site.client.records(cluster, topic, 0) {
        *found.entry(String::from_utf8(record.value.expect("a value")).expect("text")).or_default() += 1;
    }
    found
}

fn fail_over(site: &Site, link: &str) {
    let answer = site.client.post(&format!("{LINKS}/{link}/failover"), "").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn fail_back(site: &Site, link: &str, round: u32) {
    let answer = site.client.post(&format!("{LINKS}/{link}/failback"), "").expect("an answer");
    assert!(answer.status < 300, "{}", answer.body);
    let done = |event: &FailoverEvent| event.id == format!("failback-{round}") && event.success == Some(true);
    wait_until("it is back", || {
        site.client.read::<Vec<FailoverEvent>>(&format!("{LINKS}/{link}/failovers")).iter().any(done)
    });
    wait_until("the link runs again", || site.client.link(link).status == LinkStatus::Active);
}

/// Nothing is missing at the target of a link, and nothing too much.
fn check_verified(site: &Site, link: &str) {
    let verified: Verification = serde_json::from_slice(&site.cli(&["verify", link, "--json"]).stdout).expect("JSON");
    let report = verified.report.expect("a report");
    assert_eq!(report.differences_total, 0, "{link}: {report:#?}");
}

#[test]
fn what_a_failback_of_another_link_of_the_same_clusters_brings_is_copied() {
    let says = "topics = [\"a\"]\nfailover_config.enabled = true\n";
    let second = format!("{says}topic_prefix = \"v2-\"");
    let site = site(&[link("orders", "s", "t", says), link("second", "s", "t", &second)]);
    let daemon = site.start();
    let mut all = vec!["s0".to_owned()];
    put(&site, "s", "a", &["s0"]);
    for round in 1..=2 {
        ["orders", "second"].iter().for_each(|link| site.client.await_caught_up(link));
        ["orders", "second"].iter().for_each(|link| fail_over(&site, link));
        let [there, of_second, after] = ["t", "u", "s"].map(|what| format!("{what}{round}"));
        put(&site, "t", "a", &[&there]);
        put(&site, "t", "v2-a", &[&of_second]);
        ["orders", "second"].iter().for_each(|link| fail_back(&site, link, round));
        put(&site, "s", "a", &[&after]);
        all.extend([there, of_second, after]);
        let expected = once(all.iter().map(String::as_str));
        for link in ["orders", "second"] {
            site.client.await_caught_up(link);
            check_verified(&site, link);
        }
        for (cluster, topic) in [("s", "a"), ("t", "a"), ("t", "v2-a")] {
            assert_eq!(got(&site, cluster, topic), expected, "round {round}: {cluster} {topic}");
        }
    }
    daemon.terminate();
}

#[test]
fn a_drill_of_a_link_beside_a_two_way_link_loses_nothing_of_the_other_way() {
    let both = link("both", "s", "t", "type = \"active-active\"\ntopics = [\"a\"]");
    let site = site(&[both, link("arch", "s", "t", "topics = [\"a\"]\ntopic_prefix = \"arch-\"")]);
    let daemon = site.start();
    let mut all = Vec::new();
    for round in 0..=2 {
        if round > 0 {
            fail_over(&site, "arch");
            fail_back(&site, "arch", round);
        }
        for cluster in ["s", "t"] {
            let value = format!("{cluster}{round}");
            put(&site, cluster, "a", &[&value]);
            all.push(value);
        }
        let expected = once(all.iter().map(String::as_str));
        wait_until("all is at the source", || got(&site, "s", "a") == expected);
        site.client.await_caught_up("arch");
        assert_eq!(got(&site, "t", "arch-a"), expected, "round {round}");
        check_verified(&site, "arch");
    }
    daemon.terminate();
}

#[test]
fn what_a_marking_link_brings_from_the_target_is_copied_after_a_failback() {
    let reports = "topics = [\"report\"]\ntopic_prefix = \"fromt.\"\nprovenance = true\ntopic_refresh = \"500ms\"\n";
    let main = "topics = [\"/.*/\"]\ntopic_refresh = \"500ms\"\nfailover_config.enabled = false\n";
    let site = site(&[link("main", "s", "t", main), link("reports", "t", "s", reports)]);
    let daemon = site.start();
    put(&site, "t", "report", &["before"]);
    let is_at = |values: &[&str]| {
        let expected = once(values.iter().copied());
        let has = |(cluster, topic)| {
            site.client.topics(cluster).iter().any(|it| it.name == topic) && got(&site, cluster, topic) == expected
        };
        [("s", "fromt.report"), ("t", "fromt.report")].into_iter().all(has)
    };
    wait_until("it is on both sides", || is_at(&["before"]));
    fail_over(&site, "main");
    fail_back(&site, "main", 1);
    put(&site, "t", "report", &["after"]);
    wait_until("it is on both sides", || is_at(&["before", "after"]));
    check_verified(&site, "main");
    daemon.terminate();
}

/// Links between two clusters without a daemon: each is as a daemon has it that was just started.
struct Net {
    s: Arc<EmbeddedCluster>,
    t: Arc<EmbeddedCluster>,
    engine: PluginEngine,
    configs: BTreeMap<LinkId, LinkConfig>,
    links: BTreeMap<LinkId, Arc<Link>>,
    _site: Site,
}

impl Net {
    fn new(links: &[String]) -> Self {
        let site = Site::new(CLUSTERS);
        let open = |name: &str| {
            let store = Store::open(site.path(name), Options::default()).expect("opens");
            Arc::new(EmbeddedCluster::new(Arc::new(store)))
        };
        let (s, t) = (open("s.redb"), open("t.redb"));
        let (config, _) =
            Config::parse(&format!("{CLUSTERS}{}", links.concat()), "test", &site.path("")).expect("a configuration");
        let engine = PluginEngine::new(None).expect("an engine");
        Self { s, t, engine, configs: config.links, links: BTreeMap::new(), _site: site }
    }

    fn link(&self, config: LinkConfig) -> Arc<Link> {
        let of = |cluster: &str| if cluster == "s" { self.s.clone() } else { self.t.clone() };
        let (source, target) = (of(&config.source), of(&config.target));
        Arc::new(Link::new(config, "a".into(), source, target, self.engine.clone(), Vec::new()))
    }

    /// Run a link, as after a restart.
    fn run(&mut self, id: &str) {
        let link = self.link(self.configs[id].clone());
        link.order(Desired::Running).expect("runs");
        if let Some(before) = self.links.insert(id.into(), link) {
            before.halt();
        }
    }

    fn fail_over(&self, id: &str) {
        let wanted = Wanted { reason: Reason::Manual, because: None, by: "ann".to_owned(), drain: Duration::ZERO };
        self.links[id].fail_over(&wanted).expect("failed over");
    }

    /// Give the source its place back, once all of these are there that were written to the copies of topics.
    fn fail_back(&mut self, id: &str, written: &[(String, String)]) {
        let link = self.links[id].clone();
        let over = link.begin_return(Reason::Manual, "ann").expect("begun");
        let back = self.link(link.way_back(&over).expect("known"));
        back.order(Desired::Running).expect("runs");
        wait_until("it is back", || written.iter().all(|(topic, value)| values(&self.s, topic).contains_key(value)));
        back.order(Desired::Stopped).expect("stopped");
        let shut_out = back.shut_out(&over).expect("shut out");
        link.turn_return(Phase::Closing).expect("ours");
        link.end_return(shut_out, Vec::new(), Vec::new()).expect("done");
        back.halt();
        self.run(id);
    }

    /// Wait until a link has read its source to the end.
    fn await_caught_up(&self, id: &str, topics: &[&str]) {
        let link = &self.links[id];
        let partitions: Vec<TopicPartition> = topics.iter().map(|topic| TopicPartition::new(*topic, 0)).collect();
        wait_until(&format!("{id} has copied everything"), || {
            let (ends, at) = (link.source().log_ends(&partitions, Patience::Long), link.committed().expect("known"));
            let mut ends = partitions.iter().zip(ends).map(|(partition, end)| (partition, end.expect("known")));
            ends.all(|(partition, end)| at.get(partition).copied().unwrap_or(0) >= end)
        });
    }

    /// Have it look as if a tidegate had begun the failover that gave failovers no ids, and put none on records.
    fn forget_id(&self, id: &str) {
        let (id, key): (LinkId, _) = (id.into(), "genesis");
        let bytes = self.t.metadata(&id, key).expect("readable").expect("it was started");
        let mut genesis: Value = serde_json::from_slice(&bytes).expect("JSON");
        genesis["failover"].as_object_mut().expect("failed over").remove("id").expect("it had one");
        let text = genesis.to_string();
        assert!(self.t.replace_metadata(&id, key, Some(&bytes), text.as_bytes()).expect("written"));
    }
}

fn write(cluster: &EmbeddedCluster, topic: &str, value: &str) {
    let mut records = BatchBuilder::new();
    records.push(0, 1, None, Some(value.as_bytes()), std::iter::empty());
    cluster.produce(&TopicPartition::new(topic, 0), &records.finish(topic, 0)).expect("written");
}

/// How often each value is in a topic.
fn values(cluster: &EmbeddedCluster, topic: &str) -> Values {
    let mut counts = Values::new();
    let mut source: Box<dyn Source> = cluster.source().expect("a source");
    source.seek(&TopicPartition::new(topic, 0), 0).expect("there");
    while let Some(batch) = source.poll(100, 1 << 20, Duration::ZERO).expect("readable") {
        for record in batch.records() {
            let value = String::from_utf8(record.value().expect("a value").to_vec()).expect("text");
            *counts.entry(value).or_default() += 1;
        }
    }
    counts
}

/// Three links copy the same topics, and others go both ways beside them. They fail over and back in any order, several
/// at the same time, and everywhere is written to. In the end every copy has what the source has, once.
#[test]
fn links_of_the_same_clusters_fail_over_in_any_order_and_lose_nothing() {
    let said = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = said.map_or_else(|| (1..=6).collect(), |seed| vec![seed]);
    for seed in seeds {
        println!("TIDEGATE_SEED={seed}");
        any_order(&mut Dice::new(seed), seed);
    }
}

fn any_order(dice: &mut Dice, seed: u64) {
    // `m.n` comes from the target, and one of the topics goes both ways.
    let ids = ["l0", "l1", "l2"];
    let topics = ["t", "m.n"];
    let copies = |id: &&str| link(id, "s", "t", &format!("topics = [\"t\", \"m.n\"]\ntopic_prefix = \"{id}.\""));
    let mut links: Vec<String> = ids.iter().map(copies).collect();
    links.push(link("m", "t", "s", "topics = [\"n\"]\ntopic_prefix = \"m.\"\nprovenance = true"));
    links.push(link("forth", "s", "t", "topics = [\"t\"]\nprovenance = true"));
    links.push(link("back", "t", "s", "topics = [\"t\"]\nprovenance = true"));
    let mut net = Net::new(&links);
    for (cluster, topic) in [(&net.s, "t"), (&net.s, "m.n"), (&net.t, "t"), (&net.t, "n")] {
        cluster.create_topic(topic, 1).expect("a topic");
    }
    for id in ["m", "forth", "back", "l0", "l1", "l2"] {
        net.run(id);
    }
    // By topic of the source what was written anywhere, and by link what failed over what was written to its copies.
    let mut all: Vec<(String, String)> = Vec::new();
    let mut over: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    let mut told = Vec::new();
    for step in 0..40 {
        let value = format!("v{step}");
        let id = ids[dice.below(3) as usize];
        let topic = topics[dice.below(2) as usize];
        match dice.below(6) {
            0 => {
                write(&net.s, "t", &value);
                all.push(("t".to_owned(), value));
            }
            1 => {
                let (at, comes_to) = if topic == "t" { ("t", "t") } else { ("n", "m.n") };
                write(&net.t, at, &value);
                all.push((comes_to.to_owned(), value));
            }
            2 | 3 => match over.remove(id) {
                None => {
                    told.push(format!("{step}: {id} fails over"));
                    net.fail_over(id);
                    over.insert(id, Vec::new());
                }
                Some(written) => {
                    told.push(format!("{step}: {id} fails back with {written:?}"));
                    net.fail_back(id, &written);
                }
            },
            _ => {
                let Some(written) = over.get_mut(id) else { continue };
                write(&net.t, &format!("{id}.{topic}"), &value);
                written.push((topic.to_owned(), value.clone()));
                all.push((topic.to_owned(), value));
            }
        }
    }
    for (id, written) in over {
        told.push(format!("{id} fails back with {written:?}"));
        net.fail_back(id, &written);
    }
    net.await_caught_up("m", &["n"]);
    net.await_caught_up("back", &["t"]);
    for id in ids {
        net.await_caught_up(id, &topics);
    }
    for topic in topics {
        let expected = once(all.iter().filter(|(of, _)| of == topic).map(|(_, value)| value.as_str()));
        assert_eq!(values(&net.s, topic), expected, "seed {seed}: {topic} of the source: {told:#?}");
        for id in ids {
            let copy = format!("{id}.{topic}");
            assert_eq!(values(&net.t, &copy), expected, "seed {seed}: {copy}: {told:#?}");
        }
    }
    net.links.values().for_each(|link| link.halt());
}

/// What a failback has brought that an older tidegate began says nothing of it, also if this one goes on with it; those
/// of later failovers do.
#[test]
fn what_a_failback_of_an_older_tidegate_brings_is_not_copied_again() {
    for older in [[true, true], [true, false], [false, true]] {
        let mut net = Net::new(&[link("l", "s", "t", "topics = [\"t\"]\ntopic_prefix = \"l.\"")]);
        net.s.create_topic("t", 1).expect("a topic");
        net.run("l");
        let mut all = vec!["first".to_owned()];
        write(&net.s, "t", "first");
        net.await_caught_up("l", &["t"]);
        for (round, is_older) in older.into_iter().enumerate() {
            net.fail_over("l");
            if is_older {
                net.forget_id("l");
            }
            let [there, after] = ["there", "after"].map(|what| format!("{what}-{round}"));
            write(&net.t, "l.t", &there);
            net.fail_back("l", &[("t".to_owned(), there.clone())]);
            write(&net.s, "t", &after);
            all.extend([there, after]);
            net.await_caught_up("l", &["t"]);
            let expected = once(all.iter().map(String::as_str));
            assert_eq!((values(&net.s, "t"), values(&net.t, "l.t")), (expected.clone(), expected), "{older:?}");
        }
        net.links.values().for_each(|link| link.halt());
    }
}

/// Whose failback has brought a record stands in its headers, beside the clusters that it has come through; and what was
/// brought once is not brought again.
#[test]
fn a_record_says_which_failover_has_brought_it_back() {
    let mut net = Net::new(&[link("l", "s", "t", "topics = [\"t\"]\ntopic_prefix = \"l.\"")]);
    net.s.create_topic("t", 1).expect("a topic");
    net.run("l");
    write(&net.s, "t", "first");
    net.await_caught_up("l", &["t"]);
    net.fail_over("l");
    let id = net.links["l"].failed_over().and_then(|over| over.id).expect("an id");
    write(&net.t, "l.t", "there");
    let mut again = BatchBuilder::new();
    let headers = [("tidegate.via", "t"), ("tidegate.returned", &*id)];
    let headers = headers
        .map(|(name, value)| tidegate::model::HeaderRef { name: name.as_bytes(), value: Some(value.as_bytes()) });
    again.push(0, 1, None, Some(b"again"), headers);
    net.t.produce(&TopicPartition::new("l.t", 0), &again.finish("l.t", 0)).expect("written");
    write(&net.t, "l.t", "last");
    net.fail_back("l", &[("t".to_owned(), "last".to_owned())]);
    let mut source: Box<dyn Source> = net.s.source().expect("a source");
    source.seek(&TopicPartition::new("t", 0), 0).expect("there");
    let mut found = BTreeMap::new();
    while let Some(batch) = source.poll(100, 1 << 20, Duration::ZERO).expect("readable") {
        for record in batch.records() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers: BTreeSet<String> = record
                .headers()
                .map(|header| format!("{}: {}", text(header.name), text(header.value.unwrap_or_default())))
                .collect();
            found.insert(text(record.value().expect("a value")), headers);
        }
    }
    let marks = BTreeSet::from(["tidegate.via: t".to_owned(), format!("tidegate.returned: {id}")]);
    let expected = [("first", BTreeSet::new()), ("there", marks.clone()), ("last", marks)];
    assert_eq!(found, expected.map(|(value, headers)| (value.to_owned(), headers)).into());
    net.links.values().for_each(|link| link.halt());
}
