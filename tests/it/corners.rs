//! Settings at their ends: what is taken works, and what cannot work together is refused before anything starts.

use serde_json::json;

use crate::harness::Site;

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";

fn link(config: &str, more: &str) -> String {
    format!(
        "{CLUSTERS}[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\ntopic_prefix = \"l.\"\n{more}\n\
         config = {{ {config} }}\n"
    )
}

#[test]
fn a_link_works_with_all_settings_at_one_end() {
    let lowest = link(
        "batch_size = 1, max_bytes = \"1KiB\", max_messages = 1, checkpoint_interval_ms = 1, transaction_timeout_ms = 10000",
        "lanes = 1\ntopic_refresh = \"100ms\"\nheartbeat_interval = \"100ms\"\n\
         breaker = { window_records = 100, rejected_percent = 0, trapped_percent = 0 }\n\
         probation = { records = 0, time = \"1s\", rejected_percent = 0, trapped_percent = 0, slowdown = 2 }\n\
         failover_config = { failover_threshold = 1, failover_timeout_ms = 1000, max_consecutive_failures = 1, drain_timeout = \"0ms\" }\n\
         health = { lag_ms_max = 1, errors_per_second_max = 0, consecutive_failures_max = 0, checkpoint_age_max = \"1s\", interval = \"1s\" }",
    );
    // Their lanes commit after the longest interval; the number of records does it before.
    let highest = link(
        "batch_size = 100000, max_bytes = \"1GiB\", max_messages = 2, checkpoint_interval_ms = 60000, \
         throttle_rate_bytes_per_sec = \"1024GiB\", transaction_timeout_ms = 900000",
        "lanes = 64\ntopic_refresh = \"1d\"\nheartbeat_interval = \"1h\"\n\
         breaker = { window_records = 10000000, rejected_percent = 100, trapped_percent = 100 }\n\
         probation = { records = 1000000000, time = \"30d\", rejected_percent = 100, trapped_percent = 100, slowdown = 1000 }\n\
         failover_config = { failover_threshold = 9007199254740992, failover_timeout_ms = 86400000, max_consecutive_failures = 1000000, drain_timeout = \"1d\" }\n\
         health = { lag_ms_max = 3153600000000, errors_per_second_max = 1000000, consecutive_failures_max = 1000000, checkpoint_age_max = \"1d\", interval = \"1h\" }",
    );
    for config in [lowest, highest] {
        let topic = "kind = \"embedded\"\ntopics.in = { retention_ms = 9223372036854775807, retention_bytes = 9223372036854775807 }\n";
        let site = Site::new(&config.replacen("kind = \"embedded\"\n", topic, 1));
        let daemon = site.start();
        site.client.produce("east", "in", &[json!({"value": "1"}), json!({"value": "2"})]);
        site.client.await_caught_up("l");
        assert_eq!(site.client.records("west", "l.in", 0).len(), 2);
        daemon.terminate();
    }
}

#[test]
fn what_cannot_work_together_is_refused() {
    let kafka = "[clusters.east]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n[clusters.west]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n";
    let kafka = |config: &str| link(config, "").replace(CLUSTERS, kafka);
    let stage = "pipeline = [{ stage = \"s\", plugin = \"PLUGINS/redact.wasm\", config = { pointers = [\"/a\"] }, limits = { time_ms = 10001 } }]";
    for (config, keys) in [
        (
            kafka("checkpoint_interval_ms = 60000, transaction_timeout_ms = 10000"),
            ["\"checkpoint_interval_ms\" is 60000", "\"transaction_timeout_ms\" is 10000"],
        ),
        (link("transaction_timeout_ms = 10000", stage), ["\"time_ms\"", "\"transaction_timeout_ms\" is 10000"]),
        (
            link("checkpoint_interval_ms = 1001", "health.checkpoint_age_max = \"1s\""),
            ["\"checkpoint_interval_ms\" is 1001", "\"checkpoint_age_max\" is 1000 ms"],
        ),
    ] {
        let site = Site::new(&config);
        let file = site.config().display().to_string();
        let output = site.cli(&["check", "--config", &file]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && keys.iter().all(|key| said.contains(key)), "{said}");
        assert!(!site.run_to_end().0.success());
    }
}
