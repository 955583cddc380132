//! A Kafka cluster as the links see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::admin::Admin;
use super::client::{Client, Isolation, LATEST, lock};
use super::error;
use super::group::{self, Member};
use super::groups;
use super::layout::{self, LaneRecord};
use super::mirrormaker;
use super::offsets::Index;
use super::records::Encoder;
use super::settings::COPIED;
use super::sink::{KafkaSink, copy};
use super::source::{self, KafkaSource};
use super::table::{Table, Upto};
use super::wire::Settings;
use crate::config::{KafkaConfig, MirrorMaker};

use crate::connector::{
    Acl, Cluster, Colleague, Copied, CopiedPartition, Copying, Each, EpochEnd, Error, Group, GroupOffsets, LaneGroup,
    LaneSettings, Membership, PartitionRange, Patience, RevisionStart, SettingChanges, Sink, Source, Target, Topic,
    TopicSettings, check_name,
};
use crate::model::{Batch, Checkpoint, Compression, Digest, LinkId, TopicId, TopicPartition};

/// How often is looked whether transactions have ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A Kafka cluster.
#[derive(Clone, Debug)]
pub struct KafkaCluster {
    client: Arc<Client>,
    admin: Arc<Admin>,
    compression: Compression,
    max_retries: u32,
    /// Which transactions its readers see, and what its records are to them.
    isolation: Isolation,
    /// What the lanes of links have written of themselves.
    lanes: Arc<Mutex<BTreeMap<LinkId, (u32, Table)>>>,
    /// Where the records of links are.
    offsets: Arc<Mutex<BTreeMap<LinkId, Arc<Mutex<Index>>>>>,
}

impl KafkaCluster {
    /// The cluster that `config` describes. Nothing is asked of it yet: it may come up later than we do.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn open(config: &KafkaConfig) -> Result<Self, Error> {
        let compression = config.compression;
        let settings = Settings::new(config)?;
        let client = Client::new(config.brokers.clone(), settings);
        let admin = Arc::new(Admin::new(client.clone(), config.replication_factor));
        let max_retries = config.max_retries;
        let isolation = Isolation::ReadCommitted;
        Ok(Self { client, admin, compression, max_retries, isolation, lanes: Arc::default(), offsets: Arc::default() })
    }

    /// Make a topic that is not there yet. Milliseconds and bytes are what its records are kept for.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub fn declare(
        &self,
        name: &Arc<str>,
        partitions: u32,
        retention_ms: Option<u64>,
        retention_bytes: Option<u64>,
    ) -> Result<(), Error> {
        check_name(name)?;
        let settings = [("retention.ms", retention_ms), ("retention.bytes", retention_bytes)];
        let settings = settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_string())));
        self.admin.ensure(name, partitions, &settings.collect()).map(drop)
    }

    fn partitions_of(&self, topic: &str) -> Result<Vec<TopicPartition>, Error> {
        let name: Arc<str> = topic.into();
        let (_, partitions) = self.admin.find(&name)?.ok_or_else(|| error::unknown_topic(topic))?;
        Ok((0..partitions).map(|partition| TopicPartition::new(name.clone(), partition)).collect())
    }

    /// Every record that the lanes of a link have written of themselves and that still counts.
    fn lane_records(&self, link: &LinkId, generation: u32, mut each: impl FnMut(LaneRecord)) -> Result<(), Error> {
        let topic: Arc<str> = layout::checkpoint_topic(link, generation).into();
        let mut tables = lock(&self.lanes);
        let (of, table) = tables.entry(link.clone()).or_insert_with(|| (generation, Table::new(&topic, "")));
        if *of != generation {
            (*of, *table) = (generation, Table::new(&topic, ""));
        }
        // A lane may be at work: what it has not committed is not waited for.
        table.follow(&self.client, &self.admin, Upto::Committed)?;
        for (key, value) in table.rows() {
            let read = LaneRecord::read(Some(key.as_bytes()), Some(value));
            if let Some(read) = read.map_err(|what| layout::unreadable(&topic, &what))? {
                each(read);
            }
        }
        Ok(())
    }
}

/// The identity of a topic: the two halves of its id, folded.
pub(super) fn topic_id(id: Uuid) -> TopicId {
    let (high, low) = id.as_u64_pair();
    TopicId(high ^ low)
}

impl Cluster for KafkaCluster {
    fn max_retries(&self) -> u32 {
        self.max_retries
    }

    fn probe(&self) -> Result<(), Error> {
        self.client.probe()
    }

    fn topics(&self) -> Result<Vec<Topic>, Error> {
        let metadata = self.client.recent()?;
        let topics = metadata.topics.iter().filter(|(name, _)| !name.starts_with(layout::PREFIX));
        Ok(topics
            .map(|(name, topic)| Topic {
                name: name.clone(),
                id: topic_id(topic.id),
                partitions: topic.leaders.len() as u32,
            })
            .collect())
    }

    fn internal_topics(&self) -> Result<Vec<Arc<str>>, Error> {
        let metadata = self.client.recent()?;
        let own = metadata.topics.keys().filter(|name| name.starts_with(layout::PREFIX));
        Ok(own.chain(&metadata.internal).cloned().collect())
    }

    fn look(&self, age: Duration) -> Result<(), Error> {
        self.client.metadata_not_older_than(age).map(drop)
    }

    fn ranges(&self, topic: &str) -> Result<Vec<PartitionRange>, Error> {
        self.ranges_of(&self.partitions_of(topic)?, Patience::Long).into_iter().collect()
    }

    /// What a reader can see: nothing behind the first open transaction.
    fn ranges_of(&self, partitions: &[TopicPartition], patience: Patience) -> Each<PartitionRange> {
        self.client.ranges_of(partitions, self.isolation, patience)
    }

    fn log_ends(&self, partitions: &[TopicPartition], patience: Patience) -> Each<i64> {
        self.client.offsets_of(partitions, LATEST, Isolation::ReadUncommitted, patience)
    }

    fn range(&self, partition: &TopicPartition) -> Result<PartitionRange, Error> {
        self.client.range(partition, self.isolation)
    }

    fn ends_of_epochs(&self, epochs: &[(TopicPartition, i32)], patience: Patience) -> Each<EpochEnd> {
        self.client.ends_of_epochs(epochs, patience)
    }

    fn timestamp_at(&self, partition: &TopicPartition, offset: i64) -> Result<Option<i64>, Error> {
        source::timestamp_at(&self.client, partition, offset, self.isolation)
    }

    fn topology_version(&self) -> u64 {
        self.client.topology()
    }

    fn create_topic(&self, name: &str, partitions: u32) -> Result<Topic, Error> {
        check_name(name)?;
        self.admin.ensure(&name.into(), partitions, &BTreeMap::new())
    }

    fn make_topics(&self, targets: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error> {
        targets.iter().try_for_each(|target| check_name(&target.topic))?;
        self.admin.ensure_all(targets)
    }

    fn produce(&self, partition: &TopicPartition, batch: &Batch) -> Result<i64, Error> {
        check_name(&partition.topic)?;
        let mut encoder = Encoder::new(self.compression);
        let (mut next, mut first) = (0, None);
        while next < batch.len() {
            let limit = self.admin.limit(&partition.topic)?;
            let encoded = limit.encode(&mut encoder, batch, next..batch.len()).map_err(error::not_encoded)?;
            let records = encoded.records();
            match self.client.produce(partition, encoded) {
                Ok(offset) => drop(first.get_or_insert(offset)),
                // The limit is a lower one now.
                Err(error) if error.code == error::BATCH_REFUSED => continue,
                Err(error) => return Err(error),
            }
            next += records;
        }
        match first {
            Some(offset) => Ok(offset),
            None => Ok(self.range(partition)?.end),
        }
    }

    fn topic_settings(&self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error> {
        self.admin.settings(topics)
    }

    fn settings_known(&self) -> &'static [&'static str] {
        &COPIED
    }

    fn change_settings(
        &self,
        changes: &BTreeMap<Arc<str>, SettingChanges>,
    ) -> Result<BTreeMap<Arc<str>, Error>, Error> {
        self.admin.change_settings(changes)
    }

    fn topic_acls(&self) -> Result<Option<BTreeSet<Acl>>, Error> {
        self.admin.topic_acls()
    }

    fn add_acls(&self, acls: &[Acl]) -> Result<(), Error> {
        self.admin.add_acls(acls)
    }

    fn record_bytes_max(&self, topic: &str) -> Result<usize, Error> {
        Ok(self.admin.limit(topic)?.bytes_max())
    }

    fn is_atomic(&self, enable_exactly_once: bool) -> bool {
        enable_exactly_once
    }

    fn checkpoints(&self, link: &LinkId, generation: u32) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error> {
        let mut checkpoints = BTreeMap::new();
        self.lane_records(link, generation, |record| {
            if let LaneRecord::Checkpoint(partition, checkpoint) = record {
                checkpoints.insert(partition, checkpoint);
            }
        })?;
        Ok(checkpoints)
    }

    /// Checkpoints are written before their transaction ends, so they are below the present ends; and all below is decided when it can
    /// be read.
    fn await_checkpoints(&self, link: &LinkId, generation: u32, patience: Duration) -> Result<bool, Error> {
        let topic: Arc<str> = layout::checkpoint_topic(link, generation).into();
        let Some((_, partitions)) = self.admin.find(&topic)? else { return Ok(true) };
        let partitions: Vec<_> = (0..partitions).map(|number| TopicPartition::new(topic.clone(), number)).collect();
        let ends = self.client.offsets(&partitions, LATEST, Isolation::ReadUncommitted)?;
        let deadline = Instant::now() + patience;
        loop {
            let seen = self.client.offsets(&partitions, LATEST, Isolation::ReadCommitted)?;
            if ends.iter().all(|(partition, end)| seen.get(partition) >= Some(end)) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn revision_starts(&self, link: &LinkId, generation: u32) -> Result<Vec<RevisionStart>, Error> {
        let mut starts = BTreeMap::new();
        self.lane_records(link, generation, |record| {
            if let LaneRecord::Start(start) = record {
                starts.insert(layout::start_key(&start), start);
            }
        })?;
        Ok(starts.into_values().collect())
    }

    fn copy_lanes(&self, copying: &Copying, copied: &mut dyn FnMut(u32) -> Result<(), Error>) -> Result<(), Error> {
        copy::copy_lanes(&self.client, &self.admin, copying, copied)
    }

    fn metadata(&self, link: &LinkId, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.admin.metadata(link, key)
    }

    fn metadata_of_all(&self, key: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        self.admin.meta().of_all(&self.admin, key)
    }

    fn put_metadata(&self, link: &LinkId, key: &str, value: &[u8]) -> Result<(), Error> {
        self.admin.put_metadata(link, key, value)
    }

    fn replace_metadata(&self, link: &LinkId, key: &str, known: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        self.admin.replace_metadata(link, key, known, value)
    }

    fn mirrormaker_offsets(&self, from: &MirrorMaker) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        mirrormaker::offsets(&self.client, &self.admin, from)
    }

    fn metadata_version(&self) -> Result<u64, Error> {
        self.admin.meta().version(&self.admin)
    }

    fn membership(&self, of: &LaneGroup) -> Option<Box<dyn Membership>> {
        Some(Box::new(Member::new(self.client.clone(), of)))
    }

    fn daemons(&self, link: &LinkId) -> Result<BTreeMap<Arc<str>, Colleague>, Error> {
        group::daemons(&self.client, link)
    }

    fn has_groups(&self) -> bool {
        true
    }

    fn groups(&self) -> Result<Option<Vec<Group>>, Error> {
        groups::all(&self.client).map(Some)
    }

    fn group_offsets(&self, groups: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<GroupOffsets, Error>>, Error> {
        groups::offsets(&self.client, groups)
    }

    fn move_group(&self, group: &str, offsets: &GroupOffsets) -> Result<bool, Error> {
        groups::move_to(&self.client, group, offsets)
    }

    fn copied(
        &self,
        link: &LinkId,
        targets: &[TopicPartition],
        wanted: &BTreeMap<TopicPartition, BTreeSet<i64>>,
    ) -> Result<Copied, Error> {
        let new = || Arc::new(Mutex::new(Index::new(layout::offsets_topic(link).name())));
        let index = lock(&self.offsets).entry(link.clone()).or_insert_with(new).clone();
        let mut index = lock(&index);
        index.follow(&self.client, &self.admin)?;
        let mut targets: BTreeSet<TopicPartition> = targets.iter().cloned().collect();
        targets.extend(index.partitions().flat_map(|(_, known)| known.targets()).cloned());
        let metadata = self.client.recent()?;
        let is_there = |target: &TopicPartition| {
            metadata.topics.get(&target.topic).is_some_and(|topic| topic.leaders.len() > target.partition as usize)
        };
        let targets: Vec<TopicPartition> = targets.into_iter().filter(is_there).collect();
        // The ends come first: what is below them has been written by now, so it is in what is read next.
        let ranges = self.client.ranges(&targets, Isolation::ReadCommitted)?;
        index.follow(&self.client, &self.admin)?;
        let mut copied = Copied { ranges, ..Copied::default() };
        let mut inside = BTreeMap::new();
        for (partition, known) in index.partitions() {
            if let Some(wanted) = wanted.get(partition) {
                inside.insert(partition.clone(), wanted.range(known.range()).copied().collect::<Vec<_>>());
            }
            let first = known.targets().map(|target| (target.clone(), BTreeMap::new()));
            let last = known.lasts().map(|(target, end)| (target.clone(), end)).collect();
            let of = CopiedPartition { epoch: known.epoch(), known: known.range(), first: first.collect(), last };
            copied.partitions.insert(partition.clone(), of);
        }
        for (partition, first) in index.locate(&self.client, &inside)? {
            copied.partitions.entry(partition).or_default().first.extend(first);
        }
        Ok(copied)
    }

    fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        self.admin.meta().component(&self.admin, digest)
    }

    fn put_artifact(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.admin.meta().put_component(&self.admin, digest, bytes)
    }

    fn uncommitted(&self) -> Option<Arc<dyn Cluster>> {
        Some(Arc::new(Self { isolation: Isolation::ReadUncommitted, ..self.clone() }))
    }

    fn source(&self) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(KafkaSource::new(self.client.clone()).reading(self.isolation)))
    }

    fn sink(&self, lane: &LaneSettings) -> Result<Box<dyn Sink>, Error> {
        let compression = lane.compression.unwrap_or(self.compression);
        Ok(Box::new(KafkaSink::new(self.client.clone(), self.admin.clone(), lane.clone(), compression)))
    }
}
