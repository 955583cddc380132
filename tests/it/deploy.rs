//! What is in `docs/deploy/` fits the program: the unit, the image, the dashboard, the alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value};

use crate::metrics::documented;

/// What expressions are made of beside metrics, labels and numbers.
const PROMQL: [&str; 14] = [
    "and",
    "by",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "min",
    "or",
    "rate",
    "sum",
    "topk",
    "up",
    "on",
    "unless",
];

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(file(name)).expect(name)
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana.json")).expect("JSON")
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::String(text)) => Value::String(text.to_string()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| (key.as_str().expect("a key").to_owned(), json(value));
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        other => panic!("alerts have texts, lists and tables only: {other:?}"),
    }
}

/// The rules for alerts, each a table.
fn alerts() -> Vec<Value> {
    let text = read("alerts.yml");
    let documents = Yaml::load_from_str(&text).expect("YAML");
    let [document] = &documents[..] else { panic!("one document") };
    let groups = json(document)["groups"].as_array().expect("groups").clone();
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// What the documented metrics are called in expressions, and their labels.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = BTreeMap::new();
    for (name, (kind, labels, _)) in documented() {
        if kind == "histogram" {
            let of_classes = labels.iter().cloned().chain(["le".to_owned()]).collect();
            series.insert(format!("{name}_bucket"), of_classes);
            series.extend(["sum", "count"].map(|part| (format!("{name}_{part}"), labels.clone())));
        } else {
            series.insert(name, labels);
        }
    }
    series
}

fn captures<'t>(pattern: &str, text: &'t str) -> Vec<Vec<&'t str>> {
    let pattern = Regex::new(pattern).expect("an expression");
    let found = pattern.captures_iter(text);
    found.map(|found| found.iter().map(|group| group.map_or("", |group| group.as_str())).collect()).collect()
}

/// What is wrong with an expression; otherwise the labels that its result has.
fn check(expression: &str) -> Result<BTreeSet<String>, String> {
    let series = series();
    let bare = Regex::new(r#""[^"]*"|\$\w+|\b\d+[smhd]\b"#).expect("an expression").replace_all(expression, "");
    let mut of_metrics: Option<BTreeSet<String>> = None;
    for found in captures(r"\b([a-z_]+)\b(\{[^}]*\})?", &bare) {
        let (name, selector) = (found[1], found[2]);
        let Some(labels) = series.get(name) else { continue };
        for label in captures(r"([a-z_]+)\s*(?:=~|!=|!~|=)", selector) {
            if !labels.contains(label[1]) && !ADDED.contains(&label[1]) {
                return Err(format!("{name} has no label {}", label[1]));
            }
        }
        let both = of_metrics.map(|known| known.intersection(labels).cloned().collect());
        of_metrics = Some(both.unwrap_or_else(|| labels.clone()));
    }
    let mut labels = of_metrics.unwrap_or_default();
    labels.extend(ADDED.map(str::to_owned));
    let unselected = Regex::new(r"\{[^}]*\}").expect("an expression").replace_all(&bare, "");
    for word in captures(r"\b[a-zA-Z_]\w*\b", &unselected) {
        if !series.contains_key(word[0]) && !PROMQL.contains(&word[0]) && !labels.contains(word[0]) {
            return Err(format!("{} is no metric, label or function", word[0]));
        }
    }
    for by in captures(r"by \(([^)]*)\)", &bare) {
        let kept: BTreeSet<String> = by[1].split(',').map(|label| label.trim().to_owned()).collect();
        if let Some(strange) = kept.difference(&labels).next() {
            return Err(format!("the metrics have no label {strange}"));
        }
        labels = labels.intersection(&kept).cloned().collect();
    }
    Ok(labels)
}

#[track_caller]
fn check_with_labels(expression: &str, named: &[Vec<&str>]) {
    let labels = check(expression).unwrap_or_else(|wrong| panic!("{wrong}: {expression}"));
    for label in named {
        assert!(labels.contains(label[1]), "the result has no label {}: {expression}", label[1]);
    }
}

#[test]
fn what_no_metric_has_is_found() {
    for (expression, wrong) in [
        ("tidegate_replication_lag > 5", "tidegate_replication_lag is no metric, label or function"),
        ("tidegate_commit_seconds > 5", "tidegate_commit_seconds is no metric, label or function"),
        ("tidegate_link_status{state=\"failed\"} == 1", "tidegate_link_status has no label state"),
        ("sum by (link) (tidegate_records_read_total)", "link is no metric, label or function"),
        ("sum by (topic) (tidegate_records_read_total)", "topic is no metric, label or function"),
        ("sum by (instance, le) (rate(tidegate_commit_seconds_count[5m]))", "le is no metric, label or function"),
        ("average(tidegate_uptime_seconds)", "average is no metric, label or function"),
    ] {
        assert_eq!(check(expression), Err(wrong.to_owned()), "{expression}");
    }
    let right = check(
        "histogram_quantile(0.9, sum by (link_id, le) (rate(tidegate_commit_seconds_bucket{link_id=~\"$link\"}[5m])))",
    );
    assert_eq!(right, Ok(["le", "link_id"].map(str::to_owned).into()));
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut expressions = String::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels have one id");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().expect("x") + place["w"].as_u64().expect("w") <= 24, "{}", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let legend = target["legendFormat"].as_str().expect("a legend");
            check_with_labels(expression, &captures(r"\{\{(\w+)\}\}", legend));
            expressions.push_str(expression);
            expressions.push('\n');
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(definition) = variable["definition"].as_str() {
            check_with_labels(definition, &[]);
        }
    }
    let hidden: Vec<String> = documented().into_keys().filter(|name| !expressions.contains(name.as_str())).collect();
    assert!(hidden.is_empty(), "no panel shows these: {hidden:?}");
}

#[test]
fn alerts_are_about_metrics_that_are_there_and_say_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name").to_owned();
        let texts = ["summary", "description"].map(|key| alert["annotations"][key].as_str().expect(&name).to_owned());
        let expression = alert["expr"].as_str().expect(&name);
        check_with_labels(expression, &captures(r"\$labels\.(\w+)", &texts.join(" ")));
        let severity = alert["labels"]["severity"].as_str().expect(&name);
        assert!(["page", "ticket"].contains(&severity), "{name}");
        let wait = alert["for"].as_str();
        assert!(wait.is_none_or(|wait| !captures(r"^\d+[smh]$", wait).is_empty()), "{name}: {wait:?}");
        assert!(names.insert(name.clone()), "{name} occurs twice");
    }
    let guide = fs::read_to_string(file("../operations.md")).expect("the guide");
    for name in names {
        assert!(guide.contains(&format!("`{name}`")), "docs/operations.md does not say what to do about {name}");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let unit = read("tidegate.service");
    assert!(unit.contains("Type=exec") && unit.contains("ExecReload=/bin/kill -HUP $MAINPID"));
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("tidegate.service");
    let program = env!("CARGO_BIN_EXE_tidegate");
    fs::write(&path, unit.replace("/usr/local/bin/tidegate", program)).expect("the unit");
    // Where there is no systemd, nobody can say.
    let Ok(checked) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output() else { return };
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("tidegate")).collect();
    assert!(checked.status.success() && about_us.is_empty(), "{said}");
}

#[test]
fn the_image_is_built_with_the_rust_that_the_program_needs() {
    let image = read("Dockerfile");
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a manifest");
    let version = captures(r#"rust-version = "([\d.]+)""#, &manifest)[0][1].to_owned();
    assert!(image.contains(&format!("FROM rust:{version}-")), "{version}");
    let [user, entry] = ["\nUSER ", "\nENTRYPOINT"].map(|line| image.rfind(line).expect(line));
    assert!(user < entry && !image.contains("USER root") && !image.contains("USER 0"));
}

/// Whoever kills the daemon waits longer than it takes to end.
#[test]
fn nobody_kills_a_daemon_that_is_ending() {
    let rows = fs::read_to_string(file("../configuration.md")).expect("the configuration");
    let row = Regex::new(r#"\| `shutdown_timeout` \|[^|]*\| `"(\d+)s"` \|"#).expect("a pattern");
    let takes: u32 = row.captures(&rows).expect("the default")[1].parse().expect("seconds");
    for (name, pattern) in [("tidegate.service", r"TimeoutStopSec=(\d+)s\n"), ("Dockerfile", r"--stop-timeout (\d+) ")]
    {
        let text = read(name);
        let waits = &Regex::new(pattern).expect("a pattern").captures(&text).expect(name)[1];
        assert!(waits.parse::<u32>().expect("seconds") > takes + 2, "{name} waits for {waits} s");
    }
}
