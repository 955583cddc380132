//! What a link is told to do, which lanes are ours, and how lanes hear of it.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::status::lock;
use crate::connector::Standing;

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
    /// The version of the link's definition that it was said for: a daemon that knows an older one waits. 0 for links of configuration files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) definition: u64,
    /// How often it was said where the link goes on: lanes that are open do not notice it by themselves.
    #[serde(default)]
    pub(super) resets: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether a lane is to be run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The link is stopped.
    Stopped,
    /// That has not been said yet.
    Unknown,
    /// Another daemon runs it.
    Elsewhere,
    /// It is.
    Here,
}

/// Which lanes are ours.
#[derive(Clone, Debug)]
pub(super) enum Ours {
    /// All: no other daemon can run the link.
    All,
    /// Some, but it is not known yet which.
    Unknown,
    /// Those that we have been assigned.
    Assigned(Standing),
}

#[derive(Debug)]
struct Told {
    desired: Desired,
    ours: Ours,
    /// Whether whoever stops is not expected back.
    leaving: bool,
}

impl Told {
    fn turn(&self, lane: u32) -> Turn {
        match &self.ours {
            _ if self.desired == Desired::Stopped => Turn::Stopped,
            Ours::All => Turn::Here,
            Ours::Unknown => Turn::Unknown,
            Ours::Assigned(standing) if standing.lanes.contains(&lane) => Turn::Here,
            Ours::Assigned(_) => Turn::Elsewhere,
        }
    }
}

/// What the lanes are to do, and a bell that rings when that or their progress changes.
pub(super) struct Orders {
    told: Mutex<Told>,
    bell: Condvar,
}

impl Orders {
    pub(super) fn new(desired: Desired, ours: Ours) -> Self {
        Self { told: Mutex::new(Told { desired, ours, leaving: false }), bell: Condvar::new() }
    }

    pub(super) fn desired(&self) -> Desired {
        lock(&self.told).desired
    }

    /// What a lane is to do: one that is not ours, nothing.
    pub(super) fn desired_of(&self, lane: u32) -> Desired {
        let told = lock(&self.told);
        if told.turn(lane) == Turn::Here { told.desired } else { Desired::Stopped }
    }

    pub(super) fn turn(&self, lane: u32) -> Turn {
        lock(&self.told).turn(lane)
    }

    /// The share of a link of so many lanes that is ours.
    pub(super) fn share(&self, lanes: u32) -> f64 {
        match &lock(&self.told).ours {
            Ours::All | Ours::Unknown => 1.0,
            Ours::Assigned(standing) => standing.lanes.len() as f64 / f64::from(lanes.max(1)),
        }
    }

    pub(super) fn set(&self, desired: Desired) {
        lock(&self.told).desired = desired;
        self.bell.notify_all();
    }

    /// Stop everything. `leaving`: others need not wait for us to come back.
    pub(super) fn stop(&self, leaving: bool) {
        let mut told = lock(&self.told);
        told.desired = Desired::Stopped;
        told.leaving = leaving;
        drop(told);
        self.bell.notify_all();
    }

    pub(super) fn is_leaving(&self) -> bool {
        lock(&self.told).leaving
    }

    /// Lanes were assigned to us, or once more.
    pub(super) fn assign(&self, standing: Standing) {
        lock(&self.told).ours = Ours::Assigned(standing);
        self.bell.notify_all();
    }

    /// Something has changed that somebody may wait for.
    pub(super) fn notify(&self) {
        self.bell.notify_all();
    }

    /// Wait as long as a lane is told the same, but not longer than `patience`.
    pub(super) fn wait_while(&self, lane: u32, desired: Desired, patience: Duration) {
        self.wait_told(patience, |told| told.turn(lane) == Turn::Here && told.desired == desired);
    }

    /// Wait as long as a lane has this turn, but not longer than `patience`; without one, however long it takes.
    pub(super) fn wait_turn(&self, lane: u32, turn: Turn, patience: Option<Duration>) {
        match patience {
            Some(patience) => self.wait_told(patience, |told| told.turn(lane) == turn),
            None => self.await_told(|told| told.turn(lane) == turn),
        }
    }

    /// Wait until somebody has said after `since` that a lane is ours, or that it is not.
    pub(super) fn wait_confirmed(&self, lane: u32, since: Instant) {
        self.await_told(|told| {
            let stale = matches!(&told.ours, Ours::Assigned(standing) if standing.confirmed <= since);
            told.turn(lane) == Turn::Here && stale
        });
    }

    fn wait_told(&self, patience: Duration, holds: impl Fn(&Told) -> bool) {
        let _ = self.bell.wait_timeout_while(lock(&self.told), patience, |told| holds(told));
    }

    fn await_told(&self, holds: impl Fn(&Told) -> bool) {
        drop(self.bell.wait_while(lock(&self.told), |told| holds(told)));
    }

    /// Wait for `patience`, or until the link is stopped.
    pub(super) fn wait_for_stop(&self, patience: Duration) {
        self.wait_told(patience, |told| told.desired != Desired::Stopped);
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
            let guard = lock(&self.told);
            let _ = self.bell.wait_timeout(guard, left.min(Duration::from_millis(5)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(lanes: &[u32]) -> Standing {
        Standing { lanes: lanes.iter().copied().collect(), confirmed: Instant::now() }
    }

    #[test]
    fn a_lane_that_is_not_ours_is_told_to_do_nothing() {
        let orders = Orders::new(Desired::Running, Ours::Unknown);
        assert_eq!((orders.turn(0), orders.desired_of(0)), (Turn::Unknown, Desired::Stopped));
        orders.assign(standing(&[1]));
        assert_eq!((orders.turn(0), orders.desired_of(0)), (Turn::Elsewhere, Desired::Stopped));
        assert_eq!((orders.turn(1), orders.desired_of(1)), (Turn::Here, Desired::Running));
        orders.set(Desired::Paused);
        assert_eq!(orders.desired_of(1), Desired::Paused);
        orders.stop(false);
        assert_eq!((orders.turn(0), orders.turn(1)), (Turn::Stopped, Turn::Stopped));
    }

    #[test]
    fn a_fenced_lane_waits_for_news_of_whose_it_is() {
        let orders = Orders::new(Desired::Running, Ours::All);
        orders.wait_confirmed(0, Instant::now());
        let fenced = Instant::now();
        orders.assign(standing(&[0]));
        orders.wait_confirmed(0, fenced);
        orders.assign(standing(&[]));
        orders.wait_confirmed(0, Instant::now());
    }
}
