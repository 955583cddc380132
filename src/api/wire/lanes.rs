//! The layout of a link, and the number of its lanes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// What a daemon knows of layouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnownLayout {
    /// The daemon.
    pub daemon: String,
    /// The newest layout that it knows; null while the daemons are finding together.
    pub layout: Option<u32>,
}

/// What an upgrade has done, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upgrade {
    /// The link.
    pub link: String,
    /// The layout that it had.
    pub from: u32,
    /// The layout that it has now, or would have.
    pub to: u32,
    /// Whether it was only asked for what would be done.
    pub dry_run: bool,
    /// The daemons that run it.
    pub daemons: Vec<KnownLayout>,
}

/// The body of a relane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelaneRequest {
    /// How many lanes the link is to have, 1 to 1024.
    pub lanes: u32,
}

/// What has become of a relane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Relaned {
    /// The link.
    pub link: String,
    /// How many lanes it had.
    pub from: u32,
    /// How many it has, or is to have.
    pub to: u32,
    /// Whether that is done; otherwise it is under way.
    pub done: bool,
}

/// Lanes that are about to become others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RelaneProgress {
    /// How many lanes there were.
    pub from: u32,
    /// How many there are to be.
    pub to: u32,
    /// The daemon that sees to it.
    pub daemon: String,
    /// Since when it does.
    pub since: Time,
    /// How many of the old lanes it has copied.
    pub copied: u32,
}
