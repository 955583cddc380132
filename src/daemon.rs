//! Puts the rooms together.

use std::path::Path;

use crate::api::wire::Inspection;

/// Why the daemon did not start, or a file could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What happened: lower case, no full stop at the end.
    pub message: String,
    /// What the operator can do about it; empty where there is nothing.
    pub remedy: String,
    /// What is wrong with the configuration, if that is the reason.
    pub diagnostics: Vec<String>,
}

/// What [`check`] found.
#[derive(Debug)]
pub struct Checked {
    /// Everything that is worth a line, errors and warnings.
    pub diagnostics: Vec<String>,
    /// Whether a daemon would start with it: no error among the diagnostics.
    pub passed: bool,
}

/// Run the daemon in the foreground until SIGTERM or SIGINT.
pub fn run(_config: &Path) -> Result<(), Error> {
    Err(absent())
}

/// Validate a configuration and every plugin that it names, without starting anything.
pub fn check(_config: &Path) -> Checked {
    Checked { diagnostics: vec![absent().message], passed: false }
}

/// Look at a plugin's file.
pub fn inspect(_file: &Path) -> Result<Inspection, Error> {
    Err(absent())
}

fn absent() -> Error {
    Error { message: "the daemon is not built in".into(), remedy: String::new(), diagnostics: Vec::new() }
}
