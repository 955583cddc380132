//! What a link calls topics: which it selects, what their copies are called, and which it leaves
//! out.

use std::borrow::Cow;
use std::sync::Arc;

use super::link::LinkConfig;
use super::rename::Rename;
use super::topics::{TopicSelector, is_internal};
use super::writing::{Refused, Why, Writing, may_write, refusal_without_others};

/// How often a name may have what a link adds to names. Each round of a circle adds it once more;
/// no sensible chain of clusters has as many with the same prefix.
const ROUNDS_MAX: usize = 8;

/// The shortest text that counts as one that a link has added: a single letter may be anywhere.
const ADDED_BYTES_MIN: usize = 2;

impl LinkConfig {
    /// What becomes of a topic of the source: the name of its copy, or `None` if the link does not
    /// select it.
    ///
    /// # Errors
    /// Why the link leaves it out, although its selectors let it in.
    pub fn copy_of(&self, topic: &str) -> Result<Option<String>, Refused> {
        if !self.lets_in(topic) {
            return Ok(None);
        }
        let target = self.target_topic(topic);
        may_write(Writing::Copies(self), &target, &[])?;
        match self.changes_too_much(topic, &target) {
            Some(why) => Err(Refused::of(Writing::Copies(self), &target, why)),
            None => Ok(Some(target)),
        }
    }

    /// Whether the link may ever copy a topic, or would if it did not read the copy itself: as
    /// [`copy_of`](Self::copy_of) says, but for what other links keep for themselves. They may go,
    /// and what they kept is then free.
    pub(super) fn may_come_to_copy(&self, topic: &str) -> bool {
        if !self.lets_in(topic) {
            return false;
        }
        let target = self.target_topic(topic);
        match refusal_without_others(Writing::Copies(self), &target) {
            None => self.changes_too_much(topic, &target).is_none(),
            Some(why) => why == Why::Loop,
        }
    }

    fn changes_too_much(&self, topic: &str, target: &str) -> Option<Why> {
        self.strays(topic, target).or_else(|| self.grows(topic, target))
    }

    /// The topics that the link selects by their names; expressions aside.
    pub fn named_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter().filter_map(|selector| match selector {
            TopicSelector::Name(name) => Some(name),
            TopicSelector::Pattern(_) => None,
        })
    }

    /// Whether the link copies a topic of this name.
    pub fn selects(&self, topic: &str) -> bool {
        matches!(self.copy_of(topic), Ok(Some(_)))
    }

    /// Whether the selectors of the link let a topic in, whatever becomes of it.
    pub fn lets_in(&self, topic: &str) -> bool {
        !is_internal(topic) && self.is_meant(topic) && !self.excludes(topic)
    }

    /// Whether one of its selectors is about a topic, also about one that is internal or excluded.
    pub fn is_meant(&self, topic: &str) -> bool {
        self.is_among(&self.topics, topic)
    }

    /// Whether the link leaves a topic of this name out, whatever else it reads.
    pub fn excludes(&self, topic: &str) -> bool {
        self.letters_kept.iter().any(|letters| **letters == *topic) || self.is_among(&self.topics_exclude, topic)
    }

    /// Whether dead letters of one of the ways of the link go to a topic of this name.
    pub(super) fn is_letters(&self, topic: &str) -> bool {
        topic == self.dead_letters || self.letters_kept.iter().any(|letters| **letters == *topic)
    }

    /// The topic that records of `topic` go to, unless a plugin routes them elsewhere.
    pub fn target_topic(&self, topic: &str) -> String {
        format!("{}{}", self.topic_prefix, renamed(&self.rename, topic))
    }

    /// Whether the other way of the link, or one like it, writes to a topic that the link reads:
    /// the topic has records of both sides then.
    pub fn is_written_on_both_sides(&self, topic: &str) -> bool {
        self.builtins.provenance.is_some() && (self.rename_back.is_some() || self.selects(&self.target_topic(topic)))
    }

    fn is_among(&self, selectors: &[TopicSelector], topic: &str) -> bool {
        let known_as = self.known_as(topic);
        selectors.iter().any(|selector| match selector {
            TopicSelector::Name(name) => **name == *topic,
            TopicSelector::Pattern(pattern) => pattern.matches(&known_as),
        })
    }

    /// What expressions know a topic by: the name that it has at the source of the forward way.
    fn known_as<'t>(&self, topic: &'t str) -> Cow<'t, str> {
        match self.rename_back {
            Some(_) if self.is_reverse => Cow::Owned(self.target_topic(topic)),
            _ => Cow::Borrowed(topic),
        }
    }

    /// Whether a topic would come back under another name than it went under.
    fn strays(&self, topic: &str, target: &str) -> Option<Why> {
        let back = renamed(self.rename_back.as_ref()?, target);
        (back != topic).then(|| Why::Strays(back.into_owned()))
    }

    /// Whether the name has gone round so often that no person can have chosen it.
    fn grows(&self, topic: &str, target: &str) -> Option<Why> {
        if target.len() <= topic.len() {
            return None;
        }
        let rule = self.rename.iter().find(|rule| rule.apply(topic).is_some());
        let added = rule.map(Rename::added).into_iter().flatten().chain([self.topic_prefix.as_str()]);
        let mut added = added.filter(|text| text.len() >= ADDED_BYTES_MIN);
        added.find(|text| topic.matches(text).count() >= ROUNDS_MAX).map(|text| Why::Grows(text.to_owned()))
    }
}

fn renamed<'t>(rules: &[Rename], topic: &'t str) -> Cow<'t, str> {
    rules.iter().find_map(|rule| rule.apply(topic)).map_or(Cow::Borrowed(topic), Cow::Owned)
}
