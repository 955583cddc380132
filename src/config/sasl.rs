//! `[clusters.NAME.security.sasl]`: how the daemon authenticates to brokers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use ureq::http::Uri;

use super::aws::AwsIdentity;
use super::credential::{Credential, Peer, Recipients, Withheld, is_near};
use super::failover::{peer_address, place, web_address};
use super::kafka::readable_file;
use super::reader::{Item, Table};
use super::report::{Files, Within};
use super::secret::is_reference;
use super::words::words;

/// The most bytes of the name that brokers know us by. That of a service account has some 100.
const USERNAME_BYTES_MAX: usize = 1_024;

/// The most bytes of a scope, and of the value of an extension.
const TEXT_BYTES_MAX: usize = 4_096;

/// The most extensions: providers ask for two or three.
const EXTENSIONS_MAX: usize = 20;

/// How the daemon authenticates to brokers.
#[derive(Clone, Debug)]
pub enum SaslConfig {
    /// The password itself.
    Plain(Login),
    /// A proof that we know the password, with SHA-256.
    ScramSha256(Login),
    /// The same with SHA-512.
    ScramSha512(Login),
    /// A bearer token.
    OAuthBearer(Bearer),
    /// A bearer token that is signed by an identity of AWS, for Amazon MSK.
    AwsMskIam(AwsIdentity),
}

/// A name and its password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub username: Arc<str>,
    /// The password.
    pub password: Credential,
}

/// OAUTHBEARER: a token, and what is sent along with it.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Where tokens come from.
    pub token: TokenSource,
    /// SASL extensions (RFC 7628): names and values.
    pub extensions: Vec<(Arc<str>, Arc<str>)>,
}

/// Where bearer tokens come from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// Somebody else renews it.
    Given(Credential),
    /// An authorization server issues it.
    Endpoint(TokenEndpoint),
}

/// The client credentials grant of OAuth 2.0 (RFC 6749, section 4.4; KIP-768).
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    /// The token endpoint: `https`, or a port of this machine.
    address: Uri,
    /// The client's id.
    pub client_id: Arc<str>,
    /// The client's secret. A definition names only one whose keeper lists the brokers and the
    /// endpoint.
    pub client_secret: Credential,
    /// The scope to request.
    pub scope: Option<Arc<str>>,
    /// The authorities that the endpoint's certificate must come from; `None`: those that the
    /// system trusts.
    pub ca_file: Option<PathBuf>,
}

impl TokenEndpoint {
    /// Where tokens are requested.
    pub fn address(&self) -> &Uri {
        &self.address
    }

    /// The address for people: scheme and host alone.
    pub fn place(&self) -> String {
        place(&self.address)
    }

    /// The client secret as it is now, for the token endpoint.
    ///
    /// # Errors
    /// The endpoint may not have it, or its file cannot be read.
    pub fn secret_for_endpoint(&self) -> Result<SecretString, Withheld> {
        let in_clear_text = is_in_the_clear(&self.address);
        self.client_secret.read_for(Peer { address: &peer_address(&self.address), in_clear_text })
    }

    fn read(table: &mut Table<'_>, address: &Item<'_>, peers: &Peers<'_>) -> Option<Self> {
        let client_id = table.required("client_id", "write client_id = \"the id that the endpoint knows\"");
        let client_secret =
            table.required("client_secret", "write client_secret = \"${env:NAME}\" or \"${file:PATH}\"");
        let scope = table.item("scope");
        let ca_file = table.item("token_ca_file").map(|item| readable_file(&item, peers.base_dir));
        let address = token_address(address);
        let client_id = client_id.and_then(|item| name(&item));
        let scope = scope.map(|item| read_scope(&item));
        let client_secret = client_secret.and_then(|item| {
            // The secret goes to the endpoint, and what it is worth to the brokers.
            let endpoint = address.iter().map(|address| Arc::from(peer_address(address)));
            let addresses: Vec<Arc<str>> = peers.recipients.addresses.iter().cloned().chain(endpoint).collect();
            let recipients = Recipients { addresses: &addresses, ..peers.recipients };
            Credential::parse(&item, peers.base_dir, recipients)
        });
        Some(Self {
            address: address?,
            client_id: client_id?,
            client_secret: client_secret?,
            scope: scope.map_or(Some(None), |scope| scope.map(Some))?,
            ca_file: ca_file.map_or(Some(None), |file| file.map(|file| Some(file.into_path())))?,
        })
    }
}

/// The keys of mechanisms with passwords.
const LOGIN_KEYS: [&str; 2] = ["username", "password"];

/// The keys of OAUTHBEARER, wherever its tokens come from.
const BEARER_KEYS: [&str; 2] = ["token", "extensions"];

/// The keys of an identity of AWS.
const AWS_KEYS: [&str; 5] = ["region", "profile", "access_key_id", "secret_access_key", "session_token"];

/// The keys of the client credentials grant.
const ENDPOINT_KEYS: [&str; 5] = ["token_endpoint", "client_id", "client_secret", "scope", "token_ca_file"];

fn token_address(item: &Item<'_>) -> Option<Uri> {
    let help = "client_id and client_secret have keys of their own";
    let address = web_address(item, "https://HOST/PATH", help)?;
    if is_in_the_clear(&address) && !is_near(&peer_address(&address)) {
        return item.parsed(Err("a client secret is sent to another machine over TLS only: write https://".to_owned()));
    }
    Some(address)
}

fn is_in_the_clear(address: &Uri) -> bool {
    address.scheme_str() != Some("https")
}

/// A scope: names with spaces between (RFC 6749, section 3.3).
fn read_scope(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.filled()?;
    let valid = text.len() <= TEXT_BYTES_MAX
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte));
    let wrong = || format!("a scope has up to {TEXT_BYTES_MAX} characters of ASCII, without quotes and backslashes");
    item.parsed(if valid { Ok(text.into()) } else { Err(wrong()) })
}

fn read_extensions(table: &mut Table<'_>) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let Some(item) = table.item("extensions") else { return Some(Vec::new()) };
    let (mut extensions, mut is_fine) = (Vec::new(), true);
    for (key, place, value) in item.table()?.named() {
        let is_name = key.bytes().all(|byte| byte.is_ascii_alphabetic()) && !key.is_empty() && key != "auth";
        if !is_name {
            let message =
                format!("{key:?} cannot be the name of an extension: it has letters of ASCII alone, and is not auth");
            item.report.error(&place, message);
        }
        let text = value.filled().and_then(|text| {
            let valid = text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            let wrong =
                || format!("the value of an extension has up to {TEXT_BYTES_MAX} printable characters of ASCII");
            value.parsed(if valid { Ok(text) } else { Err(wrong()) })
        });
        is_fine &= is_name && text.is_some();
        extensions.extend(text.map(|text| (Arc::from(key), Arc::from(text))));
    }
    if extensions.len() > EXTENSIONS_MAX {
        return item.parsed(Err(format!("it has {} entries, and {EXTENSIONS_MAX} are the limit", extensions.len())));
    }
    is_fine.then_some(extensions)
}

#[derive(Clone, Copy)]
enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
    AwsMskIam,
}

impl Mechanism {
    /// Whether the secret itself is sent to the broker, and not a proof of it alone.
    fn sends_secret(self) -> bool {
        matches!(self, Self::Plain | Self::OAuthBearer | Self::AwsMskIam)
    }
}

/// Whom a secret goes to.
pub(super) struct Peers<'a> {
    pub(super) recipients: Recipients<'a>,
    /// What the paths of secrets are relative to.
    pub(super) base_dir: &'a Path,
    pub(super) is_in_the_clear: bool,
}

impl Peers<'_> {
    /// Say that a secret would travel in the clear: of a definition that is an error, unless it
    /// does not leave this machine.
    fn refuse_clear_text(&self, mechanism: &Item<'_>) {
        let (report, place) = (mechanism.report, &mechanism.place);
        match report.files() {
            Files::Within(Within { sends_in_the_clear: false, .. })
                if !self.recipients.addresses.iter().all(|broker| is_near(broker)) =>
            {
                let message = "a definition sends no password and no token in the clear to another machine";
                let help = "write enable_tls = true under \"security\"; the daemon's file can allow it with definitions_insecure_plaintext in [daemon]";
                report.error_with_help(place, message, help);
            }
            _ => {
                let message = "without TLS, everybody between here and the brokers can read the secret";
                report.warning(place, message, "write enable_tls = true under \"security\"");
            }
        }
    }
}

/// What stands under `sasl`; `None` if something is wrong.
pub(super) fn read_sasl(item: &Item<'_>, peers: &Peers<'_>) -> Option<SaslConfig> {
    let mechanisms = [
        ("PLAIN", Mechanism::Plain),
        ("SCRAM-SHA-256", Mechanism::ScramSha256),
        ("SCRAM-SHA-512", Mechanism::ScramSha512),
        ("OAUTHBEARER", Mechanism::OAuthBearer),
        ("AWS_MSK_IAM", Mechanism::AwsMskIam),
    ];
    let mut table = item.table()?;
    let help = "write mechanism = \"SCRAM-SHA-512\", or another one that the brokers have";
    let written = table.required("mechanism", help);
    let mechanism = written.as_ref().and_then(|item| item.choice(&mechanisms));
    if let (Some(written), true) = (&written, peers.is_in_the_clear)
        && mechanism.is_some_and(Mechanism::sends_secret)
    {
        peers.refuse_clear_text(written);
    }
    let sasl = match mechanism? {
        Mechanism::OAuthBearer => read_bearer(&mut table, peers).map(SaslConfig::OAuthBearer),
        Mechanism::AwsMskIam => {
            let keys = LOGIN_KEYS.into_iter().chain(BEARER_KEYS).chain(ENDPOINT_KEYS);
            misplaced(&mut table, keys, "remove it: the identity of AWS says who we are", "AWS_MSK_IAM");
            AwsIdentity::read(&mut table, peers).map(SaslConfig::AwsMskIam)
        }
        Mechanism::Plain => read_login(&mut table, peers).map(SaslConfig::Plain),
        Mechanism::ScramSha256 => read_login(&mut table, peers).map(SaslConfig::ScramSha256),
        Mechanism::ScramSha512 => read_login(&mut table, peers).map(SaslConfig::ScramSha512),
    };
    table.finish();
    sasl
}

/// Say that these keys belong to other mechanisms.
fn misplaced(table: &mut Table<'_>, keys: impl Iterator<Item = &'static str>, help: &str, here: &str) {
    let keys: Vec<_> = keys.map(|key| (key, help)).collect();
    table.misplaced(&keys, here);
}

fn read_bearer(table: &mut Table<'_>, peers: &Peers<'_>) -> Option<Bearer> {
    misplaced(table, AWS_KEYS.into_iter(), "write mechanism = \"AWS_MSK_IAM\"", "OAUTHBEARER");
    table.misplaced(
        &[("username", "the token says who we are"), ("password", "write it as \"token\", or as \"client_secret\"")],
        "OAUTHBEARER",
    );
    let extensions = read_extensions(table);
    let token = match table.item("token_endpoint") {
        Some(address) => {
            table.misplaced(
                &[("token", "remove it: the endpoint issues tokens")],
                "OAUTHBEARER with \"token_endpoint\"",
            );
            TokenEndpoint::read(table, &address, peers).map(TokenSource::Endpoint)
        }
        None => {
            let keys = ENDPOINT_KEYS.map(|key| (key, "write token_endpoint = \"https://HOST/PATH\" beside it"));
            table.misplaced(&keys[1..], "OAUTHBEARER with \"token\"");
            let help = "write token = \"${file:PATH}\"; or token_endpoint = \"https://HOST/PATH\", client_id and client_secret";
            let token = table.required("token", help);
            token.and_then(|item| Credential::parse(&item, peers.base_dir, peers.recipients)).map(TokenSource::Given)
        }
    };
    Some(Bearer { token: token?, extensions: extensions? })
}

fn read_login(table: &mut Table<'_>, peers: &Peers<'_>) -> Option<Login> {
    let keys = BEARER_KEYS.into_iter().chain(ENDPOINT_KEYS).chain(AWS_KEYS);
    misplaced(table, keys, "write \"username\" and \"password\"", "a mechanism with passwords");
    let username = table.required("username", "write username = \"the name that the brokers know\"");
    let password = table.required("password", "write password = \"${env:NAME}\" or \"${file:PATH}\"");
    let password = password.and_then(|item| Credential::parse(&item, peers.base_dir, peers.recipients));
    let username = username.and_then(|item| name(&item));
    Some(Login { username: username?, password: password? })
}

/// The name of a user or a client.
fn name(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?;
    let text = item.parsed(match text {
        _ if is_reference(text) => Err("only secrets can come from elsewhere: write the name itself".to_owned()),
        "" => Err("a name has one character at least".to_owned()),
        text => words(text, USERNAME_BYTES_MAX),
    })?;
    Some(text.into())
}
