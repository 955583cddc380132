//! What MirrorMaker 2 does for consumers and for people who watch it, beside copying records.

use super::keys::{Flow, Keys, Scope};
use super::notes::Notes;
use super::text::{Entry, Line, list};
use super::topics::selectors;
use crate::import::What;

/// Whether links have `groups` and `group_sync_interval`.
const LINKS_MOVE_GROUPS: bool = false;

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
    if !LINKS_MOVE_GROUPS {
        for property in [included, excluded, old_excluded, enabled, interval].into_iter().flatten() {
            let remedy = "move the groups of consumers by hand";
            notes.about(&scope, property, What::NotCarriedOver, "links do not move consumer groups yet", remedy);
        }
        return Vec::new();
    }
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
    let (why, remedy) = ("groups are only chosen, and none are left out", "choose them by groups of the link");
    match excluded {
        Some(excluded) => notes.about(&scope, excluded, What::NotCarriedOver, why, remedy),
        None => {
            let why = format!("{why}, and MirrorMaker 2 leaves out {EXCLUDED_BY_DEFAULT}");
            notes.about_default(&scope, "groups.exclude", What::NotCarriedOver, &why, remedy);
        }
    }
    let seconds = interval.map_or("60", |interval| &interval.value);
    let entries: Vec<Entry> = good.into_iter().map(Entry::new).collect();
    vec![
        Line::Key("groups", list(&entries)),
        Line::Key("group_sync_interval", super::text::quoted(&format!("{seconds}s"))),
    ]
}

/// Records that MirrorMaker 2 writes to `heartbeats`, to show that it lives.
pub(super) fn heartbeats(flow: &Flow, keys: &Keys, notes: &Notes) -> Vec<Line> {
    let scope = Scope::Flow(flow.clone());
    let own = ["emit.heartbeats.enabled", "emit.heartbeats.interval.seconds", "heartbeats.replication.enabled"];
    let [enabled, interval, copied] = own.map(|key| keys.of_flow(flow, key));
    if enabled.is_some_and(|enabled| enabled.value.eq_ignore_ascii_case("false")) {
        return Vec::new();
    }
    let why = "a link writes no heartbeats, and copies heartbeats like any topic, if its topics choose it";
    let remedy = "watch the lag of the link instead: `tidegate link show`";
    match enabled.or(interval).or(copied) {
        Some(_) => {
            for property in [enabled, interval, copied].into_iter().flatten() {
                notes.about(&scope, property, What::NotCarriedOver, why, remedy);
            }
        }
        None => notes.about_default(&scope, "emit.heartbeats.enabled", What::NotCarriedOver, why, remedy),
    }
    Vec::new()
}
