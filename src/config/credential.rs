//! Credentials: passwords, tokens and signing keys that the daemon sends to a peer, or proves to
//! one that it knows. A client certificate is one, too: its key says who we are.
//!
//! Invariant: a credential is read only for the peer that gets it. A definition chooses the peers
//! of its clusters, and a broker chooses which other brokers it names; neither may choose who gets
//! a secret. The keeper of the secret does, in a list beside it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use super::reader::Item;
use super::report::{Files, Within};
use super::secret::{Allowed, FILE_BYTES_MAX, Secret};
use crate::files::given;

/// The file beside a secret that lists the peers that may get it.
const LIST: &str = "brokers";

/// A secret that goes to a peer. Its text is in no log, no error and no `Debug`.
#[derive(Clone, Debug)]
pub struct Credential {
    secret: Secret,
    /// Who may get it; `None`: every peer, since the operator's own file names both.
    bound: Option<Bound>,
}

/// Whom the keeper of a secret lets have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    list: PathBuf,
    /// Whether it may be sent without encryption to another machine.
    allows_clear_text: bool,
    /// The name that the certificate of each peer has to have, if not that of its address. Who has a certificate of this name gets the secret, so the keeper lists it, too.
    certified_as: Option<Arc<str>>,
}

/// The peers that get a credential, as the configuration names them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recipients<'a> {
    pub(super) addresses: &'a [Arc<str>],
    /// The name that all their certificates have to have, if it is not that of the address.
    pub(super) certified_as: Option<&'a Arc<str>>,
}

/// Where a credential is about to go.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// `host:port`, as the connection has it.
    pub address: &'a str,
    /// Whether the secret itself crosses the network without encryption.
    pub in_clear_text: bool,
}

/// Why a peer does not get a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Its file cannot be read. The text has nothing of what is in it.
    Unreadable(String),
    /// The list beside it does not have this address.
    Unlisted(String),
    /// The peer is another machine, and everybody between could read the secret.
    ClearText,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => f.write_str(what),
            Self::Unlisted(address) => write!(f, "the file {LIST:?} beside the secret has no line for {address}"),
            Self::ClearText => f.write_str("without TLS, other machines between here and there could read the secret"),
        }
    }
}

impl Credential {
    /// The text as it is now, for this peer. The file of the secret and the list of its peers are
    /// read each time, so that both can be changed while the daemon runs.
    ///
    /// # Errors
    /// The peer may not have it, or its file cannot be read.
    pub fn read_for(&self, peer: Peer<'_>) -> Result<SecretString, Withheld> {
        if let Some(bound) = &self.bound {
            bound.admit(peer)?;
        }
        self.secret.read().map_err(Withheld::Unreadable)
    }

    /// The same as [`Secret::parse`]. One that a definition uses is bound to the peers that its
    /// keeper lists, and these must be among them.
    pub(super) fn parse(item: &Item<'_>, base_dir: &Path, peers: Recipients<'_>) -> Option<Self> {
        let secret = Secret::parse(item, base_dir)?;
        let Files::Within(_) = item.report.files() else { return Some(Self { secret, bound: None }) };
        let bound = Bound::of(item, secret.file()?, peers, "secret may not be sent")?;
        Some(Self { secret, bound })
    }
}

impl From<&str> for Credential {
    fn from(text: &str) -> Self {
        Self { secret: text.into(), bound: None }
    }
}

impl Bound {
    /// Bind the file of a credential that a definition uses to the peers that its keeper lists, and see whether `peers` are among them. `Some(None)`: the
    /// operator's own file uses it. `what`: what would happen to it, for a message.
    pub(super) fn of(item: &Item<'_>, file: &Allowed, peers: Recipients<'_>, what: &str) -> Option<Option<Self>> {
        let Files::Within(Within { sends_in_the_clear, .. }) = item.report.files() else { return Some(None) };
        let certified_as = peers.certified_as.cloned();
        let bound =
            Self { list: file.path().with_file_name(LIST), allows_clear_text: sends_in_the_clear, certified_as };
        let refused = bound.first_unlisted(peers.addresses.iter().map(|peer| &**peer));
        item.parsed(refused.map_or(Ok(()), |address| {
            let (host, _) = split(address);
            Err(format!(
                "this {what} to {host}: add a line with that host to the file {LIST:?} in the directory of the secret"
            ))
        }))?;
        Some(Some(bound))
    }

    /// Whether the peer may have what the keeper keeps.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, peer: Peer<'_>) -> Result<(), Withheld> {
        if let Some(address) = self.first_unlisted(std::iter::once(peer.address)) {
            return Err(Withheld::Unlisted(address.to_owned()));
        }
        if peer.in_clear_text && !self.allows_clear_text && !is_near(peer.address) {
            return Err(Withheld::ClearText);
        }
        Ok(())
    }

    /// The first address that the list does not have, or the name that certificates have to have. A list that cannot be read has none.
    fn first_unlisted<'a>(&'a self, mut addresses: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let bytes = given::read(&self.list, FILE_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<&str> = lines.collect();
        let unnamed =
            self.certified_as.as_deref().filter(|name| !lines.iter().any(|line| is_host(split(line).0, name)));
        addresses.find(|address| !lines.iter().any(|line| allows(line, address))).or(unnamed)
    }
}

/// Whether an address is on this machine, whatever a name server says.
pub fn is_near(address: &str) -> bool {
    let (host, _) = split(address);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether a line of a list allows an address: a host or `*.` and a domain, each with or without a
/// port.
fn allows(line: &str, address: &str) -> bool {
    let ((allowed, allowed_port), (host, port)) = (split(line), split(address));
    let number = |port: &str| port.parse::<u16>().ok();
    let is_port = allowed_port.is_none_or(|allowed| {
        number(allowed).zip(port.and_then(number)).is_some_and(|(allowed, port)| allowed == port)
    });
    is_port && is_host(allowed, host)
}

fn is_host(allowed: &str, host: &str) -> bool {
    match (allowed.strip_prefix("*."), allowed.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        // The dot before the domain belongs to what must match.
        (Some(domain), _, _) => {
            host.len() > domain.len() + 1 && {
                let (before, end) = host.split_at(host.floor_char_boundary(host.len() - domain.len()));
                before.ends_with('.') && end.eq_ignore_ascii_case(domain)
            }
        }
        // One address can be written in several ways.
        (None, Ok(allowed), Ok(ip)) => allowed.to_canonical() == ip.to_canonical(),
        _ => host.eq_ignore_ascii_case(allowed),
    }
}

/// Host and port of an address. A text that is not clearly one of both is a host that no name has.
fn split(address: &str) -> (&str, Option<&str>) {
    let parts = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => Some((host, None)),
        Some((host, port)) => port.strip_prefix(':').map(|port| (host, Some(port))),
        None => match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => Some((host, Some(port))),
            _ => None,
        },
    };
    let (host, port) = parts.unwrap_or((address, None));
    (host.strip_suffix('.').unwrap_or(host), port)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// A bound credential, in a directory whose list has this text.
    fn bound(list: Option<&str>) -> (tempfile::TempDir, Credential) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("password");
        std::fs::write(&file, "planted").expect("a file");
        if let Some(list) = list {
            std::fs::write(dir.path().join(LIST), list).expect("a file");
        }
        let bound = Bound { list: dir.path().join(LIST), allows_clear_text: false, certified_as: None };
        (dir, Credential { secret: Secret::in_file(file), bound: Some(bound) })
    }

    fn read(credential: &Credential, address: &str, in_clear_text: bool) -> Result<String, Withheld> {
        credential.read_for(Peer { address, in_clear_text }).map(|secret| secret.expose_secret().to_owned())
    }

    /// Who has a certificate of the name that is asked for gets the secret, whatever the address is.
    #[test]
    fn the_name_of_certificates_is_listed_as_well() {
        for (list, expected) in [
            ("broker.example", false),
            ("kafka.internal", false),
            ("broker.example\nkafka.internal", true),
            ("broker.example:9092\n*.internal:9093", true),
        ] {
            let (_dir, mut credential) = bound(Some(list));
            let bound = credential.bound.as_mut().expect("bound");
            bound.certified_as = Some("kafka.internal".into());
            assert_eq!(goes_to(&credential, "broker.example:9092"), expected, "{list}");
        }
    }

    fn goes_to(credential: &Credential, address: &str) -> bool {
        match read(credential, address, false) {
            Ok(text) => text == "planted",
            Err(withheld) => {
                assert!(matches!(withheld, Withheld::Unlisted(_)), "{withheld}");
                false
            }
        }
    }

    #[test]
    fn a_credential_goes_to_the_hosts_that_are_named_beside_it_alone() {
        assert!(!goes_to(&bound(None).1, "kafka.example.com:9092"), "nothing is named");
        let text = "# those of production\nkafka.example.com\r\n\n*.eu.example.com\n::1\n10.0.0.1\n";
        let (_dir, credential) = bound(Some(text));
        for good in [
            "kafka.example.com:9092",
            "KAFKA.example.com.:1",
            "a.eu.example.com:9",
            "a.b.eu.example.com:9",
            "[::1]:9092",
            "[0:0::1]:9092",
            "10.0.0.1:9",
            "[::ffff:10.0.0.1]:9",
        ] {
            assert!(goes_to(&credential, good), "{good}");
        }
        for bad in [
            "evil.com:9092",
            "kafka.example.com.evil.com:1",
            "eu.example.com:1",
            ".eu.example.com:1",
            "xeu.example.com:1",
            "10.0.0.11:9",
            "*.eu.example.com.evil.com:1",
            "#:1",
            "ä.eu.example.comx:1",
            "[kafka.example.com:1]:9092",
            "kafka.example.com:1:9092",
            "[kafka.example.com]x:9092",
            "",
        ] {
            assert!(!goes_to(&credential, bad), "{bad}");
        }
    }

    #[test]
    fn a_line_with_a_port_allows_that_port_alone() {
        let (_dir, credential) = bound(Some("a.example.com:9093\n*.eu.example.com:9093\n[::1]:9093\n10.0.0.1:x\n"));
        for host in ["a.example.com", "b.eu.example.com", "[::1]"] {
            assert!(goes_to(&credential, &format!("{host}:9093")), "{host}");
            assert!(!goes_to(&credential, &format!("{host}:9092")), "{host}");
        }
        assert!(!goes_to(&credential, "10.0.0.1:9093"), "this line has no port");
    }

    #[test]
    fn the_list_counts_as_it_is_now() {
        let (dir, credential) = bound(Some("a.example.com\n"));
        assert!(goes_to(&credential, "a.example.com:1") && !goes_to(&credential, "b.example.com:1"));
        std::fs::write(dir.path().join(LIST), "b.example.com\n").expect("a file");
        assert!(!goes_to(&credential, "a.example.com:1") && goes_to(&credential, "b.example.com:1"));
    }

    #[test]
    fn clear_text_goes_to_this_machine_alone() {
        let (_dir, credential) = bound(Some("a.example.com\nlocalhost\n127.0.0.2\n::1\n"));
        for near in ["localhost:1", "LOCALHOST.:1", "127.0.0.2:1", "[::1]:1"] {
            assert_eq!(read(&credential, near, true), Ok("planted".to_owned()), "{near}");
        }
        assert_eq!(read(&credential, "a.example.com:1", true), Err(Withheld::ClearText));
        assert!(goes_to(&credential, "a.example.com:1"), "encrypted");
    }
}
