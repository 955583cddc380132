//! Consumer groups of links.

use axum::Json;
use axum::extract::State;

use super::server::{Answer, Api, Body, Segments};
use super::wire::{ConsumerGroup, GroupsRequest};

pub(super) async fn list(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Vec<ConsumerGroup>> {
    api.ask(move |control| control.groups(&link)).await.map(Json)
}

pub(super) async fn sync(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    body: Body,
) -> Answer<Vec<ConsumerGroup>> {
    let request: GroupsRequest = if body.0.is_empty() { GroupsRequest::default() } else { body.json()? };
    api.ask(move |control| control.sync_groups(&link, &request)).await.map(Json)
}
