//! What a link is told to do, and how its lanes hear of it.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::status::lock;

/// What a link is told to do. It is kept in the target and outlives the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Nothing.
    Stopped,
    /// Keep the lanes open and wait.
    Paused,
    /// Move records.
    Running,
}

/// What a link was told last, as it is kept in the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) desired: Desired,
    /// Why, if it was not a person who said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub(super) at_ms: i64,
}

/// What the lanes are to do, and a bell that rings when that or their progress changes.
pub(super) struct Orders {
    desired: Mutex<Desired>,
    bell: Condvar,
}

impl Orders {
    pub(super) fn new(desired: Desired) -> Self {
        Self { desired: Mutex::new(desired), bell: Condvar::new() }
    }

    pub(super) fn desired(&self) -> Desired {
        *lock(&self.desired)
    }

    pub(super) fn set(&self, desired: Desired) {
        *lock(&self.desired) = desired;
        self.bell.notify_all();
    }

    /// Something has changed that somebody may wait for.
    pub(super) fn notify(&self) {
        self.bell.notify_all();
    }

    /// Wait as long as the order is `desired`, but not longer than `patience`.
    pub(super) fn wait_while(&self, desired: Desired, patience: Duration) {
        let _ = self.bell.wait_timeout_while(lock(&self.desired), patience, |now| *now == desired);
    }

    /// Wait for `patience`; whether the order to stop came.
    pub(super) fn wait_for_stop(&self, patience: Duration) -> bool {
        let _ = self.bell.wait_timeout_while(lock(&self.desired), patience, |now| *now != Desired::Stopped);
        self.desired() == Desired::Stopped
    }

    /// Wait until `done` holds; `false` if it did not within `patience`.
    pub(super) fn wait_until(&self, patience: Duration, mut done: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + patience;
        loop {
            if done() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // The bell may ring between the look and the wait: look again soon in any case.
            let guard = lock(&self.desired);
            let _ = self.bell.wait_timeout(guard, left.min(Duration::from_millis(5)));
        }
    }
}
