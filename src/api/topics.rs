//! Topics of a cluster.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::error::ApiError;
use super::server::{Answer, Api, Body, Segments};
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
    body: Body,
) -> Result<(StatusCode, Json<Topic>), ApiError> {
    let topic: CreateTopic = body.json()?;
    let topic = api.ask(move |control| control.create_topic(&cluster, &topic)).await?;
    Ok((StatusCode::CREATED, Json(topic)))
}
