//! Lists that the target keeps of a link, read when somebody asks for one. A target that does not
//! answer is not waited for: then the list is what it was when it was read last.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Sight;
use crate::connector::{Class, RevisionStart};
use crate::link::failover::{FailedOver, FailoverRecord};
use crate::link::failure::Failure;
use crate::link::reset::ResetRecord;
use crate::link::revision::History;
use crate::link::status::lock;
use crate::link::supervisor::Link;
use crate::model::culprit::Work;
use crate::model::{Checkpoint, TopicPartition};

/// How long a target may take to answer before what was known is shown.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long it may take if nothing was known and it is not known to be silent either.
const PATIENCE_WITHOUT: Duration = Duration::from_secs(10);

/// How often is looked whether it is silent.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A cluster that has not answered a probe for so long is silent.
const SILENT_AFTER: Duration = Duration::from_millis(200);

/// A list, or why it cannot be read; `None`: nobody has asked for it yet.
type Listed<T> = Option<Result<T, Failure>>;

/// The revisions, and where each began.
pub(super) type Revisions = (History, Vec<RevisionStart>);

/// The failovers and failbacks, and the one that is under way.
pub(super) type Failovers = (Vec<FailoverRecord>, Option<FailedOver>);

/// What was read last of each list.
#[derive(Debug, Default)]
pub(super) struct Lists {
    revisions: Arc<Sight<Listed<Revisions>>>,
    checkpoints: Arc<Sight<Listed<BTreeMap<TopicPartition, Checkpoint>>>>,
    resets: Arc<Sight<Listed<Vec<ResetRecord>>>>,
    failovers: Arc<Sight<Listed<Failovers>>>,
}

/// What the target has said last is said again while it does not answer.
fn or_before<T: Clone>(now: Result<T, Failure>, before: &Listed<T>) -> Listed<T> {
    match (now, before) {
        (Err(failure), Some(Ok(before))) if failure.class == Class::Reopen => Some(Ok(before.clone())),
        (now, _) => Some(now),
    }
}

impl Link {
    /// The revisions, oldest first, and where each began: as now, or as they were known before the
    /// target went silent.
    ///
    /// # Errors
    /// The target cannot be read, and nothing was known.
    pub fn revisions_seen(link: &Work<Self>) -> Result<Revisions, Failure> {
        Self::list(link, &link.sights.lists.revisions, |link| Ok((link.history()?, link.revision_starts()?)))
    }

    /// How far it has come, by source partition, in the same way.
    ///
    /// # Errors
    /// The target cannot be read, and nothing was known.
    pub fn checkpoints_seen(link: &Work<Self>) -> Result<BTreeMap<TopicPartition, Checkpoint>, Failure> {
        Self::list(link, &link.sights.lists.checkpoints, Self::checkpoints)
    }

    /// The resets, oldest first, in the same way.
    ///
    /// # Errors
    /// The target cannot be read, and nothing was known.
    pub fn resets_seen(link: &Work<Self>) -> Result<Vec<ResetRecord>, Failure> {
        Self::list(link, &link.sights.lists.resets, Self::resets)
    }

    /// The failovers and failbacks, in the same way.
    ///
    /// # Errors
    /// The target cannot be read, and nothing was known.
    pub fn failovers_seen(link: &Work<Self>) -> Result<Failovers, Failure> {
        Self::list(link, &link.sights.lists.failovers, Self::failovers)
    }

    fn list<T: Clone + Send + Sync + 'static>(
        link: &Work<Self>,
        sight: &Arc<Sight<Listed<T>>>,
        read: fn(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let it = Work::to_share(link);
        let round = sight.begin(move |before| or_before(read(&it), before));
        let is_silent = || {
            link.probe_clusters(SILENT_AFTER);
            link.silent_clusters(SILENT_AFTER).iter().any(|(silent, _)| *silent == link.config().target)
        };
        match &*sight.seen_or_silent(round, Instant::now(), is_silent) {
            Some(listed) => listed.clone(),
            None => Err(unknown(&link.config().target)),
        }
    }
}

impl<T: Send + Sync + 'static> Sight<Listed<T>> {
    /// What the round finds out; what was known before, if that takes too long. Where nothing was
    /// known it is waited for until whoever is asked falls silent.
    fn seen_or_silent(&self, round: u64, begun: Instant, is_silent: impl Fn() -> bool) -> Arc<Listed<T>> {
        let mut state = lock(&self.state);
        while state.ended < round {
            let (waited, is_known) = (begun.elapsed(), state.last.as_deref().is_some_and(Option::is_some));
            if waited >= PATIENCE_WITHOUT || waited >= PATIENCE && (is_known || is_silent()) {
                break;
            }
            state = self.seen.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.last.clone().unwrap_or_default()
    }
}

fn unknown(target: &str) -> Failure {
    let message = format!("{target} does not answer, and nothing was known of this before");
    let remedy = "look at its brokers and at the network, then ask again";
    Failure { class: Class::Reopen, ..Failure::fatal("no-answer", message, remedy) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn lost() -> Failure {
        Failure { class: Class::Reopen, ..Failure::fatal("cannot-connect", "no host", "") }
    }

    #[test]
    fn what_a_target_has_said_before_is_said_again_until_it_answers() {
        assert_eq!(or_before(Ok(1), &None), Some(Ok(1)));
        assert_eq!(or_before(Err(lost()), &Some(Ok(1))), Some(Ok(1)));
        assert_eq!(or_before(Ok(2), &Some(Ok(1))), Some(Ok(2)));
        assert_eq!(or_before::<u32>(Err(lost()), &None), Some(Err(lost())));
        let damaged = Failure::fatal("history-unreadable", "nonsense", "");
        assert_eq!(or_before(Err(damaged.clone()), &Some(Ok(1))), Some(Err(damaged)), "it has answered");
    }

    #[test]
    fn who_asks_waits_for_no_silent_target() {
        let (answers, waiting) = channel::<Listed<u32>>();
        let waiting = std::sync::Mutex::new(waiting);
        let sight: Arc<Sight<Listed<u32>>> = Arc::default();
        let round = sight.begin(move |_| lock(&waiting).recv().ok().flatten());
        let long_ago = Instant::now().checked_sub(PATIENCE).expect("a machine that has run for a second");
        assert_eq!(*sight.seen_or_silent(round, long_ago, || true), None);
        answers.send(Some(Ok(7))).expect("the look waits");
        assert_eq!(*sight.seen_or_silent(round, Instant::now(), || true), Some(Ok(7)), "it is waited for");
    }
}
