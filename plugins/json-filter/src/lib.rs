//! Keeps records by a field of their JSON value. See `README.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use tidegate_plugin::json::{self, Num, Pointer, Value};
use tidegate_plugin::{Column, ConfigError, Filter, Record, Reject, export_filter};

/// What to look at, and what it has to be. All conditions that are given must hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the field is in the value.
    pointer: Pointer,
    /// The field is a number, and at least this.
    at_least: Option<Num>,
    /// The field is a number, and at most this.
    at_most: Option<Num>,
    /// The field is a number above this.
    above: Option<Num>,
    /// The field is a number below this.
    below: Option<Num>,
    /// The field is this. Numbers are compared by what they are, not by how they are written.
    #[serde(default, deserialize_with = "present")]
    equals: Option<Value>,
    /// The field is one of these.
    one_of: Option<Vec<Value>>,
    /// Whether the field is there; null is there. With `false` the record is kept where the field is missing.
    exists: Option<bool>,
    /// What becomes of a record that does not have the field, unless `exists` says it.
    #[serde(default)]
    missing: Missing,
}

/// What becomes of a record that does not have the field.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Missing {
    #[default]
    Drop,
    Keep,
    Reject,
}

struct JsonFilter {
    pointer: Pointer,
    checks: Vec<Check>,
    missing: Missing,
    exists: Option<bool>,
}

/// One condition on the field.
enum Check {
    AtLeast(Num),
    AtMost(Num),
    Above(Num),
    Below(Num),
    OneOf(Vec<Value>),
}

impl Filter for JsonFilter {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Value];

    fn new(config: Config) -> Result<Self, Vec<ConfigError>> {
        let number = |number: Option<Num>, check: fn(Num) -> Check| number.map(check);
        let checks: Vec<Check> = [
            number(config.at_least, Check::AtLeast),
            number(config.at_most, Check::AtMost),
            number(config.above, Check::Above),
            number(config.below, Check::Below),
            config.equals.map(|value| Check::OneOf(vec![value])),
            config.one_of.map(Check::OneOf),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut errors = Vec::new();
        if checks.is_empty() && config.exists.is_none() {
            errors.push(ConfigError::new("", "give one of at_least, at_most, above, below, equals, one_of, exists"));
        }
        if !checks.is_empty() && config.exists == Some(false) {
            errors.push(ConfigError::new("/exists", "a field that must not be there can meet no other condition"));
        }
        if checks.iter().any(|check| matches!(check, Check::OneOf(values) if values.is_empty())) {
            errors.push(ConfigError::new("/one_of", "give one value at least"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { pointer: config.pointer, checks, missing: config.missing, exists: config.exists })
    }

    fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
        let field = match record.value() {
            Some(value) => self.pointer.find(json::text(value)?)?,
            None => None,
        };
        let Some(field) = field else { return self.judge_missing() };
        if self.exists == Some(false) {
            return Ok(false);
        }
        for check in &self.checks {
            if !check.holds(field)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl JsonFilter {
    fn judge_missing(&self) -> Result<bool, Reject> {
        match (self.exists, self.missing) {
            (Some(exists), _) => Ok(!exists),
            (None, Missing::Drop) => Ok(false),
            (None, Missing::Keep) => Ok(true),
            (None, Missing::Reject) => {
                Err(Reject::new("missing", format!("the value has no field \"{}\"", self.pointer)))
            }
        }
    }
}

impl Check {
    /// Whether the field, as it is written in the document, meets the condition.
    fn holds(&self, field: &str) -> Result<bool, Reject> {
        let number = || Num::read(field);
        Ok(match self {
            Self::AtLeast(bound) => number().is_some_and(|n| n >= *bound),
            Self::AtMost(bound) => number().is_some_and(|n| n <= *bound),
            Self::Above(bound) => number().is_some_and(|n| n > *bound),
            Self::Below(bound) => number().is_some_and(|n| n < *bound),
            Self::OneOf(values) => {
                for value in values {
                    if value.is(field)? {
                        return Ok(true);
                    }
                }
                false
            }
        })
    }
}

/// A key that is there with null is not a key that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

export_filter!(JsonFilter);
