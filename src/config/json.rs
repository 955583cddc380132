//! TOML values as JSON: what a plugin is configured with.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::diagnostic::Place;
use super::reader::Item;
use crate::model::Digest;

/// The deepest nesting. Plugins parse the JSON with the usual limit of 128, so this always reaches them.
const DEPTH_MAX: usize = 64;

/// A JSON object that was written as a TOML table, and where each part of it was written.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// What the plugin gets.
    pub value: Value,
    /// Where the whole was written.
    whole: Place,
    /// Where its parts were written, by JSON Pointer (RFC 6901).
    parts: BTreeMap<String, Place>,
}

impl PluginConfig {
    /// The empty object. `place` is where errors about it are shown.
    pub(super) fn empty(place: Place) -> Self {
        Self { value: Value::Object(Map::new()), whole: place, parts: BTreeMap::new() }
    }

    /// The table as JSON. Dates become strings.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        item.table()?;
        let mut parts = BTreeMap::new();
        let value = convert(item, "", 0, &mut parts)?;
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

fn convert(item: &Item<'_>, pointer: &str, depth: usize, parts: &mut BTreeMap<String, Place>) -> Option<Value> {
    if depth > DEPTH_MAX {
        item.report.error(&item.place, format!("nested too deeply: {DEPTH_MAX} levels are the limit"));
        return None;
    }
    parts.insert(pointer.to_owned(), item.place.clone());
    match item.value {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Datetime(date) => Some(Value::String(date.to_string())),
        DeValue::Integer(written) => {
            let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
            item.parsed(number.map(Value::from).ok_or_else(|| format!("{written} does not fit a 64-bit integer")))
        }
        DeValue::Float(written) => {
            let number = written.as_str().parse().ok().and_then(Number::from_f64);
            item.parsed(number.map(Value::Number).ok_or_else(|| format!("JSON has no number for {written}")))
        }
        DeValue::Array(_) => {
            let values = item.items("an array")?.enumerate();
            // Not short-circuiting: every error in the array is reported.
            let values: Vec<_> =
                values.map(|(index, item)| convert(&item, &format!("{pointer}/{index}"), depth + 1, parts)).collect();
            values.into_iter().collect::<Option<_>>().map(Value::Array)
        }
        DeValue::Table(_) => {
            let entries: Vec<_> = item
                .table()?
                .named()
                .map(|(key, _, item)| {
                    let escaped = key.replace('~', "~0").replace('/', "~1");
                    convert(&item, &format!("{pointer}/{escaped}"), depth + 1, parts)
                        .map(|value| (key.to_owned(), value))
                })
                .collect();
            entries.into_iter().collect::<Option<_>>().map(Value::Object)
        }
    }
}
