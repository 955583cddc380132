//! What handlers have and take: the daemon, and the parts of a request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::access::{Access, Caller, Claimed};
use super::control::{About, ControlError, ControlPlane, Silent};
use super::document;
use super::error::ApiError;
use super::in_time::{self, Seats};
use crate::config::ApiLimits;

pub use crate::model::limits::COMPONENT_BYTES_MAX;

/// How much of a body that is too large is read before the connection is given up.
const THROW_AWAY_BYTES_MAX: usize = 512 * MIB;

/// How many bytes of a body a second make its time longer: slower than any line that people put up with.
const SLOWEST_BYTES_PER_SECOND: u32 = 16 * 1024;

/// How much room is made for what a client says that it is going to send.
const FIRST_BYTES_MAX: usize = MIB;

/// The largest document that is read where it came in: a larger one is read on a thread for blocking work, so that the API answers others meanwhile.
const READ_AT_ONCE_BYTES_MAX: usize = 16 * 1024;

const MIB: usize = 1024 * 1024;

/// What every handler has.
#[derive(Clone)]
pub(super) struct Api {
    control: Arc<dyn ControlPlane>,
    access: Arc<Access>,
    ending: watch::Receiver<bool>,
    keyless_turn: Arc<AtomicU32>,
    seats: Arc<Seats>,
}

impl Api {
    pub(super) fn new(control: Arc<dyn ControlPlane>, access: Arc<Access>, ending: watch::Receiver<bool>) -> Self {
        Self { control, access, ending, keyless_turn: Arc::default(), seats: Arc::default() }
    }

    /// Where reads that ask clusters wait.
    pub(super) fn seats(&self) -> &Seats {
        &self.seats
    }

    /// The clusters that say nothing now: see [`ControlPlane::silent`].
    pub(super) fn silent(&self, about: &About, probe: Option<Duration>) -> Vec<Silent> {
        self.control.silent(about, probe)
    }

    /// Who may use it.
    pub(super) fn access(&self) -> Arc<Access> {
        self.access.clone()
    }

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
        let (control, seat) = (self.control.clone(), in_time::seat().await);
        let work = move || {
            // It is free when this thread is, however long ago the caller was answered.
            let _seat = seat;
            work(control.as_ref())
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_panic| Err(ApiError::internal()))
    }

    /// Turns true when the server shuts down; and changes when certificates or tokens do: who was let in may not be let in any more.
    pub(super) fn endings(&self) -> (watch::Receiver<bool>, watch::Receiver<u64>) {
        (self.ending.clone(), self.access.tls().1)
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

/// Who asks, for histories.
pub(super) struct By(Option<Claimed>, Caller);

/// Who asks, of requests that say nothing else behind the question mark.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OnlyBy {
    /// Who asks, for histories, where the daemon does not know.
    by: Option<Claimed>,
}

impl By {
    /// Their name: that of their token, or what they say.
    pub(super) fn name(self) -> String {
        self.1.by(self.0)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Params(OnlyBy { by }) = Params::from_request_parts(parts, state).await?;
        Ok(Self(by, Caller::from_request_parts(parts, state).await?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Nothing gets past the guard without one.
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::internal)
    }
}

/// What a body is, and so how large it may be.
pub(super) trait BodyKind {
    fn bytes_max(limits: &ApiLimits) -> usize;

    /// Refuse one that is said to be something else.
    fn check(_: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }
}

/// JSON, or nothing.
pub(super) struct Document;

impl BodyKind for Document {
    fn bytes_max(limits: &ApiLimits) -> usize {
        limits.body_bytes_max
    }

    fn check(headers: &HeaderMap) -> Result<(), ApiError> {
        document::check_type(headers)
    }
}

/// Records. The daemon holds them and what they decode to in memory.
pub(super) struct ManyRecords;

impl BodyKind for ManyRecords {
    fn bytes_max(limits: &ApiLimits) -> usize {
        limits.produce_bytes_max
    }
}

/// A component.
pub(super) struct Component;

impl BodyKind for Component {
    fn bytes_max(_: &ApiLimits) -> usize {
        COMPONENT_BYTES_MAX
    }
}

/// The body as it came, of at most as many bytes as its kind may have.
pub(super) struct Body<K>(pub(super) Bytes, pub(super) PhantomData<K>);

impl<K: BodyKind> FromRequest<Api> for Body<K> {
    type Rejection = ApiError;

    /// A body that is too large is read on and thrown away: to a client that is still sending, an early answer looks like
    /// a broken connection.
    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let limits = api.access.limits();
        let bytes_max = K::bytes_max(&limits);
        let is_fine = document::check_encoding(request.headers()).and_then(|()| K::check(request.headers()));
        let mut body = request.into_body();
        let mut bytes = Vec::with_capacity(expected_bytes(&body).min(FIRST_BYTES_MAX));
        let mut thrown_away = 0;
        let begun = Instant::now();
        loop {
            let deadline = begun + limits.body_timeout + worth(bytes.len() + thrown_away);
            let frame = timeout_at(deadline, poll_fn(|context| Pin::new(&mut body).poll_frame(context))).await;
            let Some(frame) = frame.map_err(|_elapsed| ApiError::body_too_slow(limits.body_timeout))? else { break };
            let frame = frame.map_err(|error| ApiError::body_unreadable(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if thrown_away == 0 && bytes.len() + data.len() <= bytes_max {
                bytes.extend_from_slice(&data);
                continue;
            }
            thrown_away += std::mem::take(&mut bytes).len() + data.len();
            if thrown_away > THROW_AWAY_BYTES_MAX {
                break;
            }
        }
        if thrown_away > 0 {
            return Err(ApiError::body_too_large(bytes_max));
        }
        is_fine.map(|()| Self(bytes.into(), PhantomData))
    }
}

/// The time that so many bytes may take beyond what every body may.
fn worth(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(SLOWEST_BYTES_PER_SECOND))
}

fn expected_bytes(body: &axum::body::Body) -> usize {
    body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default()
}

/// What a document says.
async fn said<T: DeserializeOwned + Send + 'static>(body: Bytes) -> Result<T, ApiError> {
    if body.len() <= READ_AT_ONCE_BYTES_MAX {
        return document::request(&body);
    }
    tokio::task::spawn_blocking(move || document::request(&body)).await.unwrap_or_else(|_| Err(ApiError::internal()))
}

/// A body that is JSON of a shape.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Api> for Sent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let body = Body::<Document>::from_request(request, api).await?;
        said(body.0).await.map(Self)
    }
}

/// The same, or no body at all.
pub(super) struct SentOrDefault<T>(pub(super) T);

impl<T: DeserializeOwned + Default + Send + 'static> FromRequest<Api> for SentOrDefault<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let body = Body::<Document>::from_request(request, api).await?;
        if body.0.is_empty() { Ok(Self(T::default())) } else { said(body.0).await.map(Self) }
    }
}

/// Nothing to say: no body, or an object without keys. What somebody says in vain they must hear of: it may have been `dry_run`.
pub(super) struct NoBody;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoKeys {}

/// A body that is to say nothing, whatever it is said to be.
struct Silence;

impl BodyKind for Silence {
    fn bytes_max(limits: &ApiLimits) -> usize {
        limits.body_bytes_max
    }
}

impl FromRequest<Api> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let body = Body::<Silence>::from_request(request, api).await?;
        if !body.0.trim_ascii().is_empty() {
            let NoKeys {} = said(body.0).await?;
        }
        Ok(Self)
    }
}

/// The last event of a stream that a client has, as it says.
pub(super) struct LastEventId(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        Ok(Self(id.map(str::to_owned)))
    }
}

/// The media types that a client takes, as it says.
pub(super) struct Accept(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Accept {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let accepts = parts.headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        Ok(Self(accepts.collect::<Vec<_>>().join(",")))
    }
}
