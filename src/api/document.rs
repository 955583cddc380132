//! JSON that clients send: everything that is wrong with it is said at once, each with its path.

use std::cell::RefCell;
use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::control::{ControlError, Fault};
use super::error::ApiError;
use crate::model::json::without_values;

/// What JSON is called. The last three are what `curl -d` and many libraries say of every text that they send.
const TYPES: [&str; 5] = [
    "application/json",
    "application/merge-patch+json",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
];

/// The object in a body.
///
/// # Errors
/// It is no JSON object, or a name is in one of its objects twice.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let (value, twice) = read(body).map_err(|why| not_json(&why))?;
    let Value::Object(object) = value else { return Err(not_json("it is not an object")) };
    if twice.is_empty() { Ok(object) } else { Err(ControlError::faults(twice).into()) }
}

/// The value that a text is.
///
/// # Errors
/// It is no JSON, or a name is in one of its objects twice.
pub fn value(text: &str) -> Result<Value, String> {
    let (value, twice) = read(text.as_bytes())?;
    twice.first().map_or(Ok(value), |Fault { path, message, .. }| Err(format!("{path}: {message}")))
}

/// The value, and the names that are in an object twice.
fn read(text: &[u8]) -> Result<(Value, Vec<Fault>), String> {
    let twice = RefCell::new(Vec::new());
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = Node { path: "$".to_owned(), twice: &twice }.deserialize(&mut json);
    let value = read.and_then(|value| json.end().map(|()| value));
    let value = value.map_err(|error| without_values(&error.to_string()))?;
    Ok((value, twice.into_inner()))
}

/// The request in a body.
///
/// # Errors
/// The same, or it is no `T`: what is wrong with each key of it.
pub(super) fn request<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut object = object(body)?;
    let mut faults = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(Value::Object(object.clone())) {
            Ok(_) if !faults.is_empty() => break,
            Ok(request) => return Ok(request),
            Err(error) => error,
        };
        // Reading ends at the first error. So what is wrong is taken out, and the rest is read again.
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        let key = path.split(['.', '[']).next().unwrap_or_default();
        match object.remove(key) {
            Some(_) => faults.push(fault(&path, &message)),
            None => {
                let taken_out = |fault: &Fault| message == format!("missing field `{}`", fault.path.replace("$.", ""));
                if !faults.iter().any(taken_out) {
                    faults.push(fault("", &message));
                }
                break;
            }
        }
    }
    Err(ControlError::faults(faults).into())
}

/// Whether a body may be what it is said to be.
///
/// # Errors
/// It is said to be packed, or something else than JSON in UTF-8.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let said = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let Some(said) = said else { return Ok(()) };
    let mut parts = said.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| TYPES.contains(&kind));
    let charset = parts.find_map(|part| part.strip_prefix("charset="));
    if is_json && charset.is_none_or(|charset| ["utf-8", "us-ascii"].contains(&charset.trim_matches('"'))) {
        return Ok(());
    }
    Err(unsupported(
        "this path takes JSON in UTF-8, and the header content-type says something else",
        "send JSON, with the header content-type: application/json",
    ))
}

/// Whether a body comes as it is.
///
/// # Errors
/// It is said to be packed.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?")) {
        None | Some("" | "identity") => Ok(()),
        Some(_) => {
            Err(unsupported("bodies come as they are, and not in an encoding", "send it without content-encoding"))
        }
    }
}

fn unsupported(detail: &str, remedy: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-body", detail, remedy)
}

fn not_json(why: &str) -> ApiError {
    ApiError::malformed("bad-json", format!("bad body: {why}"), "send a JSON object")
}

fn fault(path: &str, message: &str) -> Fault {
    let path = if path.is_empty() { "$".to_owned() } else { format!("$.{path}") };
    Fault { path, message: plainly(message), help: String::new() }
}

/// What serde says, without its words for types.
fn plainly(message: &str) -> String {
    let types = ["u8", "u16", "u32", "u64", "usize", "i16", "i32", "i64"];
    for kind in types {
        if let Some(before) = message.strip_suffix(&format!("expected {kind}")) {
            return format!("{}expected a whole number, and not too large a one", without_values(before));
        }
    }
    without_values(message).replace("missing field", "missing key").replace("unknown field", "unknown key")
}

/// A value at a path. Of names that are in an object twice serde_json would keep the last, and nobody would hear of the first.
struct Node<'t> {
    path: String,
    twice: &'t RefCell<Vec<Fault>>,
}

impl Node<'_> {
    fn at(&self, path: String) -> Self {
        Self { path, twice: self.twice }
    }

    fn member(&self, name: &str) -> String {
        let is_bare =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if is_bare { format!("{}.{name}", self.path) } else { format!("{}.{name:?}", self.path) }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(value) = values.next_element_seed(self.at(format!("{}[{}]", self.path, found.len())))? {
            found.push(value);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = self.member(&name);
            let value = members.next_value_seed(self.at(path.clone()))?;
            if found.insert(name, value).is_some() {
                let message = "this key is here twice".to_owned();
                self.twice.borrow_mut().push(Fault { path, message, help: "leave one of them out".to_owned() });
            }
        }
        Ok(Value::Object(found))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        count: u32,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        many: Vec<u8>,
    }

    fn faults<T: std::fmt::Debug>(read: Result<T, ApiError>) -> Vec<String> {
        let error = read.expect_err("an error");
        let mut faults: Vec<_> =
            error.faults().iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
        faults.sort();
        faults
    }

    #[test]
    fn all_that_is_wrong_with_a_request_is_said_with_its_path() {
        let good = request::<Sample>(br#"{"name":"x","count":3}"#).expect("good");
        assert_eq!(good, Sample { name: "x".to_owned(), count: 3, inner: None });
        let read = request::<Sample>(br#"{"name":1,"count":"many","other":2,"inner":{"many":[1,-1]}}"#);
        let number = "expected a whole number, and not too large a one";
        assert_eq!(
            faults(read),
            [
                format!("$.count: invalid type: a string, {number}"),
                format!("$.inner.many[1]: invalid value: a number, {number}"),
                "$.name: invalid type: a number, expected a string".to_owned(),
                "$.other: unknown key `other`, expected one of `name`, `count`, `inner`".to_owned(),
            ]
        );
        assert_eq!(faults(request::<Sample>(br#"{"count":1}"#)), ["$: missing key `name`"]);
        assert_eq!(faults(request::<Sample>(br#"{"countt":1,"name":"x"}"#)).len(), 2);
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_wherever_it_is() {
        let read = object(br#"{"a":1,"b":[{"c d":1,"c d":2}],"a":{"x":0,"x":0}}"#);
        let found = faults(read);
        let twice = |path: &str| format!("{path}: this key is here twice");
        assert_eq!(found, [twice("$.a.x"), twice("$.a"), twice("$.b[0].\"c d\"")]);
        assert!(object(br#"{"a":{"x":1},"b":{"x":1}}"#).is_ok());
        assert_eq!(value(r#"[1,{"a":1,"a":2}]"#), Err("$[1].a: this key is here twice".to_owned()));
        assert_eq!(value("7"), Ok(7.into()));
    }

    #[test]
    fn what_is_no_object_is_no_document() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for body in ["", "null", "[]", "{} {}", "{", "nonsense", "1e400", &deep, "{\"a\":\"\u{0}\"}"] {
            assert!(faults(object(body.as_bytes())).is_empty(), "{body}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        let numbers = object(br#"{"a":[18446744073709551615,-9223372036854775808,0.5]}"#).expect("an object");
        assert_eq!(numbers["a"].to_string(), "[18446744073709551615,-9223372036854775808,0.5]");
    }

    #[test]
    fn what_is_said_to_be_something_else_is_not_looked_at() {
        let with = |name: header::HeaderName, value: &'static str| {
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        for fine in ["application/json", "Application/JSON; charset=\"UTF-8\"", "application/x-www-form-urlencoded"] {
            assert!(check_type(&with(header::CONTENT_TYPE, fine)).is_ok(), "{fine}");
        }
        for wrong in ["application/xml", "application/json; charset=utf-16", "multipart/form-data; boundary=x", ""] {
            assert!(check_type(&with(header::CONTENT_TYPE, wrong)).is_err(), "{wrong}");
        }
        assert!(check_encoding(&with(header::CONTENT_ENCODING, "gzip")).is_err());
        assert!(check_encoding(&HeaderMap::new()).is_ok());
    }
}
