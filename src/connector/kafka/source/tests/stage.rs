//! A real cluster, as much of a producer as it takes to fill it, and a reader.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_brokers::{Cluster, Options};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, EndTxnRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ProduceRequest, TransactionalId,
};
use kafka_protocol::messages::{delete_records_response as delete_records, delete_topics_response as delete_topics};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::config::Tuning;
use crate::connector::kafka::client::{Client, topic_name};
use crate::connector::kafka::error::Code;
use crate::connector::kafka::records::{Encoder, Stamp};
use crate::connector::kafka::source::KafkaSource;
use crate::connector::kafka::wire::{Call, Fields, Flaw, Settings, structures};
use crate::connector::{Error, Source};
use crate::model::{Batch, BatchBuilder, HeaderRef, TopicPartition};
use crate::model::{Codec, Compression};

structures! {
    delete_records::DeleteRecordsResponse { throttle_time_ms, topics }
    delete_records::DeleteRecordsTopicResult { name, partitions }
    delete_records::DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
    delete_topics::DeleteTopicsResponse { throttle_time_ms, responses }
    delete_topics::DeletableTopicResult { name, topic_id, error_code, error_message }
}

macro_rules! only_in_tests {
    ($($request:ty: $version:expr;)*) => {$(
        impl Call for $request {
            type Answer = <Self as Request>::Response;
            const SPOKEN: RangeInclusive<i16> = $version..=$version;
            const ANSWER_BYTES_MAX: usize = 1 << 20;

            fn read_answer<F: Fields>(from: &mut F, version: i16) -> Result<Self::Answer, Flaw> {
                from.read(version)
            }
        }
    )*};
}
only_in_tests! {
    DeleteRecordsRequest: 2;
    DeleteTopicsRequest: 6;
}

/// How long a test waits for what must come. Only what is broken ever takes this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// One broker for all tests that do it no harm.
pub(super) static ONE_BROKER: LazyLock<Cluster> = LazyLock::new(|| {
    let settings = [("log.cleaner.backoff.ms", "100"), ("log.initial.task.delay.ms", "100")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Cluster::start(&Options { settings, ..Options::default() }).expect("a cluster")
});

pub(super) fn client(cluster: &Cluster) -> Arc<Client> {
    client_in(None, cluster)
}

/// A client that is in a rack.
pub(super) fn client_in(rack: Option<&str>, cluster: &Cluster) -> Arc<Client> {
    let settings = Settings {
        client_id: "test".into(),
        client_rack: rack.map(Arc::from),
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        tuning: Tuning::default(),
        proxy: None,
        tls: None,
        certificate: None,
        sasl: None,
        logins: Arc::default(),
        tokens: None,
    };
    Client::new(cluster.bootstrap().split(',').map(Arc::from).collect(), settings)
}

/// Try until it goes well.
pub(super) fn eventually<T, E: std::fmt::Debug>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) if begun.elapsed() > PATIENCE => panic!("{what}: {error:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn good(code: i16) -> Result<(), Code> {
    if code == 0 { Ok(()) } else { Err(Code(code)) }
}

/// Make a topic, and wait until all its partitions have a leader.
pub(super) fn create(client: &Client, name: &str, partitions: u32, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions as i32)
        .with_replication_factor(-1)
        // Tests write records of long ago.
        .with_configs(configs.iter().chain(&[("retention.ms", "-1")]).map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    eventually("a topic", || {
        let answer = client.call_any(&request).expect("answered");
        good(answer.topics[0].error_code)
    });
    eventually("leaders", || {
        let metadata = client.refresh()?;
        (0..partitions).try_for_each(|partition| metadata.leader(&TopicPartition::new(name, partition)).map(drop))
    });
}

pub(super) fn delete(client: &Client, name: &str) {
    let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer = client.call_any(&request).expect("answered");
    good(answer.responses[0].error_code).expect("deleted");
}

/// Drop the records before `offset`.
pub(super) fn delete_records(client: &Client, place: &TopicPartition, offset: i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(place.partition as i32).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(&place.topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let (leader, _) = client.metadata().expect("metadata").leader(place).expect("a leader");
    let answer = client.call_broker(leader, &request).expect("answered");
    good(answer.topics[0].partitions[0].error_code).expect("deleted");
}

/// A record as a test wants to compare it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::connector::kafka::source) struct Plain {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Plain {
    pub(in crate::connector::kafka::source) fn new(key: Option<&str>, value: Option<&str>) -> Self {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        Self { offset: 0, timestamp: 1_700_000_000_000, key: bytes(key), value: bytes(value), headers: Vec::new() }
    }
}

pub(super) fn plain(batch: &Batch) -> impl Iterator<Item = Plain> {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    batch.records().map(move |record| Plain {
        offset: record.offset(),
        timestamp: record.timestamp(),
        key: owned(record.key()),
        value: owned(record.value()),
        headers: record.headers().map(|header| (header.name.to_vec(), owned(header.value))).collect(),
    })
}

pub(in crate::connector::kafka::source) fn encoded(codec: Codec, stamp: Stamp, records: &[Plain]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() });
        builder.push(record.offset, record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    }
    let batch = builder.finish("any", 0);
    let mut encoder = Encoder::new(Compression::usual(codec));
    let mut all = encoder.encode(&batch, 0..records.len(), 1 << 24).expect("encoded");
    assert_eq!(all.records(), records.len());
    all.seal(stamp).to_vec().into()
}

/// Send one record batch, and answer its base offset.
pub(super) fn send(
    client: &Client,
    place: &TopicPartition,
    transactional_id: Option<&str>,
    records: Bytes,
) -> Result<i64, String> {
    let partition =
        PartitionProduceData::default().with_index(place.partition as i32).with_records(Some(records.clone()));
    let topic = TopicProduceData::default().with_name(topic_name(&place.topic)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
        .with_acks(-1)
        .with_timeout_ms(5_000)
        .with_topic_data(vec![topic]);
    let failed = |error: Error| error.to_string();
    let (leader, _) = client.refresh().and_then(|metadata| metadata.leader(place)).map_err(failed)?;
    let answer = client.call_broker_among(leader, 12..=12, &request).map_err(failed)?;
    let answer = &answer.responses[0].partition_responses[0];
    good(answer.error_code).map_err(|code| code.to_string())?;
    Ok(answer.base_offset)
}

/// Append records as one record batch, and answer them with the offsets they got.
pub(super) fn append(client: &Client, place: &TopicPartition, codec: Codec, records: &[Plain]) -> Vec<Plain> {
    let bytes = encoded(codec, Stamp::NONE, records);
    let base = eventually("records", || send(client, place, None, bytes.clone()));
    let offset = |(index, record): (usize, &Plain)| Plain { offset: base + index as i64, ..record.clone() };
    records.iter().enumerate().map(offset).collect()
}

/// A producer with transactions of version 2: the first produce adds the partition, and each end bumps the epoch.
pub(super) struct Producer<'c> {
    client: &'c Client,
    id: String,
    producer_id: i64,
    epoch: i16,
    sequences: BTreeMap<TopicPartition, i32>,
}

impl<'c> Producer<'c> {
    pub(super) fn new(client: &'c Client, id: &str) -> Self {
        // Has the coordinator make what it keeps transactions in.
        let find = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text(id)]);
        eventually("a coordinator", || good(client.call_any(&find).expect("answered").coordinators[0].error_code));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(id))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = eventually("a producer id", || {
            let answer = client.call_any(&request).expect("answered");
            good(answer.error_code).map(|()| answer)
        });
        let (producer_id, epoch) = (answer.producer_id.0, answer.producer_epoch);
        Self { client, id: id.to_owned(), producer_id, epoch, sequences: BTreeMap::new() }
    }

    pub(super) fn append(&mut self, place: &TopicPartition, codec: Codec, records: &[Plain]) -> Vec<Plain> {
        let sequence = self.sequences.entry(place.clone()).or_default();
        let stamp = Stamp {
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: *sequence,
            transactional: true,
        };
        *sequence += records.len() as i32;
        let bytes = encoded(codec, stamp, records);
        // Nothing is written when a transaction before it is still being ended.
        let base = eventually("records", || send(self.client, place, Some(&self.id), bytes.clone()));
        let offset = |(index, record): (usize, &Plain)| Plain { offset: base + index as i64, ..record.clone() };
        records.iter().enumerate().map(offset).collect()
    }

    pub(super) fn end(&mut self, commit: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&self.id)))
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let answer = eventually("an end", || {
            let answer = self.client.call_any(&request).expect("answered");
            good(answer.error_code).map(|()| answer)
        });
        (self.producer_id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
        self.sequences.clear();
    }
}

/// What a source gave of each partition.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) records: BTreeMap<TopicPartition, Vec<Plain>>,
    pub(super) next: BTreeMap<TopicPartition, i64>,
}

impl Seen {
    /// Take in what comes next, which follows what came before.
    pub(super) fn poll(&mut self, source: &mut KafkaSource, max_records: usize, wait: Duration) -> Option<Batch> {
        let batch = source.poll(max_records, usize::MAX, wait).expect("polled")?;
        assert!(batch.len() <= max_records);
        let place = TopicPartition::new(batch.topic.clone(), batch.partition);
        let next = self.next.entry(place.clone()).or_default();
        assert!(batch.next_offset > *next, "{place}: {} follows {next}", batch.next_offset);
        assert!(batch.offsets.iter().all(|offset| (*next..batch.next_offset).contains(offset)), "{place}: {batch:?}");
        *next = batch.next_offset;
        self.records.entry(place).or_default().extend(plain(&batch));
        Some(batch)
    }

    /// Read until all these partitions have been read to these offsets.
    pub(super) fn read_to(&mut self, source: &mut KafkaSource, max_records: usize, ends: &[(TopicPartition, i64)]) {
        let begun = Instant::now();
        while ends.iter().any(|(place, end)| self.next.get(place).is_none_or(|next| next < end)) {
            assert!(begun.elapsed() < PATIENCE, "{ends:?} were not reached: {:?}", self.next);
            self.poll(source, max_records, Duration::from_millis(100));
        }
    }
}

/// A source that reads these partitions from their first record on.
pub(super) fn source_of(client: &Arc<Client>, places: &[TopicPartition]) -> KafkaSource {
    let mut source = KafkaSource::new(client.clone());
    for place in places {
        source.seek(place, 0).expect("sought");
    }
    source
}

/// Poll until there is an error.
pub(super) fn failure(source: &mut KafkaSource) -> Error {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "no error came");
        if let Err(error) = source.poll(1000, usize::MAX, Duration::from_millis(100)) {
            return error;
        }
    }
}
