//! Links that begin at the end, and partitions to which nothing is written: what they know of themselves is their genesis alone.

use std::collections::BTreeMap;

use kafka_oracle::{Content, Plan, Record, Writer};
use tidegate::api::wire::LaneState;

use crate::clusters::{Pair, Version};
use crate::follow::Scene;
use crate::harness::{Dice, wait_until};

const PARTITIONS: i32 = 4;
const TOPIC: &str = "fresh";

/// Records of one go.
const RECORDS: u64 = 2_000;

/// Killed and stopped before the first record, between the first ones of partitions, and amid records. The last partition never gets one.
#[test]
fn a_link_that_starts_at_the_latest_keeps_its_place_until_the_first_record_comes() {
    let scene = Scene::new(Pair::shared(Version::Two), "fresh", "topics = [\"fresh\"]\nstart = \"latest\"\nlanes = 2");
    scene.create(TOPIC, PARTITIONS, &[]);
    let write = |partitions: i32, seed: u64, rate: Option<u64>| {
        let plan = Plan { seed, rate, records_max: Some(RECORDS), ..scene.writing(TOPIC, partitions) };
        Writer::start(plan)
    };
    write(PARTITIONS, 1, None).join().expect("written");
    let before = kafka_oracle::read(&scene.source(), TOPIC).expect("the source");
    assert!(before.0.values().all(|records| !records.is_empty()));

    let await_running = || {
        wait_until("all lanes run", || {
            let lanes = scene.site.client.link(scene.name).lanes;
            lanes.iter().all(|lane| lane.state == LaneState::Running && !lane.partitions.is_empty())
        });
    };
    let daemon = scene.site.start();
    await_running();
    daemon.kill();
    // While nobody is there: with the end of now, these would be left out.
    write(1, 2, None).join().expect("written");
    let daemon = scene.site.start();
    await_running();
    daemon.terminate();
    let daemon = scene.site.start();
    await_behind(&scene, &before);
    daemon.kill();
    let daemon = scene.site.start();
    await_running();
    // Amid records of two partitions, of which one had none before.
    let mut writer = write(2, 3, Some(1_500));
    let mut dice = Dice::new(3);
    let mut daemon = daemon;
    for _ in 0..3 {
        let written = writer.records();
        let more = 100 + dice.below(300);
        wait_until("more is written", || writer.records() >= (written + more).min(RECORDS));
        daemon.kill();
        daemon = scene.site.start();
    }
    writer.join().expect("written");
    await_behind(&scene, &before);
    write(3, 4, None).join().expect("written");
    await_behind(&scene, &before);
    assert_eq!(scene.events("lane-failed"), []);

    let lanes = scene.site.client.link(scene.name).lanes;
    let idle = lanes.iter().flat_map(|lane| &lane.partitions).find(|partition| partition.partition == 3);
    let idle = idle.expect("it is read, too");
    assert_eq!((idle.lag, idle.source_offset), (Some(0), idle.target_offset), "{idle:?}");
    daemon.terminate();
    let _daemon = scene.site.start();
    await_running();
    await_behind(&scene, &before);
    let verified = scene.site.cli(&["verify", scene.name]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// Wait until the target has what was written since, and nothing else.
fn await_behind(scene: &Scene, before: &Content) {
    let source = kafka_oracle::read(&scene.source(), TOPIC).expect("the source");
    let since = |(partition, all): (&i32, &Vec<kafka_oracle::Placed>)| {
        let since = all[before.0[partition].len()..].iter().map(|placed| placed.record.clone());
        (*partition, since.collect::<Vec<Record>>())
    };
    let expected: BTreeMap<i32, Vec<Record>> = source.0.iter().map(since).collect();
    assert!(expected[&(PARTITIONS - 1)].is_empty());
    wait_until("what was written since is there", || {
        let target = kafka_oracle::read(&scene.target(), TOPIC).expect("the target");
        let all = |records: &Vec<kafka_oracle::Placed>| records.iter().map(|placed| placed.record.clone()).collect();
        let has: BTreeMap<i32, Vec<Record>> =
            target.0.iter().map(|(number, records)| (*number, all(records))).collect();
        has == expected
    });
}
