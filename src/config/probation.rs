//! `[links.ID.probation]`: how a new revision is watched.

use super::reader::Table;

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 24 * 3600 * SECOND_MS;

/// How a revision is watched after it was published.
///
/// It is on probation until it has handled [`records`](Self::records) records or [`time_ms`](Self::time_ms) has passed, whichever
/// is first. Above one of the thresholds the revision before it comes back by itself, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbationConfig {
    /// Ends after this many records; 0: there is no probation.
    pub records: u64,
    /// Ends after this many milliseconds.
    pub time_ms: u64,
    /// The share of records that it may reject, in percent. 100 is never exceeded.
    pub rejected_percent: u32,
    /// The share of records that it may trap on, in percent. 100 is never exceeded.
    pub trapped_percent: u32,
    /// How many times the CPU time per record of the revision before it may take.
    pub slowdown: u32,
}

impl Default for ProbationConfig {
    fn default() -> Self {
        Self { records: 10_000, time_ms: 300 * SECOND_MS, rejected_percent: 5, trapped_percent: 1, slowdown: 10 }
    }
}

impl ProbationConfig {
    /// How long a revision is on trial that is published now, in milliseconds; 0: it is not.
    pub fn trial_ms(&self) -> u64 {
        if self.records > 0 { self.time_ms } else { 0 }
    }

    pub(super) fn read(mut table: Table<'_>) -> Self {
        let default = Self::default();
        let probation = Self {
            records: table.integer("records", default.records, 0..=1_000_000_000),
            time_ms: table.duration_ms("time", default.time_ms, SECOND_MS..=30 * DAY_MS),
            rejected_percent: table.percent("rejected_percent", default.rejected_percent),
            trapped_percent: table.percent("trapped_percent", default.trapped_percent),
            // Less than twice is within what caches and neighbours do to a measurement.
            slowdown: table.integer("slowdown", default.slowdown.into(), 2..=1000) as u32,
        };
        table.finish();
        probation
    }
}
