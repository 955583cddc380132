//! What is asked of a link's clusters in the background, so that nobody who wants to see numbers or health waits for a cluster.
//!
//! A thread for each link begins what is due on threads of their own, one at a time of each kind. One that hangs keeps nobody, not even
//! the end of the daemon.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lag::{LagBoard, Lags, LaneView};
use super::probe::{Answer, Probe, Silence};
use super::status::{LaneState, LaneStatus, lock};
use super::supervisor::Link;
use super::warden::Alarm;
use crate::background::{self, Unfinished};
use crate::model::ClusterId;

/// How often is looked what is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Something that is done now and then on a thread of its own, and never twice at once.
#[derive(Debug, Default)]
pub(super) struct Aside {
    turn: Arc<Mutex<Turn>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    begun: Option<Instant>,
    /// How long the last one took; `None` while one is under way.
    took: Option<Duration>,
}

impl Aside {
    /// Whether none is under way, and the last one was begun `interval` ago. `interval` is told how long that one took.
    pub(super) fn is_due(&self, interval: impl FnOnce(Duration) -> Duration) -> bool {
        match *lock(&self.turn) {
            Turn { begun: None, .. } => true,
            Turn { begun: Some(begun), took: Some(took) } => begun.elapsed() >= interval(took),
            Turn { took: None, .. } => false,
        }
    }

    /// Do it. Whatever becomes of it, `ended` is told, and then it is not under way any more.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
        ended: impl FnOnce(Result<T, Unfinished>) + Send + 'static,
    ) {
        let begun = Instant::now();
        *lock(&self.turn) = Turn { begun: Some(begun), took: None };
        let turn = self.turn.clone();
        background::begin(name, work, move |result| {
            ended(result);
            *lock(&turn) = Turn { begun: Some(begun), took: Some(begun.elapsed()) };
        });
    }

    /// For how long one has been under way, if one is.
    pub(super) fn under_way(&self) -> Option<Duration> {
        let turn = *lock(&self.turn);
        turn.begun.filter(|_| turn.took.is_none()).map(|begun| begun.elapsed())
    }
}

/// What is known of a link's clusters.
#[derive(Debug, Default)]
pub(super) struct Observer {
    source: Arc<Probe>,
    target: Arc<Probe>,
    lags: Arc<LagBoard>,
    /// Wakes the thread that looks what is due.
    pub(super) alarm: Alarm,
}

impl Link {
    /// Ask the link's clusters whether they answer, and how far it is behind, until [`Link::dismiss`].
    pub fn observe(&self) {
        loop {
            self.probe_clusters(self.config().health.interval);
            self.measure_lags();
            if !self.observer.alarm.wait(LOOK_EVERY) {
                return;
            }
        }
    }

    fn measure_lags(&self) {
        if !self.observer.lags.is_due() {
            return;
        }
        let view = |number: u32, lane: &LaneStatus, is_up: bool| LaneView {
            number,
            is_here: is_up && lane.state != LaneState::Elsewhere && lane.daemon.is_none(),
            works: matches!(lane.state, LaneState::Opening | LaneState::Running | LaneState::Retrying),
            last_commit_ms: lane.last_commit_ms,
            committed: lane.committed.iter().map(|(name, progress)| (name.clone(), progress.next_offset)).collect(),
        };
        let mut lanes = self.each_lane(|number, lane| view(number, lane, true));
        if lanes.is_empty() {
            let seen = self.at_target_last().unwrap_or_default();
            lanes = (0..).zip(&seen.lanes).map(|(number, lane)| view(number, lane, false)).collect();
        }
        if !lanes.is_empty() {
            self.observer.lags.measure(self.source(), lanes);
        }
    }

    /// How far the lanes of this daemon are behind, as it was measured last; `None` where that is too long ago or was never done.
    pub fn lags(&self) -> Option<Arc<Lags>> {
        self.observer.lags.last()
    }

    /// What could not be found out of the clusters, since asking has failed on our side: a sentence
    /// each.
    pub(super) fn not_found_out(&self) -> Vec<String> {
        let probes = [("source", &self.observer.source), ("target", &self.observer.target)];
        let failed = |(which, probe): (&str, &Arc<Probe>)| {
            let unfinished = probe.unfinished()?;
            Some(format!("it is not known whether the {which} answers: its probe {unfinished} ({})", unfinished.code()))
        };
        probes.into_iter().filter_map(failed).collect()
    }

    /// Which of its clusters say nothing now: see [`Probe::silence`].
    pub fn silent_clusters(&self, patience: Duration) -> Vec<(ClusterId, Silence)> {
        let Observer { source, target, .. } = &self.observer;
        let both = [(&self.config().source, source), (&self.config().target, target)];
        both.into_iter().filter_map(|(id, probe)| Some((id.clone(), probe.silence(patience)?))).collect()
    }

    /// Ask its clusters whether they answer, unless that was done within `interval`. Waits for
    /// nobody.
    pub fn probe_clusters(&self, interval: Duration) {
        self.observer.source.ask(self.source(), interval);
        self.observer.target.ask(self.target(), interval);
    }

    /// Whether the source has answered lately; `None` before it was asked.
    pub fn source_answer(&self) -> Option<Answer> {
        self.observer.source.answer()
    }

    /// Whether the target has answered lately; `None` before it was asked.
    pub fn target_answer(&self) -> Option<Answer> {
        self.observer.target.answer()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_hangs_is_not_begun_again() {
        let (aside, (go, wait), (done, is_done)) = (Aside::default(), channel::<()>(), channel());
        let work = move || {
            let _disconnected = wait.recv();
        };
        assert!(aside.is_due(|_| Duration::MAX), "nothing was done yet");
        aside.begin("hangs", work, move |result| done.send(result).expect("the test waits"));
        assert!(aside.under_way().is_some());
        assert!(!aside.is_due(|_| Duration::ZERO), "one is under way");
        drop(go);
        is_done.recv().expect("done").expect("fine");
        await_end(&aside);
        assert!(aside.is_due(|_| Duration::ZERO));
        assert!(!aside.is_due(|_| Duration::MAX), "it is too soon");
    }

    #[test]
    fn what_panics_is_not_under_way_for_ever() {
        let aside = Aside::default();
        aside.begin("bad", || panic!("it broke"), |result: Result<(), _>| drop(result));
        await_end(&aside);
        assert!(aside.is_due(|_| Duration::ZERO));
    }

    /// Wait for the moment between what is told and the end.
    fn await_end(aside: &Aside) {
        while aside.under_way().is_some() {
            std::thread::yield_now();
        }
    }
}
