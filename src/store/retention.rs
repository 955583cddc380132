//! How much of a partition its topic's retention gives up.

use super::command::{Retention, StoredPartition};

/// What retention has to know of a stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The offset after its last record.
    pub end: i64,
    /// Its bytes, as stored.
    pub bytes: u64,
    /// The timestamp of its newest record, milliseconds since 1970-01-01 UTC.
    pub max_timestamp: i64,
}

/// The offset to truncate a partition to, or `None` if everything stays. `batches` are its stored batches from the oldest on;
/// no more of them are taken than go, and one.
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
        let age = now_ms.saturating_sub(batch.max_timestamp);
        let too_old = retention.retention_ms.is_some_and(|most| age > i64::try_from(most).unwrap_or(i64::MAX));
        let too_much = retention.retention_bytes.is_some_and(|most| bytes > most);
        if !too_old && !too_much {
            break;
        }
        bytes = bytes.saturating_sub(batch.bytes);
        to = Some(batch.end);
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of ten records and 100 bytes, one a second from 1,000 ms on.
    fn plan(retention_ms: Option<u64>, retention_bytes: Option<u64>, now_ms: i64) -> Option<i64> {
        let batch = |index: i64| Age { end: index * 10, bytes: 100, max_timestamp: index * 1000 };
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
}
