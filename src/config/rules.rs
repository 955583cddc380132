//! Settings of a link that each are fine alone and cannot work together.
//!
//! All such rules are here, each a pure function over what was read. They are in `docs/configuration.md` too; a test compares the two. What is not here was
//! looked at and works, if slowly: `throttle_rate_bytes_per_sec` never keeps a transaction open, since a lane commits while it waits; `max_messages` and
//! `max_bytes` only end a commit earlier; and what depends on a cluster (the brokers' longest transaction, their largest record, their number)
//! is known when it is asked.

use crate::model::limits::INSTANCES_MAX;

use super::cluster::{ClusterConfig, ClusterKind};
use super::diagnostic::Severity;
use super::link::LinkConfig;
use super::reader::Written;
use super::units::show_duration;

/// What the rules look at.
pub(super) struct Subject<'a> {
    pub(super) link: &'a LinkConfig,
    /// The clusters that it writes, in one direction or both. One that has an error is not among them.
    pub(super) targets: Vec<&'a ClusterConfig>,
}

/// Two settings that have to fit each other.
#[allow(dead_code, reason = "the test that compares the documentation reads the keys and what has to hold")]
pub(super) struct Rule {
    /// Their keys, as seen from the link.
    pub(super) keys: [&'static str; 2],
    /// What has to hold, as the documentation says it.
    pub(super) holds: &'static str,
    pub(super) severity: Severity,
    broken: fn(&Subject<'_>) -> Vec<Broken>,
}

/// A rule that does not hold.
struct Broken {
    /// The keys, with the numbers of entries. What stands in the file of them is shown.
    keys: [String; 2],
    message: String,
    help: String,
}

/// All rules.
pub(super) const RULES: [Rule; 7] = [
    Rule {
        keys: ["config.checkpoint_interval_ms", "config.transaction_timeout_ms"],
        holds: "the interval is at most half of the timeout: the brokers would abort every transaction before it is committed. Of links to Kafka that write exactly once",
        severity: Severity::Error,
        broken: commits_in_time,
    },
    Rule {
        keys: ["config.transaction_timeout_ms", "request_timeout"],
        holds: "an answer of the target cluster is not waited for longer than its transaction lives (a warning). Of links to Kafka that write exactly once",
        severity: Severity::Warning,
        broken: answers_in_time,
    },
    Rule {
        keys: ["pipeline.limits.time_ms", "config.transaction_timeout_ms"],
        holds: "the time of a batch is at most the timeout: one call could take longer than the transaction that its records belong to",
        severity: Severity::Error,
        broken: calls_in_time,
    },
    Rule {
        keys: ["config.batch_size", "pipeline.limits.output_bytes"],
        holds: "a plugin may answer a byte for each record of a batch: it would trap on every batch that is full",
        severity: Severity::Error,
        broken: answers_fit,
    },
    Rule {
        keys: ["config.checkpoint_interval_ms", "health.checkpoint_age_max"],
        holds: "the interval is not longer: a link that commits in time would never be healthy",
        severity: Severity::Error,
        broken: can_be_healthy,
    },
    Rule {
        keys: ["lanes", "pipeline"],
        holds: "lanes times stages are at most 4,000: a daemon has room for that many instances of plugins",
        severity: Severity::Error,
        broken: has_room,
    },
    Rule {
        keys: ["provenance", "failover_config.enabled"],
        holds: "a link that marks records, as every two-way link does, does not fail over: clients write to both of its clusters",
        severity: Severity::Error,
        broken: does_not_fail_over,
    },
];

/// Report the rules that do not hold.
pub(super) fn check(subject: &Subject<'_>, link: &Written<'_>) {
    check_some(&RULES.each_ref(), subject, link);
}

/// The same of the rules about stages alone, for the reverse way of a link that has its own. All else it has in common with the link.
pub(super) fn check_stages(subject: &Subject<'_>, reverse: &Written<'_>) {
    let of_stages = |rule: &&Rule| rule.keys.iter().any(|key| key.starts_with("pipeline"));
    check_some(&RULES.iter().filter(of_stages).collect::<Vec<_>>(), subject, reverse);
}

fn check_some(rules: &[&Rule], subject: &Subject<'_>, link: &Written<'_>) {
    for rule in rules {
        for Broken { keys, message, help } in (rule.broken)(subject) {
            // What the link does not say itself, the daemon's limits or a cluster do.
            let written = keys.iter().find_map(|key| link.place_at(key));
            let place = written.as_ref().unwrap_or(&link.place);
            match rule.severity {
                Severity::Error => link.report.error_with_help(place, message, help),
                Severity::Warning => link.report.warning(place, message, help),
            }
        }
    }
}

/// Keys of the link itself, which need no numbers.
fn broken(keys: [&str; 2], message: String, help: String) -> Broken {
    Broken { keys: keys.map(str::to_owned), message, help }
}

/// Whether the target aborts what takes too long.
fn has_transactions(subject: &Subject<'_>) -> bool {
    let mut kinds = subject.targets.iter().map(|target| &target.kind);
    subject.link.config.enable_exactly_once && kinds.any(|kind| matches!(kind, ClusterKind::Kafka(_)))
}

fn does_not_fail_over(subject: &Subject<'_>) -> Vec<Broken> {
    if !(subject.link.goes_both_ways() && subject.link.failover.enabled) {
        return Vec::new();
    }
    let message = "a link with `provenance`, or of a type that goes both ways, does not fail over".to_owned();
    let help = "remove `failover_config`: while a cluster is gone, clients write to the other one".to_owned();
    vec![broken(["provenance", "failover_config.enabled"], message, help)]
}

fn commits_in_time(subject: &Subject<'_>) -> Vec<Broken> {
    let config = &subject.link.config;
    let (interval, timeout) = (config.checkpoint_interval_ms, config.transaction_timeout_ms);
    if !has_transactions(subject) || interval <= timeout / 2 {
        return Vec::new();
    }
    let message = format!(
        "\"checkpoint_interval_ms\" is {interval} and \"transaction_timeout_ms\" is {timeout}: the brokers would abort every transaction before \
         it is committed"
    );
    let help = format!(
        "write checkpoint_interval_ms = {} or less, or transaction_timeout_ms = {} or more",
        timeout / 2,
        2 * interval
    );
    vec![broken(["config.checkpoint_interval_ms", "config.transaction_timeout_ms"], message, help)]
}

fn answers_in_time(subject: &Subject<'_>) -> Vec<Broken> {
    let timeout = subject.link.config.transaction_timeout_ms;
    let late = subject.targets.iter().filter_map(|target| match &target.kind {
        ClusterKind::Kafka(kafka) => Some((&target.id, kafka.request_timeout.as_millis())),
        ClusterKind::Embedded(_) => None,
    });
    let late = late.filter(|(_, answer)| has_transactions(subject) && *answer > timeout.into());
    late.map(|(cluster, answer)| {
        let message = format!(
            "\"transaction_timeout_ms\" is {timeout}, and \"request_timeout\" of cluster {:?} is {answer} ms: the brokers abort a transaction before \
             its last answer is given up",
            &**cluster
        );
        let help = format!("write transaction_timeout_ms = {answer} or more, or a shorter request_timeout");
        broken(["config.transaction_timeout_ms", "target"], message, help)
    })
    .collect()
}

fn calls_in_time(subject: &Subject<'_>) -> Vec<Broken> {
    let timeout = subject.link.config.transaction_timeout_ms;
    let late = subject.link.pipeline.iter().enumerate().filter(|(_, stage)| stage.limits.time_ms > timeout);
    late.map(|(at, stage)| {
        let time = stage.limits.time_ms;
        Broken {
            keys: [format!("pipeline[{at}].limits.time_ms"), "config.transaction_timeout_ms".to_owned()],
            message: format!(
                "\"time_ms\" of stage {:?} is {time} and \"transaction_timeout_ms\" is {timeout}: one call could take \
                 longer than the transaction that its records belong to",
                &*stage.name
            ),
            help: format!("write time_ms = {timeout} or less, or transaction_timeout_ms = {time} or more"),
        }
    })
    .collect()
}

fn answers_fit(subject: &Subject<'_>) -> Vec<Broken> {
    let records = subject.link.config.batch_size;
    let small = subject.link.pipeline.iter().enumerate();
    let small = small.filter(|(_, stage)| stage.limits.output_bytes < records.into());
    small
        .map(|(at, stage)| Broken {
            keys: [format!("pipeline[{at}].limits.output_bytes"), "config.batch_size".to_owned()],
            message: format!(
                "\"output_bytes\" of stage {:?} is {} and \"batch_size\" is {records}: a plugin answers a byte for each record at least, so it would \
                 trap on every full batch",
                &*stage.name, stage.limits.output_bytes
            ),
            help: format!("write output_bytes = {records} or more, or a smaller batch_size"),
        })
        .collect()
}

fn can_be_healthy(subject: &Subject<'_>) -> Vec<Broken> {
    let interval = subject.link.config.checkpoint_interval_ms;
    let age = subject.link.health.checkpoint_age_max.as_millis();
    if u128::from(interval) <= age {
        return Vec::new();
    }
    let message = format!(
        "\"checkpoint_interval_ms\" is {interval} and \"checkpoint_age_max\" is {age} ms: a link that commits in time would never be healthy"
    );
    let help = format!("write checkpoint_age_max = {:?} or more, or a shorter interval", show_duration(interval));
    vec![broken(["config.checkpoint_interval_ms", "health.checkpoint_age_max"], message, help)]
}

fn has_room(subject: &Subject<'_>) -> Vec<Broken> {
    let (lanes, stages) = (subject.link.lanes, subject.link.pipeline.len());
    if u64::from(lanes) * stages as u64 <= u64::from(INSTANCES_MAX) {
        return Vec::new();
    }
    let message = format!(
        "{lanes} lanes with {stages} stages each are more instances of plugins than the {INSTANCES_MAX} that a daemon has room for"
    );
    vec![broken(["lanes", "config.concurrent_partitions"], message, "write fewer lanes, or fewer stages".to_owned())]
}
