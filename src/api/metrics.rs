//! The daemon's numbers, for Prometheus.

use axum::extract::State;

use super::error::ApiError;
use super::exposition::Format;
use super::reply::Numbers;
use super::server::{Accept, Api};

pub(super) async fn scrape(State(api): State<Api>, Accept(accept): Accept) -> Result<Numbers, ApiError> {
    let format = Format::accepted(&accept);
    let page = api.ask(move |control| Ok(control.metrics()?.render(format))).await?;
    Ok(Numbers { format, page })
}
