//! What is kept of a record while it is compared: a hash of each part, and its first bytes for people.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::model::RecordRef;

/// How many bytes of a value are shown.
const PREVIEW_BYTES: usize = 38;

/// A record, as far as it is compared.
///
/// Hashes have 64 bits and a key that nobody knows: two parts that differ look alike once in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Print {
    key: u64,
    value: u64,
    headers: u64,
    timestamp: i64,
}

impl Print {
    /// The parts that differ from those of `other`, by name.
    pub(super) fn differs(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("key", self.key == other.key),
            ("value", self.value == other.value),
            ("header", self.headers == other.headers),
            ("timestamp", self.timestamp == other.timestamp),
        ];
        parts.into_iter().filter(|(_, equal)| !equal).map(|(name, _)| name).collect()
    }

    /// Whether two records that differ are most likely one that was changed: half of it is the same, and not only what many records
    /// have in common.
    pub(super) fn resembles(&self, other: &Self) -> bool {
        let differs = self.differs(other);
        differs.len() <= 2 && (self.value == other.value || self.timestamp == other.timestamp)
    }
}

/// Makes prints that can be compared with each other.
#[derive(Debug, Default)]
pub(super) struct Printer(RandomState);

impl Printer {
    pub(super) fn print(&self, record: RecordRef<'_>) -> Print {
        let mut headers = self.0.build_hasher();
        for header in record.headers() {
            (header.name, header.value).hash(&mut headers);
        }
        Print {
            key: self.0.hash_one(record.key()),
            value: self.0.hash_one(record.value()),
            headers: headers.finish(),
            timestamp: record.timestamp(),
        }
    }

    /// A record of a source or a target, to be compared.
    pub(super) fn line(&self, record: RecordRef<'_>) -> Line {
        Line { offset: record.offset(), print: self.print(record), preview: Preview::of(record.value()) }
    }
}

/// A record on one side.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Of a record that is found its offset in the target; of one that is expected that of the source record it is made of.
    pub(super) offset: i64,
    pub(super) print: Print,
    pub(super) preview: Preview,
}

/// The beginning of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preview {
    bytes: [u8; PREVIEW_BYTES],
    kept: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Whole,
    Cut,
}

impl Preview {
    fn of(value: Option<&[u8]>) -> Self {
        let mut bytes = [0; PREVIEW_BYTES];
        let Some(value) = value else { return Self { bytes, kept: 0, kind: Kind::Null } };
        let kept = value.len().min(PREVIEW_BYTES);
        bytes[..kept].copy_from_slice(&value[..kept]);
        let kind = if kept < value.len() { Kind::Cut } else { Kind::Whole };
        Self { bytes, kept: kept as u8, kind }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes[..usize::from(self.kept)]);
        match self.kind {
            Kind::Null => f.write_str("null"),
            Kind::Whole => f.write_str(&text),
            Kind::Cut => write!(f, "{}…", text.trim_end_matches('\u{fffd}')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, BatchBuilder, HeaderRef};

    fn batch(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], Option<&[u8]>)], timestamp: i64) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(0, timestamp, key, value, headers.iter().map(|&(name, value)| HeaderRef { name, value }));
        builder.finish("t", 0)
    }

    #[test]
    fn every_part_counts() {
        let printer = Printer::default();
        let print = |batch: &Batch| printer.print(batch.record(0));
        let record = print(&batch(Some(b"k"), Some(b"v"), &[(b"a", Some(b"bc"))], 7));
        assert_eq!(record, print(&batch(Some(b"k"), Some(b"v"), &[(b"a", Some(b"bc"))], 7)));
        for (other, parts) in [
            (batch(None, Some(b"v"), &[(b"a", Some(b"bc"))], 7), vec!["key"]),
            (batch(Some(b""), Some(b"v"), &[(b"a", Some(b"bc"))], 7), vec!["key"]),
            (batch(Some(b"k"), Some(b"w"), &[(b"a", Some(b"bc"))], 7), vec!["value"]),
            (batch(Some(b"k"), Some(b"v"), &[], 7), vec!["header"]),
            (batch(Some(b"k"), Some(b"v"), &[(b"ab", Some(b"c"))], 7), vec!["header"]),
            (batch(Some(b"k"), Some(b"v"), &[(b"a", None)], 7), vec!["header"]),
            (batch(Some(b"k"), None, &[(b"a", Some(b"bc"))], 8), vec!["value", "timestamp"]),
        ] {
            assert_eq!(record.differs(&print(&other)), parts);
        }
    }

    #[test]
    fn a_preview_is_short() {
        assert_eq!(Preview::of(None).to_string(), "null");
        assert_eq!(Preview::of(Some(b"short")).to_string(), "short");
        let text = Preview::of(Some("ä".repeat(100).as_bytes())).to_string();
        assert_eq!(text, "ä".repeat(19) + "…");
    }
}
