//! The rules, one by one.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::link::lag::Lag;

fn link() -> LinkConfig {
    let text = "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\n\
                [links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n";
    let (config, _) = Config::parse(text, "tidegate.toml", Path::new("")).expect("a configuration");
    config.links["l"].clone()
}

fn answer(at_ms: i64, trouble: Option<&str>) -> Option<Answer> {
    Some(Answer { at_ms, trouble: trouble.map(|message| Failure::fatal("refused", message, "start it")) })
}

fn lags(ms: &[Option<u64>], waited: Option<Duration>) -> Option<Arc<Lags>> {
    let lags: Vec<Lag> = ms.iter().map(|ms| Lag { records: 1, ms: *ms }).collect();
    Some(Arc::new(Lags::of(&lags, 0, waited)))
}

/// All is well.
fn facts() -> Facts {
    Facts {
        state: LinkState::Active,
        failure: None,
        source: answer(2_000, None),
        target: answer(1_000, None),
        lags: lags(&[Some(0), Some(60_000)], Some(Duration::from_secs(5))),
        errors_per_second: 10.0,
        consecutive_failures: 3,
        stalled: Vec::new(),
        is_throttled: false,
        notices: Vec::new(),
    }
}

/// What is said, which must be of a verdict and have all these words.
fn said(facts: &Facts, verdict: Verdict, words: &[&str]) -> Health {
    let health = judge(&link(), facts);
    assert_eq!(health.verdict(), verdict, "{health:?}");
    let texts = match verdict {
        Verdict::Unhealthy => &health.issues,
        _ => &health.warnings,
    };
    assert!(texts.iter().any(|text| words.iter().all(|word| text.contains(word))), "{words:?} in {texts:?}");
    health
}

#[test]
fn what_is_at_its_limits_is_healthy() {
    let health = judge(&link(), &facts());
    assert_eq!(health.verdict(), Verdict::Healthy, "{health:?}");
    assert_eq!(health.checked_ms, Some(1_000), "both were asked by then");
    assert_eq!((health.source_reachable, health.target_reachable), (Some(true), Some(true)));
    assert_eq!((health.lag_healthy, health.errors_healthy, health.checkpoint_healthy), (Some(true), true, true));
}

#[test]
fn a_cluster_that_does_not_answer_is_wrong() {
    let why = "connection refused (cannot-connect); look at the broker";
    let source = Facts { source: answer(9, Some(why)), ..facts() };
    let health = said(&source, Verdict::Unhealthy, &["source cluster east", why]);
    assert_eq!((health.source_reachable, health.checkpoint_healthy), (Some(false), true));
    let target = Facts { target: answer(9, Some(why)), ..facts() };
    let health = said(&target, Verdict::Unhealthy, &["target cluster west", why]);
    assert_eq!((health.target_reachable, health.checkpoint_healthy), (Some(false), false));
}

#[test]
fn what_was_not_asked_yet_is_not_known() {
    let health = judge(&link(), &Facts { source: None, lags: None, ..facts() });
    assert_eq!((health.checked_ms, health.source_reachable, health.lag_healthy), (None, None, None));
    assert_eq!(health.verdict(), Verdict::Healthy);
    let health = judge(&link(), &Facts { lags: lags(&[Some(0), None], None), ..facts() });
    assert_eq!(health.lag_healthy, None, "of one partition it is not known");
}

#[test]
fn a_link_that_is_behind_is_odd() {
    let behind = Facts { lags: lags(&[Some(95_000), None], None), ..facts() };
    let health = said(&behind, Verdict::Degraded, &["95 s behind", "lag_ms_max", "`tidegate link show`"]);
    assert_eq!(health.lag_healthy, Some(false));
}

#[test]
fn many_errors_are_odd_and_nothing_but_errors_is_wrong() {
    let many = Facts { errors_per_second: 10.1, ..facts() };
    assert!(!said(&many, Verdict::Degraded, &["10.1 times a second", "errors_per_second_max"]).errors_healthy);
    let only = Facts { consecutive_failures: 4, ..facts() };
    assert!(!said(&only, Verdict::Unhealthy, &["4 times", "consecutive_failures_max"]).errors_healthy);
    let stopped = Facts { state: LinkState::Stopped, ..only };
    assert!(judge(&link(), &stopped).errors_healthy, "they are over");
}

#[test]
fn a_lane_that_does_not_commit_is_wrong() {
    let stuck = Facts { lags: lags(&[Some(1)], Some(Duration::from_secs(61))), ..facts() };
    assert!(!said(&stuck, Verdict::Unhealthy, &["for 61 s", "checkpoint_age_max"]).checkpoint_healthy);
}

#[test]
fn states_are_said_with_what_to_do() {
    let failure = Failure::fatal("data-lost", "records 3 to 9 are gone", "restore the data");
    let failed = Facts { state: LinkState::Failed, failure: Some(failure.clone()), ..facts() };
    let words = ["stopped by itself", "records 3 to 9 are gone (data-lost)", "restore the data"];
    assert!(!said(&failed, Verdict::Unhealthy, &words).checkpoint_healthy);
    let held = Facts { state: LinkState::Paused, failure: Some(failure.clone()), ..facts() };
    said(&held, Verdict::Unhealthy, &["paused by the daemon", "data-lost"]);
    let paused = Facts { state: LinkState::Paused, ..facts() };
    said(&paused, Verdict::Degraded, &["paused", "`tidegate link resume`"]);
    let stopped = Facts { state: LinkState::Stopped, ..facts() };
    said(&stopped, Verdict::Degraded, &["stopped", "`tidegate link start`"]);
    let again = Failure { class: Class::Reopen, ..failure };
    let retrying = Facts { failure: Some(again), ..facts() };
    said(&retrying, Verdict::Degraded, &["data-lost", "it is tried again"]);
    let noticed = Facts { notices: vec!["topic t was deleted (source-topic-deleted)".to_owned()], ..facts() };
    said(&noticed, Verdict::Degraded, &["source-topic-deleted"]);
}

#[test]
fn a_partition_that_stands_still_is_wrong() {
    let why = Failure::fatal("broker-error", "a fetch of t-1 failed", "look at the broker");
    let stalled = vec![(TopicPartition::new("t", 1), why.clone())];
    let told = Facts { state: LinkState::Degraded, failure: Some(why), stalled, ..facts() };
    let health = said(&told, Verdict::Unhealthy, &["t-1 stands still", "a fetch of t-1 failed", "look at the broker"]);
    assert_eq!(health.warnings, Vec::<String>::new(), "it is told once");
}

#[test]
fn a_partition_with_records_that_does_not_move_is_wrong_whatever_others_do() {
    let unmoved = Facts { lags: lags(&[Some(1)], Some(Duration::from_secs(61))), ..facts() };
    said(&unmoved, Verdict::Unhealthy, &["t-0 has records and has not moved for 61 s"]);
    // A bound on the rate keeps it waiting.
    let throttled = judge(&link(), &Facts { is_throttled: true, ..unmoved.clone() });
    assert!(!throttled.issues.iter().any(|issue| issue.contains("has not moved")), "{throttled:?}");
    let why = Failure::fatal("broker-error", "a fetch of t-0 failed", "look at the broker");
    let told = judge(&link(), &Facts { stalled: vec![(TopicPartition::new("t", 0), why)], ..unmoved });
    assert!(!told.issues.iter().any(|issue| issue.contains("has not moved")), "why is known: {told:?}");
}

#[test]
fn of_many_partitions_that_stand_still_some_are_named() {
    let why = |number| (TopicPartition::new("t", number), Failure::fatal("broker-error", "no", "wait"));
    let health = judge(&link(), &Facts { stalled: (0..12).map(why).collect(), ..facts() });
    assert_eq!(health.issues.len(), PARTITIONS_TOLD + 1, "{health:?}");
    assert!(health.issues.last().is_some_and(|last| last.contains("7 more partitions")), "{health:?}");
}
