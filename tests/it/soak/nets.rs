//! Two-way links, stars and rings with a plugin, records that it drops, records that it cannot
//! handle, and a configuration file that changes, while the daemon is killed now and then.
//!
//! The model: a record that the plugin keeps is in every cluster once, in the order of its writer.
//! One that it drops, or cannot handle, stays where it was written, and is a dead letter of each
//! link that reads it there, once.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate::api::wire::{Link, Plan, PlannedAction, Record, Verdict, Verification};

use super::drill::{length, seed};
use crate::harness::{Daemon, Dice, LINKS, Site, comes_true, wait_until};

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 2;

struct Net {
    name: &'static str,
    clusters: &'static [&'static str],
    links: &'static [(&'static str, &'static str)],
    says: &'static str,
}

const PAIR: Net =
    Net { name: "pair", clusters: &["east", "west"], links: &[("east", "west")], says: "type = \"active-active\"" };
const STAR: Net = Net {
    name: "star",
    clusters: &["hub", "east", "west", "north"],
    links: &[("hub", "east"), ("hub", "west"), ("hub", "north")],
    says: "type = \"star\"",
};
const RING: Net = Net {
    name: "ring",
    clusters: &["east", "west", "north"],
    links: &[("east", "west"), ("west", "north"), ("north", "east")],
    says: "provenance = true",
};

/// What the file says that may change while records flow.
#[derive(Clone, Copy)]
struct Settings {
    batch_size: u64,
    time_ms: u64,
    retention_hours: u64,
}

impl Settings {
    fn any(dice: &mut Dice) -> Self {
        Self {
            batch_size: 1 + dice.below(60),
            time_ms: 5_000 + dice.below(1_000),
            retention_hours: 100 + dice.below(100),
        }
    }
}

impl Net {
    fn config(&self, settings: Settings) -> String {
        let Settings { batch_size, time_ms, retention_hours } = settings;
        let cluster = |id: &&str| format!("[clusters.{id}]\nkind = \"embedded\"\n");
        // The first cluster owns the topic; the links create it elsewhere.
        let topic = format!(
            "[clusters.{}.topics.{TOPIC}]\npartitions = {PARTITIONS}\nretention = \"{retention_hours}h\"\n",
            self.clusters[0]
        );
        let link = |(from, to): &(&str, &str)| {
            format!(
                "[links.{from}-{to}]\nsource = \"{from}\"\ntarget = \"{to}\"\ntopics = [\"{TOPIC}\"]\ntopic_refresh = \"100ms\"\n{}\n\
                 [links.{from}-{to}.config]\nbatch_size = {batch_size}\ncheckpoint_interval_ms = 20\n\
                 [[links.{from}-{to}.pipeline]]\nstage = \"kept\"\nplugin = \"PLUGINS/json-filter.wasm\"\n\
                 config = {{ pointer = \"/kept\", equals = true }}\nlimits = {{ time_ms = {time_ms} }}\n",
                self.says
            )
        };
        self.clusters.iter().map(cluster).chain([topic]).chain(self.links.iter().map(link)).collect()
    }
}

/// A record, as its value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kept,
    Dropped,
    Bad,
}

fn value(kind: Kind, from: &str, number: u64) -> String {
    match kind {
        Kind::Kept => json!({ "from": from, "number": number, "kept": true }).to_string(),
        Kind::Dropped => json!({ "from": from, "number": number, "kept": false }).to_string(),
        Kind::Bad => format!("{from} {number} is no JSON"),
    }
}

fn text(record: Record) -> String {
    String::from_utf8(record.value.expect("a value")).expect("text")
}

/// What the value of a record says: its kind, and where it was written.
fn kind(value: &str) -> (Kind, String) {
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(json) => {
            let kind = if json["kept"] == true { Kind::Kept } else { Kind::Dropped };
            (kind, json["from"].as_str().expect("a cluster").to_owned())
        }
        Err(_) => (Kind::Bad, value.split(' ').next().expect("a cluster").to_owned()),
    }
}

/// A net at work.
struct Soak<'s> {
    site: &'s Site,
    net: &'s Net,
    dice: Dice,
    /// The number of the next record, everywhere.
    next: u64,
    /// The values that were acknowledged, by cluster.
    acknowledged: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Soak<'_> {
    fn write(&mut self) {
        let clusters = self.net.clusters;
        let cluster = clusters[self.dice.below(clusters.len() as u64) as usize];
        let count = 1 + self.dice.below(30);
        let mut values = Vec::new();
        for number in self.next..self.next + count {
            let kind = match self.dice.below(10) {
                0 => Kind::Bad,
                1 | 2 => Kind::Dropped,
                _ => Kind::Kept,
            };
            values.push(value(kind, cluster, number));
        }
        self.next += count;
        let partition = self.dice.below(u64::from(PARTITIONS));
        let lines: Vec<_> =
            values.iter().map(|value| json!({ "partition": partition, "value": value }).to_string()).collect();
        let path = format!("/api/v1/clusters/{cluster}/topics/{TOPIC}/records");
        // What is not acknowledged, as the topic is not there yet, may be there all the same, and is not sent again.
        if self.site.client.post(&path, lines.join("\n")).is_ok_and(|answer| answer.status == 200) {
            self.acknowledged.entry(cluster).or_default().extend(values);
        }
    }

    fn change(&mut self) {
        self.site.configure(&self.net.config(Settings::any(&mut self.dice)));
        let output = self.site.cli(&["reload"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What stands in a topic, by partition.
    fn read(&self, cluster: &str, topic: &str) -> Vec<Vec<String>> {
        let partitions = self.site.client.ends(cluster, topic).len() as u32;
        let values = |partition| self.site.client.records(cluster, topic, partition).into_iter().map(text).collect();
        (0..partitions).map(values).collect()
    }

    /// What is wrong, if anything is.
    fn fault(&self, links: &[Link]) -> Option<String> {
        let all: BTreeMap<&str, Vec<Vec<String>>> =
            self.net.clusters.iter().map(|cluster| (*cluster, self.read(cluster, TOPIC))).collect();
        let of = |at: &str, partition: usize, from: &str, wanted: &[Kind]| -> Vec<&String> {
            let values = all[at].get(partition).into_iter().flatten();
            values
                .filter(|value| {
                    let (kind, origin) = kind(value);
                    origin == from && wanted.contains(&kind)
                })
                .collect()
        };
        for from in self.net.clusters {
            let stand: BTreeSet<&String> = all[from].iter().flatten().collect();
            let lost = self.acknowledged.get(from).into_iter().flatten().find(|value| !stand.contains(value));
            if let Some(lost) = lost {
                return Some(format!("{from} has acknowledged {lost} and does not have it"));
            }
            for at in self.net.clusters.iter().filter(|at| at != &from) {
                for partition in 0..PARTITIONS as usize {
                    let expected = of(from, partition, from, &[Kind::Kept]);
                    let found = of(at, partition, from, &[Kind::Kept, Kind::Dropped, Kind::Bad]);
                    if expected != found {
                        let different = expected.iter().zip(&found).position(|(one, other)| one != other);
                        return Some(format!(
                            "partition {partition}: {at} has {} records of {from}, not {}; the first that differs: {different:?}",
                            found.len(),
                            expected.len()
                        ));
                    }
                }
            }
            let mut bad: Vec<&String> =
                (0..PARTITIONS as usize).flat_map(|partition| of(from, partition, from, &[Kind::Bad])).collect();
            bad.sort();
            for link in links.iter().filter(|link| link.source == **from) {
                let letters = self.read(&link.target, &link.dead_letters);
                let mut letters: Vec<&String> = letters.iter().flatten().collect();
                letters.sort();
                if letters != bad {
                    return Some(format!("{} has {} dead letters, not {}", link.id, letters.len(), bad.len()));
                }
            }
        }
        None
    }

    /// Everything is where it should be, stays so, and no link has anything to do or to say against it.
    fn check(&self, seed: u64) -> (usize, usize) {
        let name = self.net.name;
        let links: Vec<Link> = self.site.client.read(LINKS);
        let mut fault = None;
        let is_right = || {
            fault = self.fault(&links);
            fault.is_none()
        };
        let is_right = comes_true(Duration::from_secs(90), is_right);
        assert!(is_right, "{name}, seed {seed}: {}", fault.unwrap_or_default());
        for link in &links {
            self.site.client.await_caught_up(&link.id);
            let is_done = || {
                let plan: Plan = self.site.client.read(&format!("{LINKS}/{}/plan", link.id));
                plan.topics.iter().all(|topic| topic.action == PlannedAction::Keep && topic.settings.is_empty())
            };
            wait_until(&format!("{name}, seed {seed}: {} plans nothing", link.id), is_done);
            let output = self.site.cli(&["verify", &link.id, "--json"]);
            let verified: Verification = serde_json::from_slice(&output.stdout).expect("JSON");
            let report = verified.report.expect("a report");
            assert_eq!(report.differences_total, 0, "{name}, seed {seed}: {}: {report:#?}", link.id);
            assert!(
                matches!(verified.verdict, Some(Verdict::Fine | Verdict::NotCovered)),
                "{name}, seed {seed}: {report:#?}"
            );
        }
        // What would still go round is here by now.
        assert_eq!(self.fault(&links), None, "{name}, seed {seed}");
        let count = |wanted: Kind| {
            let values = self.net.clusters.iter().flat_map(|cluster| self.read(cluster, TOPIC)).flatten();
            values.filter(|value| kind(value).0 == wanted).count()
        };
        (count(Kind::Kept), count(Kind::Bad))
    }
}

fn soak(net: &Net) {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let site = Site::new("");
    site.configure(&net.config(Settings::any(&mut dice)));
    let mut daemon: Daemon = site.start();
    let mut soak = Soak { site: &site, net, dice, next: 0, acknowledged: BTreeMap::new() };
    let (mut kills, mut changes) = (0, 0);
    let (begun, length) = (Instant::now(), length(4, 90));
    while begun.elapsed() < length || kills == 0 || changes == 0 {
        match soak.dice.below(60) {
            0 => {
                daemon.kill();
                kills += 1;
                daemon = site.start();
            }
            1 => {
                soak.change();
                changes += 1;
            }
            _ => {
                soak.write();
                thread::sleep(Duration::from_millis(soak.dice.below(12)));
            }
        }
    }
    let (kept, bad) = soak.check(seed);
    println!(
        "{}, seed {seed}: {kept} copies of records, {bad} bad records, {kills} kills, {changes} reloads",
        net.name
    );
    assert!(kept > 0 && bad > 0);
    let log = daemon.stderr();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_two_way_link_copies_each_record_once() {
    soak(&PAIR);
}

#[test]
fn a_star_copies_each_record_everywhere_once() {
    soak(&STAR);
}

#[test]
fn a_ring_copies_each_record_everywhere_once() {
    soak(&RING);
}
