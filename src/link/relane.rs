//! Another number of lanes, exactly once, while the link runs.
//!
//! 1. A person asks one daemon for it, which writes so into the genesis. All daemons see that, let their lanes end, and run none as long as it is there.
//! 2. One daemon says in the genesis that it tries, in a generation of lanes that was never tried before. It has all old lanes fenced, and *then* what they have
//!    written of themselves copied to the new ones.
//! 3. It says in the genesis that the new lanes count. All daemons open them.
//!
//! Each of these is one comparison and writing of the genesis, and nothing that is done in between counts before the last one. So whoever tries may die at any
//! moment: when nothing comes on for a while another daemon takes it up, in yet another generation. If the first one was only slow it finds out when it
//! writes the genesis next, and what it still copies is read by nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::Event;
use super::failure::Failure;
use super::genesis::{Genesis, Relane, Stored, UNDER_WAY};
use super::lane::{now_ms, settings};
use super::status::lock;
use super::supervisor::{Link, Running, stop_lanes};
use super::topics::notices::Notice;
use super::upgrade::UpgradeError;
use crate::connector::{Class, Copying, Error};
use crate::model::layout::LAYOUT_OF_GENERATIONS;

/// How long nothing may come on before another daemon takes it up; so many times as long as there were tries.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How long a command waits before it answers that it is under way.
const ANSWER_AFTER: Duration = Duration::from_secs(20);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long other daemons are given to let their lanes end by themselves.
const PARTING_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is said how far the copying has come.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What lanes were seen to become, and since when nothing about it has changed.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    relane: Relane,
    /// The generation of the lanes that are.
    generation: u32,
    since: Instant,
    /// Why this daemon has tried in vain, if it has.
    failed: Option<Failure>,
}

impl Seen {
    /// Whether this daemon is to see to it now: because it was to before, or because whoever was does not come on.
    fn is_due(&self, daemon: &str, now: Instant) -> bool {
        let tries = self.relane.generation.saturating_sub(self.generation).max(1);
        let is_ours = self.relane.daemon == daemon && self.failed.is_none();
        is_ours || now.duration_since(self.since) >= STALLED_AFTER.saturating_mul(tries)
    }
}

/// What has become of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relaned {
    /// How many lanes there were.
    pub from: u32,
    /// How many there are to be.
    pub to: u32,
    /// Whether that is so by now.
    pub is_done: bool,
}

/// Why a command was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RelaneError {
    /// The link was never started.
    #[error("the link was never started: it begins with as many lanes as the file says")]
    NotStarted,
    /// The layout of the link has no generations of lanes.
    #[error("the number of lanes cannot change in layout {0} of the link")]
    LayoutTooOld(u32),
    /// A daemon does not know the link's layout.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// The lanes are about to become so many.
    #[error("the lanes are about to become {0}")]
    UnderWay(u32),
    /// The target does not answer.
    #[error("{0}")]
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for RelaneError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Link {
    /// Have the link run with so many lanes; or, while they are about to become others, with as many as there are after all. Answers when that is done, or
    /// after a while.
    ///
    /// # Errors
    /// See [`RelaneError`].
    pub fn relane(&self, lanes: u32, by: &str) -> Result<Relaned, RelaneError> {
        let from = loop {
            let stored = self.stored_genesis()?.ok_or(RelaneError::NotStarted)?;
            let genesis = &stored.genesis;
            let from = genesis.lanes;
            let (next, what) = match &genesis.relane {
                None if from == lanes => return Ok(Relaned { from, to: lanes, is_done: true }),
                Some(under_way) if under_way.lanes == lanes => break from,
                Some(_) if from == lanes => (genesis.called_off(), "relane-called-off"),
                Some(under_way) => return Err(RelaneError::UnderWay(under_way.lanes)),
                None => {
                    self.check_all_know(genesis)?;
                    (genesis.to_be_relaned(lanes, self.daemon(), now_ms()), "relane-begun")
                }
            };
            if self.replace_genesis(&stored, next)?.is_some() {
                let message = format!("from {from} lanes to {lanes}, by {by}");
                tracing::info!(link = &*self.config().id, what, "{message}");
                self.events.push(Event::new(what, message));
                break from;
            }
        };
        // The warden does it: it takes as long as it takes, and may have to be tried again. From here on it is under way, whether the
        // target answers or not.
        if let Err(error) = self.see_genesis() {
            tracing::debug!(link = &*self.config().id, code = error.code, "{error}");
        }
        self.alarm.ring();
        Ok(Relaned { from, to: lanes, is_done: self.await_lanes_of(lanes) })
    }

    /// Daemons that do not know of generations would go on with lanes that do not count any more.
    fn check_all_know(&self, genesis: &Genesis) -> Result<(), RelaneError> {
        if genesis.layout < LAYOUT_OF_GENERATIONS {
            return Err(RelaneError::LayoutTooOld(genesis.layout));
        }
        genesis.check_layout(self.layout_max())?;
        Ok(self.check_colleagues(genesis.layout)?)
    }

    /// Whether there are so many lanes, within the time that an answer may take.
    fn await_lanes_of(&self, lanes: u32) -> bool {
        let begun = Instant::now();
        loop {
            let now = self.see_genesis().ok().flatten().map(|stored| stored.genesis);
            if now.is_some_and(|now| now.relane.is_none() && now.lanes == lanes) {
                return true;
            }
            if begun.elapsed() > ANSWER_AFTER || self.alarm.is_ended() {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Remember what the lanes are to become, who has whose place, and since when nothing about it has changed.
    pub(super) fn see_genesis(&self) -> Result<Option<Stored>, Failure> {
        let _reading = lock(&self.places.reading);
        let stored = self.stored_genesis()?;
        self.places.see(stored.as_ref().map(|stored| &stored.genesis));
        let mut seen = lock(&self.relaning);
        let found =
            stored.as_ref().and_then(|stored| Some((stored.genesis.relane.clone()?, stored.genesis.generation)));
        *seen = match (found, seen.take()) {
            (None, _) => None,
            (Some((relane, _)), Some(seen)) if seen.relane == relane => Some(seen),
            (Some((relane, generation)), _) => Some(Seen { relane, generation, since: Instant::now(), failed: None }),
        };
        Ok(stored)
    }

    /// Let go of lanes that do not count any more. They are opened again when it is known which do.
    pub(super) fn follow_genesis(&self, running: &mut Option<Running>) -> Result<(), Failure> {
        let Some(Stored { genesis: now, .. }) = self.see_genesis()? else { return Ok(()) };
        let Some(up) = running else { return Ok(()) };
        if up.shared.genesis.has_lanes_of(&now) && now.layout <= self.layout_max() {
            return Ok(());
        }
        let (desired, before) = (up.shared.orders.desired(), up.shared.genesis.generation);
        tracing::info!(link = &*self.config().id, before, now = now.generation, "lanes do not count any more");
        stop_lanes(running, true);
        if let Err(failure) = self.bring(running, desired) {
            let again = failure.class == Class::Reopen;
            self.fail(failure);
            lock(&self.view).starting = again;
        }
        Ok(())
    }

    /// See to it that the lanes become others, if that is for us to do now.
    pub(super) fn attend_relane(&self) {
        let seen = lock(&self.relaning).clone();
        if !seen.is_some_and(|seen| seen.is_due(self.daemon(), Instant::now())) {
            return;
        }
        if let Err(failure) = self.carry_out_relane() {
            if failure.code == UNDER_WAY {
                // Somebody else does it, or the daemon ends.
                return;
            }
            if let Some(news) = self.repeats.news(format!("relane: {failure}"), Instant::now()) {
                let (code, repeated) = (failure.code, news.repeated);
                tracing::error!(link = &*self.config().id, code, repeated, "the lanes are not others yet: {failure}");
            }
            self.events.push(Event {
                code: Some(failure.code.to_owned()),
                ..Event::new("relane-failed", failure.message.clone())
            });
            if let Err(error) = self.see_genesis() {
                tracing::debug!(link = &*self.config().id, code = error.code, "{error}");
            }
            if let Some(seen) = &mut *lock(&self.relaning) {
                (seen.failed, seen.since) = (Some(failure), Instant::now());
            }
        }
    }

    /// The failure that lanes are about to become others, with what was in the way here.
    pub(super) fn with_last_try(&self, failure: Failure) -> Failure {
        let seen = lock(&self.relaning).clone().filter(|_| failure.code == UNDER_WAY);
        let Some(why) = seen.and_then(|seen| seen.failed) else { return failure };
        let message = format!("{}; the last try here: {why} ({})", failure.message, why.code);
        Failure { message, remedy: why.remedy, ..failure }
    }

    fn carry_out_relane(&self) -> Result<(), Failure> {
        let Some(stored) = self.see_genesis()? else { return Ok(()) };
        let tried = stored.genesis.tried_by(self.daemon(), now_ms());
        let Some(tried) = tried else {
            self.resume_after_relane();
            return Ok(());
        };
        tried.check_layout(self.layout_max())?;
        self.let_go(&tried)?;
        let mut known = self.replace_genesis(&stored, tried)?.ok_or_else(overtaken)?;
        self.await_parting();
        let copying = Copying {
            from: settings(self.config(), &known.genesis, 0),
            lanes: known.genesis.relaned().lanes,
            generation: known.genesis.relaned().generation,
        };
        let mut said = Instant::now();
        self.target().copy_lanes(&copying, &mut |copied| {
            if self.alarm.is_ended() {
                return Err(overtaken());
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let next = known.genesis.with_copied(copied);
                known = self.replace_genesis(&known, next).map_err(as_error)?.ok_or_else(overtaken)?;
            }
            Ok(())
        })?;
        let (from, done) = (known.genesis.lanes, known.genesis.relaned());
        let message = format!("from {from} lanes to {} (generation {})", done.lanes, done.generation);
        self.replace_genesis(&known, done)?.ok_or_else(overtaken)?;
        tracing::info!(link = &*self.config().id, "relaned {message}");
        self.events.push(Event::new("relaned", message));
        self.see_genesis()?;
        self.resume_after_relane();
        Ok(())
    }

    /// Let our own lanes end.
    fn let_go(&self, tried: &Genesis) -> Result<(), Failure> {
        let mut running = lock(&self.running);
        if running.is_some() {
            stop_lanes(&mut running, true);
            if let Err(under_way) = tried.check_settled() {
                self.fail(under_way.into());
            }
        }
        Ok(())
    }

    /// Give other daemons the time to let their lanes end. Those that do not are fenced.
    pub(super) fn await_parting(&self) {
        let begun = Instant::now();
        let is_other = |name: &Arc<str>| name != self.daemon();
        let others_run = || self.target().daemons(&self.config().id).is_ok_and(|daemons| daemons.keys().any(is_other));
        while begun.elapsed() < PARTING_PATIENCE && others_run() {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Open the lanes that count now, if the link is to run.
    fn resume_after_relane(&self) {
        let mut view = lock(&self.view);
        if !view.stopped {
            view.starting = true;
            drop(view);
            self.resume_desired();
        }
    }

    /// What is odd if the file or the definition says another number of lanes.
    pub(super) fn lanes_differ(&self) -> Option<Notice> {
        let shared = lock(&self.view).shared.clone()?;
        let (has, says, id) = (shared.genesis.lanes, self.config().lanes, &self.config().id);
        let place = if self.definition == 0 { "the file" } else { "its definition" };
        (has != says).then(|| Notice {
            code: "lanes-differ",
            topic: "".into(),
            message: format!("the link has {has} lanes, and {place} says {says}"),
            remedy: format!("write {has} in {place}, or change the link: `tidegate link relane {id} {says}`"),
        })
    }
}

/// Somebody else has changed the genesis meanwhile.
fn overtaken() -> Error {
    Error {
        class: Class::Reopen,
        code: UNDER_WAY,
        message: "somebody else sees to it that the lanes become others".to_owned(),
        remedy: "nothing: the link goes on by itself when that is done",
    }
}

fn as_error(failure: Failure) -> Error {
    Error {
        class: failure.class,
        code: failure.code,
        message: failure.message,
        remedy: "look at the target's log; it is tried again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(daemon: &str, tried: u32) -> Seen {
        let relane =
            Relane { lanes: 12, generation: tried, daemon: daemon.to_owned(), since_ms: 0, copied: 0, steps: 0 };
        Seen { relane, generation: 3, since: Instant::now(), failed: None }
    }

    #[test]
    fn who_was_to_do_it_goes_on_and_others_wait_longer_each_time() {
        let (mine, theirs, again) = (seen("a", 3), seen("b", 3), seen("b", 5));
        let after = |times: u32| mine.since.max(theirs.since).max(again.since) + STALLED_AFTER * times;
        assert!(mine.is_due("a", mine.since));
        assert!(!theirs.is_due("a", theirs.since) && theirs.is_due("a", after(1)));
        assert!(!again.is_due("a", again.since + STALLED_AFTER) && again.is_due("a", after(2)));
        let failed = Seen { failed: Some(overtaken().into()), ..mine.clone() };
        assert!(!failed.is_due("a", failed.since) && failed.is_due("a", after(1)));
    }
}
