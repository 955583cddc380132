//! Every answer that a test gets is compared with the description of the API: a status, a media type or a field that it does not name is an error.
//!
//! The shapes of the description need a dozen keywords of JSON Schema, and one that is not known here is an error too. Libraries that know all of them take
//! longer to compile than everything else that the tests need.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};
use tidegate::api::openapi;
use tidegate::api::wire::{CODES, Problem, Time};

/// What may be answered where there is nothing: strangers are told nothing else, and nobody is heard who asks too often.
const NOWHERE: [u16; 8] = [400, 401, 403, 404, 405, 408, 413, 429];

/// The description, with answers closed: what is not named must not be there.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = openapi().clone();
    close(&mut document["components"]["schemas"]);
    document
});

/// Panics unless an answer is one that the description has. `path` is without the query.
pub fn check(method: &str, path: &str, status: u16, media_type: &str, body: &str) {
    if let Err(wrong) = conforms(method, path, status, media_type, body) {
        panic!("{method} {path}: {status} {media_type}: {wrong}\n{body}");
    }
}

fn conforms(method: &str, path: &str, status: u16, media_type: &str, body: &str) -> Result<(), String> {
    let method = method.to_lowercase();
    let Some(operation) = template(path).and_then(|template| DOCUMENT["paths"][template].get(&*method)) else {
        let problem = &DOCUMENT["components"]["schemas"]["Problem"];
        let is_nowhere = NOWHERE.contains(&status);
        return if is_nowhere { fits_problem(problem, body) } else { Err("there is no such operation".to_owned()) };
    };
    let answer = resolve(operation["responses"].get(status.to_string()).ok_or("this status is not described")?);
    let Some(content) = answer.get("content") else {
        return if body.is_empty() { Ok(()) } else { Err("there should be no body".to_owned()) };
    };
    let media = media_type.split(';').next().unwrap_or_default();
    let described = content.get(media).ok_or("this media type is not described")?;
    match media {
        "application/json" => fits_text(&described["schema"], body),
        "application/problem+json" => fits_problem(&described["schema"], body),
        _ => Ok(()),
    }
}

/// The path as it stands in the description.
fn template(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &&String| {
        let known: Vec<&str> = template.split('/').collect();
        let same = |(known, part): (&&str, &&str)| known == part || (known.starts_with('{') && !part.is_empty());
        known.len() == parts.len() && known.iter().zip(&parts).all(same)
    };
    DOCUMENT["paths"].as_object()?.keys().find(fits).map(String::as_str)
}

fn resolve(shape: &Value) -> &Value {
    let pointer = shape["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
    pointer.map_or(shape, |pointer| DOCUMENT.pointer(pointer).expect("a shape"))
}

/// Objects that say which fields they have shall have no others.
fn close(shape: &mut Value) {
    match shape {
        Value::Object(fields) => {
            if fields.contains_key("properties") && fields.contains_key("type") {
                fields.entry("additionalProperties").or_insert(false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// A problem has a code that is known, unless it is that of a link or cluster.
fn fits_problem(shape: &Value, body: &str) -> Result<(), String> {
    fits_text(shape, body)?;
    let problem: Problem = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let is_known = problem.status >= 500 || CODES.contains(&&*problem.code);
    if is_known { Ok(()) } else { Err(format!("the code {} is not among those that are described", problem.code)) }
}

fn fits_text(shape: &Value, body: &str) -> Result<(), String> {
    fits(shape, &serde_json::from_str(body).map_err(|error| error.to_string())?, "$")
}

/// Whether a value has a shape; if not, where it has not.
fn fits(shape: &Value, value: &Value, place: &str) -> Result<(), String> {
    let Some(rules) = shape.as_object() else {
        return if shape == true { Ok(()) } else { Err(format!("{place}: there should be nothing")) };
    };
    rules.iter().try_for_each(|(keyword, rule)| obeys(keyword, rule, rules, value, place))
}

fn obeys(keyword: &str, rule: &Value, rules: &Map<String, Value>, value: &Value, place: &str) -> Result<(), String> {
    let items = || rule.as_array().expect("a list");
    let good = match keyword {
        "$ref" => return fits(resolve(&serde_json::json!({"$ref": rule})), value, place),
        "allOf" => return items().iter().try_for_each(|shape| fits(shape, value, place)),
        "properties" | "required" | "additionalProperties" => match value.as_object() {
            Some(fields) => return has_fields(keyword, rule, rules, fields, place),
            None => true,
        },
        "items" | "prefixItems" => match value.as_array() {
            Some(elements) => return has_elements(keyword, rule, rules, elements, place),
            None => true,
        },
        "anyOf" => items().iter().any(|shape| fits(shape, value, place).is_ok()),
        "oneOf" => items().iter().filter(|shape| fits(shape, value, place).is_ok()).count() == 1,
        "type" => rule.as_array().map_or_else(|| is_a(rule, value), |kinds| kinds.iter().any(|kind| is_a(kind, value))),
        "enum" => items().contains(value),
        "const" => rule == value,
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a number")),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().expect("a number")),
        "pattern" => value
            .as_str()
            .is_none_or(|text| Regex::new(rule.as_str().expect("text")).expect("a pattern").is_match(text)),
        "format" if rule == "date-time" => value.as_str().is_none_or(|text| text.parse::<Time>().is_ok()),
        // Widths of numbers, which `type`, `minimum` and `maximum` say as well.
        "format" | "description" | "default" | "examples" | "contentEncoding" => true,
        unknown => return Err(format!("{place}: the shape has {unknown}, which the tests do not know")),
    };
    if good { Ok(()) } else { Err(format!("{place}: {keyword} should be {rule}: {value}")) }
}

fn has_fields(
    keyword: &str,
    rule: &Value,
    rules: &Map<String, Value>,
    fields: &Map<String, Value>,
    place: &str,
) -> Result<(), String> {
    let known = |name: &str| rules.get("properties").and_then(|known| known.get(name));
    match keyword {
        "required" => {
            let missing =
                rule.as_array().expect("names").iter().find(|name| !fields.contains_key(name.as_str().unwrap()));
            missing.map_or(Ok(()), |name| Err(format!("{place}: there is no {name}")))
        }
        "properties" => fields.iter().try_for_each(|(name, value)| {
            known(name).map_or(Ok(()), |shape| fits(shape, value, &format!("{place}.{name}")))
        }),
        _ => fields
            .iter()
            .filter(|(name, _)| known(name).is_none())
            .try_for_each(|(name, value)| fits(rule, value, &format!("{place}.{name}"))),
    }
}

fn has_elements(
    keyword: &str,
    rule: &Value,
    rules: &Map<String, Value>,
    elements: &[Value],
    place: &str,
) -> Result<(), String> {
    let first = rules.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
    let each = |(at, element): (usize, &Value)| {
        let shape = if keyword == "items" { (at >= first).then_some(rule) } else { rule.get(at) };
        shape.map_or(Ok(()), |shape| fits(shape, element, &format!("{place}[{at}]")))
    };
    elements.iter().enumerate().try_for_each(each)
}

fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}

#[test]
fn what_the_description_does_not_have_is_noticed() {
    let probe = |status, media, body| conforms("GET", "/api/v1/healthz", status, media, body);
    let json = "application/json";
    assert_eq!(probe(200, json, r#"{"status":"ok"}"#), Ok(()));
    for (status, media, body) in [
        (200, json, r#"{"status":"ok","more":1}"#),
        (200, json, "{}"),
        (200, json, r#"{"status":1}"#),
        (200, json, "[]"),
        (200, json, ""),
        (200, "text/plain", r#"{"status":"ok"}"#),
        (202, json, r#"{"status":"ok"}"#),
        (500, "application/problem+json", "{}"),
    ] {
        assert!(probe(status, media, body).is_err(), "{status} {media} {body}");
    }
    assert!(conforms("GET", "/api/v1/nowhere", 200, json, "{}").is_err());
    assert!(conforms("PATCH", "/api/v1/status", 200, json, "{}").is_err());
}

#[test]
fn a_value_is_compared_with_its_shape_in_every_part() {
    let check = |shape: Value, good: &[Value], bad: &[Value]| {
        good.iter().for_each(|value| assert_eq!(fits(&shape, value, "$"), Ok(())));
        bad.iter().for_each(|value| assert!(fits(&shape, value, "$").is_err(), "{shape}: {value}"));
    };
    use serde_json::json;
    check(
        json!({"type": ["integer", "null"], "minimum": 0}),
        &[json!(0), json!(null)],
        &[json!(-1), json!(1.5), json!("0")],
    );
    check(
        json!({"type": "array", "items": {"maximum": 3}, "maxItems": 2}),
        &[json!([1, 3])],
        &[json!([4]), json!([1, 1, 1]), json!({})],
    );
    check(
        json!({"prefixItems": [{"type": "string"}], "items": {"type": "null"}, "minItems": 1}),
        &[json!(["a", null])],
        &[json!([]), json!([1]), json!(["a", 1])],
    );
    check(
        json!({"properties": {"a": {"const": 1}}, "additionalProperties": {"type": "string"}}),
        &[json!({"a": 1, "b": "c"}), json!({})],
        &[json!({"a": 2}), json!({"b": 1})],
    );
    check(json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), &[json!(1.5)], &[json!(1), json!("")]);
    check(json!({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}), &[json!("a"), json!(null)], &[json!("b")]);
    check(json!({"allOf": [{"pattern": "^a"}, {"pattern": "b$"}]}), &[json!("ab")], &[json!("a"), json!("b")]);
    check(json!({"format": "date-time"}), &[json!("2024-01-15T10:00:00.000Z")], &[json!("yesterday")]);
    check(json!({"$ref": "#/components/schemas/Probe"}), &[json!({"status": "ok"})], &[json!({})]);
    check(json!({"unheard": 1}), &[], &[json!(1)]);
}
