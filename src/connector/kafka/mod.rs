//! Kafka clusters: the data path of lanes on Kafka's own wire protocol.
//!
//! [`records`] is the format of what topics hold, without any IO; [`wire`] are the connections; [`client`] knows where a
//! cluster's brokers and leaders are; [`source`] reads; [`error`] says in words what brokers answer.

mod client;
mod error;
pub mod records;
mod source;
mod wire;
