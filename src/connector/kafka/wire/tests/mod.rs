//! Connections to a real broker, and to servers that do what none does.

mod answers;
mod broker;
mod memory;
mod proxy;
mod script;
pub(super) mod tokens;

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};

use super::{Connection, Settings};
use crate::config::{ClusterKind, Config};
use crate::connector::Error;

/// What a cluster's configuration makes of these lines of its table. Paths are relative to `dir`.
fn settings(lines: &str, dir: &Path) -> Settings {
    read_settings(lines, dir).expect("settings")
}

fn read_settings(lines: &str, dir: &Path) -> Result<Settings, Error> {
    let text = format!("[clusters.k]\nkind = 'kafka'\nbrokers = ['localhost:1']\n{lines}\n");
    let (config, _) = Config::parse(&text, "test.toml", dir).expect("a configuration");
    match &config.clusters["k"].kind {
        ClusterKind::Kafka(kafka) => Settings::new(kafka),
        ClusterKind::Embedded(_) => panic!("an embedded cluster"),
    }
}

fn open(address: &str, settings: &Settings) -> Result<Connection, Error> {
    Connection::open(&Arc::from(address), settings).map_err(Error::from)
}

#[test]
fn a_file_that_is_no_certificate_or_key_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    let (key, other_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let certificate = CertificateParams::new(["a".to_owned()]).expect("a name").self_signed(&key).expect("one");
    write("ca.pem", &certificate.pem());
    write("key.pem", &key.serialize_pem());
    write("other-key.pem", &other_key.serialize_pem());
    write("empty.pem", "");
    write("broken.pem", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n");
    let of = |ca: &str, cert: &str, key: &str| {
        let files = format!("tls_ca_file = '{ca}', tls_cert_file = '{cert}', tls_key_file = '{key}'");
        let error = read_settings(&format!("security = {{ enable_tls = true, {files} }}"), dir.path()).map(drop);
        error.map_err(|error| (error.code, error.message.replace(&format!("{}/", dir.path().display()), "")))
    };
    assert_eq!(of("ca.pem", "ca.pem", "key.pem"), Ok(()));
    for (ca, cert, key, said) in [
        ("empty.pem", "ca.pem", "key.pem", "empty.pem: it has no certificate"),
        ("broken.pem", "ca.pem", "key.pem", "broken.pem: "),
        ("ca.pem", "key.pem", "key.pem", "key.pem: it has no certificate"),
        ("ca.pem", "ca.pem", "ca.pem", "ca.pem: it has no private key"),
        ("ca.pem", "ca.pem", "other-key.pem", "ca.pem with the key of other-key.pem: "),
    ] {
        let (code, message) = of(ca, cert, key).expect_err(said);
        assert!(code == "tls-files" && message.starts_with(said), "{message}");
    }
}

#[test]
fn settings_do_not_show_their_secret() {
    let lines = "security.sasl = { mechanism = 'PLAIN', username = 'alice', password = 'hunter2' }";
    let shown = format!("{:?}", settings(lines, "".as_ref()));
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}
