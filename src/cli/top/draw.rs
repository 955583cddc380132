//! What is seen as lines: the daemon at the top, the links or one of them, the keys at the bottom.

use std::time::{Duration, Instant};

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::table::{bytes, known, milliseconds};
use super::columns::{Cell, Column, cut, plain, table};
use super::pages;
use super::view::{Page, View};
use crate::api::wire::{HealthStatus, LaneState, Link, LinkStatus};
use crate::model::text::steers;

/// The rows that are not the body: two of the daemon, a rule, and two at the bottom.
const FRAME_ROWS: usize = 5;

/// The rows of the list that tell of the chosen link, if there is room.
const PREVIEW_ROWS: usize = 9;

/// A body with fewer rows has the list alone.
const PREVIEW_FROM: usize = 16;

const COLUMNS: [Column; 10] = [
    Column::text("link", 0),
    Column::word("status", 0),
    Column::word("health", 3),
    Column::text("from", 6),
    Column::text("to", 6),
    Column::number("rec/s", 1),
    Column::number("bytes/s", 4),
    Column::number("behind", 1),
    Column::number("records", 2),
    Column::number("lanes", 5),
];

const KEYS_OF_LIST: &str = "up/down choose  enter open  p pause/resume  r look again  q quit";
const KEYS_OF_PAGE: &str = "up/down scroll  tab next page  esc back  p pause/resume  q quit";

/// What stands for letters that a terminal without Unicode lacks.
const NOT_ASCII: char = '?';

/// The rows between top and bottom.
pub(super) fn body_rows(rows: u16) -> usize {
    usize::from(rows).saturating_sub(FRAME_ROWS)
}

/// All rows of the terminal.
pub(super) fn picture(view: &View, now: Instant) -> Vec<Line<'static>> {
    let rows = body_rows(view.size.1);
    let mut body = match view.page {
        Some(page) => pages::page(view, page, view.size.0).split_off(view.scroll.min(view.scroll_max())),
        None => list_with_preview(view, rows),
    };
    body.truncate(rows);
    body.resize_with(rows, Line::default);
    let mut lines = top(view, now);
    lines.extend(body);
    lines.extend(bottom(view, now));
    lines.truncate(view.size.1.into());
    finished(lines, view.ascii)
}

/// Everything that is known, however many rows it takes: the list, and the pages of the link that is open.
pub(super) fn everything(view: &View, now: Instant) -> Vec<Line<'static>> {
    let mut lines = top(view, now);
    if view.page.is_none() {
        lines.extend(list(view));
        return finished(lines, view.ascii);
    }
    for page in Page::ALL {
        lines.push(Line::default());
        lines.push(Line::from(format!("{}:", page.title())));
        lines.extend(pages::page(view, page, view.size.0));
    }
    finished(lines, view.ascii)
}

/// The daemon, all links together, and a rule.
fn top(view: &View, now: Instant) -> Vec<Line<'static>> {
    let width = usize::from(view.size.0);
    let daemon = view.now.as_ref().map(|answer| &answer.look.status);
    let first = match daemon {
        Some(status) => {
            let up = milliseconds(status.uptime_seconds.saturating_mul(1_000));
            format!("tidegate {}  {}  up {up}  {}", status.version, status.name, view.url)
        }
        None => format!("tidegate  {}", view.url),
    };
    let second = match view.silence(now) {
        Some((time, why)) => {
            let time = milliseconds(time.as_millis().try_into().unwrap_or(u64::MAX));
            Line::styled(
                cut(&format!("no answer for {time}: {why}"), width, ellipsis(view)),
                bad().add_modifier(Modifier::REVERSED),
            )
        }
        None if daemon.is_none() => Line::from("waiting for the first answer"),
        None => Line::from(together(view)),
    };
    let page = view.page.zip(view.link()).map(|(page, link)| format!(" {}: {} ", link.id, page.title()));
    let title = page.unwrap_or_else(|| " links ".to_owned());
    let title = cut(&title, width.saturating_sub(4), ellipsis(view));
    let rule = rule(view);
    let rest = width.saturating_sub(2 + Span::raw(&*title).width());
    vec![
        Line::styled(cut(&first, width, ellipsis(view)), Style::new().add_modifier(Modifier::BOLD)),
        second,
        Line::from(format!("{}{title}{}", rule.repeat(2), rule.repeat(rest))),
    ]
}

/// What all links do together.
fn together(view: &View) -> String {
    let links = view.links();
    let states = [
        LinkStatus::Active,
        LinkStatus::Starting,
        LinkStatus::Degraded,
        LinkStatus::Failed,
        LinkStatus::FailedOver,
        LinkStatus::Paused,
        LinkStatus::Stopped,
    ];
    let counted = states.iter().filter_map(|state| {
        let count = links.iter().filter(|link| link.status == *state).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    let counted: Vec<String> = counted.collect();
    let records: f64 = links.iter().map(|link| link.metrics.messages_per_second).sum();
    let written: f64 = links.iter().map(|link| link.metrics.bytes_per_second).sum();
    let behind = links.iter().filter_map(|link| link.metrics.replication_lag).max();
    let states = if counted.is_empty() { "none yet".to_owned() } else { counted.join(", ") };
    let behind = known(behind.map(milliseconds));
    format!("links: {states}   {} rec/s   {}/s   worst behind {behind}", short_rate(records), bytes(written))
}

/// The keys, and what there is to say or to ask.
fn bottom(view: &View, now: Instant) -> Vec<Line<'static>> {
    let said = match &view.question {
        Some(question) => {
            let what = format!("{} {}? y: yes, any other key: no", question.transition, question.link);
            Line::styled(what, warning().add_modifier(Modifier::REVERSED))
        }
        None => Line::from(view.note(now).unwrap_or_default().to_owned()),
    };
    let keys = if view.page.is_some() { KEYS_OF_PAGE } else { KEYS_OF_LIST };
    vec![said, Line::styled(keys, Style::new().add_modifier(Modifier::DIM))]
}

/// All links, a row each, under titles.
fn list(view: &View) -> Vec<Line<'static>> {
    let rows: Vec<Vec<Cell>> = view.links().iter().map(row).collect();
    table(&COLUMNS, &rows, view.size.0.into(), ellipsis(view))
}

fn list_with_preview(view: &View, rows: usize) -> Vec<Line<'static>> {
    let mut lines = list(view);
    if view.now.is_some() && view.links().is_empty() {
        lines.push(Line::from("there are no links: `tidegate link create` makes one"));
        return lines;
    }
    let preview = if rows >= PREVIEW_FROM { preview(view) } else { Vec::new() };
    let height = rows.saturating_sub(preview.len()).saturating_sub(1).max(1);
    // The titles stay, the rows below them scroll so far that the chosen one is seen.
    let mut links = lines.split_off(1);
    if let Some(line) = links.get_mut(view.row) {
        *line = std::mem::take(line).patch_style(Style::new().add_modifier(Modifier::REVERSED));
    }
    let first = view.row.saturating_sub(height.saturating_sub(1));
    lines.extend(links.into_iter().skip(first).take(height));
    lines.resize_with(rows.saturating_sub(preview.len()), Line::default);
    lines.extend(preview);
    lines
}

/// The most important of the chosen link.
fn preview(view: &View) -> Vec<Line<'static>> {
    let Some(link) = view.link() else { return Vec::new() };
    let mut lines = vec![Line::from(rule(view).repeat(view.size.0.into()))];
    lines.extend(pages::summary(view, link));
    lines.extend(pages::recent(view, PREVIEW_ROWS.saturating_sub(lines.len())));
    lines.truncate(PREVIEW_ROWS);
    lines
}

fn row(link: &Link) -> Vec<Cell> {
    let records: Option<u64> = link.lanes.iter().flat_map(|lane| &lane.partitions).map(|partition| partition.lag).sum();
    let busy = link.lanes.iter().filter(|lane| matches!(lane.state, LaneState::Running | LaneState::Elsewhere)).count();
    vec![
        plain(&*link.id),
        (link.status.to_string(), of_status(link.status)),
        (link.health.status.to_string(), of_health(link.health.status)),
        (link.source.clone(), of_reach(link.health.source_cluster_reachable)),
        (link.target.clone(), of_reach(link.health.target_cluster_reachable)),
        plain(short_rate(link.metrics.messages_per_second)),
        plain(bytes(link.metrics.bytes_per_second)),
        plain(known(link.metrics.replication_lag.map(milliseconds))),
        plain(known(records)),
        plain(format!("{busy}/{}", link.lanes.len())),
    ]
}

/// A number of records a second, in a few letters.
pub(super) fn short_rate(rate: f64) -> String {
    match rate {
        rate if rate < 10.0 && rate > 0.0 => format!("{rate:.1}"),
        rate if rate < 100_000.0 => format!("{rate:.0}"),
        rate if rate < 100_000_000.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.0}M", rate / 1e6),
    }
}

/// How long ago, in a few letters.
pub(super) fn ago(time: Duration) -> String {
    milliseconds(time.as_millis().try_into().unwrap_or(u64::MAX)) + " ago"
}

pub(super) fn bad() -> Style {
    Style::new().fg(Color::Red)
}

pub(super) fn warning() -> Style {
    Style::new().fg(Color::Yellow)
}

fn good() -> Style {
    Style::new().fg(Color::Green)
}

pub(super) fn of_status(status: LinkStatus) -> Style {
    match status {
        LinkStatus::Active => good(),
        LinkStatus::Failed => bad().add_modifier(Modifier::BOLD),
        LinkStatus::Degraded | LinkStatus::Starting | LinkStatus::FailedOver => warning(),
        LinkStatus::Paused | LinkStatus::Stopped => Style::new(),
    }
}

pub(super) fn of_health(health: HealthStatus) -> Style {
    match health {
        HealthStatus::Healthy => good(),
        HealthStatus::Degraded => warning(),
        HealthStatus::Unhealthy => bad().add_modifier(Modifier::BOLD),
    }
}

fn of_reach(reachable: Option<bool>) -> Style {
    if reachable == Some(false) { bad() } else { Style::new() }
}

pub(super) fn ellipsis(view: &View) -> &'static str {
    if view.ascii { "~" } else { "…" }
}

fn rule(view: &View) -> &'static str {
    if view.ascii { "-" } else { "─" }
}

/// No line has anything in it that could steer a terminal, and with `ascii` nothing that some terminals lack.
fn finished(lines: Vec<Line<'static>>, ascii: bool) -> Vec<Line<'static>> {
    let letter = |letter: char| match letter {
        'µ' if ascii => 'u',
        letter if steers(letter) || (ascii && !letter.is_ascii()) => NOT_ASCII,
        letter => letter,
    };
    let span = |span: Span<'static>| {
        let content: String = span.content.chars().map(letter).collect();
        Span::styled(content, span.style)
    };
    let line = |line: Line<'static>| Line { spans: line.spans.into_iter().map(span).collect(), ..line };
    lines.into_iter().map(line).collect()
}
