//! From the text of a configuration to the plugin's own type, with every error and its place.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::json::{self, Pointer};

/// The configuration of a plugin that has nothing to configure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: a JSON Pointer (RFC 6901), empty for the whole configuration.
    pub path: String,
    /// What, and what would be right.
    pub message: String,
}

impl ConfigError {
    /// An error at `path`, for example `/pointers/0`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// So that `?` makes a list of one error.
impl From<ConfigError> for Vec<ConfigError> {
    fn from(error: ConfigError) -> Self {
        vec![error]
    }
}

/// Read a configuration.
///
/// # Errors
/// Everything that is wrong with it. Deserialization stops at the first error, so what caused it is taken out and the rest
/// is read again, until it is right or nothing is left.
pub(crate) fn read<C: DeserializeOwned>(text: &str) -> Result<C, Vec<ConfigError>> {
    let whole: &RawValue =
        serde_json::from_str(text).map_err(|error| ConfigError::new("", format!("not JSON: {error}")))?;
    if !whole.get().starts_with('{') {
        return Err(ConfigError::new("", "a configuration is a JSON object").into());
    }
    let mut config = Cow::Borrowed(whole.get());
    let mut errors = Vec::new();
    let mut removed = Vec::new();
    loop {
        // From the text, and not from a `serde_json::Value`, which rounds numbers.
        let mut json = serde_json::Deserializer::from_str(&config);
        let (path, message) = match serde_path_to_error::deserialize::<_, C>(&mut json) {
            Ok(parsed) if errors.is_empty() => return Ok(parsed),
            Ok(_) => return Err(errors),
            Err(error) => (pointer(error.path()), message(error.inner())),
        };
        if !missing_field(&path, &message).is_some_and(|field| removed.contains(&field)) {
            errors.push(ConfigError::new(path.clone(), message));
        }
        match remove(&config, &path) {
            Some((rest, path)) => {
                config = Cow::Owned(rest);
                removed.push(path);
            }
            None => return Err(errors),
        }
    }
}

/// What is wrong, without the place in a text of which parts were taken out.
fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).map_or_else(|| message.clone(), str::to_owned)
}

/// The place of the field that an error misses, if it is one of that kind.
fn missing_field(path: &str, message: &str) -> Option<String> {
    let field = message.strip_prefix("missing field `")?.strip_suffix('`')?;
    Some(format!("{path}/{}", escape(field)))
}

/// Take the member at `path` out of its object, or the list that it is in, so that places in lists stay what they are. The
/// answer is what is left, and the place of what is gone; `None` if that would be the whole.
fn remove(config: &str, path: &str) -> Option<(String, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    let object = Pointer::try_from(parent.to_owned()).ok()?.find(config).ok()??;
    let Some(mut members) = json::members(object).ok()? else { return remove(config, parent) };
    members.remove(&*last.replace("~1", "/").replace("~0", "~"))?;
    let members: BTreeMap<_, &RawValue> = members
        .into_iter()
        .map(|(name, part)| Some((name, serde_json::from_str(part).ok()?)))
        .collect::<Option<_>>()?;
    let at = object.as_ptr().addr() - config.as_ptr().addr();
    let rest = serde_json::to_string(&members).ok()?;
    Some((format!("{}{rest}{}", &config[..at], &config[at + object.len()..]), path.to_owned()))
}

/// The place of an error as a JSON Pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", escape(key)),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

/// A key as a part of a JSON Pointer.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Num;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Inner {
        limit: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Outer {
        inner: Inner,
        list: Vec<u8>,
        name: Option<String>,
    }

    fn check(text: &str, expect: &[(&str, &str)]) {
        let errors = read::<Outer>(text).expect_err(text);
        let errors: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.message.as_str())).collect();
        assert_eq!(errors, expect, "{text}");
    }

    #[test]
    fn reads_what_is_right() {
        let outer = read::<Outer>(r#" {"inner": {"limit": 1}, "list": [1, 2]} "#).expect("right");
        assert_eq!((outer.inner.limit, outer.list, outer.name), (1, vec![1, 2], None));
    }

    #[test]
    fn numbers_keep_their_digits() {
        #[derive(Deserialize)]
        struct Large {
            int: u128,
            num: Num,
            value: Vec<json::Value>,
        }
        let text = r#"{"int": 18446744073709551617, "num": 170141183460469231731687303715884105727, "value": [18446744073709551617, 1e400]}"#;
        let large = read::<Large>(text).expect("right");
        assert_eq!(large.int, (1 << 64) + 1);
        assert_eq!(large.num, Num::Int(i128::MAX));
        let [int, beyond] = &large.value[..] else { panic!("two values") };
        assert!(int.is("18446744073709551617").expect("JSON") && !int.is("18446744073709551616").expect("JSON"));
        assert_eq!(*beyond, json::Value::Number(Num::Float(f64::INFINITY)));
        let errors =
            read::<Large>(r#"{"int": 18446744073709551617, "num": "1", "value": []}"#).err().expect("an error");
        assert_eq!(errors, [ConfigError::new("/num", "\"1\" is no number")], "and none about the first");
    }

    #[test]
    fn says_where_each_error_is() {
        check(
            r#"{"inner": {"limit": 1}, "list": [1, "b"]}"#,
            &[("/list/1", "invalid type: string \"b\", expected u8")],
        );
        check(
            r#"{"inner": {"limit": 1, "li/mit": 2}, "list": []}"#,
            &[("/inner/li~1mit", "unknown field `li/mit`, expected `limit`")],
        );
        check(r#"{"list": []}"#, &[("", "missing field `inner`")]);
        check("[]", &[("", "a configuration is a JSON object")]);
        check("{", &[("", "not JSON: EOF while parsing an object at line 1 column 1")]);
    }

    #[test]
    fn reports_all_errors_and_none_that_follow_from_them() {
        check(
            r#"{"inner": {"limit": -1}, "list": "x", "name": 1, "nmae": "y"}"#,
            &[
                ("/inner/limit", "invalid value: integer `-1`, expected u32"),
                ("/list", "invalid type: string \"x\", expected a sequence"),
                ("/name", "invalid type: integer `1`, expected a string"),
                ("/nmae", "unknown field `nmae`, expected one of `inner`, `list`, `name`"),
            ],
        );
    }
}
