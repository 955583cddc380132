//! The daemon's numbers, for Prometheus.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};

use super::error::ApiError;
use super::exposition::Format;
use super::server::Api;

pub(super) async fn scrape(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 1], String), ApiError> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    let page = api.ask(move |control| Ok(control.metrics()?.render(format))).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], page))
}
