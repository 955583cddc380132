//! Real Apache Kafka clusters on loopback: brokers and controllers in Java processes of their own, from the artifacts of Maven Central.
//!
//! **Invariant:** nothing outlives its owner. A [`Cluster`] that is dropped has ended its processes and removed its directory. If the owner
//! itself is killed, the system ends the processes, and the next cluster to start removes the directory.
//!
//! Reading order: `release`, `cluster`, `broker`, `wire`; `proxy` (the faults of a network); `access` (who may do what) and `quota` (how much); then `jars` (where the programs come from) and `brought` (once, and whole), `process` and `port`.

mod access;
mod broker;
mod brought;
mod cluster;
mod jars;
mod port;
mod process;
mod proxy;
mod quota;
mod release;
mod wire;

pub use access::{Resource, authorizer};
pub use broker::Broker;
pub use brought::once;
pub use cluster::{Cluster, Options};
pub use jars::{Jars, home, install, output};
pub use port::free as free_port;
pub use process::start as start_child;
pub use proxy::{Catch, Deed, Proxy, Side, Wan};
pub use release::Release;
pub use wire::ask;

/// What went wrong, and what to do about it.
pub type Result<T> = std::result::Result<T, String>;
