//! Requests to services that issue credentials.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;

use crate::files::outward::{http, why};
use crate::files::{given, pem};

/// The most bytes of an answer: tokens have a few KiB.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// What speaks HTTP to such a service.
///
/// # Errors
/// The file of authorities cannot be used.
pub(super) fn agent(ca_file: Option<&Path>, timeout: Duration) -> Result<ureq::Agent, String> {
    let roots = match ca_file {
        None => rustls_native_certs::load_native_certs().certs,
        Some(file) => {
            let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
            let text = given::read(file, pem::FILE_BYTES_MAX).map_err(|error| wrong(&error))?;
            pem::certificates(&text).map_err(|fault| wrong(&fault))?
        }
    };
    let roots: Vec<_> = roots.iter().map(|der| ureq::tls::Certificate::from_der(der).to_owned()).collect();
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    Ok(http().timeout_global(Some(timeout)).tls_config(tls).build().into())
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: ureq::http::StatusCode,
    pub(super) bytes: Vec<u8>,
}

/// All of an answer.
///
/// # Errors
/// In words of our own: those of the library may quote addresses and headers.
pub(super) fn answered(sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, String> {
    let mut answer = sent.map_err(|error| why(&error).to_owned())?;
    let status = answer.status();
    let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    Ok(Answer { status, bytes: bytes.map_err(|error| format!("of its answer {}, {}", status.as_u16(), why(&error)))? })
}

/// A text as a part of a form (`application/x-www-form-urlencoded`).
pub(super) fn form_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) => char::from(byte).to_string(),
            b' ' => "+".to_owned(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
