//! How long a lane's commits take, and how long records are on their way.

use std::time::Duration;

use super::{Session, Transaction, now_ms};

impl Transaction {
    /// A batch begins with a record of this time, in milliseconds since 1970-01-01 UTC; a negative one is none.
    pub(super) fn note_timestamp(&mut self, timestamp: Option<i64>) {
        let known = timestamp.filter(|timestamp| *timestamp >= 0);
        self.oldest_ms = self.oldest_ms.into_iter().chain(known).min();
    }
}

impl Session {
    /// A commit is done, and readers of the target see its records.
    pub(super) fn note_times(&self, transaction: &Transaction) {
        let timings = &self.link.counters.timings;
        timings.commit.observe(self.commit_begun.elapsed());
        if let Some(written) = transaction.oldest_ms {
            // A producer's clock may be ahead.
            timings.latency.observe(Duration::from_millis(now_ms().saturating_sub(written).max(0).unsigned_abs()));
        }
    }
}
