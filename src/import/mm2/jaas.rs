//! `sasl.jaas.config`: a login module, a flag, and options.

use std::collections::BTreeMap;

/// The options of the only module there is, if the text can be read: `Module required name="value" …;`.
pub(super) fn options(text: &str) -> Option<BTreeMap<String, String>> {
    let body = text.trim().strip_suffix(';')?;
    let mut words = words(body)?.into_iter();
    // The module and the flag.
    words.next().filter(|word| word.len() == 1)?;
    words.next().filter(|word| word.len() == 1)?;
    words
        .map(|word| match &word[..] {
            [name, value] => Some((name.clone(), value.clone())),
            _ => None,
        })
        .collect()
}

/// Words between white space, each in its parts between `=`. What stands in quotes is one part, and a backslash there takes the next letter as it is.
fn words(text: &str) -> Option<Vec<Vec<String>>> {
    let mut words = Vec::new();
    let mut word: Vec<String> = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            '=' if word.len() == 1 => word.push(String::new()),
            '"' | '\'' => {
                let part = word.last_mut()?;
                loop {
                    match letters.next()? {
                        end if end == letter => break,
                        '\\' => part.push(letters.next()?),
                        other => part.push(other),
                    }
                }
            }
            ';' => return None,
            other => {
                if word.is_empty() {
                    word.push(String::new());
                }
                word.last_mut()?.push(other);
            }
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    #[test]
    fn options_are_read_with_their_quotes() {
        let text = "org.apache.kafka.common.security.plain.PlainLoginModule required\n  username=\"al ice\" password='p\\'=;\"' x=y ;";
        let found = options(text).expect("options");
        assert_eq!(found["username"], "al ice");
        assert_eq!(found["password"], "p'=;\"");
        assert_eq!(found["x"], "y");
    }

    #[test]
    fn what_cannot_be_read_is_no_login() {
        for text in ["", "M", "M required", "M required a;", "M required a=\"b;", "M required a=b; N required c=d;"] {
            assert_eq!(options(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ab=\"'\\\\; ]{0,40}") {
            let _it_may_be_refused = options(&text);
        }
    }
}
