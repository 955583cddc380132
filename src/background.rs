//! Work beside the rest, on threads of its own, that always ends in a state with a name.
//!
//! **Invariant:** whoever begins something hears how it ended, exactly once: what came of it, that
//! it panicked, or that there was no thread for it. So nothing stays
//! "under way" for ever, and a panic is never taken for an answer.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

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
            while !under_way.set().is_empty() {
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
