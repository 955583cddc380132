//! The edges of the world: where a lane reads and where it writes.
//!
//! A [`Cluster`] is something that holds topics. A lane opens a [`Source`] on one and a [`Sink`] on another. Data flows
//! one way only: nothing is ever acknowledged back to a source, and what a lane has done is known from the checkpoints
//! in the sink alone.
//!
//! Invariants
//! - A sink commits the records, the state of stages, the checkpoints and the first offsets of a revision together or not at all.
//! - [`Sink::open`] fences every earlier opener of the same lane: after it returns, none of them can commit. Whether the lane may be opened at all is asked in
//!   between.
//! - Nothing retries inside: an [`Error`] says by its [`Class`] what the lane may do.

mod acl;
mod each;
pub mod embedded;
mod groups;
pub mod kafka;
mod pieces;
mod settings;
mod stalled;
mod standbys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::acl::{Acl, AclTopics, Operation};
pub use self::each::{Each, EpochEnd, Patience};
pub use self::groups::{Copied, CopiedPartition, Group, GroupOffset, GroupOffsets};
use self::kafka::records::{Passing, RecordBatch};
pub use self::settings::{SettingChanges, TopicSettings, differing, is_compacted, is_retention_in_force};
pub use self::stalled::{HANGING_TRANSACTION, OpenTransaction, STALLED_AFTER, Stalled, Trouble, Waits, poll_or_fail};
pub use self::standbys::Standbys;
use crate::config::{MirrorMaker, heartbeat_topic, is_heartbeat, is_internal};
use crate::model::{
    Batch, Checkpoint, ClusterId, Compression, Digest, LinkId, NotEncodable, RevisionNumber, StateChange, StoredStates,
    TopicId, TopicPartition,
};

/// What a lane may do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Drop everything in memory, wait a little, open the lane again.
    Reopen,
    /// Somebody else opened the lane: as `Reopen`, but wait longer.
    Fenced,
    /// Stop the lane. A person has to do something.
    Fatal,
}

/// What went wrong at a cluster.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the lane may do.
    pub class: Class,
    /// A stable word for the state, for example `corrupt-batch`.
    pub code: &'static str,
    /// What happened and where, for a person.
    pub message: String,
    /// What the operator can do about it.
    pub remedy: &'static str,
}

impl From<NotEncodable> for Error {
    fn from(error: NotEncodable) -> Self {
        let (code, remedy) = (NotEncodable::CODE, NotEncodable::REMEDY);
        Self { class: Class::Fatal, code, message: error.to_string(), remedy }
    }
}

impl Error {
    fn internal(topic: &str) -> Self {
        Self {
            class: Class::Fatal,
            code: "invalid-topic-name",
            message: format!("{topic:?} is a topic that a program keeps for itself"),
            remedy: "choose another name",
        }
    }
}

/// The second line behind [`may_write`](crate::config::may_write): refuse to create, or to write to, a topic whose name Kafka, Tidegate or MirrorMaker 2 keeps for itself.
/// Heartbeats are produced by name.
fn check_name(topic: &str) -> Result<(), Error> {
    if is_internal(topic) && !is_heartbeat(topic) { Err(Error::internal(topic)) } else { Ok(()) }
}

/// The same for a lane's sink: of heartbeats it writes those of its link.
fn check_target(link: &LinkId, topic: &str) -> Result<(), Error> {
    if is_internal(topic) && *topic != *heartbeat_topic(link) { Err(Error::internal(topic)) } else { Ok(()) }
}

/// A topic as a cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity.
    pub id: TopicId,
    /// The number of partitions.
    pub partitions: u32,
}

/// What is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    /// The first offset that is still there.
    pub log_start: i64,
    /// The offset that the next record will get.
    pub end: i64,
}

/// Something that holds topics.
pub trait Cluster: Send + Sync {
    /// Whether the cluster answers: something small is asked of it now, whatever is known already.
    fn probe(&self) -> Result<(), Error>;

    /// All topics, by name.
    fn topics(&self) -> Result<Vec<Topic>, Error>;

    /// What is in each partition of a topic.
    fn ranges(&self, topic: &str) -> Result<Vec<PartitionRange>, Error>;

    /// What is in each of many partitions. Asked at once, whatever topics they are of.
    fn ranges_of(&self, partitions: &[TopicPartition], _patience: Patience) -> Each<PartitionRange> {
        partitions.iter().map(|partition| self.range(partition)).collect()
    }

    /// Where partitions end, with what open transactions have written.
    fn log_ends(&self, partitions: &[TopicPartition], patience: Patience) -> Each<i64> {
        self.ranges_of(partitions, patience).into_iter().map(|range| Ok(range?.end)).collect()
    }

    /// How often in a row a lane may fail here before its link is called degraded.
    fn max_retries(&self) -> u32 {
        0
    }

    /// What is in a partition.
    fn range(&self, partition: &TopicPartition) -> Result<PartitionRange, Error>;

    /// The timestamp of the record at `offset`, or of the first one behind it if there is none, in
    /// milliseconds as its producer wrote it; `None` if it is not known. Lag in time is measured
    /// with it.
    fn timestamp_at(&self, partition: &TopicPartition, offset: i64) -> Result<Option<i64>, Error>;

    /// The names of topics that programs keep for themselves and that [`Cluster::topics`] does not show.
    fn internal_topics(&self) -> Result<Vec<Arc<str>>, Error> {
        Ok(Vec::new())
    }

    /// A number that changes whenever a topic is made, deleted or gets more partitions, as far as that is known: never waited for.
    fn topology_version(&self) -> u64;

    /// Find out what topics there are, unless that was done no longer than `age` ago.
    fn look(&self, _age: Duration) -> Result<(), Error> {
        Ok(())
    }

    /// Make a topic. One that exists gets more partitions if it has fewer, and keeps them otherwise.
    fn create_topic(&self, name: &str, partitions: u32) -> Result<Topic, Error>;

    /// Where the records end that partitions got from the leaders of these epochs.
    fn ends_of_epochs(&self, epochs: &[(TopicPartition, i32)], _patience: Patience) -> Each<EpochEnd> {
        epochs.iter().map(|_| Ok(EpochEnd::Unsaid)).collect()
    }

    /// Make topics, or give them more partitions if they have fewer, and wait until all of them can be used. Answers each topic as it is, or why it
    /// is not as it should be.
    fn make_topics(&self, targets: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error>;

    /// Append records to a partition, durably, and answer the offset of the first one. Offsets and placements in `batch` do not matter.
    fn produce(&self, partition: &TopicPartition, batch: &Batch) -> Result<i64, Error>;

    /// The settings of topics that copies of them should have. Topics that are not there are left out. The inner error: why the settings of a topic
    /// cannot be read.
    fn topic_settings(&self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error>;

    /// The names of the settings that topics of this cluster have. It says nothing of others, which is not to say that they have their defaults.
    fn settings_known(&self) -> &'static [&'static str];

    /// What a topic of this cluster shows once it has got these settings.
    fn settings_kept(&self, settings: &TopicSettings) -> TopicSettings {
        settings.clone()
    }

    /// Change settings of topics. Answers those that could not be changed.
    fn change_settings(&self, changes: &BTreeMap<Arc<str>, SettingChanges>)
    -> Result<BTreeMap<Arc<str>, Error>, Error>;

    /// All ACLs on topics; `None`: the cluster has no authorizer.
    fn topic_acls(&self) -> Result<Option<BTreeSet<Acl>>, Error> {
        Ok(None)
    }

    /// Add ACLs on topics. Those that are there stay as they are.
    fn add_acls(&self, _acls: &[Acl]) -> Result<(), Error> {
        Ok(())
    }

    /// The largest record that the topic takes: the bytes of its key, value and headers. Of a topic that is not there, what it would take.
    fn record_bytes_max(&self, topic: &str) -> Result<usize, Error>;

    /// Whether what a sink writes here is committed together with its checkpoints, or not at all, for
    /// a link whose `enable_exactly_once` says this.
    fn is_atomic(&self, enable_exactly_once: bool) -> bool;

    /// Whether `target_end_offset` of the checkpoints here is where the partition ended after the
    /// commit. Otherwise it is a lower bound: the last commit may have written behind it.
    fn knows_target_ends(&self) -> bool {
        false
    }

    /// All checkpoints of a link's lanes of a generation.
    fn checkpoints(&self, link: &LinkId, generation: u32) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error>;

    /// Wait until all that a reader sees by now is in what [`Cluster::checkpoints`] answers, at most `patience`; whether it is. A cluster
    /// may show the end of a transaction in one partition a moment before it does in another.
    fn await_checkpoints(&self, _link: &LinkId, _generation: u32, _patience: Duration) -> Result<bool, Error> {
        Ok(true)
    }

    /// Where each revision of a link began, by partition, as its lanes of a generation know it.
    fn revision_starts(&self, link: &LinkId, generation: u32) -> Result<Vec<RevisionStart>, Error>;

    /// Fence the lanes of a link, and copy what they have written of themselves to lanes of another number and generation, which nobody has opened.
    /// `copied` is told how many of the old lanes are copied, some time between; an error of its ends the copying.
    fn copy_lanes(&self, copying: &Copying, copied: &mut dyn FnMut(u32) -> Result<(), Error>) -> Result<(), Error>;

    /// What [`Cluster::put_metadata`] stored for the link under `key`.
    fn metadata(&self, link: &LinkId, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// What is stored under `key`, of all links for which there is something.
    fn metadata_of_all(&self, key: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error>;

    /// Store something about a link (its desired state, its revisions), durably.
    fn put_metadata(&self, link: &LinkId, key: &str, value: &[u8]) -> Result<(), Error>;

    /// Store it, if `known` is what is stored now. Whether it was: of all who do this at the same time, one is the first.
    fn replace_metadata(&self, link: &LinkId, key: &str, known: Option<&[u8]>, value: &[u8]) -> Result<bool, Error>;

    /// What it knows of topics that stand by, if it refuses what others write to them. Brokers do not.
    fn standbys(&self) -> Option<&dyn Standbys> {
        None
    }

    /// The offset behind the last record that MirrorMaker 2 has copied to this cluster, of each partition of its source.
    ///
    /// # Errors
    /// Its topic is not there, is not understood, or says nothing of that source; or it says two things of a partition.
    fn mirrormaker_offsets(&self, _from: &MirrorMaker) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        Err(Error {
            class: Class::Fatal,
            code: "mirrormaker-offsets-missing",
            message: "this cluster has no topic of MirrorMaker 2".to_owned(),
            remedy: "write start = \"earliest\" or \"latest\"",
        })
    }

    /// A number that changes when somebody has stored something about a link. It may be about a second old.
    fn metadata_version(&self) -> Result<u64, Error>;

    /// A place among the daemons that run a link. `None`: nobody else can, and all lanes are ours.
    fn membership(&self, _of: &LaneGroup) -> Option<Box<dyn Membership>> {
        None
    }

    /// The other daemons and we that run a link, by name, where there can be others.
    fn daemons(&self, _link: &LinkId) -> Result<BTreeMap<Arc<str>, Colleague>, Error> {
        Ok(BTreeMap::new())
    }

    /// Whether the cluster has consumer groups.
    fn has_groups(&self) -> bool {
        false
    }

    /// All consumer groups, by name; `None`: the cluster has no such thing.
    fn groups(&self) -> Result<Option<Vec<Group>>, Error> {
        Ok(None)
    }

    /// Where groups are. The inner error: why that is not known of a group.
    fn group_offsets(&self, _groups: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<GroupOffsets, Error>>, Error> {
        Ok(BTreeMap::new())
    }

    /// Have a group go on at other offsets; partitions that are not named stay as they are. Whether it was done: a group with members is left alone.
    fn move_group(&self, _group: &str, _offsets: &GroupOffsets) -> Result<bool, Error> {
        Ok(false)
    }

    /// Where the records of a link are that stand for the source offsets `wanted` or what is behind them. All that a reader sees of the partitions `targets`, and of
    /// those that the link has written to, is known of then.
    fn copied(
        &self,
        _link: &LinkId,
        _targets: &[TopicPartition],
        _wanted: &BTreeMap<TopicPartition, BTreeSet<i64>>,
    ) -> Result<Copied, Error> {
        Ok(Copied::default())
    }

    /// The plugin component with this digest, if it was stored here.
    fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error>;

    /// Store a plugin component under its digest, durably.
    fn put_artifact(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error>;

    /// The same cluster to whoever reads records of open and aborted transactions too: its readers
    /// see them, and its ranges have them. `None`: it has none that a reader could see.
    fn uncommitted(&self) -> Option<Arc<dyn Cluster>> {
        None
    }

    /// A reader.
    fn source(&self) -> Result<Box<dyn Source>, Error>;

    /// A writer for a lane.
    fn sink(&self, lane: &LaneSettings) -> Result<Box<dyn Sink>, Error>;
}

/// What a source gives.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is handed on and taken apart at once")]
pub enum Polled {
    /// Records.
    Batch(Batch),
    /// Records that nobody has looked at.
    Encoded(Encoded),
}

/// A record batch as its cluster has stored it, for a target that takes it so.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The source topic.
    pub topic: Arc<str>,
    /// The source partition.
    pub partition: u32,
    /// The offset after the last one that it stands for, holes included.
    pub next_offset: i64,
    /// The records.
    pub records: RecordBatch,
}

impl Encoded {
    /// Its records.
    ///
    /// # Errors
    /// They are damaged.
    pub fn decode(&self) -> Result<Batch, Error> {
        kafka::decode(self)
    }

    /// The first of its records, without the cost of the others; `None` if it has none.
    ///
    /// # Errors
    /// It is damaged.
    pub fn first_record(&self) -> Result<Option<Batch>, Error> {
        kafka::first_record(self)
    }
}

/// Reads partitions, each from its own position.
pub trait Source: Send {
    /// Read `partition` from `offset` on. Replaces an earlier position.
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), Error>;

    /// Read a partition no more. One that is not read is left as it is.
    fn forget(&mut self, partition: &TopicPartition);

    /// Records of one of the partitions sought, or `None` if `wait` passed without any. Partitions take turns. A
    /// batch has at most `max_records` records, and ends early at about `max_bytes`; it holds one record at least, or none where
    /// only markers of transactions, records of aborted ones and holes were: then it says how far they go with `next_offset`.
    fn poll(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Option<Batch>, Error>;

    /// The partitions that have not been readable for so long at `now` that people should hear of it. The others are read meanwhile.
    fn stalled(&self, _now: Instant) -> Vec<Stalled> {
        Vec::new()
    }

    /// Whether a partition has been read without an error since it was sought, so that
    /// [`Source::stalled`] says how it is now.
    fn is_read(&self, _partition: &TopicPartition) -> bool {
        true
    }

    /// The transactions that are open, by partition.
    fn open_transactions(&self) -> BTreeMap<TopicPartition, OpenTransaction> {
        BTreeMap::new()
    }

    /// Take over what a reader before this one has seen of a partition that was sought: if the
    /// transaction is still the one that is open, it is as old as that.
    fn recall(&mut self, _partition: &TopicPartition, _seen: OpenTransaction) {}

    /// The epoch of the leader that had the record before `next_offset` of a partition, or one that was read ahead, where the cluster has such. `None` as well
    /// while no record up to there was read since the partition was sought: an epoch that ended before `next_offset` would make what was copied look lost.
    fn leader_epoch(&self, _partition: &TopicPartition, _next_offset: i64) -> Option<i32> {
        None
    }

    /// The same for a sink that takes records encoded: see [`Sink::passing`].
    fn poll_passing(
        &mut self,
        _passing: Passing,
        max_records: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Option<Polled>, Error> {
        Ok(self.poll(max_records, max_bytes, wait)?.map(Polled::Batch))
    }
}

/// A lane, and how it writes.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// Its link.
    pub link: LinkId,
    /// Its number.
    pub lane: u32,
    /// How many lanes the link has.
    pub lanes: u32,
    /// The generation of the lanes: another one whenever their number changes.
    pub generation: u32,
    /// The layout of the link.
    pub layout: u32,
    /// The cluster that the link reads.
    pub source: ClusterId,
    /// How old a transaction may get before the target aborts it.
    pub transaction_timeout: Duration,
    /// Whether output and checkpoint must be one transaction.
    pub exactly_once: bool,
    /// What record batches are compressed with; `None`: as the cluster is configured.
    pub compression: Option<Compression>,
}

/// Lanes that are to become others.
#[derive(Clone, Debug)]
pub struct Copying {
    /// Any of the lanes as they are.
    pub from: LaneSettings,
    /// How many lanes there are to be.
    pub lanes: u32,
    /// Their generation. It was never tried before.
    pub generation: u32,
}

/// A daemon that runs a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Colleague {
    /// The lanes that it has.
    pub lanes: Vec<u32>,
    /// The newest layout that it knows; `None` while the daemons are finding together.
    pub layout: Option<u32>,
}

/// The lanes that daemons share, and which of them we are.
#[derive(Clone, Debug)]
pub struct LaneGroup {
    /// The link.
    pub link: LinkId,
    /// How many lanes it has.
    pub lanes: u32,
    /// The generation of the lanes.
    pub generation: u32,
    /// The name of this daemon.
    pub daemon: Arc<str>,
    /// The newest layout that this daemon knows.
    pub layout: u32,
}

/// What a daemon has been told of its lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The lanes that it is to run.
    pub lanes: BTreeSet<u32>,
    /// When it heard last that this is so.
    pub confirmed: Instant,
}

/// A daemon's place among those that run a link. It says who is to open a lane; that a lane has one writer is up to [`Sink::open`].
pub trait Membership: Send {
    /// Take part for about `wait`, and say what is known then; `None` before anything is.
    fn poll(&mut self, wait: Duration) -> Result<Option<Standing>, Error>;

    /// Give the place up, as far as that can be said to anybody. Who does not is expected back for some seconds.
    fn leave(&mut self);
}

/// What [`Sink::open`] found in the target.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// How far the link has come, in the lane's partitions at least.
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    /// The highest revision that was committed under, by this lane at least.
    pub revision: Option<RevisionNumber>,
    /// Why everything is lost that the stages of this lane remember, if it is. It stays lost until
    /// [`Sink::begin_states`].
    pub states_lost: Option<String>,
}

/// A topic that a lane writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The topic.
    pub topic: Arc<str>,
    /// How many partitions it must have at least.
    pub partitions: u32,
    /// The settings that it gets if it has to be made. What the cluster does not know is left out.
    pub settings: TopicSettings,
    /// How many replicas it gets if it has to be made; `None`: what the cluster's configuration says.
    pub replication_factor: Option<i16>,
}

/// Writes a lane's output, one transaction after the other. While a commit is under way the lane prepares the next
/// transaction; no more than one commit is under way.
pub trait Sink: Send {
    /// Fence every earlier opener of this lane, drop an open transaction, and say what is committed. `allowed` is asked when all others are fenced and before
    /// anything is read: what it sees then holds as long as nobody fences us.
    fn open(&mut self, allowed: &dyn Fn() -> Result<(), Error>) -> Result<Opened, Error>;

    /// Make sure that topics exist and have enough partitions, and answer them in their order.
    fn prepare(&mut self, targets: &[Target]) -> Result<Vec<Topic>, Error>;

    /// What the stages remember of a source partition, as it was committed last, and what is left of what they no longer do. To be asked once for a partition.
    fn states(&mut self, partition: &TopicPartition) -> Result<StoredStates, Error>;

    /// Begin with nothing where what the stages of the lane remember is lost. Before that, whoever
    /// opens the lane finds the loss again: it has to be stored first.
    fn begin_states(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Add a batch to the open transaction. Records without a route go to `target`. Answers the indices of the records that were
    /// left out, in order: their topics do not take any as large as them.
    fn write(&mut self, batch: &Batch, target: &Arc<str>) -> Result<Vec<usize>, Error>;

    /// Which records the sink takes as their source has stored them, if any.
    fn passing(&self) -> Option<Passing> {
        None
    }

    /// Add a record batch to the open transaction as it is. If its topic does not take it so, it is not added, and its records are the answer.
    fn pass(&mut self, encoded: Encoded, _target: &Arc<str>) -> Result<Option<Batch>, Error> {
        encoded.decode().map(Some)
    }

    /// The bytes of the open transaction that stay in memory until it is committed. A sink that sends them before has none.
    fn pending_bytes(&self) -> usize {
        0
    }

    /// Begin to commit the open transaction: its records, and for each source partition the checkpoint. The sink fills in
    /// the target's part of the checkpoints (`target_end_offset`). `started` holds the first offset of each
    /// partition that this revision handled, where that is news.
    fn begin_commit(&mut self, commit: Commit) -> Result<(), Error>;

    /// Whether a commit is under way that has not been finished by [`Sink::finish_commit`].
    fn committing(&self) -> bool;

    /// Wait until the commit is durable, at most `wait`. `false`: not yet. Nothing under way is `true`.
    ///
    /// # Errors
    /// The commit failed, or the sink has failed since it was opened: then nothing is known of it.
    fn finish_commit(&mut self, wait: Duration) -> Result<bool, Error>;
}

/// What goes into a transaction beside the records.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The new checkpoint of each source partition that moved.
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    /// The target topics of their source topics (routes aside).
    pub targets: BTreeMap<TopicPartition, Arc<str>>,
    /// What changes in the state of stages.
    pub states: Vec<StateChange>,
    /// The first offset of each partition that was handled by a revision, where it is the revision's first commit there.
    pub started: Vec<RevisionStart>,
    /// Whether the checkpoints are stored as they are, `target_end_offset` included: nothing was copied that they stand for. So it is with a reset, and with a loss
    /// that was found.
    pub verbatim: bool,
}

/// The first offset of a source partition that a revision handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionStart {
    /// The source partition.
    pub partition: TopicPartition,
    /// The revision.
    pub revision: RevisionNumber,
    /// Its first offset there.
    pub offset: i64,
}

#[cfg(test)]
mod tests;
