//! Kafka clusters: the data path of lanes on Kafka's own wire protocol.
//!
//! Reading order: [`KafkaCluster`] (what links see), [`source`] and [`sink`] (the data path), [`layout`] (what is kept in a target), then what all
//! of them stand on: [`client`] knows where brokers and leaders are, [`wire`] are the connections, [`records`] is the format of what topics
//! hold, without any IO, [`error`] says in words what brokers answer.

mod admin;
mod client;
mod cluster;
mod error;
mod layout;
mod log;
mod meta;
mod produce;
pub mod records;
mod sink;
mod source;
mod wire;

pub use cluster::KafkaCluster;

use super::Error;
use crate::config::KafkaConfig;
use cluster::topic_id;

/// Whether a configuration can be used as far as that can be said without a broker: its certificates and keys.
///
/// # Errors
/// A file cannot be used.
pub fn check(config: &KafkaConfig) -> Result<(), Error> {
    wire::Settings::new(config).map(drop)
}
