//! Brokers of three that are killed, stopped in order, paused, and started again; and leaders that move without any of that.

use std::process::Command;
use std::time::Duration;

use kafka_brokers::{Broker, Cluster};

use crate::clusters::{Pair, Version};
use crate::harness::wait_until;
use crate::scene::{Scene, Setup, long};

/// In a cluster of the harness.
const TRANSACTION_STATE_PARTITIONS: i32 = 6;

for_each_version! {
    brokers_of_the_source_go_and_come_back,
}

/// Not with old brokers: before Kafka 3.8 a transaction that is being ended while its coordinator's
/// partition gets another leader epoch, as it does when a replica dies, may stay so until the
/// coordinator moves, whoever the producer is (KAFKA-16352). Here that came with two kills of three.
mod target {
    use super::brokers_of_the_target_go_and_come_back;

    at!(version_2, Two: brokers_of_the_target_go_and_come_back);
    at_length!(upgraded, Upgraded: brokers_of_the_target_go_and_come_back);
}

/// What is done to a broker.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Killed,
    StoppedInOrder,
    Paused,
}

fn brokers_of_the_target_go_and_come_back(version: Version) {
    let mut pair = Pair::start(version, [1, 3]);
    let scene = Setup::new("three", version, &pair).begin();
    let coordinated = format!("tidegate.{}.0", scene.link);
    let coordinator = |cluster: &Cluster| coordinator(cluster, &coordinated);
    lose(&scene, &mut pair.target, &coordinator, Loss::Killed, "the coordinator, a leader too, was");
    if long().is_some() {
        let leader = |cluster: &Cluster| -> i32 {
            let spared = coordinator(cluster);
            let leaders = (0..crate::scene::PARTITIONS).filter_map(|partition| leader(cluster, &scene.link, partition));
            leaders.into_iter().find(|leader| *leader != spared).expect("a leader that is no coordinator")
        };
        elect(&scene, &pair.target);
        lose(&scene, &mut pair.target, &leader, Loss::Killed, "a leader was");
        elect(&scene, &pair.target);
        lose(&scene, &mut pair.target, &coordinator, Loss::StoppedInOrder, "the coordinator was");
        elect(&scene, &pair.target);
        lose(&scene, &mut pair.target, &coordinator, Loss::Paused, "the coordinator was");
        elect(&scene, &pair.target);
        lose(&scene, &mut pair.target, &leader, Loss::Killed, "again a leader was");
        lose(&scene, &mut pair.target, &coordinator, Loss::Killed, "and then the coordinator was");
    }
    scene.finish();
}

fn brokers_of_the_source_go_and_come_back(version: Version) {
    if long().is_none() {
        println!("in the long form alone: set TIDEGATE_KILLS");
        return;
    }
    let mut pair = Pair::start(version, [3, 1]);
    let scene = Setup::new("three-sources", version, &pair).begin();
    for loss in [Loss::Killed, Loss::StoppedInOrder, Loss::Paused] {
        let leader = |cluster: &Cluster| await_leader(cluster, &scene.link, 0);
        lose(&scene, &mut pair.source, &leader, loss, "the leader of partition 0 of the source was");
        elect(&scene, &pair.source);
    }
    scene.finish();
}

/// Take a broker away, see that records come again without it, and let it come back.
fn lose(scene: &Scene, cluster: &mut Cluster, which: &dyn Fn(&Cluster) -> i32, loss: Loss, what: &str) {
    let node = which(cluster);
    let broker = broker(cluster, node);
    match loss {
        Loss::Killed => broker.kill(),
        Loss::StoppedInOrder => broker.stop(),
        Loss::Paused => broker.pause(),
    }
    .expect("gone");
    let what = format!("{what} {loss:?} (broker {node})");
    scene.await_progress(&what);
    match loss {
        Loss::Paused => broker.resume(),
        Loss::Killed | Loss::StoppedInOrder => broker.start(),
    }
    .expect("back");
    scene.await_progress(&format!("{what} and came back"));
}

/// Let the first replicas lead again.
fn elect(scene: &Scene, cluster: &Cluster) {
    // A replica can be elected once it has caught up, and until then this fails.
    for _ in 0..60 {
        let mut tool: Command = cluster.jars().tool("LeaderElectionCommand");
        tool.args(["--bootstrap-server", &cluster.internal_bootstrap()]);
        tool.args(["--election-type", "preferred", "--all-topic-partitions"]);
        let done = tool.output().expect("the tool runs");
        if done.status.success() {
            scene.await_progress("an election");
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("{}: no election", scene.link);
}

fn broker(cluster: &mut Cluster, node: i32) -> &mut Broker {
    cluster.brokers_mut().iter_mut().find(|broker| broker.node() == node).expect("a broker")
}

fn leader(cluster: &Cluster, topic: &str, partition: i32) -> Option<i32> {
    kafka_oracle::leader(&cluster.bootstrap(), topic, partition).expect("metadata")
}

/// The leader of a partition, once it has one. While the cluster elects another one, and for as
/// long as brokers on a busy machine miss their heartbeats, it has none.
fn await_leader(cluster: &Cluster, topic: &str, partition: i32) -> i32 {
    let mut found = None;
    wait_until("the partition has a leader", || {
        found = leader(cluster, topic, partition);
        found.is_some()
    });
    found.expect("a leader")
}

/// The broker that coordinates a transactional id: the leader of the partition that Java's hash of its name picks.
pub fn coordinator(cluster: &Cluster, transactional_id: &str) -> i32 {
    let hash =
        transactional_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    let partition = hash.checked_abs().unwrap_or(0) % TRANSACTION_STATE_PARTITIONS;
    await_leader(cluster, "__transaction_state", partition)
}
