//! What else copies a Kafka topic exactly once, measured in the same way as a link: MirrorMaker 2, and a bare librdkafka loop that does nothing else.
//!
//! A rival is a process of its own, so its CPU time is its own. It copies a topic that [`fill`] has filled to an empty one, and is done when the target
//! has all and stands still. Both are given large batches and the codec that is asked for.
//!
//! Reading order: `meter` (what is measured), `filler`, `mirror`, `bare`.

mod bare;
mod filler;
mod meter;
mod mirror;

pub use bare::{librdkafka, run_if_child};
pub use filler::fill;
pub use meter::{Job, Measured, cpu_seconds};
pub use mirror::{MirrorMaker, mirror_maker};

/// What went wrong, in words.
pub type Result<T> = std::result::Result<T, String>;
