//! A record, and records of every kind that follow from a seed.

use std::fmt::{self, Display, Formatter};

/// How many bytes of a key, a value or a header are shown.
const BYTES_SHOWN: usize = 24;
/// The timestamp of the first record, in ms: some time of the past, which no broker refuses.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// How far apart in time the first records of seeds are that follow each other, in ms, and after how many they begin anew: all of it is long past.
const APART_MS: u64 = 10_000_000;
const SEEDS: u64 = 1000;

/// What has to be the same in a copy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// None is a null, which is something else than no bytes.
    pub key: Option<Vec<u8>>,
    /// None is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; a name may come more than once.
    pub headers: Vec<Header>,
    /// In ms since 1970.
    pub timestamp: i64,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Header {
    /// The name.
    pub key: String,
    /// None is a null.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// The record of this number, and its partition: always the same for a seed. No two have the same timestamp, so that no two are equal, and the
    /// timestamps do not always rise.
    pub fn generate(seed: u64, number: u64, partitions: i32) -> (i32, Self) {
        // Many records are empty otherwise: those of two seeds must not be the same by chance.
        let time = seed % SEEDS * APART_MS + (number ^ 0b101) % APART_MS;
        let mut random = Random(seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
        let partition = random.below(u64::from(partitions.unsigned_abs()).max(1));
        let record = Self {
            key: random.bytes(4, 40),
            value: random.value(),
            headers: random.headers(),
            timestamp: FIRST_TIMESTAMP + i64::try_from(time).unwrap_or(0),
        };
        (i32::try_from(partition).unwrap_or(0), record)
    }
}

impl Display for Record {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { key, value, headers, timestamp } = self;
        write!(out, "key {}, value {}, timestamp {timestamp}", shown(key.as_deref()), shown(value.as_deref()))?;
        headers.iter().try_for_each(|Header { key, value }| write!(out, ", header {key:?} {}", shown(value.as_deref())))
    }
}

/// Bytes as a person can compare them: their beginning, their number, and a sum that tells long ones apart.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let begin = &bytes[..bytes.len().min(BYTES_SHOWN)];
    let text = format!("\"{}\"", begin.escape_ascii());
    if begin.len() == bytes.len() {
        return text;
    }
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    format!("{text}… ({} bytes, sum {sum:08x})", bytes.len())
}

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Once in `nulls` times null, as often empty, else up to `length` bytes of any kind.
    fn bytes(&mut self, nulls: u64, length: u64) -> Option<Vec<u8>> {
        match self.below(nulls) {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some((0..=self.below(length)).map(|_| self.next() as u8).collect()),
        }
    }

    /// Mostly short ones that do not compress, and now and then a long one that does.
    fn value(&mut self) -> Option<Vec<u8>> {
        if self.below(16) == 0 {
            return Some(b"again and ".repeat(200 + self.below(400) as usize));
        }
        self.bytes(8, 300)
    }

    fn headers(&mut self) -> Vec<Header> {
        let names = ["trace", "again", "again", "größe", ""];
        let count = self.below(8).saturating_sub(3);
        let mut header = |_| Header { key: names[self.below(5) as usize].to_owned(), value: self.bytes(4, 30) };
        (0..count).map(&mut header).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn records_of_every_kind_follow_from_the_seed() {
        let all: Vec<(i32, Record)> = (0..2000).map(|number| Record::generate(7, number, 4)).collect();
        assert_eq!(Record::generate(7, 1999, 4), all[1999]);
        assert_ne!(Record::generate(8, 1999, 4).1, all[1999].1);
        let other: BTreeSet<Record> = (0..2000).map(|number| Record::generate(8, number, 4).1).collect();
        assert!(all.iter().all(|(_, record)| !other.contains(record)), "no seed has a record of another");
        assert_eq!(all.iter().map(|(partition, _)| *partition).collect::<BTreeSet<_>>(), (0..4).collect());
        let times = all.iter().map(|(_, record)| record.timestamp);
        assert_eq!(times.clone().collect::<BTreeSet<_>>().len(), all.len());
        assert!(!times.is_sorted());

        let has = |what: &str, is: &dyn Fn(&Record) -> bool| {
            assert!(all.iter().any(|(_, record)| is(record)), "no {what}");
        };
        has("null key", &|record| record.key.is_none());
        has("empty key", &|record| record.key.as_ref().is_some_and(Vec::is_empty));
        has("tombstone", &|record| record.value.is_none() && record.key.is_some());
        has("empty value", &|record| record.value.as_ref().is_some_and(Vec::is_empty));
        has("binary key", &|record| record.key.as_ref().is_some_and(|key| str::from_utf8(key).is_err()));
        has("long value", &|record| record.value.as_ref().is_some_and(|value| value.len() > 2000));
        has("null header", &|record| record.headers.iter().any(|header| header.value.is_none()));
        has("empty header", &|record| record.headers.iter().any(|header| header.value == Some(Vec::new())));
        has("nothing at all", &|record| record.key.is_none() && record.value.is_none() && record.headers.is_empty());
        has("name that comes twice", &|record| {
            let names: BTreeSet<&str> = record.headers.iter().map(|header| &*header.key).collect();
            names.len() < record.headers.len()
        });
    }
}
