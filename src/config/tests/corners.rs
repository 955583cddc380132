//! The corners of all numbers, alone and in pairs. The readers say which keys are numbers and between what they have to be.

use std::time::{Duration, Instant};

use toml::de::DeTable;

use super::base_dir;
use super::reference::{FULL, survey};
use crate::config::cluster::ClusterKind;
use crate::config::reader::Table;
use crate::config::report::{Files, Report, Unit};
use crate::config::{Diagnostic, Parts, Severity, Source, read};

/// A key that is a number: where it is, how it is written, and between what it has to be.
type Number = (String, Unit, u64, u64);

/// What stands for a number in the tree until it is text: TOML's own integers end at 2^63.
const MARK: &str = "\u{2603}";

fn base() -> toml::Table {
    // What is exactly once has more rules, and two keys for one thing are an error.
    let text = FULL.replace("enable_exactly_once = false", "enable_exactly_once = true");
    toml::from_str(&text).expect("TOML")
}

fn numbers() -> Vec<Number> {
    survey(FULL).ranges()
}

/// Set the value at a path like `links.l.pipeline[0].limits.memory`, if that is written in the tree.
fn set(tree: &mut toml::Table, path: &str, value: toml::Value) -> bool {
    let (outer, last) = path.rsplit_once('.').expect("a key of a table");
    let table = outer.split('.').try_fold(tree, |table, step| {
        let (key, index) = step.strip_suffix(']').and_then(|step| step.split_once('[')).unwrap_or((step, ""));
        let value = table.get_mut(key)?;
        let value = if index.is_empty() { value } else { value.get_mut(index.parse::<usize>().expect("an index"))? };
        value.as_table_mut()
    });
    match table.and_then(|table| table.get_mut(last)) {
        Some(present) => {
            *present = value;
            true
        }
        None => false,
    }
}

/// A number as it is written under a key of this unit.
fn written(unit: Unit, number: &str) -> toml::Value {
    match unit {
        Unit::Ms => toml::Value::String(format!("{number}ms")),
        Unit::None | Unit::Bytes => toml::Value::String(format!("{MARK}{number}{MARK}")),
    }
}

fn text(tree: &toml::Table) -> String {
    let text = toml::to_string(tree).expect("TOML");
    text.replace(&format!("\"{MARK}"), "").replace(&format!("{MARK}\""), "")
}

fn settings(text: &str) -> Result<Parts, Vec<Diagnostic>> {
    let source = Source::new("tidegate.toml", text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let report = Report::new(&source, &errors).with_files(Files::Rehearsed);
    let parts = read(Table::root(tree.get_ref(), &report), &base_dir(), &[]);
    report.finish().map(|_| parts)
}

fn errors(found: &[Diagnostic]) -> Vec<&Diagnostic> {
    found.iter().filter(|found| found.severity == Severity::Error).collect()
}

/// Whatever is made of the settings when they are used has room for them.
fn can_be_used((daemon, clusters, links): &Parts) {
    let is_time = |time: Duration| assert!(Instant::now().checked_add(time).is_some(), "{time:?}");
    // Brokers count milliseconds in 32 bits.
    let is_short = |time: Duration| assert!(i32::try_from(time.as_millis()).is_ok(), "{time:?}");
    for cluster in clusters.values() {
        if let ClusterKind::Kafka(kafka) = &cluster.kind {
            [kafka.request_timeout, kafka.connection_timeout].into_iter().for_each(is_short);
        }
        for topic in cluster.topics.values() {
            assert!(i32::try_from(topic.partitions).is_ok());
            let sizes = [topic.retention_ms, topic.retention_bytes].into_iter().flatten();
            sizes.for_each(|size| assert!(i64::try_from(size).is_ok(), "{size}"));
        }
    }
    for link in links.values() {
        let config = &link.config;
        let (interval, timeout) = (config.checkpoint_interval_ms, config.transaction_timeout_ms);
        [interval, timeout, 2 * interval].into_iter().map(Duration::from_millis).for_each(is_short);
        assert!(!config.enable_exactly_once || 2 * interval <= timeout, "{interval} {timeout}");
        assert!(i32::try_from(config.max_bytes).is_ok() && i32::try_from(config.batch_size).is_ok());
        assert!(i32::try_from(link.lanes).is_ok());
        is_time(link.following.refresh);
        is_time(link.groups.interval);
        link.heartbeat_interval.into_iter().for_each(is_time);
        is_time(Duration::from_millis(link.probation.time_ms));
        is_time(link.failover.timeout + link.failover.drain_timeout);
        is_time(link.health.interval + link.health.checkpoint_age_max);
        [link.probation.time_ms, link.health.lag_ms_max, link.failover.lag_records_max].into_iter().for_each(
            |number| {
                assert!(i64::try_from(number).is_ok(), "{number}");
            },
        );
        assert!(link.breaker.window_records.checked_mul(100).is_some());
        assert!(Duration::from_millis(60_000).checked_mul(link.probation.slowdown).is_some());
        for limits in link.pipeline.iter().map(|stage| &stage.limits).chain([&daemon.limits]) {
            is_time(limits.time() + limits.record_time());
            assert!(limits.record_time_ms <= limits.time_ms);
            // Ranges in outputs have 32 bits, with those of an input before them.
            assert!(limits.output_bytes + config.max_bytes <= u32::MAX.into());
            assert!(limits.host_calls_per_record.checked_mul(config.batch_size.into()).is_some());
            assert!(limits.records_per_input.checked_mul(config.batch_size.into()).is_some());
        }
    }
}

#[test]
fn each_number_is_taken_where_it_may_be_and_refused_with_its_key_elsewhere() {
    let numbers = numbers();
    assert!(numbers.len() > 60, "only {} keys are numbers", numbers.len());
    can_be_used(&settings(&text(&base())).expect("a text without errors"));
    let (base, mut taken) = (base(), 0);
    for (path, unit, low, high) in &numbers {
        let powers = [31, 32, 53, 63, 64].map(|power| 1_u128 << power);
        let corners = [0, 1, u128::from(*low), u128::from(*high), u128::from(*high) + 1]
            .into_iter()
            .chain(low.checked_sub(1).map(u128::from))
            .chain(powers.into_iter().flat_map(|power| [power - 1, power]));
        let corners =
            corners.map(|number| (number.to_string(), (u128::from(*low)..=u128::from(*high)).contains(&number)));
        for (number, is_fine) in
            corners.chain([("-1", false), ("-9223372036854775808", false)].map(|(a, b)| (a.to_owned(), b)))
        {
            let mut tree = base.clone();
            if !set(&mut tree, path, written(*unit, &number)) {
                continue;
            }
            match settings(&text(&tree)) {
                Ok(parts) => {
                    assert!(is_fine, "{path} = {number} is taken, and has to be from {low} to {high}");
                    can_be_used(&parts);
                    taken += 1;
                }
                Err(found) if is_fine => {
                    let found = errors(&found);
                    assert!(
                        found.iter().all(|it| !it.message.contains("out of range")),
                        "{path} = {number}: {found:?}"
                    );
                }
                Err(found) => {
                    let found = errors(&found);
                    assert!(found.iter().any(|it| it.key == *path), "{path} = {number}: {found:?}");
                }
            }
        }
    }
    assert!(taken > 150, "only {taken} corners were taken");
}

#[test]
fn two_numbers_at_their_ends_can_be_used_or_are_refused_together() {
    let numbers = numbers();
    let (base, mut taken, mut refused) = (base(), 0, 0);
    for (at, (first, unit, low, high)) in numbers.iter().enumerate() {
        // What stands under different links, clusters or tables of the daemon meets nowhere.
        let around = |path: &str| path.split('.').take(2).collect::<Vec<_>>().join(".");
        let others = numbers[at + 1..].iter().filter(|(path, ..)| around(path) == around(first));
        for (second, other_unit, other_low, other_high) in others {
            for (number, other) in [(low, other_low), (low, other_high), (high, other_low), (high, other_high)] {
                let mut tree = base.clone();
                let is_set = set(&mut tree, first, written(*unit, &number.to_string()))
                    && set(&mut tree, second, written(*other_unit, &other.to_string()));
                if !is_set {
                    continue;
                }
                match settings(&text(&tree)) {
                    Ok(parts) => {
                        can_be_used(&parts);
                        taken += 1;
                    }
                    Err(found) => {
                        let found = errors(&found);
                        assert!(
                            found.iter().all(|it| !it.message.contains("out of range")),
                            "{first} = {number}, {second} = {other}: {found:?}"
                        );
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(taken > 1000 && refused > 10, "{taken} pairs were taken, {refused} refused");
}
