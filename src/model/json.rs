//! JSON that passes through: what a plugin is configured with, and the definitions that hold it.
//!
//! `serde_json::Value` keeps a number as a 64-bit integer or a double, so it rounds what is larger or longer. [`Json`] keeps the digits. The
//! feature `arbitrary_precision` of `serde_json` would do so for the whole program, and for every crate that is built with it: numbers
//! behind `#[serde(flatten)]` and in untagged enums, which stored histories have, could not be read any more.
//!
//! One value has one text: members are sorted, blanks are gone, and a number is written as `serde_json` writes it wherever that says the
//! same number (`1e2` is `100.0`). So the digest of a revision covers exactly what its plugins get, and is what it was before there was [`Json`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::json_error::without_values;

/// The deepest nesting that is read: the usual limit.
const DEPTH_MAX: usize = 128;

/// The most names that are said to be there twice: what is wrong with a text may not be longer than the text.
const TWICE_MAX: usize = 100;

/// The most bytes that are shown of a name, and of a path.
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4096;

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(JsonNumber),
    /// A text.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(JsonObject),
}

/// The members of an object, by name.
pub type JsonObject = BTreeMap<String, Json>;

/// A number with all its digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonNumber(String);

/// Why a text is no [`Json`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// It is not JSON, or nested too deeply.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// Members whose names are in their object twice, as JSONPath writes them; the first 100 of them. Which of the two counts is not for us to say.
    #[error("a key is there twice: {}", .0.join(", "))]
    Twice(Vec<String>),
}

impl Json {
    /// Read a text.
    ///
    /// # Errors
    /// It is not JSON, it is nested too deeply, or names are in an object twice.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        let syntax = |error: serde_json::Error| NotJson::Syntax(without_values(&error.to_string()));
        let whole: &RawValue = serde_json::from_str(text).map_err(syntax)?;
        let mut twice = Vec::new();
        let value = read(whole, &Place::Root, 0, &mut twice).map_err(syntax)?;
        if twice.is_empty() { Ok(value) } else { Err(NotJson::Twice(twice)) }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The values, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// The member of that name, if it is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Self> {
        if let Self::Object(members) = self { members.get(name) } else { None }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        if let Self::Object(members) = self { members.get_mut(name) } else { None }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

impl JsonNumber {
    /// The number that a text is, if JSON can write it so.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
            && text.ends_with(|last: char| last.is_ascii_digit())
            && serde_json::from_str::<&RawValue>(text).is_ok();
        is_number.then(|| Self::written(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number that is JSON.
    fn written(text: &str) -> Self {
        let is_integer = text != "-0" && !text.contains(['.', 'e', 'E']);
        let usual = || {
            let float: f64 = text.parse().ok()?;
            let usual = serde_json::Number::from_f64(float)?.to_string();
            (decimal(&usual)? == decimal(text)?).then_some(usual)
        };
        let usual = if is_integer { None } else { usual() };
        Self(usual.unwrap_or_else(|| text.to_owned()))
    }
}

impl From<i64> for JsonNumber {
    fn from(number: i64) -> Self {
        Self(number.to_string())
    }
}

/// Put a patch over an object (RFC 7396).
pub fn merge(object: &mut JsonObject, patch: &JsonObject) {
    for (key, change) in patch {
        match (change, object.get_mut(key)) {
            (Json::Null, _) => drop(object.remove(key)),
            (Json::Object(change), Some(Json::Object(inner))) => merge(inner, change),
            (Json::Object(change), _) => {
                let mut inner = JsonObject::new();
                merge(&mut inner, change);
                object.insert(key.clone(), Json::Object(inner));
            }
            (change, _) => drop(object.insert(key.clone(), change.clone())),
        }
    }
}

/// Sign, digits and power of ten of a number, without the zeros that say nothing. `None` if the power is beyond all measure.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let (short, zeros) = (significant.trim_start_matches('0'), digits.len() - significant.len());
    if short.is_empty() {
        return Some((is_negative, String::new(), 0));
    }
    let power: i64 = power.parse().ok()?;
    let power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(i64::try_from(zeros).ok()?)?;
    Some((is_negative, short.to_owned(), power))
}

/// The depth of this recursion is bounded by [`DEPTH_MAX`]. What is passed over to find a part is not read recursively.
fn read(raw: &RawValue, place: &Place<'_>, depth: usize, twice: &mut Vec<String>) -> Result<Json, serde_json::Error> {
    if depth > DEPTH_MAX {
        return Err(serde_json::Error::custom(format!("nested too deeply: {DEPTH_MAX} levels are the limit")));
    }
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let mut found = JsonObject::new();
            for (name, raw) in serde_json::from_str::<Members<'_>>(text)?.0 {
                let here = Place::Member(place, &name);
                let value = read(raw, &here, depth + 1, twice)?;
                if found.contains_key(&name) && twice.len() < TWICE_MAX {
                    twice.push(here.path());
                }
                found.insert(name, value);
            }
            Json::Object(found)
        }
        Some(b'[') => {
            let parts = serde_json::from_str::<Vec<&RawValue>>(text)?.into_iter().enumerate();
            let values = parts.map(|(index, raw)| read(raw, &Place::Element(place, index), depth + 1, twice));
            Json::Array(values.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Json::String(serde_json::from_str(text)?),
        Some(b't' | b'f') => Json::Bool(text == "true"),
        Some(b'n') | None => Json::Null,
        Some(_) => Json::Number(JsonNumber::written(text)),
    })
}

/// Where a value is. Its path is written only if something is wrong there: a long name would be copied for each value below it.
enum Place<'a> {
    Root,
    Member(&'a Self, &'a str),
    Element(&'a Self, usize),
}

impl Place<'_> {
    /// As JSONPath writes it.
    fn path(&self) -> String {
        let path = match self {
            Self::Root => return "$".to_owned(),
            Self::Element(parent, index) => format!("{}[{index}]", parent.path()),
            Self::Member(parent, name) => {
                let is_bare =
                    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                let (parent, name) = (parent.path(), cut(name, NAME_BYTES_MAX));
                if is_bare { format!("{parent}.{name}") } else { format!("{parent}.{name:?}") }
            }
        };
        cut(&path, PATH_BYTES_MAX).into_owned()
    }
}

fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max - '…'.len_utf8())]).into()
}

/// The members of an object, those with the same name too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members<'de>, A::Error> {
                let mut found = Vec::new();
                while let Some(member) = members.next_entry()? {
                    found.push(member);
                }
                Ok(Members(found))
            }
        }

        deserializer.deserialize_map(Read)
    }
}

/// From a JSON text alone: what serde keeps in between (`#[serde(flatten)]`, untagged and tagged enums) has lost the digits.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Box::<RawValue>::deserialize(deserializer)?.get()).map_err(D::Error::custom)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Number(JsonNumber(text)) => {
                let raw: &RawValue = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(values) => values.serialize(serializer),
            Self::Object(members) => members.serialize(serializer),
        }
    }
}

/// As the text that plugins get.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

/// For tests: `json!` writes down what they expect.
#[cfg(test)]
impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::parse(&value.to_string()).expect("JSON without names twice")
    }
}

#[cfg(test)]
impl PartialEq<serde_json::Value> for Json {
    fn eq(&self, other: &serde_json::Value) -> bool {
        Self::from(other.clone()).eq(self)
    }
}

#[cfg(test)]
pub(crate) mod tests;
