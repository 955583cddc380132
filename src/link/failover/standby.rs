//! Standby topics. A target that can refuse records ([`Standbys`]) stores which topics stand by, and changes that in the same transaction as the genesis that decides
//! it. So a restart loses no guard, and no record is accepted between a check and an append.
//!
//! A topic is guarded as soon as the configuration, a checkpoint or a topic of the source names it, and before the link creates it. It stays guarded as long as the
//! link would copy to it, whether the source answers or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Phase;
use crate::config::LinkConfig;
use crate::connector::{Cluster, Standbys};
use crate::link::failure::Failure;
use crate::link::genesis::{GENESIS, Genesis, of_lanes, read};
use crate::link::supervisor::Link;
use crate::model::{LinkId, Standby, StandbyTopics};

/// What the link's topics are, as its genesis says; `None`: none of them is to take the place of another one.
pub(in crate::link) fn standby(config: &LinkConfig, genesis: Option<&Genesis>) -> Option<Standby> {
    let over = genesis.and_then(|genesis| genesis.failover.as_ref());
    config.failover.enabled.then(|| match over.map(|over| over.phase) {
        Some(Phase::Over | Phase::Returning) => Standby::Promoted,
        Some(Phase::Fencing | Phase::Closing) | None => Standby::Guarded,
    })
}

/// Have the copies of topics of the source stand by, before they are made.
pub(in crate::link) fn guard(
    config: &LinkConfig,
    target: &dyn Cluster,
    sources: impl Iterator<Item = Arc<str>>,
) -> Result<(), Failure> {
    let Some(standbys) = target.standbys().filter(|_| config.failover.enabled) else { return Ok(()) };
    let known = standbys.standby_topics(&config.id)?;
    let mut news = copies(config, sources);
    news.retain(|topic, _| !known.contains_key(topic));
    if !news.is_empty() {
        standbys.guard(&config.id, news, false)?;
    }
    Ok(())
}

/// The topics of the target that stand by for other links and take no records of this one, each with the link.
pub(in crate::link) fn guarded_by_others(
    target: &dyn Cluster,
    link: &LinkId,
) -> Result<BTreeMap<Arc<str>, LinkId>, Failure> {
    Ok(target.standbys().map_or(Ok(BTreeMap::new()), |standbys| standbys.guarded_by_others(link))?)
}

/// The topics that the link copies, by the names of their copies.
fn copies(config: &LinkConfig, sources: impl Iterator<Item = Arc<str>>) -> StandbyTopics {
    let read = sources.filter(|source| config.selects(source));
    read.map(|source| (config.target_topic(&source).into(), source)).collect()
}

impl Link {
    /// Have the target guard the link's topics, and no others, as its configuration and its genesis say. The daemon calls this before it hosts the link.
    ///
    /// # Errors
    /// The target cannot be read or written. Its guards stay as they were.
    pub fn stand_by(&self) -> Result<(), Failure> {
        let Some(standbys) = self.target().standbys() else { return Ok(()) };
        let (config, id) = (self.config(), &self.config().id);
        if !config.failover.enabled {
            return Ok(standbys.release(id)?);
        }
        loop {
            let stored = read(&**self.target(), id)?;
            let (known, genesis) = (stored.as_ref().map(|it| it.bytes()), stored.as_ref().map(|it| &it.genesis));
            if standbys.replace(id, GENESIS, known, None, standby(config, genesis))? {
                break;
            }
        }
        standbys.guard(id, self.known_copies(standbys)?, true)?;
        // A remote source may not answer: the thread that follows its topics asks it.
        if self.source().standbys().is_some() { self.guard_source_topics() } else { Ok(()) }
    }

    /// Have the copies of all topics stand by that the source has now.
    pub(in crate::link) fn guard_source_topics(&self) -> Result<(), Failure> {
        if self.target().standbys().is_none() || !self.config().failover.enabled {
            return Ok(());
        }
        let topics = self.source().topics()?;
        guard(self.config(), &**self.target(), topics.into_iter().map(|topic| topic.name))
    }

    /// Whether the target refuses what others write to these of its topics while the link's topics stand by. Its guards
    /// say so: a target that could refuse records has none for a link without failover.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn refuses_others<'t>(&self, topics: impl IntoIterator<Item = &'t str>) -> Result<bool, Failure> {
        let Some(standbys) = self.target().standbys() else { return Ok(false) };
        let guarded = standbys.standby_topics(&self.config().id)?;
        Ok(topics.into_iter().all(|topic| guarded.contains_key(topic)))
    }

    /// The copies that are known without the source.
    fn known_copies(&self, standbys: &dyn Standbys) -> Result<StandbyTopics, Failure> {
        let (config, target) = (self.config(), &**self.target());
        let names = config.named_topics().cloned();
        let before = standbys.standby_topics(&config.id)?.into_values();
        let checkpoints = of_lanes(target, &config.id, |generation| Ok(target.checkpoints(&config.id, generation)?))?;
        let copied = checkpoints.into_keys().map(|partition| partition.topic);
        Ok(copies(config, names.chain(before).chain(copied)))
    }
}
