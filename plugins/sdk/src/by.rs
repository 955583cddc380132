//! What tells a record from others.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::json::{self, Pointer};
use crate::{Record, Reject};

/// What tells a record from others. In a configuration `"key"`, or `{"pointer": "/id"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The record's key.
    #[default]
    Key,
    /// A string, number or boolean in the JSON value.
    Pointer(Pointer),
}

impl By {
    /// The key, or the text that the pointer points to; `None` if it is null or missing. A number or boolean is text as it is
    /// written. Needs [`Column::Key`](crate::Column::Key) or [`Column::Value`](crate::Column::Value).
    ///
    /// # Errors
    /// `not-json`; `not-text`, if the pointer points to an array or an object.
    pub fn find<'a>(&self, record: &Record<'a>) -> Result<Option<Cow<'a, [u8]>>, Reject> {
        match self {
            Self::Key => Ok(record.key().map(Cow::Borrowed)),
            Self::Pointer(pointer) => record.value().map_or(Ok(None), |value| text_at(pointer, value)),
        }
    }
}

fn text_at<'a>(pointer: &Pointer, value: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    let Some(part) = pointer.find(json::text(value)?)?.filter(|part| *part != "null") else { return Ok(None) };
    match json::plain_text(part)? {
        Some(Cow::Borrowed(text)) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
        Some(Cow::Owned(text)) => Ok(Some(Cow::Owned(text.into_bytes()))),
        None => Err(Reject::new("not-text", format!("\"{pointer}\" is an array or an object"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pointer: &str, value: &str, expect: Result<Option<&str>, &str>) {
        let pointer = Pointer::try_from(pointer.to_owned()).expect("a pointer");
        let found = text_at(&pointer, value.as_bytes());
        let found = found.map(|text| text.map(|text| String::from_utf8_lossy(&text).into_owned()));
        assert_eq!(found.map_err(|reject| reject.code), expect.map(|text| text.map(str::to_owned)), "{value}");
    }

    #[test]
    fn finds_the_text_of_a_part() {
        check("/id", r#"{"id": "a\u0062"}"#, Ok(Some("ab")));
        check("/id", r#"{"id": 7.0}"#, Ok(Some("7.0")));
        check("/id", r#"{"id": true}"#, Ok(Some("true")));
        check("/id", r#"{"id": "null"}"#, Ok(Some("null")));
        check("/id", r#"{"id": ""}"#, Ok(Some("")));
        check("/id", r#"{"id": null}"#, Ok(None));
        check("/id", r#"{"no": 1}"#, Ok(None));
        check("/id", r#"{"id": [1]}"#, Err("not-text"));
        check("/id", "{", Err("not-json"));
    }

    #[test]
    fn is_a_word_or_a_pointer() {
        let read = |text| serde_json::from_str::<By>(text).ok();
        assert_eq!(read(r#""key""#), Some(By::Key));
        assert_eq!(read(r#"{"pointer": ""}"#), Some(By::Pointer(Pointer::default())));
        assert_eq!(read(r#"{"pointer": "id"}"#), None);
        assert_eq!(read(r#""/id""#), None);
    }
}
