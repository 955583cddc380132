//! A partition of the source that cannot be read: it is named, and the others of its lane go on.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use kafka_brokers::{Cluster, Options};
use kafka_oracle::{Codec, Foreign, Plan, Record, Writer};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use tidegate::api::wire::{Event, HealthStatus, LanePartition, Link, LinkHealth, LinkStatus};

use crate::clusters::{Pair, Version, options};
use crate::harness::{LINKS, Site, wait_until};
use crate::scene::PATIENCE;

const PARTITIONS: u32 = 3;

/// The first record batch of this one has a negative length.
const DAMAGED: u32 = PARTITIONS - 1;

#[test]
fn a_damaged_partition_is_named_and_the_others_go_on() {
    let mut source = Cluster::start(&options(Version::Two, 1)).expect("a source");
    kafka_oracle::create(&source.bootstrap(), "records", PARTITIONS as i32, &[]).expect("a topic");
    write(&source, PARTITIONS);
    // Its segments have been flushed then, and are not looked through when it starts.
    source.brokers_mut()[0].stop().expect("stopped");
    damage(&source);
    source.brokers_mut()[0].start().expect("started");
    let site = Site::new(&format!(
        "[clusters.east]\nkind = \"kafka\"\nbrokers = [\"{}\"]\n[clusters.west]\nkind = \"embedded\"\n\
         [links.flow]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"records\"]\nlanes = 1\n\
         [links.flow.health]\nlag_ms_max = 3153600000000\n",
        source.bootstrap()
    ));
    let _daemon = site.start();
    let partition = |number: u32| -> LanePartition {
        let mut all = site.client.link("flow").lanes.into_iter().flat_map(|lane| lane.partitions);
        all.find(|partition| partition.partition == number).expect("a partition")
    };
    wait_until("the link has its partitions", || !site.client.link("flow").lanes[0].partitions.is_empty());
    let good = || (0..PARTITIONS).filter(|number| *number != DAMAGED).map(partition);
    wait_until("the others are copied", || good().all(|partition| partition.lag == Some(0)));
    wait_until("the damaged one is named", || partition(DAMAGED).error.is_some());
    let error = partition(DAMAGED).error.expect("an error");
    println!("{}: {}; {}", error.code, error.message, error.remedy);
    assert!(error.message.contains("records-2"), "{error:?}");
    let link: Link = site.client.link("flow");
    assert_eq!((link.status, link.error), (LinkStatus::Degraded, Some(error)));
    let health: LinkHealth = site.client.read(&format!("{LINKS}/flow/health"));
    assert_eq!(health.status, HealthStatus::Unhealthy, "{health:?}");
    assert!(health.issues.iter().any(|issue| issue.contains("records-2 stands still")), "{health:?}");
    let events: Vec<Event> = site.client.read(&format!("{LINKS}/flow/events"));
    assert!(events.iter().any(|event| event.kind == "partition-stalled"), "{events:?}");
    assert!(good().all(|partition| partition.error.is_none()));

    // It stands still for as long as it is damaged, and the others do not.
    let before: Vec<_> = good().map(|partition| partition.target_offset).collect();
    write(&source, DAMAGED);
    wait_until("the others go on", || {
        let now: Vec<_> = good().map(|partition| partition.target_offset).collect();
        now.iter().zip(&before).all(|(now, before)| now > before) && good().all(|partition| partition.lag == Some(0))
    });
    assert_eq!(partition(DAMAGED).target_offset, Some(0));
    assert_eq!(site.client.link("flow").counters.records_put_aside, 0);
}

/// Each partition has one replica, so what a dead broker leads nobody else can give.
#[test]
fn a_broker_that_is_dead_when_the_daemon_starts_keeps_nothing_else_from_beginning() {
    let topic = "half-dead";
    let mut source = Cluster::start(&Options { proxied: false, ..options(Version::Two, 2) }).expect("a source");
    let target = Pair::shared(Version::Two).target.bootstrap();
    kafka_oracle::create_on(&source.bootstrap(), topic, &[&[1], &[2], &[1], &[2]], &[]).expect("a topic");
    let (alive, dead) = ([0, 2], [1, 3]);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", source.bootstrap()).create().expect("one");
    let write = |partitions: &[i32], numbers: std::ops::Range<i64>| {
        for (partition, number) in
            partitions.iter().flat_map(|partition| numbers.clone().map(|number| (*partition, number)))
        {
            let (value, timestamp) = (Some(number.to_string().into_bytes()), 1_700_000_000_000 + number);
            let record = Record { key: None, value, headers: Vec::new(), timestamp };
            kafka_oracle::send(&producer, topic, partition, &record).expect("sent");
        }
        producer.flush(PATIENCE).expect("written");
    };
    write(&[0, 1, 2, 3], 0..500);
    let cluster = |id: &str, brokers: &str| {
        let brokers: Vec<String> = brokers.split(',').map(|broker| format!("{broker:?}")).collect();
        format!(
            "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{}]\nrequest_timeout = \"3s\"\nconnection_timeout = \"3s\"\n",
            brokers.join(", ")
        )
    };
    let site = Site::new(&format!(
        "{}{}[links.{topic}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{topic:?}]\nlanes = 1\n",
        cluster("east", &source.bootstrap()),
        cluster("west", &target)
    ));
    let copied = |partition: i32| kafka_oracle::end(&target, topic, partition).unwrap_or(0);
    let await_copies = |what: &str, partitions: &[i32], before: &[i64]| {
        wait_until(what, || partitions.iter().zip(before).all(|(partition, before)| copied(*partition) > *before));
    };
    let daemon = site.start();
    await_copies("everything is copied", &[0, 1, 2, 3], &[499; 4]);
    wait_until("it is committed", || site.client.is_caught_up(topic));
    daemon.terminate();

    source.brokers_mut()[1].kill().expect("killed");
    let before = alive.map(copied);
    write(&alive, 500..1_000);
    let daemon = site.start();
    await_copies("what the other broker leads is copied", &alive, &before);
    let partitions = || site.client.link(topic).lanes.into_iter().flat_map(|lane| lane.partitions);
    let named = || -> Vec<i32> {
        partitions().filter(|partition| partition.error.is_some()).map(|partition| partition.partition as i32).collect()
    };
    wait_until("what it led is named", || named() == dead);
    partitions()
        .filter_map(|partition| partition.error)
        .for_each(|error| println!("{}: {}", error.code, error.message));
    assert_eq!(site.client.link(topic).status, LinkStatus::Degraded);
    let before = alive.map(copied);
    write(&alive, 1_000..1_500);
    await_copies("the others go on", &alive, &before);

    source.brokers_mut()[1].start().expect("started");
    write(&[0, 1, 2, 3], 1_500..2_000);
    let expected = kafka_oracle::read(&source.bootstrap(), topic).expect("the source");
    let copy = kafka_oracle::await_copy(&expected, &target, topic, PATIENCE).expect("an exact copy");
    assert_eq!(copy.records(), 2 * 2_000 + 2 * 1_000);
    wait_until("all is well", || site.client.link(topic).status == LinkStatus::Active);
    let events: Vec<Event> = site.client.read(&format!("{LINKS}/{topic}/events"));
    assert!(events.iter().all(|event| event.kind != "lane-failed"), "{events:?}");
    daemon.terminate();
}

/// A transaction may be open for as long as brokers let it: what waits behind it is no lag, and
/// nothing is wrong with the link.
#[test]
fn a_transaction_that_is_open_is_no_illness() {
    let (pair, topic) = (Pair::shared(Version::Two), "open-transaction");
    let (east, west) = (pair.source.bootstrap(), pair.target.bootstrap());
    kafka_oracle::create(&east, topic, 1, &[]).expect("a topic");
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &east).create().expect("one");
    let record =
        |number: i64| Record { key: None, value: None, headers: Vec::new(), timestamp: 1_700_000_000_000 + number };
    let write = |numbers: std::ops::Range<i64>| {
        numbers.for_each(|number| kafka_oracle::send(&producer, topic, 0, &record(number)).expect("sent"));
        producer.flush(PATIENCE).expect("written");
    };
    write(0..10);
    let other = Foreign::take(&east, "open-transaction", PATIENCE).expect("a producer");
    other.hang(topic, 0, &record(10)).expect("open");
    write(11..20);
    let site = Site::new(&format!(
        "[clusters.east]\nkind = \"kafka\"\nbrokers = [{east:?}]\n[clusters.west]\nkind = \"kafka\"\nbrokers = [{west:?}]\n\
         [links.{topic}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{topic:?}]\nlanes = 1\n\
         [links.{topic}.health]\ncheckpoint_age_max = \"1s\"\ninterval = \"1s\"\nlag_ms_max = 3153600000000\n"
    ));
    let daemon = site.start();
    wait_until("what comes before it is copied", || kafka_oracle::end(&west, topic, 0).is_ok_and(|end| end >= 10));
    // Several times as long as a partition with records may stand.
    std::thread::sleep(Duration::from_secs(10));
    let health: LinkHealth = site.client.read(&format!("{LINKS}/{topic}/health"));
    assert_eq!((health.status, &health.issues), (HealthStatus::Healthy, &Vec::new()), "{health:?}");
    assert!(site.client.is_caught_up(topic), "a reader sees nothing more");
    other.commit().expect("ended");
    let expected = kafka_oracle::read(&east, topic).expect("the source");
    let copy = kafka_oracle::await_copy(&expected, &west, topic, PATIENCE).expect("an exact copy");
    assert_eq!(copy.records(), 20);
    daemon.terminate();
}

/// Write records to the first `partitions`.
fn write(source: &Cluster, partitions: u32) {
    let mut writer = Writer::start(Plan {
        bootstrap: source.bootstrap(),
        topic: "records".to_owned(),
        partitions: partitions as i32,
        seed: 11,
        transactions: false,
        codecs: vec![Codec::Lz4],
        rate: None,
        records_max: Some(3_000),
    });
    writer.join().expect("written");
}

fn damage(source: &Cluster) {
    let name = format!("records-{DAMAGED}/00000000000000000000.log");
    let found = walk(source.dir()).into_iter().find(|path| path.ends_with(&name)).expect("a segment");
    let mut segment = OpenOptions::new().write(true).open(found).expect("the segment");
    segment.seek(SeekFrom::Start(8)).and_then(|_| segment.write_all(&[0xff; 4])).expect("damaged");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
