//! How the pipeline of a link is replaced: publish and rollback.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{HISTORY, Link, Running, SWAP_PATIENCE, Shared};
use crate::config::LinkConfig;
use crate::link::components::Guard;
use crate::link::events::Event;
use crate::link::failure::Failure;
use crate::link::lane::now_ms;
use crate::link::pipeline::{Stage, check_limits, check_routes};
use crate::link::revision::{Content, History, Origin, Publisher, RevisionRecord, StageSpec};
use crate::link::status::{LaneState, lock};
use crate::link::trace;
use crate::link::watch::{Probation, Watch};
use crate::model::policy::TIME_AHEAD_MAX_MS;
use crate::model::{Json, RevisionNumber};
use crate::plugin::{ConfigError, Plugin, Refusal};

/// How often a publish is tried while other daemons publish too.
const TRIES: u32 = 5;

/// What a publish or rollback has done.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The new revision.
    pub record: RevisionRecord,
    /// Whether every lane has committed under it.
    pub complete: bool,
    /// The longest pause of a lane, once all have swapped.
    pub pause_max: Option<Duration>,
}

/// A plugin for a stage.
#[derive(Clone, Copy)]
pub struct NewPlugin<'a> {
    /// The stage.
    pub stage: &'a str,
    /// The component.
    pub component: &'a [u8],
    /// Its configuration; `None`: the stage's as it is.
    pub config: Option<&'a Json>,
    /// Who publishes it.
    pub by: &'a str,
    /// The links that are known beside this one.
    pub others: &'a [&'a LinkConfig],
    /// Whether somebody waits for it still.
    pub is_wanted: &'a (dyn Fn() -> bool + Sync),
}

/// Why a publish or rollback was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no such stage.
    #[error("the link has no stage {0}")]
    NoStage(String),
    /// There is nothing to go back to.
    #[error("there is no revision to go back to")]
    NoRevision,
    /// The component or its configuration is refused, with the reason.
    #[error("{0}")]
    Refused(String),
    /// Another daemon has published something at the same time, and was first.
    #[error("another daemon keeps publishing: try again")]
    Overtaken,
    /// The stage is another one than when the publish was asked for.
    #[error("revision {by} has changed stage {stage} since this publish was asked for")]
    Superseded {
        /// The revision that was there first.
        by: RevisionNumber,
        /// The stage.
        stage: String,
    },
    /// The revision that was to be left has been left already.
    #[error("revision {by} has come since this rollback was asked for")]
    Left {
        /// The revision that is there now.
        by: RevisionNumber,
    },
    /// Whoever asked for it does not wait for it any more.
    #[error("whoever asked for this publish has gone before the plugin was compiled")]
    Withdrawn,
    /// The target could not store it.
    #[error("{0}")]
    Failed(Failure),
}

impl Link {
    /// Replace the plugin of a stage, as it is when this is called.
    ///
    /// # Errors
    /// The component or its configuration is refused, somebody else has changed the stage meanwhile, or the target cannot store it. Then nothing has changed.
    pub fn publish(&self, new: NewPlugin<'_>) -> Result<Publication, PublishError> {
        let _told = trace::publish(self.config(), new.stage).entered();
        // What the file says comes first, or it would replace what is published at the next start.
        let (_, RevisionRecord { number: basis, .. }) = self.history_to_run().map_err(PublishError::Failed)?;
        // Compiling may take seconds: before the lock.
        let plugin = self.components.engine().load(new.component).map_err(|refusal| match refusal {
            Refusal::NoRoom => PublishError::Failed(Failure::no_room(refusal.to_string())),
            _ => PublishError::Refused(refusal.to_string()),
        })?;
        let running = lock(&self.running);
        until_first(|| self.publish_once(running.as_ref(), &plugin, new, basis))
    }

    fn publish_once(
        &self,
        running: Option<&Running>,
        plugin: &Arc<Plugin>,
        new: NewPlugin<'_>,
        basis: RevisionNumber,
    ) -> Result<Publication, PublishError> {
        let NewPlugin { stage, component, config, by, others, is_wanted } = new;
        if !is_wanted() {
            return Err(PublishError::Withdrawn);
        }
        // What is changed is of the very history that is replaced, or what somebody else has published in between would be undone.
        let (mut history, _) = self.history_to_run().map_err(PublishError::Failed)?;
        let changed = history.to_change(basis, stage);
        let superseded = |by| PublishError::Superseded { by, stage: stage.to_owned() };
        let mut content = changed.map_err(superseded)?.content();
        let spec = content.stages.iter_mut().find(|spec| spec.name == stage);
        let spec = spec.ok_or_else(|| PublishError::NoStage(stage.to_owned()))?;
        self.check_world(spec, plugin)?;
        spec.plugin_digest = plugin.digest();
        spec.plugin_name.clone_from(&plugin.description().name);
        spec.plugin_version.clone_from(&plugin.description().version);
        // A revision of before there was a bound has none; who publishes anew gets one.
        spec.time_ahead_max_ms.get_or_insert(TIME_AHEAD_MAX_MS);
        if let Some(config) = config {
            spec.config = config.clone();
        }
        // A component is stored when it is known to work, and loaded from there like any other.
        let stage = Stage { spec: spec.clone(), plugin: plugin.clone(), stats: self.components.stats(&spec.name) };
        self.check_stage(&stage, others)?;
        self.target.put_artifact(&plugin.digest(), component).map_err(|error| PublishError::Failed(error.into()))?;
        let publisher = Publisher { origin: Origin::Publish, by, reason: None, undoes: None, restores: None };
        self.release(running, &mut history, content, publisher)
    }

    /// Publish the content of an earlier revision again.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub fn rollback(&self, to: Option<RevisionNumber>, by: &str) -> Result<Publication, PublishError> {
        let (_, RevisionRecord { number: left, .. }) = self.history_to_run().map_err(PublishError::Failed)?;
        let running = lock(&self.running);
        until_first(|| self.roll_back_once(running.as_ref(), left, to, by))
    }

    fn roll_back_once(
        &self,
        running: Option<&Running>,
        left: RevisionNumber,
        to: Option<RevisionNumber>,
        by: &str,
    ) -> Result<Publication, PublishError> {
        let (mut history, last) = self.history_to_run().map_err(PublishError::Failed)?;
        let old = match to {
            Some(number) => history.get(number),
            // The one before another one than was to be left is not what is wanted.
            None if last.number != left => return Err(PublishError::Left { by: last.number }),
            None => history.previous(),
        };
        let old = old.ok_or(PublishError::NoRevision)?;
        let (content, restores) = (old.content(), Some(old.number));
        let undoes = self.on_trial(&history, Duration::ZERO);
        let publisher = Publisher { origin: Origin::Rollback, by, reason: None, undoes, restores };
        self.release(running, &mut history, content, publisher)
    }

    /// The newest revision, if its trial has not ended: what goes back now undoes it whole. What was kept for that is still there, since lanes give it
    /// up some time after the trial has ended. `late`: how long ago it may have ended.
    ///
    /// The history and the clock alone say so: what this daemon knows beside them is gone after a restart, and what lanes have dropped by then too.
    pub(in crate::link) fn on_trial(&self, history: &History, late: Duration) -> Option<RevisionNumber> {
        let last = history.last()?;
        let ends = last.trial_ends_ms(&self.config.probation)?;
        (now_ms() < ends.saturating_add(late.as_millis() as i64)).then_some(last.number)
    }

    /// A refused plugin of another world: the stage's place in the pipeline was made for what it has.
    fn check_world(&self, spec: &StageSpec, new: &Plugin) -> Result<(), PublishError> {
        // Publishing is also the cure for an old component that is gone or damaged.
        let Ok(old) = self.components.load(&spec.plugin_digest) else { return Ok(()) };
        if new.world().does_the_work_of(old.world()) {
            return Ok(());
        }
        let (name, old, new) = (&spec.name, old.world(), new.world());
        Err(PublishError::Refused(format!("wrong world: stage {name} runs a {old}, and this plugin is a {new}")))
    }

    fn check_stage(&self, stage: &Stage, others: &[&LinkConfig]) -> Result<(), PublishError> {
        check_limits(&stage.spec.limits, &stage.plugin).map_err(PublishError::Refused)?;
        let instance = stage.configure(&self.config.id).map_err(|error| match error {
            ConfigError::NoRoom => PublishError::Failed(Failure::no_room(error.to_string())),
            ConfigError::Refused(_) | ConfigError::Trapped(_) => PublishError::Refused(error.to_string()),
        })?;
        let checked = check_routes(&self.config, instance.routes(), others);
        checked.map_err(|refused| PublishError::Refused(refused.to_string()))
    }

    /// Number a pipeline, make it durable, and only then let the lanes see it.
    pub(in crate::link) fn release(
        &self,
        running: Option<&Running>,
        history: &mut History,
        content: Content,
        publisher: Publisher<'_>,
    ) -> Result<Publication, PublishError> {
        let content = self.with_marks(history, content);
        let record = history.push(content, publisher, now_ms(), &self.config.probation);
        let record = record.map_err(|error| PublishError::Failed(error.into()))?.clone();
        let watch = self.watch(history, running.map(|running| &*running.shared));
        // Without lanes nothing goes through it: it is only checked.
        let guard = running.map_or_else(Guard::default, |running| running.shared.guard.clone());
        let pipeline =
            self.components.pipeline(history, record.clone(), &guard, watch).map_err(PublishError::Failed)?;
        pipeline.stages.iter().try_for_each(|stage| self.check_stage(stage, &[]))?;
        if let Some(Running { shared, .. }) = running {
            pipeline.make_spares(&self.config.id, shared.config.lanes).map_err(PublishError::Failed)?;
        }
        if !self.store_history(history).map_err(PublishError::Failed)? {
            return Err(PublishError::Overtaken);
        }
        self.announce(&record);
        let Some(running) = running else { return Ok(Publication { record, complete: false, pause_max: None }) };
        let shared = &running.shared;
        shared.slot.store(Arc::new(pipeline));
        shared.orders.notify();
        let lane_failed = || shared.lanes.iter().any(|lane| lock(lane).state == LaneState::Failed);
        let outlived = || shared.outlived.load(Relaxed);
        shared.orders.wait_until(SWAP_PATIENCE, || self.is_complete(record.number) || lane_failed() || outlived());
        self.components.engine().forget_unused();
        let complete = self.is_complete(record.number);
        let pauses = shared.lanes.iter().filter_map(|lane| lock(lane).last_swap_pause);
        Ok(Publication { complete, pause_max: pauses.max().filter(|_| complete), record })
    }

    /// How the newest revision of `history` is to be watched: a rollback is not, nor is a revision with nothing before it.
    pub(in crate::link) fn watch(&self, history: &History, running: Option<&Shared>) -> Watch {
        let config = &self.config.probation;
        let Some(record) = history.last() else { return Watch::default() };
        let left = record.trial_ends_ms(config).map_or(0, |ends| ends.saturating_sub(now_ms()));
        if history.previous().is_none() || config.records == 0 || left <= 0 {
            return Watch::default();
        }
        let time_before = running.and_then(|shared| shared.slot.load().watch.time_per_record());
        let until = Instant::now() + Duration::from_millis(left.unsigned_abs());
        Watch::new(Some(Probation { config: config.clone(), until, time_before }))
    }

    /// Tell people of a new revision.
    pub(in crate::link) fn announce(&self, record: &RevisionRecord) {
        let (number, by) = (record.number, &record.by);
        let reason = record.reason.as_deref().unwrap_or_default();
        tracing::info!(link = &*self.config.id, revision = number.0, digest = %record.digest, by, reason, "published");
        let what = match record.origin {
            Origin::Toml | Origin::Publish => "published",
            Origin::Rollback => "rolled-back",
            Origin::Automatic => "rolled-back-automatically",
        };
        let because = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        self.events.push(Event::new(what, format!("revision {number} by {by}{because}")));
    }

    /// The published revision; or a new one, if the configuration file has changed since it was last published. With the history that it is the last of, as it is
    /// stored.
    pub(super) fn history_to_run(&self) -> Result<(History, RevisionRecord), Failure> {
        let configured = Content { builtins: self.config.builtins.clone(), stages: self.components.configured() };
        loop {
            let mut history = self.history()?;
            self.refuse_renamed_target(&history)?;
            let content = self.with_marks(&history, configured.clone());
            let known = history.has_from_toml(&content)?;
            let last = history.last().filter(|_| known).cloned();
            let by = if self.definition == 0 { "configuration file" } else { "definition" };
            let publisher = Publisher { origin: Origin::Toml, by, reason: None, undoes: None, restores: None };
            let (content, publisher) = match last {
                Some(last) if last.builtins.provenance == content.builtins.provenance => return Ok((history, last)),
                // An older program has rolled back to a revision from before the link marked.
                Some(last) => {
                    let reason = Some("the configuration of the link asks for marks");
                    let publisher =
                        Publisher { origin: Origin::Publish, by: "tidegate", reason, undoes: None, restores: None };
                    (self.with_marks(&history, last.content()), publisher)
                }
                None => (content, publisher),
            };
            self.components.store_configured()?;
            let record = history.push(content, publisher, now_ms(), &self.config.probation)?.clone();
            // Daemons that start together have the same file: one of them writes it down, and all read what is there then.
            if self.store_history(&history)? {
                self.announce(&record);
            }
        }
    }

    /// Replace the history that `history` was read from. Whether it was still there.
    fn store_history(&self, history: &History) -> Result<bool, Failure> {
        self.note_unmarked(history)?;
        let text = history.encode()?;
        self.replace(HISTORY, history.stored(), &text)
    }
}

/// Try as long as others are faster, some times.
fn until_first(mut publish: impl FnMut() -> Result<Publication, PublishError>) -> Result<Publication, PublishError> {
    for _ in 1..TRIES {
        match publish() {
            Err(PublishError::Overtaken) => {}
            done => return done,
        }
    }
    publish()
}
