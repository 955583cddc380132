//! `[links.ID.health]`: when a link is not well.

use std::time::Duration;

use super::reader::Table;

const SECOND_MS: u64 = 1000;
const HOUR_MS: u64 = 3600 * SECOND_MS;
const CENTURY_MS: u64 = 100 * 365 * 24 * HOUR_MS;

/// When a link is not well, and how often its clusters are asked whether they answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// How far it may be behind, in milliseconds.
    pub lag_ms_max: u64,
    /// How many errors it may have in a second.
    pub errors_per_second_max: u64,
    /// How often its lanes may fail without a commit between.
    pub consecutive_failures_max: u64,
    /// How long a lane that has something to commit may go without a commit.
    pub checkpoint_age_max: Duration,
    /// How often its clusters are asked.
    pub interval: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            lag_ms_max: 60 * SECOND_MS,
            errors_per_second_max: 10,
            consecutive_failures_max: 3,
            checkpoint_age_max: Duration::from_secs(60),
            interval: Duration::from_secs(10),
        }
    }
}

impl HealthConfig {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let default = Self::default();
        let ms = |duration: Duration| duration.as_millis() as u64;
        let health = Self {
            // Records may be as old as they like when their producers have written them.
            lag_ms_max: table.integer("lag_ms_max", default.lag_ms_max, 1..=CENTURY_MS),
            errors_per_second_max: table.integer("errors_per_second_max", default.errors_per_second_max, 0..=1_000_000),
            consecutive_failures_max: table.integer(
                "consecutive_failures_max",
                default.consecutive_failures_max,
                0..=1_000_000,
            ),
            // A lane that searches for bad records goes without a commit for seconds.
            checkpoint_age_max: Duration::from_millis(table.duration_ms(
                "checkpoint_age_max",
                ms(default.checkpoint_age_max),
                SECOND_MS..=24 * HOUR_MS,
            )),
            interval: Duration::from_millis(table.duration_ms("interval", ms(default.interval), SECOND_MS..=HOUR_MS)),
        };
        table.finish();
        health
    }
}
