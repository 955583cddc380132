//! Revisions: what was published, when, and from which offsets on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, word};
use crate::model::{Digest, Json};

/// A revision of what a link does to records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Its number within the link.
    pub number: u64,
    /// The digest of its content: of all its components and configurations.
    pub digest: Digest,
    /// When it was made durable.
    pub time: Time,
    /// Who published it.
    pub by: String,
    /// Where it came from.
    pub origin: RevisionOrigin,
    /// Why it was published, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The revision whose trial it ends: stages remember again what they did when that one was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
    /// The earlier revision whose content it publishes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// Its filter and transform, before the first stage.
    #[serde(flatten)]
    pub builtins: RevisionBuiltins,
    /// Its stages, in order.
    pub stages: Vec<RevisionStage>,
    /// The first offset that it handled, of each source partition where it handled any.
    pub first_offsets: Vec<FirstOffset>,
    /// How far it has come.
    pub state: RevisionState,
}

/// Where a revision came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevisionOrigin {
    /// The configuration file.
    Toml,
    /// A publish to the running daemon.
    Publish,
    /// An earlier revision, published again.
    Rollback,
    /// An earlier revision, brought back by the daemon itself.
    Automatic,
}

word!(RevisionOrigin { Toml = "toml", Publish = "publish", Rollback = "rollback", Automatic = "automatic" });

/// How far a revision has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevisionState {
    /// Durable, but some lane has not committed under it yet.
    Pending,
    /// Every lane has committed under it.
    Complete,
    /// A later one has taken its place.
    Superseded,
}

word!(RevisionState { Pending = "pending", Complete = "complete", Superseded = "superseded" });

/// What a revision does without plugins, in the shape of the configuration. What is always the same in a link stands for its variables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionBuiltins {
    /// Which records go on; missing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<serde_json::Value>,
    /// What happens to their headers; missing: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<serde_json::Value>,
}

/// A stage of a revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionStage {
    /// Its name, unique in the link.
    pub stage: String,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's own version.
    pub version: String,
    /// The digest of the component.
    pub digest: Digest,
    /// The plugin's configuration.
    pub config: Json,
}

/// What a revision of a link has as one of its stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRevision {
    /// The number of the revision within the link.
    pub number: u64,
    /// When it was made durable.
    pub time: Time,
    /// Who published it.
    pub by: String,
    /// Where it came from.
    pub origin: RevisionOrigin,
    /// How far it has come.
    pub state: RevisionState,
    /// The stage's name, unique in the link.
    pub stage: String,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's own version.
    pub version: String,
    /// The digest of the component.
    pub digest: Digest,
    /// The plugin's configuration.
    pub config: Json,
}

/// The first offset of a source partition that a revision handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirstOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
}

/// What a publish or a rollback has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Swap {
    /// The number of the new revision.
    pub revision: u64,
    /// The digest of its pipeline.
    pub digest: Digest,
    /// The stage that got a new plugin; missing after a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The stages of the new revision, in order.
    pub stages: Vec<RevisionStage>,
    /// Whether every lane has committed under it.
    pub state: RevisionState,
    /// The longest pause of a lane, in microseconds, once every lane has swapped.
    pub swap_pause_us_max: Option<u64>,
}

/// The body of a rollback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision whose content comes back; without it, the one before the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}
