//! Lists of a link that say which topics it reads and what they are called: their bounds, and how they are read.
//!
//! A list is matched against each topic of a cluster and is part of every check of all links, so it is bounded three times: in its entries, in the length of each, and in what its
//! expressions take together when they are compiled.

use std::collections::BTreeSet;

use super::diagnostic::Place;
use super::reader::Item;
use super::rename::Rename;
use super::topics::{TopicSelector, is_internal};

/// The most entries of `topics`, `topics_exclude`, `rename` and `groups`, each. Whoever has more topics than that to name has an expression for them, or several links.
pub const ENTRIES_MAX: usize = 1_000;

/// The most bytes of an expression as it is written.
pub const EXPRESSION_BYTES_MAX: usize = 1_024;

/// The most bytes of one compiled expression: 1 MiB holds every sensible one, and a short text like `(\w{99}){99}` cannot take the machine's memory.
const ONE_COMPILED_BYTES_MAX: usize = 1 << 20;

/// The same for all expressions of a list together.
const ALL_COMPILED_BYTES_MAX: usize = 32 << 20;

/// What each expression of a list may take when it is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of one of them.
    pub(super) bytes: usize,
    /// How many share what there is, if they get less because of that.
    pub(super) shared_by: Option<usize>,
}

impl Room {
    /// For an expression that is alone.
    pub const ALONE: Self = Self { bytes: ONE_COMPILED_BYTES_MAX, shared_by: None };

    /// For each of so many expressions.
    pub fn among(expressions: usize) -> Self {
        match ALL_COMPILED_BYTES_MAX / expressions.max(1) {
            bytes if bytes < ONE_COMPILED_BYTES_MAX => Self { bytes, shared_by: Some(expressions) },
            _ => Self::ALONE,
        }
    }

    /// For each of the entries that stand between slashes.
    pub fn of<'t>(entries: impl IntoIterator<Item = &'t str>) -> Self {
        Self::among(entries.into_iter().filter(|entry| entry.starts_with('/')).count())
    }
}

/// The entries of a list, if they are not too many.
pub(super) fn entries<'a>(item: &Item<'a>, expected: &str) -> Vec<Item<'a>> {
    let found: Vec<_> = item.items(expected).into_iter().flatten().collect();
    if found.len() <= ENTRIES_MAX {
        return found;
    }
    let message = format!("{} entries are too many: {ENTRIES_MAX} are the limit", found.len());
    item.report.error_with_help(&item.place, message, "write an expression for many of them, or several links");
    Vec::new()
}

/// What the expressions among these may take.
pub(super) fn room(entries: &[Item<'_>]) -> Room {
    Room::of(entries.iter().filter_map(Item::as_text))
}

pub(super) fn read_rename(item: &Item<'_>) -> Vec<Rename> {
    let rules = entries(item, "an array of tables { match = \"…\", to = \"…\" }");
    let room = Room::among(rules.len());
    rules.iter().filter_map(|rule| Rename::read(rule, room)).collect()
}

pub(super) fn read_topics(item: &Item<'_>) -> (Vec<TopicSelector>, Vec<Place>) {
    let (mut topics, mut places, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    let errors = item.report.error_count();
    let items = entries(item, "an array of strings");
    if items.is_empty() && item.report.error_count() == errors {
        item.report.error(&item.place, "the link reads nothing: write one topic at least");
    }
    let room = room(&items);
    for item in items {
        let Some(selector) = selector(&item, room) else { continue };
        if !seen.insert(selector.to_string()) {
            item.report.error(&item.place, format!("{:?} occurs twice", selector.to_string()));
        }
        topics.push(selector);
        places.push(item.place);
    }
    (topics, places)
}

pub(super) fn read_exclude(item: &Item<'_>) -> Vec<TopicSelector> {
    let items = entries(item, "an array of strings");
    let room = room(&items);
    items.iter().filter_map(|item| written_selector(item, room)).collect()
}

fn selector(item: &Item<'_>, room: Room) -> Option<TopicSelector> {
    let selector = written_selector(item, room)?;
    let text = item.text()?;
    if matches!(&selector, TopicSelector::Name(name) if is_internal(name)) {
        let message = format!("{text} is internal: a program keeps it for itself, and a copy of it would be of no use");
        item.report.error_with_help(&item.place, message, "remove it");
        return None;
    }
    Some(selector)
}

fn written_selector(item: &Item<'_>, room: Room) -> Option<TopicSelector> {
    let text = item.text()?;
    match TopicSelector::parse_within(text, room) {
        Err(message) if text.contains(['*', '+', '?', '[', '(', '|', '\\', '^', '$']) && !text.starts_with('/') => {
            item.report.error_with_help(&item.place, message, "a regular expression stands between two slashes");
            None
        }
        result => item.parsed(result),
    }
}
