//! The number of lanes changes while records flow, and so does the layout of a link: with daemons that die, stand still, or are too old for it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate::api::wire::{Link, Relaned, Upgrade};

use crate::clusters::{Pair, Version};
use crate::harness::{Answer, Client, LINKS, Site, wait_until};
use crate::scene::{PATIENCE, Scene, Setup, await_failure_of, long};

for_version_2_first! {
    lanes_become_others_while_daemons_are_killed,
    a_daemon_that_stands_still_is_left_behind,
    a_relane_is_called_off,
    daemons_of_two_layouts_share_a_link,
}

/// More partitions than lanes, most of the time.
const MORE_PARTITIONS: i32 = 16;

/// From 4 lanes.
const NUMBERS: [u32; 4] = [12, 3, 7, 4];

/// Two daemons, with a plugin that remembers. One of them is killed at any moment of each change.
fn lanes_become_others_while_daemons_are_killed(version: Version) {
    let setup = Setup::new("relane", version, Pair::shared(version)).with_plugins(true).with_lanes(4);
    let mut scene = setup.begin();
    println!("TIDEGATE_SEED={}", scene.seed);
    scene.writer = scene.setup.write_more(scene.writer, &scene.link, MORE_PARTITIONS, scene.seed + 1);
    let mut other = scene.rival();
    taken_over(&mut scene, &other.0.client);
    for round in 0..long().unwrap_or(NUMBERS.len() as u64) {
        let lanes = NUMBERS[round as usize % NUMBERS.len()];
        let asked = if scene.dice.below(2) == 0 { scene.site.client.clone() } else { other.0.client.clone() };
        let link = scene.link.clone();
        let asking = thread::spawn(move || ask(&asked, &link, lanes));
        let moment = scene.dice.below(7_000);
        thread::sleep(Duration::from_millis(moment));
        let dead = scene.dice.below(2);
        let longest = if scene.dice.below(3) == 0 { 15_000 } else { 1_000 };
        let outage = Duration::from_millis(scene.dice.below(longest));
        if dead == 0 {
            scene.kill();
            thread::sleep(outage);
            scene.start();
        } else {
            other.1.kill();
            thread::sleep(outage);
            other.1 = other.0.start();
        }
        let answered = asking.join().expect("a thread");
        println!("{}: to {lanes}: daemon {dead} was killed after {moment} ms for {outage:?}; {answered:?}", scene.link);
        let clients = [scene.site.client.clone(), other.0.client.clone()];
        // Who was killed before it had written anything down has forgotten it.
        await_lanes(&scene, &clients, lanes, |client| drop(ask(client, &scene.link, lanes)));
        scene.await_progress(&format!("{lanes} lanes"));
    }
    assert_eq!(shown(&scene.site.client, &scene.link).layout, Some(3));
    scene.finish();
}

/// The daemon that sees to it dies for good, or so it seems: the other one takes it up.
fn taken_over(scene: &mut Scene, other: &Client) {
    await_shared(scene, &[&scene.site.client, other]);
    let (client, link) = (scene.site.client.clone(), scene.link.clone());
    let asking = thread::spawn(move || drop(ask(&client, &link, 5)));
    wait_until("it has begun", || shown(other, &scene.link).relane.is_some());
    scene.kill();
    asking.join().expect("a thread");
    await_lanes(scene, std::slice::from_ref(other), 5, |_| {});
    scene.await_progress("the other one took it up");
    scene.start();
}

/// It has a transaction open and its lanes in memory, and knows nothing of what has become of them. Its lanes must not commit anything any more.
fn a_daemon_that_stands_still_is_left_behind(version: Version) {
    let setup = Setup::new("left-behind", version, Pair::shared(version)).with_plugins(true).with_lanes(4);
    let scene = setup.begin();
    let (site, rival) = scene.rival();
    for lanes in [6, 3] {
        await_shared(&scene, &[&scene.site.client, &site.client]);
        rival.signal(Signal::STOP);
        let answer = ask(&scene.site.client, &scene.link, lanes).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        await_lanes(&scene, std::slice::from_ref(&scene.site.client), lanes, |_| {});
        // Lanes of the other one are open nowhere, and nothing but the fencing keeps it from them.
        rival.signal(Signal::CONT);
        await_lanes(&scene, &[scene.site.client.clone(), site.client.clone()], lanes, |_| {});
        scene.await_progress("it went on");
    }
    scene.finish();
}

/// Nobody can say how far the lanes have come, so they cannot become others: but what they are they can stay.
fn a_relane_is_called_off(version: Version) {
    let pair = Pair::shared(version);
    let scene = Setup::new("called-off", version, pair).with_lanes(2).begin();
    // A transaction that hangs on the checkpoints keeps them from being read.
    let topic = format!("__tidegate.{}.checkpoints", scene.link);
    let foreign = kafka_oracle::Foreign::take(&pair.target.bootstrap(), &format!("foreign-{topic}"), HANGS);
    let foreign = foreign.expect("an id");
    foreign.hang(&topic, 0, &crate::identity::record("foreign")).expect("written");
    let answer = ask(&scene.site.client, &scene.link, 5).expect("an answer");
    let done: Relaned = serde_json::from_str(&answer.body).expect("an answer");
    assert_eq!((done.from, done.to, done.done), (2, 5, false));
    let refused = ask(&scene.site.client, &scene.link, 7).expect("an answer");
    assert_eq!((refused.status, refused.body.contains("relane-under-way")), (409, true), "{}", refused.body);
    wait_until("it says what is in the way", || {
        let error = scene.site.client.link(&scene.link).error;
        error.is_some_and(|error| error.message.contains("hanging-transaction"))
    });
    foreign.abort().expect("aborted");
    // It is tried again some time later; nobody waits for that.
    let answer = ask(&scene.site.client, &scene.link, 2).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    await_lanes(&scene, std::slice::from_ref(&scene.site.client), 2, |client| drop(ask(client, &scene.link, 2)));
    scene.await_progress("it was called off");
    let answer = ask(&scene.site.client, &scene.link, 5).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    await_lanes(&scene, std::slice::from_ref(&scene.site.client), 5, |_| {});
    scene.await_progress("it was asked for again");
    scene.finish();
}

/// Longer than anything here takes.
const HANGS: Duration = Duration::from_secs(600);

/// One daemon is held at the older layout. It is named, restarted without that, and then the link has the newer one, while records flow.
fn daemons_of_two_layouts_share_a_link(version: Version) {
    let setup = Setup::new("layouts", version, Pair::shared(version)).with_plugins(true);
    let old = setup.clone().named("old").with_daemon("layout_max = 1\n");
    let mut scene = old.clone().begin();
    let new = setup.clone().named("new");
    let site = Site::new(&new.config());
    let daemon = site.start();
    await_shared(&scene, &[&scene.site.client, &site.client]);
    assert_eq!(shown(&site.client, &scene.link).layout, Some(1), "the link was made by the older one");

    let refused = ask(&site.client, &scene.link, 5).expect("an answer");
    assert_eq!((refused.status, refused.body.contains("layout-too-old")), (409, true), "{}", refused.body);
    for (client, query) in [(&site.client, "?dry_run=true"), (&site.client, ""), (&scene.site.client, "")] {
        let refused = upgrade(client, &scene.link, query);
        assert_eq!(
            (refused.status, refused.body.contains("old does not know layout 3")),
            (409, true),
            "{}",
            refused.body
        );
    }
    scene.await_progress("the upgrade was refused");
    assert_eq!(shown(&site.client, &scene.link).layout, Some(1));

    scene.daemon.take().expect("a daemon").terminate();
    scene.site.configure(&setup.clone().named("old").config());
    scene.start();
    await_shared(&scene, &[&scene.site.client, &site.client]);
    let dry = upgrade(&scene.site.client, &scene.link, "?dry_run=true");
    assert_eq!(dry.status, 200, "{}", dry.body);
    assert_eq!(shown(&site.client, &scene.link).layout, Some(1), "a dry run changes nothing");
    let done: Upgrade = serde_json::from_str(&upgrade(&scene.site.client, &scene.link, "").body).expect("upgraded");
    assert_eq!((done.from, done.to, done.daemons.len()), (1, 3, 2), "{done:?}");
    let again: Upgrade = serde_json::from_str(&upgrade(&site.client, &scene.link, "").body).expect("nothing to do");
    assert_eq!((again.from, again.to), (3, 3));
    scene.await_progress("it was upgraded");
    assert_eq!(scene.failures(), 0, "{:?}", scene.codes());

    let answer = ask(&site.client, &scene.link, 5).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    await_lanes(&scene, &[scene.site.client.clone(), site.client.clone()], 5, |_| {});
    scene.await_progress("it has five lanes");
    // One that comes late with the older layout does no harm, and says what is the matter.
    let late = Site::new(&setup.named("late").with_daemon("layout_max = 1\n").config());
    let late_daemon = late.start();
    let trouble = await_failure_of(&late, &scene.link, "newer-layout");
    assert!(trouble.remedy.contains("layout_max"), "{trouble:?}");
    await_shared(&scene, &[&scene.site.client, &site.client]);
    late_daemon.kill();
    daemon.terminate();
    scene.finish();
}

/// Ask for so many lanes. An error is that nobody answers.
fn ask(client: &Client, link: &str, lanes: u32) -> Result<Answer, ureq::Error> {
    client.post(&format!("{LINKS}/{link}/relane?by=test"), format!("{{\"lanes\":{lanes}}}"))
}

fn upgrade(client: &Client, link: &str, query: &str) -> Answer {
    client.post(&format!("{LINKS}/{link}/upgrade{query}"), "").expect("an answer")
}

fn shown(client: &Client, link: &str) -> Link {
    client.link(link)
}

/// Wait until each daemon shows so many lanes and is at work on its share. `again` is called now and then.
fn await_lanes(scene: &Scene, clients: &[Client], lanes: u32, again: impl Fn(&Client)) {
    let begun = Instant::now();
    let mut asked = Instant::now();
    loop {
        let seen: Vec<Link> = clients.iter().map(|client| shown(client, &scene.link)).collect();
        let is_there = |link: &Link| link.relane.is_none() && link.lanes.len() == lanes as usize;
        if seen.iter().all(is_there) {
            println!("{}: {lanes} lanes after {:.1?}", scene.link, begun.elapsed());
            return;
        }
        if asked.elapsed() > Duration::from_secs(2) && seen.iter().all(|link| link.relane.is_none()) {
            again(&clients[0]);
            asked = Instant::now();
        }
        if begun.elapsed() > PATIENCE {
            scene.give_up(&format!("there are not {lanes} lanes: {seen:?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Wait until each of these daemons has some lanes.
fn await_shared(scene: &Scene, clients: &[&Client]) {
    wait_until("all daemons have lanes", || {
        let lanes = shown(clients[0], &scene.link).lanes;
        let mut daemons: Vec<_> = lanes.iter().map(|lane| lane.daemon.clone()).collect();
        daemons.sort_unstable();
        daemons.dedup();
        daemons.len() == clients.len() && daemons.iter().all(Option::is_some)
    });
}
