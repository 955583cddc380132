//! What handlers answer. The type of an answer says its status, so that the description of the API cannot say another one.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use bytes::Bytes;

use super::control::Ordered;
use super::error::ApiError;
use super::exposition::Format;
use super::wire::Link;

/// What most handlers answer: 200.
pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// An answer with another status than 200.
pub(super) struct Status<const CODE: u16, R>(pub(super) R);

/// Something was made.
pub(super) type Created<R> = Status<201, R>;

/// Something is under way.
pub(super) type Accepted<R> = Status<202, R>;

/// Something was done, and there is nothing to say about it.
pub(super) type NoContent = Status<204, ()>;

impl<const CODE: u16, R: IntoResponse> IntoResponse for Status<CODE, R> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        // Codes are written in this crate: there is no other one than those of HTTP.
        *response.status_mut() = StatusCode::from_u16(CODE).unwrap_or_default();
        response
    }
}

/// One of two answers.
pub(super) enum Either<A, B> {
    /// The first.
    This(A),
    /// The second.
    That(B),
}

impl<A: IntoResponse, B: IntoResponse> IntoResponse for Either<A, B> {
    fn into_response(self) -> Response {
        match self {
            Self::This(answer) => answer.into_response(),
            Self::That(answer) => answer.into_response(),
        }
    }
}

/// What an order has done: as it says; or 202 and the link, while the order is kept until its cluster answers.
pub(super) type Told<R> = Result<Either<R, Accepted<Placed>>, ApiError>;

/// The answer to an order.
pub(super) fn told<R>(ordered: Ordered<R>) -> Either<R, Accepted<Placed>> {
    match ordered {
        Ordered::Done(done) => Either::This(done),
        Ordered::Pending(link) => Either::That(Status(Placed(*link))),
    }
}

/// A link, and under `ETag` the version of its definition if it has one.
pub(super) struct Versioned(pub(super) Link);

impl IntoResponse for Versioned {
    fn into_response(self) -> Response {
        let etag = self.0.version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok());
        (with_header(header::ETAG, etag), Json(self.0)).into_response()
    }
}

/// A link that was made or will be changed, and under `Location` where it is.
pub(super) struct Placed(pub(super) Link);

impl IntoResponse for Placed {
    fn into_response(self) -> Response {
        let place = HeaderValue::from_str(&format!("/api/v1/replication/links/{}", self.0.id)).ok();
        (with_header(header::LOCATION, place), Versioned(self.0)).into_response()
    }
}

/// A part of a list, and under `Link` where the next one is, if there is more.
pub(super) struct Page<T> {
    /// The part.
    pub(super) items: Vec<T>,
    /// The path of the next one.
    pub(super) next: Option<String>,
}

impl<T: serde::Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let next = self.next.and_then(|path| HeaderValue::from_str(&format!("<{path}>; rel=\"next\"")).ok());
        (with_header(header::LINK, next), Json(self.items)).into_response()
    }
}

fn with_header(name: HeaderName, value: Option<HeaderValue>) -> AppendHeaders<Option<(HeaderName, HeaderValue)>> {
    AppendHeaders(value.map(|value| (name, value)))
}

/// JSON of the shape `T` that is written already.
pub(super) struct Written<T> {
    json: Bytes,
    shape: std::marker::PhantomData<T>,
}

impl<T> Written<T> {
    pub(super) fn new(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), shape: std::marker::PhantomData }
    }
}

impl<T> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.json).into_response()
    }
}

/// Numbers for Prometheus.
pub(super) struct Numbers {
    /// How they are written.
    pub(super) format: Format,
    /// What is written.
    pub(super) page: String,
}

impl IntoResponse for Numbers {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.format.content_type())], self.page).into_response()
    }
}
