//! Kill -9 at random moments, with plugins swapped and records produced all the while; then the oracle looks at
//! everything.
//!
//! `TIDEGATE_KILLS` sets the number of kills of each pipeline, `TIDEGATE_SEED` the seed. What the operating system makes
//! of a seed differs from run to run; the records, the swaps and the intended moments are the same.

mod poison;
mod producer;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Dice, LINKS, Site, percent_encoded, plugin_bytes, wait_until};
use crate::oracle;
use producer::{MakeRecord, Producer, record};

const KILLS: u64 = 6;
const PARTITIONS: u32 = 4;

/// Records in a request: one append, so a kill leaves all of them or none.
const CHUNK: u64 = 400;

/// Records that are in the source before the link is first started, in each partition.
const BACKLOG: u64 = 6_000;

/// Records that are produced for each kill, in each partition: more than the link copies in between.
const RECORDS_PER_KILL: u64 = 4_000;

/// How long a thread waits before it tries again what a killed daemon did not answer.
const RETRY: Duration = Duration::from_millis(5);

/// A stage, a plugin and its configuration.
type Swap = (&'static str, &'static str, Value);

struct Scene {
    pipeline: &'static str,
    /// What the swapper publishes, one after the other. Every fifth time it rolls back instead, so their number must not be a
    /// multiple of 5.
    swaps: Vec<Swap>,
    record: MakeRecord,
    /// Whether the number of lanes changes all the time.
    relanes: bool,
    /// The codes with which records are put aside.
    put_aside: &'static [&'static str],
}

#[test]
fn kills_and_swaps_lose_and_double_nothing_behind_a_filter() {
    let filter = |at_least: u32, missing: &str| json!({"pointer": "/n", "at_least": at_least, "missing": missing});
    play(&Scene {
        record,
        relanes: false,
        put_aside: &[],
        pipeline: r#"
            [[links.flow.pipeline]]
            stage = "keep"
            plugin = "PLUGINS/json-filter.wasm"
            config = { pointer = "/n", at_least = 20, missing = "keep" }
            [[links.flow.pipeline]]
            stage = "mask"
            plugin = "PLUGINS/redact.wasm"
            config = { pointers = ["/card"], keep_last = 4 }"#,
        swaps: vec![
            ("keep", "json-filter", filter(60, "drop")),
            ("mask", "redact", mask(2, "x")),
            ("keep", "json-filter", filter(5, "keep")),
            ("mask", "redact", mask(8, "+")),
        ],
    });
}

#[test]
fn kills_and_swaps_lose_and_double_nothing_behind_routes() {
    let route = |routes: Value| json!({"pointer": "/type", "routes": routes, "partition_by": "/customer"});
    play(&Scene {
        record,
        relanes: false,
        put_aside: &[],
        // `sales` is there and has another number of partitions than the source; the link makes the others.
        pipeline: r#"
            [clusters.west.topics.sales]
            partitions = 3
            [[links.flow.pipeline]]
            stage = "send"
            plugin = "PLUGINS/route.wasm"
            config = { pointer = "/type", routes = { order = "sales", refund = "back" } }
            [[links.flow.pipeline]]
            stage = "mask"
            plugin = "PLUGINS/redact.wasm"
            config = { pointers = ["/card"], keep_last = 4 }"#,
        swaps: vec![
            ("send", "route", route(json!({"order": "sales", "refund": "back"}))),
            ("mask", "redact", mask(2, "x")),
            ("send", "route", json!({"pointer": "/type", "routes": {"order": "back"}, "default": "rest"})),
            ("send", "route", route(json!({"other": "keyed", "refund": "sales"}))),
        ],
    });
}

#[test]
fn kills_and_swaps_lose_and_double_nothing_where_one_record_becomes_many() {
    play(&Scene {
        record,
        relanes: false,
        put_aside: &[],
        pipeline: r#"
            [[links.flow.pipeline]]
            stage = "split"
            plugin = "PLUGINS/explode.wasm"
            config = { pointer = "/lines", key_from = "/sku" }
            [[links.flow.pipeline]]
            stage = "mask"
            plugin = "PLUGINS/redact.wasm"
            config = { pointers = ["/card"], keep_last = 4 }"#,
        swaps: vec![
            ("mask", "redact", mask(2, "x")),
            ("split", "explode", json!({"pointer": "/lines"})),
            ("mask", "redact", mask(6, "+")),
            ("split", "explode", json!({"pointer": "/lines", "key_from": "/sku"})),
        ],
    });
}

fn mask(keep_last: u32, mask: &str) -> Value {
    json!({"pointers": ["/card"], "keep_last": keep_last, "mask": mask})
}

/// Small batches and small transactions: many moments at which a kill or a swap could do harm.
fn config(scene: &Scene) -> String {
    format!(
        r#"
        [clusters.east]
        kind = "embedded"
        [clusters.east.topics.flow]
        partitions = {PARTITIONS}
        [clusters.west]
        kind = "embedded"
        [links.flow]
        source = "east"
        target = "west"
        topics = ["flow"]
        lanes = 2
        [links.flow.config]
        batch_size = 37
        max_messages = 150
        checkpoint_interval_ms = 5
        {}"#,
        scene.pipeline
    )
}

fn play(scene: &Scene) {
    let kills = number("TIDEGATE_KILLS").unwrap_or(KILLS);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos()));
    let seed = number("TIDEGATE_SEED").unwrap_or_else(clock);
    println!("TIDEGATE_SEED={seed} TIDEGATE_KILLS={kills}");
    let site = Site::new(&config(scene));
    publish_once(&site, scene);
    let producer = Producer::new(&site, seed, scene.record, BACKLOG + kills * RECORDS_PER_KILL);
    let swapping = AtomicBool::new(true);
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PARTITIONS)
            .map(|at| {
                scope.spawn({
                    let producer = &producer;
                    move || producer.run(at)
                })
            })
            .collect();
        let swapper = scope.spawn(|| swap(&site.client, scene, seed, &swapping));
        let relaner = scene.relanes.then(|| scope.spawn(|| relane(&site.client, seed, kills, &swapping)));
        let (amid, idle) = kill_often(&site, kills, seed, &producer);
        let daemon = site.start();
        producers.into_iter().for_each(|producer| producer.join().expect("the producer"));
        swapping.store(false, Relaxed);
        let swaps = swapper.join().expect("the swapper");
        let relanes = relaner.map(|relaner| relaner.join().expect("the relaner"));
        println!("{relanes:?} relanes");
        let tally = check(&site, scene, &format!("seed {seed}"), swaps);
        println!("{kills} kills: {amid} amid records, {idle} without any, others while it started; {swaps} swaps");
        // A kill of a link that has nothing to do proves nothing.
        assert!(amid >= idle, "{amid} kills came while records were on their way, and {idle} when there were none");
        daemon.terminate();
        let states = oracle::compare_states(&site.path("data/west.redb"), "flow", &tally.states);
        states.unwrap_or_else(|text| panic!("seed {seed}:\n{text}"));
    });
    nothing_comes_again(&site);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Publish everything once, so that the compiled plugins are in the cache: to compile one takes longer than from one kill to the
/// next, and so there would be no swap before the last.
fn publish_once(site: &Site, scene: &Scene) {
    let daemon = site.start();
    for swap in &scene.swaps {
        let answer = publish(&site.client, swap).expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    daemon.kill();
}

fn publish(client: &Client, (stage, plugin, config): &Swap) -> Result<Answer, ureq::Error> {
    let config = percent_encoded(&config.to_string());
    client.post(&format!("{LINKS}/flow/stages/{stage}/revisions?config={config}"), plugin_bytes(plugin))
}

/// Start and kill the daemon. How many kills came while records were on their way, and how many found nothing to do.
fn kill_often(site: &Site, kills: u64, seed: u64, producer: &Producer) -> (u64, u64) {
    let mut dice = Dice::new(seed);
    let (mut amid, mut idle) = (0, 0);
    for kill in 0..kills {
        producer.allow(BACKLOG + (kill + 1) * RECORDS_PER_KILL);
        if dice.below(4) == 0 {
            // While it starts.
            let daemon = site.spawn();
            thread::sleep(Duration::from_millis(dice.below(120)));
            daemon.kill();
            continue;
        }
        let daemon = site.start();
        thread::sleep(Duration::from_micros(dice.below(300_000)));
        let caught_up = site.client.is_caught_up("flow");
        thread::sleep(Duration::from_micros(dice.below(5_000)));
        daemon.kill();
        *(if caught_up { &mut idle } else { &mut amid }) += 1;
    }
    producer.allow(u64::MAX);
    (amid, idle)
}

fn check(site: &Site, scene: &Scene, how: &str, swaps: u64) -> oracle::Tally {
    await_caught_up(&site.client);
    let tally = oracle::compare(&site.client, "flow").unwrap_or_else(|text| panic!("{how}:\n{text}"));
    let oracle::Tally { records_in, records_out, revisions, put_aside, migrations, .. } = &tally;
    println!(
        "{how}: {records_in} in, {records_out} out, {put_aside:?}, {revisions} revisions, {migrations} migrations"
    );
    assert!(put_aside.keys().eq(scene.put_aside), "{how}: {put_aside:?}");
    let migrates = scene.swaps.iter().any(|(_, plugin, _)| *plugin == "counter-2");
    assert_eq!(*migrations > 0, migrates, "{how}: {swaps} swaps, and {migrations} migrations");
    assert_eq!(tally.records_in as i64, site.client.ends("east", "flow").iter().sum::<i64>(), "{how}");
    assert!(tally.records_out > 0, "{how}");
    assert!(tally.revisions > 2, "{how}: {swaps} swaps, but only {} revisions handled records", tally.revisions);
    for partition in site.client.link("flow").lanes.iter().flat_map(|lane| &lane.partitions) {
        assert_eq!((partition.lag, partition.target_offset), (Some(0), partition.source_offset), "{how}");
    }
    tally
}

/// After many kills much is left to do. So wait for as long as there is progress.
fn await_caught_up(client: &Client) {
    let copied = || -> i64 {
        let link = client.link("flow");
        link.lanes.iter().flat_map(|lane| &lane.partitions).filter_map(|partition| partition.target_offset).sum()
    };
    while !client.is_caught_up("flow") {
        let before = copied();
        wait_until("flow copies more", || copied() > before || client.is_caught_up("flow"));
    }
}

/// Checkpoints say that all is done, so a new start adds nothing.
fn nothing_comes_again(site: &Site) {
    let ends = || -> Vec<_> {
        let topics = site.client.topics("west").into_iter();
        topics.map(|topic| (site.client.ends("west", &topic.name), topic.name)).collect()
    };
    let daemon = site.start();
    site.client.await_caught_up("flow");
    let before = ends();
    let answer = site.client.post(&format!("{LINKS}/flow/stop"), "").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    daemon.kill();
    let _daemon = site.start();
    let answer = site.client.post(&format!("{LINKS}/flow/start"), "").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    site.client.await_caught_up("flow");
    assert_eq!(ends(), before);
}

/// Change the number of lanes until told to stop, and so many times at least; how many times it was done for sure.
fn relane(client: &Client, seed: u64, at_least: u64, relaning: &AtomicBool) -> u64 {
    let mut dice = Dice::new(seed ^ 0xa5a5);
    let mut done = 0;
    while relaning.load(Relaxed) || done < at_least {
        let lanes = 1 + dice.below(6);
        match client.post(&format!("{LINKS}/flow/relane"), format!("{{\"lanes\":{lanes}}}")) {
            Ok(answer) if answer.status == 200 => done += u64::from(answer.json()["done"] == true),
            // One that a kill has interrupted goes on, or the link was not made yet.
            Ok(answer) => assert!([409, 503].contains(&answer.status), "{}", answer.body),
            Err(_) => thread::sleep(RETRY),
        }
        thread::sleep(Duration::from_micros(dice.below(150_000)));
    }
    done
}

/// Publish and roll back until told to stop; how many times it was done for sure.
fn swap(client: &Client, scene: &Scene, seed: u64, swapping: &AtomicBool) -> u64 {
    let mut dice = Dice::new(seed ^ 0x5a5a);
    let (mut done, mut turn) = (0, 0_usize);
    while swapping.load(Relaxed) {
        let rolls_back = turn % 5 == 4;
        let answer = if rolls_back {
            client.post(&format!("{LINKS}/flow/rollback"), "")
        } else {
            publish(client, &scene.swaps[turn % scene.swaps.len()])
        };
        match answer {
            Ok(answer) if answer.status < 300 => (done, turn) = (done + 1, turn + 1),
            // There may be nothing to go back to yet.
            Ok(answer) if rolls_back && answer.status < 500 => turn += 1,
            Ok(answer) => assert!(answer.status >= 500, "{}", answer.body),
            // Killed: whether it was done is not known, and doing it twice does no harm.
            Err(_) => thread::sleep(RETRY),
        }
        thread::sleep(Duration::from_micros(dice.below(40_000)));
    }
    done
}
