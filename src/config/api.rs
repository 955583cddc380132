//! `[daemon.api]`: who may use the REST API, how its connections are secured, and how much of it one client gets.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::check_id;
use super::diagnostic::Place;
use super::kafka::readable_file;
use super::reader::{Item, Table};
use super::report::Report;
use super::secret::{Allowed, Secret};

const MIB: u64 = 1 << 20;

/// Who may use the API, and how.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// How connections are encrypted; `None`: in the clear.
    pub tls: Option<ApiTls>,
    /// Whose tokens are taken.
    pub tokens: Vec<TokenConfig>,
    /// Whose client certificates are taken.
    pub clients: Vec<ClientConfig>,
    /// Tokens may be taken in the clear from other machines.
    pub insecure_plaintext: bool,
    /// `/metrics` needs no token.
    pub metrics_without_token: bool,
    /// How much one client gets.
    pub limits: ApiLimits,
    /// The file of who changed what; `None`: the log only.
    pub audit: Option<AuditConfig>,
    /// Where all this stands: errors about certificates are shown there.
    pub place: Place,
}

/// What somebody may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything but records.
    Read,
    /// Also have links do what they are defined to do, or not; and read and write records.
    Operate,
    /// Also say which links, topics and plugins there are.
    Admin,
}

impl Role {
    /// All there are, by their words.
    pub const ALL: [(&str, Self); 3] = [("read", Self::Read), ("operate", Self::Operate), ("admin", Self::Admin)];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How connections are encrypted. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTls {
    /// The certificate of the daemon, and behind it those of the authorities between.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities that clients' certificates must come from; `None`: clients need not show any.
    pub client_ca_file: Option<PathBuf>,
    /// Nobody gets a connection without a certificate.
    pub client_certificate_required: bool,
}

/// `[[daemon.api.tokens]]`: a token.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// What histories and the audit log call its owner.
    pub name: Arc<str>,
    /// What its owner may do.
    pub role: Role,
    /// The token itself.
    pub secret: Secret,
}

/// `[[daemon.api.clients]]`: a client certificate that stands for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// What histories and the audit log call its owner.
    pub name: Arc<str>,
    /// What its owner may do.
    pub role: Role,
    /// What the certificate must say.
    pub subject: Subject,
}

/// What a client certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The common name of its subject.
    CommonName(String),
    /// One of its alternative names: of a host, a URI, a mail address, or an IP address.
    AlternativeName(String),
}

/// How much one client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// Connections at a time, of all clients together.
    pub connections_max: usize,
    /// Requests a second, of each token, certificate, or address without either.
    pub requests_per_second: u32,
    /// The bytes of a request before its body.
    pub header_bytes_max: usize,
    /// The bytes of a body that is neither records nor a component.
    pub body_bytes_max: usize,
    /// The bytes of a body with records.
    pub produce_bytes_max: usize,
    /// How long a client may take for a handshake, for the header of a request, or until the next request.
    pub header_timeout: Duration,
    /// How long a body may take, and the answer to be taken; large ones longer.
    pub body_timeout: Duration,
}

/// The file of who changed what: `audit.jsonl` in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// A file of this size is put aside, and another one begun.
    pub file_bytes_max: u64,
    /// How many are kept.
    pub files_max: u32,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            // An operator, a scraper and some scripts need a dozen; each costs some ten KiB.
            connections_max: 256,
            // Nobody works by hand as fast, and a client in a loop by mistake leaves time for others.
            requests_per_second: 1000,
            // The configuration of a plugin may be in the address, which has 64 KiB at most.
            header_bytes_max: 128 << 10,
            body_bytes_max: MIB as usize,
            produce_bytes_max: 32 * MIB as usize,
            // Longer than clients keep connections that they do not use: they close them, not we.
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(30),
        }
    }
}

impl ApiConfig {
    /// Nothing said: whoever reaches the API may do everything.
    pub fn open() -> Self {
        Self {
            tls: None,
            tokens: Vec::new(),
            clients: Vec::new(),
            insecure_plaintext: false,
            metrics_without_token: false,
            limits: ApiLimits::default(),
            audit: None,
            place: Place::top(),
        }
    }

    /// Whether nobody has to say who they are.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.clients.is_empty()
    }

    /// Why the API must not be served at this address, and what to do about it.
    ///
    /// Whoever reaches an API without tokens controls the daemon; and a token that crosses a network in the clear belongs to everybody on the way. So neither
    /// may come about by forgetting something: the first never, the second if it is said.
    pub fn refuses(&self, listen: SocketAddr) -> Option<(&'static str, &'static str)> {
        if listen.ip().to_canonical().is_loopback() {
            return None;
        }
        if self.is_open() {
            return Some((
                "everybody who reaches this address could control the daemon",
                "listen on 127.0.0.1; or set tokens ([[daemon.api.tokens]], `tidegate token create` makes one) or client certificates \
                 ([[daemon.api.clients]]), and TLS (tls_cert_file and tls_key_file in [daemon.api])",
            ));
        }
        (self.tls.is_none() && !self.insecure_plaintext).then_some((
            "tokens would cross the network in the clear",
            "set tls_cert_file and tls_key_file in [daemon.api]; or, where something else encrypts, insecure_plaintext = true",
        ))
    }

    pub(super) fn read(mut table: Table<'_>, base_dir: &Path) -> Self {
        let tls = read_tls(&mut table, base_dir);
        let mut names = BTreeSet::new();
        let tokens = entries(&mut table, "tokens", &mut names, |table| {
            let secret = table.required("secret", "write secret = \"${file:PATH}\" or \"${env:NAME}\"");
            secret.and_then(|item| Secret::parse_reference(&item, base_dir))
        });
        let clients = entries(&mut table, "clients", &mut names, read_subject);
        if let (Some(place), None) = (table.place_of("clients"), table.place_of("tls_client_ca_file")) {
            let help = "write tls_client_ca_file = \"PATH\", and tls_cert_file and tls_key_file beside it";
            table.report.error_if_all_was_read(&place, "nobody can show a certificate here", help);
        }
        let (insecure_plaintext, metrics_without_token) =
            (table.flag("insecure_plaintext", false), table.flag("metrics_without_token", false));
        let limits = read_limits(&mut table);
        let audit = read_audit(&mut table);
        let place = table.place.clone();
        table.finish();
        let tokens = tokens.into_iter().map(|(name, role, secret)| TokenConfig { name, role, secret }).collect();
        let clients = clients.into_iter().map(|(name, role, subject)| ClientConfig { name, role, subject }).collect();
        Self { tls, tokens, clients, insecure_plaintext, metrics_without_token, limits, audit, place }
    }
}

fn read_tls(table: &mut Table<'_>, base_dir: &Path) -> Option<ApiTls> {
    let keys = ["tls_cert_file", "tls_key_file", "tls_client_ca_file", "tls_client_certificate_required"];
    let [cert, key, ca, required] = keys.map(|key| table.item(key));
    if let (Some(one), None) | (None, Some(one)) = (&cert, &key) {
        let message = "TLS needs both \"tls_cert_file\" and \"tls_key_file\"";
        one.report.error_if_all_was_read(&one.place, message, "write the other one too, or neither");
    }
    if let (Some(ca), None, None) = (&ca, &cert, &key) {
        let help = "write tls_cert_file and tls_key_file beside it, or remove it";
        ca.report.error_if_all_was_read(&ca.place, "this means nothing without TLS", help);
    }
    let client_certificate_required = required.as_ref().and_then(|item| item.flag()).unwrap_or(false);
    if let (Some(required), None, true) = (&required, &ca, client_certificate_required) {
        let help = "write tls_client_ca_file beside it, or remove it";
        required.report.error_if_all_was_read(&required.place, "no client certificate is known to be good", help);
    }
    let [cert, key, ca] =
        [cert, key, ca].map(|item| item.map(|item| readable_file(&item, base_dir).map(Allowed::into_path)));
    let client_ca_file = ca.map_or(Some(None), |file| file.map(Some))?;
    Some(ApiTls { cert_file: cert??, key_file: key??, client_ca_file, client_certificate_required })
}

/// Tables with a name, a role, and something that tells their owner from others.
fn entries<'a, T>(
    table: &mut Table<'a>,
    key: &'static str,
    names: &mut BTreeSet<&'a str>,
    mut mark: impl FnMut(&mut Table<'a>) -> Option<T>,
) -> Vec<(Arc<str>, Role, T)> {
    let Some(item) = table.item(key) else { return Vec::new() };
    let mut found = Vec::new();
    for mut table in item.items("an array of tables").into_iter().flatten().filter_map(|item| item.table()) {
        let name = table.required("name", "write name = \"ann\": histories and the audit log have it");
        let name = name.and_then(|item| new_name(&item, names));
        let role = table.required("role", "write role = \"read\", \"operate\" or \"admin\"");
        let role = role.and_then(|item| item.choice(&Role::ALL));
        let mark = mark(&mut table);
        table.finish();
        if let (Some(name), Some(role), Some(mark)) = (name, role, mark) {
            found.push((name.into(), role, mark));
        }
    }
    found
}

/// A name that nobody else has: what two have done could not be told apart.
fn new_name<'a>(item: &Item<'a>, names: &mut BTreeSet<&'a str>) -> Option<&'a str> {
    let name = item.text()?;
    if !check_id("token", name, &item.place, item.report) {
        return None;
    }
    let is_new = names.insert(name);
    item.parsed(if is_new { Ok(name) } else { Err(format!("{name:?} is there already: each needs its own name")) })
}

fn read_subject(table: &mut Table<'_>) -> Option<Subject> {
    let (common, alternative) = (table.item("common_name"), table.item("alternative_name"));
    let report: &Report<'_> = table.report;
    match (common, alternative) {
        (Some(common), None) => common.filled().map(|name| Subject::CommonName(name.to_owned())),
        (None, Some(name)) => name.filled().map(|name| Subject::AlternativeName(name.to_owned())),
        (None, None) => {
            let help = "write common_name = \"NAME\" or alternative_name = \"NAME\", as the certificate has it";
            report.error_if_all_was_read(&table.place, "nothing says which certificate is meant", help);
            None
        }
        (Some(_), Some(second)) => {
            report.error(&second.place, "\"common_name\" is there already: write one of the two");
            None
        }
    }
}

fn read_limits(table: &mut Table<'_>) -> ApiLimits {
    let defaults = ApiLimits::default();
    let millis = |time: Duration| time.as_millis() as u64;
    ApiLimits {
        connections_max: table.integer("connections_max", defaults.connections_max as u64, 4..=10_000) as usize,
        requests_per_second: table.integer("requests_per_second", defaults.requests_per_second.into(), 1..=1_000_000)
            as u32,
        header_bytes_max: table.size("header_bytes_max", defaults.header_bytes_max as u64, 8 << 10..=MIB) as usize,
        body_bytes_max: table.size("body_bytes_max", defaults.body_bytes_max as u64, 64 << 10..=64 * MIB) as usize,
        produce_bytes_max: table.size("produce_bytes_max", defaults.produce_bytes_max as u64, MIB..=64 * MIB) as usize,
        header_timeout: Duration::from_millis(table.duration_ms(
            "header_timeout",
            millis(defaults.header_timeout),
            1_000..=600_000,
        )),
        body_timeout: Duration::from_millis(table.duration_ms(
            "body_timeout",
            millis(defaults.body_timeout),
            1_000..=600_000,
        )),
    }
}

fn read_audit(table: &mut Table<'_>) -> Option<AuditConfig> {
    let wanted = table.flag("audit_file", false);
    let file_bytes_max = table.size("audit_file_bytes_max", 16 * MIB, 64 << 10..=1024 * MIB);
    let files_max = table.integer("audit_files_max", 8, 1..=1_000) as u32;
    wanted.then_some(AuditConfig { file_bytes_max, files_max })
}
