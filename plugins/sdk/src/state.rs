//! What a stateful plugin remembers from one record to the next.

use std::marker::PhantomData;
use std::vec;

use crate::record::Reject;

#[cfg(target_arch = "wasm32")]
use crate::bindings::state as imports;
#[cfg(not(target_arch = "wasm32"))]
use crate::fake as imports;

/// The time of an entry that never expires.
const NEVER: i64 = i64::MAX;

/// Entries in the first page of a scan. Small, because many scans want the first entry only.
const FIRST_PAGE: u32 = 4;

/// Entries in a page that follows many others. It bounds the memory that a page takes, and still a host call brings many.
const LAST_PAGE: u32 = 256;

/// When an entry is gone by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays until it is deleted.
    Never,
    /// It is gone when the record time reaches this, in milliseconds since 1970-01-01 UTC.
    At(i64),
}

impl Expiry {
    /// The contract's number for it.
    fn time(self) -> i64 {
        match self {
            Self::Never => NEVER,
            Self::At(time) => time,
        }
    }
}

/// The state of the source partition that the present record comes from.
///
/// It belongs to the link, the stage and the partition, is committed with the batch's output and dropped with it. What an
/// earlier record wrote is seen by the next, in the same batch or another. A record that is rejected has written nothing.
///
/// To go over the stage's limit of state, `state_bytes`, is a trap: give entries an [`Expiry`] or delete them.
#[derive(Debug)]
pub struct State<'a> {
    at: u32,
    record: PhantomData<&'a ()>,
}

/// The state of one source partition while its layout is changed, without a record. [`State::time`] is that of the last record before.
pub type MigrationState = State<'static>;

impl State<'_> {
    /// The value of a key, if it is there and has not expired.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        imports::get(self.at, key)
    }

    /// Set the value of a key, and when it expires.
    pub fn put(&self, key: &[u8], value: &[u8], expires: Expiry) {
        imports::put(self.at, key, value, expires.time());
    }

    /// Forget a key.
    pub fn delete(&self, key: &[u8]) {
        imports::delete(self.at, key);
    }

    /// All keys that begin with `prefix` and their values, in the order of the keys.
    ///
    /// They are asked for in pages as the iterator goes. What is put or deleted meanwhile may be seen or not, so collect
    /// first what you mean to change.
    pub fn scan(&self, prefix: &[u8]) -> Scan<'_> {
        self.scan_from(prefix, prefix)
    }

    /// Like [`State::scan`], but from the key `start` on.
    pub fn scan_from(&self, prefix: &[u8], start: &[u8]) -> Scan<'_> {
        let (prefix, start) = (prefix.to_vec(), start.to_vec());
        Scan { state: self, prefix, start, limit: FIRST_PAGE, page: Vec::new().into_iter(), done: false }
    }

    /// The record time, in milliseconds since 1970-01-01 UTC: the highest timestamp of the partition's records up to and with
    /// this one, those left out that this stage rejected. It never goes back.
    pub fn time(&self) -> i64 {
        imports::time(self.at)
    }
}

/// Do `work` with the state as of the record with the index `at`. If the record is rejected, what it wrote is taken back.
pub(crate) fn with<T>(at: u32, work: impl FnOnce(&State<'_>) -> Result<T, Reject>) -> Result<T, Reject> {
    let done = work(&State { at, record: PhantomData });
    if done.is_err() {
        imports::discard(at);
    }
    done
}

/// Do `work` with the state between two batches.
pub(crate) fn between_batches<T>(work: impl FnOnce(&MigrationState) -> T) -> T {
    work(&State { at: 0, record: PhantomData })
}

/// What a plugin says that cannot migrate its state.
pub(crate) fn refusal(from: u32, to: u32) -> String {
    format!(
        "this plugin cannot turn state of version {from} into version {to}; give the stage another name to begin without state"
    )
}

/// Keys and values, in the order of the keys: what [`State::scan`] answers.
#[derive(Debug)]
pub struct Scan<'a> {
    state: &'a State<'a>,
    prefix: Vec<u8>,
    start: Vec<u8>,
    limit: u32,
    page: vec::IntoIter<crate::bindings::state::Entry>,
    done: bool,
}

impl Scan<'_> {
    /// Ask for the entries that follow.
    fn turn_the_page(&mut self) {
        let page = imports::scan(self.state.at, &self.prefix, &self.start, self.limit);
        // A page that is not full may still not be the last one: the host can have limits of its own.
        match page.last() {
            Some(last) => {
                self.start.clone_from(&last.key);
                self.start.push(0);
            }
            None => self.done = true,
        }
        self.limit = LAST_PAGE.min(4 * self.limit);
        self.page = page.into_iter();
    }
}

impl Iterator for Scan<'_> {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && !self.done {
            self.turn_the_page();
        }
        self.page.next().map(|entry| (entry.key, entry.value))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Answer, Partition, TestRecord};
    use crate::{Column, ConfigError, Expiry, NoConfig, Outputs, Record, Reject, Routes, State, StatefulTransform};

    type Work = fn(&Record<'_>, &State<'_>, &mut Outputs) -> Result<(), Reject>;

    std::thread_local! {
        static WORK: std::cell::Cell<Work> = const { std::cell::Cell::new(|_, _, _| Ok(())) };
    }

    /// Does what the test says.
    struct Worker;

    impl StatefulTransform for Worker {
        type Config = NoConfig;
        const NEEDS: &'static [Column] = &[Column::Value];
        const STATE_VERSION: u32 = 3;

        fn new(_: NoConfig, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
            Ok(Self)
        }

        fn transform(&self, record: &Record<'_>, state: &State<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
            WORK.get()(record, state, outputs)
        }
    }

    /// What `work` makes of records with these values and timestamps: the same in one batch and in batches of one.
    fn check(records: &[(&str, i64)], work: Work) -> Answer {
        WORK.set(work);
        let record = |(offset, (value, timestamp)): (usize, &(&str, i64))| TestRecord {
            value: Some(value.as_bytes().to_vec()),
            timestamp: *timestamp,
            offset: offset as i64,
            ..TestRecord::default()
        };
        let records: Vec<_> = records.iter().enumerate().map(record).collect();
        let whole = Partition::in_batches_of(records.len()).transform::<Worker>("{}", &records);
        let whole = whole.expect("a configuration");
        assert_eq!(Partition::in_batches_of(1).transform::<Worker>("{}", &records).as_ref(), Ok(&whole));
        whole
    }

    fn values(answer: &Answer) -> Vec<String> {
        let value = |record: &TestRecord| String::from_utf8(record.value.clone().unwrap_or_default()).expect("text");
        answer.outputs.iter().map(value).collect()
    }

    fn pair(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
        (key.as_bytes().to_vec(), value.as_bytes().to_vec())
    }

    #[test]
    fn what_a_record_wrote_is_read_by_it_and_those_behind_it() {
        let answer = check(&[("a", 0), ("b", 0), ("c", 0)], |record, state, outputs| {
            let mut seen = state.get(b"seen").unwrap_or_default();
            seen.extend_from_slice(record.value().unwrap_or_default());
            state.put(b"seen", &seen, Expiry::Never);
            outputs.emit().value(state.get(b"seen").as_deref());
            Ok(())
        });
        assert_eq!(values(&answer), ["a", "ab", "abc"]);
    }

    #[test]
    fn a_rejected_record_leaves_neither_state_nor_time() {
        let answer = check(&[("a", 5), ("bad", 90), ("c", 7)], |record, state, outputs| {
            let value = record.value().unwrap_or_default();
            if value == b"bad" {
                state.delete(b"a");
                state.put(b"last", b"first try", Expiry::Never);
                state.put(b"last", b"second try", Expiry::Never);
                assert_eq!((state.get(b"a"), state.time()), (None, 90));
                return Err(Reject::new("bad", "not this one"));
            }
            state.put(value, b"", Expiry::Never);
            state.put(b"last", value, Expiry::Never);
            outputs.emit().value(Some(state.time().to_string().as_bytes()));
            Ok(())
        });
        assert_eq!(values(&answer), ["5", "7"]);
        assert_eq!(answer.rejects, [(1, "bad".to_owned())]);
        assert_eq!(answer.state, [pair("a", ""), pair("c", ""), pair("last", "c")]);
    }

    #[test]
    fn a_scan_turns_its_pages_and_keeps_to_its_prefix() {
        let answer = check(&[("", 0), ("scan", 0)], |record, state, outputs| {
            if record.value() != Some(b"scan") {
                for key in ["j", "k", "l"] {
                    state.put(key.as_bytes(), b"around", Expiry::Never);
                }
                for n in 0..1000 {
                    state.put(format!("k{n:03}").as_bytes(), n.to_string().as_bytes(), Expiry::Never);
                    // The smallest key that follows, which is the first one that a page could leave out.
                    state.put(format!("k{n:03}\0").as_bytes(), b"next", Expiry::Never);
                }
                return Ok(());
            }
            let keys: Vec<_> = state.scan(b"k").map(|(key, _)| String::from_utf8(key).expect("text")).collect();
            let twice = |n| [format!("k{n:03}"), format!("k{n:03}\0")];
            let all: Vec<_> = ["k".to_owned()].into_iter().chain((0..1000).flat_map(twice)).collect();
            assert_eq!(keys, all);
            assert_eq!(state.scan_from(b"k", b"k990").count(), 20);
            assert_eq!(state.scan_from(b"k", b"").count(), 2001);
            assert_eq!(state.scan(b"none").next(), None);
            outputs.emit().value(state.scan(b"k7").next().map(|(_, value)| value).as_deref());
            Ok(())
        });
        assert_eq!(values(&answer), ["700"]);
    }

    #[test]
    fn an_entry_expires_when_the_record_time_reaches_its_time() {
        let answer = check(&[("put", 10), ("", 14), ("", 9), ("", 15), ("", 3)], |record, state, outputs| {
            if record.value() == Some(b"put") {
                state.put(b"k", b"", Expiry::At(15));
                state.put(b"stays", b"", Expiry::Never);
            }
            let there = format!("{} {}", state.time(), state.scan(b"").count());
            outputs.emit().value(Some(there.as_bytes()));
            Ok(())
        });
        assert_eq!(values(&answer), ["10 2", "14 2", "14 2", "15 1", "15 1"]);
        assert_eq!(answer.state, [pair("stays", "")]);
    }

    #[test]
    fn a_plugin_without_a_migration_refuses_in_words() {
        let refusal = Partition::in_batches_of(1).migrate_transform::<Worker>("{}", 2, 3).expect_err("no migration");
        assert!(refusal.contains("version 2 into version 3"), "{refusal}");
    }

    #[test]
    fn a_migration_reads_and_writes_the_state() {
        struct Renames;
        impl StatefulTransform for Renames {
            type Config = NoConfig;
            const NEEDS: &'static [Column] = &[];
            const STATE_VERSION: u32 = 2;

            fn new(_: NoConfig, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
                Ok(Self)
            }

            fn transform(&self, _: &Record<'_>, _: &State<'_>, _: &mut Outputs) -> Result<(), Reject> {
                Ok(())
            }

            fn migrate(&self, from: u32, to: u32, state: &crate::MigrationState) -> Result<(), String> {
                for (key, value) in state.scan(from.to_string().as_bytes()).collect::<Vec<_>>() {
                    state.delete(&key);
                    state.put(to.to_string().as_bytes(), &value, Expiry::At(state.time() + 1));
                }
                Ok(())
            }
        }
        WORK.set(|_, state, _| {
            state.put(b"1", b"kept", Expiry::Never);
            Ok(())
        });
        let mut partition = Partition::in_batches_of(1);
        partition.transform::<Worker>("{}", &[TestRecord::default()]).expect("a configuration");
        assert_eq!(partition.migrate_transform::<Renames>("{}", 1, 2), Ok(()));
        let left = partition.transform::<Renames>("{}", &[]).expect("a configuration").state;
        assert_eq!(left, [pair("2", "kept")]);
    }
}
