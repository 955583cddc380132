//! How fast a link may write, and how fast it does.
//!
//! A bucket of tokens, one a byte, for the lanes of this daemon: they pay for what they have written, and do not read on while the bucket owes. So what was read is
//! written and committed in time; and since a lane reads little at once, little is owed, and little is forgiven who is killed. A link that several daemons run gives each the share of its lanes, so together they keep to the rate
//! whoever has which.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::lane::now_ms;
use super::status::lock;
use super::supervisor::Link;
use crate::model::encode;

/// What may be saved up: a tenth of a second, so that the rate is kept in any second.
const SAVED_SECONDS: f64 = 0.1;

/// How much lanes may read at once, all together: a quarter of a second's worth.
const READ_SECONDS: f64 = 0.25;

/// A lane that may read so many bytes at once may also read record batches whole, whatever their size: few are larger.
const WHOLE_BYTES: usize = 1 << 20;

/// Where a rate that was set while the link runs is kept in the target.
const THROTTLE: &str = "throttle";

/// The rate of a link at this daemon.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Bytes a second for the whole link; 0: as fast as it can.
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
    /// Held from what is stored to what holds.
    setting: Mutex<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Below 0 it owes.
    tokens: f64,
    filled: Option<Instant>,
}

/// A rate that was set while the link runs, as the target keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleOrder {
    /// Bytes a second; `None`: as fast as it can.
    pub rate: Option<u64>,
    /// Who has set it.
    pub by: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

impl Throttle {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: AtomicU64::new(rate.unwrap_or(0)), ..Self::default() }
    }

    /// Bytes a second for the whole link; `None`: as fast as it can.
    pub fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Relaxed)).filter(|rate| *rate > 0)
    }

    pub(super) fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Relaxed);
        *lock(&self.bucket) = Bucket::default();
    }

    /// How many bytes a lane may read at once that may read `max` otherwise.
    pub(super) fn read_bytes(&self, max: usize, lanes: u32) -> usize {
        let Some(rate) = self.rate() else { return max };
        ((rate as f64 * READ_SECONDS / f64::from(lanes.max(1))) as usize).clamp(1, max)
    }

    /// Whether it may read record batches that are not to be cut.
    pub(super) fn lets_whole(&self, lanes: u32) -> bool {
        self.read_bytes(WHOLE_BYTES, lanes) == WHOLE_BYTES
    }

    /// Pay for what was written at `now`.
    pub(super) fn spend(&self, bytes: u64) {
        if self.rate().is_some() {
            lock(&self.bucket).tokens -= bytes as f64;
        }
    }

    /// How long nothing more is to be read, from `now` on. `share` of the rate is for the lanes of this daemon.
    pub(super) fn wait(&self, now: Instant, share: impl FnOnce() -> f64) -> Duration {
        let Some(rate) = self.rate() else { return Duration::ZERO };
        let rate = rate as f64 * share();
        let mut bucket = lock(&self.bucket);
        let since = bucket.filled.map_or(0.0, |filled| now.saturating_duration_since(filled).as_secs_f64());
        bucket.filled = Some(now);
        bucket.tokens = (bucket.tokens + rate * since).min(rate * SAVED_SECONDS);
        if bucket.tokens >= 0.0 || rate <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-bucket.tokens / rate).unwrap_or(Duration::MAX)
    }
}

impl Link {
    /// How fast it may write.
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// The rate that was set while the link runs, if one was.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn throttle_order(&self) -> Result<Option<ThrottleOrder>, Failure> {
        let stored = self.target().metadata(&self.config().id, THROTTLE)?;
        let read = |bytes: Vec<u8>| {
            serde_json::from_slice::<Option<ThrottleOrder>>(&bytes).map_err(|error| {
                Failure::fatal("throttle-unreadable", format!("the link's throttle: {error}"), "set it anew")
            })
        };
        stored.map(read).transpose().map(Option::flatten)
    }

    /// Have the link write no faster than this from now on, at all daemons and also after a restart. `None`: as its configuration says.
    ///
    /// # Errors
    /// The target cannot be written.
    pub fn set_throttle(&self, rate: Option<Option<u64>>, by: &str) -> Result<(), Failure> {
        let order = rate.map(|rate| ThrottleOrder { rate, by: by.to_owned(), at_ms: now_ms() });
        let text = encode("the link's throttle", &order)?;
        // Of two who set it at once, the rate must be that of who is stored last.
        let _setting = lock(&self.throttle.setting);
        self.store(THROTTLE, &text)?;
        self.apply_throttle(order.as_ref());
        Ok(())
    }

    /// Take over what was set at another daemon, or before a restart.
    pub(super) fn follow_throttle(&self) -> Result<(), Failure> {
        let _setting = lock(&self.throttle.setting);
        self.apply_throttle(self.throttle_order()?.as_ref());
        Ok(())
    }

    fn apply_throttle(&self, order: Option<&ThrottleOrder>) {
        let rate = order.map_or(self.config().config.throttle_rate, |order| order.rate);
        if self.throttle.rate() != rate {
            self.throttle.set(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_in_the_long_run() {
        let throttle = Throttle::new(Some(1_000_000));
        let begun = Instant::now();
        let (mut now, mut written) = (begun, 0_u64);
        for batch in (1..).map(|number: u64| number * 7_919 % 200_000).take(500) {
            now += throttle.wait(now, || 1.0);
            throttle.spend(batch);
            written += batch;
        }
        now += throttle.wait(now, || 1.0);
        let rate = written as f64 / (now - begun).as_secs_f64();
        assert!((990_000.0..=1_010_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_daemon_has_the_share_of_its_lanes() {
        let throttle = Throttle::new(Some(1_000));
        let now = Instant::now();
        throttle.spend(500);
        assert_eq!(throttle.wait(now, || 0.25), Duration::from_secs(2));
        throttle.set(None);
        throttle.spend(1 << 40);
        assert_eq!(throttle.wait(now, || 1.0), Duration::ZERO);
    }

    #[test]
    fn little_is_read_at_once() {
        let throttle = Throttle::new(Some(1_000_000));
        assert_eq!(throttle.read_bytes(1 << 20, 10), 25_000);
        assert_eq!(throttle.read_bytes(1 << 10, 10), 1 << 10);
        assert!(!throttle.lets_whole(1));
        throttle.set(Some(1));
        assert_eq!(throttle.read_bytes(1 << 20, 10), 1, "a record, whatever its size");
        throttle.set(Some(10 << 20));
        assert!(throttle.lets_whole(2) && !throttle.lets_whole(3));
        throttle.set(None);
        assert_eq!(throttle.read_bytes(1 << 20, 10), 1 << 20);
        assert!(throttle.lets_whole(100));
    }

    #[test]
    fn who_was_idle_has_not_saved_up_much() {
        let throttle = Throttle::new(Some(1_000));
        let now = Instant::now();
        assert_eq!(throttle.wait(now, || 1.0), Duration::ZERO);
        let later = now + Duration::from_secs(3600);
        assert_eq!(throttle.wait(later, || 1.0), Duration::ZERO);
        throttle.spend(1_100);
        assert_eq!(throttle.wait(later, || 1.0), Duration::from_secs(1));
    }
}
