//! Brokers that make a link wait, which is no failure: a quota, and connections that are closed while nothing is written.

use std::thread;
use std::time::Duration;

use kafka_brokers::{Cluster, Options};
use kafka_oracle::{Content, Record};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use tidegate::api::wire::{Event, LinkStatus};

use crate::clusters::{Pair, Version, options};
use crate::harness::{LINKS, Site, wait_until};
use crate::scene::PATIENCE;

/// What the quota lets a link write in a second, and what there is to write: a broker that gets it all at once does not listen for longer than
/// a request may take.
const QUOTA_BYTES: u32 = 200_000;
const RECORDS: i64 = 4_000;
const RECORD_BYTES: usize = 1_000;

/// After how long brokers close a connection that rests, and how long after a record the next one comes.
const REST_MAX: &str = "4000";
const REST: Duration = Duration::from_secs(7);

fn producer(bootstrap: &str) -> BaseProducer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a producer")
}

fn write(producer: &BaseProducer, topic: &str, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let timestamp = 1_700_000_000_000 + number;
        let record = Record { key: None, value: Some(vec![b'x'; RECORD_BYTES]), headers: Vec::new(), timestamp };
        kafka_oracle::send(producer, topic, 0, &record).expect("sent");
    }
    producer.flush(PATIENCE).expect("written");
}

/// A link that copies a topic under the name that quotas know it by.
fn site(topic: &str, east: &str, west: &str, timeout: &str) -> Site {
    let cluster = |id: &str, brokers: &str| {
        format!(
            "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\nclient_id = {topic:?}\n\
             request_timeout = {timeout:?}\n"
        )
    };
    let link = format!("[links.{topic}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{topic:?}]\nlanes = 1\n");
    Site::new(&(cluster("east", east) + &cluster("west", west) + &link))
}

fn failures(site: &Site, link: &str) -> Vec<Event> {
    let mut events: Vec<Event> = site.client.read(&format!("{LINKS}/{link}/events"));
    events.retain(|event| event.kind == "lane-failed");
    events
}

fn expected(bootstrap: &str, topic: &str) -> Content {
    kafka_oracle::read(bootstrap, topic).expect("the source")
}

#[test]
fn a_quota_makes_a_link_slow_and_nothing_else() {
    let pair = Pair::shared(Version::Two);
    let (east, west, topic) = (pair.source.bootstrap(), pair.target.bootstrap(), "slow-quota");
    pair.target.limit_producers(topic, QUOTA_BYTES).expect("a quota");
    [&east, &west].into_iter().for_each(|at| kafka_oracle::create(at, topic, 1, &[]).expect("a topic"));
    write(&producer(&east), topic, 0..RECORDS);
    let site = site(topic, &east, &west, "3s");
    let daemon = site.start();
    kafka_oracle::await_copy(&expected(&east, topic), &west, topic, PATIENCE).expect("a copy");
    assert_eq!(failures(&site, topic), []);
    daemon.terminate();
}

#[test]
fn connections_that_rested_are_opened_again_without_an_error() {
    let settings = vec![("connections.max.idle.ms".to_owned(), REST_MAX.to_owned())];
    let target = Options { proxied: false, settings, ..options(Version::Two, 1) };
    let target = Cluster::start(&target).expect("a target");
    let source = Pair::shared(Version::Two).source.bootstrap();
    let (west, topic) = (target.bootstrap(), "slow-rest");
    [&source, &west].into_iter().for_each(|at| kafka_oracle::create(at, topic, 1, &[]).expect("a topic"));
    let site = site(topic, &source, &west, "30s");
    let daemon = site.start();
    let producer = producer(&source);
    for number in 0..4 {
        write(&producer, topic, number..number + 1);
        wait_until("the record is copied", || site.client.is_caught_up(topic));
        thread::sleep(REST);
    }
    kafka_oracle::await_copy(&expected(&source, topic), &west, topic, PATIENCE).expect("a copy");
    assert_eq!(failures(&site, topic), []);
    assert_eq!(site.client.link(topic).status, LinkStatus::Active);
    daemon.terminate();
}
