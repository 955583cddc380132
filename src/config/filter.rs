//! `[links.ID.filter]`: which records a link copies.

use std::collections::BTreeMap;

use toml::de::DeValue;

use crate::model::time::parse_rfc3339;
use crate::model::{Condition, FilterSpec};

use super::patterns::Patterns;
use super::reader::{Item, Table};

/// How deep conditions may stand in each other. Nobody reads more, and whoever evaluates them goes down as deep.
const DEPTH_MAX: usize = 16;

/// What a condition can be.
const KINDS: &str = "write { key_prefix = \"eu-\" }, { header = \"tier\", equals = \"premium\" }, { and = [ … ] }, { or = [ … ] } or { not = { … } }";

/// The filter; `None` if it is turned off, says nothing, or is wrong.
pub(super) fn read_filter(item: &Item<'_>) -> Option<FilterSpec> {
    let mut table = item.table()?;
    let enabled = table.flag("enabled", true);
    let spec = FilterSpec {
        include_patterns: patterns(&mut table, "include_patterns"),
        exclude_patterns: patterns(&mut table, "exclude_patterns"),
        filter_by_header: table.item("filter_by_header").map(|item| by_header(&item)).unwrap_or_default(),
        min_timestamp: table.item("min_timestamp").and_then(|item| timestamp(&item)),
        key_prefix: table.item("key_prefix").map(|item| prefixes(&item)).unwrap_or_default(),
        condition: table.item("where").and_then(|item| condition(&item, 1)),
    };
    table.finish();
    (enabled && spec != FilterSpec::default()).then_some(spec)
}

fn patterns(table: &mut Table<'_>, key: &'static str) -> Vec<String> {
    let Some(item) = table.item(key) else { return Vec::new() };
    let written = item.texts();
    let mut good = Vec::new();
    for (expression, place) in &written {
        // First alone, so that a message tells about one of them.
        match Patterns::compile([*expression]) {
            Ok(_) => good.push((*expression).to_owned()),
            Err(message) => item.report.error(place, message),
        }
    }
    if good.len() == written.len() && Patterns::compile(good.iter().map(String::as_str)).is_err() {
        item.report.error(&item.place, "the regular expressions are too large together: write simpler ones");
    }
    good
}

fn by_header(item: &Item<'_>) -> BTreeMap<String, String> {
    let Some(table) = item.table() else { return BTreeMap::new() };
    let mut values = BTreeMap::new();
    for (name, place, item) in table.named() {
        if name.is_empty() {
            item.report.error(&place, "a header has a name");
        }
        values.extend(item.text().map(|value| (name.to_owned(), value.to_owned())));
    }
    values
}

fn prefixes(item: &Item<'_>) -> Vec<String> {
    item.texts().into_iter().map(|(prefix, _)| prefix.to_owned()).collect()
}

/// Milliseconds, or a time with its zone, as a text or as TOML's own.
fn timestamp(item: &Item<'_>) -> Option<i64> {
    let text = match item.value {
        DeValue::Integer(_) => return item.integer(0..=i64::MAX.unsigned_abs()).map(|ms| ms as i64),
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        _ => return item.wrong_type("a time: a string like \"2024-01-01T00:00:00Z\", or milliseconds since 1970"),
    };
    let parsed = parse_rfc3339(&text);
    item.parsed(parsed.ok_or_else(|| {
        format!("{text:?} is not a time: write it like \"2024-01-01T00:00:00Z\", or as milliseconds since 1970")
    }))
}

fn condition(item: &Item<'_>, depth: usize) -> Option<Condition> {
    if depth > DEPTH_MAX {
        let message = format!("nested too deeply: {DEPTH_MAX} levels are the limit");
        item.report.error(&item.place, message);
        return None;
    }
    let mut table = item.table()?;
    // Of a header that must be null this would say that it may be anything.
    table.refuse_nulls();
    let [and, or, not, key_prefix, header] = ["and", "or", "not", "key_prefix", "header"].map(|key| table.item(key));
    let equals = table.item("equals");
    table.finish();
    if let Some(equals) = equals.as_ref().filter(|_| header.is_none()) {
        equals.report.error(&equals.place, "\"equals\" belongs to a \"header\"");
    }
    // All of them, so that all their errors are reported.
    let found = [
        and.map(|item| Some(Condition::And { and: conditions(&item, depth)? })),
        or.map(|item| Some(Condition::Or { or: conditions(&item, depth)? })),
        not.map(|item| Some(Condition::Not { not: Box::new(condition(&item, depth + 1)?) })),
        key_prefix.map(|item| some_of(&item, prefixes(&item)).map(|key_prefix| Condition::KeyPrefix { key_prefix })),
        header.map(|item| of_header(&item, equals.as_ref())),
    ];
    let mut found = found.into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(only), None) => only,
        (first, _) => {
            let message = if first.is_some() { "a condition is one thing" } else { "there is no condition here" };
            item.report.error_with_help(&item.place, message, KINDS);
            None
        }
    }
}

fn conditions(item: &Item<'_>, depth: usize) -> Option<Vec<Condition>> {
    let items = item.items("an array of conditions")?;
    // Not short-circuiting: every error in the array is reported.
    let found: Vec<_> = items.map(|item| condition(&item, depth + 1)).collect();
    some_of(item, found.into_iter().collect::<Option<_>>()?)
}

/// `found`, which must not be nothing.
fn some_of<T>(item: &Item<'_>, found: Vec<T>) -> Option<Vec<T>> {
    let is_empty_array = matches!(item.value, DeValue::Array(values) if values.is_empty());
    item.parsed(if is_empty_array { Err("it is empty".to_owned()) } else { Ok(found) })
}

fn of_header(name: &Item<'_>, equals: Option<&Item<'_>>) -> Option<Condition> {
    let equals = equals.map(|item| item.text());
    let header = name.filled()?.to_owned();
    let equals = match equals {
        Some(value) => Some(value?.to_owned()),
        None => None,
    };
    Some(Condition::Header { header, equals })
}
