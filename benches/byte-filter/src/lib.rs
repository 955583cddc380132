//! The filter that the benches compare with a native one: it reads one byte of the value, so that what is measured is the way
//! into the plugin and back.

use tidegate_plugin::{Column, ConfigError, Filter, NoConfig, Record, Reject, export_filter};

struct ByteFilter;

impl Filter for ByteFilter {
    type Config = NoConfig;
    const NEEDS: &'static [Column] = &[Column::Value];

    fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
        Ok(Self)
    }

    fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
        Ok(record.value().and_then(<[u8]>::last).is_some_and(|byte| byte % 8 != 0))
    }
}

export_filter!(ByteFilter);
