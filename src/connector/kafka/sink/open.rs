//! From fencing to the checkpoint: how a lane opens, and what it writes of itself.
//!
//! The order is the whole point: first the lane is fenced (which ends its predecessor's transaction, one way or the other), then the
//! high watermark is taken, and everything before it is read. Read before fencing, a checkpoint could be one that the predecessor replaces a
//! moment later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{InitProducerIdRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::flow::Mode;
use super::outbox::Place;
use super::session::{AGAIN_PATIENCE, Identity, Session};
use super::{OwnTarget, TargetTopic, Topics};
use crate::connector::kafka::admin::Admin;
use crate::connector::kafka::client::{Client, CoordinatorOf, Isolation};
use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::layout::{
    self, GENESIS, GenerationTopics, LaneGenesis, LaneRecord, OwnTopic, StateRecord, StateRecordChange,
};
use crate::connector::kafka::log::{self, Budget};
use crate::connector::kafka::records::Encoder;
use crate::connector::kafka::topic_id;
use crate::connector::kafka::wire::Connection;
use crate::connector::{Class, Commit, Error, LaneSettings, Opened, TopicSettings};
use crate::model::batch::RecordRef;
use crate::model::layout::{FIRST_GENERATION, LAYOUT_NEWEST};
use crate::model::time::now_ms;
use crate::model::{
    Batch, BatchBuilder, Checkpoint, Compression, StateHead, StateRow, StoredStates, TopicPartition, encode,
};

/// How long a foreign transaction may hold up the reading of what a lane has written, and how long that may take.
const READ_PATIENCE: Duration = Duration::from_secs(10);
const READ_TOTAL: Duration = Duration::from_secs(900);

/// What is kept of checkpoints, in bytes: those of 100,000 partitions are some 100 MB.
pub(super) const CHECKPOINTS_BUDGET: Budget = Budget { patience: READ_PATIENCE, total: READ_TOTAL, bytes: 512 << 20 };

/// What is kept of what stages remember, in bytes: as much as a single partition may be allowed by `state_bytes`.
pub(super) const STATES_BUDGET: Budget = Budget { patience: READ_PATIENCE, total: READ_TOTAL, bytes: 64 << 30 };

/// What a row counts beside its key and its value.
pub(super) const ROW_BYTES: usize = 96;

/// How long brokers may take to hear of a topic that another one has made.
const SHOWN_PATIENCE: Duration = Duration::from_secs(3);

/// How long a coordinator that is moving, or is ending a transaction, is given between two questions.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a lane has written of itself.
#[derive(Debug, Default)]
struct Written {
    genesis: Option<LaneGenesis>,
    checkpoints: BTreeMap<TopicPartition, Checkpoint>,
}

pub(super) fn open(
    client: &Arc<Client>,
    admin: &Arc<Admin>,
    lane: &LaneSettings,
    topics: &mut Topics,
    allowed: &dyn Fn() -> Result<(), Error>,
) -> Result<(Session, Opened), Error> {
    client.refresh()?;
    let (mode, identity, coordinator) = fence_lane(client, lane)?;
    allowed()?;
    let OwnTopics { checkpoints, is_new, states_id } = own_topics(client, admin, lane)?;
    let index = topics.put_own(checkpoints.clone());
    let checkpoints = checkpoints.topic;
    let place = (index, lane.lane);
    let mut session = Session::new(client.clone(), lane.clone(), mode, identity, coordinator, place);
    let partition = TopicPartition::new(checkpoints.name.clone(), lane.lane);
    let written = read_lane(client, &partition)?;
    match &written.genesis {
        Some(genesis) => check_genesis(genesis, lane, &partition)?,
        None if is_new => {
            write_genesis(&mut session, lane, topics)?;
        }
        None => return Err(lost(lane, &format!("{partition} has no genesis"))),
    }
    if is_new {
        admin.put_metadata(&lane.link, &lane_name(lane), id_text(checkpoints.id).as_bytes())?;
    }
    let (states, states_lost) = match state_topic(client, admin, lane, states_id)? {
        StateTopic::Never => (BTreeMap::new(), None),
        StateTopic::There(own) => {
            let name = own.topic.name.clone();
            topics.put_own(own);
            (read_states(client, TopicPartition::new(name, lane.lane))?, None)
        }
        StateTopic::Lost(why) => (BTreeMap::new(), Some(why)),
    };
    let offsets = offsets_topic(admin, lane)?;
    let place = lane.lane % offsets.topic.partitions.max(1);
    session.resume(&written.checkpoints, states, (topics.put_own(offsets), place));
    let revision = written.checkpoints.values().map(|checkpoint| checkpoint.revision).max();
    Ok((session, Opened { checkpoints: written.checkpoints, revision, states_lost }))
}

/// Become the only one who can write for a lane.
pub(super) fn fence_lane(client: &Client, lane: &LaneSettings) -> Result<Fenced, Error> {
    let id = lane.exactly_once.then(|| layout::transactional_id(&lane.link, lane.lane, lane.generation));
    fence(client, id.as_deref(), lane.transaction_timeout)
}

type Fenced = (Mode, Identity, Option<(Connection, String)>);

/// Become the only one who can write under a transactional id; or a producer without transactions.
pub(super) fn fence(client: &Client, id: Option<&str>, timeout: Duration) -> Result<Fenced, Error> {
    let deadline = Instant::now() + AGAIN_PATIENCE;
    loop {
        match try_fence(client, id, timeout)? {
            Ok(fenced) => return Ok(fenced),
            Err(code) if !code.is_passing() || Instant::now() > deadline => {
                return Err(error::not_taken_over(id.unwrap_or("a producer id"), code));
            }
            Err(_) => std::thread::sleep(ASK_AGAIN_AFTER),
        }
    }
}

/// One try. The inner error is what a broker said.
fn try_fence(client: &Client, id: Option<&str>, timeout: Duration) -> Result<Result<Fenced, Code>, Error> {
    let request = InitProducerIdRequest::default().with_producer_id((-1).into()).with_producer_epoch(-1);
    let Some(id) = id else {
        let request = request.with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
        let answer = client.call_any(&request)?;
        let identity = Identity { id: answer.producer_id.0, epoch: answer.producer_epoch };
        return Ok(Code(answer.error_code).check().map(|()| (Mode::Idempotent, identity, None)));
    };
    let coordinator = match client.coordinator(CoordinatorOf::TransactionalId, id)? {
        Ok(broker) => broker,
        Err(code) => return Ok(Err(code)),
    };
    let mut connection = client.connect(coordinator)?;
    let request = request
        .with_transactional_id(Some(TransactionalId(StrBytes::from_string(id.to_owned()))))
        .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    let mode = if connection.transaction_version() >= 2 { Mode::Version2 } else { Mode::Version1 };
    let answer = connection.call_among(2..=if mode == Mode::Version2 { 5 } else { 4 }, &request)?;
    let identity = Identity { id: answer.producer_id.0, epoch: answer.producer_epoch };
    Ok(Code(answer.error_code).check().map(|()| (mode, identity, Some((connection, id.to_owned())))))
}

/// The name under which the target remembers that the lane was there, and with which checkpoint topic.
fn lane_name(lane: &LaneSettings) -> String {
    format!("lane-{}", lane.lane)
}

/// Where a lane has what it wrote of itself.
struct OwnTopics {
    checkpoints: OwnTarget,
    /// Whether the lane has never written there.
    is_new: bool,
    /// The id of the topic of states, where it is known that there is one.
    states_id: Option<String>,
}

/// What the target remembers of a lane's topics; `None` if the lane was never there.
fn remembered(admin: &Admin, lane: &LaneSettings) -> Result<Option<GenerationTopics>, Error> {
    if lane.generation == FIRST_GENERATION {
        let known = admin.metadata(&lane.link, &lane_name(lane))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        return Ok(known.map(|bytes| GenerationTopics { checkpoints: text(bytes), state: None }));
    }
    // All lanes of a later generation were there when it began.
    let name = layout::generation_name(lane.generation);
    let known = admin.metadata(&lane.link, &name)?;
    let Some(bytes) = known else { return Err(lost(lane, &format!("the target does not remember {name}"))) };
    let read = serde_json::from_slice(&bytes).map(Some);
    read.map_err(|error| lost(lane, &format!("what the target remembers of {name} cannot be read: {error}")))
}

fn own_topics(client: &Client, admin: &Admin, lane: &LaneSettings) -> Result<OwnTopics, Error> {
    let name = layout::checkpoint_topic(&lane.link, lane.generation);
    let known = remembered(admin, lane)?;
    if known.is_some() {
        check_there(client, lane, name.name())?;
    }
    let checkpoints = own_topic(admin, name, lane.lanes)?;
    let Some(known) = known else { return Ok(OwnTopics { checkpoints, is_new: true, states_id: None }) };
    if is_another(&known.checkpoints, checkpoints.topic.id) {
        return Err(lost(lane, &format!("{} was made again", checkpoints.topic.name)));
    }
    Ok(OwnTopics { checkpoints, is_new: false, states_id: known.state })
}

/// The checkpoint topic of a lane that has written to it; nothing is made.
pub(super) fn written_topic(client: &Client, admin: &Admin, lane: &LaneSettings) -> Result<Option<Arc<str>>, Error> {
    if remembered(admin, lane)?.is_none() {
        return Ok(None);
    }
    Ok(Some(own_topics(client, admin, lane)?.checkpoints.topic.name))
}

/// The id of a topic as it is remembered.
pub(super) fn id_text(id: Uuid) -> String {
    topic_id(id).0.to_string()
}

/// Whether a topic is another one than is remembered. Old clusters have no ids, and get them when
/// they are upgraded.
fn is_another(known: &str, id: Uuid) -> bool {
    let (now, none) = (id_text(id), id_text(Uuid::nil()));
    known != now && known != none && now != none
}

/// Refuse to go on without a topic.
fn check_there(client: &Client, lane: &LaneSettings, name: &Arc<str>) -> Result<(), Error> {
    if is_there(client, name)? { Ok(()) } else { Err(lost(lane, &format!("{name} is gone"))) }
}

/// Whether there is a topic. Brokers learn one after the other of one that was just made.
fn is_there(client: &Client, name: &Arc<str>) -> Result<bool, Error> {
    let deadline = Instant::now() + SHOWN_PATIENCE;
    let mut shown = client.recent()?;
    while !shown.topics.contains_key(name) && Instant::now() < deadline {
        shown = client.refresh_in_a_moment()?;
    }
    Ok(shown.topics.contains_key(name))
}

pub(super) fn own_topic(admin: &Admin, of: OwnTopic, partitions: u32) -> Result<OwnTarget, Error> {
    let own = made_topic(admin, of, partitions, &layout::settings())?;
    if own.topic.partitions != partitions {
        let (name, count) = (&own.topic.name, own.topic.partitions);
        return Err(foreign(format!("{name} has {count} partitions, and the link has {partitions} lanes")));
    }
    Ok(own)
}

/// The topic that says which offsets are copied to where. A lane has a partition, but not the other way round.
fn offsets_topic(admin: &Admin, lane: &LaneSettings) -> Result<OwnTarget, Error> {
    made_topic(admin, layout::offsets_topic(&lane.link), lane.lanes, &layout::offsets_settings())
}

/// A topic of ours, which is made if it is not there.
fn made_topic(admin: &Admin, of: OwnTopic, partitions: u32, settings: &TopicSettings) -> Result<OwnTarget, Error> {
    let name = of.name().clone();
    admin.ensure(&name, partitions, settings)?;
    let (id, partitions) = admin.find(&name)?.ok_or_else(|| error::unknown_topic(&name))?;
    let limit = admin.limit(&name)?;
    Ok(OwnTarget { of, topic: TargetTopic { name, id, partitions, limit } })
}

fn read_lane(client: &Client, partition: &TopicPartition) -> Result<Written, Error> {
    let mut written = Written::default();
    let mut sizes: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    let mut bytes = 0;
    read_all(client, partition, CHECKPOINTS_BUDGET, |record| {
        let read = LaneRecord::read(record.key(), record.value());
        match read.map_err(|what| unreadable(partition, &record, &what))? {
            Some(LaneRecord::Genesis(genesis)) => written.genesis = Some(genesis),
            Some(LaneRecord::Checkpoint(of, checkpoint)) => {
                let size = size_of_row(&record);
                bytes = bytes + size - sizes.insert(of.clone(), size).unwrap_or(0);
                written.checkpoints.insert(of, checkpoint);
            }
            Some(LaneRecord::Start(_)) | None => {}
        }
        Ok(bytes)
    })?;
    Ok(written)
}

/// Read a partition of ours up to what is its high watermark now. `each` answers how many bytes its reader keeps by now.
pub(super) fn read_all(
    client: &Client,
    partition: &TopicPartition,
    budget: Budget,
    each: impl FnMut(RecordRef<'_>) -> Result<usize, Error>,
) -> Result<(), Error> {
    let range = client.range(partition, Isolation::ReadUncommitted)?;
    let mut next = range.log_start;
    log::read(client, partition, &mut next, range.end, budget, each)
}

/// What the row of a record takes, in bytes.
fn size_of_row(record: &RecordRef<'_>) -> usize {
    ROW_BYTES + record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len)
}

/// The error that a record of a lane's cannot be read.
pub(super) fn unreadable(partition: &TopicPartition, record: &RecordRef<'_>, what: &str) -> Error {
    layout::unreadable(&format!("{partition} at offset {}", record.offset()), what)
}

/// Whether a partition is a lane's.
pub(super) fn check_genesis(
    genesis: &LaneGenesis,
    lane: &LaneSettings,
    partition: &TopicPartition,
) -> Result<(), Error> {
    if genesis.v > LAYOUT_NEWEST {
        return Err(Error {
            class: Class::Fatal,
            code: "newer-layout",
            message: format!("{partition} has layout version {}: a newer tidegate made it", genesis.v),
            remedy: "use the newer tidegate",
        });
    }
    let expected = lane_genesis(lane);
    if *genesis == (LaneGenesis { v: genesis.v, ..expected.clone() }) {
        return Ok(());
    }
    Err(foreign(format!(
        "{partition} belongs to lane {} of {} of link {} from cluster {}, and not to lane {} of {} of link {} from {}",
        genesis.lane,
        genesis.lanes,
        genesis.link,
        genesis.source,
        expected.lane,
        expected.lanes,
        expected.link,
        expected.source
    )))
}

/// The first record of a lane.
pub(super) fn lane_genesis(lane: &LaneSettings) -> LaneGenesis {
    LaneGenesis {
        v: lane.layout,
        link: lane.link.to_string(),
        lane: lane.lane,
        lanes: lane.lanes,
        source: lane.source.to_string(),
    }
}

/// Write the lane's first record, and wait until it is committed.
fn write_genesis(session: &mut Session, lane: &LaneSettings, topics: &Topics) -> Result<(), Error> {
    let value = encode("the first record of a lane", &lane_genesis(lane))?;
    let mut encoder = Encoder::new(Compression::NONE);
    let place = session.checkpoints;
    let batch = records([(GENESIS.as_bytes().to_vec(), Some(value))]);
    session.push(&mut encoder, place, &batch, 0..1, topics.list[place.0].limit)?;
    session.commit_alone(&mut encoder, topics)
}

fn foreign(message: String) -> Error {
    let remedy = "give the link another id, or run it with the settings that it was made with";
    Error { class: Class::Fatal, code: "checkpoints-foreign", message, remedy }
}

/// The error that it is not known any more how far a lane has come.
pub(super) fn lost(lane: &LaneSettings, what: &str) -> Error {
    Error {
        class: Class::Fatal,
        code: "checkpoints-lost",
        message: format!("how far lane {} of link {} has come is lost: {what}", lane.lane, lane.link),
        remedy: "restore the topic, or copy into new topics with a new link: going on would copy twice or leave a hole",
    }
}

/// The topic of what the stages of a lane remember.
enum StateTopic {
    /// The lane has never written there.
    Never,
    There(OwnTarget),
    /// The lane has written there, and it is gone or another one.
    Lost(String),
}

/// Compare the topic of states with what the target remembers of it. `known`: what it remembered
/// when the generation of the lane began.
fn state_topic(
    client: &Client,
    admin: &Admin,
    lane: &LaneSettings,
    known: Option<String>,
) -> Result<StateTopic, Error> {
    let of = layout::state_topic(&lane.link, lane.generation);
    let name = of.name().clone();
    let remembered = admin.metadata(&lane.link, &layout::state_name(lane.lane, lane.generation))?;
    let known = remembered.map(|id| String::from_utf8_lossy(&id).into_owned()).or(known);
    let is_there = match &known {
        None => client.metadata()?.topics.contains_key(&name),
        Some(_) => is_there(client, &name)?,
    };
    let Some(known) = known else {
        // A program that did not remember it may have made it.
        return if is_there { Ok(StateTopic::There(remember_states(admin, lane)?)) } else { Ok(StateTopic::Never) };
    };
    if !is_there {
        return Ok(StateTopic::Lost(format!("{name} is gone")));
    }
    let again = || Ok(StateTopic::Lost(format!("{name} was made again")));
    if client.metadata()?.topics.get(&name).is_none_or(|there| is_another(&known, there.id)) {
        return again();
    }
    let own = own_topic(admin, of, lane.lanes)?;
    if is_another(&known, own.topic.id) { again() } else { Ok(StateTopic::There(own)) }
}

/// Make the topic of states if it is not there, and have the target remember that the lane has it:
/// from now on it is a loss if it is gone.
fn remember_states(admin: &Admin, lane: &LaneSettings) -> Result<OwnTarget, Error> {
    let own = own_topic(admin, layout::state_topic(&lane.link, lane.generation), lane.lanes)?;
    let name = layout::state_name(lane.lane, lane.generation);
    admin.put_metadata(&lane.link, &name, id_text(own.topic.id).as_bytes())?;
    Ok(own)
}

/// Begin with nothing in the topic of states that is there now, or in a new one.
pub(super) fn begin_states(admin: &Admin, lane: &LaneSettings, topics: &mut Topics) -> Result<usize, Error> {
    Ok(topics.put_own(remember_states(admin, lane)?))
}

/// Refuse to copy what the stages of a lane remember if it is lost.
pub(super) fn check_states(client: &Client, admin: &Admin, lane: &LaneSettings) -> Result<(), Error> {
    let known = remembered(admin, lane)?.and_then(|known| known.state);
    match state_topic(client, admin, lane, known)? {
        StateTopic::Never | StateTopic::There(_) => Ok(()),
        StateTopic::Lost(why) => Err(Error {
            class: Class::Fatal,
            code: "state-lost",
            message: format!("what the stages of lane {} of link {} remember is lost: {why}", lane.lane, lane.link),
            remedy: "call the change off and start the link: it says which partitions are to be reset",
        }),
    }
}

/// What is stored of the stages in the lane's partition of the topic of states.
fn read_states(client: &Client, partition: TopicPartition) -> Result<BTreeMap<TopicPartition, StoredStates>, Error> {
    #[derive(Default)]
    struct Found {
        head: Option<StateHead>,
        rows: BTreeMap<Vec<u8>, StateRow>,
    }
    let mut found: BTreeMap<(TopicPartition, String), Found> = BTreeMap::new();
    let mut bytes = 0;
    read_all(client, &partition, STATES_BUDGET, |record| {
        let read = StateRecord::read(record.key(), record.value());
        let read = read.map_err(|what| unreadable(&partition, &record, &what))?;
        let state = found.entry((read.partition, read.stage)).or_default();
        match read.change {
            StateRecordChange::Head(head) => state.head = head,
            StateRecordChange::Entry(key, row) => {
                let size = |row: &StateRow| ROW_BYTES + key.len() + row.value.len();
                bytes += row.as_ref().map_or(0, size);
                let before = match row {
                    Some(row) => state.rows.insert(key.clone(), row),
                    None => state.rows.remove(&key),
                };
                bytes -= before.as_ref().map_or(0, size);
            }
        }
        Ok(bytes)
    })?;
    let mut states: BTreeMap<TopicPartition, StoredStates> = BTreeMap::new();
    for ((partition, stage), Found { head, rows }) in found {
        states.entry(partition).or_default().add(stage, head, rows);
    }
    Ok(states)
}

/// The records of a commit that say how far the lane has come.
///
/// # Errors
/// A checkpoint cannot be encoded.
pub(super) fn checkpoint_records(commit: &Commit, place: Place) -> Result<Vec<(Place, Batch)>, Error> {
    let mut checkpoints = Vec::new();
    for (partition, at) in &commit.checkpoints {
        checkpoints.push((layout::checkpoint_key(partition).into_bytes(), Some(at.encode()?)));
    }
    let starts = commit.started.iter();
    let starts = starts.map(|start| (layout::start_key(start).into_bytes(), Some(start.offset.to_string().into())));
    let batch = records(checkpoints.into_iter().chain(starts));
    Ok(if batch.is_empty() { Vec::new() } else { vec![(place, batch)] })
}

/// The records of a commit that say what the stages remember. Compaction knows single keys only, so entries that are gone are each said to be: nothing is read for
/// that, since a transaction is open.
pub(super) fn state_records(
    commit: &Commit,
    admin: &Admin,
    topics: &mut Topics,
    lane: &LaneSettings,
) -> Result<(Place, Batch), Error> {
    let of = layout::state_topic(&lane.link, lane.generation);
    let index = match topics.find_own(&of) {
        Some(index) => index,
        None => begin_states(admin, lane, topics)?,
    };
    let mut changes = Vec::new();
    for change in &commit.states {
        let head = layout::head_key(&change.stage, &change.partition).into_bytes();
        changes.push((head, change.head.as_ref().map(StateHead::encode).transpose()?));
        let rows = change.rows.iter();
        changes.extend(rows.map(|(key, row)| {
            let key = layout::entry_key(&change.stage, &change.partition, key);
            (key, row.as_ref().map(StateRow::encode))
        }));
    }
    Ok(((index, lane.lane), records(changes)))
}

/// Records of ours, without a topic.
pub(super) fn records(pairs: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Batch {
    let mut builder = BatchBuilder::new();
    for (key, value) in pairs {
        builder.push(0, now_ms(), Some(&key), value.as_deref(), std::iter::empty());
    }
    builder.finish("", 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_without_an_id_is_not_another_one() {
        let (one, other, none) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::nil());
        for (known, now, expected) in
            [(one, one, false), (one, other, true), (none, one, false), (one, none, false), (none, none, false)]
        {
            assert_eq!(is_another(&id_text(known), now), expected, "{known} {now}");
        }
    }
}
