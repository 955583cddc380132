//! What Tidegate itself keeps in a Kafka cluster that is a target: the layout of its topics, versions 1 and 2.
//!
//! | topic | partitions | what it holds |
//! |---|---|---|
//! | `__tidegate.<link>.checkpoints` | one a lane | how far the lane has come |
//! | `__tidegate.<link>.state` | one a lane | what its stages remember |
//! | `__tidegate.<link>.offsets` | one a lane | which source offsets are where in the target |
//! | `__tidegate.meta` | 1 | what is known of links, and the components of plugins |
//!
//! Version 2 has generations of lanes: from the second one on, the first two topics have `.g<generation>` behind their names, and so have the
//! transactional ids of lanes, `tidegate.<link>.<lane>`. A generation is written whole before it counts, and never used again.
//!
//! All are compacted but for the offsets, which are deleted when they are old. Keys are text, and so are values but for offsets, entries of state and parts of components,
//! so any Kafka tool shows them:
//!
//! | topic | key | value |
//! |---|---|---|
//! | checkpoints | `genesis` | JSON: version, link, lane, number of lanes, source cluster |
//! | checkpoints | `checkpoint/<topic>/<partition>` of the source | JSON: [`Checkpoint`] |
//! | checkpoints | `start/<revision>/<topic>/<partition>` | the first offset that the revision handled |
//! | state | `head/<stage>/<topic>/<partition>` | JSON: [`StateHead`] |
//! | state | `entry/<stage>/<topic>/<partition>/<key>`, the last part any bytes | [`StateRow`] |
//! | state | both with `<stage>@<revision>` as the stage | the state before a trial, see [`KeptRow`](crate::model::KeptRow) |
//! | offsets | `<topic>/<partition>` of the source | [`Copies`](super::offsets::Copies) |
//! | offsets | `join` | nothing |
//! | meta | `link/<link>/<name>` | as the link stored it |
//! | meta | `link/<link>/lane-<lane>` | the id of the checkpoint topic, when the lane has written to it: the first generation |
//! | meta | `link/<link>/state-<lane>`, with `.g<generation>` since the second one | the id of the state topic, when the lane has written to it |
//! | meta | `link/<link>/lanes.g<generation>` | JSON: [`GenerationTopics`], since the second one |
//! | meta | `component/<digest>/<part>/<parts>` | a part of a component's bytes |
//!
//! Names of topics, stages and links have no slash, so keys have one reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::connector::{Class, Error, RevisionStart};
use crate::model::layout::FIRST_GENERATION;
use crate::model::{Checkpoint, Digest, RevisionNumber, StateHead, StateRow, TopicPartition};

/// What the names of all these topics begin with. No link reads them.
pub(super) const PREFIX: &str = "__tidegate.";

/// The topic of what is known of links.
pub(super) const META: &str = "__tidegate.meta";

/// A topic of ours. Only the functions below make one, so no name from outside is ever taken for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnTopic(Arc<str>);

impl OwnTopic {
    /// Its name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.0
    }
}

impl From<OwnTopic> for Arc<str> {
    fn from(topic: OwnTopic) -> Self {
        topic.0
    }
}

/// The topic of what is known of links.
pub(super) fn meta_topic() -> OwnTopic {
    OwnTopic(META.into())
}

/// What the keys of what is known of links begin with.
pub(super) const LINKS: &str = "link/";

/// The key of a lane's genesis.
pub(super) const GENESIS: &str = "genesis";

/// The topic of a link's checkpoints.
pub(super) fn checkpoint_topic(link: &str, generation: u32) -> OwnTopic {
    OwnTopic(of_generation(format!("{PREFIX}{link}.checkpoints"), generation).into())
}

/// The topic of what a link's stages remember.
pub(super) fn state_topic(link: &str, generation: u32) -> OwnTopic {
    OwnTopic(of_generation(format!("{PREFIX}{link}.state"), generation).into())
}

/// The transactional id of a lane. No other link and no other lane has the same: it is read from its end.
pub(super) fn transactional_id(link: &str, lane: u32, generation: u32) -> String {
    of_generation(format!("tidegate.{link}.{lane}"), generation)
}

/// The name under which the target remembers the topic where a lane has what its stages remember,
/// since the lane has first written there.
pub(super) fn state_name(lane: u32, generation: u32) -> String {
    of_generation(format!("state-{lane}"), generation)
}

/// The name under which the target remembers the topics of a generation, from the second one on.
pub(super) fn generation_name(generation: u32) -> String {
    of_generation("lanes".to_owned(), generation)
}

/// The first generation has the names of a time when there was no other.
fn of_generation(name: String, generation: u32) -> String {
    if generation == FIRST_GENERATION { name } else { format!("{name}.g{generation}") }
}

/// The topic of where the source's offsets are in the target.
pub(super) fn offsets_topic(link: &str) -> OwnTopic {
    OwnTopic(format!("{PREFIX}{link}.offsets").into())
}

/// The settings of that topic: as old as consumer groups get by default before brokers forget them (7 days), or as large as many days of an ordinary link are. An
/// operator may set others.
pub(super) fn offsets_settings() -> BTreeMap<String, String> {
    let settings = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "536870912"),
        ("segment.bytes", "16777216"),
        ("compression.type", "zstd"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The consumer group of the daemons that run a link, over its checkpoint topic: who has a partition has the lane.
pub(super) fn group(link: &str) -> String {
    format!("tidegate.{link}")
}

/// The settings of these topics: small segments that are compacted soon, so that a lane opens fast after many commits.
pub(super) fn settings() -> BTreeMap<String, String> {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "16777216"),
        ("min.cleanable.dirty.ratio", "0.05"),
        ("delete.retention.ms", "600000"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The topics of a generation of lanes, by their ids: one that is gone, or was made again, is a loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GenerationTopics {
    pub(super) checkpoints: String,
    /// If stages remembered something when the generation began.
    pub(super) state: Option<String>,
}

/// The first record of a partition of the checkpoint topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneGenesis {
    pub(super) v: u32,
    pub(super) link: String,
    pub(super) lane: u32,
    pub(super) lanes: u32,
    pub(super) source: String,
}

/// A record of the checkpoint topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LaneRecord {
    Genesis(LaneGenesis),
    Checkpoint(TopicPartition, Checkpoint),
    Start(RevisionStart),
}

pub(super) fn checkpoint_key(partition: &TopicPartition) -> String {
    format!("checkpoint/{}/{}", partition.topic, partition.partition)
}

pub(super) fn start_key(start: &RevisionStart) -> String {
    format!("start/{}/{}/{}", start.revision, start.partition.topic, start.partition.partition)
}

impl LaneRecord {
    /// Read a record. `None`: it was deleted.
    ///
    /// # Errors
    /// What is wrong with it, to be shown after its place.
    pub(super) fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Option<Self>, String> {
        let key = text(key)?;
        let Some(value) = value else { return Ok(None) };
        let mut parts = key.split('/');
        let record = match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(GENESIS), None, ..) => {
                let genesis = serde_json::from_slice(value).map_err(|error| format!("not a genesis: {error}"))?;
                Self::Genesis(genesis)
            }
            (Some("checkpoint"), Some(topic), Some(number), None, _) => {
                let checkpoint = Checkpoint::decode(value).map_err(|error| error.to_string())?;
                Self::Checkpoint(partition(topic, number)?, checkpoint)
            }
            (Some("start"), Some(revision), Some(topic), Some(number), None) => {
                let revision = RevisionNumber(parse(revision)?);
                let offset = parse(text(Some(value))?)?;
                Self::Start(RevisionStart { partition: partition(topic, number)?, revision, offset })
            }
            _ => return Err(format!("the key {key:?} is not known")),
        };
        Ok(Some(record))
    }
}

/// A record of the state topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateRecord {
    pub(super) stage: String,
    pub(super) partition: TopicPartition,
    pub(super) change: StateRecordChange,
}

/// What a [`StateRecord`] says. `None` is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateRecordChange {
    Head(Option<StateHead>),
    Entry(Vec<u8>, Option<StateRow>),
}

pub(super) fn head_key(stage: &str, partition: &TopicPartition) -> String {
    format!("head/{stage}/{}/{}", partition.topic, partition.partition)
}

pub(super) fn entry_key(stage: &str, partition: &TopicPartition, key: &[u8]) -> Vec<u8> {
    [format!("entry/{stage}/{}/{}/", partition.topic, partition.partition).as_bytes(), key].concat()
}

impl StateRecord {
    /// Read a record.
    ///
    /// # Errors
    /// What is wrong with it, to be shown after its place.
    pub(super) fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, String> {
        let key = key.ok_or("it has no key")?;
        let mut parts = key.splitn(5, |byte| *byte == b'/');
        let kind = parts.next().unwrap_or_default();
        let (stage, topic, number) = (text(parts.next())?, text(parts.next())?, text(parts.next())?);
        let change = match (kind, parts.next()) {
            (b"head", None) => StateRecordChange::Head(value.map(StateHead::decode).transpose()?),
            (b"entry", Some(key)) => {
                let row = value.map(|value| StateRow::decode(value).ok_or("its value is too short")).transpose()?;
                StateRecordChange::Entry(key.to_vec(), row)
            }
            _ => return Err(format!("the key {:?} is not known", String::from_utf8_lossy(key))),
        };
        Ok(Self { stage: stage.to_owned(), partition: partition(topic, number)?, change })
    }
}

pub(super) fn metadata_key(link: &str, name: &str) -> String {
    format!("{LINKS}{link}/{name}")
}

/// The link that a key is about, if it is the key of this name.
pub(super) fn link_of<'k>(key: &'k str, name: &str) -> Option<&'k str> {
    key.strip_prefix(LINKS)?.strip_suffix(name)?.strip_suffix('/')
}

/// What the keys of a component's parts begin with.
pub(super) fn component_prefix(digest: &Digest) -> String {
    format!("component/{digest}/")
}

/// The key of part `part` of `parts`.
pub(super) fn component_key(digest: &Digest, part: usize, parts: usize) -> String {
    format!("{}{part}/{parts}", component_prefix(digest))
}

/// Which part of how many the rest of a component's key says.
pub(super) fn component_part(rest: &str) -> Option<(usize, usize)> {
    let (part, parts) = rest.split_once('/')?;
    let (part, parts) = (part.parse().ok()?, parts.parse().ok()?);
    (part < parts).then_some((part, parts))
}

/// The error that something in these topics cannot be read.
pub(super) fn unreadable(place: &str, what: &str) -> Error {
    Error {
        class: Class::Fatal,
        code: "checkpoints-unreadable",
        message: format!("a record of {place}: {what}"),
        remedy: "use a tidegate as new as the one that wrote it; if something else wrote there, restore the topic",
    }
}

fn partition(topic: &str, number: &str) -> Result<TopicPartition, String> {
    Ok(TopicPartition::new(topic, parse(number)?))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn text(bytes: Option<&[u8]>) -> Result<&str, String> {
    let bytes = bytes.ok_or("it has no key")?;
    std::str::from_utf8(bytes).map_err(|_| "its key is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::TopicId;
    use crate::model::checkpoint::CHECKPOINT_VERSION;

    fn place() -> TopicPartition {
        TopicPartition::new("orders.v1", 7)
    }

    #[test]
    fn version_1_of_the_checkpoint_topic_is_what_it_was() {
        let checkpoint = Checkpoint {
            v: CHECKPOINT_VERSION,
            next_offset: 42,
            source_topic_id: TopicId(1),
            source_log_start: 0,
            source_leader_epoch: None,
            target_topic_id: TopicId(2),
            target_end_offset: 40,
            link_epoch: 0,
            revision: RevisionNumber(3),
            last: None,
            doubt: None,
        };
        assert_eq!(checkpoint_key(&place()), "checkpoint/orders.v1/7");
        let read = LaneRecord::read(Some(b"checkpoint/orders.v1/7"), Some(&checkpoint.encode().expect("JSON")));
        assert_eq!(read, Ok(Some(LaneRecord::Checkpoint(place(), checkpoint))));

        let start = RevisionStart { partition: place(), revision: RevisionNumber(3), offset: 41 };
        assert_eq!(start_key(&start), "start/3/orders.v1/7");
        let read = LaneRecord::read(Some(b"start/3/orders.v1/7"), Some(b"41"));
        assert_eq!(read, Ok(Some(LaneRecord::Start(start))));

        let text = br#"{"v":1,"link":"flow","lane":0,"lanes":4,"source":"east"}"#;
        let genesis = LaneGenesis { v: 1, link: "flow".into(), lane: 0, lanes: 4, source: "east".into() };
        assert_eq!(serde_json::to_vec(&genesis).expect("text"), text);
        assert_eq!(LaneRecord::read(Some(b"genesis"), Some(text)), Ok(Some(LaneRecord::Genesis(genesis))));
        assert_eq!(LaneRecord::read(Some(b"checkpoint/a/0"), None), Ok(None), "a tombstone");
    }

    #[test]
    fn names_of_version_2_are_what_they_were() {
        let of = |generation| {
            [checkpoint_topic("flow", generation), state_topic("flow", generation)]
                .map(|topic| topic.name().to_string())
        };
        assert_eq!(of(1), ["__tidegate.flow.checkpoints", "__tidegate.flow.state"]);
        assert_eq!(of(3), ["__tidegate.flow.checkpoints.g3", "__tidegate.flow.state.g3"]);
        assert_eq!(transactional_id("flow", 7, 1), "tidegate.flow.7");
        assert_eq!(transactional_id("flow", 7, 3), "tidegate.flow.7.g3");
        let text = br#"{"checkpoints":"18446744073709551615","state":null}"#;
        let topics = GenerationTopics { checkpoints: u64::MAX.to_string(), state: None };
        assert_eq!(serde_json::to_vec(&topics).expect("text"), text);
        assert_eq!(generation_name(3), "lanes.g3");
        assert_eq!((state_name(2, 1), state_name(2, 3)), ("state-2".to_owned(), "state-2.g3".to_owned()));
    }

    #[test]
    fn entries_have_any_key_and_come_back() {
        let key = entry_key("dedupe", &place(), b"a/b\xff");
        let row = StateRow { value: b"v".to_vec(), expires: 9 };
        let read = StateRecord::read(Some(&key), Some(&row.encode())).expect("readable");
        assert_eq!((read.stage.as_str(), &read.partition), ("dedupe", &place()));
        assert_eq!(read.change, StateRecordChange::Entry(b"a/b\xff".to_vec(), Some(row)));
        let head = StateRecord::read(Some(head_key("dedupe", &place()).as_bytes()), None).expect("readable");
        assert_eq!(head.change, StateRecordChange::Head(None));
    }

    #[test]
    fn parts_of_components_are_counted() {
        assert_eq!(component_part("0/3"), Some((0, 3)));
        for wrong in ["3/3", "x/3", "3", "-1/2", "0/0"] {
            assert_eq!(component_part(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// Somebody else may write to these topics.
        #[test]
        fn any_record_is_read_or_refused(
            kind in "genesis|checkpoint|start|head|entry|x?", rest in any::<Vec<u8>>(), value in any::<Option<Vec<u8>>>(),
        ) {
            let key = [kind.as_bytes(), b"/", &rest].concat();
            for key in [Some(&key[..]), Some(&rest[..]), None] {
                let _ = LaneRecord::read(key, value.as_deref());
                let _ = StateRecord::read(key, value.as_deref());
            }
        }
    }
}
