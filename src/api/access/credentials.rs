//! Who somebody is: the owner of a token, or of a client certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header};
use rustls::pki_types::CertificateDer;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::AccessError;
use crate::config::{ApiConfig, ClientConfig, Role, Subject};

/// The fewest characters of a token. Nobody guesses 16 random ones, and whoever makes them up has a shorter one in mind.
const TOKEN_BYTES_MIN: usize = 16;

/// The most: it has to fit into a header.
const TOKEN_BYTES_MAX: usize = 4096;

/// Who asks, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Caller {
    /// `None`: nobody has to say who they are.
    pub(in crate::api) name: Option<Arc<str>>,
    pub(in crate::api) role: Role,
}

impl Caller {
    /// Somebody where nobody has to say who they are.
    pub(in crate::api) fn anybody() -> Self {
        Self { name: None, role: Role::Admin }
    }

    /// The name for histories: who is known is not asked what they are called.
    pub(in crate::api) fn by(&self, claimed: Option<String>) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => claimed.unwrap_or_else(|| "api".to_owned()),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(in crate::api) struct Peer {
    pub(in crate::api) address: IpAddr,
    /// What its certificate says, if it has shown one that comes from a trusted authority.
    pub(in crate::api) names: Option<Arc<Names>>,
    pub(in crate::api) is_encrypted: bool,
    /// Whether a request is under way that was let in.
    pub(in crate::api) is_busy: Arc<AtomicBool>,
}

impl Peer {
    pub(in crate::api) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }
}

/// The names in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Names {
    common: Option<String>,
    alternative: Vec<String>,
}

impl Names {
    /// `None` if it cannot be read. It was verified before.
    pub(in crate::api) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let common: Vec<&str> =
            certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
        let extension = certificate.subject_alternative_name().ok()?;
        let alternative = extension.map(|found| &found.value.general_names).into_iter().flatten().filter_map(text);
        // Of two common names nobody knows which one is meant.
        let common = <[&str; 1]>::try_from(common).ok().map(|[name]| name.to_owned());
        Some(Self { common, alternative: alternative.collect() })
    }

    fn are(&self, subject: &Subject) -> bool {
        match subject {
            Subject::CommonName(name) => self.common.as_deref() == Some(name),
            Subject::AlternativeName(name) => self.alternative.iter().any(|found| found == name),
        }
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

struct Token {
    caller: Caller,
    digest: [u8; 32],
}

/// All who may use the API.
pub(super) struct Credentials {
    tokens: Vec<Token>,
    clients: Vec<ClientConfig>,
}

/// Who a request is from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Known(Caller),
    /// They have shown nothing.
    Nobody,
    /// What they have shown is not known here.
    Wrong(&'static str),
}

impl Credentials {
    /// Read the tokens.
    pub(super) fn read(config: &ApiConfig) -> Result<Self, AccessError> {
        let mut tokens = Vec::<Token>::new();
        for token in &config.tokens {
            let wrong = |code, message: String| AccessError {
                code,
                message: format!("the token of {}: {message}", token.name),
                remedy: "`tidegate token create` makes a good one",
            };
            let text = token.secret.read().map_err(|error| wrong("secret-unreadable", error))?;
            let text = text.expose_secret();
            let fits = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len());
            if !fits || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = format!("a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters");
                return Err(wrong("bad-token", message));
            }
            let digest = digest(text.as_bytes());
            if let Some(other) = tokens.iter().find(|other| other.digest == digest) {
                let other = other.caller.name.as_deref().unwrap_or_default();
                return Err(wrong("bad-token", format!("it is that of {other} too: each needs its own")));
            }
            tokens.push(Token { caller: Caller { name: Some(token.name.clone()), role: token.role }, digest });
        }
        Ok(Self { tokens, clients: config.clients.clone() })
    }

    /// A token counts before a certificate: who shows one means it.
    pub(super) fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Identity {
        if self.tokens.is_empty() && self.clients.is_empty() {
            return Identity::Known(Caller::anybody());
        }
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        match (shown.next(), shown.next()) {
            (None, _) => self.identify_certificate(peer.names.as_deref()),
            (Some(value), None) => match bearer(value.as_bytes()) {
                Some(token) => self.identify_token(token),
                None => Identity::Wrong("the header Authorization is not a bearer token"),
            },
            (Some(_), Some(_)) => Identity::Wrong("there are several headers Authorization"),
        }
    }

    fn identify_token(&self, shown: &[u8]) -> Identity {
        let shown = digest(shown);
        let mut found = Identity::Wrong("the token is not known");
        // All of them, whichever it is: how long this takes says nothing.
        for token in &self.tokens {
            if bool::from(token.digest.ct_eq(&shown)) {
                found = Identity::Known(token.caller.clone());
            }
        }
        found
    }

    fn identify_certificate(&self, names: Option<&Names>) -> Identity {
        let Some(names) = names else { return Identity::Nobody };
        match self.clients.iter().find(|client| names.are(&client.subject)) {
            Some(client) => Identity::Known(Caller { name: Some(client.name.clone()), role: client.role }),
            None => Identity::Wrong("the client certificate is not one of those that are known"),
        }
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The token in `Authorization: Bearer …`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}
