//! Find parts of a JSON document without building it in memory.
//!
//! What is not looked for is checked to be JSON and skipped. What is found is a slice of the document, so a plugin can
//! change these bytes and leave all others as they are. Numbers are not looked at: one that fits no machine type is
//! passed over like any other.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Reject;

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
    if !document.trim_start().starts_with('[') {
        whole(document)?;
        return Ok(None);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(document)?;
    Ok(Some(elements.into_iter().map(RawValue::get).collect()))
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

/// The document without the blanks around it.
fn whole(document: &str) -> Result<&str, NotJson> {
    Ok(serde_json::from_str::<&RawValue>(document)?.get())
}

fn last_child<'a>(document: &'a str, token: &Token) -> Result<Option<&'a str>, NotJson> {
    let mut last = None;
    children(document, token, |child| last = Some(child))?;
    Ok(last)
}

/// Hand over each child of the document's root that `token` names.
fn children<'a>(document: &'a str, token: &Token, found: impl FnMut(&'a str)) -> Result<(), NotJson> {
    let mut json = serde_json::Deserializer::from_str(document);
    let visitor = Children { token, found };
    match document.trim_start().as_bytes().first() {
        Some(b'{') => json.deserialize_map(visitor)?,
        Some(b'[') => json.deserialize_seq(visitor)?,
        _ => whole(document).map(drop)?,
    }
    Ok(json.end()?)
}

struct Children<'t, F> {
    token: &'t Token,
    found: F,
}

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Children<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(here) = map.next_key_seed(Named(&self.token.name))? {
            if here {
                (self.found)(map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            if self.token.index == Some(index) {
                let Some(element) = seq.next_element::<&RawValue>()? else { break };
                (self.found)(element.get());
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a name is the one that is looked for.
struct Named<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
