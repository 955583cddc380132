//! A transaction with one write, by whoever came last: for what all daemons of a link change.

use std::sync::Arc;
use std::time::Duration;

use super::Topics;
use super::open::{fence, own_topic};
use super::session::Session;
use crate::connector::kafka::admin::Admin;
use crate::connector::kafka::client::Client;
use crate::connector::kafka::records::Encoder;
use crate::connector::kafka::{error, layout};
use crate::connector::{Error, LaneSettings};
use crate::model::layout::{FIRST_GENERATION, LAYOUT_OLDEST};
use crate::model::{Batch, Codec, Compression, LinkId, TopicPartition};

/// How soon a cluster may end the transaction of a daemon that died in it: nobody can read what is behind it until then.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Write a batch if `allowed` says so, as the only one of all who do this for the link at the same time. Whether it was allowed.
///
/// # Errors
/// With [`crate::connector::Class::Fenced`]: somebody else has begun to do the same, and nothing was written.
pub(in crate::connector::kafka) fn write(
    client: &Arc<Client>,
    admin: &Arc<Admin>,
    link: &LinkId,
    partition: &TopicPartition,
    batch: &Batch,
    allowed: impl FnOnce() -> Result<bool, Error>,
) -> Result<bool, Error> {
    let id = format!("tidegate.{link}.meta");
    let (mode, identity, coordinator) = fence(client, Some(&id), TRANSACTION_TIMEOUT)?;
    if !allowed()? {
        return Ok(false);
    }
    let lane = LaneSettings {
        link: link.clone(),
        lane: partition.partition,
        lanes: 1,
        generation: FIRST_GENERATION,
        layout: LAYOUT_OLDEST,
        source: "".into(),
        transaction_timeout: TRANSACTION_TIMEOUT,
        exactly_once: true,
        compression: None,
    };
    let mut topics = Topics::default();
    let topic = own_topic(admin, layout::meta_topic(), 1)?;
    let limit = topic.topic.limit;
    let place = (topics.put_own(topic), partition.partition);
    let mut session = Session::new(client.clone(), lane, mode, identity, coordinator, place);
    let mut encoder = Encoder::new(Compression::usual(Codec::Zstd));
    if let Some(index) = session.push(&mut encoder, place, batch, 0..batch.len(), limit)?.first() {
        return Err(error::own_record_too_large(&partition.topic, batch.record_bytes(*index)));
    }
    session.commit_alone(&mut encoder, &topics)?;
    Ok(true)
}
