//! The layout of a link, and the number of its lanes.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::{Caller, Claimed};
use super::reply::{Answer, Told, told};
use super::server::{Api, By, Params, Segments, Sent};
use super::wire::{RelaneRequest, Relaned, Upgrade};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpgradeParams {
    /// Who asks, where the daemon does not know.
    by: Option<Claimed>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn upgrade(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    caller: Caller,
    Params(params): Params<UpgradeParams>,
) -> Answer<Upgrade> {
    let by = caller.by(params.by);
    api.ask(move |control| control.upgrade(&link, params.dry_run, &by)).await.map(Json)
}

pub(super) async fn relane(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    Sent(request): Sent<RelaneRequest>,
) -> Told<Json<Relaned>> {
    let by = by.name();
    api.ask(move |control| control.relane(&link, request.lanes, &by)).await.map(|done| told(done.map(Json)))
}
