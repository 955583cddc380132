//! Tests of the whole: the real binary, the built plugins, real files, real signals.
//!
//! The plugins must have been built: `cargo xtask plugins`.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod at_once;
mod bad_input;
mod both_ways;
mod builtins;
mod compiler;
mod crash;
mod definitions;
mod deploy;
mod documented;
mod documents;
mod examples;
mod exposition;
mod failover;
mod gallery;
mod harness;
mod house;
mod log;
mod metrics;
mod oracle;
mod poison;
mod properties;
mod relane;
mod reset;
mod resources;
mod secrets;
mod secured;
mod slow;
mod soak;
mod spans;
mod standby;
mod swap;
mod verify;
mod writing;
