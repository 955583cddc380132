//! The REST API: what a person, a script or the `tidegate` command asks of a running daemon.
//!
//! Reading order: [`wire`] has every shape that crosses the wire, [`control`] is the trait that the daemon implements.
//!
//! Invariants
//! - Wire types are not domain types: nothing here is stored, and the data plane knows none of it.
//! - A number that is not known is null, never 0.

pub mod control;
pub mod wire;

pub use control::{ControlError, ControlPlane, ErrorKind};
