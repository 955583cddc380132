//! What TLS to the brokers of a cluster is made of: files of certificates and keys.
//!
//! Invariants
//! - They are read again for each new connection, so that they can be replaced while the daemon
//!   runs. Connections that are open keep what they have.
//! - Files that cannot be used any more, or not yet, change nothing: what was read before stays,
//!   and the log says so once.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::config::TlsConfig;
use crate::connector::{Class, Error};
use crate::files::given;
use crate::files::pem::{self, Fault};

/// How connections of a cluster are encrypted.
#[derive(Clone)]
pub(crate) struct Tls {
    files: Arc<TlsConfig>,
    /// What all brokers are called, if not by the host that was connected to.
    server_name: Option<ServerName<'static>>,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// What was made of the files.
struct State {
    client: Arc<ClientConfig>,
    /// What was found there last, of use or not.
    found: Found,
}

/// A digest of what is in the files, or of why they cannot be read.
type Found = [u8; 32];

impl Tls {
    /// Read the files that a configuration names.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, Error> {
        let contents = Contents::read(config)?;
        let state = State { client: contents.client(config)?, found: contents.digest() };
        let server_name = config.server_name.as_deref().map(server_name).transpose().map_err(unusable)?;
        Ok(Self { files: Arc::new(config.clone()), server_name, state: Arc::new(Mutex::new(state)) })
    }

    /// Begin a session with the broker at `host:port`.
    pub(super) fn session(&self, address: &str) -> Result<ClientConnection, rustls::Error> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.server_name.clone().map_or_else(|| server_name(host), Ok);
        ClientConnection::new(self.current(), name.map_err(rustls::Error::General)?)
    }

    /// What the files say now, or what they said when they could be used.
    fn current(&self) -> Arc<ClientConfig> {
        let contents = Contents::read(&self.files);
        let found = match &contents {
            Ok(contents) => contents.digest(),
            Err(error) => Sha256::digest(&error.message).into(),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.found != found {
            state.found = found;
            match contents.and_then(|contents| contents.client(&self.files)) {
                Ok(client) => {
                    state.client = client;
                    tracing::info!(
                        "certificates have changed: new connections to brokers use those that are there now"
                    );
                }
                Err(error) => tracing::warn!(
                    code = error.code,
                    "certificates have changed and cannot be used, so new connections to brokers use those of before: {error}"
                ),
            }
        }
        state.client.clone()
    }
}

/// What is in the files.
struct Contents {
    /// Whom we trust; `None`: whom the system trusts.
    ca: Option<Vec<u8>>,
    identity: Option<Identity>,
}

struct Identity {
    certificates: Vec<u8>,
    key: Vec<u8>,
    /// What the key is encrypted with.
    password: Option<SecretString>,
}

impl Contents {
    fn read(config: &TlsConfig) -> Result<Self, Error> {
        let ca = config.ca_file.as_deref().map(read).transpose()?;
        let identity = config.identity.as_ref().map(|identity| -> Result<Identity, Error> {
            Ok(Identity {
                certificates: read(&identity.cert_file)?,
                key: read(&identity.key_file)?,
                password: identity
                    .key_password
                    .as_ref()
                    .map(|password| password.read().map_err(unusable))
                    .transpose()?,
            })
        });
        Ok(Self { ca, identity: identity.transpose()? })
    }

    fn digest(&self) -> Found {
        let identity = self.identity.as_ref();
        let password = identity.and_then(|identity| Some(identity.password.as_ref()?.expose_secret().as_bytes()));
        let parts = [
            self.ca.as_deref(),
            identity.map(|identity| &*identity.certificates),
            identity.map(|identity| &*identity.key),
            password,
        ];
        // Each by its own digest: nothing moves from one file to the next unseen.
        parts
            .iter()
            .fold(Sha256::new(), |all, part| all.chain_update(Sha256::digest(part.unwrap_or_default())))
            .finalize()
            .into()
    }

    fn client(&self, config: &TlsConfig) -> Result<Arc<ClientConfig>, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(pem::unusable(&error).to_string()))?
            .with_root_certificates(self.roots(config)?);
        let (Some(files), Some(identity)) = (&config.identity, &self.identity) else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let key = pem::private_key(&identity.key, identity.password.as_ref());
        let key = key.map_err(|fault| match fault {
            Fault::EncryptedKey => {
                unusable(format!("{}: its private key is encrypted: set tls_key_password", files.key_file.display()))
            }
            fault => wrong(&files.key_file, fault),
        })?;
        let certificates = certificates(&files.cert_file, &identity.certificates)?;
        let client = builder.with_client_auth_cert(certificates, key).map_err(|error| {
            let (cert, key) = (files.cert_file.display(), files.key_file.display());
            unusable(format!("{cert} with the key of {key}: {}", pem::unusable(&error)))
        })?;
        Ok(Arc::new(client))
    }

    /// Whom we trust: the authorities of a file, or those of the system.
    fn roots(&self, config: &TlsConfig) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        let (Some(file), Some(text)) = (&config.ca_file, &self.ca) else {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                let message = "the system has no certificate of an authority that it trusts".to_owned();
                return Err(unusable(message));
            }
            return Ok(roots);
        };
        for certificate in certificates(file, text)? {
            roots.add(certificate).map_err(|error| wrong(file, pem::unusable(&error)))?;
        }
        Ok(roots)
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no name that a certificate can have"))
}

fn unusable(message: String) -> Error {
    let remedy = "name PEM files of certificates, and of their key, under `security`";
    Error { class: Class::Fatal, code: "tls-files", message, remedy }
}

fn wrong(file: &Path, fault: Fault) -> Error {
    unusable(format!("{}: {fault}", file.display()))
}

fn read(file: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let file = file.as_ref();
    given::read(file, pem::FILE_BYTES_MAX).map_err(|error| unusable(format!("{}: {error}", file.display())))
}

/// All certificates of a file; one at least.
fn certificates(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    pem::certificates(text).map_err(|fault| wrong(file, fault))
}
