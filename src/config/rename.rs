//! `rename` of a link: what a topic is called in the target, where it does not keep its name.

use std::collections::BTreeMap;

use regex::Captures;

use super::reader::Item;
use super::selectors::Room;
use super::topics::{TopicPattern, check_topic_characters};

/// A rule: a topic that it is about gets another name.
#[derive(Clone, Debug)]
pub struct Rename(Rule);

#[derive(Clone, Debug)]
enum Rule {
    /// One whose whole name matches.
    Pattern { pattern: TopicPattern, to: Vec<Piece> },
    /// Those that are named. No configuration says so.
    Names(BTreeMap<String, String>),
}

/// A part of the new name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What a group of the expression has matched.
    Group(usize),
}

impl Rename {
    /// `expression` is over whole names; `to` is the new name, in which `$1` is what the first group has matched, and `$0` the whole name.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(expression: &str, to: &str) -> Result<Self, String> {
        Self::of(TopicPattern::parse(expression, Room::ALONE)?, to)
    }

    fn of(pattern: TopicPattern, to: &str) -> Result<Self, String> {
        let to = pieces(to)?;
        let groups = pattern.groups();
        match to.iter().find(|piece| matches!(piece, Piece::Group(group) if *group >= groups)) {
            Some(Piece::Group(group)) => Err(format!("the expression has no group {group}")),
            _ if to.is_empty() => Err("a topic's name cannot be empty".to_owned()),
            _ => Ok(Self(Rule::Pattern { pattern, to })),
        }
    }

    /// Each of these topics gets the name that is said for it.
    pub fn names(names: BTreeMap<String, String>) -> Self {
        Self(Rule::Names(names))
    }

    /// The new name of a topic, if the rule is about it.
    pub fn apply(&self, topic: &str) -> Option<String> {
        match &self.0 {
            Rule::Pattern { pattern, to } => {
                let found = pattern.captures(topic)?;
                Some(to.iter().map(|piece| piece.text(&found)).collect())
            }
            Rule::Names(names) => names.get(topic).cloned(),
        }
    }

    /// The texts that the rule adds to what it takes over of a name. None where the new name is the same for all topics: it does not grow.
    pub(super) fn added(&self) -> impl Iterator<Item = &str> {
        let pieces: &[Piece] = match &self.0 {
            Rule::Pattern { to, .. } if to.iter().any(|piece| matches!(piece, Piece::Group(_))) => to,
            Rule::Pattern { .. } | Rule::Names(_) => &[],
        };
        pieces.iter().filter_map(|piece| if let Piece::Text(text) = piece { Some(text.as_str()) } else { None })
    }

    /// The expression of the topics that the rule is about, if it has one.
    pub(super) fn expression(&self) -> Option<&str> {
        if let Rule::Pattern { pattern, .. } = &self.0 { Some(pattern.expression()) } else { None }
    }

    pub(super) fn read(item: &Item<'_>, room: Room) -> Option<Self> {
        let mut table = item.table()?;
        let expression = table.required("match", "write match = \"a regular expression over whole names\"");
        let to = table.required("to", "write to = \"the new name\", with $1 for what the first group has matched");
        table.finish();
        let (expression, to) = (expression?, to?);
        let (text, new) = (expression.text()?, to.text()?);
        let pattern = expression.parsed(TopicPattern::parse(text, room))?;
        to.parsed(Self::of(pattern, new))
    }
}

impl Piece {
    fn text<'a>(&'a self, found: &Captures<'a>) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Group(group) => found.get(*group).map_or("", |group| group.as_str()),
        }
    }
}

/// A group is all digits behind the dollar: `$1_b` is the first group and `_b`, as in Java, and not a group of the name `1_b`.
fn pieces(to: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    for (index, part) in to.split('$').enumerate() {
        let digits = if index == 0 { 0 } else { part.bytes().take_while(u8::is_ascii_digit).count() };
        if index > 0 {
            let group = part[..digits].parse().map_err(|_| "behind $ stands the number of a group, like $1")?;
            pieces.push(Piece::Group(group));
        }
        let text = &part[digits..];
        check_topic_characters(text)?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(expression: &str, to: &str, topic: &str) -> Option<String> {
        Rename::parse(expression, to).expect("a rule").apply(topic)
    }

    #[test]
    fn groups_of_the_old_name_stand_in_the_new_one() {
        for (expression, to, topic, new) in [
            ("^prod\\.(.*)$", "dr.$1", "prod.orders", Some("dr.orders")),
            ("prod\\.(.*)", "dr.$1", "prod.orders", Some("dr.orders")),
            ("(a)(b)", "$2_$1b", "ab", Some("b_ab")),
            ("x.*", "old.$0", "xy", Some("old.xy")),
            ("a(b)?", "n$1", "a", Some("n")),
            ("prod", "dr", "prod.orders", None),
        ] {
            assert_eq!(renamed(expression, to, topic).as_deref(), new, "{expression} {to} {topic}");
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for (expression, to, message) in [
            ("(a)", "$2", "the expression has no group 2"),
            ("a", "", "a topic's name cannot be empty"),
            ("a", "b$", "behind $ stands the number of a group, like $1"),
            ("a", "${n}", "behind $ stands the number of a group, like $1"),
            ("a", "b c", "a topic's name cannot have ' ': letters, digits, dot, underscore and hyphen are allowed"),
            ("(", "b", "not a regular expression: unclosed group"),
        ] {
            let refused = Rename::parse(expression, to).map(|rule| rule.apply("a"));
            assert_eq!(refused, Err(message.to_owned()), "{expression} {to}");
        }
    }
}
