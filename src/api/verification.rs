//! Verifications of links: begin one, look how far it is, end it.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::reply::{Accepted, Answer, Status};
use super::server::{Api, Params, Segments};
use super::wire::Verification;

/// So many differences are described, unless the request says otherwise.
const DIFFERENCES: u16 = 10;

/// What a request may ask for: the answer is one document.
const DIFFERENCES_MAX: u16 = 10_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BeginParams {
    /// How many differences are described; 10 without it.
    #[schemars(range(max = DIFFERENCES_MAX))]
    differences: Option<u16>,
}

pub(super) async fn begin(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    Params(params): Params<BeginParams>,
) -> Result<Accepted<Json<Verification>>, ApiError> {
    let differences = params.differences.unwrap_or(DIFFERENCES);
    if differences > DIFFERENCES_MAX {
        let detail = format!("bad query: at most {DIFFERENCES_MAX} differences are described");
        return Err(ApiError::malformed("bad-query", detail, "ask for fewer"));
    }
    let begun = api.ask(move |control| control.verify(&link, usize::from(differences))).await?;
    Ok(Status(Json(begun)))
}

pub(super) async fn show(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Verification> {
    api.ask(move |control| control.verification(&link)).await.map(Json)
}

pub(super) async fn cancel(State(api): State<Api>, Segments(link): Segments<String>) -> Answer<Verification> {
    api.ask(move |control| control.cancel_verification(&link)).await.map(Json)
}
