//! Links: what they are and do, and their lifecycle.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Deserialize;

use super::definitions::with_etag;
use super::error::ApiError;
use super::server::{Answer, Api, Body, By, Params, Segments};
use super::wire::{
    Event, LinkHealth, LinkMetrics, LinkStatus, LinkTransition, Plan, Reset, ResetRequest, Throttle, ThrottleRequest,
};

/// The most links of one answer.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Links behind this id only.
    after: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

/// Links by id. Where there are more, the header `Link` says where the next ones are.
pub(super) async fn list(State(api): State<Api>, Params(page): Params<Page>) -> Result<Response, ApiError> {
    let limit = page.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("bad query: limit is a number from 1 to {PAGE_MAX}");
        return Err(ApiError::malformed("bad-query", detail, "leave it out, and you get as many as there may be"));
    }
    let (links, is_last) = api.ask(move |control| control.links(page.after.as_deref(), limit)).await?;
    let next = links.last().filter(|_| !is_last).and_then(|last| {
        let place = format!("</api/v1/replication/links?after={}&limit={limit}>; rel=\"next\"", last.id);
        HeaderValue::from_str(&place).ok()
    });
    let headers: Vec<_> = next.map(|next| (header::LINK, next)).into_iter().collect();
    Ok((AppendHeaders(headers), Json(links)).into_response())
}

pub(super) async fn show(State(api): State<Api>, Segments(link): Segments<String>) -> Result<Response, ApiError> {
    api.ask(move |control| control.link(&link)).await.map(with_etag)
}

pub(super) async fn start(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    _: By,
) -> Result<Response, ApiError> {
    steer(api, link, LinkTransition::Start).await
}

pub(super) async fn stop(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    _: By,
) -> Result<Response, ApiError> {
    steer(api, link, LinkTransition::Stop).await
}

pub(super) async fn pause(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    _: By,
) -> Result<Response, ApiError> {
    steer(api, link, LinkTransition::Pause).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    _: By,
) -> Result<Response, ApiError> {
    steer(api, link, LinkTransition::Resume).await
}

/// 200 when the link is where the transition leads, 202 while it is on its way.
async fn steer(api: Api, link: String, transition: LinkTransition) -> Result<Response, ApiError> {
    let link = api.ask(move |control| control.steer(&link, transition)).await?;
    let under_way = match transition {
        LinkTransition::Pause => link.status != LinkStatus::Paused,
        LinkTransition::Stop => link.status != LinkStatus::Stopped,
        LinkTransition::Start | LinkTransition::Resume => link.status == LinkStatus::Starting,
    };
    let status = if under_way { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, with_etag(link)).into_response())
}

pub(super) async fn throttle(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    body: Body,
) -> Answer<Throttle> {
    let (request, by) = (body.json::<ThrottleRequest>()?, by.name());
    let rate = request.throttle_rate_bytes_per_sec;
    api.ask(move |control| control.throttle(&link, Some(rate), &by)).await.map(Json)
}

pub(super) async fn unthrottle(State(api): State<Api>, Segments(link): Segments<String>, by: By) -> Answer<Throttle> {
    let by = by.name();
    api.ask(move |control| control.throttle(&link, None, &by)).await.map(Json)
}

pub(super) async fn metrics(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<LinkMetrics> {
    api.ask(move |control| control.link_metrics(&link)).await.map(Json)
}

pub(super) async fn events(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Event>> {
    api.ask(move |control| control.events(&link)).await.map(Json)
}

pub(super) async fn reset(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    body: Body,
) -> Answer<Reset> {
    let request: ResetRequest = body.json()?;
    let by = by.name();
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
