//! What becomes of a record that a plugin cannot handle.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far ahead of the record time and of the clock a timestamp may be where nobody says
/// otherwise: an hour, as Kafka's brokers have it since version 4
/// (`message.timestamp.after.max.ms`).
pub const TIME_AHEAD_MAX_MS: u64 = 3_600_000;

/// What becomes of a record that a stage rejects or traps on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It goes to the link's dead letters, with the reason.
    #[default]
    DeadLetter,
    /// It is dropped and counted.
    Skip,
    /// The lane stops before it.
    Stop,
    /// It goes on to the next stage as it is.
    Pass,
}

impl OnError {
    /// All policies, by the names that they have in a configuration.
    pub const ALL: [(&'static str, Self); 4] =
        [("dead-letter", Self::DeadLetter), ("skip", Self::Skip), ("stop", Self::Stop), ("pass", Self::Pass)];
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, policy)| policy == self).map_or("", |(name, _)| name))
    }
}
