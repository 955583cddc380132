//! Tests of the whole: the real binary, the built plugins, real files, real signals.
//!
//! The plugins must have been built: `cargo xtask plugins`.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod at_once;
mod bad_input;
mod becoming;
mod both_ways;
mod bounds;
mod breaks;
mod builtins;
mod clock;
mod compiler;
mod corners;
mod crash;
mod credentials;
mod damage;
mod definitions;
mod deploy;
mod depth;
mod documented;
mod documents;
mod exact;
mod examples;
mod exposition;
mod failover;
mod gallery;
mod harness;
mod house;
mod kept_orders;
mod left_out;
mod log;
mod lying;
mod metrics;
mod opening;
mod oracle;
mod owner;
mod past;
mod poison;
mod private;
mod properties;
mod quoted;
mod relane;
mod reload;
mod reset;
mod resources;
mod returned;
mod same_answer;
mod secrets;
mod secured;
mod set_aside;
mod silent;
mod slow;
mod soak;
mod spans;
mod standby;
mod stood_still;
mod swap;
#[allow(dead_code, reason = "shared with the hostile plugins")]
#[path = "../hostile/template.rs"]
mod template;
mod trial;
mod unusable;
mod verify;
mod writing;
