//! Drops some records and doubles others, by their timestamps. For tests: what a record becomes shows in its offsets in the target.

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::{Column, ConfigError, Outputs, Record, Reject, Routes, Transform, export_transform};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Sieve;

impl Transform for Sieve {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Timestamp];

    fn new(_: Config, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        Ok(Self)
    }

    fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let copies = match record.timestamp() % 5 {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            outputs.emit();
        }
        Ok(())
    }
}

export_transform!(Sieve);
