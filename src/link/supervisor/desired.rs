//! What a link was told to do, as it is kept in its target.

use super::Link;
use crate::connector::Cluster;
use crate::link::failure::Failure;
use crate::link::orders::{Desired, Order};
use crate::link::status::lock;
use crate::model::time::now_ms;
use crate::model::{LinkId, encode};

/// Where the desired state is kept in the target.
const DESIRED: &str = "desired";

impl Link {
    /// What the desired state says, or the configuration if nobody has said anything yet.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn desired(&self) -> Result<Desired, Failure> {
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
