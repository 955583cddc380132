//! The contract's `state` outside of WebAssembly: one partition's state in memory, for tests. Each thread has one of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;

use crate::bindings::state::Entry;

/// A value, and the record time at which it is gone.
#[derive(Clone)]
struct Row {
    value: Vec<u8>,
    expires: i64,
}

impl Row {
    fn is_live(&self, time: i64) -> bool {
        time < self.expires || self.expires == i64::MAX
    }
}

/// The state of a partition.
pub(crate) struct Fake {
    rows: BTreeMap<Vec<u8>, Row>,
    /// The record time before the record `at`.
    time: i64,
    /// The timestamps of the batch that is worked on.
    batch: Vec<i64>,
    /// The record that is worked on.
    at: u32,
    /// Whether that record was rejected.
    discarded: bool,
    /// What that record has overwritten, newest last.
    undo: Vec<(Vec<u8>, Option<Row>)>,
}

std::thread_local! {
    static FAKE: RefCell<Fake> = const { RefCell::new(Fake::new()) };
}

impl Fake {
    pub(crate) const fn new() -> Self {
        Self { rows: BTreeMap::new(), time: i64::MIN, batch: Vec::new(), at: 0, discarded: false, undo: Vec::new() }
    }

    /// Do `work` with this as the state of the thread.
    pub(crate) fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        FAKE.with_borrow_mut(|fake| mem::swap(fake, self));
        let done = work();
        FAKE.with_borrow_mut(|fake| mem::swap(fake, self));
        done
    }

    /// A batch begins whose records have these timestamps.
    pub(crate) fn begin(&mut self, timestamps: Vec<i64>) {
        self.batch = timestamps;
    }

    /// The batch is committed.
    pub(crate) fn commit(&mut self) {
        self.go_to(self.batch.len() as u32);
        self.batch.clear();
        self.at = 0;
    }

    /// The record `at` is worked on, so those before it are done.
    fn go_to(&mut self, at: u32) {
        assert!(at >= self.at, "`at` went down from {} to {at}", self.at);
        if at > self.at {
            self.time = self.now();
            let between = self.batch.get(self.at as usize + 1..at as usize).unwrap_or_default();
            self.time = between.iter().copied().fold(self.time, i64::max);
            self.at = at;
            self.discarded = false;
            self.undo.clear();
        }
    }

    /// The record time with the record that is worked on.
    fn now(&self) -> i64 {
        let own = self.batch.get(self.at as usize).copied().filter(|_| !self.discarded);
        own.map_or(self.time, |own| own.max(self.time))
    }

    fn set(&mut self, key: &[u8], row: Option<Row>) {
        let before = match row {
            Some(row) => self.rows.insert(key.to_vec(), row),
            None => self.rows.remove(key),
        };
        self.undo.push((key.to_vec(), before));
    }

    fn take_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        self.discarded = true;
    }
}

/// Do `work` with the state as of the record `at`.
fn at<T>(at: u32, work: impl FnOnce(&mut Fake) -> T) -> T {
    FAKE.with_borrow_mut(|fake| {
        fake.go_to(at);
        work(fake)
    })
}

pub(crate) fn get(index: u32, key: &[u8]) -> Option<Vec<u8>> {
    at(index, |fake| fake.rows.get(key).filter(|row| row.is_live(fake.now())).map(|row| row.value.clone()))
}

pub(crate) fn put(index: u32, key: &[u8], value: &[u8], expires: i64) {
    at(index, |fake| fake.set(key, Some(Row { value: value.to_vec(), expires })));
}

pub(crate) fn delete(index: u32, key: &[u8]) {
    at(index, |fake| fake.set(key, None));
}

pub(crate) fn scan(index: u32, prefix: &[u8], start: &[u8], limit: u32) -> Vec<Entry> {
    at(index, |fake| {
        let rows = fake.rows.range(start.max(prefix).to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let live = rows.filter(|(_, row)| row.is_live(fake.now()));
        live.map(|(key, row)| Entry { key: key.clone(), value: row.value.clone() }).take(limit as usize).collect()
    })
}

pub(crate) fn discard(index: u32) {
    at(index, Fake::take_back);
}

pub(crate) fn time(index: u32) -> i64 {
    at(index, |fake| fake.now())
}
