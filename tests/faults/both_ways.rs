//! Two links between the same clusters, in opposite directions, which both read by expressions: what one writes must not come back by the other.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_oracle::{Codec, Plan, Writer};
use serde_json::json;

use crate::clusters::{Pair, Version};
use crate::harness::{LINKS, Site, wait_until};
use crate::scene::PATIENCE;

const PARTITIONS: i32 = 3;

/// Records in a second, of each writer.
const RATE: u64 = 1_000;

/// How much is written before a daemon is killed, and how often one is.
const ROUND: u64 = 1_000;
const KILLS: u64 = 3;

#[test]
fn records_go_both_ways_and_none_goes_round() {
    let pair = Pair::shared(Version::Two);
    let (east, west) = (pair.source.bootstrap(), pair.target.bootstrap());
    let cluster = |id: &str, brokers: &str| format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\n");
    let link = |from: &str, to: &str, prefix: &str, not: &str| {
        format!(
            "[links.ways-{to}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"/.*ways-.*/\"]\n\
             topics_exclude = [\"/{not}\\\\..*/\"]\ntopic_prefix = \"{prefix}.\"\nlanes = 2\n\
             topic_refresh = \"200ms\"\nheartbeat_interval = \"100ms\"\n\
             [links.ways-{to}.config]\ntransaction_timeout_ms = 10000\n"
        )
    };
    let links = link("east", "west", "e", "w") + &link("west", "east", "w", "e");
    let site = Site::new(&(cluster("east", &east) + &cluster("west", &west) + &links));
    // One topic is on both sides, under the same name, and programs keep topics for themselves.
    let of = [(&east, "ways-only-east"), (&east, "ways-both"), (&west, "ways-only-west"), (&west, "ways-both")];
    for (at, topic) in of {
        kafka_oracle::create(at, topic, PARTITIONS, &[]).expect("a topic");
    }
    for at in [&east, &west] {
        kafka_oracle::create(at, "mm2-offset-syncs.ways-other.internal", 1, &[]).expect("a topic");
    }
    let write = |(number, (at, topic)): (usize, (&String, &str))| {
        Writer::start(Plan {
            bootstrap: at.clone(),
            topic: topic.to_owned(),
            partitions: PARTITIONS,
            seed: number as u64,
            transactions: true,
            codecs: vec![Codec::None, Codec::Zstd],
            rate: Some(RATE),
            records_max: None,
        })
    };
    let writers: Vec<Writer> = of.into_iter().enumerate().map(write).collect();
    let mut daemon = site.start();
    for round in 1..=KILLS {
        wait_until("more is written", || writers.iter().all(|writer| writer.records() > round * ROUND));
        daemon.kill();
        daemon = site.start();
    }
    writers.into_iter().for_each(|writer| drop(writer.stop().expect("the writer")));
    // A topic that comes last: when it is there, both links have looked at everything before it.
    let latest = [(&east, "ways-late-east"), (&west, "ways-late-west")];
    for (at, topic) in latest {
        kafka_oracle::create(at, topic, 1, &[]).expect("a topic");
    }
    let other = |at: &String| if *at == east { (&west, "e") } else { (&east, "w") };
    let both = of.into_iter().chain(latest);
    for (at, topic) in both.clone() {
        let (to, prefix) = other(at);
        let (expected, copy) = (kafka_oracle::read(at, topic).expect("the source"), format!("{prefix}.{topic}"));
        wait_until("the copy is made", || kafka_oracle::leader(to, &copy, 0).is_ok_and(|leader| leader.is_some()));
        kafka_oracle::await_copy(&expected, to, &copy, PATIENCE).expect("a copy");
    }
    for (id, link) in [("east", "ways-west"), ("west", "ways-east")] {
        wait_until("heartbeats are through", || site.client.link(link).latency.is_some());
        let ours = |topic: &str| topic.contains("ways-") && !topic.starts_with("__tidegate.");
        let there: BTreeSet<String> =
            site.client.topics(id).into_iter().map(|topic| topic.name).filter(|topic| ours(topic)).collect();
        let (from, prefix) = if id == "east" { (&west, "w") } else { (&east, "e") };
        let own = both.clone().filter(|(at, _)| *at != from).map(|(_, topic)| topic.to_owned());
        let copies = both.clone().filter(|(at, _)| *at == from).map(|(_, topic)| format!("{prefix}.{topic}"));
        let kept = ["mm2-offset-syncs.ways-other.internal".to_owned()].into_iter();
        let heartbeats = ["east", "west"].map(|to| format!("tidegate.heartbeats.ways-{to}"));
        let expected: BTreeSet<String> = own.chain(copies).chain(kept).chain(heartbeats).collect();
        assert_eq!(there, expected, "nothing went round to {id}");
    }
    // Nothing came again since, either.
    std::thread::sleep(Duration::from_secs(1));
    for (at, topic) in of {
        let (to, prefix) = other(at);
        let expected = kafka_oracle::read(at, topic).expect("the source");
        let copy = kafka_oracle::read(to, &format!("{prefix}.{topic}")).expect("the copy");
        kafka_oracle::compare(&expected, &copy).expect("once");
        println!("{prefix}.{topic}: {} records are the same", copy.records());
    }
    daemon.terminate();
}

/// A checkpoint of a Kafka target says no more than a lower bound of where the records of its commit
/// end. Each record here has a commit of its own, and the last one must not go back.
#[test]
fn what_was_committed_last_before_a_link_marks_does_not_go_back() {
    let pair = Pair::shared(Version::Two);
    let cluster = |id: &str, brokers: &str| format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\n");
    let clusters = cluster("east", &pair.source.bootstrap()) + &cluster("west", &pair.target.bootstrap());
    let topic = "becomes-two-way";
    let link = |id: &str, from: &str, to: &str, says: &str| {
        format!("[links.becomes-{id}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"{topic}\"]\n{says}\n")
    };
    for at in [&pair.source.bootstrap(), &pair.target.bootstrap()] {
        kafka_oracle::create(at, topic, 1, &[]).expect("a topic");
    }
    let site = Site::new(&(clusters.clone() + &link("there", "east", "west", "")));
    let _daemon = site.start();
    for value in ["e1", "e2", "e3"] {
        site.client.produce("east", topic, &[json!({ "value": value, "partition": 0 })]);
        site.client.await_caught_up("becomes-there");
    }
    let marks = "provenance = true";
    site.configure(&(clusters + &link("there", "east", "west", marks) + &link("back", "west", "east", marks)));
    assert!(site.cli(&["reload"]).status.success());
    let values = |cluster: &str| -> Vec<String> {
        let records = site.client.records(cluster, topic, 0).into_iter();
        records.map(|record| String::from_utf8(record.value.expect("a value")).expect("text")).collect()
    };
    let events = || site.client.get(&format!("{LINKS}/becomes-back/events")).expect("an answer").body;
    wait_until("it says where it begins", || events().contains("begins-behind"));
    site.client.produce("west", topic, &[json!({ "value": "w1", "partition": 0 })]);
    wait_until("records come back", || values("east").contains(&"w1".to_owned()));
    site.client.produce("east", topic, &[json!({ "value": "e4", "partition": 0 })]);
    wait_until("records go on", || values("west").contains(&"e4".to_owned()));
    ["becomes-there", "becomes-back"].iter().for_each(|link| site.client.await_caught_up(link));
    assert_eq!(values("east"), ["e1", "e2", "e3", "w1", "e4"]);
    assert_eq!(values("west"), ["e1", "e2", "e3", "w1", "e4"]);
}
