//! The end of the daemon: what is waited for, and for how long.
//!
//! Everything together takes no longer than `shutdown_timeout`. What hangs by then is left behind
//! with the process: the next opener of a lane fences it, and begins at its last commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::world::Hosted;
use crate::background;

/// How long requests and changes of links that are under way are waited for, each.
const GRACE_MAX: Duration = Duration::from_secs(5);

/// Requests may have this part of the time, changes too, and links have the rest.
const PARTS: u32 = 4;

/// The time that the daemon has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    begun: Instant,
    timeout: Duration,
}

impl Ending {
    /// An end that began at `begun` and may take `timeout`.
    pub(super) fn new(begun: Instant, timeout: Duration) -> Self {
        Self { begun, timeout }
    }

    /// How long the requests under way may take to end, and after them the changes of links.
    pub(super) fn grace(&self) -> Duration {
        GRACE_MAX.min(self.timeout / PARTS)
    }

    /// How much time is left.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.timeout.saturating_sub(now.saturating_duration_since(self.begun))
    }

    /// Let links commit, and end them: all at once. Those that have not ended when the time is over
    /// are named in the log.
    pub(super) fn end_links(&self, links: Vec<Arc<Hosted>>) {
        let (tell, ended) = channel();
        let mut left: BTreeSet<_> = links.iter().map(|hosted| hosted.config().id.clone()).collect();
        for hosted in links {
            let (id, tell) = (hosted.config().id.clone(), tell.clone());
            // What panics here has been told of in the log, and keeps no other link from its last
            // commit.
            background::begin(
                "end",
                move || hosted.end(),
                move |_| {
                    let _nobody_waits_any_more = tell.send(id);
                },
            );
        }
        while !left.is_empty() {
            let Ok(id) = ended.recv_timeout(self.left(Instant::now())) else { break };
            left.remove(&id);
        }
        for link in left {
            tracing::warn!(
                link = &*link,
                code = "shutdown-timed-out",
                "the link has not ended within shutdown_timeout ({:?}): a cluster does not answer. Nothing is lost or \
                 duplicated, the next start continues at its last commit",
                self.timeout
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_waits_together_fit_into_the_time() {
        for seconds in [1, 2, 10, 19, 20, 60, 3600] {
            let (begun, timeout) = (Instant::now(), Duration::from_secs(seconds));
            let ending = Ending::new(begun, timeout);
            let links = ending.left(begun + 2 * ending.grace());
            assert!(links >= timeout / 2, "{seconds} s: {links:?} for the links");
            assert!(ending.grace() <= GRACE_MAX);
            assert_eq!(ending.left(begun + 2 * timeout), Duration::ZERO);
        }
    }
}
