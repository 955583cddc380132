//! The router, and the server around it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::control::{ControlError, ControlPlane};
use super::error::ApiError;
use super::{daemon, definitions, failover, groups, lanes, links, metrics, records, revisions, topics, verification};

/// The body of a produce request. The daemon holds it and what it decodes to in memory.
pub const PRODUCE_BYTES_MAX: usize = 32 * MIB;

/// A component. Those of interpreted languages have some 10 MiB.
pub const COMPONENT_BYTES_MAX: usize = 64 * MIB;

/// Any other body.
pub const BODY_BYTES_MAX: usize = MIB;

/// How much of a body that is too large is read before the connection is given up.
const THROW_AWAY_BYTES_MAX: usize = 512 * MIB;

const MIB: usize = 1024 * 1024;

/// How long requests under way may take to end after a shutdown has begun.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What every handler has.
#[derive(Clone)]
pub(super) struct Api {
    control: Arc<dyn ControlPlane>,
    ending: watch::Receiver<bool>,
    keyless_turn: Arc<AtomicU32>,
}

impl Api {
    /// Ask the daemon on a thread for blocking work.
    pub(super) async fn ask<T, F>(&self, question: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn ControlPlane) -> Result<T, ControlError> + Send + 'static,
    {
        self.work(move |control| question(control).map_err(ApiError::from)).await
    }

    /// The same for work that fails in the API's own ways.
    pub(super) async fn work<T, F>(&self, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn ControlPlane) -> Result<T, ApiError> + Send + 'static,
    {
        let control = self.control.clone();
        tokio::task::spawn_blocking(move || work(control.as_ref())).await.unwrap_or_else(|_panic| {
            let detail = "the daemon failed at this request";
            let remedy = "see the daemon's log";
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail, remedy))
        })
    }

    /// Whether the server is shutting down.
    pub(super) fn ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// A number that is another one for each request, to spread records without a key.
    pub(super) fn keyless_turn(&self) -> u32 {
        self.keyless_turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// Serve the API on `listener` until `shutdown` is there; then take no new connection, and give requests under way five
/// seconds.
///
/// Errors: the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    control: Arc<dyn ControlPlane>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (end, mut ending) = watch::channel(false);
    let router = router(control, ending.clone());
    tokio::spawn(async move {
        shutdown.await;
        let _nobody_listens = end.send(true);
    });
    let mut stopping = ending.clone();
    // Answers are small and people wait for them.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        let _sender_gone = stopping.wait_for(|ending| *ending).await;
    });
    tokio::select! {
        served = server.into_future() => served,
        () = async {
            let _sender_gone = ending.wait_for(|ending| *ending).await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        } => Ok(()),
    }
}

fn router(control: Arc<dyn ControlPlane>, ending: watch::Receiver<bool>) -> Router {
    let link = |rest: &str| format!("/api/v1/replication/links/{{link}}{rest}");
    let topic = |rest: &str| format!("/api/v1/clusters/{{cluster}}/topics{rest}");
    Router::new()
        .route("/api/v1/status", get(daemon::status))
        .route("/api/v1/healthz", get(daemon::healthz))
        .route("/api/v1/readyz", get(daemon::readyz))
        // Where orchestrators and Prometheus look if nobody tells them otherwise.
        .route("/healthz", get(daemon::healthz))
        .route("/readyz", get(daemon::readyz))
        .route("/metrics", get(metrics::scrape))
        .route("/api/v1/reload", post(definitions::reload))
        .route("/api/v1/plugins", post(definitions::store_plugin))
        .route("/api/v1/replication/links", get(links::list).post(definitions::define))
        .route(&link(""), get(links::show).put(definitions::redefine).delete(definitions::delete))
        .route(&link("/definition"), get(definitions::show))
        .route(&link("/throttle"), post(links::throttle).delete(links::unthrottle))
        .route(&link("/start"), post(links::start))
        .route(&link("/stop"), post(links::stop))
        .route(&link("/pause"), post(links::pause))
        .route(&link("/resume"), post(links::resume))
        .route(&link("/metrics"), get(links::metrics))
        .route(&link("/health"), get(links::health))
        .route(&link("/plan"), get(links::plan))
        .route(&link("/events"), get(links::events))
        .route(&link("/groups"), get(groups::list))
        .route(&link("/groups/sync"), post(groups::sync))
        .route(&link("/resets"), get(links::resets).post(links::reset))
        .route(&link("/failover"), post(failover::fail_over))
        .route(&link("/failback"), post(failover::fail_back).delete(failover::call_off))
        .route(&link("/failovers"), get(failover::list))
        .route(&link("/failovers/{event}"), get(failover::show))
        .route(&link("/upgrade"), post(lanes::upgrade))
        .route(&link("/relane"), post(lanes::relane))
        .route(&link("/verification"), get(verification::show).post(verification::begin).delete(verification::cancel))
        .route(&link("/revisions"), get(revisions::list))
        .route(&link("/rollback"), post(revisions::rollback))
        .route(&link("/stages/{stage}/revisions"), post(revisions::publish))
        .route(&topic(""), get(topics::list).post(topics::create))
        .route(&topic("/{topic}"), get(topics::show))
        .route(&topic("/{topic}/records"), get(records::read).post(records::produce))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(refuse_foreign_pages))
        .with_state(Api { control, ending, keyless_turn: Arc::default() })
}

async fn no_such_path(uri: Uri) -> ApiError {
    let detail = format!("there is nothing at {}", uri.path());
    ApiError::new(
        StatusCode::NOT_FOUND,
        "path-not-found",
        detail,
        "paths begin with /api/v1; /metrics, /healthz and /readyz are beside it",
    )
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail, "the header Allow says what it takes")
}

/// A page that somebody visits can make the browser send requests to a daemon on the same machine. Browsers name
/// the page's origin in every request that changes something; a page of our own has our own address.
async fn refuse_foreign_pages(request: Request, next: Next) -> Result<Response, ApiError> {
    if is_foreign(request.headers()) {
        let detail = "the request comes from a web page of another origin";
        let remedy = "call the API from a program, or from a page that the daemon serves";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", detail, remedy));
    }
    Ok(next.run(request).await)
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    let host = text(header::HOST).unwrap_or_default();
    text(header::ORIGIN).is_some_and(|origin| origin.strip_prefix(b"http://") != Some(host))
}

/// The variable parts of a path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(segments) = Path::from_request_parts(parts, state).await?;
        Ok(Self(segments))
    }
}

/// The parameters behind the question mark.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::try_from_uri(&parts.uri)?;
        Ok(Self(params))
    }
}

/// The body as it came, of at most so many bytes.
pub(super) struct Body<const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(super) Bytes);

impl<const BYTES_MAX: usize, S: Send + Sync> FromRequest<S> for Body<BYTES_MAX> {
    type Rejection = ApiError;

    /// A body that is too large is read on and thrown away: to a client that is still sending, an early answer looks like
    /// a broken connection.
    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut body = request.into_body();
        let mut bytes = Vec::with_capacity(expected_bytes(&body).min(BYTES_MAX));
        let mut thrown_away = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|error| ApiError::body_unreadable(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if thrown_away == 0 && bytes.len() + data.len() <= BYTES_MAX {
                bytes.extend_from_slice(&data);
                continue;
            }
            thrown_away += std::mem::take(&mut bytes).len() + data.len();
            if thrown_away > THROW_AWAY_BYTES_MAX {
                break;
            }
        }
        if thrown_away > 0 { Err(ApiError::body_too_large(BYTES_MAX)) } else { Ok(Self(bytes.into())) }
    }
}

fn expected_bytes(body: &axum::body::Body) -> usize {
    body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default()
}

impl Body {
    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.0)
            .map_err(|error| ApiError::malformed("bad-json", format!("bad body: {error}"), "send a JSON object"))
    }
}

/// What most handlers answer.
pub(super) type Answer<T> = Result<Json<T>, ApiError>;
