//! Who somebody is: the owner of a token, or of a client certificate.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header};
use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::AccessError;
use crate::config::words::{NAME_BYTES_MAX, words};
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
    pub(in crate::api) fn by(&self, claimed: Option<Claimed>) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => claimed.map_or_else(|| "api".to_owned(), |claimed| claimed.0),
        }
    }
}

/// What somebody says that they are called: histories keep it, and show it to everybody.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("maxLength" = 255))]
pub(in crate::api) struct Claimed(String);

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Claimed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        words(&text, NAME_BYTES_MAX).map(str::to_owned).map(Self)
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
        let certificate = Certificate::from_der(certificate).ok()?;
        let content = certificate.tbs_certificate();
        let subject = content.subject();
        // Of two common names nobody knows which one is meant.
        let has_one = subject.iter().filter(|part| part.oid == COMMON_NAME).count() == 1;
        let common = subject.common_name().ok().flatten().filter(|_| has_one);
        let alternative = content.get_extension::<SubjectAltName>().ok().flatten();
        let alternative = alternative.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
        Some(Self {
            common: common.map(|name| name.value().into_owned()),
            alternative: alternative.iter().filter_map(text).collect(),
        })
    }

    fn are(&self, subject: &Subject) -> bool {
        match subject {
            Subject::CommonName(name) => self.common.as_deref() == Some(name),
            Subject::AlternativeName(name) => self.alternative.iter().any(|found| found == name),
        }
    }
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(text) | GeneralName::UniformResourceIdentifier(text) | GeneralName::Rfc822Name(text) => {
            Some(text.as_str().to_owned())
        }
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let short = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            short.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn names(common: &[DnValue], alternative: Vec<SanType>) -> Names {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        common.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, name.clone()));
        params.subject_alt_names = alternative;
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        Names::of(certificate.der()).expect("names")
    }

    #[test]
    fn names_of_every_kind_are_read() {
        let text = |text: &str| text.try_into().expect("text");
        let read = names(
            &[DnValue::Utf8String("ü".into())],
            vec![
                SanType::DnsName(text("a.example")),
                SanType::URI(text("spiffe://example/a")),
                SanType::Rfc822Name(text("a@example")),
                SanType::IpAddress([10, 0, 0, 7].into()),
                SanType::IpAddress("2001:db8::7".parse().expect("an address")),
            ],
        );
        let expected = ["a.example", "spiffe://example/a", "a@example", "10.0.0.7", "2001:db8::7"];
        assert_eq!((read.common.as_deref(), &*read.alternative), (Some("ü"), &expected.map(str::to_owned)[..]));
        let printable = DnValue::PrintableString("ci".try_into().expect("text"));
        assert_eq!(names(&[printable], Vec::new()), Names { common: Some("ci".into()), alternative: Vec::new() });
        assert_eq!(names(&[], Vec::new()), Names::default());
    }

    #[test]
    fn a_name_counts_for_what_it_is_and_as_a_whole() {
        let names = Names { common: Some("ci".into()), alternative: vec!["grafana.example".into()] };
        let common = |name: &str| names.are(&Subject::CommonName(name.into()));
        let alternative = |name: &str| names.are(&Subject::AlternativeName(name.into()));
        assert!(common("ci") && alternative("grafana.example"));
        for other in ["", "c", "ci ", "CI", "grafana.example", "*"] {
            assert!(!common(other), "{other}");
        }
        for other in ["", "ci", "grafana", "x.grafana.example", "*.example"] {
            assert!(!alternative(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        for bytes in [&b""[..], b"nonsense", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(Names::of(&CertificateDer::from(bytes)), None);
        }
    }
}
