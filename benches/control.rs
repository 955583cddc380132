//! The control plane of a daemon whose links run as fast as they can. `cargo bench --bench control`
//!
//! - how long REST answers take, with links at work and with links that rest;
//! - what somebody who asks all the time costs the links.

#![allow(clippy::print_stdout, clippy::expect_used, missing_docs, reason = "a bench prints, and may fail loudly")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{batch, component, median, percentile, spawn};
use serde_json::Value;
use tidegate::connector::Cluster;
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::model::TopicPartition;
use tidegate::store::{Options, Store};

const LINKS: usize = 4;
const PARTITIONS: u32 = 4;
/// More than the links can copy while they are asked.
const RECORDS: usize = 16_000_000;
const BATCH: usize = 10_000;

/// How often each question is asked.
const ASKED: usize = 400;
/// How often each order is given.
const ORDERED: usize = 15;
/// Between two questions. Who asks as fast as it can takes a core for itself.
const BREATH: Duration = Duration::from_millis(2);

const WINDOWS: usize = 7;
const WINDOW: Duration = Duration::from_secs(1);

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(dir.path());
    let (resting, busy) = at_work(dir.path(), |daemon| {
        daemon.each_link("stop");
        let resting = daemon.questions();
        daemon.each_link("start");
        (resting, daemon.questions())
    });
    println!("REST answers while {LINKS} links with a filter copy as fast as they can, {ASKED} of each");
    println!("  {:<40} {:>8} {:>8}   {:>15}", "ms", "p50", "p99", "p99, links rest");
    for ((question, mut times), (_, mut before)) in busy.into_iter().zip(resting) {
        let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        println!("  {question:<40} {p50:>8.1} {p99:>8.1}   {:>15.1}   (must: 20)", percentile(&mut before, 99));
    }
    println!("orders to one of them, answered when its lanes obey, {ORDERED} of each");
    for (order, mut times) in at_work(dir.path(), Daemon::orders) {
        println!("  {order:<40} {:>8.1} {:>8.1}", percentile(&mut times, 50), percentile(&mut times, 99));
    }
    println!("records per second with somebody who asks all the time, to without, median of {WINDOWS} pairs");
    println!("  {:>6.1} %", at_work(dir.path(), Daemon::share_left) * 100.0);
}

/// Measure a daemon whose links have everything to do, and see that they still have in the end.
fn at_work<T>(dir: &Path, measure: impl FnOnce(&Daemon) -> T) -> T {
    let west = dir.join("data/west.redb");
    if west.exists() {
        fs::remove_file(west).expect("removed");
    }
    let daemon = Daemon::start(dir);
    let measured = measure(&daemon);
    assert!(daemon.copied() < (LINKS * RECORDS) as i64, "the links had nothing to do in the end: more records");
    measured
}

fn fill(dir: &Path) {
    fs::create_dir(dir.join("data")).expect("a directory");
    let store = Store::open(dir.join("data/east.redb"), Options::default()).expect("a store");
    let east = EmbeddedCluster::new(Arc::new(store));
    east.create_topic("orders", PARTITIONS).expect("a topic");
    let batch = batch(BATCH, 100, 0);
    for round in 0..RECORDS / BATCH {
        east.produce(&TopicPartition::new("orders", round as u32 % PARTITIONS), &batch).expect("produced");
    }
}

struct Daemon {
    child: Child,
    client: ureq::Agent,
    base: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

impl Daemon {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        fs::write(dir.join("filter.wasm"), component("byte-filter")).expect("written");
        let link = |number: usize| {
            format!(
                "[links.l{number}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n\
                 topic_prefix = \"l{number}.\"\nlanes = 2\n\
                 [[links.l{number}.pipeline]]\nstage = \"filter\"\nplugin = \"filter.wasm\"\n"
            )
        };
        let links: String = (0..LINKS).map(link).collect();
        let config = format!(
            "[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{port}\"\n\
             [clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n{links}"
        );
        fs::write(dir.join("tidegate.toml"), config).expect("written");
        let child = spawn(dir);
        let client = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into();
        let daemon = Self { child, client, base: format!("http://127.0.0.1:{port}") };
        while daemon.try_copied().is_none_or(|copied| copied == 0) {
            sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// Ask; milliseconds until the whole answer was there.
    fn ask(&self, path: &str) -> f64 {
        let begun = Instant::now();
        let mut answer = self.client.get(format!("{}{path}", self.base)).call().expect("an answer");
        answer.body_mut().read_to_vec().expect("a whole answer");
        begun.elapsed().as_secs_f64() * 1000.0
    }

    fn order(&self, link: usize, order: &str) -> f64 {
        let begun = Instant::now();
        let path = format!("{}/api/v1/replication/links/l{link}/{order}", self.base);
        self.client.post(path).send_empty().expect("obeyed");
        begun.elapsed().as_secs_f64() * 1000.0
    }

    fn each_link(&self, order: &str) {
        for link in 0..LINKS {
            self.order(link, order);
        }
    }

    fn questions(&self) -> Vec<(&'static str, Vec<f64>)> {
        const QUESTIONS: [&str; 9] = [
            "/api/v1/replication/links",
            "/api/v1/replication/links/l0",
            "/api/v1/replication/links/l0/metrics",
            "/api/v1/replication/links/l0/health",
            "/api/v1/replication/links/l0/lanes",
            "/api/v1/replication/links/l0/stages",
            "/api/v1/replication/links/l0/events",
            "/metrics",
            "/readyz",
        ];
        let mut asked = QUESTIONS.map(|question| (question, Vec::with_capacity(ASKED)));
        for _ in 0..ASKED {
            for (question, times) in &mut asked {
                times.push(self.ask(question));
                sleep(BREATH);
            }
        }
        asked.into()
    }

    fn orders(&self) -> Vec<(&'static str, Vec<f64>)> {
        let mut given = ["pause", "resume"].map(|order| (order, Vec::with_capacity(ORDERED)));
        for _ in 0..ORDERED {
            for (order, times) in &mut given {
                times.push(self.order(0, order));
                sleep(BREATH * 10);
            }
        }
        given.into()
    }

    /// What is left of the links' speed while somebody asks.
    fn share_left(&self) -> f64 {
        let speed = |work: &dyn Fn()| {
            let (begun, copied) = (Instant::now(), self.copied());
            while begun.elapsed() < WINDOW {
                work();
            }
            (self.copied() - copied) as f64 / begun.elapsed().as_secs_f64()
        };
        let ask = || {
            self.ask("/api/v1/replication/links");
            sleep(BREATH);
        };
        let pair = |_| {
            let without = speed(&|| sleep(BREATH));
            speed(&ask) / without
        };
        median(&mut (0..WINDOWS).map(pair).collect::<Vec<f64>>())
    }

    fn copied(&self) -> i64 {
        self.try_copied().expect("an answer")
    }

    /// What the links have copied, if the daemon answers.
    fn try_copied(&self) -> Option<i64> {
        let of_link = |link: usize| -> Option<i64> {
            let path = format!("{}/api/v1/replication/links/l{link}/metrics", self.base);
            let body: Value = self.client.get(path).call().ok()?.body_mut().read_json().ok()?;
            let partitions = body["partition_metrics"].as_object()?;
            Some(partitions.values().filter_map(|partition| partition["target_offset"].as_i64()).sum())
        };
        (0..LINKS).map(of_link).sum()
    }
}
