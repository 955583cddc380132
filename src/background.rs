//! Work beside the rest, on threads of its own, that always ends in a state with a name.
//!
//! **Invariant:** whoever begins something hears how it ended, exactly once: what came of it, that
//! it panicked, or that there was no thread for it. So nothing stays
//! "under way" for ever, and a panic is never taken for an answer.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::culprit;

/// How soon work that is to go on begins again after a panic.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why work has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// It panicked, with this message.
    #[error("panicked: {0}; report this, the log has more")]
    Panicked(String),
    /// The system gave no thread.
    #[error("no thread: {0}; raise the limit of processes")]
    NoThread(String),
}

impl Unfinished {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Panicked(_) => "internal",
            Self::NoThread(_) => "no-thread",
        }
    }
}

/// Tells how work has ended: once, at the latest when it is dropped.
struct InFlight<T, F: FnOnce(Result<T, Unfinished>)> {
    name: &'static str,
    ended: Option<F>,
    /// What came of it; `None`: no thread has begun with it.
    result: Option<Result<T, Unfinished>>,
}

impl<T, F: FnOnce(Result<T, Unfinished>)> Drop for InFlight<T, F> {
    fn drop(&mut self) {
        let result =
            self.result.take().unwrap_or_else(|| Err(Unfinished::NoThread("the system is out of them".to_owned())));
        if let Err(unfinished) = &result {
            tracing::error!(code = unfinished.code(), "{}: {unfinished}", self.name);
        }
        if let Some(ended) = self.ended.take() {
            ended(result);
        }
    }
}

impl<T, F: FnOnce(Result<T, Unfinished>)> InFlight<T, F> {
    fn run(mut self, work: impl FnOnce() -> T) {
        self.result = Some(attempt(work));
    }
}

/// Do something on a thread of its own. `ended` is told what came of it, on that thread; or on this
/// one, if there is no other.
pub fn begin<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
    ended: impl FnOnce(Result<T, Unfinished>) + Send + 'static,
) {
    let in_flight = InFlight { name, ended: Some(ended), result: None };
    // A closure that no thread takes is dropped, and with it what tells how it ended.
    drop(culprit::spawn(name, move || in_flight.run(work)));
}

/// Work on a thread of its own, for a caller that polls for its result.
#[derive(Debug)]
pub struct Errand<T>(Receiver<Result<T, Unfinished>>);

impl<T: Send + 'static> Errand<T> {
    /// Begin it.
    pub fn begin(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, told) = channel();
        // The caller may have dropped the errand.
        begin(name, work, move |result| drop(tell.send(result)));
        Self(told)
    }

    /// What came of it; `None`: it is under way.
    pub fn done(&self) -> Option<Result<T, Unfinished>> {
        self.0.try_recv().ok()
    }

    /// What came of it by `deadline`; `None`: it is under way then.
    pub fn done_by(&self, deadline: Instant) -> Option<Result<T, Unfinished>> {
        self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

/// Try several ways to the same thing, each on a thread of its own, and answer the first that leads there. The next one is begun
/// `stagger` after the one before, or at once when one has failed; none after `deadline`. If none leads there, the error is that of
/// the last; `None`: there was no way, or none has come to an end by then.
pub fn first_of<T: Send + 'static, E: Send + 'static>(
    name: &'static str,
    ways: impl IntoIterator<Item = impl FnOnce() -> Result<T, E> + Send + 'static>,
    stagger: Duration,
    deadline: Instant,
) -> Option<Result<T, E>> {
    let (tell, told) = channel();
    let mut ways = ways.into_iter().fuse();
    let (mut under_way, mut last) = (0, None);
    loop {
        let more = ways.next();
        let has_more = more.is_some();
        if let Some(way) = more {
            let tell = tell.clone();
            // The caller may have returned with another answer.
            begin(name, way, move |result| drop(tell.send(result)));
            under_way += 1;
        }
        if under_way == 0 {
            return last;
        }
        let until = if has_more { deadline.min(Instant::now() + stagger) } else { deadline };
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(Ok(won))) => return Some(Ok(won)),
            Ok(failed) => {
                under_way -= 1;
                // One that panicked has been logged.
                last = failed.ok().or(last);
            }
            Err(_) if Instant::now() >= deadline => return last,
            Err(_) => {}
        }
    }
}

/// Do something; a panic is an answer like any other.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Unfinished> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Unfinished::Panicked(words(&*panic)))
}

/// Go on with something until it returns by itself. After a panic, which `panicked` is told of, it
/// begins again.
pub fn keep_on(name: &str, mut work: impl FnMut(), mut panicked: impl FnMut(&Unfinished)) {
    while let Err(unfinished) = attempt(&mut work) {
        tracing::error!(code = unfinished.code(), "{name} begins again: it {unfinished}");
        panicked(&unfinished);
        thread::sleep(AGAIN_AFTER);
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it says nothing".to_owned())
}

/// Things that are under way, by name: each at most once at a time.
#[derive(Clone, Debug)]
pub struct UnderWay<K: Ord>(Arc<Mutex<BTreeSet<K>>>);

impl<K: Ord> Default for UnderWay<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone + Send + 'static> UnderWay<K> {
    /// Begin what is not under way yet. It is over when `work` has returned or panicked, or if
    /// there is no thread for it.
    pub fn begin(&self, name: &'static str, key: &K, work: impl FnOnce() + Send + 'static) {
        if !self.set().insert(key.clone()) {
            return;
        }
        let (me, key) = (self.clone(), key.clone());
        begin(name, work, move |_| {
            me.set().remove(&key);
        });
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn whoever_begins_hears_how_it_ended() {
        let (tell, heard) = channel();
        let said = |tell: &std::sync::mpsc::Sender<_>| {
            let tell = tell.clone();
            move |result| tell.send(result).expect("the test listens")
        };
        begin("fine", || 7, said(&tell));
        assert_eq!(heard.recv().expect("told"), Ok(7));
        begin("bad", || -> i32 { panic!("it broke") }, said(&tell));
        assert_eq!(heard.recv().expect("told"), Err(Unfinished::Panicked("it broke".to_owned())));
    }

    #[test]
    fn an_errand_is_done_once_it_is() {
        let (go, wait) = channel::<()>();
        let errand = Errand::begin("waits", move || wait.recv().is_err());
        assert_eq!(errand.done(), None, "it is under way");
        drop(go);
        let done = loop {
            if let Some(done) = errand.done() {
                break done;
            }
            thread::yield_now();
        };
        assert_eq!(done, Ok(true));
    }

    type Way = Box<dyn FnOnce() -> Result<u32, &'static str> + Send>;

    fn first(ways: Vec<Way>, stagger: Duration) -> Option<Result<u32, &'static str>> {
        first_of("way", ways, stagger, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn the_first_way_that_leads_there_is_taken() {
        let (_go, wait) = channel::<()>();
        let hangs: Way = Box::new(move || wait.recv().map(|()| 0).map_err(|_| "nobody goes"));
        let (fails, leads): (Way, Way) = (Box::new(|| Err("no")), Box::new(|| Ok(7)));
        assert_eq!(first(vec![hangs, fails, leads], Duration::from_millis(1)), Some(Ok(7)));
        let long = Duration::from_secs(3_600);
        assert_eq!(first(vec![Box::new(|| Ok(1)), Box::new(|| Ok(2))], long), Some(Ok(1)), "the others are not begun");
        assert_eq!(first(vec![Box::new(|| Err("no")), Box::new(|| Ok(2))], long), Some(Ok(2)), "a failure is enough");
    }

    #[test]
    fn where_no_way_leads_there_the_last_says_why() {
        let fails = |why: &'static str| -> Way { Box::new(move || Err(why)) };
        assert_eq!(first(vec![fails("one")], Duration::ZERO), Some(Err("one")));
        assert_eq!(first(Vec::new(), Duration::ZERO), None);
        let panics: Way = Box::new(|| panic!("it broke"));
        assert_eq!(first(vec![fails("one"), panics], Duration::from_secs(3_600)), Some(Err("one")));
    }

    #[test]
    fn no_way_is_waited_for_beyond_the_deadline() {
        let (_go, wait) = channel::<()>();
        let hangs: Way = Box::new(move || wait.recv().map(|()| 0).map_err(|_| "nobody goes"));
        assert_eq!(first_of("way", [hangs], Duration::ZERO, Instant::now()), None);
    }

    #[test]
    fn what_was_never_begun_has_ended_too() {
        let mut ended = None;
        drop(InFlight { name: "never", ended: Some(|result: Result<(), _>| ended = Some(result)), result: None });
        assert!(matches!(ended, Some(Err(Unfinished::NoThread(_)))), "{ended:?}");
    }

    #[test]
    fn what_panicked_is_not_under_way() {
        let under_way = UnderWay::default();
        let (tell, heard) = channel();
        for round in 0..3 {
            let tell = tell.clone();
            // It may take a moment after the panic until it is over.
            let begun = Instant::now();
            while !under_way.set().is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(60), "it is under way for ever");
                thread::yield_now();
            }
            under_way.begin("bad", &1, move || {
                tell.send(round).expect("the test listens");
                panic!("round {round}");
            });
            assert_eq!(heard.recv().expect("begun"), round);
        }
    }

    #[test]
    fn what_is_under_way_is_not_begun_again() {
        let under_way = UnderWay::default();
        let (go, wait) = channel::<()>();
        under_way.begin("hangs", &1, move || {
            let _disconnected = wait.recv();
        });
        under_way.begin("hangs", &1, || unreachable!("it is under way"));
        drop(go);
    }

    #[test]
    fn what_is_to_go_on_begins_again_after_a_panic() {
        let (mut rounds, mut panics) = (0, Vec::new());
        let work = || {
            rounds += 1;
            assert!(rounds > 1, "the first round");
        };
        keep_on("a duty", work, |unfinished| panics.push(unfinished.clone()));
        assert_eq!((rounds, panics.len()), (2, 1));
    }
}
