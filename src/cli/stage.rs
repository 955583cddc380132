//! A stage of a link, with what it may use beside what it has used.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

use super::limits::limits;
use super::table::{NOTHING, bytes, field, line, microseconds};
use crate::api::wire::{CallTimes, Stage};

/// The longest name that a plugin has a say in: long enough for any sensible one.
const NAME_CHARS_MAX: usize = 64;

pub(super) fn print(stage: &Stage, out: &mut dyn Write) -> io::Result<()> {
    let (plugin, version) = (name(&stage.plugin), name(&stage.version));
    writeln!(out, "stage {}: {plugin} {version}, {}, on_error {}", stage.stage, stage.world, stage.on_error)?;
    field(out, "digest", &stage.digest.to_string())?;
    field(
        out,
        "records",
        &format!(
            "{} in, {} out, {} dropped, {} rejected, {} trapped on",
            stage.records_in, stage.records_out, stage.dropped, stage.rejected, stage.trapped
        ),
    )?;
    optional(out, "codes", &stage.not_handled_by_code)?;
    optional(out, "traps", &stage.traps_by_kind)?;
    field(out, "cpu time", &cpu_time(stage))?;
    let of = |used: u64, most: u64| format!("{} of {}", bytes(used as f64), bytes(most as f64));
    field(out, "memory", &of(stage.memory_bytes, stage.limits.memory_bytes))?;
    if let Some(state) = stage.state_bytes {
        let (used, most) = (bytes(state as f64), bytes(stage.limits.state_bytes as f64));
        field(out, "state", &format!("{used} in all partitions together; each may keep {most}"))?;
    }
    if let (Some(_), Some(most)) = (stage.state_bytes, stage.time_ahead_max_ms) {
        field(out, "max ahead", &format!("{} s, of timestamps", most / 1000))?;
    }
    let (log_lines, metrics) = (stage.log_lines_dropped, stage.metrics_dropped);
    field(
        out,
        "dropped",
        &format!("{log_lines} log lines and {metrics} changes of metrics that were over the limits"),
    )?;
    optional(out, "metrics", &stage.metrics)?;
    field(out, "limits", &limits(&stage.limits))
}

/// Print what there is, by name.
fn optional(out: &mut dyn Write, title: &str, values: &BTreeMap<String, impl Display>) -> io::Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let values: Vec<String> = values.iter().map(|(key, value)| format!("{} {value}", name(key))).collect();
    field(out, title, &values.join(", "))
}

fn cpu_time(stage: &Stage) -> String {
    let per_record = stage.cpu_time_ns.checked_div(stage.records_in);
    let per_record = per_record.map_or_else(|| NOTHING.to_owned(), |time| format!("{time} ns"));
    let class = |percent| call_time(&stage.call_times, percent);
    match (class(50), class(99)) {
        (Some(p50), Some(p99)) => format!("{per_record} a record; of a call p50 {p50}, p99 {p99}"),
        _ => format!("{per_record} a record"),
    }
}

/// How long so many percent of all calls took at most, as precisely as their classes say it.
fn call_time(classes: &[CallTimes], percent: u64) -> Option<String> {
    let all: u64 = classes.iter().map(|class| class.calls).sum();
    let wanted = (all.saturating_mul(percent)).div_ceil(100).max(1);
    let mut calls = 0;
    let mut longest_before = None;
    for class in classes {
        calls += class.calls;
        if calls >= wanted {
            let over = || format!("> {}", microseconds(longest_before.unwrap_or_default()));
            return Some(class.up_to_us.map_or_else(over, |us| format!("≤ {}", microseconds(us))));
        }
        longest_before = class.up_to_us;
    }
    None
}

fn name(text: &str) -> String {
    line(text, NAME_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_calls_is_that_of_the_class_they_are_in() {
        let classes = |counts: [u64; 3]| {
            let bounds = [Some(30), Some(1_000_000), None];
            bounds.into_iter().zip(counts).map(|(up_to_us, calls)| CallTimes { up_to_us, calls }).collect::<Vec<_>>()
        };
        for (counts, p50, p99) in [
            ([0, 0, 0], None, None),
            ([1, 0, 0], Some("≤ 30 µs"), Some("≤ 30 µs")),
            ([99, 1, 0], Some("≤ 30 µs"), Some("≤ 30 µs")),
            ([98, 2, 0], Some("≤ 30 µs"), Some("≤ 1.0 s")),
            ([50, 50, 0], Some("≤ 30 µs"), Some("≤ 1.0 s")),
            ([49, 49, 2], Some("≤ 1.0 s"), Some("> 1.0 s")),
        ] {
            let classes = classes(counts);
            assert_eq!(call_time(&classes, 50).as_deref(), p50, "{counts:?}");
            assert_eq!(call_time(&classes, 99).as_deref(), p99, "{counts:?}");
        }
    }
}
