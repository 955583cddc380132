//! Who may use the API: tokens, client certificates, roles, and how often.
//!
//! Reading order: [`Access`] is what counts now, and how it becomes something else; [`credentials`] says who somebody is; [`guard`] stands before
//! every handler; [`rates`] and [`audit`] are what it asks and tells; [`tls`] reads certificates and keys.
//!
//! Invariants
//! - A secret is compared as a digest, in constant time, and is kept as nothing else.
//! - What is put in force was read as a whole: a file that cannot be used leaves everything as it was.
//! - Whoever is refused is refused before a body is kept and before a handler runs.

mod audit;
mod credentials;
mod guard;
mod rates;
mod tls;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::audit::Audit;
use self::credentials::Credentials;
use self::rates::Rates;
use crate::config::{ApiConfig, ApiLimits};
use crate::files::given;
use crate::files::pem::FILE_BYTES_MAX;

pub(super) use self::credentials::{Caller, Claimed, Names, Peer};
pub use self::guard::SPANS;
pub(super) use self::guard::{Gate, guard};

/// Why settings of the API cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AccessError {
    /// A stable word for programs.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Settings with all files read that they name.
pub struct Prepared {
    config: ApiConfig,
    credentials: Credentials,
    tls: Option<Arc<ServerConfig>>,
    files: Digest,
}

/// There are digests of secrets in it, and a key.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

type Digest = [u8; 32];

impl Prepared {
    /// Read the files that the settings name.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(config: &ApiConfig) -> Result<Self, AccessError> {
        // Before they are used: what changes in between is noticed at the next look.
        let files = digest_of_files(config);
        let credentials = Credentials::read(config)?;
        let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
        Ok(Self { config: config.clone(), credentials, tls, files })
    }
}

/// Who may use the API now.
pub struct Access {
    current: ArcSwap<Prepared>,
    /// The files as they were when they were last looked at, usable or not.
    seen: Mutex<Digest>,
    /// Grows when other certificates count.
    generation: watch::Sender<u64>,
    rates: Rates,
    audit: Audit,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Put settings in force. The audit file, if there is to be one, is in `data_dir`.
    ///
    /// # Errors
    /// The audit file cannot be written.
    pub fn new(prepared: Prepared, data_dir: &Path) -> Result<Self, AccessError> {
        let audit = Audit::new(data_dir);
        audit.configure(prepared.config.audit)?;
        Ok(Self {
            seen: Mutex::new(prepared.files),
            current: ArcSwap::from_pointee(prepared),
            generation: watch::Sender::new(0),
            rates: Rates::default(),
            audit,
        })
    }

    /// Put other settings in force. If they are about certificates, connections begin anew: one that was good may not be so any more.
    ///
    /// # Errors
    /// The audit file cannot be written: nothing has changed.
    pub fn put(&self, prepared: Prepared) -> Result<(), AccessError> {
        self.exchange(&mut self.seen(), prepared)
    }

    /// The files as they were seen. Whoever changes what counts holds it meanwhile: what was read from the old settings must not come after the new ones.
    fn seen(&self) -> MutexGuard<'_, Digest> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, seen: &mut Digest, prepared: Prepared) -> Result<(), AccessError> {
        self.audit.configure(prepared.config.audit)?;
        *seen = prepared.files;
        let before = self.current.swap(Arc::new(prepared));
        let now = self.current.load();
        let same = before.files == now.files
            && before.config.tls == now.config.tls
            && before.config.clients == now.config.clients;
        if !same {
            self.generation.send_modify(|generation| *generation += 1);
        }
        Ok(())
    }

    /// Look whether a file of certificates, keys or tokens is another one now, and put it in force if it can be used. May wait for the disk.
    pub(super) fn refresh(&self) {
        let mut seen = self.seen();
        let current = self.current.load_full();
        let files = digest_of_files(&current.config);
        if std::mem::replace(&mut *seen, files) == files {
            return;
        }
        match Prepared::new(&current.config).and_then(|prepared| self.exchange(&mut seen, prepared)) {
            Ok(()) => tracing::info!("certificates, keys and tokens of the API were read anew"),
            Err(error) => {
                tracing::error!(code = error.code, remedy = error.remedy, "the API goes on as it was: {error}");
            }
        }
    }

    pub(super) fn limits(&self) -> ApiLimits {
        self.current.load().config.limits
    }

    /// How connections are encrypted that begin now, and when they are to end.
    pub(super) fn tls(&self) -> (Option<Arc<ServerConfig>>, watch::Receiver<u64>) {
        let generation = self.generation.subscribe();
        (self.current.load().tls.clone(), generation)
    }
}

/// What is in the files that the settings name. One that cannot be read counts as such.
fn digest_of_files(config: &ApiConfig) -> Digest {
    let mut digest = Sha256::new();
    let mut add = |bytes: Option<&[u8]>| {
        digest.update([u8::from(bytes.is_some())]);
        digest.update(Sha256::digest(bytes.unwrap_or_default()));
    };
    if let Some(tls) = &config.tls {
        let files: [Option<&PathBuf>; 3] = [Some(&tls.cert_file), Some(&tls.key_file), tls.client_ca_file.as_ref()];
        files.into_iter().flatten().for_each(|file| add(given::read(file, FILE_BYTES_MAX).ok().as_deref()));
    }
    for token in &config.tokens {
        let text = token.secret.read().ok();
        add(text.as_ref().map(|text| secrecy::ExposeSecret::expose_secret(text).as_bytes()));
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
