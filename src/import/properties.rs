//! Java's properties files: lines of a key, a separator and a value, in ISO 8859-1.

use std::iter::Peekable;
use std::str::Chars;

use super::ImportError;

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) key: String,
    /// Without white space around it: no setting of Kafka has any.
    pub(super) value: String,
    /// The line that it begins in, from 1 on.
    pub(super) line: usize,
}

/// Read a file. A key that occurs twice is there twice; the last one counts for Java.
///
/// # Errors
/// A `\u` without four hexadecimal digits.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Property>, ImportError> {
    // Each byte is the character of the same number.
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    logical_lines(&text).into_iter().map(|(line, text)| property(line, &text)).collect()
}

/// Lines without those that are empty or comments. One that ends in an odd number of backslashes goes on in the next, behind the white space there.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.trim_start_matches(is_blank);
        if !goes_on && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        if !goes_on {
            found.push((number, String::new()));
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        goes_on = backslashes % 2 == 1;
        if let Some((_, whole)) = found.last_mut() {
            whole.push_str(&line[..line.len() - usize::from(goes_on)]);
        }
    }
    found
}

fn property(line: usize, text: &str) -> Result<Property, ImportError> {
    let mut rest = text.chars().peekable();
    let key = unescape(&mut rest, line, |letter| is_blank(letter) || "=:".contains(letter))?;
    skip_blanks(&mut rest);
    if rest.next_if(|letter| "=:".contains(*letter)).is_some() {
        skip_blanks(&mut rest);
    }
    let value = unescape(&mut rest, line, |_| false)?;
    Ok(Property { key, value: value.trim().to_owned(), line })
}

/// The text up to a letter that ends it and has no backslash before it.
fn unescape(rest: &mut Peekable<Chars<'_>>, line: usize, ends: impl Fn(char) -> bool) -> Result<String, ImportError> {
    let mut units = Vec::new();
    let mut buffer = [0; 2];
    while let Some(letter) = rest.next_if(|letter| !ends(*letter)) {
        let letter = match letter {
            '\\' => match rest.next() {
                Some('u') => {
                    units.push(code_unit(rest, line)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(letter.encode_utf16(&mut buffer));
    }
    // What is beyond 16 bits is written as two escapes, so only here they make a character.
    Ok(String::from_utf16_lossy(&units))
}

fn code_unit(rest: &mut Peekable<Chars<'_>>, line: usize) -> Result<u16, ImportError> {
    let digits: String = (0..4).map_while(|_| rest.next_if(char::is_ascii_hexdigit)).collect();
    let unit = Some(&digits).filter(|digits| digits.len() == 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    unit.ok_or_else(|| {
        let message = format!("line {line}: behind \\u stand four hexadecimal digits");
        ImportError::new(message, "write them, or \\\\ for a backslash: MirrorMaker 2 cannot read the file either")
    })
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|letter| is_blank(*letter)).is_some() {}
}

/// What Java takes for white space here.
fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let properties = parse(text.as_bytes()).expect("properties");
        properties.into_iter().map(|property| (property.key, property.value)).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(pairs(text), expected, "in\n{text}");
    }

    #[test]
    fn separators_are_what_java_takes_for_them() {
        check(
            "a=1\nb = 2\nc:3\nd 4\ne\t : \t5 \nf",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "")],
        );
        check("east->west.enabled = true", &[("east->west.enabled", "true")]);
        check("jaas = a username=\"b\" c:d;", &[("jaas", "a username=\"b\" c:d;")]);
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over() {
        check("# a=1\n  ! b=2\n\n \t\nc=3 # is of the value", &[("c", "3 # is of the value")]);
    }

    #[test]
    fn a_backslash_at_the_end_goes_on_in_the_next_line() {
        check("topics = a,\\\n    b,\\\r\n\t# no comment\nx=1", &[("topics", "a,b,# no comment"), ("x", "1")]);
        check("path=c\\\\\nx=1", &[("path", "c\\"), ("x", "1")]);
        check("end=1\\", &[("end", "1")]);
    }

    #[test]
    fn escapes_stand_for_what_they_stand_for_in_java() {
        check("a\\ b\\=c=d\\\\.e\\tf\\u00e4\\ud83d\\ude00\\q", &[("a b=c", "d\\.e\tfä😀q")]);
        assert_eq!(parse(b"name=M\xfcller").expect("properties")[0].value, "Müller");
    }

    #[test]
    fn half_an_escape_is_refused_with_its_line() {
        let error = parse(b"a=1\nb=\\u12").expect_err("an error");
        assert_eq!(error.message, "line 2: behind \\u stand four hexadecimal digits");
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        let properties = parse(b"\n# x\na=1\\\n2\nb=3").expect("properties");
        assert_eq!(properties.iter().map(|property| property.line).collect::<Vec<_>>(), [3, 5]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _it_may_be_refused = parse(&bytes);
        }

        #[test]
        fn no_text_of_its_own_letters_makes_it_panic(text in "[a\\\\u0-9 =:#!\n\r\t]{0,40}") {
            let _it_may_be_refused = parse(text.as_bytes());
        }
    }
}
