//! The layout of a link, and the number of its lanes.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::access::Caller;
use super::server::{Answer, Api, Body, By, Params, Segments};
use super::wire::{RelaneRequest, Relaned, Upgrade};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpgradeParams {
    by: Option<String>,
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
    body: Body,
) -> Answer<Relaned> {
    let request: RelaneRequest = body.json()?;
    let by = by.name();
    api.ask(move |control| control.relane(&link, request.lanes, &by)).await.map(Json)
}
