//! Links: what they are and do, and their lifecycle.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::revisions::ANONYMOUS;
use super::server::{Answer, Api, Body, Params, Segments};
use super::wire::{Event, Link, LinkHealth, LinkMetrics, LinkTransition, Plan, Reset, ResetRequest};

pub(super) async fn list(State(api): State<Api>) -> Answer<Vec<Link>> {
    api.ask(|control| control.links()).await.map(Json)
}

pub(super) async fn show(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Link> {
    api.ask(move |control| control.link(&link)).await.map(Json)
}

pub(super) async fn start(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Link> {
    steer(api, link, LinkTransition::Start).await
}

pub(super) async fn stop(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Link> {
    steer(api, link, LinkTransition::Stop).await
}

pub(super) async fn pause(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Link> {
    steer(api, link, LinkTransition::Pause).await
}

pub(super) async fn resume(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Link> {
    steer(api, link, LinkTransition::Resume).await
}

async fn steer(api: Api, link: String, transition: LinkTransition) -> Answer<Link> {
    api.ask(move |control| control.steer(&link, transition)).await.map(Json)
}

pub(super) async fn metrics(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<LinkMetrics> {
    api.ask(move |control| control.link_metrics(&link)).await.map(Json)
}

pub(super) async fn events(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Event>> {
    api.ask(move |control| control.events(&link)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetParams {
    by: Option<String>,
}

pub(super) async fn reset(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    Params(params): Params<ResetParams>,
    body: Body,
) -> Answer<Reset> {
    let request: ResetRequest = body.json()?;
    let by = params.by.unwrap_or_else(|| ANONYMOUS.to_owned());
    api.ask(move |control| control.reset(&link, &request, &by)).await.map(Json)
}

pub(super) async fn resets(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Reset>> {
    api.ask(move |control| control.resets(&link)).await.map(Json)
}

pub(super) async fn plan(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Plan> {
    api.ask(move |control| control.plan(&link)).await.map(Json)
}

pub(super) async fn health(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<LinkHealth> {
    api.ask(move |control| control.link_health(&link)).await.map(Json)
}
