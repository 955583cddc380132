//! No error of a library is passed on that quotes a file, a record, an address or a header.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{LINKS, Site, binary, percent_encoded, plugin_bytes, wait_until};
use crate::secrets::Planted;
use crate::secured::Authority;

/// What nobody may see. Each is planted where an error of a library could quote it.
const IN_A_RECORD: &str = "planted-in-a-record-5f21";
const IN_A_NUMBER: &str = "81726354";
const IN_A_LINE: &str = "planted-in-a-broken-line-77aa";
const IN_AN_ADDRESS: &str = "planted-in-an-address-31c0";
const IN_ANOTHER_ADDRESS: &str = "planted-in-another-address-9b9b";
const IN_A_SECRET_FILE: &str = "planted-in-a-secret-file-c0c0";
const IN_A_HEADER: &str = "planted-in-a-header-4d4d";

/// A key in the forms that people break it into, each with what is said of it.
fn broken_keys(key: &str) -> Vec<(&'static str, String, &'static str)> {
    let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n";
    vec![
        ("one-line.key", key.replace('\n', ""), "private key that is damaged"),
        ("spaces.key", key.replace('\n', " "), "private key that is damaged"),
        ("no-end.key", key.lines().take(3).collect::<Vec<_>>().join("\n"), "private key that is damaged"),
        ("bare.key", body.clone(), "no private key"),
        ("not-base64.key", key.replacen(&body[..10], "!@#$%^&*()", 1), "private key that is damaged"),
        ("encrypted.key", format!("{encrypted}{body}\n-----END RSA PRIVATE KEY-----\n"), "private key is encrypted"),
    ]
}

/// Something that answers no request of ours well, and tells what it was asked.
fn refusing_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        }
    });
    port
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(words: &[&str]) -> String {
    said(&Command::new(binary()).args(words).output().expect("the command runs"))
}

#[test]
fn a_broken_key_is_shown_by_nothing() {
    let mut site = Site::new("");
    let ours = Authority::new("ours");
    let (certificate, key) = ours.issue("tidegate", &["localhost"]);
    let line = key.lines().nth(2).expect("a line of a key");
    let planted = Planted::texts(&[line]);
    fs::create_dir(site.path("secrets")).expect("a directory");
    for (name, text) in [("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &ours.pem())] {
        fs::write(site.path(name), text).expect("a file");
    }
    fs::write(site.path("secrets/tls.crt"), &certificate).expect("a file");
    let daemon = |key: &str| {
        format!(
            "[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nsecrets_dir = \"secrets\"\n[daemon.api]\ntls_cert_file = \"tls.crt\"\ntls_key_file = \"{key}\"\n\
             [clusters.e]\nkind = \"embedded\"\n",
            site.port
        )
    };
    let keys = broken_keys(&key);
    for (name, text, what) in &keys {
        fs::write(site.path("secrets").join(name), text).expect("a file");
        let path = site.path("secrets").join(name).display().to_string();
        // As the daemon's own, as that of a cluster, and as an authority.
        for config in [
            daemon(&path),
            format!(
                "{}[clusters.k]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n[clusters.k.security]\nenable_tls = true\ntls_cert_file = \"tls.crt\"\ntls_key_file = \"{path}\"\n",
                daemon("tls.key")
            ),
            format!(
                "{}[clusters.k]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n[clusters.k.security]\nenable_tls = true\ntls_ca_file = \"{path}\"\n",
                daemon("tls.key")
            ),
            format!(
                "{}[clusters.k]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n[clusters.k.security]\nenable_tls = true\ntls_cert_file = \"{path}\"\ntls_key_file = \"tls.key\"\n",
                daemon("tls.key")
            ),
        ] {
            site.write_config(&config);
            let checked = run(&["check", "--config", &site.config().display().to_string()]);
            assert!(checked.contains("error: "), "{name}: {checked}");
            assert!(checked.contains(what) || !config.contains("tls_key_file = \"/"), "{name}: {checked}");
            planted.are_not_in(&format!("what is wrong with {name}"), &checked);
            let (status, log) = site.run_to_end();
            assert!(!status.success());
            planted.are_not_in(&format!("the log of a daemon with {name}"), &log);
        }
        let client = run(&[
            "status",
            "--url",
            "https://127.0.0.1:1",
            "--cert-file",
            &path,
            "--key-file",
            &path,
            "--ca-file",
            &path,
        ]);
        planted.are_not_in("what the command line says", &client);
    }

    site.write_config(&daemon("tls.key"));
    site.client = crate::harness::Client::known(site.port, None, Some(ours.trusted(None)));
    let mut command = site.command();
    command.env("TIDEGATE_LOG", "trace,wasmtime=info,cranelift=info");
    let mut running = site.spawn_with(command);
    site.await_ready(&mut running);
    for (name, ..) in &keys {
        for security in [
            json!({"enable_tls": true, "tls_cert_file": "tls.crt", "tls_key_file": name}),
            json!({"enable_tls": true, "tls_ca_file": name}),
            json!({"enable_tls": true, "tls_cert_file": name, "tls_key_file": name}),
        ] {
            let source = json!({"cluster_id": "k", "brokers": ["127.0.0.1:1"], "security": security});
            let link =
                json!({"id": "x", "source_cluster": source, "target_cluster": {"cluster_id": "e"}, "topics": ["t"]});
            let answer = site.client.send("POST", LINKS, None, &link.to_string());
            assert_eq!(answer.status, 400, "{name}: {}", answer.body);
            planted.are_not_in("the answer to a definition", &answer.body);
        }
    }
    // A key that is replaced while the daemon runs.
    fs::write(site.path("tls.key"), key.replace('\n', "")).expect("a file");
    wait_until("the daemon has looked at the key", || running.stderr().contains("tls-files"));
    let reloaded = site.client.send("POST", "/api/v1/reload", None, "");
    assert!(reloaded.status >= 400, "{}", reloaded.body);
    planted.are_not_in("the answer to a reload", &reloaded.body);
    running.signal(Signal::TERM);
    running.await_end();
    planted.are_not_in("the log", &running.stderr());
}

#[test]
fn what_a_request_or_a_file_holds_is_not_quoted() {
    let texts = [IN_A_RECORD, IN_A_NUMBER, IN_A_LINE, IN_AN_ADDRESS, IN_ANOTHER_ADDRESS, IN_A_SECRET_FILE, IN_A_HEADER];
    let planted = Planted::texts(&texts);
    let site = Site::new("");
    let port = refusing_server();
    fs::create_dir(site.path("secrets")).expect("a directory");
    let write = |name: &str, text: &str| fs::write(site.path("secrets").join(name), text).expect("a file");
    write("password", IN_A_SECRET_FILE);
    write("webhook", &format!("http://127.0.0.1:{port}/services/{IN_ANOTHER_ADDRESS}"));
    write("no-webhook", &format!("{IN_A_SECRET_FILE} is no address"));
    write("brokers", "127.0.0.1\n");
    let config = format!(
        "[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\nsecrets_dir = \"secrets\"\n[daemon.api]\naudit_file = true\n\
         [clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n[clusters.west]\nkind = \"embedded\"\n\
         [links.flow]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n\
         failover_config = {{ notification_webhook = \"http://127.0.0.1:{port}/services/{IN_AN_ADDRESS}\", notification_allow_private = true }}\n\
         [[links.flow.pipeline]]\nstage = \"obey\"\nplugin = \"PLUGINS/obey.wasm\"\n",
        site.port
    );
    site.write_config(&config);
    let mut command = site.command();
    command.env("TIDEGATE_LOG", "trace,wasmtime=info,cranelift=info");
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);
    let refused = |method: &str, path: &str, body: &str| {
        let answer = site.client.send(method, path, None, body);
        assert!(answer.status >= 400, "{method} {path} {body}: {}", answer.body);
        planted.are_not_in(&format!("the answer to {method} {path} {body}"), &answer.body);
    };

    // Records that are none, in each place.
    let records = "/api/v1/clusters/east/topics/orders/records";
    for record in [
        format!(r#"{{"value":"x","partition":"{IN_A_RECORD}"}}"#),
        format!(r#"{{"value":{IN_A_NUMBER}}}"#),
        format!(r#"{{"value":{IN_A_NUMBER}.5}}"#),
        format!(r#"{{"value":["{IN_A_RECORD}"]}}"#),
        format!(r#"{{"value":"x","timestamp":"{IN_A_RECORD}"}}"#),
        format!(r#"{{"value":"x","headers":"{IN_A_RECORD}"}}"#),
        format!(r#"{{"value":"{IN_A_RECORD}"#),
        format!(r#""{IN_A_RECORD}""#),
        format!("{IN_A_RECORD}\n"),
        format!(r#"["{IN_A_RECORD}"]"#),
    ] {
        refused("POST", records, &record);
        let file = site.path("records.jsonl");
        fs::write(&file, &record).expect("a file");
        let mut produce = Command::new(binary());
        produce.args(["produce", "east", "orders", "--json"]).env("TIDEGATE_URL", &site.client.url);
        let output = produce.stdin(fs::File::open(&file).expect("a file")).output().expect("the command runs");
        planted.are_not_in("what produce says", &said(&output));
    }
    // Values of the wrong kind, where a password could have been meant for another key.
    refused("POST", &format!("{LINKS}/flow/lanes"), &format!(r#"{{"lanes":"{IN_A_RECORD}"}}"#));
    refused("POST", "/api/v1/clusters/east/topics", &format!(r#"{{"name":"t","partitions":"{IN_A_RECORD}"}}"#));
    refused("GET", &format!("{records}?partition={IN_A_RECORD}"), "");
    let publish = format!("{LINKS}/flow/stages/obey/revisions?config={}", percent_encoded(&format!("\"{IN_A_RECORD}")));
    let answer = site.client.post(&publish, plugin_bytes("obey")).expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.body);
    planted.are_not_in("the answer to a publish", &answer.body);

    // Records that a plugin cannot handle: what it says stands in dead letters, and the record in nothing else.
    site.client.produce("east", "orders", &[json!({"key": IN_A_RECORD, "value": json!({"do": "panic", "why": IN_A_RECORD}).to_string(), "headers": [["h", IN_A_RECORD]]})]);
    wait_until("the record was put aside", || site.client.ends("west", "flow.dead-letters").iter().sum::<i64>() > 0);

    // Addresses of webhooks.
    let webhook = |id: &str, url: &str| {
        json!({
            "id": id, "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "west"}, "topics": ["orders"],
            "topic_prefix": format!("{id}."), "failover_config": {"notification_webhook": url, "notification_allow_private": true},
        })
        .to_string()
    };
    refused("POST", LINKS, &webhook("told", "${file:no-webhook}"));
    refused("POST", LINKS, &webhook("told", &format!("https://user:{IN_A_SECRET_FILE}@example.com/")));
    refused("POST", LINKS, &webhook("told", &format!("{IN_A_SECRET_FILE}: no address")));
    for (id, written, shown) in [
        ("told", format!("http://127.0.0.1:{port}/services/{IN_AN_ADDRESS}"), "http://127.0.0.1/***"),
        ("told-too", "${file:webhook}".to_owned(), "${file:webhook}"),
    ] {
        let made = site.client.send("POST", LINKS, None, &webhook(id, &written));
        assert_eq!(made.status, 201, "{}", made.body);
        planted.are_not_in("the answer to a definition", &made.body);
        let definition = || site.client.read::<Value>(&format!("{LINKS}/{id}/definition"));
        assert_eq!(definition()["definition"]["failover_config"]["notification_webhook"], shown);
        let show = site.cli(&["link", "definition", id]);
        planted.are_not_in("link definition", &said(&show));
        // Who sends back what was shown changes nothing of it.
        let sent_back = definition()["definition"].to_string();
        let changed = site.client.send("PUT", &format!("{LINKS}/{id}"), None, &sent_back);
        assert!(changed.status == 200 || changed.status == 409, "{}", changed.body);
        for link in [id, "flow"] {
            let planned = site.client.post(&format!("{LINKS}/{link}/failover?dry_run=true"), "").expect("an answer");
            planted.are_not_in("the plan of a failover", &planned.body);
        }
        let _stopped = site.client.post(&format!("{LINKS}/{id}/start"), "").expect("an answer");
        site.client.await_caught_up(id);
        let done = site.client.post(&format!("{LINKS}/{id}/failover?drain_timeout=0s"), "").expect("an answer");
        assert!(done.status < 300, "{}", done.body);
        let events = || site.client.get(&format!("{LINKS}/{id}/events")).expect("an answer").body;
        wait_until("the webhook was asked", || events().contains("webhook-failed"));
        assert!(events().contains("it answers 404"), "the address is the one that was written: {}", events());
        planted.are_not_in("the events", &events());
        let deleted = site.client.send("DELETE", &format!("{LINKS}/{id}"), None, "");
        assert_eq!(deleted.status, 204, "{}", deleted.body);
    }

    // Headers.
    for header in
        ["content-type", "content-encoding", "origin", "if-match", "authorization", "host", "last-event-id", "accept"]
    {
        let host = if header == "host" { String::new() } else { format!("host: 127.0.0.1:{}\r\n", site.port) };
        let mut stream = TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
        let request = format!(
            "PUT {LINKS}/flow HTTP/1.1\r\n{host}{header}: {IN_A_HEADER}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        planted.are_not_in(&format!("the answer to {header}"), &answer);
    }

    // A file with a line that is no TOML.
    site.write_config(&format!("{config}{IN_A_LINE}\n"));
    refused("POST", "/api/v1/reload", "");
    daemon.signal(Signal::HUP);
    wait_until("the file was read", || daemon.stderr().contains("nothing has changed"));
    daemon.signal(Signal::TERM);
    daemon.await_end();
    planted.are_not_in("the log", &daemon.stderr());
    let audit = fs::read_to_string(site.path("data/audit.jsonl")).expect("an audit file");
    planted.are_not_in("the audit file", &audit);
    let (status, log) = site.run_to_end();
    assert!(!status.success());
    planted.are_not_in("the log of a daemon that does not start", &log);
}
