//! Which keys have been seen.
//!
//! The layout of the state, version 1. Numbers in keys are big-endian, so that they sort.
//!
//! | key | value | is |
//! |---|---|---|
//! | `k`, hash | | a key that is remembered |
//! | `o`, number (8 bytes) | hash | the same in the order in which they came; only if there is a `max_keys` |
//! | `n` | number (8 bytes, little-endian) | the next number |
//! | `u` | two numbers (8 bytes each, little-endian) | from the first to before the second, numbered keys may have no age; only if there was a `max_keys` |
//!
//! A stage may be published with another configuration. Keys that were put without a `max_age_ms` would
//! then stay for ever, since nothing counts them any more. So as long as there is a `max_age_ms`, each
//! record gives an age to some of the keys that `u` names, which begins at that time. Without a
//! `max_keys` these keys lose their numbers, too. What an earlier version of the plugin has left has no
//! `u`: numbered keys then have an age if there is a `max_keys`, and none otherwise.
//!
//! A hash is the first 16 bytes of a key's SHA-256. It is a cryptographic one because whoever writes the records could otherwise make
//! keys that look the same, and so have another's record dropped.

use sha2::{Digest, Sha256};
use tidegate_plugin::{Expiry, State};

const SEEN: u8 = b'k';
const ORDER: u8 = b'o';
const NEXT: &[u8] = b"n";

const UNAGED: &[u8] = b"u";

/// Keys that are forgotten for each new one, or get an age with each record. One is enough to stay at `max_keys`; more bring
/// the state down to one that was lowered, without many host calls for a single record.
const KEYS_AT_ONCE: usize = 4;

/// How long keys are remembered.
pub(crate) struct Memory {
    /// A key is forgotten after so many milliseconds of record time.
    pub(crate) max_age_ms: Option<u64>,
    /// A key is forgotten when so many others have come after it.
    pub(crate) max_keys: Option<u64>,
}

impl Memory {
    /// Whether a key was not seen, which from now on it was.
    pub(crate) fn is_new(&self, key: &[u8], state: &State<'_>) -> bool {
        if self.max_age_ms.is_some() {
            self.give_ages(state);
        }
        let hash = &Sha256::digest(key)[..16];
        let seen = [&[SEEN], hash].concat();
        if state.get(&seen).is_some() {
            return false;
        }
        let expires = self.expiry(state);
        state.put(&seen, b"", expires);
        if let Some(max_keys) = self.max_keys {
            let number = next_number(state);
            if self.max_age_ms.is_none() {
                note_unaged(number, state);
            }
            forget_up_to(number.checked_sub(max_keys), state);
            state.put(&order_key(number), hash, expires);
        }
        true
    }

    /// Give an age to some of the keys that have none, the oldest first.
    fn give_ages(&self, state: &State<'_>) {
        let Some(next) = numbered(state) else { return };
        let known = Unaged::read(state);
        let unknown = Unaged { from: if self.max_keys.is_some() { next } else { 0 }, to: next };
        let Unaged { from, to } = known.unwrap_or(unknown);
        let to = to.min(next);
        let keys: Vec<_> = if from < to {
            let keys = state.scan_from(&[ORDER], &order_key(from)).take(KEYS_AT_ONCE);
            keys.take_while(|(order, _)| *order < order_key(to)).collect()
        } else {
            Vec::new()
        };
        let expires = self.expiry(state);
        for (order, hash) in &keys {
            state.put(&[&[SEEN], hash.as_slice()].concat(), b"", expires);
            match self.max_keys {
                Some(_) => state.put(order, hash, expires),
                None => state.delete(order),
            }
        }
        let last = keys.get(KEYS_AT_ONCE - 1).and_then(|(order, _)| number_of(order));
        let left = Unaged { from: last.map_or(to, |last| last + 1), to };
        if known != Some(left) {
            left.put(state);
        }
    }

    /// When a key is forgotten that is seen now.
    fn expiry(&self, state: &State<'_>) -> Expiry {
        match self.max_age_ms {
            Some(age) => Expiry::At(state.time().saturating_add_unsigned(age)),
            None => Expiry::Never,
        }
    }
}

/// The numbers of keys that may have no age.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unaged {
    from: u64,
    /// [`u64::MAX`]: all that come.
    to: u64,
}

impl Unaged {
    fn read(state: &State<'_>) -> Option<Self> {
        let bytes = state.get(UNAGED)?;
        let (from, to) = bytes.split_first_chunk()?;
        Some(Self { from: u64::from_le_bytes(*from), to: u64::from_le_bytes(to.try_into().ok()?) })
    }

    fn put(self, state: &State<'_>) {
        state.put(UNAGED, &[self.from.to_le_bytes(), self.to.to_le_bytes()].concat(), Expiry::Never);
    }
}

/// Note that the key with this number has no age, and those behind it.
fn note_unaged(number: u64, state: &State<'_>) {
    let from = match Unaged::read(state) {
        Some(Unaged { to: u64::MAX, .. }) => return,
        Some(Unaged { from, to }) if from < to => from,
        Some(_) => number,
        None => 0,
    };
    Unaged { from, to: u64::MAX }.put(state);
}

/// The number that the next key gets; `None`: no key has ever had one.
fn numbered(state: &State<'_>) -> Option<u64> {
    Some(u64::from_le_bytes(state.get(NEXT)?.try_into().ok()?))
}

/// Count the new keys.
fn next_number(state: &State<'_>) -> u64 {
    let number = numbered(state).unwrap_or_default();
    state.put(NEXT, &(number + 1).to_le_bytes(), Expiry::Never);
    number
}

/// Forget the oldest keys, up to the one with the number `last`.
fn forget_up_to(last: Option<u64>, state: &State<'_>) {
    let Some(last) = last.map(order_key) else { return };
    let oldest: Vec<_> = state.scan(&[ORDER]).take(KEYS_AT_ONCE).take_while(|(key, _)| *key <= last).collect();
    for (order, hash) in oldest {
        state.delete(&order);
        state.delete(&[&[SEEN], hash.as_slice()].concat());
    }
}

fn number_of(order: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(order.get(1..)?.try_into().ok()?))
}

fn order_key(number: u64) -> Vec<u8> {
    [&[ORDER], number.to_be_bytes().as_slice()].concat()
}
