//! A filter that reads and writes its state as often as it is told: what is measured is a get and a put.

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::{Column, ConfigError, Expiry, Record, Reject, State, StatefulFilter, export_stateful_filter};

/// How often.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A get and a put, for each record.
    times: u32,
}

struct StateFilter(Config);

impl StatefulFilter for StateFilter {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Offset];

    fn new(config: Config) -> Result<Self, Vec<ConfigError>> {
        Ok(Self(config))
    }

    fn keep(&self, record: &Record<'_>, state: &State<'_>) -> Result<bool, Reject> {
        for time in 0..self.0.times {
            let key = (record.offset().wrapping_mul(31) as u32 % 1000 + time).to_be_bytes();
            let count = state.get(&key).and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes);
            state.put(&key, &(count + 1).to_le_bytes(), Expiry::Never);
        }
        Ok(true)
    }
}

export_stateful_filter!(StateFilter);
