//! Every way to fail, as a problem document.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::control::{ControlError, ErrorKind};
use super::wire::{Appended, Fault, Problem};
use crate::model::json_error::without_values;

/// An answer with a status from 400 on.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    remedy: String,
    appended: Vec<Appended>,
    errors: Vec<Fault>,
    allowed: Vec<String>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (detail, remedy) = (detail.into(), remedy.into());
        Self { status, code, detail, remedy, appended: Vec::new(), errors: Vec::new(), allowed: Vec::new() }
    }

    /// A request that could not be understood.
    pub(super) fn malformed(code: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail, remedy)
    }

    /// A fault of our own.
    pub(super) fn internal() -> Self {
        let detail = "the daemon failed at this request";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail, "see the daemon's log")
    }

    /// A body with more than `bytes_max` bytes.
    pub(super) fn body_too_large(bytes_max: usize) -> Self {
        let (amount, unit) =
            if bytes_max.is_multiple_of(1 << 20) { (bytes_max >> 20, "MiB") } else { (bytes_max, "bytes") };
        let detail = format!("the body is larger than the {amount} {unit} that this path takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail, "send less at once")
    }

    /// A body that did not come in time.
    pub(super) fn body_too_slow(time: Duration) -> Self {
        let detail = format!("the body was not there after {} s", time.as_secs());
        let remedy = "send it faster, or raise body_timeout in [daemon.api]";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail, remedy)
    }

    /// A body that ended early or was not HTTP.
    pub(super) fn body_unreadable(error: &axum::Error) -> Self {
        Self::malformed("body-unreadable", format!("cannot read the body: {error}"), "send the request again")
    }

    /// What is wrong with the document that was sent.
    #[cfg(test)]
    pub(super) fn faults(&self) -> &[Fault] {
        &self.errors
    }

    /// The same error, and what was done before it.
    pub(super) fn after(mut self, appended: Vec<Appended>) -> Self {
        self.appended = appended;
        self
    }
}

impl ErrorKind {
    /// The HTTP status of such an error.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Outdated => StatusCode::PRECONDITION_FAILED,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let status = error.kind.status();
        if status.is_server_error() {
            tracing::warn!(code = error.code, "{}", error.message);
        }
        let allowed = error.allowed.into_iter().map(str::to_owned).collect();
        Self { errors: error.faults, allowed, ..Self::new(status, error.code, error.message, error.remedy) }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed("bad-path", rejection.body_text().to_lowercase(), "write the path in percent-encoded UTF-8")
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        let detail = without_values(text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text));
        Self::malformed("bad-query", format!("bad query: {detail}"), "see the names and types of the parameters")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:tidegate:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            remedy: self.remedy,
            errors: self.errors,
            allowed: self.allowed,
            appended: self.appended,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let problem_json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem_json);
        response
    }
}
