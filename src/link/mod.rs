//! The data plane: lanes move records from a source through a pipeline to a sink.
//!
//! Reading order: [`failure`] (what can go wrong, and what then), [`pipeline`] (the stages, and a lane's instances of them),
//! [`revision`] (numbered pipelines and their history), [`status`] (what lanes tell the rest of the daemon), [`orders`] (what
//! lanes are told), `lane` (the loop), [`supervisor`] (a link: its threads, publish and rollback).
//!
//! Invariants
//! - A lane reads its position from the target when it opens, and from nowhere else. After any doubt it opens again.
//! - A batch is handled by one revision: a lane looks at the slot between batches only.
//! - Revision numbers only grow. A revision is durable in the target before any lane sees it.
//! - While a commit is under way the lane reads and transforms the next records; it never has more than one commit under way.

pub mod failure;
pub mod genesis;
mod lane;
pub mod orders;
pub mod pipeline;
pub mod revision;
pub mod status;
pub mod supervisor;

pub use failure::Failure;
pub use orders::Desired;
pub use revision::{Origin, RevisionRecord, StageSpec};
pub use supervisor::{Link, Publication};
