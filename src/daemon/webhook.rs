//! Tells somebody over HTTP that a link has failed over or back.
//!
//! The message is signed with HMAC-SHA256 over `TIME.BODY`, as is common among webhooks: the time, which is signed too, tells an old message that is sent again from a
//! new one. No redirect is followed, and a name that leads into a private network is refused when it is resolved, so that it cannot be changed between looking and
//! connecting.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hmac::{Hmac, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::failover::event;
use super::world::Hosted;
use crate::api::wire::{FailoverEvent, Time};
use crate::background;
use crate::config::Webhook;
use crate::config::failover::is_private;
use crate::files::outward::{http, why};

/// How long one try may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is waited before each further try.
const AGAIN_AFTER_SECONDS: [u64; 5] = [1, 2, 4, 8, 16];

/// What happened longer ago than this is no news, in milliseconds: a webhook that is configured later is not told of it.
const NEWS_AGE_MAX_MS: i64 = 3_600_000;

/// Tell whoever is to be told what has happened since, on a thread of its own. If this daemon dies before it has, it is told once more.
pub(super) fn tell_news(hosted: &Arc<Hosted>) {
    let link = hosted.link();
    let Some(webhook) = link.config().failover.webhook.clone() else { return };
    if !link.has_news() {
        return;
    }
    let (it, me) = (hosted.clone(), hosted.clone());
    let tell = move || {
        let link = it.link();
        let record = match link.untold() {
            Ok(Some(record)) if Time::now().0.saturating_sub(record.done_ms) < NEWS_AGE_MAX_MS => record,
            Ok(_) => return,
            Err(failure) => {
                return tracing::debug!(link = &*link.config().id, code = failure.code, "webhook: {failure}");
            }
        };
        let event = event(&link, &record);
        let place = webhook.place();
        match deliver(&webhook, &event) {
            Ok(()) => link.note("webhook-delivered", format!("{} to {place}", event.id)),
            Err(message) => {
                tracing::error!(link = &*link.config().id, event = event.id, place, "webhook: {message}");
                link.note("webhook-failed", format!("{} to {place}: {message}", event.id));
            }
        }
        if let Err(failure) = link.note_told(&record) {
            tracing::warn!(link = &*link.config().id, code = failure.code, "webhook: {failure}");
        }
    };
    background::begin("webhook", tell, move |ended| {
        if ended.is_err() {
            me.link().keep_news();
        }
    });
}

fn deliver(webhook: &Webhook, event: &FailoverEvent) -> Result<(), String> {
    let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    let agent = agent(webhook.allows_private);
    let mut tried = send(&agent, webhook, event, &body);
    for seconds in AGAIN_AFTER_SECONDS {
        match &tried {
            Err(Trouble::Passing(_)) => thread::sleep(Duration::from_secs(seconds)),
            Ok(()) | Err(Trouble::Lasting(_)) => break,
        }
        tried = send(&agent, webhook, event, &body);
    }
    tried.map_err(|(Trouble::Passing(message) | Trouble::Lasting(message))| message)
}

/// Why nobody was told.
enum Trouble {
    /// It is worth another try.
    Passing(String),
    /// It is not.
    Lasting(String),
}

fn send(agent: &ureq::Agent, webhook: &Webhook, event: &FailoverEvent, body: &[u8]) -> Result<(), Trouble> {
    let address = webhook.address().map_err(Trouble::Lasting)?;
    let key = webhook.signing_key(&address).map_err(Trouble::Lasting)?;
    let mut request = agent
        .post(address)
        .header("content-type", "application/json")
        .header("x-tidegate-event", event.direction.word())
        .header("x-tidegate-delivery", format!("{}/{}", event.link_id, event.id));
    if let Some(key) = key {
        let signature =
            signature(key.expose_secret().as_bytes(), Time::now().0 / 1000, body).map_err(Trouble::Lasting)?;
        request = request.header("x-tidegate-signature", signature);
    }
    match request.send(body) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) if answer.status().is_redirection() => {
            Err(Trouble::Lasting(format!("it answers {}, and redirects are not followed", answer.status())))
        }
        Ok(answer) if answer.status().is_client_error() && answer.status().as_u16() != 429 => {
            Err(Trouble::Lasting(format!("it answers {}", answer.status())))
        }
        Ok(answer) => Err(Trouble::Passing(format!("it answers {}", answer.status()))),
        Err(ureq::Error::Other(error)) if error.is::<Private>() => {
            let private = "its host has a private address: set notification_allow_private = true if that is intended";
            Err(Trouble::Lasting(private.to_owned()))
        }
        Err(error) => Err(Trouble::Passing(why(&error).to_owned())),
    }
}

/// `t=SECONDS,v1=HEX`, where the hexadecimal number is the HMAC-SHA256 of `SECONDS.BODY`.
///
/// # Errors
/// There is none. An event is never sent without one.
fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| format!("it cannot be signed: {error}"))?;
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("t={seconds},v1={hex}"))
}

fn agent(allows_private: bool) -> ureq::Agent {
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots.iter().map(|der| ureq::tls::Certificate::from_der(der).to_owned()).collect();
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = http().timeout_global(Some(PATIENCE)).tls_config(tls).build();
    let resolver = Careful { allows_private, inner: DefaultResolver::default() };
    ureq::Agent::with_parts(config, DefaultConnector::default(), resolver)
}

/// Resolves names, but not into private networks, unless that is allowed.
#[derive(Debug)]
struct Careful {
    allows_private: bool,
    inner: DefaultResolver,
}

/// A name that leads into a private network.
#[derive(Debug, thiserror::Error)]
#[error("{0} is a private address: set notification_allow_private = true if that is intended")]
struct Private(IpAddr);

impl Resolver for Careful {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let private = found.iter().map(|address| address.ip()).find(|ip| is_private(*ip));
        match private.filter(|_| !self.allows_private) {
            Some(ip) => Err(ureq::Error::Other(Box::new(Private(ip)))),
            None => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected value was made with `openssl dgst -sha256 -hmac`.
    #[test]
    fn a_message_is_signed_with_its_time() {
        assert_eq!(
            signature(b"secret", 1_700_000_000, b"{}"),
            Ok("t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163".to_owned())
        );
    }
}
