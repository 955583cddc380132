//! Bearer tokens that somebody issues on request, for all connections of a cluster.
//!
//! Reading order: this file for when a token is requested, [`endpoint`] and [`aws`] for how;
//! [`http`] speaks with services.
//!
//! Invariants
//! - A token is requested on a thread of its own, by one request at a time. A connection waits for
//!   it only while there is no valid token, and never beyond its own deadline.
//! - A token is replaced once four fifths of its life are over, so a token service that is down for
//!   less than the rest interrupts nothing.
//! - A failed request is followed by the next one after 1, 2, 4 … 60 s. A changed secret is tried
//!   at once.
//! - An error quotes neither a secret nor what the service sent.

mod aws;
mod endpoint;
mod http;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::logins::wait;
use crate::background;
use crate::config::{AwsIdentity, Bearer, SaslConfig, TokenEndpoint, TokenSource};

/// The least that a token is valid for. Brokers count in seconds, and the last fifth has to be
/// enough to get another one.
const LIFETIME_MIN: Duration = Duration::from_secs(30);

/// A token, and how long it is valid from when it was requested.
pub(super) struct Issued {
    token: SecretString,
    lifetime: Duration,
}

/// Issues tokens.
#[derive(Clone, Debug)]
enum Issuer {
    Endpoint(TokenEndpoint),
    /// The daemon itself, with the keys of an identity of AWS.
    Aws(AwsIdentity),
}

impl Issuer {
    /// `secret`: what was read for the brokers.
    fn issue(&self, secret: &SecretString, timeout: Duration) -> Result<Issued, String> {
        match self {
            Self::Endpoint(endpoint) => endpoint::request(endpoint, timeout),
            Self::Aws(identity) => aws::issue(identity, secret, timeout),
        }
    }

    /// What issues them, for people.
    fn place(&self) -> String {
        match self {
            Self::Endpoint(endpoint) => endpoint.place(),
            Self::Aws(_) => "the identity of AWS".to_owned(),
        }
    }
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no token from {place}: {what}")]
pub(crate) struct NoToken {
    place: String,
    what: String,
}

/// The tokens of a cluster.
#[derive(Debug)]
pub(crate) struct Tokens {
    issuer: Issuer,
    /// How long a request may take.
    timeout: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    /// Tokens for `config`; `None`: it needs none that is issued. `timeout`: how long a request may
    /// take.
    pub(super) fn new(config: &SaslConfig, timeout: Duration) -> Option<Self> {
        let issuer = match config {
            SaslConfig::OAuthBearer(Bearer { token: TokenSource::Endpoint(endpoint), .. }) => {
                Issuer::Endpoint(endpoint.clone())
            }
            SaslConfig::AwsMskIam(identity) => Issuer::Aws(identity.clone()),
            SaslConfig::OAuthBearer(Bearer { token: TokenSource::Given(_), .. })
            | SaslConfig::Plain(_)
            | SaslConfig::ScramSha256(_)
            | SaslConfig::ScramSha512(_) => return None,
        };
        Some(Self { issuer, timeout, shared: Arc::default() })
    }

    /// A valid token for this secret.
    ///
    /// # Errors
    /// None was issued by `deadline`.
    pub(super) fn get(&self, secret: &SecretString, deadline: Instant) -> Result<SecretString, NoToken> {
        let of = digest(secret);
        loop {
            let step = self.shared.state().next(&of, Instant::now());
            if step.requests {
                self.request(secret.clone(), of);
            }
            match step.answer {
                Some(Ok(token)) => return Ok(token),
                Some(Err(what)) => return Err(self.no_token(what)),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = self.shared.changed.wait_timeout_while(self.shared.state(), left, |state| state.is_requesting);
            if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
                return Err(self.no_token("it did not issue one in time".to_owned()));
            }
        }
    }

    /// A broker refused this token: the next connection gets another one.
    pub(super) fn refused(&self, token: &SecretString) {
        self.shared.state().held.take_if(|held| held.token.expose_secret() == token.expose_secret());
    }

    fn no_token(&self, what: String) -> NoToken {
        NoToken { place: self.issuer.place(), what }
    }

    /// Request a token, and return at once. The lock is free: without a thread, the end is told on
    /// this one.
    fn request(&self, secret: SecretString, of: Digest) {
        let (issuer, timeout, shared) = (self.issuer.clone(), self.timeout, self.shared.clone());
        let begun = Instant::now();
        background::begin(
            "token",
            move || issuer.issue(&secret, timeout),
            move |ended| {
                let issued = ended.unwrap_or_else(|unfinished| Err(format!("the request {unfinished}")));
                shared.state().ended(of, begun, issued, Instant::now());
                shared.changed.notify_all();
            },
        );
    }
}

type Digest = [u8; 32];

fn digest(secret: &SecretString) -> Digest {
    Sha256::digest(secret.expose_secret()).into()
}

/// What is known of tokens.
#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    is_requesting: bool,
    failure: Option<Failure>,
}

/// A token that was issued.
#[derive(Debug)]
struct Held {
    token: SecretString,
    /// The digest of the secret that it was issued for.
    of: Digest,
    replace_at: Instant,
    ends_at: Instant,
}

/// Requests that failed.
#[derive(Debug)]
struct Failure {
    what: String,
    of: Digest,
    /// How often in a row.
    times: u32,
    /// When the next one is due.
    until: Instant,
}

/// What to do for somebody who wants a token.
#[derive(Debug)]
struct Step {
    /// A token, or why there is none; `None`: wait for the request that is under way.
    answer: Option<Result<SecretString, String>>,
    /// Whether to request one now.
    requests: bool,
}

impl State {
    fn next(&mut self, of: &Digest, now: Instant) -> Step {
        let held = self.held.as_ref().filter(|held| held.of == *of && now < held.ends_at);
        let failure = self.failure.as_ref().filter(|failure| failure.of == *of && now < failure.until);
        let is_due = held.is_none_or(|held| now >= held.replace_at);
        let requests = is_due && !self.is_requesting && failure.is_none();
        let answer = match (held, failure) {
            (Some(held), _) => Some(Ok(held.token.clone())),
            (None, Some(failure)) if !self.is_requesting => Some(Err(failure.words())),
            (None, _) => None,
        };
        self.is_requesting |= requests;
        Step { answer, requests }
    }

    /// A request has ended that was begun at `begun`.
    fn ended(&mut self, of: Digest, begun: Instant, issued: Result<Issued, String>, now: Instant) {
        self.is_requesting = false;
        let valid = issued.and_then(|issued| match begun.checked_add(issued.lifetime) {
            Some(ends_at) if issued.lifetime >= LIFETIME_MIN => Ok((issued, ends_at)),
            _ => Err(format!("it issued a token for {} s", issued.lifetime.as_secs())),
        });
        match valid {
            Ok((Issued { token, lifetime }, ends_at)) => {
                self.held = Some(Held { token, of, replace_at: begun + lifetime / 5 * 4, ends_at });
                self.failure = None;
            }
            Err(what) => {
                let times = self.failure.as_ref().filter(|failure| failure.of == of).map_or(0, |failure| failure.times);
                let times = times.saturating_add(1);
                self.failure = Some(Failure { what, of, times, until: now + wait(times) });
            }
        }
    }
}

impl Failure {
    fn words(&self) -> String {
        let Self { what, times, .. } = self;
        format!("{what} (failure {times} in a row; the next try is {} s later)", wait(*times).as_secs())
    }
}

#[cfg(test)]
mod tests;
