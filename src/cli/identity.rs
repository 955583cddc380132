//! How the command line says who it is to the daemon, and how it knows the daemon: tokens and certificates.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{AlertDescription, CertificateError};
use ureq::http::HeaderValue;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::args::address::Address;
use super::failure::Failure;
use crate::files::pem::{self, FILE_BYTES_MAX, Fault};

/// The variable that has the token itself.
const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";

/// The value of `Authorization`, if there is a token.
pub(super) fn authorization(address: &Address) -> Result<Option<HeaderValue>, Failure> {
    let (place, text) = match (&address.token_file, std::env::var(TOKEN_VARIABLE)) {
        (Some(file), _) => (file.display().to_string(), read(file)?),
        (None, Ok(token)) if !token.is_empty() => (TOKEN_VARIABLE.to_owned(), token.into_bytes()),
        (None, _) => return Ok(None),
    };
    let wrong = || {
        let help = "it holds the token and nothing else; `tidegate token create` makes one";
        Failure::new(format!("{place} has no token"), help)
    };
    let token = text.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| wrong())?;
    // It is left out of whatever shows headers.
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Trust whom the system trusts, and show nothing.
pub(super) fn of_system() -> Result<TlsConfig, Failure> {
    Ok(config(&system_roots()?, None))
}

fn config(roots: &[Certificate<'static>], client: Option<ClientCert>) -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(roots))
        .client_cert(client)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build()
}

/// Whom we trust, and what we show.
pub(super) fn tls(address: &Address) -> Result<TlsConfig, Failure> {
    let roots = match &address.ca_file {
        Some(file) => certificates(file)?,
        None => system_roots()?,
    };
    let client = match (&address.cert_file, &address.key_file) {
        (Some(cert), Some(key)) => Some(ClientCert::new_with_certs(&certificates(cert)?, private_key(key)?)),
        _ => None,
    };
    Ok(config(&roots, client))
}

fn system_roots() -> Result<Vec<Certificate<'static>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let help = "name the authority of the daemon's certificate with --ca-file";
        return Err(Failure::new("the system has no certificate of an authority that it trusts", help));
    }
    Ok(found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let found = pem::certificates(&read(file)?).map_err(|fault| unusable(file, fault))?;
    Ok(found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}

fn private_key(file: &Path) -> Result<PrivateKey<'static>, Failure> {
    let text = read(file)?;
    pem::private_key(&text, None).map_err(|fault| unusable(file, fault))?;
    // The error of this parser might quote the file as well.
    PrivateKey::from_pem(&text).map_err(|_| unusable(file, Fault::Unusable))
}

fn unusable(file: &Path, fault: Fault) -> Failure {
    Failure::new(format!("{}: {fault}", file.display()), "name PEM files of certificates, and of their key")
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot read {}: {error}", file.display()), "name a file that you may read")
    };
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    opened.map_err(|error| failed(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(failed(&"it is too large")) } else { Ok(bytes) }
}

/// What is wrong with TLS to the daemon, and what to do about it; `None` if the error is about something else.
pub(super) fn tls_trouble(error: &ureq::Error) -> Option<(String, &'static str)> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => inner(error)?,
        _ => return None,
    };
    let help = match error {
        rustls::Error::InvalidCertificate(certificate) => of_certificate(certificate),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) => "does this port speak TLS? If not, write http:// instead of https://",
        rustls::Error::InconsistentKeys(_) => "give --key-file the key of the certificate in --cert-file",
        _ => "see whether --url names a daemon that speaks TLS",
    };
    Some((error.to_string(), help))
}

fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "name the authority of the daemon's certificate with --ca-file or TIDEGATE_CA_FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "call the daemon in --url by a name that its certificate has"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "give the daemon a certificate that is valid now, and look at the clock of this machine"
        }
        _ => "give the daemon another certificate",
    }
}

/// What the daemon says of our certificate.
fn of_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            "show a client certificate that the daemon trusts and that is valid now, with --cert-file and --key-file"
        }
        _ => "see the daemon's log",
    }
}
