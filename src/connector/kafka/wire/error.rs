//! What can be wrong with a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::connector::{Class, Error};

/// Why a connection is of no use any more. Every one names the broker's address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Nobody answers there.
    #[error("cannot connect to {address}: {source}")]
    Connect { address: Arc<str>, source: Arc<io::Error> },
    /// The connection broke.
    #[error("{address}: {source}")]
    Io { address: Arc<str>, source: Arc<io::Error> },
    /// The broker closed it.
    #[error("{address} closed the connection")]
    Closed { address: Arc<str> },
    /// Nothing came, or went, in time.
    #[error("{address} did not {what} within {} ms", after.as_millis())]
    TimedOut { address: Arc<str>, what: &'static str, after: Duration },
    /// The answer is no answer.
    #[error("{address} sent what is no answer of Kafka: {what}")]
    Malformed { address: Arc<str>, what: String },
    /// The broker is too old or too new for what is needed.
    #[error("{address} does not offer {request} in a version that is known here")]
    Unsupported { address: Arc<str>, request: &'static str },
}

impl WireError {
    fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "cannot-connect",
            Self::Io { .. } | Self::Closed { .. } => "connection-lost",
            Self::TimedOut { .. } => "broker-timeout",
            Self::Malformed { .. } => "malformed-answer",
            Self::Unsupported { .. } => "broker-unsupported",
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "check `brokers`, and that the broker runs and can be reached from here",
            Self::Io { .. } | Self::Closed { .. } | Self::TimedOut { .. } => {
                "look at the broker and at the network between; it is tried again"
            }
            Self::Malformed { .. } => "check that `brokers` names Kafka's port, and whether it wants TLS",
            Self::Unsupported { .. } => "use brokers of Kafka 2.8 or newer",
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self { class: Class::Reopen, code: error.code(), message: error.to_string(), remedy: error.remedy() }
    }
}
