//! The source: what needs no broker without one, and the rest against real brokers.

mod moving;
mod reading;
mod scripted;
mod sessions;
mod speed;
pub(super) mod stage;
