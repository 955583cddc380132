//! A link that several daemons run: which lanes are ours, and what others have said and done.
//!
//! The target is all that daemons have in common. The group of its cluster says who has which lane, what a person said to one daemon is read there by the
//! others, and so is how far lanes have come that run elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::TryLockError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::genesis::Genesis;
use super::orders::{Desired, Turn};
use super::revision::Origin;
use super::status::{LaneState, LaneStatus, Progress, lock};
use super::supervisor::{Link, Running, Shared};
use crate::connector::{Class, Membership, Standing};
use crate::model::layout::FIRST_GENERATION;
use crate::model::partition::lane_of;
use crate::model::{Checkpoint, TopicPartition};

/// How long the group is listened to before the orders are looked at again.
const LISTEN: Duration = Duration::from_millis(100);

/// How soon after an error the group is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How soon it is tried to get a name back that another daemon uses.
const ASK_A_RIVAL_AFTER: Duration = Duration::from_secs(20);

/// Take part in the group until the link is stopped, and tell the lanes which of them are ours.
pub(super) fn take_part(shared: &Shared, mut membership: Box<dyn Membership>) {
    while shared.orders.desired() != Desired::Stopped {
        match membership.poll(LISTEN) {
            Ok(standing) => {
                shared.set_trouble(None);
                if let Some(standing) = standing {
                    shared.orders.assign(standing);
                }
            }
            Err(error) => {
                let mut wait = ASK_AGAIN_AFTER;
                if error.class == Class::Fenced {
                    // Another daemon has our name, and with it our lanes.
                    shared.orders.assign(Standing { lanes: BTreeSet::new(), confirmed: Instant::now() });
                    wait = ASK_A_RIVAL_AFTER;
                }
                shared.set_trouble(Some(error.into()));
                shared.orders.wait_for_stop(wait);
            }
        }
    }
    if shared.orders.is_leaving() {
        membership.leave();
    }
}

impl Shared {
    /// Remember why the group cannot be listened to.
    pub(super) fn set_trouble(&self, trouble: Option<Failure>) {
        let mut known = lock(&self.trouble);
        if let Some(new) = trouble.as_ref().filter(|new| known.as_ref().is_none_or(|old| old.code != new.code))
            && let Some(news) = self.repeats.news(format!("group: {new}"), Instant::now())
        {
            tracing::warn!(link = &*self.config.id, code = new.code, repeated = news.repeated, "{new}");
        }
        *known = trouble;
    }
}

impl Link {
    /// Whether this daemon does what is to be done once for the whole link.
    pub fn leads(&self) -> bool {
        lock(&self.view).shared.as_ref().is_some_and(|shared| shared.orders.turn(0) == Turn::Here)
    }

    /// How often it was said where the link goes on, as far as this daemon has heard.
    pub(super) fn resets_told(&self) -> u64 {
        lock(&self.told).as_ref().map_or(0, |told| told.resets)
    }

    /// Do what was said to another daemon.
    pub(super) fn follow_others(&self) -> Result<(), Failure> {
        let version = self.target().metadata_version()?;
        if *lock(&self.followed) == Some(version) {
            return Ok(());
        }
        // Whoever looks here must not be shown less than the lanes here know.
        self.expect_news();
        let outlived = lock(&self.view).shared.as_ref().is_some_and(|shared| shared.outlived.load(Relaxed));
        let mut running = match self.running.try_lock() {
            Ok(running) => running,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever publishes all the time must not keep dead lanes alive.
            Err(TryLockError::WouldBlock) if outlived => lock(&self.running),
            // Somebody is just saying something here. There is a next time.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        self.follow_throttle()?;
        self.follow_genesis(&mut running)?;
        let heard_all = self.follow_order(&mut running)?;
        self.follow_history(&mut running)?;
        *lock(&self.followed) = heard_all.then_some(version);
        Ok(())
    }

    /// Whether there is nothing left to do.
    fn follow_order(&self, running: &mut Option<Running>) -> Result<bool, Failure> {
        if self.ahead().is_some() {
            // What was said here is to be stored first.
            return Ok(false);
        }
        let Some(order) = self.stored_order()? else { return Ok(true) };
        if lock(&self.told).as_ref() == Some(&order) {
            return Ok(true);
        }
        if order.definition > self.definition {
            // It was said for what the link is to be, and here it is not yet so.
            return Ok(false);
        }
        tracing::info!(link = &*self.config().id, desired = ?order.desired, "told by another daemon");
        let desired = order.desired;
        *lock(&self.told) = Some(order);
        self.bring_or_retry(running, desired)?;
        Ok(true)
    }

    /// Take over what another daemon has published.
    fn follow_history(&self, running: &mut Option<Running>) -> Result<(), Failure> {
        let Some(Running { shared, .. }) = running else { return Ok(()) };
        let history = self.history()?;
        let Some(newest) = history.last().filter(|newest| newest.number > shared.slot.load().number()) else {
            return Ok(());
        };
        let watch = self.watch(&history, Some(shared));
        let pipeline = self.components.pipeline(&history, newest.clone(), &shared.guard, watch)?;
        pipeline.make_spares(&self.config().id, shared.config.lanes)?;
        self.announce(newest);
        shared.take_over(pipeline);
        shared.orders.notify();
        // Who has brought it back has only opened lanes there.
        if newest.origin == Origin::Automatic { self.restart_failed(running) } else { Ok(()) }
    }

    /// Look how far the lanes have come that run elsewhere, and where.
    pub(super) fn look_elsewhere(&self) -> Result<(), Failure> {
        let Some(shared) = lock(&self.view).shared.clone() else { return Ok(()) };
        let is_elsewhere = |lane: &u32| lock(&shared.lanes[*lane as usize]).state == LaneState::Elsewhere;
        if !(0..shared.config.lanes).any(|lane| is_elsewhere(&lane)) {
            return Ok(());
        }
        let mut found = self.lanes_of(shared.config.lanes, shared.genesis.generation)?;
        let daemons = self.target().daemons(&shared.config.id)?;
        for (number, found) in (0..).zip(&mut found).filter(|(number, _)| is_elsewhere(number)) {
            let daemon =
                daemons.iter().find(|(_, colleague)| colleague.lanes.contains(&number)).map(|(name, _)| name.clone());
            // A lane without partitions has nothing to commit under a revision.
            let newest = shared.slot.load().number();
            let mut status = lock(&shared.lanes[number as usize]);
            if status.state == LaneState::Elsewhere {
                status.revision = Some(found.revision.unwrap_or(newest));
                status.committed = std::mem::take(&mut found.committed);
                status.daemon = daemon;
            }
        }
        shared.orders.notify();
        Ok(())
    }

    /// The lanes as the target knows them.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lanes_in_target(&self) -> Result<Vec<LaneStatus>, Failure> {
        self.lanes_as(self.known_genesis()?.as_ref())
    }

    /// The same, of a link whose genesis was read.
    pub(super) fn lanes_as(&self, known: Option<&Genesis>) -> Result<Vec<LaneStatus>, Failure> {
        let lanes = known.map_or((self.config().lanes, FIRST_GENERATION), |known| (known.lanes, known.generation));
        self.lanes_of(lanes.0, lanes.1)
    }

    /// How far it has come, by source partition, as the target has it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn checkpoints(&self) -> Result<BTreeMap<TopicPartition, Checkpoint>, Failure> {
        let generation = self.known_genesis()?.map_or(FIRST_GENERATION, |known| known.generation);
        Ok(self.target().checkpoints(&self.config().id, generation)?)
    }

    /// So many lanes as the target knows them, of a generation.
    fn lanes_of(&self, count: u32, generation: u32) -> Result<Vec<LaneStatus>, Failure> {
        let mut lanes = vec![LaneStatus::default(); count as usize];
        for (partition, checkpoint) in self.target().checkpoints(&self.config().id, generation)? {
            let lane = &mut lanes[lane_of(&partition, count) as usize];
            lane.revision = lane.revision.max(Some(checkpoint.revision));
            lane.committed.insert(partition, Progress { next_offset: checkpoint.next_offset, ..Progress::default() });
        }
        Ok(lanes)
    }
}
