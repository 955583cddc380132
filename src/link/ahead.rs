//! Records whose timestamps are ahead of every clock: a stage that remembers anything never sees
//! them.
//!
//! The record time of a stage never goes back, so a single timestamp of a broken producer,
//! microseconds for milliseconds say, would end what the stage remembers for good. A record is
//! ahead if it is later by more than `time_ahead_max` than the record time *and* than the clock on
//! the wall: after a quiet night the first record is ahead of the record time alone. The clock is
//! looked at when the lane reads the record, and only then; what was decided is part of what is
//! committed.

use std::ops::Range;

use super::revision::StageSpec;
use super::run::Stop;
use crate::config::show_duration;
use crate::model::time::rfc3339;
use crate::model::{Batch, TopicPartition};

/// The code of a record that is ahead.
pub(super) const CODE: &str = "timestamp-ahead";

/// What a lane that stops at one can do.
pub(super) const REMEDY: &str = "publish the stage with another on_error, or with a larger time_ahead_max if the timestamp is right; then start the link";

/// The clock that timestamps are held against.
pub(super) trait Clock {
    /// Whether the first record of `batch` is ahead of the clock by more than `most_ms`.
    fn is_ahead(&self, batch: &Batch, stage: &StageSpec, most_ms: i64) -> Result<bool, Stop>;
}

/// The clock on the wall, as it was when a batch came.
#[derive(Clone, Copy)]
pub(super) struct WallClock(pub(super) i64);

impl Clock for WallClock {
    fn is_ahead(&self, batch: &Batch, _: &StageSpec, most_ms: i64) -> Result<bool, Stop> {
        Ok(batch.timestamps.first().is_some_and(|timestamp| *timestamp > self.0.saturating_add(most_ms)))
    }
}

/// What a stage keeps to.
#[derive(Clone, Copy)]
pub(super) struct Guard<'g> {
    pub(super) stage: &'g StageSpec,
    pub(super) clock: &'g dyn Clock,
    pub(super) most_ms: i64,
}

impl Guard<'_> {
    /// The first record of those with the indices `among` that is ahead. `time` is the record time before
    /// it, which the others move on, except those of the indices `without`; both are as of the
    /// record that is answered.
    pub(super) fn first_ahead(
        &self,
        batch: &Batch,
        among: Range<usize>,
        mut time: i64,
        mut without: impl Iterator<Item = usize>,
    ) -> Result<Option<usize>, Stop> {
        let mut left_out = without.next();
        for (index, timestamp) in among.clone().zip(&batch.timestamps[among]) {
            if *timestamp > time.saturating_add(self.most_ms)
                && self.clock.is_ahead(&batch.slice(index..index + 1), self.stage, self.most_ms)?
            {
                return Ok(Some(index));
            }
            if left_out == Some(index) {
                left_out = without.next();
            } else {
                time = time.max(*timestamp);
            }
        }
        Ok(None)
    }
}

/// What is wrong with a record that is ahead. The same whenever it is said: `verify` compares dead
/// letters.
pub(super) fn message(timestamp: i64, most_ms: i64) -> String {
    let most = show_duration(most_ms.unsigned_abs());
    let time = rfc3339(timestamp);
    format!("its timestamp {timestamp} ({time}) is more than {most} ahead of the clock and of all records before it")
}

/// What to do about a state whose record time is ahead of the clock; `None` for any other. Nothing
/// but a reset turns a record time back.
pub(super) fn hint(link: &str, partition: &TopicPartition, time: i64, most_ms: i64, now_ms: i64) -> Option<String> {
    let TopicPartition { topic, partition: number } = partition;
    (time > now_ms.saturating_add(most_ms)).then(|| {
        format!(
            "the record time of {partition} is {}, which is ahead of the clock: entries expire at once or never; \
             `tidegate link reset {link} --topic {topic} --partition {number} --to OFFSET --forget-state` begins it anew",
            rfc3339(time)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BatchBuilder;

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn batch(timestamps: &[i64]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, timestamp) in (0..).zip(timestamps) {
            builder.push(offset, *timestamp, None, None, []);
        }
        builder.finish("orders", 0)
    }

    fn first_ahead(timestamps: &[i64], time: i64, without: &[usize]) -> Option<usize> {
        let stage = StageSpec::example("s");
        let guard = Guard { stage: &stage, clock: &WallClock(NOW), most_ms: HOUR };
        guard.first_ahead(&batch(timestamps), 0..timestamps.len(), time, without.iter().copied()).expect("judged")
    }

    #[test]
    fn a_record_is_ahead_of_both_clocks_or_of_none() {
        let night = NOW - 10 * HOUR;
        for (time, timestamp, is_ahead) in [
            (night, NOW, false),
            (night, NOW + HOUR, false),
            (night, NOW + HOUR + 1, true),
            (i64::MIN, NOW + HOUR + 1, true),
            (NOW + HOUR, NOW + 2 * HOUR, false),
            (NOW + HOUR, NOW + 2 * HOUR + 1, true),
            (night, NOW * 1000, true),
            (night, i64::MAX, true),
            (i64::MAX, i64::MAX, false),
            (i64::MIN, i64::MIN, false),
            (i64::MIN, -1, false),
            (i64::MAX, -1, false),
        ] {
            assert_eq!(first_ahead(&[timestamp], time, &[]).is_some(), is_ahead, "{time} {timestamp}");
        }
    }

    #[test]
    fn a_record_that_is_rejected_does_not_make_the_next_one_timely() {
        let late = [NOW + HOUR, NOW + 2 * HOUR];
        assert_eq!(first_ahead(&late, NOW, &[]), None);
        assert_eq!(first_ahead(&late, NOW, &[0]), Some(1));
    }

    #[test]
    fn only_a_record_time_that_is_ahead_of_the_clock_is_spoken_of() {
        let place = TopicPartition::new("orders", 3);
        let hint = |time| hint("l", &place, time, HOUR, NOW);
        assert_eq!((hint(i64::MIN), hint(NOW + HOUR)), (None, None));
        let said = hint(NOW * 1000).expect("it is ahead");
        assert!(said.contains("--topic orders --partition 3") && said.contains("--forget-state"), "{said}");
        assert!(hint(i64::MAX).is_some());
    }
}
