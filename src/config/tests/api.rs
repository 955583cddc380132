//! Who may use the API.

use std::time::Duration;

use crate::config::{Config, Role, Subject};

use super::{CLUSTERS, base_dir, check_with_clusters, config, parse, show};

/// Files for tokens and certificates. What is in them is looked at elsewhere.
/// Once: who writes a file anew empties it first, and tests read it at the same time.
fn with_files() {
    static WRITTEN: std::sync::Once = std::sync::Once::new();
    WRITTEN.call_once(|| {
        for name in ["ann.token", "tls.crt", "tls.key", "ca.crt"] {
            std::fs::write(base_dir().join(name), "0123456789abcdef\n").expect("a file");
        }
    });
}

const TLS: &str = "tls_cert_file = 'tls.crt'\ntls_key_file = 'tls.key'\n";
const TOKEN: &str = "[[daemon.api.tokens]]\nname = 'ann'\nrole = 'admin'\nsecret = '${file:ann.token}'\n";

#[test]
fn nothing_said_is_open_and_on_loopback() {
    let daemon = config(CLUSTERS).daemon;
    assert!(daemon.api.is_open() && daemon.listen.ip().is_loopback() && daemon.api.audit.is_none());
    assert_eq!(daemon.api.limits.connections_max, 256);
}

#[test]
fn everything_said_is_read() {
    with_files();
    let text = format!(
        "[daemon]\nlisten = '0.0.0.0:8081'\n[daemon.api]\n{TLS}tls_client_ca_file = 'ca.crt'\ntls_client_certificate_required = true\n\
         metrics_without_token = true\nconnections_max = 10\nrequests_per_second = 5\nheader_bytes_max = '16KiB'\n\
         body_bytes_max = '2MiB'\nproduce_bytes_max = '8MiB'\nheader_timeout = '5s'\nbody_timeout = '1m'\n\
         audit_file = true\naudit_file_bytes_max = '1MiB'\naudit_files_max = 3\n{TOKEN}\
         [[daemon.api.clients]]\nname = 'ci'\nrole = 'operate'\ncommon_name = 'ci.example'\n\
         [[daemon.api.clients]]\nname = 'grafana'\nrole = 'read'\nalternative_name = 'spiffe://example/grafana'\n{CLUSTERS}"
    );
    let api = config(&text).daemon.api;
    let tls = api.tls.expect("TLS");
    assert!(tls.cert_file.ends_with("tls.crt") && tls.client_certificate_required && tls.client_ca_file.is_some());
    assert_eq!((&*api.tokens[0].name, api.tokens[0].role), ("ann", Role::Admin));
    let subjects: Vec<_> =
        api.clients.iter().map(|client| (&*client.name, client.role, client.subject.clone())).collect();
    assert_eq!(
        subjects,
        [
            ("ci", Role::Operate, Subject::CommonName("ci.example".into())),
            ("grafana", Role::Read, Subject::AlternativeName("spiffe://example/grafana".into())),
        ]
    );
    let limits = api.limits;
    assert_eq!((limits.connections_max, limits.requests_per_second, limits.header_bytes_max), (10, 5, 16 << 10));
    assert_eq!((limits.body_bytes_max, limits.produce_bytes_max), (2 << 20, 8 << 20));
    assert_eq!((limits.header_timeout, limits.body_timeout), (Duration::from_secs(5), Duration::from_secs(60)));
    let audit = api.audit.expect("an audit file");
    assert_eq!((audit.file_bytes_max, audit.files_max), (1 << 20, 3));
}

#[test]
fn nobody_listens_beyond_loopback_by_forgetting_something() {
    with_files();
    let exposed = "1:17 error daemon.listen: everybody who reaches this address could control the daemon | \
         listen on 127.0.0.1; or set tokens ([[daemon.api.tokens]], `tidegate token create` makes one) or client certificates \
         ([[daemon.api.clients]]), and TLS (tls_cert_file and tls_key_file in [daemon.api])";
    for listen in ["0.0.0.0:80", "[::]:80", "10.0.0.7:80", "[::ffff:10.0.0.7]:80"] {
        check_with_clusters(&format!("daemon.listen = '{listen}'\n"), &[exposed]);
        check_with_clusters(&format!("daemon.listen = '{listen}'\n[daemon.api]\n{TLS}"), &[exposed]);
        let clear = "1:17 error daemon.listen: tokens would cross the network in the clear | \
             set tls_cert_file and tls_key_file in [daemon.api]; or, where something else encrypts, insecure_plaintext = true";
        check_with_clusters(&format!("daemon.listen = '{listen}'\n{TOKEN}"), &[clear]);
        check_with_clusters(&format!("daemon.listen = '{listen}'\n[daemon.api]\n{TLS}{TOKEN}"), &[]);
        check_with_clusters(
            &format!("daemon.listen = '{listen}'\n[daemon.api]\ninsecure_plaintext = true\n{TOKEN}"),
            &["1:17 warning daemon.listen: tokens reach this address in the clear, as insecure_plaintext says | \
               see to it that something else encrypts, or set tls_cert_file and tls_key_file in [daemon.api]"],
        );
        check_with_clusters(
            &format!("daemon.listen = '{listen}'\n[daemon.api]\ninsecure_plaintext = true\n"),
            &[exposed],
        );
    }
    for listen in ["127.0.0.1:80", "[::1]:80", "127.9.9.9:80", "[::ffff:127.0.0.1]:80"] {
        check_with_clusters(&format!("daemon.listen = '{listen}'\n"), &[]);
        check_with_clusters(&format!("daemon.listen = '{listen}'\n{TOKEN}"), &[]);
    }
}

#[test]
fn what_is_wrong_with_a_token_is_said_without_showing_it() {
    with_files();
    let text = format!(
        "[[daemon.api.tokens]]\nname = 'a b'\nrole = 'root'\nsecret = 'hunter2hunter2hunter2'\n\
         [[daemon.api.tokens]]\nsercet = 'hunter2hunter2hunter2'\n\
         {TOKEN}{TOKEN}[[daemon.api.clients]]\nname = 'ann'\nrole = 'read'\ncommon_name = ''\nalternative_name = 'x'\n\
         [[daemon.api.clients]]\nname = 'bob'\nrole = 'read'\n{CLUSTERS}"
    );
    let found = parse(&text).expect_err("errors");
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(shown.iter().all(|it| !it.contains("hunter2")), "{shown:#?}");
    let shown = show(&found);
    for expected in [
        "daemon.api.tokens[0].name: \"a b\" is not an id of a token",
        "daemon.api.tokens[0].role: \"root\" is not known here",
        "daemon.api.tokens[0].secret: a token does not stand here: write \"${file:PATH}\" or \"${env:NAME}\"",
        "daemon.api.tokens[1].sercet: unknown key \"sercet\" | did you mean \"secret\"?",
        "daemon.api.tokens[1]: \"secret\" is missing",
        "daemon.api.tokens[3].name: \"ann\" is there already: each needs its own name",
        "daemon.api.clients[0].name: \"ann\" is there already",
        "daemon.api.clients[0].alternative_name: \"common_name\" is there already: write one of the two",
        "daemon.api.clients[1]: nothing says which certificate is meant",
        "daemon.api.clients: nobody can show a certificate here",
    ] {
        assert!(shown.contains(expected), "{expected}\nis not in\n{shown}");
    }
}

#[test]
fn halves_of_tls_are_refused() {
    with_files();
    check_with_clusters(
        "[daemon.api]\ntls_cert_file = 'tls.crt'\n",
        &[
            "2:17 error daemon.api.tls_cert_file: TLS needs both \"tls_cert_file\" and \"tls_key_file\" | write the other one too, or neither",
        ],
    );
    check_with_clusters(
        "[daemon.api]\ntls_client_ca_file = 'ca.crt'\n",
        &[
            "2:22 error daemon.api.tls_client_ca_file: this means nothing without TLS | write tls_cert_file and tls_key_file beside it, or remove it",
        ],
    );
    check_with_clusters(
        &format!("[daemon.api]\n{TLS}tls_client_certificate_required = true\n"),
        &["4:35 error daemon.api.tls_client_certificate_required: no client certificate is known to be good | \
           write tls_client_ca_file beside it, or remove it"],
    );
    check_with_clusters(
        "[daemon]\nlisten = '0.0.0.0:80'\n[daemon.api]\ntls_cert_file = 'none.crt'\ntls_key_file = 'tls.key'\n",
        &["4:17 error daemon.api.tls_cert_file: BASE/none.crt: No such file or directory (os error 2)"],
    );
}

#[test]
fn limits_that_would_lock_everybody_out_are_refused() {
    check_with_clusters(
        "[daemon.api]\nconnections_max = 0\nrequests_per_second = 0\nheader_bytes_max = 100\nheader_timeout = '1ms'\n",
        &[
            "2:19 error daemon.api.connections_max: 0 is out of range: write a number from 4 to 10000",
            "3:23 error daemon.api.requests_per_second: 0 is out of range: write a number from 1 to 1000000",
            "4:20 error daemon.api.header_bytes_max: 100 is out of range: write a size from 8KiB to 1MiB",
            "5:18 error daemon.api.header_timeout: 1ms is out of range: write a duration from 1s to 10m",
        ],
    );
}

#[test]
fn a_file_can_be_checked_where_its_tokens_and_certificates_are_not() {
    let text = format!(
        "[daemon]\nlisten = '0.0.0.0:80'\n[daemon.api]\ntls_cert_file = '/nowhere/c'\ntls_key_file = '/nowhere/k'\n\
         [[daemon.api.tokens]]\nname = 'a'\nrole = 'read'\nsecret = '${{env:NOBODY_HAS_THIS}}'\n{CLUSTERS}"
    );
    assert_eq!(show(&Config::rehearse(&text, "tidegate.toml").expect("good")), "");
}

/// Whoever defines a cluster, in the file or through the API, can set what is documented and nothing else: the clients have no other way to be configured.
#[test]
fn a_cluster_has_no_properties_but_those_of_the_list() {
    for property in [
        "\"sasl.jaas.config\" = 'x'",
        "\"ssl.endpoint.identification.algorithm\" = ''",
        "\"security.protocol\" = 'PLAINTEXT'",
        "\"plugin.library.paths\" = '/tmp/x.so'",
        "\"ssl.keystore.location\" = '/etc/passwd'",
        "properties = { a = 'b' }",
        "config = { a = 'b' }",
    ] {
        for table in ["clusters.k", "clusters.k.security"] {
            let cluster = "[clusters.k]\nkind = 'kafka'\nbrokers = ['a:1']\n";
            let header = if table == "clusters.k" { String::new() } else { format!("[{table}]\n") };
            let found = parse(&format!("{cluster}{header}{property}\n")).expect_err(property);
            assert!(show(&found).contains("unknown key"), "{property} in {table}: {}", show(&found));
        }
    }
}
