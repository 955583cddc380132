//! The one thread that writes.
//!
//! It takes all commands that wait and makes one durable transaction of them, so that many who commit at once share the
//! cost of the disk. After a failure of the storage it never writes again: what is on the disk is not known then, and the
//! only one who can find out is the next open.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Shared;
use super::apply::{Failure, Tables};
use super::command::{Command, Outcome};
use super::error::Error;
use super::tables::Changes;

/// How many commands can wait. Who submits more waits for a place: a lane has one commit under way at most, so
/// this is more than lanes in practice.
pub(super) const QUEUE_COMMANDS: usize = 64;

/// A transaction takes no further command from this size on, so that one does not wait for the disk longer than needed.
const GROUP_BYTES: usize = 16 * 1024 * 1024;

type Answer = Result<Outcome, Error>;

/// A command on its way.
pub(super) struct Job {
    command: Command,
    answer: SyncSender<Answer>,
}

impl Job {
    pub(super) fn new(command: Command, shared: &Arc<Shared>) -> (Self, Ticket) {
        let (answer, receiver) = sync_channel(1);
        (Self { command, answer }, Ticket { receiver, shared: shared.clone() })
    }
}

/// Stands for a command that was submitted.
pub struct Ticket {
    receiver: Receiver<Answer>,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Wait until the command is durable or refused, at most `timeout`. `None`: not yet. The answer comes once.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Outcome, Error>> {
        match self.receiver.recv_timeout(timeout) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(self.shared.stopped())),
        }
    }

    /// Wait until the command is durable or refused.
    ///
    /// # Errors
    /// Why it was refused, or why the store stopped.
    pub fn finish(self) -> Result<Outcome, Error> {
        self.receiver.recv().unwrap_or_else(|_| Err(self.shared.stopped()))
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

/// Write until nobody can submit any more.
pub(super) fn run(shared: &Shared, queue: &Receiver<Job>) {
    let _stopped = StoppedOnPanic(shared);
    while let Ok(first) = queue.recv() {
        let mut bytes = first.command.bytes();
        let mut group = vec![first];
        while group.len() < QUEUE_COMMANDS && bytes < GROUP_BYTES {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.command.bytes();
            group.push(job);
        }
        commit(shared, group);
    }
}

/// The storage library asserts what only damage can break. Whoever waits must then hear that the store stopped.
struct StoppedOnPanic<'a>(&'a Shared);

impl Drop for StoppedOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the storage library gave up".to_owned());
        }
    }
}

pub(super) fn commit(shared: &Shared, group: Vec<Job>) {
    let mut changes = Changes::default();
    let written = match shared.stopped.get() {
        Some(_) => Err(shared.stopped()),
        None => write(shared, &group, &mut changes).map_err(|cause| shared.stop(cause)),
    };
    let answers = match written {
        Ok(answers) => {
            // Before anybody is answered: who hears that it is durable must find it.
            shared.publish(changes);
            answers
        }
        Err(error) => vec![Err(error); group.len()],
    };
    for (job, answer) in group.into_iter().zip(answers) {
        // Nobody has to wait for an answer.
        let _ = job.answer.send(answer);
    }
}

/// Apply and commit. An error says what failed in the storage; nothing is known of the group then.
fn write(shared: &Shared, group: &[Job], changes: &mut Changes) -> Result<Vec<Answer>, String> {
    let mut transaction = shared.database.begin_write().map_err(|error| error.to_string())?;
    // A second small write a commit, so that a restart after a crash need not read the whole file.
    transaction.set_quick_repair(true);
    let answers = apply(&transaction, group, changes)?;
    if answers.iter().any(Result::is_ok) {
        transaction.commit().map_err(|error| error.to_string())?;
    } else {
        transaction.abort().map_err(|error| error.to_string())?;
    }
    Ok(answers)
}

fn apply(transaction: &redb::WriteTransaction, group: &[Job], changes: &mut Changes) -> Result<Vec<Answer>, String> {
    let storage = |failure| match failure {
        Failure::Refused(error) => Ok(Err(error)),
        Failure::Storage(reason) => Err(reason),
    };
    let mut tables = match Tables::open(transaction) {
        Ok(tables) => tables,
        Err(failure) => return storage(failure).map(|refused| vec![refused; group.len()]),
    };
    group
        .iter()
        .map(|job| tables.apply(&job.command, changes).map_or_else(storage, |outcome| Ok(Ok(outcome))))
        .collect()
}

/// The value behind a lock. A thread that panicked leaves it whole: it is only ever replaced as one.
pub(super) fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
