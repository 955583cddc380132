//! Links that are defined here: made, changed, deleted.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde_json::Value;

use super::control::{ControlError, Definition, Fault};
use super::error::ApiError;
use super::server::{Answer, Api, Body, By, Component, Segments};
use super::wire::{Inspection, Link, LinkDefinition, Reloaded};

pub(super) async fn define(State(api): State<Api>, by: By, body: Body) -> Result<Response, ApiError> {
    let definition = body.definition()?;
    let id = id_of(&definition)?;
    let by = by.name();
    let link = api.ask(move |control| control.define(id.as_deref(), definition, &by)).await?;
    let place = [(header::LOCATION, format!("/api/v1/replication/links/{}", link.id))];
    Ok((StatusCode::CREATED, AppendHeaders(place), with_etag(link)).into_response())
}

pub(super) async fn redefine(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let patch = body.definition()?;
    if id_of(&patch)?.is_some_and(|id| id != link) {
        return Err(fault("$.id", "a link keeps its id", "define another link").into());
    }
    let (expected, by) = (expected(&headers)?, by.name());
    let link = api.ask(move |control| control.redefine(&link, &patch, expected, &by)).await?;
    Ok(with_etag(link))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let (expected, by) = (expected(&headers)?, by.name());
    api.ask(move |control| control.delete(&link, expected, &by)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn show(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<LinkDefinition> {
    api.ask(move |control| control.definition(&link)).await.map(Json)
}

pub(super) async fn store_plugin(
    State(api): State<Api>,
    body: Body<Component>,
) -> Result<(StatusCode, Json<Inspection>), ApiError> {
    let stored = api.ask(move |control| control.store_plugin(&body.0)).await?;
    Ok((StatusCode::CREATED, Json(stored)))
}

pub(super) async fn reload(State(api): State<Api>) -> Answer<Reloaded> {
    api.ask(|control| control.reload()).await.map(Json)
}

/// The link, and under `ETag` the version of its definition if it has one.
pub(super) fn with_etag(link: Link) -> Response {
    let etag = link.version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok());
    let headers: Vec<(HeaderName, HeaderValue)> = etag.map(|etag| (header::ETAG, etag)).into_iter().collect();
    (AppendHeaders(headers), Json(link)).into_response()
}

/// The version that a change was made for, if it says so.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        ApiError::malformed("bad-if-match", "If-Match is not an ETag of a link", "send the ETag as it was answered")
    })
}

/// The id that a definition gives its link.
fn id_of(definition: &Definition) -> Result<Option<String>, ControlError> {
    match definition.get("id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(_) => Err(fault("$.id", "expected a string", "leave it out, and the link gets an id")),
    }
}

fn fault(path: &str, message: &str, help: &str) -> ControlError {
    ControlError::faults(vec![Fault { path: path.to_owned(), message: message.to_owned(), help: help.to_owned() }])
}
