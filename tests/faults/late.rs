//! Records that reach their broker when their lane has long given up: behind the end of its transaction, and before or behind the beginning of the next one.

use kafka_brokers::{Cluster, Deed, Proxy, Side};

use crate::brokers::coordinator;
use crate::clusters::{Pair, Version};
use crate::harness::wait_until;
use crate::scene::{PATIENCE, Setup};

for_version_1_first! {
    what_a_lane_left_under_way_comes_late,
}

/// Kafka's numbers of the requests that are caught.
const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
const END_TXN: i16 = 26;

/// The broker whose records come late, and the partitions that it leads.
const LATE: i32 = 2;
const LATE_PARTITIONS: [i32; 2] = [1, 3];

/// When what was under way comes.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// When the lane has ended its transaction, if it has, and before its successor fences it.
    BeforeTheNextOne,
    /// When the next transaction is at work.
    BehindIt,
}

/// What an old broker is sent behind the marker of an abort it takes for the beginning of a transaction, if the epoch is the same, and the next commit would commit it, too.
fn what_a_lane_left_under_way_comes_late(version: Version) {
    let pair = Pair::start(version, [1, 2]);
    let setup = Setup::new("behind", version, &pair).proxied(&pair).with_plugins(false).with_lanes(1);
    let (target, link) = (pair.target.bootstrap(), setup.name().to_owned());
    // The other broker has everything that a lane needs to go on.
    kafka_oracle::create_on(&target, &link, &[&[1], &[LATE], &[1], &[LATE]], &[]).expect("a topic");
    let own = |of: &str| format!("__tidegate.{link}.{of}");
    kafka_oracle::create_on(&target, &own("checkpoints"), &[&[1]], &[("cleanup.policy", "compact")]).expect("a topic");
    kafka_oracle::create_on(&target, &own("offsets"), &[&[1]], &[]).expect("a topic");
    let ends = || LATE_PARTITIONS.map(|partition| kafka_oracle::end(&target, &link, partition).expect("an end"));
    let scene = setup.begin();
    let coordinator = coordinator(&pair.target, &format!("tidegate.{link}.0"));
    for comes in [Comes::BeforeTheNextOne, Comes::BehindIt, Comes::BeforeTheNextOne] {
        let records = proxy(&pair.target, LATE).catch(Side::Request, PRODUCE, Deed::Hold);
        assert!(records.await_caught(PATIENCE), "records");
        // Until these are answered there is nothing to commit, so what is caught now is an abort.
        let ending = proxy(&pair.target, coordinator).catch(Side::Request, END_TXN, Deed::Hold);
        let fencing = proxy(&pair.target, coordinator).catch(Side::Request, INIT_PRODUCER_ID, Deed::Hold);
        assert!(fencing.await_caught(PATIENCE), "the lane opens again");
        let before = ends();
        let is_ended = ending.is_caught();
        ending.release();
        if is_ended {
            wait_until("the abort is in the log of the broker", || ends() != before);
        }
        let before = ends();
        match comes {
            Comes::BeforeTheNextOne => {
                records.release();
                wait_until("the records have come", || ends() != before);
                fencing.release();
            }
            Comes::BehindIt => {
                fencing.release();
                scene.await_progress("its successor is at work");
                records.release();
            }
        }
        scene.await_progress(&format!("records came late: {comes:?}"));
    }
    assert!(scene.codes().contains("broker-timeout"), "{:?}", scene.codes());
    scene.finish();
}

fn proxy(cluster: &Cluster, node: i32) -> &Proxy {
    let broker = cluster.brokers().iter().find(|broker| broker.node() == node).expect("a broker");
    broker.proxy().expect("a proxy")
}
