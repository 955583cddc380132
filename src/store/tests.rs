use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use redb::{ReadableDatabase, ReadableTable};
use tempfile::TempDir;

use super::*;
use crate::model::{Batch, BatchBuilder, Checkpoint, Digest, LinkId, RevisionNumber, TopicId, TopicPartition};

struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("east.redb")
    }

    fn open(&self) -> Store {
        Store::open(self.path(), Options::default()).expect("opens")
    }
}

/// When the records of these tests arrive: later than any of their timestamps, which are small.
const ARRIVAL: i64 = 1_000_000;

fn records(range: std::ops::Range<i64>) -> Batch {
    let mut builder = BatchBuilder::new();
    for index in range {
        builder.push(0, index, None, Some(format!("value-{index}").as_bytes()), []);
    }
    builder.finish("source", 0)
}

fn pack(store: &Store, batch: &Batch) -> Vec<StoredBatch> {
    let mut compressor = store.compressor(None);
    let mut packer = Packer::new(ARRIVAL);
    for record in batch.records() {
        packer.push(record, &mut compressor).expect("small");
    }
    packer.finish(&mut compressor)
}

fn append(store: &Store, topic: TopicId, partition: u32, range: std::ops::Range<i64>) -> Append {
    Append { topic, partition, batches: pack(store, &records(range)) }
}

fn produce(store: &Store, topic: TopicId, range: std::ops::Range<i64>) -> Outcome {
    store.execute(Command::Append(vec![append(store, topic, 0, range)])).expect("appended")
}

fn values(store: &Store, topic: TopicId, partition: u32, mut offset: i64) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    while let Some(batch) = store.read(topic, partition, offset).expect("readable") {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.expect("a value")).into_owned();
        values.extend(batch.records().map(|record| (record.offset(), text(record.value()))));
        offset = batch.next_offset;
    }
    values
}

fn expected(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|index| (index, format!("value-{index}"))).collect()
}

fn topic(store: &Store, name: &str, partitions: u32) -> TopicId {
    store.create_topic(name, partitions, Retention::default()).expect("created").id
}

fn checkpoint(target: TopicId, next_offset: i64) -> Checkpoint {
    Checkpoint {
        v: 1,
        next_offset,
        source_topic_id: TopicId(70),
        source_log_start: 0,
        source_leader_epoch: None,
        target_topic_id: target,
        target_end_offset: -1,
        link_epoch: 0,
        revision: RevisionNumber(1),
        last: None,
        doubt: None,
    }
}

fn commit(epoch: u64, appends: Vec<Append>, target: TopicId, next_offset: i64) -> Command {
    Command::CommitLane(CommitLane {
        link: "link".into(),
        lane: 0,
        epoch,
        appends,
        checkpoints: BTreeMap::from([(TopicPartition::new("orders", 0), checkpoint(target, next_offset))]),
        verbatim: false,
        states: Vec::new(),
        revision_starts: BTreeMap::from([((TopicPartition::new("orders", 0), RevisionNumber(1)), next_offset)]),
    })
}

fn open_lane(store: &Store, lane: u32) -> u64 {
    match store.execute(Command::OpenLane { link: "link".into(), lane }).expect("opened") {
        Outcome::Opened(epoch) => epoch,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn what_was_appended_is_read_from_any_offset() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 2);
    assert_eq!(produce(&store, orders, 0..10), Outcome::Appended(vec![0]));
    assert_eq!(produce(&store, orders, 10..13), Outcome::Appended(vec![10]));
    for start in 0..=13 {
        assert_eq!(values(&store, orders, 0, start), expected(start..13));
    }
    assert_eq!(values(&store, orders, 1, 0), []);
    let range = store.range(orders, 0).expect("there");
    assert_eq!((range.log_start, range.end), (0, 13));
    let batch = store.read(orders, 0, 4).expect("readable").expect("records");
    assert_eq!((&*batch.topic, batch.partition), ("orders", 0));
}

#[test]
fn offsets_that_are_not_there_are_errors() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..5);
    produce(&store, orders, 5..8);
    assert_eq!(store.read(orders, 0, 9).expect_err("beyond").code(), "offset-beyond-end");
    assert_eq!(store.read(orders, 1, 0).expect_err("partition").code(), "unknown-partition");
    assert_eq!(store.read(TopicId(99), 0, 0).expect_err("topic").code(), "unknown-topic");
    store.execute(Command::Truncate { topic: orders, partition: 0, to: 5 }).expect("truncated");
    let lost = store.read(orders, 0, 2).expect_err("lost");
    assert_eq!(lost.code(), "data-lost");
    assert!(lost.to_string().contains("from offset 2 to 5"), "{lost}");
    assert_eq!(values(&store, orders, 0, 5), expected(5..8));
}

#[test]
fn everything_is_there_after_opening_again() {
    let home = Home::new();
    let digest = Digest::of(b"component");
    let link: LinkId = "link".into();
    let orders = {
        let store = home.open();
        let orders = topic(&store, "orders", 3);
        let epoch = open_lane(&store, 0);
        let appends = vec![append(&store, orders, 0, 0..10)];
        store.execute(commit(epoch, appends, orders, 10)).expect("committed");
        store.execute(Command::PutArtifact { digest, bytes: b"component".to_vec() }).expect("stored");
        let metadata = Command::PutMetadata { link, key: "state".to_owned(), value: b"running".to_vec() };
        store.execute(metadata).expect("stored");
        orders
    };
    let store = home.open();
    assert_eq!(store.topic("orders").expect("there").partitions, 3);
    assert_eq!(values(&store, orders, 0, 0), expected(0..10));
    let source = TopicPartition::new("orders", 0);
    let checkpoints = store.checkpoints("link").expect("readable");
    assert_eq!(checkpoints[&source], Checkpoint { target_end_offset: 10, ..checkpoint(orders, 10) });
    assert_eq!(store.revision_starts("link").expect("readable"), [(RevisionNumber(1), source, 10)]);
    assert_eq!(store.metadata("link", "state").expect("readable").as_deref(), Some(b"running".as_slice()));
    assert_eq!(store.metadata("lin", "state").expect("readable"), None);
    assert_eq!(store.artifact(&digest).expect("readable").as_deref(), Some(b"component".as_slice()));
    assert_eq!(open_lane(&store, 0), 2);
}

#[test]
fn a_copy_of_the_open_file_has_every_answered_commit() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    for round in 0..20 {
        produce(&store, orders, round * 50..(round + 1) * 50);
    }
    let copy = home.directory.path().join("copy.redb");
    std::fs::copy(home.path(), &copy).expect("copied");
    let repaired = Arc::new(AtomicBool::new(false));
    let noted = repaired.clone();
    let mut builder = redb::Builder::new();
    builder.set_repair_callback(move |_| noted.store(true, Ordering::SeqCst));
    let database = builder.open(&copy).expect("opens");
    assert!(!repaired.load(Ordering::SeqCst), "nobody has to read the whole file after a crash");
    let copy = Store::start(&copy, database, Options::default()).expect("starts");
    assert_eq!(values(&copy, orders, 0, 0), expected(0..1000));
    produce(&copy, orders, 1000..1001);
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 2);
    let before = store.topology_version();
    assert_eq!(topic(&store, "orders", 1), orders);
    assert_eq!((store.topic("orders").expect("there").partitions, store.topology_version()), (2, before));
    assert_eq!(topic(&store, "orders", 4), orders);
    assert_eq!(store.topic("orders").expect("there").partitions, 4);
    assert_ne!(store.topology_version(), before);
    assert_ne!(topic(&store, "audit", 1), orders);
    let names: Vec<_> = store.topics().into_iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["audit", "orders"]);
}

#[test]
fn names_and_partitions_that_cannot_be_are_refused() {
    let home = Home::new();
    let store = home.open();
    for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
        let error = store.create_topic(name, 1, Retention::default()).expect_err(name);
        assert_eq!(error.code(), "invalid-topic-name", "{name}");
    }
    for name in ["...", "A.b_c-9", &"x".repeat(249)] {
        topic(&store, name, 1);
    }
    for partitions in [0, command::PARTITIONS_MAX + 1] {
        let error = store.create_topic("x", partitions, Retention::default()).expect_err("partitions");
        assert_eq!(error.code(), "invalid-partitions");
    }
    assert!(store.create_topic("...", 0, Retention::default()).is_err());
}

#[test]
fn a_lane_that_was_opened_again_fences_the_earlier_one() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    let (old, other) = (open_lane(&store, 0), open_lane(&store, 1));
    let new = open_lane(&store, 0);
    assert!(new > old && other == 1);
    let appends = || vec![append(&store, orders, 0, 0..5)];
    let refused = store.execute(commit(old, appends(), orders, 5)).expect_err("fenced");
    assert_eq!(refused.code(), "fenced");
    assert_eq!(store.execute(commit(new + 1, appends(), orders, 5)).expect_err("never given").code(), "fenced");
    assert_eq!(values(&store, orders, 0, 0), []);
    assert!(store.checkpoints("link").expect("readable").is_empty());
    assert!(store.revision_starts("link").expect("readable").is_empty());
    store.execute(commit(new, appends(), orders, 5)).expect("committed");
    assert_eq!(values(&store, orders, 0, 0), expected(0..5));
}

#[test]
fn a_refused_command_leaves_no_trace_among_those_it_was_grouped_with() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    let epoch = open_lane(&store, 0);
    let commands = [
        Command::Append(vec![append(&store, orders, 0, 0..3)]),
        Command::Append(vec![append(&store, orders, 0, 90..99), append(&store, TopicId(99), 0, 0..1)]),
        commit(epoch - 1, vec![append(&store, orders, 0, 80..82)], orders, 3),
        commit(epoch, vec![append(&store, orders, 0, 80..82)], TopicId(98), 3),
        commit(epoch, vec![append(&store, orders, 0, 3..6)], orders, 6),
    ];
    let (jobs, tickets): (Vec<_>, Vec<_>) =
        commands.into_iter().map(|command| Job::new(command, &store.shared)).unzip();
    writer::commit(&store.shared, jobs);
    let codes: Vec<_> = tickets.into_iter().map(|ticket| ticket.finish().map_err(|error| error.code())).collect();
    assert_eq!(
        codes,
        [
            Ok(Outcome::Appended(vec![0])),
            Err("unknown-topic"),
            Err("fenced"),
            Err("unknown-topic"),
            Ok(Outcome::Appended(vec![3])),
        ]
    );
    assert_eq!(values(&store, orders, 0, 0), expected(0..6));
    let checkpoints = store.checkpoints("link").expect("readable");
    assert_eq!(checkpoints[&TopicPartition::new("orders", 0)].target_end_offset, 6);
}

#[test]
fn a_revision_keeps_its_first_start() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    let epoch = open_lane(&store, 0);
    for offset in [5, 9] {
        store.execute(commit(epoch, vec![], orders, offset)).expect("committed");
    }
    assert_eq!(store.revision_starts("link").expect("readable")[0].2, 5);
}

#[test]
fn many_who_commit_at_once_all_get_their_own_answer() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 8);
    std::thread::scope(|scope| {
        for partition in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..20 {
                    let append = append(store, orders, partition, round * 5..(round + 1) * 5);
                    let outcome = store.execute(Command::Append(vec![append])).expect("appended");
                    assert_eq!(outcome, Outcome::Appended(vec![round * 5]));
                }
            });
        }
    });
    for partition in 0..8 {
        assert_eq!(values(&store, orders, partition, 0), expected(0..100));
    }
}

#[test]
fn a_reader_goes_on_while_a_transaction_is_open() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..4);
    let reader = store.shared.database.begin_read().expect("reads");
    let batches = reader.open_table(tables::BATCHES).expect("table");
    let transaction = store.shared.database.begin_write().expect("writes");
    assert_eq!(values(&store, orders, 0, 0), expected(0..4));
    transaction.abort().expect("aborted");
    produce(&store, orders, 4..8);
    store.execute(Command::Truncate { topic: orders, partition: 0, to: 4 }).expect("truncated");
    let bases: Vec<i64> =
        batches.range((orders.0, 0, 0)..).expect("reads").map(|row| row.expect("reads").0.value().2).collect();
    assert_eq!(bases, [0], "the old reader sees what was");
    assert_eq!(values(&store, orders, 0, 4), expected(4..8));
}

fn damage(path: &Path, topic: TopicId, base: i64, change: impl Fn(&mut Vec<u8>)) {
    let database = redb::Database::open(path).expect("opens");
    let transaction = database.begin_write().expect("writes");
    {
        let mut batches = transaction.open_table(tables::BATCHES).expect("table");
        let mut bytes = batches.get((topic.0, 0, base)).expect("reads").expect("there").value().to_vec();
        change(&mut bytes);
        batches.insert((topic.0, 0, base), bytes.as_slice()).expect("written");
    }
    transaction.commit().expect("committed");
}

#[test]
fn a_damaged_batch_is_reported_with_its_place_and_never_passed_on() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..10);
    produce(&store, orders, 10..20);
    drop(store);
    damage(&home.path(), orders, 10, |bytes| *bytes.last_mut().expect("bytes") ^= 1);
    let store = home.open();
    assert_eq!(store.read(orders, 0, 0).expect("whole").expect("records").len(), 10);
    let error = store.read(orders, 0, 15).expect_err("damaged");
    assert_eq!(error.code(), "corrupt-batch");
    let message = error.to_string();
    assert!(message.contains("base offset 10 of orders-0") && message.contains("east.redb"), "{message}");
}

#[test]
fn a_batch_that_is_missing_is_damage_and_not_a_hole() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..10);
    produce(&store, orders, 10..20);
    let transaction = store.shared.database.begin_write().expect("writes");
    transaction.open_table(tables::BATCHES).expect("table").remove((orders.0, 0, 0)).expect("removed");
    transaction.commit().expect("committed");
    assert_eq!(store.read(orders, 0, 5).expect_err("missing").code(), "corrupt-batch");
}

#[test]
fn a_damaged_artifact_is_never_passed_on() {
    let home = Home::new();
    let store = home.open();
    let digest = Digest::of(b"component");
    store.execute(Command::PutArtifact { digest, bytes: b"composer".to_vec() }).expect("stored");
    assert_eq!(store.artifact(&digest).expect_err("damaged").code(), "corrupt-store");
    assert_eq!(store.artifact(&Digest::of(b"other")).expect("readable"), None);
}

#[test]
fn a_newer_layout_and_foreign_files_are_refused() {
    let home = Home::new();
    drop(home.open());
    let set_layout = |layout: Option<u64>| {
        let database = redb::Database::open(home.path()).expect("opens");
        let transaction = database.begin_write().expect("writes");
        {
            let mut meta = transaction.open_table(tables::META).expect("table");
            match layout {
                Some(layout) => drop(meta.insert(tables::LAYOUT, layout).expect("written")),
                None => drop(meta.remove(tables::LAYOUT).expect("removed")),
            }
        }
        transaction.commit().expect("committed");
    };
    set_layout(Some(2));
    let error = Store::open(home.path(), Options::default()).expect_err("newer");
    assert_eq!(error.code(), "newer-layout");
    assert!(error.to_string().contains("layout version 2"), "{error}");
    set_layout(None);
    assert_eq!(Store::open(home.path(), Options::default()).expect_err("foreign").code(), "not-a-store");
    for content in ["", "not a store at all, but long enough to be read as the beginning of one"] {
        let path = home.directory.path().join("other");
        std::fs::write(&path, content).expect("written");
        assert_eq!(Store::open(&path, Options::default()).expect_err("foreign").code(), "not-a-store");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), content, "left alone");
    }
}

#[test]
fn a_second_opener_is_refused() {
    let home = Home::new();
    let store = home.open();
    let error = Store::open(home.path(), Options::default()).expect_err("in use");
    assert_eq!(error.code(), "store-in-use");
    drop(store);
    home.open();
}

#[test]
fn directories_are_made_and_what_cannot_be_made_is_an_error() {
    let home = Home::new();
    let deep = home.directory.path().join("a/b/c.redb");
    drop(Store::open(&deep, Options::default()).expect("made"));
    let names: Vec<_> = std::fs::read_dir(deep.parent().expect("parent")).expect("listed").collect();
    assert_eq!(names.len(), 1, "nothing but the file: {names:?}");
    let below_a_file = deep.join("d.redb");
    let error = Store::open(below_a_file, Options::default()).expect_err("a file is no directory");
    assert_eq!(error.code(), "store-open");
}

/// How many records the retention drops from a store without damage.
fn enforced(store: &Store, now_ms: i64) -> u64 {
    let Enforced { dropped, failed } = store.enforce_retention(now_ms);
    assert!(failed.is_empty(), "{failed:?}");
    dropped
}

#[test]
fn retention_drops_whole_batches_from_the_old_end() {
    let home = Home::new();
    let store = home.open();
    let retention = Retention { retention_ms: Some(100), retention_bytes: None };
    let old = store.create_topic("old", 1, retention).expect("created").id;
    let kept = topic(&store, "kept", 1);
    for round in 0..100 {
        produce(&store, old, round * 10..(round + 1) * 10);
    }
    produce(&store, kept, 0..10);
    assert_eq!(enforced(&store, 100), 0);
    // Timestamps are offsets here: at 999 the batch up to 889 is too old, and that up to 899 just old enough to stay.
    assert_eq!(enforced(&store, 999), 890);
    let range = store.range(old, 0).expect("there");
    assert_eq!((range.log_start, range.end), (890, 1000));
    assert_eq!(values(&store, old, 0, 890), expected(890..1000));
    assert_eq!(values(&store, kept, 0, 0), expected(0..10));
    assert_eq!(enforced(&store, i64::MAX), 110);
    assert_eq!(store.range(old, 0).expect("there"), StoredPartition { log_start: 1000, end: 1000, bytes: 0 });
    assert_eq!(produce(&store, old, 1000..1001), Outcome::Appended(vec![1000]), "offsets go on");
}

#[test]
fn retention_by_size_keeps_the_newest() {
    let home = Home::new();
    let store = home.open();
    let one = pack(&store, &records(0..10))[0].as_bytes().len() as u64;
    let retention = Retention { retention_ms: None, retention_bytes: Some(3 * one + 10) };
    let small = store.create_topic("small", 1, retention).expect("created").id;
    for _ in 0..8 {
        produce(&store, small, 0..10);
    }
    assert_eq!(enforced(&store, 0), 50);
    assert_eq!(store.range(small, 0).expect("there"), StoredPartition { log_start: 50, end: 80, bytes: 3 * one });
}

#[test]
fn a_cut_within_a_batch_keeps_the_batch_and_hides_its_start() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..10);
    store.execute(Command::Truncate { topic: orders, partition: 0, to: 4 }).expect("truncated");
    assert_eq!(values(&store, orders, 0, 4), expected(4..10));
    assert_eq!(store.read(orders, 0, 3).expect_err("lost").code(), "data-lost");
    store.execute(Command::Truncate { topic: orders, partition: 0, to: 99 }).expect("truncated");
    assert_eq!(store.range(orders, 0).expect("there"), StoredPartition { log_start: 10, end: 10, bytes: 0 });
}

#[test]
fn who_waits_for_a_change_is_woken_by_it() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    let seen = store.version();
    assert_eq!(store.wait_for_change(seen, Duration::ZERO), seen);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| store.wait_for_change(seen, Duration::from_secs(3600)));
        produce(&store, orders, 0..1);
        assert_ne!(waiter.join().expect("woken"), seen);
    });
    assert_eq!(values(&store, orders, 0, 0).len(), 1);
}

#[test]
fn the_timestamp_of_an_offset_is_its_record_s() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..10);
    produce(&store, orders, 10..20);
    assert_eq!(store.timestamp_at(orders, 0, 17), Ok(Some(17)));
    assert_eq!(store.timestamp_at(orders, 0, 20), Ok(None));
}

#[test]
fn every_opening_is_an_epoch_of_what_is_appended() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 2);
    produce(&store, orders, 0..10);
    produce(&store, orders, 10..20);
    drop(store);
    drop(home.open());
    let store = home.open();
    produce(&store, orders, 20..30);
    let at = |store: &Store, offset| store.epoch_at(orders, 0, offset).expect("readable");
    let (first, second) = (at(&store, 0).expect("an epoch"), at(&store, 29).expect("an epoch"));
    assert_eq!((at(&store, 19), at(&store, 20)), (Some(first), Some(second)));
    let end = |store: &Store, epoch| store.end_of_epoch(orders, 0, epoch).expect("readable");
    assert_eq!((end(&store, first), end(&store, second)), (EpochEnd::At(20), EpochEnd::At(30)));
    assert_eq!(store.end_of_epoch(orders, 1, first), Ok(EpochEnd::Unknown), "nothing was appended there");
    // Whoever has read up to the log start asks for the epoch before it.
    store.execute(Command::Truncate { topic: orders, partition: 0, to: 20 }).expect("truncated");
    assert_eq!(end(&store, first), EpochEnd::At(20));
    drop(store);
    let store = home.open();
    produce(&store, orders, 30..40);
    store.execute(Command::Truncate { topic: orders, partition: 0, to: 40 }).expect("truncated");
    assert_eq!((end(&store, first), end(&store, second)), (EpochEnd::Unknown, EpochEnd::Unknown));
}

/// A copy does not know what was appended to the file later, and what is appended to it is not that.
#[test]
fn an_older_copy_of_a_file_has_other_epochs() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..10);
    drop(store);
    let copy = home.directory.path().join("copy");
    std::fs::copy(home.path(), &copy).expect("copied");
    let store = home.open();
    produce(&store, orders, 10..20);
    let later = store.epoch_at(orders, 0, 19).expect("readable").expect("an epoch");
    drop(store);
    std::fs::copy(&copy, home.path()).expect("restored");
    let store = home.open();
    produce(&store, orders, 10..30);
    assert_eq!(store.end_of_epoch(orders, 0, later), Ok(EpochEnd::Unknown));
}

/// A file of version 0.1.0 had no epochs.
#[test]
fn records_of_a_time_before_epochs_have_none() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..10);
    drop(store);
    let database = redb::Database::open(home.path()).expect("opens");
    let transaction = database.begin_write().expect("writes");
    assert!(transaction.delete_table(tables::EPOCHS).expect("deleted"));
    transaction.open_table(tables::META).expect("table").remove(tables::EPOCH).expect("removed");
    transaction.commit().expect("committed");
    drop(database);
    let store = home.open();
    produce(&store, orders, 10..20);
    assert_eq!(store.epoch_at(orders, 0, 9), Ok(None));
    assert!(store.epoch_at(orders, 0, 10).expect("readable").is_some());
    assert_eq!(values(&store, orders, 0, 0), expected(0..20));
}

mod damaged;
mod failing;
mod standby;
mod unknown;
