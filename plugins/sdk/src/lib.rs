//! Write Tidegate plugins in Rust.
//!
//! A plugin is a WebAssembly component that looks at records on their way from one cluster to another. A
//! [`Filter`] lets them pass or drops them; a [`Transform`] keeps, changes, drops, splits and routes them. Both work on a
//! borrowed [`Record`], and neither can reach anything but its records, its configuration and what [`host`] offers. Both come
//! in a second kind that remembers.
//!
//! # A filter
//!
//! A crate with `crate-type = ["cdylib"]`, this crate, `serde` and `schemars`, and this:
//!
//! ```
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use tidegate_plugin::{Column, ConfigError, Filter, Record, Reject, export_filter};
//!
//! /// Keeps records whose value has a certain size.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct BySize {
//!     /// The fewest bytes.
//!     at_least: usize,
//! }
//!
//! impl Filter for BySize {
//!     type Config = Self;
//!     const NEEDS: &'static [Column] = &[Column::Value];
//!
//!     fn new(config: Self) -> Result<Self, Vec<ConfigError>> {
//!         Ok(config)
//!     }
//!
//!     fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
//!         Ok(record.value().is_some_and(|value| value.len() >= self.at_least))
//!     }
//! }
//!
//! export_filter!(BySize);
//! # fn main() {}
//! ```
//!
//! # A transform
//!
//! ```
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use tidegate_plugin::{
//!     Column, ConfigError, Header, Outputs, Record, Reject, Route, Routes, Transform, export_transform, host,
//! };
//!
//! /// Splits values at line ends. A share of the lines is copied to another topic.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// The topic for the copies.
//!     sample_topic: String,
//!     /// One record of so many is copied.
//!     one_of: u64,
//! }
//!
//! struct Lines {
//!     sample: Route,
//!     one_of: u64,
//! }
//!
//! impl Transform for Lines {
//!     type Config = Config;
//!     const NEEDS: &'static [Column] = &[Column::Value, Column::Headers, Column::Offset];
//!
//!     fn new(config: Config, routes: &mut Routes) -> Result<Self, Vec<ConfigError>> {
//!         if config.one_of == 0 {
//!             return Err(ConfigError::new("/one_of", "must be 1 at least").into());
//!         }
//!         Ok(Self { sample: routes.declare(config.sample_topic), one_of: config.one_of })
//!     }
//!
//!     fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
//!         let Some(value) = record.value() else {
//!             outputs.emit(); // A tombstone goes on as it is.
//!             return Ok(());
//!         };
//!         let text = std::str::from_utf8(value).map_err(|error| Reject::new("not-utf8", error.to_string()))?;
//!         for line in text.lines() {
//!             outputs.emit().value(Some(line.as_bytes()));
//!         }
//!         if record.random() % self.one_of == 0 {
//!             let sampled = Header::new(b"sampled", b"yes");
//!             outputs.emit().route(self.sample).headers(record.headers().chain([sampled]));
//!             host::count("sampled", 1);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! export_transform!(Lines);
//! # fn main() {}
//! ```
//!
//! # A filter that remembers
//!
//! A [`StatefulFilter`] or a [`StatefulTransform`] is given a [`State`] as well: keys and values of the record's source partition, which are
//! committed with the records that they come from.
//!
//! ```
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use tidegate_plugin::testing::{Partition, TestRecord};
//! use tidegate_plugin::{Column, ConfigError, Expiry, Record, Reject, State, StatefulFilter, export_stateful_filter};
//!
//! /// Lets a record pass only if none with its key has passed for a while.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Calm {
//!     /// The while, in milliseconds.
//!     pause_ms: u32,
//! }
//!
//! impl StatefulFilter for Calm {
//!     type Config = Self;
//!     const NEEDS: &'static [Column] = &[Column::Key];
//!
//!     fn new(config: Self) -> Result<Self, Vec<ConfigError>> {
//!         Ok(config)
//!     }
//!
//!     fn keep(&self, record: &Record<'_>, state: &State<'_>) -> Result<bool, Reject> {
//!         let key = record.key().ok_or_else(|| Reject::new("no-key", "the key is null"))?;
//!         if state.get(key).is_some() {
//!             return Ok(false);
//!         }
//!         let until = state.time().saturating_add(self.pause_ms.into());
//!         state.put(key, b"", Expiry::At(until));
//!         Ok(true)
//!     }
//! }
//!
//! export_stateful_filter!(Calm);
//!
//! # fn main() {
//! // In its tests:
//! let record = |offset, timestamp| TestRecord { key: Some(b"k".to_vec()), timestamp, offset, ..TestRecord::default() };
//! let records = [record(0, 1000), record(1, 1099), record(2, 1100)];
//! let answer = Partition::in_batches_of(1).filter::<Calm>(r#"{"pause_ms": 100}"#, &records).expect("a configuration");
//! assert_eq!(answer.outputs, [record(0, 1000), record(2, 1100)]);
//! # }
//! ```
//!
//! # What to know
//!
//! - The result for a record depends on that record, the configuration and the [`State`] alone. Batches are cut anywhere, an instance may be
//!   replaced after each of them, and a record may come again after a crash. Hence the timestamps are the only clock, and
//!   [`Record::random`] the only chance.
//! - A record that cannot be handled is rejected: `Err(Reject::new("code", "message"))`. A panic stops the whole batch. Its
//!   message and place are logged, the host is told which record it was, and the instance is thrown away.
//! - Only what is named in `NEEDS` is handed over, and only what is set on an [`Output`] goes back.
//! - [`json`] finds and cuts out parts of JSON values without reading all of them.
//! - A configuration is read from its text, so integers of any Rust type are exact. Take [`json::Num`] and [`json::Value`] for a number or a
//!   value that is to be compared with those of records: `serde_json::Number` and `serde_json::Value` round what 64 bits cannot hold.
//!
//! `cargo xtask plugins` builds every plugin in `plugins/`; `wit/README.md` has the contract in full.

#[doc(hidden)]
pub mod bindings;
mod by;
mod config;
#[doc(hidden)]
pub mod export;
#[cfg(not(target_arch = "wasm32"))]
mod fake;
mod filter;
pub mod host;
pub mod json;
mod number;
mod outputs;
mod panics;
mod random;
mod record;
mod scan;
mod state;
mod stateful_filter;
mod stateful_transform;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transform;
mod value;

pub use by::By;
pub use config::{ConfigError, NoConfig};
pub use filter::Filter;
pub use outputs::{Output, Outputs};
pub use record::{Column, Header, Record, Reject};
pub use state::{Expiry, MigrationState, Scan, State};
pub use stateful_filter::StatefulFilter;
pub use stateful_transform::StatefulTransform;
pub use transform::{Route, Routes, Transform};
