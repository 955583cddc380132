//! Saying who we are: SASL (RFC 4422) as Kafka carries it.
//!
//! An [`Exchange`] is one authentication as a pure state machine: what to send first, and what to answer to each challenge. The requests around
//! it are [`super::connection`]'s.
//!
//! Reading order: this file, then one file for each mechanism.
//!
//! Invariants
//! - A secret is read when an exchange begins, for the broker at the other end, and goes nowhere
//!   but into what is sent.
//! - What a broker sends is bounded and checked, and never panics.

mod oauthbearer;
mod plain;
mod scram;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Bearer, Login, Peer, SaslConfig, TokenSource, Withheld};
use crate::model::text::steers;
use scram::{Hash, Scram};

/// The most bytes of a broker's text that an error shows.
const TEXT_BYTES_MAX: usize = 300;

/// The least of a secret in base64 that is looked for: less is part of other words.
const ENCODED_BYTES_MIN: usize = 8;

/// Why an exchange failed, in words. They have no secret in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A secret cannot be sent by this mechanism.
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
        extensions: Vec<(Arc<str>, Arc<str>)>,
        error: Option<String>,
    },
}

impl Exchange {
    /// Begin, with the secret that was read for the other end ([`secret`]).
    pub(super) fn new(config: &SaslConfig, secret: SecretString) -> Result<Self, Failure> {
        let scram = |hash: Hash, login: &Login| -> Result<Mechanism, Failure> {
            Ok(Mechanism::Scram(Box::new(Scram::new(hash, &login.username, &scram::nonce()?))))
        };
        let mechanism = match config {
            SaslConfig::Plain(login) => Mechanism::Plain { username: login.username.to_string() },
            SaslConfig::ScramSha256(login) => scram(Hash::Sha256, login)?,
            SaslConfig::ScramSha512(login) => scram(Hash::Sha512, login)?,
            SaslConfig::AwsMskIam(_) => Mechanism::OAuthBearer { extensions: Vec::new(), error: None },
            SaslConfig::OAuthBearer(Bearer { extensions, .. }) => {
                Mechanism::OAuthBearer { extensions: extensions.clone(), error: None }
            }
        };
        Ok(Self { mechanism, secret })
    }

    /// What to send first.
    pub(super) fn first(&self) -> Result<Vec<u8>, Failure> {
        let secret = self.secret.expose_secret();
        match &self.mechanism {
            Mechanism::Plain { username } => plain::message(username, secret),
            Mechanism::Scram(scram) => Ok(scram.first()),
            Mechanism::OAuthBearer { extensions, .. } => oauthbearer::message(secret, extensions),
        }
    }

    /// What to answer to a challenge; `None`: nothing, all is said. After that the broker has accepted us, unless it says otherwise.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let secret = self.secret.expose_secret();
        let answered = match &mut self.mechanism {
            Mechanism::Plain { .. } => plain::answer(challenge),
            Mechanism::Scram(scram) => scram.answer(challenge, secret),
            Mechanism::OAuthBearer { error, .. } => oauthbearer::answer(error, challenge),
        };
        answered.map_err(|failure| match failure {
            Failure::Refused(text) => Failure::Refused(self.shown(&text)),
            other => other,
        })
    }

    /// A broker's text for people: of a sensible length, without what steers a terminal, and not at all should it hold our secret in any form.
    pub(super) fn shown(&self, text: &str) -> String {
        if forms(self.secret.expose_secret()).iter().any(|form| text.contains(form)) {
            return "(hidden: the broker has sent our secret back)".to_owned();
        }
        let cut = text.floor_char_boundary(TEXT_BYTES_MAX);
        text[..cut].replace(steers, " ")
    }
}

/// A secret as it may look in a text: as it is, in hexadecimal, percent-encoded, and within something that is in base64.
fn forms(secret: &str) -> Vec<String> {
    let each = |write: &dyn Fn(u8) -> String| secret.bytes().map(write).collect::<String>();
    let hex = each(&|byte| format!("{byte:02x}"));
    let percent = each(&|byte| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, percent];
    // Three bytes become four letters: where it begins within three makes three forms. Letters at the ends have a share of what is beside it.
    for before in 0..3 {
        let bytes = [&b"\0\0"[..before], secret.as_bytes()].concat();
        let (begin, end) = (if before == 0 { 0 } else { 4 }, bytes.len() / 3 * 4);
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.extend(encoded.get(begin..end).filter(|form| form.len() >= ENCODED_BYTES_MIN).map(str::to_owned));
        }
    }
    forms
}

/// The password, the token, or the secret that tokens are issued for, as it is now: for the broker
/// at `address`, which gets it or what it is worth.
///
/// # Errors
/// It cannot be read, or that broker may not have it.
pub(super) fn secret(config: &SaslConfig, address: &str, is_encrypted: bool) -> Result<SecretString, Withheld> {
    let peer = |is_sent: bool| Peer { address, in_clear_text: is_sent && !is_encrypted };
    let (credential, is_sent) = match config {
        SaslConfig::AwsMskIam(identity) => return identity.read_for(peer(true)),
        SaslConfig::Plain(login) => (&login.password, true),
        // Only a proof is sent.
        SaslConfig::ScramSha256(login) | SaslConfig::ScramSha512(login) => (&login.password, false),
        SaslConfig::OAuthBearer(Bearer { token: TokenSource::Given(token), .. }) => (token, true),
        SaslConfig::OAuthBearer(Bearer { token: TokenSource::Endpoint(endpoint), .. }) => {
            (&endpoint.client_secret, true)
        }
    };
    credential.read_for(peer(is_sent))
}

/// What the protocol calls a mechanism.
pub(super) fn name(config: &SaslConfig) -> &'static str {
    match config {
        SaslConfig::Plain(_) => "PLAIN",
        SaslConfig::ScramSha256(_) => "SCRAM-SHA-256",
        SaslConfig::ScramSha512(_) => "SCRAM-SHA-512",
        SaslConfig::OAuthBearer(_) | SaslConfig::AwsMskIam(_) => "OAUTHBEARER",
    }
}

/// Whom we say that we are.
pub(super) fn who(config: &SaslConfig) -> String {
    match config {
        SaslConfig::Plain(login) | SaslConfig::ScramSha256(login) | SaslConfig::ScramSha512(login) => {
            format!("user {:?}", login.username)
        }
        SaslConfig::OAuthBearer(Bearer { token: TokenSource::Given(_), .. }) => "the bearer of the token".to_owned(),
        SaslConfig::OAuthBearer(Bearer { token: TokenSource::Endpoint(endpoint), .. }) => {
            format!("a token of client {:?}", endpoint.client_id)
        }
        SaslConfig::AwsMskIam(_) => "a token of the identity of AWS".to_owned(),
    }
}

fn refused(text: impl Into<String>) -> Failure {
    Failure::Refused(text.into())
}
