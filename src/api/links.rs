//! Links: what they are and do, and their lifecycle.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::control::Ordered;
use super::error::ApiError;
use super::reply::{Accepted, Answer, Either, Page, Status, Told, Versioned, told};
use super::server::{Api, By, NoBody, Params, Segments, Sent};
use super::wire::{
    Checkpoint, Lane, Link, LinkHealth, LinkMetrics, LinkStatus, LinkTransition, Plan, Reset, ResetRequest, Throttle,
    ThrottleRequest,
};

/// The most links of one answer.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams {
    /// Links behind this id only.
    after: Option<String>,
    /// At most so many.
    #[schemars(range(min = 1, max = PAGE_MAX))]
    limit: Option<usize>,
}

/// Links by id. Where there are more, the header `Link` says where the next ones are.
pub(super) async fn list(State(api): State<Api>, Params(params): Params<PageParams>) -> Result<Page<Link>, ApiError> {
    let limit = params.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("bad query: limit is a number from 1 to {PAGE_MAX}");
        return Err(ApiError::malformed("bad-query", detail, "leave it out, and you get as many as there may be"));
    }
    let (items, is_last) = api.ask(move |control| control.links(params.after.as_deref(), limit)).await?;
    let last = items.last().filter(|_| !is_last);
    let next = last.map(|last| format!("/api/v1/replication/links?after={}&limit={limit}", last.id));
    Ok(Page { items, next })
}

pub(super) async fn show(State(api): State<Api>, Segments(link): Segments<String>) -> Result<Versioned, ApiError> {
    api.ask(move |control| control.link(&link)).await.map(Versioned)
}

/// A link that is where it should be, or on its way.
type Steered = Result<Either<Versioned, Accepted<Versioned>>, ApiError>;

pub(super) async fn start(State(api): State<Api>, Segments(link): Segments<String>, by: By, _: NoBody) -> Steered {
    steer(api, link, LinkTransition::Start, by).await
}

pub(super) async fn stop(State(api): State<Api>, Segments(link): Segments<String>, by: By, _: NoBody) -> Steered {
    steer(api, link, LinkTransition::Stop, by).await
}

pub(super) async fn pause(State(api): State<Api>, Segments(link): Segments<String>, by: By, _: NoBody) -> Steered {
    steer(api, link, LinkTransition::Pause, by).await
}

pub(super) async fn resume(State(api): State<Api>, Segments(link): Segments<String>, by: By, _: NoBody) -> Steered {
    steer(api, link, LinkTransition::Resume, by).await
}

/// 200 when the link is where the transition leads, 202 while it is on its way.
async fn steer(api: Api, link: String, transition: LinkTransition, by: By) -> Steered {
    let by = by.name();
    let link = match api.ask(move |control| control.steer(&link, transition, &by)).await? {
        Ordered::Done(link) => link,
        Ordered::Pending(link) => return Ok(Either::That(Status(Versioned(*link)))),
    };
    let under_way = match transition {
        LinkTransition::Pause => link.status != LinkStatus::Paused,
        LinkTransition::Stop => link.status != LinkStatus::Stopped,
        LinkTransition::Start | LinkTransition::Resume => link.status == LinkStatus::Starting,
    };
    let link = Versioned(link);
    Ok(if under_way { Either::That(Status(link)) } else { Either::This(link) })
}

pub(super) async fn throttle(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    Sent(request): Sent<ThrottleRequest>,
) -> Told<Json<Throttle>> {
    let (rate, by) = (request.throttle_rate_bytes_per_sec, by.name());
    api.ask(move |control| control.throttle(&link, Some(rate), &by)).await.map(|done| told(done.map(Json)))
}

pub(super) async fn unthrottle(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
) -> Told<Json<Throttle>> {
    let by = by.name();
    api.ask(move |control| control.throttle(&link, None, &by)).await.map(|done| told(done.map(Json)))
}

pub(super) async fn metrics(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<LinkMetrics> {
    api.ask(move |control| control.link_metrics(&link)).await.map(Json)
}

pub(super) async fn checkpoints(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Checkpoint>> {
    api.ask(move |control| control.checkpoints(&link)).await.map(Json)
}

pub(super) async fn lanes(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<Lane>> {
    api.ask(move |control| control.link(&link)).await.map(|link| Json(link.lanes))
}

pub(super) async fn reset(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    Sent(request): Sent<ResetRequest>,
) -> Told<Json<Reset>> {
    let by = by.name();
    api.ask(move |control| control.reset(&link, &request, &by)).await.map(|done| told(done.map(Json)))
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
