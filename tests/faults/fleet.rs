//! Several daemons that run the same link.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate::api::wire::{LaneState, Link, LinkStatus, RevisionState, Swap};

use crate::clusters::{Pair, Version};
use crate::harness::{Client, Daemon, Dice, LINKS, Site, percent_encoded, plugin_bytes, wait_until};
use crate::scene::{PATIENCE, Setup, long};

for_version_2_first! {
    two_daemons_run_the_same_link,
    two_daemons_have_one_name,
    what_is_said_to_one_daemon_reaches_all,
    daemons_come_and_go,
}

/// They share its lanes, and one takes over from the other.
fn two_daemons_run_the_same_link(version: Version) {
    let mut scene = Setup::new("twins", version, Pair::shared(version)).begin();
    let (site, rival) = scene.rival();
    await_even(&[&scene.site.client, &site.client], &scene.link);
    scene.await_progress("a rival began");
    // Who hears late that a lane has moved is fenced by its new daemon: that is all that may happen.
    assert!(scene.codes().iter().all(|code| code == "contended"), "{:?}", scene.codes());
    rival.signal(Signal::STOP);
    scene.await_progress("one was stopped in its tracks");
    rival.signal(Signal::CONT);
    scene.await_progress("it went on");
    await_even(&[&scene.site.client, &site.client], &scene.link);
    // Whichever: the other takes over.
    if scene.dice.below(2) == 0 {
        rival.kill();
    } else {
        scene.kill();
        (scene.site, scene.daemon) = (site, Some(rival));
    }
    scene.await_progress("one was killed");
    scene.finish();
}

/// A copied data directory, say. The group knows one of them only, and nothing but the target keeps them from each other.
fn two_daemons_have_one_name(version: Version) {
    let mut scene = Setup::new("doubles", version, Pair::shared(version)).named("double").begin();
    let (site, rival) = scene.rival();
    let codes =
        || [&scene.site.client, &site.client].map(|client| client.link(&scene.link).error.map(|error| error.code));
    wait_until("one of them says so", || codes().contains(&Some("daemon-name-in-use".to_owned())));
    scene.await_progress("a daemon of the same name began");
    scene.kill();
    (scene.site, scene.daemon) = (site, Some(rival));
    scene.await_progress("one was killed");
    scene.finish();
}

/// Pause, resume, publish and rollback; and a daemon that starts fresh knows all of it.
fn what_is_said_to_one_daemon_reaches_all(version: Version) {
    let setup = Setup::new("said", version, Pair::shared(version)).with_plugins(true);
    // A rollback within a probation forgets the keys that were first seen in it: then they come twice.
    let setup = setup.with_link("[links.LINK.probation]\nrecords = 0\n");
    let mut scene = setup.without_swaps().begin();
    let (site, other) = scene.rival();
    let (one, two, link) = (scene.site.client.clone(), site.client.clone(), scene.link.clone());
    await_even(&[&one, &two], &link);
    let say = |client: &Client, what: &str| {
        let answer = client.post(&format!("{LINKS}/{link}/{what}"), "").expect("an answer");
        assert!(answer.status < 300, "{what}: {}", answer.body);
    };
    say(&one, "pause");
    wait_until("the other pauses too", || two.link(&link).status == LinkStatus::Paused);
    let before = scene.records();
    assert!(scene.writer.records() > 0);
    thread::sleep(Duration::from_secs(1));
    let after = scene.records();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.records(), after, "nothing comes while it is paused, but what was under way: {before}");
    say(&two, "resume");
    wait_until("the first one goes on", || one.link(&link).status == LinkStatus::Active);
    // Where the other one has failed, it says why.
    wait_until("its lanes run", || {
        let lanes = two.link(&link).lanes;
        lanes.iter().all(|lane| [LaneState::Running, LaneState::Elsewhere].contains(&lane.state))
    });
    scene.await_progress("it was resumed at the other one");

    let config = percent_encoded("{\"max_keys\":1000007}");
    let path = format!("{LINKS}/{link}/stages/once/revisions?config={config}");
    let answer = two.post(&path, plugin_bytes("dedupe")).expect("an answer");
    let swap: Swap = serde_json::from_str(&answer.body).expect("a swap");
    assert_eq!(swap.state, RevisionState::Complete, "the lanes of both have swapped: {}", answer.body);
    assert_eq!(one.link(&link).revision, Some(swap.revision));
    say(&one, "rollback");
    let number = swap.revision + 1;
    wait_until("both have gone back", || {
        let is_complete = |client: &Client| {
            let lanes = client.link(&link).lanes;
            lanes.iter().all(|lane| lane.revision == Some(number))
        };
        is_complete(&one) && is_complete(&two)
    });
    // Nobody is left that was told anything.
    other.kill();
    scene.kill();
    let (fresh, daemon) = scene.rival();
    (scene.site, scene.daemon) = (fresh, Some(daemon));
    scene.await_progress("a fresh daemon began");
    assert_eq!(scene.site.client.link(&link).revision, Some(number));

    say(&scene.site.client, "stop");
    wait_until("it stops", || scene.site.client.link(&link).status == LinkStatus::Stopped);
    say(&scene.site.client, "start");
    scene.await_progress("it was started again");
    scene.finish();
}

/// Three daemons and twelve lanes. Daemons are killed, stopped, continued and restarted at random, a topic gets more partitions and another one appears.
fn daemons_come_and_go(version: Version) {
    let setup = Setup::new("fleet", version, Pair::shared(version)).with_lanes(12);
    let mut scene = setup.begin();
    let mut fleet = Fleet::new(&scene.setup, scene.site.client.clone(), scene.seed);
    let rounds = long().unwrap_or(6);
    let late = format!("{}-late", scene.link);
    let mut late_writer = None;
    for round in 0..rounds {
        if round == rounds / 3 {
            scene.writer = scene.setup.write_more(scene.writer, &scene.link, 16, scene.seed + 1);
        }
        if round == rounds / 2 {
            kafka_oracle::create(&scene.setup.source, &late, 4, &[]).expect("a topic");
            late_writer = Some(scene.setup.write(&late, 4, scene.seed + 2));
        }
        fleet.disturb();
        thread::sleep(Duration::from_millis(fleet.dice.below(3_000)));
    }
    fleet.calm();
    await_even(&[&scene.site.client, &fleet.members[0].0.client, &fleet.members[1].0.client], &scene.link);
    late_writer.expect("a writer").stop().expect("the late writer");
    let copied = scene.setup.await_copy(&late).unwrap_or_else(|difference| scene.give_up(&difference));
    println!("{late}: {copied} records are the same, after {rounds} disturbances: {:?}", fleet.deeds);
    scene.finish();
}

/// The daemons beside the scene's own.
struct Fleet {
    members: Vec<(Site, Option<Daemon>)>,
    dice: Dice,
    deeds: BTreeMap<&'static str, u32>,
}

impl Fleet {
    fn new(setup: &Setup, first: Client, seed: u64) -> Self {
        let members = (0..2).map(|_| {
            let site = Site::new(&setup.config());
            let daemon = site.start();
            (site, Some(daemon))
        });
        let members: Vec<_> = members.collect();
        await_even(&[&first, &members[0].0.client, &members[1].0.client], setup.name());
        Self { members, dice: Dice::new(seed), deeds: BTreeMap::new() }
    }

    /// Do something to one of them.
    fn disturb(&mut self) {
        let index = self.dice.below(self.members.len() as u64) as usize;
        let deed = self.dice.below(3);
        let pause = Duration::from_millis(self.dice.below(if long().is_some() { 15_000 } else { 3_000 }));
        let (site, daemon) = &mut self.members[index];
        let deed = match daemon.take() {
            None => {
                *daemon = Some(site.start());
                "started"
            }
            Some(running) if deed == 0 => {
                running.kill();
                "killed"
            }
            Some(running) if deed == 1 => {
                running.terminate();
                *daemon = Some(site.start());
                "restarted"
            }
            Some(running) => {
                running.signal(Signal::STOP);
                thread::sleep(pause);
                running.signal(Signal::CONT);
                *daemon = Some(running);
                "stopped and continued"
            }
        };
        *self.deeds.entry(deed).or_default() += 1;
    }

    /// Have all of them run.
    fn calm(&mut self) {
        for (site, daemon) in &mut self.members {
            daemon.get_or_insert_with(|| site.start());
        }
    }
}

/// Wait until each daemon runs as many lanes, and says so of all of them.
fn await_even(daemons: &[&Client], link: &str) {
    let begun = Instant::now();
    loop {
        let seen: Vec<Link> = daemons.iter().map(|client| client.link(link)).collect();
        let shares: Vec<BTreeMap<String, usize>> = seen.iter().map(shares).collect();
        let even = |shares: &BTreeMap<String, usize>| {
            let lanes = shares.values().sum::<usize>() / daemons.len();
            shares.len() == daemons.len() && shares.values().all(|count| *count == lanes)
        };
        if shares.iter().all(|one| even(one) && *one == shares[0]) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{link}: the lanes are not shared evenly: {shares:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// How many lanes each daemon has.
fn shares(link: &Link) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for lane in &link.lanes {
        *shares.entry(lane.daemon.clone().unwrap_or_default()).or_default() += 1;
    }
    shares
}
