//! Settings that do not fit each other.

use super::{CLUSTERS, check, parse, show};
use crate::config::Severity;
use crate::config::rules::RULES;

/// A link between Kafka clusters, with `more` in it.
fn kafka(more: &str) -> String {
    format!(
        "[clusters.east]\nkind = \"kafka\"\nbrokers = [\"a:1\"]\n[clusters.west]\nkind = \"kafka\"\nbrokers = [\"b:1\"]\nrequest_timeout = \"10s\"\n{}",
        link(more)
    )
}

fn link(more: &str) -> String {
    format!("[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"t\"]\n{more}\n")
}

fn stage(limits: &str) -> String {
    format!("pipeline = [{{ stage = \"s\", plugin = \"plugins/redact.wasm\", limits = {{ {limits} }} }}]")
}

/// The diagnostics without their help, a line each.
fn found(text: &str) -> Vec<String> {
    let found = match parse(text) {
        Ok((_, warnings)) => warnings,
        Err(found) => found,
    };
    found.iter().map(|found| format!("{} {}: {}", found.severity, found.key, found.message)).collect()
}

#[test]
fn a_transaction_is_committed_before_it_is_too_old() {
    check(
        &kafka("config = { checkpoint_interval_ms = 60000, transaction_timeout_ms = 10000 }"),
        &[
            "12:37 error links.l.config.checkpoint_interval_ms: \"checkpoint_interval_ms\" is 60000 and \"transaction_timeout_ms\" is 10000: the brokers would \
           abort every transaction before it is committed | write checkpoint_interval_ms = 5000 or less, or transaction_timeout_ms = 120000 or more",
        ],
    );
    for (config, is_fine) in [
        ("checkpoint_interval_ms = 5000, transaction_timeout_ms = 10000", true),
        ("checkpoint_interval_ms = 5001, transaction_timeout_ms = 10000", false),
        ("checkpoint_interval_ms = 30000", true),
        ("checkpoint_interval_ms = 30001", false),
        ("checkpoint_interval_ms = 30001, enable_exactly_once = false", true),
    ] {
        assert_eq!(found(&kafka(&format!("config = {{ {config} }}"))).is_empty(), is_fine, "{config}");
    }
    let embedded = link("config = { checkpoint_interval_ms = 50000, transaction_timeout_ms = 10000 }");
    assert_eq!(found(&(embedded + CLUSTERS)), [""; 0], "nobody aborts the transactions of an embedded cluster");
}

#[test]
fn a_link_that_goes_both_ways_writes_both_clusters() {
    let clusters = "[clusters.east]\nkind = \"kafka\"\nbrokers = [\"a:1\"]\n[clusters.west]\nkind = \"embedded\"\n";
    let config = "config = { checkpoint_interval_ms = 50000 }";
    for (more, is_fine) in
        [("", true), ("type = \"active-active\"", false), ("failover_config = { enabled = true }", false)]
    {
        let text = format!("{clusters}{}", link(&format!("{more}\n{config}")));
        assert_eq!(found(&text).is_empty(), is_fine, "{more}: {:?}", found(&text));
    }
}

#[test]
fn what_cannot_work_together_is_refused() {
    let slow = |time: u64| format!("{}\nconfig.transaction_timeout_ms = 10000", stage(&format!("time_ms = {time}")));
    let small = |records: u64| format!("{}\nconfig.batch_size = {records}", stage("output_bytes = 1024"));
    let short = "config = { transaction_timeout_ms = 10000 }";
    let cases = [
        (kafka(short), ""),
        (kafka(short).replacen("10s", "11s", 1), "warning links.l.config.transaction_timeout_ms"),
        (kafka(&slow(10_000)), ""),
        (kafka(&slow(10_001)), "error links.l.pipeline[0].limits.time_ms"),
        (kafka(&small(1024)), ""),
        (kafka(&small(1025)), "error links.l.pipeline[0].limits.output_bytes"),
        (kafka("config.checkpoint_interval_ms = 1000\nhealth.checkpoint_age_max = \"1s\""), ""),
        (
            kafka("config.checkpoint_interval_ms = 1001\nhealth.checkpoint_age_max = \"1s\""),
            "error links.l.config.checkpoint_interval_ms",
        ),
        (kafka(&format!("lanes = 1024\n{}", stages(3))), ""),
        (kafka(&format!("lanes = 1024\n{}", stages(4))), "error links.l.lanes"),
        (kafka("failover_config.enabled = true"), ""),
        (kafka("provenance = true\nfailover_config.enabled = true"), "error links.l.provenance"),
    ];
    for (text, place) in &cases {
        let found = found(text);
        match *place {
            "" => assert_eq!(found, [""; 0], "{text}"),
            place => assert!(found.len() == 1 && found[0].starts_with(&format!("{place}: ")), "{text}: {found:?}"),
        }
    }
    let seen = |rule: Severity| cases.iter().filter(|(_, place)| place.starts_with(&rule.to_string())).count();
    assert_eq!(seen(Severity::Error) + seen(Severity::Warning) + 1, RULES.len(), "each rule has a case here");
}

fn stages(count: usize) -> String {
    let stage = |number| format!("{{ stage = \"s{number}\", plugin = \"plugins/redact.wasm\" }}");
    format!("pipeline = [{}]", (0..count).map(stage).collect::<Vec<_>>().join(", "))
}

#[test]
fn limits_of_the_daemon_count_for_its_stages() {
    let link = format!("{}\nconfig.transaction_timeout_ms = 10000", stage(""));
    let text = format!("daemon.limits.time_ms = 20000\n{}", kafka(&link));
    assert_eq!(found(&text).len(), 1, "{:?}", parse(&text).map_err(|found| show(&found)).err());
    assert!(found(&text)[0].starts_with("error links.l.config.transaction_timeout_ms: "), "{:?}", found(&text));
}

#[test]
fn every_rule_is_in_the_document() {
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let document = std::fs::read_to_string(document).expect("the document");
    for rule in &RULES {
        let [first, second] = rule.keys;
        let line = format!("- `{first}` and `{second}`: {}.", rule.holds);
        assert!(document.contains(&line), "docs/configuration.md lacks\n{line}");
    }
    assert_eq!(document.matches("\n- `").count(), RULES.len(), "the document has no other rules");
}
