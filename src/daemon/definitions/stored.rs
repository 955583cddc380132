//! A definition in the form in which a cluster keeps it.

use serde::{Deserialize, Serialize};

use crate::api::control::{ControlError, ErrorKind};
use crate::connector::Cluster;
use crate::daemon::control::cluster_error;
use crate::model::json_error::without_values;
use crate::model::{JsonObject, LinkId};

/// What a definition is stored under, beside what else is known of a link.
pub(super) const NAME: &str = "definition";

/// The version of the stored form.
pub(super) const FORM: u32 = 1;

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
    pub(super) fn check_version(&self, id: &str, expected: Option<u64>) -> Result<(), ControlError> {
        let Some(expected) = expected.filter(|expected| *expected != self.version) else { return Ok(()) };
        let message = format!("the definition of link {id} has version {}, not {expected}", self.version);
        let remedy = "somebody has changed it: look at it again, then change it";
        Err(ControlError::new(ErrorKind::Outdated, "version-outdated", message, remedy))
    }
}

pub(super) fn decode(id: &str, bytes: &[u8]) -> Result<Stored, ControlError> {
    let unreadable = |why: String| {
        let message = format!("the definition of link {id} cannot be read: {why}");
        ControlError::new(
            ErrorKind::Unavailable,
            "definition-unreadable",
            message,
            "use a newer tidegate, or define it anew",
        )
    };
    let wrong = |error: serde_json::Error| unreadable(without_values(&error.to_string()));
    let Version { v } = serde_json::from_slice(bytes).map_err(wrong)?;
    if v != FORM {
        return Err(unreadable(format!("it has version {v}")));
    }
    serde_json::from_slice(bytes).map_err(wrong)
}

pub(super) fn read(home: &dyn Cluster, id: &LinkId) -> Result<(Option<Vec<u8>>, Option<Stored>), ControlError> {
    let bytes = home.metadata(id, NAME).map_err(cluster_error)?;
    let stored = bytes.as_deref().map(|bytes| decode(id, bytes)).transpose()?;
    Ok((bytes, stored))
}
