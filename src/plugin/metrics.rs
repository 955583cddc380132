//! What a stage's instances count themselves, and what was dropped of it and of their log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Digest;
use crate::model::text::steers;

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
    /// Values by name, with the plugin that set them last.
    values: BTreeMap<String, (Digest, f64)>,
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
    /// Changes of counters and gauges with a name too many, or one that cannot be shown, or to what is no number.
    pub metrics: u64,
}

impl StageMetrics {
    /// All counters and gauges by name.
    pub fn values(&self) -> BTreeMap<String, f64> {
        self.lock().values.iter().map(|(name, (_, value))| (name.clone(), *value)).collect()
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        self.lock().dropped
    }

    /// Change a value. What another plugin has left makes room, or one with many names would leave none for its successor.
    pub(super) fn update(&self, plugin: Digest, name: &str, names_max: u32, change: impl FnOnce(f64) -> f64) {
        let mut inner = self.lock();
        let names_max = names_max as usize;
        if inner.values.len() >= names_max && !inner.values.contains_key(name) {
            inner.values.retain(|_, (owner, _)| *owner == plugin);
        }
        let has_room = inner.values.len() < names_max && is_name(name);
        let known = inner.values.get_mut(name);
        let new = change(known.as_ref().map_or(0.0, |(_, value)| *value));
        // What is not finite has no place in JSON.
        match known {
            Some(known) if new.is_finite() => *known = (plugin, new),
            None if new.is_finite() && has_room => {
                inner.values.insert(name.to_owned(), (plugin, new));
            }
            _ => inner.dropped.metrics += 1,
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

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && !name.contains(steers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_dropped_and_counted() {
        let (metrics, plugin) = (StageMetrics::default(), Digest::of(b"a plugin"));
        for (name, new) in [("nan", f64::NAN), ("infinite", f64::INFINITY), ("a\nb", 1.0), (&"x".repeat(65), 1.0)] {
            metrics.update(plugin, name, 64, |_| new);
        }
        metrics.update(plugin, "fine", 64, |_| 1.0);
        metrics.update(plugin, "fine", 64, |_| f64::NAN);
        assert_eq!(metrics.values(), BTreeMap::from([("fine".to_owned(), 1.0)]));
        assert_eq!(metrics.dropped().metrics, 5);
    }

    #[test]
    fn a_plugin_has_room_whatever_the_one_before_it_has_left() {
        let (metrics, before, after) = (StageMetrics::default(), Digest::of(b"before"), Digest::of(b"after"));
        for name in ["a", "b", "c"] {
            metrics.update(before, name, 2, |value| value + 1.0);
        }
        assert_eq!(metrics.dropped().metrics, 1);
        metrics.update(after, "b", 2, |value| value + 1.0);
        metrics.update(after, "d", 2, |value| value + 1.0);
        assert_eq!(metrics.values(), BTreeMap::from([("b".to_owned(), 2.0), ("d".to_owned(), 1.0)]));
    }
}
