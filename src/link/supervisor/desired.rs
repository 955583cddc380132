//! What a link was told to do, as it is kept in its target.

use super::{LINK_REPLACED, Link, OrderError};
use crate::connector::Cluster;
use crate::link::failure::Failure;
use crate::link::genesis::only_waits;
use crate::link::orders::{Desired, Order};
use crate::link::status::lock;
use crate::model::time::now_ms;
use crate::model::{LinkId, encode};

/// Where the desired state is kept in the target.
const DESIRED: &str = "desired";

impl Link {
    /// Change what the link is to do, durably, and wait until it does it.
    ///
    /// # Errors
    /// The target cannot be written, or the link cannot start. Or nobody looks after it any more: nobody would ever stop its lanes.
    pub fn order(&self, desired: Desired) -> Result<(), Failure> {
        Ok(self.carry_out(desired, None)?)
    }

    /// The same for what was said at `said_ms`, perhaps long ago: what was said later, and otherwise, counts.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn carry_out(&self, desired: Desired, said_ms: Option<i64>) -> Result<(), OrderError> {
        // What is stored and what runs change under one lock, or two orders at once could leave them apart.
        let mut running = lock(&self.running);
        if self.is_dismissed() {
            let message = "the link is being changed, or the daemon ends";
            return Err(OrderError::Unstored(Failure::fatal(LINK_REPLACED, message, "try again")));
        }
        if let Some(said_ms) = said_ms {
            let stored = self.stored_order().map_err(OrderError::Unstored)?;
            if stored.is_some_and(|stored| stored.at_ms > said_ms && stored.desired != desired) {
                return Err(OrderError::Outdated);
            }
        }
        self.store_order(&self.order_now(desired, None)).map_err(OrderError::Unstored)?;
        lock(&self.ahead).take_if(|ahead| *ahead == desired);
        match self.bring(&mut running, desired).inspect_err(|failure| self.fail(failure.clone())) {
            // It is done as soon as the lanes are what they become.
            Err(failure) if only_waits(failure.code) => Ok(()),
            done => done.map_err(OrderError::Undone),
        }
    }

    /// What was said here, what the desired state says, or the configuration if nobody has said anything yet.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn desired(&self) -> Result<Desired, Failure> {
        if let Some(ahead) = self.ahead() {
            return Ok(ahead);
        }
        let otherwise = if self.config.autostart { Desired::Running } else { Desired::Stopped };
        let (own, forward) = (self.stored_order()?, self.order_of_forward_way()?);
        // Both ways are started and stopped as one. While the link was one-way, only one was.
        let newest = own.into_iter().chain(forward).max_by_key(|order| order.at_ms);
        Ok(newest.map_or(otherwise, |order| order.desired))
    }

    pub(in crate::link) fn stored_order(&self) -> Result<Option<Order>, Failure> {
        Self::order_in(&*self.target, &self.config.id)
    }

    fn order_of_forward_way(&self) -> Result<Option<Order>, Failure> {
        match self.config.other_way_id().filter(|_| self.config.is_reverse) {
            Some(forward) => Self::order_in(&*self.source, &forward),
            None => Ok(None),
        }
    }

    fn order_in(target: &dyn Cluster, link: &LinkId) -> Result<Option<Order>, Failure> {
        let Some(bytes) = target.metadata(link, DESIRED)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::fatal("order-unreadable", format!("the link's desired state: {error}"), "start or stop the link")
        })
    }

    pub(in crate::link) fn store_order(&self, order: &Order) -> Result<(), Failure> {
        let text = encode("the link's desired state", order)?;
        self.store(DESIRED, &text)?;
        *lock(&self.told) = Some(order.clone());
        Ok(())
    }

    /// An order that is said now.
    pub(in crate::link) fn order_now(&self, desired: Desired, reason: Option<String>) -> Order {
        Order { desired, reason, at_ms: now_ms(), definition: self.definition, resets: self.resets_told() }
    }
}
