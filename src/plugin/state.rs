//! What a stateful stage remembers of one source partition, while a lane works on it.
//!
//! Everything is in memory; the target has what is committed. Changes since the last [`State::accept`] can be undone one by
//! one, so that a batch that fails leaves no trace. Accepted changes wait in a set of keys until they are taken for a commit.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::state::NEVER;
use crate::model::{KeptRow, StateRow};

/// What an entry counts beside its key and value: about what it takes in memory.
pub const ENTRY_BYTES: u64 = 96;

type Key = Arc<[u8]>;

/// The state of a stage for one source partition.
#[derive(Debug, Default)]
pub struct State {
    /// Keys are chosen by plugins, so the hash has a secret.
    rows: HashMap<Key, Slot>,
    /// The keys in order: made by the first scan, and kept from then on. Who never scans does not pay for it.
    order: Option<BTreeSet<Key>>,
    /// The entries that expire, by time.
    expiring: BTreeSet<(i64, Key)>,
    bytes: u64,
    bytes_max: u64,
    /// The record time: the highest timestamp of the records before.
    time: i64,
    /// The record time when it was last accepted.
    accepted_time: i64,
    /// What was changed since the last accept, oldest first.
    journal: Vec<Undo>,
    /// The keys that were changed and accepted since changes were last taken; some of them twice.
    changed: Vec<Key>,
    /// What was there before a trial, while there is one.
    kept: Option<Box<Kept>>,
}

/// What a state was at a moment, as far as it has changed since: a copy that is made as entries change. It has no more entries than the state
/// had then and has now, together.
#[derive(Debug, Default)]
struct Kept {
    /// What was there; `None` where there was nothing.
    rows: HashMap<Key, Option<StateRow>>,
    time: i64,
    /// The keys of `rows` that came or went since they were last taken.
    changed: Vec<Key>,
}

impl Kept {
    /// The entry of a key was `old` until now.
    fn note(&mut self, key: &Key, old: Option<&Slot>) {
        if let Entry::Vacant(entry) = self.rows.entry(key.clone()) {
            entry.insert(old.map(|slot| slot.row.clone()));
            self.changed.push(key.clone());
        }
    }

    /// A key has no entry any more. If it had none before, it is as it was: a plugin must not have any number of keys kept.
    fn note_gone(&mut self, key: &Key) {
        if self.rows.get(key).is_some_and(Option::is_none) {
            self.rows.remove(key);
            self.changed.push(key.clone());
        }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    row: StateRow,
    /// Whether the key is in `changed`, or will be if the journal is accepted.
    noted: bool,
}

#[derive(Debug)]
struct Undo {
    at: u32,
    key: Key,
    old: Option<Slot>,
}

/// A moment to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    journal: usize,
    time: i64,
}

impl Mark {
    /// The record time then.
    pub fn time(self) -> i64 {
        self.time
    }
}

/// Putting an entry would take more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl State {
    /// The state that was stored: none, for a new partition, with the smallest number as `time`.
    pub fn new(rows: BTreeMap<Vec<u8>, StateRow>, time: i64, bytes_max: u64) -> Self {
        let mut state = Self { bytes_max, time, accepted_time: time, ..Self::default() };
        for (key, row) in rows {
            state.set(key.into(), Some(Slot { row, noted: false }));
        }
        state
    }

    /// The record time, in milliseconds since 1970-01-01 UTC.
    pub fn time(&self) -> i64 {
        self.time
    }

    /// What the entries take, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The limit of a stage that was published anew.
    pub fn set_limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn advance(&mut self, time: i64) {
        self.time = self.time.max(time);
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark { journal: self.journal.len(), time: self.time }
    }

    /// Undo everything since `mark`.
    pub fn undo(&mut self, mark: Mark) {
        while self.journal.len() > mark.journal {
            self.undo_last();
        }
        self.time = mark.time;
    }

    /// Undo everything since the last [`State::accept`].
    pub fn undo_all(&mut self) {
        self.undo(Mark { journal: 0, time: self.accepted_time });
    }

    /// Take back what was changed last for the record `at`, not further than `since`: another call may have had that index too.
    pub(super) fn discard(&mut self, at: u32, since: Mark) {
        while self.journal.len() > since.journal && self.journal.last().is_some_and(|undo| undo.at == at) {
            self.undo_last();
        }
    }

    fn undo_last(&mut self) {
        if let Some(Undo { key, old, .. }) = self.journal.pop() {
            self.set(key, old);
        }
    }

    /// The records that changed anything since `mark`, in order.
    pub(super) fn changed_at(&self, mark: Mark) -> impl Iterator<Item = u32> {
        self.journal[mark.journal..].iter().map(|undo| undo.at)
    }

    /// Make everything since the last accept part of the next commit, and clear away what has expired.
    pub fn accept(&mut self) {
        self.accepted_time = self.time;
        if let Some(kept) = &mut self.kept {
            // The oldest change of a key comes first, and has what was there.
            self.journal.iter().for_each(|undo| kept.note(&undo.key, undo.old.as_ref()));
            let gone = self.journal.iter().filter(|undo| !self.rows.contains_key(&undo.key));
            gone.for_each(|undo| kept.note_gone(&undo.key));
        }
        let unnoted = |undo: Undo| undo.old.is_none_or(|old| !old.noted).then_some(undo.key);
        self.changed.extend(self.journal.drain(..).filter_map(unnoted));
        while let Some(key) = self.expired(self.time) {
            let old = self.set(key.clone(), None);
            if let Some(kept) = &mut self.kept {
                kept.note(&key, old.as_ref());
                kept.note_gone(&key);
            }
            self.changed.push(key);
        }
    }

    /// Keep what is there now, until [`State::forget_kept`] or [`State::restore`]. Everything was accepted.
    pub fn keep(&mut self) {
        self.kept = Some(Box::new(Kept { time: self.time, ..Kept::default() }));
    }

    /// Go on keeping what was there at the record time `time`: `rows` were stored of it.
    pub fn keep_on(&mut self, rows: impl IntoIterator<Item = (Vec<u8>, Option<StateRow>)>, time: i64) {
        let rows = rows.into_iter().map(|(key, row)| (key.into(), row)).collect();
        self.kept = Some(Box::new(Kept { rows, time, changed: Vec::new() }));
    }

    /// Keep nothing any more.
    pub fn forget_kept(&mut self) {
        self.kept = None;
    }

    /// Make the state what was kept of it. That is part of the next commit.
    pub fn restore(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        for (key, row) in kept.rows {
            self.set(key.clone(), row.map(|row| Slot { row, noted: true }));
            self.changed.push(key);
        }
        (self.time, self.accepted_time) = (kept.time, kept.time);
    }

    /// What has to be stored of what is kept: the keys that came or went since this was called last.
    pub fn take_kept_changes(&mut self) -> BTreeMap<Vec<u8>, Option<StateRow>> {
        let Some(kept) = &mut self.kept else { return BTreeMap::new() };
        let changed = std::mem::take(&mut kept.changed);
        let row = |key: Key| (key.to_vec(), kept.rows.get(&key).map(|row| KeptRow(row.clone()).into_row()));
        changed.into_iter().map(row).collect()
    }

    /// The keys under which something of it may be stored, some of them twice.
    pub fn stored_keys(&self) -> Vec<Arc<[u8]>> {
        self.rows.keys().chain(&self.changed).cloned().collect()
    }

    /// The keys under which something of what is kept may be stored, some of them twice.
    pub fn stored_kept_keys(&self) -> Vec<Arc<[u8]>> {
        self.kept.as_ref().map_or_else(Vec::new, |kept| kept.rows.keys().chain(&kept.changed).cloned().collect())
    }

    /// Under these keys are entries of a state of before: what has not replaced them is removed with the next commit.
    pub fn succeed(&mut self, keys: Vec<Arc<[u8]>>) {
        self.changed.extend(keys);
    }

    /// The same for what is kept.
    pub fn succeed_kept(&mut self, keys: Vec<Arc<[u8]>>) {
        if let Some(kept) = &mut self.kept {
            kept.changed.extend(keys);
        }
    }

    /// How many changes wait to be stored, about.
    pub fn changes(&self) -> usize {
        self.changed.len()
    }

    /// What has to be stored: the keys that changed since this was called last, with what they have now.
    pub fn take_changes(&mut self) -> BTreeMap<Vec<u8>, Option<StateRow>> {
        let changed = std::mem::take(&mut self.changed);
        let row = |key: Key| {
            let slot = self.rows.get_mut(&key).map(|slot| {
                slot.noted = false;
                slot.row.clone()
            });
            (key.to_vec(), slot)
        };
        changed.into_iter().map(row).collect()
    }

    pub(super) fn get(&self, key: &[u8], now: i64) -> Option<&StateRow> {
        self.rows.get(key).map(|slot| &slot.row).filter(|row| row.expires > now)
    }

    /// The first entries that begin with `prefix`, from the key `start` on.
    pub(super) fn scan<'s>(
        &'s mut self,
        prefix: &'s [u8],
        start: &[u8],
        now: i64,
    ) -> impl Iterator<Item = (&'s [u8], &'s StateRow)> {
        let (rows, from) = (&self.rows, if start > prefix { start } else { prefix });
        let order = self.order.get_or_insert_with(|| rows.keys().cloned().collect());
        order
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(move |key| key.starts_with(prefix))
            .filter_map(|key| rows.get(key).map(|slot| (&**key, &slot.row)))
            .filter(move |(_, row)| row.expires > now)
    }

    /// Change an entry for the record `at`, at the record time `now`.
    pub(super) fn change(&mut self, at: u32, key: Vec<u8>, new: Option<StateRow>, now: i64) -> Result<(), Full> {
        let key: Key = key.into();
        if let Some(row) = &new {
            let needed = cost(&key, row);
            if self.bytes + needed > self.bytes_max && self.bytes_without(&key) + needed > self.bytes_max {
                // What has expired is gone for the plugin, so it must not count: or the limit would depend on when it is
                // cleared away, and so on where batches are cut.
                self.clear_expired(at, now);
                if self.bytes_without(&key) + needed > self.bytes_max {
                    return Err(Full);
                }
            }
        }
        let old = self.set(key.clone(), new.map(|row| Slot { row, noted: true }));
        self.journal.push(Undo { at, key, old });
        Ok(())
    }

    fn bytes_without(&self, key: &[u8]) -> u64 {
        self.bytes - self.rows.get(key).map_or(0, |slot| cost(key, &slot.row))
    }

    fn clear_expired(&mut self, at: u32, now: i64) {
        while let Some(key) = self.expired(now) {
            let old = self.set(key.clone(), None);
            self.journal.push(Undo { at, key, old });
        }
    }

    /// A key that has expired at `now`.
    fn expired(&self, now: i64) -> Option<Key> {
        self.expiring.first().filter(|(expires, _)| *expires <= now).map(|(_, key)| key.clone())
    }

    /// The one place where entries change; answers what was there.
    fn set(&mut self, key: Key, new: Option<Slot>) -> Option<Slot> {
        if let Some(slot) = &new {
            self.bytes += cost(&key, &slot.row);
            if slot.row.expires != NEVER {
                self.expiring.insert((slot.row.expires, key.clone()));
            }
        }
        let expires = new.as_ref().map(|slot| slot.row.expires);
        let old = match (self.rows.entry(key.clone()), new) {
            (Entry::Occupied(mut entry), Some(slot)) => Some(entry.insert(slot)),
            (Entry::Occupied(entry), None) => {
                if let Some(order) = &mut self.order {
                    order.remove(&key);
                }
                Some(entry.remove())
            }
            (Entry::Vacant(entry), Some(slot)) => {
                if let Some(order) = &mut self.order {
                    order.insert(key.clone());
                }
                entry.insert(slot);
                None
            }
            (Entry::Vacant(_), None) => None,
        };
        if let Some(Slot { row, .. }) = &old {
            self.bytes -= cost(&key, row);
            if row.expires != NEVER && expires != Some(row.expires) {
                self.expiring.remove(&(row.expires, key));
            }
        }
        old
    }
}

fn cost(key: &[u8], row: &StateRow) -> u64 {
    (key.len() + row.value.len()) as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(value: u8, expires: i64) -> StateRow {
        StateRow { value: vec![value], expires }
    }

    fn empty(bytes_max: u64) -> State {
        State::new(BTreeMap::new(), 0, bytes_max)
    }

    type Plain = (BTreeMap<Vec<u8>, StateRow>, u64, i64, BTreeSet<(i64, Key)>);

    /// A key, what it gets and when that ends, and the timestamp of the record that does it.
    type Change = (u8, Option<(u8, i64)>, i64);

    /// All that can be seen of a state, and what it counts.
    fn plain(state: &State) -> Plain {
        let rows = state.rows.iter().map(|(key, slot)| (key.to_vec(), slot.row.clone())).collect();
        (rows, state.bytes, state.time, state.expiring.clone())
    }

    fn keys(state: &mut State, prefix: &[u8], start: &[u8], now: i64) -> Vec<Vec<u8>> {
        state.scan(prefix, start, now).map(|(key, _)| key.to_vec()).collect()
    }

    #[test]
    fn an_entry_is_there_until_the_record_time_reaches_its_end() {
        let mut state = empty(1000);
        state.change(0, b"k".to_vec(), Some(row(1, 10)), 0).expect("room");
        assert!(state.get(b"k", 9).is_some());
        assert!(state.get(b"k", 10).is_none());
        assert!(keys(&mut state, b"", b"", 10).is_empty());
    }

    #[test]
    fn a_full_state_has_room_again_when_entries_have_expired() {
        let mut state = empty(2 * (ENTRY_BYTES + 2));
        state.change(0, b"a".to_vec(), Some(row(1, 10)), 0).expect("room");
        state.change(0, b"b".to_vec(), Some(row(1, NEVER)), 0).expect("room");
        assert_eq!(state.change(1, b"c".to_vec(), Some(row(1, NEVER)), 9), Err(Full));
        assert_eq!(state.change(1, b"b".to_vec(), Some(row(2, NEVER)), 9), Ok(()), "it replaces itself");
        assert_eq!(state.change(2, b"c".to_vec(), Some(row(1, NEVER)), 10), Ok(()));
        assert_eq!(keys(&mut state, b"", b"", 10), [b"b", b"c"]);
    }

    #[test]
    fn scanning_keeps_to_the_prefix_and_begins_at_the_start() {
        let mut state = empty(10_000);
        for key in [&b"a"[..], b"b", b"b\0", b"b\xff", b"c"] {
            state.change(0, key.to_vec(), Some(row(1, NEVER)), 0).expect("room");
        }
        let mut keys = |prefix: &[u8], start: &[u8]| keys(&mut state, prefix, start, 0);
        assert_eq!(keys(b"b", b""), [&b"b"[..], b"b\0", b"b\xff"]);
        assert_eq!(keys(b"b", b"b\x01"), [b"b\xff"]);
        assert_eq!(keys(b"b", b"a"), [&b"b"[..], b"b\0", b"b\xff"], "before the prefix there is nothing");
        assert_eq!(keys(b"", b"c"), [b"c"]);
    }

    #[test]
    fn discarding_takes_back_one_record_only() {
        let mut state = empty(10_000);
        let start = state.mark();
        state.change(0, b"a".to_vec(), Some(row(1, NEVER)), 0).expect("room");
        state.change(1, b"a".to_vec(), Some(row(2, NEVER)), 0).expect("room");
        state.change(1, b"b".to_vec(), Some(row(2, NEVER)), 0).expect("room");
        state.discard(1, start);
        assert_eq!(plain(&state).0, BTreeMap::from([(b"a".to_vec(), row(1, NEVER))]));
        assert_eq!(state.changed_at(start).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn changes_are_the_last_values_of_what_was_accepted() {
        let mut state = empty(10_000);
        state.change(0, b"a".to_vec(), Some(row(1, NEVER)), 0).expect("room");
        state.change(0, b"a".to_vec(), Some(row(2, NEVER)), 0).expect("room");
        state.change(0, b"b".to_vec(), Some(row(1, 5)), 0).expect("room");
        state.advance(5);
        state.accept();
        let changes = BTreeMap::from([(b"a".to_vec(), Some(row(2, NEVER))), (b"b".to_vec(), None)]);
        assert_eq!(state.take_changes(), changes);
        assert!(state.take_changes().is_empty());
    }

    fn store(stored: &mut BTreeMap<Vec<u8>, StateRow>, changes: BTreeMap<Vec<u8>, Option<StateRow>>) {
        for (key, row) in changes {
            match row {
                Some(row) => drop(stored.insert(key, row)),
                None => drop(stored.remove(&key)),
            }
        }
    }

    /// What a target holds that has taken all changes.
    fn stored(state: &mut State) -> BTreeMap<Vec<u8>, StateRow> {
        let mut stored = BTreeMap::new();
        store(&mut stored, state.take_changes());
        stored
    }

    /// The end of a trial costs what the trial has changed, and not what there is.
    #[test]
    fn what_is_kept_of_a_large_state_is_what_the_trial_has_changed() {
        let rows = (0..200_000_u32).map(|key| (key.to_be_bytes().to_vec(), row(1, NEVER))).collect();
        let mut state = State::new(rows, 0, u64::MAX);
        state.keep();
        for key in [7_u32, 70_000, 300_000] {
            state.change(0, key.to_be_bytes().to_vec(), Some(row(2, NEVER)), 0).expect("room");
        }
        state.accept();
        assert_eq!(state.take_kept_changes().len(), 3);
        assert_eq!(state.stored_kept_keys().len(), 3);
    }

    /// A key that went away is stored until a commit says so, and one that another state has left is removed by the first.
    #[test]
    fn what_is_stored_is_what_there_is_and_what_is_to_be_removed() {
        let key = |name: &[u8]| Key::from(name);
        let mut state =
            State::new(BTreeMap::from([(b"a".to_vec(), row(1, NEVER)), (b"b".to_vec(), row(1, NEVER))]), 0, 1000);
        state.change(0, b"a".to_vec(), None, 0).expect("room");
        state.accept();
        let stored: BTreeSet<Key> = state.stored_keys().into_iter().collect();
        assert_eq!(stored, BTreeSet::from([key(b"a"), key(b"b")]));
        let mut next = empty(1000);
        next.succeed(state.stored_keys());
        next.change(0, b"b".to_vec(), Some(row(2, NEVER)), 0).expect("room");
        next.accept();
        let changes = BTreeMap::from([(b"a".to_vec(), None), (b"b".to_vec(), Some(row(2, NEVER)))]);
        assert_eq!(next.take_changes(), changes);
    }

    proptest! {
        /// Whatever is done on trial, and however often it is stored and read again: restoring leaves what was there before.
        #[test]
        fn a_trial_leaves_no_trace(
            before in prop::collection::vec((0..6_u8, prop::option::of((0..3_u8, 1..40_i64)), 0..20_i64), 0..20),
            trial in prop::collection::vec((0..9_u8, prop::option::of((0..3_u8, 1..60_i64)), 0..40_i64), 0..30),
            reopened in 0..30_usize,
        ) {
            let mut state = empty(10_000);
            let play = |state: &mut State, (key, new, time): &Change| {
                state.advance(*time);
                let now = state.time();
                let _full = state.change(0, vec![*key], new.map(|(value, expires)| row(value, expires)), now);
                state.accept();
            };
            before.iter().for_each(|change| play(&mut state, change));
            let (mut rows, mut kept) = (stored(&mut state), BTreeMap::new());
            let was = plain(&state);
            state.keep();
            for (number, change) in trial.iter().enumerate() {
                play(&mut state, change);
                if number == reopened {
                    store(&mut rows, state.take_changes());
                    store(&mut kept, state.take_kept_changes());
                    let time = state.time();
                    state = State::new(rows.clone(), time, 10_000);
                    let read = |(key, row): (&Vec<u8>, &StateRow)| {
                        (key.clone(), KeptRow::from_row(row.clone()).expect("kept").0)
                    };
                    state.keep_on(kept.iter().map(read).collect::<Vec<_>>(), was.2);
                }
            }
            store(&mut rows, state.take_changes());
            store(&mut kept, state.take_kept_changes());
            let there = was.0.keys().chain(plain(&state).0.keys()).cloned().collect::<BTreeSet<_>>();
            prop_assert!(kept.keys().all(|key| there.contains(key)), "no more is kept than there was or is");
            let named = |keys: Vec<Key>| keys.iter().map(|key| key.to_vec()).collect::<BTreeSet<_>>();
            prop_assert_eq!(named(state.stored_keys()), rows.keys().cloned().collect());
            prop_assert_eq!(named(state.stored_kept_keys()), kept.keys().cloned().collect());
            state.restore();
            prop_assert_eq!(plain(&state), was.clone());
            store(&mut rows, state.take_changes());
            prop_assert_eq!(rows, was.0);
        }

        /// Whatever was done, undoing it leaves what was there, in every index and count.
        #[test]
        fn undoing_leaves_no_trace(
            before in prop::collection::vec((0..6_u8, prop::option::of((0..3_u8, 1..40_i64)), 0..20_i64), 0..20),
            after in prop::collection::vec((0..6_u8, prop::option::of((0..3_u8, 1..40_i64)), 0..20_i64), 0..20),
        ) {
            let mut state = empty(4 * (ENTRY_BYTES + 2));
            let play = |state: &mut State, changes: &[Change]| {
                for (key, new, time) in changes {
                    state.advance(*time);
                    let now = state.time();
                    let _full = state.change(0, vec![*key], new.map(|(value, expires)| row(value, expires)), now);
                }
            };
            play(&mut state, &before);
            state.accept();
            let (mark, was, mut seen) = (state.mark(), plain(&state), stored(&mut state));
            let in_order = keys(&mut state, b"", b"", 0);
            play(&mut state, &after);
            state.undo(mark);
            prop_assert_eq!(plain(&state), was);
            prop_assert_eq!(keys(&mut state, b"", b"", 0), in_order);
            let restored = State::new(plain(&state).0, state.time, state.bytes_max);
            prop_assert_eq!(plain(&restored), plain(&state));

            // What was undone is not stored, what comes after it is, and both together are what is there.
            state.accept();
            prop_assert!(state.take_changes().is_empty());
            play(&mut state, &after);
            state.accept();
            store(&mut seen, state.take_changes());
            prop_assert_eq!(seen, plain(&state).0);
        }
    }
}
