//! Links that go on where MirrorMaker 2 stopped: a real one, and what one may have left behind.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kafka_oracle::{Codec, Foreign, Plan, Record, Writer};
use kafka_rivals::MirrorMaker;
use tidegate::api::wire::{Verdict, Verification};

use crate::clusters::{Pair, Version};
use crate::harness::{Client, Daemon, Site, wait_until};
use crate::scene::{PATIENCE, await_failure_of};

const PARTITIONS: i32 = 4;

/// Records in a second.
const RATE: u64 = 1_000;

/// What MirrorMaker 2 has copied of each partition before it is ended.
const ENOUGH: usize = 500;

/// Starting takes it most of a minute, where two cores have other things to do.
const START_PATIENCE: Duration = Duration::from_secs(240);

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[test]
fn a_link_goes_on_where_mirror_maker_was_ended() {
    take_over("ended", false);
}

#[test]
fn a_link_goes_on_where_mirror_maker_was_killed_if_it_was_exactly_once() {
    take_over("killed", true);
}

/// `exactly_once`: MirrorMaker 2 is, and gets a kill -9; otherwise a SIGTERM, after which its offsets are exact, too.
fn take_over(name: &str, exactly_once: bool) {
    let pair = Pair::shared(Version::Two);
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    let (topic, later) = (format!("mm2-{name}.orders"), format!("mm2-{name}.later"));
    kafka_oracle::create(&source, &topic, PARTITIONS, &[]).expect("a topic");
    let write = |topic: &str, seed: u64| {
        Writer::start(Plan {
            bootstrap: source.clone(),
            topic: topic.to_owned(),
            partitions: PARTITIONS,
            seed,
            // What is not committed is copied by a MirrorMaker 2 that nobody has told otherwise.
            transactions: exactly_once,
            codecs: vec![Codec::None, Codec::Zstd],
            rate: Some(RATE),
            records_max: None,
        })
    };
    let writer = write(&topic, 1);
    let site = Site::new("");
    let file = site.path("mm2.properties");
    fs::write(&file, properties(name, &source, &target, exactly_once)).expect("the properties");
    let copy = format!("{name}.{topic}");
    let mirror = run_mirror_maker(&site, &file, &target, &copy);
    if exactly_once {
        mirror.kill()
    } else {
        mirror.terminate().expect("it ends")
    }
    let copied = kafka_oracle::count(&target, &copy).expect("the target");

    // It does not run, and the source goes on; and a topic comes that it has never seen.
    let written = writer.records();
    wait_until("more is written", || writer.records() > written + 2_000);
    kafka_oracle::create(&source, &later, PARTITIONS, &[]).expect("a topic");
    let later_writer = write(&later, 2);
    let link = format!("{name}-to-{name}-copy");
    let daemon = run_link(&site, &file, &link);
    let written = writer.records();
    wait_until("more is written", || writer.records() > written + 2_000);
    for (writer, topic) in [(writer, &topic), (later_writer, &later)] {
        writer.stop().expect("the writer");
        let expected = kafka_oracle::read(&source, topic).expect("the source");
        let copied = kafka_oracle::await_copy(&expected, &target, &format!("{name}.{topic}"), PATIENCE);
        let copied = copied.unwrap_or_else(|difference| panic!("{topic}: {difference}\n{}", daemon.stderr()));
        println!("{topic}: {} records are the same", copied.records());
    }
    println!("{name}: MirrorMaker 2 had copied {copied} of them");

    // What it has copied is looked at, too.
    let output = site.cli(&["verify", &link, "--json"]);
    let done: Verification = serde_json::from_slice(&output.stdout).expect("a verification");
    let report = done.report.expect("a report");
    assert_eq!(done.verdict, Some(Verdict::Fine), "{report:#?}");
    assert!(report.records_matched > copied, "{report:#?}");
    daemon.terminate();
}

/// A properties file as people write it. The clusters are called after the scene, because its topics of offsets are, too.
fn properties(name: &str, source: &str, target: &str, exactly_once: bool) -> String {
    let port = kafka_brokers::free_port().expect("a port");
    let exact = format!(
        "{name}-copy.exactly.once.source.support = enabled\n\
         {name}.consumer.isolation.level = read_committed\n\
         {name}-copy.producer.transaction.timeout.ms = 10000\n\
         dedicated.mode.enable.internal.rest = true\n\
         listeners = http://127.0.0.1:{port}\n"
    );
    format!(
        "# From one data centre to the other.\n\
         clusters = {name}, {name}-copy\n\
         {name}.bootstrap.servers = {source}\n\
         {name}-copy.bootstrap.servers = {target}\n\
         {name}->{name}-copy.enabled = true\n\
         {name}->{name}-copy.topics = mm2-{name}\\\\.orders, \\\n  mm2-{name}\\\\.later\n\
         emit.heartbeats.enabled = false\n\
         emit.checkpoints.enabled = false\n\
         sync.topic.acls.enabled = false\n\
         refresh.groups.enabled = false\n\
         tasks.max = 2\n\
         replication.factor = 1\n\
         offset-syncs.topic.replication.factor = 1\n\
         config.storage.replication.factor = 1\n\
         offset.storage.replication.factor = 1\n\
         status.storage.replication.factor = 1\n{}",
        if exactly_once { &exact } else { "" }
    )
}

/// Start it, and wait until it has copied something of every partition.
fn run_mirror_maker(site: &Site, file: &Path, target: &str, copy: &str) -> MirrorMaker {
    let mut mirror = MirrorMaker::start(site.path("").as_path(), file).expect("MirrorMaker 2");
    let begun = Instant::now();
    let has_enough = || {
        kafka_oracle::read(target, copy).is_ok_and(|content| {
            content.0.len() == PARTITIONS as usize && content.0.values().all(|records| records.len() >= ENOUGH)
        })
    };
    while !has_enough() {
        let late = begun.elapsed() > START_PATIENCE;
        assert!(!late && !mirror.has_ended(), "MirrorMaker 2 copies nothing\n{}", mirror.last_lines());
        thread::sleep(LOOK_EVERY);
    }
    println!("{copy}: MirrorMaker 2 copies after {:.0?}", begun.elapsed());
    mirror
}

/// Run what `import` makes of the file, as it is.
fn run_link(site: &Site, file: &Path, link: &str) -> Daemon {
    let imported = site.cli(&["import", "mm2", &file.display().to_string()]);
    let (text, said) = (String::from_utf8_lossy(&imported.stdout), String::from_utf8_lossy(&imported.stderr));
    assert!(imported.status.success(), "{said}");
    assert!(text.contains(&format!("[links.{link}]")), "{text}");
    site.configure(&text);
    let checked = site.cli(&["check", "--config", &site.config().display().to_string()]);
    assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stdout));
    site.start()
}

/// What a MirrorMaker 2 may have left behind, and a link that is to go on there.
struct Left {
    name: String,
    pair: &'static Pair,
    offsets: String,
}

impl Left {
    /// A topic of so many records in its only partition, and what MirrorMaker 2 would have written of it.
    fn new(name: &str, records: usize, offsets: &[(&str, i64)]) -> Self {
        let pair = Pair::shared(Version::Two);
        let left = Self { name: format!("left-{name}"), pair, offsets: format!("{name}-offsets") };
        kafka_oracle::create(&pair.source.bootstrap(), &left.name, 1, &[]).expect("a topic");
        put(&pair.source.bootstrap(), &left.name, 0..records);
        if !offsets.is_empty() {
            kafka_oracle::create(&pair.target.bootstrap(), &left.offsets, 1, &[("cleanup.policy", "compact")])
                .expect("a topic");
            let records = offsets.iter().map(|(connector, offset)| left.record(connector, *offset));
            put_records(&pair.target.bootstrap(), &left.offsets, records);
        }
        left
    }

    /// What a connector writes when it has copied the record at an offset.
    fn record(&self, connector: &str, offset: i64) -> Record {
        let key = format!(r#"["{connector}",{{"cluster":"east","partition":0,"topic":"{}"}}]"#, self.name);
        record(Some(key), format!("{{\"offset\":{offset}}}"))
    }

    fn site(&self, start: &str) -> Site {
        let cluster = |id: &str, brokers: &str| format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{brokers:?}]\n");
        let clusters = cluster("east", &self.pair.source.bootstrap()) + &cluster("west", &self.pair.target.bootstrap());
        let name = &self.name;
        let start = start.replace("OFFSETS", &self.offsets);
        Site::new(&format!(
            "{clusters}[links.{name}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"/{name}.*/\"]\ntopic_refresh = \"100ms\"\nstart = {start}\n"
        ))
    }

    fn copied(&self, topic: &str) -> Vec<String> {
        let Ok(content) = kafka_oracle::read(&self.pair.target.bootstrap(), topic) else { return Vec::new() };
        let value = |placed: &kafka_oracle::Placed| placed.record.value.clone().unwrap_or_default();
        content.0.values().flatten().map(|placed| String::from_utf8(value(placed)).expect("text")).collect()
    }

    fn await_copied(&self, topic: &str, values: std::ops::Range<usize>) {
        let values: Vec<String> = values.map(|number| number.to_string()).collect();
        wait_until("the target has the records", || self.copied(topic).len() >= values.len());
        assert_eq!(self.copied(topic), values);
    }
}

fn record(key: Option<String>, value: String) -> Record {
    let (key, value) = (key.map(String::into_bytes), Some(value.into_bytes()));
    Record { key, value, headers: Vec::new(), timestamp: 1_700_000_000_000 }
}

/// Write numbers to partition 0 of a topic.
fn put(bootstrap: &str, topic: &str, numbers: std::ops::Range<usize>) {
    put_records(bootstrap, topic, numbers.map(|number| record(None, number.to_string())));
}

/// Write records to partition 0 of a topic, a transaction each.
fn put_records(bootstrap: &str, topic: &str, records: impl Iterator<Item = Record>) {
    let producer = Foreign::take(bootstrap, &format!("puts-{topic}"), Duration::from_secs(60)).expect("an id");
    for record in records {
        producer.hang(topic, 0, &record).and_then(|()| producer.commit()).expect("written");
    }
}

fn next_offset(client: &Client, link: &str) -> Option<i64> {
    let lanes = client.link(link).lanes;
    lanes.iter().flat_map(|lane| &lane.partitions).find_map(|partition| partition.target_offset)
}

const START: &str = "{ mirrormaker = \"OFFSETS\", source = \"east\" }";

/// Each record is a transaction, so it has an offset, and its marker the next.
#[test]
fn a_link_begins_behind_the_record_that_was_copied_last_and_elsewhere_at_the_first_one() {
    let left = Left::new("begun", 6, &[("MirrorSourceConnector", 4)]);
    let site = left.site(START);
    let running = site.start();
    // Offsets 0, 2 and 4 were copied: by nobody, but so it says.
    left.await_copied(&left.name, 3..6);
    // A topic that it does not name.
    let later = format!("{}-later", left.name);
    kafka_oracle::create(&left.pair.source.bootstrap(), &later, 1, &[]).expect("a topic");
    put(&left.pair.source.bootstrap(), &later, 0..2);
    left.await_copied(&later, 0..2);
    running.terminate();
    // What was written down counts for the beginning alone, and may go.
    kafka_oracle::delete(&left.pair.target.bootstrap(), &left.offsets).expect("deleted");
    put(&left.pair.source.bootstrap(), &left.name, 6..8);
    let running = site.start();
    left.await_copied(&left.name, 3..8);
    running.terminate();
}

/// Nobody has written since: there is nothing to copy, also when the file says nothing of MirrorMaker 2 any more.
#[test]
fn a_partition_that_was_copied_whole_is_not_copied_again() {
    let left = Left::new("whole", 3, &[("MirrorSourceConnector", 4)]);
    let site = left.site(START);
    let running = site.start();
    wait_until("it has begun", || next_offset(&site.client, &left.name) == Some(5));
    running.kill();
    let file = fs::read_to_string(site.config()).expect("the file");
    site.write_config(&file.lines().filter(|line| !line.starts_with("start")).collect::<Vec<_>>().join("\n"));
    let running = site.start();
    put(&left.pair.source.bootstrap(), &left.name, 3..4);
    left.await_copied(&left.name, 3..4);
    running.terminate();
}

/// With exactly once it is written in the transaction of the records. One that was killed leaves a transaction open, and nobody knows yet whether it counts.
#[test]
fn an_offset_that_is_not_committed_yet_is_waited_for() {
    for (name, commits, first) in [("committed", true, 2), ("aborted", false, 1)] {
        let left = Left::new(name, 3, &[("MirrorSourceConnector", 0)]);
        let target = left.pair.target.bootstrap();
        let foreign = Foreign::take(&target, &format!("mirror-{name}"), Duration::from_secs(600)).expect("an id");
        foreign.hang(&left.offsets, 0, &left.record("MirrorSourceConnector", 2)).expect("written");
        let site = left.site(START);
        let daemon = site.spawn();
        wait_until("the daemon answers", || site.client.get("/api/v1/healthz").is_ok());
        wait_until("the link says what it waits for", || {
            site.client.link(&left.name).error.is_some_and(|trouble| trouble.code == "hanging-transaction")
        });
        if commits { foreign.commit() } else { foreign.abort() }.expect("ended");
        left.await_copied(&left.name, first..3);
        daemon.terminate();
    }
}

#[test]
fn a_link_does_not_begin_where_nothing_is_known_or_something_is_lost() {
    // There is no such topic.
    let left = Left::new("missing", 1, &[]);
    let site = left.site(START);
    let daemon = site.spawn();
    let trouble = await_refusal(&site, &left.name, "mirrormaker-offsets-missing");
    assert!(trouble.contains(&left.offsets), "{trouble}");
    drop(daemon);
    // It is about another cluster.
    let left = Left::new("elsewhere", 1, &[("MirrorSourceConnector", 0)]);
    let site = left.site("{ mirrormaker = \"OFFSETS\", source = \"norht\" }");
    let daemon = site.spawn();
    let trouble = await_refusal(&site, &left.name, "mirrormaker-offsets-missing");
    assert!(trouble.contains("the clusters in it are: \"east\""), "{trouble}");
    drop(daemon);
    // Two connectors have copied.
    let left = Left::new("two", 3, &[("one", 2), ("two", 4)]);
    let site = left.site(START);
    let daemon = site.spawn();
    await_refusal(&site, &left.name, "mirrormaker-offsets-ambiguous");
    drop(daemon);
    let site = left.site("{ mirrormaker = \"OFFSETS\", source = \"east\", connector = \"one\" }");
    let daemon = site.start();
    left.await_copied(&left.name, 2..3);
    drop(daemon);
    // The source ends before that.
    let left = Left::new("ahead", 1, &[("MirrorSourceConnector", 100)]);
    let site = left.site(START);
    let daemon = site.spawn();
    let trouble = await_refusal(&site, &left.name, "source-truncated");
    assert!(trouble.contains("begin at 101"), "{trouble}");
    drop(daemon);
    // It stays so when the source has grown past that.
    put(&left.pair.source.bootstrap(), &left.name, 1..200);
    let daemon = site.spawn();
    assert_eq!(await_refusal(&site, &left.name, "source-truncated"), trouble);
    drop(daemon);
    // Retention was faster.
    let left = Left::new("behind", 3, &[("MirrorSourceConnector", 0)]);
    kafka_oracle::delete_records(&left.pair.source.bootstrap(), &left.name, 0).expect("deleted");
    let site = left.site(START);
    let daemon = site.spawn();
    let trouble = await_refusal(&site, &left.name, "data-lost");
    assert!(trouble.contains("records 1 to"), "{trouble}");
    drop(daemon);
}

fn await_refusal(site: &Site, link: &str, code: &str) -> String {
    wait_until("the daemon answers", || site.client.get("/api/v1/healthz").is_ok());
    let trouble = await_failure_of(site, link, code);
    println!("{link}: {}; {}", trouble.message, trouble.remedy);
    trouble.message
}
