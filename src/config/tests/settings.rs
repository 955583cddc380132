//! Texts that are right.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::config::PluginSource;
use crate::config::{
    BreakerAction, BreakerConfig, ClusterConfig, ClusterKind, Config, EmbeddedConfig, HealthConfig, Isolation,
    LogFormat, ProbationConfig, Start, TopicConfig, TransferConfig,
};
use crate::model::layout::LAYOUT_NEWEST;
use crate::model::{Codec, Compression, Digest, Limits, OnError};

use super::{CLUSTERS, SAMPLE, base_dir, config, parse, show};

fn embedded(cluster: &ClusterConfig) -> &EmbeddedConfig {
    match &cluster.kind {
        ClusterKind::Embedded(embedded) => embedded,
        ClusterKind::Kafka(_) => panic!("{} is a Kafka cluster", cluster.id),
    }
}

#[test]
fn the_sample_means_what_it_says() {
    let config = config(SAMPLE);
    assert_eq!(config.daemon.data_dir, base_dir().join("tidegate-data"));
    assert_eq!(config.daemon.listen, "127.0.0.1:8081".parse().expect("address"));
    assert_eq!(config.daemon.layout_max, LAYOUT_NEWEST);
    let clusters: Vec<_> = config
        .clusters
        .values()
        .map(|it| {
            let embedded = embedded(it);
            (&*it.id, embedded.path.clone(), embedded.compression)
        })
        .collect();
    let path = |name: &str| base_dir().join("tidegate-data").join(name);
    let fast = Compression::FAST;
    assert_eq!(clusters, [("east", path("east.redb"), fast), ("west", path("west.redb"), fast)]);

    let link = &config.links["orders"];
    assert_eq!((&*link.id, &*link.name, &*link.source, &*link.target), ("orders", "East to West", "east", "west"));
    let topics: Vec<_> = link.topics.iter().map(ToString::to_string).collect();
    assert_eq!(topics, ["orders", "/audit\\..*/"]);
    assert_eq!((&*link.topic_prefix, link.lanes, link.autostart, link.start.clone()), ("", 2, true, Start::Earliest));
    assert_eq!(link.dead_letters, "orders.dead-letters");
    assert_eq!(link.config, TransferConfig::default());
    assert_eq!((&link.breaker, &link.probation), (&BreakerConfig::default(), &ProbationConfig::default()));
    assert!(link.selects("audit.x") && link.selects("orders") && !link.selects("audit"));

    assert_eq!(link.pipeline.len(), 2);
    let (filter, mask) = (&link.pipeline[0], &link.pipeline[1]);
    assert_eq!((&*filter.name, &*mask.name), ("only-large", "mask-cards"));
    assert_eq!(filter.plugin, PluginSource::File(base_dir().join("plugins/json-filter.wasm")));
    assert_eq!((filter.digest, mask.digest), (Some(Digest::of(b"")), None));
    assert_eq!(filter.config.value, json!({"pointer": "/amount", "at_least": 100}));
    assert_eq!(mask.config.value, json!({"pointers": ["/card"], "keep_last": 4}));
    assert_eq!((filter.on_error, mask.on_error), (OnError::Stop, OnError::DeadLetter));
    let limits = Limits { log_lines_per_s: 50, ..Limits::default() };
    assert_eq!((&config.daemon.limits, &filter.limits, &mask.limits), (&limits, &limits, &limits));
}

#[test]
fn every_setting_can_differ_from_its_default() {
    let config = config(
        r#"
        daemon = { data_dir = "/var/lib/tidegate", layout_max = 1, listen = "[::1]:0", log_format = "json", metrics_partitions_max = 0, shutdown_timeout = "1m" }
        [clusters.one]
        kind = "embedded"
        path = "one/file"
        compression = "gzip"
        compression_level = 9
        topics.forever = {}
        topics.days = { partitions = 4, retention = "7d", retention_bytes = "10GiB" }
        [clusters.two]
        kind = "embedded"
        path = "/two"
        topics.ms = { retention_ms = 60_000, retention_bytes = 0x1000 }
        [links."a.b"]
        source = "one"
        target = "two"
        topics = ["t"]
        topic_prefix = "copy."
        lanes = 1024
        autostart = false
        start = "latest"
        dead_letters = "bad"
        config = { batch_size = 1, max_bytes = "1KiB", max_messages = 7, checkpoint_interval_ms = 60000, throttle_rate_bytes_per_sec = "1MiB", transaction_timeout_ms = 10000 }
        breaker = { window_records = 100, rejected_percent = 0, trapped_percent = 100, then = "rollback" }
        probation = { records = 0, time = "30d", rejected_percent = 100, trapped_percent = 0, slowdown = 1000 }
        health = { lag_ms_max = 1, errors_per_second_max = 0, consecutive_failures_max = 7, checkpoint_age_max = "1d", interval = "1h" }
        pipeline = [{ stage = "s", plugin = "plugins/redact.wasm", on_error = "pass" }]
        "#,
    );
    assert_eq!(config.daemon.data_dir.to_str(), Some("/var/lib/tidegate"));
    assert_eq!(config.daemon.layout_max, 1);
    assert_eq!((config.daemon.log_format, config.daemon.metrics_partitions_max), (LogFormat::Json, 0));
    assert_eq!(config.daemon.shutdown_timeout, Duration::from_secs(60));
    assert_eq!(config.daemon.listen, "[::1]:0".parse().expect("address"));
    let (one, two) = (&config.clusters["one"], &config.clusters["two"]);
    let compression = Compression::with_level(Codec::Gzip, 9).expect("a level");
    assert_eq!(*embedded(one), EmbeddedConfig { path: base_dir().join("one/file"), compression });
    assert_eq!(embedded(two).path.to_str(), Some("/two"));
    let forever = TopicConfig { partitions: 1, retention_ms: None, retention_bytes: None };
    let days = TopicConfig { partitions: 4, retention_ms: Some(604_800_000), retention_bytes: Some(10 << 30) };
    assert_eq!(one.topics, BTreeMap::from([("days".into(), days), ("forever".into(), forever)]));
    assert_eq!(two.topics["ms"].retention_ms, Some(60_000));
    assert_eq!(two.topics["ms"].retention_bytes, Some(4096));

    let link = &config.links["a.b"];
    assert_eq!(
        (&*link.topic_prefix, link.lanes, link.autostart, link.start.clone()),
        ("copy.", 1024, false, Start::Latest)
    );
    assert_eq!(link.target_topic("t"), "copy.t");
    let transfer = TransferConfig {
        batch_size: 1,
        max_bytes: 1024,
        max_messages: Some(7),
        checkpoint_interval_ms: 60_000,
        compression: None,
        throttle_rate: Some(1 << 20),
        enable_exactly_once: true,
        isolation: Isolation::ReadCommitted,
        transaction_timeout_ms: 10_000,
    };
    assert_eq!(link.config, transfer);
    assert_eq!((&*link.dead_letters, link.pipeline[0].on_error), ("bad", OnError::Pass));
    let breaker =
        BreakerConfig { window_records: 100, rejected_percent: 0, trapped_percent: 100, then: BreakerAction::Rollback };
    assert_eq!(link.breaker, breaker);
    let probation = ProbationConfig {
        records: 0,
        time_ms: 2_592_000_000,
        rejected_percent: 100,
        trapped_percent: 0,
        slowdown: 1000,
    };
    assert_eq!(link.probation, probation);
    let health = HealthConfig {
        lag_ms_max: 1,
        errors_per_second_max: 0,
        consecutive_failures_max: 7,
        checkpoint_age_max: Duration::from_secs(86_400),
        interval: Duration::from_secs(3600),
    };
    assert_eq!(link.health, health);
    assert_eq!(link.pipeline[0].config.value, json!({}));
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = format!("[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n{CLUSTERS}");
    let config = config(&text);
    assert_eq!(config.daemon.data_dir, base_dir().join("tidegate-data"));
    assert_eq!(config.daemon.listen, "127.0.0.1:8081".parse().expect("address"));
    let link = &config.links["l"];
    assert_eq!((&*link.name, link.lanes, link.autostart, link.start.clone()), ("l", 1, true, Start::Earliest));
    assert_eq!(link.config, TransferConfig::default());
    assert_eq!(link.dead_letters, "l.dead-letters");
    let breaker =
        BreakerConfig { window_records: 10_000, rejected_percent: 50, trapped_percent: 5, then: BreakerAction::Pause };
    let probation =
        ProbationConfig { records: 10_000, time_ms: 300_000, rejected_percent: 5, trapped_percent: 1, slowdown: 10 };
    assert_eq!((&link.breaker, &link.probation), (&breaker, &probation));
    let health = HealthConfig {
        lag_ms_max: 60_000,
        errors_per_second_max: 10,
        consecutive_failures_max: 3,
        checkpoint_age_max: Duration::from_secs(60),
        interval: Duration::from_secs(10),
    };
    assert_eq!(link.health, health);
    assert_eq!((config.daemon.log_format, config.daemon.metrics_partitions_max), (LogFormat::Text, 1000));
    assert_eq!(config.daemon.shutdown_timeout, Duration::from_secs(10));
    assert_eq!(link.config.transaction_timeout_ms, 60_000);
    assert_eq!(config.daemon.limits, Limits::default());
    assert!(link.pipeline.is_empty());
}

/// A link with a stage that has these limits.
fn with_limits(limits: &str) -> String {
    format!(
        "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n[[links.l.pipeline]]\nstage = 's'\n\
         plugin = 'plugins/redact.wasm'\nlimits = {{ {limits} }}\n{CLUSTERS}"
    )
}

#[test]
fn every_limit_can_be_set_for_a_stage_and_for_the_daemon() {
    let written = "time_ms = 60000, record_time_ms = 7, memory = '4GiB', table_elements = 1, instances = 2, handles = 3, \
                   output_bytes = '1GiB', records_per_input = 4, host_calls_per_record = 5, log_lines_per_s = 0, \
                   metric_names = 6, state_bytes = '64GiB', component_bytes = '1MiB'";
    let expected = Limits {
        time_ms: 60_000,
        record_time_ms: 7,
        memory_bytes: 4 << 30,
        table_elements: 1,
        instances: 2,
        handles: 3,
        output_bytes: 1 << 30,
        records_per_input: 4,
        host_calls_per_record: 5,
        log_lines_per_s: 0,
        metric_names: 6,
        state_bytes: 64 << 30,
        component_bytes: 1 << 20,
    };
    let of_stage = config(&with_limits(written));
    assert_eq!((&of_stage.links["l"].pipeline[0].limits, &of_stage.daemon.limits), (&expected, &Limits::default()));
    let of_daemon = config(&format!("daemon.limits = {{ {written} }}\n{}", with_limits("handles = 9")));
    assert_eq!(of_daemon.daemon.limits, expected);
    assert_eq!(of_daemon.links["l"].pipeline[0].limits, Limits { handles: 9, ..expected });
}

#[test]
fn a_record_has_no_more_time_than_its_batch() {
    let times = |text: &str| {
        let config = config(text);
        let limits = &config.links["l"].pipeline[0].limits;
        (limits.time_ms, limits.record_time_ms)
    };
    assert_eq!(times(&with_limits("time_ms = 99")), (99, 99));
    assert_eq!(times(&with_limits("time_ms = 101")), (101, 100));
    assert_eq!(times(&with_limits("record_time_ms = 1000")), (1000, 1000));
    assert_eq!(times(&format!("daemon.limits.time_ms = 50\n{}", with_limits("time_ms = 60"))), (60, 50));
}

#[test]
fn every_answer_to_a_bad_record_has_a_name() {
    for (name, policy) in [
        ("dead-letter", OnError::DeadLetter),
        ("skip", OnError::Skip),
        ("stop", OnError::Stop),
        ("pass", OnError::Pass),
    ] {
        let config = config(&SAMPLE.replace("on_error = \"stop\"", &format!("on_error = \"{name}\"")));
        assert_eq!(config.links["orders"].pipeline[0].on_error, policy, "{name}");
    }
}

#[test]
fn a_plugins_configuration_becomes_json() {
    let text = format!(
        "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n[[links.l.pipeline]]\nstage = 's'\n\
         plugin = 'plugins/redact.wasm'\n[links.l.pipeline.config]\nday = 1979-05-27\nat = 1979-05-27T07:32:00Z\n\
         half = 0.5\nlow = -1\nhex = 0xff\nlist = [1, [true], {{ \"a/b~\" = 'ä' }}]\n{CLUSTERS}"
    );
    let expected = json!({"day": "1979-05-27", "at": "1979-05-27T07:32:00Z", "half": 0.5, "low": -1, "hex": 255, "list": [1, [true], {"a/b~": "ä"}]});
    assert_eq!(config(&text).links["l"].pipeline[0].config.value, expected);
}

#[test]
fn errors_of_a_plugin_find_their_place() {
    let config = config(SAMPLE);
    let stage = &config.links["orders"].pipeline[1];
    let at = |pointer: &str| show(&[config.source.error(stage.config.place(pointer), "x")]);
    assert_eq!(at(""), "49:10 error links.orders.pipeline[1].config: x");
    assert_eq!(at("/keep_last"), "49:46 error links.orders.pipeline[1].config.keep_last: x");
    assert_eq!(at("/pointers/0"), "49:24 error links.orders.pipeline[1].config.pointers[0]: x");
    // What the user did not write is shown at what is around it.
    assert_eq!(at("/pointers/7/x"), "49:23 error links.orders.pipeline[1].config.pointers: x");
    assert_eq!(at("/missing"), at(""));
    assert_eq!(at("not a pointer"), at(""));
    let plugin = show(&[config.source.error(&stage.plugin_place, "x")]);
    assert_eq!(plugin, "48:10 error links.orders.pipeline[1].plugin: x");
}

#[test]
fn a_configuration_that_was_left_out_is_shown_at_its_stage() {
    let text = format!(
        "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n[[links.l.pipeline]]\nstage = 's'\n\
         plugin = 'plugins/redact.wasm'\n{CLUSTERS}"
    );
    let config = config(&text);
    let place = config.links["l"].pipeline[0].config.place("/x");
    assert_eq!(show(&[config.source.error(place, "x")]), "5:1 error links.l.pipeline[0]: x");
}

#[test]
fn a_file_is_read_with_paths_relative_to_it() {
    let file = base_dir().join("sample.toml");
    std::fs::write(&file, SAMPLE).expect("file");
    let (config, _) = Config::load(&file).expect("settings");
    assert_eq!(config.daemon.data_dir, base_dir().join("tidegate-data"));
    let redact = PluginSource::File(base_dir().join("plugins/redact.wasm"));
    assert_eq!(config.links["orders"].pipeline[1].plugin, redact);
}

#[test]
fn what_windows_editors_write_can_be_read() {
    let text = format!("\u{feff}{}", SAMPLE.replace('\n', "\r\n"));
    let (config, _) = parse(&text).expect("settings");
    assert_eq!(config.links["orders"].lanes, 2);
}
