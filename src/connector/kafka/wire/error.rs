//! What can be wrong with a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::tls::TlsFault;
use super::tokens::NoToken;
use crate::config::Withheld;
use crate::connector::{Class, Error};

/// Why a connection is of no use any more. Every one names the broker's address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Nobody answers there.
    #[error("cannot connect to {address}: {source}")]
    Connect { address: Arc<str>, source: Arc<io::Error> },
    /// The proxy does not connect us.
    #[error("the proxy {proxy} does not connect to {address}: {what}")]
    Proxy { proxy: Arc<str>, address: Arc<str>, what: String },
    /// The connection broke.
    #[error("{address}: {source}")]
    Io { address: Arc<str>, source: Arc<io::Error> },
    /// The broker closed it.
    #[error("{address} closed the connection")]
    Closed { address: Arc<str> },
    /// The broker closed it before it answered anything but the greeting.
    #[error("{address} closed the connection instead of answering")]
    HungUp { address: Arc<str> },
    /// TLS does not come about, or is broken.
    #[error("{address}: {what}")]
    Tls { address: Arc<str>, fault: TlsFault, what: String },
    /// The broker speaks TLS, and we do not.
    #[error("{address} speaks TLS, and was spoken to in the clear")]
    WantsTls { address: Arc<str> },
    /// Our secret cannot be read.
    #[error("cannot authenticate to {address}: {what}")]
    NoSecret { address: Arc<str>, what: String },
    /// Nobody issues a token for us.
    #[error("cannot authenticate to {address}: {error}")]
    NoToken { address: Arc<str>, error: NoToken },
    /// Our secret is not for this broker.
    #[error("the login was not sent to {address}: {withheld}")]
    NotForBroker { address: Arc<str>, withheld: Withheld },
    /// Our secret could be read on its way to this broker.
    #[error("the login was not sent to {address}: {withheld}")]
    ClearText { address: Arc<str>, withheld: Withheld },
    /// The broker does not have our mechanism.
    #[error("{address} does not take {mechanism}; it offers {offered}")]
    Mechanism { address: Arc<str>, mechanism: &'static str, offered: String },
    /// The broker does not believe who we are, or we do not believe the broker.
    #[error("{address} does not take {who} by {mechanism}: {what}")]
    Refused { address: Arc<str>, mechanism: &'static str, who: String, what: String },
    /// The same was said before, and it is too soon to ask again.
    #[error("{error} ({times} times in a row: the next try is {} s after the last)", wait.as_secs())]
    LoginWaits { error: Box<WireError>, times: u32, wait: Duration },
    /// Nothing came, or went, in time.
    #[error("{address} did not {what} within {} ms", after.as_millis())]
    TimedOut { address: Arc<str>, what: &'static str, after: Duration },
    /// The answer is no answer.
    #[error("{address} sent what is no answer of Kafka: {what}")]
    Malformed { address: Arc<str>, what: String },
    /// A request of ours cannot be written as Kafka has it.
    #[error("{request} for {address} cannot be encoded: a text or the whole is too long for Kafka")]
    Unencoded { address: Arc<str>, request: &'static str },
    /// The broker is too old or too new for what is needed.
    #[error("{address} does not offer {request} in a version that is known here")]
    Unsupported { address: Arc<str>, request: &'static str },
}

impl WireError {
    /// What an error of the stream means.
    pub(super) fn broken(address: &Arc<str>, source: io::Error) -> Self {
        let address = address.clone();
        match TlsFault::of(&source) {
            Some(fault) => Self::Tls { address, fault, what: source.to_string() },
            None => Self::Io { address, source: Arc::new(source) },
        }
    }

    /// The same while keys are agreed on. Who does not speak TLS hangs up.
    pub(super) fn in_handshake(address: &Arc<str>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Tls {
                address: address.clone(),
                fault: TlsFault::Handshake,
                what: "the connection was closed in the TLS handshake".to_owned(),
            },
            _ => Self::broken(address, source),
        }
    }

    /// Why a broker does not get our secret.
    pub(super) fn withheld(address: &Arc<str>, withheld: Withheld) -> Self {
        let address = address.clone();
        match withheld {
            Withheld::Unreadable(what) => Self::NoSecret { address, what },
            Withheld::Unlisted(_) => Self::NotForBroker { address, withheld },
            Withheld::ClearText => Self::ClearText { address, withheld },
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "cannot-connect",
            Self::Proxy { .. } => "proxy-refused",
            Self::Io { .. } | Self::Closed { .. } => "connection-lost",
            Self::TimedOut { .. } => "broker-timeout",
            Self::HungUp { .. } => "broker-hung-up",
            Self::Tls { fault, .. } => fault.code(),
            Self::WantsTls { .. } => "tls-required",
            Self::NoSecret { .. } => "secret-unreadable",
            Self::NoToken { .. } => "token-not-issued",
            Self::NotForBroker { .. } => "broker-not-listed",
            Self::ClearText { .. } => "clear-text-login",
            Self::Mechanism { .. } => "sasl-mechanism-unsupported",
            Self::Refused { .. } | Self::LoginWaits { .. } => "authentication-failed",
            Self::Malformed { .. } => "malformed-answer",
            Self::Unencoded { .. } => "request-not-encoded",
            Self::Unsupported { .. } => "broker-unsupported",
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "check `brokers`, and that the broker runs and can be reached from here",
            Self::Proxy { .. } => {
                "check `proxy`, `proxy_username` and `proxy_password`, and whether the proxy reaches the broker; it is tried again"
            }
            Self::Io { .. } | Self::Closed { .. } | Self::TimedOut { .. } => {
                "look at the broker and at the network between; it is tried again"
            }
            Self::HungUp { .. } => "check `security`: the port may want TLS, a client certificate, or SASL",
            Self::Tls { fault, .. } => fault.remedy(),
            Self::WantsTls { .. } => "set `enable_tls` under `security`, or name a port without TLS in `brokers`",
            Self::NoSecret { .. } => "mend what `password` or `token` names; it is read again at the next try",
            Self::NoToken { .. } => {
                "check `token_endpoint`, `client_id`, `client_secret` and `scope`, or the keys of AWS, under `security.sasl`; it is tried again"
            }
            Self::NotForBroker { .. } => {
                "if it is a broker of the cluster, add its host to that file, which lists all brokers and not only those of `brokers`; it is read again at the next try"
            }
            Self::ClearText { .. } => {
                "set `enable_tls` under `security`, or allow it with `definitions_insecure_plaintext` in [daemon]"
            }
            Self::Mechanism { .. } => {
                "set `mechanism` under `security.sasl` to one that the broker offers on this port"
            }
            Self::Refused { .. } | Self::LoginWaits { .. } => {
                "check user, password or token, and that the broker knows them for this mechanism"
            }
            Self::Malformed { .. } => {
                "check that `brokers` names Kafka's port, whether it wants TLS, and what is between; it is tried again"
            }
            Self::Unencoded { .. } => "choose shorter names",
            Self::Unsupported { .. } => "use brokers of Kafka 2.8 or newer",
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self { class: Class::Reopen, code: error.code(), message: error.to_string(), remedy: error.remedy() }
    }
}
