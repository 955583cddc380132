//! Plugins that mean harm, in source, and what the operator sees of each.
//!
//! Reading order: `table` says what a row is; `loading`, `calling` and `answering` hold the rows; `template` makes a component of a row,
//! from `plugin.wat`; `judge` lets every row do its worst in a daemon, the `house`; `runner` has what is too much for that.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod answering;
mod calling;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../it/harness.rs"]
mod harness;
mod house;
mod judge;
mod loading;
mod runner;
mod table;
mod template;
