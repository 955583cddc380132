//! What a plugin is configured with: JSON, written as a TOML table in the file, and as it is in a definition.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::de::DeValue;

use super::diagnostic::Place;
use super::reader::Item;
use crate::model::{Digest, Json, JsonNumber, JsonObject};

/// The deepest nesting. Plugins parse the JSON with the usual limit of 128, so this always reaches them.
const DEPTH_MAX: usize = 64;

/// A JSON object, and where each part of it was written.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// What the plugin gets.
    pub value: Json,
    /// Where the whole was written.
    whole: Place,
    /// Where its parts were written, by JSON Pointer (RFC 6901).
    parts: BTreeMap<String, Place>,
}

impl PluginConfig {
    /// The empty object. `place` is where errors about it are shown.
    pub(super) fn empty(place: Place) -> Self {
        Self { value: Json::Object(JsonObject::new()), whole: place, parts: BTreeMap::new() }
    }

    /// The table as JSON. Dates become strings.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        item.table()?;
        let mut parts = BTreeMap::new();
        let value = convert(item, "", 0, &mut parts)?;
        Some(Self { value, whole: item.place.clone(), parts })
    }

    /// The text that stands for the object in what a definition becomes (see `definition`): no digit and no null gets lost on the way.
    pub(super) fn parse(item: &Item<'_>) -> Option<Self> {
        let value = item.parsed(Json::parse(item.text()?).map_err(|error| error.to_string()))?;
        let mut parts = BTreeMap::new();
        if !find_parts(&value, &item.place, "", 0, &mut parts) {
            return too_deep(item);
        }
        Some(Self { value, whole: item.place.clone(), parts })
    }

    /// Where the part that a JSON Pointer names was written. If it was not, the nearest part around it that was.
    pub fn place(&self, pointer: &str) -> &Place {
        let around = std::iter::successors(Some(pointer), |pointer| Some(pointer.rsplit_once('/')?.0));
        around.filter_map(|pointer| self.parts.get(pointer)).next().unwrap_or(&self.whole)
    }
}

/// The digest of what stands in the file, whatever its places: two that are written the same are the same. It may hold secrets, so nothing else is kept of it.
pub(super) fn written(value: &DeValue<'_>) -> Digest {
    Digest::of(plain(value).to_string().as_bytes())
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(number) => Value::Array(vec![number.to_string().into()]),
        DeValue::Float(number) => Value::Array(vec![number.to_string().into()]),
        DeValue::Datetime(date) => Value::Array(vec![date.to_string().into()]),
        DeValue::Array(values) => Value::Array(values.iter().map(|value| plain(value.get_ref())).collect()),
        DeValue::Table(entries) => {
            let entry = |(key, value): (_, &toml::Spanned<DeValue<'_>>)| (key, plain(value.get_ref()));
            Value::Object(entries.iter().map(|(key, value)| entry((key.get_ref().to_string(), value))).collect())
        }
    }
}

/// The places of all parts. False: it is nested too deeply.
fn find_parts(value: &Json, place: &Place, pointer: &str, depth: usize, parts: &mut BTreeMap<String, Place>) -> bool {
    parts.insert(pointer.to_owned(), place.clone());
    let span = || place.span.clone();
    depth <= DEPTH_MAX
        && match value {
            Json::Array(values) => values.iter().enumerate().all(|(index, value)| {
                find_parts(value, &place.item(index, span()), &format!("{pointer}/{index}"), depth + 1, parts)
            }),
            Json::Object(members) => members.iter().all(|(name, value)| {
                find_parts(value, &place.child(name, span()), &below(pointer, name), depth + 1, parts)
            }),
            _ => true,
        }
}

/// The pointer to a member of what `pointer` points to.
fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn too_deep<T>(item: &Item<'_>) -> Option<T> {
    item.parsed(Err(format!("nested too deeply: {DEPTH_MAX} levels are the limit")))
}

fn convert(item: &Item<'_>, pointer: &str, depth: usize, parts: &mut BTreeMap<String, Place>) -> Option<Json> {
    if depth > DEPTH_MAX {
        return too_deep(item);
    }
    parts.insert(pointer.to_owned(), item.place.clone());
    match item.value {
        DeValue::String(text) => Some(Json::String(text.to_string())),
        DeValue::Boolean(flag) => Some(Json::Bool(*flag)),
        DeValue::Datetime(date) => Some(Json::String(date.to_string())),
        DeValue::Integer(written) => {
            let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
            let number = number.map(|number| Json::Number(number.into()));
            item.parsed(number.ok_or_else(|| format!("{written} does not fit a 64-bit integer")))
        }
        DeValue::Float(written) => {
            // TOML has doubles only, but for how long they are written.
            let text = written.as_str().trim_start_matches('+').replace('_', "");
            item.parsed(match JsonNumber::parse(&text) {
                None => Err(format!("JSON has no number for {written}")),
                Some(_) if !text.parse().is_ok_and(f64::is_finite) => {
                    Err(format!("{written} does not fit a 64-bit float"))
                }
                Some(number) => Ok(Json::Number(number)),
            })
        }
        DeValue::Array(_) => {
            let values = item.items("an array")?.enumerate();
            // Not short-circuiting: every error in the array is reported.
            let values: Vec<_> =
                values.map(|(index, item)| convert(&item, &format!("{pointer}/{index}"), depth + 1, parts)).collect();
            values.into_iter().collect::<Option<_>>().map(Json::Array)
        }
        DeValue::Table(_) => {
            let entries: Vec<_> = item
                .table()?
                .named()
                .map(|(key, _, item)| {
                    convert(&item, &below(pointer, key), depth + 1, parts).map(|value| (key.to_owned(), value))
                })
                .collect();
            entries.into_iter().collect::<Option<_>>().map(Json::Object)
        }
    }
}
