//! Drops records that were seen before. See `README.md`.

mod memory;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::{By, Column, ConfigError, Record, Reject, State, StatefulFilter, export_stateful_filter};

use crate::memory::Memory;

/// What makes two records the same, and how long that is remembered. `max_age_ms`, `max_keys` or both must be given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What tells a record from others.
    #[serde(default)]
    by: By,
    /// A record is forgotten so many milliseconds of record time after it passed.
    #[schemars(range(min = 1))]
    max_age_ms: Option<u64>,
    /// A record is forgotten when so many others have passed after it.
    #[schemars(range(min = 1))]
    max_keys: Option<u64>,
    /// What becomes of a record that has nothing which tells it from others.
    #[serde(default)]
    missing: Missing,
}

/// What becomes of a record that has nothing which tells it from others.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Missing {
    #[default]
    Keep,
    Drop,
    Reject,
}

struct Dedupe {
    by: By,
    memory: Memory,
    missing: Missing,
}

impl StatefulFilter for Dedupe {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Key, Column::Value];

    fn new(config: Config) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if config.max_age_ms.is_none() && config.max_keys.is_none() {
            errors.push(ConfigError::new("", "give max_age_ms, max_keys or both: the state would grow for ever"));
        }
        for (path, number) in [("/max_age_ms", config.max_age_ms), ("/max_keys", config.max_keys)] {
            if number == Some(0) {
                errors.push(ConfigError::new(path, "must be 1 at least"));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let memory = Memory { max_age_ms: config.max_age_ms, max_keys: config.max_keys };
        Ok(Self { by: config.by, memory, missing: config.missing })
    }

    fn keep(&self, record: &Record<'_>, state: &State<'_>) -> Result<bool, Reject> {
        match (self.by.find(record)?, self.missing) {
            (Some(key), _) => Ok(self.memory.is_new(&key, state)),
            (None, Missing::Keep) => Ok(true),
            (None, Missing::Drop) => Ok(false),
            (None, Missing::Reject) => Err(Reject::new("missing", "the record has nothing to tell it by")),
        }
    }
}

export_stateful_filter!(Dedupe);
