//! Puts the rooms together: the only room that knows all others.
//!
//! `run` starts everything that a configuration names and ends it in order, within the time that `ending` shares out; `world` is what runs; `definitions` are links that come through the API, `reload` is
//! what comes of a changed file, `crashes` what keeps a deadly one from being hosted again; `failover` and `failback` change the places of a link's clusters, `standby` releases what links guarded that are gone, and `webhook` tells somebody about it; [`check`] says what is wrong with a
//! configuration without starting it; `orders` has links do what a person says, now or when it can be; `control` answers the REST API, and `silence` says which clusters need not be waited for; `view` and
//! `verification` turn what links know into what the wire shows, and `metrics` into numbers for Prometheus.

mod check;
mod control;
mod crashes;
mod definitions;
mod ending;
mod failback;
mod failover;
mod groups;
mod lanes;
mod lifecycle;
mod metrics;
mod name;
mod orders;
mod plan;
mod reload;
mod run;
mod silence;
mod standby;
mod verification;
mod view;
mod webhook;
mod world;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use crate::api::Access;
use crate::config::{DaemonConfig, Diagnostic};
use crate::model::{LinkId, Repeats};
use crate::plugin::PluginEngine;
use crashes::Crashes;
use definitions::Definitions;
use failover::Regions;
use orders::Orders;
use world::{Hosted, RunningCluster, World};

pub use crate::link::trace::TARGET as SPANS;
pub use check::{Checked, check, inspect};
pub use definitions::Holds;
pub use run::run;

/// Why a command of this room failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// What is wrong with the configuration, if that is the reason.
    pub diagnostics: Vec<Diagnostic>,
}

impl Error {
    /// An error that is not about a configuration.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into(), diagnostics: Vec::new() }
    }
}

/// Everything that runs, and what it was told.
struct Daemon {
    data_dir: PathBuf,
    /// The configuration file.
    file: PathBuf,
    name: Arc<str>,
    started: Instant,
    engine: PluginEngine,
    settings: RwLock<Arc<DaemonConfig>>,
    world: RwLock<World>,
    definitions: Definitions,
    /// What links were told to do and is not done.
    orders: Orders,
    /// Which of them this process died of.
    crashes: Crashes,
    regions: Arc<Regions>,
    /// Links of the configuration file that cannot run before a restart.
    unhosted: Mutex<BTreeSet<LinkId>>,
    /// Who may use the API.
    access: Arc<Access>,
    /// What is in the log of failures that last.
    repeats: Repeats,
    /// Held for the length of a change of the world: one after the other.
    changing: Mutex<()>,
}

impl Daemon {
    /// What the configuration file says of the process.
    fn settings(&self) -> Arc<DaemonConfig> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What runs. Never held while something is waited for.
    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to be changed. Held for a moment only.
    fn world_to_change(&self) -> RwLockWriteGuard<'_, World> {
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        world.changes += 1;
        world
    }

    fn links(&self) -> Vec<Arc<Hosted>> {
        self.world().links.values().cloned().collect()
    }

    fn clusters(&self) -> Vec<Arc<RunningCluster>> {
        self.world().clusters.values().cloned().collect()
    }
}

/// A lock whose holder may have panicked: what it guards is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
