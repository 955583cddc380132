//! Which topics a link reads, what they are called in the target, and how those are kept like their source.
//!
//! Reading order: this file (what was found, for lanes), [`plan`] (the difference between source and target, pure), `follow` (the thread that finds
//! topics and carries the plan out), `owner` (which link keeps a topic's settings), [`notices`] (what people should know).
//!
//! Invariants
//! - A name is matched once for the whole link, however many lanes there are.
//! - A lane hears of a topic only when its target is there: making topics holds nobody up who has records.
//! - What a plan shows and what is done comes from one function.
//! - A topic that cannot be copied is left out and named; it never keeps the others from being copied. The one exception: two topics that
//!   were both copied would become one.
//! - Nothing is ever deleted in the target.

mod follow;
pub mod notices;
mod owner;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use self::notices::{Notice, Notices};
pub use self::owner::release_claims;
use super::failure::Failure;
use super::warden::Alarm;
use crate::config::{Kept, LinkConfig, Refused, Writing};
use crate::connector::Topic;
use crate::model::LinkId;

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
    /// Why the link cannot go on at all, if it cannot.
    pub(super) refused: Option<Failure>,
    /// The topics that it leaves out although it selects them, and why: none of them keeps it from going on.
    pub(super) left_out: Vec<Notice>,
}

/// The names that were seen.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each with that of its copy in the target, or why it is left out.
    of: HashMap<Arc<str>, Result<Option<Arc<str>>, Refused>>,
    /// What links kept for themselves when they were matched.
    kept: Arc<Vec<Kept>>,
}

impl Names {
    /// Take out what is known, unless links have come or gone since.
    fn take(&mut self, kept: Arc<Vec<Kept>>) -> HashMap<Arc<str>, Result<Option<Arc<str>>, Refused>> {
        let known = std::mem::take(&mut self.of);
        let before = std::mem::replace(&mut self.kept, kept);
        if *before == *self.kept { known } else { HashMap::new() }
    }

    /// Whether the source has a topic of this name.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.of.contains_key(topic)
    }
}

/// Choose from the topics of a source. Names that are known are not matched again. `read`: what lanes read now. `copied`: the topics that the link has copied before,
/// whether the source has them now or not; it is asked only where a topic may become what another one has become already.
pub(super) fn select(
    config: &LinkConfig,
    topics: Vec<Topic>,
    names: &mut Names,
    read: &Found,
    copied: impl FnOnce() -> Result<BTreeSet<Arc<str>>, Failure>,
) -> Result<Selection, Failure> {
    let mut known = names.take(config.kept.now());
    let mut selection = Selection::default();
    let mut by_target: BTreeMap<Arc<str>, Vec<Topic>> = BTreeMap::new();
    for topic in topics {
        let copy = known.remove(&topic.name);
        let copy = copy.unwrap_or_else(|| config.copy_of(&topic.name).map(|copy| copy.map(Into::into)));
        names.of.insert(topic.name.clone(), copy.clone());
        match copy {
            Ok(None) => {}
            Ok(Some(target)) => by_target.entry(target).or_default().push(topic),
            Err(refused) => selection.left_out.push(left_out(config, &topic.name, &refused)),
        }
    }
    let is_new = |topic: &Topic| !read.topics.contains_key(&topic.name);
    // Only renaming makes one name of two.
    let may_collide = !config.rename.is_empty() && by_target.values().flatten().any(is_new);
    let mut before: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
    for topic in if may_collide { copied()? } else { BTreeSet::new() } {
        if let Ok(Some(copy)) = config.copy_of(&topic) {
            before.entry(copy.into()).or_default().insert(topic);
        }
    }
    for (target, topics) in by_target {
        let before = before.remove(&target).unwrap_or_default();
        selection.choose(&target, topics, &before);
    }
    selection.chosen.sort_by(|one, other| one.topic.name.cmp(&other.topic.name));
    Ok(selection)
}

impl Selection {
    /// Choose one of the topics that would become `target`: the one that was copied `before`, or the only one if none was.
    fn choose(&mut self, target: &Arc<str>, mut topics: Vec<Topic>, before: &BTreeSet<Arc<str>>) {
        let is_hidden = |name: &Arc<str>| topics.iter().all(|topic| topic.name != *name);
        if topics.len() > 1 || before.iter().any(is_hidden) {
            let (copied, others): (Vec<_>, Vec<_>) = topics.into_iter().partition(|topic| before.contains(&topic.name));
            let failure = collision(target, before, &others);
            topics = copied;
            if topics.len() > 1 {
                self.refused.get_or_insert(failure);
                return;
            }
            self.left_out.extend(others.iter().map(|topic| Notice::of(&topic.name, failure.clone())));
        }
        self.chosen.extend(topics.into_iter().map(|topic| Chosen { topic, target: target.clone() }));
    }

    /// Leave out the topics whose copies stand by for other links.
    pub(super) fn leave_to(&mut self, config: &LinkConfig, guarded: &BTreeMap<Arc<str>, LinkId>) {
        self.chosen.retain(|Chosen { topic, target }| {
            let Some(link) = guarded.get(target) else { return true };
            let refused = Refused::stands_by(Writing::Copies(config), target, link.clone());
            self.left_out.push(left_out(config, &topic.name, &refused));
            false
        });
    }
}

/// Topics would become one: those that were copied `before`, and `others`.
fn collision(target: &str, before: &BTreeSet<Arc<str>>, others: &[Topic]) -> Failure {
    let names = |names: &mut dyn Iterator<Item = &Arc<str>>| names.map(|name| &**name).collect::<Vec<_>>().join(", ");
    let others = names(&mut others.iter().map(|topic| &topic.name));
    let copied = names(&mut before.iter());
    let (message, remedy) = match before.len() {
        0 => (
            format!("{others} would all become {target}: none of them is copied"),
            "change `rename`, so that each topic has a name of its own, or leave all but one out with topics_exclude",
        ),
        1 => (
            format!("{others} would become {target}, as {copied} does, which was copied first: only that is copied"),
            "change `rename`, so that each topic has a name of its own, or leave one of them out with topics_exclude",
        ),
        _ => (
            format!("{copied} were copied, and would all become {target}"),
            "change `rename`, so that each topic has a name of its own, or narrow the link's topics",
        ),
    };
    Failure::fatal("topics-collide", message, remedy)
}

fn left_out(config: &LinkConfig, topic: &Arc<str>, refused: &Refused) -> Notice {
    let failure = Failure::refused(Writing::Copies(config), refused);
    Notice::of(topic, Failure { message: format!("topic {topic} is left out: {refused}"), ..failure })
}

/// What has become of a look for topics.
pub(super) struct Looked {
    /// What lanes read.
    pub(super) found: Arc<Found>,
    /// Whether all copies are there, with as many partitions as their sources.
    pub(super) is_all_made: bool,
}

/// What lanes read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Grows with each change.
    pub(super) number: u64,
    /// The topics, by name, whose targets are there.
    pub(super) topics: BTreeMap<Arc<str>, Chosen>,
    /// The topics that are there and cannot be copied now; notices say why.
    pub(super) held: BTreeSet<Arc<str>>,
    /// Why no lane can go on, if none can.
    pub(super) refused: Option<Failure>,
}

impl Found {
    /// Whether a topic that the link has read and does not read now is not at the source any more.
    pub(super) fn is_gone(&self, topic: &str) -> bool {
        self.refused.is_none() && !self.held.contains(topic)
    }

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

    /// Have lanes read what was found now.
    fn publish(&self, now: Found) -> Arc<Found> {
        let before = self.found();
        let is_same = before.topics == now.topics && before.held == now.held && before.refused == now.refused;
        if before.number > 0 && is_same {
            return before;
        }
        let found = Arc::new(Found { number: before.number + 1, ..now });
        self.found.store(found.clone());
        found
    }
}
