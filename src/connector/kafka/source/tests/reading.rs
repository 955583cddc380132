//! Reading from one real broker.

use std::time::{Duration, Instant};

use super::stage::*;
use crate::connector::kafka::client::Isolation;
use crate::connector::kafka::log;
use crate::connector::kafka::source::{KafkaSource, timestamp_at};
use crate::connector::{Class, STALLED_AFTER, Source};
use crate::model::Codec;
use crate::model::TopicPartition;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn numbered(prefix: &str, count: usize) -> Vec<Plain> {
    (0..count).map(|number| Plain::new(Some("key"), Some(&format!("{prefix}{number}")))).collect()
}

/// Everything that a record can be.
fn odd_records() -> Vec<Plain> {
    let header = |name: &[u8], value: Option<&[u8]>| (name.to_vec(), value.map(<[u8]>::to_vec));
    let mut tombstone = Plain::new(Some("gone"), None);
    tombstone.timestamp = 0;
    let mut headed = Plain::new(None, Some(""));
    headed.timestamp = 1_000_000_000_001;
    headed.headers = vec![
        header(b"twice", Some(b"1")),
        header(b"twice", Some(b"2")),
        header(b"", None),
        header(b"\xff\xfe\x00", Some(b"\x00\xff")),
        header(b"twice", Some(b"1")),
    ];
    let mut binary = Plain::new(Some(""), None);
    binary.value = Some((0..=255).collect());
    let large = Plain::new(None, Some(&"large ".repeat(20_000)));
    vec![Plain::new(None, None), tombstone, headed, binary, large, Plain::new(Some("k"), Some("v"))]
}

/// Topics of our own are read up to where they ended a moment ago, and followed from there: an answer may go further.
#[test]
fn a_log_that_is_followed_is_read_without_a_gap() {
    let client = client(&ONE_BROKER);
    create(&client, "followed", 1, &[]);
    let place = TopicPartition::new("followed", 0);
    let written = append(&client, &place, Codec::Zstd, &numbered("first ", 7));
    let written = [written, append(&client, &place, Codec::None, &numbered("second ", 3))].concat();
    let (mut next, mut seen) = (0, Vec::new());
    let budget = log::Budget { patience: PATIENCE, total: PATIENCE, bytes: 0 };
    for end in [0, 3, 8, 10] {
        log::read(&client, &place, &mut next, end, budget, |record| {
            seen.push((record.offset(), record.value().map(<[u8]>::to_vec)));
            Ok(0)
        })
        .expect("read");
        assert_eq!(next, end);
    }
    assert_eq!(seen, written.into_iter().map(|record| (record.offset, record.value)).collect::<Vec<_>>());
}

#[test]
fn everything_is_read_as_it_was_written_with_all_codecs() {
    let client = client(&ONE_BROKER);
    create(&client, "odd", 5, &[]);
    create(&client, "stamped", 5, &[("message.timestamp.type", "LogAppendTime")]);
    let mut written = Vec::new();
    for topic in ["odd", "stamped"] {
        for (partition, codec) in CODECS.into_iter().enumerate() {
            let place = TopicPartition::new(topic, partition as u32);
            let mut records = append(&client, &place, codec, &odd_records());
            records.extend(append(&client, &place, codec, &numbered("more ", 50)));
            records.extend(append(&client, &place, codec, &odd_records()));
            written.push((place, records));
        }
    }
    let ends: Vec<_> = written.iter().map(|(place, records)| (place.clone(), records.len() as i64)).collect();
    let places: Vec<_> = ends.iter().map(|(place, _)| place.clone()).collect();
    for max_records in [3, 10_000] {
        let mut seen = Seen::default();
        seen.read_to(&mut source_of(&client, &places), max_records, &ends);
        for (place, mut records) in written.clone() {
            let read = &seen.records[&place];
            if &*place.topic == "stamped" {
                assert!(read.iter().all(|record| record.timestamp > 1_700_000_000_000));
                records.iter_mut().zip(read).for_each(|(record, read)| record.timestamp = read.timestamp);
            }
            assert_eq!(read, &records, "{place}");
        }
    }
}

#[test]
fn aborted_transactions_are_not_seen_and_open_ones_are_waited_for() {
    let client = client(&ONE_BROKER);
    create(&client, "transactions", 1, &[]);
    let place = TopicPartition::new("transactions", 0);
    let (mut one, mut two) = (Producer::new(&client, "one"), Producer::new(&client, "two"));
    let mut committed = Vec::new();
    for round in 0..6 {
        let codec = CODECS[round % CODECS.len()];
        let kept = numbered("kept ", 20);
        // The one that is aborted began first, or last.
        if round % 2 == 0 {
            one.append(&place, codec, &numbered("aborted ", 10));
        }
        committed.extend(two.append(&place, codec, &kept));
        one.append(&place, codec, &numbered("aborted too ", 10));
        two.end(true);
        one.end(false);
        committed.extend(append(&client, &place, codec, &kept));
    }
    let mut source = source_of(&client, std::slice::from_ref(&place));
    let mut seen = Seen::default();
    let end = committed.last().expect("records").offset + 1;
    seen.read_to(&mut source, 7, &[(place.clone(), end)]);
    assert_eq!(seen.records[&place], committed);

    // Only an aborted transaction: the position moves behind its marker, and there is one batch to say so.
    let aborted = one.append(&place, Codec::Zstd, &numbered("aborted ", 10));
    one.end(false);
    let batch = loop {
        if let Some(batch) = seen.poll(&mut source, 100, Duration::from_secs(1)) {
            break batch;
        }
    };
    assert_eq!((batch.len(), batch.next_offset), (0, aborted[9].offset + 2));

    // An open one, and records behind it: nothing until it ends.
    let mut open = two.append(&place, Codec::Lz4, &numbered("open ", 5));
    let behind = append(&client, &place, Codec::None, &numbered("behind ", 5));
    assert!(seen.poll(&mut source, 100, Duration::from_millis(700)).is_none());
    two.end(true);
    open.extend(behind);
    // The marker of the commit is the last.
    seen.read_to(&mut source, 100, &[(place.clone(), open[9].offset + 2)]);
    assert!(seen.records[&place].ends_with(&open));
    assert_eq!(seen.records[&place].len(), committed.len() + open.len());
}

#[test]
fn a_compacted_topic_is_read_with_its_holes() {
    let client = client(&ONE_BROKER);
    let configs = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01")];
    create(&client, "compacted", 1, &configs);
    let place = TopicPartition::new("compacted", 0);
    let keyed = |number: usize| Plain::new(Some(&format!("key {}", number % 3)), Some(&format!("value {number}")));
    let mut all = append(&client, &place, Codec::None, &(0..30).map(keyed).collect::<Vec<_>>());
    let holes = eventually("holes", || {
        // A record that rolls the segment, by its timestamp; the cleaner leaves the last segment alone.
        let timestamp = 1_700_000_000_000 + 1000 * all.len() as i64;
        let roll = Plain { timestamp, ..Plain::new(Some("roll"), Some("it")) };
        all.extend(append(&client, &place, Codec::Lz4, &[roll]));
        let mut seen = Seen::default();
        let end = all.len() as i64;
        seen.read_to(&mut source_of(&client, std::slice::from_ref(&place)), 100, &[(place.clone(), end)]);
        let read = seen.records.remove(&place).unwrap_or_default();
        if read.len() < 20 { Ok(read) } else { Err(read.len()) }
    });
    assert!(holes.iter().all(|record| record == &all[record.offset as usize]));
    let newest: Vec<_> = holes.iter().filter(|record| record.offset < 30).cloned().collect();
    assert_eq!(newest, all[27..30]);
    // From within a hole on.
    let mut source = KafkaSource::new(client.clone());
    source.seek(&place, 5).expect("sought");
    let batch = source.poll(1, usize::MAX, PATIENCE).expect("polled").expect("a record");
    assert_eq!(batch.offsets, [27]);
}

#[test]
fn offsets_that_are_gone_or_not_there_yet_are_named_states() {
    let client = client(&ONE_BROKER);
    create(&client, "lost", 1, &[]);
    let place = TopicPartition::new("lost", 0);
    append(&client, &place, Codec::None, &numbered("", 10));
    delete_records(&client, &place, 5);
    let fails_at = |offset| {
        let mut source = KafkaSource::new(client.clone());
        source.seek(&place, offset).expect("sought");
        failure(&mut source)
    };
    let lost = fails_at(3);
    assert_eq!((lost.class, lost.code), (Class::Fatal, "data-lost"));
    assert!(lost.message.contains("records 3 to 4"), "{lost}");
    let beyond = fails_at(11);
    assert_eq!((beyond.class, beyond.code), (Class::Fatal, "offset-beyond-end"));

    let mut source = KafkaSource::new(client.clone());
    assert_eq!(source.seek(&TopicPartition::new("nowhere", 0), 0).expect_err("unknown").code, "unknown-topic");
    assert_eq!(source.seek(&TopicPartition::new("lost", 1), 0).expect_err("unknown").code, "unknown-partition");
    source.seek(&place, 5).expect("sought");
    let mut seen = Seen::default();
    seen.read_to(&mut source, 100, &[(place, 10)]);
}

#[test]
fn what_was_fetched_before_records_went_is_given_out_first() {
    let client = client(&ONE_BROKER);
    create(&client, "going", 2, &[]);
    let places = [0, 1].map(|partition| TopicPartition::new("going", partition));
    append(&client, &places[0], Codec::None, &numbered("", 10));
    let mut source = source_of(&client, &places);
    let mut seen = Seen::default();
    seen.read_to(&mut source, 100, &[(places[0].clone(), 10)]);
    // It is not read while this happens, and has a fetch under way that has no records of this partition.
    source.seek(&places[0], 2).expect("sought");
    delete_records(&client, &places[0], 5);
    append(&client, &places[1], Codec::None, &numbered("", 3));
    let begun = Instant::now();
    let mut others = 0;
    let error = loop {
        match source.poll(1, usize::MAX, Duration::from_millis(100)) {
            Ok(batch) => others += batch.map_or(0, |batch| batch.len()),
            Err(error) => break error,
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    assert_eq!((error.class, error.code, others), (Class::Fatal, "data-lost", 3));
}

#[test]
fn a_topic_that_was_made_again_is_another_one() {
    let client = client(&ONE_BROKER);
    create(&client, "again", 1, &[]);
    let place = TopicPartition::new("again", 0);
    append(&client, &place, Codec::None, &numbered("", 10));
    let mut source = source_of(&client, std::slice::from_ref(&place));
    Seen::default().read_to(&mut source, 100, &[(place, 10)]);
    delete(&client, "again");
    create(&client, "again", 1, &[]);
    let error = failure(&mut source);
    assert_eq!((error.class, error.code), (Class::Fatal, "source-recreated"), "{error}");
}

#[test]
fn a_topic_that_is_gone_is_named_until_nobody_reads_it() {
    let client = client(&ONE_BROKER);
    create(&client, "gone", 1, &[]);
    let place = TopicPartition::new("gone", 0);
    let mut source = source_of(&client, std::slice::from_ref(&place));
    delete(&client, "gone");
    let stalled = |source: &mut KafkaSource| {
        assert_eq!(
            source.poll(1000, usize::MAX, Duration::from_millis(20)).expect("polled").map(|batch| batch.len()),
            None
        );
        source.stalled(Instant::now() + STALLED_AFTER)
    };
    let named =
        eventually("a name", || stalled(&mut source).pop().filter(|it| it.why.code == "unknown-topic").ok_or(()));
    assert_eq!(named.partition, place);
    source.forget(&place);
    assert!(stalled(&mut source).is_empty());
}

#[test]
fn a_seek_replaces_the_position_and_what_was_fetched() {
    let client = client(&ONE_BROKER);
    create(&client, "sought", 2, &[]);
    let places = [0, 1].map(|partition| TopicPartition::new("sought", partition));
    for place in &places {
        append(&client, place, Codec::None, &numbered("", 10));
    }
    let mut source = source_of(&client, &places);
    let first = source.poll(3, usize::MAX, PATIENCE).expect("polled").expect("records");
    let place = TopicPartition::new("sought", first.partition);
    for from in [8, 1, 1, 0] {
        source.seek(&place, from).expect("sought");
        let batch = loop {
            let batch = source.poll(2, usize::MAX, PATIENCE).expect("polled").expect("records");
            if batch.partition == place.partition {
                break batch;
            }
        };
        assert_eq!(batch.offsets, [from, from + 1]);
    }
}

#[test]
fn a_session_that_the_broker_does_not_know_is_made_anew() {
    let client = client(&ONE_BROKER);
    create(&client, "sessions", 3, &[]);
    let places = [0, 1, 2].map(|partition| TopicPartition::new("sessions", partition));
    let mut source = source_of(&client, &places);
    let mut seen = Seen::default();
    // Another session, and another place in this one: codes 70 and 71.
    for (round, (id, epochs)) in [(0, 0), (1, 0), (0, 5), (0, 0)].into_iter().enumerate() {
        for broker in source.brokers.values_mut() {
            broker.session.disturb(id, epochs);
        }
        for place in &places {
            append(&client, place, Codec::None, &numbered("", 10));
        }
        let ends = places.clone().map(|place| (place, 10 * (round as i64 + 1)));
        seen.read_to(&mut source, 100, &ends);
    }
    assert_eq!(source.brokers.len(), 1, "the connection is kept");
}

#[test]
fn an_idle_partition_is_heard_between_the_records_of_busy_ones() {
    const IDLE: u32 = 100;
    let client = client(&ONE_BROKER);
    create(&client, "busy", 1, &[]);
    create(&client, "idle", IDLE, &[]);
    let busy = TopicPartition::new("busy", 0);
    let records: Vec<_> = (0..400).map(|_| Plain::new(None, Some(&"x".repeat(1000)))).collect();
    for _ in 0..100 {
        append(&client, &busy, Codec::None, &records);
    }
    let mut places = vec![busy.clone()];
    places.extend((0..IDLE).map(|partition| TopicPartition::new("idle", partition)));
    let mut source = source_of(&client, &places);
    let mut seen = Seen::default();
    seen.read_to(&mut source, 1000, &[(busy.clone(), 1)]);
    append(&client, &places[77], Codec::None, &numbered("", 1));
    seen.read_to(&mut source, 1000, &[(places[77].clone(), 1)]);
    assert!(seen.next[&busy] < 40_000, "the idle one came last");
}

#[test]
fn the_time_of_a_record_is_found() {
    let client = client(&ONE_BROKER);
    create(&client, "timed", 1, &[]);
    let place = TopicPartition::new("timed", 0);
    for timestamps in [[5000, -1, 5002], [8000, 6001, 7000]] {
        let stamped = |(record, timestamp)| Plain { timestamp, ..record };
        let records: Vec<_> = numbered("", 3).into_iter().zip(timestamps).map(stamped).collect();
        append(&client, &place, Codec::Zstd, &records);
    }
    let times: Vec<_> = [0, 2, 3, 5, 6, 100]
        .map(|offset| timestamp_at(&client, &place, offset, Isolation::ReadCommitted).expect("asked"))
        .into();
    assert_eq!(times, [Some(5000), Some(5002), Some(8000), Some(7000), None, None]);
    let nowhere = TopicPartition::new("nowhere at all", 0);
    assert_eq!(
        timestamp_at(&client, &nowhere, 0, Isolation::ReadCommitted).expect_err("unknown").code,
        "unknown-topic"
    );
}

#[test]
fn a_broker_that_is_not_there_is_an_error_after_a_while() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let settings = client(&ONE_BROKER).settings().clone();
    let client = crate::connector::kafka::client::Client::new(vec![nobody.to_string().into()], settings);
    let mut source = KafkaSource::new(client);
    let error = source.seek(&TopicPartition::new("any", 0), 0).expect_err("nobody");
    assert_eq!((error.class, error.code), (Class::Reopen, "cannot-connect"));
}
