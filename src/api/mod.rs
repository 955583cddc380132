//! The REST API: what a person, a script or the `tidegate` command asks of a running daemon.
//!
//! Reading order: [`wire`] has every shape that crosses the wire, [`control`] is the trait that the daemon implements,
//! `routes` has all paths with the role that each needs, `access` says who has which role, `listen` takes connections, `in_time` has reads answered whatever clusters do, `server` has what handlers take (`if_match` reads one header of it) and `reply` what they
//! answer, `document` reads JSON; `describe` makes of both what `openapi` says of each path. Then a file for each family of paths: `links`, `revisions`, `verification`, `topics`,
//! `records` (with `produce`, which divides a body among partitions), `daemon`, `metrics` (with [`exposition`], which writes them for Prometheus). `error` makes problem documents.
//!
//! Invariants
//! - Wire types are not domain types: nothing here is stored, and the data plane knows none of it.
//! - A number that is not known is null, never 0.
//! - Every answer from status 400 on is a [`wire::Problem`], unknown paths and methods included.
//! - Nothing is answered before it is known who asks, and whether they may.
//! - No read waits for a cluster that does not answer.
//! - Handlers never block: whatever asks the daemon, decodes or encodes records runs on tokio's threads for blocking work.
//! - What a produce request holds is checked as a whole before any of it is written.

mod access;
pub mod control;
mod daemon;
mod definitions;
mod describe;
mod document;
mod error;
mod events;
pub mod exposition;
mod failover;
#[cfg(test)]
pub(crate) mod fake;
mod groups;
mod if_match;
mod in_time;
mod lanes;
mod letters;
mod links;
mod listen;
mod metrics;
mod openapi;
mod produce;
mod records;
mod reply;
mod revisions;
mod routes;
mod server;
mod stages;
#[cfg(test)]
mod tests;
mod topics;
mod verification;
pub mod wire;

pub use access::{Access, AccessError, Prepared, SPANS};
pub use control::{ControlError, ControlPlane, ErrorKind};
pub use listen::serve;
pub use openapi::openapi;
pub use routes::{Endpoint, endpoints};
pub use server::COMPONENT_BYTES_MAX;
