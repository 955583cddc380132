//! JSON that clients send: everything that is wrong with it is said at once, each with its path.

use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::control::{ControlError, Fault};
use super::error::ApiError;
use crate::model::json_error::without_values;
use crate::model::{Json, JsonObject, NotJson};

/// What JSON is called. The last three are what `curl -d` and many libraries say of every text that they send.
const TYPES: [&str; 5] = [
    "application/json",
    "application/merge-patch+json",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
];

/// The most faults that are told of one body.
const FAULTS_MAX: usize = 100;

/// The most bytes that are read to find them: a body is read again for each.
const READ_BYTES_MAX: usize = 16 << 20;

/// The object in a body.
///
/// # Errors
/// It is no JSON object, or a name is in one of its objects twice.
pub(super) fn object(body: &[u8]) -> Result<JsonObject, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| not_json(&error.to_string()))?;
    let twice = |path: String| {
        let message = "this key is here twice".to_owned();
        Fault { path, message, help: "leave one of them out".to_owned(), ..Fault::default() }
    };
    match Json::parse(text) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(not_json("it is not an object")),
        Err(NotJson::Syntax(why)) => Err(not_json(&why)),
        Err(NotJson::Twice(paths)) => Err(ControlError::faults(paths.into_iter().map(twice).collect()).into()),
    }
}

/// The request in a body.
///
/// # Errors
/// The same, or it is no `T`: what is wrong with each key of it.
pub(super) fn request<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    object(body)?;
    // From the text, so that a number keeps its digits.
    if let Ok(request) = serde_json::from_slice(body) {
        return Ok(request);
    }
    let mut object: Value = serde_json::from_slice(body).map_err(|error| not_json(&error.to_string()))?;
    let mut faults = Vec::new();
    for _ in 0..(READ_BYTES_MAX / body.len().max(1)).clamp(1, FAULTS_MAX) {
        let error = match serde_path_to_error::deserialize::<_, T>(&object) {
            Ok(_) if !faults.is_empty() => break,
            Ok(request) => return Ok(request),
            Err(error) => error,
        };
        // Reading ends at the first error. So what is wrong is taken out, and the rest is read again.
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        let key = path.split(['.', '[']).next().unwrap_or_default();
        match object.as_object_mut().and_then(|object| object.remove(key)) {
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
    Fault { path, message: plainly(message), ..Fault::default() }
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

    /// Each is found by reading all again.
    #[test]
    fn of_many_faults_the_first_are_said() {
        let with = |count: usize, value: &str| {
            let keys: Vec<_> = (0..count).map(|index| format!("\"key{index}\":{value}")).collect();
            faults(request::<Sample>(format!("{{{}}}", keys.join(",")).as_bytes())).len()
        };
        assert_eq!(with(10, "0"), 11, "a key is missing too");
        assert_eq!(with(1000, "0"), FAULTS_MAX);
        assert_eq!(with(1000, &format!("\"{}\"", "x".repeat(1000))), READ_BYTES_MAX / 1_016_792);
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_wherever_it_is() {
        let read = object(br#"{"a":1,"b":[{"c d":1,"c d":2}],"a":{"x":0,"x":0}}"#);
        let found = faults(read);
        let twice = |path: &str| format!("{path}: this key is here twice");
        assert_eq!(found, [twice("$.a.x"), twice("$.a"), twice("$.b[0].\"c d\"")]);
        assert!(object(br#"{"a":{"x":1},"b":{"x":1}}"#).is_ok());
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
