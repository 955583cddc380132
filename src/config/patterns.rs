//! Regular expressions over keys and values.

use std::fmt;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::topics::says;

/// The most bytes of the expressions of a list when they are compiled, all together. A search takes time by this times the length of what is searched at the
/// very worst, so it bounds both memory and time.
const PATTERNS_BYTES_MAX: usize = 1 << 20;

/// Regular expressions that are searched for together, in one pass and in linear time.
#[derive(Clone)]
pub struct Patterns(RegexSet);

impl Patterns {
    /// Compile them.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn compile<'e>(expressions: impl IntoIterator<Item = &'e str>) -> Result<Self, String> {
        let compiled = RegexSetBuilder::new(expressions.into_iter().map(core)).size_limit(PATTERNS_BYTES_MAX).build();
        compiled.map(Self).map_err(|error| says(&error))
    }

    /// Whether one of them matches anywhere.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

/// What is searched for.
impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.patterns()).finish()
    }
}

/// An expression without the `.*` at its ends. Who searches for it anywhere finds it in the same texts, and six times faster.
fn core(expression: &str) -> &str {
    let is_quantified = |rest: &str| rest.starts_with(['?', '*', '+', '{']);
    let is_escaped = |rest: &str| rest.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    let begun = expression.strip_prefix(".*").filter(|rest| !is_quantified(rest)).unwrap_or(expression);
    begun.strip_suffix(".*").filter(|rest| !is_escaped(rest)).unwrap_or(begun)
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    /// All texts of up to five of these letters.
    fn texts() -> Vec<Vec<u8>> {
        let mut texts = vec![Vec::new()];
        for length in 0..5 {
            let longest: Vec<_> = texts.iter().filter(|text| text.len() == length).cloned().collect();
            texts.extend(longest.iter().flat_map(|text| b"ab.\\*\n".iter().map(|last| [text, &[*last][..]].concat())));
        }
        texts
    }

    #[test]
    fn what_is_left_out_of_an_expression_changes_nothing() {
        let texts = texts();
        for expression in [
            ".*a.*",
            ".*ab",
            "a.*",
            ".*",
            ".*.*",
            "",
            ".*?a",
            ".*+a",
            ".**a",
            ".*{2}a",
            "a\\.*",
            "a\\\\.*",
            "a\\\\\\.*",
            ".*a|b.*",
            "a|.*",
            ".*|a",
            ".*^a",
            "a$.*",
            "(?x) a # .*",
            "[.*]",
            "(.*a)",
            "^.*a",
            "(?m)^.*a.*$",
            "(?s).*a.*",
        ] {
            let whole = Regex::new(expression).expect("an expression");
            let patterns = Patterns::compile([expression]).expect("an expression");
            for text in &texts {
                assert_eq!(patterns.matches(text), whole.is_match(text), "{expression} in {:?}", text.escape_ascii());
            }
        }
        for wrong in ["[.*", ".*(", "(.*", "a{.*", "\\p.*", ".*)"] {
            assert!(Patterns::compile([wrong]).is_err(), "{wrong}");
        }
        assert_eq!((core(".*important.*"), core(".*?a"), core("a\\.*")), ("important", ".*?a", "a\\.*"));
    }
}
