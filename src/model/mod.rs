//! The nouns of Tidegate. No IO, no async, and nothing of the other rooms.
//!
//! Read [`batch`] first: a batch of records is the unit of everything else. [`checkpoint`] says how far a
//! link has come, [`ids`] names things, [`partition`] says which lane and which partition a record belongs to,
//! [`state`] is what a stateful stage remembers, [`layout`] is the form of all that, [`standby`] says whether a link's topics stand by, [`codec`] is how records are compressed, [`limits`] and [`policy`] are the settings of a stage that many rooms share, [`builtins`] are a link's own filter and transform, and [`time`]
//! is how points in time are written.

pub mod batch;
pub mod builtins;
pub mod checkpoint;
pub mod codec;
pub mod digest;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod partition;
pub mod policy;
pub mod standby;
pub mod state;
pub mod time;

pub use batch::{Batch, BatchBuilder, HeaderRef, Placement, RecordRef, Span};
pub use builtins::{Builtins, Condition, FilterSpec, Provenance, TransformSpec, VIA_HEADER};
pub use checkpoint::Checkpoint;
pub use codec::{Codec, Compression};
pub use digest::Digest;
pub use ids::{ClusterId, LinkId, RevisionNumber, TopicId, TopicPartition};
pub use limits::Limits;
pub use policy::OnError;
pub use standby::{Standby, StandbyTopics};
pub use state::{StateChange, StateHead, StateRow, StoredState};
