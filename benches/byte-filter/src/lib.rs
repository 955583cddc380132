//! The filter that the benches compare with a native one: it reads one byte of the value, so that what is measured is the way
//! into the plugin and back. Capital letters stand for trouble: no good record ends with one.

#![allow(clippy::panic, reason = "what a panic costs is measured too")]

use tidegate_plugin::{Column, ConfigError, Filter, NoConfig, Record, Reject, export_filter};

struct ByteFilter;

impl Filter for ByteFilter {
    type Config = NoConfig;
    const NEEDS: &'static [Column] = &[Column::Value];

    fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
        Ok(Self)
    }

    fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
        match record.value().and_then(<[u8]>::last) {
            Some(b'R') => Err(Reject::new("told-to", "the record says so")),
            Some(b'P') => panic!("told to"),
            Some(b'L') => loop {
                std::hint::black_box(());
            },
            last => Ok(last.is_some_and(|byte| byte % 8 != 0)),
        }
    }
}

export_filter!(ByteFilter);
