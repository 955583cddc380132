//! Sessions, positions and codes without a broker.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::metadata::{Leader, Metadata, TopicMetadata};
use crate::connector::kafka::records::Tail;
use crate::connector::kafka::source::answer::{FetchAnswer, PartitionAnswer, TopicKey};
use crate::connector::kafka::source::faults;
use crate::connector::kafka::source::positions::{Index, Positions, TRANSACTION_AGE_MAX};
use crate::connector::kafka::source::session::{Limits, Outcome, Session};
use crate::connector::kafka::source::{Trouble, take_partition};
use crate::connector::{Class, PartitionRange, STALLED_AFTER, Stalled};
use crate::model::TopicPartition;

const LIMITS: Limits = Limits { all: 1000, partition: 100 };

fn place(partition: u32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn topic() -> Uuid {
    Uuid::from_u128(1)
}

fn positions(count: u32) -> Positions {
    let mut positions = Positions::default();
    for partition in 0..count {
        assert_eq!(positions.seek(&place(partition), topic(), 10), partition as Index);
    }
    positions
}

fn session(version: i16, count: usize) -> Session {
    let mut session = Session::new(version, LIMITS, Some("here"));
    (0..count).for_each(|index| session.add(index));
    session
}

fn answer(session: i32, code: Code) -> FetchAnswer {
    FetchAnswer { throttle: Duration::ZERO, code, session, partitions: Vec::new() }
}

/// The partitions and offsets of a request.
fn asked(request: &FetchRequest) -> Vec<(i32, i64)> {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect()
}

fn left(request: &FetchRequest) -> Vec<i32> {
    request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone()).collect()
}

/// Records of a partition come.
fn advance(session: &mut Session, positions: &mut Positions, index: Index, next_offset: i64) {
    positions[index].advance(Tail { next_offset, leader_epoch: 7 });
    session.had_turn(index);
}

/// Opening reads again from the record that a checkpoint names: batches of an earlier leader may come first.
#[test]
fn what_ends_before_an_offset_has_no_epoch_for_it() {
    let mut positions = positions(1);
    assert_eq!(positions[0].epoch_up_to(10), None, "nothing was read");
    for (next_offset, leader_epoch) in [(20, 2), (30, 2), (40, 5)] {
        positions[0].advance(Tail { next_offset, leader_epoch });
        for offset in 10..50 {
            let expected = (offset <= next_offset).then_some(leader_epoch);
            assert_eq!(positions[0].epoch_up_to(offset), expected, "{offset} of {next_offset}");
        }
    }
    positions.seek(&place(0), topic(), 40);
    assert_eq!(positions[0].epoch_up_to(40), None, "nothing was read since it was sought");
}

#[test]
fn a_session_tells_everything_once_and_then_what_changed() {
    let (mut positions, mut session) = (positions(3), session(17, 3));
    let first = session.request(&positions);
    assert_eq!((first.session_id, first.session_epoch), (0, 0));
    assert_eq!(asked(&first), [(0, 10), (1, 10), (2, 10)]);
    assert_eq!(first.topics.len(), 1);
    assert_eq!((first.topics[0].topic_id, first.isolation_level, first.min_bytes), (topic(), 1, 1));
    assert_eq!((first.max_bytes, first.topics[0].partitions[0].partition_max_bytes), (1000, 100));
    assert_eq!(session.answered(&answer(5, Code::NONE)), Outcome::Answered);

    advance(&mut session, &mut positions, 1, 20);
    let second = session.request(&positions);
    assert_eq!((second.session_id, second.session_epoch, asked(&second)), (5, 1, vec![(1, 20)]));
    assert_eq!(second.topics[0].partitions[0].last_fetched_epoch, 7);
    assert_eq!((session.told(0), session.told(1)), (Some(10), Some(20)));
    session.answered(&answer(5, Code::NONE));

    let third = session.request(&positions);
    assert_eq!((third.session_epoch, third.topics.len()), (2, 0), "a thousand idle partitions cost nothing");
}

#[test]
fn what_leaves_a_session_is_forgotten_and_what_comes_back_is_not() {
    let (positions, mut session) = (positions(3), session(17, 3));
    session.request(&positions);
    session.answered(&answer(5, Code::NONE));
    session.remove(0, &positions[0]);
    session.remove(2, &positions[2]);
    session.add(2);
    let request = session.request(&positions);
    assert_eq!((left(&request), asked(&request)), (vec![0], vec![(2, 10)]));
    assert_eq!((session.told(0), session.members()), (None, &[1, 2][..]));
    session.answered(&answer(5, Code::NONE));
    assert!(left(&session.request(&positions)).is_empty());
}

#[test]
fn a_session_that_is_lost_begins_again_with_everything() {
    for (code, id) in [
        (Code::FETCH_SESSION_NOT_FOUND, 0),
        (Code::INVALID_FETCH_SESSION_EPOCH, 5),
        (Code::FETCH_SESSION_TOPIC_ID_ERROR, 5),
    ] {
        let (mut positions, mut session) = (positions(2), session(17, 2));
        session.request(&positions);
        session.answered(&answer(5, Code::NONE));
        advance(&mut session, &mut positions, 0, 30);
        session.remove(1, &positions[1]);
        session.request(&positions);
        assert_eq!(session.answered(&answer(0, code)), Outcome::Forgotten);
        let again = session.request(&positions);
        assert_eq!((again.session_id, again.session_epoch), (id, 0), "{code}");
        assert_eq!((asked(&again), left(&again)), (vec![(0, 30)], vec![]));
    }
}

#[test]
fn another_error_of_a_request_is_not_taken_for_an_answer() {
    let (positions, mut session) = (positions(1), session(17, 1));
    session.request(&positions);
    assert_eq!(session.answered(&answer(0, Code(-1))), Outcome::Failed);
}

#[test]
fn without_a_session_everything_is_told_and_partitions_take_turns() {
    // Version 6 has no sessions; with version 17 the broker has no room for one.
    for version in [6, 17] {
        let (mut positions, mut session) = (positions(3), session(version, 3));
        session.request(&positions);
        session.answered(&answer(0, Code::NONE));
        advance(&mut session, &mut positions, 0, 20);
        let second = session.request(&positions);
        assert_eq!(asked(&second), [(1, 10), (2, 10), (0, 20)], "version {version}");
        assert_eq!(second.session_epoch, if version == 6 { -1 } else { 0 });
        session.answered(&answer(0, Code::NONE));
        advance(&mut session, &mut positions, 1, 15);
        assert_eq!(asked(&session.request(&positions)), [(2, 10), (0, 20), (1, 15)]);
    }
}

#[test]
fn the_number_of_a_request_starts_again_at_one() {
    let (positions, mut session) = (positions(1), session(17, 1));
    session.request(&positions);
    session.answered(&answer(5, Code::NONE));
    session.disturb(0, i32::MAX - 1);
    session.request(&positions);
    session.answered(&answer(5, Code::NONE));
    assert_eq!(session.request(&positions).session_epoch, 1);
}

fn partition_answer(code: Code, records: Bytes) -> PartitionAnswer {
    let topic = TopicKey::Id(topic());
    let (high_watermark, last_stable) = (-1, -1);
    PartitionAnswer {
        topic,
        partition: 0,
        code,
        high_watermark,
        last_stable,
        nearer: None,
        diverges_at: None,
        aborted: Vec::new(),
        records,
    }
}

/// As much of a record batch as tells where it ends.
fn header(base: i64, last_delta: i32, epoch: i32) -> Vec<u8> {
    let mut bytes = vec![0; 61];
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&last_delta.to_be_bytes());
    bytes
}

#[test]
fn a_position_moves_behind_the_last_whole_record_batch() {
    let mut positions = positions(1);
    let mut bytes = [header(8, 3, 1), header(12, 0, 2), header(13, 5, 3)].concat();
    bytes.truncate(150);
    let fetched = take_partition(&mut positions, 0, partition_answer(Code::NONE, bytes.into()));
    let Ok(Some(fetched)) = fetched else { panic!("there were records") };
    assert_eq!((fetched.from, positions[0].next, positions[0].tail_epoch), (10, 13, 2));
    let nothing = take_partition(&mut positions, 0, partition_answer(Code::NONE, Bytes::new()));
    assert!(matches!(nothing, Ok(None)));
    let before = take_partition(&mut positions, 0, partition_answer(Code::NONE, header(8, 4, 1).into()));
    assert!(matches!(before, Err(Trouble::Again(0, _))), "it would be fetched for ever");
}

/// No checksum covers the offset of a record batch.
#[test]
fn records_whose_offsets_cannot_be_are_no_position() {
    let mut positions = positions(1);
    let mut take = |high_watermark, records: Vec<u8>| {
        let answer = PartitionAnswer { high_watermark, ..partition_answer(Code::NONE, records.into()) };
        let taken = take_partition(&mut positions, 0, answer);
        (
            taken.map_err(|trouble| if let Trouble::Again(_, error) = trouble { error.code } else { "another" }),
            positions[0].next,
        )
    };
    for (high_watermark, records) in [
        // The first would be passed over as if it were an old one.
        (20, [header(5, 4, 1), header(12, 0, 1)].concat()),
        (20, header(10 | 1 << 43, 3, 1)),
        (20, [header(10, 3, 1), header(14 | 1 << 60, 0, 1)].concat()),
        (20, header(i64::MAX - 5, 3, 1)),
    ] {
        let (taken, next) = take(high_watermark, records);
        assert_eq!((taken.map(drop), next), (Err("malformed-answer"), 10));
    }
    // What was appended while the answer was put together.
    let (taken, next) = take(11, header(10, 3, 1));
    assert!(matches!(taken, Ok(Some(_))) && next == 14);
}

#[test]
fn a_log_that_another_leader_has_less_of_is_a_named_state() {
    let mut positions = positions(1);
    let diverges = PartitionAnswer { diverges_at: Some(4), ..partition_answer(Code::NONE, Bytes::new()) };
    let Err(Trouble::Fatal(error)) = take_partition(&mut positions, 0, diverges) else { panic!("it was taken") };
    assert_eq!((error.class, error.code), (Class::Fatal, "source-truncated"));
    assert!(error.message.contains("records 4 to 9"), "{error}");
}

#[test]
fn a_session_that_is_lost_though_everything_was_told_is_a_failure() {
    for code in [Code::FETCH_SESSION_NOT_FOUND, Code::INVALID_FETCH_SESSION_EPOCH, Code::FETCH_SESSION_TOPIC_ID_ERROR] {
        let (positions, mut session) = (positions(1), session(17, 1));
        session.request(&positions);
        assert_eq!(session.answered(&answer(0, code)), Outcome::Failed);
        session.request(&positions);
        assert_eq!(session.answered(&answer(5, Code::NONE)), Outcome::Answered);
        session.request(&positions);
        assert_eq!(session.answered(&answer(5, code)), Outcome::Forgotten);
    }
}

#[test]
fn an_offset_that_is_not_there_is_a_loss_or_is_waited_for() {
    let range = PartitionRange { log_start: 5, end: 10 };
    let code = |offset, has_read| faults::out_of_range(&place(0), offset, has_read, range).map(|error| error.code);
    assert_eq!(code(4, true), Some("data-lost"));
    assert_eq!((code(5, true), code(10, true)), (None, None));
    assert_eq!((code(11, true), code(11, false)), (Some("source-truncated"), Some("offset-beyond-end")));
}

fn metadata(id: Uuid, leaders: &[(Option<i32>, i32)]) -> Metadata {
    let leaders = leaders.iter().map(|(broker, epoch)| Leader { broker: *broker, epoch: *epoch }).collect();
    let topics = [("orders".into(), TopicMetadata { id, leaders })].into();
    Metadata { topics, ..Metadata::default() }
}

#[test]
fn partitions_follow_their_leaders_and_wait_where_there_is_none() {
    let mut positions = positions(2);
    let now = Instant::now();
    assert_eq!(positions.due(now), Some(now), "new ones are due at once");
    let settled = positions.settle(&metadata(topic(), &[(Some(1), 3), (None, 3)]), now).expect("settled");
    assert_eq!(settled, [(1, 0)]);
    assert_eq!((positions[0].broker, positions[0].leader_epoch, positions[1].broker), (Some(1), 3, None));
    let due = positions.due(now).expect("one waits");
    assert!(due > now);

    // Metadata of before changes nothing.
    assert!(positions.follow(&metadata(topic(), &[(Some(2), 2), (None, 3)])).is_empty());
    let moved = metadata(topic(), &[(Some(2), 4), (Some(2), 4)]);
    assert_eq!(positions.follow(&moved), [(1, 0)]);
    let mut settled = positions.settle(&moved, due).expect("settled");
    settled.sort_unstable();
    assert_eq!((settled, positions.due(due)), (vec![(2, 0), (2, 1)], None));
    assert_eq!(positions[0].next, 10, "the position is kept");
}

fn codes(stalled: &[Stalled]) -> Vec<(u32, &'static str)> {
    stalled.iter().map(|stalled| (stalled.partition.partition, stalled.why.code)).collect()
}

#[test]
fn waits_double_and_what_lasts_is_named_wherever_it_is_tried() {
    let long = Duration::from_secs(20);
    let mut positions = positions(3);
    let begun = Instant::now();
    let leaders = metadata(topic(), &[(Some(1), 3), (None, 3), (Some(2), 3)]);
    let mut now = begun;
    let mut waits = Vec::new();
    while now < begun + long {
        for (broker, index) in positions.settle(&leaders, now).expect("settled") {
            if broker == 1 {
                positions.unsettle(index, now, error::broker_gone(1));
            }
        }
        let due = positions.due(now).expect("two wait");
        waits.push((due - now).as_millis());
        now = due;
    }
    assert_eq!(waits[..8], [20, 40, 80, 160, 320, 640, 1000, 1000]);
    assert_eq!(codes(&positions.stalled(begun + STALLED_AFTER / 2)), []);
    let both = [(0, "broker-gone"), (1, "no-leader")];
    assert_eq!(codes(&positions.stalled(now)), both);
    // While it is tried it is with a broker.
    assert_eq!(positions.settle(&leaders, now).expect("settled"), [(1, 0)]);
    assert_eq!(codes(&positions.stalled(now)), both);

    // What goes well once is forgiven.
    positions[0].recovered();
    assert_eq!(codes(&positions.stalled(now)), [(1, "no-leader")]);
    positions.unsettle(0, now, error::broker_gone(1));
    assert_eq!(codes(&positions.stalled(now + Duration::from_secs(5))), [(1, "no-leader")]);
}

#[test]
fn a_transaction_that_does_not_end_is_named() {
    let begun = Instant::now();
    let late = begun + TRANSACTION_AGE_MAX;
    let named = |seen: &[(i64, i64, i64, Instant)]| {
        let mut positions = positions(1);
        for (next, last_stable, high_watermark, at) in seen {
            positions[0].next = *next;
            positions[0].note_open_transaction(*last_stable, *high_watermark, *at);
        }
        positions.stalled(late).pop().map(|stalled| (stalled.why.code, stalled.why.message))
    };
    let (code, message) = named(&[(10, 10, 12, begun)]).expect("it is named");
    assert_eq!(code, "hanging-transaction");
    assert!(message.contains("records 10 to 11") && message.contains("15 min"), "{message}");
    assert!(named(&[(10, 10, 12, begun), (10, 10, 20, late)]).is_some(), "more records change nothing");
    assert_eq!(named(&[(10, 10, 12, begun + Duration::from_secs(1))]), None, "it may end yet");
    assert_eq!(named(&[(10, 10, 12, begun), (11, 11, 12, late)]), None, "another one is open now");
    assert_eq!(named(&[(10, 10, 12, begun), (12, 12, 12, late)]), None, "none is open");
    assert_eq!(named(&[(9, 10, 12, begun)]), None, "there is something to read before it");
    for unknown in [(-1, 12), (-1, -1), (10, -1)] {
        assert_eq!(named(&[(10, unknown.0, unknown.1, begun)]), None, "{unknown:?}");
    }
}

/// A lane opens again after each hiccup of a broker, and its source begins with nothing.
#[test]
fn a_transaction_is_as_old_as_readers_before_have_seen_it() {
    let begun = Instant::now();
    let late = begun + TRANSACTION_AGE_MAX;
    let mut first = positions(1);
    first[0].next = 10;
    first[0].note_open_transaction(10, 12, begun);
    let seen = first.open_transactions()[&place(0)];
    let read_again = |last_stable| {
        let mut positions = positions(1);
        positions[0].recall(seen);
        assert_eq!(codes(&positions.stalled(late)), [], "it may have ended");
        // The record before it is read once more.
        positions[0].next = 9;
        positions[0].note_open_transaction(last_stable, 12, late);
        positions[0].next = 10;
        positions[0].note_open_transaction(last_stable, 12, late);
        codes(&positions.stalled(late))
    };
    assert_eq!(read_again(10), [(0, "hanging-transaction")]);
    assert_eq!(read_again(11), [], "another one is open");
    assert_eq!(read_again(12), [], "none is open");
}

#[test]
fn a_partition_is_read_when_it_was_fetched_and_nothing_was_wrong_since() {
    let mut positions = positions(1);
    assert!(!positions[0].is_read(), "nothing is known of it");
    positions[0].recovered();
    assert!(positions[0].is_read());
    positions.unsettle(0, Instant::now(), error::broker_gone(1));
    assert!(!positions[0].is_read());
}

/// Topics come and go for as long as a lane is open.
#[test]
fn what_is_read_no_more_takes_no_room() {
    let mut positions = positions(1);
    let now = Instant::now();
    positions.unsettle(0, now, faults::not_fetched(&place(0), Code::TOPIC_AUTHORIZATION_FAILED));
    for number in 1..100 {
        let (index, _) = positions.forget(&place(number - 1)).expect("it was read");
        assert_eq!(positions.seek(&place(number), topic(), 5), index);
        assert_eq!(positions.find(&TopicKey::Id(topic()), number - 1), None);
        assert_eq!((positions[index].next, codes(&positions.stalled(now))), (5, vec![]));
    }
}

/// While its leader is asked what it has, no broker is looked for.
#[test]
fn a_partition_that_is_held_waits_for_what_is_asked() {
    let (mut positions, now) = (positions(1), Instant::now());
    positions.settle(&metadata(topic(), &[(Some(1), 3)]), now).expect("settled");
    positions.hold(0);
    assert_eq!(positions.due(now), None);
    assert!(positions.release(0) && positions.due(now).is_some());
    assert!(!positions.release(0), "it was released");
}

#[test]
fn what_only_a_person_can_help_with_is_named_at_once_and_tried_seldom() {
    let mut positions = positions(1);
    let now = Instant::now();
    positions.settle(&metadata(topic(), &[(Some(1), 3)]), now).expect("settled");
    positions.unsettle(0, now, faults::not_fetched(&place(0), Code::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(codes(&positions.stalled(now)), [(0, "topic-not-authorized")]);
    assert!(positions.due(now).is_some_and(|due| due >= now + Duration::from_secs(10)));
}

/// A request tells where we are if the version has a place for it.
#[test]
fn brokers_are_told_where_we_are() {
    for (version, rack) in [(17, "here"), (11, "here"), (10, "")] {
        assert_eq!(session(version, 1).request(&positions(1)).rack_id.as_str(), rack, "version {version}");
    }
}

#[test]
fn a_nearer_replica_is_fetched_from_until_it_fails_or_the_leader_is_asked_again() {
    let now = Instant::now();
    let brokers = [(1, "a:1".into()), (2, "b:1".into())].into();
    let leaders = Metadata { brokers, ..metadata(topic(), &[(Some(1), 3)]) };
    let mut positions = positions(1);
    let settled = |positions: &mut Positions, now| positions.settle(&leaders, now).expect("settled");
    assert_eq!(settled(&mut positions, now), [(1, 0)]);
    positions.prefer(0, 2, true, now);
    assert_eq!(settled(&mut positions, now), [(2, 0)]);
    assert!(positions.follow(&leaders).is_empty(), "the leader is the same");
    assert!(positions.ask_leaders_again(now).is_empty());
    let later = now + Duration::from_secs(3_600);
    assert_eq!(positions.ask_leaders_again(later), [(2, 0)]);
    assert_eq!(settled(&mut positions, later), [(1, 0)]);

    positions.prefer(0, 2, true, later);
    settled(&mut positions, later);
    positions.unsettle(0, later, faults::not_fetched(&place(0), Code::OFFSET_OUT_OF_RANGE));
    assert_eq!(settled(&mut positions, later + Duration::from_secs(1)), [(1, 0)], "the leader knows better");
    assert!(positions[0].wants_leader(), "or it would send us there again");
    assert_eq!(session(17, 1).request(&positions).rack_id.as_str(), "");
    let much_later = later + Duration::from_secs(3_600);
    positions.ask_leaders_again(much_later);
    assert!(!positions[0].wants_leader());
    // A broker that nobody has heard of is none to fetch from.
    positions.prefer(0, 9, false, much_later);
    assert_eq!(settled(&mut positions, much_later), [(1, 0)]);
    assert!(positions[0].wants_leader());
}

/// Another replica than the leader may have more than was committed: nothing is lost by that.
#[test]
fn a_nearer_replica_that_differs_is_left_for_the_leader() {
    let now = Instant::now();
    let mut positions = positions(1);
    positions.prefer(0, 2, true, now);
    let diverges = PartitionAnswer { diverges_at: Some(4), ..partition_answer(Code::NONE, Bytes::new()) };
    assert!(matches!(take_partition(&mut positions, 0, diverges), Err(Trouble::Again(0, _))));
}

#[test]
fn a_topic_with_another_id_is_another_topic() {
    let mut positions = positions(1);
    let now = Instant::now();
    let error = positions.settle(&metadata(Uuid::from_u128(2), &[(Some(1), 0)]), now).expect_err("another one");
    assert_eq!((error.class, error.code), (Class::Fatal, "source-recreated"));
}
