//! What the API needs of the daemon.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::exposition::Page;
pub use super::wire::Fault;
use super::wire::{
    Checkpoint, ConsumerGroup, CreateTopic, Event, FailoverDetails, FailoverEvent, FailoverPlan, GroupsRequest,
    Inspection, Link, LinkDefinition, LinkHealth, LinkMetrics, LinkTransition, Plan, ReadFrom, Relaned, Reloaded,
    Reset, ResetRequest, Revision, Status, Swap, Throttle, Time, Topic, TopicSummary, Upgrade, Verification,
};
use crate::model::{Batch, Json, JsonObject, RevisionNumber, TopicPartition};

/// Which class an error belongs to. It decides the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such link, stage, revision, cluster, topic or partition (404).
    NotFound,
    /// The request makes sense, but not in the present state (409).
    Conflict,
    /// The request cannot be understood, or says what cannot be (400).
    Malformed,
    /// What the request was made for is not what there is any more (412).
    Outdated,
    /// The request is refused for what it contains (422).
    Invalid,
    /// The daemon or a cluster cannot serve now; the same request may work later (503).
    Unavailable,
    /// A fault of the daemon itself (500).
    Internal,
}

/// The most faults of an answer. A body of a megabyte can have some hundred thousand, and nobody reads them.
const FAULTS_MAX: usize = 1000;

/// Why the daemon did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// The class, and so the HTTP status.
    pub kind: ErrorKind,
    /// A stable word for programs, for example `link-not-found`.
    pub code: &'static str,
    /// What happened, for a person: lower case, no full stop at the end.
    pub message: String,
    /// What the caller can do about it; empty where there is nothing.
    pub remedy: String,
    /// What is wrong with the document that was sent, where that is the reason.
    pub faults: Vec<Fault>,
    /// What can be done in the present state, where that is the reason.
    pub allowed: Vec<&'static str>,
    /// Whether a cluster could not be asked: the same may work later by itself.
    pub is_unheard: bool,
}

impl ControlError {
    /// A document that cannot be used, and everything that is wrong with it; of very much the beginning.
    pub fn faults(mut faults: Vec<Fault>) -> Self {
        let message = match &*faults {
            [one] => format!("{}: {}", one.path, one.message),
            some => format!("there are {} errors in it", some.len()),
        };
        let remedy = "correct what `errors` names: nothing has changed";
        faults.truncate(FAULTS_MAX);
        Self { faults, ..Self::new(ErrorKind::Malformed, "invalid-document", message, remedy) }
    }

    /// An error of class `kind`.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            remedy: remedy.into(),
            faults: Vec::new(),
            allowed: Vec::new(),
            is_unheard: false,
        }
    }
}

/// The definition of a link: the object that was sent.
pub type Definition = JsonObject;

/// A component that shall replace the plugin of a stage.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The stage.
    pub stage: String,
    /// The bytes of the component, not looked at yet.
    pub component: Bytes,
    /// The new configuration: any JSON. `None`: the stage keeps the one it has.
    pub config: Option<Json>,
    /// Who published, for the history.
    pub by: String,
    /// The wait for the answer.
    pub wait: Wait,
}

/// Somebody's wait for an answer. It goes on until the other half of [`Wait::begin`] is dropped, as it is when the connection is closed.
#[derive(Clone, Debug)]
pub struct Wait(Weak<()>);

impl Wait {
    /// A wait, and what is to be held for as long as it goes on.
    pub fn begin() -> (Arc<()>, Self) {
        let held = Arc::new(());
        let wait = Self(Arc::downgrade(&held));
        (held, wait)
    }

    /// Whether somebody waits still.
    pub fn goes_on(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// What became of an order.
#[derive(Debug)]
pub enum Ordered<T> {
    /// It was carried out, or is under way at the link's clusters.
    Done(T),
    /// It is kept, because a cluster does not answer, and is carried out when it can be. The link, which says so.
    Pending(Box<Link>),
}

impl<T> Ordered<T> {
    /// The same with something else of what was done.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Ordered<U> {
        match self {
            Self::Done(done) => Ordered::Done(change(done)),
            Self::Pending(link) => Ordered::Pending(link),
        }
    }
}

/// Which records of a partition to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where to begin.
    pub from: ReadFrom,
    /// At most this many records.
    pub records_max: usize,
    /// End after about this many bytes. One record is read even if it is larger.
    pub bytes_max: usize,
    /// If there is no record yet, wait this long for one. Never more than [`READ_WAIT_MAX`].
    pub wait: Duration,
}

/// The longest wait that a single [`ControlPlane::read`] is asked for. The API cuts longer waits into several calls, so
/// that a client that has gone, or a daemon that ends, is noticed within this time.
pub const READ_WAIT_MAX: Duration = Duration::from_millis(250);

/// What was read.
#[derive(Clone, Debug)]
pub struct ReadAnswer {
    /// The records, or `None` if there are none.
    pub batch: Option<Batch>,
    /// The offset to go on from; where nothing was read, the offset that reading began at.
    pub next_offset: i64,
    /// The first offset that is still in the partition.
    pub log_start: i64,
    /// The offset that the partition's next record will get.
    pub end: i64,
}

/// What happened to a link.
#[derive(Debug)]
pub struct Happened {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Changes when there is another one, and ends with the link as it is now.
    pub news: watch::Receiver<u64>,
}

/// What a request is about, as its path says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// A link, by id, and so its clusters.
    Link(String),
    /// A cluster, by id.
    Cluster(String),
    /// The daemon.
    All,
}

/// A cluster that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Its id.
    pub cluster: String,
    /// When it answered last, or was asked first if it never did.
    pub since: Time,
    /// What is known of the reason.
    pub why: String,
}

/// Everything that the API needs of the daemon.
///
/// Every call but [`ControlPlane::silent`] may block (on a compiler, on the disk, on a lane): the API makes all of them on tokio's threads for
/// blocking work. Calls come from several threads at once.
///
/// Errors: a link, stage, cluster, topic or partition that does not exist is [`ErrorKind::NotFound`] everywhere.
pub trait ControlPlane: Send + Sync + 'static {
    /// Which of the clusters concerned say nothing now, as far as is known. With `probe` they are asked, those that were not within that time; but nobody
    /// waits for their answers: one that has not answered for so long is silent. Never blocks.
    fn silent(&self, about: &About, probe: Option<Duration>) -> Vec<Silent>;

    /// The daemon, its clusters and a line about each link.
    fn status(&self) -> Result<Status, ControlError>;

    /// Whether the daemon has opened its clusters and decided about every link; else `Unavailable` with the reason.
    fn ready(&self) -> Result<(), ControlError>;

    /// The first `limit` links behind the id `after`, by id, and whether there are no more.
    fn links(&self, after: Option<&str>, limit: usize) -> Result<(Vec<Link>, bool), ControlError>;

    /// Define a link, durably; without an id it gets one. One that is there is a `Conflict`.
    fn define(&self, id: Option<&str>, definition: Definition, by: &str) -> Result<Link, ControlError>;

    /// Change the definition of a link that is paused or stopped (RFC 7396). `expected` is the version that the change was made for: another one is
    /// [`ErrorKind::Outdated`].
    fn redefine(&self, link: &str, patch: &Definition, expected: Option<u64>, by: &str) -> Result<Link, ControlError>;

    /// Delete the definition of a link that is stopped. What its target knows of it stays.
    fn delete(&self, link: &str, expected: Option<u64>, by: &str) -> Result<Ordered<()>, ControlError>;

    /// The definition of a link. One that is defined in the configuration file is a `Conflict`.
    fn definition(&self, link: &str) -> Result<LinkDefinition, ControlError>;

    /// Keep a component for links that are defined here.
    fn store_plugin(&self, component: &[u8]) -> Result<Inspection, ControlError>;

    /// Have a link write no faster than so many bytes a second from now on, durably; `Some(None)` is as fast as it can, `None` as it is configured.
    fn throttle(&self, link: &str, rate: Option<Option<u64>>, by: &str) -> Result<Ordered<Throttle>, ControlError>;

    /// Read the configuration file anew, and do what has changed in it.
    fn reload(&self) -> Result<Reloaded, ControlError>;

    /// A link.
    fn link(&self, link: &str) -> Result<Link, ControlError>;

    /// Start, stop, pause or resume a link, durably, and answer the link after that took effect. A link that is already
    /// where the transition leads is answered as it is; a transition that has no sense in the present state is a
    /// `Conflict`.
    fn steer(&self, link: &str, transition: LinkTransition, by: &str) -> Result<Ordered<Link>, ControlError>;

    /// Have partitions of a link go on elsewhere, and start what has failed. A topic or partition that the link does not read is `NotFound`, an offset that is
    /// not there is `Invalid`.
    fn reset(&self, link: &str, request: &ResetRequest, by: &str) -> Result<Ordered<Reset>, ControlError>;

    /// The resets of a link, oldest first.
    fn resets(&self, link: &str) -> Result<Vec<Reset>, ControlError>;

    /// Have the target of a link take its source's place, and wait until it has. What the source still has is waited for at most `drain`, or as long as it is
    /// configured. A link that was never started, or has failed over, is a `Conflict`.
    fn fail_over(&self, link: &str, drain: Option<Duration>, by: &str) -> Result<Ordered<FailoverEvent>, ControlError>;

    /// What a failover would do. Changes nothing.
    fn plan_failover(&self, link: &str, drain: Option<Duration>) -> Result<FailoverPlan, ControlError>;

    /// Give the source of a link its place back. Answers when that is done, or after a bounded wait. A link that has not failed over is a `Conflict`.
    fn fail_back(&self, link: &str, by: &str) -> Result<Ordered<FailoverEvent>, ControlError>;

    /// What a failback would do. Changes nothing.
    fn plan_failback(&self, link: &str) -> Result<FailoverPlan, ControlError>;

    /// Leave the target in the source's place after all. A link that is not failing back is a `Conflict`.
    fn call_off_failback(&self, link: &str, by: &str) -> Result<Ordered<FailoverEvent>, ControlError>;

    /// The failovers and failbacks of a link, oldest first; the last one may be under way.
    fn failovers(&self, link: &str) -> Result<Vec<FailoverEvent>, ControlError>;

    /// One of them with all partitions.
    fn failover(&self, link: &str, event: &str) -> Result<FailoverDetails, ControlError>;

    /// Raise the layout of a link to the newest one, or say what that would do. A daemon that does not know it is a `Conflict`.
    fn upgrade(&self, link: &str, dry_run: bool, by: &str) -> Result<Upgrade, ControlError>;

    /// Have a link run with so many lanes. Answers when that is done, or after a bounded wait (`done` is false). A link of too old a layout, or one whose lanes are
    /// about to become yet others, is a `Conflict`.
    fn relane(&self, link: &str, lanes: u32, by: &str) -> Result<Ordered<Relaned>, ControlError>;

    /// What a link has done and how fast, with all partitions.
    fn link_metrics(&self, link: &str) -> Result<LinkMetrics, ControlError>;

    /// How a link is. Waits for no cluster.
    fn link_health(&self, link: &str) -> Result<LinkHealth, ControlError>;

    /// All numbers of the daemon. Waits for no cluster and for no lane.
    fn metrics(&self) -> Result<Page, ControlError>;

    /// What would be made or changed at the target if the link ran now, whether it does or not. Changes nothing.
    fn plan(&self, link: &str) -> Result<Plan, ControlError>;

    /// The consumer groups of a link's source that are in its topics, with what would be done about each. A link whose clusters have no groups is a `Conflict`.
    fn groups(&self, link: &str) -> Result<Vec<ConsumerGroup>, ControlError>;

    /// Move consumer groups, or say what would be done. That nobody says which groups is `Invalid`.
    fn sync_groups(&self, link: &str, request: &GroupsRequest) -> Result<Vec<ConsumerGroup>, ControlError>;

    /// Replace the plugin of a stage in a running link. Answers when the revision is durable and every lane has committed under
    /// it (`state` is `complete`), or after a bounded wait (`pending`). A refused component changes nothing: `Invalid`.
    fn publish(&self, link: &str, publish: Publish) -> Result<Swap, ControlError>;

    /// Publish the content of revision `to` again under a new number; `None` is the revision before the present one. Waits
    /// as [`ControlPlane::publish`] does. No revision to go back to is a `Conflict`.
    fn rollback(&self, link: &str, to: Option<RevisionNumber>, by: &str) -> Result<Swap, ControlError>;

    /// Begin to verify a link, and answer at once. At most `differences` are described. One that is under way is a `Conflict`.
    fn verify(&self, link: &str, differences: usize) -> Result<Verification, ControlError>;

    /// The verification of a link that was begun last; `NotFound` if there was none since the daemon started.
    fn verification(&self, link: &str) -> Result<Verification, ControlError>;

    /// End the verification of a link that is under way, as soon as can be. One that has ended stays as it is.
    fn cancel_verification(&self, link: &str) -> Result<Verification, ControlError>;

    /// What happened to a link lately, oldest first: what came after the event of this name, or all if there is none. Asks nobody, and waits for nobody.
    fn events(&self, link: &str, after: Option<&str>) -> Result<Happened, ControlError>;

    /// How far a link has come, by source partition, as its target has it.
    fn checkpoints(&self, link: &str) -> Result<Vec<Checkpoint>, ControlError>;

    /// The revisions of a link, oldest first.
    fn revisions(&self, link: &str) -> Result<Vec<Revision>, ControlError>;

    /// The topics of a cluster, by name.
    fn topics(&self, cluster: &str) -> Result<Vec<TopicSummary>, ControlError>;

    /// A topic with its partitions.
    fn topic(&self, cluster: &str, topic: &str) -> Result<Topic, ControlError>;

    /// Make a topic. One that exists already is a `Conflict`.
    fn create_topic(&self, cluster: &str, topic: &CreateTopic) -> Result<Topic, ControlError>;

    /// How many partitions a topic has. Called for each produce request, so it should not read ranges.
    fn partition_count(&self, cluster: &str, topic: &str) -> Result<u32, ControlError>;

    /// Append records to a partition, durably, and answer the offset of the first. The batch is not empty; its offsets
    /// do not matter.
    fn append(&self, cluster: &str, partition: &TopicPartition, batch: &Batch) -> Result<i64, ControlError>;

    /// Read a partition. An offset outside of the log is `Invalid`, and says where the log begins and ends.
    fn read(&self, cluster: &str, partition: &TopicPartition, read: Read) -> Result<ReadAnswer, ControlError>;
}
