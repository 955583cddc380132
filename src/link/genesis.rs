//! What is written about a link once, before its first commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::config::LinkConfig;

/// The version of [`Genesis`]'s encoding that this program writes.
pub(super) const GENESIS_VERSION: u32 = 1;

/// What is written about a link before its first commit. What it says can never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Genesis {
    pub(super) v: u32,
    /// When the link was made, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The number of lanes: it decides which lane owns which partition.
    pub lanes: u32,
    /// The source cluster.
    pub source: String,
    /// For a link that starts at `latest`: the end of each partition at genesis, by `<topic>-<partition>`.
    pub(super) ends: BTreeMap<String, i64>,
}

impl Genesis {
    /// This, if the link is still what it was made as.
    pub(super) fn checked(self, config: &LinkConfig) -> Result<Self, Failure> {
        if self.v > GENESIS_VERSION {
            let message = format!("the link has layout version {}: a newer tidegate made it", self.v);
            return Err(Failure::fatal("newer-layout", message, "use the newer tidegate"));
        }
        if self.lanes != config.lanes {
            let message = format!("the link was made with {} lanes, and has {} now", self.lanes, config.lanes);
            return Err(Failure::fatal("lanes-changed", message, "set `lanes` to what it was, or make a new link"));
        }
        if *self.source != *config.source {
            let message = format!("the link was made for source {}, and reads {} now", self.source, config.source);
            return Err(Failure::fatal("source-changed", message, "set `source` to what it was, or make a new link"));
        }
        Ok(self)
    }
}
