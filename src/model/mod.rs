//! The nouns of Tidegate. No IO, no async, and nothing of the other rooms.
//!
//! Read [`batch`] first: a batch of records is the unit of everything else. [`checkpoint`] says how
//! far a link has come, [`ids`] names things, [`partition`] says which lane and which partition a
//! record belongs to, [`state`] is what a stateful stage remembers, [`layout`] is the form of all
//! that, [`standby`] says whether a link's topics stand by, [`codec`] is how records are compressed, [`culprit`] says for which link a thread works,
//! [`json`] is JSON that keeps its digits, and [`json_error`] what is said of text that is not JSON.
//! [`limits`] and [`policy`] are the settings of a stage that many rooms share, [`builtins`] are a
//! link's own filter and transform, [`encoding`] is how things become bytes, [`text`] is how text
//! from outside is shown, [`repeats`] is what is logged of what happens again and again, and [`time`] is how points in time are written.

pub mod batch;
pub mod builtins;
pub mod checkpoint;
pub mod codec;
pub mod culprit;
pub mod digest;
pub mod encoding;
pub mod ids;
pub mod json;
pub mod json_error;
pub mod layout;
pub mod limits;
pub mod partition;
pub mod policy;
pub mod repeats;
pub mod standby;
pub mod state;
pub mod text;
pub mod time;

pub use batch::{Batch, BatchBuilder, HeaderRef, Placement, RecordRef, Span};
pub use builtins::{
    Builtins, Condition, FilterSpec, LETTER_PREFIX, Provenance, RESERVED_PREFIX, RETURNED_HEADER, TransformSpec,
    VIA_HEADER, is_reserved_header,
};
pub use checkpoint::{Checkpoint, Doubt, LastRecord, Loss};
pub use codec::{Codec, Compression};
pub use culprit::Culprit;
pub use digest::Digest;
pub use encoding::{NotEncodable, encode};
pub use ids::{ClusterId, LinkId, RevisionNumber, TopicId, TopicPartition};
pub use json::{Json, JsonNumber, JsonObject, NotJson};
pub use limits::Limits;
pub use policy::OnError;
pub use repeats::Repeats;
pub use standby::{Standby, StandbyTopics};
pub use state::{KeptRow, StateChange, StateHead, StateRow, StoredState, StoredStates};
