//! What a plugin can call, and what it has used.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, Result, UpdateDeadline};

use super::bindings::{host, state, types};
use super::instance::{Trap, TrapKind};
use super::limits::LINE_BYTES_MAX;
use super::metrics::StageMetrics;
use super::state::{ENTRY_BYTES, Mark, State};
use super::text::cut;
use crate::model::state::NEVER;
use crate::model::{Digest, Limits, StateRow};

/// The most entries that one `scan` answers.
const SCAN_MAX: u32 = 10_000;

/// The CPU time of one call of so many is measured.
pub const MEASURED: u64 = 8;

/// The CPU time that the calling thread has used so far.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The host's side of one instance.
pub(super) struct HostState {
    stage: Arc<str>,
    plugin: Digest,
    metrics: Arc<StageMetrics>,
    limits: Limits,
    memory_bytes: u64,
    table_elements: u64,
    calls: u64,
    call: Call,
}

/// The call under way.
#[derive(Default)]
pub(super) struct Call {
    /// The thread's CPU time when the call began, if it is one that is measured. To ask for it takes longer than many a call.
    began: Option<Duration>,
    /// The thread's CPU time at the first tick. A call that ends before never asks for it.
    ticked: Option<Duration>,
    /// The CPU time that it may take.
    time: Duration,
    /// How many times it may still call the host, and with how many bytes.
    host_calls: u64,
    host_bytes: u64,
    host_bytes_max: u64,
    /// The call ran out of time.
    pub(super) timed_out: bool,
    /// Memory was asked for and refused.
    pub(super) memory_denied: bool,
    /// Why a call of the host ended it.
    pub(super) refused: Option<Trap>,
    /// The last line logged at level error: a panic's message, if the plugin logs it.
    pub(super) last_error: Option<String>,
    /// The record that the plugin says it works on.
    pub(super) working_on: Option<u32>,
    /// The state that it works with.
    pub(super) state: Option<ActiveState>,
}

/// What a call may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// CPU time.
    pub(super) time: Duration,
    /// Calls of the host.
    pub(super) host_calls: u64,
    /// What these calls may bring, in bytes. The answer of the call itself is bounded by the engine.
    pub(super) host_bytes: u64,
}

/// A state that a plugin works with now.
pub(super) struct ActiveState {
    pub(super) state: State,
    /// When the call began.
    pub(super) mark: Mark,
    /// The timestamps of the batch; empty in a migration.
    timestamps: Vec<i64>,
    /// The record that was last worked on, and the record time there.
    at: u32,
    now: i64,
}

impl ActiveState {
    pub(super) fn new(state: State, timestamps: Vec<i64>) -> Self {
        let now = state.time().max(timestamps.first().copied().unwrap_or(i64::MIN));
        Self { mark: state.mark(), state, timestamps, at: 0, now }
    }

    /// The record time at the record `at`.
    fn now(&mut self, at: u32) -> Result<i64, String> {
        if at == self.at {
            return Ok(self.now);
        }
        if at < self.at {
            return Err(format!("it used its state for record {at} of the batch after record {}", self.at));
        }
        let Some(passed) = self.timestamps.get(self.at as usize + 1..=at as usize) else {
            let count = self.timestamps.len();
            return Err(format!("it used its state for record {at} of a batch of {count}"));
        };
        self.now = passed.iter().fold(self.now, |now, timestamp| now.max(*timestamp));
        self.at = at;
        Ok(self.now)
    }
}

impl HostState {
    pub(super) fn new(stage: Arc<str>, plugin: Digest, metrics: Arc<StageMetrics>, limits: Limits) -> Self {
        Self { stage, plugin, metrics, limits, memory_bytes: 0, table_elements: 0, calls: 0, call: Call::default() }
    }

    pub(super) fn begin_call(&mut self, allowance: Allowance, state: Option<ActiveState>) {
        let Allowance { time, host_calls, host_bytes } = allowance;
        self.calls = self.calls.wrapping_add(1);
        let (began, host_bytes_max) = ((self.calls % MEASURED == MEASURED / 2).then(thread_cpu_time), host_bytes);
        self.call = Call { began, time, host_calls, host_bytes, host_bytes_max, state, ..Call::default() };
    }

    /// Linear memory in use, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    pub(super) fn call_mut(&mut self) -> &mut Call {
        &mut self.call
    }

    /// The CPU time of the call so far, if it is one that is measured.
    pub(super) fn cpu_time_of_call(&self) -> Option<Duration> {
        self.call.began.map(|began| thread_cpu_time().saturating_sub(began))
    }

    /// The CPU time that the call may take.
    pub(super) fn time_allowed(&self) -> Duration {
        self.call.time
    }

    /// What happens at each tick of the engine's clock while the plugin runs.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        let now = thread_cpu_time();
        // What the call has used before the first tick is less than a tick, and is not counted against it.
        let first = *self.call.ticked.get_or_insert(now);
        if now.saturating_sub(first) < self.call.time {
            return UpdateDeadline::Continue(1);
        }
        self.call.timed_out = true;
        UpdateDeadline::Interrupt
    }

    /// Count a call of the host that brings so many bytes.
    fn enter(&mut self, bytes: usize) -> Result<()> {
        let Some(calls) = self.call.host_calls.checked_sub(1) else {
            let most = self.limits.host_calls_per_record;
            return Err(
                self.refuse(TrapKind::HostCalls, format!("called the host more than {most} times for a record"))
            );
        };
        let Some(left) = self.call.host_bytes.checked_sub(bytes as u64) else {
            let most = self.call.host_bytes_max;
            return Err(self.refuse(TrapKind::Output, format!("handed more than {most} bytes to the host in one call")));
        };
        (self.call.host_calls, self.call.host_bytes) = (calls, left);
        Ok(())
    }

    /// End the plugin's call.
    fn refuse(&mut self, kind: TrapKind, message: String) -> wasmtime::Error {
        let error = wasmtime::Error::msg(message.clone());
        self.call.refused = Some(Trap { kind, message });
        error
    }

    /// The state, and the record time at `at`.
    fn state(&mut self, at: u32, bytes: usize) -> Result<(&mut ActiveState, i64)> {
        self.enter(bytes)?;
        let now = match &mut self.call.state {
            Some(active) => active.now(at),
            None => Err("it used its state while it had no records to work on".to_owned()),
        };
        let now = now.map_err(|message| self.refuse(TrapKind::Contract, message))?;
        self.call.working_on = Some(at);
        // It was there a line ago.
        let active = self.call.state.as_mut().ok_or_else(|| wasmtime::Error::msg("no state"))?;
        Ok((active, now))
    }

    fn change(&mut self, at: u32, key: Vec<u8>, row: Option<StateRow>) -> Result<()> {
        // What was there before is kept until the batch is accepted: an entry's own size counts for each change, however empty.
        let bytes = key.len() + row.as_ref().map_or(0, |row| row.value.len()) + ENTRY_BYTES as usize;
        let (active, now) = self.state(at, bytes)?;
        if active.state.change(at, key, row, now).is_ok() {
            return Ok(());
        }
        let most = self.limits.state_bytes;
        Err(self.refuse(TrapKind::State, format!("would keep more than {most} bytes of state for a partition")))
    }
}

impl ResourceLimiter for HostState {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let most = self.limits.memory_bytes;
        let granted = grow(&mut self.memory_bytes, most, current, desired, maximum);
        self.call.memory_denied |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let most = self.limits.table_elements;
        let granted = grow(&mut self.table_elements, most, current, desired, maximum);
        self.call.memory_denied |= !granted;
        Ok(granted)
    }

    fn instances(&self) -> usize {
        self.limits.instances as usize
    }

    fn tables(&self) -> usize {
        self.limits.instances as usize
    }

    fn memories(&self) -> usize {
        self.limits.instances as usize
    }
}

/// Let one memory or table grow, if all of the instance together stay within the limit.
fn grow(used: &mut u64, most: u64, current: usize, desired: usize, maximum: Option<usize>) -> bool {
    let total = used.saturating_add(desired.saturating_sub(current) as u64);
    let granted = total <= most && maximum.is_none_or(|maximum| desired <= maximum);
    if granted {
        *used = total;
    }
    granted
}

impl types::Host for HostState {}

impl host::Host for HostState {
    fn log(&mut self, level: host::Level, message: String) -> Result<()> {
        self.enter(message.len())?;
        let message = cut(message, LINE_BYTES_MAX);
        let stage = &*self.stage;
        if self.metrics.admits_line(self.limits.log_lines_per_s) {
            match level {
                host::Level::Debug => tracing::debug!(target: "tidegate::plugin", stage, "{message}"),
                host::Level::Info => tracing::info!(target: "tidegate::plugin", stage, "{message}"),
                host::Level::Warn => tracing::warn!(target: "tidegate::plugin", stage, "{message}"),
                host::Level::Error => tracing::error!(target: "tidegate::plugin", stage, "{message}"),
            }
        }
        if matches!(level, host::Level::Error) {
            self.call.last_error = Some(message);
        }
        Ok(())
    }

    fn count(&mut self, name: String, delta: u64) -> Result<()> {
        self.enter(name.len())?;
        self.metrics.update(self.plugin, &name, self.limits.metric_names, |value| value + delta as f64);
        Ok(())
    }

    fn gauge(&mut self, name: String, new: f64) -> Result<()> {
        self.enter(name.len())?;
        self.metrics.update(self.plugin, &name, self.limits.metric_names, |_| new);
        Ok(())
    }

    fn working_on(&mut self, index: u32) -> Result<()> {
        self.enter(0)?;
        self.call.working_on = Some(index);
        Ok(())
    }
}

impl state::Host for HostState {
    fn get(&mut self, at: u32, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let (active, now) = self.state(at, key.len())?;
        Ok(active.state.get(&key, now).map(|row| row.value.clone()))
    }

    fn put(&mut self, at: u32, key: Vec<u8>, value: Vec<u8>, expires: i64) -> Result<()> {
        self.change(at, key, Some(StateRow { value, expires }))
    }

    fn delete(&mut self, at: u32, key: Vec<u8>) -> Result<()> {
        self.change(at, key, None)
    }

    fn scan(&mut self, at: u32, prefix: Vec<u8>, start: Vec<u8>, limit: u32) -> Result<Vec<state::Entry>> {
        let bytes_max = self.limits.output_bytes;
        let (active, now) = self.state(at, prefix.len() + start.len())?;
        let mut bytes = 0;
        let entries = active.state.scan(&prefix, &start, now).take(limit.min(SCAN_MAX) as usize);
        // The first is answered however large it is: it is in the state, so it has room.
        let fitting = entries.take_while(|(key, row)| {
            let first = bytes == 0;
            bytes += (key.len() + row.value.len()) as u64;
            first || bytes <= bytes_max
        });
        Ok(fitting.map(|(key, row)| state::Entry { key: key.to_vec(), value: row.value.clone() }).collect())
    }

    fn discard(&mut self, at: u32) -> Result<()> {
        let (active, _) = self.state(at, 0)?;
        active.state.discard(at, active.mark);
        Ok(())
    }

    fn time(&mut self, at: u32) -> Result<i64> {
        self.state(at, 0).map(|(_, now)| now)
    }
}

/// Entries that stay for ever have the largest time in the contract as well as in the store.
const _: () = assert!(NEVER == i64::MAX);
