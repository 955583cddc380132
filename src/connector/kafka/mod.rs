//! Kafka clusters: the data path of lanes on Kafka's own wire protocol.
//!
//! Reading order: [`KafkaCluster`] (what links see), `source` and `sink` (the data path), `layout` (what is kept in a target), `admin`, `settings`, `limits` and `acls` (topics and what belongs to them), `mirrormaker` (what it has left), then what all
//! of them stand on: `client` knows where brokers and leaders are (`metadata`), `leaders` is what these are asked of partitions, `pace` how much they take, `wire` are the connections, [`records`] is the format of what topics
//! hold, without any IO, `error` says in words what brokers answer.

mod acls;
mod admin;
mod client;
mod cluster;
mod error;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod group;
mod groups;
mod layout;
mod leaders;
mod limits;
mod log;
mod meta;
mod metadata;
mod mirrormaker;
mod offsets;
mod pace;
mod produce;
pub mod records;
mod settings;
mod sink;
mod source;
mod table;
mod wire;

pub use cluster::KafkaCluster;

use self::records::{Bounds, Decoder, Fetched};
use super::{Encoded, Error};
use crate::config::KafkaConfig;
use crate::model::{Batch, BatchBuilder, TopicPartition};
use cluster::topic_id;

/// What the records of a record batch may take when they are decompressed, in bytes.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// The first record of a record batch; `None` if it has none.
///
/// # Errors
/// It is damaged.
pub(super) fn first_record(encoded: &Encoded) -> Result<Option<Batch>, Error> {
    let Encoded { topic, partition, records, .. } = encoded;
    let first = records.first_record(topic, *partition, DECOMPRESSED_BYTES_MAX);
    first.map_err(|what| error::undecodable(&TopicPartition::new(topic.clone(), *partition), &what))
}

/// The records of a record batch that cannot go on as it is.
///
/// # Errors
/// It is damaged.
pub(super) fn decode(encoded: &Encoded) -> Result<Batch, Error> {
    const BOUNDS: Bounds = Bounds { decompressed_bytes_max: DECOMPRESSED_BYTES_MAX, merge_bytes: 0 };
    let Encoded { topic, partition, records, next_offset } = encoded;
    let fetched = Fetched {
        topic: topic.clone(),
        partition: *partition,
        from: records.base_offset(),
        bytes: records.bytes().clone(),
        aborted: Vec::new(),
    };
    let place = TopicPartition::new(topic.clone(), *partition);
    let decoded = Decoder::new(fetched, BOUNDS).next().transpose().map_err(|what| error::undecodable(&place, &what))?;
    let nothing = || BatchBuilder::new().finish(topic.clone(), *partition);
    Ok(Batch { next_offset: *next_offset, ..decoded.unwrap_or_else(nothing) })
}

/// Whether a configuration can be used as far as that can be said without a broker: its certificates and keys.
///
/// # Errors
/// A file cannot be used.
pub fn check(config: &KafkaConfig) -> Result<(), Error> {
    wire::Settings::new(config).map(drop)
}
