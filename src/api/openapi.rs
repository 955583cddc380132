//! The description of the API: OpenAPI 3.1, made of the routes and of the types of their handlers.
//!
//! Answers are described as open: they may get more fields. What is sent is closed: a field that is not known is an error.

use std::sync::OnceLock;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::control::ErrorKind;
use super::describe::{Operation, Shapes, meaning};
use super::routes::{Needs, Route, routes};
use super::wire::Problem;
use crate::config::Role;

/// Every status that a problem may have, and that the description has a response for.
const FAILURES: [u16; 11] = [400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429];

const ABOUT: &str = "\
Tidegate replicates streams of records between clusters. Every answer with a status from 400 on is a problem document (RFC 9457) with a stable `code`. \
A number that is not known is null, never 0. Answers may get more fields with later versions; what is sent must have no others than these.

A security requirement names the least role that is needed: `read` looks at everything but records, `operate` has links do what an admin has defined, and reads and writes \
records, `admin` says what there is. A daemon on a loopback address without tokens asks nobody.";

/// The document.
pub fn openapi() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| described().0)
}

/// The document, and the names of shapes that mean two things.
fn described() -> (Value, Vec<String>) {
    let mut shapes = Shapes::new();
    let mut paths = Map::new();
    for route in routes() {
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(&route, &mut shapes);
    }
    let problem = json!({"application/problem+json": {"schema": shapes.answered::<Problem>()}});
    let failure = |status: u16| (status.to_string(), json!({"description": meaning(status), "content": problem}));
    let failures: Map<_, _> = FAILURES.into_iter().chain([503]).map(failure).collect();
    let (named, ambiguous) = shapes.named();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": named,
            "responses": failures,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of `[[daemon.api.tokens]]`."},
                "certificate": {"type": "mutualTLS", "description": "A client certificate that `[[daemon.api.clients]]` names."},
            },
        },
    });
    (document, ambiguous)
}

fn operation(route: &Route, shapes: &mut Shapes) -> Value {
    let mut operation = Operation::new(shapes);
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation.segment(name);
    }
    (route.describe)(&mut operation);
    // Whoever does not speak TLS where it is spoken is refused everywhere, and so is whoever comes from a foreign page or asks too often.
    operation.fails(&[400, 403, 429]);
    if route.needs != Needs::Nothing {
        operation.fails(&[401]);
    }
    route.fails.iter().for_each(|kind| operation.fails(&[kind.status().as_u16()]));
    if route.path.contains("{link}/") {
        // The definition of the link cannot be used.
        operation.fails(&[ErrorKind::Conflict.status().as_u16()]);
    }
    if route.method == Method::GET && route.needs != Needs::Nothing {
        operation.may_be_unheard(route.asks);
    }
    let mut described = operation.describe();
    described.insert("summary".to_owned(), route.says.into());
    described.insert("tags".to_owned(), json!([route.family()]));
    described.insert("security".to_owned(), security(route.needs));
    if let Some(id) = route.id() {
        described.insert("operationId".to_owned(), id.into());
    }
    described.into()
}

fn security(needs: Needs) -> Value {
    let with = |role: Role| [json!({"token": [role.word()]}), json!({"certificate": [role.word()]})];
    match needs {
        Needs::Nothing => json!([]),
        Needs::Metrics => [&with(Role::Read)[..], &[json!({})]].concat().into(),
        Needs::Role(role) | Needs::RoleForRecords(role) => with(role).to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::CODES;

    #[test]
    fn a_name_means_one_shape() {
        assert_eq!(described().1, Vec::<String>::new());
    }

    /// What a program generates its code from has to be unique, and everything has to be said.
    #[test]
    fn every_operation_is_described() {
        let document = openapi();
        let mut ids = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let place = format!("{method} {path}");
                let says = operation["summary"].as_str().expect(&place);
                assert!(
                    says.len() > 5 && !says.ends_with('.') && says.starts_with(char::is_uppercase),
                    "{place}: {says}"
                );
                ids.extend(operation["operationId"].as_str());
                let responses = operation["responses"].as_object().expect(&place);
                assert!(responses.keys().any(|status| status.starts_with('2')), "{place} never succeeds");
                for status in responses.keys() {
                    assert_ne!(meaning(status.parse().expect("a status")), "", "{place}: {status}");
                }
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id is there twice");
    }

    /// Clients compare codes: what is refused with one that is not listed would be news to them.
    #[test]
    fn every_code_of_a_refusal_is_listed() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut waiting = vec![root.join("api"), root.join("daemon")];
        let kinds = "(?:ErrorKind::)?(?:NotFound|Conflict|Malformed|Outdated|Invalid)";
        let refused = format!(r#"(?:{kinds},|malformed\(|ApiError::new\(\s*StatusCode::[A-Z_]+,)\s*"([a-z-]+)""#);
        let refused = regex::Regex::new(&refused).expect("a pattern");
        let mut found = std::collections::BTreeSet::new();
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(
                    std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()),
                );
            } else if !path.to_string_lossy().contains("fake") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.extend(refused.captures_iter(&text).map(|code| code[1].to_owned()));
            }
        }
        assert!(found.len() > 40, "{found:?}");
        found.retain(|code| !CODES.contains(&&**code) && code != "internal");
        assert!(found.is_empty(), "not in CODES: {found:?}");
        assert!(CODES.is_sorted());
    }

    #[test]
    fn references_lead_somewhere() {
        let document = openapi();
        let mut waiting = vec![document];
        let mut found = 0;
        while let Some(value) = waiting.pop() {
            if let Some(place) = value["$ref"].as_str() {
                let pointer = place.strip_prefix('#').expect("within the document");
                assert!(document.pointer(pointer).is_some(), "{place}");
                found += 1;
            }
            match value {
                Value::Object(fields) => waiting.extend(fields.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
        assert!(found > 100, "{found}");
    }
}
