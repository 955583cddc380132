//! What is kept of failovers and failbacks in the target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::LinkConfig;
use crate::connector::{Class, Cluster, Error};
use crate::link::builtins::Returned;
use crate::link::failure::Failure;
use crate::link::genesis::FAILED_OVER;
use crate::link::supervisor::Link;
use crate::model::{LinkId, TopicPartition, encode};

/// Where failovers and failbacks are listed.
const RECORDS: &str = "failovers";

/// The version of what is written here.
const VERSION: u32 = 1;

/// How many are kept: the oldest ones go.
const RECORDS_MAX: usize = 100;

/// That the target has taken the source's place, or is about to, or is about to give it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedOver {
    /// How often that has happened with this time. A target that was replaced or rebuilt begins again at 1.
    pub epoch: u32,
    /// What tells this failover from all others, those of other targets included. An older tidegate wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The number of the failback link, once the source has been asked which ones are taken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<u32>,
    /// How far it is.
    pub phase: Phase,
    /// The daemon that sees to it.
    pub daemon: String,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub since_ms: i64,
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Who wanted it.
    pub by: String,
    /// Whether everything was over that the source had at the beginning; nothing if the source could not be asked.
    pub drained: Option<bool>,
    /// How many daemons have taken it up after the first one.
    #[serde(default)]
    pub tries: u32,
}

/// How far the change of places is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The lanes are fenced, and it is written down where they were.
    Fencing,
    /// The target has the source's place.
    Over,
    /// What was written to the target since then goes back to the source.
    Returning,
    /// Nobody may write to the target any more, and what was written last goes back.
    Closing,
}

/// Why a link failed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A person wanted it.
    Manual,
    /// The link was too far behind for too long.
    Lag,
    /// Its lanes failed too often in a row.
    ConsecutiveFailures,
    /// The source did not answer for too long.
    SourceUnreachable,
    /// The source answers again.
    SourceBack,
}

impl FailedOver {
    /// Whether the source is being given its place back.
    pub fn is_returning(&self) -> bool {
        matches!(self.phase, Phase::Returning | Phase::Closing)
    }

    /// The id of the failback link of `link`. An older tidegate knows it by the epoch alone.
    pub fn way_back_id(&self, link: &str) -> String {
        crate::config::failback_id(link, self.back.unwrap_or(self.epoch))
    }

    /// Why no lane runs.
    pub(in crate::link) fn as_error(&self) -> Error {
        let message = match self.phase {
            Phase::Fencing => format!("the target takes the source's place: daemon {} sees to it", self.daemon),
            Phase::Over => "the target has taken the source's place".to_owned(),
            Phase::Returning | Phase::Closing => {
                format!("the source is given its place back: daemon {} sees to it", self.daemon)
            }
        };
        // It is tried again and again, and so the link goes on when it may.
        Error {
            class: Class::Reopen,
            code: FAILED_OVER,
            message,
            remedy: "fail the link back when the source is there again",
        }
    }
}

/// Which way places were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The target took the source's place.
    Failover,
    /// The source got it back.
    Failback,
}

/// A failover or failback that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRecord {
    /// Which way.
    pub direction: Direction,
    /// The failover that this is, or that this undoes, counted from 1.
    pub epoch: u32,
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Who wanted it.
    pub by: String,
    /// When it began, in milliseconds since 1970-01-01 UTC.
    pub begun_ms: i64,
    /// When it was done, in milliseconds since 1970-01-01 UTC.
    pub done_ms: i64,
    /// Whether everything was over that the source had at the beginning; nothing if the source could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
    /// How many records one side had that the other one had not, at most: markers of transactions count too. Nothing if that could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// The consumer groups that were moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups_moved: Vec<String>,
    /// What a person should look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl FailoverRecord {
    /// Its name among those of the link.
    pub fn id(&self) -> String {
        match self.direction {
            Direction::Failover => format!("failover-{}", self.epoch),
            Direction::Failback => format!("failback-{}", self.epoch),
        }
    }

    /// Whether it is done, while the link is failed over in this way: what is listed counts when the genesis says so.
    fn counts(&self, over: &FailedOver) -> bool {
        match self.direction {
            Direction::Failover => over.phase != Phase::Fencing || over.epoch != self.epoch,
            Direction::Failback => over.epoch != self.epoch,
        }
    }
}

/// Where a link was when its target took the source's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    v: u32,
    /// At the beginning of a failback, the failover whose id the failback puts on what it brings. An older tidegate
    /// puts none there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<String>,
    /// By source topic.
    pub topics: BTreeMap<String, TopicPositions>,
}

/// Where a topic was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPositions {
    /// The topic of the target.
    pub target: String,
    /// By source partition, the next offset that would have been replicated.
    pub next: BTreeMap<u32, i64>,
    /// By source partition, the offset behind the last record that the source had; partitions are left out if it could not be asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_ends: BTreeMap<u32, i64>,
    /// By number, the offset behind the last record of each partition of the target.
    pub target_ends: Vec<i64>,
}

impl Positions {
    pub(super) fn new(topics: BTreeMap<String, TopicPositions>) -> Self {
        Self { v: VERSION, failover: None, topics }
    }

    /// The same, at the beginning of the failback of this failover.
    pub(super) fn returning(self, failover: Option<String>) -> Self {
        Self { failover, ..self }
    }

    /// What the source has now that was not replicated, after it was seen at the `first` failback: nobody can tell what came between from what that one brought.
    pub(super) fn since(self, first: &Self) -> Self {
        let since = |(name, mut topic): (String, TopicPositions)| {
            let before = first.topics.get(&name);
            let end_then = |number| before.and_then(|before| before.source_ends.get(number));
            for (number, next) in &mut topic.next {
                *next = end_then(number).map_or(*next, |end| *end.min(next));
            }
            (name, topic)
        };
        Self { topics: self.topics.into_iter().map(since).collect(), ..self }
    }

    /// The first offset of each partition of the source that was not replicated, where there is one.
    pub(super) fn unread(self) -> BTreeMap<TopicPartition, i64> {
        let of_topic = |(name, topic): (String, TopicPositions)| {
            let TopicPositions { next, source_ends, .. } = topic;
            let unread = next.into_iter().filter(move |(number, next)| source_ends.get(number) > Some(next));
            unread.map(move |(number, next)| (TopicPartition::new(&*name, number), next))
        };
        self.topics.into_iter().flat_map(of_topic).collect()
    }

    /// How many records the source had that were not replicated, at most; `None` if it could not be asked. A topic that it had not any more has none.
    pub fn left(&self) -> Option<u64> {
        let of = |topic: &TopicPositions| {
            let behind =
                |(partition, end): (&u32, &i64)| topic.next.get(partition).map_or(0, |next| end - next).max(0) as u64;
            topic.source_ends.iter().map(behind).sum::<u64>()
        };
        let asked = self.topics.is_empty() || self.topics.values().any(|topic| !topic.source_ends.is_empty());
        asked.then(|| self.topics.values().map(of).sum())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Records {
    v: u32,
    records: Vec<FailoverRecord>,
}

fn positions_key(epoch: u32) -> String {
    format!("failover-{epoch}")
}

fn ahead_key(epoch: u32) -> String {
    format!("failback-{epoch}")
}

fn since_key(epoch: u32) -> String {
    format!("failback-{epoch}-since")
}

fn returned_key(epoch: u32) -> String {
    format!("returned-{epoch}")
}

/// Where a link was at each of its failovers, oldest first, and where the target ended when the source got its place back; nothing if it has not.
pub(in crate::link) fn places_of_all(
    target: &dyn Cluster,
    link: &LinkId,
) -> Result<Vec<(Positions, Option<Positions>)>, Failure> {
    let mut all = Vec::new();
    for epoch in 1.. {
        let Some(left) = positions_of(target, link, epoch)? else { break };
        all.push((left, returned_of(target, link, epoch)?));
    }
    Ok(all)
}

/// What failbacks of the link have brought to its source, after so many failovers.
pub(in crate::link) fn returned_to_source(
    target: &dyn Cluster,
    config: &LinkConfig,
    epochs: u32,
) -> Result<Returned, Failure> {
    let (mut failovers, mut unnamed) = (BTreeSet::new(), Vec::new());
    for epoch in 1..=epochs {
        match read_json(target, &config.id, &ahead_key(epoch), |positions: &Positions| positions.v)? {
            Some(Positions { failover: Some(failover), .. }) => drop(failovers.insert(failover)),
            Some(begun) => unnamed.push(begun),
            // Nothing goes back before this is written.
            None => {}
        }
    }
    let returned = Returned::by(failovers);
    if unnamed.is_empty() {
        return Ok(returned);
    }
    Ok(returned.and_unnamed(config.target.clone(), first_returned(unnamed.into_iter())))
}

/// By source partition, the first offset at which a record can be that has come back from this target, by what the
/// source had at the beginning of each failback: before the first one none had. A source that was rebuilt ends before
/// that at the next one. Partitions that a failback says nothing of are left out.
fn first_returned(begun: impl Iterator<Item = Positions>) -> BTreeMap<TopicPartition, i64> {
    let ends_of = |(name, topic): (String, TopicPositions)| {
        topic.source_ends.into_iter().map(move |(number, end)| (TopicPartition::new(name.as_str(), number), end))
    };
    let ends = begun.map(|begun| begun.topics.into_iter().flat_map(ends_of).collect::<BTreeMap<_, _>>());
    let earlier = |before: BTreeMap<TopicPartition, i64>, ends: BTreeMap<TopicPartition, i64>| {
        let known = before.into_iter().filter_map(|(partition, end)| {
            let end = end.min(*ends.get(&partition)?);
            Some((partition, end))
        });
        known.collect()
    };
    ends.reduce(earlier).unwrap_or_default()
}

/// Where a link was at a failover.
fn positions_of(target: &dyn Cluster, link: &LinkId, epoch: u32) -> Result<Option<Positions>, Failure> {
    read_json(target, link, &positions_key(epoch), |positions: &Positions| positions.v)
}

/// Where the target ended when the source got its place back.
fn returned_of(target: &dyn Cluster, link: &LinkId, epoch: u32) -> Result<Option<Positions>, Failure> {
    read_json(target, link, &returned_key(epoch), |positions: &Positions| positions.v)
}

fn read_json<T: DeserializeOwned>(
    target: &dyn Cluster,
    link: &LinkId,
    key: &str,
    version: fn(&T) -> u32,
) -> Result<Option<T>, Failure> {
    target.metadata(link, key)?.map(|bytes| decode(key, &bytes, version)).transpose()
}

impl Link {
    /// The failovers and failbacks of the link, oldest first, and who has whose place now.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn failovers(&self) -> Result<(Vec<FailoverRecord>, Option<FailedOver>), Failure> {
        // In this order: what is done between the two is among the records.
        let over = self.known_genesis()?.and_then(|genesis| genesis.failover);
        let mut records = self.known_records()?.1;
        records.retain(|record| over.as_ref().is_none_or(|over| record.counts(over)));
        Ok((records, over))
    }

    /// Where the link was at a failover.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn positions(&self, epoch: u32) -> Result<Option<Positions>, Failure> {
        positions_of(&**self.target(), &self.config().id, epoch)
    }

    /// What the source had at the last failback, by topic and partition, that was not replicated: from one offset to the one behind the last. After one that was
    /// called off, what that one has brought is among it.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn unreplicated(&self, epoch: u32) -> Result<Option<Positions>, Failure> {
        match self.read_json(&since_key(epoch), |positions: &Positions| positions.v)? {
            Some(since) => Ok(Some(since)),
            None => self.written_at_source(epoch),
        }
    }

    /// The same at the first of the failbacks.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn written_at_source(&self, epoch: u32) -> Result<Option<Positions>, Failure> {
        self.read_json(&ahead_key(epoch), |positions: &Positions| positions.v)
    }

    /// Write down where the link is, unless that was done: who does it first does it before anybody may write to the target. What stands there then.
    pub(super) fn put_positions(&self, epoch: u32, positions: Positions) -> Result<Positions, Failure> {
        self.put_first(&positions_key(epoch), positions)
    }

    /// The same for what the source has: who does it first does it before anything has gone back.
    pub(super) fn put_written_at_source(&self, epoch: u32, positions: Positions) -> Result<Positions, Failure> {
        self.put_first(&ahead_key(epoch), positions)
    }

    /// The same at a failback after one that was called off. Whoever does it last is right.
    pub(super) fn put_written_since(&self, epoch: u32, positions: &Positions) -> Result<(), Failure> {
        self.store(&since_key(epoch), &encode("the positions of a failback", positions)?)
    }

    /// Write down where the target ends. Whoever does it last is right: the target can be written to until then.
    pub(super) fn put_returned(&self, epoch: u32, positions: &Positions) -> Result<(), Failure> {
        self.store(&returned_key(epoch), &encode("the positions of a failback", positions)?)
    }

    /// List a failover or failback; once, whoever else does it. Of failbacks that were called off the last counts.
    pub(super) fn put_record(&self, record: &FailoverRecord) -> Result<(), Failure> {
        loop {
            let (bytes, mut records) = self.known_records()?;
            self.places.has_news.store(true, Relaxed);
            match (records.iter().position(|known| known.id() == record.id()), record.direction) {
                (Some(_), Direction::Failover) => return Ok(()),
                (Some(at), Direction::Failback) => drop(records.remove(at)),
                (None, _) => {}
            }
            records.push(record.clone());
            records.drain(..records.len().saturating_sub(RECORDS_MAX));
            let text = encode("the list of failovers", &Records { v: VERSION, records })?;
            if self.replace(RECORDS, bytes.as_deref(), &text)? {
                return Ok(());
            }
        }
    }

    fn known_records(&self) -> Result<(Option<Vec<u8>>, Vec<FailoverRecord>), Failure> {
        let bytes = self.target().metadata(&self.config().id, RECORDS)?;
        let read = bytes.as_deref().map(|bytes| decode(RECORDS, bytes, |records: &Records| records.v)).transpose()?;
        Ok((bytes, read.map_or_else(Vec::new, |read| read.records)))
    }

    fn read_json<T: DeserializeOwned>(&self, key: &str, version: fn(&T) -> u32) -> Result<Option<T>, Failure> {
        read_json(&**self.target(), &self.config().id, key, version)
    }

    fn put_first(&self, key: &str, positions: Positions) -> Result<Positions, Failure> {
        let text = encode("the positions of a failover", &positions)?;
        if self.replace(key, None, &text)? {
            return Ok(positions);
        }
        Ok(self.read_json(key, |positions: &Positions| positions.v)?.unwrap_or(positions))
    }
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8], version: fn(&T) -> u32) -> Result<T, Failure> {
    let unreadable = |message: String| {
        Failure::fatal("failovers-unreadable", message, "restore the target, or use a newer tidegate")
    };
    let read: T = serde_json::from_slice(bytes).map_err(|error| unreadable(format!("the link's {key}: {error}")))?;
    match version(&read) {
        newer if newer > VERSION => {
            Err(unreadable(format!("the link's {key} has version {newer}: a newer tidegate wrote it")))
        }
        _ => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(next: &[i64], ends: &[i64]) -> TopicPositions {
        let by_number = |offsets: &[i64]| (0..).zip(offsets.iter().copied()).collect();
        TopicPositions { next: by_number(next), source_ends: by_number(ends), ..TopicPositions::default() }
    }

    fn left(topics: &[TopicPositions]) -> Option<u64> {
        let topics = topics.iter().enumerate().map(|(number, topic)| (number.to_string(), topic.clone()));
        Positions::new(topics.collect()).left()
    }

    /// What daemons have stored in the world, before failovers had ids too.
    #[test]
    fn a_failover_is_read_as_it_was_stored() {
        let before = r#"{"epoch":2,"phase":"over","daemon":"a","since_ms":5,"reason":"manual","by":"ann","drained":true,"tries":0}"#;
        let over: FailedOver = serde_json::from_str(before).expect("readable");
        assert_eq!(serde_json::to_string(&over).expect("text"), before);
        assert_eq!(over.way_back_id("orders"), "orders.back2");
        let now = FailedOver { id: Some("x".to_owned()), back: Some(7), ..over };
        let text = before.replace(r#""phase""#, r#""id":"x","back":7,"phase""#);
        assert_eq!(serde_json::to_string(&now).expect("text"), text);
        assert_eq!(now.way_back_id("orders"), "orders.back7");
    }

    /// The same of positions, before a failback put something on records too.
    #[test]
    fn positions_are_read_as_they_were_stored() {
        let before = r#"{"v":1,"topics":{"t":{"target":"c","next":{"0":3},"source_ends":{"0":5},"target_ends":[3]}}}"#;
        let positions: Positions = serde_json::from_str(before).expect("readable");
        assert_eq!((serde_json::to_string(&positions).expect("text"), &positions.failover), (before.to_owned(), &None));
        let now = positions.returning(Some("x".to_owned()));
        let text = before.replace(r#""topics""#, r#""failover":"x","topics""#);
        assert_eq!(serde_json::to_string(&now).expect("text"), text);
        assert_eq!(serde_json::from_str::<Positions>(&text).expect("readable"), now);
    }

    #[test]
    fn the_first_failback_says_what_has_come_back_unless_the_source_was_rebuilt_since() {
        let first = |begun: &[&[i64]]| {
            let positions = |ends: &&[i64]| Positions::new([("t".to_owned(), topic(&[], ends))].into());
            let first = first_returned(begun.iter().map(positions));
            first.into_iter().map(|(partition, from)| (partition.partition, from)).collect::<Vec<_>>()
        };
        assert_eq!(first(&[]), []);
        assert_eq!(first(&[&[5, 7], &[9, 9]]), [(0, 5), (1, 7)]);
        assert_eq!(first(&[&[5, 7], &[9, 3]]), [(0, 5), (1, 3)], "it was rebuilt");
        assert_eq!(first(&[&[5, 7], &[9]]), [(0, 5)], "it lacked a partition");
        assert_eq!(first(&[&[5], &[9, 3]]), [(0, 5)], "a partition came later");
    }

    #[test]
    fn what_is_written_after_a_failback_that_was_called_off_is_unread_too() {
        let at = |next: &[i64], ends: &[i64]| Positions::new([("t".to_owned(), topic(next, ends))].into());
        let unread = |positions: Positions| {
            positions.unread().into_iter().map(|(partition, from)| (partition.partition, from)).collect::<Vec<_>>()
        };
        let first = at(&[3, 5, 9], &[7, 5, 4]);
        assert_eq!(unread(first.clone()), [(0, 3)]);
        assert_eq!(unread(at(&[3, 5, 9], &[7, 5, 4]).since(&first)), [(0, 3)], "nothing was written");
        assert_eq!(unread(at(&[3, 5, 9, 2], &[8, 6, 5, 3]).since(&first)), [(0, 3), (1, 5), (2, 4), (3, 2)]);
    }

    #[test]
    fn what_the_source_had_beside_is_counted_if_it_was_asked() {
        assert_eq!(left(&[]), Some(0));
        assert_eq!(left(&[topic(&[3, 5], &[7, 5])]), Some(4));
        assert_eq!(left(&[topic(&[3], &[2])]), Some(0), "it was made again");
        assert_eq!(left(&[topic(&[3], &[])]), None);
        assert_eq!(left(&[topic(&[3], &[]), topic(&[3], &[4])]), Some(1), "the first one was deleted");
    }
}
