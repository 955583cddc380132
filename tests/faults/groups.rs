//! Consumer groups that go along to the target.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use kafka_oracle::{Codec, Content, Member, Plan, Record, Writer};
use tidegate::api::wire::{ConsumerGroup, FailoverPlan, GroupCertainty, GroupFate, Link};

use crate::clusters::{Pair, Version};
use crate::harness::{Dice, Site, wait_until};
use crate::scene::PATIENCE;

for_version_2_first! {
    groups_go_on_exactly_where_they_were,
    groups_from_before_the_links_beginning_are_said_to_miss_records,
}

const PARTITIONS: i32 = 8;
const RECORDS: u64 = 20_000;
const GROUPS: u64 = 100;

/// What the link's own filter drops.
const FILTER: &str = r"exclude_patterns = ['^[\x00-\x1f]']";

/// What the link makes of a record: its filter and, with transactions of version 2, a plugin.
fn sieve(version: Version, record: &Record) -> Vec<Record> {
    let begins = |part: &Option<Vec<u8>>| part.as_ref().and_then(|part| part.first()).is_some_and(|byte| *byte < 0x20);
    let copies = match record.timestamp % 5 {
        _ if begins(&record.key) || begins(&record.value) => 0,
        _ if version != Version::Two => 1,
        0 => 0,
        1 => 2,
        _ => 1,
    };
    vec![record.clone(); copies]
}

fn config(name: &str, pair: &Pair, more: &str) -> String {
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    format!(
        "[clusters.east]\nkind = \"kafka\"\nbrokers = [{source:?}]\n[clusters.west]\nkind = \"kafka\"\nbrokers = [{target:?}]\n\
         [links.{name}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{name:?}]\nlanes = 3\n{more}\n\
         [links.{name}.config]\ntransaction_timeout_ms = 10000\n"
    )
}

fn write(pair: &Pair, topic: &str, partitions: i32, records: u64) -> Writer {
    Writer::start(Plan {
        bootstrap: pair.source.bootstrap(),
        topic: topic.to_owned(),
        partitions,
        seed: 11,
        transactions: true,
        codecs: vec![Codec::Lz4, Codec::None],
        rate: None,
        records_max: Some(records),
    })
}

/// Random places, one in each partition: at a record, between two, behind all.
pub fn places(dice: &mut Dice, source: &Content) -> BTreeMap<i32, i64> {
    let place = |(partition, records): (&i32, &Vec<kafka_oracle::Placed>)| {
        let end = records.last().map_or(0, |last| last.offset + 1);
        (*partition, dice.below(end as u64 + 1) as i64)
    };
    source.0.iter().map(place).collect()
}

/// Whether what a group reads from `to` on is exactly what it has not read before `from`.
pub fn check(
    group: &str,
    source: &Content,
    target: &Content,
    from: &BTreeMap<i32, i64>,
    to: &BTreeMap<i32, i64>,
    pipeline: impl Fn(&Record) -> Vec<Record>,
) {
    assert_eq!(to.len(), from.len(), "{group} is moved in every partition");
    for (partition, from) in from {
        let behind = source.0[partition].iter().filter(|placed| placed.offset >= *from);
        let expected: Vec<Record> = behind.flat_map(|placed| pipeline(&placed.record)).collect();
        let rest = target.0[partition].iter().filter(|placed| placed.offset >= to[partition]);
        let rest: Vec<Record> = rest.map(|placed| placed.record.clone()).collect();
        let (has, wants) = (rest.len(), expected.len());
        assert!(
            rest == expected,
            "{group} in {partition} from {from} to {}: {has} records and not {wants}",
            to[partition]
        );
    }
}

pub fn sync(site: &Site, words: &[&str]) -> Vec<ConsumerGroup> {
    site.cli_json(&[&["groups", "sync"], words].concat())
}

fn groups_go_on_exactly_where_they_were(version: Version) {
    let pair = Pair::shared(version);
    let (name, seed) = (format!("groups-{}", version.name()), 5);
    let mut dice = Dice::new(seed);
    kafka_oracle::create(&pair.source.bootstrap(), &name, PARTITIONS, &[]).expect("a topic");
    let mut more = format!(
        "groups = [\"/{name}-f.*/\"]\ngroup_sync_interval = \"1s\"\nheartbeat_interval = \"100ms\"\nfilter.{FILTER}\n"
    );
    if version == Version::Two {
        more +=
            &format!("[[links.{name}.pipeline]]\nstage = \"sieve\"\nplugin = \"PLUGINS/sieve.wasm\"\nconfig = {{}}\n");
    }
    let site = Site::new(&config(&name, pair, &more));
    let mut writer = write(pair, &name, PARTITIONS, RECORDS);
    // Killed in between: what a transaction that was never committed has said does not count.
    for _ in 0..4 {
        let daemon = site.start();
        thread::sleep(Duration::from_millis(200 + dice.below(800)));
        daemon.kill();
    }
    let mut daemon = site.start();
    writer.join().expect("written");
    let source = kafka_oracle::read(&pair.source.bootstrap(), &name).expect("the source");
    let expected = source.map(|record| sieve(version, record));
    let target = kafka_oracle::await_copy(&expected, &pair.target.bootstrap(), &name, PATIENCE).expect("a copy");

    // By hand.
    let groups: BTreeMap<String, BTreeMap<i32, i64>> =
        (0..GROUPS).map(|number| (format!("{name}-{number}"), places(&mut dice, &source))).collect();
    for (group, from) in &groups {
        kafka_oracle::commit(&pair.source.bootstrap(), group, &name, from).expect("committed");
    }
    let planned: Vec<ConsumerGroup> = site.cli_json(&["groups", "translate", &name]);
    let moved = sync(&site, &[&name, &format!("/{name}-[0-9]+/")]);
    assert_eq!(moved.len(), groups.len());
    for group in &moved {
        assert_eq!(group.fate, GroupFate::Moved, "{group:?}");
        assert!(group.partitions.iter().all(|place| place.certainty == GroupCertainty::Exact), "{group:?}");
        let plan = planned.iter().find(|plan| plan.group == group.group).expect("it was planned");
        assert!(plan.partitions == group.partitions && plan.fate == GroupFate::Move, "what is planned is done");
    }
    let at_target =
        |group: &str| kafka_oracle::committed(&pair.target.bootstrap(), group, &name, PARTITIONS).expect("offsets");
    for (group, from) in &groups {
        check(group, &source, &target, from, &at_target(group), |record| sieve(version, record));
    }
    let again = sync(&site, &[&name, &format!("/{name}-[0-9]+/")]);
    assert!(again.iter().all(|group| group.fate == GroupFate::Stays), "{again:?}");

    // All the time, also while records come, and after a kill.
    let follows = format!("{name}-follows");
    let mut from = places(&mut dice, &source);
    kafka_oracle::commit(&pair.source.bootstrap(), &follows, &name, &from).expect("committed");
    wait_until("the group has followed", || at_target(&follows).len() == PARTITIONS as usize);
    check(&follows, &source, &target, &from, &at_target(&follows), |record| sieve(version, record));
    daemon.kill();
    daemon = site.start();
    for (partition, records) in &source.0 {
        from.insert(*partition, records.last().map_or(0, |last| last.offset + 1));
    }
    kafka_oracle::commit(&pair.source.bootstrap(), &follows, &name, &from).expect("committed");
    let rest = |to: &BTreeMap<i32, i64>| {
        let left =
            |(partition, to): (&i32, &i64)| target.0[partition].iter().filter(|placed| placed.offset >= *to).count();
        to.iter().map(left).sum::<usize>()
    };
    wait_until("the group is at the end", || rest(&at_target(&follows)) == 0);
    check(&follows, &source, &target, &from, &at_target(&follows), |record| sieve(version, record));
    let link: Link = site.cli_json(&["link", "show", &name]);
    let round = link.group_round.expect("a round");
    assert_eq!((round.groups, round.failed), (1, 0), "{round:?}");

    heartbeats_go_through_every_lane(pair, &name, &site);
    a_group_with_members_is_left_alone(pair, &name, &site, &source);
    let records = expected.records();
    a_group_is_moved_back_if_somebody_says_so(pair, &name, &site, &source, records);
    daemon.terminate();
}

/// Once because it begins at the end, once because the source had deleted records by then.
fn groups_from_before_the_links_beginning_are_said_to_miss_records(version: Version) {
    let pair = Pair::shared(version);
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    for kind in ["latest", "deleted"] {
        let name = format!("groups-{kind}-{}", version.name());
        kafka_oracle::create(&source, &name, 1, &[]).expect("a topic");
        write(pair, &name, 1, 500).join().expect("written");
        let begin = kafka_oracle::end(&source, &name, 0).expect("an end");
        let start = if kind == "latest" { "start = \"latest\"\n" } else { "" };
        if kind == "deleted" {
            kafka_oracle::delete_records(&source, &name, 0).expect("deleted");
        }
        let site = Site::new(&config(&name, pair, &format!("{start}groups = [\"/{name}-.*/\"]\n")));
        let daemon = site.start();
        // It has begun as soon as its first commit says where.
        site.client.await_caught_up(&name);
        write(pair, &name, 1, 500).join().expect("written");
        site.client.await_caught_up(&name);
        let end = kafka_oracle::end(&source, &name, 0).expect("an end");

        let group = |offset: i64| format!("{name}-{offset}");
        let (before, at_begin, behind) = (begin - 1, begin, end - 1);
        for offset in [before, at_begin, behind] {
            let at = BTreeMap::from([(0, offset)]);
            kafka_oracle::commit(&source, &group(offset), &name, &at).expect("committed");
        }
        let planned: FailoverPlan = site.cli_json(&["link", "failover", &name, "--dry-run"]);
        let listed: Vec<ConsumerGroup> = site.cli_json(&["groups", "list", &name]);
        let synced = sync(&site, &[&name]);
        for groups in [planned.groups.as_deref().expect("groups"), &listed, &synced] {
            let of = |offset| {
                let found = groups.iter().find(|found| found.group == group(offset)).expect("a group");
                (found.partitions[0].certainty, found.partitions[0].offset)
            };
            let (begun, first) = of(at_begin);
            assert_eq!(begun, GroupCertainty::Exact, "{kind}: {groups:?}");
            assert_eq!(of(before), (GroupCertainty::BeforeBeginning, first), "{kind}: {groups:?}");
            assert_eq!(of(behind).0, GroupCertainty::Exact, "{kind}: {groups:?}");
        }
        let warned = planned.warnings.iter().filter(|warning| warning.contains("misses records")).collect::<Vec<_>>();
        // The link moves groups by itself, too: one that it has moved already is not moved again.
        assert!(warned.len() <= 1 && warned.iter().all(|warning| warning.contains(&group(before))), "{planned:?}");
        // It is moved as any other one: there is nothing that it could wait for.
        let committed = kafka_oracle::committed(&target, &group(before), &name, 1).expect("offsets");
        assert_eq!(
            committed[&0],
            synced.iter().find(|it| it.group == group(before)).expect("a group").partitions[0].offset
        );
        let said = String::from_utf8(site.cli(&["groups", "translate", &name, &group(before)]).stdout).expect("text");
        assert!(said.contains("before-beginning"), "{said}");
        daemon.terminate();
    }
}

/// They are no records of the link: nobody compares them, and no plugin drops or doubles them.
fn heartbeats_go_through_every_lane(pair: &Pair, name: &str, site: &Site) {
    let topic = format!("tidegate.heartbeats.{name}");
    let through = |cluster: &str| kafka_oracle::read(cluster, &topic).expect("heartbeats");
    let is_through = || through(&pair.target.bootstrap()).0.values().all(|beats| beats.len() > 5);
    wait_until("heartbeats are through", is_through);
    // More are sent all the time.
    let came = through(&pair.target.bootstrap());
    let sent = through(&pair.source.bootstrap());
    assert_eq!((sent.0.len(), came.0.len()), (3, 3), "one partition a lane");
    for (lane, beats) in &came.0 {
        let sent: Vec<&Record> = sent.0[lane].iter().map(|placed| &placed.record).collect();
        assert!(beats.iter().all(|beat| sent.contains(&&beat.record)), "lane {lane}");
        assert!(beats.windows(2).all(|two| two[0].record.timestamp < two[1].record.timestamp), "lane {lane}");
    }
    let link: Link = site.cli_json(&["link", "show", name]);
    let latency = link.latency.expect("a latency");
    println!("{name}: {latency:?}");
    assert!(latency.heartbeats > 5 && latency.p50_ms <= latency.p99_ms, "{latency:?}");
    let verified = site.cli(&["verify", name]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

fn a_group_with_members_is_left_alone(pair: &Pair, name: &str, site: &Site, source: &Content) {
    let group = format!("{name}-lives");
    let beginning: BTreeMap<i32, i64> = source.0.keys().map(|partition| (*partition, 0)).collect();
    kafka_oracle::commit(&pair.target.bootstrap(), &group, name, &beginning).expect("committed");
    let member = Member::join(&pair.target.bootstrap(), &group, name).expect("a member");
    let end = |records: &Vec<kafka_oracle::Placed>| records.last().map_or(0, |last| last.offset + 1);
    let ends = source.0.iter().map(|(partition, records)| (*partition, end(records))).collect();
    kafka_oracle::commit(&pair.source.bootstrap(), &group, name, &ends).expect("committed");
    let moved = sync(site, &[name, &group]);
    assert_eq!(moved.iter().map(|group| group.fate).collect::<Vec<_>>(), [GroupFate::Active], "{moved:?}");
    let at_target = kafka_oracle::committed(&pair.target.bootstrap(), &group, name, PARTITIONS).expect("offsets");
    assert_eq!(at_target, beginning);
    let first = member.next(PATIENCE).expect("it reads").expect("a record");
    assert!(first.1 >= 0, "{first:?}");
}

/// And a consumer finds its place by itself.
fn a_group_is_moved_back_if_somebody_says_so(pair: &Pair, name: &str, site: &Site, source: &Content, expected: usize) {
    let group = format!("{name}-back");
    let end = |records: &Vec<kafka_oracle::Placed>| records.last().map_or(0, |last| last.offset + 1);
    let ends = source.0.iter().map(|(partition, records)| (*partition, end(records))).collect();
    kafka_oracle::commit(&pair.source.bootstrap(), &group, name, &ends).expect("committed");
    assert_eq!(sync(site, &[name, &group])[0].fate, GroupFate::Moved);
    let beginning = source.0.keys().map(|partition| (*partition, 0)).collect();
    kafka_oracle::commit(&pair.source.bootstrap(), &group, name, &beginning).expect("committed");
    assert_eq!(sync(site, &[name, &group])[0].fate, GroupFate::Stays, "it may have run here");
    assert_eq!(sync(site, &[name, &group, "--rewind"])[0].fate, GroupFate::Moved);
    let member = Member::join(&pair.target.bootstrap(), &group, name).expect("a member");
    let (begun, mut seen) = (Instant::now(), BTreeSet::new());
    while seen.len() < expected {
        assert!(begun.elapsed() < PATIENCE, "{} of {expected} records", seen.len());
        seen.extend(member.next(Duration::from_millis(100)).expect("it reads"));
    }
}
