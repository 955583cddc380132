//! Changes of a definition, as they are sent.

use serde_json::{Map, Value};

/// Put a patch over an object (RFC 7396).
pub(super) fn merge(object: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, change) in patch {
        match (change, object.get_mut(key)) {
            (Value::Null, _) => drop(object.remove(key)),
            (Value::Object(change), Some(Value::Object(inner))) => merge(inner, change),
            (Value::Object(change), _) => {
                let mut inner = Map::new();
                merge(&mut inner, change);
                object.insert(key.clone(), Value::Object(inner));
            }
            (change, _) => drop(object.insert(key.clone(), change.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names() {
        let apply = |object: Value, patch: Value| {
            let (Value::Object(mut object), Value::Object(patch)) = (object, patch) else { unreachable!("objects") };
            merge(&mut object, &patch);
            Value::Object(object)
        };
        // The examples of RFC 7396 that are objects.
        for (object, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(apply(object, patch), expected);
        }
    }
}
