//! The daemon itself: status, liveness, readiness.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::server::{Answer, Api};
use super::wire::Status;

pub(super) async fn status(State(api): State<Api>) -> Answer<Status> {
    api.ask(|control| control.status()).await.map(Json)
}

/// Liveness: the process answers. It asks nobody, so that a slow disk does not make anyone restart the daemon.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

pub(super) async fn readyz(State(api): State<Api>) -> Answer<Value> {
    api.ask(|control| control.ready()).await.map(|()| Json(json!({"status": "ready"})))
}
