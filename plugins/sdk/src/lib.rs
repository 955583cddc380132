//! x
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
mod transform;

pub use config::{ConfigError, NoConfig};
pub use filter::Filter;
pub use outputs::{Output, Outputs};
pub use record::{Column, Header, Record, Reject};
pub use transform::{Route, Routes, Transform};
