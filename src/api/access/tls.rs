//! Certificates and keys of the API, from files.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::AccessError;
use crate::config::ApiTls;

/// The most bytes of a file: a bundle of all authorities of the world has less than one MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Read the files, and see that the key is that of the certificate.
pub(super) fn server_config(config: &ApiTls) -> Result<Arc<ServerConfig>, AccessError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            builder.with_client_cert_verifier(client_verifier(file, config.client_certificate_required, provider)?)
        }
    };
    let key = key(&config.key_file)?;
    let mut server = builder.with_single_cert(certificates(&config.cert_file)?, key).map_err(|error| {
        let (cert, key) = (config.cert_file.display(), config.key_file.display());
        unusable(format!("{cert} with the key of {key}: {error}"))
    })?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn client_verifier(
    ca_file: &Path,
    is_required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, AccessError> {
    let wrong = |error: &dyn std::fmt::Display| unusable(format!("{}: {error}", ca_file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| wrong(&error))
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, AccessError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| {
        let message = match error {
            pem::Error::NoItemsFound => "it has no private key, or one that is encrypted".to_owned(),
            error => error.to_string(),
        };
        unusable(format!("{}: {message}", file.display()))
    })
}

/// All certificates of a file; one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let bytes = read(file)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| unusable(format!("{}: {error}", file.display())))?;
    if found.is_empty() { Err(unusable(format!("{}: it has no certificate", file.display()))) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, AccessError> {
    let wrong = |error: std::io::Error| unusable(format!("{}: {error}", file.display()));
    if std::fs::metadata(file).map_err(wrong)?.len() > FILE_BYTES_MAX {
        return Err(unusable(format!("{}: it is no file of certificates: it is too large", file.display())));
    }
    std::fs::read(file).map_err(wrong)
}

fn unusable(message: String) -> AccessError {
    let remedy = "name PEM files of certificates, and of their key, in [daemon.api]";
    AccessError { code: "tls-files", message, remedy }
}
