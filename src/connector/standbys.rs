//! Topics that stand by for links.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Error;
use crate::model::{LinkId, Standby, StandbyTopics};

/// The standby topics of a cluster: it accepts records for them from their links only.
pub trait Standbys {
    /// As [`Cluster::replace_metadata`](super::Cluster::replace_metadata), and in the same transaction change whether the link's topics stand by. `value`: `None` keeps what is stored.
    fn replace(
        &self,
        link: &LinkId,
        key: &str,
        known: Option<&[u8]>,
        value: Option<&[u8]>,
        standby: Option<Standby>,
    ) -> Result<bool, Error>;

    /// Add topics to those that stand by for the link; `only`: remove all others. Does nothing for a link that was released.
    fn guard(&self, link: &LinkId, topics: StandbyTopics, only: bool) -> Result<(), Error>;

    /// Remove all guards of the link.
    fn release(&self, link: &LinkId) -> Result<(), Error>;

    /// The topics that take no records of the link, because they stand by for others: each with one of these.
    fn guarded_by_others(&self, link: &LinkId) -> Result<BTreeMap<Arc<str>, LinkId>, Error>;

    /// The topics that stand by for the link, or did before they were promoted.
    fn standby_topics(&self, link: &LinkId) -> Result<StandbyTopics, Error>;
}
