//! Certificates and keys of the API, from files.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::AccessError;
use crate::config::ApiTls;
use crate::files::given;
use crate::files::pem::{self, Fault};

/// Read the files, and see that the key is that of the certificate.
pub(super) fn server_config(config: &ApiTls) -> Result<Arc<ServerConfig>, AccessError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(pem::unusable(&error).to_string()))?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            builder.with_client_cert_verifier(client_verifier(file, config.client_certificate_required, provider)?)
        }
    };
    let key = key(&config.key_file)?;
    let mut server = builder.with_single_cert(certificates(&config.cert_file)?, key).map_err(|error| {
        let (cert, key) = (config.cert_file.display(), config.key_file.display());
        unusable(format!("{cert} with the key of {key}: {}", pem::unusable(&error)))
    })?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn client_verifier(
    ca_file: &Path,
    is_required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, AccessError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate).map_err(|error| wrong(ca_file, pem::unusable(&error)))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|_| wrong(ca_file, Fault::Unusable))
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, AccessError> {
    pem::private_key(&read(file)?, None).map_err(|fault| wrong(file, fault))
}

/// All certificates of a file; one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    pem::certificates(&read(file)?).map_err(|fault| wrong(file, fault))
}

fn read(file: &Path) -> Result<Vec<u8>, AccessError> {
    given::read(file, pem::FILE_BYTES_MAX).map_err(|error| unusable(format!("{}: {error}", file.display())))
}

fn wrong(file: &Path, fault: Fault) -> AccessError {
    unusable(format!("{}: {fault}", file.display()))
}

fn unusable(message: String) -> AccessError {
    let remedy = "name PEM files of certificates, and of their key, in [daemon.api]";
    AccessError { code: "tls-files", message, remedy }
}
