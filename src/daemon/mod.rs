//! Puts the rooms together: the only room that knows all others.
//!
//! `run` starts everything that a configuration names and ends it in order; [`check`] says what is wrong with a
//! configuration without starting it; `control` answers the REST API; `view` and
//! `verification` turn what links know into what the wire shows.

mod check;
mod control;
mod groups;
mod lanes;
mod name;
mod plan;
mod run;
mod verification;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{ClusterConfig, Diagnostic};
use crate::connector::{self, Cluster, Topic};
use crate::link::Link;
use crate::model::{ClusterId, LinkId};
use crate::store::Store;

pub use check::{Checked, check, inspect};
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
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into(), diagnostics: Vec::new() }
    }
}

/// Everything that runs.
struct Daemon {
    data_dir: PathBuf,
    name: Arc<str>,
    started: Instant,
    clusters: BTreeMap<ClusterId, RunningCluster>,
    links: BTreeMap<LinkId, Arc<Link>>,
}

/// A cluster and what its configuration says.
struct RunningCluster {
    config: ClusterConfig,
    cluster: Arc<dyn Cluster>,
    /// What is behind an embedded cluster, for what only that has: retention that we see to, and failures that last.
    store: Option<Arc<Store>>,
}

impl RunningCluster {
    fn topic(&self, name: &str) -> Result<Option<Topic>, connector::Error> {
        match &self.store {
            Some(store) => Ok(store.topic(name).map(Topic::from)),
            None => Ok(self.cluster.topics()?.into_iter().find(|topic| *topic.name == *name)),
        }
    }
}
