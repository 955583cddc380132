//! How a command fails.

use std::io;

/// Why a command did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A person must be told.
    Told {
        /// What happened.
        message: String,
        /// What to do about it; empty where there is nothing.
        help: String,
    },
    /// The output has said it already.
    Said,
    /// The output has said it already, and this exit status says what.
    Status(u8),
    /// Nobody reads the output any more.
    BrokenPipe,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Told { message: message.into(), help: help.into() }
    }

    /// The same failure with more said about it.
    pub(super) fn and(self, more: &str) -> Self {
        match self {
            Self::Told { message, help } => Self::Told { message: format!("{message}; {more}"), help },
            silent => silent,
        }
    }
}

/// An error of the output: everything else that reads or writes names its own file.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(format!("cannot write the output: {error}"), "see where the output goes"),
        }
    }
}
