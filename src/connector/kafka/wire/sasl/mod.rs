//! Saying who we are: SASL (RFC 4422) as Kafka carries it.
//!
//! An [`Exchange`] is one authentication as a pure state machine: what to send first, and what to answer to each challenge. The requests around
//! it are [`super::connection`]'s.
//!
//! Reading order: this file, then one file for each mechanism.
//!
//! Invariants
//! - A secret is read when an exchange begins, and goes nowhere but into what is sent.
//! - What a broker sends is bounded and checked, and never panics.

mod oauthbearer;
mod plain;
mod scram;
#[cfg(test)]
mod tests;

use secrecy::{ExposeSecret, SecretString};

use crate::config::{Login, SaslConfig};
use scram::{Hash, Scram};

/// The most bytes of a broker's text that an error shows.
const TEXT_BYTES_MAX: usize = 300;

/// Why an exchange failed, in words. They have no secret in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A secret cannot be read.
    NoSecret(String),
    /// The broker says no, or does not prove that it knows the password.
    Refused(String),
}

/// One authentication.
pub(super) struct Exchange {
    mechanism: Mechanism,
    secret: SecretString,
}

enum Mechanism {
    /// Everything was in the first message.
    Plain {
        username: String,
    },
    Scram(Box<Scram>),
    OAuthBearer {
        error: Option<String>,
    },
}

impl Exchange {
    /// Begin.
    pub(super) fn new(config: &SaslConfig) -> Result<Self, Failure> {
        let secret = match config {
            SaslConfig::Plain(login) | SaslConfig::ScramSha256(login) | SaslConfig::ScramSha512(login) => {
                &login.password
            }
            SaslConfig::OAuthBearer { token } => token,
        };
        let scram = |hash: Hash, login: &Login| -> Result<Mechanism, Failure> {
            Ok(Mechanism::Scram(Box::new(Scram::new(hash, &login.username, &scram::nonce()?))))
        };
        let mechanism = match config {
            SaslConfig::Plain(login) => Mechanism::Plain { username: login.username.to_string() },
            SaslConfig::ScramSha256(login) => scram(Hash::Sha256, login)?,
            SaslConfig::ScramSha512(login) => scram(Hash::Sha512, login)?,
            SaslConfig::OAuthBearer { .. } => Mechanism::OAuthBearer { error: None },
        };
        Ok(Self { mechanism, secret: secret.read().map_err(Failure::NoSecret)? })
    }

    /// What to send first.
    pub(super) fn first(&self) -> Result<Vec<u8>, Failure> {
        let secret = self.secret.expose_secret();
        match &self.mechanism {
            Mechanism::Plain { username } => plain::message(username, secret),
            Mechanism::Scram(scram) => Ok(scram.first()),
            Mechanism::OAuthBearer { .. } => oauthbearer::message(secret),
        }
    }

    /// What to answer to a challenge; `None`: nothing, all is said. After that the broker has accepted us, unless it says otherwise.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let secret = self.secret.expose_secret();
        let answered = match &mut self.mechanism {
            Mechanism::Plain { .. } => plain::answer(challenge),
            Mechanism::Scram(scram) => scram.answer(challenge, secret),
            Mechanism::OAuthBearer { error } => oauthbearer::answer(error, challenge),
        };
        answered.map_err(|failure| match failure {
            Failure::Refused(text) => Failure::Refused(self.shown(&text)),
            other => other,
        })
    }

    /// A broker's text for people: of a sensible length, without control characters, and without our secret should it hold that.
    pub(super) fn shown(&self, text: &str) -> String {
        let text = text.replace(self.secret.expose_secret(), "(hidden)");
        let cut = text.floor_char_boundary(TEXT_BYTES_MAX);
        text[..cut].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    }
}

/// What the protocol calls a mechanism.
pub(super) fn name(config: &SaslConfig) -> &'static str {
    match config {
        SaslConfig::Plain(_) => "PLAIN",
        SaslConfig::ScramSha256(_) => "SCRAM-SHA-256",
        SaslConfig::ScramSha512(_) => "SCRAM-SHA-512",
        SaslConfig::OAuthBearer { .. } => "OAUTHBEARER",
    }
}

/// Whom we say that we are.
pub(super) fn who(config: &SaslConfig) -> String {
    match config {
        SaslConfig::Plain(login) | SaslConfig::ScramSha256(login) | SaslConfig::ScramSha512(login) => {
            format!("user {:?}", login.username)
        }
        SaslConfig::OAuthBearer { .. } => "the bearer of the token".to_owned(),
    }
}

fn refused(text: impl Into<String>) -> Failure {
    Failure::Refused(text.into())
}
