//! What is kept of a record while it is compared: a hash of each part, and its first bytes for people.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::model::RecordRef;
use crate::model::time::{parse_rfc3339, rfc3339};

/// How many bytes of a value are shown.
const PREVIEW_BYTES: usize = 38;

/// The bytes of `2024-01-15T10:00:00.000Z`.
const TIME_BYTES: usize = 24;

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
pub(super) struct Printer {
    state: RandomState,
    /// The names of headers in which a link has written the time of processing. It is another one in a replay, so any is as good.
    timed: Vec<String>,
}

impl Printer {
    /// From now on, take all points in time in headers of this name for the same.
    pub(super) fn mask_times(&mut self, header: &str) {
        if !self.timed.iter().any(|known| known == header) {
            self.timed.push(header.to_owned());
        }
    }

    pub(super) fn print(&self, record: RecordRef<'_>) -> Print {
        let mut headers = self.state.build_hasher();
        for header in record.headers() {
            let is_timed = self.timed.iter().any(|name| name.as_bytes() == header.name);
            match header.value.filter(|_| is_timed) {
                Some(value) => (header.name, around_times(value)).hash(&mut headers),
                None => (header.name, header.value).hash(&mut headers),
            }
        }
        Print {
            key: self.state.hash_one(record.key()),
            value: self.state.hash_one(record.value()),
            headers: headers.finish(),
            timestamp: record.timestamp(),
        }
    }

    /// A record of a source or a target, to be compared.
    pub(super) fn line(&self, record: RecordRef<'_>) -> Line {
        let (print, preview) = (self.print(record), Preview::of(record.value()));
        Line { offset: record.offset(), print, preview, is_foreign: false }
    }
}

/// What stands before, between and behind the points in time in a text, each as `${now}` writes it.
fn around_times(value: &[u8]) -> Vec<&[u8]> {
    let is_time = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.ends_with('Z'));
        text.is_some_and(|text| parse_rfc3339(text).is_some_and(|ms| rfc3339(ms) == text))
    };
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    while let Some(bytes) = value.get(at..at + TIME_BYTES) {
        if is_time(bytes) {
            parts.push(&value[begin..at]);
            at += TIME_BYTES;
            begin = at;
        } else {
            at += 1;
        }
    }
    parts.push(&value[begin..]);
    parts
}

/// A record on one side.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Of a record that is found its offset in the target; of one that is expected that of the source record it is made of.
    pub(super) offset: i64,
    pub(super) print: Print,
    pub(super) preview: Preview,
    /// Of a record that is found: whether it says that another has written it.
    pub(super) is_foreign: bool,
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
    fn points_in_time_are_alike_where_they_are_masked() {
        let mut printer = Printer::default();
        printer.mask_times("at");
        let print = |name: &[u8], value: Option<&[u8]>| printer.print(batch(None, None, &[(name, value)], 7).record(0));
        let one = print(b"at", Some(b"5@2024-01-15T10:00:00.000Z!"));
        assert_eq!(one, print(b"at", Some(b"5@2026-11-22T10:00:00.123Z!")));
        for other in [
            &b"6@2024-01-15T10:00:00.000Z!"[..],
            b"5@2024-01-15T10:00:00.000Z",
            b"5@2024-01-15T10:00:00.000Z2024-01-15T10:00:00.000Z!",
            b"5@2024-02-30T10:00:00.000Z!",
            b"5@2024-01-15T10:00:00Z!",
            b"5@!",
            b"5@",
        ] {
            assert_ne!(one, print(b"at", Some(other)), "{}", String::from_utf8_lossy(other));
        }
        assert_ne!(one, print(b"at", None));
        assert_ne!(print(b"at", Some(b"")), print(b"at", None));
        let unmasked = [b"2024-01-15T10:00:00.000Z", b"2024-01-15T10:00:00.001Z"].map(|at| print(b"on", Some(at)));
        assert_ne!(unmasked[0], unmasked[1]);
    }

    #[test]
    fn a_preview_is_short() {
        assert_eq!(Preview::of(None).to_string(), "null");
        assert_eq!(Preview::of(Some(b"short")).to_string(), "short");
        let text = Preview::of(Some("ä".repeat(100).as_bytes())).to_string();
        assert_eq!(text, "ä".repeat(19) + "…");
    }
}
