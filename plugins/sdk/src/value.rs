//! Any JSON value of a configuration, with all that its numbers say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

use crate::json::{NotJson, Num, elements, members, string};

/// A value that a configuration names, to compare parts of documents with. `serde_json::Value` would round integers of more than 64 bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Num),
    /// A text.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// The value that a part of a JSON document is. If a name is in an object twice, the last one counts.
    ///
    /// # Errors
    /// It is not JSON, or has a string that no text can hold.
    pub fn read(part: &str) -> Result<Self, NotJson> {
        if let Some(elements) = elements(part)? {
            return elements.into_iter().map(Self::read).collect::<Result<_, _>>().map(Self::Array);
        }
        if let Some(members) = members(part)? {
            let member = |(name, part): (Cow<'_, str>, &str)| Ok((name.into_owned(), Self::read(part)?));
            return members.into_iter().map(member).collect::<Result<_, _>>().map(Self::Object);
        }
        let part = part.trim();
        Ok(match part {
            "null" => Self::Null,
            "true" | "false" => Self::Bool(part == "true"),
            _ => match Num::read(part) {
                Some(number) => Self::Number(number),
                None => Self::String(string(part)?.into_owned()),
            },
        })
    }

    /// Whether a part of a document, as [`Pointer::find`](crate::json::Pointer::find) gives it, is this. Numbers are compared by what they are,
    /// and members in any order.
    ///
    /// # Errors
    /// The part has a string that no text can hold.
    pub fn is(&self, part: &str) -> Result<bool, NotJson> {
        Ok(match self {
            Self::Null => part == "null",
            Self::Bool(flag) => part == if *flag { "true" } else { "false" },
            Self::Number(number) => Num::read(part).as_ref() == Some(number),
            Self::String(text) => part.starts_with('"') && string(part)? == *text,
            // A string within that no text can hold is none that a configuration has.
            Self::Array(values) => match elements(part) {
                Ok(Some(parts)) => parts.len() == values.len() && are(values.iter().zip(parts)),
                _ => false,
            },
            Self::Object(values) => match members(part) {
                // Sorted by name on both sides.
                Ok(Some(parts)) => parts.keys().eq(values.keys()) && are(values.values().zip(parts.into_values())),
                _ => false,
            },
        })
    }
}

fn are<'v, 'p>(mut pairs: impl Iterator<Item = (&'v Value, &'p str)>) -> bool {
    pairs.all(|(value, part)| value.is(part).unwrap_or(false))
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = Box::<RawValue>::deserialize(deserializer)?;
        Self::read(part.get()).map_err(D::Error::custom)
    }
}

impl JsonSchema for Value {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_are() {
        for (value, part, is) in [
            ("null", "null", true),
            ("null", "0", false),
            ("true", "true", true),
            ("\"a\"", "\"\\u0061\"", true),
            ("\"1\"", "1", false),
            ("1", "1.0", true),
            ("100", "1e2", true),
            ("18446744073709551617", "18446744073709551617", true),
            ("18446744073709551617", "18446744073709551616", false),
            ("[18446744073709551617]", "[ 18446744073709551617 ]", true),
            ("[18446744073709551617]", "[18446744073709551616]", false),
            ("[1,2]", "[2,1]", false),
            ("[]", "{}", false),
            ("{\"a\":null,\"b\":[1]}", "{\"b\":[1.0],\"a\":null}", true),
            ("{\"a\":null,\"b\":1}", "{\"b\":1}", false),
            ("{\"b\":1}", "{\"b\":1,\"a\":null}", false),
            ("{\"b\":1}", "{\"b\":2,\"\\u0062\":1}", true),
            ("[\"a\"]", "[\"\\ud800\"]", false),
            ("{\"a\":1}", "{\"\\ud800\":1}", false),
            ("{\"a\":{\"b\":170141183460469231731687303715884105727}}", "{\"a\":{\"b\":1.75e38}}", false),
        ] {
            assert_eq!(Value::read(value).expect("a value").is(part).expect("a part"), is, "{value} {part}");
            let read: Value = serde_json::from_str(value).expect("a value");
            assert_eq!(read.is(part).expect("a part"), is, "{value} {part}");
        }
        assert!(Value::read("\"\\ud800\"").is_err());
    }
}
