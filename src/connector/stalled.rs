//! Partitions that a source cannot read for now.

use std::time::{Duration, Instant};

use super::{Class, Error, Source};
use crate::model::{Batch, TopicPartition};

/// A partition that a source cannot read at present, and keeps trying to.
#[derive(Clone, Debug)]
pub struct Stalled {
    /// The partition.
    pub partition: TopicPartition,
    /// Why it cannot be read.
    pub why: Error,
}

/// The code of a partition whose records wait for a transaction that does not end. It can be read,
/// and there is nothing to read.
pub const HANGING_TRANSACTION: &str = "hanging-transaction";

/// A transaction of a source partition that is open: nothing behind its first record is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its first record.
    pub from: i64,
    /// When it was seen first.
    pub since: Instant,
}

/// How long a partition may not be readable before somebody hears of it: longer than the brokers of
/// a cluster need to see that one of them is dead and to elect another leader, which took up to 13
/// s when it was measured.
pub const STALLED_AFTER: Duration = Duration::from_secs(15);

/// How long what cannot be read waits before it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// After the first time. Doubles with each time that follows.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// The wait if only a person can help.
    pub for_help: Duration,
}

/// What keeps a partition from being read.
#[derive(Clone, Debug)]
pub struct Trouble {
    since: Instant,
    due: Instant,
    attempts: u32,
    why: Error,
}

impl Trouble {
    /// Something is wrong with a partition at `now`, and `before` it was this, if anything was.
    pub fn after(before: Option<&Self>, why: Error, now: Instant, waits: Waits) -> Self {
        let (since, attempts) = before.map_or((now, 0), |before| (before.since, before.attempts.saturating_add(1)));
        let wait = match why.class {
            Class::Fatal => waits.for_help,
            Class::Reopen | Class::Fenced => waits.first.saturating_mul(1 << attempts.min(16)).min(waits.longest),
        };
        Self { since, due: now + wait, attempts, why }
    }

    /// When it is tried again.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Why the partition stands still at `now`, if people should hear of it: it lasts, or will
    /// until a person helps.
    pub fn told(&self, now: Instant) -> Option<&Error> {
        let lasts = self.why.class == Class::Fatal || now.saturating_duration_since(self.since) >= STALLED_AFTER;
        lasts.then_some(&self.why)
    }
}

/// Read what comes next, for a caller that reads nothing else meanwhile.
///
/// # Errors
/// Those of [`Source::poll`], and why nothing can be read.
pub fn poll_or_fail(
    source: &mut dyn Source,
    max_records: usize,
    max_bytes: usize,
    wait: Duration,
) -> Result<Option<Batch>, Error> {
    match source.poll(max_records, max_bytes, wait)? {
        Some(batch) => Ok(Some(batch)),
        None => source.stalled(Instant::now()).pop().map_or(Ok(None), |stalled| Err(stalled.why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits =
        Waits { first: Duration::from_millis(50), longest: Duration::from_secs(30), for_help: Duration::from_secs(30) };

    fn error(class: Class) -> Error {
        Error { class, code: "no-leader", message: "nobody leads it".to_owned(), remedy: "start a broker" }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_what_lasts_is_told() {
        let begun = Instant::now();
        let (mut now, mut waits, mut trouble) = (begun, Vec::new(), None);
        for _ in 0..12 {
            let next = Trouble::after(trouble.as_ref(), error(Class::Reopen), now, WAITS);
            waits.push((next.due() - now).as_millis());
            assert_eq!(next.told(now).is_some(), now - begun >= STALLED_AFTER);
            (now, trouble) = (next.due(), Some(next));
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        let helpless = Trouble::after(None, error(Class::Fatal), begun, WAITS);
        assert!(helpless.told(begun).is_some(), "only a person can help");
        assert_eq!(helpless.due(), begun + WAITS.for_help);
    }
}
