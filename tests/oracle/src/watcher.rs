//! A consumer that runs all the time: whatever it has seen once must be there in the end, at its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::tail::{Event, Tail};
use crate::{Content, Placed, Result};

/// How often to look whether a topic is there, or whether a watcher has come far enough.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A consumer of one topic with `read_committed`, on a thread of its own. It waits for a topic that is not there yet, and for brokers that are down.
///
/// It sees records in the order in which they come and forgets none, so if all that it has seen is a prefix of what the topic holds in the
/// end, it has seen a growing prefix at every moment before.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Content>,
    stops: AtomicBool,
}

impl Watcher {
    /// Watch a topic from its beginning.
    pub fn start(bootstrap: &str, topic: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let (watching, bootstrap, topic) = (Arc::clone(&shared), bootstrap.to_owned(), topic.to_owned());
        let thread = Some(thread::spawn(move || watching.watch(&bootstrap, &topic)));
        Self { shared, thread }
    }

    /// How many records it has seen.
    pub fn records(&self) -> usize {
        self.shared.seen().records()
    }

    /// How many records it has seen of a partition.
    pub fn records_of(&self, partition: i32) -> usize {
        self.shared.seen().0.get(&partition).map_or(0, Vec::len)
    }

    /// Stop, once it has seen as many records as the topic holds in the end, or nothing new for the time `still`; and say whether it has seen
    /// exactly those, each once, in order and at its offset.
    ///
    /// Errors: what it saw otherwise, in words.
    pub fn finish(mut self, last: &Content, still: Duration) -> Result<()> {
        let mut seen = self.records();
        let mut since = Instant::now();
        while seen < last.records() && since.elapsed() < still && !self.has_ended() {
            thread::sleep(LOOK_EVERY);
            let now = self.records();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
        }
        self.end()?;
        let seen = self.shared.seen();
        let all = last
            .0
            .iter()
            .map(|(number, records)| (*number, &**records, seen.0.get(number).map_or(&[][..], |seen| seen)));
        all.into_iter().try_for_each(|(number, last, seen)| same(number, last, seen))
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) -> Result<()> {
        self.shared.stops.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err("the watcher panicked".to_owned())))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Whoever did not finish does not want to know.
        let _ended = self.end();
    }
}

impl Shared {
    fn watch(&self, bootstrap: &str, topic: &str) -> Result<()> {
        let mut tail = None;
        while !self.stops.load(Ordering::Relaxed) {
            let Some(tail) = &tail else {
                tail = Tail::open(bootstrap, topic).ok();
                thread::sleep(LOOK_EVERY);
                continue;
            };
            if let Event::Record(partition, placed) = tail.poll()? {
                self.seen().0.entry(partition).or_default().push(placed);
            }
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Content> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(partition: i32, last: &[Placed], seen: &[Placed]) -> Result<()> {
    if last == seen {
        return Ok(());
    }
    let index = last.iter().zip(seen).take_while(|(last, seen)| last == seen).count();
    let side = |records: &[Placed]| match records.get(index) {
        Some(Placed { offset, record }) => format!("offset {offset}: {record}"),
        None => "nothing more".to_owned(),
    };
    Err(format!(
        "partition {partition}: the consumer that ran all the time saw something else as record {index}\n  \
         it saw       ({} records) {}\n  in the end   ({} records) {}",
        seen.len(),
        side(seen),
        last.len(),
        side(last)
    ))
}
