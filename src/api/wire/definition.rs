//! What links are, as it was said.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Time, word};
use crate::model::JsonObject;

/// The definition of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkDefinition {
    /// The link.
    pub id: String,
    /// Grows with each change. It is the `ETag` of the link, and what the tags of `If-Match` are compared with.
    pub version: u64,
    /// When the link was defined.
    pub created_at: Time,
    /// When the definition was changed last.
    pub changed_at: Time,
    /// Who has changed it last.
    pub changed_by: String,
    /// What was said.
    pub definition: JsonObject,
}

/// What a link is to be: the keys of `[links.ID]`, and `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefinedLink(pub JsonObject);

/// The keys are what the reader of the configuration knows, and it says more about them than a shape could.
impl JsonSchema for DefinedLink {
    fn schema_name() -> Cow<'static, str> {
        "DefinedLink".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "What a link is to be. The keys are those of `[links.ID]` in the configuration file, see docs/configuration.md; in a change (RFC 7396), \
                null takes a key back.",
            "properties": {"id": {"type": ["string", "null"], "description": "Its id. Without one it gets one."}},
            "additionalProperties": true,
            "examples": [{
                "id": "orders",
                "source_cluster": {"cluster_id": "east"},
                "target_cluster": {"cluster_id": "west"},
                "topics": ["orders"],
                "config": {"max_bytes": 10_485_760, "checkpoint_interval_ms": 5000, "enable_exactly_once": true},
            }],
        })
    }
}

/// Who says what a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ManagedBy {
    /// The configuration file of the daemon: the API cannot change it.
    File,
    /// Whoever uses the API.
    Api,
    /// A failback of another link: it goes when that is done.
    Failback,
}

word!(ManagedBy { File = "file", Api = "api", Failback = "failback" });

/// A cluster of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterPlace {
    /// Its id.
    pub cluster_id: String,
    /// Where a Kafka cluster's brokers are asked for: `host:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<String>,
}

/// How a link moves records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transfer {
    /// A lane commits when its output has about this many bytes.
    pub max_bytes: u64,
    /// A lane commits when it has read about this many records; null: their number does not matter.
    pub max_messages: Option<u64>,
    /// The most records of a batch.
    pub batch_size: u32,
    /// A lane commits after this many milliseconds, if there is anything to commit.
    pub checkpoint_interval_ms: u64,
    /// What the record batches that it writes are compressed with; null: as the target cluster is configured.
    pub compression_type: Option<String>,
    /// The most bytes that it may write in a second, as it was configured; null: as fast as it can. See `throttle` of the link for what counts now.
    pub throttle_rate_bytes_per_sec: Option<u64>,
    /// Whether output and checkpoint must be one transaction.
    pub enable_exactly_once: bool,
    /// How old a transaction may get before the target aborts it, in milliseconds.
    pub transaction_timeout_ms: u64,
}

/// How fast a link may write, and how fast it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Throttle {
    /// The most bytes of keys, values and headers in a second, all lanes and daemons together; null: as fast as it can.
    pub throttle_rate_bytes_per_sec: Option<u64>,
    /// Who has set it while the link runs; null where it is as configured.
    pub set_by: Option<String>,
    /// When that was.
    pub set_at: Option<Time>,
    /// Bytes a second, now, at this daemon.
    pub current_rate: f64,
    /// The most that was seen since the daemon started: the mean of a few seconds.
    pub peak_rate: f64,
}

/// How fast a link is to write from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["throttle_rate_bytes_per_sec"]))]
pub struct ThrottleRequest {
    /// Bytes a second; null: as fast as it can. It has to be there: a slip must not let a link go.
    #[serde(deserialize_with = "Option::deserialize")]
    pub throttle_rate_bytes_per_sec: Option<u64>,
}
