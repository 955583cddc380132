//! The embedded store: one file with topics, checkpoints and what else a cluster keeps. The only room that names the
//! storage library (redb).
//!
//! Reading order: [`command`] says what can change, `apply` what that does to the [`tables`], `writer` how
//! commands become durable; [`stored`] is the layout of records, `read` how they are found again, [`retention`] how they go.
//!
//! Invariants
//! - Every change is one deterministic [`Command`]; it is applied whole or not at all, and is durable when it is answered.
//! - One thread writes. Readers see what the last durable commit left, and never wait for the writer nor it for them.
//! - Whether somebody may write to a topic that stands by is decided when the records are appended, by what is stored.
//! - After a failure of the storage nothing is written any more until the file is opened again.
//! - A topic id is never used twice. The offsets of a partition have no holes.
//! - Bytes from the file are checked before they become a batch.
//!
//! There is deliberately no deletion of topics yet, and no clock: who enforces retention brings the time.

mod apply;
pub mod command;
mod error;
mod memory;
mod open;
mod read;
pub mod retention;
pub mod stored;
pub mod tables;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use command::{Append, Command, CommitLane, Outcome, Replacement, Retention, StoredPartition, StoredTopic};
pub use error::Error;
pub use read::EpochEnd;
pub use retention::{Enforced, NotEnforced};
pub use stored::{Compressor, Packer, StoredBatch};
use tables::{Catalog, Changes};
use uuid::Uuid;
pub use writer::Ticket;
use writer::{Job, QUEUE_COMMANDS, unpoisoned};

use crate::model::Compression;

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory for pages of the file, in bytes. A commit uses half of it for what it has not written yet.
    ///
    /// The default is 8 MiB: a commit of a mebibyte fits and is written in one go (with 2 MiB it takes half as long
    /// again), and two idle stores stay far below 50 MiB.
    pub cache_bytes: usize,
    /// What record batches are compressed with, unless whoever writes them says otherwise.
    pub compression: Compression,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 8 * 1024 * 1024, compression: Compression::FAST }
    }
}

/// An open store. Dropping it finishes what was submitted and closes the file.
pub struct Store {
    shared: Arc<Shared>,
    options: Options,
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer and the readers share.
struct Shared {
    path: PathBuf,
    database: redb::Database,
    catalog: RwLock<Catalog>,
    /// Counts topics and partitions that come.
    topology: AtomicU64,
    /// Counts commits that readers can see something of.
    version: Mutex<u64>,
    version_changed: Condvar,
    /// Why nothing is written any more.
    stopped: OnceLock<String>,
}

impl Shared {
    fn publish(&self, changes: Changes) {
        if changes.topics.is_empty() && changes.partitions.is_empty() {
            return;
        }
        if unpoisoned(self.catalog.write()).apply(changes) {
            self.topology.fetch_add(1, Ordering::Release);
        }
        *unpoisoned(self.version.lock()) += 1;
        self.version_changed.notify_all();
    }

    /// Stop for `cause`, unless something earlier was the cause.
    fn stop(&self, cause: String) -> Error {
        let _ = self.stopped.set(cause);
        self.stopped()
    }

    fn stopped(&self) -> Error {
        let cause = self.stopped.get().cloned().unwrap_or_else(|| "its writer ended".to_owned());
        Error::Stopped { path: self.path.clone(), cause }
    }
}

impl Store {
    /// Open the file at `path`, or make it, and the directories above it.
    ///
    /// # Errors
    /// If the file cannot be opened or written, is in use, is something else, or has a newer layout.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        memory::keep_freed();
        Self::start(path, open::open(path, options.cache_bytes)?, options)
    }

    fn start(path: &Path, database: redb::Database, options: Options) -> Result<Self, Error> {
        let catalog = Catalog::load(&database, path)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            database,
            catalog: RwLock::new(catalog),
            topology: AtomicU64::new(0),
            version: Mutex::new(0),
            version_changed: Condvar::new(),
            stopped: OnceLock::new(),
        });
        let (queue, jobs) = sync_channel(QUEUE_COMMANDS);
        let writer = start_writer(&shared, jobs)?;
        let store = Self { shared, options, queue: Some(queue), writer: Some(writer) };
        // A file that cannot be written can be read all the same, and says so at the next change.
        let epoch = (Uuid::new_v4().as_u128() & EPOCH_BITS) as u32;
        let _begun = store.execute(Command::Begin { epoch });
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Why the store takes no change any more, if it stopped.
    pub fn failure(&self) -> Option<Error> {
        self.shared.stopped.get().map(|_| self.shared.stopped())
    }

    /// A compressor for the records that go into this store; `None`: as the store was opened.
    pub fn compressor(&self, compression: Option<Compression>) -> Compressor {
        Compressor::new(compression.unwrap_or(self.options.compression))
    }

    /// Hand a command to the writer. Waits while too many others wait already.
    pub fn submit(&self, command: Command) -> Ticket {
        let (job, ticket) = Job::new(command, &self.shared);
        // If the writer is gone the job is dropped here, and the ticket says that the store stopped.
        let _ = self.queue.as_ref().map(|queue| queue.send(job));
        ticket
    }

    /// Submit a command and wait until it is durable.
    ///
    /// # Errors
    /// Why it was refused, or why the store stopped.
    pub fn execute(&self, command: Command) -> Result<Outcome, Error> {
        self.submit(command).finish()
    }

    /// Make a topic. One that exists gets more partitions if it has fewer, and keeps everything else.
    ///
    /// # Errors
    /// If the name or the number of partitions cannot be, or the store stopped.
    pub fn create_topic(&self, name: &str, partitions: u32, retention: Retention) -> Result<StoredTopic, Error> {
        let existing = self.topic(name).filter(|topic| (1..=topic.partitions).contains(&partitions));
        if let Some(topic) = existing {
            return Ok(topic);
        }
        match self.execute(Command::CreateTopic { name: name.into(), partitions, retention, new: false })? {
            Outcome::Topic(topic) => Ok(topic),
            _ => self.topic(name).ok_or_else(|| Error::UnknownTopic(name.into())),
        }
    }

    /// Make a topic that nobody has made before.
    ///
    /// # Errors
    /// If it exists, the name or the number of partitions cannot be, or the store stopped.
    pub fn create_new_topic(&self, name: &str, partitions: u32) -> Result<(), Error> {
        let retention = Retention::default();
        self.execute(Command::CreateTopic { name: name.into(), partitions, retention, new: true }).map(drop)
    }

    /// Drop what the retention of each topic gives up at `now_ms`, milliseconds since 1970-01-01 UTC. A partition with a
    /// damaged batch is left as it is, and keeps no other one from its retention.
    pub fn enforce_retention(&self, now_ms: i64) -> Enforced {
        let mut enforced = Enforced::default();
        for topic in self.topics().into_iter().filter(|topic| topic.retention != Retention::default()) {
            for partition in 0..topic.partitions {
                match self.enforce_on_partition(&topic, partition, now_ms) {
                    Ok(dropped) => enforced.dropped += dropped,
                    Err(error) => {
                        enforced.failed.push(NotEnforced { topic: topic.name.clone(), partition, error });
                    }
                }
                // Of a store that takes no change any more one partition says enough.
                if self.failure().is_some() {
                    return enforced;
                }
            }
        }
        enforced
    }

    fn enforce_on_partition(&self, topic: &StoredTopic, partition: u32, now_ms: i64) -> Result<u64, Error> {
        let start = self.range(topic.id, partition)?.log_start;
        loop {
            let state = self.range(topic.id, partition)?;
            let decides = |age: &retention::Age| topic.retention.retention_ms.is_none() || age.is_known(now_ms);
            let oldest = self.oldest(topic, partition, TRUNCATED_AT_ONCE, decides)?;
            let Some(to) = retention::truncate_to(topic.retention, state, oldest.iter().copied(), now_ms) else {
                return Ok(u64::try_from(state.log_start - start).unwrap_or_default());
            };
            let going = &oldest[..oldest.partition_point(|age| age.end <= to)];
            for last in going.chunks(TRUNCATED_AT_ONCE).filter_map(<[_]>::last) {
                self.execute(Command::Truncate { topic: topic.id, partition, to: last.end })?;
            }
        }
    }

    /// A number that changes whenever records, topics or partitions come or go.
    pub fn version(&self) -> u64 {
        *unpoisoned(self.shared.version.lock())
    }

    /// Wait until [`Store::version`] is another one than `seen`, at most `timeout` and a day. The version then.
    pub fn wait_for_change(&self, seen: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout.min(Duration::from_secs(24 * 60 * 60));
        let mut version = unpoisoned(self.shared.version.lock());
        while *version == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            version = unpoisoned(self.shared.version_changed.wait_timeout(version, left)).0;
        }
        *version
    }

    /// A number that changes whenever a topic is made or gets more partitions.
    pub fn topology_version(&self) -> u64 {
        self.shared.topology.load(Ordering::Acquire)
    }
}

/// Epochs are told apart by chance alone, and fit where Kafka has leader epochs.
const EPOCH_BITS: u128 = i32::MAX as u128;

/// How many stored batches one command of the retention drops: each is read, and others wait for the writer meanwhile.
const TRUNCATED_AT_ONCE: usize = 64;

fn start_writer(shared: &Arc<Shared>, jobs: Receiver<Job>) -> Result<JoinHandle<()>, Error> {
    let writer = shared.clone();
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer::run(&writer, &jobs))
        .map_err(|error| Error::Open { path: shared.path.clone(), reason: error.to_string() })
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so by stopping the store.
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
