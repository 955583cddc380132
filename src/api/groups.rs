//! Consumer groups of links.

use axum::Json;
use axum::extract::State;

use super::reply::Answer;
use super::server::{Api, Segments, SentOrDefault};
use super::wire::{ConsumerGroup, GroupsRequest};

pub(super) async fn list(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<ConsumerGroup>> {
    api.ask(move |control| control.groups(&link)).await.map(Json)
}

pub(super) async fn sync(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    SentOrDefault(request): SentOrDefault<GroupsRequest>,
) -> Answer<Vec<ConsumerGroup>> {
    api.ask(move |control| control.sync_groups(&link, &request)).await.map(Json)
}
