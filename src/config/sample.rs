//! Names that an expression matches, made from the expression itself: what is to be known of an
//! expression is asked of its names.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind};

use super::topics::check_topic_name;

/// The most texts that are made from one expression.
const SAMPLES_MAX: usize = 16;

/// The most samples that are joined to each other, of each expression one.
const JOINED_MAX: usize = 12;

/// What stands for a class of characters, in this order; otherwise its first one.
const LETTERS: [char; 6] = ['a', 'x', '0', 'A', '-', '.'];

/// Texts that an expression is likely to match. Who asks has to see which of them it does match.
pub(super) fn samples(expression: &str) -> BTreeSet<String> {
    let Ok(hir) = regex_syntax::parse(expression) else { return BTreeSet::new() };
    made(&hir).into_iter().collect()
}

/// The same, and one of each expression behind one of each other: names that several expressions
/// match, if they look for different parts of a name.
pub(super) fn joined(expressions: &BTreeSet<&str>) -> BTreeSet<String> {
    let alone: BTreeSet<String> = expressions.iter().flat_map(|expression| samples(expression)).collect();
    let parsed = expressions.iter().filter_map(|expression| regex_syntax::parse(expression).ok());
    let firsts: BTreeSet<String> = parsed.filter_map(|hir| made(&hir).into_iter().next()).take(JOINED_MAX).collect();
    let mut found: BTreeSet<String> = BTreeSet::new();
    for one in &firsts {
        found.extend(firsts.iter().map(|other| format!("{one}{other}")));
    }
    found.extend(alone);
    found.retain(|name| check_topic_name(name).is_ok());
    found
}

fn made(hir: &Hir) -> Vec<String> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(literal) => vec![String::from_utf8_lossy(&literal.0).into_owned()],
        HirKind::Class(class) => letter(class).map(String::from).into_iter().collect(),
        HirKind::Capture(capture) => made(&capture.sub),
        HirKind::Concat(parts) => parts.iter().fold(vec![String::new()], |before, part| {
            let made = made(part);
            let longer = before.iter().flat_map(|text| made.iter().map(move |more| format!("{text}{more}")));
            longer.take(SAMPLES_MAX).collect()
        }),
        HirKind::Alternation(parts) => parts.iter().flat_map(made).take(SAMPLES_MAX).collect(),
        HirKind::Repetition(repetition) => {
            let least = repetition.min.min(32) as usize;
            let usual = if repetition.max == Some(0) { 0 } else { least.max(1) };
            // What may be left out is there first: a longer name is let in by more expressions.
            let counts = if least == usual { vec![usual] } else { vec![usual, least] };
            let made = made(&repetition.sub);
            counts.iter().flat_map(|count| made.iter().map(move |text| text.repeat(*count))).take(SAMPLES_MAX).collect()
        }
    }
}

fn letter(class: &Class) -> Option<char> {
    let has = |wanted: char| match class {
        Class::Unicode(class) => class.iter().any(|range| (range.start()..=range.end()).contains(&wanted)),
        Class::Bytes(class) => {
            let wanted = wanted as u8;
            class.iter().any(|range| (range.start()..=range.end()).contains(&wanted))
        }
    };
    let first = || match class {
        Class::Unicode(class) => class.iter().next().map(|range| range.start()),
        Class::Bytes(class) => class.iter().next().map(|range| char::from(range.start())),
    };
    LETTERS.into_iter().find(|letter| has(*letter)).or_else(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Room, TopicPattern};

    #[test]
    fn an_expression_matches_what_is_made_from_it() {
        for expression in [
            ".*",
            ".+",
            "orders",
            "orders\\..*",
            "(a|bc)-[0-9]{3}",
            "x?y*z+",
            "[^a]b",
            "\\w+\\.\\d{1,2}",
            "(?i)Orders",
            "^prod\\.(.*)$",
            ".*eu.*",
        ] {
            let pattern = TopicPattern::parse(expression, Room::ALONE).expect("an expression");
            let made = samples(expression);
            assert!(
                made.iter().any(|name| check_topic_name(name).is_ok() && pattern.matches(name)),
                "{expression}: {made:?}"
            );
        }
    }

    #[test]
    fn expressions_with_an_overlap_have_a_name_in_common() {
        let expressions = [".*orders.*", ".*eu.*"];
        let patterns = expressions.map(|it| TopicPattern::parse(it, Room::ALONE).expect("an expression"));
        let names = joined(&expressions.into());
        assert!(names.iter().any(|name| patterns.iter().all(|pattern| pattern.matches(name))), "{names:?}");
    }

    #[test]
    fn what_is_made_is_bounded() {
        let large = format!("({})*", (0..500).map(|number| format!("a{number}?")).collect::<Vec<_>>().join("|"));
        assert!(samples(&large).len() <= SAMPLES_MAX);
        assert!(samples("(((a?){9}b?){9}c?){9}").len() <= SAMPLES_MAX);
    }
}
