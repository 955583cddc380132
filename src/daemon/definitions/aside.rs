//! Definitions that the process died of, see [`crashes`](crate::daemon::crashes): they are listed as failed and not hosted, until they are changed, deleted or started.
//! Nothing of them is read but a few texts: it is not known what is deadly.

use std::sync::Arc;

use super::{Stored, lock, no_home, now_ms, overtaken, read};
use crate::api::control::{ControlError, ErrorKind, Fault};
use crate::api::wire;
use crate::config::{Topology, TransferConfig};
use crate::daemon::{Daemon, view};
use crate::model::{Culprit, Json, JsonObject, LinkId, json};

/// The code of a link whose definition is not hosted any more.
pub(super) const SET_ASIDE: &str = "set-aside";

impl Daemon {
    /// Have it listed as failed. Answers why it is not hosted.
    pub(super) fn set_aside(&self, id: &LinkId, stored: Stored) -> ControlError {
        let is_new = lock(&self.definitions.aside).insert(id.clone(), stored).is_none();
        let message = format!("the daemon aborted twice while it ran link {id}, so the link is not run any more");
        let remedy = format!(
            "look for the cause in the log, and report it; `tidegate link update {id}` changes the link, `tidegate link delete {id}` deletes it, `tidegate link start {id}` tries it again"
        );
        if is_new {
            tracing::error!(link = &**id, code = SET_ASIDE, "{message}");
        }
        ControlError::new(ErrorKind::Conflict, SET_ASIDE, message, remedy)
    }

    pub(super) fn aside(&self, id: &str) -> Option<(LinkId, Stored)> {
        lock(&self.definitions.aside).get_key_value(id).map(|(id, stored)| (id.clone(), stored.clone()))
    }

    /// Run a link again that was set aside, if it was.
    pub(in crate::daemon) fn try_again(&self, id: &str) -> Result<(), ControlError> {
        let Some((id, stored)) = self.aside(id) else { return Ok(()) };
        let _changing = lock(&self.changing);
        self.crashes.forgive(Culprit::of(&id, stored.version)).map_err(|error| {
            let message = format!("the record of crashes cannot be written: {error}");
            ControlError::new(ErrorKind::Unavailable, "not-opened", message, "make the data directory writable")
        })?;
        tracing::warn!(link = &*id, "a link that was set aside is tried again");
        let home = self.home(false)?.ok_or_else(no_home)?;
        self.take_over(&*home)?;
        self.unusable(&id).map_or(Ok(()), Err)
    }

    /// Change a link that was set aside, or delete it without a patch. Whether it was one.
    pub(super) fn replace_aside(
        &self,
        id: &str,
        patch: Option<&JsonObject>,
        expected: Option<u64>,
        by: &str,
    ) -> Result<bool, ControlError> {
        let _changing = lock(&self.changing);
        let Some((id, before)) = self.aside(id) else { return Ok(false) };
        before.check_version(&id, expected)?;
        let home = self.home(false)?.ok_or_else(no_home)?;
        let (known, now) = read(&*home, &id)?;
        if now.as_ref() != Some(&before) {
            return Err(overtaken(&id));
        }
        let definition = patch.map(|patch| {
            let mut definition = before.definition.clone().unwrap_or_default();
            json::merge(&mut definition, patch);
            definition
        });
        if let Some(definition) = &definition {
            keeps_clusters(&before, definition)?;
            self.examine(&id, definition)?;
        }
        let (version, by) = (before.version + 1, by.to_owned());
        let stored = Stored { version, changed_ms: now_ms(), by, definition, ..before };
        self.write(&*home, &id, known.as_deref(), &stored)?;
        Ok(true)
    }

    /// What is shown of a link that was set aside.
    pub(in crate::daemon) fn shown_aside(&self, id: &str) -> Option<wire::Link> {
        let (id, stored) = self.aside(id)?;
        let why = self.unusable(&id)?;
        Some(shown(&id, &stored, &why))
    }

    /// The links that were set aside.
    pub(in crate::daemon) fn all_aside(&self) -> Vec<Arc<str>> {
        lock(&self.definitions.aside).keys().cloned().collect()
    }
}

/// Its checkpoints say how far it is in one source, and are kept in one target.
fn keeps_clusters(before: &Stored, after: &JsonObject) -> Result<(), ControlError> {
    for key in ["source_cluster", "target_cluster"] {
        let kept = cluster_of(before.definition.as_ref(), key);
        if cluster_of(Some(after), key) != kept {
            return Err(ControlError::faults(vec![Fault {
                path: format!("$.{key}.cluster_id"),
                message: format!("a link keeps its clusters, and this is {kept}"),
                help: "define another link".to_owned(),
            }]));
        }
    }
    Ok(())
}

fn cluster_of(definition: Option<&JsonObject>, key: &str) -> String {
    text(definition.and_then(|definition| definition.get(key)?.get("cluster_id")))
}

fn text(value: Option<&Json>) -> String {
    value.and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn shown(id: &str, stored: &Stored, why: &ControlError) -> wire::Link {
    let definition = stored.definition.as_ref();
    let of = |key: &str| definition.and_then(|definition| definition.get(key));
    let (source, target) = (cluster_of(definition, "source_cluster"), cluster_of(definition, "target_cluster"));
    let place = |cluster_id: &str| wire::ClusterPlace { cluster_id: cluster_id.to_owned(), brokers: Vec::new() };
    let topics = of("topics").and_then(Json::as_array).into_iter().flatten();
    wire::Link {
        id: id.to_owned(),
        name: of("name").and_then(Json::as_str).unwrap_or(id).to_owned(),
        kind: of("type").and_then(Json::as_str).unwrap_or(Topology::ActivePassive.name()).to_owned(),
        status: wire::LinkStatus::Failed,
        created_at: Some(wire::Time(stored.created_ms)),
        started_at: None,
        source_cluster: place(&source),
        target_cluster: place(&target),
        source,
        target,
        config: view::transfer(&TransferConfig::default()),
        managed_by: wire::ManagedBy::Api,
        version: Some(stored.version),
        topics: topics.map(|topic| text(Some(topic))).collect(),
        topic_prefix: text(of("topic_prefix")),
        dead_letters: String::new(),
        revision: None,
        builtins: wire::RevisionBuiltins::default(),
        layout: None,
        daemons: Vec::new(),
        relane: None,
        error: Some(wire::Trouble {
            code: why.code.to_owned(),
            message: why.message.clone(),
            remedy: why.remedy.clone(),
            stage: None,
            place: None,
            lost: None,
        }),
        notices: Vec::new(),
        latency: None,
        throttle: wire::Throttle::default(),
        group_round: None,
        metrics: wire::MetricsSummary::default(),
        health: wire::HealthSummary {
            status: wire::HealthStatus::Unhealthy,
            source_cluster_reachable: None,
            target_cluster_reachable: None,
        },
        counters: wire::LinkCounters::default(),
        lanes: Vec::new(),
        stages: Vec::new(),
    }
}
