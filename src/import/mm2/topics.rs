//! MirrorMaker 2's lists of expressions, and which topics it leaves out whatever they say.

use super::keys::{Flow, list};
use super::text::Entry;
use crate::config::{TopicSelector, is_internal};

/// What `topics.exclude` is where nobody says otherwise, since Kafka 4.0.
pub(super) const EXCLUDED_BY_DEFAULT: &str = "mm2.*\\.internal, .*\\.replica, __.*";

/// A list of expressions as selectors, and those that are none.
pub(super) fn selectors(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for expression in list(text) {
        match selector(expression) {
            Some(selector) if good.contains(&selector) => {}
            Some(selector) => good.push(selector),
            None => bad.push(expression.to_owned()),
        }
    }
    // MirrorMaker 2 joins them: a comma in parentheses is an alternative.
    match selector(&list(text).join("|")) {
        Some(whole) if !bad.is_empty() => (vec![whole], Vec::new()),
        _ => (good, bad),
    }
}

/// A name where the expression is one, or the expression between slashes. `None`: our expressions have no such thing.
fn selector(expression: &str) -> Option<String> {
    let is_name = expression.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let text = if is_name { expression.to_owned() } else { format!("/{expression}/") };
    TopicSelector::parse(&text).ok().map(|_| text)
}

/// Whether a selector names one topic, and that is never copied.
pub(super) fn names_internal(selector: &str) -> bool {
    !selector.starts_with('/') && (is_internal(selector) || selector.starts_with("__"))
}

/// How topics are named in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Naming {
    /// `DefaultReplicationPolicy`: the source's alias and the separator stand before the name. Otherwise it stays.
    pub(super) prefixes: bool,
    pub(super) separator: String,
    /// What stands in the names of MirrorMaker 2's own topics.
    pub(super) internal_separator: String,
}

/// What MirrorMaker 2 leaves out by itself: topics of programs, and copies that have come from the target.
pub(super) fn left_out(flow: &Flow, naming: &Naming) -> Vec<Entry> {
    let own = "programs keep these for themselves";
    let back = format!("these have come from {}", flow.target);
    let [separator, internal, target] =
        [&naming.separator, &naming.internal_separator, &flow.target].map(|it| regex::escape(it));
    let heartbeats = if naming.prefixes { "" } else { "heartbeats" };
    vec![
        Entry::because("/__.*/", own),
        Entry::because("/\\..*/", own),
        Entry::because(format!("/mm2.*{internal}internal/"), own),
        Entry::because(format!("/.*{internal}checkpoints{internal}internal/"), own),
        Entry::because(
            format!("/(.*{separator})?{target}{separator}.{}{heartbeats}/", if naming.prefixes { '+' } else { '*' }),
            back,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_stay_names_and_all_else_is_an_expression() {
        for (text, good, bad) in [
            ("orders, a.b ,.*", &["orders", "/a.b/", "/.*/"][..], &[][..]),
            ("(a,b)", &["/(a|b)/"], &[]),
            ("a, (?!b).*", &["a"], &["(?!b).*"]),
            ("", &[], &[]),
            ("a,a", &["a"], &[]),
        ] {
            assert_eq!(selectors(text), (strings(good), strings(bad)), "{text}");
        }
    }

    #[test]
    fn what_came_from_the_target_does_not_go_back() {
        let flow = Flow { source: "east".into(), target: "us.west".into() };
        let naming = Naming { prefixes: true, separator: ".".into(), internal_separator: ".".into() };
        let out = left_out(&flow, &naming);
        let is_out = |topic: &str| {
            out.iter().any(|entry| TopicSelector::parse(&entry.text).expect("a selector").would_match(topic))
        };
        for topic in
            ["us.west.orders", "asia.us.west.orders", "__x", ".x", "mm2-status.east.internal", "a.checkpoints.internal"]
        {
            assert!(is_out(topic), "{topic}");
        }
        for topic in ["orders", "usxwest.orders", "us.westorders", "asia.orders", "my.internal"] {
            assert!(!is_out(topic), "{topic}");
        }
        let out = left_out(&flow, &Naming { prefixes: false, ..naming });
        let is_out = |topic: &str| {
            out.iter().any(|entry| TopicSelector::parse(&entry.text).expect("a selector").would_match(topic))
        };
        assert!(is_out("us.west.heartbeats") && !is_out("us.west.orders"));
    }
}
