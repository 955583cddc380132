//! The stages of a link's pipeline, and what its revisions have as one.

use axum::Json;
use axum::extract::State;

use super::control::{ControlError, ErrorKind};
use super::reply::Answer;
use super::server::{Api, Segments};
use super::wire::{Revision, RevisionStage, Stage, StageRevision};

pub(super) async fn list(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Stage>> {
    api.ask(move |control| control.link(&link)).await.map(|link| Json(link.stages))
}

pub(super) async fn show(State(api): State<Api>, Segments((link, stage)): Segments<(String, String)>) -> Answer<Stage> {
    api.ask(move |control| {
        let found = control.link(&link)?.stages.into_iter().find(|known| known.stage == stage);
        found.ok_or_else(|| no_such_stage(&link, &stage))
    })
    .await
    .map(Json)
}

/// Oldest first. A stage that is not there any more still has those that it had.
pub(super) async fn revisions(
    State(api): State<Api>,
    Segments((link, stage)): Segments<(String, String)>,
) -> Answer<Vec<StageRevision>> {
    api.ask(move |control| {
        let revisions = control.revisions(&link)?;
        let found: Vec<StageRevision> = revisions.into_iter().filter_map(|revision| of(revision, &stage)).collect();
        if found.is_empty() { Err(no_such_stage(&link, &stage)) } else { Ok(found) }
    })
    .await
    .map(Json)
}

/// What a revision has as this stage.
fn of(revision: Revision, stage: &str) -> Option<StageRevision> {
    let Revision { number, time, by, origin, state, stages, .. } = revision;
    let RevisionStage { stage, plugin, version, digest, config } =
        stages.into_iter().find(|known| known.stage == stage)?;
    Some(StageRevision { number, time, by, origin, state, stage, plugin, version, digest, config })
}

fn no_such_stage(link: &str, stage: &str) -> ControlError {
    let remedy =
        format!("`tidegate link show {link}` lists the stages, `tidegate plugin history {link}` those that it had");
    ControlError::new(ErrorKind::NotFound, "stage-not-found", format!("{link} has no stage {stage}"), remedy)
}
