//! What the lanes of a link tell the rest of the daemon. Lanes write, everybody else reads; nothing here decides anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::histogram::Timings;
use crate::connector::OpenTransaction;
use crate::model::{RevisionNumber, TopicPartition};

/// How far back rates look.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// What a lane does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LaneState {
    #[default]
    Stopped,
    Opening,
    Running,
    Paused,
    Retrying,
    Failed,
    /// Another daemon has it.
    Elsewhere,
}

/// A lane as it is now.
#[derive(Clone, Debug, Default)]
pub struct LaneStatus {
    /// What it does.
    pub state: LaneState,
    /// The revision that it last committed under.
    pub revision: Option<RevisionNumber>,
    /// The revision that it runs, or has tried to run last.
    pub runs: Option<RevisionNumber>,
    /// The next source offset of each of its partitions, as committed.
    pub committed: BTreeMap<TopicPartition, Progress>,
    /// When it last committed, in milliseconds since 1970-01-01 UTC.
    pub last_commit_ms: Option<i64>,
    /// The state that each stage keeps for its partitions, in bytes.
    pub state_bytes: Vec<u64>,
    /// How long its last swap took.
    pub last_swap_pause: Option<Duration>,
    /// Why it failed, or what it is retrying.
    pub failure: Option<Failure>,
    /// Why some of its partitions stand still while it reads the others.
    pub stalled: BTreeMap<TopicPartition, Failure>,
    /// The transactions that are open in its partitions of the source: a lane that opens again
    /// knows how old they are.
    pub open_transactions: BTreeMap<TopicPartition, OpenTransaction>,
    /// The daemon that has it, if that is another one and known.
    pub daemon: Option<Arc<str>>,
}

/// How far a lane has come in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The next source offset, as committed.
    pub next_offset: i64,
    /// Records committed since the lane was opened first.
    pub records_out: u64,
    /// Bytes of their keys, values and headers.
    pub bytes_out: u64,
}

/// What a link has done since the daemon started. Counted when it is committed.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records read.
    pub records_in: AtomicU64,
    /// Records that the built-in filter or a stage dropped, and those that had come from the target.
    pub records_filtered: AtomicU64,
    /// Records that were put aside: a stage could not handle them, or the target does not take them.
    pub records_put_aside: AtomicU64,
    /// Records that the built-in transform or a stage changed, or a stage made; each time it was.
    pub records_transformed: AtomicU64,
    /// Records written.
    pub records_out: AtomicU64,
    /// Bytes of their keys, values and headers.
    pub bytes_out: AtomicU64,
    /// Failures of lanes, those that were retried as well.
    pub errors: AtomicU64,
    /// Failures since the last commit.
    pub consecutive_failures: AtomicU64,
    /// How long it takes.
    pub timings: Timings,
}

/// What a lane has done but not committed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) records_in: u64,
    pub(super) records_filtered: u64,
    pub(super) records_put_aside: u64,
    pub(super) records_transformed: u64,
    pub(super) records_out: u64,
    pub(super) bytes_out: u64,
}

impl Counters {
    pub(super) fn add(&self, tally: Tally) {
        self.records_in.fetch_add(tally.records_in, Relaxed);
        self.records_filtered.fetch_add(tally.records_filtered, Relaxed);
        self.records_put_aside.fetch_add(tally.records_put_aside, Relaxed);
        self.records_transformed.fetch_add(tally.records_transformed, Relaxed);
        self.records_out.fetch_add(tally.records_out, Relaxed);
        self.bytes_out.fetch_add(tally.bytes_out, Relaxed);
        self.consecutive_failures.store(0, Relaxed);
    }

    pub(super) fn add_failure(&self) {
        self.errors.fetch_add(1, Relaxed);
        self.consecutive_failures.fetch_add(1, Relaxed);
    }
}

/// Rates over the last seconds, from counts that are sampled once in a while.
#[derive(Debug, Default)]
pub struct Meter {
    samples: Mutex<VecDeque<Sample>>,
    /// The most bytes a second that were seen, as the bits of a number that is not negative.
    peak_bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    records: u64,
    bytes: u64,
    errors: u64,
}

/// Events a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Records written.
    pub records: f64,
    /// Bytes written.
    pub bytes: f64,
    /// Errors.
    pub errors: f64,
}

impl Meter {
    /// Remember what the counters say at `now`.
    pub fn sample(&self, now: Instant, counters: &Counters) {
        let mut samples = lock(&self.samples);
        samples.push_back(Sample {
            at: now,
            records: counters.records_out.load(Relaxed),
            bytes: counters.bytes_out.load(Relaxed),
            errors: counters.errors.load(Relaxed),
        });
        while samples.len() > 2 && now - samples[1].at >= RATE_WINDOW {
            samples.pop_front();
        }
        drop(samples);
        // The bits of such numbers are in the order of the numbers.
        self.peak_bytes.fetch_max(self.rates().bytes.to_bits(), Relaxed);
    }

    /// The most bytes a second that were seen.
    pub fn peak_bytes(&self) -> f64 {
        f64::from_bits(self.peak_bytes.load(Relaxed))
    }

    /// The rates between the oldest and the newest sample.
    pub fn rates(&self) -> Rates {
        let samples = lock(&self.samples);
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else { return Rates::default() };
        let seconds = (last.at - first.at).as_secs_f64();
        if seconds == 0.0 {
            return Rates::default();
        }
        let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
        Rates {
            records: rate(first.records, last.records),
            bytes: rate(first.bytes, last.bytes),
            errors: rate(first.errors, last.errors),
        }
    }
}

/// A lock that a panic elsewhere does not take away: what it guards is only shown to people.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_window_and_nothing_older() {
        let (meter, counters, start) = (Meter::default(), Counters::default(), Instant::now());
        counters.records_out.store(1_000_000, Relaxed);
        for second in 0..20 {
            meter.sample(start + Duration::from_secs(second), &counters);
            counters.records_out.fetch_add(if second < 10 { 5 } else { 50 }, Relaxed);
        }
        assert_eq!(meter.rates().records, 50.0);
    }

    #[test]
    fn one_sample_is_no_rate() {
        let meter = Meter::default();
        meter.sample(Instant::now(), &Counters::default());
        assert_eq!(meter.rates(), Rates::default());
    }
}
