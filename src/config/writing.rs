//! One question, one answer: may this be written to that topic? Every path with a name from outside asks here: reading the configuration, publishing a plugin, finding
//! topics, and requests of clients.
//!
//! Two checks are made by clusters: the store refuses records for standby topics, and sinks refuse internal names a second time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::{ClusterId, LinkId};

use super::circle::{circle_of_route, would_loop};
use super::flow::Answer;
use super::link::LinkConfig;
use super::topics::{TopicSelector, check_topic_name, is_internal};

/// Who writes to a topic.
#[derive(Clone, Copy, Debug)]
pub enum Writing<'a> {
    /// A link: copies of a topic.
    Copies(&'a LinkConfig),
    /// A link: records that a plugin routes there.
    Routes(&'a LinkConfig),
    /// A link: records that could not be handled.
    DeadLetters(&'a LinkConfig),
    /// A client of the API.
    Client,
}

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub why: Why,
    /// The same as a sentence.
    message: String,
}

/// What is wrong with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No topic can have that name.
    Name(String),
    /// A program keeps it for itself.
    Internal,
    /// The link reads it.
    Loop,
    /// Other links bring what is there back to where the link reads.
    Circle(String),
    /// Other links are too many for it to be known whether they do.
    NotFollowed,
    /// It is for dead letters of the link.
    OwnDeadLetters,
    /// It is for dead letters of another link.
    DeadLettersOf(LinkId),
    /// It stands by for another link.
    StandsBy(LinkId),
    /// A topic that is copied there would come back under this name, which is another one.
    Strays(String),
    /// The name of the topic has this text too often already: links go on adding it.
    Grows(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Refused {
    /// A writer may not write to a topic.
    pub(super) fn of(writer: Writing<'_>, topic: &str, why: Why) -> Self {
        Self { message: writer.sentence(topic, &why), why }
    }

    /// A topic stands by for another link.
    pub fn stands_by(writer: Writing<'_>, topic: &str, link: LinkId) -> Self {
        Self::of(writer, topic, Why::StandsBy(link))
    }

    /// A stable word for this kind of refusal.
    pub fn code(&self) -> &'static str {
        match self.why {
            Why::Loop | Why::Circle(_) | Why::NotFollowed => "would-loop",
            Why::StandsBy(_) => "standing-by",
            Why::Strays(_) => "name-does-not-return",
            Why::Grows(_) => "name-grows",
            Why::Name(_) | Why::Internal | Why::OwnDeadLetters | Why::DeadLettersOf(_) => "invalid-topic-name",
        }
    }

    /// What a person can do.
    pub fn remedy(&self, writer: Writing<'_>) -> &'static str {
        match self.why {
            Why::Strays(_) => "have reverse.rename undo `rename`, or leave the topic out with topics_exclude",
            Why::Grows(_) => "leave out with topics_exclude what links have copied; delete by hand what is too much",
            Why::StandsBy(_) => "leave the topic out with topics_exclude, or choose another `rename` or `topic_prefix`",
            _ => writer.remedy(),
        }
    }
}

impl<'a> Writing<'a> {
    /// What a person can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Copies(_) => "choose another `rename`, `topic_prefix` or `dead_letters`",
            Self::Routes(_) => "have the plugin route elsewhere",
            Self::DeadLetters(_) | Self::Client => "choose another name",
        }
    }

    /// What would be so, with `why` it must not.
    fn sentence(&self, topic: &str, why: &Why) -> String {
        let which = match why {
            Why::Name(message) if matches!(self, Self::Client) => return message.clone(),
            Why::Name(message) => return format!("{}: {message}", self.clause(topic)),
            Why::Internal if matches!(self, Self::DeadLetters(_) | Self::Client) => {
                return format!("{topic:?} is a topic that a program keeps for itself");
            }
            Why::Internal => "which a program keeps for itself".to_owned(),
            Why::Loop => "which the link itself reads".to_owned(),
            Why::Circle(circle) => format!("and come back: {circle}"),
            Why::NotFollowed => "and may come back: the links around it copy too much to be followed".to_owned(),
            Why::OwnDeadLetters => "where the link puts dead letters".to_owned(),
            Why::DeadLettersOf(link) => format!("where links.{link} puts dead letters"),
            Why::StandsBy(link) => format!("which stands by for links.{link}: only that writes to it"),
            Why::Strays(back) => format!("and come back as {back:?}"),
            Why::Grows(added) => format!("with one more {added:?}: links add it again and again"),
        };
        format!("{}, {which}", self.clause(topic))
    }

    fn clause(&self, topic: &str) -> String {
        match self {
            Self::Copies(_) => format!("its copy would be {topic:?}"),
            Self::Routes(_) => format!("the plugin would route to {topic:?}"),
            Self::DeadLetters(_) => format!("dead letters would go to {topic:?}"),
            Self::Client => format!("records would go to {topic:?}"),
        }
    }

    fn link(&self) -> Option<&'a LinkConfig> {
        match self {
            Self::Copies(link) | Self::Routes(link) | Self::DeadLetters(link) => Some(link),
            Self::Client => None,
        }
    }
}

/// What a link keeps for itself in its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    link: LinkId,
    cluster: ClusterId,
    dead_letters: Arc<str>,
    /// The topics that stand by, as far as names in the configuration tell.
    standbys: BTreeSet<Arc<str>>,
}

impl Kept {
    /// What this link keeps.
    pub fn of(link: &LinkConfig) -> Self {
        let copies = link.named_topics().filter(|name| link.failover.enabled && link.lets_in(name));
        Self {
            link: link.id.clone(),
            cluster: link.target.clone(),
            dead_letters: link.dead_letters.as_str().into(),
            standbys: copies.map(|name| link.target_topic(name).into()).collect(),
        }
    }

    fn why(&self, topic: &str, writer_stands_by: bool) -> Option<Why> {
        if self.standbys.contains(topic) && !writer_stands_by {
            return Some(Why::StandsBy(self.link.clone()));
        }
        (*topic == *self.dead_letters).then(|| Why::DeadLettersOf(self.link.clone()))
    }
}

/// What all known links keep for themselves. Whoever asks what a link may write finds it here: every copy of a [`LinkConfig`] shares it, and the daemon
/// replaces it when links come and go.
#[derive(Clone, Debug, Default)]
pub struct KeptByAll(Arc<ArcSwap<Vec<Kept>>>);

impl KeptByAll {
    /// What these links keep.
    pub fn of<'a>(links: impl Iterator<Item = &'a LinkConfig>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(links.map(Kept::of).collect())))
    }

    /// What is kept now.
    pub fn now(&self) -> Arc<Vec<Kept>> {
        self.0.load_full()
    }

    /// Links have come or gone.
    pub fn replace(&self, kept: Arc<Vec<Kept>>) {
        self.0.store(kept);
    }
}

/// Whether records may be written to a topic. `others`: links that the writer may not know yet: what the writer knows of a link with the same id does not count then.
///
/// # Errors
/// Why not.
pub fn may_write(writer: Writing<'_>, topic: &str, others: &[&LinkConfig]) -> Result<(), Refused> {
    match refusal(writer, topic, others) {
        None => Ok(()),
        Some(why) => Err(Refused::of(writer, topic, why)),
    }
}

/// Why records may not be written to a topic whatever other links there are, if that is so.
pub(super) fn refusal_without_others(writer: Writing<'_>, topic: &str) -> Option<Why> {
    if is_internal(topic) {
        return Some(Why::Internal);
    }
    if let Err(message) = check_topic_name(topic) {
        return Some(Why::Name(message));
    }
    let link = writer.link()?;
    if would_loop(link, topic) {
        return Some(Why::Loop);
    }
    // Whatever its stages do: records that are too large for their topics become dead letters, too, and plugins are published later.
    let is_copy = matches!(writer, Writing::Copies(_) | Writing::Routes(_));
    (is_copy && link.is_letters(topic)).then_some(Why::OwnDeadLetters)
}

fn refusal(writer: Writing<'_>, topic: &str, all: &[&LinkConfig]) -> Option<Why> {
    if let Some(why) = refusal_without_others(writer, topic) {
        return Some(why);
    }
    let link = writer.link()?;
    let others = || all.iter().filter(|other| other.id != link.id && other.target == link.target);
    if let Some(other) = others().find(|other| stands_by(other, topic) && !stands_by(link, topic)) {
        return Some(Why::StandsBy(other.id.clone()));
    }
    if let Some(other) = others().find(|other| *topic == *other.dead_letters) {
        return Some(Why::DeadLettersOf(other.id.clone()));
    }
    let known = link.kept.now();
    let mut known = known.iter().filter(|kept| kept.link != link.id && kept.cluster == link.target);
    let is_newer = |kept: &Kept| all.iter().any(|other| other.id == kept.link);
    if let Some(why) = known.find_map(|kept| kept.why(topic, stands_by(link, topic)).filter(|_| !is_newer(kept))) {
        return Some(why);
    }
    // Where copies and dead letters lead is followed when the configuration is read.
    let is_route = matches!(writer, Writing::Routes(_));
    if !is_route {
        return None;
    }
    match circle_of_route(link, topic, all) {
        Answer::Nothing => None,
        Answer::Found(circle) => Some(Why::Circle(circle)),
        Answer::NotKnown => Some(Why::NotFollowed),
    }
}

/// Whether a topic of the target stands by, as far as names in the configuration tell.
fn stands_by(link: &LinkConfig, topic: &str) -> bool {
    let is_copy = |selector: &TopicSelector| match selector {
        TopicSelector::Name(name) => link.lets_in(name) && *link.target_topic(name) == *topic,
        TopicSelector::Pattern(_) => false,
    };
    link.failover.enabled && link.topics.iter().any(is_copy)
}
