//! `tidegate verify` as a user runs it: two links, each with a swap amid the records, one of them with a stage that remembers and with records that
//! it cannot handle. Then the target is damaged, in one record each time, and `verify` has to say what was done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::api::wire::{self, Difference, Verdict, Verification, VerificationState};
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::connector::{Cluster, Commit, LaneSettings, RevisionStart};
use tidegate::model::{BatchBuilder, HeaderRef, TopicPartition};
use tidegate::store::{Options, Retention, Store};

use crate::harness::{LINKS, Site, plugin, wait_until};

/// Three source partitions; `few` has two partitions in the target from the start, so that two of the source share one.
const CONFIG: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.in]
    partitions = 3
    [clusters.west]
    kind = "embedded"

    [links.mask]
    source = "east"
    target = "west"
    topics = ["in"]
    lanes = 2
    [links.mask.config]
    checkpoint_interval_ms = 5
    [[links.mask.pipeline]]
    stage = "redact"
    plugin = "PLUGINS/redact.wasm"
    config = { pointers = ["/card"], keep_last = 4 }

    [links.obey]
    source = "east"
    target = "west"
    topics = ["in"]
    topic_prefix = "obeyed-"
    [links.obey.config]
    checkpoint_interval_ms = 5
    batch_size = 7
    # One record in fifty breaks a plugin down: that is the point of it.
    [links.obey.probation]
    records = 0
    [[links.obey.pipeline]]
    stage = "count"
    plugin = "PLUGINS/counter.wasm"
    config = { keep_ms = 1000000000, fragile = true }
    [[links.obey.pipeline]]
    stage = "obey"
    plugin = "PLUGINS/obey.wasm"
"#;

/// Records of each half: before the swaps and after them.
const HALF: u64 = 300;

fn records(range: std::ops::Range<u64>) -> Vec<Value> {
    let deed = |n: u64| match n % 50 {
        9 => "panic",
        17 => "reject",
        23 => "drop",
        37..=40 => "reject",
        31 => "twice",
        _ => "",
    };
    let record = |n: u64| {
        let poison = if n % 60 == 41 { "reject" } else { "" };
        let card = format!("{:016}", n * 7_654_321);
        let value = json!({"n": n, "card": card, "do": deed(n), "poison": poison}).to_string();
        json!({"partition": n % 3, "key": format!("key-{}", n % 40), "value": value, "headers": [["n", n.to_string()], ["also", "x"]]})
    };
    range.map(record).collect()
}

fn verify(site: &Site, link: &str) -> Verification {
    let output = site.cli(&["verify", link, "--json"]);
    let out = String::from_utf8_lossy(&output.stdout);
    let done: Verification = serde_json::from_str(&out)
        .unwrap_or_else(|error| panic!("{error}: {out}{}", String::from_utf8_lossy(&output.stderr)));
    let status = match done.verdict.expect("a verdict") {
        Verdict::Fine => 0,
        Verdict::Differences => 1,
        Verdict::NotCovered => 3,
    };
    assert_eq!(output.status.code(), Some(status));
    done
}

#[track_caller]
fn assert_fine(site: &Site, link: &str) -> Verification {
    let done = verify(site, link);
    assert_eq!(done.verdict, Some(Verdict::Fine), "{link}: {done:#?}");
    done
}

/// The only difference there is.
#[track_caller]
fn only_difference(site: &Site, link: &str) -> Difference {
    let report = verify(site, link).report.expect("a report");
    assert_eq!((report.differences_total, report.not_covered.len()), (1, 0), "{link}: {report:#?}");
    report.differences.into_iter().next().expect("a difference")
}

/// A record, as it is rewritten.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub timestamp: i64,
}

/// What a target holds: records by partition, and where revisions begin by link.
pub struct Content {
    pub records: BTreeMap<TopicPartition, Vec<Copy>>,
    starts: BTreeMap<String, Vec<RevisionStart>>,
}

fn all_records(cluster: &EmbeddedCluster, partition: &TopicPartition) -> Vec<Copy> {
    let end = cluster.range(partition).expect("a range").end;
    let mut source = cluster.source().expect("a source");
    source.seek(partition, 0).expect("sought");
    let mut records = Vec::new();
    while (records.len() as i64) < end {
        let batch = source.poll(10_000, 8 << 20, Duration::from_secs(10)).expect("read").expect("a batch");
        records.extend(batch.records().map(|record| Copy {
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().map(|header| (header.name.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
            timestamp: record.timestamp(),
        }));
    }
    records
}

/// Write the store of a target anew, damaged: topics, records, checkpoints and history, in the same order, so that all identities stay.
pub fn rewrite(from: &Path, to: &Path, links: &[&str], damage: impl FnOnce(&mut Content)) {
    let _there_may_be_none = fs::remove_file(to);
    let store = |path: &Path| EmbeddedCluster::new(Arc::new(Store::open(path, Options::default()).expect("a store")));
    let (from, to) = (store(from), store(to));
    let mut topics = from.topics().expect("topics");
    topics.sort_by_key(|topic| topic.id);
    let partitions = topics
        .iter()
        .flat_map(|topic| (0..topic.partitions).map(|partition| TopicPartition::new(topic.name.clone(), partition)));
    let starts = |link: &&str| ((*link).to_owned(), from.revision_starts(&(*link).into(), 1).expect("starts"));
    let mut content = Content {
        records: partitions.map(|partition| (partition.clone(), all_records(&from, &partition))).collect(),
        starts: links.iter().map(starts).collect(),
    };
    damage(&mut content);
    for topic in topics {
        let made = to.store().create_topic(&topic.name, topic.partitions, Retention::default()).expect("a topic");
        assert_eq!(made.id, topic.id);
    }
    for (partition, records) in content.records {
        let mut builder = BatchBuilder::new();
        for record in &records {
            let headers = record.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() });
            builder.push(0, record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
        }
        to.produce(&partition, &builder.finish(partition.topic.clone(), partition.partition)).expect("produced");
    }
    for link in links {
        copy_link(&from, &to, link, content.starts.remove(*link).expect("starts"));
    }
}

fn copy_link(from: &EmbeddedCluster, to: &EmbeddedCluster, link: &str, started: Vec<RevisionStart>) {
    let id = link.into();
    for key in ["genesis", "desired", "revisions"] {
        let bytes = from.metadata(&id, key).expect("read").expect("metadata");
        to.put_metadata(&id, key, &bytes).expect("written");
    }
    let json = |key: &str| -> Value {
        serde_json::from_slice(&from.metadata(&id, key).expect("read").expect("metadata")).expect("JSON")
    };
    let (history, genesis) = (json("revisions"), json("genesis"));
    let stages = history["revisions"]
        .as_array()
        .expect("revisions")
        .iter()
        .flat_map(|revision| revision["stages"].as_array().expect("stages"));
    for digest in stages.map(|stage| serde_json::from_value(stage["plugin_digest"].clone()).expect("a digest")) {
        to.put_artifact(&digest, &from.artifact(&digest).expect("read").expect("a component")).expect("written");
    }
    let settings = LaneSettings {
        link: id.clone(),
        lane: 0,
        lanes: 1,
        generation: 1,
        layout: 1,
        source: genesis["source"].as_str().expect("a cluster").into(),
        transaction_timeout: Duration::from_secs(60),
        exactly_once: true,
        compression: None,
    };
    let mut sink = to.sink(&settings).expect("a sink");
    sink.open(&|| Ok(())).expect("opened");
    let checkpoints = from.checkpoints(&id, 1).expect("checkpoints");
    sink.begin_commit(Commit { checkpoints, started, ..Commit::default() }).expect("begun");
    assert!(sink.finish_commit(Duration::from_secs(60)).expect("committed"));
}

/// A site whose links have copied everything, with a swap in between; they are stopped, and so is the daemon.
fn copied() -> (Site, PathBuf) {
    let site = Site::new(CONFIG);
    let daemon = site.start();
    site.client.produce("east", "in", &records(0..HALF));
    ["mask", "obey"].iter().for_each(|link| site.client.await_caught_up(link));
    for (link, stage, name, config) in [
        ("mask", "redact", "redact", r#"{"pointers":["/card"],"keep_last":2}"#),
        // It keeps its numbers in another layout: what it remembers is migrated.
        ("obey", "count", "counter-2", r#"{"keep_ms":1000000000,"fragile":true}"#),
    ] {
        let file = plugin(name).display().to_string();
        let done = site.cli(&["plugin", "publish", link, stage, &file, "--config", config]);
        assert!(done.status.success(), "{done:?}");
    }
    site.client.produce("east", "in", &records(HALF..2 * HALF));
    // Records are under way: what the checkpoints do not stand for yet is not looked at.
    assert_fine(&site, "mask");
    assert_fine(&site, "obey");
    for link in ["mask", "obey"] {
        site.client.await_caught_up(link);
        let done = assert_fine(&site, link).report.expect("a report");
        assert_eq!(done.records_replayed, 2 * HALF);
        assert!(done.sources.iter().all(|source| source.revisions == 2), "{done:#?}");
        assert!(site.cli(&["link", "stop", link]).status.success());
    }
    assert!(site.client.ends("west", "obey.dead-letters").iter().sum::<i64>() > 0, "nothing was put aside");
    daemon.terminate();
    let (west, whole) = (site.path("data/west.redb"), site.path("whole.redb"));
    fs::rename(west, &whole).expect("the target is kept");
    (site, whole)
}

/// The index of the first record of the second half in partition 1 of the source; of `mask` also in the target.
const BORDER: usize = (HALF / 3) as usize;

#[test]
fn each_damage_is_found_and_named() {
    let (site, whole) = copied();
    let masked = TopicPartition::new("in", 1);
    let obeyed = TopicPartition::new("obeyed-in", 1);
    let letters = TopicPartition::new("obey.dead-letters", 1);
    let check = |link: &str,
                 damage: &dyn Fn(&mut Content),
                 kind: &str,
                 parts: &[&str],
                 source: Option<i64>,
                 target: Option<i64>| {
        rewrite(&whole, &site.path("data/west.redb"), &["mask", "obey"], damage);
        let daemon = site.start();
        let found = only_difference(&site, link);
        assert_eq!(
            (found.kind.as_str(), &found.parts[..]),
            (kind, &parts.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{found:#?}"
        );
        if let Some(source) = source {
            assert_eq!(found.source.as_ref().map(|place| place.offset), Some(source), "{found:#?}");
        }
        assert_eq!(found.target.offset, target, "{found:#?}");
        // Nobody else has been harmed.
        assert_fine(&site, if link == "mask" { "obey" } else { "mask" });
        daemon.terminate();
        found
    };
    let of = |content: &mut Content, partition: &TopicPartition, change: &dyn Fn(&mut Vec<Copy>)| {
        change(content.records.get_mut(partition).expect("a partition"));
    };

    // Nothing at all, to know that it is the damage which is found.
    rewrite(&whole, &site.path("data/west.redb"), &["mask", "obey"], |_| {});
    let daemon = site.start();
    ["mask", "obey"].iter().for_each(|link| drop(assert_fine(&site, link)));
    daemon.terminate();

    check("mask", &|it| of(it, &masked, &|records| drop(records.remove(40))), "missing", &[], Some(40), None);
    check(
        "mask",
        &|it| of(it, &masked, &|records| records.insert(41, records[40].clone())),
        "doubled",
        &[],
        None,
        Some(41),
    );
    check("mask", &|it| of(it, &masked, &|records| records.swap(40, 41)), "out-of-order", &[], Some(40), Some(41));
    let flip = |records: &mut Vec<Copy>| records[40].value.as_mut().expect("a value")[3] ^= 1;
    check("mask", &|it| of(it, &masked, &flip), "different", &["value"], Some(40), Some(40));
    check(
        "mask",
        &|it| of(it, &masked, &|records| drop(records[40].headers.pop())),
        "different",
        &["header"],
        Some(40),
        Some(40),
    );
    // The last record under revision 1, which should have been handled by revision 2 if this were the history.
    let earlier = |it: &mut Content| {
        let starts = it.starts.get_mut("mask").expect("starts");
        let border =
            starts.iter_mut().find(|start| start.partition == masked && start.revision.0 == 2).expect("a border");
        assert_eq!(border.offset, BORDER as i64);
        border.offset -= 1;
    };
    let last = BORDER as i64 - 1;
    let found = check("mask", &earlier, "different", &["value"], Some(last), Some(last));
    let note = found.note.expect("a note");
    assert!(note.contains("revision 1 makes this of it, and 2 is the one for this offset"), "{note}");

    // A stage that remembers, and records that were put aside.
    check("obey", &|it| of(it, &obeyed, &|records| drop(records.remove(150))), "missing", &[], None, None);
    check("obey", &|it| of(it, &obeyed, &|records| records.swap(150, 151)), "out-of-order", &[], None, Some(151));
    check("obey", &|it| of(it, &letters, &|records| drop(records.remove(2))), "missing", &[], None, None);
    let reason = |records: &mut Vec<Copy>| drop(records[2].headers.pop());
    check("obey", &|it| of(it, &letters, &reason), "different", &["header"], None, Some(2));
    // A record in a partition that is not its own.
    let moved = |it: &mut Content| {
        let record = it.records.get_mut(&masked).expect("a partition").remove(60);
        it.records.get_mut(&TopicPartition::new("in", 2)).expect("a partition").push(record);
    };
    check("mask", &moved, "different", &["partition"], Some(60), Some(200));
}

/// The time of processing is another one in a replay. Everything else that a link's own transform adds is compared.
#[test]
fn the_time_of_processing_may_be_any_and_nothing_else() {
    let text = r#"
        [clusters.east]
        kind = "embedded"
        topics.in.partitions = 1
        [clusters.west]
        kind = "embedded"
        [links.add]
        source = "east"
        target = "west"
        topics = ["in"]
        filter.exclude_patterns = ["no"]
        transform.add_headers = { at = "${now}", by = "${link} ${offset}" }
        [[links.add.pipeline]]
        stage = "obey"
        plugin = "PLUGINS/obey.wasm"
    "#;
    let site = Site::new(text);
    let daemon = site.start();
    let deed = |n: u64| match n {
        5 => "no",
        8 => "panic",
        _ => "",
    };
    let record = |n: u64| json!({"partition": 0, "value": json!({ "n": n, "do": deed(n) }).to_string()});
    site.client.produce("east", "in", &(0..10).map(record).collect::<Vec<_>>());
    site.client.await_caught_up("add");
    assert_fine(&site, "add");
    // The batch with the record that panics was tried more than once, from the beginning each time.
    let names = |record: &wire::Record| -> Vec<_> {
        record.headers.iter().map(|header| String::from_utf8_lossy(&header.name).into_owned()).collect()
    };
    let copied = site.client.records("west", "in", 0);
    assert!(copied.len() == 8 && copied.iter().all(|record| names(record) == ["at", "by", "obeyed"]), "{copied:?}");
    let letters = site.client.records("west", "add.dead-letters", 0);
    assert!(letters.len() == 1 && names(&letters[0])[..3] == ["at", "by", "tidegate.dlq.link"], "{letters:?}");
    assert!(site.cli(&["link", "stop", "add"]).status.success());
    daemon.terminate();
    let (west, whole) = (site.path("data/west.redb"), site.path("whole.redb"));
    fs::rename(&west, &whole).expect("the target is kept");
    // What becomes of one record, and the kinds of differences.
    type Damage<'d> = (&'d dyn Fn(&mut Vec<Copy>), &'d [&'d str]);
    let value = |index: usize, header: usize, value: &'static str| {
        move |records: &mut Vec<Copy>| records[index].headers[header].1 = Some(value.into())
    };
    let (time, no_time, other) =
        (value(3, 0, "2001-02-03T04:05:06.789Z"), value(3, 0, "2001-02-29T04:05:06.789Z"), value(3, 1, "add 4"));
    let dropped = |records: &mut Vec<Copy>| {
        let mut copy = records[4].clone();
        copy.value = Some(br#"{"n":5,"do":"no"}"#.to_vec());
        copy.headers[1].1 = Some(b"add 5".to_vec());
        records.insert(5, copy);
    };
    let damages: [Damage<'_>; 6] = [
        (&time, &[]),
        (&no_time, &["different"]),
        (&|records| drop(records[3].headers.remove(0)), &["different"]),
        (&|records| records[3].headers[0].1 = None, &["different"]),
        (&other, &["different"]),
        (&dropped, &["unexpected"]),
    ];
    for (number, (damage, kinds)) in damages.iter().enumerate() {
        rewrite(&whole, &west, &["add"], |content| {
            damage(content.records.get_mut(&TopicPartition::new("in", 0)).expect("a partition"));
        });
        let daemon = site.start();
        let report = verify(&site, "add").report.expect("a report");
        let found: Vec<_> = report.differences.iter().map(|found| found.kind.as_str()).collect();
        assert_eq!(found, *kinds, "damage {number}: {report:#?}");
        daemon.terminate();
    }
}

#[test]
fn what_cannot_be_compared_is_named() {
    let (site, whole) = copied();
    fs::rename(&whole, site.path("data/west.redb")).expect("the target is back");
    // Retention takes the first records of the source.
    let east = Store::open(site.path("data/east.redb"), Options::default()).expect("a store");
    let topic = east.topic("in").expect("a topic");
    let truncate = tidegate::store::Command::Truncate { topic: topic.id, partition: 1, to: 50 };
    east.execute(truncate).expect("truncated");
    let start = east.range(topic.id, 1).expect("a range").log_start;
    assert!(start > 0, "whole stored batches go");
    drop(east);
    let daemon = site.start();
    let done = verify(&site, "mask");
    let report = done.report.expect("a report");
    assert_eq!((done.verdict, report.differences_total), (Some(Verdict::NotCovered), 0), "{report:#?}");
    let entry = report.not_covered.iter().find(|entry| entry.side == "source").expect("an entry");
    assert_eq!((entry.partition, entry.from, entry.to), (1, Some(0), Some(start)), "{entry:?}");
    let unknown = report.not_covered.iter().find(|entry| entry.side == "target").expect("an entry");
    assert_eq!((unknown.partition, unknown.records), (1, Some(start as u64)), "{unknown:?}");
    // What the stage remembers of the records that are gone is not known.
    let done = verify(&site, "obey");
    let report = done.report.expect("a report");
    assert_eq!((done.verdict, report.differences_total), (Some(Verdict::NotCovered), 0), "{report:#?}");
    assert!(
        report.not_covered.iter().any(|entry| entry.partition == 1 && entry.reason.contains("obey remembers")),
        "{report:#?}"
    );
    assert!(report.sources.iter().any(|source| source.partition == 0 && source.records == 2 * HALF / 3), "{report:#?}");
    daemon.terminate();
}

#[test]
fn a_verification_is_one_at_a_time_and_can_be_ended() {
    let site = Site::new(CONFIG);
    let daemon = site.start();
    let path = format!("{LINKS}/obey/verification");
    assert_eq!(site.client.get(&path).expect("an answer").status, 404);
    // Each of them takes the plugin all the time that it has, in the link and in the verification.
    let endless = |n: u64| json!({"partition": 0, "value": json!({"n": n, "do": "loop"}).to_string()});
    site.client.produce("east", "in", &(0..4).map(endless).collect::<Vec<_>>());
    site.client.await_caught_up("obey");
    let begun = site.client.post(&path, "").expect("an answer");
    assert_eq!(begun.status, 202, "{}", begun.body);
    let again = site.client.post(&path, "").expect("an answer");
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("verification-under-way")), "{}", again.body);
    assert_eq!(site.client.delete(&path).expect("an answer").status, 200);
    wait_until("it has ended", || site.client.read::<Verification>(&path).ended_at.is_some());
    let last: Verification = site.client.read(&path);
    assert_eq!((last.state, last.verdict), (VerificationState::Cancelled, None), "{last:#?}");
    // Whoever wants to know may begin again, and a daemon that ends does not wait for the end.
    assert_eq!(site.client.post(&path, "").expect("an answer").status, 202);
    daemon.terminate();
}
