//! The shape of every error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Appended;

/// The codes of requests that are refused: those with a status below 500. What the daemon or a cluster cannot do now has the code of the link's or cluster's trouble.
pub const CODES: [&str; 71] = [
    "active-active",
    "api-exposed",
    "audit-file",
    "bad-host",
    "bad-if-match",
    "bad-json",
    "bad-path",
    "bad-query",
    "bad-record",
    "bad-token",
    "body-too-large",
    "body-too-slow",
    "body-unreadable",
    "cluster-exists",
    "cluster-not-found",
    "daemons-gathering",
    "daemons-outdated",
    "definition-unreadable",
    "definition-unusable",
    "failback-called-off",
    "failed-over",
    "failover-not-found",
    "failover-under-way",
    "foreign-host",
    "foreign-origin",
    "held",
    "invalid-document",
    "invalid-group",
    "invalid-lanes",
    "invalid-partitions",
    "invalid-topic-name",
    "layout-too-old",
    "link-exists",
    "link-in-file",
    "link-not-found",
    "link-not-made",
    "link-running",
    "method-not-allowed",
    "no-consumer-groups",
    "no-groups-named",
    "no-revision",
    "not-authenticated",
    "not-failed-over",
    "not-failing-back",
    "not-started",
    "offset-not-there",
    "offset-out-of-range",
    "other-way",
    "overtaken",
    "partition-not-found",
    "path-not-found",
    "plugin-refused",
    "record-too-large",
    "relane-under-way",
    "role-missing",
    "secret-unreadable",
    "set-aside",
    "stage-not-found",
    "standing-by",
    "tls-files",
    "tls-required",
    "too-many-definitions",
    "too-many-requests",
    "topic-exists",
    "topic-not-found",
    "unsupported-body",
    "verification-not-found",
    "verification-under-way",
    "version-outdated",
    "way-back",
    "wrong-state",
];

/// A problem document (RFC 9457). Every answer with a status from 400 on has this shape and the content type
/// `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// A stable word for programs. The examples are all that a request is refused with (status below 500); with 503 it is the code of the link's or cluster's trouble.
    #[schemars(extend("examples" = &CODES[..]))]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Where in the daemon's file, if that is the document: file, line and column, with colons between.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// Where in the document, for example `$.config.batch_size`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What else can be done; empty where there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}
