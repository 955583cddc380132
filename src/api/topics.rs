//! Topics of a cluster.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::reply::{Answer, Created, Status};
use super::server::{Api, Segments, Sent};
use super::wire::{CreateTopic, Topic, TopicSummary};

pub(super) async fn list(State(api): State<Api>, Segments(cluster): Segments<String>) -> Answer<Vec<TopicSummary>> {
    api.ask(move |control| control.topics(&cluster)).await.map(Json)
}

pub(super) async fn show(
    State(api): State<Api>,
    Segments((cluster, topic)): Segments<(String, String)>,
) -> Answer<Topic> {
    api.ask(move |control| control.topic(&cluster, &topic)).await.map(Json)
}

pub(super) async fn create(
    State(api): State<Api>,
    Segments(cluster): Segments<String>,
    Sent(topic): Sent<CreateTopic>,
) -> Result<Created<Json<Topic>>, ApiError> {
    let topic = api.ask(move |control| control.create_topic(&cluster, &topic)).await?;
    Ok(Status(Json(topic)))
}
