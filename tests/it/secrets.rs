//! No secret leaves the daemon: not in an answer, not in the log, not in what the command line prints, in whatever form.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustix::process::Signal;
use serde_json::json;
use tidegate::api::endpoints;

use crate::credentials::{Advertised, cluster, endpoint};
use crate::harness::{Client, LINKS, Site, binary, percent_encoded, plugin_bytes, wait_until};
use crate::secured::Authority;

/// What nobody but the daemon may know: each is planted in one place.
const TOKEN_OF_FILE: &str = "planted-token-of-a-file-7f3a";
const TOKEN_OF_VARIABLE: &str = "planted-token-of-a-variable-91bc";
const PASSWORD_OF_FILE: &str = "planted-password-of-a-file-55d0";
const PASSWORD_OF_VARIABLE: &str = "planted-password-of-a-variable-2ee9";
const PASSWORD_IN_CLEAR: &str = "planted-password-in-the-clear-c41f";
const OAUTH_TOKEN: &str = "planted-oauth-token-of-a-file-08a7";
const PASSWORD_OF_DEFINITION: &str = "planted-password-of-a-definition-6b32";
const CLIENT_SECRET: &str = "planted-client-secret-of-a-file-77d1";
const ISSUED_TOKEN: &str = "planted-token-that-was-issued-e5a9";
const GUESSED_TOKEN: &str = "planted-token-that-somebody-guessed-3d3d";

/// A secret as it may look: as it is, in hexadecimal, percent-encoded, as the numbers of its bytes, and within something that is in base64.
fn forms(secret: &str) -> Vec<String> {
    let each =
        |write: &dyn Fn(u8) -> String, between: &str| secret.bytes().map(write).collect::<Vec<_>>().join(between);
    let hex = each(&|byte| format!("{byte:02x}"), "");
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, percent_encoded(secret)];
    forms.push(each(&|byte| format!("%{byte:02X}"), ""));
    for between in [",", ", "] {
        forms.push(each(&|byte| byte.to_string(), between));
        forms.push(each(&|byte| format!("0x{byte:02x}"), between));
    }
    // Three bytes become four letters: where it begins within three makes three forms. Letters at the ends have a share of what is beside it.
    for before in 0..3 {
        let bytes = [&b"\0\0"[..before], secret.as_bytes()].concat();
        let whole = bytes.len() / 3 * 4;
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            let begin = if before == 0 { 0 } else { 4 };
            forms.push(encoded[begin..whole].to_owned());
        }
    }
    forms
}

/// All that was planted, and what it must not be found as.
pub struct Planted(Vec<(String, Vec<String>)>);

impl Planted {
    pub fn texts(texts: &[&str]) -> Self {
        Self(texts.iter().map(|text| ((*text).to_owned(), forms(text))).collect())
    }

    fn new(keys: &[String]) -> Self {
        let texts = [
            TOKEN_OF_FILE,
            TOKEN_OF_VARIABLE,
            PASSWORD_OF_FILE,
            PASSWORD_OF_VARIABLE,
            PASSWORD_IN_CLEAR,
            OAUTH_TOKEN,
            PASSWORD_OF_DEFINITION,
            GUESSED_TOKEN,
            CLIENT_SECRET,
            ISSUED_TOKEN,
        ];
        let Self(mut all) = Self::texts(&texts);
        for key in keys {
            // A line from the middle: the first is alike in all keys.
            let line = key.lines().nth(2).expect("a line of a key").to_owned();
            all.push(("a private key".to_owned(), forms(&line)));
        }
        Self(all)
    }

    #[track_caller]
    pub fn are_not_in(&self, what: &str, text: &str) {
        for (name, forms) in &self.0 {
            for form in forms {
                assert!(!text.contains(form), "{name} is in {what}, as {form}:\n{text:.2000}");
            }
        }
    }
}

#[test]
fn a_secret_is_found_in_every_form() {
    let planted = Planted::new(&[]);
    let found = |text: &str| planted.0.iter().any(|(_, forms)| forms.iter().any(|form| text.contains(form)));
    for before in 0..7 {
        let around = format!("{}{PASSWORD_OF_FILE}{}", "a".repeat(before), "z".repeat(before % 4));
        assert!(found(&STANDARD_NO_PAD.encode(&around)) && found(&URL_SAFE_NO_PAD.encode(&around)), "{around}");
        assert!(found(&around));
    }
    assert!(found(&PASSWORD_OF_FILE.bytes().map(|byte| format!("{byte:02X}")).collect::<String>()));
    assert!(found(&format!("{:?}", PASSWORD_OF_FILE.as_bytes())) && found(&percent_encoded(PASSWORD_OF_FILE)));
    assert!(!found("planted-password-of-nobody"));
}

/// Something that is no broker: it takes connections and hangs up on the first bytes.
fn no_broker() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            drop(stream.set_read_timeout(Some(Duration::from_millis(200))));
            drop(stream.read(&mut [0; 100]));
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    port
}

/// A site with a secret wherever there can be one.
fn planted_site() -> (Site, Planted) {
    let mut site = Site::new("");
    let write = |name: &str, text: &str| fs::write(site.path(name), text).expect("a file");
    fs::create_dir(site.path("secrets")).expect("a directory");
    write("api.token", TOKEN_OF_FILE);
    write("kafka.password", PASSWORD_OF_FILE);
    write("oauth.token", OAUTH_TOKEN);
    write("client.secret", CLIENT_SECRET);
    let ((endpoint, _asked), advertised) = (endpoint(ISSUED_TOKEN), Advertised::default());
    // This one takes logins, and hangs up later.
    let (issued, _logins) = cluster(&advertised, &[]);
    *advertised.lock().expect("a lock") = ("127.0.0.1".to_owned(), issued.into());
    write("secrets/definition.password", PASSWORD_OF_DEFINITION);
    write("secrets/brokers", "127.0.0.1\n");
    let ours = Authority::new("ours");
    let (certificate, api_key) = ours.issue("tidegate", &["localhost"]);
    let (client_certificate, client_key) = ours.issue("client", &[]);
    for (name, text) in [
        ("ca.crt", &ours.pem()),
        ("tls.crt", &certificate),
        ("tls.key", &api_key),
        ("client.crt", &client_certificate),
        ("client.key", &client_key),
    ] {
        write(name, text);
    }
    let broker = no_broker();
    let kafka = |id: &str, mechanism: &str, more: &str| {
        format!(
            "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:{broker}\"]\nconnection_timeout = \"500ms\"\n[clusters.{id}.security]\n{more}\
             [clusters.{id}.security.sasl]\nmechanism = \"{mechanism}\"\n"
        )
    };
    let login = |password: &str| format!("username = \"tide\"\npassword = \"{password}\"\n");
    let tls =
        "enable_tls = true\ntls_ca_file = \"ca.crt\"\ntls_cert_file = \"client.crt\"\ntls_key_file = \"client.key\"\n";
    let clusters = [
        kafka("one", "PLAIN", ""),
        login("${file:kafka.password}"),
        kafka("two", "SCRAM-SHA-512", tls),
        login("${env:PLANTED_PASSWORD}"),
        kafka("three", "PLAIN", ""),
        login(PASSWORD_IN_CLEAR),
        kafka("four", "OAUTHBEARER", ""),
        "token = \"${file:oauth.token}\"\n".to_owned(),
        kafka("five", "OAUTHBEARER", "").replace(&format!(":{broker}"), &format!(":{issued}")),
        format!("token_endpoint = \"http://127.0.0.1:{endpoint}/\"\nclient_id = \"tide\"\nclient_secret = \"${{file:client.secret}}\"\n"),
    ]
    .concat();
    let links: String = ["one", "two", "three", "four", "five"]
        .map(|id| format!("[links.to-{id}]\nsource = \"east\"\ntarget = \"{id}\"\ntopics = [\"orders\"]\ntopic_prefix = \"{id}.\"\n"))
        .concat();
    site.write_config(&format!(
        "[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nsecrets_dir = \"secrets\"\n[daemon.api]\naudit_file = true\n\
         tls_cert_file = \"tls.crt\"\ntls_key_file = \"tls.key\"\n\
         [[daemon.api.tokens]]\nname = \"ann\"\nrole = \"admin\"\nsecret = \"${{file:api.token}}\"\n\
         [[daemon.api.tokens]]\nname = \"bob\"\nrole = \"admin\"\nsecret = \"${{env:PLANTED_TOKEN}}\"\n\
         [clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n[clusters.west]\nkind = \"embedded\"\n\
         [links.flow]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n\
         [[links.flow.pipeline]]\nstage = \"obey\"\nplugin = \"PLUGINS/obey.wasm\"\n{clusters}{links}",
        site.port
    ));
    site.client = Client::known(site.port, Some(TOKEN_OF_FILE), Some(ours.trusted(None)));
    (site, Planted::new(&[api_key, client_key]))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A command of the binary with all that it needs to know.
fn cli(site: &Site, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(words).env("TIDEGATE_URL", &site.client.url).env("TIDEGATE_TOKEN", TOKEN_OF_FILE);
    command.env("TIDEGATE_CA_FILE", site.path("ca.crt")).env("PLANTED_PASSWORD", PASSWORD_OF_VARIABLE);
    command.env("PLANTED_TOKEN", TOKEN_OF_VARIABLE).output().expect("the command runs")
}

#[test]
fn no_secret_is_shown_by_anything() {
    let (site, planted) = planted_site();
    let mut command = site.command();
    command.env("TIDEGATE_LOG", "trace,wasmtime=info,cranelift=info");
    command.env("PLANTED_PASSWORD", PASSWORD_OF_VARIABLE).env("PLANTED_TOKEN", TOKEN_OF_VARIABLE);
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);

    let sasl = |password: &str| json!({ "mechanism": "PLAIN", "username": "tide", "password": password });
    let definition = |id: &str, password: &str| {
        json!({
            "id": id, "source_cluster": { "cluster_id": "east" }, "topics": ["orders"],
            "target_cluster": { "cluster_id": id, "brokers": ["127.0.0.1:1"], "security": { "sasl": sasl(password) } },
        })
        .to_string()
    };
    let made = site.client.send("POST", LINKS, None, &definition("defined", "${file:definition.password}"));
    assert_eq!(made.status, 201, "{}", made.body);
    let refused = site.client.send("POST", LINKS, None, &definition("refused", PASSWORD_IN_CLEAR));
    assert_eq!(refused.status, 400, "{}", refused.body);
    let token = Client::known(site.port, Some(GUESSED_TOKEN), None);
    for answer in [made, refused] {
        planted.are_not_in("an answer to a definition", &answer.body);
    }
    wait_until("the clusters were tried", || {
        ["one", "two", "three", "four", "five"].iter().all(|id| site.client.link(&format!("to-{id}")).error.is_some())
    });

    walk(&site, &planted);
    for answer in [token.get("/api/v1/status"), site.client.get("/api/v1/status")].into_iter().flatten() {
        planted.are_not_in("an answer", &answer.body);
    }
    commands(&site, &planted);

    daemon.signal(Signal::TERM);
    daemon.await_end();
    let log = daemon.stderr();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log has everything");
    planted.are_not_in("the log", &log);
    let audit = fs::read_to_string(site.path("data/audit.jsonl")).expect("an audit file");
    assert!(audit.lines().count() > 10, "{audit}");
    planted.are_not_in("the audit file", &audit);
}

/// Ask every path for every link and cluster, and look at what comes back, headers included.
fn walk(site: &Site, planted: &Planted) {
    let mut asked = 0;
    for endpoint in endpoints() {
        for (link, cluster) in
            [("flow", "east"), ("defined", "defined"), ("to-one", "one"), ("to-two", "two"), ("to-three", "three")]
        {
            let path = endpoint.path.replace("{link}", link).replace("{cluster}", cluster);
            let path = path.replace("{topic}", "orders").replace("{stage}", "obey");
            let is_link_itself = endpoint.path.ends_with("/links/{link}") && endpoint.method != "GET";
            if is_link_itself && link != "refused" {
                continue;
            }
            let path =
                if path.ends_with("/records") && endpoint.method == "GET" { path + "?partition=0" } else { path };
            let body =
                if endpoint.path.ends_with("/stages/{stage}/revisions") { plugin_bytes("obey") } else { Vec::new() };
            let answer = match endpoint.method.as_str() {
                "POST" => site.client.post(&path, &body).expect("an answer"),
                method => site.client.send(method, &path, None, ""),
            };
            asked += 1;
            let what = format!("the answer to {} {path}", endpoint.method);
            planted.are_not_in(&what, &answer.body);
            planted.are_not_in(&what, &format!("{:?}", answer.headers));
        }
    }
    assert!(asked > 100, "{asked}");
}

/// Every command that asks something, for people and for programs.
fn commands(site: &Site, planted: &Planted) {
    let config = site.config().display().to_string();
    for words in [
        &["status"][..],
        &["reload"],
        &["check", "--config", &config],
        &["link", "list"],
        &["link", "show", "flow"],
        &["link", "show", "to-one"],
        &["link", "show", "to-two"],
        &["link", "show", "defined"],
        &["link", "definition", "defined"],
        &["link", "events", "to-three"],
        &["link", "plan", "to-four"],
        &["groups", "list", "to-one"],
        &["topic", "list", "one"],
        &["topic", "list", "east"],
        &["dlq", "list", "flow"],
        &["plugin", "history", "flow"],
        &["verify", "flow"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = cli(site, &[words, json].concat());
            planted.are_not_in(&format!("the output of {words:?}"), &text(&output));
        }
    }
    let help = cli(site, &["status", "--help"]);
    planted.are_not_in("the help", &text(&help));
    // A file with errors on the lines of its secrets, and a token where another file was meant.
    let spoilt = fs::read_to_string(site.config()).expect("a configuration").replace("password = ", "pasword = ");
    fs::write(site.path("spoilt.toml"), spoilt).expect("a file");
    planted.are_not_in(
        "what is wrong with a file",
        &text(&cli(site, &["check", "--config", &site.path("spoilt.toml").display().to_string()])),
    );
    let token_file = site.path("api.token").display().to_string();
    let wrong_files = ["status", "--ca-file", &token_file, "--cert-file", &token_file, "--key-file", &token_file];
    planted.are_not_in("what is wrong with certificates", &text(&cli(site, &wrong_files)));
}
