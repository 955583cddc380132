//! Carries a SASL exchange over a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use secrecy::SecretString;

use super::connection::Connection;
use super::error::WireError;
use super::sasl::{self, Exchange, Failure};
use super::settings::Settings;
use crate::config::SaslConfig;

/// The most messages of ours in an exchange: two in each mechanism there is.
const MESSAGES_MAX: usize = 3;

/// The most mechanisms of a broker that an error names.
const OFFERS_SHOWN_MAX: usize = 10;

/// The broker does not have the mechanism.
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
/// The port does not want to know who we are.
const ILLEGAL_SASL_STATE: i16 = 34;

/// Say who we are. Answers how long that holds; `None`: for ever. This is the only way by which a
/// login leaves the process.
///
/// # Errors
/// The login is not for this broker, the broker refuses us, or the connection is of no use any
/// more.
pub(super) fn authenticate(
    connection: &mut Connection,
    config: &SaslConfig,
    settings: &Settings,
    deadline: Instant,
) -> Result<Option<Duration>, WireError> {
    let secret = sasl::secret(config, connection.address(), connection.is_encrypted())
        .map_err(|withheld| WireError::withheld(connection.address(), withheld))?;
    let credential = match &settings.tokens {
        None => secret.clone(),
        Some(tokens) => {
            let issued = tokens.get(&secret, deadline);
            issued.map_err(|error| WireError::NoToken { address: connection.address().clone(), error })?
        }
    };
    let done = exchange(connection, config, credential.clone(), deadline);
    match &done {
        Ok(_) => settings.logins.taken(),
        Err(error @ WireError::Refused { .. }) => {
            settings.logins.refused(&secret, error.clone(), Instant::now());
            settings.tokens.iter().for_each(|tokens| tokens.refused(&credential));
        }
        Err(_) => {}
    }
    done
}

fn exchange(
    connection: &mut Connection,
    config: &SaslConfig,
    secret: SecretString,
    deadline: Instant,
) -> Result<Option<Duration>, WireError> {
    propose(connection, config, deadline)?;
    let address = connection.address().clone();
    let failed = |failure: Failure| match failure {
        Failure::NoSecret(what) => WireError::NoSecret { address: address.clone(), what },
        Failure::Refused(what) => refused(&address, config, what),
    };
    let mut exchange = Exchange::new(config, secret).map_err(failed)?;
    let mut message = exchange.first().map_err(failed)?;
    for _ in 0..MESSAGES_MAX {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
        let version = connection.version::<SaslAuthenticateRequest>()?;
        let answer = connection.ask(version, &request, deadline)?.decode::<SaslAuthenticateRequest>(version)?;
        if answer.error_code != 0 {
            let text = answer.error_message.as_deref().unwrap_or("it does not say why");
            return Err(failed(Failure::Refused(exchange.shown(text))));
        }
        match exchange.answer(&answer.auth_bytes).map_err(failed)? {
            Some(next) => message = next,
            None => {
                let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|lifetime| *lifetime > 0);
                return Ok(lifetime.map(Duration::from_millis));
            }
        }
    }
    Err(failed(Failure::Refused("it does not come to an end".to_owned())))
}

fn refused(address: &Arc<str>, config: &SaslConfig, what: String) -> WireError {
    WireError::Refused { address: address.clone(), mechanism: sasl::name(config), who: sasl::who(config), what }
}

/// Agree on the mechanism.
fn propose(connection: &mut Connection, config: &SaslConfig, deadline: Instant) -> Result<(), WireError> {
    let mechanism = sasl::name(config);
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let version = connection.version::<SaslHandshakeRequest>()?;
    let (code, offered) = connection.ask(version, &request, deadline)?.decode::<SaslHandshakeRequest>(version)?;
    let address = connection.address().clone();
    match code {
        0 => Ok(()),
        UNSUPPORTED_SASL_MECHANISM => {
            let offered = offered.iter().take(OFFERS_SHOWN_MAX).map(|name| name.escape_debug().to_string());
            Err(WireError::Mechanism { address, mechanism, offered: offered.collect::<Vec<_>>().join(", ") })
        }
        ILLEGAL_SASL_STATE => {
            Err(WireError::Mechanism { address, mechanism, offered: "no SASL on this port".to_owned() })
        }
        code => Err(refused(&address, config, format!("it does not begin: code {code}"))),
    }
}
