//! A client that makes up requests from the description of the API, good ones and bad ones, and looks at every answer: schemathesis, from PyPI.
//!
//! It is installed into `target/` by the first test that wants it. `TIDEGATE_EXAMPLES` says how many requests it makes up for each operation beside those that
//! follow from the description, `TIDEGATE_SEED` which.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use kafka_brokers::output;
use serde_json::{Value, json};
use tidegate::api::openapi;

use crate::harness::{Client, LINKS, Site, wait_until};
use crate::secured;

const VERSION: &str = "4.32.5";

/// Enough to see every operation with something odd, in a test that does not take long.
const EXAMPLES: u64 = 3;

/// Whoever has no answer by then has met a request that hangs: the longest wait that is meant is 20 s.
const ANSWER_SECONDS: &str = "60";

/// An answer fits into a line of this length, or its beginning does.
const LINE_CHARS_MAX: usize = 1000;

/// What it may find odd, and we mean so: it cannot know which definitions, offsets and names are right in themselves, and which state a link is in.
const NOT_CHECKED: &str = "positive_data_acceptance";

/// Two clusters, a link with a stage that does what records say, and one without.
const LINKS_OF_IT: &str = r#"
    [clusters.east]
    kind = "embedded"
    topics.orders.partitions = 2
    topics.plain.partitions = 1
    [clusters.west]
    kind = "embedded"
    [links.orders]
    source = "east"
    target = "west"
    topics = ["orders"]
    [[links.orders.pipeline]]
    stage = "obey"
    plugin = "PLUGINS/obey.wasm"
    [links.plain]
    source = "east"
    target = "west"
    topics = ["plain"]
"#;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The program, which is installed if it is not there.
fn schemathesis() -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis").join(VERSION);
    kafka_brokers::once(&home, VERSION.as_bytes(), || install(&home)).expect("schemathesis from PyPI");
    home.join("bin/schemathesis")
}

fn install(home: &Path) -> kafka_brokers::Result<()> {
    let make = |clear: &[&str]| output(Command::new("python3").args(["-m", "venv"]).args(clear).arg(home));
    if make(&[]).is_err() {
        kafka_brokers::install("python3-venv", "the venv of Python, for a client that tries the REST API")?;
        make(&["--clear"])?;
    }
    let wanted = format!("schemathesis=={VERSION}");
    output(Command::new(home.join("bin/pip")).args(["install", "--quiet", &wanted])).map(drop)
}

/// The description, with names that mean something here, and without long waits. Where nobody is asked who they are, nothing is said of that.
fn description(is_open: bool) -> Value {
    let mut document = openapi().clone();
    let methods = document["paths"].as_object_mut().expect("paths").values_mut();
    let operations = methods.flat_map(|methods| methods.as_object_mut().expect("methods").values_mut());
    for operation in operations {
        if is_open {
            operation["security"] = json!([]);
        }
        if let Some(content) = operation.pointer_mut("/requestBody/content")
            && content.get("application/wasm").is_some()
        {
            // It has no idea of components; bytes will do.
            *content = json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}});
        }
        if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
            // Its ends are waits of half a minute.
            parameters.retain(|parameter| parameter["name"] != "wait_ms");
        }
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            let known = match (parameter["in"].as_str(), parameter["name"].as_str()) {
                (Some("path"), Some("link")) => json!(["orders", "plain", "made"]),
                (Some("path"), Some("cluster")) => json!(["east", "west"]),
                (Some("path"), Some("topic")) => json!(["orders", "plain", "orders.dead-letters"]),
                (Some("path"), Some("stage")) => json!(["obey"]),
                (Some("path"), Some("event")) => json!(["failover-1"]),
                _ => continue,
            };
            parameter["schema"] = json!({"enum": known});
        }
    }
    document
}

/// Let it at a daemon, and panic with what it says if it finds anything.
fn try_everything(site: &Site, client: &Client, token: Option<&str>) {
    let record = |number: u64| {
        let what = if number.is_multiple_of(5) { "reject" } else { "keep" };
        json!({"partition": number % 2, "key": format!("k{number}"), "value": json!({"do": what, "n": number}).to_string()})
    };
    client.produce("east", "orders", &(0..50).map(record).collect::<Vec<_>>());
    client.produce("east", "plain", &[json!({"value": "a"})]);
    let made = json!({"id": "made", "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "west"}, "topics": ["plain"], "topic_prefix": "made."});
    assert_eq!(client.post(LINKS, made.to_string()).expect("an answer").status, 201);
    client.await_caught_up("plain");

    let file = site.path("openapi.json");
    fs::write(&file, description(token.is_none()).to_string()).expect("the description");
    let seed = number("TIDEGATE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let examples = number("TIDEGATE_EXAMPLES").unwrap_or(EXAMPLES);
    println!("seed {seed}, {examples} examples");
    let mut command = Command::new(schemathesis());
    command.current_dir(site.path("")).arg("run").arg(&file).args(["--url", &client.url]);
    // One after the other: with several workers Python 3.11 itself fails now and then.
    command.args(["--phases", "examples,coverage,fuzzing", "--workers", "1", "--continue-on-failure"]);
    command.args(["--max-examples", &examples.to_string(), "--seed", &seed.to_string()]);
    command.args(["--exclude-checks", NOT_CHECKED, "--request-timeout", ANSWER_SECONDS]);
    command.args(["--suppress-health-check", "all", "--warnings", "off"]);
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let begun = Instant::now();
    let done = command.output().expect("schemathesis runs");
    let said = shortened(&done.stdout) + &shortened(&done.stderr);
    println!("after {:.0?}", begun.elapsed());
    assert!(done.status.success(), "seed {seed}: {said}");
    wait_until("the daemon answers", || client.get("/api/v1/healthz").is_ok_and(|answer| answer.status == 200));
}

/// What it says, without the source code that it shows with its own errors.
fn shortened(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().map(|line| line.chars().take(LINE_CHARS_MAX).chain(['\n']).collect::<String>()).collect()
}

#[test]
fn whatever_is_asked_is_answered_as_described() {
    let site = Site::new(LINKS_OF_IT);
    let daemon = site.start();
    try_everything(&site, &site.client, None);
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
    daemon.terminate();
}

#[test]
fn whatever_is_asked_with_a_token_is_answered_as_described() {
    let site = Site::new("");
    let tokens = secured::tokens(&site);
    let port = site.port;
    let api = "[daemon.api]\nrequests_per_second = 100000\n";
    site.write_config(&format!(
        "[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{port}\"\n{api}{tokens}{LINKS_OF_IT}"
    ));
    let daemon = site.start();
    try_everything(&site, &Client::known(port, Some(secured::ANN), None), Some(secured::ANN));
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
    daemon.terminate();
}
