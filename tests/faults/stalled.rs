//! A partition of the source that cannot be read: it is named, and the others of its lane go on.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use kafka_brokers::Cluster;
use kafka_oracle::{Codec, Plan, Writer};
use tidegate::api::wire::{Event, HealthStatus, LanePartition, Link, LinkHealth, LinkStatus};

use crate::clusters::{Version, options};
use crate::harness::{LINKS, Site, wait_until};

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
