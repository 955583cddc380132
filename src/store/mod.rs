//! x
pub mod stored;
