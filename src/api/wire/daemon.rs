//! The daemon itself, and a plugin's file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LinkStatus, Trouble};
use crate::model::{Digest, Json, Limits};

/// A running daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Its process id.
    pub pid: u32,
    /// What other daemons that run the same links call it.
    pub name: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Its clusters, by id.
    pub clusters: Vec<ClusterStatus>,
    /// Its links, by id.
    pub links: Vec<LinkSummary>,
}

/// What a probe is answered, if it is answered well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// `ok`, or `ready`.
    pub status: String,
}

/// A cluster as the daemon sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterStatus {
    /// Its id in the configuration.
    pub id: String,
    /// `embedded` or `kafka`.
    pub kind: String,
    /// The file of an embedded cluster.
    pub path: Option<PathBuf>,
    /// Where a Kafka cluster's brokers are asked for: `host:port`.
    pub brokers: Option<Vec<String>>,
    /// `open`; `failed`: an embedded one cannot be used any more; `unreachable`: a Kafka cluster did not answer when it was asked last.
    pub state: String,
    /// Why it cannot be used. Of one that is `open`: the partitions whose retention is not enforced, because a record batch is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
}

/// A line about a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkSummary {
    /// Its id in the configuration.
    pub id: String,
    /// Its name in the configuration.
    pub name: String,
    /// Its state.
    pub status: LinkStatus,
    /// The source cluster.
    pub source: String,
    /// The target cluster.
    pub target: String,
    /// The newest revision, if one was ever made.
    pub revision: Option<u64>,
    /// Records written to the target.
    pub records_out: u64,
    /// Records a second, now.
    pub messages_per_second: f64,
    /// Milliseconds behind the source, if known.
    pub replication_lag: Option<u64>,
    /// Why it does not run, or did not a moment ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
}

/// What a plugin's file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// The world that it implements: `filter`, `transform`, `stateful-filter` or `stateful-transform`.
    pub world: String,
    /// The version of what it remembers; null for a plugin without state.
    pub state_version: Option<u32>,
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The columns that it reads.
    pub needs: Vec<String>,
    /// JSON Schema of its configuration.
    pub config_schema: Json,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The size of the component.
    pub size_bytes: u64,
    /// The digest of the component.
    pub digest: Digest,
    /// The limits that a stage has unless the configuration says otherwise.
    pub limits: Limits,
}

/// What came of reading the configuration file anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// Links that run now and did not.
    pub added: Vec<String>,
    /// Links that run as the file says now.
    pub changed: Vec<String>,
    /// Links that do not run any more. What their targets know of them stays.
    pub removed: Vec<String>,
    /// The keys that have changed in the file and count after a restart.
    pub needs_restart: Vec<String>,
    /// What could not be done, each with its key and the reason.
    #[serde(default)]
    pub failed: Vec<String>,
}
