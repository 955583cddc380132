//! What a request may ask for has bounds, and what cannot be answered keeps nobody else waiting.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::harness::{LINKS, Site};

const CLUSTERS: &str =
    "secrets_dir = \"secrets\"\n[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";

fn site() -> Site {
    let site = Site::new("");
    fs::create_dir_all(site.path("secrets/bound")).expect("a directory");
    fs::write(site.path("secrets/loose"), "planted").expect("a file");
    fs::write(site.path("secrets/bound/password"), "planted").expect("a file");
    fs::write(site.path("secrets/bound/brokers"), "127.0.0.1\n*.example.com\n").expect("a file");
    mknodat(CWD, site.path("secrets/bound/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    site.configure(CLUSTERS);
    site
}

fn link(more: Value) -> Value {
    let mut link = json!({"id": "l", "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "west"}, "topics": ["t"]});
    let more = more.as_object().expect("an object").clone();
    link.as_object_mut().expect("an object").extend(more);
    link
}

/// What is said of a definition that is refused.
fn refused(site: &Site, definition: &Value) -> String {
    let answer = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(answer.status, 400, "{}", answer.body);
    let errors = answer.json()["errors"].as_array().expect("errors").clone();
    let shown = errors
        .iter()
        .map(|it| format!("{}: {}", it["path"].as_str().expect("a path"), it["message"].as_str().expect("a message")));
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_definition_has_bounds_and_the_daemon_answers_and_ends_all_the_same() {
    let site = site();
    let daemon = site.start();
    let many: Vec<String> = (0..20_000).map(|number| format!("/[\\w]{{{}}}/", number % 100 + 1)).collect();
    let some: Vec<String> = (0..1_000).map(|number| format!("/{number}[\\w]{{90}}/")).collect();
    let names: Vec<String> = (0..1_001).map(|number| format!("t{number}")).collect();
    for (more, expected) in [
        (json!({"topics": many}), "$.topics: 20000 entries are too many: 1000 are the limit"),
        (json!({"topics": names}), "$.topics: 1001 entries are too many: 1000 are the limit"),
        (json!({"topics_exclude": names}), "$.topics_exclude: 1001 entries are too many: 1000 are the limit"),
        (
            json!({"topics": some}),
            "$.topics[0]: the regular expression is too large: each of 1000 may take 32 KiB when it is compiled",
        ),
        (
            json!({"topics": [format!("/{}/", "a".repeat(1_025))]}),
            "$.topics[0]: a regular expression has 1024 bytes at most",
        ),
        (json!({"name": "x".repeat(200_000)}), "$.name: it has 200000 bytes, and 255 are the limit"),
        (json!({"name": "a\u{1b}[2J"}), "$.name: it has the character \\u{1b}: control"),
        (json!({"name": "a\u{202e}b"}), "$.name: it has the character \\u{202e}: control"),
    ] {
        let said = refused(&site, &link(more));
        assert!(said.starts_with(expected), "{expected}: {said}");
    }
    let long: Vec<String> = (0..1_000).map(|number| format!("topic-{number}")).collect();
    let made = site.client.send("POST", LINKS, None, &link(json!({"topics": long})).to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    for by in ["a%0Ab", "%1B%5B2J", "%E2%80%AE", &"x".repeat(256)] {
        let answer = site.client.post(&format!("{LINKS}/l/start?by={by}"), "").expect("an answer");
        assert_eq!(answer.status, 400, "{by}: {}", answer.body);
    }
    daemon.terminate();
}

#[test]
fn a_secret_goes_only_where_its_keeper_says_and_not_in_the_clear() {
    let site = site();
    let daemon = site.start();
    let source = |broker: &str, mechanism: &str, tls: bool, file: &str| {
        let login = match mechanism {
            "OAUTHBEARER" => json!({"mechanism": mechanism, "token": file}),
            _ => json!({"mechanism": mechanism, "username": "u", "password": file}),
        };
        link(
            json!({"source_cluster": {"cluster_id": "k", "brokers": [broker], "security": {"enable_tls": tls, "sasl": login}}}),
        )
    };
    let (bound, loose) = ("${file:bound/password}", "${file:loose}");
    let unbound = |host: &str, key: &str| {
        format!(
            "$.source_cluster.security.sasl.{key}: this secret may not be sent to {host}: add a line with that host to the file \"brokers\" in the directory of the secret"
        )
    };
    let clear = "$.source_cluster.security.sasl.mechanism: a definition sends no password and no token in the clear to another machine";
    for (definition, expected) in [
        (source("127.0.0.1:1", "PLAIN", true, loose), unbound("127.0.0.1", "password")),
        (source("evil.com:1", "PLAIN", true, bound), unbound("evil.com", "password")),
        (source("evil.com:1", "OAUTHBEARER", true, bound), unbound("evil.com", "token")),
        (source("evil.com:1", "SCRAM-SHA-512", false, bound), unbound("evil.com", "password")),
        (source("a.example.com:1", "PLAIN", false, bound), clear.to_owned()),
        (source("a.example.com:1", "OAUTHBEARER", false, bound), clear.to_owned()),
    ] {
        assert_eq!(refused(&site, &definition), expected);
    }
    for definition in [
        source("127.0.0.1:1", "PLAIN", false, bound),
        source("a.example.com:1", "SCRAM-SHA-512", false, bound),
        source("a.example.com:1", "PLAIN", true, bound),
    ] {
        let made = site.client.send("POST", LINKS, None, &definition.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
        assert_eq!(site.client.send("DELETE", &format!("{LINKS}/l"), None, "").status, 204);
    }
    // The operator may allow it.
    site.configure(&format!("definitions_insecure_plaintext = true\n{CLUSTERS}"));
    assert_eq!(site.client.send("POST", "/api/v1/reload", None, "").status, 200);
    let made = site.client.send("POST", LINKS, None, &source("a.example.com:1", "PLAIN", false, bound).to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    daemon.terminate();
}

#[test]
fn a_file_that_never_answers_is_refused_and_holds_up_nobody() {
    let site = site();
    let daemon = site.start();
    let security = |sasl: Value, tls: Value| {
        let mut security = tls.as_object().expect("an object").clone();
        security.extend(sasl.as_object().expect("an object").clone());
        link(json!({"source_cluster": {"cluster_id": "k", "brokers": ["127.0.0.1:1"], "security": security}}))
    };
    let pipe = "it is a pipe, not a regular file";
    for definition in [
        security(json!({"sasl": {"mechanism": "PLAIN", "username": "u", "password": "${file:bound/pipe}"}}), json!({})),
        security(json!({}), json!({"enable_tls": true, "tls_ca_file": "bound/pipe"})),
        link(json!({"failover_config": {"notification_webhook": "${file:bound/pipe}"}})),
        link(
            json!({"failover_config": {"notification_webhook": "https://a.example.com/", "notification_secret": "${file:bound/pipe}"}}),
        ),
    ] {
        let said = refused(&site, &definition);
        assert!(said.contains(pipe), "{said}");
    }
    let made = site.client.send("POST", LINKS, None, &link(json!({})).to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    daemon.terminate();
}

#[test]
fn a_request_says_once_whom_it_is_for() {
    let site = site();
    let daemon = site.start();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
        stream.write_all(request.replace("PORT", &site.port.to_string()).as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    for (request, status) in [
        ("GET /api/v1/healthz HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\n\r\n", "200"),
        ("GET /api/v1/healthz HTTP/1.0\r\n\r\n", "200"),
        (
            "GET http://127.0.0.1:PORT/api/v1/healthz HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\n\r\n",
            "200",
        ),
        ("GET /api/v1/healthz HTTP/1.1\r\nconnection: close\r\n\r\n", "400"),
        (
            "GET /api/v1/healthz HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\n\r\n",
            "400",
        ),
        ("GET http://evil.com/api/v1/healthz HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\n\r\n", "400"),
        ("GET http://127.0.0.1:PORT/api/v1/healthz HTTP/1.1\r\nhost: evil.com\r\nconnection: close\r\n\r\n", "400"),
    ] {
        assert_eq!(ask(request), status, "{request}");
    }
    daemon.terminate();
}

#[test]
fn what_comes_from_outside_steers_no_terminal() {
    let site = site();
    let daemon = site.start();
    let evil = "\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}x";
    let output = site.cli(&["link", "show", evil]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("pwned") && !said.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{said:?}");
    // What is no terminal gets the bytes as they are.
    site.client.send("POST", "/api/v1/clusters/east/topics", None, r#"{"name":"t"}"#);
    site.client.produce("east", "t", &[json!({"value": evil})]);
    let output = site.cli(&["consume", "east", "t"]);
    assert_eq!(String::from_utf8(output.stdout).expect("text"), format!("{evil}\n"));
    let properties = site.path("mm2.properties");
    fs::write(
        &properties,
        format!(
            "clusters = a, b\na.bootstrap.servers = a:1\nb.bootstrap.servers = b:1\na->b.enabled = true\n{evil} = 1\n"
        ),
    )
    .expect("a file");
    let output = site.cli(&["import", "mm2", &properties.display().to_string()]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{said:?}");
    daemon.terminate();
}
