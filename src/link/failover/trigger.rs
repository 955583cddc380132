//! When a link fails over by itself. What is seen, and for how long, is all that counts: no cluster is asked here.

use std::time::{Duration, Instant};

use super::Reason;
use crate::config::FailoverConfig;
use crate::connector::{Class, HANGING_TRANSACTION};
use crate::link::failure::Failure;
use crate::link::status::{LaneState, LaneStatus};

/// What is seen of a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// Whether the source answers; `None`: that is not known.
    pub source_answers: Option<bool>,
    /// Whether the target answers; `None`: that is not known.
    pub target_answers: Option<bool>,
    /// How many records the link is behind; `None`: that is not known.
    pub lag_records: Option<u64>,
    /// How often its lanes have failed without a commit between.
    pub consecutive_failures: u64,
    /// Whether nothing of the source can be read, although a broker of it may answer.
    pub nothing_is_read: bool,
}

/// What is seen of a lane's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// How many there are; `None`: another daemon has the lane, and knows.
    pub all: Option<usize>,
    /// How many cannot be read, as far as that may be the source's fault.
    pub unreadable: usize,
}

impl Partitions {
    /// Those of a lane.
    pub fn of(lane: &LaneStatus) -> Self {
        let is_here = lane.state != LaneState::Elsewhere && lane.daemon.is_none();
        let not_begun = lane.stalled.keys().filter(|partition| !lane.committed.contains_key(*partition)).count();
        // What only a person can put right (an ACL, damaged records) is not put right by another
        // cluster's taking over.
        let is_unreadable = |why: &&Failure| why.class != Class::Fatal && why.code != HANGING_TRANSACTION;
        Self {
            all: is_here.then(|| lane.committed.len() + not_begun),
            unreadable: lane.stalled.values().filter(is_unreadable).count(),
        }
    }
}

/// Whether no partition of any lane can be read, or the source `is_silent` about where all of them
/// end: then it is as good as gone, although no lane fails. One partition or broker that is gone
/// among others is no reason, and a daemon does not judge by its own lanes alone.
pub fn is_nothing_read(lanes: &[Partitions], is_silent: bool) -> bool {
    let all: Option<usize> = lanes.iter().map(|lane| lane.all).sum();
    let unreadable: usize = lanes.iter().map(|lane| lane.unreadable).sum();
    all.is_some_and(|all| is_silent || all > 0 && unreadable == all)
}

/// How long ago the look before may be. A daemon that stood still for longer does not know what has been so meanwhile.
const LOOKED_AGO_MAX: Duration = Duration::from_secs(10);

/// Since when there has been a reason.
#[derive(Debug, Default)]
pub struct Trigger {
    looked: Option<Instant>,
    unreachable: Option<Instant>,
    behind: Option<Instant>,
    /// Whether it was seen not to be too far behind: a first copy is no reason.
    was_level: bool,
    failing: Option<Instant>,
    unread: Option<Instant>,
    back: Option<Instant>,
}

impl Trigger {
    /// Why the target is to take the source's place now. A target that does not answer takes nobody's place.
    pub fn look(&mut self, signs: Signs, config: &FailoverConfig, now: Instant) -> Option<(Reason, String)> {
        self.forget_before_a_gap(now);
        let unreachable = lasting(&mut self.unreachable, signs.source_answers == Some(false), now);
        let too_far = signs.lag_records.filter(|lag| *lag > config.lag_records_max);
        self.was_level |= signs.lag_records.is_some() && too_far.is_none();
        let behind = lasting(&mut self.behind, self.was_level && too_far.is_some(), now);
        let fails = signs.consecutive_failures > config.consecutive_failures_max;
        let failing = lasting(&mut self.failing, fails, now);
        let unread = lasting(&mut self.unread, signs.nothing_is_read, now);
        if signs.target_answers != Some(true) {
            return None;
        }
        if unreachable >= Some(config.timeout) {
            let words = format!("the source has not answered for {} s", config.timeout.as_secs());
            return Some((Reason::SourceUnreachable, words));
        }
        if unread >= Some(config.timeout) {
            let words = format!("no partition of the source could be read for {} s", config.timeout.as_secs());
            return Some((Reason::SourceUnreachable, words));
        }
        if behind >= Some(config.timeout) {
            let (lag, max) = (too_far.unwrap_or_default(), config.lag_records_max);
            let words = format!("{lag} records behind, and more than {max} for {} s", config.timeout.as_secs());
            return Some((Reason::Lag, words));
        }
        if failing >= Some(config.timeout) {
            let (times, seconds) = (signs.consecutive_failures, config.timeout.as_secs());
            let words = format!("its lanes have failed {times} times in a row, for {seconds} s");
            return Some((Reason::ConsecutiveFailures, words));
        }
        None
    }

    /// Whether the source has answered for long enough to be given its place back.
    pub fn is_back(&mut self, signs: Signs, config: &FailoverConfig, now: Instant) -> bool {
        self.forget_before_a_gap(now);
        let both = signs.source_answers == Some(true) && signs.target_answers == Some(true);
        lasting(&mut self.back, both && !signs.nothing_is_read, now) >= Some(config.timeout)
    }

    /// What was so before a pause in which nobody looked is counted anew.
    fn forget_before_a_gap(&mut self, now: Instant) {
        let ago = self.looked.replace(now).map(|looked| now.saturating_duration_since(looked));
        if ago > Some(LOOKED_AGO_MAX) {
            *self = Self { looked: self.looked, was_level: self.was_level, ..Self::default() };
        }
    }
}

/// For how long something has been so, if it is.
fn lasting(since: &mut Option<Instant>, is_so: bool, now: Instant) -> Option<Duration> {
    *since = is_so.then(|| since.unwrap_or(now));
    since.map(|since| now.saturating_duration_since(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::status::Progress;
    use crate::model::TopicPartition;

    const CALM: Signs = Signs {
        source_answers: Some(true),
        target_answers: Some(true),
        lag_records: Some(5),
        consecutive_failures: 0,
        nothing_is_read: false,
    };

    fn config() -> FailoverConfig {
        FailoverConfig {
            lag_records_max: 100,
            timeout: Duration::from_secs(60),
            consecutive_failures_max: 3,
            ..FailoverConfig::default()
        }
    }

    /// What comes of seeing the same for so many seconds.
    fn after(signs: Signs, seconds: u64) -> Option<Reason> {
        let (mut trigger, begun) = (Trigger::default(), Instant::now());
        trigger.look(CALM, &config(), begun);
        let looks = (0..=seconds).map(|second| trigger.look(signs, &config(), begun + Duration::from_secs(second)));
        looks.last().flatten().map(|(reason, _)| reason)
    }

    #[test]
    fn each_reason_counts_alone() {
        let unreachable = Signs { source_answers: Some(false), lag_records: None, ..CALM };
        let behind = Signs { lag_records: Some(101), ..CALM };
        let failing = Signs { consecutive_failures: 4, ..CALM };
        let unread = Signs { nothing_is_read: true, ..CALM };
        for (signs, seconds, expected) in [
            (CALM, 1000, None),
            (unreachable, 59, None),
            (unreachable, 60, Some(Reason::SourceUnreachable)),
            (behind, 59, None),
            (behind, 60, Some(Reason::Lag)),
            (Signs { lag_records: Some(100), ..CALM }, 1000, None),
            (unread, 59, None),
            (unread, 60, Some(Reason::SourceUnreachable)),
            (Signs { lag_records: None, ..unread }, 60, Some(Reason::SourceUnreachable)),
            (failing, 59, None),
            (failing, 60, Some(Reason::ConsecutiveFailures)),
            (Signs { consecutive_failures: 3, ..CALM }, 1000, None),
            (Signs { source_answers: None, lag_records: None, ..CALM }, 1000, None),
        ] {
            assert_eq!(after(signs, seconds), expected, "{signs:?} {seconds}");
            for target_answers in [Some(false), None] {
                assert_eq!(after(Signs { target_answers, ..signs }, seconds), None, "{signs:?}");
            }
        }
    }

    fn lane(state: LaneState, partitions: u32, stalled: &[(u32, Class, &'static str)]) -> LaneStatus {
        let place = |number| TopicPartition::new("t", number);
        let why = |class, code| Failure { class, ..Failure::fatal(code, "it does", "wait") };
        LaneStatus {
            state,
            committed: (0..partitions).map(|number| (place(number), Progress::default())).collect(),
            stalled: stalled.iter().map(|(number, class, code)| (place(*number), why(*class, code))).collect(),
            ..LaneStatus::default()
        }
    }

    /// Whether lanes fail or all of their partitions stand, a source that gives nothing is gone;
    /// one that gives anything is not.
    #[test]
    fn a_source_is_gone_if_nothing_of_it_can_be_read() {
        let gone = |number| (number, Class::Reopen, "cannot-connect");
        let refused = |number| (number, Class::Fatal, "topic-not-authorized");
        let hangs = |number| (number, Class::Reopen, HANGING_TRANSACTION);
        let running = |partitions, stalled: &[_]| lane(LaneState::Running, partitions, stalled);
        let all = running(2, &[gone(0), gone(1)]);
        for (lanes, expected) in [
            (vec![], false),
            (vec![running(0, &[])], false),
            (vec![running(2, &[])], false),
            (vec![running(2, &[gone(1)])], false),
            (vec![running(1, &[gone(0)])], true),
            (vec![all.clone()], true),
            (vec![all.clone(), all.clone()], true),
            (vec![all.clone(), running(0, &[])], true),
            (vec![all.clone(), running(1, &[])], false),
            (vec![all.clone(), running(2, &[gone(0)])], false),
            // Lanes that fail or open meanwhile know what stood when they were open last.
            (vec![lane(LaneState::Retrying, 1, &[gone(0)]), lane(LaneState::Opening, 1, &[gone(0)])], true),
            // Partitions of which nothing was ever copied.
            (vec![running(0, &[gone(0), gone(1)])], true),
            (vec![running(1, &[gone(1)])], false),
            // Another daemon may be able to read what it has.
            (vec![all.clone(), lane(LaneState::Elsewhere, 0, &[])], false),
            (vec![LaneStatus { daemon: Some("b".into()), ..all.clone() }], false),
            // The source gives what it has, and a person has to do something.
            (vec![running(2, &[gone(0), refused(1)])], false),
            (vec![running(2, &[gone(0), hangs(1)])], false),
            (vec![running(1, &[hangs(0)])], false),
        ] {
            let seen: Vec<Partitions> = lanes.iter().map(Partitions::of).collect();
            assert_eq!(is_nothing_read(&seen, false), expected, "{lanes:?}");
            let is_ours = seen.iter().all(|lane| lane.all.is_some());
            assert_eq!(is_nothing_read(&seen, true), is_ours, "the source says nothing: {lanes:?}");
        }
    }

    #[test]
    fn a_first_copy_is_no_reason() {
        let (mut trigger, begun) = (Trigger::default(), Instant::now());
        let mut look = |lag, second| {
            let signs = Signs { lag_records: lag, ..CALM };
            trigger.look(signs, &config(), begun + Duration::from_secs(second)).is_some()
        };
        assert!((0..1000).all(|second| !look(Some(101), second)));
        assert!(!look(None, 1000), "unknown is not level");
        assert!((1001..2000).all(|second| !look(Some(101), second)));
        assert!(!look(Some(100), 2000));
        assert!((2001..2061).all(|second| !look(Some(101), second)));
        assert!(look(Some(101), 2061));
    }

    #[test]
    fn a_reason_that_goes_away_begins_anew() {
        let (mut trigger, begun) = (Trigger::default(), Instant::now());
        let gone = Signs { source_answers: Some(false), ..CALM };
        let mut look = |signs, second| trigger.look(signs, &config(), begun + Duration::from_secs(second)).is_some();
        assert!((0..60).all(|second| !look(gone, second)));
        assert!(!look(CALM, 60));
        assert!((61..121).all(|second| !look(gone, second)));
        assert!(look(gone, 121));
    }

    #[test]
    fn a_daemon_that_stood_still_counts_anew() {
        let (mut trigger, begun) = (Trigger::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        let gone = Signs { source_answers: Some(false), ..CALM };
        assert_eq!(trigger.look(gone, &config(), at(0)), None);
        assert_eq!(trigger.look(gone, &config(), at(10)), None);
        assert_eq!(trigger.look(gone, &config(), at(600)), None, "it has not looked for so long");
        assert!((601..660).all(|second| trigger.look(gone, &config(), at(second)).is_none()));
        assert!(trigger.look(gone, &config(), at(660)).is_some());
        assert!(!trigger.is_back(CALM, &config(), at(661)));
        assert!(!trigger.is_back(CALM, &config(), at(1200)));
    }

    #[test]
    fn a_source_is_back_when_it_has_answered_for_a_while() {
        let (mut trigger, begun) = (Trigger::default(), Instant::now());
        let gone = Signs { source_answers: Some(false), ..CALM };
        let mut is_back = |signs, second| trigger.is_back(signs, &config(), begun + Duration::from_secs(second));
        assert!(!is_back(CALM, 0));
        assert!((1..60).all(|second| !is_back(gone, second)));
        assert!((60..120).all(|second| !is_back(CALM, second)));
        assert!(is_back(CALM, 120));
        assert!(!is_back(Signs { nothing_is_read: true, ..CALM }, 121), "a broker answers, and gives nothing");
        assert!(!is_back(CALM, 122));
    }
}
