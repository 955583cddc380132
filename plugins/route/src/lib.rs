//! Sends records to topics by a field of their JSON value. See `README.md`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::json::{self, Pointer};
use tidegate_plugin::{Column, ConfigError, Outputs, Record, Reject, Route, Routes, Transform, export_transform};

/// Where records go.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the field is in the value.
    pointer: Pointer,
    /// The topic for each text of the field. A number or boolean counts as it is written.
    routes: BTreeMap<String, String>,
    /// The topic for all other records. Without it they stay where they are.
    default: Option<String>,
    /// Where the text is that picks the partition. A record without it keeps its partition.
    partition_by: Option<Pointer>,
}

struct RouteByField {
    pointer: Pointer,
    routes: BTreeMap<String, Route>,
    default: Option<Route>,
    partition_by: Option<Pointer>,
}

impl Transform for RouteByField {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Value];

    fn new(config: Config, routes: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        if config.routes.is_empty() && config.default.is_none() && config.partition_by.is_none() {
            return Err(ConfigError::new("/routes", "give one route, `default` or `partition_by`").into());
        }
        let by_text = config.routes.into_iter().map(|(text, topic)| (text, routes.declare(topic))).collect();
        Ok(Self {
            pointer: config.pointer,
            routes: by_text,
            default: config.default.map(|topic| routes.declare(topic)),
            partition_by: config.partition_by,
        })
    }

    fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let document = record.value().map(json::text).transpose()?;
        let text_at = |pointer: &Pointer| match document {
            Some(document) => pointer.find_text(document),
            None => Ok(None),
        };
        let text = text_at(&self.pointer)?;
        let partition_key = self.partition_by.as_ref().map(text_at).transpose()?.flatten();
        let mut output = outputs.emit();
        if let Some(route) = text.and_then(|text| self.routes.get(text.as_ref())).or(self.default.as_ref()) {
            output.route(*route);
        }
        if let Some(key) = partition_key {
            output.partition_key(key.as_bytes());
        }
        Ok(())
    }
}

export_transform!(RouteByField);
