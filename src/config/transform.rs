//! `[links.ID.transform]`: what a link changes of the headers of records.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{RESERVED_PREFIX, TransformSpec, is_reserved_header};

use super::Place;
use super::reader::{Item, Table};
use super::report::Report;
use super::template::{Template, Variable};

/// The most bytes that added headers take, names and values, with the longest that variables can be. A batch has 100,000 records at most,
/// so what is added to one stays well below the 4 GiB that a batch can hold.
const ADDED_BYTES_MAX: usize = 16 << 10;

/// What stands between an old value and the new one.
const ARROW: &str = "->";

/// What is always the same in a link.
pub(super) struct Names<'n> {
    pub(super) link: &'n str,
    pub(super) source: &'n str,
    pub(super) target: &'n str,
}

/// The transform; `None` if it is turned off, says nothing, or is wrong.
pub(super) fn read_transform(item: &Item<'_>) -> Option<TransformSpec> {
    let mut table = item.table()?;
    let enabled = table.flag("enabled", true);
    let removed = table.item("remove_headers").map(|item| item.texts()).unwrap_or_default();
    removed.iter().for_each(|(name, place)| check_name(name, place, item.report));
    let spec = TransformSpec {
        remove_headers: removed.into_iter().map(text).collect(),
        header_transforms: named(&mut table, "header_transforms", mappings),
        add_headers: named(&mut table, "add_headers", added),
    };
    let (mapped, adding) = (table.place_of("header_transforms"), table.place_of("add_headers"));
    table.finish();
    let removed_too = spec.header_transforms.keys().filter(|name| spec.remove_headers.contains(name));
    for (name, place) in removed_too.filter_map(|name| Some((name, mapped.as_ref()?))) {
        let message = format!("header {name:?} is removed before its values could become others");
        item.report.error_with_help(place, message, "take it out of one of them");
    }
    if let Some(place) = adding.filter(|_| added_bytes(&spec) > ADDED_BYTES_MAX) {
        item.report.error(&place, format!("the headers are too large: {ADDED_BYTES_MAX} bytes together are the limit"));
    }
    (enabled && spec != TransformSpec::default()).then_some(spec)
}

/// With the names of the link and its clusters in the place of variables: so a revision says all by itself, whatever clusters are called later.
pub(super) fn settled(mut spec: TransformSpec, names: &Names<'_>) -> TransformSpec {
    let known = |variable| match variable {
        Variable::Link => Some(names.link.to_owned()),
        Variable::SourceCluster => Some(names.source.to_owned()),
        Variable::TargetCluster => Some(names.target.to_owned()),
        _ => None,
    };
    for value in spec.add_headers.values_mut() {
        if let Ok(template) = Template::parse(value) {
            *value = template.settled(known).to_string();
        }
    }
    spec
}

/// The old and the new value of a mapping.
///
/// # Errors
/// What is wrong, on one line.
pub fn parse_mapping(text: &str) -> Result<(&str, &str), String> {
    match text.split(ARROW).map(str::trim).collect::<Vec<_>>()[..] {
        [old, new] => Ok((old, new)),
        _ => Err(format!("{text:?} is not a mapping: write \"old {ARROW} new\", with one arrow")),
    }
}

/// What stands under the names of headers.
fn named<T>(table: &mut Table<'_>, key: &'static str, read: fn(&Item<'_>) -> Option<T>) -> BTreeMap<String, T> {
    let Some(table) = table.item(key).and_then(|item| item.table()) else { return BTreeMap::new() };
    let mut values = BTreeMap::new();
    for (name, place, item) in table.named() {
        if name.is_empty() {
            item.report.error(&place, "a header has a name");
        }
        check_name(name, &place, item.report);
        values.extend(read(&item).map(|value| (name.to_owned(), value)));
    }
    values
}

/// Headers that only Tidegate writes say where a record comes from: links rely on them.
fn check_name(name: &str, place: &Place, report: &Report<'_>) {
    if is_reserved_header(name.as_bytes()) {
        let message =
            format!("header {name:?} is reserved: only Tidegate writes names that begin with {RESERVED_PREFIX:?}");
        report.error_with_help(place, message, "choose a header with another name");
    }
}

fn mappings(item: &Item<'_>) -> Option<Vec<String>> {
    let mut olds = BTreeSet::new();
    let mut mappings = Vec::new();
    for (text, place) in item.texts() {
        match parse_mapping(text) {
            Ok((old, new)) => {
                if !olds.insert(old) {
                    item.report.error(&place, format!("{old:?} becomes something else already"));
                }
                mappings.push(format!("{old} {ARROW} {new}"));
            }
            Err(message) => item.report.error(&place, message),
        }
    }
    (!mappings.is_empty()).then_some(mappings)
}

fn added(item: &Item<'_>) -> Option<String> {
    item.parsed(Template::parse(item.text()?)).map(|template| template.to_string())
}

fn added_bytes(spec: &TransformSpec) -> usize {
    let value = |value: &String| Template::parse(value).map_or(0, |template| template.bytes_max());
    spec.add_headers.iter().map(|(name, text)| name.len() + value(text)).sum()
}

fn text((text, _): (&str, Place)) -> String {
    text.to_owned()
}
