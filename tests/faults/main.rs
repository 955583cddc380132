//! Links between real Kafka clusters, under the faults that they must survive.
//!
//! Each fault is a scene: the real daemon copies a topic, something goes wrong, records come again, and an oracle that has no line in common with the engine
//! compares source and target record by record. A consumer that runs all the time must have seen nothing but a growing prefix. Every third transaction of the
//! source is aborted.
//!
//! Each scene is played with transactions of version 2 on the newest Kafka, through a stateful plugin that is swapped again and again, and with those of
//! version 1 on a real old one, Kafka 3.5.2, without plugins; some of them on only one of the two in the short form. An old cluster is never played by a
//! new one: new brokers refuse much that old ones believe. What is played by a new one with old features is the state that an upgrade of its brokers leaves.
//! `TIDEGATE_KILLS` asks for the long form: so many kills, and the scenes that are marked as long; `cargo xtask soak` sets it. `TIDEGATE_SEED` makes
//! the records and the intended moments of a run again. No scene depends on speed: what is measured is printed, and only "never" fails.
//!
//! Reading order: `clusters`, `scene`; then the faults: `process`, `fleet`, `relane`, `identity`, `network`, `late`, `brokers`, `topics`, `refused`; `sizes`, batches that a target makes larger; `slow`, brokers that make a link wait; `regions`, clusters that change places; `follow`, topics that
//! come and go; `losses`, sources that lost something; `stalled`, partitions that cannot be read; `uncommitted`, records that are not committed; `states`, what stages remember of it; `beginnings`, links that begin at the end; `both_ways`, links in opposite directions; `secured`, clusters with
//! passwords and TLS; `groups` and `spread`, consumers that move; `health`, what is said of all that; `definitions`, links that come by REST; `documented`, all that the interface promises; `soak`, many links whose daemon does what a model says; `takeover`, links that go on where MirrorMaker 2 stopped; and `verify`, which is no fault.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

/// Makes a test of each fault in a module of its own for a version.
macro_rules! at {
    ($module:ident, $version:ident: $($fault:ident),*) => {
        mod $module {
            $(#[test] fn $fault() { super::$fault(crate::clusters::Version::$version); })*
        }
    };
}

/// The same for the long form alone.
macro_rules! at_length {
    ($module:ident, $version:ident: $($fault:ident),*) => {
        mod $module {
            $(#[test] fn $fault() {
                if crate::scene::long().is_none() {
                    return println!("in the long form alone: set TIDEGATE_KILLS");
                }
                super::$fault(crate::clusters::Version::$version);
            })*
        }
    };
}

/// Makes two tests of each fault: one for each version of transactions.
macro_rules! for_each_version {
    ($($fault:ident),* $(,)?) => {
        at!(version_2, Two: $($fault),*);
        at!(version_1, One: $($fault),*);
    };
}

/// The same for faults in which no transaction plays a part of its own: version 1 is for the long form.
macro_rules! for_version_2_first {
    ($($fault:ident),* $(,)?) => {
        at!(version_2, Two: $($fault),*);
        at_length!(version_1, One: $($fault),*);
    };
}

/// The same for faults that only old brokers do not see: all others are for the long form.
macro_rules! for_version_1_first {
    ($($fault:ident),* $(,)?) => {
        at!(version_1, One: $($fault),*);
        at_length!(upgraded, Upgraded: $($fault),*);
        at_length!(version_2, Two: $($fault),*);
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
mod late;
mod losses;
mod network;
mod process;
mod refused;
mod regions;
mod relane;
mod scene;
mod secured;
mod sizes;
mod slow;
mod soak;
mod spread;
mod stalled;
mod states;
mod takeover;
mod topics;
mod uncommitted;
mod verify;
