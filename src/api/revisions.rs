//! Hot swap: publish, roll back, history.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{Caller, Claimed};
use super::control::{Publish, Wait};
use super::error::ApiError;
use super::reply::{Accepted, Answer, Created, Either, Status};
use super::server::{Api, Body, By, Component, Params, Segments, SentOrDefault};
use super::wire::{Revision, RevisionState, RollbackRequest, Swap};
use crate::model::{Json as Value, RevisionNumber};

type Swapped = Result<Either<Created<Json<Swap>>, Accepted<Json<Swap>>>, ApiError>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishParams {
    /// Who publishes, for the history, where the daemon does not know.
    by: Option<Claimed>,
    /// The new configuration of the stage, as JSON. Without it the stage keeps the one it has.
    #[schemars(extend("contentMediaType" = "application/json"))]
    config: Option<String>,
}

pub(super) async fn list(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Revision>> {
    api.ask(move |control| control.revisions(&link)).await.map(Json)
}

pub(super) async fn publish(
    State(api): State<Api>,
    Segments((link, stage)): Segments<(String, String)>,
    Params(params): Params<PublishParams>,
    caller: Caller,
    Body(component, _): Body<Component>,
) -> Swapped {
    let config = params.config.as_deref().map(Value::parse).transpose().map_err(|error| {
        ApiError::malformed("bad-json", format!("config: {error}"), "write it as JSON, percent-encoded")
    })?;
    // If the client goes, this future is dropped with what it holds.
    let (_held, wait) = Wait::begin();
    let publish = Publish { stage, component, config, by: caller.by(params.by), wait };
    api.ask(move |control| control.publish(&link, publish)).await.map(swapped)
}

pub(super) async fn rollback(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    SentOrDefault(request): SentOrDefault<RollbackRequest>,
) -> Swapped {
    let by = by.name();
    api.ask(move |control| control.rollback(&link, request.to.map(RevisionNumber), &by)).await.map(swapped)
}

/// 202 while some lane has not committed under the new revision yet.
fn swapped(swap: Swap) -> Either<Created<Json<Swap>>, Accepted<Json<Swap>>> {
    match swap.state {
        RevisionState::Pending => Either::That(Status(Json(swap))),
        _ => Either::This(Status(Json(swap))),
    }
}
