//! The data plane: lanes move records from a source through a pipeline to a sink.
//!
//! Reading order: [`failure`] (what can go wrong, and what then), [`builtins`] (what links do without plugins), [`pipeline`] (the stages), `run` (a lane's instances of them: how a batch
//! goes through, and how a bad record is found), `letters` (what becomes of it), `memory` (what stages remember), `watch`
//! (probation and breaker), [`revision`] (numbered pipelines and their history), [`status`], [`stats`], [`histogram`] and [`events`] (what lanes tell
//! the rest of the daemon), `journal` (what is said with each line of a lane's log), [`trace`] (what of it is told a collector of spans), `observer`, [`probe`], [`lag`] and [`sight`] (what is asked of clusters in the background), [`health`] (what all that amounts to), [`orders`] (what lanes are told), [`topics`] (which
//! topics, and how their copies follow), [`groups`] (consumer groups that go along), [`heartbeats`] (how long records take), [`throttle`] (how fast it may be), `lane` (the loop), `components` (plugins by
//! digest), [`supervisor`] (a link: its threads, publish and rollback), `fleet` (a link that several daemons run), [`reset`] (a person says where it goes on), [`genesis`] (what it
//! was made as), [`upgrade`] (its layout), [`relane`] (its number of lanes) and [`failover`] (who has whose place), `warden` (what
//! happens to a link in trouble), [`verify`] (whether the target holds what it should).
//!
//! Invariants
//! - A lane reads its position from the target when it opens, and from nowhere else. After any doubt it opens again.
//! - Whoever opens a lane looks at the genesis after having fenced.
//! - A batch is handled by one revision: a lane looks at the slot between batches only.
//! - Output, dead letters, what stages remember and checkpoints of a batch are one transaction.
//! - A batch that is not written leaves no trace in what stages remember.
//! - Revision numbers only grow. A revision is durable in the target before any lane sees it.
//! - While a commit is under way the lane reads and transforms the next records; it never has more than one commit under way.

mod ahead;
mod behind;
pub mod builtins;
mod components;
#[cfg(test)]
mod double;
pub mod events;
pub mod failover;
pub mod failure;
mod fleet;
pub mod genesis;
pub mod groups;
pub mod health;
pub mod heartbeats;
pub mod histogram;
mod journal;
pub mod lag;
mod lane;
pub mod letters;
mod memory;
mod observer;
pub mod orders;
pub mod pipeline;
pub mod probe;
pub mod relane;
pub mod reset;
pub mod revision;
mod run;
pub mod sight;
pub mod stats;
pub mod status;
pub mod supervisor;
pub mod throttle;
pub mod topics;
pub mod trace;
pub mod upgrade;
pub mod verify;
mod warden;
mod watch;

pub use failure::Failure;
pub use orders::Desired;
pub use revision::{Origin, RevisionRecord, StageSpec};
pub use supervisor::{Link, Publication};
