//! The way back: what this link has to do with it. Another link copies what was written to the target meanwhile; who runs that one is the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Direction, FailedOver, FailoverRecord, Phase, Positions, Reason, TopicPositions, overtaken};
use crate::config::{
    GroupSync, Isolation, LinkConfig, Rename, Start, TopicSelector, Topology, TransferConfig, failback_id,
};
use crate::link::events::Event;
use crate::link::failure::Failure;
use crate::link::genesis::{GENESIS, Stored};
use crate::link::lane::now_ms;
use crate::link::supervisor::Link;
use crate::model::{Builtins, LinkId, Provenance, TopicPartition};

/// Where the source of a link keeps which failover a failback link belongs to: its id. Link epochs are counted in the
/// target and begin again when that is replaced, but checkpoints of failback links stay in the source.
const FAILBACK_OF: &str = "failback-of";

/// Why a link does not go back. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReturnError {
    /// Its target has not the source's place.
    #[error("the link has not failed over")]
    NotOver,
    /// The target is about to take the source's place.
    #[error("the target is just taking the source's place")]
    Fencing,
    /// A cluster does not answer.
    #[error("{0}")]
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for ReturnError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a failback would do.
#[derive(Clone, Debug)]
pub struct ReturnPreview {
    /// What the source has that was not replicated before, and where the target ends now.
    pub at_source: Positions,
    /// How many records would go back, at most.
    pub to_return: u64,
}

/// That no lane of a failback link commits any more. Without it, no failback ends.
#[derive(Debug)]
pub struct ShutOut(());

impl Link {
    /// What a failback would do. Changes nothing.
    ///
    /// # Errors
    /// See [`ReturnError`].
    pub fn preview_return(&self) -> Result<ReturnPreview, ReturnError> {
        let over = self.see_genesis()?.and_then(|stored| stored.genesis.failover).ok_or(ReturnError::NotOver)?;
        let known = self.positions(over.epoch)?.unwrap_or_default();
        let mut at_source = self.source_now(&known)?;
        self.fill_target_ends(&mut at_source.topics)?;
        let grown = |(name, topic): (&String, &TopicPositions)| {
            let before = known.topics.get(name).map(|topic| topic.target_ends.clone()).unwrap_or_default();
            let before = before.into_iter().chain(std::iter::repeat(0));
            topic.target_ends.iter().zip(before).map(|(now, before)| (now - before).max(0) as u64).sum::<u64>()
        };
        let to_return = at_source.topics.iter().map(grown).sum();
        Ok(ReturnPreview { at_source, to_return })
    }

    /// Leave the target in the source's place after all, if it was about to lose it. What was under way then.
    ///
    /// # Errors
    /// The target does not answer, or somebody else has changed it.
    pub fn call_off_return(&self) -> Result<Option<FailedOver>, Failure> {
        let Some(stored) = self.see_genesis()? else { return Ok(None) };
        let Some(over) = stored.genesis.failover.clone().filter(FailedOver::is_returning) else { return Ok(None) };
        // A person has said so: it does not go back by itself.
        let next = FailedOver { phase: Phase::Over, since_ms: now_ms(), reason: Reason::Manual, ..over.clone() };
        self.replace_genesis(&stored, stored.genesis.failing_over(next))?.ok_or_else(overtaken)?;
        self.see_genesis()?;
        self.events.push(Event::new("failback-called-off", "the target keeps the source's place"));
        Ok(Some(over))
    }

    /// Begin to give the source its place back, or go on with it here instead of at another daemon: a person wants it.
    ///
    /// # Errors
    /// See [`ReturnError`].
    pub fn begin_return(&self, reason: Reason, by: &str) -> Result<FailedOver, ReturnError> {
        loop {
            let stored = self.see_genesis()?.ok_or(ReturnError::NotOver)?;
            if let Some(begun) = self.try_return(&stored, reason, by)? {
                return Ok(begun);
            }
        }
    }

    /// The same, because of what was `seen`. If it has changed since, nothing is done: a person may have decided otherwise.
    ///
    /// # Errors
    /// See [`ReturnError`].
    pub fn begin_return_of(&self, seen: &FailedOver, reason: Reason, by: &str) -> Result<(), ReturnError> {
        match self.see_genesis()?.filter(|stored| stored.genesis.failover.as_ref() == Some(seen)) {
            Some(stored) => self.try_return(&stored, reason, by).map(drop),
            None => Ok(()),
        }
    }

    /// Begin it, if `stored` is what stands there still.
    fn try_return(&self, stored: &Stored, reason: Reason, by: &str) -> Result<Option<FailedOver>, ReturnError> {
        let over = stored.genesis.failover.clone().ok_or(ReturnError::NotOver)?;
        let next = match over.phase {
            Phase::Fencing => return Err(ReturnError::Fencing),
            Phase::Over => {
                self.note_what_source_has(&over)?;
                let back = self.claim_way_back(&over)?;
                let (by, since_ms) = (by.to_owned(), now_ms());
                let next = FailedOver { phase: Phase::Returning, back, by, reason, since_ms, ..over };
                FailedOver { because: None, drained: None, ..next }
            }
            Phase::Returning | Phase::Closing if *over.daemon == **self.daemon() => return Ok(Some(over)),
            Phase::Returning | Phase::Closing => over,
        };
        let next = FailedOver { daemon: self.daemon().to_string(), ..next };
        if self.replace_genesis(stored, stored.genesis.failing_over(next.clone()))?.is_none() {
            return Ok(None);
        }
        self.see_genesis()?;
        self.events.push(Event::new("failing-back", format!("the source is given its place back, says {by}")));
        Ok(Some(next))
    }

    /// The number of the failback link of a failover: the first one that no other failover has used at the source. It
    /// is the same whenever it is asked for, by whichever daemon.
    fn claim_way_back(&self, over: &FailedOver) -> Result<Option<u32>, Failure> {
        let Some(failover) = over.id.as_deref().map(str::as_bytes) else {
            // An older tidegate may have begun a failback of it, under the number that follows from the epoch.
            return Ok(None);
        };
        let source = self.source();
        let mut number = over.epoch;
        loop {
            let id: LinkId = failback_id(&self.config().id, number).into();
            match source.metadata(&id, FAILBACK_OF)? {
                Some(owner) if owner == failover => return Ok(Some(number)),
                None if source.metadata(&id, GENESIS)?.is_none() => {
                    // If another target's link is faster, it owns this number.
                    if source.replace_metadata(&id, FAILBACK_OF, None, failover)? {
                        return Ok(Some(number));
                    }
                }
                // Of another failover; without an owner, of one that an older tidegate took back.
                Some(_) | None => number += 1,
            }
        }
    }

    /// The failback, if it is still for us to do.
    fn our_return(&self) -> Result<(Stored, FailedOver), Failure> {
        let stored = self.see_genesis()?.ok_or_else(overtaken)?;
        let over = stored.genesis.failover.clone().filter(|over| *over.daemon == **self.daemon());
        let over = over.filter(FailedOver::is_returning).ok_or_else(overtaken)?;
        Ok((stored, over))
    }

    /// Let the lanes of this failback link run again, if they were shut out and `forward` is failing back here still.
    ///
    /// # Errors
    /// Another daemon sees to it, or a cluster does not answer.
    pub fn let_in(&self, forward: &Self) -> Result<(), Failure> {
        let Some(stored) = self.stored_genesis()?.filter(|stored| stored.genesis.failover.is_some()) else {
            return Ok(());
        };
        // Whose turn it is counts after the read: whoever shuts lanes out later changes what was read.
        forward.our_return()?;
        self.replace_genesis(&stored, stored.genesis.returned())?.ok_or_else(overtaken)?;
        self.see_genesis()?;
        self.alarm.ring();
        Ok(())
    }

    /// Shut all lanes of this failback link out of its target: everything is back, and no daemon that stood still may
    /// copy what the link itself copies from now on. As with a failover its record says so first, and then its lanes
    /// are fenced.
    ///
    /// # Errors
    /// The target does not answer, or somebody else has changed the record.
    pub fn shut_out(&self, over: &FailedOver) -> Result<ShutOut, Failure> {
        let stored = match self.stored_genesis()? {
            Some(stored) => stored,
            // Its lanes have not begun: those of others must not either.
            None => {
                self.genesis()?;
                self.stored_genesis()?.ok_or_else(overtaken)?
            }
        };
        let shut = FailedOver {
            // Another one each time: what was read before does not count any more.
            epoch: stored.genesis.link_epoch + 1,
            id: None,
            back: None,
            phase: Phase::Over,
            daemon: self.daemon().to_string(),
            since_ms: now_ms(),
            drained: Some(true),
            tries: 0,
            ..over.clone()
        };
        let stored = self.replace_genesis(&stored, stored.genesis.failing_over(shut.clone()))?.ok_or_else(overtaken)?;
        self.see_genesis()?;
        self.fence(&stored.genesis, &shut)?;
        Ok(ShutOut(()))
    }

    /// Say how far it is, if it is still for us to do.
    ///
    /// # Errors
    /// Another daemon sees to it, or the target does not answer.
    pub fn turn_return(&self, phase: Phase) -> Result<FailedOver, Failure> {
        let (stored, over) = self.our_return()?;
        if over.phase == phase {
            return Ok(over);
        }
        let next = FailedOver { phase, ..over };
        self.replace_genesis(&stored, stored.genesis.failing_over(next.clone()))?.ok_or_else(overtaken)?;
        self.see_genesis()?;
        Ok(next)
    }

    /// The source has its place again: write it down, and let the lanes go on.
    ///
    /// # Errors
    /// Another daemon sees to it, or the target does not answer.
    pub fn end_return(
        &self,
        _: ShutOut,
        groups_moved: Vec<String>,
        warnings: Vec<String>,
    ) -> Result<FailoverRecord, Failure> {
        let over = self.turn_return(Phase::Closing)?;
        let record = FailoverRecord {
            direction: Direction::Failback,
            epoch: over.epoch,
            reason: over.reason,
            because: over.because,
            by: over.by,
            begun_ms: over.since_ms,
            done_ms: now_ms(),
            drained: Some(true),
            left: self.unreplicated(over.epoch)?.and_then(|written| written.left()),
            groups_moved,
            warnings,
        };
        let stored = self.see_genesis()?.ok_or_else(overtaken)?;
        let is_ours = |over: &FailedOver| over.phase == Phase::Closing && *over.daemon == **self.daemon();
        if !stored.genesis.failover.as_ref().is_some_and(is_ours) {
            return Err(overtaken().into());
        }
        self.put_returned(over.epoch, &self.target_now(over.epoch)?)?;
        // Whoever dies in between has listed what counts as soon as somebody says so in the genesis.
        self.put_record(&record)?;
        self.replace_genesis(&stored, stored.genesis.returned())?.ok_or_else(overtaken)?;
        self.see_genesis()?;
        self.places.has_news.store(true, Relaxed);
        tracing::warn!(link = &*self.config().id, epoch = record.epoch, "the source has its place again");
        self.events.push(Event::new("failed-back", "the source has its place again"));
        Ok(record)
    }

    /// Note what the source has that was not replicated, before anything goes back to it; and where all partitions end
    /// that the link reads, those included that it had not begun to read; and what the failback is to put on records.
    /// Whoever goes on with it puts the same there, and the link leaves that out: see [`super::returned_to_source`].
    ///
    /// After a failback that was called off, what was written since the first one began counts as not replicated, too.
    fn note_what_source_has(&self, over: &FailedOver) -> Result<(), Failure> {
        let known = self.positions(over.epoch)?.unwrap_or_default();
        let mut now = self.source_now(&known)?.topics;
        for (partition, range) in self.ranges_of_all()? {
            let topic = now.entry(partition.topic.to_string()).or_default();
            topic.source_ends.entry(partition.partition).or_insert(range.end);
            topic.next.entry(partition.partition).or_insert(range.log_start);
        }
        let now = Positions::new(now).returning(over.id.clone());
        let first = self.put_written_at_source(over.epoch, now.clone())?;
        if first != now {
            self.put_written_since(over.epoch, &now.since(&first))?;
        }
        Ok(())
    }

    /// Where the source ends now in the partitions that were known at a failover.
    fn source_now(&self, known: &Positions) -> Result<Positions, Failure> {
        let now = |topic: &TopicPositions| TopicPositions {
            source_ends: BTreeMap::new(),
            target_ends: Vec::new(),
            ..topic.clone()
        };
        let mut topics = known.topics.iter().map(|(name, topic)| (name.clone(), now(topic))).collect();
        self.fill_source_ends(&mut topics)?;
        Ok(Positions::new(topics))
    }

    /// Where the target ends now in the topics that were known at a failover.
    fn target_now(&self, epoch: u32) -> Result<Positions, Failure> {
        let mut topics = self.positions(epoch)?.unwrap_or_default().topics;
        self.fill_target_ends(&mut topics)?;
        // What has gone back is before these.
        self.fill_source_ends(&mut topics)?;
        Ok(Positions::new(topics))
    }

    /// A link that copies back what was written to the target since a failover.
    ///
    /// # Errors
    /// The target cannot be read, does not know where the link was, or nobody has begun the failback.
    pub fn way_back(&self, over: &FailedOver) -> Result<LinkConfig, Failure> {
        let forward = self.config();
        let positions = self.positions(over.epoch)?.ok_or_else(|| {
            let message = format!("the target does not say where the link was at failover {}", over.epoch);
            Failure::fatal("failovers-unreadable", message, "restore the target")
        })?;
        let begun = self.written_at_source(over.epoch)?.ok_or_else(|| {
            let message = format!("the target does not say that failback {} has begun", over.epoch);
            Failure::fatal("failovers-unreadable", message, "restore the target")
        })?;
        let mut start = BTreeMap::new();
        let mut names = BTreeMap::new();
        let there: BTreeSet<Arc<str>> = self.source().topics()?.into_iter().map(|topic| topic.name).collect();
        let mut now = positions.topics.clone();
        self.fill_target_ends(&mut now)?;
        // One that the source has not any more was deleted there, unless something was written to it since.
        let goes_back = |name: &String, topic: &TopicPositions| {
            there.contains(name.as_str()) || now.get(name).is_some_and(|now| now.target_ends != topic.target_ends)
        };
        for (source, topic) in positions.topics.iter().filter(|(name, topic)| goes_back(name, topic)) {
            names.insert(topic.target.clone(), source.clone());
            let ends = (0..).zip(&topic.target_ends);
            start.extend(ends.map(|(number, end)| (TopicPartition::new(topic.target.as_str(), number), *end)));
        }
        let unread = self.unreplicated(over.epoch)?.unwrap_or_default().unread();
        let (leave_out, mark) = (forward.source.to_string(), Some(forward.target.to_string()));
        let provenance = Provenance { leave_out, mark, returned: begun.failover };
        Ok(LinkConfig {
            id: over.way_back_id(&forward.id).into(),
            topology: Topology::ActivePassive,
            is_reverse: false,
            name: format!("{}, the way back", forward.name),
            // What the link has aborted there is nobody's record.
            config: TransferConfig { isolation: Isolation::ReadCommitted, ..forward.config.clone() },
            source: forward.target.clone(),
            target: forward.source.clone(),
            topics: names.keys().map(|name| TopicSelector::Name(name.as_str().into())).collect(),
            topics_exclude: Vec::new(),
            rename: vec![Rename::names(names)],
            topic_prefix: String::new(),
            heartbeat_interval: None,
            autostart: true,
            start: Start::Offsets(start),
            start_is_said: true,
            builtins: Builtins { provenance: Some(provenance), ..Builtins::default() },
            groups: GroupSync { unread, ..forward.groups.clone() },
            pipeline: Vec::new(),
            failover: crate::config::FailoverConfig::default(),
            following: forward.following.making_only(),
            written: None,
            ..forward.clone()
        })
    }
}
