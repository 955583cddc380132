//! Many partitions, many commits, and many consumer groups.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::Options;
use kafka_oracle::Codec;
use kafka_rivals::{cpu_seconds, fill};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidegate::config::{GroupSelection, GroupSelector, Room};
use tidegate::link::groups::translate::Certainty;
use tidegate::link::groups::{Fate, GroupPlan, Selected};

use crate::link::{Job, Work, resident_mib};
use crate::{Result, cluster};

const TOPICS: u32 = 100;
const PARTITIONS: i32 = 10;
const LANES: u32 = 8;
const COMMITS: u32 = 1_000_000;
/// What is copied before.
const RECORDS: u64 = 1000;

/// How long CPU time is watched: it is counted in steps of 10 ms.
const WATCH: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Result<()> {
    println!("\nscale: {} partitions in {TOPICS} topics over {LANES} lanes, all idle", TOPICS * PARTITIONS as u32);
    let (source, target) = (cluster(Options::default())?, cluster(Options::default())?);
    for topic in 0..TOPICS {
        kafka_oracle::create(&source.bootstrap(), &format!("many-{topic}"), PARTITIONS, &[])?;
    }
    kafka_oracle::create(&source.bootstrap(), "few", 1, &[])?;
    let job = |topics: &str, prefix: &str| Job {
        topics: topics.to_owned(),
        lanes: LANES,
        ..Job::new(&source.bootstrap(), &target.bootstrap(), "", prefix)
    };
    let many = job("[\"/many-.*/\"]", "m-");
    let records = Some(u64::from(TOPICS) * PARTITIONS as u64);
    for what in ["topics are made and", "started again,"] {
        produce_everywhere(&source.bootstrap())?;
        let taken = Job { records, ..many.clone() }.run()?;
        println!("  {what} a record of each partition is copied after {:.1} s  (must: 30 s)", taken.wall_seconds);
    }
    let (many, few) = (idle(&many)?, idle(&job("[\"few\"]", "f-"))?);
    let partitions = f64::from(TOPICS * PARTITIONS as u32 - 1);
    println!(
        "  an idle partition: {:.1} KiB of memory, {:.1} µs of CPU time a second",
        (many.0 - few.0) * 1024.0 / partitions,
        (many.1 - few.1) * 1e6 / partitions
    );
    Ok(())
}

/// One record for every partition.
fn produce_everywhere(source: &str) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", source).create().map_err(|error| error.to_string())?;
    for (topic, partition) in (0..TOPICS).flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition))) {
        let topic = format!("many-{topic}");
        let record: BaseRecord<'_, (), str> = BaseRecord::to(&topic).partition(partition).payload("one");
        producer.send(record).map_err(|(error, _)| error.to_string())?;
    }
    producer.flush(Duration::from_secs(60)).map_err(|error| error.to_string())
}

/// The memory of a link in MiB, and its share of a CPU, when it has nothing to do.
fn idle(job: &Job) -> Result<(f64, f64)> {
    let mut link = job.start_and_await()?;
    thread::sleep(Duration::from_secs(3));
    let before = cpu_seconds(link.id())?;
    thread::sleep(WATCH);
    let share = (cpu_seconds(link.id())? - before) / WATCH.as_secs_f64();
    let memory = resident_mib(link.id());
    link.kill().and_then(|()| link.wait()).map_err(|error| error.to_string())?;
    Ok((memory, share))
}

/// A lane opens after a million commits: as many checkpoints as that many commits write.
pub(crate) fn opening() -> Result<()> {
    println!("\nopening: a lane after {COMMITS} commits");
    let (source, target) = (cluster(Options::default())?, cluster(Options::default())?);
    fill(&source.bootstrap(), "few", 1, RECORDS, 100, Codec::None)?;
    let job = Job::new(&source.bootstrap(), &target.bootstrap(), "few", "o-");
    Job { records: Some(RECORDS), ..job.clone() }.run()?;
    let open = || -> Result<f64> {
        let begun = Instant::now();
        let mut link = job.start_and_await()?;
        let taken = begun.elapsed().as_secs_f64();
        link.kill().and_then(|()| link.wait()).map_err(|error| error.to_string())?;
        Ok(taken)
    };
    let before = open()?;
    let topic = "__tidegate.bench-o-.checkpoints";
    let written = kafka_oracle::read(&target.bootstrap(), topic)?;
    let record = written
        .0
        .values()
        .flatten()
        .map(|placed| &placed.record)
        .rfind(|record| record.key.as_ref().is_some_and(|key| key.starts_with(b"checkpoint/")));
    let record = record.ok_or("there is no checkpoint")?;
    let (key, value) = (record.key.clone().unwrap_or_default(), record.value.clone().unwrap_or_default());
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", target.bootstrap())
        // A record batch each, as commits write them.
        .set("batch.num.messages", "1")
        .set("linger.ms", "0")
        .create()
        .map_err(|error| error.to_string())?;
    for number in 0..COMMITS {
        let record = || BaseRecord::to(topic).partition(0).key(&key).payload(&value);
        while producer.send(record()).is_err() {
            producer.poll(Duration::from_millis(10));
        }
        if number % 100_000 == 0 {
            println!("  {number} of {COMMITS} commits written");
        }
    }
    producer.flush(Duration::from_secs(120)).map_err(|error| error.to_string())?;
    let after = open()?;
    println!("  {after:.2} s from the start of the process, {before:.2} s before  (must: 5 s)");
    Ok(())
}

const GROUPS: i64 = 200;
const GROUP_PARTITIONS: i32 = 100;
const GROUP_RECORDS: u64 = 1_000_000;

/// Groups are moved: the first round reads all that was written down about where records went.
pub(crate) fn groups() -> Result<()> {
    println!("\ngroups: {GROUPS} of them in {GROUP_PARTITIONS} partitions each");
    let (source, target) = (cluster(Options::default())?, cluster(Options::default())?);
    fill(&source.bootstrap(), "grouped", GROUP_PARTITIONS, GROUP_RECORDS, 100, Codec::None)?;
    let job =
        Job { lanes: LANES, work: Work::Plugin, ..Job::new(&source.bootstrap(), &target.bootstrap(), "grouped", "g-") };
    Job { records: Some(GROUP_RECORDS), ..job.clone() }.run()?;
    let link = job.link()?;
    let included = vec![GroupSelector::parse("/grouped-.*/", Room::ALONE)?];
    let selection = GroupSelection { included, excluded: Vec::new() };
    let each = (GROUP_RECORDS / GROUP_PARTITIONS as u64) as i64;
    let rounds =
        [("the first round", 1, Fate::Moved), ("a later one", 2, Fate::Moved), ("nothing to move", 2, Fate::Stays)];
    for (what, step, fate) in rounds {
        // Each group at other places, and further on in each step.
        let place =
            |group: i64, partition: i32| (step - 1) * each / 2 + (group * 37 + i64::from(partition) * 11) % (each / 2);
        for group in 0..GROUPS {
            let offsets: BTreeMap<i32, i64> =
                (0..GROUP_PARTITIONS).map(|partition| (partition, place(group, partition))).collect();
            kafka_oracle::commit(&source.bootstrap(), &format!("grouped-{group}"), "grouped", &offsets)?;
        }
        let begun = Instant::now();
        let done = link
            .sync_groups(Selected { groups: Some(&selection), ..Selected::default() })
            .map_err(|failure| failure.to_string())?;
        let took = begun.elapsed().as_secs_f64();
        let is_exact = |plan: &GroupPlan| {
            let exact = plan.partitions.values().filter(|place| place.translation.certainty == Certainty::Exact);
            plan.fate == fate && exact.count() == GROUP_PARTITIONS as usize
        };
        let exact = done.iter().filter(|plan| is_exact(plan)).count();
        if exact != GROUPS as usize {
            return Err(format!("{what}: {exact} of {GROUPS} groups are where they should be: {:?}", done.first()));
        }
        println!("  {what}: {took:.1} s  (must: 5 s)");
    }
    Ok(())
}
