//! The target of a link takes the place of its source, and gives it back: daemons stand still and die, the source goes away, and consumers go along.

use std::collections::BTreeMap;
use std::thread;

use kafka_oracle::{Codec, Content, Plan, Record, Writer};
use rustix::process::Signal;
use tidegate::api::wire::{FailoverDetails, FailoverEvent, FailoverReason, LaneState, LinkStatus};

use crate::clusters::{Pair, Version};
use crate::harness::{LINKS, Site, wait_until};

for_version_2_first! {
    a_daemon_that_stood_still_cannot_write_into_the_new_source,
    a_daemon_that_stood_still_leaves_out_what_has_come_back,
    the_source_goes_away_and_comes_back,
}

const PARTITIONS: i32 = 4;

/// Everything that has to come in a partition, in any order, each as often as it is here; headers of the link's own are left out.
fn counted(content: &Content) -> BTreeMap<(i32, Record), usize> {
    let mut counts = BTreeMap::new();
    for (partition, records) in &content.0 {
        for placed in records {
            let mut record = placed.record.clone();
            record.headers.retain(|header| !header.key.starts_with("tidegate."));
            *counts.entry((*partition, record)).or_default() += 1;
        }
    }
    counts
}

fn read(pair: &Pair, topic: &str) -> [BTreeMap<(i32, Record), usize>; 2] {
    [&pair.source, &pair.target]
        .map(|cluster| counted(&kafka_oracle::read(&cluster.bootstrap(), topic).expect("a topic")))
}

fn plan(bootstrap: &str, topic: &str, seed: u64) -> Plan {
    Plan {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        seed,
        transactions: true,
        codecs: vec![Codec::Lz4, Codec::None],
        rate: Some(2_000),
        records_max: None,
    }
}

/// Write so many records to a side; some of them are aborted.
fn write(bootstrap: &str, topic: &str, seed: u64, records: u64) {
    let mut writer = Writer::start(Plan { rate: None, records_max: Some(records), ..plan(bootstrap, topic, seed) });
    writer.join().expect("written");
}

fn post(site: &Site, link: &str, what: &str) -> FailoverEvent {
    let answer = site.client.post(&format!("{LINKS}/{link}/{what}"), "").expect("an answer");
    assert!([200, 202].contains(&answer.status), "{what}: {}", answer.body);
    serde_json::from_str(&answer.body).expect("an event")
}

fn await_event(site: &Site, link: &str, id: &str) -> FailoverEvent {
    let found = || -> Option<FailoverEvent> {
        let events: Vec<FailoverEvent> = site.client.read(&format!("{LINKS}/{link}/failovers"));
        events.into_iter().find(|event| event.id == id && event.success == Some(true))
    };
    wait_until(id, || found().is_some());
    found().expect("it is done")
}

/// A daemon that is not started yet. Several of one link have names of their own. Its transactions outlive all that is done here: what one leaves open is there until somebody fences it.
fn site(link: &str, daemon: &str, pair: &Pair, more: &str) -> Site {
    site_with(link, daemon, "", pair, more)
}

/// The same with more about the daemon.
fn site_with(link: &str, daemon: &str, about: &str, pair: &Pair, more: &str) -> Site {
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    let cluster = |id: &str, brokers: &str| {
        format!(
            "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\nrequest_timeout = \"3s\"\nconnection_timeout = \"3s\"\n"
        )
    };
    let text = format!(
        "name = \"{link}-{daemon}\"\n{about}{}{}[links.{link}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{link:?}]\nlanes = 4\n\
         {more}[links.{link}.config]\ntransaction_timeout_ms = 120000\n",
        cluster("east", &source),
        cluster("west", &target)
    );
    Site::new(&text)
}

/// Two daemons share a link. One stands still while the other fails it over, and goes on in the middle of its transaction, in vain.
fn a_daemon_that_stood_still_cannot_write_into_the_new_source(version: Version) {
    let pair = Pair::shared(version);
    let link = format!("region-{}", version.name());
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    // The failback link moves groups again and again, while it is on its way.
    let groups = format!("groups = [\"/{link}-g.*/\"]\ngroup_sync_interval = \"1s\"\n");
    let [first, second] = ["first", "second"].map(|daemon| site(&link, daemon, pair, &groups));
    kafka_oracle::create(&source, &link, PARTITIONS, &[]).expect("a topic");
    let writer = Writer::start(plan(&source, &link, 1));
    let still = first.start();
    let other = second.start();
    wait_until("it copies", || kafka_oracle::count(&target, &link).is_ok_and(|count| count > 2_000));
    let group = format!("{link}-g1");
    let halfway: BTreeMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 200)).collect();
    kafka_oracle::commit(&source, &group, &link, &halfway).expect("committed");

    still.signal(Signal::STOP);
    let event = post(&second, &link, "failover?drain_timeout=1s");
    assert_eq!(event.success, Some(true), "{:?}", event.warnings);
    let moved = kafka_oracle::committed(&target, &group, &link, PARTITIONS).expect("a group");
    assert_eq!(moved.len(), PARTITIONS as usize);
    let there = kafka_oracle::count(&target, &link).expect("a topic");
    still.signal(Signal::CONT);
    wait_until("both know", || {
        [&first, &second].iter().all(|site| site.client.link(&link).status == LinkStatus::FailedOver)
    });
    writer.stop().expect("the writer");
    assert_eq!(kafka_oracle::count(&target, &link), Ok(there), "nobody has written since");
    write(&target, &link, 2, 3_000);
    // A group that is at the end of the target has had nothing of what the source has beside.
    let late = format!("{link}-g2");
    let content = kafka_oracle::read(&target, &link).expect("a topic");
    let end = |records: &Vec<kafka_oracle::Placed>| records.last().map_or(0, |last| last.offset + 1);
    let ends = content.0.iter().map(|(partition, records)| (*partition, end(records))).collect();
    kafka_oracle::commit(&target, &late, &link, &ends).expect("committed");

    // The daemon that gives the source its place back dies while somebody still writes to the target, and another one goes on with it.
    let writer = Writer::start(plan(&target, &link, 4));
    thread::scope(|scope| {
        scope.spawn(|| second.client.post(&format!("{LINKS}/{link}/failback"), ""));
        wait_until("it fails back", || {
            let events: Vec<FailoverEvent> = first.client.read(&format!("{LINKS}/{link}/failovers"));
            events.iter().any(|event| event.phase.is_some())
        });
        other.kill();
    });
    writer.stop().expect("the writer");
    await_event(&first, &link, "failback-1");
    let back = kafka_oracle::committed(&source, &late, &link, PARTITIONS).expect("a group");
    let details: FailoverDetails = first.client.read(&format!("{LINKS}/{link}/failovers/failback-1"));
    let beside = details.partitions.iter().filter(|at| at.source_end > Some(at.next_offset)).collect::<Vec<_>>();
    assert!(!beside.is_empty(), "{details:?}");
    for at in beside {
        assert!(back[&(at.partition as i32)] <= at.next_offset, "{late} misses some: {at:?} {back:?}");
    }
    wait_until("the link runs again", || first.client.link(&link).status == LinkStatus::Active);
    write(&source, &link, 3, 500);
    wait_until("both sides have the same", || {
        let [source, target] = read(pair, &link);
        source == target
    });
    assert!(read(pair, &link)[0].values().all(|count| *count == 1), "nothing is there twice");
}

/// Two daemons share a link. One stands still from before a failover until its failback is over.
fn a_daemon_that_stood_still_leaves_out_what_has_come_back(version: Version) {
    let pair = Pair::shared(version);
    let link = format!("still-{}", version.name());
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    let [first, second] = ["first", "second"].map(|daemon| site(&link, daemon, pair, ""));
    kafka_oracle::create(&source, &link, PARTITIONS, &[]).expect("a topic");
    let still = first.start();
    let _other = second.start();
    let has_lanes = |site: &Site| site.client.link(&link).lanes.iter().any(|lane| lane.state == LaneState::Running);
    wait_until("both have lanes", || has_lanes(&first) && has_lanes(&second));
    write(&source, &link, 1, 1_000);
    let are_same = || {
        let [source, target] = read(pair, &link);
        source == target
    };
    wait_until("it is copied", are_same);
    let say = |site: &Site, what: &str| {
        let answer = site.client.post(&format!("{LINKS}/{link}/{what}"), "").expect("an answer");
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    };
    // So it has no transaction that tells it that it was fenced.
    say(&second, "pause");
    let is = |status: LinkStatus| [&first, &second].iter().all(|site| site.client.link(&link).status == status);
    wait_until("both are paused", || is(LinkStatus::Paused));

    still.signal(Signal::STOP);
    post(&second, &link, "failover?drain_timeout=1s");
    write(&target, &link, 2, 500);
    post(&second, &link, "failback");
    await_event(&second, &link, "failback-1");
    still.signal(Signal::CONT);
    wait_until("both are paused again", || is(LinkStatus::Paused));
    wait_until("both have lanes again", || {
        let mut lanes = [&first, &second].map(|site| site.client.link(&link).lanes);
        lanes.iter_mut().all(|lanes| lanes.iter().any(|lane| lane.state == LaneState::Paused))
    });
    say(&second, "resume");
    write(&source, &link, 3, 500);
    wait_until("both sides have everything", || read(pair, &link)[1].len() >= read(pair, &link)[0].len());
    let [at_source, at_target] = read(pair, &link);
    assert!(at_source == at_target && at_target.values().all(|count| *count == 1), "nothing is there twice");
}

/// Nobody says a word: the target takes its place, and gives it back. Definitions are in the cluster that hangs.
fn the_source_goes_away_and_comes_back(version: Version) {
    let mut pair = Pair::start(version, [1, 1]);
    let link = format!("gone-{}", version.name());
    let config = "health = { interval = \"1s\" }\n\
        failover_config = { enabled = true, failover_timeout_ms = 2000, max_consecutive_failures = 1000000, auto_failback = true }\n";
    let brokers = pair.source.bootstrap();
    let about = format!("metadata = \"home\"\n[clusters.home]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\n");
    let site = site_with(&link, "only", &about, &pair, config);
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    kafka_oracle::create(&source, &link, PARTITIONS, &[]).expect("a topic");
    let _daemon = site.start();
    write(&source, &link, 1, 2_000);
    wait_until("it is copied", || kafka_oracle::count(&target, &link).ok() == kafka_oracle::count(&source, &link).ok());
    let first = kafka_oracle::count(&target, &link).expect("a topic");
    pair.source.brokers_mut()[0].pause().expect("stands still");
    let event = await_event(&site, &link, "failover-1");
    assert_eq!(
        (event.reason, &*event.by, event.drained),
        (FailoverReason::SourceUnreachable, "tidegate", None),
        "{event:?}"
    );
    write(&target, &link, 2, 1_000);
    assert!(kafka_oracle::count(&target, &link).expect("a topic") > first);
    pair.source.brokers_mut()[0].resume().expect("goes on");
    let event = await_event(&site, &link, "failback-1");
    assert_eq!(event.reason, FailoverReason::SourceBack, "{event:?}");
    wait_until("the link runs again", || site.client.link(&link).status == LinkStatus::Active);
    let there = kafka_oracle::count(&source, &link).expect("a topic");
    assert_eq!(kafka_oracle::count(&target, &link), Ok(there));
    write(&source, &link, 3, 500);
    wait_until("both sides have everything", || {
        let [source, target] = read(&pair, &link);
        source == target && kafka_oracle::count(&pair.target.bootstrap(), &link).is_ok_and(|count| count > there)
    });
    assert!(read(&pair, &link)[0].values().all(|count| *count == 1), "nothing is there twice");
}
