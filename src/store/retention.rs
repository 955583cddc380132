//! How much of a partition its topic's retention gives up.

use std::sync::Arc;

use super::Error;
use super::command::{Retention, StoredPartition};
use crate::model::time::NO_TIMESTAMP;

/// What a round of retention has done.
#[derive(Debug, Default)]
#[must_use]
pub struct Enforced {
    /// The number of records dropped.
    pub dropped: u64,
    /// The partitions whose retention failed.
    pub failed: Vec<NotEnforced>,
}

/// A partition whose retention failed.
#[derive(Clone, Debug)]
pub struct NotEnforced {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: u32,
    /// Why: a stored batch is damaged, or the store stopped.
    pub error: Error,
}

/// What retention has to know of a stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The offset after its last record.
    pub end: i64,
    /// Its bytes, as stored.
    pub bytes: u64,
    /// The highest timestamp of its records, milliseconds since 1970-01-01 UTC, as their producers
    /// wrote it.
    pub max_timestamp: i64,
    /// When it was written; `None` for one that a program wrote which did not say so.
    pub arrival: Option<i64>,
}

impl Age {
    /// Whether anything is known of when its newest record is from.
    pub fn is_known(&self, now_ms: i64) -> bool {
        self.written(now_ms).is_some()
    }

    /// When its newest record is from, as far as that is to be believed: a timestamp that is none,
    /// or later than the record's arrival, is not.
    fn written(&self, now_ms: i64) -> Option<i64> {
        let at_latest = self.arrival.unwrap_or(now_ms);
        let timestamp = Some(self.max_timestamp).filter(|it| *it != NO_TIMESTAMP && *it <= at_latest);
        timestamp.or(self.arrival)
    }
}

/// The offset to truncate a partition to, or `None` if everything stays. `batches` are its stored
/// batches from the oldest on; no more of them are taken than go, and one. A batch whose time is
/// not known goes with the next one that is too old: it was written before that.
pub fn truncate_to(
    retention: Retention,
    partition: StoredPartition,
    batches: impl IntoIterator<Item = Age>,
    now_ms: i64,
) -> Option<i64> {
    let mut to = None;
    let mut bytes = partition.bytes;
    if retention == Retention::default() {
        return None;
    }
    for batch in batches {
        let is_too_old = |written: i64| {
            let age = now_ms.saturating_sub(written);
            retention.retention_ms.is_some_and(|most| age > i64::try_from(most).unwrap_or(i64::MAX))
        };
        let too_old = batch.written(now_ms).map(is_too_old);
        let too_much = retention.retention_bytes.is_some_and(|most| bytes > most);
        if too_old == Some(false) && !too_much {
            break;
        }
        bytes = bytes.saturating_sub(batch.bytes);
        if too_old == Some(true) || too_much {
            to = Some(batch.end);
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of ten records and 100 bytes, one a second from 1,000 ms on.
    fn plan(retention_ms: Option<u64>, retention_bytes: Option<u64>, now_ms: i64) -> Option<i64> {
        let batch =
            |index: i64| Age { end: index * 10, bytes: 100, max_timestamp: index * 1000, arrival: Some(index * 1000) };
        let partition = StoredPartition { log_start: 0, end: 50, bytes: 500 };
        let retention = Retention { retention_ms, retention_bytes };
        truncate_to(retention, partition, (1..=5).map(batch), now_ms)
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(plan(None, None, i64::MAX), None);
    }

    #[test]
    fn by_age_the_old_go() {
        assert_eq!(plan(Some(2000), None, 3000), None, "exactly as old as allowed");
        assert_eq!(plan(Some(2000), None, 3001), Some(10));
        assert_eq!(plan(Some(2000), None, 5500), Some(30));
        assert_eq!(plan(Some(0), None, i64::MAX), Some(50));
        assert_eq!(plan(Some(u64::MAX), None, i64::MAX), None);
    }

    #[test]
    fn by_size_the_oldest_go_until_it_fits() {
        assert_eq!(plan(None, Some(500), 0), None);
        assert_eq!(plan(None, Some(499), 0), Some(10));
        assert_eq!(plan(None, Some(0), 0), Some(50));
    }

    #[test]
    fn the_stricter_limit_counts() {
        assert_eq!(plan(Some(2000), Some(100), 3001), Some(40));
        assert_eq!(plan(Some(2000), Some(400), 6500), Some(40));
    }

    /// One batch for each timestamp and arrival, ten records each; where an hour's retention cuts
    /// them at `now`.
    fn plan_times(batches: &[(i64, Option<i64>)], now_ms: i64) -> Option<i64> {
        let batch = |(index, (max_timestamp, arrival)): (i64, &(i64, Option<i64>))| Age {
            end: index * 10,
            bytes: 100,
            max_timestamp: *max_timestamp,
            arrival: *arrival,
        };
        let partition = StoredPartition { log_start: 0, end: batches.len() as i64 * 10, bytes: 0 };
        let retention = Retention { retention_ms: Some(HOUR), retention_bytes: None };
        truncate_to(retention, partition, (1..).zip(batches).map(batch), now_ms)
    }

    const HOUR: u64 = 3_600_000;
    const NOW: i64 = 1_700_000_000_000;
    const YEAR: i64 = 365 * 86_400_000;

    #[test]
    fn a_timestamp_that_cannot_be_true_is_the_time_of_arrival() {
        let (just_now, long_ago) = (NOW - 60_000, NOW - 2 * HOUR as i64);
        for timestamp in [NO_TIMESTAMP, NOW + YEAR, i64::MAX] {
            assert_eq!(plan_times(&[(timestamp, Some(just_now))], NOW), None, "{timestamp}");
            assert_eq!(plan_times(&[(timestamp, Some(long_ago)), (NOW, Some(NOW))], NOW), Some(10), "{timestamp}");
        }
    }

    #[test]
    fn a_timestamp_before_the_arrival_is_believed() {
        for timestamp in [i64::MIN, -2, 0, NOW - 2 * HOUR as i64] {
            assert_eq!(plan_times(&[(timestamp, Some(NOW))], NOW), Some(10), "{timestamp}");
        }
        assert_eq!(plan_times(&[(NOW, Some(NOW))], i64::MIN), None, "a clock that was set back");
    }

    #[test]
    fn a_batch_without_arrival_goes_no_sooner_than_one_behind_it_that_is_too_old() {
        let long_ago = NOW - 2 * HOUR as i64;
        for timestamp in [NO_TIMESTAMP, NOW + YEAR, i64::MAX] {
            let unknown = (timestamp, None);
            assert_eq!(plan_times(&[unknown, unknown], NOW), None, "{timestamp}");
            assert_eq!(plan_times(&[unknown, (NOW, Some(NOW))], NOW), None, "{timestamp}");
            assert_eq!(plan_times(&[unknown, (long_ago, None), unknown], NOW), Some(20), "{timestamp}");
        }
        assert_eq!(plan_times(&[(long_ago, None)], NOW), Some(10), "as before");
    }
}
