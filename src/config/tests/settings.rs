//! Texts that are right.

use std::collections::BTreeMap;

use serde_json::json;

use crate::config::{Config, LimitsConfig, Start, TopicConfig, TransferConfig};
use crate::model::Digest;

use super::{CLUSTERS, SAMPLE, base_dir, config, parse, show};

#[test]
fn the_sample_means_what_it_says() {
    let config = config(SAMPLE);
    assert_eq!(config.daemon.data_dir, base_dir().join("tidegate-data"));
    assert_eq!(config.daemon.listen, "127.0.0.1:8081".parse().expect("address"));
    let clusters: Vec<_> =
        config.clusters.values().map(|it| (&*it.id, it.path.clone(), it.compression_level)).collect();
    let path = |name: &str| base_dir().join("tidegate-data").join(name);
    assert_eq!(clusters, [("east", path("east.redb"), 1), ("west", path("west.redb"), 1)]);

    let link = &config.links["orders"];
    assert_eq!((&*link.id, &*link.name, &*link.source, &*link.target), ("orders", "East to West", "east", "west"));
    let topics: Vec<_> = link.topics.iter().map(ToString::to_string).collect();
    assert_eq!(topics, ["orders", "/audit\\..*/"]);
    assert_eq!((&*link.topic_prefix, link.lanes, link.autostart, link.start), ("", 2, true, Start::Earliest));
    assert_eq!(link.config, TransferConfig::default());
    assert!(link.selects("audit.x") && link.selects("orders") && !link.selects("audit"));

    assert_eq!(link.pipeline.len(), 2);
    let (filter, mask) = (&link.pipeline[0], &link.pipeline[1]);
    assert_eq!((&*filter.name, &*mask.name), ("only-large", "mask-cards"));
    assert_eq!(filter.plugin, base_dir().join("plugins/json-filter.wasm"));
    assert_eq!((filter.digest, mask.digest), (Some(Digest::of(b"")), None));
    assert_eq!(filter.config.value, json!({"pointer": "/amount", "at_least": 100}));
    assert_eq!(mask.config.value, json!({"pointers": ["/card"], "keep_last": 4}));
    assert_eq!((&filter.limits, &mask.limits), (&LimitsConfig::default(), &LimitsConfig::default()));
}

#[test]
fn every_setting_can_differ_from_its_default() {
    let config = config(
        r#"
        daemon = { data_dir = "/var/lib/tidegate", listen = "[::1]:0" }
        [clusters.one]
        kind = "embedded"
        path = "one/file"
        compression_level = 19
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
        config = { batch_size = 1, max_bytes = "1KiB", max_messages = 7, checkpoint_interval_ms = 60000 }
        pipeline = [{ stage = "s", plugin = "plugins/redact.wasm", limits = { memory = "4GiB", time_ms = 1, output_bytes = 1024, log_lines_per_s = 0 } }]
        "#,
    );
    assert_eq!(config.daemon.data_dir.to_str(), Some("/var/lib/tidegate"));
    assert_eq!(config.daemon.listen, "[::1]:0".parse().expect("address"));
    let (one, two) = (&config.clusters["one"], &config.clusters["two"]);
    assert_eq!((&one.path, one.compression_level), (&base_dir().join("one/file"), 19));
    assert_eq!(two.path.to_str(), Some("/two"));
    let forever = TopicConfig { partitions: 1, retention_ms: None, retention_bytes: None };
    let days = TopicConfig { partitions: 4, retention_ms: Some(604_800_000), retention_bytes: Some(10 << 30) };
    assert_eq!(one.topics, BTreeMap::from([("days".into(), days), ("forever".into(), forever)]));
    assert_eq!(two.topics["ms"].retention_ms, Some(60_000));
    assert_eq!(two.topics["ms"].retention_bytes, Some(4096));

    let link = &config.links["a.b"];
    assert_eq!((&*link.topic_prefix, link.lanes, link.autostart, link.start), ("copy.", 1024, false, Start::Latest));
    assert_eq!(link.target_topic("t"), "copy.t");
    let transfer = TransferConfig {
        batch_size: 1,
        max_bytes: 1024,
        max_messages: Some(7),
        checkpoint_interval_ms: 60_000,
        enable_exactly_once: true,
    };
    assert_eq!(link.config, transfer);
    let limits = LimitsConfig { memory_bytes: 4 << 30, time_ms: 1, output_bytes: 1024, log_lines_per_s: 0 };
    assert_eq!(link.pipeline[0].limits, limits);
    assert_eq!(link.pipeline[0].config.value, json!({}));
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = format!("[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n{CLUSTERS}");
    let config = config(&text);
    assert_eq!(config.daemon.data_dir, base_dir().join("tidegate-data"));
    assert_eq!(config.daemon.listen, "127.0.0.1:8081".parse().expect("address"));
    let link = &config.links["l"];
    assert_eq!((&*link.name, link.lanes, link.autostart, link.start), ("l", 1, true, Start::Earliest));
    assert_eq!(link.config, TransferConfig::default());
    assert!(link.pipeline.is_empty());
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
    assert_eq!(at(""), "34:10 error links.orders.pipeline[1].config: x");
    assert_eq!(at("/keep_last"), "34:46 error links.orders.pipeline[1].config.keep_last: x");
    assert_eq!(at("/pointers/0"), "34:24 error links.orders.pipeline[1].config.pointers[0]: x");
    // What the user did not write is shown at what is around it.
    assert_eq!(at("/pointers/7/x"), "34:23 error links.orders.pipeline[1].config.pointers: x");
    assert_eq!(at("/missing"), at(""));
    assert_eq!(at("not a pointer"), at(""));
    let plugin = show(&[config.source.error(&stage.plugin_place, "x")]);
    assert_eq!(plugin, "33:10 error links.orders.pipeline[1].plugin: x");
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
    assert_eq!(config.links["orders"].pipeline[1].plugin, base_dir().join("plugins/redact.wasm"));
}

#[test]
fn what_windows_editors_write_can_be_read() {
    let text = format!("\u{feff}{}", SAMPLE.replace('\n', "\r\n"));
    let (config, _) = parse(&text).expect("settings");
    assert_eq!(config.links["orders"].lanes, 2);
}
