use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::connector::{Class, Commit, Target};
use crate::model::layout::{FIRST_GENERATION, LAYOUT_NEWEST};
use crate::model::partition::partition_of_key;
use crate::model::{BatchBuilder, HeaderRef, Placement, RevisionNumber, Span, TopicId};
use crate::store::Options;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(3600);

struct Home {
    _directory: TempDir,
    cluster: EmbeddedCluster,
}

fn home() -> Home {
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(directory.path().join("east.redb"), Options::default()).expect("opens");
    Home { cluster: EmbeddedCluster::new(Arc::new(store)), _directory: directory }
}

fn records(topic: &str, partition: u32, range: std::ops::Range<i64>) -> Batch {
    let mut builder = BatchBuilder::new();
    for index in range {
        builder.push(index, index, None, Some(format!("{topic}-{partition}-{index}").as_bytes()), []);
    }
    builder.finish(topic, partition)
}

fn values(batch: &Batch) -> Vec<String> {
    batch.records().map(|record| String::from_utf8_lossy(record.value().expect("value")).into_owned()).collect()
}

fn all(cluster: &EmbeddedCluster, topic: &str, partition: u32) -> Vec<String> {
    let mut source = cluster.source().expect("source");
    source.seek(&TopicPartition::new(topic, partition), 0).expect("sought");
    let mut all = Vec::new();
    while let Some(batch) = source.poll(7, usize::MAX, NOW).expect("polled") {
        all.extend(values(&batch));
    }
    all
}

fn numbered(name: &str, range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|index| format!("{name}-{index}")).collect()
}

fn link() -> LinkId {
    "link".into()
}

fn anybody() -> Result<(), Error> {
    Ok(())
}

fn lane(link: &str, lane: u32) -> LaneSettings {
    let transaction_timeout = LONG;
    let (generation, layout, exactly_once) = (FIRST_GENERATION, LAYOUT_NEWEST, true);
    LaneSettings {
        link: link.into(),
        lane,
        lanes: 6,
        generation,
        layout,
        source: "east".into(),
        transaction_timeout,
        exactly_once,
        compression: None,
    }
}

fn checkpoint(target: TopicId, next_offset: i64, revision: u64) -> Checkpoint {
    Checkpoint {
        v: 1,
        next_offset,
        source_topic_id: TopicId(1),
        source_log_start: 0,
        source_leader_epoch: None,
        target_topic_id: target,
        target_end_offset: 0,
        link_epoch: 0,
        revision: RevisionNumber(revision),
        last: None,
        doubt: None,
    }
}

fn commit(partition: u32, checkpoint: Checkpoint) -> Commit {
    let source = TopicPartition::new("in", partition);
    let start = RevisionStart { partition: source.clone(), revision: checkpoint.revision, offset: 0 };
    Commit {
        checkpoints: BTreeMap::from([(source, checkpoint)]),
        targets: BTreeMap::new(),
        states: Vec::new(),
        started: vec![start],
        verbatim: false,
    }
}

fn prepare(sink: &mut Box<dyn Sink>, topic: &str, partitions: u32) -> Topic {
    let target = Target { topic: topic.into(), partitions, settings: BTreeMap::new(), replication_factor: None };
    sink.prepare(&[target]).expect("prepared").remove(0)
}

#[test]
fn a_commit_brings_records_checkpoint_and_revision_start_together() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
    assert!(sink.open(&anybody).expect("opened").checkpoints.is_empty());
    let out = prepare(&mut sink, "out", 2);
    sink.write(&records("in", 1, 0..5), &out.name).expect("written");
    sink.write(&records("in", 1, 5..8), &out.name).expect("written");
    assert!(sink.pending_bytes() > 8 * 6);
    assert_eq!(all(&home.cluster, "out", 1), numbered("", 0..0), "nothing before the commit");
    sink.begin_commit(commit(1, checkpoint(out.id, 8, 3))).expect("begun");
    assert_eq!(sink.pending_bytes(), 0);
    assert!(sink.finish_commit(LONG).expect("committed") && !sink.committing());
    assert_eq!(all(&home.cluster, "out", 1), numbered("in-1", 0..8));
    let source = TopicPartition::new("in", 1);
    let expected = Checkpoint { target_end_offset: 8, ..checkpoint(out.id, 8, 3) };
    assert_eq!(home.cluster.checkpoints(&link(), FIRST_GENERATION).expect("read")[&source], expected);
    let start = RevisionStart { partition: source.clone(), revision: RevisionNumber(3), offset: 0 };
    assert_eq!(home.cluster.revision_starts(&link(), FIRST_GENERATION).expect("read"), [start]);
    let opened = home.cluster.sink(&lane("link", 5)).expect("sink").open(&anybody).expect("opened");
    assert_eq!((opened.revision, &opened.checkpoints[&source]), (Some(RevisionNumber(3)), &expected));
    assert!(home.cluster.sink(&lane("other", 0)).expect("sink").open(&anybody).expect("opened").checkpoints.is_empty());
}

#[test]
fn the_next_transaction_is_prepared_while_a_commit_is_under_way() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
    sink.open(&anybody).expect("opened");
    let out = prepare(&mut sink, "out", 1);
    sink.write(&records("in", 0, 0..5), &out.name).expect("written");
    sink.begin_commit(commit(0, checkpoint(out.id, 5, 1))).expect("begun");
    sink.write(&records("in", 0, 5..9), &out.name).expect("written");
    assert!(sink.committing());
    while !sink.finish_commit(LONG).expect("committed") {}
    assert_eq!(all(&home.cluster, "out", 0), numbered("in-0", 0..5));
    sink.begin_commit(commit(0, checkpoint(out.id, 9, 1))).expect("begun");
    assert!(sink.finish_commit(LONG).expect("committed"));
    assert!(sink.finish_commit(NOW).expect("nothing under way"));
    assert_eq!(all(&home.cluster, "out", 0), numbered("in-0", 0..9));
}

#[test]
fn an_earlier_opener_cannot_commit_and_its_transaction_is_gone_when_it_opens_again() {
    let home = home();
    let mut old = home.cluster.sink(&lane("link", 0)).expect("sink");
    old.open(&anybody).expect("opened");
    let out = prepare(&mut old, "out", 1);
    old.write(&records("old", 0, 0..5), &out.name).expect("written");
    let mut new = home.cluster.sink(&lane("link", 0)).expect("sink");
    new.open(&anybody).expect("opened");
    old.begin_commit(commit(0, checkpoint(out.id, 5, 1))).expect("begun");
    old.write(&records("old", 0, 5..6), &out.name).expect("written");
    let fenced = old.finish_commit(LONG).expect_err("fenced");
    assert_eq!((fenced.class, fenced.code), (Class::Fenced, "fenced"));
    assert_eq!(old.write(&records("old", 0, 6..7), &out.name).expect_err("failed").class, Class::Fenced);
    assert_eq!(old.finish_commit(NOW).expect_err("it was not committed").code, "fenced");
    new.write(&records("new", 0, 0..2), &out.name).expect("written");
    new.begin_commit(commit(0, checkpoint(out.id, 2, 1))).expect("begun");
    assert!(new.finish_commit(LONG).expect("committed"));
    old.open(&anybody).expect("opened");
    assert_eq!(old.pending_bytes(), 0);
    old.begin_commit(commit(0, checkpoint(out.id, 3, 1))).expect("begun");
    assert!(old.finish_commit(LONG).expect("committed"));
    assert_eq!(all(&home.cluster, "out", 0), numbered("new-0", 0..2));
}

#[test]
fn what_is_not_open_takes_nothing() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
    let out = prepare(&mut sink, "out", 1);
    assert_eq!(sink.write(&records("in", 0, 0..1), &out.name).expect_err("not open").code, "not-open");
    assert_eq!(sink.begin_commit(Commit::default()).expect_err("not open").code, "not-open");
    assert_eq!(sink.finish_commit(NOW).expect_err("not open").code, "not-open");
}

#[test]
fn a_transaction_to_a_topic_that_is_not_there_is_refused() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
    sink.open(&anybody).expect("opened");
    let error = sink.write(&records("in", 0, 0..1), &"nowhere".into()).expect_err("unknown");
    assert_eq!((error.class, error.code), (Class::Fatal, "unknown-topic"));
}

#[test]
fn routes_and_partition_keys_place_records() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
    sink.open(&anybody).expect("opened");
    let out = prepare(&mut sink, "out", 8);
    prepare(&mut sink, "side", 2);
    let mut batch = records("in", 5, 0..4);
    batch.topics = ["side".into()].into();
    let key = Span { start: 0, len: 4 };
    let key_bytes = b"in-5";
    batch.placements = vec![
        Placement::KEEP,
        Placement { topic: Some(0), partition_key: Span::NULL },
        Placement { topic: None, partition_key: key },
        Placement { topic: Some(0), partition_key: key },
    ];
    sink.write(&batch, &out.name).expect("written");
    sink.begin_commit(commit(5, checkpoint(out.id, 4, 1))).expect("begun");
    assert!(sink.finish_commit(LONG).expect("committed"));
    let mut expected: BTreeMap<(&str, u32), Vec<&str>> = BTreeMap::new();
    expected.entry(("out", 5)).or_default().push("in-5-0");
    expected.entry(("side", 1)).or_default().push("in-5-1");
    expected.entry(("out", partition_of_key(key_bytes, 8))).or_default().push("in-5-2");
    expected.entry(("side", partition_of_key(key_bytes, 2))).or_default().push("in-5-3");
    for (topic, partitions) in [("out", 8), ("side", 2)] {
        for partition in 0..partitions {
            let values = all(&home.cluster, topic, partition);
            assert_eq!(values, expected.remove(&(topic, partition)).unwrap_or_default(), "{topic}-{partition}");
        }
    }
}

#[test]
fn a_target_with_fewer_partitions_takes_the_source_partition_modulo_them() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
    sink.open(&anybody).expect("opened");
    let out = prepare(&mut sink, "out", 3);
    assert_eq!(prepare(&mut sink, "out", 2), out);
    sink.write(&records("in", 7, 0..2), &out.name).expect("written");
    sink.begin_commit(commit(7, checkpoint(out.id, 2, 1))).expect("begun");
    assert!(sink.finish_commit(LONG).expect("committed"));
    assert_eq!(all(&home.cluster, "out", 1), numbered("in-7", 0..2));
    let checkpoints = home.cluster.checkpoints(&link(), FIRST_GENERATION).expect("read");
    assert_eq!(checkpoints[&TopicPartition::new("in", 7)].target_end_offset, 2);
    assert_eq!(prepare(&mut sink, "out", 8).partitions, 8);
}

#[test]
fn partitions_take_turns() {
    let home = home();
    home.cluster.create_topic("in", 3).expect("created");
    for _ in 0..2 {
        for partition in [0, 2] {
            let place = TopicPartition::new("in", partition);
            home.cluster.produce(&place, &records("in", partition, 0..4)).expect("produced");
        }
    }
    let mut source = home.cluster.source().expect("source");
    for partition in 0..3 {
        source.seek(&TopicPartition::new("in", partition), 0).expect("sought");
    }
    let mut turns = Vec::new();
    while let Some(batch) = source.poll(100, usize::MAX, NOW).expect("polled") {
        turns.push((batch.partition, batch.offsets[0], batch.len()));
    }
    assert_eq!(turns, [(0, 0, 4), (2, 0, 4), (0, 4, 4), (2, 4, 4)]);
}

#[test]
fn a_batch_keeps_to_its_limits_and_holds_one_record_at_least() {
    let home = home();
    home.cluster.create_topic("in", 1).expect("created");
    let place = TopicPartition::new("in", 0);
    home.cluster.produce(&place, &records("in", 0, 0..10)).expect("produced");
    let sizes = |max_records, max_bytes| {
        let mut source = home.cluster.source().expect("source");
        source.seek(&place, 0).expect("sought");
        let mut sizes = Vec::new();
        let mut next = 0;
        while let Some(batch) = source.poll(max_records, max_bytes, NOW).expect("polled") {
            assert_eq!(batch.offsets[0], next);
            next = batch.next_offset;
            sizes.push(batch.len());
        }
        assert_eq!(next, 10);
        sizes
    };
    assert_eq!(sizes(usize::MAX, usize::MAX), [10]);
    assert_eq!(sizes(4, usize::MAX), [4, 4, 2]);
    assert_eq!(sizes(usize::MAX, 18), [3, 3, 3, 1], "six bytes a record");
    assert_eq!(sizes(0, 0), [1; 10]);
}

#[test]
fn a_seek_replaces_the_position_even_within_a_batch() {
    let home = home();
    home.cluster.create_topic("in", 2).expect("created");
    for partition in 0..2 {
        let place = TopicPartition::new("in", partition);
        home.cluster.produce(&place, &records("in", partition, 0..10)).expect("produced");
    }
    let mut source = home.cluster.source().expect("source");
    source.seek(&TopicPartition::new("in", 0), 0).expect("sought");
    assert_eq!(source.poll(2, usize::MAX, NOW).expect("polled").expect("records").next_offset, 2);
    source.seek(&TopicPartition::new("in", 1), 9).expect("sought");
    assert_eq!(source.poll(2, usize::MAX, NOW).expect("polled").expect("records").offsets, [2, 3]);
    source.seek(&TopicPartition::new("in", 0), 7).expect("sought");
    let mut seen = Vec::new();
    while let Some(batch) = source.poll(2, usize::MAX, NOW).expect("polled") {
        seen.push((batch.partition, batch.offsets.clone()));
    }
    seen.sort();
    assert_eq!(seen, [(0, vec![7, 8]), (0, vec![9]), (1, vec![9])]);
}

#[test]
fn a_seek_to_where_nothing_is_is_refused() {
    let home = home();
    let place = TopicPartition::new("in", 0);
    let mut source = home.cluster.source().expect("source");
    assert_eq!(source.seek(&place, 0).expect_err("unknown").code, "unknown-topic");
    let topic = home.cluster.create_topic("in", 1).expect("created");
    home.cluster.produce(&place, &records("in", 0, 0..10)).expect("produced");
    let error = source.seek(&place, 11).expect_err("beyond");
    assert_eq!((error.class, error.code), (Class::Fatal, "offset-beyond-end"));
    let truncate = Command::Truncate { topic: topic.id, partition: 0, to: 4 };
    home.cluster.store().execute(truncate).expect("truncated");
    let error = source.seek(&place, 3).expect_err("lost");
    assert_eq!((error.class, error.code), (Class::Fatal, "data-lost"));
    source.seek(&place, 4).expect("there");
}

#[test]
fn records_that_retention_took_from_under_a_reader_are_an_error() {
    let home = home();
    let topic = home.cluster.create_topic("in", 1).expect("created");
    let place = TopicPartition::new("in", 0);
    let mut source = home.cluster.source().expect("source");
    source.seek(&place, 0).expect("sought");
    home.cluster.produce(&place, &records("in", 0, 0..10)).expect("produced");
    home.cluster.store().execute(Command::Truncate { topic: topic.id, partition: 0, to: 10 }).expect("truncated");
    for _ in 0..2 {
        assert_eq!(source.poll(10, usize::MAX, NOW).expect_err("lost").code, "data-lost");
    }
}

#[test]
fn a_poll_that_waits_is_woken_by_new_records() {
    let home = home();
    home.cluster.create_topic("in", 1).expect("created");
    let place = TopicPartition::new("in", 0);
    let mut source = home.cluster.source().expect("source");
    source.seek(&place, 0).expect("sought");
    assert!(source.poll(10, usize::MAX, NOW).expect("polled").is_none());
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| source.poll(10, usize::MAX, LONG).expect("polled"));
        home.cluster.produce(&place, &records("in", 0, 0..3)).expect("produced");
        assert_eq!(poll.join().expect("woken").expect("records").len(), 3);
    });
}

#[test]
fn a_cluster_describes_itself() {
    let home = home();
    let version = home.cluster.topology_version();
    home.cluster.create_topic("in", 2).expect("created");
    assert_ne!(home.cluster.topology_version(), version);
    let names: Vec<_> = home.cluster.topics().expect("listed").into_iter().map(|topic| topic.partitions).collect();
    assert_eq!(names, [2]);
    let place = TopicPartition::new("in", 1);
    assert_eq!(home.cluster.produce(&place, &records("in", 1, 5..9)).expect("produced"), 0);
    assert_eq!(home.cluster.produce(&place, &records("in", 1, 9..10)).expect("produced"), 4);
    assert_eq!(home.cluster.produce(&place, &records("in", 1, 0..0)).expect("produced"), 5);
    assert_eq!(home.cluster.range(&place).expect("there"), PartitionRange { log_start: 0, end: 5 });
    assert_eq!(home.cluster.timestamp_at(&place, 2).expect("known"), Some(7));
    assert_eq!(home.cluster.timestamp_at(&place, 5).expect("end"), None);
    home.cluster.put_metadata(&link(), "state", b"paused").expect("stored");
    assert_eq!(home.cluster.metadata(&link(), "state").expect("read").as_deref(), Some(b"paused".as_slice()));
    let digest = Digest::of(b"component");
    home.cluster.put_artifact(&digest, b"component").expect("stored");
    assert_eq!(home.cluster.artifact(&digest).expect("read").as_deref(), Some(b"component".as_slice()));
}

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn plain(batch: &Batch) -> Vec<Plain> {
    let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let headers = |header: HeaderRef<'_>| (header.name.to_vec(), bytes(header.value));
    batch
        .records()
        .map(|record| {
            (record.timestamp(), bytes(record.key()), bytes(record.value()), record.headers().map(headers).collect())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Source to sink and back: filters leave holes in the arena, splits share offsets, and none of it shows.
    #[test]
    fn records_pass_unchanged(
        records in proptest::collection::vec((any::<i64>(), any::<Option<[u8; 3]>>(), any::<Option<[u8; 9]>>(), 0..3_usize), 1..40),
        keep in proptest::collection::vec(0..2_u8, 40),
        piece in 1..9_usize,
    ) {
        let mut builder = BatchBuilder::new();
        for (timestamp, key, value, headers) in &records {
            let headers = (0..*headers).map(|index| HeaderRef { name: b"\xff", value: (index > 0).then_some(b"v") });
            builder.push(7, *timestamp, key.as_ref().map(|key| &key[..]), value.as_ref().map(|value| &value[..]), headers);
        }
        let mut batch = builder.finish("in", 0);
        batch.retain(&keep[..batch.len()]);
        let home = home();
        let mut sink = home.cluster.sink(&lane("link", 0)).expect("sink");
        sink.open(&anybody).expect("opened");
        let out = prepare(&mut sink, "out", 1);
        sink.write(&batch, &out.name).expect("written");
        sink.begin_commit(commit(0, checkpoint(out.id, 8, 1))).expect("begun");
        prop_assert!(sink.finish_commit(LONG).expect("committed"));
        let mut source = home.cluster.source().expect("source");
        source.seek(&TopicPartition::new("out", 0), 0).expect("sought");
        let mut passed = Vec::new();
        while let Some(batch) = source.poll(piece, usize::MAX, NOW).expect("polled") {
            passed.extend(plain(&batch));
        }
        prop_assert_eq!(passed, plain(&batch));
    }
}

#[test]
fn settings_are_retention_and_nothing_else() {
    let home = home();
    home.cluster.create_topic("in", 1).expect("created");
    let name: Arc<str> = "in".into();
    let change = |changes: &[(&str, Option<&str>)]| {
        let changes = changes.iter().map(|(name, value)| (name.to_string(), value.map(str::to_owned))).collect();
        let refused = home.cluster.change_settings(&BTreeMap::from([(name.clone(), changes)])).expect("changed");
        assert!(refused.is_empty(), "{refused:?}");
        let mut settings = home.cluster.topic_settings(&[name.clone(), "unknown".into()]).expect("settings");
        settings.remove(&name).map(|settings| settings.expect("known"))
    };
    let said = |settings: &[(&str, &str)]| -> TopicSettings {
        settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let settings = |bytes: &str, ms: &str| Some(said(&[("retention.bytes", bytes), ("retention.ms", ms)]));
    assert_eq!(change(&[("retention.ms", Some("7")), ("segment.ms", Some("1"))]), settings("-1", "7"));
    assert_eq!(change(&[("retention.bytes", Some("9"))]), settings("9", "7"));
    assert_eq!(change(&[("retention.ms", None)]), settings("9", "-1"));
    // No limit, in the words of Kafka.
    assert_eq!(change(&[("retention.bytes", Some("-1"))]), settings("-1", "-1"));
    for (policy, bytes) in [("delete", "5"), ("compact,delete", "5"), ("compact", "-1")] {
        let wanted = said(&[("retention.ms", "-1"), ("retention.bytes", "5"), ("cleanup.policy", policy)]);
        assert_eq!(Some(home.cluster.settings_kept(&wanted)), settings(bytes, "-1"), "{policy}");
    }
}

#[test]
fn a_record_that_is_too_large_for_a_store_is_left_out_and_the_others_are_written() {
    let home = home();
    let mut sink = home.cluster.sink(&lane("link", 0)).expect("a sink");
    sink.open(&anybody).expect("opened");
    home.cluster.create_topic("t", 1).expect("a topic");
    let mut builder = BatchBuilder::new();
    for value in [&b"small"[..], &vec![0; stored::RECORD_BYTES_MAX], b"next"] {
        builder.push(0, 0, None, Some(value), []);
    }
    let left_out = sink.write(&builder.finish("t", 0), &"t".into()).expect("written");
    assert_eq!(left_out, [1]);
    sink.begin_commit(Commit::default()).expect("begun");
    assert!(sink.finish_commit(LONG).expect("committed"));
    assert_eq!(all(&home.cluster, "t", 0), ["small", "next"]);
}
