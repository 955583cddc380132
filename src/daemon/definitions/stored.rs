//! A definition in the form in which a cluster keeps it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::unusable::manage;
use crate::api::control::{ControlError, ErrorKind};
use crate::connector::{Cluster, Error};
use crate::model::json_error::without_values;
use crate::model::time::now_ms;
use crate::model::{JsonObject, LinkId};

/// What a definition is stored under, beside what else is known of a link.
pub(super) const NAME: &str = "definition";

/// The version of the stored form.
pub(super) const FORM: u32 = 1;

/// In place of the version of a form that cannot be read.
const NO_FORM: u32 = 0;

/// A definition as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::daemon) struct Stored {
    pub(super) v: u32,
    /// Grows with each change, also when the link is deleted and defined again.
    pub(in crate::daemon) version: u64,
    /// When the link was defined, in milliseconds since 1970-01-01 UTC.
    pub(in crate::daemon) created_ms: i64,
    pub(super) changed_ms: i64,
    pub(super) by: String,
    /// `None`: the link was deleted.
    pub(super) definition: Option<JsonObject>,
}

/// What of a definition is read first: a newer one may have another form.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Stored {
    pub(super) fn first(definition: JsonObject, by: &str) -> Self {
        let none = Self { v: FORM, version: 0, created_ms: 0, changed_ms: 0, by: String::new(), definition: None };
        none.followed_by(Some(definition), by)
    }

    /// The next version; `None` deletes the link.
    pub(super) fn followed_by(&self, definition: Option<JsonObject>, by: &str) -> Self {
        let now = now_ms();
        let is_new = self.created_ms == 0 || !self.is_link();
        let created_ms = if is_new { now } else { self.created_ms };
        Self { v: FORM, version: self.version + 1, created_ms, changed_ms: now, by: by.to_owned(), definition }
    }

    /// Whether there is a link. A form that cannot be read might say that it was deleted, which
    /// nobody here can know.
    pub(super) fn is_link(&self) -> bool {
        self.v != FORM || self.definition.is_some()
    }

    pub(super) fn check_version(&self, id: &str, expected: Option<u64>) -> Result<(), ControlError> {
        let Some(expected) = expected.filter(|expected| *expected != self.version) else { return Ok(()) };
        let message = format!("the definition of link {id} has version {}, not {expected}", self.version);
        let remedy = "somebody has changed it: look at it again, then change it";
        Err(ControlError::new(ErrorKind::Outdated, "version-outdated", message, remedy))
    }

    /// What can be read of a definition whose form is not known here: enough to show, replace and
    /// delete it.
    pub(super) fn salvaged(bytes: &[u8]) -> Self {
        // What is damaged is a definition all the same, of no form: see `is_link`.
        let mut fields = Fields::new();
        if let Ok(read) = serde_json::from_slice(bytes) {
            fields = read;
        }
        let v = Some(field(&fields, "v")).filter(|v| *v != FORM).unwrap_or(NO_FORM);
        Self {
            v,
            version: field(&fields, "version"),
            created_ms: field(&fields, "created_ms"),
            changed_ms: field(&fields, "changed_ms"),
            by: field(&fields, "by"),
            definition: field(&fields, "definition"),
        }
    }
}

type Fields = BTreeMap<String, Box<RawValue>>;

fn field<T: DeserializeOwned + Default>(fields: &Fields, name: &str) -> T {
    fields.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

pub(super) fn decode(id: &str, bytes: &[u8]) -> Result<Stored, ControlError> {
    let unreadable = |why: String| {
        let message = format!("the definition of link {id} cannot be read: {why}");
        let remedy = format!("use a newer tidegate; or {}", manage(id));
        ControlError::new(ErrorKind::Conflict, "definition-unreadable", message, remedy)
    };
    let wrong = |error: serde_json::Error| unreadable(without_values(&error.to_string()));
    let Version { v } = serde_json::from_slice(bytes).map_err(wrong)?;
    if v != FORM {
        return Err(unreadable(format!("its form has version {v}, and this tidegate knows {FORM}")));
    }
    serde_json::from_slice(bytes).map_err(wrong)
}

/// What is stored of a link: its bytes, and what can be read of them.
pub(super) fn read(home: &dyn Cluster, id: &LinkId) -> Result<(Option<Vec<u8>>, Option<Stored>), Error> {
    let bytes = home.metadata(id, NAME)?;
    let stored = bytes.as_deref().map(|bytes| decode(id, bytes).unwrap_or_else(|_| Stored::salvaged(bytes)));
    Ok((bytes, stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_of_another_form_is_kept() {
        for (text, form, version, has_definition) in [
            (r#"{"v":2,"version":7,"by":"ann","definition":{"a":1},"more":[]}"#, 2, 7, true),
            (r#"{"v":2,"version":7,"by":{"name":"ann"},"definition":"packed"}"#, 2, 7, false),
            (r#"{"v":1,"version":3}"#, NO_FORM, 3, false),
            (r#"{"v":-1,"version":-3}"#, NO_FORM, 0, false),
            ("nonsense", NO_FORM, 0, false),
        ] {
            assert_eq!(decode("l", text.as_bytes()).expect_err(text).code, "definition-unreadable");
            let stored = Stored::salvaged(text.as_bytes());
            assert_eq!(
                (stored.v, stored.version, stored.definition.is_some()),
                (form, version, has_definition),
                "{text}"
            );
            assert!(stored.is_link());
            let next = stored.followed_by(None, "ann");
            assert_eq!((next.v, next.version), (FORM, version + 1), "versions only grow");
            assert!(!next.is_link());
        }
    }
}
