//! What `tidegate import --json` prints.

use serde::{Deserialize, Serialize};

/// A configuration that was made of another program's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The text of the configuration file.
    pub configuration: String,
    /// What a person has to know, in the order of the configuration.
    pub findings: Vec<ImportFinding>,
}

/// Something that was not carried over as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFinding {
    /// The key as it stands in the file; or as it would, where it is not there and has a default.
    pub key: String,
    /// Its line, from 1 on; null if it is not there.
    pub line: Option<usize>,
    /// `unknown`, `not-carried-over`, `differs` or `to-do`.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do; null: nothing.
    pub remedy: Option<String>,
}
