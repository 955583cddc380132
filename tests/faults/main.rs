//! Links between real Kafka clusters, under the faults that they must survive.
//!
//! Each fault is a scene: the real daemon copies a topic, something goes wrong, records come again, and an oracle that has no line in common with the engine
//! compares source and target record by record. A consumer that runs all the time must have seen nothing but a growing prefix. Every third transaction of the
//! source is aborted.
//!
//! Each scene is played with transactions of version 2, through a stateful plugin that is swapped again and again, and with those of version 1, without
//! plugins; some of them with version 1 in the long form only. `TIDEGATE_KILLS` asks for the long form: so many kills, and the scenes that are marked as long; `cargo xtask soak` sets it. `TIDEGATE_SEED` makes
//! the records and the intended moments of a run again. No scene depends on speed: what is measured is printed, and only "never" fails.
//!
//! Reading order: `clusters`, `scene`; then the faults: `process`, `fleet`, `relane`, `identity`, `network`, `brokers`, `topics`, `refused`; `regions`, clusters that change places; `follow`, topics that
//! come and go; `losses`, sources that lost something; `beginnings`, links that begin at the end; `both_ways`, links in opposite directions; `secured`, clusters with
//! passwords and TLS; `groups` and `spread`, consumers that move; `health`, what is said of all that; `definitions`, links that come by REST; `documented`, all that the interface promises; `soak`, many links whose daemon does what a model says; `takeover`, links that go on where MirrorMaker 2 stopped; and `verify`, which is no fault.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

/// Makes two tests of each fault: one for each version of transactions.
macro_rules! for_each_version {
    ($($fault:ident),* $(,)?) => {
        mod version_2 {
            $(#[test] fn $fault() { super::$fault(crate::clusters::Version::Two); })*
        }
        mod version_1 {
            $(#[test] fn $fault() { super::$fault(crate::clusters::Version::One); })*
        }
    };
}

/// The same for faults in which no transaction plays a part of its own: version 1 is for the long form.
macro_rules! for_version_2_first {
    ($($fault:ident),* $(,)?) => {
        mod version_2 {
            $(#[test] fn $fault() { super::$fault(crate::clusters::Version::Two); })*
        }
        mod version_1 {
            $(#[test] fn $fault() {
                if crate::scene::long().is_none() {
                    return println!("in the long form alone: set TIDEGATE_KILLS");
                }
                super::$fault(crate::clusters::Version::One);
            })*
        }
    };
}

mod beginnings;
mod both_ways;
mod brokers;
mod clusters;
mod definitions;
mod documented;
mod fleet;
mod follow;
mod groups;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../it/harness.rs"]
mod harness;
mod health;
mod identity;
mod losses;
mod network;
mod process;
mod refused;
mod regions;
mod relane;
mod scene;
mod secured;
mod soak;
mod spread;
mod takeover;
mod topics;
mod verify;
