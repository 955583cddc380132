//! `[clusters.NAME]` with `kind = "kafka"`: where its brokers are, and how they are spoken to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::credential::{Bound, Recipients};
use super::daemon::path;
use super::diagnostic::Place;
use super::proxy::{self, ProxyConfig};
use super::reader::{Item, Table};
use super::report::Files;
use super::sasl::{Peers, SaslConfig, read_sasl};
use super::secret::{Allowed, Secret, allowed_file};
use super::tuning::{self, Tuning};
use super::words::words;
use crate::files::given;
use crate::model::{Codec, Compression};

/// Times to connect and to answer: less is a slip of the hand, and nobody wants to wait longer to hear that something is wrong.
const TIMES_MS: std::ops::RangeInclusive<u64> = 100..=600_000;

/// What brokers take as a client id in the name of a metric.
const NAME_BYTES_MAX: usize = 249;

/// A Kafka cluster.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Where brokers are asked for all others: `host:port`, one at least.
    pub brokers: Vec<Arc<str>>,
    /// What the brokers' logs and quotas call us.
    pub client_id: Arc<str>,
    /// Where the daemon is, in the words of the brokers' `broker.rack`: records are fetched from a replica there (KIP-392).
    pub client_rack: Option<Arc<str>>,
    /// How long connecting to a broker may take, handshakes included.
    pub connection_timeout: Duration,
    /// How long a broker has for an answer.
    pub request_timeout: Duration,
    /// How often in a row a lane fails at this cluster before its link is called degraded. It goes on trying.
    pub max_retries: u32,
    /// What record batches are compressed with, unless a link says otherwise.
    pub compression: Compression,
    /// How many replicas the topics get that are made here; `None`: as many as the brokers say.
    pub replication_factor: Option<i16>,
    /// How much is asked for at once, and how long things are kept.
    pub tuning: Tuning,
    /// What the brokers are reached through, if they are not reached directly.
    pub proxy: Option<ProxyConfig>,
    /// How connections are secured.
    pub security: SecurityConfig,
}

/// `[clusters.NAME.security]`: how connections are secured.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// How connections are encrypted; `None`: in the clear.
    pub tls: Option<TlsConfig>,
    /// How we say who we are; `None`: by the client certificate, or not at all.
    pub sasl: Option<SaslConfig>,
    /// Where all this stands: errors about certificates are shown there.
    pub place: Place,
}

/// How connections are encrypted. All files are PEM.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The authorities that brokers' certificates must come from; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What we show to a broker that wants to see a certificate.
    pub identity: Option<TlsIdentity>,
    /// The name that the certificate of every broker must have; `None`: the one that the broker was connected to by.
    pub server_name: Option<Arc<str>>,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// The certificate, and behind it those of the authorities between.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// What the key is encrypted with, if it is.
    pub key_password: Option<Secret>,
    /// Which brokers may see it; `None`: all of the cluster, since the operator's own file names both.
    pub bound: Option<Bound>,
}

/// The keys that only a Kafka cluster has.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().chain(tuning::KEYS).chain(proxy::KEYS)
}

const KEYS: [&str; 8] = [
    "brokers",
    "client_id",
    "client_rack",
    "connection_timeout",
    "request_timeout",
    "max_retries",
    "replication_factor",
    "security",
];

impl KafkaConfig {
    /// `None` if something is missing or wrong that has no default. The caller finishes the table.
    pub(super) fn read(table: &mut Table<'_>, base_dir: &Path) -> Option<Self> {
        let brokers = table.required("brokers", "write brokers = [\"host:9092\"]").and_then(|item| read_brokers(&item));
        let client_id = table.item("client_id").map_or(Some("tidegate"), |item| printable(&item, "a client id"));
        let client_rack = table.item("client_rack").and_then(|item| printable(&item, "a rack"));
        let connection_timeout = table.duration_ms("connection_timeout", 30_000, TIMES_MS);
        let request_timeout = table.duration_ms("request_timeout", 30_000, TIMES_MS);
        let max_retries = table.integer("max_retries", 3, 0..=1_000) as u32;
        let compression = read_compression(table, "compression", Compression::NONE);
        let replication_factor = table.item("replication_factor").and_then(|item| item.integer(1..=i16::MAX as u64));
        let (tuning, proxy) = (Tuning::read(table), ProxyConfig::read(table, base_dir));
        let security = SecurityConfig::read(table.table("security"), base_dir, brokers.as_deref().unwrap_or_default());
        Some(Self {
            brokers: brokers?,
            client_id: client_id?.into(),
            client_rack: client_rack.map(Arc::from),
            connection_timeout: Duration::from_millis(connection_timeout),
            request_timeout: Duration::from_millis(request_timeout),
            max_retries,
            compression,
            replication_factor: replication_factor.map(|replicas| replicas as i16),
            tuning,
            proxy: proxy?,
            security: security?,
        })
    }
}

fn read_brokers(item: &Item<'_>) -> Option<Vec<Arc<str>>> {
    // Not short-circuiting: every error in the array is reported.
    let brokers: Vec<_> = item.items("an array of strings")?.map(|item| broker(&item)).collect();
    if brokers.is_empty() {
        return item.parsed(Err("name one broker at least, as \"host:9092\"".to_owned()));
    }
    brokers.into_iter().collect()
}

fn broker(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?;
    let wrong = || format!("{text:?} is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"");
    item.parsed(if is_address(text) { Ok(text.into()) } else { Err(wrong()) })
}

/// A host and a port.
pub(super) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_fine = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        host_is_fine && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// A name of the DNS, or an IPv4 address. Underscores are not allowed there, and used all the same.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A name that requests carry.
fn printable<'a>(item: &Item<'a>, what: &str) -> Option<&'a str> {
    let text = item.text()?;
    let valid = !text.is_empty() && words(text, NAME_BYTES_MAX).is_ok();
    item.parsed(if valid { Ok(text) } else { Err(format!("{what} has 1 to {NAME_BYTES_MAX} printable characters")) })
}

/// What stands under `key`, with its level beside it; `otherwise` if nothing does.
pub(super) fn read_compression(table: &mut Table<'_>, key: &'static str, otherwise: Compression) -> Compression {
    let codecs = Codec::ALL.map(|codec| (codec.name(), codec));
    let written = table.item(key);
    let level = table.item("compression_level");
    let chosen = written.as_ref().map_or(Some(otherwise.codec()), |item| item.choice(&codecs));
    // Of a codec that is not known nobody knows the levels.
    let Some(codec) = chosen else { return otherwise };
    let usual = if codec == otherwise.codec() { otherwise } else { Compression::usual(codec) };
    let Some(level) = level else { return usual };
    let Some(levels) = codec.levels() else {
        let help = format!("remove it, or write {key} = \"zstd\"");
        level.report.error_with_help(&level.place, "only gzip and zstd have levels", help);
        return usual;
    };
    let level = level.integer(*levels.start() as u64..=*levels.end() as u64);
    level.and_then(|level| Compression::with_level(codec, level as i32)).unwrap_or(usual)
}

/// The compression of a link, if it says any of its own.
pub(super) fn read_own_compression(table: &mut Table<'_>) -> Option<Compression> {
    let enabled = table.item("enable_compression");
    let chosen = table.peek("compression_type").is_some();
    let says = enabled.is_some() || chosen || table.peek("compression_level").is_some();
    let read = read_compression(table, "compression_type", Compression::usual(Codec::Zstd));
    let enables = enabled.as_ref().and_then(Item::flag);
    let contradiction = match enables {
        Some(true) if read == Compression::NONE => Some("nothing is compressed: compression_type says so"),
        Some(false) if chosen && read != Compression::NONE => {
            Some("nothing is compressed, whatever compression_type says")
        }
        _ => None,
    };
    if let (Some(item), Some(message)) = (enabled, contradiction) {
        let help = "compression_type is enough: \"none\" is no compression, any other is";
        item.report.warning(&item.place, message, help);
    }
    if enables == Some(false) { Some(Compression::NONE) } else { says.then_some(read) }
}

impl SecurityConfig {
    fn read(mut table: Table<'_>, base_dir: &Path, brokers: &[Arc<str>]) -> Option<Self> {
        let place = table.place.clone();
        let tls = read_tls(&mut table, base_dir, brokers);
        let certified_as = tls.as_ref().and_then(|tls| tls.as_ref()?.server_name.as_ref());
        let recipients = Recipients { addresses: brokers, certified_as };
        let peers = Peers { recipients, base_dir, is_in_the_clear: matches!(tls, Some(None)) };
        let sasl = table.item("sasl").map(|item| read_sasl(&item, &peers));
        table.finish();
        // All before any `?`, so that all their errors are reported.
        Some(Self { tls: tls?, sasl: sasl.map_or(Some(None), |sasl| sasl.map(Some))?, place })
    }
}

/// `None` if something is wrong, `Some(None)` without TLS.
fn read_tls(table: &mut Table<'_>, base_dir: &Path, brokers: &[Arc<str>]) -> Option<Option<TlsConfig>> {
    let enabled = table.flag("enable_tls", false);
    let keys = ["tls_ca_file", "tls_cert_file", "tls_key_file", "tls_key_password", "tls_server_name"];
    let [ca_file, cert_file, key_file, key_password, server_name] = keys.map(|key| table.item(key));
    if !enabled {
        for item in [ca_file, cert_file, key_file, key_password, server_name].into_iter().flatten() {
            let help = "write enable_tls = true beside it, or remove it";
            item.report.error_if_all_was_read(&item.place, "this means nothing without TLS", help);
        }
        return Some(None);
    }
    if let (Some(one), None) | (None, Some(one)) = (&cert_file, &key_file) {
        let message = "a client certificate needs both \"tls_cert_file\" and \"tls_key_file\"";
        one.report.error_if_all_was_read(&one.place, message, "write the other one too, or neither");
    }
    if let (Some(password), None) = (&key_password, &key_file) {
        let message = "there is no key that this password decrypts";
        password.report.error_if_all_was_read(
            &password.place,
            message,
            "write \"tls_cert_file\" and \"tls_key_file\", or remove it",
        );
    }
    let key_password = key_password.map(|item| Secret::parse(&item, base_dir));
    let server_name = server_name.map(|item| server_name_of(&item));
    let recipients = Recipients { addresses: brokers, certified_as: server_name.as_ref().and_then(Option::as_ref) };
    let [ca_file, cert_file] = [ca_file, cert_file].map(|item| item.map(|item| readable_file(&item, base_dir)));
    let key = key_file.map(|item| {
        let file = readable_file(&item, base_dir)?;
        let bound = Bound::of(&item, &file, recipients, "certificate may not be shown")?;
        Some((file.into_path(), bound))
    });
    let identity = match (cert_file, key) {
        (Some(cert_file), Some(key)) => {
            let (key_file, bound) = key?;
            let key_password = key_password.map_or(Some(None), |password| password.map(Some))?;
            Some(TlsIdentity { cert_file: cert_file?.into_path(), key_file, key_password, bound })
        }
        _ => None,
    };
    let ca_file = ca_file.map_or(Some(None), |file| file.map(|file| Some(file.into_path())))?;
    let server_name = server_name.map_or(Some(None), |name| name.map(Some))?;
    Some(Some(TlsConfig { ca_file, identity, server_name }))
}

/// A file that is there.
pub(super) fn readable_file(item: &Item<'_>, base_dir: &Path) -> Option<Allowed> {
    let file = allowed_file(item, base_dir, path(item)?)?;
    if matches!(item.report.files(), Files::Rehearsed) {
        return Some(file);
    }
    item.parsed(match given::open(file.path()) {
        Ok(_) => Ok(file),
        Err(error) => Err(format!("{}: {error}", file.path().display())),
    })
}

fn server_name_of(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?;
    let valid = is_host(text) || text.parse::<std::net::IpAddr>().is_ok();
    item.parsed(if valid { Ok(text.into()) } else { Err(format!("{text:?} is not a name of a host")) })
}
