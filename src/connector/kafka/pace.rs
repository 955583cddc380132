//! How much may be on its way to a broker, and from when on it can answer.
//!
//! A broker with a quota answers at once and does not listen for as long as it says (`throttle_time_ms`, KIP-219). What was sent behind that waits, so the time of a request begins
//! when the broker listens again and the one before is answered. What is under way to a slow broker delays the commit, and a transaction has a time of its own: little is under way then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many bytes may be on their way to a broker: what a path of 50 MB/s and a round trip of 160 ms holds.
const WINDOW_BYTES: usize = 8 << 20;

/// The same for a broker that has not answered yet. It doubles with each answer.
const FIRST_BYTES: usize = 1 << 20;

/// The same for a broker that throttles, and after a failure. It halves with each answer that says so, down to the second number.
const THROTTLED_BYTES: usize = 256 << 10;
const WINDOW_BYTES_MIN: usize = 64 << 10;

/// The longest that a broker is believed not to listen: longer than the windows of quotas are.
const THROTTLE_MAX: Duration = Duration::from_secs(60);

/// How long a broker says that it does not listen. It is not believed without a bound: a lane that waits does nothing else.
pub(super) fn throttle(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(THROTTLE_MAX)
}

/// What is sent to a broker, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How many bytes may be on their way.
    window: usize,
    is_throttled: bool,
    /// From when on it listens; `None` before its first answer.
    listens_from: Option<Instant>,
}

impl Pace {
    /// How many bytes may go out now, when so many are under way.
    pub(super) fn room(&self, under_way: usize, now: Instant) -> usize {
        let is_held = self.held_until(now).is_some() || (self.is_throttled && under_way > 0);
        if is_held { 0 } else { self.window.saturating_sub(under_way) }
    }

    /// How many bytes may wait to be sent to it.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Until when it does not listen, if that is so.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.listens_from.filter(|from| *from > now)
    }

    /// When the time of a request begins that was sent then, and that is the next one to be answered.
    pub(super) fn begins(&self, sent: Instant) -> Instant {
        self.listens_from.map_or(sent, |from| from.max(sent))
    }

    /// It has answered, and does not listen for this long.
    pub(super) fn answered(&mut self, throttle: Duration, now: Instant) {
        self.listens_from = Some(now + throttle);
        self.is_throttled = !throttle.is_zero();
        self.window = match self.is_throttled {
            true => (self.window / 2).clamp(WINDOW_BYTES_MIN, THROTTLED_BYTES),
            false => (self.window * 2).min(WINDOW_BYTES),
        };
    }
}

/// What the lanes of a cluster have learned of its brokers: a lane that opens again does not begin with what was too much.
#[derive(Debug, Default)]
pub(super) struct Windows {
    of_brokers: BTreeMap<i32, usize>,
}

impl Windows {
    /// How to begin with a broker.
    pub(super) fn begin(&self, broker: i32) -> Pace {
        let window = self.of_brokers.get(&broker).copied().unwrap_or(FIRST_BYTES);
        Pace { window, is_throttled: false, listens_from: None }
    }

    /// How many bytes may wait to be sent before a lane knows where they go to.
    pub(super) fn smallest(&self) -> usize {
        self.of_brokers.values().copied().min().unwrap_or(FIRST_BYTES)
    }

    /// A broker has this pace.
    pub(super) fn learn(&mut self, broker: i32, pace: &Pace) {
        self.of_brokers.insert(broker, pace.window);
    }

    /// A lane has failed: it may be that too much was under way.
    pub(super) fn begin_again(&mut self) {
        self.of_brokers.values_mut().for_each(|window| *window = THROTTLED_BYTES.min(*window));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_time_of_a_request_begins_when_the_broker_can_answer_it() {
        let (mut pace, sent) = (Windows::default().begin(1), Instant::now());
        assert_eq!(pace.begins(sent), sent, "nothing is before it");
        pace.answered(Duration::ZERO, sent + SECOND);
        assert_eq!(pace.begins(sent), sent + SECOND, "it has waited for the one before");
        pace.answered(30 * SECOND, sent + 2 * SECOND);
        assert_eq!(pace.begins(sent), sent + 32 * SECOND, "the broker does not listen before");
        assert_eq!(pace.begins(sent + 40 * SECOND), sent + 40 * SECOND);
    }

    #[test]
    fn a_broker_that_throttles_gets_one_request_when_it_listens() {
        let (mut pace, now) = (Windows::default().begin(1), Instant::now());
        assert_eq!((pace.room(0, now), pace.room(FIRST_BYTES - 1, now)), (FIRST_BYTES, 1));
        pace.answered(5 * SECOND, now);
        assert_eq!(pace.held_until(now), Some(now + 5 * SECOND));
        assert_eq!(pace.room(0, now + 4 * SECOND), 0);
        let later = now + 5 * SECOND;
        assert_eq!((pace.held_until(later), pace.room(0, later), pace.room(1, later)), (None, THROTTLED_BYTES, 0));
        (0..9).for_each(|_| pace.answered(SECOND, now));
        assert_eq!(pace.room(0, later), WINDOW_BYTES_MIN);
        pace.answered(Duration::ZERO, now);
        assert_eq!(pace.room(1, now), 2 * WINDOW_BYTES_MIN - 1, "it does not throttle any more");
        (0..9).for_each(|_| pace.answered(Duration::ZERO, now));
        assert_eq!(pace.room(0, now), WINDOW_BYTES);
    }

    #[test]
    fn a_lane_that_opens_again_begins_with_what_is_known() {
        let (mut windows, now) = (Windows::default(), Instant::now());
        let (mut fast, mut slow) = (windows.begin(1), windows.begin(2));
        fast.answered(Duration::ZERO, now);
        windows.learn(1, &fast);
        assert_eq!(windows.begin(1).room(0, now), 2 * FIRST_BYTES);
        slow.answered(SECOND, now);
        windows.learn(2, &slow);
        assert_eq!((windows.begin(2).room(0, now), windows.smallest()), (THROTTLED_BYTES, THROTTLED_BYTES));
        slow.answered(SECOND, now);
        windows.learn(2, &slow);
        windows.begin_again();
        assert_eq!((windows.begin(1).window(), windows.begin(2).window()), (THROTTLED_BYTES, THROTTLED_BYTES / 2));
    }
}
