//! Text in, settings or diagnostics out.

mod api;
mod both_ways;
mod builtins;
mod circles;
mod corners;
mod definitions;
mod errors;
mod failover;
mod following;
mod fuzz;
mod kafka;
mod nets;
mod reference;
mod rules;
mod settings;
mod start;
pub(super) mod survey;
mod syntax;
mod writing;

use std::path::PathBuf;

use super::{Config, Diagnostic};

/// What the README shows.
const SAMPLE: &str = r#"[daemon]
data_dir = "./tidegate-data"
listen   = "127.0.0.1:8081"
[daemon.limits]
log_lines_per_s = 50

[clusters.east]
kind = "embedded"
[clusters.west]
kind = "embedded"

[links.orders]
name   = "East to West"
type   = "active-passive"
source = "east"
target = "west"
topics = ["orders", "/audit\\..*/"]
topic_prefix = ""
dead_letters = "orders.dead-letters"
lanes  = 2
autostart = true
[links.orders.config]
batch_size = 1000
max_bytes = 10485760
checkpoint_interval_ms = 100
transaction_timeout_ms = 60000
enable_exactly_once = true
[links.orders.breaker]
window_records = 10000
rejected_percent = 50
trapped_percent = 5
then = "pause"
[links.orders.probation]
records = 10000
time = "5m"
rejected_percent = 5
trapped_percent = 1
slowdown = 10
[[links.orders.pipeline]]
stage    = "only-large"
plugin   = "plugins/json-filter.wasm"
digest   = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
on_error = "stop"
config   = { pointer = "/amount", at_least = 100 }
limits   = { memory = "64MiB", time_ms = 1000 }
[[links.orders.pipeline]]
stage  = "mask-cards"
plugin = "plugins/redact.wasm"
config = { pointers = ["/card"], keep_last = 4 }
[links.orders.filter]
include_patterns = [".*important.*"]
filter_by_header = { region = "us-west-1" }
min_timestamp = "2024-01-01T00:00:00Z"
where = { or = [{ key_prefix = ["eu-", "uk-"] }, { not = { header = "tier", equals = "free" } }] }
[links.orders.transform]
add_headers = { replicated_from = "us-west-1" }
remove_headers = ["internal-id"]
header_transforms = { region = ["us-west-1 -> us-east-1"] }
"#;

/// Two clusters, for texts that are about something else. It comes last, so that line numbers stay.
const CLUSTERS: &str = "\n[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";

/// A directory with (empty) files for the plugins of [`SAMPLE`].
fn base_dir() -> PathBuf {
    static DIR: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(|| {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir(dir.path().join("plugins")).expect("directory");
        for plugin in ["json-filter", "redact"] {
            std::fs::write(dir.path().join(format!("plugins/{plugin}.wasm")), b"").expect("file");
        }
        dir
    });
    DIR.path().to_owned()
}

fn parse(text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    Config::parse(text, "tidegate.toml", &base_dir())
}

/// The settings that a text without any fault stands for.
fn config(text: &str) -> Config {
    let (config, warnings) = parse(text).map_err(|found| show(&found)).expect("a text without errors");
    assert_eq!(show(&warnings), "");
    config
}

/// One line each: line, column, severity, key, message, and the help behind a bar.
fn show(diagnostics: &[Diagnostic]) -> String {
    let base = base_dir().display().to_string();
    let show = |it: &Diagnostic| {
        let help = it.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        let line = format!("{}:{} {} {}: {}{help}", it.line, it.column, it.severity, it.key, it.message);
        line.replace(&base, "BASE")
    };
    diagnostics.iter().map(show).collect::<Vec<_>>().join("\n")
}

/// The text has exactly these diagnostics, in this order.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = match parse(text) {
        Ok((_, warnings)) => warnings,
        Err(found) => found,
    };
    assert_eq!(show(&found), expected.join("\n"), "in\n{text}");
}

/// The same, for a text that leaves the clusters out.
#[track_caller]
fn check_with_clusters(text: &str, expected: &[&str]) {
    check(&format!("{text}{CLUSTERS}"), expected);
}
