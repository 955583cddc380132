//! What stops a lane, and what the lane does about it.

use std::time::{Duration, Instant};

use crate::config::{Refused, Writing};
use crate::connector::{Class, Error};
use crate::model::{Batch, NotEncodable};

/// Why a lane cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the lane may do.
    pub class: Class,
    /// A stable word: the name of the state.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
    /// The stage it happened in.
    pub stage: Option<String>,
    /// The record it happened at, or the first of the batch.
    pub place: Option<Place>,
    /// What was lost, if something was.
    pub lost: Option<Lost>,
}

/// Records of a partition that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The first offset.
    pub from: i64,
    /// The offset behind the last one.
    pub to: i64,
}

/// A record of a source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
}

impl Place {
    /// Where the first record of a batch comes from.
    pub(super) fn of(batch: &Batch) -> Self {
        let offset = batch.offsets.first().copied().unwrap_or_default();
        Self { topic: batch.topic.to_string(), partition: batch.partition, offset }
    }
}

impl Failure {
    /// A failure that a person has to do something about.
    pub fn fatal(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { class: Class::Fatal, code, message, remedy, stage: None, place: None, lost: None }
    }

    /// There is no room for an instance of a plugin, which is no fault of the plugin: another link may give up some.
    pub(super) fn no_room(message: impl Into<String>) -> Self {
        let remedy = "stop a link, or give links fewer lanes or stages; it is tried again";
        Self { class: Class::Reopen, ..Self::fatal("plugin-no-room", message, remedy) }
    }

    /// A failure to write to a topic that is not for that.
    pub(super) fn refused(writer: Writing<'_>, refused: &Refused) -> Self {
        Self::fatal(refused.code(), refused.to_string(), refused.remedy(writer))
    }

    /// All of it, for a sentence.
    pub(super) fn in_full(&self) -> String {
        format!("{} ({}); {}", self.message, self.code, self.remedy)
    }

    /// The same, in a stage.
    pub(super) fn at_stage(self, stage: &str) -> Self {
        Self { stage: Some(stage.to_owned()), ..self }
    }
}

impl From<NotEncodable> for Failure {
    fn from(error: NotEncodable) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            class: error.class,
            code: error.code,
            message: error.message,
            remedy: error.remedy.to_owned(),
            stage: None,
            place: None,
            lost: None,
        }
    }
}

/// How long a lane waits before it opens again. It doubles with each failure that follows without a commit between them.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a failure of this class; `None`: the lane stops.
    pub(super) fn after(&mut self, class: Class) -> Option<Duration> {
        let (first, longest) = match class {
            Class::Reopen => (Duration::from_millis(100), Duration::from_secs(5)),
            // A rival has the lane: give it time, or two lanes would fence each other for ever.
            Class::Fenced => (Duration::from_secs(1), Duration::from_secs(60)),
            Class::Fatal => return None,
        };
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        Some(wait)
    }

    /// The lane has committed.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The longest wait before something is tried again that only a person can put right.
const PERSON_WAIT: Duration = Duration::from_secs(30);

/// Attempts at something that a link does beside its lanes: when the next one is due.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    backoff: Backoff,
    due: Option<Instant>,
}

impl Attempts {
    /// Whether it may be tried now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// It has failed. How long to wait: what may pass by itself is tried again within seconds.
    pub(super) fn failed(&mut self, class: Class, now: Instant) -> Duration {
        let wait = self.backoff.after(class).unwrap_or(PERSON_WAIT);
        self.due = Some(now + wait);
        wait
    }

    /// It was done, or it is another thing now: the next attempt is the first.
    pub(super) fn begin_again(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_wait_longer_and_longer_until_one_succeeds() {
        let (mut attempts, begun) = (Attempts::default(), Instant::now());
        let mut tried = Vec::new();
        for tenth in 0..600 {
            let now = begun + tenth * Duration::from_millis(100);
            if attempts.is_due(now) {
                attempts.failed(Class::Reopen, now);
                tried.push(tenth);
            }
        }
        assert_eq!(tried[..7], [0, 1, 3, 7, 15, 31, 63], "the waits double");
        assert_eq!(tried[7..10], [113, 163, 213], "the longest wait is five seconds");
        attempts.begin_again();
        assert!(attempts.is_due(begun));
        assert_eq!(attempts.failed(Class::Fatal, begun), PERSON_WAIT);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_start_again_after_a_commit() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..20).filter_map(|_| backoff.after(Class::Reopen)).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[19], 5000);
        backoff.reset();
        assert_eq!(backoff.after(Class::Fenced), Some(Duration::from_secs(1)));
        assert_eq!(backoff.after(Class::Fatal), None);
    }
}
