//! What the JSON library says of a text that is no good, without the text.
//!
//! Its errors quote strings and numbers as they stand there: a record, a password that was written under the wrong key. Keys are quoted too; those stay, since nobody
//! could find the place without them.

/// What stands in place of what was quoted.
const QUOTES: [(&str, &str, &str); 5] = [
    ("integer `", "`", "a number"),
    ("floating point `", "`", "a number"),
    ("character `", "`", "a string"),
    ("boolean `", "`", "true or false"),
    ("unknown variant `", "`, expected", "an unknown word, expected"),
];

/// The error without the values that it quotes.
pub fn without_values(error: &str) -> String {
    let mut text = without_strings(error);
    for (begin, end, instead) in QUOTES {
        if let Some((before, rest)) = text.split_once(begin)
            && let Some((_, behind)) = rest.split_once(end)
        {
            text = format!("{before}{instead}{behind}");
        }
    }
    text
}

/// A quoted string is written as Rust writes it: a quote within it has a backslash before it.
fn without_strings(error: &str) -> String {
    let Some((before, quoted)) = error.split_once("string \"") else { return error.to_owned() };
    let mut is_escaped = false;
    let end = quoted.find(|letter| {
        let is_end = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    });
    // What has no end is all quote.
    let behind = end.map_or("", |end| &quoted[end + 1..]);
    format!("{before}a string{behind}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
        Two,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code, reason = "it is read")]
        number: Option<u8>,
        #[allow(dead_code, reason = "it is read")]
        text: Option<String>,
        #[allow(dead_code, reason = "it is read")]
        word: Option<Word>,
    }

    #[test]
    fn no_value_is_quoted() {
        for (text, expected) in [
            (r#"{"number":"planted"}"#, "invalid type: a string, expected u8 at line 1 column 19"),
            (r#"{"number":"a\"planted\\\" expected x"}"#, "invalid type: a string, expected u8 at line 1 column 38"),
            (r#"{"number":94637281}"#, "invalid value: a number, expected u8 at line 1 column 18"),
            (r#"{"number":94637281.5}"#, "invalid type: a number, expected u8 at line 1 column 20"),
            (r#"{"text":94637281}"#, "invalid type: a number, expected a string at line 1 column 16"),
            (r#"{"word":"planted"}"#, "an unknown word, expected `one` or `two` at line 1 column 17"),
            (r#"{"word":"pla`, expected nted"}"#, "an unknown word, expected"),
            (r#"{"other":1}"#, "unknown field `other`, expected one of `number`, `text`, `word` at line 1 column 8"),
            (r#"{"text":planted}"#, "expected value at line 1 column 9"),
        ] {
            let error = serde_json::from_str::<Sample>(text).map(|_| ()).expect_err(text).to_string();
            let said = without_values(&error);
            assert!(said.starts_with(expected.split(" at line").next().expect("a part")), "{text}: {said}");
            assert!(!said.contains("94637281"), "{said}");
        }
    }
}
