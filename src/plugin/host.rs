//! What a plugin can call, and what it has used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, Result, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use super::bindings::{host, types};
use super::limits::{CORE_INSTANCES_MAX, LOG_LINE_BYTES_MAX, Limits, METRIC_NAMES_MAX, TABLE_ELEMENTS_MAX};

/// Counters and gauges that a stage's instances set, and what was dropped of them and of their log lines.
#[derive(Debug, Default)]
pub struct StageMetrics {
    values: Mutex<BTreeMap<String, f64>>,
    dropped: Mutex<Dropped>,
}

/// What was over a limit and therefore dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Log lines over the rate.
    pub log_lines: u64,
    /// Counters and gauges with a name too many.
    pub metrics: u64,
}

impl StageMetrics {
    /// All counters and gauges by name.
    pub fn values(&self) -> BTreeMap<String, f64> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut f64)) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get_mut(name) {
            change(value);
        } else if values.len() < METRIC_NAMES_MAX && name.len() <= 64 {
            change(values.entry(name.to_owned()).or_default());
        } else {
            self.dropped.lock().unwrap_or_else(PoisonError::into_inner).metrics += 1;
        }
    }

    fn log_line_dropped(&self) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).log_lines += 1;
    }
}

/// The CPU time that the calling thread has used so far.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The host's side of one instance.
pub(super) struct HostState {
    stage: Arc<str>,
    metrics: Arc<StageMetrics>,
    limits: Limits,
    stores: StoreLimits,
    memory_bytes: usize,
    log: LogGate,
    call: Call,
}

/// What is known of the call under way.
#[derive(Default)]
pub(super) struct Call {
    /// The thread's CPU time when the call began.
    started: Duration,
    /// The call ran out of time.
    pub(super) timed_out: bool,
    /// Memory was asked for and refused.
    pub(super) memory_denied: bool,
    /// The last line logged at level error: a panic's message, if the plugin logs it.
    pub(super) last_error: Option<String>,
    /// The record that the plugin says it works on.
    pub(super) working_on: Option<u32>,
}

impl HostState {
    pub(super) fn new(stage: Arc<str>, metrics: Arc<StageMetrics>, limits: Limits) -> Self {
        let stores = StoreLimitsBuilder::new()
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(CORE_INSTANCES_MAX)
            .tables(CORE_INSTANCES_MAX)
            .memories(CORE_INSTANCES_MAX)
            .build();
        let log = LogGate { lines_per_s: limits.log_lines_per_s, second: Instant::now(), lines: 0 };
        Self { stage, metrics, limits, stores, memory_bytes: 0, log, call: Call::default() }
    }

    pub(super) fn begin_call(&mut self) {
        self.call = Call { started: thread_cpu_time(), ..Call::default() };
    }

    /// Linear memory in use, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    pub(super) fn cpu_time_of_call(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.call.started)
    }

    /// What happens at each tick of the engine's clock while the plugin runs.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        if self.cpu_time_of_call() < self.limits.time {
            return UpdateDeadline::Continue(1);
        }
        self.call.timed_out = true;
        UpdateDeadline::Interrupt
    }
}

impl ResourceLimiter for HostState {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // The limit is for all memories of the instance together.
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let granted = total <= self.limits.memory_bytes && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.memory_bytes = total;
        }
        self.call.memory_denied |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.stores.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.stores.instances()
    }

    fn tables(&self) -> usize {
        self.stores.tables()
    }

    fn memories(&self) -> usize {
        self.stores.memories()
    }
}

impl types::Host for HostState {}

impl host::Host for HostState {
    fn log(&mut self, level: host::Level, mut message: String) {
        if message.len() > LOG_LINE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(LOG_LINE_BYTES_MAX));
            message.push('…');
        }
        let stage = &*self.stage;
        if self.log.admits() {
            match level {
                host::Level::Debug => tracing::debug!(target: "tidegate::plugin", stage, "{message}"),
                host::Level::Info => tracing::info!(target: "tidegate::plugin", stage, "{message}"),
                host::Level::Warn => tracing::warn!(target: "tidegate::plugin", stage, "{message}"),
                host::Level::Error => tracing::error!(target: "tidegate::plugin", stage, "{message}"),
            }
        } else {
            self.metrics.log_line_dropped();
        }
        if matches!(level, host::Level::Error) {
            self.call.last_error = Some(message);
        }
    }

    fn count(&mut self, name: String, delta: u64) {
        self.metrics.update(&name, |value| *value += delta as f64);
    }

    fn gauge(&mut self, name: String, new: f64) {
        self.metrics.update(&name, |value| *value = new);
    }

    fn working_on(&mut self, index: u32) {
        self.call.working_on = Some(index);
    }
}

/// Lets a number of lines pass each second.
struct LogGate {
    lines_per_s: u32,
    second: Instant,
    lines: u32,
}

impl LogGate {
    fn admits(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= self.lines_per_s
    }
}
