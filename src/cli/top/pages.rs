//! What is told of one link, page by page.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::table::{NOTHING, bytes, known, line, milliseconds};
use super::columns::{Cell, Column, cut, plain, table};
use super::draw::{ago, bad, ellipsis, of_health, of_status, short_rate, warning};
use super::view::{Page, View};
use crate::api::wire::{Event, Lane, LanePartition, LaneState, Link, Stage, Time, Trouble};

const LANES: [Column; 8] = [
    Column::number("lane", 0),
    Column::word("state", 0),
    Column::text("daemon", 2),
    Column::number("revision", 3),
    Column::number("partitions", 4),
    Column::number("records", 1),
    Column::number("behind", 1),
    Column::number("last commit", 2),
];

const PARTITIONS: [Column; 7] = [
    Column::text("topic", 0),
    Column::number("partition", 0),
    Column::number("lane", 3),
    Column::number("checkpoint", 2),
    Column::number("end", 2),
    Column::number("records", 0),
    Column::number("behind", 1),
];

const STAGES: [Column; 9] = [
    Column::text("stage", 0),
    Column::text("plugin", 4),
    Column::number("in/s", 0),
    Column::number("out/s", 1),
    Column::number("rejected", 1),
    Column::number("trapped", 1),
    Column::number("time", 2),
    Column::number("memory", 3),
    Column::number("state", 4),
];

const EVENTS: [Column; 5] = [
    Column::word("time", 1),
    Column::word("kind", 0),
    Column::number("count", 2),
    Column::text("stage", 3),
    Column::text("message", 0),
];

/// A message in one line: what is longer is told by `link events`.
const MESSAGE_CHARS_MAX: usize = 400;

/// All lines of a page, for so many columns.
pub(super) fn page(view: &View, page: Page, columns: u16) -> Vec<Line<'static>> {
    let Some(link) = view.link() else { return Vec::new() };
    let width = usize::from(columns);
    match page {
        Page::Overview => overview(view, link, width),
        Page::Partitions => partitions(link, width, ellipsis(view)),
        Page::Plugins => plugins(view, link, width),
        Page::Events => events(view, width),
    }
}

fn overview(view: &View, link: &Link, width: usize) -> Vec<Line<'static>> {
    let mut lines = summary(view, link);
    lines.push(Line::default());
    let mut lanes: Vec<&Lane> = link.lanes.iter().collect();
    lanes.sort_by_key(|lane| lane.lane);
    let rows: Vec<Vec<Cell>> = lanes.iter().map(|lane| lane_row(lane)).collect();
    lines.extend(table(&LANES, &rows, width, ellipsis(view)));
    for lane in lanes {
        lines.extend(lane.error.iter().flat_map(|error| trouble(&format!("lane {}", lane.lane), error, width)));
    }
    lines
}

/// Where a link goes, how it is and what is wrong, in a few lines.
pub(super) fn summary(view: &View, link: &Link) -> Vec<Line<'static>> {
    let width = usize::from(view.size.0);
    let revision = link.revision.map(|revision| format!("   revision {revision}")).unwrap_or_default();
    let first = Line::from(vec![
        Span::raw(format!("{}: {} -> {}   ", link.id, link.source, link.target)),
        Span::styled(link.status.to_string(), of_status(link.status)),
        Span::raw(", "),
        Span::styled(link.health.status.to_string(), of_health(link.health.status)),
        Span::raw(revision),
    ]);
    let most = link.throttle.throttle_rate_bytes_per_sec.map(|most| format!(" of {}/s", bytes(most as f64)));
    let latency =
        link.latency.map(|it| format!("   latency p50 {}, p99 {}", milliseconds(it.p50_ms), milliseconds(it.p99_ms)));
    let second = format!(
        "{} rec/s, {}/s{}   behind {}{}",
        short_rate(link.metrics.messages_per_second),
        bytes(link.metrics.bytes_per_second),
        most.unwrap_or_default(),
        known(link.metrics.replication_lag.map(milliseconds)),
        latency.unwrap_or_default(),
    );
    let counters = link.counters;
    let third = format!(
        "records: {} in, {} filtered, {} transformed, {} out, {} put aside",
        counters.records_in,
        counters.records_filtered,
        counters.records_transformed,
        counters.records_out,
        counters.records_put_aside
    );
    let mut lines = vec![first, Line::from(second), Line::from(third)];
    lines.extend(link.error.iter().flat_map(|error| trouble("link", error, width)));
    if let Some(relane) = &link.relane {
        lines.push(Line::styled(
            format!("lanes become {} instead of {}: {} copied", relane.to, relane.from, relane.copied),
            warning(),
        ));
    }
    let health = view.now.as_ref().and_then(|answer| answer.look.watched.as_ref()).filter(|it| it.link == link.id);
    if let Some(health) = health.map(|watched| &watched.health) {
        let told = |text: &String, style: Style| {
            Line::styled(cut(&line(text, MESSAGE_CHARS_MAX), width, ellipsis(view)), style)
        };
        lines.extend(health.issues.iter().map(|text| told(text, bad())));
        lines.extend(health.warnings.iter().map(|text| told(text, warning())));
    }
    lines
}

/// What is wrong, where, and what to do about it.
fn trouble(whom: &str, trouble: &Trouble, width: usize) -> Vec<Line<'static>> {
    let message = line(&trouble.message, MESSAGE_CHARS_MAX);
    let stage = trouble.stage.as_ref().map(|stage| format!(" in stage {stage}")).unwrap_or_default();
    let mut lines = vec![Line::styled(format!("{whom}: {} ({}{stage})", message, trouble.code), bad())];
    if !trouble.remedy.is_empty() {
        lines.push(Line::from(format!("  help: {}", line(&trouble.remedy, MESSAGE_CHARS_MAX))));
    }
    lines.into_iter().flat_map(|line| wrapped(&line, width)).collect()
}

/// A line on as many as it needs. Words are not told apart: what is too wide is rare.
fn wrapped(line: &Line<'static>, width: usize) -> Vec<Line<'static>> {
    let letters: Vec<char> = line.to_string().chars().collect();
    letters.chunks(width.max(1)).map(|part| Line::styled(part.iter().collect::<String>(), line.style)).collect()
}

fn lane_row(lane: &Lane) -> Vec<Cell> {
    let records: Option<u64> = lane.partitions.iter().map(|partition| partition.lag).sum();
    let behind = lane.partitions.iter().filter_map(|partition| partition.lag_ms).max();
    let style = match lane.state {
        LaneState::Failed => bad(),
        LaneState::Retrying | LaneState::Opening => warning(),
        LaneState::Running | LaneState::Paused | LaneState::Stopped | LaneState::Elsewhere => Style::new(),
    };
    vec![
        plain(lane.lane.to_string()),
        (lane.state.to_string(), style),
        plain(known(lane.daemon.as_ref())),
        plain(known(lane.revision)),
        plain(lane.partitions.len().to_string()),
        plain(known(records)),
        plain(known(behind.map(milliseconds))),
        plain(known(lane.last_commit_at.map(since))),
    ]
}

/// How long ago that was. Clocks of daemons may be ahead.
fn since(time: Time) -> String {
    ago(Duration::from_millis(Time::now().0.saturating_sub(time.0).max(0).unsigned_abs()))
}

fn partitions(link: &Link, width: usize, ellipsis: &str) -> Vec<Line<'static>> {
    let mut all: Vec<(&Lane, &LanePartition)> =
        link.lanes.iter().flat_map(|lane| lane.partitions.iter().map(move |partition| (lane, partition))).collect();
    // The worst first, and before them those of which nothing is known.
    all.sort_by(|(_, a), (_, b)| {
        let worst = |it: &LanePartition| std::cmp::Reverse(it.lag.unwrap_or(u64::MAX));
        (worst(a), &a.topic, a.partition).cmp(&(worst(b), &b.topic, b.partition))
    });
    let row = |(lane, it): &(&Lane, &LanePartition)| {
        vec![
            plain(&*it.topic),
            plain(it.partition.to_string()),
            plain(lane.lane.to_string()),
            plain(known(it.target_offset)),
            plain(known(it.source_offset)),
            plain(known(it.lag)),
            plain(known(it.lag_ms.map(milliseconds))),
        ]
    };
    let rows: Vec<Vec<Cell>> = all.iter().map(row).collect();
    table(&PARTITIONS, &rows, width, ellipsis)
}

fn plugins(view: &View, link: &Link, width: usize) -> Vec<Line<'static>> {
    if link.stages.is_empty() {
        return vec![Line::from(format!("{} has no stages", link.id))];
    }
    let rows: Vec<Vec<Cell>> = link.stages.iter().map(|stage| stage_row(view, link, stage)).collect();
    let mut lines = table(&STAGES, &rows, width, ellipsis(view));
    lines.push(Line::default());
    lines.push(Line::from(
        "time: CPU a record; in/s and out/s: between the last two looks; the others since the daemon started",
    ));
    for stage in &link.stages {
        let told = stage.not_handled_by_code.iter().map(|(code, count)| format!("{code} {count}"));
        let told: Vec<String> = told.collect();
        if !told.is_empty() {
            let text = format!("{} could not handle: {}", stage.stage, told.join(", "));
            lines.extend(wrapped(&Line::styled(text, warning()), width));
        }
    }
    lines
}

fn stage_row(view: &View, link: &Link, stage: &Stage) -> Vec<Cell> {
    let rate = |number: fn(&Stage) -> u64| known(view.rate(&link.id, &stage.stage, number).map(short_rate));
    let bad_if = |count: u64| (count.to_string(), if count > 0 { warning() } else { Style::new() });
    let time = stage.cpu_time_ns.checked_div(stage.records_in);
    vec![
        plain(&*stage.stage),
        plain(line(&format!("{} {}", stage.plugin, stage.version), MESSAGE_CHARS_MAX)),
        plain(rate(|stage| stage.records_in)),
        plain(rate(|stage| stage.records_out)),
        bad_if(stage.rejected),
        bad_if(stage.trapped),
        plain(known(time.map(nanoseconds))),
        plain(bytes(stage.memory_bytes as f64)),
        plain(known(stage.state_bytes.map(|state| bytes(state as f64)))),
    ]
}

fn nanoseconds(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} ns"),
        10_000..10_000_000 => format!("{} µs", count / 1_000),
        _ => format!("{} ms", count / 1_000_000),
    }
}

fn events(view: &View, width: usize) -> Vec<Line<'static>> {
    match view.events() {
        Some([]) => vec![Line::from("nothing has happened since the daemon started")],
        Some(events) => table(&EVENTS, &events.iter().map(event_row).collect::<Vec<_>>(), width, ellipsis(view)),
        None => vec![Line::from(NOTHING)],
    }
}

/// The last events, the newest first, in so many lines.
pub(super) fn recent(view: &View, rows: usize) -> Vec<Line<'static>> {
    let Some(events) = view.events().filter(|events| !events.is_empty() && rows > 1) else { return Vec::new() };
    let some: Vec<Vec<Cell>> = events.iter().take(rows.saturating_sub(1)).map(event_row).collect();
    table(&EVENTS, &some, view.size.0.into(), ellipsis(view))
}

fn event_row(event: &Event) -> Vec<Cell> {
    let message =
        event.code.as_ref().map_or_else(|| event.message.clone(), |code| format!("{code}: {}", event.message));
    vec![
        plain(since(event.time)),
        plain(&*event.kind),
        plain(event.count.to_string()),
        plain(known(event.stage.as_ref())),
        plain(line(&message, MESSAGE_CHARS_MAX)),
    ]
}
