//! Links that are defined here: made, changed, deleted.

use axum::Json;
use axum::extract::State;

use super::control::{ControlError, Definition, Fault};
use super::error::ApiError;
use super::if_match::IfMatch;
use super::reply::{Answer, Created, NoContent, Placed, Status, Told, Versioned, told};
use super::server::{Api, Body, By, Component, Segments, Sent};
use super::wire::{DefinedLink, Inspection, LinkDefinition, Reloaded};
use crate::model::Json as Value;

pub(super) async fn define(
    State(api): State<Api>,
    by: By,
    Sent(DefinedLink(definition)): Sent<DefinedLink>,
) -> Result<Created<Placed>, ApiError> {
    let id = id_of(&definition)?;
    let by = by.name();
    let made = api.ask(move |control| control.define(id.as_deref(), definition, &by)).await?;
    Ok(Status(Placed(made)))
}

pub(super) async fn redefine(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    if_match: IfMatch,
    Sent(DefinedLink(patch)): Sent<DefinedLink>,
) -> Result<Versioned, ApiError> {
    if id_of(&patch)?.is_some_and(|id| id != link) {
        return Err(fault("$.id", "a link keeps its id", "define another link").into());
    }
    let by = by.name();
    let redefined = api.ask(move |control| {
        let expected = if_match.expected(control, &link)?;
        control.redefine(&link, &patch, expected, &by)
    });
    redefined.await.map(Versioned)
}

pub(super) async fn delete(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    by: By,
    if_match: IfMatch,
) -> Told<NoContent> {
    let by = by.name();
    let deleted = api.ask(move |control| {
        let expected = if_match.expected(control, &link)?;
        control.delete(&link, expected, &by)
    });
    deleted.await.map(|done| told(done.map(Status)))
}

pub(super) async fn show(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<LinkDefinition> {
    api.ask(move |control| control.definition(&link)).await.map(Json)
}

pub(super) async fn store_plugin(
    State(api): State<Api>,
    body: Body<Component>,
) -> Result<Created<Json<Inspection>>, ApiError> {
    let stored = api.ask(move |control| control.store_plugin(&body.0)).await?;
    Ok(Status(Json(stored)))
}

pub(super) async fn reload(State(api): State<Api>) -> Answer<Reloaded> {
    api.ask(|control| control.reload()).await.map(Json)
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
    let (path, message, help) = (path.to_owned(), message.to_owned(), help.to_owned());
    ControlError::faults(vec![Fault { path, message, help, ..Fault::default() }])
}
