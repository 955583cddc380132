//! The layout of a link is raised by a person, when all daemons that run it know the newer one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::events::Event;
use super::failure::Failure;
use super::status::lock;
use super::supervisor::Link;
use crate::model::layout::LAYOUT_NEWEST;

/// How long daemons may take to find together until it is known what they know.
const GATHERING_PATIENCE: Duration = Duration::from_secs(15);

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long what was seen of other daemons may be shown.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The newest layout that each daemon knows, by name; `None` while that cannot be said.
pub type Known = BTreeMap<Arc<str>, Option<u32>>;

/// What was seen of other daemons last.
#[derive(Debug, Default)]
pub(super) struct Colleagues(Mutex<Option<(Instant, Known)>>);

/// What an upgrade has done, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The layout that the link had.
    pub from: u32,
    /// The layout that it has now, or would have.
    pub to: u32,
    /// What the daemons know that run it.
    pub daemons: Known,
}

/// Why the layout was not raised. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The link was never started.
    #[error("the link was never started: it begins with layout {0}")]
    NotStarted(u32),
    /// These daemons do not know the layout.
    #[error("{} {} not know layout {layout}", .names.join(", "), if .names.len() == 1 { "does" } else { "do" })]
    Outdated {
        /// The daemons.
        names: Vec<String>,
        /// The layout.
        layout: u32,
    },
    /// The daemons are just finding together.
    #[error("the daemons of the link are finding together, so it cannot be said what they know")]
    Gathering,
    /// The target does not answer.
    #[error("{0}")]
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for UpgradeError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Link {
    /// Raise the layout of the link to the newest one that this program knows. `dry_run`: only say what that would do.
    ///
    /// # Errors
    /// See [`UpgradeError`].
    pub fn upgrade(&self, dry_run: bool, by: &str) -> Result<Upgrade, UpgradeError> {
        loop {
            let stored = self.stored_genesis()?.ok_or(UpgradeError::NotStarted(self.layout_max()))?;
            let from = stored.genesis.layout;
            let to = from.max(LAYOUT_NEWEST);
            let outcome = Upgrade { from, to, daemons: self.daemons_now()? };
            if from == to {
                return Ok(outcome);
            }
            self.check_colleagues(to)?;
            if dry_run {
                return Ok(outcome);
            }
            if self.replace_genesis(&stored, stored.genesis.upgraded(to))?.is_some() {
                let message = format!("from layout {from} to {to}, by {by}");
                tracing::info!(link = &*self.config().id, "upgraded {message}");
                self.events.push(Event::new("upgraded", message));
                return Ok(outcome);
            }
        }
    }

    /// Refuse if a daemon that runs the link does not know a layout.
    pub(super) fn check_colleagues(&self, layout: u32) -> Result<(), UpgradeError> {
        let begun = Instant::now();
        loop {
            let daemons = self.daemons_now()?;
            let outdated = daemons.iter().filter(|(_, known)| known.is_some_and(|known| known < layout));
            let names: Vec<String> = outdated.map(|(name, _)| name.to_string()).collect();
            if !names.is_empty() {
                return Err(UpgradeError::Outdated { names, layout });
            }
            if daemons.values().all(Option::is_some) {
                return Ok(());
            }
            if begun.elapsed() > GATHERING_PATIENCE {
                return Err(UpgradeError::Gathering);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What the daemons know that run the link, and this one.
    fn daemons_now(&self) -> Result<Known, Failure> {
        let others = self.target().daemons(&self.config().id)?.into_iter();
        let mut known: Known = others.map(|(name, colleague)| (name, colleague.layout)).collect();
        known.insert(self.daemon().clone(), Some(self.layout_max()));
        *lock(&self.colleagues.0) = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    /// The same, about a second old, for people.
    ///
    /// # Errors
    /// The target cannot be asked.
    pub fn daemons(&self) -> Result<Known, Failure> {
        let known = lock(&self.colleagues.0).clone();
        match known.filter(|(seen, _)| seen.elapsed() < AGE_MAX) {
            Some((_, known)) => Ok(known),
            None => self.daemons_now(),
        }
    }
}
