//! Which keys have been seen.
//!
//! The layout of the state, version 1. Numbers in keys are big-endian, so that they sort.
//!
//! | key | value | is |
//! |---|---|---|
//! | `k`, hash | | a key that is remembered |
//! | `o`, number (8 bytes) | hash | the same in the order in which they came; only if there is a `max_keys` |
//! | `n` | number (8 bytes, little-endian) | the next number |
//!
//! A hash is the first 16 bytes of a key's SHA-256. It is a cryptographic one because whoever writes the records could otherwise make
//! keys that look the same, and so have another's record dropped.

use sha2::{Digest, Sha256};
use tidegate_plugin::{Expiry, State};

const SEEN: u8 = b'k';
const ORDER: u8 = b'o';
const NEXT: &[u8] = b"n";

/// Keys that are forgotten for each new one. One is enough to stay at `max_keys`; more bring the state down to one that was
/// lowered, without many host calls for a single record.
const FORGOTTEN_AT_ONCE: usize = 4;

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
        let hash = &Sha256::digest(key)[..16];
        let seen = [&[SEEN], hash].concat();
        if state.get(&seen).is_some() {
            return false;
        }
        let expires = self.expiry(state);
        state.put(&seen, b"", expires);
        if let Some(max_keys) = self.max_keys {
            let number = next_number(state);
            forget_up_to(number.checked_sub(max_keys), state);
            state.put(&order_key(number), hash, expires);
        }
        true
    }

    /// When a key is forgotten that is seen now.
    fn expiry(&self, state: &State<'_>) -> Expiry {
        match self.max_age_ms {
            Some(age) => Expiry::At(state.time().saturating_add_unsigned(age)),
            None => Expiry::Never,
        }
    }
}

/// Count the new keys.
fn next_number(state: &State<'_>) -> u64 {
    let stored = state.get(NEXT).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let number = stored.unwrap_or_default();
    state.put(NEXT, &(number + 1).to_le_bytes(), Expiry::Never);
    number
}

/// Forget the oldest keys, up to the one with the number `last`.
fn forget_up_to(last: Option<u64>, state: &State<'_>) {
    let Some(last) = last.map(order_key) else { return };
    let oldest: Vec<_> = state.scan(&[ORDER]).take(FORGOTTEN_AT_ONCE).take_while(|(key, _)| *key <= last).collect();
    for (order, hash) in oldest {
        state.delete(&order);
        state.delete(&[&[SEEN], hash.as_slice()].concat());
    }
}

fn order_key(number: u64) -> Vec<u8> {
    [&[ORDER], number.to_be_bytes().as_slice()].concat()
}
