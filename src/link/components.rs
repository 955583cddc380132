//! Plugins of a link: found by digest, compiled, and made into pipelines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::builtins::{Builtins, Returned};
use super::failover::returned_to_source;
use super::failure::Failure;
use super::genesis::Genesis;
use super::pipeline::{Pipeline, Stage};
use super::revision::{History, RevisionRecord, StageSpec};
use super::stats::StageStats;
use super::status::lock;
use super::watch::Watch;
use crate::config::LinkConfig;
use crate::connector::Cluster;
use crate::model::{self, Digest};
use crate::plugin::{Plugin, PluginEngine, Refusal};

/// Where the plugins of a link come from.
pub(super) struct Components {
    engine: PluginEngine,
    target: Arc<dyn Cluster>,
    /// The pipeline as the configuration file has it, with the components' bytes.
    configured: Vec<(StageSpec, Arc<[u8]>)>,
    stats: Mutex<BTreeMap<String, Arc<StageStats>>>,
}

/// Keeps records that went back to the source from being copied once more. It follows from what the target says when
/// the lanes are opened, never from what this daemon has seen, and is no content of a revision: it holds for all of
/// them, those of before included.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard(Returned);

impl Guard {
    /// What a link record asks of every pipeline. A link without one has not failed over yet.
    pub(super) fn of(target: &dyn Cluster, config: &LinkConfig, genesis: Option<&Genesis>) -> Result<Self, Failure> {
        let Some(genesis) = genesis.filter(|genesis| genesis.link_epoch > 0) else { return Ok(Self::default()) };
        Ok(Self(returned_to_source(target, config, genesis.link_epoch)?))
    }

    /// The built-ins of a revision, behind this.
    fn applied(&self, builtins: &model::Builtins) -> Result<Builtins, String> {
        Ok(Builtins::new(builtins)?.behind(self.0.clone()))
    }
}

impl Components {
    pub(super) fn new(engine: PluginEngine, target: Arc<dyn Cluster>, configured: Vec<(StageSpec, Arc<[u8]>)>) -> Self {
        Self { engine, target, configured, stats: Mutex::default() }
    }

    /// The same, with numbers of its own: what is done with them is not the link's work.
    pub(super) fn apart(&self) -> Self {
        Self::new(self.engine.clone(), self.target.clone(), self.configured.clone())
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

    /// Compile a revision of `history` from the components that the target holds, behind `guard`.
    pub(super) fn pipeline(
        &self,
        history: &History,
        record: RevisionRecord,
        guard: &Guard,
        watch: Watch,
    ) -> Result<Pipeline, Failure> {
        let number = record.number;
        let stages = record.stages.iter().map(|spec| self.stage(spec)).collect::<Result<_, Failure>>()?;
        let builtins = guard.applied(&record.builtins).map_err(|message| {
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
            let message = format!("the component {digest}: {refusal}");
            match refusal {
                Refusal::NoRoom => Failure::no_room(message),
                _ => Failure::fatal("plugin-refused", message, "publish another plugin"),
            }
        })
    }

    pub(super) fn stats(&self, stage: &str) -> Arc<StageStats> {
        lock(&self.stats).entry(stage.to_owned()).or_default().clone()
    }
}
