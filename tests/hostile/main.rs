//! Plugins that mean harm, in source, and what the operator sees of each.
//!
//! Reading order: `table` says what a row is; `loading`, `calling` and `answering` hold the rows; `template` makes a component of a row,
//! from `plugin.wat`; `runner` lets every row do its worst.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod answering;
mod calling;
mod loading;
mod runner;
mod table;
mod template;
