//! Find parts of a JSON document without building it in memory.
//!
//! What is not looked for is checked to be JSON and skipped. What is found is a slice of the document, so a plugin can
//! change these bytes and leave all others as they are. Numbers are not looked at: one that fits no machine type is
//! passed over like any other. Arrays and objects may be nested 127 deep below the part that is looked into.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Reject;
pub use crate::number::Num;
use crate::scan::Scanner;
pub use crate::value::Value;

/// A JSON Pointer (RFC 6901), for example `/card/number`. The empty one is the whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer {
    tokens: Vec<Token>,
}

/// One step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    /// The name of a member.
    name: String,
    /// The index of an element, if the name is one.
    index: Option<usize>,
}

/// A text is not a JSON Pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPointer;

impl fmt::Display for NotAPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a JSON Pointer: it is empty or begins with `/`, and `~` is written `~0`, `/` in a name `~1`")
    }
}

impl std::error::Error for NotAPointer {}

impl TryFrom<String> for Pointer {
    type Error = NotAPointer;

    fn try_from(text: String) -> Result<Self, NotAPointer> {
        if text.is_empty() {
            return Ok(Self { tokens: Vec::new() });
        }
        let tokens =
            text.strip_prefix('/').ok_or(NotAPointer)?.split('/').map(Token::parse).collect::<Result<_, _>>()?;
        Ok(Self { tokens })
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.to_string()
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|token| write!(f, "/{}", token.name.replace('~', "~0").replace('/', "~1")))
    }
}

impl JsonSchema for Pointer {
    fn schema_name() -> Cow<'static, str> {
        "JsonPointer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "json-pointer" })
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, NotAPointer> {
        if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(NotAPointer);
        }
        let canonical = text == "0" || !text.starts_with(['0', '+']);
        let index = if canonical { text.parse().ok() } else { None };
        Ok(Self { name: text.replace("~1", "/").replace("~0", "~"), index })
    }

    /// Whether this is the member with that name, which may have escapes. A name that no text can hold is none that a
    /// pointer has.
    #[inline(always)]
    fn is(&self, written: &[u8]) -> bool {
        written == self.name.as_bytes() || written.contains(&b'\\') && self.is_escaped(written)
    }

    #[cold]
    fn is_escaped(&self, written: &[u8]) -> bool {
        name_of(written).is_ok_and(|name| name == self.name)
    }
}

/// A document is not JSON.
#[derive(Debug)]
pub struct NotJson(String);

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: {}", self.0)
    }
}

impl std::error::Error for NotJson {}

impl NotJson {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<serde_json::Error> for NotJson {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// So that a plugin can use `?`: the code is `not-json`.
impl From<NotJson> for Reject {
    fn from(error: NotJson) -> Self {
        Self::new("not-json", error.to_string())
    }
}

/// The document as text.
///
/// # Errors
/// It is not UTF-8, and so not JSON. Whether it is otherwise is seen when something is looked for.
pub fn text(document: &[u8]) -> Result<&str, NotJson> {
    std::str::from_utf8(document).map_err(|error| NotJson(error.to_string()))
}

impl Pointer {
    /// The part of `document` that this points to, as written there. If a name occurs twice in an object, the last one
    /// counts.
    ///
    /// # Errors
    /// The document is not JSON.
    pub fn find<'a>(&self, document: &'a str) -> Result<Option<&'a str>, NotJson> {
        let Some((first, rest)) = self.tokens.split_first() else { return Ok(Some(whole(document)?)) };
        let mut found = last_child(document, first)?;
        for token in rest {
            let Some(part) = found else { break };
            found = last_child(part, token)?;
        }
        Ok(found)
    }

    /// The text of the string, number or boolean that this points to; see [`plain_text`].
    ///
    /// # Errors
    /// The document is not JSON.
    pub fn find_text<'a>(&self, document: &'a str) -> Result<Option<Cow<'a, str>>, NotJson> {
        self.find(document)?.map_or(Ok(None), plain_text)
    }

    /// All parts of `document` that this points to, in their order: more than one if a name occurs twice in an object.
    ///
    /// # Errors
    /// The document is not JSON.
    pub fn find_all<'a>(&self, document: &'a str) -> Result<Vec<&'a str>, NotJson> {
        let mut found = vec![whole(document)?];
        for token in &self.tokens {
            let mut next = Vec::new();
            for part in found {
                children(part, token, |child| next.push(child))?;
            }
            found = next;
        }
        Ok(found)
    }
}

/// The elements of the array `document` as written there, or `None` if it is something else.
///
/// # Errors
/// The document is not JSON.
pub fn elements(document: &str) -> Result<Option<Vec<&str>>, NotJson> {
    let mut json = Scanner::new(document);
    if json.peek() != Some(b'[') {
        return whole(document).map(|_| None);
    }
    let mut elements = Vec::new();
    json.array(|element| elements.push(&document[element]))?;
    json.end()?;
    Ok(Some(elements))
}

/// The members of the object `document` by name, each value as written there, or `None` if it is something else. If a name occurs twice, the last one
/// counts.
///
/// # Errors
/// The document is not JSON, or a name is none that a text can hold.
pub fn members(document: &str) -> Result<Option<BTreeMap<Cow<'_, str>, &str>>, NotJson> {
    let mut json = Scanner::new(document);
    if json.peek() != Some(b'{') {
        return whole(document).map(|_| None);
    }
    let mut written = Vec::new();
    json.object(|name, value| written.push((name, &document[value])))?;
    json.end()?;
    let member = |(name, value)| Ok((name_of(name)?, value));
    written.into_iter().map(member).collect::<Result<_, _>>().map(Some)
}

/// The text of a string, or a number or boolean as it is written; `None` for anything else.
///
/// # Errors
/// A string that JSON can write but no text can hold: half of a surrogate pair.
pub fn plain_text(part: &str) -> Result<Option<Cow<'_, str>>, NotJson> {
    match part.as_bytes().first() {
        Some(b'"') => string(part).map(Some),
        Some(b'n' | b'[' | b'{') | None => Ok(None),
        Some(_) => Ok(Some(part.into())),
    }
}

/// The text of the string `part`.
///
/// # Errors
/// See [`plain_text`].
pub fn string(part: &str) -> Result<Cow<'_, str>, NotJson> {
    #[derive(Deserialize)]
    struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(serde_json::from_str::<Borrowed<'_>>(part)?.0)
}

/// The name of a member, which may have escapes.
fn name_of(written: &[u8]) -> Result<Cow<'_, str>, NotJson> {
    if written.contains(&b'\\') {
        let quoted = format!("\"{}\"", String::from_utf8_lossy(written));
        return string(&quoted).map(|name| name.into_owned().into());
    }
    std::str::from_utf8(written).map(Cow::Borrowed).map_err(|error| NotJson(error.to_string()))
}

/// The document without the blanks around it.
fn whole(document: &str) -> Result<&str, NotJson> {
    let mut json = Scanner::new(document);
    let whole = json.value()?;
    json.end()?;
    Ok(&document[whole])
}

fn last_child<'a>(document: &'a str, token: &Token) -> Result<Option<&'a str>, NotJson> {
    let mut last = None;
    children(document, token, |child| last = Some(child))?;
    Ok(last)
}

/// Hand over each child of the document's root that `token` names.
fn children<'a>(document: &'a str, token: &Token, mut found: impl FnMut(&'a str)) -> Result<(), NotJson> {
    let mut json = Scanner::new(document);
    match json.peek() {
        Some(b'{') => json.object(|name, value| {
            if token.is(name) {
                found(&document[value]);
            }
        })?,
        Some(b'[') => {
            let mut index = 0;
            json.array(|element| {
                if token.index == Some(index) {
                    found(&document[element]);
                }
                index += 1;
            })?;
        }
        _ => json.value().map(drop)?,
    }
    json.end()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{NotAPointer, Pointer, elements, members, plain_text};

    fn pointer(text: &str) -> Pointer {
        Pointer::try_from(text.to_owned()).expect(text)
    }

    #[test]
    fn refuses_what_is_no_pointer() {
        for text in ["a", "~", "/~", "/a~2", "/~~0", "#/a"] {
            assert_eq!(Pointer::try_from(text.to_owned()), Err(NotAPointer), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["", "/", "/a~1b/~01/0/00", "//"] {
            assert_eq!(pointer(text).to_string(), text);
        }
    }

    #[test]
    fn finds_the_bytes_as_they_are_written() {
        let document = " { \"a\" : [ 1.50 , { \"b\":\"\\u00e9\" } ] } ";
        for (text, part) in [
            ("", Some("{ \"a\" : [ 1.50 , { \"b\":\"\\u00e9\" } ] }")),
            ("/a/0", Some("1.50")),
            ("/a/1", Some("{ \"b\":\"\\u00e9\" }")),
            ("/a/1/b", Some("\"\\u00e9\"")),
            ("/a/2", None),
            ("/a/-", None),
            ("/a/0/x", None),
        ] {
            assert_eq!(pointer(text).find(document).expect("JSON"), part, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_json_wherever_it_looks() {
        for document in
            ["", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\":01}", "{'a':1}", "1 2", "nul", "{\"a\":1}}", "[1}", "\u{a0}1"]
        {
            for text in ["", "/a", "/0", "/a/b", "/x/y"] {
                assert!(pointer(text).find(document).is_err(), "{document} {text}");
                assert!(pointer(text).find_all(document).is_err(), "{document} {text}");
            }
            assert!(elements(document).is_err(), "{document}");
        }
    }

    #[test]
    fn finds_the_last_of_a_name_or_all() {
        let document = r#"{"a":{"b":1},"a":{"b":2,"b":3},"a":{}}"#;
        assert_eq!(pointer("/a/b").find(document).expect("JSON"), None);
        assert_eq!(pointer("/a/b").find_all(document).expect("JSON"), ["1", "2", "3"]);
    }

    #[test]
    fn numbers_beyond_any_type_are_passed_over() {
        let document = r#"{"a":1e999,"b":[123456789012345678901234567890]}"#;
        assert_eq!(pointer("/a").find(document).expect("JSON"), Some("1e999"));
        assert_eq!(pointer("/b/0").find(document).expect("JSON"), Some("123456789012345678901234567890"));
    }

    #[test]
    fn texts_of_parts() {
        for (part, text) in [
            ("\"a\\n\"", Some("a\n")),
            ("-1.0", Some("-1.0")),
            ("true", Some("true")),
            ("null", None),
            ("[]", None),
            ("{}", None),
        ] {
            assert_eq!(plain_text(part).expect("JSON").as_deref(), text, "{part}");
        }
        assert!(plain_text("\"\\ud800\"").is_err());
    }

    #[test]
    fn members_as_they_are_written() {
        let found = members(" { \"a\" : [1, 2], \"\\u0062\":1.0,\"b\":2 } ").expect("JSON").expect("an object");
        assert_eq!(Vec::from_iter(found), [("a".into(), "[1, 2]"), ("b".into(), "2")]);
        assert_eq!(members("[{}]").expect("JSON"), None);
        assert!(members("{\"a\":1} 2").is_err() && members("{\"\\ud800\":1}").is_err());
    }

    #[test]
    fn elements_as_they_are_written() {
        assert_eq!(elements(" [ 1 ,[2, 3],\"]\"] ").expect("JSON"), Some(vec!["1", "[2, 3]", "\"]\""]));
        assert_eq!(elements("{\"a\":[]}").expect("JSON"), None);
    }

    /// Numbers that look random, always the same ones.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(1);
            crate::random::of_record(self.0, 0, 0) % end
        }
    }

    const NAMES: [&str; 8] = ["a", "b", "0", "1", "00", "a/b", "~", "\u{e9}\n\""];

    fn document(numbers: &mut Numbers, depth: u64) -> Value {
        match numbers.below(if depth == 0 { 5 } else { 9 }) {
            0 => Value::Null,
            1 => Value::Bool(numbers.below(2) == 0),
            2 => Value::from(numbers.below(1000) as i64 - 500),
            3 => Value::from(numbers.below(1000) as f64 / 8.0),
            4 => Value::from(NAMES[numbers.below(8) as usize]),
            5 | 6 => (0..numbers.below(4)).map(|_| document(numbers, depth - 1)).collect(),
            _ => (0..numbers.below(12))
                .map(|_| (NAMES[numbers.below(8) as usize].to_owned(), document(numbers, depth - 1)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    #[test]
    fn agrees_with_a_document_in_memory() {
        let mut numbers = Numbers(0);
        let mut hits = 0;
        for round in 0..20_000 {
            let value = document(&mut numbers, 4);
            let tokens: Vec<&str> = (0..numbers.below(4)).map(|_| NAMES[numbers.below(8) as usize]).collect();
            let path: String = tokens.iter().map(|t| format!("/{}", t.replace('~', "~0").replace('/', "~1"))).collect();
            let written =
                if round % 2 == 0 { value.to_string() } else { serde_json::to_string_pretty(&value).expect("JSON") };
            let found = pointer(&path).find(&written).expect("JSON");
            let parsed: Option<Value> = found.map(|part| serde_json::from_str(part).expect("JSON"));
            assert_eq!(parsed.as_ref(), value.pointer(&path), "{path} in {written}");
            assert_eq!(pointer(&path).find_all(&written).expect("JSON"), Vec::from_iter(found));
            hits += usize::from(found.is_some() && !tokens.is_empty());
        }
        assert!(hits > 500, "only {hits} pointers pointed to something");
    }
}
