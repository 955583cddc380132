//! Kafka clusters: the data path of lanes on Kafka's own wire protocol.
//!
//! [`records`] is the format of what topics hold, without any IO; [`wire`] are the connections; [`client`] knows where a
//! cluster's brokers and leaders are; [`error`] says in words what brokers answer.

mod client;
mod error;
pub mod records;
mod wire;

use super::Error;
use crate::config::KafkaConfig;

/// Whether a configuration can be used as far as that can be said without a broker: its certificates and keys.
///
/// # Errors
/// A file cannot be used.
pub fn check(config: &KafkaConfig) -> Result<(), Error> {
    wire::Settings::new(config).map(drop)
}
