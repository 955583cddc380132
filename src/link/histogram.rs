//! How long things took: counted in classes, by many threads at once, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of what takes a moment, in seconds: a batch in a stage, a commit, a swap.
const MOMENTS: &[f64] = &[0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// The upper bounds of how long records are on their way, in seconds.
const JOURNEYS: &[f64] = &[0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 60.0, 600.0, 3600.0];

/// Durations by class.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is longer.
    classes: Box<[AtomicU64]>,
    /// The bits of a float: a sum of whole units would run over with records of 1970.
    sum: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The upper bounds of the classes, in seconds; the last class has none.
    pub bounds: &'static [f64],
    /// How many there are in each class, and in no class before it.
    pub classes: Vec<u64>,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, classes: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Of what takes a moment.
    pub(super) fn of_moments() -> Self {
        Self::new(MOMENTS)
    }

    /// Of how long records are on their way.
    pub(super) fn of_journeys() -> Self {
        Self::new(JOURNEYS)
    }

    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.classes[self.bounds.partition_point(|bound| *bound < seconds)].fetch_add(1, Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + seconds).to_bits());
        let _always_some = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    /// What was counted so far.
    pub fn read(&self) -> Reading {
        let classes = self.classes.iter().map(|class| class.load(Relaxed)).collect();
        Reading { bounds: self.bounds, classes, sum: f64::from_bits(self.sum.load(Relaxed)) }
    }
}

/// How long the parts of a link's work take, in all lanes.
#[derive(Debug)]
pub struct Timings {
    /// Commits, from when they begin until readers of the target see them.
    pub commit: Histogram,
    /// From the timestamp of a record until readers of the target see it: for each commit that of the oldest of the records that its batches begin with.
    pub latency: Histogram,
    /// Swaps, while which a lane hands no records on.
    pub swap_pause: Histogram,
}

impl Default for Timings {
    fn default() -> Self {
        Self { commit: Histogram::of_moments(), latency: Histogram::of_journeys(), swap_pause: Histogram::of_moments() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_class_that_has_room_for_it() {
        let histogram = Histogram::of_moments();
        for ms in [0, 1, 2, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(ms));
        }
        let reading = histogram.read();
        assert_eq!(reading.classes, [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(reading.bounds.len() + 1, reading.classes.len());
        assert!((reading.sum - 20.004).abs() < 1e-9, "{}", reading.sum);
    }

    #[test]
    fn nothing_is_lost_when_many_observe_at_once() {
        let histogram = Histogram::of_journeys();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| histogram.observe(Duration::from_millis(250))));
            }
        });
        let reading = histogram.read();
        assert_eq!((reading.classes[4], reading.classes.iter().sum::<u64>()), (40_000, 40_000));
        assert_eq!(reading.sum, 10_000.0);
    }

    /// Records of 1970 once would have made a sum of nanoseconds run over within minutes.
    #[test]
    fn very_old_records_do_not_make_the_sum_begin_anew() {
        let histogram = Histogram::of_journeys();
        let decades = Duration::from_secs(50 * 365 * 86_400);
        (0..100_000).for_each(|_| histogram.observe(decades));
        assert!(histogram.read().sum > 1.5e14);
    }
}
