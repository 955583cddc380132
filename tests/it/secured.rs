//! Who may use the API of a real daemon: tokens, certificates, and what is written down of it.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::api::endpoints;
use tidegate::api::wire::Problem;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::harness::{Answer, Client, Daemon, LINKS, Site, binary, comes_true, plugin_bytes, wait_until};

pub const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n[clusters.west]\nkind = \"embedded\"\n\
     [links.flow]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n";

pub const ANN: &str = "the-token-of-ann-the-admin";
pub const OLGA: &str = "the-token-of-olga-who-operates";
pub const RON: &str = "the-token-of-ron-who-reads";

/// Lines for three tokens, whose files are made.
pub fn tokens(site: &Site) -> String {
    let token = |(name, role, secret): (&str, &str, &str)| {
        fs::write(site.path(&format!("{name}.token")), format!("{secret}\n")).expect("a token");
        format!("[[daemon.api.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\nsecret = \"${{file:{name}.token}}\"\n")
    };
    [("ann", "admin", ANN), ("olga", "operate", OLGA), ("ron", "read", RON)].map(token).concat()
}

/// The same lines, or more that end with them, without Ron's token.
pub fn without_ron(lines: &str) -> &str {
    lines.split_once("[[daemon.api.tokens]]\nname = \"ron\"").expect("ron is the last").0
}

/// The whole configuration: `[daemon]` with this address, `[daemon.api]` with these lines, and some clusters with a link.
pub fn configure(site: &Site, address: &str, api: &str) {
    let port = site.port;
    site.write_config(&format!(
        "[daemon]\ndata_dir = \"data\"\nlisten = \"{address}:{port}\"\n[daemon.api]\n{api}{CLUSTERS}"
    ));
}

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with these names, and its key.
    pub fn issue(&self, common_name: &str, names: &[&str]) -> (String, String) {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }

    /// Put a certificate of the daemon where its configuration looks for it.
    pub fn issue_to(&self, site: &Site) {
        let (certificate, key) = self.issue("tidegate", &["localhost", "127.0.0.1"]);
        fs::write(site.path("tls.crt"), certificate).expect("a certificate");
        fs::write(site.path("tls.key"), key).expect("a key");
    }

    /// Put a certificate for a client beside it.
    fn issue_client(&self, site: &Site, name: &str, names: &[&str]) {
        let (certificate, key) = self.issue(name, names);
        fs::write(site.path(&format!("{name}.crt")), certificate).expect("a certificate");
        fs::write(site.path(&format!("{name}.key")), key).expect("a key");
    }

    /// What a client needs that trusts this authority and shows the certificate `client` of the site.
    pub fn trusted(&self, client: Option<(&Site, &str)>) -> TlsConfig {
        let read = |site: &Site, name: &str| fs::read(site.path(name)).expect("a file");
        let shown = client.map(|(site, name)| {
            let certificate = Certificate::from_pem(&read(site, &format!("{name}.crt"))).expect("a certificate");
            let key = PrivateKey::from_pem(&read(site, &format!("{name}.key"))).expect("a key");
            ClientCert::new_with_certs(&[certificate], key)
        });
        TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(self.pem().as_bytes()).expect("PEM")]))
            .client_cert(shown)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build()
    }
}

const TLS: &str = "tls_cert_file = \"tls.crt\"\ntls_key_file = \"tls.key\"\n";

#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) -> Problem {
    assert_eq!(answer.status, status, "{}", answer.body);
    let problem: Problem = serde_json::from_str(&answer.body).expect("a problem document");
    assert_eq!(problem.code, code, "{}", answer.body);
    problem
}

/// Run a command without anything of the environment that says who we are.
fn cli(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    ["TIDEGATE_TOKEN", "TIDEGATE_TOKEN_FILE", "TIDEGATE_CA_FILE"].iter().for_each(|name| _ = command.env_remove(name));
    command.args(words).envs(variables.iter().copied()).output().expect("the command runs")
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    parts.iter().for_each(|part| assert!(err.contains(part), "{part:?} is not in: {err}"));
}

#[test]
fn a_daemon_that_would_be_open_to_all_does_not_start() {
    let site = Site::new("");
    for (api, parts) in [
        (String::new(), ["everybody who reaches this address could control the daemon", "[[daemon.api.tokens]]"]),
        (tokens(&site), ["tokens would cross the network in the clear", "insecure_plaintext = true"]),
    ] {
        configure(&site, "0.0.0.0", &api);
        let (status, error) = site.run_to_end();
        assert_eq!(status.code(), Some(1), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    configure(&site, "0.0.0.0", &format!("insecure_plaintext = true\n{}", tokens(&site)));
    let mut daemon = site.spawn();
    site.await_ready(&mut daemon);
    assert_eq!(site.client.get("/api/v1/status").expect("an answer").status, 401);
}

#[test]
fn files_that_cannot_be_used_keep_the_daemon_from_starting() {
    let site = Site::new("");
    Authority::new("one").issue_to(&site);
    let tokens = tokens(&site);
    for (file, text, api, part) in [
        ("tls.crt", "nonsense", TLS.to_owned(), "tls.crt: it has no certificate"),
        ("tls.crt", &*Authority::new("x").issue("x", &[]).0, TLS.to_owned(), "with the key of"),
        ("tls.key", "", TLS.to_owned(), "tls.key: it has no private key"),
        ("ann.token", "short", tokens.clone(), "16 to 4096 visible ASCII characters"),
        ("ann.token", "a token with blanks in it", tokens.clone(), "16 to 4096 visible ASCII characters"),
        ("ann.token", OLGA, tokens.clone(), "it is that of ann too"),
        ("ann.token", "", tokens.clone(), "ann.token: it is empty"),
    ] {
        let before = fs::read(site.path(file)).expect("a file");
        fs::write(site.path(file), text).expect("a file");
        configure(&site, "127.0.0.1", &api);
        let (status, error) = site.run_to_end();
        assert_eq!(status.code(), Some(1), "{error}");
        assert!(error.contains(part) && (text.is_empty() || !error.contains(text)), "{part}: {error}");
        let check = cli(&["check", "--config", &site.config().display().to_string()], &[]);
        assert!(String::from_utf8_lossy(&check.stdout).contains(part), "{check:?}");
        fs::write(site.path(file), before).expect("a file");
    }
}

/// A daemon with TLS, tokens and client certificates.
fn mutual(site: &mut Site, ours: &Authority, clients: &Authority) -> Daemon {
    ours.issue_to(site);
    fs::write(site.path("ca.crt"), ours.pem()).expect("an authority");
    fs::write(site.path("clients.crt"), clients.pem()).expect("an authority");
    clients.issue_client(site, "ci", &[]);
    clients.issue_client(site, "grafana", &["grafana.example"]);
    clients.issue_client(site, "mallory", &["ci"]);
    Authority::new("a stranger").issue_client(site, "stranger", &[]);
    let clients = "[[daemon.api.clients]]\nname = \"pipeline\"\nrole = \"operate\"\ncommon_name = \"ci\"\n\
         [[daemon.api.clients]]\nname = \"dashboards\"\nrole = \"read\"\nalternative_name = \"grafana.example\"\n";
    let api = format!("{TLS}tls_client_ca_file = \"clients.crt\"\n{}{clients}", tokens(site));
    configure(site, "0.0.0.0", &api);
    site.client = Client::known(site.port, Some(ANN), Some(ours.trusted(None)));
    site.start()
}

#[test]
fn a_certificate_stands_for_a_token() {
    let (mut site, ours, clients) = (Site::new(""), Authority::new("ours"), Authority::new("clients"));
    let _daemon = mutual(&mut site, &ours, &clients);
    let with = |name: &str, token| Client::known(site.port, token, Some(ours.trusted(Some((&site, name)))));
    let status = |client: &Client, method: &str, path: &str| client.send(method, path, None, "").status;
    let pause = format!("{LINKS}/flow/pause");
    assert_eq!(status(&with("ci", None), "POST", &pause), 200);
    let refusal = with("ci", None).send("POST", "/api/v1/reload", None, "");
    assert!(problem(&refusal, 403, "role-missing").detail.contains("pipeline has the role operate"), "{refusal:?}");
    assert_eq!(status(&with("grafana", None), "GET", "/metrics"), 200);
    assert_eq!(status(&with("grafana", None), "POST", &pause), 403);
    assert_eq!(status(&with("mallory", None), "GET", "/metrics"), 401, "a name of another kind is another name");
    assert_eq!(status(&with("grafana", Some(ANN)), "POST", "/api/v1/reload"), 200, "who shows a token means it");
    assert_eq!(status(&with("ci", Some("some-other-token")), "POST", &pause), 401);
    let nobody = Client::known(site.port, None, Some(ours.trusted(None)));
    assert_eq!((status(&nobody, "GET", "/healthz"), status(&nobody, "GET", "/api/v1/status")), (200, 401));
    assert!(with("stranger", None).get("/healthz").is_err(), "a certificate of another authority is no certificate");
}

#[test]
fn the_command_line_says_who_it_is_and_what_is_in_the_way() {
    let (mut site, ours, clients) = (Site::new(""), Authority::new("ours"), Authority::new("clients"));
    let _daemon = mutual(&mut site, &ours, &clients);
    let file = |name: &str| site.path(name).display().to_string();
    let secure = format!("https://localhost:{}", site.port);
    let base = ["status", "--url", &secure, "--ca-file", &file("ca.crt")];
    let with = |more: &[&str], variables: &[(&str, &str)]| cli(&[&base[..], more].concat(), variables);

    assert!(with(&["--token-file", &file("ron.token")], &[]).status.success());
    assert!(with(&[], &[("TIDEGATE_TOKEN", RON)]).status.success());
    assert!(with(&["--cert-file", &file("grafana.crt"), "--key-file", &file("grafana.key")], &[]).status.success());
    refused(&with(&[], &[]), &["this needs a token", "--token-file or TIDEGATE_TOKEN"]);
    refused(&with(&[], &[("TIDEGATE_TOKEN", "nonsense")]), &["the token is not known"]);
    refused(&with(&[], &[("TIDEGATE_TOKEN", "two words")]), &["TIDEGATE_TOKEN has no token", "token create"]);
    refused(&with(&["--token-file", "/nowhere"], &[]), &["cannot read /nowhere"]);
    refused(&with(&["--token-file", &file("tls.key")], &[]), &["tls.key has no token"]);
    let reload = ["reload", "--url", &secure, "--ca-file", &file("ca.crt"), "--token-file", &file("ron.token")];
    refused(
        &cli(&reload, &[]),
        &["this needs the role admin, and ron has the role read", "a token with the role admin"],
    );
    let other = ["status", "--url", &secure, "--ca-file", &file("clients.crt")];
    refused(&cli(&other, &[]), &["no secure connection", "--ca-file"]);
    let strange = ["--cert-file", &file("stranger.crt"), "--key-file", &file("stranger.key")];
    refused(&with(&strange, &[]), &["--cert-file and --key-file"]);
    let by_address = ["status", "--url", &format!("https://127.0.0.2:{}", site.port), "--ca-file", &file("ca.crt")];
    refused(&cli(&by_address, &[]), &["by a name that its certificate has"]);
    refused(&cli(&["status", "--url", &format!("http://localhost:{}", site.port)], &[]), &["https://"]);
    let no_certificate = with(&["--cert-file", &file("ron.token"), "--key-file", &file("ron.token")], &[]);
    refused(&no_certificate, &["ron.token: it has no certificate"]);
    assert!(!String::from_utf8_lossy(&no_certificate.stderr).contains(RON));

    let plain = Site::new(CLUSTERS);
    let _plain = plain.start();
    let to_plain = ["status", "--url", &format!("https://localhost:{}", plain.port), "--ca-file", &file("ca.crt")];
    refused(&cli(&to_plain, &[]), &["write http:// instead of https://"]);
}

#[test]
fn a_token_that_was_made_by_command_works_as_it_is() {
    let site = Site::new("");
    let file = site.path("made.token").display().to_string();
    let words = ["token", "create", "made", "--role", "read", "--file", &file];
    let made = cli(&words, &[]);
    let lines = String::from_utf8(made.stdout).expect("text");
    assert!(made.status.success());
    let secret = fs::read_to_string(&file).expect("a token");
    assert!(!lines.contains(secret.trim()) && secret.len() > 40, "{lines}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    refused(&cli(&words, &[]), &["cannot make", "not overwritten"]);
    assert_eq!(fs::read_to_string(&file).expect("a token"), secret);
    refused(&cli(&["token", "create", "a/b", "--role", "read"], &[]), &["no name of a token"]);
    configure(&site, "127.0.0.1", &lines);
    let _daemon = site.start();
    let known = Client::known(site.port, Some(secret.trim()), None);
    assert_eq!(known.get("/api/v1/status").expect("an answer").status, 200);
}

/// The names of the authorities that the daemon's certificate is taken to come from by a client that trusts them all.
fn is_trusted(site: &Site, authority: &Authority) -> bool {
    Client::known(site.port, None, Some(authority.trusted(None))).get("/healthz").is_ok()
}

#[test]
fn certificates_and_tokens_are_replaced_while_the_daemon_runs() {
    let (mut site, first, second) = (Site::new(""), Authority::new("first"), Authority::new("second"));
    first.issue_to(&site);
    let api = format!("{TLS}{}", tokens(&site));
    configure(&site, "127.0.0.1", &api);
    site.client = Client::known(site.port, Some(ANN), Some(first.trusted(None)));
    let daemon = site.start();

    second.issue_to(&site);
    wait_until("the new certificate is shown", || is_trusted(&site, &second));
    assert!(!is_trusted(&site, &first));
    fs::write(site.path("tls.crt"), "nonsense").expect("a file");
    wait_until("the log says what is wrong", || daemon.stderr().contains("the API goes on as it was"));
    assert!(is_trusted(&site, &second), "a bad file changes nothing");
    let ann = Client::known(site.port, Some(ANN), Some(second.trusted(None)));
    let refusal = ann.send("POST", "/api/v1/reload", None, "");
    problem(&refusal, 400, "invalid-document");
    assert!(refusal.body.contains("tls.crt: it has no certificate"), "{refusal:?}");

    second.issue_to(&site);
    let renewed = "another-token-of-ann-the-admin";
    fs::write(site.path("ann.token"), renewed).expect("a token");
    let status = |token| Client::known(site.port, Some(token), Some(second.trusted(None))).get("/api/v1/status");
    wait_until("the new token is known", || status(renewed).is_ok_and(|answer| answer.status == 200));
    assert_eq!(status(ANN).expect("an answer").status, 401);

    let without_ron = without_ron(&api);
    configure(&site, "127.0.0.1", without_ron);
    assert_eq!(status(RON).expect("an answer").status, 200);
    daemon.signal(Signal::HUP);
    wait_until("ron is nobody any more", || status(RON).expect("an answer").status == 401);
    daemon.terminate();
}

#[test]
fn a_reload_does_not_open_a_door_that_the_daemon_stands_in() {
    let (mut site, ours) = (Site::new(""), Authority::new("ours"));
    ours.issue_to(&site);
    configure(&site, "0.0.0.0", &format!("{TLS}{}", tokens(&site)));
    site.client = Client::known(site.port, Some(ANN), Some(ours.trusted(None)));
    let _daemon = site.start();
    // As a file it is good; but the process goes on where it listens.
    configure(&site, "127.0.0.1", "");
    let refusal = site.client.send("POST", "/api/v1/reload", None, "");
    let found = problem(&refusal, 409, "api-exposed");
    assert!(found.detail.contains("until a restart") && found.remedy.contains("tokens"), "{refusal:?}");
    assert_eq!(site.client.get("/api/v1/status").expect("an answer").status, 200);
    let nobody = Client::known(site.port, None, Some(ours.trusted(None)));
    assert_eq!(nobody.get("/api/v1/status").expect("an answer").status, 401);
}

fn audited(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("an audit file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_was_changed_and_refused_is_written_down() {
    let mut site = Site::new("");
    configure(&site, "127.0.0.1", &format!("audit_file = true\n{}", tokens(&site)));
    let daemon = site.start();
    let [ann, olga, ron, nobody] =
        [Some(ANN), Some(OLGA), Some(RON), None].map(|token| Client::known(site.port, token, None));
    let definition = json!({
        "id": "dr", "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        "topics": ["orders"], "topic_prefix": "dr.",
    });
    ann.send("POST", &format!("{LINKS}?by=somebody"), None, &definition.to_string());
    olga.send("POST", &format!("{LINKS}/flow/pause"), None, "");
    olga.send("POST", &format!("{LINKS}/nope/pause"), None, "");
    olga.send("POST", "/api/v1/clusters/east/topics/orders/records", None, "{}");
    ron.send("GET", "/api/v1/status", None, "");
    ron.send("DELETE", &format!("{LINKS}/dr?by=a-secret-in-a-query"), None, "a secret in a body");
    nobody.send("GET", "/api/v1/status", None, "");
    let told: Vec<Value> = audited(&site.path("data/audit.jsonl"));
    let short = |line: &Value| {
        let of = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {} {} {}", of("name"), of("role"), of("method"), of("path"), of("link"), line["status"])
    };
    assert_eq!(
        told.iter().map(short).collect::<Vec<_>>(),
        [
            "ann admin POST /api/v1/replication/links dr 201",
            "olga operate POST /api/v1/replication/links/flow/pause flow 200",
            "olga operate POST /api/v1/replication/links/nope/pause nope 404",
            "ron read DELETE /api/v1/replication/links/dr dr 403",
            "- - GET /api/v1/status - 401",
        ]
    );
    assert!(told.iter().all(|line| line["address"] == "127.0.0.1" && line["time"].is_string()), "{told:?}");
    assert!(!fs::read_to_string(site.path("data/audit.jsonl")).expect("text").contains("secret"));
    daemon.terminate();

    // Without tokens, what somebody says that they are called is what is known of them.
    configure(&site, "127.0.0.1", "audit_file = true\n");
    site.client = Client::new(site.port);
    let _daemon = site.start();
    site.client.send("POST", &format!("{LINKS}/flow/resume?by=eve"), None, "");
    site.client.send("POST", &format!("{LINKS}/flow/upgrade?by=eve&dry_run=true"), None, "");
    let told = audited(&site.path("data/audit.jsonl"));
    let last = told.last().expect("a line");
    assert_eq!((&last["name"], &last["claimed"], &last["link"]), (&Value::Null, &json!("eve"), &json!("flow")));
    assert_eq!(told.len(), 7);
}

/// Whoever changes something and hangs up before the answer must not go unseen.
#[test]
fn a_change_is_written_down_also_if_its_client_hangs_up() {
    let mut site = Site::new("");
    configure(&site, "127.0.0.1", &format!("audit_file = true\n{}", tokens(&site)));
    site.client = Client::known(site.port, Some(ANN), None);
    let _daemon = site.start();
    let component = plugin_bytes("json-filter");
    let head = format!(
        "POST /api/v1/plugins HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ANN}\r\ncontent-length: {}\r\n\r\n",
        component.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
    stream.write_all(&[head.as_bytes(), &component].concat()).expect("sent");
    // The component takes longer to compile than this.
    stream.shutdown(std::net::Shutdown::Both).expect("hung up");
    wait_until("it is written down", || {
        let told = audited(&site.path("data/audit.jsonl"));
        told.iter().any(|line| line["path"] == "/api/v1/plugins" && line["status"] == 201)
    });
}

/// Whatever comes in, the answer is a problem document that says what is wrong; the daemon itself is never at fault.
#[test]
fn every_path_takes_what_is_no_request_calmly() {
    let site = Site::new("");
    let limits = "body_bytes_max = \"64KiB\"\nproduce_bytes_max = \"1MiB\"\nrequests_per_second = 1000000\n";
    configure(&site, "127.0.0.1", &format!("{limits}{}", tokens(&site)));
    let _daemon = site.start();
    let ann = Client::known(site.port, Some(ANN), None);
    let bodies: Vec<String> = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "7",
        "\"x\"",
        "{\"a\":1}",
        "\u{0}\u{1}",
        "{\"topic\":5,\"to\":[],\"name\":{},\"lanes\":\"x\"}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("{{\"name\":\"{}\"}}", "x".repeat(70_000)), "[".repeat(10_000)])
    .collect();
    for endpoint in endpoints() {
        let with = |link: &str, stage: &str, cluster: &str, topic: &str| {
            let path = endpoint.path.replace("{link}", link).replace("{stage}", stage);
            path.replace("{cluster}", cluster).replace("{topic}", topic)
        };
        let right = with("flow", "mask", "east", "orders");
        let paths = [
            right.clone(),
            with("%ff%fe", "%ff", "%ff", "%ff"),
            with("..", "%2e%2e", "%00", "%F0%9F%92%A9"),
            with(&"x".repeat(10_000), "'", "\"", "%25"),
            with("nope", "nope", "nope", "nope"),
            format!("{right}?by=%ff&x=1"),
            format!("{right}?partition=-1&limit=x&dry_run=7&offset=99999999999999999999"),
        ];
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let is_this = method == endpoint.method.as_str();
            for path in &paths {
                for body in if is_this && path == &right { &bodies[..] } else { &bodies[..1] } {
                    let answer = ann.send(method, path, None, body);
                    let is_fine = answer.status < 500 || answer.status == 503;
                    assert!(is_fine, "{method} {path} {body:.40}: {} {}", answer.status, answer.body);
                    if answer.status >= 400 {
                        let problem: Problem = serde_json::from_str(&answer.body)
                            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", answer.body));
                        assert!(!problem.code.is_empty() && !problem.detail.is_empty(), "{}", answer.body);
                    }
                }
            }
        }
    }
    let too_large = ann.send("POST", LINKS, None, &" ".repeat((64 << 10) + 1));
    assert!(problem(&too_large, 413, "body-too-large").detail.contains("65536 bytes"), "{too_large:?}");
    let records = "/api/v1/clusters/east/topics/orders/records";
    problem(&ann.send("POST", records, None, &" ".repeat((1 << 20) + 1)), 413, "body-too-large");
    assert_eq!(ann.send("POST", records, None, &" ".repeat(1 << 20)).status, 200);
    assert!(comes_true(std::time::Duration::from_secs(60), || ann.is_ready()));
}
