//! Kill -9 at random moments, with plugins swapped and records produced all the while; then the oracle looks at
//! everything.
//!
//! `TIDEGATE_KILLS` sets the number of kills of each pipeline, `TIDEGATE_SEED` the seed. What the operating system makes
//! of a seed differs from run to run; the records, the swaps and the intended moments are the same.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Client, Dice, LINKS, Site, percent_encoded, plugin_bytes};
use crate::oracle::{self, ORIGIN};

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
    /// What the swapper publishes, one after the other.
    swaps: Vec<Swap>,
}

#[test]
fn kills_and_swaps_lose_and_double_nothing_behind_a_filter() {
    let filter = |at_least: u32, missing: &str| json!({"pointer": "/n", "at_least": at_least, "missing": missing});
    play(&Scene {
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
    let producer = Producer::new(&site, seed, BACKLOG + kills * RECORDS_PER_KILL);
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
        let (amid, idle) = kill_often(&site, kills, seed, &producer);
        let daemon = site.start();
        producers.into_iter().for_each(|producer| producer.join().expect("the producer"));
        swapping.store(false, Relaxed);
        let swaps = swapper.join().expect("the swapper");
        check(&site, &format!("seed {seed}"), swaps);
        println!("{kills} kills: {amid} amid records, {idle} without any, others while it started; {swaps} swaps");
        // A kill of a link that has nothing to do proves nothing.
        assert!(amid >= idle, "{amid} kills came while records were on their way, and {idle} when there were none");
        daemon.terminate();
    });
    nothing_comes_again(&site);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
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

fn check(site: &Site, how: &str, swaps: u64) {
    site.client.await_caught_up("flow");
    let tally = oracle::compare(&site.client, "flow").unwrap_or_else(|text| panic!("{how}:\n{text}"));
    println!("{how}: {tally:?}");
    assert_eq!(tally.records_in as i64, site.client.ends("east", "flow").iter().sum::<i64>(), "{how}");
    assert!(tally.records_out > 0, "{how}");
    assert!(tally.revisions > 2, "{how}: {swaps} swaps, but only {} revisions handled records", tally.revisions);
    for partition in site.client.link("flow").lanes.iter().flat_map(|lane| &lane.partitions) {
        assert_eq!((partition.lag, partition.target_offset), (Some(0), partition.source_offset), "{how}");
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

/// Publish and roll back until told to stop; how many times it was done for sure.
fn swap(client: &Client, scene: &Scene, seed: u64, swapping: &AtomicBool) -> u64 {
    let mut dice = Dice::new(seed ^ 0x5a5a);
    let mut done = 0;
    for turn in 0_usize.. {
        if !swapping.load(Relaxed) {
            break;
        }
        let (stage, plugin, config) = &scene.swaps[turn % scene.swaps.len()];
        let answer = if turn % 5 == 4 {
            client.post(&format!("{LINKS}/flow/rollback"), "")
        } else {
            let config = percent_encoded(&config.to_string());
            client.post(&format!("{LINKS}/flow/stages/{stage}/revisions?config={config}"), plugin_bytes(plugin))
        };
        match answer {
            Ok(answer) if answer.status < 300 => done += 1,
            // There may be nothing to go back to yet.
            Ok(answer) => assert!(turn % 5 == 4 || answer.status >= 500, "{}", answer.body),
            Err(_killed) => thread::sleep(RETRY),
        }
        thread::sleep(Duration::from_micros(dice.below(40_000)));
    }
    done
}

/// Fills the source, one thread a partition.
struct Producer {
    client: Client,
    seed: u64,
    /// Records for each partition in all.
    records: u64,
    /// How far each partition may be filled now.
    allowed: AtomicU64,
}

impl Producer {
    fn new(site: &Site, seed: u64, records: u64) -> Self {
        Self { client: site.client.clone(), seed, records, allowed: AtomicU64::new(BACKLOG) }
    }

    fn allow(&self, records: u64) {
        self.allowed.store(records, Relaxed);
    }

    /// Append until everything is durable. After a kill the partition's end says whether the last chunk is.
    fn run(&self, partition: u32) {
        let path = "/api/v1/clusters/east/topics/flow/records";
        let mut durable = 0;
        while durable < self.records {
            if durable >= self.allowed.load(Relaxed) {
                thread::sleep(RETRY);
                continue;
            }
            let body: Vec<String> =
                (durable..durable + CHUNK).map(|number| record(self.seed, partition, number)).collect();
            match self.client.post(path, body.join("\n")) {
                Ok(answer) if answer.status == 200 => durable += CHUNK,
                _ => durable = self.end(partition),
            }
        }
    }

    fn end(&self, partition: u32) -> u64 {
        loop {
            if let Ok(answer) = self.client.get("/api/v1/clusters/east/topics/flow")
                && answer.status == 200
            {
                return answer.json()["partitions"][partition as usize]["end"].as_u64().expect("an end");
            }
            thread::sleep(RETRY);
        }
    }
}

/// A record as a JSON line: some without a key, some tombstones, headers that occur twice, bytes that are no text.
fn record(seed: u64, partition: u32, number: u64) -> String {
    let mut dice = Dice::new(seed ^ (u64::from(partition) << 40) ^ number);
    let mut record = json!({
        "partition": partition,
        "timestamp": 1_700_000_000_000_u64 + dice.below(1_000_000),
        "headers": [
            [ORIGIN, partition.to_string()],
            ["twice", dice.below(10).to_string()],
            ["twice", number.to_string()],
            ["null", null],
            {"name": "raw", "value_base64": "/wD+"},
        ],
    });
    match dice.below(6) {
        0 => {}
        1 => record["key_base64"] = "gP8A".into(),
        _ => record["key"] = format!("k{}", dice.below(50)).into(),
    }
    if dice.below(10) > 0 {
        record["value"] = value(&mut dice, partition, number).into();
    }
    record.to_string()
}

fn value(dice: &mut Dice, partition: u32, number: u64) -> String {
    let card = |dice: &mut Dice| format!("{:016}", dice.below(1 << 30));
    let kind = ["order", "refund", "other"][dice.below(3) as usize];
    let own = card(dice);
    let (n, customer, count) = (dice.below(100), dice.below(40), dice.below(4));
    let lines: Vec<String> =
        (0..count).map(|line| format!(r#"{{"card":"{}","sku":"{partition}-{number}-{line}"}}"#, card(dice))).collect();
    let lines = lines.join(" ,");
    format!(
        r#"{{"card":"{own}","id":"{partition}-{number}","n":{n}, "type":"{kind}","customer":"c{customer}","lines":[{lines}]}}"#
    )
}
