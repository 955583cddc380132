//! `docs/configuration.md` has every key that is read, with the values and defaults of the code.
//!
//! The readers say what they ask of a text that has every key. Headings, keys and meanings are written by hand, the columns between come
//! from there: `cargo xtask docs` writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::survey::{Key, Survey};
use super::{base_dir, show};
use crate::config::reader::Table;
use crate::config::report::{Files, Report};
use crate::config::{Config, Source, read};

/// The variable that has the document written anew.
const WRITE: &str = "TIDEGATE_WRITE_DOCS";

/// Each heading of the document, and where the table that it is about stands in [`FULL`] and [`SPARSE`].
const SECTIONS: [(&str, &[&str]); 22] = [
    ("`[daemon]`", &["daemon"]),
    ("`[daemon.otlp]`", &["daemon.otlp"]),
    ("`[daemon.api]`", &["daemon.api"]),
    ("`[[daemon.api.tokens]]`", &["daemon.api.tokens[0]"]),
    ("`[[daemon.api.clients]]`", &["daemon.api.clients[0]", "daemon.api.clients[1]"]),
    ("`[daemon.limits]`, and `limits` of a stage", &["daemon.limits", "links.full.pipeline[0].limits"]),
    ("`[clusters.ID]`", &["clusters.file", "clusters.brokers", "clusters.token", "clusters.issued", "clusters.aws"]),
    ("`[clusters.ID]` with `kind = \"embedded\"`", &["clusters.file"]),
    (
        "`[clusters.ID]` with `kind = \"kafka\"`",
        &["clusters.brokers", "clusters.token", "clusters.issued", "clusters.aws"],
    ),
    (
        "`[clusters.ID.security]`",
        &["clusters.brokers.security", "clusters.token.security", "clusters.issued.security", "clusters.aws.security"],
    ),
    (
        "`[clusters.ID.security.sasl]`",
        &[
            "clusters.brokers.security.sasl",
            "clusters.token.security.sasl",
            "clusters.issued.security.sasl",
            "clusters.aws.security.sasl",
        ],
    ),
    ("`[clusters.ID.topics.NAME]`", &["clusters.file.topics.one", "clusters.file.topics.two"]),
    ("`[links.ID]`", &["links.full", "links.other"]),
    ("`[links.ID.reverse]`", &["links.both.reverse", "links.full.reverse"]),
    ("`[links.ID.config]`", &["links.full.config", "links.other.config"]),
    ("`[links.ID.breaker]`", &["links.full.breaker"]),
    ("`[links.ID.probation]`", &["links.full.probation"]),
    ("`[links.ID.filter]`", &["links.full.filter"]),
    ("`[links.ID.transform]`", &["links.full.transform"]),
    ("`[links.ID.failover_config]`", &["links.full.failover_config"]),
    ("`[links.ID.health]`", &["links.full.health"]),
    ("`[[links.ID.pipeline]]`", &["links.full.pipeline[0]"]),
];

/// A text with every key: a key that is not here has no kind, and the test says so.
pub(super) const FULL: &str = r#"
[daemon]
data_dir = "data"
name = "a"
layout_max = 1
log_format = "json"
metrics_partitions_max = 5
listen = "127.0.0.1:1"
metadata = "file"
secrets_dir = "secrets"
compile_memory = "2GiB"
shutdown_timeout = "7s"
definitions_insecure_plaintext = true
definitions_max = 1
limits = { time_ms = 1, record_time_ms = 1, memory = "1MiB", table_elements = 1, instances = 1, handles = 1, output_bytes = "1KiB", records_per_input = 1, host_calls_per_record = 1, log_lines_per_s = 1, metric_names = 1, state_bytes = "1KiB", component_bytes = "1KiB" }
[daemon.otlp]
endpoint = "http://a:1"
one_in = 5
[daemon.api]
tls_cert_file = "cert"
tls_key_file = "key"
tls_client_ca_file = "ca"
tls_client_certificate_required = true
insecure_plaintext = true
metrics_without_token = true
connections_max = 5
requests_per_second = 5
header_bytes_max = "16KiB"
body_bytes_max = "2MiB"
produce_bytes_max = "2MiB"
header_timeout = "2s"
body_timeout = "2s"
audit_file = true
audit_file_bytes_max = "2MiB"
audit_files_max = 2
tokens = [{ name = "a", role = "read", secret = "${env:A}" }]
clients = [{ name = "b", role = "read", common_name = "a" }, { name = "c", role = "read", alternative_name = "b" }]

[clusters.file]
kind = "embedded"
path = "file"
compression = "zstd"
compression_level = 2
topics.one = { partitions = 2, retention = "1d" }
topics.two = { retention_ms = 1000, retention_bytes = "1GiB" }

[clusters.brokers]
kind = "kafka"
brokers = ["a:9092"]
client_id = "a"
client_rack = "a"
fetch_max_bytes = "1MiB"
fetch_max_wait = "1s"
idle_timeout = "1s"
metadata_max_age = "1s"
proxy = "socks5://a:1"
proxy_username = "a"
proxy_password = "${env:A}"
connection_timeout = "1s"
request_timeout = "1s"
max_retries = 1
compression = "zstd"
compression_level = 2
replication_factor = 1
[clusters.brokers.security]
enable_tls = true
tls_ca_file = "ca"
tls_cert_file = "cert"
tls_key_file = "key"
tls_key_password = "${env:A}"
tls_server_name = "a"
sasl = { mechanism = "PLAIN", username = "a", password = "${env:A}" }

[clusters.token]
kind = "kafka"
brokers = ["a:9092"]
security = { enable_tls = true, sasl = { mechanism = "OAUTHBEARER", token = "${env:A}" } }

[clusters.issued]
kind = "kafka"
brokers = ["a:9092"]
[clusters.issued.security]
enable_tls = true
[clusters.issued.security.sasl]
mechanism = "OAUTHBEARER"
token_endpoint = "https://a/b"
client_id = "a"
client_secret = "${env:A}"
scope = "a"
token_ca_file = "ca"
extensions = { a = "b" }

[clusters.aws]
kind = "kafka"
brokers = ["a:9092"]
[clusters.aws.security]
enable_tls = true
[clusters.aws.security.sasl]
mechanism = "AWS_MSK_IAM"
region = "a"
access_key_id = "a"
secret_access_key = "${env:A}"
session_token = "${env:A}"

[links.full]
name = "a"
type = "active-passive"
source = "brokers"
target = "token"
topics = ["a"]
topics_exclude = ["b"]
rename = [{ match = "a", to = "b" }]
topic_prefix = "p."
topic_refresh = "1s"
sync_topic_configs = false
sync_topic_acls = true
groups = ["a"]
groups_exclude = ["a"]
heartbeat_interval = "1s"
group_sync_interval = "1s"
replication_factor = 1
dead_letters = "d"
lanes = 2
autostart = false
start = "latest"
[links.full.config]
batch_size = 2
max_bytes = "1MiB"
max_messages = 2
checkpoint_interval_ms = 2
throttle_rate_bytes_per_sec = "1MiB"
enable_compression = true
compression_type = "zstd"
compression_level = 2
enable_idempotence = true
enable_exactly_once = false
isolation_level = "read_uncommitted"
transaction_timeout_ms = 20000
[links.full.breaker]
window_records = 100
rejected_percent = 1
trapped_percent = 1
then = "rollback"
[links.full.probation]
records = 1
time = "1s"
rejected_percent = 2
trapped_percent = 2
slowdown = 2
[links.full.filter]
enabled = true
include_patterns = ["a"]
exclude_patterns = ["b"]
filter_by_header = { a = "b" }
min_timestamp = 1
key_prefix = ["a"]
where = { and = [{ or = [{ key_prefix = "a" }] }, { not = { header = "a", equals = "b" } }] }
[links.full.transform]
enabled = true
remove_headers = ["a"]
header_transforms = { b = "c -> d" }
add_headers = { e = "f" }
[links.full.failover_config]
enabled = true
failover_threshold = 5
failover_timeout_ms = 5000
max_consecutive_failures = 5
auto_failback = true
drain_timeout = "1s"
notification_webhook = "https://a/b"
notification_secret = "${env:A}"
notification_allow_private = true
[links.full.health]
lag_ms_max = 1
errors_per_second_max = 1
consecutive_failures_max = 1
checkpoint_age_max = "1s"
interval = "1s"
[[links.full.pipeline]]
stage = "a"
plugin = "plugins/redact.wasm"
digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
on_error = "stop"
config = {}
limits = { time_ms = 1, record_time_ms = 1, memory = "1MiB", table_elements = 1, instances = 1, handles = 1, output_bytes = "1KiB", records_per_input = 1, host_calls_per_record = 1, log_lines_per_s = 1, metric_names = 1, state_bytes = "1KiB", component_bytes = "1KiB" }

[links.other]
source = "brokers"
target = "token"
topics = ["c"]
start = { mirrormaker = "t", source = "a", connector = "c" }
provenance = true
config = { concurrent_partitions = 2 }

[links.both]
type = "active-active"
source = "brokers"
target = "token"
topics = ["g"]
[links.both.reverse]
rename = [{ match = "a", to = "b" }]
dead_letters = "e"
start = "latest"
filter = { enabled = true }
transform = { enabled = true }
pipeline = [{ stage = "a", plugin = "plugins/redact.wasm" }]
"#;

/// The same tables with nothing in them that can be left out.
const SPARSE: &str = r#"
[clusters.file]
kind = "embedded"
topics.one = {}
[clusters.brokers]
kind = "kafka"
brokers = ["a:9092"]
security.sasl = { mechanism = "SCRAM-SHA-512", username = "a", password = "b" }
[clusters.token]
kind = "kafka"
brokers = ["a:9092"]
security.sasl = { mechanism = "OAUTHBEARER", token = "b" }
[clusters.issued]
kind = "kafka"
brokers = ["a:9092"]
security.sasl = { mechanism = "OAUTHBEARER", token_endpoint = "https://a/b", client_id = "a", client_secret = "b" }
[clusters.aws]
kind = "kafka"
brokers = ["a:9092"]
security.sasl = { mechanism = "AWS_MSK_IAM", region = "a" }
[links.full]
source = "brokers"
target = "token"
topics = ["a"]
[links.full.failover_config]
notification_webhook = "https://a/b"
[[links.full.pipeline]]
stage = "a"
plugin = "plugins/redact.wasm"
[[daemon.api.tokens]]
name = "a"
role = "read"
secret = "${env:PATH}"
"#;

/// A row of the document.
struct Row {
    section: &'static [&'static str],
    key: String,
    cells: [String; 3],
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")
}

/// The cells of a row, if the line is one of keys.
fn cells(line: &str) -> Option<[&str; 4]> {
    let inner = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
    let [key, value, default, meaning] = cells[..] else { panic!("four cells: {line}") };
    Some([key.trim_end_matches('`'), value, default, meaning])
}

/// The document's rows, each with the line that it stands in.
fn rows(text: &str) -> Vec<(usize, Row)> {
    let mut section: Option<&'static [&'static str]> = None;
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            let found = SECTIONS.iter().find(|(known, _)| *known == heading);
            section = Some(found.unwrap_or_else(|| panic!("SECTIONS has no {heading}")).1);
        } else if let Some([key, value, default, meaning]) = cells(line) {
            let cells = [value, default, meaning].map(str::to_owned);
            rows.push((number, Row { section: section.expect("a heading"), key: key.to_owned(), cells }));
        }
    }
    rows
}

pub(super) fn survey(text: &str) -> Survey {
    let source = Source::new("tidegate.toml", text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let report = Report::new(&source, &errors).with_files(Files::Rehearsed);
    read(Table::root(tree.get_ref(), &report), &base_dir(), &[]);
    report.into_survey()
}

/// What was asked of the key of a row, wherever its table stands.
fn asked(survey: &Survey, row: &Row) -> Key {
    let keys = row.section.iter().filter_map(|table| survey.key(&format!("{table}.{}", row.key)));
    let mut all = Key::default();
    for key in keys {
        all.is_asked = true;
        all.default = all.default.or_else(|| key.default.clone());
        all.kinds.extend(key.kinds.iter().filter(|kind| !all.kinds.contains(kind)).cloned().collect::<Vec<_>>());
    }
    all
}

#[test]
fn every_key_that_is_read_is_in_the_document() {
    let text = std::fs::read_to_string(document()).expect("the document");
    let rows: Vec<Row> = rows(&text).into_iter().map(|(_, row)| row).collect();
    let survey = survey(FULL);
    let paths = |row: &Row| row.section.iter().map(|table| format!("{table}.{}", row.key)).collect::<Vec<_>>();
    let described: BTreeSet<String> = rows.iter().flat_map(paths).collect();
    let is_table = |path: &str| {
        let mut tables = SECTIONS.iter().flat_map(|(_, tables)| *tables);
        tables.any(|table| table.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
    };
    // What stands in a value that has a row of its own is told there.
    let is_told = |path: &str| {
        let (outer, key) = path.rsplit_once('.').unwrap_or_default();
        let mut above = rows.iter().filter(|row| paths(row).iter().any(|row| outer.starts_with(&**row)));
        above.any(|row| row.cells[2].contains(&format!("`{key}`")) || row.cells[2].contains(&format!("{key} =")))
    };
    // Tables that are left out are asked for all the same: the same keys, of another link or cluster.
    let is_alike = |path: &str| {
        let alike = path.replacen("links.both.reverse", "links.full", 1).replacen("links.both", "links.full", 1);
        let alike = alike.replacen("links.other", "links.full", 1).replacen("clusters.token", "clusters.file", 1);
        let alike = alike.replacen("clusters.brokers", "clusters.file", 1);
        let alike = alike.replacen("clusters.issued", "clusters.file", 1);
        let alike = alike.replacen("clusters.aws", "clusters.file", 1);
        described.contains(&alike) || is_table(&alike)
    };
    let missing: Vec<&str> = survey
        .paths()
        .filter(|path| !described.contains(*path) && !is_table(path) && !is_told(path) && !is_alike(path))
        .collect();
    assert!(missing.is_empty(), "write rows for these keys into docs/configuration.md: {missing:?}");
    let unknown: Vec<&str> = rows.iter().filter(|row| !asked(&survey, row).is_asked).map(|row| &*row.key).collect();
    assert!(unknown.is_empty(), "nobody reads these keys of docs/configuration.md: {unknown:?}");
}

#[test]
fn values_and_defaults_in_the_document_are_those_of_the_code() {
    let text = std::fs::read_to_string(document()).expect("the document");
    let (rows, survey) = (rows(&text), survey(FULL));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (number, row) in &rows {
        let asked = asked(&survey, row);
        let [value, default, meaning] = &row.cells;
        let value = if asked.kinds.is_empty() { value.clone() } else { asked.kinds.join("; or ") };
        let default = asked.default.map_or_else(|| default.clone(), |default| format!("`{default}`"));
        let key = &row.key;
        assert!(!value.is_empty() && !default.is_empty() && !meaning.is_empty(), "a cell of {key} is empty");
        lines[*number] = format!("| `{key}` | {value} | {default} | {meaning} |");
    }
    let current = lines.join("\n") + "\n";
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(document(), current).expect("the document is written");
    } else {
        assert!(current == text, "docs/configuration.md is not current: `cargo xtask docs` writes it");
    }
}

/// The settings without what says where they stand.
fn settings(text: &str) -> Result<String, String> {
    let (config, _) = Config::parse(text, "tidegate.toml", &base_dir()).map_err(|found| show(&found))?;
    let all = format!("{:?} {:?} {:?}", config.daemon, config.clusters, config.links);
    let places =
        regex::Regex::new(r"span: \d+\.\.\d+|written: Some\([^)]*\)+|start_is_said: \w+").expect("an expression");
    Ok(places.replace_all(&all, "").into_owned())
}

/// The table at a path, made where it is missing.
fn table_at<'t>(root: &'t mut toml::Table, path: &str) -> &'t mut toml::Table {
    path.split('.').fold(root, |table, name| {
        let (name, is_array) = name.strip_suffix("[0]").map_or((name, false), |name| (name, true));
        let found = table.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let found = if is_array { found.get_mut(0).expect("an entry") } else { found };
        found.as_table_mut().expect("a table")
    })
}

/// The TOML value that a cell begins with.
fn literal(cell: &str) -> Option<toml::Value> {
    let text = cell.strip_prefix('`')?.split('`').next()?.replace("ID", "full");
    toml::from_str::<toml::Table>(&format!("x = {text}")).ok()?.remove("x")
}

#[test]
fn what_the_document_calls_a_default_changes_nothing_and_what_it_calls_required_is() {
    let text = std::fs::read_to_string(document()).expect("the document");
    let sparse: toml::Table = toml::from_str(SPARSE).expect("TOML");
    let without = settings(SPARSE).expect("a text without errors");
    let mut checked = 0;
    for (_, row) in rows(&text) {
        let (key, default) = (&row.key, &row.cells[1]);
        if let Some(value) = literal(default) {
            let mut changed = sparse.clone();
            table_at(&mut changed, row.section[0]).insert(key.clone(), value);
            let with = settings(&toml::to_string(&changed).expect("TOML"));
            assert_eq!(with.as_ref(), Ok(&without), "{key} = {default} is not what counts without it");
            checked += 1;
        } else if default == "required" {
            let mut changed = sparse.clone();
            let mut tables = row.section.iter().map(|path| (path, table_at(&mut changed, path).remove(key)));
            let path = tables.find(|(_, removed)| removed.is_some()).expect("a table that has it").0;
            let errors = settings(&toml::to_string(&changed).expect("TOML")).expect_err("it is required");
            assert!(errors.contains(&format!("{path}: {key:?} is missing")), "{key}: {errors}");
            checked += 1;
        }
    }
    assert!(checked > 80, "{checked}");
}
