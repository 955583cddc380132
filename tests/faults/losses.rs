//! A source that lost what was copied already, or became another one: the link stops and says so, through restarts, until somebody says where it goes on.

use kafka_brokers::{Broker, Cluster};
use kafka_oracle::{Content, Plan, Record, Writer};
use tidegate::api::wire::{LaneState, Lost, Reset, Trouble};

use crate::clusters::{Pair, Version, options};
use crate::follow::Scene;
use crate::harness::{Daemon, wait_until};
use crate::scene::await_failure_of;

/// Records that both replicas have; and those that the leader alone has, which the links copy before it dies.
const SHARED: u64 = 2_000;
const TAIL: u64 = 1_000;

/// Write so many records, and wait until they are there. Without transactions: their coordinators are at the same brokers.
fn write(scene: &Scene, topic: &str, partitions: i32, seed: u64, records: u64) {
    let plan = Plan { seed, transactions: false, records_max: Some(records), ..scene.writing(topic, partitions) };
    Writer::start(plan).join().expect("written");
}

fn records(content: &Content, partition: i32) -> Vec<Record> {
    content.0[&partition].iter().map(|placed| placed.record.clone()).collect()
}

fn end(content: &Content, partition: i32) -> i64 {
    content.0[&partition].last().map_or(0, |last| last.offset + 1)
}

/// What a topic of the target has in a partition.
fn copied(scene: &Scene, topic: &str, partition: i32) -> Vec<Record> {
    records(&kafka_oracle::read(&scene.target(), topic).expect("the target"), partition)
}

/// It fails, and goes on failing: by a person who starts it, and after a kill.
fn stays_failed(scene: &Scene, daemon: Daemon, code: &str) -> (Daemon, Trouble) {
    let first = await_failure_of(&scene.site, scene.name, code);
    println!("{}: {}; {}", scene.name, first.message, first.remedy);
    assert!(first.remedy.contains("tidegate link reset"), "{first:?}");
    let _told = scene.site.cli(&["link", "start", scene.name]);
    await_failure_of(&scene.site, scene.name, code);
    daemon.kill();
    let daemon = scene.site.start();
    let again = await_failure_of(&scene.site, scene.name, code);
    assert_eq!(again.lost, first.lost);
    (daemon, again)
}

/// The link goes on, and all lanes do.
fn await_running(scene: &Scene) {
    wait_until("all lanes run", || {
        let link = scene.site.client.link(scene.name);
        link.lanes.iter().all(|lane| lane.state == LaneState::Running)
    });
}

fn broker(cluster: &mut Cluster, node: i32) -> &mut Broker {
    cluster.brokers_mut().iter_mut().find(|broker| broker.node() == node).expect("a broker")
}

/// Broker 1 dies for good, and with it the end of partition 0: broker 2, which was down meanwhile, has less and is elected all the same. Then the log grows past where it
/// was, so that only the epoch of the leader tells that it is another one. One link sees all of that; another one is not there until it is over.
#[test]
fn a_leader_that_has_less_is_elected_and_the_log_grows_past_what_was_copied() {
    let mut options = kafka_brokers::Options { proxied: false, ..options(Version::Two, 3) };
    let settings = [("broker.heartbeat.interval.ms", "1000"), ("broker.session.timeout.ms", "6000")];
    options.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut brokers = Cluster::start(&options).expect("a cluster");
    let link = |name, prefix| {
        let keys = format!("topics = [\"tail\"]\nlanes = 2\ntopic_prefix = \"{prefix}\"");
        Scene::between(&brokers, &Pair::shared(Version::Two).target, name, &keys)
    };
    let (sees, misses) = (link("sees", "s."), link("misses", "m."));
    let settings = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    kafka_oracle::create_on(&sees.source(), "tail", &[&[1, 2], &[3, 2]], &settings).expect("a topic");
    let source = || kafka_oracle::read(&sees.source(), "tail").expect("the source");
    write(&sees, "tail", 2, 1, SHARED);
    let kept = end(&source(), 0);
    let (sees_daemon, misses_daemon) = (sees.site.start(), misses.site.start());
    broker(&mut brokers, 2).stop().expect("down");
    write(&sees, "tail", 2, 2, TAIL);
    let before = source();
    let had = end(&before, 0);
    sees.await_copy("tail", "s.tail");
    misses.await_copy("tail", "m.tail");

    misses_daemon.kill();
    broker(&mut brokers, 1).kill().expect("gone");
    broker(&mut brokers, 2).start().expect("back");
    let leader = || kafka_oracle::leader(&sees.source(), "tail", 0).ok().flatten();
    wait_until("the one that has less is elected", || leader() == Some(2));
    assert_eq!(end(&source(), 0), kept);
    write(&sees, "tail", 2, 3, 2 * TAIL);
    let now = source();
    assert!(end(&now, 0) > had, "the log is longer than it was");

    let misses_daemon = misses.site.start();
    for (scene, daemon, copy) in [(&sees, sees_daemon, "s.tail"), (&misses, misses_daemon, "m.tail")] {
        let (daemon, trouble) = stays_failed(scene, daemon, "source-truncated");
        assert_eq!(trouble.lost, Some(Lost { from: kept, to: had }));
        assert_eq!(trouble.place.map(|place| (place.partition, place.offset)), Some((0, had)));
        // The other lane goes on meanwhile, and this one passes over nothing.
        wait_until("the other partition is copied", || copied(scene, copy, 1) == records(&now, 1));
        assert!(copied(scene, copy, 0) == records(&before, 0), "nothing comes behind the loss");
        let to = kept.to_string();
        let done: Reset =
            scene.site.cli_json(&["link", "reset", scene.name, "--topic", "tail", "--partition", "0", "--to", &to]);
        let moved: Vec<_> = done.partitions.iter().map(|it| (it.partition, it.from, it.to)).collect();
        assert_eq!(moved, [(0, Some(had), kept)]);
        assert!(done.because.is_some_and(|because| because.contains("source-truncated")));
        let instead = now.0[&0].iter().filter(|placed| placed.offset >= kept).map(|placed| placed.record.clone());
        let expected: Vec<Record> = records(&before, 0).into_iter().chain(instead).collect();
        wait_until("what the leader has instead is copied", || copied(scene, copy, 0) == expected);
        await_running(scene);
        daemon.terminate();
    }
}

/// With more records than it had, so that no offset tells. Nothing but its id does.
#[test]
fn a_source_topic_is_made_again_and_the_link_goes_on_when_it_is_told_to() {
    const PARTITIONS: i32 = 4;
    let topic = "reborn";
    let scene = Scene::new(Pair::shared(Version::Two), "reborn", "topics = [\"reborn\"]\nlanes = 2");
    scene.create(topic, PARTITIONS, &[]);
    write(&scene, topic, PARTITIONS, 1, SHARED);
    let daemon = scene.site.start();
    scene.await_copy(topic, topic);
    let before = kafka_oracle::read(&scene.target(), topic).expect("the target");
    kafka_oracle::delete(&scene.source(), topic).expect("deleted");
    wait_until("it can be made again", || kafka_oracle::create(&scene.source(), topic, PARTITIONS, &[]).is_ok());
    write(&scene, topic, PARTITIONS, 2, 2 * SHARED);

    let (daemon, trouble) = stays_failed(&scene, daemon, "source-recreated");
    assert!(trouble.message.contains(topic), "{trouble:?}");
    let target = || kafka_oracle::read(&scene.target(), topic).expect("the target");
    assert!(target() == before, "nothing of the new topic is copied");
    let done: Reset = scene.site.cli_json(&["link", "reset", scene.name, "--topic", topic, "--to", "earliest"]);
    let moved: Vec<_> = done.partitions.iter().map(|it| (it.partition, it.from, it.to)).collect();
    let expected = (0..PARTITIONS).map(|partition| (partition as u32, Some(end(&before, partition)), 0));
    assert_eq!(moved, expected.collect::<Vec<_>>());
    assert!(done.because.is_some_and(|because| because.contains("source-recreated")));

    // All of the new topic comes, behind what was there; also what is written later, and after a kill.
    let comes = || {
        let source = kafka_oracle::read(&scene.source(), topic).expect("the source");
        wait_until("all of the new topic is there", || {
            let target = target();
            let both = |partition| [records(&before, partition), records(&source, partition)].concat();
            (0..PARTITIONS).all(|partition| records(&target, partition) == both(partition))
        });
    };
    comes();
    daemon.kill();
    write(&scene, topic, PARTITIONS, 3, SHARED);
    let daemon = scene.site.start();
    comes();
    await_running(&scene);
    daemon.terminate();
}
