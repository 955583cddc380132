//! Links that are defined, changed, paused, resumed, throttled, failed over and back, stopped, started and deleted at random by REST, while records flow and the
//! daemon is killed now and then. A model says what each request is answered; in the end every record is where it should be.
//!
//! `model` says what is answered, `books` what must be where, a `hand` asks for things; here is who has it all done.

mod books;
mod hand;
mod model;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::harness::{Daemon, Dice, LINKS, Site, comes_true, wait_until};
use books::Books;
use hand::Hand;
use model::Model;

pub struct Drill<'s> {
    pub site: &'s Site,
    /// The ids of the clusters.
    pub clusters: [&'s str; 2],
    pub links: u64,
    pub partitions: u32,
    pub length: Duration,
    /// From one kill to the next, at most.
    pub kill_after_max: Duration,
    /// How many people are at work.
    pub hands: u64,
    /// The records of a request, at most.
    pub records_max: u64,
}

/// What has happened.
#[derive(Default)]
struct Tally {
    done: Mutex<BTreeMap<String, u64>>,
    kills: AtomicU64,
    lost: AtomicU64,
    not_now: AtomicU64,
    /// Somebody does not agree with the model: nobody has to go on.
    is_lost: AtomicBool,
}

/// The seed, and whether the long form is wanted.
pub fn seed() -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos()));
    number("TIDEGATE_SEED").unwrap_or_else(clock)
}

/// How long to go on: the long form is asked for like that of all other tests.
pub fn length(short: u64, long: u64) -> Duration {
    let usual = if number("TIDEGATE_KILLS").is_some() { long } else { short };
    Duration::from_secs(number("TIDEGATE_SOAK_SECONDS").unwrap_or(usual))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

impl Drill<'_> {
    /// Do it all.
    pub fn run(&self, seed: u64) {
        println!("TIDEGATE_SEED={seed} TIDEGATE_SOAK_SECONDS={}", self.length.as_secs());
        let daemon = self.site.start();
        for link in 0..self.links {
            let body = json!({ "name": topic(link), "partitions": self.partitions }).to_string();
            let made =
                self.site.client.send("POST", &format!("/api/v1/clusters/{}/topics", self.clusters[0]), None, &body);
            assert_eq!(made.status, 201, "{}", made.body);
        }
        let (books, tally) = (Books::default(), Tally::default());
        let ends = Instant::now() + self.length;
        let is_over = AtomicBool::new(false);
        let (daemon, hands) = thread::scope(|scope| {
            let hand = |number: u64| {
                let (books, tally) = (&books, &tally);
                scope.spawn(move || {
                    let mut hand = Hand::new(self, books, tally, seed, number);
                    while Instant::now() < ends && !tally.is_lost.load(Relaxed) {
                        hand.act();
                    }
                    hand
                })
            };
            let hands: Vec<_> = (0..self.hands).map(hand).collect();
            let writer = scope.spawn(|| self.write(&books, seed, &is_over));
            let killer = scope.spawn(|| self.kill_often(daemon, seed, &tally, ends));
            let hands: Vec<_> = hands.into_iter().map(thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Relaxed);
            writer.join().expect("the writer");
            let daemon = killer.join().expect("the killer");
            let hands: Vec<Hand> =
                hands.into_iter().map(|hand| hand.unwrap_or_else(|said| panic!("{}", text(&*said)))).collect();
            (daemon, hands)
        });
        let mut models: Vec<(u64, Model)> = Vec::new();
        for mut hand in hands {
            hand.bring_all_up();
            models.append(&mut hand.models);
        }
        for (link, _) in &models {
            self.await_caught_up(*link);
        }
        self.check(&books, &tally, seed, daemon);
    }

    /// Everything is on both sides; nothing comes twice after a restart; what is stopped has no lanes.
    fn check(&self, books: &Books, tally: &Tally, seed: u64, daemon: Daemon) {
        let client = &self.site.client;
        let compared = |link| books.check(client, self.clusters, &topic(link), self.partitions);
        let counts: Result<Vec<usize>, String> = (0..self.links).map(compared).collect();
        let records: usize =
            counts.unwrap_or_else(|text| panic!("seed {seed}: {text}\n{}", daemon.stderr())).iter().sum();
        let ends = || -> Vec<_> { (0..self.links).map(|link| client.ends(self.clusters[1], &topic(link))).collect() };
        let before = ends();
        let log = daemon.stderr();
        assert!(!log.contains("panicked"), "{log}");
        daemon.terminate();
        let daemon = self.site.start();
        (0..self.links).for_each(|link| self.await_caught_up(link));
        assert_eq!(ends(), before, "seed {seed}: something came again after a restart");
        for link in 0..self.links {
            let answer = client.send("POST", &format!("{LINKS}/{}/stop", name(link)), None, "");
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        wait_until("no lane is left", || lane_threads(&daemon) == 0);
        let done = tally.done.lock().expect("a tally");
        let total: u64 = done.values().sum();
        println!(
            "seed {seed}: {} links, {total} requests, {records} records, {} kills, {} answers lost, {} times not now\n{done:?}",
            self.links,
            tally.kills.load(Relaxed),
            tally.lost.load(Relaxed),
            tally.not_now.load(Relaxed),
        );
        assert!(tally.kills.load(Relaxed) > 0 && records > 0);
        daemon.terminate();
    }

    fn await_caught_up(&self, link: u64) {
        let copied = || -> i64 {
            let link = self.site.client.link(&name(link));
            link.lanes.iter().flat_map(|lane| &lane.partitions).filter_map(|partition| partition.target_offset).sum()
        };
        // As long as something comes on.
        while !self.site.client.is_caught_up(&name(link)) {
            let before = copied();
            wait_until(&format!("{} copies more", name(link)), || {
                copied() > before || self.site.client.is_caught_up(&name(link))
            });
        }
    }

    /// Write to the sources of all links.
    fn write(&self, books: &Books, seed: u64, is_over: &AtomicBool) {
        let mut dice = Dice::new(seed ^ 0x77);
        while !is_over.load(Relaxed) {
            let (link, partition) = (dice.below(self.links), dice.below(u64::from(self.partitions)) as u32);
            let count = 1 + dice.below(self.records_max);
            books.write(&self.site.client, self.clusters[0], &topic(link), partition, count);
            thread::sleep(Duration::from_millis(dice.below(12)));
        }
    }

    /// Kill the daemon and start it again, now and then.
    fn kill_often(&self, daemon: Daemon, seed: u64, tally: &Tally, ends: Instant) -> Daemon {
        let mut dice = Dice::new(seed ^ 0x99);
        let mut daemon = daemon;
        loop {
            let wait = Duration::from_millis(500 + dice.below(self.kill_after_max.as_millis() as u64));
            let is_over = || Instant::now() >= ends || tally.is_lost.load(Relaxed);
            if comes_true(wait, is_over) {
                return daemon;
            }
            daemon.kill();
            tally.kills.fetch_add(1, Relaxed);
            daemon = self.site.spawn();
            if dice.below(4) == 0 {
                // While it starts.
                thread::sleep(Duration::from_millis(dice.below(200)));
                daemon.kill();
                daemon = self.site.spawn();
            }
            let client = &self.site.client;
            wait_until("the daemon answers", || client.get("/api/v1/healthz").is_ok_and(|answer| answer.status == 200));
        }
    }
}

/// What somebody said who gave up: once more, where it is the last that is seen of the test.
fn text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic")
}

fn name(link: u64) -> String {
    format!("soaked-{link}")
}

fn topic(link: u64) -> String {
    format!("soak-{link}")
}

/// How many lanes a daemon runs, whoever has forgotten them.
fn lane_threads(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("the threads of the daemon");
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lane")).count()
}
