//! What the lanes of a link have written of themselves becomes what other lanes have: when their number changes.
//!
//! The order is the whole point. All old lanes are fenced, *then* their checkpoints and states are read, up to their high watermarks. Whoever opens an old lane
//! later finds out that it may not, since it asks after it has fenced. So nothing is committed any more behind what was read.
//!
//! The topics written to are those of a generation that was never tried before: nobody else reads or writes them before the link says that they count, and
//! whoever takes over begins with other ones. So this takes no transaction, and what is written twice does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::open;
use crate::connector::kafka::admin::Admin;
use crate::connector::kafka::client::Client;
use crate::connector::kafka::error;
use crate::connector::kafka::layout::{self, GENESIS, GenerationTopics, LaneRecord, StateRecord};
use crate::connector::kafka::records::Encoder;
use crate::connector::{Class, Copying, Error, LaneSettings};
use crate::model::partition::lane_of;
use crate::model::{Batch, Codec, Compression, LinkId, TopicPartition, encode};

/// How long it is tried to write a record batch, and how soon again.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
const WRITE_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Keys and values of a partition of ours.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A record of a lane, and the source partition that it is about.
struct Row {
    about: TopicPartition,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// See [`crate::connector::Cluster::copy_lanes`].
pub(in crate::connector::kafka) fn copy_lanes(
    client: &Arc<Client>,
    admin: &Arc<Admin>,
    copying: &Copying,
    copied: &mut dyn FnMut(u32) -> Result<(), Error>,
) -> Result<(), Error> {
    client.refresh()?;
    let from = |lane| LaneSettings { lane, ..copying.from.clone() };
    let before = 0..copying.from.lanes;
    for lane in before.clone().filter(|_| copying.from.exactly_once) {
        open::fence_lane(client, &from(lane))?;
        copied(0)?;
    }
    // From here on nobody makes a topic of the old lanes any more.
    client.refresh_in_a_moment()?;
    for lane in before.clone() {
        open::check_states(client, admin, &from(lane))?;
        copied(0)?;
    }
    let mut checkpoints = Vec::new();
    for lane in before.clone() {
        checkpoints.extend(read_checkpoints(client, admin, &from(lane))?);
        copied(0)?;
    }
    let copy = Copy::begin(client, admin, copying)?;
    copied(0)?;
    if let Some(states) = &copy.states {
        for lane in before {
            let rows = read_states(client, &from(lane))?;
            for (to, rows) in redistribute(rows, copying.lanes) {
                copy.write(states, to, rows)?;
                copied(lane)?;
            }
            copied(lane + 1)?;
        }
    }
    let mut checkpoints = redistribute(checkpoints, copying.lanes);
    for lane in 0..copying.lanes {
        let mut rows = checkpoints.remove(&lane).unwrap_or_default();
        let genesis = open::lane_genesis(&LaneSettings { lane, ..copy.to.clone() });
        rows.insert(GENESIS.as_bytes().to_vec(), encode("the first record of a lane", &genesis)?);
        copy.write(&copy.checkpoints, lane, rows)?;
        copied(copying.from.lanes)?;
    }
    copy.remember()
}

/// Which new lane gets which records.
fn redistribute(rows: Vec<Row>, lanes: u32) -> BTreeMap<u32, Rows> {
    let mut by_lane: BTreeMap<u32, Rows> = BTreeMap::new();
    for Row { about, key, value } in rows {
        by_lane.entry(lane_of(&about, lanes)).or_default().insert(key, value);
    }
    by_lane
}

/// How far a lane has come, and where revisions began in its partitions.
fn read_checkpoints(client: &Client, admin: &Admin, lane: &LaneSettings) -> Result<Vec<Row>, Error> {
    let Some(topic) = open::written_topic(client, admin, lane)? else { return Ok(Vec::new()) };
    let partition = TopicPartition::new(topic, lane.lane);
    let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
    let mut genesis = None;
    let mut bytes = 0;
    open::read_all(client, &partition, open::CHECKPOINTS_BUDGET, |record| {
        let read = LaneRecord::read(record.key(), record.value());
        let read = read.map_err(|what| open::unreadable(&partition, &record, &what))?;
        let (key, value) = (record.key().unwrap_or_default().to_vec(), record.value().unwrap_or_default().to_vec());
        let about = match read {
            Some(LaneRecord::Checkpoint(about, _)) => Some(about),
            Some(LaneRecord::Start(start)) => Some(start.partition),
            Some(LaneRecord::Genesis(found)) => {
                genesis = Some(found);
                None
            }
            None => None,
        };
        let row = about.map(|about| Row { about, key: key.clone(), value });
        bytes = replace(&mut rows, key, row, bytes);
        Ok(bytes)
    })?;
    let genesis = genesis.ok_or_else(|| open::lost(lane, &format!("{partition} has no genesis")))?;
    open::check_genesis(&genesis, lane, &partition)?;
    Ok(rows.into_values().collect())
}

/// What the stages of a lane remember.
fn read_states(client: &Client, lane: &LaneSettings) -> Result<Vec<Row>, Error> {
    let partition = TopicPartition::new(layout::state_topic(&lane.link, lane.generation), lane.lane);
    let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
    let mut bytes = 0;
    open::read_all(client, &partition, open::STATES_BUDGET, |record| {
        let read = StateRecord::read(record.key(), record.value());
        let about = read.map_err(|what| open::unreadable(&partition, &record, &what))?.partition;
        let key = record.key().unwrap_or_default().to_vec();
        let row = record.value().map(|value| Row { about, key: key.clone(), value: value.to_vec() });
        bytes = replace(&mut rows, key, row, bytes);
        Ok(bytes)
    })?;
    Ok(rows.into_values().collect())
}

/// Put a row in place of the one with its key, or remove that. Answers what all take that took `bytes`.
fn replace(rows: &mut BTreeMap<Vec<u8>, Row>, key: Vec<u8>, row: Option<Row>, bytes: usize) -> usize {
    let size = |row: &Row| open::ROW_BYTES + 2 * row.key.len() + row.value.len();
    let added = row.as_ref().map_or(0, size);
    let before = match row {
        Some(row) => rows.insert(key, row),
        None => rows.remove(&key),
    };
    bytes + added - before.as_ref().map_or(0, size)
}

/// The topics of the new lanes.
struct Copy<'a> {
    client: &'a Client,
    admin: &'a Admin,
    link: &'a LinkId,
    /// Any of the new lanes.
    to: LaneSettings,
    checkpoints: Arc<str>,
    /// `None` if no stage has ever remembered anything.
    states: Option<Arc<str>>,
}

impl<'a> Copy<'a> {
    /// Make the topics.
    fn begin(client: &'a Client, admin: &'a Admin, copying: &'a Copying) -> Result<Self, Error> {
        let (link, from) = (&copying.from.link, &copying.from);
        let to = LaneSettings { lanes: copying.lanes, generation: copying.generation, ..from.clone() };
        let had_states: Arc<str> = layout::state_topic(link, from.generation).into();
        let checkpoints = layout::checkpoint_topic(link, to.generation);
        open::own_topic(admin, checkpoints.clone(), to.lanes)?;
        let states = layout::state_topic(link, to.generation);
        let has_states = admin.find(&had_states)?.is_some();
        if has_states {
            open::own_topic(admin, states.clone(), to.lanes)?;
        }
        let (checkpoints, states) = (checkpoints.into(), has_states.then(|| states.into()));
        Ok(Self { client, admin, link, to, checkpoints, states })
    }

    /// Write what a new lane is to have.
    fn write(&self, topic: &Arc<str>, lane: u32, rows: Rows) -> Result<(), Error> {
        let batch = open::records(rows.into_iter().map(|(key, value)| (key, Some(value))));
        let partition = TopicPartition::new(topic.clone(), lane);
        let mut encoder = Encoder::new(Compression::usual(Codec::Zstd));
        let mut next = 0;
        while next < batch.len() {
            next += self.write_some(&partition, &batch, next, &mut encoder)?;
        }
        Ok(())
    }

    /// Write as many records as fit into a record batch. How many.
    fn write_some(
        &self,
        partition: &TopicPartition,
        batch: &Batch,
        next: usize,
        encoder: &mut Encoder,
    ) -> Result<usize, Error> {
        let deadline = Instant::now() + WRITE_PATIENCE;
        loop {
            // It is a lower one after a record batch was refused.
            let limit = self.admin.limit(&partition.topic)?;
            let encoded = limit.encode(encoder, batch, next..batch.len()).map_err(error::not_encoded)?;
            let records = encoded.records();
            match self.client.produce(partition, encoded) {
                Ok(_) => return Ok(records),
                Err(error) if error.class == Class::Fatal || Instant::now() > deadline => return Err(error),
                // A leader may be moving. What was written all the same is written twice.
                Err(_) => std::thread::sleep(WRITE_AGAIN_AFTER),
            }
        }
    }

    /// Have the target remember the topics: from now on it is a loss if they are gone.
    fn remember(&self) -> Result<(), Error> {
        let id = |topic: &Arc<str>| -> Result<String, Error> {
            let (id, _) = self.admin.find(topic)?.ok_or_else(|| error::unknown_topic(topic))?;
            Ok(open::id_text(id))
        };
        let state = self.states.as_ref().map(id).transpose()?;
        let topics = GenerationTopics { checkpoints: id(&self.checkpoints)?, state };
        let text = encode("the topics of a generation", &topics)?;
        self.admin.put_metadata(self.link, &layout::generation_name(self.to.generation), &text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the numbers: each record is in one lane, the one that its partition has, and there and back nothing is different.
        #[test]
        fn every_record_goes_where_its_partition_goes(
            places in prop::collection::btree_set((0_u32..20, 0_u32..50), 0..100), lanes in 1_u32..40, others in 1_u32..40,
        ) {
            let about = |topic, partition| TopicPartition::new(format!("topic-{topic}"), partition);
            let row = |about: TopicPartition| Row { key: about.to_string().into(), value: about.to_string().into(), about };
            let rows = || places.iter().map(|(topic, partition)| row(about(*topic, *partition))).collect::<Vec<_>>();
            let by_key: BTreeMap<Vec<u8>, TopicPartition> = rows().into_iter().map(|row| (row.key, row.about)).collect();
            let there = redistribute(rows(), others);
            for (lane, rows) in &there {
                prop_assert!(rows.iter().all(|(key, value)| key == value && lane_of(&by_key[key], others) == *lane));
            }
            prop_assert_eq!(there.values().map(BTreeMap::len).sum::<usize>(), places.len());
            let back = there.into_values().flatten();
            let back = back.map(|(key, value)| Row { about: by_key[&key].clone(), key, value }).collect();
            prop_assert_eq!(redistribute(back, lanes), redistribute(rows(), lanes));
        }
    }
}
