//! Whatever the text, there is an answer.

use proptest::prelude::*;

use super::{SAMPLE, parse};

/// Every diagnostic can be shown, and its place is in the text.
fn answer(text: &str) {
    let found = match parse(text) {
        Ok((_, warnings)) => warnings,
        Err(found) => {
            assert!(!found.is_empty());
            found
        }
    };
    let lines: Vec<_> = text.split('\n').collect();
    for diagnostic in found {
        let line = lines[diagnostic.line - 1];
        assert!(diagnostic.column <= line.chars().count() + 1, "{diagnostic}");
    }
}

/// Parts that an edit may bring in: what TOML is made of, and what is not ASCII.
fn part() -> impl Strategy<Value = String> {
    const PARTS: &[&str] = &[
        "[", "]", "[[", "{", "}", "=", "\"", "'", "\"\"\"", "\n", ".", ",", "#", "-1", "1e999", "ä", "日本", "\\",
        "\u{7f}", "\r",
    ];
    prop_oneof![
        prop::sample::select(PARTS).prop_map(str::to_owned),
        any::<String>(),
        any::<i64>().prop_map(|it| it.to_string())
    ]
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in any::<String>()) {
        answer(&text);
    }

    #[test]
    fn any_edit_of_the_sample_has_an_answer(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, part()), 1..6)
    ) {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        for (at, removed, part) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, part.chars());
        }
        answer(&text.into_iter().collect::<String>());
    }

    #[test]
    fn the_lines_of_the_sample_in_any_order_have_an_answer(
        lines in prop::collection::vec(prop::sample::select(SAMPLE.lines().collect::<Vec<_>>()), 0..40)
    ) {
        answer(&lines.join("\n"));
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for text in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        // The deepest that the TOML parser lets through: 79 keys in each of 79 tables.
        format!(
            "[[links.l.pipeline]]\nconfig = {}1{}",
            format!("{{{}=", vec!["a"; 79].join(".")).repeat(78),
            "}".repeat(78)
        ),
    ] {
        assert!(parse(&text).is_err());
    }
}
