//! What a link's clusters say of it, for whoever looks at it now.
//!
//! Clusters are asked on threads of their own, one at a time for each. Who looks waits for a moment, and shows what was known before if there is no answer yet: a
//! cluster that is slow or hangs makes nobody wait. Only what was stored by this daemon is waited for longer, since people expect to see what they have just said.
//! `lists` are what somebody asks for by name.

mod lists;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::genesis::Genesis;
use super::lag::ends_of;
use super::revision::History;
use super::status::{LaneStatus, lock};
use super::supervisor::Link;
use super::throttle::ThrottleOrder;
use super::upgrade::Known;
use crate::background;
use crate::model::TopicPartition;
use crate::model::culprit::Work;

/// How long an answer is waited for: most clusters need a few milliseconds, and whoever asks the REST API should not need more than 20.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long it is waited for if nothing was ever known, or this daemon has changed it. Requests that read are answered within
/// half a second.
const PATIENCE_FOR_NEWS: Duration = Duration::from_millis(400);

/// What the target says.
#[derive(Clone, Debug, Default)]
pub struct AtTarget {
    /// What the link was made with; `None`: it was never started.
    pub genesis: Option<Genesis>,
    /// Its revisions.
    pub history: Arc<History>,
    /// What people said of its rate.
    pub throttle: Option<ThrottleOrder>,
    /// The daemons that run it.
    pub daemons: Known,
    /// How far its lanes have come, while none is up here.
    pub lanes: Vec<LaneStatus>,
}

/// Where the partitions of the source end, as far as that is known.
pub type Ends = BTreeMap<TopicPartition, i64>;

/// What was seen of a link's clusters.
#[derive(Debug, Default)]
pub(super) struct Sights {
    source: Arc<Sight<Ends>>,
    target: Arc<Sight<AtTarget>>,
    lists: lists::Lists,
}

/// Somebody looks at a link: its clusters are being asked.
pub struct Look {
    /// The link.
    link: Arc<Link>,
    until: Instant,
    source: u64,
    target: u64,
}

impl Look {
    /// The link.
    pub fn link(&self) -> Work<Link> {
        Work::with(&self.link, self.link.culprit())
    }

    /// Where the partitions of the source end.
    pub fn ends(&self) -> Arc<Ends> {
        self.link.sights.source.seen(self.source, self.until)
    }

    /// What the target says.
    pub fn at_target(&self) -> Arc<AtTarget> {
        self.link.sights.target.seen(self.target, self.until)
    }
}

impl Link {
    /// Ask the clusters. Who looks at several links begins with all of them.
    pub fn look(link: &Work<Self>) -> Look {
        let (one, other) = (Work::to_share(link), Work::to_share(link));
        let target = link.sights.target.begin(move |before| one.ask_target(before));
        let source = link.sights.source.begin(move |_| other.ask_source());
        Look { link: Work::to_share(link), until: Instant::now() + PATIENCE, source, target }
    }

    /// What the target has said last.
    pub(super) fn at_target_last(&self) -> Option<Arc<AtTarget>> {
        lock(&self.sights.target.state).last.clone()
    }

    /// Store something about the link at the target, durably.
    pub(super) fn store(&self, key: &str, value: &[u8]) -> Result<(), super::Failure> {
        self.target().put_metadata(&self.config().id, key, value)?;
        self.expect_news();
        Ok(())
    }

    /// Store it if `known` is what is stored now. Whether it was.
    pub(super) fn replace(&self, key: &str, known: Option<&[u8]>, value: &[u8]) -> Result<bool, super::Failure> {
        let replaced = self.target().replace_metadata(&self.config().id, key, known, value)?;
        self.expect_news();
        Ok(replaced)
    }

    /// What was known of the target is not so any more.
    pub(super) fn expect_news(&self) {
        self.sights.target.expect();
    }

    /// What cannot be read is as it was.
    fn ask_target(&self, before: &AtTarget) -> AtTarget {
        let genesis = self.known_genesis().unwrap_or_else(|_| before.genesis.clone());
        let lanes = if self.has_lanes() { Ok(Vec::new()) } else { self.lanes_as(genesis.as_ref()) };
        AtTarget {
            genesis,
            history: self.history_after(&before.history).unwrap_or_else(|_| before.history.clone()),
            throttle: self.throttle_order().unwrap_or_else(|_| before.throttle.clone()),
            daemons: self.daemons().unwrap_or_default(),
            lanes: lanes.unwrap_or_else(|_| before.lanes.clone()),
        }
    }

    fn ask_source(&self) -> Ends {
        let mut lanes = self.lanes();
        if lanes.is_empty() {
            lanes = self.lanes_in_target().unwrap_or_default();
        }
        ends_of(&**self.source(), lanes.iter().flat_map(|lane| lane.committed.keys())).known
    }
}

/// Something that is found out anew whenever somebody wants to know it.
#[derive(Debug, Default)]
struct Sight<T> {
    state: Mutex<State<T>>,
    seen: Condvar,
}

#[derive(Debug, Default)]
struct State<T> {
    /// The number of the round that was begun last, and of the one that ended last.
    begun: u64,
    ended: u64,
    /// Whether there is to be one more: somebody wants to know what the one under way may have passed.
    again: bool,
    /// The round that will know what was changed here.
    expected: u64,
    last: Option<Arc<T>>,
}

impl<T: Default + Send + Sync + 'static> Sight<T> {
    /// Find it out. Answers the number of the round that will know: one that begins now or later.
    fn begin(self: &Arc<Self>, ask: impl Fn(&T) -> T + Send + 'static) -> u64 {
        let mut state = lock(&self.state);
        if state.begun > state.ended {
            state.again = true;
            return state.begun + 1;
        }
        state.begun += 1;
        let round = state.begun;
        // The end is noted under the same lock, on this thread if there is no other.
        drop(state);
        let (me, it) = (self.clone(), self.clone());
        background::begin(
            "look",
            move || me.run(ask),
            move |result| {
                if result.is_err() {
                    it.give_up();
                }
            },
        );
        round
    }

    fn run(&self, ask: impl Fn(&T) -> T) {
        let mut before = lock(&self.state).last.clone().unwrap_or_default();
        loop {
            before = Arc::new(ask(&before));
            let mut state = lock(&self.state);
            state.last = Some(before.clone());
            state.ended = state.begun;
            self.seen.notify_all();
            if !std::mem::take(&mut state.again) {
                return;
            }
            state.begun += 1;
        }
    }

    /// Nothing was found out. Whoever waits is shown what was known before, and the next look
    /// begins anew.
    fn give_up(&self) {
        let mut state = lock(&self.state);
        // A round that was only asked for has not been either.
        state.begun += u64::from(std::mem::take(&mut state.again));
        state.ended = state.begun;
        self.seen.notify_all();
    }

    /// What was known is not so any more: a round that begins from now on will know.
    fn expect(&self) {
        let mut state = lock(&self.state);
        state.expected = state.begun + 1;
    }

    /// What the round has found out; what was known before, if it is not over when it should be.
    fn seen(&self, round: u64, until: Instant) -> Arc<T> {
        let mut state = lock(&self.state);
        let has_news = state.last.is_none() || state.ended < state.expected;
        let until = if has_news { until + PATIENCE_FOR_NEWS } else { until };
        while state.ended < round {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.seen.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.last.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A sight of what is sent, each look of which waits for that.
    fn sight() -> (Arc<Sight<u32>>, mpsc::Sender<u32>, impl Fn(&u32) -> u32 + Clone + Send + 'static) {
        let (answers, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let ask = move |before: &u32| lock(&waiting).recv().unwrap_or(*before);
        (Arc::default(), answers, ask)
    }

    #[test]
    fn who_does_not_answer_makes_nobody_wait_and_what_was_known_is_shown() {
        let (sight, answers, ask) = sight();
        answers.send(7).unwrap();
        assert_eq!(*sight.seen(sight.begin(ask.clone()), later()), 7);
        let round = sight.begin(ask);
        assert_eq!(*sight.seen(round, Instant::now()), 7, "it hangs");
        answers.send(8).unwrap();
        assert_eq!(*sight.seen(round, later()), 8);
    }

    #[test]
    fn a_look_that_was_under_way_before_is_not_enough() {
        let (sight, answers, ask) = sight();
        let first = sight.begin(ask.clone());
        let (second, third) = (sight.begin(ask.clone()), sight.begin(ask));
        assert!(second > first && third == second, "{first} {second} {third}");
        answers.send(1).unwrap();
        assert_eq!(*sight.seen(first, later()), 1);
        answers.send(2).unwrap();
        assert_eq!(*sight.seen(second, later()), 2);
    }

    #[test]
    fn a_look_that_panics_shows_what_was_known_and_is_no_reason_not_to_look_again() {
        let (sight, answers, ask) = sight();
        answers.send(7).unwrap();
        assert_eq!(*sight.seen(sight.begin(ask.clone()), later()), 7);
        assert_eq!(*sight.seen(sight.begin(|_| panic!("it broke")), later()), 7);
        answers.send(8).unwrap();
        assert_eq!(*sight.seen(sight.begin(ask), later()), 8);
    }

    #[test]
    fn what_was_changed_here_is_waited_for() {
        let (sight, answers, ask) = sight();
        answers.send(1).unwrap();
        sight.seen(sight.begin(ask.clone()), later());
        sight.expect();
        let round = sight.begin(ask);
        let slow = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            answers.send(2).unwrap();
            answers
        });
        assert_eq!(*sight.seen(round, Instant::now()), 2);
        slow.join().unwrap();
    }
}
