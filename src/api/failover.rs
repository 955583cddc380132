//! The target takes the source's place, and gives it back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{Caller, Claimed};
use super::control::Ordered;
use super::error::ApiError;
use super::reply::{Accepted, Answer, Either, Placed, Status, Told, told};
use super::server::{Api, By, NoBody, Params, Segments};
use super::wire::{FailoverDetails, FailoverEvent, FailoverPlan};
use crate::config::parse_duration;

/// The longest wait for what the source still has, in one request.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// What a failover is asked with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailoverParams {
    /// Who asks, for the history, where the daemon does not know.
    by: Option<Claimed>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    /// How long what the source still has is waited for, an hour at most: `30s`.
    drain_timeout: Option<String>,
}

/// What a failback is asked with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailbackParams {
    /// Who asks, for the history, where the daemon does not know.
    by: Option<Claimed>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What is done or under way; of a dry run, what would be done.
type Changed = Told<Either<Json<FailoverPlan>, Event>>;

/// One that is done, or under way.
type Event = Either<Json<FailoverEvent>, Accepted<Json<FailoverEvent>>>;

impl FailoverParams {
    fn drain(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = &self.drain_timeout else { return Ok(None) };
        match parse_duration(text) {
            Ok(drain) if drain <= DRAIN_MAX => Ok(Some(drain)),
            Ok(_) => Err(bad_drain("drain_timeout is an hour at most".to_owned())),
            Err(message) => Err(bad_drain(format!("drain_timeout: {message}"))),
        }
    }
}

fn bad_drain(message: String) -> ApiError {
    ApiError::malformed("bad-query", format!("bad query: {message}"), "write drain_timeout=30s, or leave it out")
}

pub(super) async fn fail_over(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    caller: Caller,
    Params(params): Params<FailoverParams>,
    _: NoBody,
) -> Changed {
    let drain = params.drain()?;
    let by = caller.by(params.by);
    if params.dry_run {
        return api.ask(move |control| control.plan_failover(&link, drain)).await.map(plan);
    }
    api.ask(move |control| control.fail_over(&link, drain, &by)).await.map(answer)
}

pub(super) async fn fail_back(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    caller: Caller,
    Params(params): Params<FailbackParams>,
    _: NoBody,
) -> Changed {
    let by = caller.by(params.by);
    if params.dry_run {
        return api.ask(move |control| control.plan_failback(&link)).await.map(plan);
    }
    api.ask(move |control| control.fail_back(&link, &by)).await.map(answer)
}

pub(super) async fn call_off(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    _: NoBody,
) -> Told<Json<FailoverEvent>> {
    let by = by.name();
    api.ask(move |control| control.call_off_failback(&link, &by)).await.map(|done| told(done.map(Json)))
}

pub(super) async fn list(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<FailoverEvent>> {
    api.ask(move |control| control.failovers(&link)).await.map(Json)
}

pub(super) async fn show(
    State(api): State<Api>,
    Segments((link, event)): Segments<(String, String)>,
) -> Answer<FailoverDetails> {
    api.ask(move |control| control.failover(&link, &event)).await.map(Json)
}

/// A dry run orders nothing.
fn plan(plan: FailoverPlan) -> Either<Either<Json<FailoverPlan>, Event>, Accepted<Placed>> {
    Either::This(Either::This(Json(plan)))
}

/// 200 when it is done, 202 while it is under way.
fn answer(event: Ordered<FailoverEvent>) -> Either<Either<Json<FailoverPlan>, Event>, Accepted<Placed>> {
    told(event.map(|event| {
        let is_done = event.success.is_some();
        Either::That(if is_done { Either::This(Json(event)) } else { Either::That(Status(Json(event))) })
    }))
}
