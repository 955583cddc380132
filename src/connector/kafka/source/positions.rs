//! Where each partition is read, and what keeps one from being read. No IO, no clock of its own.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use kafka_protocol::messages::TopicName;
use uuid::Uuid;

use super::answer::TopicKey;
use super::faults;
use crate::connector::kafka::client::{Metadata, topic_name};
use crate::connector::kafka::records::Tail;
use crate::connector::{Class, Error, OpenTransaction, Stalled, Trouble, Waits};
use crate::model::TopicPartition;

/// A partition's place in [`Positions`], for as long as the source lives.
pub(super) type Index = usize;

/// How long a partition waits when something was wrong with it. An election takes longer than the
/// first wait, and its end is to be seen soon.
const WAITS: Waits =
    Waits { first: Duration::from_millis(20), longest: Duration::from_secs(1), for_help: Duration::from_secs(10) };

/// How long a transaction of the source may be open before somebody hears of it: as long as brokers let one be by default
/// (`transaction.max.timeout.ms`). One that is open for longer hangs.
pub(super) const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// How long a replica is believed to be nearer than the leader before the leader is asked again, as by Java's consumer
/// (`metadata.max.age.ms`).
const NEARER_FOR: Duration = Duration::from_secs(5 * 60);

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) place: TopicPartition,
    /// Its topic's name as messages have it.
    pub(super) name: TopicName,
    /// Its topic's id when it was first sought; nil where the cluster has none.
    pub(super) topic: Uuid,
    /// The offset behind everything that was fetched.
    pub(super) next: i64,
    /// The leader epoch of the last record batch that was fetched, or -1: brokers tell by it whether their log is still the one
    /// that was read.
    pub(super) tail_epoch: i32,
    /// The leader epoch that we know of.
    pub(super) leader_epoch: i32,
    /// The broker that it is fetched from; `None` while one is looked for.
    pub(super) broker: Option<i32>,
    /// A replica that is nearer than the leader, as the leader said, and until when that is believed.
    nearer: Option<(i32, Instant)>,
    /// Until when the leader is not asked for a nearer replica: there was none to read from.
    leader_until: Option<Instant>,
    /// Why it cannot be read, if it cannot.
    trouble: Option<Trouble>,
    /// The open transaction that records wait for, and where these end, if there are any.
    withheld: Option<(OpenTransaction, i64)>,
    /// Whether it was fetched without an error since it was sought first, or since it was not.
    is_read: bool,
}

impl Position {
    /// Whether anything was fetched since it was sought.
    pub(super) fn has_read(&self) -> bool {
        self.tail_epoch >= 0
    }

    /// The leader epoch of what was fetched, if it goes up to `offset`: what ends before says nothing of who led then.
    pub(super) fn epoch_up_to(&self, offset: i64) -> Option<i32> {
        (self.has_read() && self.next >= offset).then_some(self.tail_epoch)
    }

    /// Whether its leader is to give its records itself.
    pub(super) fn wants_leader(&self) -> bool {
        self.leader_until.is_some()
    }

    /// Whether it is fetched from another replica than the leader, which may have less.
    pub(super) fn is_nearer(&self) -> bool {
        self.nearer.is_some()
    }

    /// What was fetched ends here.
    pub(super) fn advance(&mut self, tail: Tail) {
        self.next = tail.next_offset;
        self.tail_epoch = tail.leader_epoch;
    }

    /// The first open transaction begins at `last_stable`, and there are records up to
    /// `high_watermark`. Both are negative where that is not known.
    pub(super) fn note_open_transaction(&mut self, last_stable: i64, high_watermark: i64, now: Instant) {
        let is_open = (0..high_watermark).contains(&last_stable);
        let before = self.withheld.filter(|(before, _)| before.from == last_stable);
        let since = before.map_or(now, |(before, _)| before.since);
        self.withheld = is_open.then_some((OpenTransaction { from: last_stable, since }, high_watermark));
    }

    /// Another reader has seen this transaction of it.
    pub(super) fn recall(&mut self, seen: OpenTransaction) {
        self.withheld = Some((seen, seen.from));
    }

    /// Why it stands still at `now`, if people should hear of it.
    fn stalled(&self, now: Instant) -> Option<Error> {
        if let Some(why) = self.trouble.as_ref().and_then(|trouble| trouble.told(now)) {
            return Some(why.clone());
        }
        // What comes before it is to be read first, and one that another reader has seen may have
        // ended.
        let hangs = |(it, to): &(OpenTransaction, i64)| {
            (it.from..*to).contains(&self.next) && now.saturating_duration_since(it.since) >= TRANSACTION_AGE_MAX
        };
        let (OpenTransaction { from, .. }, to) = self.withheld.filter(hangs)?;
        Some(faults::open_transaction(&self.place, from, to, TRANSACTION_AGE_MAX))
    }

    /// Whether it has been fetched without an error since anything was wrong with it.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// It is fetched from a broker without an error.
    pub(super) fn recovered(&mut self) {
        (self.trouble, self.is_read) = (None, true);
    }

    /// Who leads it, as the cluster says, or the nearer replica that it is fetched from.
    ///
    /// # Errors
    /// Nobody does now, or it is not there any more. Fatal if it is another topic of the same name.
    fn leader(&self, metadata: &Metadata) -> Result<(i32, i32), Error> {
        if let Some(topic) = metadata.topics.get(&self.place.topic)
            && topic.id != self.topic
            && !topic.id.is_nil()
            && !self.topic.is_nil()
        {
            return Err(faults::recreated(&self.place));
        }
        let (broker, leader) = metadata.leader(&self.place)?;
        let nearer = self.nearer.map(|(replica, _)| replica).filter(|replica| metadata.brokers.contains_key(replica));
        Ok((nearer.unwrap_or(broker), leader.epoch))
    }
}

/// All partitions of a source.
#[derive(Debug, Default)]
pub(super) struct Positions {
    all: Vec<Position>,
    by_place: HashMap<TopicPartition, Index>,
    by_topic: HashMap<(Uuid, u32), Index>,
    /// Those without a broker.
    homeless: Vec<Index>,
    /// The places of those that are read no more.
    free: Vec<Index>,
}

impl std::ops::Index<Index> for Positions {
    type Output = Position;

    fn index(&self, index: Index) -> &Position {
        &self.all[index]
    }
}

impl std::ops::IndexMut<Index> for Positions {
    fn index_mut(&mut self, index: Index) -> &mut Position {
        &mut self.all[index]
    }
}

impl Positions {
    /// Read a partition from `offset` on. One that is new has no broker yet.
    pub(super) fn seek(&mut self, place: &TopicPartition, topic: Uuid, offset: i64) -> Index {
        if let Some(&index) = self.by_place.get(place) {
            let position = &mut self.all[index];
            (position.next, position.tail_epoch) = (offset, -1);
            return index;
        }
        let position = Position {
            place: place.clone(),
            name: topic_name(&place.topic),
            topic,
            next: offset,
            tail_epoch: -1,
            leader_epoch: -1,
            broker: None,
            nearer: None,
            leader_until: None,
            trouble: None,
            withheld: None,
            is_read: false,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.all[index] = position;
                index
            }
            None => {
                self.all.push(position);
                self.all.len() - 1
            }
        };
        self.by_place.insert(place.clone(), index);
        self.by_topic.insert((topic, place.partition), index);
        self.homeless.push(index);
        index
    }

    /// Read a partition no more. Answers its place and the broker that it was fetched from.
    pub(super) fn forget(&mut self, place: &TopicPartition) -> Option<(Index, Option<i32>)> {
        let index = self.by_place.remove(place)?;
        self.by_topic.retain(|_, known| *known != index);
        self.homeless.retain(|homeless| *homeless != index);
        self.free.push(index);
        let position = &mut self.all[index];
        (position.trouble, position.withheld, position.nearer, position.leader_until) = (None, None, None, None);
        Some((index, position.broker.take()))
    }

    /// The partitions that are read.
    fn read(&self) -> impl Iterator<Item = &Position> {
        self.by_place.values().map(|index| &self.all[*index])
    }

    /// The transactions that are open.
    pub(super) fn open_transactions(&self) -> BTreeMap<TopicPartition, OpenTransaction> {
        let of = |position: &Position| Some((position.place.clone(), position.withheld?.0));
        self.read().filter_map(of).collect()
    }

    /// A partition waits for what is asked of its leader: no broker is looked for meanwhile.
    pub(super) fn hold(&mut self, index: Index) {
        self.all[index].broker = None;
        self.homeless.retain(|homeless| *homeless != index);
    }

    /// It waits no more. Whether it did.
    pub(super) fn release(&mut self, index: Index) -> bool {
        let is_held = self.all[index].broker.is_none() && !self.homeless.contains(&index);
        if is_held {
            self.homeless.push(index);
        }
        is_held
    }

    /// The partition that an answer names.
    pub(super) fn find(&self, topic: &TopicKey, partition: u32) -> Option<Index> {
        match topic {
            TopicKey::Id(id) => self.by_topic.get(&(*id, partition)).copied(),
            TopicKey::Name(name) => self.by_place.get(&TopicPartition::new(name.clone(), partition)).copied(),
        }
    }

    /// Where a partition is that is read.
    pub(super) fn place(&self, place: &TopicPartition) -> Option<Index> {
        self.by_place.get(place).copied()
    }

    /// Whether every topic has an id.
    pub(super) fn have_ids(&self) -> bool {
        self.read().all(|position| !position.topic.is_nil())
    }

    /// Something is wrong with a partition: look for its broker again after a wait. What is wrong is known until the partition
    /// is fetched without an error.
    pub(super) fn unsettle(&mut self, index: Index, now: Instant, why: Error) {
        let position = &mut self.all[index];
        // Only the leader knows all.
        if position.nearer.take().is_some() {
            position.leader_until = Some(now + NEARER_FOR);
        }
        if position.broker.take().is_some() {
            self.homeless.push(index);
        }
        position.is_read = false;
        position.trouble = Some(Trouble::after(position.trouble.as_ref(), why, now, WAITS));
    }

    /// What was fetched from `offset` on is of no use: fetch it again after a wait.
    pub(super) fn go_back(&mut self, index: Index, offset: i64, now: Instant, why: Error) {
        let position = &mut self.all[index];
        (position.next, position.tail_epoch, position.withheld) = (offset, -1, None);
        self.unsettle(index, now, why);
    }

    /// Another broker leads a partition: look for it at once.
    fn move_away(&mut self, index: Index) {
        if self.all[index].broker.take().is_some() {
            self.homeless.push(index);
        }
    }

    /// Fetch a partition from a replica that its leader calls nearer, if it `is_known` where that is.
    pub(super) fn prefer(&mut self, index: Index, replica: i32, is_known: bool, now: Instant) {
        let (position, until) = (&mut self.all[index], now + NEARER_FOR);
        if is_known {
            position.nearer = Some((replica, until));
        } else {
            position.leader_until = Some(until);
        }
        self.move_away(index);
    }

    /// Take partitions from replicas that were nearer for long enough to ask their leaders again, and answer which.
    pub(super) fn ask_leaders_again(&mut self, now: Instant) -> Vec<(i32, Index)> {
        for position in &mut self.all {
            position.leader_until = position.leader_until.filter(|until| *until > now);
        }
        let is_over = |position: &Position| position.nearer.is_some_and(|(_, until)| until <= now);
        let over = (0..self.all.len()).filter(|index| is_over(&self.all[*index]));
        let over: Vec<_> = over.filter_map(|index| Some((self.all[index].broker?, index))).collect();
        for (_, index) in &over {
            self.all[*index].nearer = None;
            self.move_away(*index);
        }
        over
    }

    /// Take partitions from brokers that do not lead them any more, and answer which.
    pub(super) fn follow(&mut self, metadata: &Metadata) -> Vec<(i32, Index)> {
        let moved = |position: &Position| match (position.broker, position.leader(metadata)) {
            (Some(from), Ok((to, epoch))) => (from != to && epoch > position.leader_epoch).then_some(from),
            (Some(from), Err(_)) => Some(from),
            (None, _) => None,
        };
        let moved: Vec<_> = (0..self.all.len()).filter_map(|index| Some((moved(&self.all[index])?, index))).collect();
        for (_, index) in &moved {
            self.move_away(*index);
        }
        moved
    }

    /// When the first partition without a broker is to be looked at again.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.homeless.iter().map(|index| self.all[*index].trouble.as_ref().map_or(now, Trouble::due)).min()
    }

    /// Find the leader of each partition without a broker that is due. What has no leader waits again.
    ///
    /// # Errors
    /// A topic is another one than before.
    pub(super) fn settle(&mut self, metadata: &Metadata, now: Instant) -> Result<Vec<(i32, Index)>, Error> {
        let mut settled = Vec::new();
        for index in self.take_due(now) {
            let position = &mut self.all[index];
            match position.leader(metadata) {
                Ok((broker, epoch)) => {
                    (position.broker, position.leader_epoch) = (Some(broker), epoch);
                    settled.push((broker, index));
                }
                Err(error) if error.class == Class::Fatal => return Err(error),
                Err(error) => {
                    self.homeless.push(index);
                    self.unsettle(index, now, error);
                }
            }
        }
        Ok(settled)
    }

    /// No leader can be looked for: every partition that is due waits again.
    pub(super) fn postpone(&mut self, now: Instant, why: &Error) {
        for index in self.take_due(now) {
            self.homeless.push(index);
            self.unsettle(index, now, why.clone());
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<Index> {
        let all = &self.all;
        let is_due = |index: &Index| all[*index].trouble.as_ref().is_none_or(|trouble| trouble.due() <= now);
        let (due, later) = self.homeless.iter().partition(|index| is_due(index));
        self.homeless = later;
        due
    }

    /// The partitions that could not be read for so long that people should hear of it, wherever they are tried just now.
    pub(super) fn stalled(&self, now: Instant) -> Vec<Stalled> {
        let stalled =
            |position: &Position| Some(Stalled { partition: position.place.clone(), why: position.stalled(now)? });
        let mut stalled: Vec<Stalled> = self.read().filter_map(stalled).collect();
        stalled.sort_by(|one, other| one.partition.cmp(&other.partition));
        stalled
    }
}
