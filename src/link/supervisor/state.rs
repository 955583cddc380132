//! The state of a link, as a person sees it: what it was told, and what its lanes make of that.

use std::sync::atomic::Ordering::Relaxed;

use super::Link;
use crate::link::failure::Failure;
use crate::link::orders::Desired;
use crate::link::status::{LaneState, LaneStatus, lock};

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LinkState {
    Stopped,
    Starting,
    Active,
    /// It is to move records, and lanes fail more often in a row than its clusters allow, or a partition stands still.
    Degraded,
    Paused,
    Failed,
    /// Its target has the source's place, or is about to.
    FailedOver,
}

impl Link {
    /// The state, and why if it failed.
    pub fn state(&self) -> (LinkState, Option<Failure>) {
        if let Some(over) = self.failed_over() {
            return (LinkState::FailedOver, Some(over.as_error().into()));
        }
        let has_ended = |lane: &LaneStatus| matches!(lane.state, LaneState::Stopped | LaneState::Failed);
        if self.ahead() == Some(Desired::Stopped) && self.each_lane(|_, lane| has_ended(lane)).into_iter().all(|it| it)
        {
            return (LinkState::Stopped, None);
        }
        let view = lock(&self.view).clone();
        let are_told_to_stop = view.shared.as_ref().is_some_and(|shared| shared.orders.desired() == Desired::Stopped);
        if self.ahead() == Some(Desired::Running) && are_told_to_stop && !view.stopped {
            return (LinkState::Starting, None);
        }
        if view.starting {
            return (LinkState::Starting, view.failure);
        }
        if let Some(failure) = view.failure {
            return (LinkState::Failed, Some(failure));
        }
        let Some(shared) = view.shared.filter(|_| !view.stopped) else { return (LinkState::Stopped, None) };
        let brief = |lane: &LaneStatus| (lane.state, lane.failure.clone(), lane.stalled.values().next().cloned());
        let lanes: Vec<_> = shared.lanes.iter().map(|lane| brief(&lock(lane))).collect();
        let failed = lanes.iter().find(|(state, ..)| *state == LaneState::Failed);
        let retrying = lanes.iter().find(|(state, ..)| *state == LaneState::Retrying);
        let stalled = lanes.iter().find_map(|(.., stalled)| stalled.clone());
        let failure = failed.or(retrying).and_then(|(_, failure, _)| failure.clone());
        let failure = failure.or_else(|| lock(&shared.trouble).clone());
        let state = if failed.is_some() {
            LinkState::Failed
        } else if lanes.iter().any(|(state, ..)| *state == LaneState::Opening) {
            LinkState::Starting
        } else if shared.orders.desired() == Desired::Paused {
            return (LinkState::Paused, failure.or_else(|| self.held()));
        } else if retrying.is_some() && self.fails_too_often() {
            LinkState::Degraded
        } else if stalled.is_some() {
            return (LinkState::Degraded, failure.or(stalled));
        } else {
            LinkState::Active
        };
        (state, failure)
    }

    fn fails_too_often(&self) -> bool {
        let allowed = self.source.max_retries().min(self.target.max_retries());
        self.counters.consecutive_failures.load(Relaxed) > u64::from(allowed)
    }

    /// Why the link is paused, if it was not a person who paused it.
    fn held(&self) -> Option<Failure> {
        let reason = lock(&self.told).as_ref()?.reason.clone()?;
        let remedy = "publish a plugin that handles these records, or change on_error; then resume the link";
        Some(Failure::fatal("breaker-open", reason, remedy))
    }
}
