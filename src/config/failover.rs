//! `[links.ID.failover_config]`: when the target of a link takes the place of its source, and who is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use ureq::http::Uri;
use ureq::http::uri::Authority;

use super::credential::{Credential, Peer, Recipients};
use super::reader::{Item, Table};
use super::report::Files;
use super::secret::{Secret, is_reference};

/// How the address of a webhook is written.
const FORM: &str = "https://HOST/PATH";

/// Where what is secret stands instead.
const HELP: &str = "the message is signed with notification_secret";

/// How long a source may be given up after, and how long what it still has is waited for.
const PATIENCE_MS: std::ops::RangeInclusive<u64> = 1000..=24 * 3_600_000;

/// When the target of a link takes the place of its source. What is not enabled happens only when a person says so.
#[derive(Clone, Debug)]
pub struct FailoverConfig {
    /// Whether it happens by itself.
    pub enabled: bool,
    /// The records that the link may be behind.
    pub lag_records_max: u64,
    /// How long the source may be unreachable, or the link too far behind; and how long a source that came back must have answered before `auto_failback`.
    pub timeout: Duration,
    /// How often its lanes may fail at the source without a commit between.
    pub consecutive_failures_max: u64,
    /// Whether the source gets its place back by itself.
    pub auto_failback: bool,
    /// How long records are waited for that the source still has.
    pub drain_timeout: Duration,
    /// Who is told.
    pub webhook: Option<Webhook>,
}

/// Whom a failover is told.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where: its path, or what stands behind it, is what many services know their callers by.
    url: Secret,
    /// What the message is signed with.
    secret: Option<Credential>,
    /// Whether it may be in a private network, or on this machine.
    pub allows_private: bool,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            lag_records_max: 100_000,
            timeout: Duration::from_secs(60),
            consecutive_failures_max: 3,
            auto_failback: false,
            drain_timeout: Duration::from_secs(30),
            webhook: None,
        }
    }
}

impl FailoverConfig {
    pub(super) fn read(mut table: Table<'_>, base_dir: &Path) -> Self {
        let default = Self::default();
        let ms = |duration: Duration| duration.as_millis() as u64;
        let config = Self {
            enabled: table.flag("enabled", default.enabled),
            lag_records_max: table.integer("failover_threshold", default.lag_records_max, 1..=1 << 53),
            timeout: Duration::from_millis(table.integer("failover_timeout_ms", ms(default.timeout), PATIENCE_MS)),
            consecutive_failures_max: table.integer(
                "max_consecutive_failures",
                default.consecutive_failures_max,
                1..=1_000_000,
            ),
            auto_failback: table.flag("auto_failback", default.auto_failback),
            drain_timeout: Duration::from_millis(table.duration_ms(
                "drain_timeout",
                ms(default.drain_timeout),
                0..=*PATIENCE_MS.end(),
            )),
            webhook: Webhook::read(&mut table, base_dir),
        };
        table.finish();
        config
    }
}

impl Webhook {
    /// Where it is now; it is `http` or `https`. Whoever gets it must not show it.
    ///
    /// # Errors
    /// The file that has it cannot be read, or has no address. The message has nothing of what is in it.
    pub fn address(&self) -> Result<Uri, String> {
        web_uri(self.url.read()?.expose_secret(), FORM, HELP)
    }

    /// What a message to this address is signed with, if it is signed.
    ///
    /// # Errors
    /// The host may not have it, or its file cannot be read.
    pub fn signing_key(&self, address: &Uri) -> Result<Option<SecretString>, String> {
        let Some(secret) = &self.secret else { return Ok(None) };
        // A signature has nothing of the secret that could be read on the way.
        let peer = Peer { address: &peer_address(address), in_clear_text: false };
        let withheld = |withheld| format!("the message was not signed, so it was not sent: {withheld}");
        secret.read_for(peer).map(Some).map_err(withheld)
    }

    /// The address for people: scheme and host alone.
    pub fn place(&self) -> String {
        self.address().map_or_else(|_| "a webhook whose address cannot be read".to_owned(), |url| place(&url))
    }

    fn read(table: &mut Table<'_>, base_dir: &Path) -> Option<Self> {
        let url = table.item("notification_webhook");
        let secret = table.item("notification_secret");
        let private = table.item("notification_allow_private");
        let Some(url) = url else {
            for item in [&secret, &private].into_iter().flatten() {
                let help = "write notification_webhook = \"https://…\"";
                item.report.error_with_help(&item.place, "nobody is to be told", help);
            }
            return None;
        };
        let allows_private = private.and_then(|item| item.flag()).unwrap_or(false);
        let text = url.text()?;
        // An address may be written here, as it always could.
        let origin = if is_reference(text) { Secret::parse(&url, base_dir)? } else { Secret::from(text) };
        let mut webhook = Self { url: origin, secret: None, allows_private };
        if matches!(url.report.files(), Files::Rehearsed) && is_reference(text) {
            webhook.secret = secret.and_then(|item| Credential::parse(&item, base_dir, Recipients::default()));
            return Some(webhook);
        }
        let address = url.parsed(webhook.address())?;
        // A signature is enough to try passwords against it.
        let place: Arc<str> = peer_address(&address).into();
        webhook.secret = secret.and_then(|item| {
            Credential::parse(&item, base_dir, Recipients { addresses: &[place], certified_as: None })
        });
        if !allows_private && is_known_to_be_private(&address) {
            let message = "nobody will be told: this is a private address";
            url.report.warning(&url.place, message, "set notification_allow_private = true if that is intended");
        }
        Some(webhook)
    }
}

/// `host:port` of an address, with the usual port where it names none.
pub(super) fn peer_address(url: &Uri) -> String {
    let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
    format!("{}:{}", url.host().unwrap_or_default(), url.port_u16().unwrap_or(usual))
}

/// Whether something stands where a port does.
fn has_port(authority: &Authority) -> bool {
    authority.as_str().len() > authority.host().len()
}

/// Whether an address is private whatever a name server says.
fn is_known_to_be_private(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(|ip: IpAddr| is_private(ip))
}

/// The address of something that takes HTTP. `help` says where what is secret stands instead.
pub(super) fn web_address(item: &Item<'_>, form: &str, help: &str) -> Option<Uri> {
    item.parsed(web_uri(item.text()?, form, help))
}

/// The address that a text is. Nothing of the text is in an error.
fn web_uri(text: &str, form: &str, help: &str) -> Result<Uri, String> {
    let wrong = || format!("write the address as {form}");
    text.parse::<Uri>().map_err(|_| wrong()).and_then(|url| match (url.scheme_str(), url.authority()) {
        // What stands there would be in each log and answer that names the address.
        (_, Some(authority)) if authority.as_str().contains('@') => {
            Err(format!("no password stands in an address: {help}"))
        }
        (_, Some(authority)) if authority.port_u16().is_none() && has_port(authority) => {
            Err("a port is a number up to 65535".to_owned())
        }
        // What a redacted address was taken from is not known here.
        (Some("http" | "https"), Some(_)) if url.path() == HIDDEN_PATH => {
            Err("this is a redacted address: write the address itself, or leave it out".to_owned())
        }
        (Some("http" | "https"), Some(authority)) if !authority.host().is_empty() => Ok(url),
        _ => Err(wrong()),
    })
}

/// What stands in place of all that comes behind the host.
const HIDDEN_PATH: &str = "/***";

/// Scheme and host of an address: what may be shown of one that holds a key.
pub fn place(url: &Uri) -> String {
    format!("{}://{}", url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default())
}

/// A written address as it is shown. References show where the address is, and not what it is; of what is no address nothing is shown.
pub fn redacted(text: &str) -> String {
    match web_uri(text, FORM, HELP) {
        _ if is_reference(text) => text.to_owned(),
        Ok(url) => format!("{}{HIDDEN_PATH}", place(&url)),
        Err(_) => HIDDEN_PATH.to_owned(),
    }
}

/// Whether an address is of this machine or of a network that the world does not see, whatever form it is written in.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => {
            let [first, second, third, ..] = ip.segments();
            // Deprecated site-local addresses, and the part of NAT64 that a network uses for itself.
            let is_local = first & 0xffc0 == 0xfec0 || [first, second, third] == [0x64, 0xff9b, 1];
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || is_local
                || embedded(ip).any(is_private_v4)
        }
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [first, second, third, _] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let special = first == 0 || first >= 240 || [first, second, third] == [192, 0, 0];
    let benchmarks = first == 198 && [18, 19].contains(&second);
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || shared || special || benchmarks
}

/// The IPv4 addresses that an IPv6 address may lead to: gateways of 6to4, NAT64, Teredo and ISATAP pass packets on to what is embedded in it.
fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let parts = ip.segments();
    let at = |index: usize| {
        let [one, other] = [parts[index], parts[index + 1]].map(u16::to_be_bytes);
        Ipv4Addr::from([one[0], one[1], other[0], other[1]])
    };
    let last = at(6);
    let ends_with_it = match parts {
        // Compatible, translated (RFC 2765), NAT64.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => true,
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => true,
        _ => false,
    };
    let relay = (parts[0] == 0x2002).then(|| at(1));
    let teredo = (parts[..2] == [0x2001, 0]).then(|| [at(2), Ipv4Addr::from(!u32::from(last))]);
    ends_with_it.then_some(last).into_iter().chain(relay).chain(teredo.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_private_is_known_without_asking() {
        let is_private = |text: &str| is_known_to_be_private(&text.parse().expect("an address"));
        for text in [
            "http://LOCALHOST/",
            "https://a.localhost:1/x",
            "https://127.0.0.1./",
            "http://[::1]:80/",
            "http://10.1.1.1",
        ] {
            assert!(is_private(text), "{text}");
        }
        for text in ["https://example.com/", "https://localhost.example.com", "http://8.8.8.8:443/"] {
            assert!(!is_private(text), "{text}");
        }
    }

    #[test]
    fn private_networks_are_known() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.169.254", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("0.0.0.0", true),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("0.1.2.3", true),
            ("198.18.0.1", true),
            ("240.0.0.1", true),
            ("fec0::1", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:8.8.8.8", false),
            ("::10.0.0.1", true),
            ("::8.8.8.8", false),
            ("::ffff:0:169.254.169.254", true),
            ("64:ff9b::169.254.169.254", true),
            ("64:ff9b::8.8.8.8", false),
            ("64:ff9b:1::808:808", true),
            ("2002:a9fe:a9fe::1", true),
            ("2002:808:808::1", false),
            // Teredo: its server, and inverted, its client.
            ("2001:0:7f00:1::f7f7:f7f7", true),
            ("2001:0:808:808::8000:fffe", true),
            ("2001:0:808:808::f7f7:f7f7", false),
            ("2a00::5efe:10.0.0.1", true),
            ("2a00::200:5efe:8.8.8.8", false),
            ("2001:4860:4860::8888", false),
        ] {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(is_private(ip), expected, "{text}");
        }
    }
}
