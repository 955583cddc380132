//! The shape of every error.

use serde::{Deserialize, Serialize};

/// A problem document (RFC 9457). Every answer with a status from 400 on has this shape and the content type
/// `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:tidegate:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the HTTP status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, for a person.
    pub detail: String,
    /// A stable word for programs, for example `link-not-found`.
    pub code: String,
    /// What the caller can do about it; empty where there is nothing.
    #[serde(default)]
    pub remedy: String,
}
