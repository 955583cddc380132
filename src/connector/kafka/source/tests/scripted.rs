//! A broker that does one thing for ever: whatever that is, the partitions that it is not done to are read, and the others are
//! named.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ApiVersionsResponse, FetchResponse, ListOffsetsResponse, MetadataResponse, OffsetForLeaderEpochResponse,
    ResponseHeader,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use super::stage::{PATIENCE, Plain, encoded, source_of};
use crate::config::Tuning;
use crate::connector::kafka::admin::Admin;
use crate::connector::kafka::client::{Client, Isolation, topic_name};
use crate::connector::kafka::log;
use crate::connector::kafka::records::{HEADER_BYTES, Stamp};
use crate::connector::kafka::wire::Settings;
use crate::connector::{Each, EpochEnd, Error, PartitionRange, Patience, STALLED_AFTER, Source, Target, TopicSettings};
use crate::model::{Codec, TopicPartition};

const FETCH: (i16, i16) = (1, 12);
const LIST_OFFSETS: (i16, i16) = (2, 7);
const END_OF_EPOCH: (i16, i16) = (23, 4);
const METADATA: (i16, i16) = (3, 8);
const API_VERSIONS: (i16, i16) = (18, 3);

/// A broker's part.
#[derive(Clone, Debug)]
struct Script {
    /// What it says to each fetch as a whole.
    whole: i16,
    /// What it says of partition 1.
    code: i16,
    /// What it has of partition 1.
    records: Bytes,
    /// What it says of the topic in metadata.
    topic: i16,
    /// Who leads partition 1.
    leader: i32,
    /// Brokers beside it: their numbers and ports.
    others: Vec<(i32, u16)>,
}

impl Default for Script {
    fn default() -> Self {
        Self { whole: 0, code: 0, records: Bytes::new(), topic: 0, leader: 1, others: Vec::new() }
    }
}

/// A broker with a topic `t` of two partitions. It leads partition 0, which has three records.
#[derive(Debug)]
struct Scripted {
    script: Script,
    port: u16,
    /// Whether it has given the records of partition 0.
    has_given: AtomicBool,
    /// Whether it takes requests and answers none.
    is_silent: AtomicBool,
    /// Whether it hangs up on everybody.
    is_gone: AtomicBool,
    /// What it is not asked in vain for, but of partition 1, and with which code it refuses.
    refused: Mutex<Option<(Question, i16)>>,
    /// Whether it says nothing of where partitions begin and end.
    hides_offsets: AtomicBool,
}

/// What a leader is asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    First,
    Last,
    EndOfEpoch,
}

impl Scripted {
    fn start(script: Script) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let me = Arc::new(Self {
            script,
            port,
            has_given: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            refused: Mutex::default(),
            hides_offsets: AtomicBool::new(false),
        });
        let it = me.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let it = it.clone();
                // It ends when the client hangs up.
                thread::spawn(move || it.serve(stream));
            }
        });
        me
    }

    fn client(&self) -> Arc<Client> {
        self.client_that_waits(Duration::from_secs(30))
    }

    fn client_that_waits(&self, request_timeout: Duration) -> Arc<Client> {
        let settings = Settings {
            client_id: "test".into(),
            client_rack: None,
            connect_timeout: Duration::from_secs(30),
            request_timeout,
            tuning: Tuning::default(),
            proxy: None,
            tls: None,
            certificate: None,
            sasl: None,
            logins: Arc::default(),
            tokens: None,
        };
        Client::new(vec![format!("127.0.0.1:{}", self.port).into()], settings)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length).ok()?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame).ok()?;
            let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
            if self.is_gone.load(Relaxed) {
                return None;
            }
            if self.is_silent.load(Relaxed) || key == LIST_OFFSETS.0 && self.hides_offsets.load(Relaxed) {
                continue;
            }
            let correlation = i32::from_be_bytes(frame[4..8].try_into().expect("four"));
            let answer = match key {
                18 => framed(correlation, version, &versions()),
                3 => framed(correlation, version, &self.metadata()),
                1 => framed(correlation, version, &self.fetch()),
                // The timestamp that asks for the earliest offset is -2, for the latest -1.
                2 if frame.windows(8).any(|part| part == (-2_i64).to_be_bytes()) => {
                    framed(correlation, version, &self.offsets(Question::First, 0))
                }
                2 => framed(correlation, version, &self.offsets(Question::Last, 3)),
                23 => framed(correlation, version, &self.end_of_epoch()),
                other => panic!("request {other} was not offered"),
            };
            stream.write_all(&answer).ok()?;
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let broker = |(node, port): (i32, u16)| {
            let host = StrBytes::from_static_str("127.0.0.1");
            MetadataResponseBroker::default().with_node_id(node.into()).with_host(host).with_port(port.into())
        };
        let partition = |index: i32, leader: i32| {
            MetadataResponsePartition::default().with_partition_index(index).with_leader_id(leader.into())
        };
        let topic = MetadataResponseTopic::default()
            .with_error_code(self.script.topic)
            .with_name(Some(topic_name("t")))
            .with_partitions(vec![partition(0, 1), partition(1, self.script.leader)]);
        let brokers = self.script.others.iter().copied().chain([(1, self.port)]).map(broker);
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_controller_id(1.into())
            .with_topics(vec![topic])
    }

    /// The code of partition 1.
    fn refusal(&self, question: Question) -> i16 {
        let refused = *self.refused.lock().expect("nobody panics with it");
        refused.filter(|(refused, _)| *refused == question).map_or(0, |(_, code)| code)
    }

    fn offsets(&self, question: Question, offset: i64) -> ListOffsetsResponse {
        let partition = |(index, code): (i32, i16)| {
            let partition = ListOffsetsPartitionResponse::default().with_partition_index(index);
            partition.with_error_code(code).with_offset(offset)
        };
        let partitions = [(0, 0), (1, self.refusal(question))].map(partition).to_vec();
        let topic = ListOffsetsTopicResponse::default().with_name(topic_name("t")).with_partitions(partitions);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    fn end_of_epoch(&self) -> OffsetForLeaderEpochResponse {
        let partition = |(index, code): (i32, i16)| {
            let partition = EpochEndOffset::default().with_partition(index).with_error_code(code);
            partition.with_leader_epoch(1).with_end_offset(3)
        };
        let partitions = [(0, 0), (1, self.refusal(Question::EndOfEpoch))].map(partition).to_vec();
        let topic = OffsetForLeaderTopicResult::default().with_topic(topic_name("t")).with_partitions(partitions);
        OffsetForLeaderEpochResponse::default().with_topics(vec![topic])
    }

    /// It has no sessions, so it is asked for everything each time. What it is not asked for is passed over.
    fn fetch(&self) -> FetchResponse {
        // A real one waits for records.
        thread::sleep(Duration::from_millis(2));
        let good = if self.script.whole != 0 || self.has_given.swap(true, Relaxed) { Bytes::new() } else { records() };
        let partition = |index: i32, code: i16, records: Bytes| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(code)
                .with_high_watermark(3)
                .with_records(Some(records))
        };
        let bad = partition(1, self.script.code, self.script.records.clone());
        let topic = FetchableTopicResponse::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition(0, 0, good), bad]);
        let topics = if self.script.whole == 0 { vec![topic] } else { Vec::new() };
        FetchResponse::default().with_error_code(self.script.whole).with_responses(topics)
    }
}

fn versions() -> ApiVersionsResponse {
    let api = |(key, max)| ApiVersion::default().with_api_key(key).with_min_version(0).with_max_version(max);
    ApiVersionsResponse::default()
        .with_api_keys([FETCH, LIST_OFFSETS, END_OF_EPOCH, METADATA, API_VERSIONS].map(api).to_vec())
}

fn framed<R: Encodable + HeaderVersion>(correlation: i32, version: i16, answer: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut body, R::header_version(version)).expect("a header");
    answer.encode(&mut body, version).expect("an answer");
    [&(body.len() as i32).to_be_bytes()[..], &body].concat()
}

fn records() -> Bytes {
    let numbered = |number: usize| Plain { offset: number as i64, ..Plain::new(None, Some(&number.to_string())) };
    encoded(Codec::None, Stamp::NONE, &[0, 1, 2].map(numbered))
}

/// What becomes of the topic's partitions.
#[derive(Debug, Default)]
struct Outcome {
    /// How many records of partition 0 came.
    records: usize,
    /// The partitions that are named, with the codes.
    stalled: Vec<(u32, &'static str)>,
    /// What the lane is told.
    failure: Option<Error>,
}

/// Read until `enough`, as people hear of it when patience is at its end.
fn read(broker: &Scripted, enough: impl Fn(&Outcome) -> bool) -> Outcome {
    let places = [0, 1].map(|partition| TopicPartition::new("t", partition));
    let mut source = source_of(&broker.client(), &places);
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    while !enough(&outcome) {
        assert!(begun.elapsed() < PATIENCE, "{broker:?}: {outcome:?}");
        match source.poll(100, usize::MAX, Duration::from_millis(2)) {
            Ok(Some(batch)) if batch.partition == 0 => outcome.records += batch.len(),
            Ok(_) => {}
            Err(error) => outcome.failure = Some(error),
        }
        let stalled = source.stalled(Instant::now() + STALLED_AFTER);
        outcome.stalled = stalled.iter().map(|stalled| (stalled.partition.partition, stalled.why.code)).collect();
    }
    outcome
}

fn codes() -> impl Iterator<Item = i16> {
    (-1..135).filter(|code| *code != 0)
}

#[test]
fn a_partition_that_always_fails_is_named_and_the_others_are_read() {
    for code in codes() {
        let broker = Scripted::start(Script { code, ..Script::default() });
        let outcome = read(&broker, |outcome| outcome.records == 3 && !outcome.stalled.is_empty());
        assert_eq!(outcome.stalled.iter().map(|(partition, _)| *partition).collect::<Vec<_>>(), [1], "{code}");
        assert!(outcome.failure.is_none(), "{code}: {outcome:?}");
    }
}

#[test]
fn a_broker_that_refuses_all_fetches_has_all_its_partitions_named() {
    for whole in codes() {
        let broker = Scripted::start(Script { whole, ..Script::default() });
        let outcome = read(&broker, |outcome| outcome.stalled.len() == 2);
        assert!(outcome.failure.is_none(), "{whole}: {outcome:?}");
    }
}

/// A record batch that is sound but for what is in it.
fn batch_of(codec: Codec, body: &[u8]) -> Vec<u8> {
    let mut bytes = records()[..HEADER_BYTES].to_vec();
    bytes.extend(body);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = codec as u8;
    let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A few kilobytes that become more than any record batch may be.
fn bomb() -> Vec<u8> {
    zstd::encode_all(io::repeat(0).take(257 << 20), 1).expect("compressed")
}

#[test]
fn what_is_no_whole_record_batch_is_named() {
    let good = records();
    let mut short = good.to_vec();
    short[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let mut negative = good.to_vec();
    negative[8..12].copy_from_slice(&[0xff; 4]);
    let old = |bytes: usize, magic: u8| {
        let mut message = vec![0; bytes];
        message[16] = magic;
        message
    };
    for (records, code) in [
        (short, "corrupt-batch"),
        (negative, "corrupt-batch"),
        (good[..30].to_vec(), "corrupt-batch"),
        (vec![0; 3], "corrupt-batch"),
        (old(34, 0), "old-format"),
        (old(34, 1), "old-format"),
        (old(200, 1), "old-format"),
        (old(200, 9), "corrupt-batch"),
        (batch_of(Codec::Zstd, &good[HEADER_BYTES..]), "corrupt-batch"),
        (batch_of(Codec::Zstd, &bomb()), "batch-too-large"),
    ] {
        let what = format!("{} bytes", records.len());
        let broker = Scripted::start(Script { records: records.into(), ..Script::default() });
        let outcome = read(&broker, |outcome| outcome.records == 3 && !outcome.stalled.is_empty());
        assert_eq!(outcome.stalled, [(1, code)], "{what}");
        assert!(outcome.failure.is_none(), "{what}: {outcome:?}");
    }
}

/// It takes the connection and says nothing: that it is connected to is not to hold up anybody.
#[test]
fn a_broker_that_does_not_answer_holds_up_no_other() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let broker = Scripted::start(Script { leader: 2, others: vec![(2, port)], ..Script::default() });
    let outcome = read(&broker, |outcome| outcome.records == 3);
    assert!(outcome.failure.is_none(), "{outcome:?}");
    assert_eq!(outcome.stalled, [], "it is waited for still");
}

#[test]
fn a_partition_without_a_broker_is_named_and_the_others_are_read() {
    for (leader, code) in [(-1, "no-leader"), (7, "broker-gone")] {
        let broker = Scripted::start(Script { leader, ..Script::default() });
        let outcome = read(&broker, |outcome| outcome.records == 3 && !outcome.stalled.is_empty());
        assert_eq!(outcome.stalled, [(1, code)]);
    }
}

#[test]
fn a_broker_that_is_not_there_any_more_is_named_and_the_others_are_read() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port").port();
    let broker = Scripted::start(Script { leader: 2, others: vec![(2, port)], ..Script::default() });
    let outcome = read(&broker, |outcome| outcome.records == 3 && !outcome.stalled.is_empty());
    assert_eq!(outcome.stalled, [(1, "cannot-connect")]);
}

fn places() -> [TopicPartition; 2] {
    [0, 1].map(|partition| TopicPartition::new("t", partition))
}

fn ranges(client: &Client) -> Each<PartitionRange> {
    client.ranges_of(&places(), Isolation::ReadCommitted, Patience::Short)
}

fn ends_of_epochs(client: &Client) -> Each<EpochEnd> {
    client.ends_of_epochs(&places().map(|place| (place, 1)), Patience::Short)
}

/// A lane that opens asks this.
#[test]
fn each_partition_has_an_answer_of_its_own_whatever_is_said_of_another() {
    let broker = Scripted::start(Script::default());
    let client = broker.client();
    let range = PartitionRange { log_start: 0, end: 3 };
    for question in [Question::First, Question::Last, Question::EndOfEpoch] {
        for code in codes() {
            *broker.refused.lock().expect("nobody panics with it") = Some((question, code));
            let (ranges, ends) = (ranges(&client), ends_of_epochs(&client));
            let what = format!("{question:?} {code}: {ranges:?} {ends:?}");
            assert!(matches!(ranges[0], Ok(said) if said == range), "{what}");
            assert!(matches!(ends[0], Ok(EpochEnd::At(3))), "{what}");
            let of_epoch = question == Question::EndOfEpoch;
            assert_eq!((ranges[1].is_err(), ends[1].is_err()), (!of_epoch, of_epoch), "{what}");
            let why = ranges[1].as_ref().err().or(ends[1].as_ref().err()).expect("an error");
            assert!(why.message.contains("t-1"), "{why:?}");
        }
    }
    *broker.refused.lock().expect("nobody panics with it") = None;
    assert!(ranges(&client).iter().all(Result::is_ok));
}

#[test]
fn a_leader_that_is_not_there_keeps_nobody_from_hearing_of_other_partitions() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port").port();
    for (leader, others, code) in [
        (-1, vec![], "no-leader"),
        (7, vec![], "broker-gone"),
        (2, vec![(2, dead)], "cannot-connect"),
        (2, vec![(2, port)], "broker-timeout"),
    ] {
        let broker = Scripted::start(Script { leader, others, ..Script::default() });
        let client = broker.client_that_waits(Duration::from_secs(3_600));
        let (ranges, ends) = (ranges(&client), ends_of_epochs(&client));
        assert!(ranges[0].is_ok() && ends[0].is_ok(), "{code}: {ranges:?} {ends:?}");
        let codes = [ranges[1].as_ref().err(), ends[1].as_ref().err()].map(|why| why.map(|why| why.code));
        assert_eq!(codes, [Some(code); 2]);
    }
    // It is waited for still, so nobody has asked it once more.
    silent.set_nonblocking(true).expect("set");
    assert_eq!(std::iter::from_fn(|| silent.accept().ok()).count(), 1);
}

/// A target too: what of it can be written to is no matter of the whole topic.
#[test]
fn a_topic_whose_partition_nobody_leads_is_there() {
    let broker = Scripted::start(Script { leader: -1, ..Script::default() });
    let admin = Admin::new(broker.client(), None);
    let target = Target { topic: "t".into(), partitions: 2, settings: TopicSettings::new(), replication_factor: None };
    let made = admin.ensure_all(&[target]).expect("answered");
    assert!(matches!(&made[..], [Ok(topic)] if topic.partitions == 2), "{made:?}");
}

/// A partition that is named twice, as where copies share one of the target, is asked for once:
/// brokers refuse the other.
#[test]
fn who_asks_twice_has_two_answers() {
    let broker = Scripted::start(Script::default());
    let [place, _] = places();
    let ranges = broker.client().ranges_of(&[place.clone(), place], Isolation::ReadCommitted, Patience::Short);
    assert!(ranges.len() == 2 && ranges.iter().all(Result::is_ok), "{ranges:?}");
}

/// What is there where nothing is at an offset is asked aside: a leader that does not say so holds
/// up no other partition.
#[test]
fn an_offset_that_is_not_there_holds_up_no_other_partition() {
    let out_of_range = 1;
    let broker = Scripted::start(Script { code: out_of_range, ..Script::default() });
    broker.hides_offsets.store(true, Relaxed);
    let mut source = source_of(&broker.client_that_waits(PATIENCE * 2), &places());
    let (begun, mut records) = (Instant::now(), 0);
    while records < 3 {
        assert!(begun.elapsed() < PATIENCE, "{records} records");
        let polled = source.poll(100, usize::MAX, Duration::from_millis(2)).expect("polled");
        records += polled.map_or(0, |batch| batch.len());
    }
    assert!(begun.elapsed() < PATIENCE, "the leader was waited for before that");
}

/// Both sides of a bound: a broker that goes on for ever with record batches that are empty, and a reader that may keep as much as there is, or a byte less.
#[test]
fn a_log_is_read_for_so_long_and_so_much_of_it_is_kept() {
    // A record batch whose records were all compacted away: its header says how many offsets it has.
    let mut empty = records()[..61].to_vec();
    empty[8..12].copy_from_slice(&49_i32.to_be_bytes());
    empty[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
    empty[57..61].fill(0);
    let sum = crc_fast::crc32_iscsi(&empty[21..]);
    empty[17..21].copy_from_slice(&sum.to_be_bytes());
    let partition = TopicPartition::new("t", 1);
    let read = |records: Bytes, end: i64, total: Duration, bytes: usize| {
        let broker = Scripted::start(Script { records, ..Script::default() });
        let budget = log::Budget { patience: Duration::from_secs(5), total, bytes };
        let (mut next, mut kept) = (0, 0);
        let read = log::read(&broker.client(), &partition, &mut next, end, budget, |record| {
            kept += record.value().map_or(0, <[u8]>::len);
            Ok(kept)
        });
        (read.err().map(|error| error.code), next)
    };
    let behind = i64::from(i32::MAX) + 1;
    assert_eq!(read(empty.clone().into(), behind, Duration::ZERO, 0), (None, behind));
    assert_eq!(read(empty.into(), 1 << 62, Duration::ZERO, 0), (Some("own-topic-too-long"), behind));
    assert_eq!(read(records(), 3, PATIENCE, 3), (None, 3));
    assert_eq!(read(records(), 3, PATIENCE, 2), (Some("own-topic-too-large"), 0));
}

/// What a client knows of a cluster is no worse than what its configuration says, and neither is the other way round.
#[test]
fn any_broker_that_answers_is_asked() {
    let other = Scripted::start(Script::default());
    for make_silent in [false, true] {
        let first = Scripted::start(Script { others: vec![(2, other.port)], ..Script::default() });
        let client = first.client();
        client.refresh().expect("metadata");
        (if make_silent { &first.is_silent } else { &first.is_gone }).store(true, Relaxed);
        client.probe().expect("the other one is there");
        client.refresh_in_a_moment().expect("the other one is there");
        // What the other one says of itself has nothing of the first.
        first.is_silent.store(false, Relaxed);
        first.is_gone.store(false, Relaxed);
        other.is_gone.store(true, Relaxed);
        client.probe().expect("the first is there");
        other.is_gone.store(false, Relaxed);
    }
}
