//! The daemon itself: status, liveness, readiness, and what there is to ask.

use std::sync::OnceLock;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::openapi::openapi;
use super::reply::{Answer, Written};
use super::server::Api;
use super::wire::{Probe, Status};

pub(super) async fn status(State(api): State<Api>) -> Answer<Status> {
    api.ask(|control| control.status()).await.map(Json)
}

/// Liveness: the process answers. It asks nobody, so that a slow disk does not make anyone restart the daemon.
pub(super) async fn healthz() -> Json<Probe> {
    Json(Probe { status: "ok".to_owned() })
}

pub(super) async fn readyz(State(api): State<Api>) -> Answer<Probe> {
    api.ask(|control| control.ready()).await.map(|()| Json(Probe { status: "ready".to_owned() }))
}

/// It is the same for everybody, and nobody changes it.
pub(super) async fn description() -> Written<Map<String, Value>> {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    Written::new(TEXT.get_or_init(|| openapi().to_string().into()).clone())
}
