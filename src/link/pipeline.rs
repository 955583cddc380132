//! The stages that a link's records go through.
//!
//! A [`Pipeline`] is what all lanes share: compiled plugins and their configuration. Each lane makes a `Run` of it: one
//! configured instance of each stage.

use std::sync::{Arc, Mutex};

use super::failure::{Failure, Place};
use super::revision::{RevisionRecord, StageSpec};
use super::status::{StageStats, lock};
use crate::config::{LinkConfig, check_topic_name, would_loop};
use crate::model::{Batch, RevisionNumber};
use crate::plugin::{ConfigError, Instance, Plugin, Reject, Trap};

/// A compiled revision.
#[derive(Debug)]
pub struct Pipeline {
    /// Its number, content and origin.
    pub record: RevisionRecord,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// Instances that a publish has made for the lanes, so that a swap need not wait for them.
    spares: Mutex<Vec<Instances>>,
}

/// An instance for each stage; `None` only after it trapped.
type Instances = Vec<Option<Instance>>;

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

/// Whether a link may write to the topics that a plugin declares.
///
/// # Errors
/// A sentence about the first that it may not write to.
pub fn check_routes(config: &LinkConfig, routes: &[Arc<str>]) -> Result<(), String> {
    for topic in routes {
        check_topic_name(topic).map_err(|error| format!("the plugin would route to {topic:?}: {error}"))?;
        if would_loop(config, topic) {
            return Err(format!("the plugin would route to {topic}, which the link itself reads"));
        }
    }
    Ok(())
}

/// A lane's instances of a pipeline.
#[derive(Debug)]
pub(super) struct Run {
    pipeline: Arc<Pipeline>,
    instances: Instances,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Processed {
    /// What is to be written.
    pub(super) batch: Batch,
    /// Records that some stage dropped.
    pub(super) dropped: u64,
    /// Records that some stage changed.
    pub(super) changed: u64,
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
        self.plugin.configure(&stage, &config, &self.spec.limits(), &self.stats.metrics)
    }
}

impl Pipeline {
    /// A pipeline without instances.
    pub(super) fn new(record: RevisionRecord, stages: Vec<Stage>) -> Self {
        Self { record, stages, spares: Mutex::default() }
    }

    /// Make instances for this many lanes ahead of time.
    pub(super) fn make_spares(&self, link: &str, lanes: u32) -> Result<(), Failure> {
        let spares = (0..lanes).map(|_| self.instances(link)).collect::<Result<_, _>>()?;
        *lock(&self.spares) = spares;
        Ok(())
    }

    fn instances(&self, link: &str) -> Result<Instances, Failure> {
        let configure = |stage: &Stage| stage.configure(link).map(Some).map_err(|error| not_configured(stage, &error));
        self.stages.iter().map(configure).collect()
    }

    /// The revision's number.
    pub fn number(&self) -> RevisionNumber {
        self.record.number
    }
}

impl Run {
    pub(super) fn new(link: &str, pipeline: &Arc<Pipeline>) -> Result<Self, Failure> {
        let spare = lock(&pipeline.spares).pop();
        let instances = spare.map_or_else(|| pipeline.instances(link), Ok)?;
        Ok(Self { pipeline: pipeline.clone(), instances })
    }

    /// The topics that the stages may route to.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.instances.iter().flatten().flat_map(|instance| instance.routes())
    }

    /// Let a batch go through all stages. After an error this run is of no use any more.
    pub(super) fn process(&mut self, mut batch: Batch) -> Result<Processed, Failure> {
        let (mut dropped, mut changed) = (0, 0);
        for (stage, slot) in self.pipeline.stages.iter().zip(&mut self.instances) {
            if batch.is_empty() {
                break;
            }
            let records_in = batch.len();
            let Some(instance) = slot.take() else { return Err(gone(stage)) };
            batch.compact_if_sparse();
            let (instance, done) = instance.call(batch).map_err(|(batch, trap)| trapped(stage, &batch, &trap))?;
            stage.stats.add_call(records_in, &done, instance.memory_bytes());
            *slot = Some(instance);
            if let Some(reject) = done.rejects.first() {
                return Err(rejected(stage, &done.batch, reject));
            }
            dropped += done.dropped as u64;
            changed += done.changed as u64;
            batch = done.batch;
        }
        Ok(Processed { batch, dropped, changed })
    }
}

fn not_configured(stage: &Stage, error: &ConfigError) -> Failure {
    let message = format!("stage {}: {error}", stage.spec.name);
    let failure = Failure::fatal("plugin-not-configured", message, "publish a plugin or a configuration that works");
    Failure { stage: Some(stage.spec.name.clone()), ..failure }
}

fn gone(stage: &Stage) -> Failure {
    Failure::fatal("internal", format!("stage {} has no instance", stage.spec.name), "report this")
}

fn trapped(stage: &Stage, batch: &Batch, trap: &Trap) -> Failure {
    stage.stats.add_trap();
    let (first, last) = (batch.offsets.first(), batch.offsets.last());
    let message = format!(
        "stage {}: the plugin {} failed on the records of {}-{} from offset {} to {}: {}",
        stage.spec.name,
        stage.spec.plugin_name,
        batch.topic,
        batch.partition,
        first.copied().unwrap_or_default(),
        last.copied().unwrap_or_default(),
        trap.message
    );
    let remedy = "publish a plugin that handles these records, then start the link";
    Failure {
        stage: Some(stage.spec.name.clone()),
        place: first.map(|offset| place(batch, *offset)),
        ..Failure::fatal(trap.kind.code(), message, remedy)
    }
}

fn rejected(stage: &Stage, batch: &Batch, reject: &Reject) -> Failure {
    let offset = reject.offset;
    let message = format!(
        "stage {} rejects the record of {}-{} at offset {offset}: {}: {}",
        stage.spec.name, batch.topic, batch.partition, reject.code, reject.message
    );
    let remedy = "publish a plugin or a configuration that handles this record, then start the link";
    Failure {
        stage: Some(stage.spec.name.clone()),
        place: Some(place(batch, offset)),
        ..Failure::fatal("record-rejected", message, remedy)
    }
}

fn place(batch: &Batch, offset: i64) -> Place {
    Place { topic: batch.topic.to_string(), partition: batch.partition, offset }
}
