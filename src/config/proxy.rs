//! `proxy` of a Kafka cluster: what its brokers are reached through.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;

use super::credential::{Credential, Peer, Recipients, is_near};
use super::kafka::is_address;
use super::reader::{Item, Table};
use super::report::Files;
use super::words::words;

/// The most bytes of a name or a password, as SOCKS 5 carries them.
const TEXT_BYTES_MAX: usize = 255;

/// What the brokers of a cluster are reached through.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Where it is: `host:port`.
    pub address: Arc<str>,
    /// The name that it knows us by, and the password.
    login: Option<(Arc<str>, Credential)>,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5.
    Socks5,
    /// HTTP, with the method CONNECT.
    Http,
}

/// The keys of this file.
pub(super) const KEYS: [&str; 3] = ["proxy", "proxy_username", "proxy_password"];

impl ProxyConfig {
    /// Name and password as they are now, if it wants any.
    ///
    /// # Errors
    /// The file of the password cannot be read.
    pub fn login(&self) -> Result<Option<(String, SecretString)>, String> {
        let Some((name, password)) = &self.login else { return Ok(None) };
        let password = password.read_for(Peer { address: &self.address, in_clear_text: true });
        let password = password.map_err(|withheld| withheld.to_string())?;
        Ok(Some((name.to_string(), password)))
    }

    /// `None` if something is wrong, `Some(None)` without one.
    pub(super) fn read(table: &mut Table<'_>, base_dir: &Path) -> Option<Option<Self>> {
        let [proxy, username, password] = KEYS.map(|key| table.item(key));
        let Some(proxy) = proxy else {
            for item in [username, password].into_iter().flatten() {
                let help = "write proxy = \"socks5://HOST:PORT\" beside it, or remove it";
                item.report.error_if_all_was_read(&item.place, "this means nothing without a proxy", help);
            }
            return Some(None);
        };
        if matches!(proxy.report.files(), Files::Within(_)) {
            // It would see where the daemon connects to, and what is not encrypted.
            let help = "define the cluster in the daemon's file";
            proxy.report.error_with_help(&proxy.place, "a definition uses no proxy", help);
            return None;
        }
        if let (Some(one), None) | (None, Some(one)) = (&username, &password) {
            let message = "a login has both \"proxy_username\" and \"proxy_password\"";
            one.report.error_if_all_was_read(&one.place, message, "write the other one too, or neither");
        }
        let address = read_address(&proxy);
        let name = username.as_ref().map(read_name);
        let recipient = address.iter().map(|(_, address)| address.clone()).collect::<Vec<_>>();
        let recipients = Recipients { addresses: &recipient, certified_as: None };
        let secret = password.as_ref().map(|item| Credential::parse(item, base_dir, recipients));
        let (kind, address) = address?;
        if let Some(password) = password.filter(|_| !is_near(&address)) {
            let message = "everybody between here and the proxy can read the password";
            password.report.warning(&password.place, message, "use a proxy that knows this machine by its address");
        }
        let login = name.zip(secret).map_or(Some(None), |(name, secret)| name.zip(secret).map(Some))?;
        Some(Some(Self { kind, address, login }))
    }

    #[cfg(test)]
    pub(crate) fn for_tests(kind: ProxyKind, login: Option<(&str, &str)>) -> Self {
        let login = login.map(|(name, password)| (name.into(), password.into()));
        Self { kind, address: "127.0.0.1:1".into(), login }
    }
}

fn read_address(item: &Item<'_>) -> Option<(ProxyKind, Arc<str>)> {
    let text = item.text()?;
    let kinds = [("socks5://", ProxyKind::Socks5), ("http://", ProxyKind::Http)];
    let found = kinds.into_iter().find_map(|(scheme, kind)| Some((kind, text.strip_prefix(scheme)?)));
    let found = found.map(|(kind, address)| (kind, address.strip_suffix('/').unwrap_or(address)));
    // Nothing of the text is shown: a password may stand in it.
    item.parsed(match found {
        Some((_, address)) if address.contains('@') => {
            Err("no password stands in an address: write proxy_username and proxy_password".to_owned())
        }
        Some((kind, address)) if is_address(address) => Ok((kind, address.into())),
        _ => Err("write the address as socks5://HOST:PORT or http://HOST:PORT".to_owned()),
    })
}

fn read_name(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.filled()?;
    // In a login over HTTP a colon ends the name.
    let text = words(text, TEXT_BYTES_MAX).and_then(|text| match text.contains(':') {
        true => Err("it has a colon".to_owned()),
        false => Ok(text),
    });
    item.parsed(text).map(Arc::from)
}
