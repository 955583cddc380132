//! The shape of every error.

use serde::{Deserialize, Serialize};

use super::Appended;

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
    /// Everything that is wrong with the document that was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// What can be done with the link in the present state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What a produce request had made durable, by partition, before it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appended: Vec<Appended>,
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where in the document, for example `$.config.batch_size`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What else can be done; empty where there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}
