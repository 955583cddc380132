//! Masks parts of JSON values. See `README.md`.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::json::{self, NotJson, Pointer};
use tidegate_plugin::{Column, ConfigError, Outputs, Record, Reject, Routes, Transform, export_transform};

/// What to mask, and how.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the fields are in the value.
    pointers: Vec<Pointer>,
    /// How many characters at the end stay as they are. A field that has no more than these is masked whole.
    #[serde(default)]
    keep_last: usize,
    /// What stands for each masked character.
    #[serde(default = "star")]
    mask: String,
}

fn star() -> String {
    "*".to_owned()
}

struct Redact(Config);

impl Transform for Redact {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Value];

    fn new(config: Config, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        if config.pointers.is_empty() {
            return Err(ConfigError::new("/pointers", "give one pointer at least").into());
        }
        Ok(Self(config))
    }

    fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let redacted = match record.value() {
            Some(value) => self.redact(json::text(value)?)?,
            None => None,
        };
        let mut output = outputs.emit();
        if let Some(value) = redacted {
            output.value(Some(value.as_bytes()));
        }
        Ok(())
    }
}

impl Redact {
    /// The document with its fields masked, or `None` if it has none of them. All bytes around the fields stay as they are.
    fn redact(&self, document: &str) -> Result<Option<String>, Reject> {
        let fields = self.fields(document)?;
        if fields.is_empty() {
            return Ok(None);
        }
        let mut redacted = String::with_capacity(document.len() + 16);
        let mut end = 0;
        for field in fields {
            redacted.push_str(&document[end..field.start]);
            redacted.push_str(&self.masked(&document[field.clone()])?);
            end = field.end;
        }
        redacted.push_str(&document[end..]);
        Ok(Some(redacted))
    }

    /// Where the fields are, in order. A name that occurs twice in an object is masked twice: who reads the document
    /// may take the first one.
    fn fields(&self, document: &str) -> Result<Vec<Range<usize>>, Reject> {
        let mut fields = Vec::new();
        for pointer in &self.0.pointers {
            for part in pointer.find_all(document)? {
                match part.as_bytes().first() {
                    Some(b'n') => {}
                    Some(b'"' | b'-' | b'0'..=b'9') => {
                        let start = part.as_ptr() as usize - document.as_ptr() as usize;
                        fields.push(start..start + part.len());
                    }
                    // To pass it on could show what was meant to be hidden.
                    _ => {
                        return Err(Reject::new("not-text", format!("\"{pointer}\" is neither a string nor a number")));
                    }
                }
            }
        }
        fields.sort_by_key(|field| field.start);
        fields.dedup();
        Ok(fields)
    }

    /// The JSON string that stands for a field.
    fn masked(&self, field: &str) -> Result<String, NotJson> {
        let text = json::plain_text(field)?.unwrap_or_default();
        let length = text.chars().count();
        let hidden = if length <= self.0.keep_last { length } else { length - self.0.keep_last };
        let kept: String = text.chars().skip(hidden).collect();
        Ok(serde_json::Value::from(self.0.mask.repeat(hidden) + &kept).to_string())
    }
}

export_transform!(Redact);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, document: &str, expect: &str) {
        let config = serde_json::from_str(config).expect("a configuration");
        let redact = Redact::new(config, &mut Routes::default()).map_err(|e| format!("{e:?}")).expect("valid");
        let redacted = redact.redact(document).expect("a document");
        assert_eq!(redacted.as_deref().unwrap_or(document), expect);
    }

    #[test]
    fn changes_nothing_around_the_fields() {
        check(
            r#"{"pointers": ["/card", "/a/0"], "keep_last": 2}"#,
            "{ \"b\" : 1.50,\r\n\"card\"\t: \"123\\u00e945\", \"a\":[ 77 ,\"\\u0041\"] } ",
            "{ \"b\" : 1.50,\r\n\"card\"\t: \"****45\", \"a\":[ \"**\" ,\"\\u0041\"] } ",
        );
    }

    #[test]
    fn counts_characters_not_bytes() {
        check(r#"{"pointers": [""], "keep_last": 2, "mask": "•"}"#, "\"äöü€\"", "\"••ü€\"");
    }

    #[test]
    fn masks_a_short_field_whole() {
        check(r#"{"pointers": ["/a", "/b"], "keep_last": 4}"#, r#"{"a":"1234","b":""}"#, r#"{"a":"****","b":""}"#);
    }

    #[test]
    fn masks_every_field_of_the_same_name() {
        check(r#"{"pointers": ["/a", "/a"]}"#, r#"{"a":"12","a":"34"}"#, r#"{"a":"**","a":"**"}"#);
    }

    #[test]
    fn refuses_what_it_cannot_mask() {
        let redact = Redact(Config { pointers: vec![Pointer::default()], keep_last: 0, mask: star() });
        assert_eq!(redact.redact("{\"card\":1}").expect_err("an object").code, "not-text");
        assert_eq!(redact.redact("{").expect_err("no document").code, "not-json");
    }
}
