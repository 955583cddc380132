//! The addresses of names.
//!
//! The system takes as long as it likes for a name, and cannot be told to stop. **Invariant:** one
//! thread looks a name up, however many connections wait for it and however often they give up.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::background;

/// What came of looking a name up. An error has the words of the system, for all who wait.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Asks the system.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// A name that is being looked up.
#[derive(Default)]
struct Name {
    found: Mutex<Option<Found>>,
    is_found: Condvar,
}

/// Looks names up, each once at a time.
#[derive(Clone)]
struct Resolver {
    look_up: Arc<LookUp>,
    /// The names that are being looked up.
    under_way: Arc<Mutex<BTreeMap<String, Arc<Name>>>>,
}

impl Resolver {
    fn new(look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { look_up: Arc::new(look_up), under_way: Arc::default() }
    }

    /// The addresses of `host:port`, if they are known by `deadline`.
    fn resolve(&self, address: &str, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        let known = lock(&self.under_way).get(address).cloned();
        let name = known.unwrap_or_else(|| self.begin(address));
        let wait = deadline.saturating_duration_since(Instant::now());
        let is_awaited = |found: &mut Option<Found>| found.is_none();
        let waited = name.is_found.wait_timeout_while(lock(&name.found), wait, is_awaited);
        let (found, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match found.clone() {
            Some(found) => found.map_err(|(kind, words)| io::Error::new(kind, words)),
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the name was not looked up in time")),
        }
    }

    /// Look a name up, unless somebody has begun to meanwhile.
    fn begin(&self, address: &str) -> Arc<Name> {
        let name = match lock(&self.under_way).entry(address.to_owned()) {
            Entry::Occupied(known) => return known.get().clone(),
            Entry::Vacant(new) => new.insert(Arc::default()).clone(),
        };
        let (me, asked, of) = (self.clone(), address.to_owned(), address.to_owned());
        let (look_up, it) = (self.look_up.clone(), name.clone());
        background::begin(
            "resolve",
            move || look_up(&asked),
            move |done| {
                let found = match done {
                    Ok(found) => found.map_err(|error| (error.kind(), error.to_string())),
                    Err(unfinished) => Err((io::ErrorKind::Other, format!("looking up the name {unfinished}"))),
                };
                lock(&me.under_way).remove(&of);
                *lock(&it.found) = Some(found);
                it.is_found.notify_all();
            },
        );
        name
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of `host:port`. The system is waited for until `deadline`.
pub(super) fn resolve(address: &str, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    static RESOLVER: LazyLock<Resolver> =
        LazyLock::new(|| Resolver::new(|name| name.to_socket_addrs().map(Iterator::collect)));
    match address.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => RESOLVER.resolve(address, deadline),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_looked_up_once_however_many_wait_and_give_up() {
        let (go, wait) = channel::<()>();
        let (begun, wait) = (Arc::new(AtomicU32::new(0)), Mutex::new(wait));
        let count = begun.clone();
        let resolver = Resolver::new(move |name| {
            count.fetch_add(1, SeqCst);
            let _disconnected = lock(&wait).recv();
            if name == "gone:1" { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![([127, 0, 0, 1], 1).into()]) }
        });
        for _ in 0..20 {
            let error = resolver.resolve("hangs:1", Instant::now()).expect_err("it hangs");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let patient = Instant::now() + Duration::from_secs(180);
        let (one, other) = (resolver.clone(), resolver.clone());
        let waits = thread::spawn(move || one.resolve("hangs:1", patient));
        let waits_too = thread::spawn(move || other.resolve("hangs:1", patient));
        // The thread that looks it up and the list know the name, and so do those who wait.
        let begun_to_wait = Instant::now();
        while lock(&resolver.under_way).get("hangs:1").is_none_or(|name| Arc::strong_count(name) < 4) {
            assert!(begun_to_wait.elapsed() < Duration::from_secs(60), "they wait for other threads");
            thread::yield_now();
        }
        drop(go);
        for waiting in [waits, waits_too] {
            assert_eq!(waiting.join().expect("joined").expect("found").len(), 1);
        }
        assert_eq!(begun.load(SeqCst), 1);
        // It is looked up again when somebody wants to know it again, and an error is for all.
        assert!(resolver.resolve("hangs:1", patient).is_ok());
        assert_eq!(resolver.resolve("gone:1", patient).expect_err("gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(begun.load(SeqCst), 3);
        assert!(lock(&resolver.under_way).is_empty());
    }
}
