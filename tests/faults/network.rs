//! Connections that are cut, reset, half-open or slow, and messages that come late or never.

use std::thread;
use std::time::Duration;

use kafka_brokers::{Catch, Cluster, Deed, Proxy, Side, Wan};

use crate::clusters::{Pair, Version};
use crate::harness::{comes_true, wait_until};
use crate::scene::{PATIENCE, REQUEST_TIMEOUT, Setup, long};

/// Kafka's numbers of the requests that are caught.
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const INIT_PRODUCER_ID: i16 = 22;
const ADD_PARTITIONS_TO_TXN: i16 = 24;
const END_TXN: i16 = 26;

/// How often a message is caught at most until it was one of a lane.
const TRIES: usize = 5;

for_each_version! {
    connections_to_the_target_fail,
    connections_to_the_source_fail,
    messages_of_a_transaction_come_late_or_never,
    a_dead_daemons_commit_comes_before_its_successor_fences,
    a_dead_daemons_commit_comes_after_its_successor,
    the_clusters_cannot_be_reached_when_the_daemon_starts,
}

at_length!(upgraded, Upgraded: messages_of_a_transaction_come_late_or_never);

fn connections_to_the_target_fail(version: Version) {
    connections_fail("net-target", version, |pair| &pair.target);
}

fn connections_to_the_source_fail(version: Version) {
    connections_fail("net-source", version, |pair| &pair.source);
}

fn connections_fail(name: &str, version: Version, side: fn(&Pair) -> &Cluster) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let scene = Setup::new(name, version, pair).proxied(pair).begin();
    let proxy = proxy(side(pair));
    proxy.cut();
    scene.await_progress("a cut");
    proxy.reset();
    scene.await_progress("a reset");
    proxy.refuse();
    proxy.cut();
    thread::sleep(Duration::from_secs(1));
    proxy.accept().expect("the port");
    scene.await_progress("a second without connections");
    let half_open: [&[Side]; 3] = [&[Side::Answer], &[Side::Request], &[Side::Request, Side::Answer]];
    for stalled in &half_open[..if long().is_some() { 3 } else { 1 }] {
        stalled.iter().for_each(|side| proxy.stall(*side));
        thread::sleep(REQUEST_TIMEOUT + Duration::from_secs(1));
        proxy.resume();
        scene.await_progress(&format!("nothing of {stalled:?} came through"));
    }
    proxy.set_wan(Some(Wan { round_trip: Duration::from_millis(300), bytes_per_second: 5_000_000, window: 1 << 20 }));
    scene.await_progress("the cluster went far away");
    proxy.cut();
    scene.await_progress("a cut far away");
    proxy.set_wan(None);
    // Connections to the source are made anew without opening the lane again.
    assert!(!scene.codes().is_empty() || name == "net-source", "nothing was noticed");
    scene.finish();
    drop(network);
}

fn messages_of_a_transaction_come_late_or_never(version: Version) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let scene = Setup::new("late", version, pair).proxied(pair).begin();
    let keys: &[i16] = match version {
        Version::Two => &[END_TXN, PRODUCE],
        Version::One | Version::Upgraded => &[END_TXN, PRODUCE, ADD_PARTITIONS_TO_TXN],
    };
    let mut unnoticed = Vec::new();
    for key in keys {
        // In this order: what is held comes late and is answered then, which is not to be caught.
        for (side, deed) in [(Side::Answer, Deed::Drop), (Side::Request, Deed::Hold)] {
            let before = scene.failures();
            // What is caught may be of a plugin that is being published: no lane notices that.
            let noticed = (0..TRIES).find_map(|_| {
                let caught = proxy(&pair.target).catch(side, *key, deed);
                assert!(caught.await_caught(PATIENCE), "key {key}");
                comes_true(2 * REQUEST_TIMEOUT, || scene.failures() > before).then_some(caught)
            });
            let what = format!("{side:?} of {key}: {deed:?}");
            // The lane has given the broker up and opens again; what is held comes when it is at work again.
            scene.await_progress(&what);
            if noticed.is_none() {
                unnoticed.push(what);
            }
        }
    }
    scene.await_progress("all that was held came late");
    for key in [INIT_PRODUCER_ID, FETCH] {
        // A lane that awaits nothing does not mind that its connections are cut.
        let under_way = proxy(&pair.target).catch(Side::Answer, PRODUCE, Deed::Drop);
        assert!(under_way.await_caught(PATIENCE), "records");
        let caught = proxy(&pair.target).catch(Side::Answer, key, Deed::Drop);
        proxy(&pair.target).cut();
        assert!(caught.await_caught(PATIENCE), "key {key}");
        scene.await_progress(&format!("an answer to {key} was lost while a lane opened"));
    }
    scene.finish();
    drop(network);
    assert!(unnoticed.is_empty(), "no lane noticed {unnoticed:?}");
}

/// A commit that its lane did not live to see is done while the next daemon opens: whoever reads the checkpoint before fencing
/// reads an old one.
fn a_dead_daemons_commit_comes_before_its_successor_fences(version: Version) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let mut scene = Setup::new("before", version, pair).proxied(pair).with_plugins(false).begin();
    for _ in 0..2 {
        let commits = [(); 2].map(|()| proxy(&pair.target).catch(Side::Request, END_TXN, Deed::Hold));
        assert!(commits.iter().all(|commit| commit.await_caught(PATIENCE)), "commits of both lanes");
        scene.kill();
        let fencing = [(); 2].map(|()| proxy(&pair.target).catch(Side::Request, INIT_PRODUCER_ID, Deed::Hold));
        scene.daemon = Some(scene.site.spawn());
        assert!(fencing.iter().all(|fencing| fencing.await_caught(PATIENCE)), "both lanes fence");
        commits.iter().for_each(Catch::release);
        // What was released is a moment on its way.
        thread::sleep(Duration::from_millis(500));
        fencing.iter().for_each(Catch::release);
        scene.await_progress("a commit came before the next daemon fenced");
    }
    scene.finish();
    drop(network);
}

/// A commit that comes when the next daemon has fenced is none, and what it stood for is copied once more.
fn a_dead_daemons_commit_comes_after_its_successor(version: Version) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let mut scene = Setup::new("after", version, pair).proxied(pair).with_plugins(false).begin();
    for _ in 0..2 {
        let commits = [(); 2].map(|()| proxy(&pair.target).catch(Side::Request, END_TXN, Deed::Hold));
        assert!(commits.iter().all(|commit| commit.await_caught(PATIENCE)), "commits of both lanes");
        scene.kill();
        scene.start();
        scene.await_progress("the next daemon fenced");
        commits.iter().for_each(Catch::release);
        scene.await_progress("the commit came after that");
    }
    scene.finish();
    drop(network);
}

/// Nobody has to start a link that found no cluster.
fn the_clusters_cannot_be_reached_when_the_daemon_starts(version: Version) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let mut scene = Setup::new("early", version, pair).proxied(pair).begin();
    for cluster in [&pair.source, &pair.target] {
        scene.kill();
        proxy(cluster).refuse();
        scene.daemon = Some(scene.site.spawn());
        wait_until("the API answers", || scene.site.client.get("/api/v1/healthz").is_ok());
        scene.await_code("cannot-connect");
        proxy(cluster).accept().expect("the port");
        scene.await_progress("a cluster came up after the daemon");
    }
    scene.finish();
    drop(network);
}

fn proxy(cluster: &Cluster) -> &Proxy {
    cluster.brokers()[0].proxy().expect("a proxy")
}
