//! Write Tidegate plugins in Rust.
//!
//! A plugin is a WebAssembly component that looks at records on their way from one cluster to another. A
//! [`Filter`] lets them pass or drops them; a [`Transform`] keeps, changes, drops, splits and routes them. Both work on a
//! borrowed [`Record`], and neither can reach anything but its records, its configuration and what [`host`] offers.
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
//! # What to know
//!
//! - The result for a record depends on that record and the configuration alone. Batches are cut anywhere, an instance may be
//!   replaced after each of them, and a record may come again after a crash. Hence the timestamp is the only clock, and
//!   [`Record::random`] the only chance.
//! - A record that cannot be handled is rejected: `Err(Reject::new("code", "message"))`. A panic stops the whole batch. Its
//!   message and place are logged, and the instance is thrown away.
//! - Only what is named in `NEEDS` is handed over, and only what is set on an [`Output`] goes back.
//! - [`json`] finds and cuts out parts of JSON values without reading all of them.
//!
//! `cargo xtask plugins` builds every plugin in `plugins/`; `wit/README.md` has the contract in full.

#[doc(hidden)]
pub mod bindings;
mod config;
#[doc(hidden)]
pub mod export;
mod filter;
pub mod host;
pub mod json;
mod outputs;
mod random;
mod record;
mod scan;
#[cfg(test)]
mod tests;
mod transform;

pub use config::{ConfigError, NoConfig};
pub use filter::Filter;
pub use outputs::{Output, Outputs};
pub use record::{Column, Header, Record, Reject};
pub use transform::{Route, Routes, Transform};
