//! What a stage has done: what a lane counts while it works on a batch, and what all lanes have counted together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::failure::Place;
use super::histogram::Histogram;
use super::letters::Cause;
use super::status::lock;
use crate::config::BreakerConfig;
use crate::model::Batch;
use crate::plugin::instance::MEASURED;
use crate::plugin::{StageMetrics, TrapKind};

/// The codes of a stage that are counted one by one. What comes after them is counted as [`OTHER`].
const CODES_MAX: usize = 64;
/// All codes for which there was no room.
const OTHER: &str = "other";

/// The upper bounds of the histogram of calls, in microseconds of CPU time. The last class has none.
pub const CALL_TIME_BOUNDS_US: [u64; 10] = [30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];

/// What a stage did with a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) dropped: u64,
    pub(super) changed: u64,
    pub(super) rejected: u64,
    pub(super) trapped: u64,
    /// CPU time of the calls that were measured, and the records that they had.
    pub(super) cpu_time: Duration,
    pub(super) timed_records: u64,
    /// How long the calls took by the clock on the wall; `None`: there was none.
    pub(super) took: Option<Duration>,
    /// What it could not handle, by code.
    pub(super) incidents: BTreeMap<String, Incident>,
}

/// Records that a stage could not handle, with the same code.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    pub(super) count: u64,
    /// What the first of them was.
    pub(super) message: String,
    pub(super) place: Place,
}

impl Tally {
    /// Count a record that could not be handled.
    pub(super) fn note(&mut self, cause: &Cause, record: &Batch) {
        if cause.has_trapped() {
            self.trapped += 1;
        } else {
            self.rejected += 1;
        }
        let first = || Incident { count: 0, message: cause.message.clone(), place: Place::of(record) };
        self.incidents.entry(cause.code.clone()).or_insert_with(first).count += 1;
    }
}

/// What a lane's stage could not handle of its last records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    records: u64,
    rejected: u64,
    trapped: u64,
}

impl Window {
    pub(super) fn add(&mut self, tally: &Tally, window_records: u64) {
        self.records += tally.records_in;
        self.rejected += tally.rejected;
        self.trapped += tally.trapped;
        if self.records >= window_records {
            *self = Self::default();
        }
    }

    /// Why the breaker opens, if it does with so many more in the batch at hand.
    pub(super) fn opens(&self, rejected: u64, trapped: u64, breaker: &BreakerConfig) -> Option<String> {
        let over = |count: u64, percent: u32| count * 100 > breaker.window_records * u64::from(percent);
        let (rejected, trapped) = (self.rejected + rejected, self.trapped + trapped);
        let of = breaker.window_records;
        if over(rejected, breaker.rejected_percent) {
            let percent = breaker.rejected_percent;
            return Some(format!(
                "rejected {rejected} records, more than {percent} % of the {of} that the breaker looks at"
            ));
        }
        if over(trapped, breaker.trapped_percent) {
            let percent = breaker.trapped_percent;
            return Some(format!(
                "trapped on {trapped} records, more than {percent} % of the {of} that the breaker looks at"
            ));
        }
        None
    }
}

/// What a stage has done, in all lanes, since the daemon started.
#[derive(Debug)]
pub struct StageStats {
    /// Records handed to it. One that was put aside counts once, however often it was tried.
    pub records_in: AtomicU64,
    /// Records that came out.
    pub records_out: AtomicU64,
    /// Records that it dropped.
    pub dropped: AtomicU64,
    /// Records that it rejected.
    pub rejected: AtomicU64,
    /// Records that it trapped on.
    pub trapped: AtomicU64,
    /// CPU time of all calls that did not trap, in nanoseconds. Those that were measured stand for the others.
    pub cpu_time_ns: AtomicU64,
    /// Linear memory of the instance that was called last, in bytes.
    pub memory_bytes: AtomicU64,
    /// What its instances count themselves.
    pub metrics: Arc<StageMetrics>,
    /// How long batches were in it by the clock on the wall, with all calls that a search for bad records took.
    pub batch_times: Histogram,
    /// Calls by CPU time: the classes of [`CALL_TIME_BOUNDS_US`], and one for longer ones.
    call_times: [AtomicU64; CALL_TIME_BOUNDS_US.len() + 1],
    codes: Mutex<BTreeMap<String, u64>>,
    traps: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for StageStats {
    fn default() -> Self {
        Self {
            records_in: AtomicU64::default(),
            records_out: AtomicU64::default(),
            dropped: AtomicU64::default(),
            rejected: AtomicU64::default(),
            trapped: AtomicU64::default(),
            cpu_time_ns: AtomicU64::default(),
            memory_bytes: AtomicU64::default(),
            metrics: Arc::default(),
            call_times: <[AtomicU64; CALL_TIME_BOUNDS_US.len() + 1]>::default(),
            batch_times: Histogram::of_moments(),
            codes: Mutex::default(),
            traps: Mutex::default(),
        }
    }
}

impl StageStats {
    pub(super) fn add_call(&self, cpu_time: Option<Duration>, memory_bytes: u64) {
        if let Some(cpu_time) = cpu_time {
            let us = cpu_time.as_micros() as u64;
            let class = CALL_TIME_BOUNDS_US.partition_point(|bound| *bound < us);
            self.call_times[class].fetch_add(1, Relaxed);
        }
        self.memory_bytes.store(memory_bytes, Relaxed);
    }

    pub(super) fn add_trap(&self, kind: TrapKind) {
        *lock(&self.traps).entry(kind.code()).or_default() += 1;
    }

    pub(super) fn add(&self, tally: &Tally) {
        self.records_in.fetch_add(tally.records_in, Relaxed);
        self.records_out.fetch_add(tally.records_out, Relaxed);
        self.dropped.fetch_add(tally.dropped, Relaxed);
        self.rejected.fetch_add(tally.rejected, Relaxed);
        self.trapped.fetch_add(tally.trapped, Relaxed);
        self.cpu_time_ns.fetch_add(tally.cpu_time.as_nanos() as u64 * MEASURED, Relaxed);
        if let Some(took) = tally.took {
            self.batch_times.observe(took);
        }
        if tally.incidents.is_empty() {
            return;
        }
        let mut codes = lock(&self.codes);
        for (code, incident) in &tally.incidents {
            let room = codes.len() < CODES_MAX || codes.contains_key(code);
            *codes.entry(if room { code.clone() } else { OTHER.to_owned() }).or_default() += incident.count;
        }
    }

    /// Records that it could not handle, by code: those of rejects, and those of traps.
    pub fn codes(&self) -> BTreeMap<String, u64> {
        lock(&self.codes).clone()
    }

    /// Calls that trapped, by kind. A record that is put aside takes several.
    pub fn traps(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.traps).clone()
    }

    /// Calls that were measured and did not trap, by the classes of [`CALL_TIME_BOUNDS_US`] and one for longer ones.
    pub fn call_times(&self) -> Vec<u64> {
        self.call_times.iter().map(|class| class.load(Relaxed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BreakerAction;

    fn breaker() -> BreakerConfig {
        BreakerConfig { window_records: 1000, rejected_percent: 50, trapped_percent: 5, then: BreakerAction::Pause }
    }

    #[test]
    fn the_breaker_opens_above_its_share_of_the_window() {
        let mut window = Window::default();
        window.add(&Tally { records_in: 600, rejected: 400, trapped: 40, ..Tally::default() }, 1000);
        assert_eq!(window.opens(100, 10, &breaker()), None);
        assert!(window.opens(101, 0, &breaker()).is_some_and(|why| why.contains("rejected 501 records")));
        assert!(window.opens(0, 11, &breaker()).is_some_and(|why| why.contains("trapped on 51 records")));
    }

    #[test]
    fn a_window_that_is_full_begins_again() {
        let mut window = Window::default();
        window.add(&Tally { records_in: 1000, rejected: 500, ..Tally::default() }, 1000);
        assert_eq!(window.opens(500, 0, &breaker()), None);
    }

    #[test]
    fn calls_are_counted_in_classes_of_time() {
        let stats = StageStats::default();
        for us in [0, 30, 31, 1_000_000, 1_000_001] {
            stats.add_call(Some(Duration::from_micros(us)), 0);
        }
        let classes = stats.call_times();
        assert_eq!((classes[0], classes[1], classes[9], classes[10]), (2, 1, 1, 1));
    }
}
