//! What happens to a link in trouble: it is started again, it is paused, or the revision before the present one comes back.
//!
//! A thread for each link waits for the alarm that lanes ring. It takes the same lock as a publish, and looks once more before it
//! does anything: a revision that was replaced meanwhile is nobody's trouble any more.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::events::Event;
use super::failure::Failure;
use super::orders::Desired;
use super::pipeline::Pipeline;
use super::revision::{Origin, Publisher};
use super::status::{LaneState, lock};
use super::supervisor::{Link, PublishError, Running};
use crate::config::BreakerAction;

/// How often a warden looks by itself: a probation may end without any record, and a cluster may come back that did not answer when the daemon started.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after the time of a trial it may still be undone, because trouble was raised before: shorter than lanes keep what they need for that.
const LATE: Duration = Duration::from_secs(10);

/// Wakes a thread that looks after a link.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    call: Mutex<Call>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Call {
    rung: bool,
    ended: bool,
}

impl Alarm {
    pub(super) fn ring(&self) {
        lock(&self.call).rung = true;
        self.bell.notify_all();
    }

    /// Whether the daemon ends.
    pub(super) fn is_ended(&self) -> bool {
        lock(&self.call).ended
    }

    fn end(&self) {
        lock(&self.call).ended = true;
        self.bell.notify_all();
    }

    /// Wait for the alarm, or for a while. Whether there is anything more to wait for.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let quiet = |call: &mut Call| !call.rung && !call.ended;
        let waited = self.bell.wait_timeout_while(lock(&self.call), at_most, quiet);
        let (mut call, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        call.rung = false;
        !call.ended
    }
}

impl Link {
    /// Look after the link until [`Link::dismiss`].
    pub fn guard(&self) {
        while self.alarm.wait(LOOK_EVERY) {
            self.attend();
        }
    }

    /// Let [`Link::guard`], [`Link::follow`], [`Link::follow_groups`], [`Link::beat`] and [`Link::observe`] return.
    pub fn dismiss(&self) {
        self.alarm.end();
        self.topics.alarm.end();
        self.groups.alarm.end();
        self.heartbeats.alarm.end();
        self.observer.alarm.end();
    }

    fn attend(&self) {
        if self.is_to_be_resumed(Instant::now()) {
            self.resume_desired();
        }
        if let Err(failure) = self.look_elsewhere() {
            tracing::debug!(link = &*self.config().id, code = failure.code, "{failure}");
        }
        if let Err(failure) = self.follow_others()
            && let Some(news) = self.repeats.news(format!("orders: {failure}"), Instant::now())
        {
            let (code, repeated) = (failure.code, news.repeated);
            tracing::warn!(link = &*self.config().id, code, repeated, "what other daemons say is not heard: {failure}");
        }
        self.attend_relane();
        self.attend_failover();
        let Some(pipeline) = self.present() else { return };
        if let Some(records) = pipeline.watch.take_passed() {
            let message = format!("revision {} after {records} records", pipeline.number());
            self.events.push(Event::new("probation-passed", message));
        }
        let Some(trouble) = pipeline.watch.trouble() else { return };
        let done = match trouble.action {
            BreakerAction::Pause => self.pause_because(&pipeline, &mut lock(&self.running), &trouble.reason),
            BreakerAction::Rollback => self.go_back_from(&pipeline, &trouble.reason),
        };
        if let Err(failure) = done {
            // The target does not answer: the lanes wait, and so does the trouble.
            let Some(news) = self.repeats.news(format!("{}: {failure}", trouble.reason), Instant::now()) else {
                return;
            };
            let (code, reason, repeated) = (failure.code, trouble.reason, news.repeated);
            tracing::error!(link = &*self.config().id, code, reason, repeated, "{failure}");
        }
    }

    /// Pause the link, durably and with the reason.
    fn pause_because(&self, pipeline: &Pipeline, running: &mut Option<Running>, reason: &str) -> Result<(), Failure> {
        if self.present().is_none_or(|present| present.number() != pipeline.number()) {
            return Ok(());
        }
        tracing::error!(link = &*self.config().id, revision = pipeline.number().0, reason, "paused");
        self.store_order(&self.order_now(Desired::Paused, Some(reason.to_owned())))?;
        self.events.push(Event::new("paused", format!("revision {}: {reason}", pipeline.number())));
        self.bring(running, Desired::Paused)?;
        // The lanes are paused now; who resumes the link wants them to try again.
        pipeline.watch.release();
        Ok(())
    }

    /// Bring back what ran before this revision, if it is still the newest.
    fn go_back_from(&self, pipeline: &Pipeline, reason: &str) -> Result<(), Failure> {
        let mut running = lock(&self.running);
        let mut history = self.history()?;
        if history.last().is_none_or(|last| last.number != pipeline.number()) {
            return Ok(());
        }
        let reason = format!("revision {} {reason}", pipeline.number());
        let Some((content, restored)) = history.previous().map(|before| (before.content(), before.number)) else {
            let reason = format!("{reason}; there is no revision before it");
            return self.pause_because(pipeline, &mut running, &reason);
        };
        let undoes = self.on_trial(&history, LATE);
        let (reason_given, restores) = (Some(&*reason), Some(restored));
        let publisher = Publisher { origin: Origin::Automatic, by: "tidegate", reason: reason_given, undoes, restores };
        match self.release(running.as_ref(), &mut history, content, publisher) {
            Ok(_) => self.restart_failed(&mut running),
            Err(PublishError::Failed(failure)) => Err(failure),
            // What another daemon has published is nobody's trouble yet.
            Err(PublishError::Overtaken) => Ok(()),
            Err(refused) => {
                let reason = format!("{reason}; what ran before cannot come back: {refused}");
                self.pause_because(pipeline, &mut running, &reason)
            }
        }
    }

    /// Lanes that a bad revision has stopped go on under the one that took its place.
    pub(super) fn restart_failed(&self, running: &mut Option<Running>) -> Result<(), Failure> {
        let Some(up) = &*running else { return Ok(()) };
        let failed = up.shared.lanes.iter().any(|lane| lock(lane).state == LaneState::Failed);
        let desired = up.shared.orders.desired();
        if failed { self.bring_or_retry(running, desired) } else { Ok(()) }
    }
}
