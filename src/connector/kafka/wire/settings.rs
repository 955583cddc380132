//! How connections to a cluster are made, from what its configuration says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::certificates::Tls;
use super::error::WireError;
use super::logins::Logins;
use super::sasl;
use super::tokens::Tokens;
use crate::config::{Bound, KafkaConfig, Peer, ProxyConfig, SaslConfig, Tuning, Withheld};
use crate::connector::Error;

/// How connections to a cluster are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What the broker's logs call us.
    pub(crate) client_id: Arc<str>,
    /// Where we are, as the brokers call it.
    pub(crate) client_rack: Option<Arc<str>>,
    /// How long connecting may take, handshakes included.
    pub(crate) connect_timeout: Duration,
    /// How long a broker has for an answer.
    pub(crate) request_timeout: Duration,
    /// How much is asked for at once, and how long things are kept.
    pub(crate) tuning: Tuning,
    /// What brokers are reached through, if they are not reached directly.
    pub(crate) proxy: Option<ProxyConfig>,
    /// How connections are encrypted, if they are.
    pub(crate) tls: Option<Tls>,
    /// Which brokers may see our certificate, if not all.
    pub(crate) certificate: Option<Bound>,
    /// How we say who we are, if we do.
    pub(crate) sasl: Option<SaslConfig>,
    /// What brokers have said to that: all connections of the cluster share it.
    pub(crate) logins: Arc<Logins>,
    /// The tokens that are issued for our logins, if they need any.
    pub(crate) tokens: Option<Arc<Tokens>>,
}

impl Settings {
    /// What a configuration asks for. Its certificates are read here, and again for each
    /// connection.
    ///
    /// # Errors
    /// A file of certificates or keys cannot be used.
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, Error> {
        Ok(Self {
            client_id: config.client_id.clone(),
            client_rack: config.client_rack.clone(),
            connect_timeout: config.connection_timeout,
            request_timeout: config.request_timeout,
            tuning: config.tuning,
            proxy: config.proxy.clone(),
            tls: config.security.tls.as_ref().map(Tls::new).transpose()?,
            certificate: config.security.tls.as_ref().and_then(|tls| tls.identity.as_ref()?.bound.clone()),
            sasl: config.security.sasl.clone(),
            logins: Arc::default(),
            tokens: config
                .security
                .sasl
                .as_ref()
                .and_then(|sasl| Tokens::new(sasl, config.connection_timeout))
                .map(Arc::new),
        })
    }

    /// Whether a connection to this broker may say now who it is, by a certificate or a login. One that may not is not opened.
    /// What cannot be read of our secret is said when it is wanted.
    ///
    /// # Errors
    /// The broker may not have the login, or it is too soon after a refusal.
    pub(super) fn admit_login(&self, address: &Arc<str>) -> Result<(), WireError> {
        if let Some(certificate) = &self.certificate {
            let peer = Peer { address, in_clear_text: false };
            certificate.admit(peer).map_err(|withheld| WireError::withheld(address, withheld))?;
        }
        let Some(sasl) = &self.sasl else { return Ok(()) };
        match sasl::secret(sasl, address, self.tls.is_some()) {
            Ok(secret) => self.logins.admit(&secret, Instant::now()),
            Err(Withheld::Unreadable(_)) => Ok(()),
            Err(withheld) => Err(WireError::withheld(address, withheld)),
        }
    }
}
