//! The settings of a Kafka cluster about how much is asked for at once, and how long things are
//! kept.

use std::time::Duration;

use super::reader::Table;

/// How much is asked for, and how long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// What a fetch asks for at most, in bytes.
    pub fetch_max_bytes: i32,
    /// How long a broker waits for records before it answers a fetch that there are none.
    pub fetch_max_wait: Duration,
    /// How long a connection may rest and be used again.
    pub idle_timeout: Duration,
    /// How old what is known of the cluster may be before it is asked again.
    pub metadata_max_age: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            fetch_max_bytes: 32 << 20,
            fetch_max_wait: Duration::from_millis(500),
            // Brokers close theirs after 10 minutes by default, and load balancers forget them
            // after 4.
            idle_timeout: Duration::from_secs(180),
            metadata_max_age: Duration::from_secs(5),
        }
    }
}

/// The keys of this file.
pub(super) const KEYS: [&str; 4] = ["fetch_max_bytes", "fetch_max_wait", "idle_timeout", "metadata_max_age"];

impl Tuning {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let mut time = |key, default: Duration, range| {
            Duration::from_millis(table.duration_ms(key, default.as_millis() as u64, range))
        };
        Self {
            // A broker holds a request for so long, and a lane that ends waits for it.
            fetch_max_wait: time("fetch_max_wait", default.fetch_max_wait, 1..=30_000),
            idle_timeout: time("idle_timeout", default.idle_timeout, 1_000..=3_600_000),
            metadata_max_age: time("metadata_max_age", default.metadata_max_age, 100..=600_000),
            // An answer has half of what the client takes at most, and is held twice.
            fetch_max_bytes: table.size("fetch_max_bytes", default.fetch_max_bytes as u64, 64 << 10..=128 << 20) as i32,
        }
    }
}
