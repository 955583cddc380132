//! What the API does with definitions that are stored: show, change, delete. It works on what is stored, so none of it needs the link to run.

use std::sync::Arc;

use super::unusable::cluster_of;
use super::{Stored, in_file, lock, overtaken, read, settle, wrong_state};
use crate::api::control::{ControlError, ErrorKind, Fault};
use crate::api::wire;
use crate::config::redaction::{redact, restore};
use crate::daemon::Daemon;
use crate::daemon::failover::way_back;
use crate::daemon::view::status;
use crate::daemon::world::{Hosted, ManagedBy};
use crate::link::failover::Phase;
use crate::link::relane::RelaneError;
use crate::link::supervisor::LinkState;
use crate::model::{JsonObject, LinkId, json};

/// A link that was defined through the API.
struct Managed {
    id: LinkId,
    /// The definition, as far as it can be read.
    stored: Stored,
    /// The link, if it runs here, perhaps as an earlier definition says.
    hosted: Option<Arc<Hosted>>,
}

impl Daemon {
    /// Change the definition of a link that does not move records: what is null in `patch` is taken out, the rest replaces what was there (RFC 7396).
    pub(in crate::daemon) fn redefine_link(
        &self,
        id: &str,
        patch: &JsonObject,
        expected: Option<u64>,
        by: &str,
    ) -> Result<wire::Link, ControlError> {
        if let Some(lanes) = self.change_definition(id, patch, expected, by)? {
            self.have_lanes(id, lanes, by);
        }
        self.shown(id)
    }

    /// The number of lanes, if it is another one now.
    fn change_definition(
        &self,
        id: &str,
        patch: &JsonObject,
        expected: Option<u64>,
        by: &str,
    ) -> Result<Option<u32>, ControlError> {
        if let Ok(managed) = self.managed(id, None) {
            self.examine_unlocked(&managed.id, &managed.changed(patch));
        }
        let _changing = lock(&self.changing);
        let managed = self.managed(id, expected)?;
        self.refuse_at_work(&managed, &[LinkState::Paused, LinkState::Stopped, LinkState::Failed], |state| {
            let message = format!("link {id} is {}: it can be changed while it is paused or stopped", status(state));
            wrong_state(message, format!("`tidegate link pause {id}` pauses it"), state)
        })?;
        let definition = managed.changed(patch);
        managed.refuse_other_clusters(&definition)?;
        let lanes = self.examine(&managed.id, &definition)?.defined.link.lanes;
        self.replace(&managed, Some(definition), by)?;
        let is_other = managed.hosted.is_some_and(|hosted| hosted.config().lanes != lanes);
        Ok(is_other.then_some(lanes))
    }

    /// Have a link run with as many lanes as its definition says now. What it says of them counts by itself only for a link that is new.
    fn have_lanes(&self, id: &str, lanes: u32, by: &str) {
        let Ok(hosted) = self.find_hosted(id) else { return };
        for hosted in self.other_way(&hosted).into_iter().chain([hosted]) {
            match hosted.link().relane(lanes, by) {
                Ok(_) | Err(RelaneError::NotStarted) => {}
                // The link shows a notice that says what to do.
                Err(error) => tracing::warn!(link = &*hosted.config().id, "the lanes stay as they are: {error}"),
            }
        }
    }

    /// Forget a link that is stopped, or not run. What its target knows of it stays.
    pub(in crate::daemon) fn delete_link(&self, id: &str, expected: Option<u64>, by: &str) -> Result<(), ControlError> {
        let _changing = lock(&self.changing);
        let managed = self.managed(id, expected)?;
        self.refuse_at_work(&managed, &[LinkState::Stopped], |state| {
            let message = format!("link {id} is {}: only one that is stopped can be deleted", status(state));
            wrong_state(message, format!("`tidegate link stop {id}` stops it"), state)
        })?;
        self.replace(&managed, None, by)
    }

    /// The definition of a link, as it was said.
    pub(in crate::daemon) fn link_definition(&self, id: &str) -> Result<wire::LinkDefinition, ControlError> {
        let stored = self.managed(id, None)?.stored;
        let Some(definition) = stored.definition else {
            // Its form is not known here.
            return Err(self.unusable(id).unwrap_or_else(|| overtaken(id)));
        };
        Ok(wire::LinkDefinition {
            id: id.to_owned(),
            version: stored.version,
            created_at: wire::Time(stored.created_ms),
            changed_at: wire::Time(stored.changed_ms),
            changed_by: stored.by,
            definition: redact(definition),
        })
    }

    /// A link that was defined through the API, if it is the version that is expected.
    fn managed(&self, id: &str, expected: Option<u64>) -> Result<Managed, ControlError> {
        let managed = match self.find_unusable(id) {
            Some((id, unusable)) => {
                let hosted = self.world().links.get(&id).cloned();
                Managed { id, stored: unusable.stored, hosted }
            }
            None => self.managed_and_hosted(id)?,
        };
        managed.stored.check_version(id, expected)?;
        Ok(managed)
    }

    fn managed_and_hosted(&self, id: &str) -> Result<Managed, ControlError> {
        let hosted = self.find_hosted(id)?;
        let stored = match &hosted.managed_by {
            ManagedBy::Api { stored, .. } => stored.clone(),
            ManagedBy::File(_) => return Err(in_file(id, ErrorKind::Conflict)),
            ManagedBy::Failback => return Err(way_back(id)),
        };
        if hosted.config().is_reverse {
            let message = format!("link {id} is the other way of one that goes both ways");
            let remedy = "change or delete that one: its id has no `.reverse` at the end";
            return Err(ControlError::new(ErrorKind::Conflict, "other-way", message, remedy));
        }
        Ok(Managed { id: hosted.config().id.clone(), stored, hosted: Some(hosted) })
    }

    /// Refuse to change a link that runs here and is in none of these states. What is not run here can be told nothing,
    /// like a link whose target is out of reach: lanes that another daemon has end with the definition.
    fn refuse_at_work(
        &self,
        managed: &Managed,
        allowed: &[LinkState],
        refusal: impl FnOnce(LinkState) -> ControlError,
    ) -> Result<(), ControlError> {
        let Some(hosted) = &managed.hosted else { return Ok(()) };
        settle(hosted);
        let state = self.state_of_both(hosted);
        if allowed.contains(&state) || is_settled_elsewhere(hosted) || is_out_of_reach(hosted) {
            return Ok(());
        }
        Err(refusal(state))
    }

    /// Write the next version of a definition, or none any more, and do what it says.
    fn replace(&self, managed: &Managed, definition: Option<JsonObject>, by: &str) -> Result<(), ControlError> {
        let Managed { id, stored, .. } = managed;
        let home = self.needed_home()?;
        let (known, now) = read(&*home, id).map_err(|error| self.home_error(error))?;
        if now.as_ref() != Some(stored) {
            return Err(overtaken(id));
        }
        self.release(id);
        self.write(&*home, id, known.as_deref(), &stored.followed_by(definition, by))
    }
}

impl Managed {
    /// The definition with a change.
    fn changed(&self, patch: &JsonObject) -> JsonObject {
        let mut definition = self.stored.definition.clone().unwrap_or_default();
        let patch = restore(patch.clone(), &definition);
        json::merge(&mut definition, &patch);
        definition
    }

    /// Its checkpoints say how far it is in one source, and are kept in one target.
    fn refuse_other_clusters(&self, after: &JsonObject) -> Result<(), ControlError> {
        let Some(before) = &self.stored.definition else { return Ok(()) };
        let fault = |key: &str| {
            let kept = cluster_of(Some(before), key);
            let is_kept = kept.is_empty() || kept == cluster_of(Some(after), key);
            (!is_kept).then(|| Fault {
                path: format!("$.{key}.cluster_id"),
                message: format!("a link keeps its clusters, and this is {kept}"),
                help: "define another link".to_owned(),
                ..Fault::default()
            })
        };
        let faults: Vec<Fault> = ["source_cluster", "target_cluster"].into_iter().filter_map(fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(ControlError::faults(faults)) }
    }
}

/// Whether the target has the source's place, and nothing is under way about that.
fn is_settled_elsewhere(hosted: &Hosted) -> bool {
    hosted.link().failed_over().is_some_and(|over| over.phase == Phase::Over)
}

/// Whether it can be told nothing, as its target does not answer, and moves nothing here. Its definition may be what is wrong.
fn is_out_of_reach(hosted: &Hosted) -> bool {
    hosted.link().target_answer().is_some_and(|answer| !answer.is_reachable()) && !hosted.link().has_lanes()
}
