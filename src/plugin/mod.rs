//! The WebAssembly host: compiles components, checks what they are, and calls them within limits.
//!
//! Reading order: [`limits`] (what a plugin may use), [`engine`] (one per daemon: compiler, clock tick, cache of compiled
//! code), [`compiler`] (compilation in a process of its own), [`component`] (a component that was compiled and checked), [`instance`] (a configured instance, owned by one lane,
//! and its calls), [`outputs`] (what a transform answered, checked and applied to the batch), `host` (what a
//! plugin can call).
//!
//! Invariants
//! - A plugin is offered `tidegate:plugin/host` and nothing else: no WASI is linked, anything else is refused by name.
//! - An instance that trapped is never called again: the calls take it by value on the way to an error.
//! - Nothing a plugin answers is believed before it was checked: ranges, counts, order.
//! - Compiled code is read from the cache only if this installation wrote it (a keyed hash over the file).

mod bindings;
mod cache;
pub mod compiler;
pub mod component;
pub mod engine;
mod host;
pub mod instance;
pub mod limits;
pub mod outputs;

pub use component::{Plugin, Refusal, World};
pub use engine::PluginEngine;
pub use host::StageMetrics;
pub use instance::{ConfigError, Instance, Reject, Trap, TrapKind};
pub use limits::Limits;
