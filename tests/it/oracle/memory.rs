//! What plugins with state do, and what they then remember: as their documentation says, and in the layout that it gives.
//!
//! A record is judged before anything is remembered of it, so there is nothing to undo here. That is the point: what the engine
//! undoes must be as if it had never been.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::plugins::{Bad, known};
use super::windows::Windows;
use super::{Content, Output};

/// The time of an entry that stays.
pub(super) const NEVER: i64 = i64::MAX;

/// Keys that `dedupe` forgets for each new one, or gives an age with each record.
const KEYS_AT_ONCE: usize = 4;

/// Keys with values, each with the time at which it is gone.
pub(super) type Rows = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// What a stage remembers of a source partition.
#[derive(Debug)]
pub struct Memory {
    /// The record time.
    pub(super) time: i64,
    /// The version of the layout.
    pub(super) layout: u32,
    rows: Rows,
    windows: Windows,
}

impl Default for Memory {
    fn default() -> Self {
        Self { time: i64::MIN, layout: 1, rows: Rows::new(), windows: Windows::default() }
    }
}

impl Memory {
    /// The entries.
    pub(super) fn rows(&self) -> Rows {
        self.rows.clone().into_iter().chain(self.windows.rows()).collect()
    }

    /// A record with this timestamp is handled: the record time goes on, and what expires with it is gone.
    fn advance(&mut self, timestamp: i64) {
        if timestamp > self.time {
            self.time = timestamp;
            self.rows.retain(|_, (_, expires)| *expires > timestamp);
        }
    }

    fn put(&mut self, key: Vec<u8>, value: &[u8], expires: i64) {
        self.rows.insert(key, (value.to_vec(), expires));
    }

    /// Whether `dedupe` lets a record pass.
    pub(super) fn dedupe(&mut self, config: &Value, content: &Content) -> bool {
        known(config, &["max_keys", "max_age_ms"]);
        self.advance(content.timestamp);
        let Some(key) = &content.key else { return true };
        let max_keys = config["max_keys"].as_u64();
        let expires = config["max_age_ms"].as_i64().map_or(NEVER, |age| self.time + age);
        if expires != NEVER {
            self.give_ages(max_keys.is_some(), expires);
        }
        let hash = &Sha256::digest(key)[..16];
        if self.rows.contains_key(&seen(hash)) {
            return false;
        }
        self.put(seen(hash), b"", expires);
        let Some(max_keys) = max_keys else { return true };
        let [number] = self.numbers(b"n").unwrap_or_default();
        self.put_numbers(b"n", [number + 1]);
        if expires == NEVER {
            self.note_unaged(number);
        }
        if let Some(last) = number.checked_sub(max_keys) {
            for (key, hash) in self.ordered(0, last + 1) {
                self.rows.remove(&key);
                self.rows.remove(&seen(&hash));
            }
        }
        self.put(order(number), hash, expires);
        true
    }

    /// Give the age of this record to the oldest keys that were put without one.
    fn give_ages(&mut self, stays_numbered: bool, expires: i64) {
        let Some([next]) = self.numbers(b"n") else { return };
        let [from, to] = self.numbers(b"u").unwrap_or([if stays_numbered { next } else { 0 }, next]);
        let to = to.min(next);
        let keys = self.ordered(from, to);
        let is_last = keys.len() < KEYS_AT_ONCE;
        let mut from = from;
        for (key, hash) in keys {
            from = u64::from_be_bytes(key[1..].try_into().expect("a number")) + 1;
            self.put(seen(&hash), b"", expires);
            if stays_numbered {
                self.put(key, &hash, expires);
            } else {
                self.rows.remove(&key);
            }
        }
        self.put_numbers(b"u", [if is_last { to } else { from }, to]);
    }

    /// From this number on, keys may have no age.
    fn note_unaged(&mut self, number: u64) {
        let from = match self.numbers(b"u") {
            Some([_, u64::MAX]) => return,
            Some([from, to]) if from < to => from,
            Some(_) => number,
            None => 0,
        };
        self.put_numbers(b"u", [from, u64::MAX]);
    }

    /// The first entries of the order from `from` to before `to`: as many as one record changes.
    fn ordered(&self, from: u64, to: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let numbers = from..to.max(from);
        let entries = self.rows.range(order(numbers.start)..order(numbers.end)).take(KEYS_AT_ONCE);
        entries.map(|(key, (hash, _))| (key.clone(), hash.clone())).collect()
    }

    /// Numbers that are stored as eight little-endian bytes each.
    fn numbers<const N: usize>(&self, key: &[u8]) -> Option<[u64; N]> {
        let (bytes, _) = self.rows.get(key)?;
        let (numbers, rest) = bytes.as_chunks();
        assert!(rest.is_empty() && numbers.len() == N, "{N} numbers");
        Some(std::array::from_fn(|at| u64::from_le_bytes(numbers[at])))
    }

    fn put_numbers<const N: usize>(&mut self, key: &[u8], numbers: [u64; N]) {
        self.put(key.to_vec(), &numbers.map(u64::to_le_bytes).concat(), NEVER);
    }

    /// The count that the test plugin `counter` gives a record.
    pub(super) fn counter(&mut self, config: &Value, mut output: Output) -> Result<Output, Bad> {
        known(config, &["keep_ms", "fragile"]);
        let value = output.content.value.as_deref().unwrap_or_default();
        let says = |poison: &str| {
            let poison = format!(r#""poison":"{poison}""#);
            config["fragile"] == true && value.windows(poison.len()).any(|part| part == poison.as_bytes())
        };
        if says("panic") {
            return Err(Bad { code: "plugin-panic", message: "this record is poison".to_owned(), tries: 2 });
        }
        if says("reject") {
            return Err(Bad::rejected("poison", "this record is poison"));
        }
        self.advance(output.content.timestamp);
        let expires = self.time + config["keep_ms"].as_i64().expect("a time");
        let (prefix, all) = prefixes(self.layout);
        let key = [prefix, output.content.key.as_deref().unwrap_or_default()].concat();
        let counts = [self.count(key, expires), self.count(all.to_vec(), NEVER)];
        let count = format!("{} of {}", counts[0], counts[1]);
        output.content.headers.push((b"count".to_vec(), Some(count.into_bytes())));
        Ok(output)
    }

    fn count(&mut self, key: Vec<u8>, expires: i64) -> u64 {
        let number = self.rows.get(&key).map_or(0, |(bytes, _)| read(self.layout, bytes)) + 1;
        self.put(key, &written(self.layout, number), expires);
        number
    }

    /// What `counter` does when its other version takes its place. Whether it was another one.
    pub(super) fn migrate_counter(&mut self, config: &Value, to: u32) -> bool {
        let from = std::mem::replace(&mut self.layout, to);
        if from == to {
            return false;
        }
        let expires = self.time.saturating_add(config["keep_ms"].as_i64().expect("a time"));
        let ((old, _), (new, all)) = (prefixes(from), prefixes(to));
        for (key, (value, _)) in std::mem::take(&mut self.rows) {
            let value = written(to, read(from, &value));
            match key.strip_prefix(old) {
                Some(rest) => self.put([new, rest].concat(), &value, expires),
                None => self.put(all.to_vec(), &value, NEVER),
            }
        }
        true
    }

    /// What `aggregate` makes of a record.
    pub(super) fn aggregate(&mut self, config: &Value, output: Output) -> Result<Vec<Output>, Bad> {
        let number = Windows::number(config, &output.content)?;
        self.advance(output.content.timestamp);
        Ok(self.windows.add(config, self.time, number, output))
    }
}

/// The entry of `dedupe` for a key that it remembers.
fn seen(hash: &[u8]) -> Vec<u8> {
    [b"k", hash].concat()
}

/// The entry of `dedupe` for the place of a key in the order in which keys came.
fn order(number: u64) -> Vec<u8> {
    [b"o", &number.to_be_bytes()[..]].concat()
}

/// The prefix of counts by key, and the key of the count of all.
fn prefixes(layout: u32) -> (&'static [u8], &'static [u8]) {
    if layout == 1 { (b"n", b"t") } else { (b"c", b"a") }
}

fn read(layout: u32, bytes: &[u8]) -> u64 {
    match layout {
        1 => std::str::from_utf8(bytes).expect("text").parse().expect("a number"),
        _ => u64::from_le_bytes(bytes.try_into().expect("8 bytes")),
    }
}

fn written(layout: u32, number: u64) -> Vec<u8> {
    if layout == 1 { number.to_string().into_bytes() } else { number.to_le_bytes().to_vec() }
}
