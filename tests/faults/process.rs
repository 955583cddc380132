//! Daemons that are killed, or stopped and continued.

use std::thread;
use std::time::Duration;

use kafka_brokers::{Deed, Side};
use rustix::process::Signal;

use crate::clusters::{Pair, Version};
use crate::harness::wait_until;
use crate::scene::{LANES, PARTITIONS, PATIENCE, Setup, TRANSACTION_TIMEOUT, long};

/// Of the short form.
const KILLS: u64 = 4;

/// How many commits are caught until one is that of a lane.
const TRIES: usize = 5;

/// Kafka's number of the request that ends a transaction.
const END_TXN: i16 = 26;

for_each_version! {
    nothing_goes_wrong,
    the_daemon_is_killed,
    the_daemon_is_stopped_beyond_the_transaction_timeout,
    the_daemon_ends_while_its_target_hangs,
}

at!(upgraded, Upgraded: nothing_goes_wrong);

/// Without any fault there is no trouble at all, though the topics have to be made.
fn nothing_goes_wrong(version: Version) {
    let scene = Setup::new("quiet", version, Pair::shared(version)).begin();
    scene.print_troubles();
    for _ in 0..3 {
        scene.await_progress("nothing");
    }
    assert_eq!(scene.failures(), 0, "{:?}", scene.codes());
    scene.finish();
}

fn the_daemon_is_killed(version: Version) {
    let pipelines: &[bool] = if long().is_some() { &[true, false] } else { &[version == Version::Two] };
    for plugins in pipelines {
        let name = if *plugins { "killed-with-plugins" } else { "killed" };
        let mut scene = Setup::new(name, version, Pair::shared(version)).with_plugins(*plugins).begin();
        let (kills, mut amid) = (long().unwrap_or(KILLS), 0);
        for _ in 0..kills {
            let before = scene.records();
            thread::sleep(Duration::from_micros(scene.dice.below(1_500_000)));
            scene.kill();
            amid += u64::from(scene.records() > before);
            if scene.dice.below(4) == 0 {
                // While it starts.
                let daemon = scene.site.spawn();
                thread::sleep(Duration::from_millis(scene.dice.below(400)));
                daemon.kill();
            }
            scene.start();
        }
        println!("{}: {kills} kills, {amid} of them when records had come since the one before", scene.link);
        // A kill of a link that does nothing proves nothing.
        assert!(amid * 2 >= kills, "{amid} of {kills} kills came amid records");
        scene.finish();
    }
}

/// What is open then is ended by the broker. The zombie has all of it in memory, and its commit already under way.
fn the_daemon_is_stopped_beyond_the_transaction_timeout(version: Version) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let scene = Setup::new("zombie", version, pair).proxied(pair).begin();
    let proxy = pair.target.brokers()[0].proxy().expect("a proxy");
    let checkpoints = format!("__tidegate.{}.checkpoints", scene.link);
    let is_open = || {
        let is_open = |topic, partition| kafka_oracle::is_transaction_open(&pair.target.bootstrap(), topic, partition);
        let copies = (0..PARTITIONS).map(|partition| is_open(&scene.link, partition));
        let lanes = (0..LANES as i32).map(|lane| is_open(&checkpoints, lane));
        copies.chain(lanes).any(|is_open| is_open.expect("the target"))
    };
    // What is caught may be what a daemon writes of the link: no lane has a transaction open then.
    let caught = (0..TRIES).find_map(|_| {
        let commit = proxy.catch(Side::Request, END_TXN, Deed::Hold);
        assert!(commit.await_caught(PATIENCE), "a commit");
        scene.signal(Signal::STOP);
        if is_open() {
            return Some(commit);
        }
        scene.signal(Signal::CONT);
        commit.release();
        scene.await_progress("a commit that was none of a lane");
        None
    });
    let commit = caught.expect("a commit of a lane");
    thread::sleep(TRANSACTION_TIMEOUT);
    // The broker looks for such transactions from time to time, and a busy one does so late.
    wait_until("the broker ends the transactions", || !is_open());
    scene.signal(Signal::CONT);
    commit.release();
    scene.await_progress("SIGSTOP");
    assert!(!scene.codes().is_empty(), "it did not notice");
    scene.finish();
    drop(network);
}

/// The process ends all the same, and what it left open is fenced by the next one.
fn the_daemon_ends_while_its_target_hangs(version: Version) {
    let pair = Pair::shared(version);
    let network = pair.network();
    let setup = Setup::new("ends", version, pair).with_daemon("shutdown_timeout = \"1s\"\n");
    let mut scene = setup.proxied(pair).with_plugins(false).begin();
    let proxy = pair.target.brokers()[0].proxy().expect("a proxy");
    for side in [Side::Request, Side::Answer] {
        let commit = proxy.catch(side, END_TXN, Deed::Hold);
        assert!(commit.await_caught(PATIENCE), "a commit");
        proxy.stall(Side::Request);
        proxy.stall(Side::Answer);
        let mut daemon = scene.daemon.take().expect("a daemon");
        daemon.signal(Signal::TERM);
        let status = daemon.await_end();
        let log = daemon.stderr();
        assert!(status.success(), "{status}: {log}");
        assert!(log.contains("shutdown-timed-out"), "it waited for the target: {log}");
        commit.release();
        proxy.resume();
        scene.start();
        scene.await_progress("an end in spite of a target that hung");
    }
    scene.finish();
    drop(network);
}
