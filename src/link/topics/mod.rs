//! Which topics a link reads, what they are called in the target, and how those are kept like their source.
//!
//! Reading order: this file (what was found, for lanes), [`plan`] (the difference between source and target, pure), `follow` (the thread that finds
//! topics and carries the plan out), `owner` (which link keeps a topic's settings), [`notices`] (what people should know).
//!
//! Invariants
//! - A name is matched once for the whole link, however many lanes there are.
//! - A lane hears of a topic only when its target is there: making topics holds nobody up who has records.
//! - What a plan shows and what is done comes from one function.
//! - A topic that cannot be copied is left out and named; it never keeps the others from being copied.
//! - Nothing is ever deleted in the target.

mod follow;
pub mod notices;
mod owner;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

pub(super) use self::follow::Looked;
use self::notices::{Notice, Notices};
pub use self::owner::release_claims;
use super::failure::Failure;
use super::warden::Alarm;
use crate::config::{LinkConfig, Refused, Writing};
use crate::connector::Topic;

/// A topic that the link reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// As it is at the source.
    pub(super) topic: Topic,
    /// Its name in the target.
    pub(super) target: Arc<str>,
}

/// What the link reads, and what it cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// By name.
    pub(super) chosen: Vec<Chosen>,
    /// Why the link cannot go on with these topics, if it cannot.
    pub(super) refused: Vec<Failure>,
    /// The topics that it leaves out although it selects them, and why: none of them keeps it from going on.
    pub(super) left_out: Vec<Notice>,
}

/// The names that were seen, with those of their copies in the target, or why they are left out.
pub(super) type Names = HashMap<Arc<str>, Result<Option<Arc<str>>, Refused>>;

/// Choose from the topics of a source. Names that are known are not matched again.
pub(super) fn select(config: &LinkConfig, topics: Vec<Topic>, names: &mut Names) -> Selection {
    let mut known = std::mem::take(names);
    let mut selection = Selection::default();
    let mut sources: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    for topic in topics {
        let copy = known.remove(&topic.name);
        let copy = copy.unwrap_or_else(|| config.copy_of(&topic.name).map(|copy| copy.map(Into::into)));
        names.insert(topic.name.clone(), copy.clone());
        match copy {
            Ok(None) => {}
            Ok(Some(target)) => match sources.get(&target) {
                Some(other) => selection.refused.push(collision(other, &topic.name, &target)),
                None => {
                    sources.insert(target.clone(), topic.name.clone());
                    selection.chosen.push(Chosen { topic, target });
                }
            },
            Err(refused) => selection.left_out.push(left_out(config, &topic.name, &refused)),
        }
    }
    selection
}

fn collision(one: &str, other: &str, target: &str) -> Failure {
    Failure::fatal(
        "topics-collide",
        format!("{one} and {other} would both become {target}"),
        "change `rename`, so that each topic has a name of its own, or narrow the link's topics",
    )
}

fn left_out(config: &LinkConfig, topic: &Arc<str>, refused: &Refused) -> Notice {
    let failure = Failure::refused(Writing::Copies(config), refused);
    Notice::of(topic, Failure { message: format!("topic {topic} is left out: {refused}"), ..failure })
}

/// What lanes read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Grows with each change.
    pub(super) number: u64,
    /// The topics, by name, whose targets are there.
    pub(super) topics: BTreeMap<Arc<str>, Chosen>,
    /// Why no lane can go on, if none can.
    pub(super) refused: Option<Failure>,
}

impl Found {
    /// The most partitions of a topic.
    pub(super) fn most_partitions(&self) -> Option<u32> {
        self.topics.values().map(|chosen| chosen.topic.partitions).max()
    }
}

/// The topics of a link, for its lanes and for people.
#[derive(Default)]
pub(super) struct Topics {
    found: ArcSwap<Found>,
    /// Held by whoever finds topics.
    names: Mutex<Names>,
    /// What people should know of.
    pub(super) notices: Notices,
    /// Wakes the thread that finds topics.
    pub(super) alarm: Alarm,
}

impl Topics {
    /// What lanes read now.
    pub(super) fn found(&self) -> Arc<Found> {
        self.found.load_full()
    }

    /// The number of what lanes read now.
    pub(super) fn number(&self) -> u64 {
        self.found.load().number
    }

    fn publish(&self, topics: BTreeMap<Arc<str>, Chosen>, refused: Option<Failure>) -> Arc<Found> {
        let before = self.found();
        if before.number > 0 && before.topics == topics && before.refused == refused {
            return before;
        }
        let found = Arc::new(Found { number: before.number + 1, topics, refused });
        self.found.store(found.clone());
        found
    }
}
