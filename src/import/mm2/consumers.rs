//! What MirrorMaker 2 does for consumers and for people who watch it, beside copying records.

use super::keys::{Flow, Keys, Scope};
use super::notes::Notes;
use super::text::{Entry, Line, list, quoted, seconds};
use super::topics::selectors;
use crate::import::What;

/// The longest that groups are moved and heartbeats sent after, in seconds.
const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

/// `groups.exclude` where nobody says otherwise.
const EXCLUDED_BY_DEFAULT: &str = "console-consumer-.*, connect-.*, __.*";

/// Consumer groups that move with their topics.
pub(super) fn groups(flow: &Flow, keys: &Keys, notes: &Notes) -> Vec<Line> {
    let scope = Scope::Flow(flow.clone());
    let own = [
        "groups",
        "groups.exclude",
        "groups.blacklist",
        "sync.group.offsets.enabled",
        "sync.group.offsets.interval.seconds",
    ];
    let [included, excluded, old_excluded, enabled, interval] = own.map(|key| keys.of_flow(flow, key));
    let excluded = excluded.or(old_excluded);
    if !enabled.is_some_and(|enabled| enabled.value.eq_ignore_ascii_case("true")) {
        for property in [included, excluded, interval].into_iter().flatten() {
            let why = "sync.group.offsets.enabled is not true, so MirrorMaker 2 moves no groups either";
            notes.about(&scope, property, What::NotCarriedOver, why, "set groups of the link if it should");
        }
        return Vec::new();
    }
    let (good, bad) = selectors(included.map_or(".*", |included| &included.value));
    for expression in bad {
        if let Some(included) = included {
            let why = format!("{expression} cannot be said in our expressions");
            notes.about(&scope, included, What::NotCarriedOver, &why, "write it otherwise into groups of the link");
        }
    }
    let (left_out, bad) = selectors(excluded.map_or(EXCLUDED_BY_DEFAULT, |excluded| &excluded.value));
    for expression in bad {
        if let Some(excluded) = excluded {
            let why = format!("{expression} cannot be said in our expressions, so these groups go along");
            notes.about(
                &scope,
                excluded,
                What::NotCarriedOver,
                &why,
                "write it otherwise into groups_exclude of the link",
            );
        }
    }
    let entries = |texts: Vec<String>| -> Vec<Entry> { texts.into_iter().map(Entry::new).collect() };
    let mut lines = vec![Line::Key("groups", list(&entries(good)))];
    if !left_out.is_empty() {
        lines.push(Line::Key("groups_exclude", list(&entries(left_out))));
    }
    if let Some(interval) = interval {
        match seconds(&interval.value, DAY) {
            Some(seconds) => lines.push(Line::Key("group_sync_interval", seconds)),
            None => {
                let why = "groups are moved every second at most, and every day at least";
                notes.about(&scope, interval, What::NotCarriedOver, why, "set group_sync_interval of the link");
            }
        }
    }
    lines
}

/// Records that MirrorMaker 2 writes to `heartbeats`, to show that it lives.
pub(super) fn heartbeats(flow: &Flow, keys: &Keys, notes: &Notes) -> Vec<Line> {
    let scope = Scope::Flow(flow.clone());
    let own = ["emit.heartbeats.enabled", "emit.heartbeats.interval.seconds", "heartbeats.replication.enabled"];
    let [enabled, interval, copied] = own.map(|key| keys.of_flow(flow, key));
    if enabled.is_some_and(|enabled| enabled.value.eq_ignore_ascii_case("false")) {
        return Vec::new();
    }
    let why = "heartbeats of a link go through a topic of its own; `heartbeats` is copied like any topic, if its topics choose it";
    let remedy = "let what watches them watch `tidegate link show`, which has the latency";
    if let Some(copied) = copied {
        notes.about(&scope, copied, What::NotCarriedOver, why, remedy);
    }
    let interval = match interval {
        Some(interval) => {
            notes.about(&scope, interval, What::Differs, why, remedy);
            seconds(&interval.value, HOUR)
        }
        None => Some(quoted("1s")),
    };
    match enabled {
        Some(enabled) => notes.about(&scope, enabled, What::Differs, why, remedy),
        None => notes.about_default(&scope, "emit.heartbeats.enabled", What::Differs, why, remedy),
    }
    interval.map(|interval| Line::Key("heartbeat_interval", interval)).into_iter().collect()
}
