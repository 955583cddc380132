//! What all lanes of a cluster share: where its brokers are, and which of them leads a partition.
//! What leaders are asked is in [`leaders`](super::leaders).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::error::{self, Code};
pub(super) use super::leaders::LATEST;
use super::leaders::Late;
use super::limits::Limits;
pub(super) use super::metadata::Metadata;
use super::pace::Windows;
use super::wire::{Call, Connection, Settings, WireError};
use crate::background;
use crate::connector::Error;

/// How soon it may be asked again, however many lanes want to.
const METADATA_AGE_MIN: Duration = Duration::from_millis(25);

/// How many connections are kept for requests that any broker answers: more are seldom asked at
/// once.
const ANY_KEPT: usize = 4;

/// How long a broker is waited for before the next one is asked beside it: longer than an answer takes over any distance.
const ASK_NEXT_AFTER: Duration = Duration::from_secs(1);

/// How many connections are kept for single brokers: a cluster says itself how many brokers it has.
const IDLE_MAX: usize = 128;

/// Makes connections to a cluster, and knows its metadata.
#[derive(Debug)]
pub(super) struct Client {
    settings: Settings,
    bootstrap: Vec<Arc<str>>,
    /// Which bootstrap address is tried next.
    turn: AtomicUsize,
    known: Mutex<Known>,
    /// Held by whoever asks the cluster about itself.
    asking: Mutex<()>,
    /// Whether a thread has been sent to ask.
    asks_aside: AtomicBool,
    me: Weak<Client>,
    /// Grows with each change of the topics or of their numbers of partitions.
    topology: AtomicU64,
    /// For requests that any broker answers, when nobody uses them.
    any: Mutex<Vec<Connection>>,
    /// For requests to one broker, when nobody uses them.
    idle: Mutex<BTreeMap<i32, Connection>>,
    late: Late,
    limits: Mutex<Limits>,
    windows: Mutex<Windows>,
}

/// A way to ask any broker.
#[allow(clippy::large_enum_variant, reason = "it is handed on and taken apart at once")]
enum Asking {
    /// On a connection that there is.
    On(Connection),
    /// On a new connection to an address.
    At(Arc<str>),
}

impl Asking {
    fn ask<R: Call>(self, settings: &Settings, request: &R) -> Result<(R::Answer, Connection), WireError> {
        let mut connection = match self {
            Self::On(connection) => connection,
            Self::At(address) => Connection::open(&address, settings)?,
        };
        Ok((connection.call(request)?, connection))
    }
}

#[derive(Clone, Debug, Default)]
struct Known {
    metadata: Arc<Metadata>,
    asked: Option<Instant>,
}

impl Known {
    /// What is known, if it was asked for lately.
    fn not_older_than(&self, age: Duration) -> Option<Arc<Metadata>> {
        let fresh = self.asked.is_some_and(|asked| asked.elapsed() < age) && !self.metadata.brokers.is_empty();
        fresh.then(|| self.metadata.clone())
    }
}

impl Client {
    pub(super) fn new(bootstrap: Vec<Arc<str>>, settings: Settings) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            settings,
            bootstrap,
            turn: AtomicUsize::new(0),
            known: Mutex::default(),
            asking: Mutex::default(),
            asks_aside: AtomicBool::new(false),
            me: me.clone(),
            topology: AtomicU64::new(0),
            any: Mutex::default(),
            idle: Mutex::default(),
            late: Late::default(),
            limits: Mutex::default(),
            windows: Mutex::default(),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Itself, for work on another thread.
    pub(super) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// The brokers that have not answered in time.
    pub(super) fn late(&self) -> &Late {
        &self.late
    }

    /// How large the record batches may be that topics take, as far as it is known.
    pub(super) fn limits(&self) -> MutexGuard<'_, Limits> {
        lock(&self.limits)
    }

    /// How much may be on its way to brokers.
    pub(super) fn windows(&self) -> MutexGuard<'_, Windows> {
        lock(&self.windows)
    }

    /// A new connection to a broker of the cluster.
    ///
    /// # Errors
    /// The broker is not known, or cannot be reached.
    pub(super) fn connect(&self, broker: i32) -> Result<Connection, Error> {
        let metadata = self.metadata()?;
        let address = metadata.brokers.get(&broker).ok_or_else(|| error::broker_gone(broker))?;
        Ok(Connection::open(address, &self.settings)?)
    }

    /// What is known of the cluster, for lanes: never waited for once anything is known. What is more than a few seconds old is asked for again on
    /// another thread: the answer of a cluster with thousands of topics takes longer than a lane may be held up.
    ///
    /// # Errors
    /// Nothing is known yet, and nobody answers.
    pub(super) fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        let known = lock(&self.known).clone();
        if let Some(fresh) = known.not_older_than(self.settings.tuning.metadata_max_age) {
            return Ok(fresh);
        }
        if known.metadata.brokers.is_empty() {
            return self.recent();
        }
        self.ask_aside();
        Ok(known.metadata)
    }

    /// What is known of the cluster, a few seconds old at most.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) fn recent(&self) -> Result<Arc<Metadata>, Error> {
        self.metadata_not_older_than(self.settings.tuning.metadata_max_age)
    }

    /// What the cluster says now: somebody was told that it has changed.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) fn refresh(&self) -> Result<Arc<Metadata>, Error> {
        self.metadata_not_older_than(METADATA_AGE_MIN)
    }

    /// What the cluster says a moment later, for whoever waits for a change. A cluster tells nobody of changes: it has to be asked.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) fn refresh_in_a_moment(&self) -> Result<Arc<Metadata>, Error> {
        thread::sleep(METADATA_AGE_MIN);
        self.refresh()
    }

    /// A number that changes with the topics and their numbers of partitions, as far as they are known.
    pub(super) fn topology(&self) -> u64 {
        self.topology.load(Relaxed)
    }

    fn ask_aside(&self) {
        let Some(me) = self.me.upgrade() else { return };
        if self.asks_aside.swap(true, Relaxed) {
            return;
        }
        let it = me.clone();
        let ask = move || {
            if let Err(error) = it.recent() {
                tracing::debug!(code = error.code, "metadata: {error}");
            }
        };
        background::begin("metadata", ask, move |_| me.asks_aside.store(false, Relaxed));
    }

    /// What the cluster said no longer than `age` ago.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) fn metadata_not_older_than(&self, age: Duration) -> Result<Arc<Metadata>, Error> {
        let fresh = || lock(&self.known).not_older_than(age);
        if let Some(fresh) = fresh() {
            return Ok(fresh);
        }
        let _asking = lock(&self.asking);
        // Somebody else may have asked meanwhile.
        if let Some(fresh) = fresh() {
            return Ok(fresh);
        }
        // All topics: a link's may be patterns.
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answered = self.call_any(&request);
        lock(&self.known).asked = Some(Instant::now());
        let metadata = Arc::new(Metadata::read(answered?));
        let before = std::mem::replace(&mut lock(&self.known).metadata, metadata.clone());
        if metadata.impossible > before.impossible {
            let count = metadata.impossible;
            tracing::warn!(count, "the cluster names topics as no topic can be called: they are left out");
        }
        if !metadata.has_shape_of(&before) {
            self.topology.fetch_add(1, Relaxed);
        }
        Ok(metadata)
    }

    /// Ask for nothing, to see whether a broker answers.
    ///
    /// # Errors
    /// None does.
    pub(super) fn probe(&self) -> Result<(), Error> {
        let nothing = MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
        self.call_any(&nothing).map(drop)
    }

    /// Ask a broker, whichever answers first. One that says nothing is not waited for before the next is asked.
    ///
    /// # Errors
    /// None does.
    pub(super) fn call_any<R>(&self, request: &R) -> Result<R::Answer, Error>
    where
        R: Call + Clone + Send + 'static,
        R::Answer: Send + 'static,
    {
        // Nobody holds the lock while a broker is asked: one that hangs would keep all others
        // waiting.
        let kept = lock(&self.any).pop();
        let kept = kept.and_then(usable).map(Asking::On).into_iter();
        let ways = kept.chain(self.addresses().into_iter().map(Asking::At)).map(|asking| {
            let (settings, request) = (self.settings.clone(), request.clone());
            move || asking.ask(&settings, &request)
        });
        let deadline = Instant::now() + self.settings.connect_timeout + self.settings.request_timeout;
        match background::first_of("ask", ways, ASK_NEXT_AFTER, deadline) {
            Some(Ok((answer, connection))) => {
                let mut any = lock(&self.any);
                if any.len() < ANY_KEPT {
                    any.push(connection);
                }
                Ok(answer)
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(error::no_brokers()),
        }
    }

    /// Where brokers may be: those that the cluster has named and those of the configuration by turns, since each list may be old.
    fn addresses(&self) -> Vec<Arc<str>> {
        let named: Vec<Arc<str>> = lock(&self.known).metadata.brokers.values().cloned().collect();
        let turn = self.turn.fetch_add(1, Relaxed);
        let lists = [&named[..], &self.bootstrap];
        let longest = named.len().max(self.bootstrap.len());
        let nth = |at: usize| {
            lists.into_iter().filter(move |list| at < list.len()).map(move |list| &list[(turn + at) % list.len()])
        };
        let mut seen = BTreeSet::new();
        (0..longest).flat_map(nth).filter(|address| seen.insert(*address)).cloned().collect()
    }

    /// Ask one broker, on a connection that is kept for this.
    ///
    /// # Errors
    /// The broker is not known, or does not answer.
    pub(super) fn call_broker<R: Call>(&self, broker: i32, request: &R) -> Result<R::Answer, Error> {
        self.call_broker_among(broker, R::SPOKEN, request)
    }

    /// The same in one of some of the versions that we speak.
    ///
    /// # Errors
    /// As those of [`Client::call_broker`].
    pub(super) fn call_broker_among<R: Call>(
        &self,
        broker: i32,
        versions: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Answer, Error> {
        let idle = lock(&self.idle).remove(&broker);
        if let Some(mut connection) = idle.and_then(usable)
            && let Ok(answer) = connection.call_among(versions.clone(), request)
        {
            self.keep(broker, connection);
            return Ok(answer);
        }
        let mut connection = self.connect(broker)?;
        let answer = connection.call_among(versions, request)?;
        self.keep(broker, connection);
        Ok(answer)
    }

    /// Keep a connection for the next request to a broker. Those that have rested too long go, and those to brokers that the cluster does not name.
    fn keep(&self, broker: i32, connection: Connection) {
        let now = Instant::now();
        let metadata = lock(&self.known).metadata.clone();
        let mut idle = lock(&self.idle);
        idle.insert(broker, connection);
        idle.retain(|node, kept| metadata.brokers.contains_key(node) && !kept.rested_too_long(now));
        while idle.len() > IDLE_MAX {
            let other = idle.keys().copied().find(|node| *node != broker);
            drop(other.and_then(|node| idle.remove(&node)));
        }
    }

    /// The broker that coordinates something. The inner error is what a broker said.
    ///
    /// # Errors
    /// Nobody answers.
    pub(super) fn coordinator(&self, of: CoordinatorOf, key: &str) -> Result<Result<i32, Code>, Error> {
        let request = FindCoordinatorRequest::default()
            .with_key_type(of as i8)
            .with_coordinator_keys(vec![StrBytes::from_string(key.to_owned())]);
        let answer = self.call_any(&request)?;
        let found = answer.coordinators.first().ok_or_else(|| error::not_asked("FindCoordinator"))?;
        Ok(Code(found.error_code).check().map(|()| found.node_id.0))
    }
}

/// A connection that was kept, if it is still of use.
fn usable(mut connection: Connection) -> Option<Connection> {
    connection.outlasted_rest(Instant::now()).then_some(connection)
}

/// What a coordinator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoordinatorOf {
    /// A consumer group.
    Group = 0,
    /// A transactional id.
    TransactionalId = 1,
}

/// What a reader sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Everything up to the high watermark.
    ReadUncommitted = 0,
    /// Nothing of an open or aborted transaction, and nothing behind the first open one.
    ReadCommitted = 1,
}

/// A topic's name as messages have it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
