//! How connections to a cluster are made, from what its configuration says.

use std::sync::Arc;
use std::time::Duration;

use super::tls::Tls;
use crate::config::{KafkaConfig, SaslConfig};
use crate::connector::Error;

/// How connections to a cluster are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What the broker's logs call us.
    pub(crate) client_id: Arc<str>,
    /// How long connecting may take, handshakes included.
    pub(crate) connect_timeout: Duration,
    /// How long a broker has for an answer.
    pub(crate) request_timeout: Duration,
    /// How connections are encrypted, if they are.
    pub(crate) tls: Option<Tls>,
    /// How we say who we are, if we do.
    pub(crate) sasl: Option<SaslConfig>,
}

impl Settings {
    /// What a configuration asks for. Its certificates are read here, once.
    ///
    /// # Errors
    /// A file of certificates or keys cannot be used.
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, Error> {
        Ok(Self {
            client_id: config.client_id.clone(),
            connect_timeout: config.connection_timeout,
            request_timeout: config.request_timeout,
            tls: config.security.tls.as_ref().map(Tls::new).transpose()?,
            sasl: config.security.sasl.clone(),
        })
    }
}
