//! Clusters of `kind = "kafka"`, and secrets.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::config::{
    AwsIdentity, AwsSource, Bearer, ClusterKind, Config, Credential, Isolation, KafkaConfig, Peer, ProxyKind,
    SaslConfig, TlsConfig, TlsIdentity, TokenEndpoint, TokenSource, Tuning,
};
use crate::model::{Codec, Compression};

use super::{base_dir, check, config, parse, show};

/// A Kafka cluster without a fault, of three lines. More of it can follow.
const CLUSTER: &str = "[clusters.k]\nkind = 'kafka'\nbrokers = ['a:9092']\n";

fn kafka<'a>(config: &'a Config, id: &str) -> &'a KafkaConfig {
    match &config.clusters[id].kind {
        ClusterKind::Kafka(kafka) => kafka,
        ClusterKind::Embedded(_) => panic!("{id} is embedded"),
    }
}

/// Any: what stands in the file is for all brokers.
const BROKER: Peer<'_> = Peer { address: "b:1", in_clear_text: true };

fn read(secret: &Credential) -> String {
    secret.read_for(BROKER).expect("a secret").expose_secret().to_owned()
}

fn file(name: &str, text: &str) {
    std::fs::write(base_dir().join(name), text).expect("file");
}

#[test]
fn what_a_kafka_cluster_leaves_out_has_its_default() {
    let config = config(CLUSTER);
    let found = kafka(&config, "k");
    assert_eq!((&found.brokers[..], &*found.client_id), (&["a:9092".into()][..], "tidegate"));
    assert_eq!((found.connection_timeout, found.request_timeout), (Duration::from_secs(30), Duration::from_secs(30)));
    assert_eq!(found.compression, Compression::NONE);
    assert_eq!(found.replication_factor, None);
    assert!(found.security.tls.is_none() && found.security.sasl.is_none() && found.proxy.is_none());
    assert_eq!(found.tuning, Tuning::default());
    assert!(config.clusters["k"].topics.is_empty());
}

#[test]
fn every_setting_of_a_kafka_cluster_can_differ_from_its_default() {
    for name in ["all-ca.pem", "all-cert.pem", "all-key.pem"] {
        file(name, "");
    }
    file("all-key-password", "kafka-key\n");
    let config = config(
        r#"
        [clusters.k]
        kind = "kafka"
        brokers = ["broker1.example.com:9092", "[::1]:65535", "10.0.0.1:1"]
        client_id = "east to west"
        connection_timeout = "5s"
        request_timeout = "10m"
        compression = "zstd"
        compression_level = 22
        replication_factor = 3
        topics.t = { partitions = 4, retention = "7d", retention_bytes = "1GiB" }
        [clusters.k.security]
        enable_tls = true
        tls_ca_file = "all-ca.pem"
        tls_cert_file = "all-cert.pem"
        tls_key_file = "all-key.pem"
        tls_key_password = "${file:all-key-password}"
        tls_server_name = "kafka.internal"
        [clusters.k.security.sasl]
        mechanism = "SCRAM-SHA-512"
        username = "tidegate"
        password = "${env:CARGO_PKG_NAME}"
        "#,
    );
    let found = kafka(&config, "k");
    assert_eq!(found.brokers[..], ["broker1.example.com:9092".into(), "[::1]:65535".into(), "10.0.0.1:1".into()]);
    assert_eq!(&*found.client_id, "east to west");
    assert_eq!((found.connection_timeout, found.request_timeout), (Duration::from_secs(5), Duration::from_secs(600)));
    assert_eq!(Some(found.compression), Compression::with_level(Codec::Zstd, 22));
    assert_eq!(found.replication_factor, Some(3));
    let topic = &config.clusters["k"].topics["t"];
    assert_eq!((topic.partitions, topic.retention_ms, topic.retention_bytes), (4, Some(604_800_000), Some(1 << 30)));
    let path = |name: &str| base_dir().join(name);
    let TlsConfig { ca_file, identity, server_name } = found.security.tls.clone().expect("TLS");
    assert_eq!((ca_file, server_name.as_deref()), (Some(path("all-ca.pem")), Some("kafka.internal")));
    let TlsIdentity { cert_file, key_file, key_password, bound } = identity.expect("an identity");
    assert_eq!((cert_file, key_file, bound), (path("all-cert.pem"), path("all-key.pem"), None));
    assert_eq!(
        key_password.and_then(|password| password.read().ok()).expect("a password").expose_secret(),
        "kafka-key"
    );
    let Some(SaslConfig::ScramSha512(login)) = &found.security.sasl else { panic!("{:?}", found.security.sasl) };
    assert_eq!((&*login.username, &*read(&login.password)), ("tidegate", env!("CARGO_PKG_NAME")));
}

/// A cluster with TLS whose `sasl` is this.
fn with_sasl(sasl: &str) -> String {
    format!("{CLUSTER}security.enable_tls = true\nsecurity.sasl = {{ {sasl} }}\n")
}

#[test]
fn every_mechanism_has_its_name() {
    file("mechanisms", "xyz");
    let of = |mechanism: &str, rest: &str| {
        let config = config(&with_sasl(&format!("mechanism = '{mechanism}', {rest}")));
        kafka(&config, "k").security.sasl.clone().expect("sasl")
    };
    let login = "username = 'u', password = '${file:mechanisms}'";
    assert!(matches!(of("PLAIN", login), SaslConfig::Plain(_)));
    assert!(matches!(of("SCRAM-SHA-256", login), SaslConfig::ScramSha256(_)));
    assert!(matches!(of("SCRAM-SHA-512", login), SaslConfig::ScramSha512(_)));
    assert!(matches!(of("OAUTHBEARER", "token = '${file:mechanisms}'"), SaslConfig::OAuthBearer(_)));
}

#[test]
fn a_secret_in_a_file_can_be_replaced_while_the_daemon_runs() {
    file("token", "first\r\n");
    let config = config(&with_sasl("mechanism = 'OAUTHBEARER', token = '${file:token}'"));
    let Some(SaslConfig::OAuthBearer(Bearer { token: TokenSource::Given(token), .. })) =
        &kafka(&config, "k").security.sasl
    else {
        panic!("no token")
    };
    assert_eq!(read(token), "first");
    file("token", "second");
    assert_eq!(read(token), "second");
    file("token", "");
    let error = token.read_for(BROKER).expect_err("an empty file");
    assert_eq!(error.to_string(), format!("{}: it is empty", base_dir().join("token").display()));
}

/// Names and values.
type Extensions = [(Arc<str>, Arc<str>)];

fn endpoint(config: &Config) -> (&TokenEndpoint, &Extensions) {
    match &kafka(config, "k").security.sasl {
        Some(SaslConfig::OAuthBearer(Bearer { token: TokenSource::Endpoint(endpoint), extensions })) => {
            (endpoint, extensions)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_can_come_from_an_endpoint() {
    file("client-secret", "xyz\n");
    file("token-ca.pem", "");
    let found = config(&with_sasl(
        "mechanism = 'OAUTHBEARER', token_endpoint = 'https://login.example.com/a?b=c', client_id = 'tide', \
         client_secret = '${file:client-secret}', scope = 'kafka read', token_ca_file = 'token-ca.pem', \
         extensions = { logicalCluster = 'lkc-1', identityPoolId = 'pool 1' }",
    ));
    let (found, extensions) = endpoint(&found);
    assert_eq!(
        (found.place(), found.address().to_string()),
        ("https://login.example.com".to_owned(), "https://login.example.com/a?b=c".to_owned())
    );
    assert_eq!((&*found.client_id, found.scope.as_deref()), ("tide", Some("kafka read")));
    assert_eq!(found.ca_file, Some(base_dir().join("token-ca.pem")));
    assert_eq!(found.secret_for_endpoint().expect("a secret").expose_secret(), "xyz");
    let extensions: Vec<_> = extensions.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(extensions, [("identityPoolId", "pool 1"), ("logicalCluster", "lkc-1")]);
    for near in ["http://127.0.0.1:8080/token", "http://[::1]/", "http://localhost:1"] {
        let found = config(&with_sasl(&format!(
            "mechanism = 'OAUTHBEARER', token_endpoint = '{near}', client_id = 't', client_secret = '${{file:client-secret}}'"
        )));
        assert!(endpoint(&found).0.ca_file.is_none(), "{near}");
    }
}

#[test]
fn what_is_wrong_with_a_token_endpoint_is_said_at_once() {
    file("client-secret", "xyz\n");
    let sasl = |rest: &str| with_sasl(&format!("mechanism = 'OAUTHBEARER', {rest}"));
    check(
        &sasl(
            "token_endpoint = 'http://login.example.com/', token = 'x', extensions = { 'a-b' = 'c', auth = 'd', e = 'é', f = 1 }",
        ),
        &[
            "5:17 error clusters.k.security.sasl: \"client_id\" is missing | write client_id = \"the id that the endpoint knows\"",
            "5:17 error clusters.k.security.sasl: \"client_secret\" is missing | write client_secret = \"${env:NAME}\" or \"${file:PATH}\"",
            "5:63 error clusters.k.security.sasl.token_endpoint: a client secret is sent to another machine over TLS only: write https://",
            "5:92 error clusters.k.security.sasl.token: \"token\" is not a key of OAUTHBEARER with \"token_endpoint\" | remove it: the endpoint issues tokens",
            "5:120 error clusters.k.security.sasl.extensions.a-b: \"a-b\" cannot be the name of an extension: it has letters of ASCII alone, and is not auth",
            "5:133 error clusters.k.security.sasl.extensions.auth: \"auth\" cannot be the name of an extension: it has letters of ASCII alone, and is not auth",
            "5:149 error clusters.k.security.sasl.extensions.e: the value of an extension has up to 4096 printable characters of ASCII",
            "5:158 error clusters.k.security.sasl.extensions.f: expected a string, found a whole number",
        ],
    );
    check(
        &sasl("token = '${file:client-secret}', client_id = 'a', scope = 'b'"),
        &[
            "5:79 error clusters.k.security.sasl.client_id: \"client_id\" is not a key of OAUTHBEARER with \"token\" | write token_endpoint = \"https://HOST/PATH\" beside it",
            "5:96 error clusters.k.security.sasl.scope: \"scope\" is not a key of OAUTHBEARER with \"token\" | write token_endpoint = \"https://HOST/PATH\" beside it",
        ],
    );
    let with =
        |rest: &str| sasl(&format!("client_secret = '${{file:client-secret}}', token_endpoint = 'https://a/', {rest}"));
    check(
        &with("client_id = '${env:A}', scope = 'a\"b', token_ca_file = 'none.pem'"),
        &[
            "5:130 error clusters.k.security.sasl.client_id: only secrets can come from elsewhere: write the name itself",
            "5:150 error clusters.k.security.sasl.scope: a scope has up to 4096 characters of ASCII, without quotes and backslashes",
            "5:173 error clusters.k.security.sasl.token_ca_file: BASE/none.pem: No such file or directory (os error 2)",
        ],
    );
    for wrong in ["login.example.com", "ftp://a/", "https://a:99999/", "https://user:pw@a/"] {
        let text =
            sasl(&format!("client_id = 'a', client_secret = '${{file:client-secret}}', token_endpoint = '{wrong}'"));
        let found = parse(&text).expect_err(wrong);
        assert!(found.iter().all(|found| !found.to_string().contains("pw@")), "{found:?}");
    }
}

#[test]
fn an_identity_of_aws_has_its_keys_in_one_of_three_places() {
    file("aws-id", "AKIA");
    file("aws-key", "key\n");
    file("aws-session", "planted");
    let of = |rest: &str| {
        let config = config(&with_sasl(&format!("mechanism = 'AWS_MSK_IAM', region = 'eu-central-1'{rest}")));
        match kafka(&config, "k").security.sasl.clone() {
            Some(SaslConfig::AwsMskIam(identity)) => identity,
            other => panic!("{other:?}"),
        }
    };
    let read = |identity: &AwsIdentity| {
        let written = identity.read_for(BROKER).expect("keys");
        AwsIdentity::split(&written).map(|(id, key, token)| {
            let token = token.map(|token| token.expose_secret().to_owned());
            (id.expose_secret().to_owned(), key.expose_secret().to_owned(), token)
        })
    };
    assert!(matches!(of("").source, AwsSource::Surroundings));
    assert!(matches!(of(", profile = 'p'").source, AwsSource::Profile(name) if &*name == "p"));
    let keys = ", access_key_id = 'AKIA', secret_access_key = '${file:aws-key}'";
    assert_eq!(read(&of(keys)), Some(("AKIA".to_owned(), "key".to_owned(), None)));
    let keys = ", access_key_id = '${file:aws-id}', secret_access_key = '${file:aws-key}', session_token = '${file:aws-session}'";
    let identity = of(keys);
    assert_eq!(read(&identity), Some(("AKIA".to_owned(), "key".to_owned(), Some("planted".to_owned()))));
    assert!(!format!("{identity:?}").contains("planted"), "{identity:?}");
    file("aws-key", "two\nlines");
    assert_eq!(identity.read_for(BROKER).expect_err("two lines").to_string(), "a key of AWS has one line");
}

#[test]
fn what_is_wrong_with_an_identity_of_aws_is_said_at_once() {
    file("aws-key", "key");
    let sasl = |rest: &str| with_sasl(&format!("mechanism = 'AWS_MSK_IAM', {rest}"));
    check(
        &sasl("region = 'EU.evil.com/', username = 'u', token = 't', session_token = '${file:aws-key}'"),
        &[
            "5:55 error clusters.k.security.sasl.region: \"EU.evil.com/\" is no region, like \"eu-central-1\"",
            "5:71 error clusters.k.security.sasl.username: \"username\" is not a key of AWS_MSK_IAM | remove it: the identity of AWS says who we are",
            "5:87 error clusters.k.security.sasl.token: \"token\" is not a key of AWS_MSK_IAM | remove it: the identity of AWS says who we are",
            "5:116 error clusters.k.security.sasl.session_token: this token belongs to keys that are not here | write access_key_id and secret_access_key beside it",
        ],
    );
    check(
        &sasl("secret_access_key = '${file:aws-key}', profile = 'p'"),
        &[
            "5:17 error clusters.k.security.sasl: \"region\" is missing | write region = \"eu-central-1\", or another one",
            "5:66 error clusters.k.security.sasl.secret_access_key: the keys are both \"access_key_id\" and \"secret_access_key\" | write the other one too, or neither",
        ],
    );
    check(
        &sasl("region = 'a', access_key_id = 'b', secret_access_key = '${file:aws-key}', profile = 'p'"),
        &["5:130 error clusters.k.security.sasl.profile: the keys are written here | remove it, or them"],
    );
    check(
        &with_sasl("mechanism = 'OAUTHBEARER', token = '${file:aws-key}', region = 'a'"),
        &[
            "5:73 error clusters.k.security.sasl.region: \"region\" is not a key of OAUTHBEARER | write mechanism = \"AWS_MSK_IAM\"",
        ],
    );
}

#[test]
fn a_password_that_stands_in_the_file_is_a_warning_and_is_not_shown() {
    let text = with_sasl("mechanism = 'PLAIN', username = 'u', password = 'hunter2'");
    let (config, warnings) = parse(&text).expect("settings");
    assert_eq!(
        show(&warnings),
        "5:67 warning clusters.k.security.sasl.password: a secret stands here for everybody to read | \
         write \"${env:NAME}\" or \"${file:PATH}\""
    );
    assert!(!warnings[0].to_string().contains("hunter2"), "{}", warnings[0]);
    let Some(SaslConfig::Plain(login)) = &kafka(&config, "k").security.sasl else { panic!("no login") };
    assert_eq!(read(&login.password), "hunter2");
}

#[test]
fn nothing_shows_a_secret() {
    file("hidden", "from-the-file");
    let text = format!(
        "{}\n[clusters.l]\nkind = 'kafka'\nbrokers = ['b:1']\n[clusters.l.security]\nenable_tls = true\n[clusters.l.security.sasl]\n\
         mechanism = 'OAUTHBEARER'\ntoken = '${{file:hidden}}'\n",
        with_sasl("mechanism = 'PLAIN', username = 'u', password = 'hunter2'")
    );
    let (config, _) = parse(&text).expect("settings");
    let shown = format!("{config:?} {config:#?}");
    assert!(shown.contains("a:9092") && shown.contains("hidden"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("from-the-file"), "{shown}");
}

#[test]
fn errors_around_a_secret_do_not_show_its_line() {
    for text in [
        with_sasl("mechanism = 'PLAIN', username = 'u', pasword = 'hunter2'"),
        with_sasl("mechanism = 'PLAN', username = 'u', password = 'hunter2'"),
        with_sasl("mechanism = 'OAUTHBEARER', username = 'hunter2'"),
        with_sasl("mechanism = 'PLAIN' username = 'u', password = 'hunter2'"),
        with_sasl("mechanism = 'PLAIN', username = 'u', password = ['hunter2']"),
        format!("{CLUSTER}[clusters.k.security.sasl]\nmechanism = 'PLAIN'\nusername = 'u'\nPASSWORD = 'hunter2\n"),
        format!("{CLUSTER}[clusters.k.security.sasl]\nmechanism = 'PLAIN'\nusername = 'u'\npasswort = 'hunter2'\n"),
    ] {
        let found = parse(&text).expect_err(&text);
        let shown: String = found.iter().map(ToString::to_string).collect();
        assert!(!shown.contains("hunter2"), "{shown}");
        let json = serde_json::to_string(&found).expect("json");
        assert!(!json.contains("hunter2"), "{json}");
    }
}

#[test]
fn secrets_that_cannot_be_had_say_so() {
    file("binary", "\0");
    std::fs::write(base_dir().join("latin1"), b"\xe4").expect("file");
    file("long", &"x".repeat((64 << 10) + 1));
    for (written, message) in [
        (
            "${env:TIDEGATE_HAS_NO_SUCH_VARIABLE}",
            "there is no variable TIDEGATE_HAS_NO_SUCH_VARIABLE in the environment",
        ),
        ("${env:a=b}", "this is no name of a variable"),
        ("${file:none}", "BASE/none: No such file or directory (os error 2)"),
        ("${file:latin1}", "BASE/latin1: it is not UTF-8"),
        ("${file:long}", "BASE/long: it has more than 64 KiB"),
        ("${vault:x}", "write ${env:NAME} or ${file:PATH}"),
        ("${env:}", "write ${env:NAME} or ${file:PATH}"),
        ("${env:x", "write ${env:NAME} or ${file:PATH}"),
        ("", "it is empty"),
    ] {
        let text = with_sasl(&format!("mechanism = 'OAUTHBEARER', token = '{written}'"));
        check(&text, &[&format!("5:54 error clusters.k.security.sasl.token: {message}")]);
    }
}

#[test]
fn keys_of_the_other_kind_say_where_they_belong() {
    check(
        "[clusters.e]\nkind = 'embedded'\nbrokers = ['a:1']\nsecurity = {}\nmax_retries = 1\n\
         [clusters.k]\nkind = 'kafka'\nbrokers = ['a:1']\npath = 'x'\n",
        &[
            "3:1 error clusters.e.brokers: \"brokers\" is not a key of an embedded cluster | remove it, or write kind = \"kafka\"",
            "4:1 error clusters.e.security: \"security\" is not a key of an embedded cluster | remove it, or write kind = \"kafka\"",
            "5:1 error clusters.e.max_retries: \"max_retries\" is not a key of an embedded cluster | remove it, or write kind = \"kafka\"",
            "9:1 error clusters.k.path: \"path\" is not a key of a Kafka cluster | remove it: \"brokers\" says where the cluster is",
        ],
    );
}

#[test]
fn brokers_are_hosts_with_ports() {
    check(
        "[clusters.k]\nkind = 'kafka'\nbrokers = ['a', 'a:0', 'a:65536', ':1', 'kafka://a:1', 'a:+1', '::1:9092', '[a]:1', 1, 'a b:1']\n\
         [clusters.l]\nkind = 'kafka'\nbrokers = []\n[clusters.m]\nkind = 'kafka'\n[clusters.n]\nkind = 'kafka'\nbrokers = 'a:1'\n",
        &[
            "3:12 error clusters.k.brokers[0]: \"a\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:17 error clusters.k.brokers[1]: \"a:0\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:24 error clusters.k.brokers[2]: \"a:65536\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:35 error clusters.k.brokers[3]: \":1\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:41 error clusters.k.brokers[4]: \"kafka://a:1\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:56 error clusters.k.brokers[5]: \"a:+1\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:64 error clusters.k.brokers[6]: \"::1:9092\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:76 error clusters.k.brokers[7]: \"[a]:1\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "3:85 error clusters.k.brokers[8]: expected a string, found a whole number",
            "3:88 error clusters.k.brokers[9]: \"a b:1\" is not a host and a port: write them like \"broker1:9092\" or \"[::1]:9092\"",
            "6:11 error clusters.l.brokers: name one broker at least, as \"host:9092\"",
            "7:1 error clusters.m: \"brokers\" is missing | write brokers = [\"host:9092\"]",
            "11:11 error clusters.n.brokers: expected an array of strings, found a string",
        ],
    );
}

#[test]
fn what_is_wrong_with_a_kafka_cluster_is_said_at_once() {
    check(
        &format!(
            "{CLUSTER}client_id = ''\nconnection_timeout = 30\nrequest_timeout = '99ms'\ncompression = 'lz4'\ncompression_level = 1\n\
             replication_factor = 0\n[clusters.l]\nkind = 'kafka'\nbrokers = ['a:1']\ncompression = 'gzip'\ncompression_level = 10\n"
        ),
        &[
            "4:13 error clusters.k.client_id: a client id has 1 to 249 printable characters",
            "5:22 error clusters.k.connection_timeout: expected a duration: a string like \"7d\", found a whole number",
            "6:19 error clusters.k.request_timeout: 99ms is out of range: write a duration from 100ms to 10m",
            "8:21 error clusters.k.compression_level: only gzip and zstd have levels | remove it, or write compression = \"zstd\"",
            "9:22 error clusters.k.replication_factor: 0 is out of range: write a number from 1 to 32767",
            "14:21 error clusters.l.compression_level: 10 is out of range: write a number from 1 to 9",
        ],
    );
}

#[test]
fn what_is_wrong_with_security_is_said_at_once() {
    file("security.pem", "");
    check(
        &format!(
            "{CLUSTER}[clusters.k.security]\ntls_ca_file = 'security.pem'\n[clusters.k.security.sasl]\nmechanism = 'PLAIN'\n\
             username = '${{env:USER}}'\ntoken = 'x'\n\
             [clusters.l]\nkind = 'kafka'\nbrokers = ['a:1']\n[clusters.l.security]\nenable_tls = true\ntls_ca_file = 'none.pem'\n\
             tls_cert_file = 'security.pem'\ntls_server_name = 'a b'\nsasl = {{ mechanism = 'GSSAPI' }}\n\
             [clusters.m]\nkind = 'kafka'\nbrokers = ['a:1']\nsecurity = {{ enable_tls = true, sasl = {{ mechanism = 'OAUTHBEARER', \
             username = 'u' }} }}\n"
        ),
        &[
            "5:15 error clusters.k.security.tls_ca_file: this means nothing without TLS | write enable_tls = true beside it, or remove it",
            "6:1 error clusters.k.security.sasl: \"password\" is missing | write password = \"${env:NAME}\" or \"${file:PATH}\"",
            "7:13 warning clusters.k.security.sasl.mechanism: without TLS, everybody between here and the brokers can read the secret | \
             write enable_tls = true under \"security\"",
            "8:12 error clusters.k.security.sasl.username: only secrets can come from elsewhere: write the name itself",
            "9:1 error clusters.k.security.sasl.token: \"token\" is not a key of a mechanism with passwords | write \"username\" and \"password\"",
            "15:15 error clusters.l.security.tls_ca_file: BASE/none.pem: No such file or directory (os error 2)",
            "16:17 error clusters.l.security.tls_cert_file: a client certificate needs both \"tls_cert_file\" and \"tls_key_file\" | \
             write the other one too, or neither",
            "17:19 error clusters.l.security.tls_server_name: \"a b\" is not a name of a host",
            "18:22 error clusters.l.security.sasl.mechanism: \"GSSAPI\" is not known here | known here: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, \
             OAUTHBEARER, AWS_MSK_IAM",
            "22:40 error clusters.m.security.sasl: \"token\" is missing | write token = \"${file:PATH}\"; or \
             token_endpoint = \"https://HOST/PATH\", client_id and client_secret",
            "22:69 error clusters.m.security.sasl.username: \"username\" is not a key of OAUTHBEARER | the token says who we are",
        ],
    );
}

#[test]
fn less_than_exactly_once_means_something_where_the_target_is_kafka() {
    let link = "[links.l]\nsource = 'k'\ntarget = 'k'\ntopics = ['t']\ntopic_prefix = 'x.'\nconfig.enable_exactly_once = false\n";
    assert!(!config(&format!("{CLUSTER}{link}")).links["l"].config.enable_exactly_once);
}

#[test]
fn what_is_not_committed_can_be_read_where_the_source_is_kafka() {
    let link = |source: &str, level: &str| {
        format!(
            "{CLUSTER}[clusters.e]\nkind = 'embedded'\n[links.l]\nsource = '{source}'\ntarget = '{}'\ntopics = ['t']\n\
             config.isolation_level = '{level}'\n",
            if source == "k" { "e" } else { "k" }
        )
    };
    for (level, expected) in
        [("read_committed", Isolation::ReadCommitted), ("read_uncommitted", Isolation::ReadUncommitted)]
    {
        assert_eq!(config(&link("k", level)).links["l"].config.isolation, expected);
    }
    check(
        &link("e", "read_uncommitted"),
        &[
            "10:26 warning links.l.config.isolation_level: this changes nothing: an embedded cluster shows no record before it is committed | remove it",
        ],
    );
    check(
        &link("k", "read_all"),
        &[
            "10:26 error links.l.config.isolation_level: \"read_all\" is not known here | known here: read_committed, read_uncommitted",
        ],
    );
}

#[test]
fn a_cluster_can_be_tuned_and_be_behind_a_proxy() {
    file("proxy-password", "xyz\n");
    let text = format!(
        "{CLUSTER}fetch_max_bytes = '64KiB'\nfetch_max_wait = '1ms'\nidle_timeout = '1h'\nmetadata_max_age = '100ms'\n\
         proxy = 'http://127.0.0.1:3128/'\nproxy_username = 'u'\nproxy_password = '${{file:proxy-password}}'\n"
    );
    let found = config(&text);
    let found = kafka(&found, "k");
    let (fetch_max_wait, metadata_max_age) = (Duration::from_millis(1), Duration::from_millis(100));
    let idle_timeout = Duration::from_secs(3600);
    assert_eq!(found.tuning, Tuning { fetch_max_bytes: 65_536, fetch_max_wait, idle_timeout, metadata_max_age });
    let proxy = found.proxy.as_ref().expect("a proxy");
    assert_eq!((proxy.kind, &*proxy.address), (ProxyKind::Http, "127.0.0.1:3128"));
    let (name, password) = proxy.login().expect("a file").expect("a login");
    assert_eq!((&*name, password.expose_secret()), ("u", "xyz"));
    let plain = config(&format!("{CLUSTER}proxy = 'socks5://[::1]:1080'\n"));
    let plain = kafka(&plain, "k").proxy.clone().expect("a proxy");
    assert!(plain.kind == ProxyKind::Socks5 && plain.login().expect("no file").is_none());
}

#[test]
fn what_is_wrong_with_a_proxy_is_said_without_what_stands_there() {
    let form = "write the address as socks5://HOST:PORT or http://HOST:PORT";
    for (written, message) in [
        ("socks5://u:planted@a:1", "no password stands in an address: write proxy_username and proxy_password"),
        ("socks4://planted:1", form),
        ("planted:1080", form),
        ("http://planted", form),
        ("http://planted:1/x", form),
    ] {
        check(&format!("{CLUSTER}proxy = '{written}'\n"), &[&format!("4:9 error clusters.k.proxy: {message}")]);
    }
    check(
        &format!("{CLUSTER}proxy_username = 'u'\n"),
        &[
            "4:18 error clusters.k.proxy_username: this means nothing without a proxy | write proxy = \"socks5://HOST:PORT\" beside it, or remove it",
        ],
    );
    file("proxy-password", "xyz\n");
    check(
        &format!("{CLUSTER}proxy = 'http://a:1'\nproxy_password = '${{file:proxy-password}}'\n"),
        &[
            "5:18 error clusters.k.proxy_password: a login has both \"proxy_username\" and \"proxy_password\" | write the other one too, or neither",
            "5:18 warning clusters.k.proxy_password: everybody between here and the proxy can read the password | use a proxy that knows this machine by its address",
        ],
    );
    check(
        &format!(
            "{CLUSTER}proxy = 'http://127.0.0.1:1'\nproxy_username = 'a:b'\nproxy_password = '${{file:proxy-password}}'\n"
        ),
        &["5:18 error clusters.k.proxy_username: it has a colon"],
    );
}
