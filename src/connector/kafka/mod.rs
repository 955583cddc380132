//! Kafka clusters: the data path of lanes on Kafka's own wire protocol.
//!
//! [`records`] is the format of what topics hold, without any IO.

pub mod records;
