//! What Prometheus, orchestrators and people see of a daemon: metrics, health, and whether it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tidegate::api::wire::{HealthStatus, LinkHealth};

use crate::exposition::Scrape;
use crate::harness::{Client, LINKS, Site, percent_encoded, plugin_bytes, wait_until};

const CLUSTERS: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.in]
    partitions = 2
    [clusters.east.topics.sales]
    [clusters.west]
    kind = "embedded"
"#;

/// A link whose plugin does what records say, and one whose plugin counts.
const LINKS_WITH_PLUGINS: &str = r#"
    [links.flow]
    source = "east"
    target = "west"
    topics = ["in"]
    heartbeat_interval = "100ms"
    lanes = LANES
    [links.flow.config]
    checkpoint_interval_ms = 5
    [links.flow.breaker]
    rejected_percent = 100
    trapped_percent = 100
    [links.flow.probation]
    records = 0
    [[links.flow.pipeline]]
    stage = "obey"
    plugin = "PLUGINS/obey.wasm"
    [links.sums]
    source = "east"
    target = "west"
    topics = ["sales"]
    [[links.sums.pipeline]]
    stage = "windows"
    plugin = "PLUGINS/aggregate.wasm"
    config = { window_ms = 1000, functions = ["count"] }
"#;

fn scrape(client: &Client) -> Scrape {
    let answer = client.get("/metrics").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    Scrape::read(&answer.body, false)
}

/// What `docs/metrics.md` says: kind, labels and help of each metric by name.
pub(crate) fn documented() -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(file).expect("the document");
    let rows = text.lines().filter(|line| line.starts_with("| `tidegate_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{row}") };
        let labels =
            labels.split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`').to_owned());
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels.collect(), help.to_owned()))
    })
    .collect()
}

/// Kind and labels of each family, as `documented` has them.
fn shown(scrape: &Scrape) -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let families = scrape.0.iter().map(|(name, family)| {
        let labels = |sample: &crate::exposition::Sample| -> BTreeSet<String> {
            sample.labels.keys().filter(|label| *label != "le").cloned().collect()
        };
        let all: BTreeSet<_> = family.samples.iter().map(labels).collect();
        assert_eq!(all.len(), 1, "{name}: samples have different labels");
        (name.clone(), (family.kind.clone(), all.into_iter().next().unwrap_or_default(), family.help.clone()))
    });
    families.collect()
}

fn record(topic_time: u64, what: &str) -> Value {
    json!({"partition": 0, "timestamp": topic_time, "key": "k", "value": json!({"do": what}).to_string()})
}

/// A daemon that has seen everything: records, bad ones, a swap, heartbeats, a notice, a plugin's own counter.
fn busy_site() -> (Site, crate::harness::Daemon) {
    let config = |lanes: &str| CLUSTERS.to_owned() + &LINKS_WITH_PLUGINS.replace("LANES", lanes);
    let site = Site::new(&config("1"));
    site.start().terminate();
    // The link keeps its lane, with a notice.
    site.configure(&config("2"));
    let daemon = site.start();
    let whats = ["ok", "ok", "panic", "reject", "ok"];
    let orders: Vec<Value> = whats.iter().map(|what| record(1_000, what)).collect();
    site.client.produce("east", "in", &orders);
    site.client.produce("east", "sales", &[record(10_000, ""), record(1, "")]);
    site.client.await_caught_up("flow");
    site.client.await_caught_up("sums");
    let config = percent_encoded("{\"reject_every\":0,\"reject_after\":7}");
    let path = format!("{LINKS}/flow/stages/obey/revisions?config={config}");
    assert_eq!(site.client.post(&path, plugin_bytes("obey")).expect("an answer").status, 201);
    (site, daemon)
}

#[test]
fn a_daemon_shows_all_metrics_that_are_documented_and_no_others() {
    let (site, _daemon) = busy_site();
    let documented = documented();
    let flow = [("link_id", "flow")];
    wait_until("everything is shown", || {
        let scrape = scrape(&site.client);
        // Of each link lags are measured by itself.
        let is_measured = scrape.value("tidegate_replication_partitions_folded", &flow).is_some();
        let has_latency = scrape.count("tidegate_heartbeat_latency_seconds", &[]) > 0.0;
        scrape.0.len() == documented.len() && is_measured && has_latency
    });
    let seen = scrape(&site.client);
    assert_eq!(shown(&seen), documented);

    for (name, value) in [
        ("tidegate_replication_messages_total", 3.0),
        ("tidegate_records_read_total", 5.0),
        ("tidegate_records_put_aside_total", 2.0),
        ("tidegate_replication_errors_total", 0.0),
        ("tidegate_replication_consecutive_failures", 0.0),
        ("tidegate_replication_lost_offsets", 0.0),
        ("tidegate_replication_partitions_folded", 0.0),
        ("tidegate_replication_partitions_stalled", 0.0),
        ("tidegate_source_cluster_reachable", 1.0),
        ("tidegate_target_cluster_reachable", 1.0),
        ("tidegate_link_notices", 1.0),
        ("tidegate_stage_records_in_total", 5.0),
        ("tidegate_stage_records_out_total", 3.0),
        ("tidegate_stage_records_rejected_total", 1.0),
        ("tidegate_stage_records_trapped_total", 1.0),
    ] {
        assert_eq!(seen.value(name, &flow), Some(value), "{name}");
    }
    assert_eq!(seen.value("tidegate_link_notices", &[("code", "lanes-differ")]), Some(1.0));
    assert_eq!(seen.value("tidegate_link_status", &[("link_id", "flow"), ("status", "active")]), Some(1.0));
    assert_eq!(seen.value("tidegate_link_status", &[("link_id", "flow"), ("status", "failed")]), Some(0.0));
    let traps = [("link_id", "flow"), ("stage", "obey"), ("kind", "plugin-panic")];
    assert!(seen.value("tidegate_stage_traps_total", &traps).is_some_and(|calls| calls >= 2.0));
    let late = [("link_id", "sums"), ("stage", "windows"), ("name", "late_records")];
    assert_eq!(seen.value("tidegate_plugin_metric", &late), Some(1.0));
    assert!(seen.value("tidegate_stage_state_bytes", &flow).is_some_and(|bytes| bytes > 0.0));
    for (name, least) in [
        ("tidegate_stage_batch_seconds", 1.0),
        ("tidegate_commit_seconds", 2.0),
        ("tidegate_replication_latency_seconds", 1.0),
        ("tidegate_swap_pause_seconds", 1.0),
    ] {
        assert!(seen.count(name, &flow) >= least, "{name}");
    }
    assert!(seen.value("tidegate_process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 1e6));
    assert!(seen.value("tidegate_process_open_fds", &[]).is_some_and(|open| open >= 3.0));

    let agent = ureq::Agent::new_with_defaults();
    let asked = agent.get(format!("{}/metrics", site.client.url)).header("accept", "application/openmetrics-text");
    let mut answer = asked.call().expect("an answer");
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let open = Scrape::read(&answer.body_mut().read_to_string().expect("a page"), true);
    assert_eq!(shown(&open), documented);
}

#[test]
fn lags_are_of_each_partition_up_to_a_limit_and_of_topics_beyond_it() {
    let topics = "[clusters.east]\nkind = \"embedded\"\ntopics.a.partitions = 2\ntopics.b.partitions = 3\n\
                  topics.c.partitions = 1\ntopics.d.partitions = 4\ntopics.e.partitions = 2\ntopics.f.partitions = 2\n\
                  [clusters.west]\nkind = \"embedded\"\n\
                  [links.wide]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"/.*/\"]\n";
    let site = Site::new("");
    let daemon = format!("[daemon]\nlisten = \"127.0.0.1:{}\"\nmetrics_partitions_max = 3\n", site.port);
    site.write_config(&(daemon + topics));
    let _daemon = site.start();
    wait_until("the link runs", || site.client.link("wide").lanes.iter().all(|lane| !lane.partitions.is_empty()));
    site.cli_json::<Value>(&["link", "pause", "wide"]);
    for (topic, records) in [("a", 2), ("b", 3), ("d", 1), ("f", 4)] {
        let record = |number| json!({"partition": number % 2, "timestamp": 1_000, "value": "x"});
        site.client.produce("east", topic, &(0..records).map(record).collect::<Vec<_>>());
    }
    let lag = |scrape: &Scrape, topic: &str, partition: &str| {
        scrape.value("tidegate_replication_lag_records", &[("topic", topic), ("partition", partition)])
    };
    wait_until("the lags are measured", || lag(&scrape(&site.client), "*", "*") == Some(4.0));
    let seen = scrape(&site.client);
    let partitions = [("a", "0"), ("a", "1"), ("c", "0"), ("b", "*"), ("d", "*"), ("e", "*"), ("*", "*")];
    let lags = partitions.map(|(topic, partition)| lag(&seen, topic, partition));
    assert_eq!(lags, [1.0, 1.0, 0.0, 3.0, 1.0, 0.0, 4.0].map(Some));
    assert_eq!(seen.0["tidegate_replication_lag_records"].samples.len(), partitions.len());
    assert_eq!(seen.value("tidegate_replication_partitions_folded", &[]), Some(11.0));
    let old = seen.value("tidegate_replication_lag_ms", &[("topic", "b")]);
    assert!(old.is_some_and(|ms| ms > 1e12), "their records are of 1970: {old:?}");
    assert_eq!(seen.value("tidegate_replication_lag_ms", &[("topic", "e")]), Some(0.0));
}

fn health(site: &Site, link: &str) -> LinkHealth {
    site.client.read(&format!("{LINKS}/{link}/health"))
}

#[test]
fn health_is_said_in_words_and_follows_what_happens() {
    let link = "[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\n\
                [links.copy.health]\ninterval = \"1s\"\nlag_ms_max = 5000\n";
    let site = Site::new(&(CLUSTERS.to_owned() + link));
    let _daemon = site.start();
    wait_until("all is well", || health(&site, "copy").replication_lag_healthy == Some(true));
    let well = health(&site, "copy");
    assert_eq!(well.status, HealthStatus::Healthy, "{well:?}");
    assert_eq!((well.source_cluster_reachable, well.target_cluster_reachable), (Some(true), Some(true)));
    assert!(well.error_rate_healthy && well.checkpoint_healthy && well.issues.is_empty() && well.warnings.is_empty());
    let checked = well.last_health_check.expect("a time");
    wait_until("the clusters are asked again", || health(&site, "copy").last_health_check > Some(checked));

    site.cli_json::<Value>(&["link", "pause", "copy"]);
    site.client.produce("east", "in", &[record(1_000, "")]);
    wait_until("it is behind", || health(&site, "copy").replication_lag_healthy == Some(false));
    let behind = health(&site, "copy");
    assert_eq!(behind.status, HealthStatus::Degraded);
    assert!(behind.warnings.iter().any(|text| text.contains("lag_ms_max")), "{behind:?}");
    assert!(behind.warnings.iter().any(|text| text.contains("paused")), "{behind:?}");
    assert_eq!(site.client.link("copy").health.status, HealthStatus::Degraded);

    site.cli_json::<Value>(&["link", "resume", "copy"]);
    wait_until("all is well again", || health(&site, "copy").status == HealthStatus::Healthy);
}

#[test]
fn a_topic_that_is_not_there_is_told_until_it_is() {
    let link =
        "[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\", \"later\"]\ntopic_refresh = \"1s\"\n";
    let site = Site::new(&(CLUSTERS.to_owned() + link));
    let _daemon = site.start();
    let is_told = || site.client.link("copy").notices.iter().any(|it| it.code == "source-topic-missing");
    wait_until("it is told", is_told);
    let degraded = || health(&site, "copy");
    wait_until("it is a warning", || {
        degraded().warnings.iter().any(|text| text.contains("no topic later at the source"))
    });
    assert_eq!(degraded().status, HealthStatus::Degraded);
    site.client.post("/api/v1/clusters/east/topics", r#"{"name":"later","partitions":1}"#).expect("an answer");
    site.client.produce("east", "later", &[record(1_000, "")]);
    wait_until("it is there", || !is_told() && site.client.is_caught_up("copy"));
    assert_eq!(site.client.ends("west", "later").iter().sum::<i64>(), 1);
}

#[test]
fn a_link_that_stopped_by_itself_is_unhealthy_and_says_what_to_do() {
    let strict = LINKS_WITH_PLUGINS
        .replace("lanes = LANES", "")
        .replace("plugin = \"PLUGINS/obey.wasm\"", "plugin = \"PLUGINS/obey.wasm\"\n    on_error = \"stop\"");
    let site = Site::new(&(CLUSTERS.to_owned() + &strict));
    let _daemon = site.start();
    site.client.produce("east", "in", &[record(1_000, "reject")]);
    wait_until("it is unhealthy", || health(&site, "flow").status == HealthStatus::Unhealthy);
    let failed = health(&site, "flow");
    let said = |words: &str| failed.issues.iter().any(|text| text.contains(words));
    assert!(said("record-rejected") && said("publish a plugin"), "{failed:?}");
    assert!(!failed.checkpoint_healthy);
    assert_ne!(health(&site, "sums").status, HealthStatus::Unhealthy);
}
