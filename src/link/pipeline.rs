//! The stages that a link's records go through.
//!
//! A [`Pipeline`] is what all lanes share: compiled plugins and their configuration. Each lane makes a
//! `Run` of it: one configured instance of each stage.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::builtins::Builtins;
use super::failure::Failure;
use super::revision::{RevisionRecord, StageSpec};
use super::stats::StageStats;
use super::status::lock;
use super::watch::Watch;
use crate::config::{LinkConfig, Refused, Writing, may_write};
use crate::model::{Limits, RevisionNumber};
use crate::plugin::{ConfigError, Instance, Plugin, World};

/// A compiled revision.
#[derive(Debug)]
pub struct Pipeline {
    /// Its number, content and origin.
    pub record: RevisionRecord,
    /// The revisions whose trial was undone by then, as the history says.
    pub(super) undone: BTreeSet<RevisionNumber>,
    /// The stages that work otherwise than in the revision before it, or were not there.
    pub(super) changed: BTreeSet<String>,
    /// What records go through before the first stage, and what seals them behind the last.
    pub(super) builtins: Builtins,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// How it does.
    pub(super) watch: Watch,
    /// Instances that a publish has made for the lanes, so that a swap need not wait for them.
    spares: Mutex<Vec<Instances>>,
}

/// An instance for each stage; `None` only after it trapped.
pub(super) type Instances = Vec<Option<Instance>>;

/// A compiled stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it does.
    pub spec: StageSpec,
    /// The compiled plugin.
    pub plugin: Arc<Plugin>,
    /// What it has done, in all lanes and revisions.
    pub stats: Arc<StageStats>,
}

/// Whether a link may write to the topics that a plugin declares. `others`: the links that are known beside it.
///
/// # Errors
/// The first that it may not write to.
pub fn check_routes(config: &LinkConfig, routes: &[Arc<str>], others: &[&LinkConfig]) -> Result<(), Refused> {
    routes.iter().try_for_each(|topic| may_write(Writing::Routes(config), topic, others))
}

/// Whether a stage takes a component of this size.
///
/// # Errors
/// A sentence with both sizes.
pub fn check_limits(limits: &Limits, plugin: &Plugin) -> Result<(), String> {
    let (size, most) = (plugin.size_bytes() as u64, limits.component_bytes);
    if size <= most { Ok(()) } else { Err(format!("the component has {size} bytes, and the stage's limit is {most}")) }
}

impl Stage {
    /// A configured instance for one lane of `link`.
    ///
    /// # Errors
    /// The configuration is refused, or the plugin failed.
    pub fn configure(&self, link: &str) -> Result<Instance, ConfigError> {
        let stage: Arc<str> = self.spec.name.as_str().into();
        let config = self.spec.config.to_string();
        tracing::debug!(link, stage = &*stage, plugin = ?self.plugin, "configuring");
        self.plugin.configure(&stage, &config, &self.spec.limits, &self.stats.metrics)
    }

    /// The same, for a lane.
    pub(super) fn instance(&self, link: &str) -> Result<Instance, Failure> {
        self.configure(link).map_err(|error| {
            let message = format!("stage {}: {error}", self.spec.name);
            if matches!(error, ConfigError::NoRoom) {
                return Failure::no_room(message).at_stage(&self.spec.name);
            }
            let remedy = "publish a plugin or a configuration that works";
            Failure::fatal("plugin-not-configured", message, remedy).at_stage(&self.spec.name)
        })
    }
}

impl Pipeline {
    /// A pipeline without instances.
    pub(super) fn new(
        record: RevisionRecord,
        undone: BTreeSet<RevisionNumber>,
        changed: BTreeSet<String>,
        builtins: Builtins,
        stages: Vec<Stage>,
        watch: Watch,
    ) -> Self {
        Self { record, undone, changed, builtins, stages, watch, spares: Mutex::default() }
    }

    /// Whether what leaves it may have other headers with reserved names than what was read, or lack a mark of the link.
    pub(super) fn needs_seal(&self) -> bool {
        !self.builtins.marks().is_empty() || self.builtins.change_headers() || self.transforms()
    }

    /// Whether a plugin makes other records.
    pub(super) fn transforms(&self) -> bool {
        let transforms = |stage: &Stage| matches!(stage.plugin.world(), World::Transform | World::StatefulTransform);
        self.stages.iter().any(transforms)
    }

    /// Whether it hands every record on as it is.
    pub(super) fn copies(&self) -> bool {
        self.stages.is_empty() && self.builtins.is_empty()
    }

    /// Make instances for this many lanes ahead of time.
    pub(super) fn make_spares(&self, link: &str, lanes: u32) -> Result<(), Failure> {
        let spares = (0..lanes).map(|_| self.instances(link)).collect::<Result<_, _>>()?;
        *lock(&self.spares) = spares;
        Ok(())
    }

    /// An instance of each stage.
    pub(super) fn take_instances(&self, link: &str) -> Result<Instances, Failure> {
        let spare = lock(&self.spares).pop();
        spare.map_or_else(|| self.instances(link), Ok)
    }

    fn instances(&self, link: &str) -> Result<Instances, Failure> {
        self.stages.iter().map(|stage| stage.instance(link).map(Some)).collect()
    }

    /// The revision's number.
    pub fn number(&self) -> RevisionNumber {
        self.record.number
    }

    /// The stage of this name.
    pub(super) fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.spec.name == name)
    }
}
