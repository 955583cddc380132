//! How a revision does: its probation, and what the breakers of its lanes found.
//!
//! Lanes count; the one that sees a threshold passed raises the trouble, and from then on no lane takes another batch under this
//! revision. Whoever looks after the link (its warden) then pauses it, or brings the revision before back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::stats::Tally;
use super::status::lock;
use crate::config::{BreakerAction, ProbationConfig};

/// Before so many records a share says nothing: one bad record of ten is not ten percent.
const RECORDS_MIN: u64 = 100;

/// Before so many records the time of a record says nothing.
const TIMED_RECORDS_MIN: u64 = 1000;

/// Less CPU time for a record, more than before, is not slow, whatever the factor.
const SLOWNESS_MIN: Duration = Duration::from_micros(5);

/// Why a revision must not go on, and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) action: BreakerAction,
    /// In words, for the history.
    pub(super) reason: String,
}

/// How a revision does, in all lanes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    probation: Option<Probation>,
    records: AtomicU64,
    rejected: AtomicU64,
    trapped: AtomicU64,
    cpu_time_ns: AtomicU64,
    /// The records that this CPU time was measured for, each once for each stage.
    timed_records: AtomicU64,
    /// Whether the probation has ended well.
    passed: AtomicBool,
    /// Whether there is trouble. Lanes look here before each batch.
    held: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
}

/// The terms of a probation.
#[derive(Clone, Debug)]
pub(super) struct Probation {
    pub(super) config: ProbationConfig,
    /// When it ends, whatever was handled.
    pub(super) until: Instant,
    /// CPU time of a record under the revision before, if it is known.
    pub(super) time_before: Option<Duration>,
}

impl Watch {
    pub(super) fn new(probation: Option<Probation>) -> Self {
        Self { probation, ..Self::default() }
    }

    /// Count what the stages did with a batch. Whether this has raised trouble, or ended the probation.
    pub(super) fn add(&self, tallies: &[Tally]) -> bool {
        let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
        let records = tallies.first().map_or(0, |tally| tally.records_in);
        self.records.fetch_add(records, Relaxed);
        self.rejected.fetch_add(sum(|tally| tally.rejected), Relaxed);
        self.trapped.fetch_add(sum(|tally| tally.trapped), Relaxed);
        self.cpu_time_ns.fetch_add(sum(|tally| tally.cpu_time.as_nanos() as u64), Relaxed);
        self.timed_records.fetch_add(sum(|tally| tally.timed_records), Relaxed);
        let Some(probation) = self.probation.as_ref().filter(|_| self.is_on_probation()) else { return false };
        match self.judge(probation) {
            Some(reason) => {
                self.raise(BreakerAction::Rollback, reason);
                true
            }
            None => self.records.load(Relaxed) >= probation.config.records,
        }
    }

    /// Why the revision has not passed, if it has not.
    fn judge(&self, probation: &Probation) -> Option<String> {
        let config = &probation.config;
        let records = self.records.load(Relaxed);
        let over = |count: u64, percent: u32| count * 100 > records.max(RECORDS_MIN) * u64::from(percent);
        let (rejected, trapped) = (self.rejected.load(Relaxed), self.trapped.load(Relaxed));
        if over(rejected, config.rejected_percent) {
            let percent = config.rejected_percent;
            return Some(format!("rejected {rejected} of its first {records} records, more than {percent} %"));
        }
        if over(trapped, config.trapped_percent) {
            let percent = config.trapped_percent;
            return Some(format!("trapped on {trapped} of its first {records} records, more than {percent} %"));
        }
        let (before, now) = (probation.time_before?, self.time_per_record()?);
        if now > before * config.slowdown && now > before + SLOWNESS_MIN {
            let (now, before) = (now.as_nanos(), before.as_nanos());
            return Some(format!("takes {now} ns of CPU time for a record, and the revision before took {before} ns"));
        }
        None
    }

    /// CPU time of a record in a stage; `None` while too few were measured.
    pub(super) fn time_per_record(&self) -> Option<Duration> {
        let records = self.timed_records.load(Relaxed);
        (records >= TIMED_RECORDS_MIN).then(|| Duration::from_nanos(self.cpu_time_ns.load(Relaxed) / records))
    }

    pub(super) fn is_on_probation(&self) -> bool {
        let runs = |probation: &Probation| Instant::now() < probation.until;
        !self.passed.load(Relaxed) && self.probation.as_ref().is_some_and(runs)
    }

    /// How many records it has handled, if its probation has ended since this was asked last, and well.
    pub(super) fn take_passed(&self) -> Option<u64> {
        let probation = self.probation.as_ref()?;
        let records = self.records.load(Relaxed);
        let ended = records >= probation.config.records || Instant::now() >= probation.until;
        (ended && !self.is_held() && !self.passed.swap(true, Relaxed)).then_some(records)
    }

    /// Hold all lanes until somebody has done something. The first trouble counts.
    pub(super) fn raise(&self, action: BreakerAction, reason: String) {
        let mut trouble = lock(&self.trouble);
        if trouble.is_none() {
            *trouble = Some(Trouble { action, reason });
            self.held.store(true, Relaxed);
        }
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        lock(&self.trouble).clone()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    /// Let the lanes go on under this revision all the same.
    pub(super) fn release(&self) {
        *lock(&self.trouble) = None;
        self.passed.store(true, Relaxed);
        self.held.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(time_before: Option<Duration>) -> Watch {
        let config =
            ProbationConfig { records: 10_000, time_ms: 0, rejected_percent: 5, trapped_percent: 1, slowdown: 10 };
        let until = Instant::now() + Duration::from_secs(3600);
        Watch::new(Some(Probation { config, until, time_before }))
    }

    fn tally(records_in: u64, rejected: u64, trapped: u64) -> [Tally; 1] {
        let (cpu_time, timed_records) = (Duration::from_micros(records_in), records_in);
        [Tally { records_in, rejected, trapped, cpu_time, timed_records, ..Tally::default() }]
    }

    #[test]
    fn a_share_of_few_records_says_nothing() {
        let watch = watch(None);
        watch.add(&tally(10, 5, 1));
        assert!(!watch.is_held());
        watch.add(&tally(10, 1, 0));
        assert!(watch.is_held(), "6 of at least 100 are more than 5 %");
    }

    #[test]
    fn too_many_rejects_bring_the_revision_before_back_in_words() {
        let watch = watch(None);
        watch.add(&tally(1000, 50, 0));
        assert_eq!(watch.trouble(), None);
        watch.add(&tally(10, 10, 0));
        let trouble = watch.trouble().expect("trouble");
        assert_eq!(trouble.action, BreakerAction::Rollback);
        assert_eq!(trouble.reason, "rejected 60 of its first 1010 records, more than 5 %");
    }

    #[test]
    fn traps_and_slowness_count_as_well() {
        let traps = watch(None);
        traps.add(&tally(1000, 0, 11));
        assert!(traps.trouble().is_some_and(|trouble| trouble.reason.starts_with("trapped on 11")));
        let slow = watch(Some(Duration::from_nanos(50)));
        slow.add(&tally(999, 0, 0));
        assert!(!slow.is_held(), "too few to say");
        slow.add(&tally(1, 0, 0));
        assert!(!slow.is_held(), "twenty times as long, but only a microsecond");
        let cpu_time = Duration::from_millis(20);
        slow.add(&[Tally { records_in: 1000, timed_records: 1000, cpu_time, ..Tally::default() }]);
        assert!(slow.trouble().is_some_and(|trouble| trouble.reason.contains("took 50 ns")));
    }

    #[test]
    fn a_probation_ends_once_and_is_not_taken_up_again() {
        let watch = watch(None);
        watch.add(&tally(9_999, 0, 0));
        assert_eq!(watch.take_passed(), None);
        watch.add(&tally(1, 0, 0));
        assert_eq!(watch.take_passed(), Some(10_000));
        assert_eq!(watch.take_passed(), None);
        watch.add(&tally(1000, 1000, 0));
        assert!(!watch.is_held());
    }
}
