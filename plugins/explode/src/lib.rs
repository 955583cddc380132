//! Makes one record of each element of a JSON array. See `README.md`.

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::json::{self, Pointer};
use tidegate_plugin::{Column, ConfigError, Outputs, Record, Reject, Routes, Transform, export_transform};

/// Where the array is, and where the keys are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the array is in the value. The empty pointer is the whole value.
    #[serde(default)]
    pointer: Pointer,
    /// Where the text is in an element that becomes its record's key. An element without it has the key of the input.
    key_from: Option<Pointer>,
}

struct Explode(Config);

impl Transform for Explode {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Value];

    fn new(config: Config, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        Ok(Self(config))
    }

    fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let Some(value) = record.value() else {
            outputs.emit();
            return Ok(());
        };
        let array = self.0.pointer.find(json::text(value)?)?.map(json::elements).transpose()?.flatten();
        let Some(elements) = array else {
            return Err(Reject::new("not-an-array", format!("the value has no array at \"{}\"", self.0.pointer)));
        };
        for element in elements {
            let key = self.0.key_from.as_ref().map(|pointer| pointer.find_text(element)).transpose()?.flatten();
            let mut output = outputs.emit();
            output.value(Some(element.as_bytes()));
            if let Some(key) = key {
                output.key(Some(key.as_bytes()));
            }
        }
        Ok(())
    }
}

export_transform!(Explode);
