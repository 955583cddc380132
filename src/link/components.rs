//! Plugins of a link: found by digest, compiled, and made into pipelines.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::builtins::Builtins;
use super::failure::Failure;
use super::pipeline::{Pipeline, Stage};
use super::revision::{History, RevisionRecord, StageSpec};
use super::stats::StageStats;
use super::status::lock;
use super::watch::Watch;
use crate::connector::Cluster;
use crate::model::{self, ClusterId, Digest, Provenance};
use crate::plugin::{Plugin, PluginEngine};

/// Where the plugins of a link come from.
pub(super) struct Components {
    engine: PluginEngine,
    target: Arc<dyn Cluster>,
    /// The pipeline as the configuration file has it, with the components' bytes.
    configured: Vec<(StageSpec, Arc<[u8]>)>,
    stats: Mutex<BTreeMap<String, Arc<StageStats>>>,
    guard: Arc<Guard>,
}

/// What keeps records from coming once more that have gone back to the source. It follows from the genesis and is no content of a revision: it holds for all of them, those of
/// before included, since there were no such records before.
pub(super) struct Guard {
    /// The link's target.
    target: ClusterId,
    /// Whether the target has ever had the source's place.
    is_on: AtomicBool,
}

impl Guard {
    pub(super) fn new(target: ClusterId) -> Arc<Self> {
        Arc::new(Self { target, is_on: AtomicBool::new(false) })
    }

    pub(super) fn turn_on(&self) {
        self.is_on.store(true, Relaxed);
    }

    fn applied(&self, builtins: &model::Builtins) -> model::Builtins {
        let leave_out = || Provenance { leave_out: self.target.to_string(), mark: None };
        let provenance = builtins.provenance.clone().or_else(|| self.is_on.load(Relaxed).then(leave_out));
        model::Builtins { provenance, ..builtins.clone() }
    }
}

impl Components {
    pub(super) fn new(
        engine: PluginEngine,
        target: Arc<dyn Cluster>,
        configured: Vec<(StageSpec, Arc<[u8]>)>,
        guard: Arc<Guard>,
    ) -> Self {
        Self { engine, target, configured, stats: Mutex::default(), guard }
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The same, with numbers of its own: what is done with them is not the link's work.
    pub(super) fn apart(&self) -> Self {
        Self::new(self.engine.clone(), self.target.clone(), self.configured.clone(), self.guard.clone())
    }

    pub(super) fn engine(&self) -> &PluginEngine {
        &self.engine
    }

    /// The stages of the configuration file.
    pub(super) fn configured(&self) -> Vec<StageSpec> {
        self.configured.iter().map(|(spec, _)| spec.clone()).collect()
    }

    /// Put the components of the configuration file into the target.
    pub(super) fn store_configured(&self) -> Result<(), Failure> {
        self.configured.iter().try_for_each(|(spec, bytes)| Ok(self.target.put_artifact(&spec.plugin_digest, bytes)?))
    }

    /// Compile a revision of `history` from the components that the target holds.
    pub(super) fn pipeline(
        &self,
        history: &History,
        record: RevisionRecord,
        watch: Watch,
    ) -> Result<Pipeline, Failure> {
        let number = record.number;
        let stages = record.stages.iter().map(|spec| self.stage(spec)).collect::<Result<_, Failure>>()?;
        let builtins = Builtins::new(&self.guard.applied(&record.builtins)).map_err(|message| {
            let message = format!("the built-ins of revision {number}: {message}");
            Failure::fatal("history-unreadable", message, "restore the target, or use a newer tidegate")
        })?;
        let (undone, changed) = (history.undone_by(number), history.changed_by(&record));
        Ok(Pipeline::new(record, undone, changed, builtins, stages, watch))
    }

    pub(super) fn stage(&self, spec: &StageSpec) -> Result<Stage, Failure> {
        let plugin = self.load(&spec.plugin_digest)?;
        Ok(Stage { spec: spec.clone(), plugin, stats: self.stats(&spec.name) })
    }

    pub(super) fn load(&self, digest: &Digest) -> Result<Arc<Plugin>, Failure> {
        let configured = self.configured.iter().find(|(spec, _)| spec.plugin_digest == *digest);
        let bytes = match configured {
            Some((_, bytes)) => bytes.to_vec(),
            None => self.target.artifact(digest)?.ok_or_else(|| {
                let message = format!("the component {digest} is not in the target");
                Failure::fatal("artifact-missing", message, "publish the plugin again")
            })?,
        };
        self.engine.load(&bytes).map_err(|refusal| {
            Failure::fatal("plugin-refused", format!("the component {digest}: {refusal}"), "publish another plugin")
        })
    }

    pub(super) fn stats(&self, stage: &str) -> Arc<StageStats> {
        lock(&self.stats).entry(stage.to_owned()).or_default().clone()
    }
}
