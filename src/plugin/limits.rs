//! What a plugin may use.

use std::time::Duration;

/// The limits of one stage, for each of its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// CPU time of the calling thread for one call, a batch that is.
    pub time: Duration,
    /// What one call may hand to the host: its answer, and the text of its log lines, in bytes.
    pub output_bytes: usize,
    /// Log lines a second; what is over is dropped and counted.
    pub log_lines_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, time: Duration::from_millis(1000), output_bytes: 64 << 20, log_lines_per_s: 100 }
    }
}

/// The largest component that is accepted, in bytes. Plugins in JavaScript or Python carry their interpreter: 12–18 MiB.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// Elements of a table. The largest that a real plugin was seen to have is 9,000 (an interpreter).
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Core instances in one component instance. Adapters made by the component encoder count as well.
pub(super) const CORE_INSTANCES_MAX: usize = 64;

/// Names of counters and gauges of one stage. Each becomes a time series for as long as the daemon runs.
pub(super) const METRIC_NAMES_MAX: usize = 64;

/// The length of a log line that is kept, in bytes.
pub(super) const LOG_LINE_BYTES_MAX: usize = 8192;

/// What `describe` may hand to the host, in bytes: a description with a large configuration schema has some 10 KiB. Nobody has
/// set limits for a plugin that is asked who it is.
pub(super) const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

/// A plugin's name and its version, each, in bytes. They stand in every listing.
pub(super) const LABEL_BYTES_MAX: usize = 128;

/// How many errors of a configuration are passed on: a person mends a few at a time.
pub(super) const CONFIG_FAULTS_MAX: usize = 32;

/// What is passed on of an error's path and of its message, each, in bytes.
pub(super) const CONFIG_FAULT_BYTES_MAX: usize = 1024;
