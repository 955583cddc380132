//! Links that open although a partition of their source cannot be read: the others are copied, it
//! is named, and nothing of it is copied twice when it is back.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, FetchRequest, FetchResponse, ListOffsetsResponse, MetadataResponse,
    OffsetForLeaderEpochResponse,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use tidegate::api::wire::{Event, HealthStatus, LanePartition, LinkHealth, LinkStatus};

use crate::harness::{Daemon, LINKS, Site, wait_until};
use crate::lying::{broker, encoded, orders};

/// What is wrong with partition 1, for as long as it is.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its leader answers the request for its first offset with this code.
    First(i16),
    /// The same for its last offset.
    Last(i16),
    /// The same for the end of an epoch.
    Epoch(i16),
    /// No broker leads it.
    NoLeader,
    /// The broker that leads it is not part of the cluster.
    LeaderGone,
    /// The broker that leads it cannot be connected to.
    LeaderDead,
    /// The broker that leads it takes connections and says nothing.
    LeaderSilent,
}

/// Codes of each kind: what goes away by itself, what only a person can put right, and what nobody
/// knows.
const CODES: [i16; 10] = [-1, 3, 5, 6, 9, 29, 56, 74, 87, 134];

fn faults() -> Vec<Fault> {
    let refused = CODES.into_iter().flat_map(|code| [Fault::First(code), Fault::Last(code), Fault::Epoch(code)]);
    refused.chain([Fault::NoLeader, Fault::LeaderGone, Fault::LeaderDead, Fault::LeaderSilent]).collect()
}

/// A broker with the topic `orders` of two partitions.
#[derive(Debug)]
struct Source {
    fault: Fault,
    is_broken: AtomicBool,
    /// Whether there is no partition 1 yet.
    is_narrow: AtomicBool,
    /// Where both partitions end.
    end: AtomicI64,
    /// The broker that leads partition 1 if that says nothing, or is dead.
    other: u16,
}

/// What brokers are called.
const SELF: i32 = 0;
const OTHER: i32 = 7;

impl Source {
    /// It answers until the process ends. Its port.
    fn start(fault: Fault) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let other = listener.local_addr().expect("an address").port();
        if matches!(fault, Fault::LeaderSilent) {
            // It takes connections for as long as the process lives.
            std::mem::forget(listener);
        }
        let (is_broken, is_narrow) = (AtomicBool::new(false), AtomicBool::new(false));
        let me = Arc::new(Self { fault, is_broken, is_narrow, end: AtomicI64::new(2), other });
        let it = me.clone();
        (me, broker(move |port, key, version, request| it.answer(port, key, version, request)))
    }

    fn fault(&self) -> Option<Fault> {
        self.is_broken.load(Relaxed).then_some(self.fault)
    }

    fn answer(&self, port: u16, key: ApiKey, version: i16, request: &[u8]) -> Option<Vec<u8>> {
        let end = self.end.load(Relaxed);
        match key {
            ApiKey::Metadata => self.metadata(port, version),
            ApiKey::ListOffsets => {
                // The timestamp that asks for the earliest offset is -2, for the latest -1.
                let asks_earliest = request.windows(8).any(|part| part == (-2_i64).to_be_bytes());
                let code = match self.fault() {
                    Some(Fault::First(code)) if asks_earliest => code,
                    Some(Fault::Last(code)) if !asks_earliest => code,
                    _ => 0,
                };
                let offset = if asks_earliest { 0 } else { end };
                let partition = |(index, code): (i32, i16)| {
                    let partition = ListOffsetsPartitionResponse::default().with_partition_index(index);
                    partition.with_error_code(code).with_offset(offset).with_leader_epoch(1)
                };
                let partitions = [(0, 0), (1, code)].map(partition).to_vec();
                let topic = ListOffsetsTopicResponse::default().with_name(orders()).with_partitions(partitions);
                encoded(&ListOffsetsResponse::default().with_topics(vec![topic]), version)
            }
            ApiKey::OffsetForLeaderEpoch => {
                let code = if let Some(Fault::Epoch(code)) = self.fault() { code } else { 0 };
                let partition = |(index, code): (i32, i16)| {
                    let partition = EpochEndOffset::default().with_partition(index).with_error_code(code);
                    partition.with_leader_epoch(1).with_end_offset(end)
                };
                let partitions = [(0, 0), (1, code)].map(partition).to_vec();
                let topic = OffsetForLeaderTopicResult::default().with_topic(orders()).with_partitions(partitions);
                encoded(&OffsetForLeaderEpochResponse::default().with_topics(vec![topic]), version)
            }
            ApiKey::Fetch => fetch(end, version, request),
            ApiKey::DescribeConfigs => encoded(&DescribeConfigsResponse::default(), version),
            _ => None,
        }
    }

    fn metadata(&self, port: u16, version: i16) -> Option<Vec<u8>> {
        let broker = |(node, port): (i32, u16)| {
            let host = StrBytes::from_static_str("127.0.0.1");
            MetadataResponseBroker::default().with_node_id(node.into()).with_host(host).with_port(port.into())
        };
        let (leader, has_other) = match self.fault() {
            Some(Fault::NoLeader) => (-1, false),
            Some(Fault::LeaderGone) => (OTHER, false),
            Some(Fault::LeaderDead | Fault::LeaderSilent) => (OTHER, true),
            _ => (SELF, false),
        };
        let partition = |(index, leader): (i32, i32)| {
            let partition = MetadataResponsePartition::default().with_partition_index(index);
            partition.with_leader_id(leader.into()).with_leader_epoch(1)
        };
        let partitions = [(0, SELF), (1, leader)].into_iter().take(if self.is_narrow.load(Relaxed) { 1 } else { 2 });
        let partitions = partitions.map(partition).collect();
        let topic = MetadataResponseTopic::default().with_name(Some(orders())).with_partitions(partitions);
        let brokers = [(SELF, port), (OTHER, self.other)].into_iter().take(1 + usize::from(has_other)).map(broker);
        let answer = MetadataResponse::default().with_brokers(brokers.collect()).with_topics(vec![topic]);
        encoded(&answer.with_controller_id(SELF.into()), version)
    }
}

/// Each partition from where it is asked for to its end.
#[allow(clippy::disallowed_methods, reason = "these are requests, and our own")]
fn fetch(end: i64, version: i16, request: &[u8]) -> Option<Vec<u8>> {
    let mut request = Bytes::copy_from_slice(request);
    // The rest of the header: the name of the client, and tags.
    let name = request.get_i16().max(0);
    request.advance(name as usize + usize::from(FetchRequest::header_version(version) > 1));
    let request = FetchRequest::decode(&mut request, version).expect("a fetch");
    let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
    let partitions: Vec<(i32, i64)> = asked.map(|it| (it.partition, it.fetch_offset)).collect();
    if partitions.iter().all(|(_, offset)| *offset >= end) {
        // A real one waits for records.
        thread::sleep(Duration::from_millis(200));
    }
    let partition = |(index, offset): (i32, i64)| {
        let partition = PartitionData::default().with_partition_index(index).with_high_watermark(end);
        partition.with_last_stable_offset(end).with_records(Some(records(index, offset..end)))
    };
    let partitions = partitions.into_iter().map(partition).collect();
    let topic = FetchableTopicResponse::default().with_topic(orders()).with_partitions(partitions);
    encoded(&FetchResponse::default().with_responses(vec![topic]), version)
}

/// A record batch. Each record says where it is.
fn records(partition: i32, offsets: std::ops::Range<i64>) -> Bytes {
    let record = |offset: i64| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1,
        timestamp: 1_700_000_000_000 + offset,
        key: None,
        value: Some(value(partition, offset).into()),
        headers: IndexMap::new(),
    };
    let records: Vec<Record> = offsets.map(record).collect();
    let mut bytes = BytesMut::new();
    if !records.is_empty() {
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("a record batch");
    }
    bytes.freeze()
}

fn value(partition: i32, offset: i64) -> String {
    format!("{partition}-{offset}")
}

/// A daemon with a link for each fault, and the sources that have it.
struct Scene {
    site: Site,
    sources: Vec<(String, Arc<Source>)>,
}

impl Scene {
    fn new(faults: Vec<Fault>) -> Self {
        let mut text = "[clusters.west]\nkind = \"embedded\"\n".to_owned();
        let mut sources = Vec::new();
        for (number, fault) in faults.into_iter().enumerate() {
            let (source, port) = Source::start(fault);
            let id = format!("f{number}");
            text += &format!(
                "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:{port}\"]\n\
                 [links.{id}]\nsource = \"{id}\"\ntarget = \"west\"\ntopics = [\"orders\"]\ntopic_prefix = \"{id}.\"\nlanes = 1\n\
                 [links.{id}.health]\nlag_ms_max = 3153600000000\n"
            );
            sources.push((id, source));
        }
        Self { site: Site::new(&text), sources }
    }

    /// Break partition 1 of all sources, or mend it. Either way there are more records then, in
    /// both partitions.
    fn change(&self, is_broken: bool, end: i64) {
        for (_, source) in &self.sources {
            source.is_broken.store(is_broken, Relaxed);
            source.end.store(end, Relaxed);
        }
    }

    /// Wait until so many records of a partition are copied, of each source.
    fn await_copies(&self, what: &str, partition: u32, records: i64) {
        for (id, source) in &self.sources {
            let ends = || self.site.client.ends("west", &format!("{id}.orders"));
            let fault = source.fault;
            wait_until(&format!("{what}: partition {partition} is copied with {fault:?}"), || {
                ends().get(partition as usize) == Some(&records)
            });
        }
    }

    /// The copy has each record once, in order.
    fn check_copies(&self, partition: u32, records: i64) {
        for (id, source) in &self.sources {
            let copy = self.site.client.records("west", &format!("{id}.orders"), partition);
            let values: Vec<_> = copy.into_iter().map(|record| record.value.expect("a value")).collect();
            let expected: Vec<_> = (0..records).map(|offset| value(partition as i32, offset).into_bytes()).collect();
            assert_eq!(values, expected, "{:?}", source.fault);
        }
    }

    fn partition(&self, id: &str, number: u32) -> Option<LanePartition> {
        let mut all = self.site.client.link(id).lanes.into_iter().flat_map(|lane| lane.partitions);
        all.find(|partition| partition.partition == number)
    }

    /// Partition 1 of each source is named, and nothing else.
    fn await_names(&self) {
        for (id, source) in &self.sources {
            let fault = source.fault;
            let error = || self.partition(id, 1).and_then(|partition| partition.error);
            wait_until(&format!("partition 1 is named with {fault:?}"), || error().is_some());
            let link = self.site.client.link(id);
            assert_eq!((link.status, &link.error), (LinkStatus::Degraded, &error()), "{fault:?}");
            assert!(self.partition(id, 0).is_some_and(|partition| partition.error.is_none()), "{fault:?}");
            let health: LinkHealth = self.site.client.read(&format!("{LINKS}/{id}/health"));
            assert_eq!(health.status, HealthStatus::Unhealthy, "{fault:?}: {health:?}");
            assert!(health.issues.iter().any(|issue| issue.contains("orders-1 stands still")), "{fault:?}: {health:?}");
            let events: Vec<Event> = self.site.client.read(&format!("{LINKS}/{id}/events"));
            assert!(events.iter().any(|event| event.kind == "partition-stalled"), "{fault:?}: {events:?}");
            assert!(events.iter().all(|event| event.kind != "lane-failed"), "{fault:?}: {events:?}");
        }
    }

    fn await_active(&self) {
        for (id, source) in &self.sources {
            let link = || self.site.client.link(id);
            wait_until(&format!("all is well with {:?}", source.fault), || {
                link().status == LinkStatus::Active && link().error.is_none()
            });
        }
    }

    fn start(&self) -> Daemon {
        self.site.start()
    }
}

#[test]
fn a_lane_opens_whatever_is_said_of_one_of_its_partitions() {
    let scene = Scene::new(faults());
    // Checkpoints with the epochs of leaders: a lane that opens has something to compare.
    let daemon = scene.start();
    [0, 1].into_iter().for_each(|partition| scene.await_copies("at first", partition, 2));
    daemon.terminate();

    scene.change(true, 4);
    let daemon = scene.start();
    scene.await_copies("a lane opens", 0, 4);
    scene.await_names();
    scene.check_copies(1, 2);
    scene.change(true, 5);
    scene.await_copies("it goes on", 0, 5);

    scene.change(false, 6);
    [0, 1].into_iter().for_each(|partition| scene.await_copies("all can be read", partition, 6));
    scene.await_active();
    [0, 1].into_iter().for_each(|partition| scene.check_copies(partition, 6));
    daemon.terminate();
}

/// Of a partition that was never read nothing is known, and it is shown all the same.
#[test]
fn a_link_begins_although_a_partition_was_never_read() {
    let never = faults().into_iter().filter(|fault| !matches!(fault, Fault::Epoch(_)));
    let scene = Scene::new(never.collect());
    scene.change(true, 2);
    let daemon = scene.start();
    scene.await_copies("a link begins", 0, 2);
    scene.await_names();
    for (id, source) in &scene.sources {
        let offset = scene.partition(id, 1).map(|partition| (partition.target_offset, partition.lag));
        assert_eq!(offset, Some((None, None)), "nobody has said where it begins: {:?}", source.fault);
    }
    scene.change(false, 3);
    [0, 1].into_iter().for_each(|partition| scene.await_copies("all can be read", partition, 3));
    scene.await_active();
    [0, 1].into_iter().for_each(|partition| scene.check_copies(partition, 3));
    daemon.terminate();
}

/// A lane that runs takes in what comes, and goes on meanwhile.
#[test]
fn a_partition_that_is_added_and_cannot_be_read_keeps_nothing_else() {
    let scene = Scene::new(vec![Fault::NoLeader, Fault::LeaderSilent, Fault::First(6), Fault::Last(29)]);
    scene.sources.iter().for_each(|(_, source)| source.is_narrow.store(true, Relaxed));
    let daemon = scene.start();
    scene.await_copies("at first", 0, 2);
    scene.change(true, 3);
    scene.sources.iter().for_each(|(_, source)| source.is_narrow.store(false, Relaxed));
    scene.await_copies("it goes on", 0, 3);
    scene.await_names();
    scene.change(true, 4);
    scene.await_copies("it goes on and on", 0, 4);
    scene.change(false, 5);
    [0, 1].into_iter().for_each(|partition| scene.await_copies("all can be read", partition, 5));
    scene.await_active();
    [0, 1].into_iter().for_each(|partition| scene.check_copies(partition, 5));
    daemon.terminate();
}

/// What waits is compared like what does not: the log was cut while nobody could read it.
#[test]
fn a_partition_that_waited_is_read_no_further_if_it_has_lost_something() {
    let scene = Scene::new(vec![Fault::NoLeader, Fault::First(6)]);
    let daemon = scene.start();
    scene.await_copies("at first", 1, 2);
    daemon.terminate();
    scene.change(true, 2);
    let daemon = scene.start();
    scene.await_names();
    scene.change(false, 1);
    for (id, source) in &scene.sources {
        wait_until(&format!("the loss is named with {:?}", source.fault), || {
            scene.site.client.link(id).error.is_some_and(|error| error.code == "source-truncated")
        });
    }
    daemon.terminate();
}
