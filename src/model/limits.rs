//! What a plugin may use.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest component that is accepted, in bytes. Plugins in JavaScript or Python carry their interpreter: 12–18 MiB.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// The limits of one stage. Those that name no other scope hold for one call of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Milliseconds of the calling thread's CPU time for a batch.
    pub time_ms: u64,
    /// Milliseconds of CPU time for a record that is alone in its batch: what a small batch gets in any case.
    pub record_time_ms: u64,
    /// Linear memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// Elements of all tables of an instance together.
    pub table_elements: u64,
    /// Core instances, memories and tables of an instance, each. Adapters made by a component encoder count as well.
    pub instances: u64,
    /// Handles of resources that an instance holds.
    pub handles: u64,
    /// What a call may hand to the host, in bytes: its answer, the text of its log lines, the state that it puts.
    pub output_bytes: u64,
    /// Outputs of one input.
    pub records_per_input: u64,
    /// Calls of the host for each record of the batch.
    pub host_calls_per_record: u64,
    /// Log lines a second of a stage, all lanes together. What is over is dropped and counted.
    pub log_lines_per_s: u32,
    /// Names of counters and gauges of a stage. What is over is dropped and counted.
    pub metric_names: u32,
    /// What a stage keeps for one source partition, in bytes: keys and values, and 96 bytes for each entry.
    pub state_bytes: u64,
    /// The size of a component, in bytes.
    pub component_bytes: u64,
}

/// How many instances of plugins a daemon has room for, of all stages and lanes. What is set aside for them is addresses, not memory.
pub const INSTANCES_MAX: u32 = 4000;

const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            time_ms: 1000,
            record_time_ms: 100,
            memory_bytes: 64 * MIB,
            // The largest table that a real plugin was seen to have has 9,000 elements (an interpreter).
            table_elements: 100_000,
            instances: 64,
            handles: 10_000,
            output_bytes: 64 * MIB,
            records_per_input: 10_000,
            host_calls_per_record: 1000,
            log_lines_per_s: 100,
            metric_names: 64,
            state_bytes: 64 * MIB,
            // Plugins in JavaScript or Python carry their interpreter: 12–18 MiB.
            component_bytes: 64 * MIB,
        }
    }
}

impl Limits {
    /// CPU time for a whole batch.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms)
    }

    /// CPU time for a record that is alone.
    pub fn record_time(&self) -> Duration {
        Duration::from_millis(self.record_time_ms)
    }
}
