//! Which topics a link reads.

use std::fmt;
use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};

use super::selectors::{EXPRESSION_BYTES_MAX, Room};

/// The most bytes of a topic's name. Kafka has the same limit, so every name can be copied there.
pub(super) const TOPIC_NAME_BYTES_MAX: usize = 249;

/// What a link's `topics` has an entry of: a topic's name, or a regular expression between slashes.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicSelector {
    /// The topic of this name.
    Name(Arc<str>),
    /// Every topic whose whole name matches.
    Pattern(TopicPattern),
}

/// A regular expression over whole topic names.
#[derive(Clone, Debug)]
pub struct TopicPattern {
    expression: Arc<str>,
    regex: Regex,
}

impl TopicSelector {
    /// A name, or an expression between slashes.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_within(text, Room::ALONE)
    }

    pub(super) fn parse_within(text: &str, room: Room) -> Result<Self, String> {
        match text.strip_prefix('/') {
            None => check_topic_name(text).map(|()| Self::Name(text.into())),
            Some(rest) => TopicPattern::before_slash(rest, room).map(Self::Pattern),
        }
    }

    /// Whether the topic is meant. Internal ones never are.
    pub fn matches(&self, topic: &str) -> bool {
        self.would_match(topic) && !is_internal(topic)
    }

    /// Whether the topic would be meant if it were not internal.
    pub fn would_match(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => **name == *topic,
            Self::Pattern(pattern) => pattern.matches(topic),
        }
    }
}

/// As it stands in the configuration.
impl fmt::Display for TopicSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// As it stands in the configuration, between slashes.
impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.expression)
    }
}

/// Patterns are equal when they are written the same.
impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression
    }
}

impl Eq for TopicPattern {}

impl TopicPattern {
    /// What stands behind the first of two slashes.
    pub(super) fn before_slash(rest: &str, room: Room) -> Result<Self, String> {
        let expression = rest.strip_suffix('/').filter(|expression| !expression.is_empty());
        let expression =
            expression.ok_or("a regular expression stands between two slashes, like \"/audit\\\\..*/\"")?;
        Self::parse(expression, room)
    }

    pub(super) fn parse(expression: &str, room: Room) -> Result<Self, String> {
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("a regular expression has {EXPRESSION_BYTES_MAX} bytes at most"));
        }
        // First alone, so that a message tells about the user's text, and `a)|(b` does not close our group.
        compile(expression, room)?;
        let regex = compile(&format!(r"\A(?:{expression})\z"), room)?;
        Ok(Self { expression: expression.into(), regex })
    }

    /// The expression, without the slashes.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether the whole name matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic)
    }

    /// How many groups there are, the whole name included.
    pub(super) fn groups(&self) -> usize {
        self.regex.captures_len()
    }

    /// What the groups have matched, if the whole name matches.
    pub(super) fn captures<'t>(&self, topic: &'t str) -> Option<Captures<'t>> {
        self.regex.captures(topic)
    }
}

/// Topics that Kafka keeps for itself. Brokers mark them too; who cannot ask one knows them by these names.
const OF_KAFKA: [&str; 5] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata", "__remote_log_metadata"];

/// What the names of topics of heartbeats begin with.
const HEARTBEATS: &str = "tidegate.heartbeats.";

/// The topic of a link's heartbeats, in source and target.
pub fn heartbeat_topic(link: &str) -> String {
    format!("{HEARTBEATS}{link}")
}

/// Whether a topic is kept by a program for itself: Kafka, Tidegate or MirrorMaker 2. No expression selects it, and nobody can name it.
pub fn is_internal(topic: &str) -> bool {
    OF_KAFKA.contains(&topic)
        || topic.starts_with("__tidegate.")
        || topic.starts_with(HEARTBEATS)
        || topic.ends_with(".checkpoints.internal")
        || (topic.starts_with("mm2-") && topic.ends_with(".internal"))
}

/// Whether a topic is of heartbeats. Links write there as clients do, and nobody else.
pub fn is_heartbeat(topic: &str) -> bool {
    topic.starts_with(HEARTBEATS)
}

fn compile(expression: &str, room: Room) -> Result<Regex, String> {
    RegexBuilder::new(expression).size_limit(room.bytes).build().map_err(|error| match (&error, room.shared_by) {
        (regex::Error::CompiledTooBig(_), Some(count)) => {
            let kib = room.bytes >> 10;
            format!("the regular expression is too large: each of {count} may take {kib} KiB when it is compiled")
        }
        _ => says(&error),
    })
}

/// What is wrong with an expression, on one line.
pub(super) fn says(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large: write a simpler one".to_owned(),
        // A picture of the expression comes before the last line.
        error => {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default();
            format!("not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}

/// Whether a topic may have this name: the same rule as Kafka's.
///
/// # Errors
/// What is wrong.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX || name == "." || name == ".." {
        return Err(format!("a topic's name has 1 to {TOPIC_NAME_BYTES_MAX} characters and is neither . nor .."));
    }
    check_topic_characters(name)
}

/// Whether a topic's name may have these characters.
///
/// # Errors
/// The first one that it may not have.
pub(super) fn check_topic_characters(name: &str) -> Result<(), String> {
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        Some(c) => {
            Err(format!("a topic's name cannot have {c:?}: letters, digits, dot, underscore and hyphen are allowed"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> TopicSelector {
        TopicSelector::parse(text).expect("a selector")
    }

    #[test]
    fn a_name_selects_itself_alone() {
        assert!(selector("orders.eu").matches("orders.eu"));
        assert!(!selector("orders.eu").matches("orders-eu"));
    }

    #[test]
    fn an_expression_matches_the_whole_name() {
        for (expression, topic, matches) in [
            ("/audit\\..*/", "audit.x", true),
            ("/audit\\..*/", "my-audit.x", false),
            ("/a|b/", "b", true),
            ("/a|b/", "ac", false),
            ("/a|b/", "cb", false),
            ("/a|ab/", "ab", true),
            ("/(?m)^a$/", "a\nb", false),
        ] {
            assert_eq!(selector(expression).matches(topic), matches, "{expression} {topic}");
        }
    }

    #[test]
    fn no_expression_selects_what_programs_keep_for_themselves() {
        for topic in [
            "__consumer_offsets",
            "__transaction_state",
            "__tidegate.meta",
            "tidegate.heartbeats.orders",
            "mm2-offset-syncs.west.internal",
            "west.checkpoints.internal",
        ] {
            assert!(!selector("/.*/").matches(topic), "{topic}");
            assert!(selector("/.*/").would_match(topic), "{topic}");
        }
        for topic in ["heartbeats", "_schemas", "__mine", "orders.internal", "mm2-orders"] {
            assert!(selector("/.*/").matches(topic), "{topic}");
        }
    }

    #[test]
    fn what_is_wrong_fits_on_a_line() {
        for (text, message) in [
            ("/a(/", "not a regular expression: unclosed group"),
            ("/a)|(b/", "not a regular expression: unopened group"),
            ("/(\\w{99}){99}/", "the regular expression is too large: write a simpler one"),
            ("/", "a regular expression stands between two slashes, like \"/audit\\\\..*/\""),
            ("//", "a regular expression stands between two slashes, like \"/audit\\\\..*/\""),
            ("/a", "a regular expression stands between two slashes, like \"/audit\\\\..*/\""),
            ("", "a topic's name has 1 to 249 characters and is neither . nor .."),
            ("..", "a topic's name has 1 to 249 characters and is neither . nor .."),
            ("ärger", "a topic's name cannot have 'ä': letters, digits, dot, underscore and hyphen are allowed"),
        ] {
            assert_eq!(TopicSelector::parse(text).map(|it| it.to_string()), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_expression_that_ends_in_a_comment_is_refused_rather_than_misread() {
        assert!(TopicSelector::parse("/(?x)a # b/").is_err());
    }

    #[test]
    fn selectors_are_shown_as_written() {
        for text in ["orders", "/a.*/"] {
            assert_eq!(selector(text).to_string(), text);
        }
    }
}
