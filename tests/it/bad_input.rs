//! What the daemon says when it cannot start, and when the disk is full: a clear error, exit status 1, nothing lost.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{LINKS, Site, binary, plugin, plugin_bytes, wait_until};

const CLUSTERS: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.west]
    kind = "embedded"
"#;

const LINK: &str = r#"
    [links.flow]
    source = "east"
    target = "west"
    topics = ["in"]
"#;

fn with(more: &str) -> String {
    format!("{CLUSTERS}{LINK}{more}")
}

fn stage(lines: &str) -> String {
    with(&format!("[[links.flow.pipeline]]\nstage = \"keep\"\n{lines}\n"))
}

/// The daemon must not start at this site, and say this; and `check` must say the same where it can know it.
fn refused(site: &Site, parts: &[&str]) {
    let (status, error) = site.run_to_end();
    assert_eq!(status.code(), Some(1), "{error}");
    assert!(error.contains("error: "), "{error}");
    for part in parts {
        assert!(error.contains(part), "expected {part:?} in: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

fn refused_config(clusters_and_links: &str, parts: &[&str]) {
    let site = Site::new(clusters_and_links);
    refused(&site, &[&["tidegate.toml:"], parts].concat());
    assert!(!site.path("data/east.redb").exists(), "a store was made although the daemon could not start");
    let check = Command::new(binary()).args(["check", "--config"]).arg(site.config()).output().expect("check");
    let out = String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.status.code(), Some(1), "{out}");
    assert!(parts.iter().all(|part| out.contains(part)), "{out}");
}

#[test]
fn a_configuration_with_errors_is_refused_with_the_place_and_what_would_be_right() {
    refused_config("[clusters.east", &["4:15: error: unclosed table"]);
    refused_config(&with("lane = 2"), &["lane", "lanes"]);
    refused_config(&with("lanes = \"two\""), &["lanes", "number"]);
    refused_config(
        &with("").replace("target = \"west\"", "target = \"wset\""),
        &["there is no cluster \"wset\"", "west"],
    );
    refused_config(&with("").replace("target = \"west\"", "target = \"east\""), &["in"]);
}

#[test]
fn a_missing_configuration_is_refused() {
    let site = Site::new("");
    fs::remove_file(site.config()).expect("the configuration");
    refused(&site, &["tidegate.toml"]);
}

#[test]
fn a_plugin_that_cannot_run_is_refused() {
    let file = |name: &str, bytes: &[u8]| {
        let site = Site::new(&stage(&format!("plugin = \"{name}\"\nconfig = {{ pointer = \"/n\", at_least = 1 }}")));
        fs::write(site.path(name), bytes).expect("a file");
        site
    };
    refused_config(&stage("plugin = \"nowhere.wasm\""), &["nowhere.wasm"]);
    let component = plugin_bytes("json-filter");
    refused(&file("text.wasm", b"text"), &["text.wasm", "not a WebAssembly component"]);
    refused(&file("none.wasm", b""), &["none.wasm", "not a WebAssembly component"]);
    refused(&file("core.wasm", b"\0asm\x01\0\0\0"), &["core.wasm", "core WebAssembly module, not a component"]);
    refused(&file("cut.wasm", &component[..component.len() / 2]), &["cut.wasm", "not a valid component"]);
    let mut damaged = component;
    let middle = damaged.len() / 3;
    damaged[middle..middle + 64].fill(0xff);
    refused(&file("damaged.wasm", &damaged), &["damaged.wasm", "not a valid component"]);
}

#[test]
fn a_wrong_plugin_configuration_or_digest_is_refused() {
    plugin("json-filter");
    let component = "plugin = \"PLUGINS/json-filter.wasm\"";
    refused_config(
        &stage(&format!("{component}\nconfig = {{ pointer = \"/n\" }}")),
        &["refused by the plugin", "give one of"],
    );
    refused_config(
        &stage(&format!("{component}\nconfig = {{ pointer = \"n\", at_least = 1 }}")),
        &["refused by the plugin", "pointer"],
    );
    let pin = format!("digest = \"sha256:{}\"", "0".repeat(64));
    let config = "config = { pointer = \"/n\", at_least = 1 }";
    refused_config(&stage(&format!("{component}\n{pin}\n{config}")), &["has another digest", "sha256:"]);
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let site = Site::new("");
    fs::write(site.path("file"), "a file").expect("a file");
    site.write_config(&format!("[daemon]\ndata_dir = \"file/data\"\nlisten = \"127.0.0.1:{}\"\n{CLUSTERS}", site.port));
    refused(&site, &["file/data", "directory that can be written"]);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    let second = Site::new(CLUSTERS);
    let data = site.path("data").display().to_string();
    second
        .write_config(&format!("[daemon]\ndata_dir = \"{data}\"\nlisten = \"127.0.0.1:{}\"\n{CLUSTERS}", second.port));
    refused(&second, &["in use by another daemon"]);
    assert!(site.client.is_ready());
    daemon.terminate();
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let site = Site::new("");
    site.write_config(&format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{port}\"\n{CLUSTERS}"));
    refused(&site, &[&format!("listen on 127.0.0.1:{port}"), "another `listen` address"]);
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let site = Site::new(CLUSTERS);
    let file = site.path("data/west.redb");
    fs::create_dir_all(site.path("data")).expect("a directory");
    for content in ["this is somebody's diary", ""] {
        fs::write(&file, content).expect("a file");
        refused(&site, &["cluster west", "west.redb"]);
        assert_eq!(fs::read_to_string(&file).expect("the file"), content);
    }
}

/// The limit of a file's size stands for a full disk. The signal that comes with it is ignored, as a disk sends none.
#[test]
fn a_full_disk_is_reported_and_loses_nothing_that_was_acknowledged() {
    let site = Site::new(&with("[clusters.east.topics.in]\npartitions = 1"));
    let mut shell = Command::new("sh");
    let config = site.config().display().to_string();
    shell.args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$0\" run --config \"$1\""]).arg(binary()).arg(config);
    let mut daemon = site.spawn_with(shell);
    site.await_ready(&mut daemon);

    // Text that does not compress.
    let mut dice = crate::harness::Dice::new(1);
    let mut text = || -> String { (0..64 << 10).map(|_| char::from(33 + dice.below(90) as u8)).collect() };
    let path = "/api/v1/clusters/east/topics/in/records";
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let value = text();
        let answer = site.client.post(path, json!({"value": value}).to_string()).expect("the daemon goes on");
        if answer.status != 200 {
            break answer;
        }
        acknowledged.push(value);
        assert!(acknowledged.len() < 1000, "the disk did not fill up");
    };
    assert!(refusal.status >= 500, "{}", refusal.body);
    let refusal = refusal.json();
    assert!(["code", "detail", "remedy"].iter().all(|key| refusal[*key] != ""), "{refusal}");
    wait_until("a cluster is reported as failed", || {
        let status: Value = site.client.read("/api/v1/status");
        status["clusters"].as_array().expect("clusters").iter().any(|cluster| cluster["state"] == "failed")
    });
    daemon.kill();

    // There is room again.
    let _daemon = site.start();
    site.client.post(&format!("{LINKS}/flow/start"), "").expect("an answer");
    site.client.await_caught_up("flow");
    for cluster in ["east", "west"] {
        let records = site.client.records(cluster, "in", 0);
        let values: Vec<_> = records.into_iter().map(|record| record.value.expect("a value")).collect();
        // What was refused may be there all the same, but nothing else.
        assert!(values.len() <= acknowledged.len() + 1, "{cluster}: {} records", values.len());
        assert!(acknowledged.iter().zip(&values).all(|(a, b)| a.as_bytes() == b) && values.len() >= acknowledged.len());
    }
}
