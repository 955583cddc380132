//! How long a lane's commits take, and how long records are on their way.

use std::time::Duration;

use super::{Session, Transaction, now_ms};
use crate::model::time::age_ms;

impl Transaction {
    /// A batch begins with a record of this time, in milliseconds since 1970-01-01 UTC.
    pub(super) fn note_timestamp(&mut self, timestamp: Option<i64>) {
        let now = now_ms();
        let known = timestamp.filter(|timestamp| age_ms(*timestamp, now).is_some());
        self.oldest_ms = self.oldest_ms.into_iter().chain(known).min();
    }
}

impl Session {
    /// A commit is done, and readers of the target see its records.
    pub(super) fn note_times(&self, transaction: &Transaction) {
        let timings = &self.link.counters.timings;
        timings.commit.observe(self.commit_begun.elapsed());
        if let Some(age) = transaction.oldest_ms.and_then(|written| age_ms(written, now_ms())) {
            timings.latency.observe(Duration::from_millis(age));
        }
    }
}
