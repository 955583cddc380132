//! What a stage's instances count themselves, and what was dropped of it and of their log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the name of a counter or gauge may be, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Counters and gauges of a stage, shared by all its instances. So are the limits: an instance that replaces one that trapped
/// does not start with a new allowance.
#[derive(Debug, Default)]
pub struct StageMetrics {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: BTreeMap<String, f64>,
    dropped: Dropped,
    /// When the present second of the log began, and the lines that it had.
    second: Option<Instant>,
    lines: u32,
}

/// What was over a limit and therefore dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Log lines over the rate.
    pub log_lines: u64,
    /// Changes of counters and gauges with a name too many, or too long a one.
    pub metrics: u64,
}

impl StageMetrics {
    /// All counters and gauges by name.
    pub fn values(&self) -> BTreeMap<String, f64> {
        self.lock().values.clone()
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        self.lock().dropped
    }

    pub(super) fn update(&self, name: &str, names_max: u32, change: impl FnOnce(&mut f64)) {
        let mut inner = self.lock();
        if let Some(value) = inner.values.get_mut(name) {
            change(value);
        } else if inner.values.len() < names_max as usize && name.len() <= NAME_BYTES_MAX {
            change(inner.values.entry(name.to_owned()).or_default());
        } else {
            inner.dropped.metrics += 1;
        }
    }

    /// Whether another log line may be written now. One that may not is counted.
    pub(super) fn admits_line(&self, lines_per_s: u32) -> bool {
        let mut inner = self.lock();
        if inner.second.is_none_or(|second| second.elapsed() >= Duration::from_secs(1)) {
            inner.second = Some(Instant::now());
            inner.lines = 0;
        }
        inner.lines = inner.lines.saturating_add(1);
        let admitted = inner.lines <= lines_per_s;
        if !admitted {
            inner.dropped.log_lines += 1;
        }
        admitted
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
