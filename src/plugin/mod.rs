//! The WebAssembly host: compiles components, checks what they are, and calls them within limits.
//!
//! Reading order: [`engine`] (one per daemon: clock tick, cache of compiled code), [`compiler`] (compilation in a process of
//! its own), [`component`] (a component that was compiled and checked), [`instance`] (a configured instance, owned by one lane,
//! and its calls), [`outputs`] (what a transform answered, checked and applied to the batch), [`state`] (what a stateful
//! plugin remembers), `host` (what a plugin can call).
//!
//! Invariants
//! - A plugin is offered `tidegate:plugin/host`, a stateful one `state` too, and nothing else: no WASI is linked, anything else is refused by name.
//! - An instance that trapped is never called again: the calls take it by value on the way to an error.
//! - What a call changed in the state can be undone, exactly, until the batch was accepted.
//! - Nothing a plugin answers is believed before it was checked: ranges, counts, order.
//! - Compiled code is read from the cache only if this installation wrote it (a keyed hash over the file).

mod bindings;
mod cache;
pub mod compiler;
pub mod component;
pub mod engine;
mod host;
pub mod instance;
mod limits;
pub mod metrics;
pub mod outputs;
pub mod state;
mod text;

pub use component::{Plugin, Refusal, World};
pub use engine::PluginEngine;
pub use instance::{ConfigError, Instance, Reject, Trap, TrapKind};
pub use metrics::StageMetrics;
pub use state::State;
