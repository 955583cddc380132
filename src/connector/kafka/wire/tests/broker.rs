//! One broker with a port for each way to secure one. It is shared by all tests here.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{LazyLock, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kafka_brokers::{Cluster, Options};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::super::{Connection, wait_readable};
use super::tokens;
use crate::connector::Error;

/// Time for what is to come. Only what is broken ever takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a session lasts on the port `RENEW`.
const SESSION: Duration = Duration::from_secs(3);

const PASSWORD: &str = "correct-horse";

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) struct World {
    cluster: Cluster,
    /// Who signs tokens that the port `JWT` believes.
    pub(super) tokens: tokens::Authority,
    /// What the broker reads: the keys of tokens again each time.
    _dir: TempDir,
    ca: Authority,
    other_ca: Authority,
}

/// Who pauses the broker has it for itself.
static WORLD: LazyLock<RwLock<World>> = LazyLock::new(|| RwLock::new(World::start()));

pub(super) fn world() -> RwLockReadGuard<'static, World> {
    WORLD.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A certificate for 127.0.0.1 and its key, as PEM.
fn certificate(authority: &Authority, is_expired: bool) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "broker.example".to_owned()]).expect("names");
    if is_expired {
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
    }
    (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

impl World {
    fn start() -> Self {
        let (ca, other_ca) = (authority("one"), authority("another"));
        let tokens = tokens::Authority::new();
        let dir = tempfile::tempdir().expect("a directory");
        let keystore = |name: &str, is_expired: bool| {
            let (certificate, key) = certificate(&ca, is_expired);
            write(dir.path(), name, &format!("{key}{certificate}"))
        };
        let module = |name: &str, options: &str| {
            format!("org.apache.kafka.common.security.{name}LoginModule required {options};")
        };
        let keys = format!("file://{}", write(dir.path(), "keys.json", &tokens.jwks()));
        let plain = module("plain.Plain", &format!("user_alice=\"{PASSWORD}\""));
        let settings = [
            (
                "listener.security.protocol.map",
                "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,EXPIRED:SSL,SASL:SASL_SSL,RENEW:SASL_PLAINTEXT,JWT:SASL_SSL",
            ),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", &keystore("broker.pem", false)),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &write(dir.path(), "ca.pem", &ca.pem())),
            ("listener.name.mutual.ssl.client.auth", "required"),
            ("listener.name.expired.ssl.keystore.location", &keystore("expired.pem", true)),
            ("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"),
            ("listener.name.sasl.plain.sasl.jaas.config", &plain),
            ("listener.name.sasl.scram-sha-256.sasl.jaas.config", &module("scram.Scram", "")),
            ("listener.name.sasl.scram-sha-512.sasl.jaas.config", &module("scram.Scram", "")),
            (
                "listener.name.sasl.oauthbearer.sasl.jaas.config",
                &module("oauthbearer.OAuthBearer", "unsecuredLoginStringClaim_sub=\"broker\""),
            ),
            ("listener.name.renew.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.renew.plain.sasl.jaas.config", &plain),
            ("listener.name.renew.plain.connections.max.reauth.ms", &SESSION.as_millis().to_string()),
            ("listener.name.jwt.sasl.enabled.mechanisms", "OAUTHBEARER"),
            ("listener.name.jwt.oauthbearer.sasl.jaas.config", &module("oauthbearer.OAuthBearer", "")),
            (
                "listener.name.jwt.oauthbearer.sasl.server.callback.handler.class",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
            ),
            ("listener.name.jwt.oauthbearer.sasl.oauthbearer.jwks.endpoint.url", &keys),
            ("listener.name.jwt.oauthbearer.sasl.oauthbearer.expected.audience", "kafka"),
            // A session is as long as its token is valid.
            ("listener.name.jwt.oauthbearer.connections.max.reauth.ms", "3600000"),
        ];
        let options = Options {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            listeners: ["TLS", "MUTUAL", "EXPIRED", "SASL", "RENEW", "JWT"].map(str::to_owned).to_vec(),
            scram: ["SCRAM-SHA-256", "SCRAM-SHA-512"]
                .map(|mechanism| format!("{mechanism}=[name=alice,password={PASSWORD}]"))
                .to_vec(),
            java_options: vec![format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}")],
            ..Options::default()
        };
        let cluster = Cluster::start(&options).expect("a broker");
        Self { cluster, tokens, _dir: dir, ca, other_ca }
    }

    pub(super) fn address(&self, listener: &str) -> String {
        let broker = &self.cluster.brokers()[0];
        broker.listener(listener).unwrap_or_else(|| broker.address()).to_string()
    }

    /// A directory with what clients need.
    pub(super) fn files(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "ca.pem", &self.ca.pem());
        write(dir.path(), "other-ca.pem", &self.other_ca.pem());
        for (name, authority, is_expired) in
            [("client", &self.ca, false), ("stranger", &self.other_ca, false), ("expired", &self.ca, true)]
        {
            let (certificate, key) = certificate(authority, is_expired);
            write(dir.path(), &format!("{name}.pem"), &certificate);
            write(dir.path(), &format!("{name}.key"), &key);
        }
        dir
    }

    pub(super) fn open(&self, listener: &str, lines: &str) -> Result<Connection, Error> {
        let files = self.files();
        super::open(&self.address(listener), &super::settings(lines, files.path()))
    }

    /// Connect and ask something. Brokers say only then that they do not take a client certificate.
    #[track_caller]
    fn refusal(&self, listener: &str, lines: &str) -> Error {
        let refused = self.open(listener, lines).and_then(|mut connection| Ok(ask(&mut connection)?));
        refused.expect_err("a refusal")
    }
}

pub(super) const TLS: &str = "security.enable_tls = true\nsecurity.tls_ca_file = 'ca.pem'\n";

pub(super) fn sasl(mechanism: &str, rest: &str) -> String {
    format!("security.sasl = {{ mechanism = '{mechanism}', {rest} }}\n")
}

fn login(password: &str) -> String {
    format!("username = 'alice', password = '{password}'")
}

/// A token that only a broker of tests believes: nobody has signed it.
fn token(subject: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let claims = format!("{{\"sub\":\"{subject}\",\"iat\":{now},\"exp\":{}}}", now + seconds);
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("token = '{}.{}.'", encode("{\"alg\":\"none\"}"), encode(&claims))
}

pub(super) fn ask(connection: &mut Connection) -> Result<usize, super::super::WireError> {
    Ok(connection.call(&MetadataRequest::default().with_topics(Some(Vec::new())))?.brokers.len())
}

#[test]
fn who_has_what_a_port_wants_is_answered() {
    let world = world();
    let client = "security.tls_cert_file = 'client.pem'\nsecurity.tls_key_file = 'client.key'\n";
    for (listener, lines) in [
        ("CLIENT", String::new()),
        ("TLS", TLS.to_owned()),
        ("TLS", format!("{TLS}security.tls_server_name = 'broker.example'\n")),
        ("MUTUAL", format!("{TLS}{client}")),
        ("SASL", format!("{TLS}{}", sasl("PLAIN", &login(PASSWORD)))),
        ("SASL", format!("{TLS}{}", sasl("SCRAM-SHA-256", &login(PASSWORD)))),
        ("SASL", format!("{TLS}{}", sasl("SCRAM-SHA-512", &login(PASSWORD)))),
        ("SASL", format!("{TLS}{}", sasl("OAUTHBEARER", &token("alice", 3600)))),
        ("RENEW", sasl("PLAIN", &login(PASSWORD))),
    ] {
        let mut connection = world.open(listener, &lines).unwrap_or_else(|error| panic!("{lines}: {error}"));
        assert_eq!(ask(&mut connection).expect("an answer"), 1, "{lines}");
        assert_eq!(connection.transaction_version(), 2);
    }
}

#[test]
fn large_requests_and_answers_go_through_tls_whole() {
    let world = world();
    let mut connection = world.open("TLS", TLS).expect("a connection");
    let name = |number: u32| TopicName(StrBytes::from_string(format!("{number:0200}")));
    let topics = (0..20_000).map(|number| MetadataRequestTopic::default().with_name(Some(name(number))));
    let request = MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(false);
    let version = connection.version_among::<MetadataRequest>(4..=12).expect("a version");
    connection.send(version, &request).expect("sent");
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        assert!(wait_readable([&connection].into_iter(), deadline).expect("a wait"), "no answer");
        if let Some(answer) = connection.try_receive().expect("an answer") {
            break answer.decode::<MetadataRequest>(version).expect("metadata");
        }
    };
    let names: BTreeSet<_> = answer.topics.into_iter().filter_map(|topic| topic.name).collect();
    assert!(names.into_iter().eq((0..20_000).map(name)));
}

#[test]
fn a_certificate_that_must_not_be_trusted_is_refused_by_name() {
    let world = world();
    for (listener, lines, code, said) in [
        ("EXPIRED", TLS.to_owned(), "tls-certificate-expired", "expired"),
        ("TLS", format!("{TLS}security.tls_server_name = 'other.example'\n"), "tls-server-name", "other.example"),
        (
            "TLS",
            "security.enable_tls = true\nsecurity.tls_ca_file = 'other-ca.pem'\n".to_owned(),
            "tls-untrusted",
            "UnknownIssuer",
        ),
    ] {
        let error = world.refusal(listener, &lines);
        assert!(error.code == code && error.message.contains(said), "{error:?}");
        assert!(error.message.starts_with(&world.address(listener)), "{error:?}");
    }
}

#[test]
fn a_broker_that_wants_another_client_certificate_is_understood() {
    let world = world();
    let with =
        |name: &str| format!("{TLS}security.tls_cert_file = '{name}.pem'\nsecurity.tls_key_file = '{name}.key'\n");
    for lines in [TLS.to_owned(), with("stranger"), with("expired")] {
        let error = world.refusal("MUTUAL", &lines);
        assert_eq!(error.code, "tls-client-certificate", "{lines} {error:?}");
    }
}

/// What is there when a connection is made counts, if it can be used: files are replaced one after
/// the other, and some are spoilt.
#[test]
fn certificates_can_be_replaced_while_the_daemon_runs() {
    let world = world();
    let files = world.files();
    let copy = |from: &str, to: &str| {
        let text = std::fs::read_to_string(files.path().join(from)).expect("a file");
        write(files.path(), to, &text);
    };
    let lines = format!("{TLS}security.tls_cert_file = 'own.pem'\nsecurity.tls_key_file = 'own.key'\n");
    copy("stranger.pem", "own.pem");
    copy("stranger.key", "own.key");
    let settings = super::settings(&lines, files.path());
    let tried = || {
        let tried = super::open(&world.address("MUTUAL"), &settings).and_then(|mut it| Ok(ask(&mut it)?));
        tried.map_err(|error| error.code)
    };
    assert_eq!(tried(), Err("tls-client-certificate"));
    copy("client.key", "own.key");
    assert_eq!(tried(), Err("tls-client-certificate"), "the certificate does not belong to the key yet");
    copy("client.pem", "own.pem");
    assert_eq!(tried(), Ok(1));
    write(files.path(), "own.pem", "");
    assert_eq!(tried(), Ok(1), "an empty file");
    std::fs::remove_file(files.path().join("own.key")).expect("it was there");
    assert_eq!(tried(), Ok(1), "no file");
    copy("ca.pem", "own-ca.pem");
    copy("other-ca.pem", "ca.pem");
    copy("client.pem", "own.pem");
    copy("client.key", "own.key");
    assert_eq!(tried(), Err("tls-untrusted"));
    copy("own-ca.pem", "ca.pem");
    assert_eq!(tried(), Ok(1));
}

#[test]
fn a_port_that_wants_something_else_is_understood() {
    let world = world();
    let plain = sasl("PLAIN", &login(PASSWORD));
    for (listener, lines, code) in [
        ("TLS", String::new(), "tls-required"),
        ("CLIENT", TLS.to_owned(), "tls-handshake"),
        ("RENEW", String::new(), "broker-hung-up"),
        ("CLIENT", plain.clone(), "sasl-mechanism-unsupported"),
        ("RENEW", sasl("SCRAM-SHA-256", &login(PASSWORD)), "sasl-mechanism-unsupported"),
    ] {
        let error = world.refusal(listener, &lines);
        assert_eq!(error.code, code, "{listener} {lines} {error:?}");
    }
    let error = world.refusal("RENEW", &sasl("SCRAM-SHA-256", &login(PASSWORD)));
    assert_eq!(error.message, format!("{} does not take SCRAM-SHA-256; it offers PLAIN", world.address("RENEW")));
}

#[test]
fn a_wrong_secret_is_refused_and_not_shown() {
    let world = world();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let error = world.refusal("SASL", &format!("{TLS}{}", sasl(mechanism, &login("hunter2"))));
        let message = format!("{} does not take user \"alice\" by {mechanism}: ", world.address("SASL"));
        assert!(error.code == "authentication-failed" && error.message.starts_with(&message), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let unknown = format!("{TLS}{}", sasl("SCRAM-SHA-512", "username = 'bob', password = 'hunter2'"));
    assert_eq!(world.refusal("SASL", &unknown).code, "authentication-failed");
    for wrong in [token("", 3600), "token = 'hunter2'".to_owned()] {
        let error = world.refusal("SASL", &format!("{TLS}{}", sasl("OAUTHBEARER", &wrong)));
        assert!(error.code == "authentication-failed" && !error.message.contains("hunter2"), "{error:?}");
    }
}

#[test]
fn a_session_is_renewed_before_it_ends() {
    let world = world();
    let mut connection = world.open("RENEW", &sasl("PLAIN", &login(PASSWORD))).expect("a connection");
    let begun = Instant::now();
    while begun.elapsed() < SESSION * 3 / 2 {
        assert_eq!(ask(&mut connection).expect("an answer"), 1);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_that_ended_while_nobody_asked_is_renewed() {
    let world = world();
    let mut connection = world.open("RENEW", &sasl("PLAIN", &login(PASSWORD))).expect("a connection");
    std::thread::sleep(SESSION + Duration::from_millis(500));
    assert_eq!(ask(&mut connection).expect("an answer"), 1);
}

#[test]
fn a_session_is_renewed_while_answers_are_always_awaited() {
    let world = world();
    let mut connection = world.open("RENEW", &sasl("PLAIN", &login(PASSWORD))).expect("a connection");
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let version = connection.version::<MetadataRequest>().expect("a version");
    let mut asked: VecDeque<i32> = VecDeque::new();
    let begun = Instant::now();
    while begun.elapsed() < SESSION * 3 / 2 {
        while asked.len() < 5 {
            asked.push_back(connection.send(version, &request).expect("sent"));
        }
        assert_eq!(connection.awaited(), 5);
        let answer = connection.receive(Instant::now() + PATIENCE).expect("an answer");
        assert_eq!(Some(answer.correlation), asked.pop_front());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_broker_that_stopped_without_a_word_is_a_time_out() {
    let world = WORLD.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let times = "connection_timeout = '200ms'\nrequest_timeout = '200ms'\n";
    let mut connection = world.open("CLIENT", times).expect("a connection");
    world.cluster.brokers()[0].pause().expect("paused");
    // Its threads stop one after the other.
    let asked = (0..1000).find_map(|_| ask(&mut connection).err()).map_or(Ok(()), |error| Err(Error::from(error)));
    let opened: Vec<_> = [("CLIENT", times.to_owned()), ("TLS", format!("{times}{TLS}"))]
        .map(|(listener, lines)| world.open(listener, &lines).map(drop))
        .to_vec();
    world.cluster.brokers()[0].resume().expect("resumed");
    let codes: Vec<_> = std::iter::once(asked).chain(opened).map(|it| it.map_err(|error| error.code)).collect();
    assert_eq!(codes, [Err("broker-timeout"); 3]);
}
