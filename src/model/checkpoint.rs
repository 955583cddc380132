//! How far a link has come in one source partition.

use serde::{Deserialize, Serialize};

use super::{NotEncodable, RecordRef, RevisionNumber, TopicId, encode};

/// The version of [`Checkpoint`]'s encoding that this program writes, unless there is a doubt.
pub const CHECKPOINT_VERSION: u32 = 1;

/// The version with a [`Doubt`], and the highest that is read. A program that knows only version 1 refuses the checkpoint
/// instead of replicating past the loss, so no layout of the link has to be raised for it.
const VERSION_WITH_DOUBT: u32 = 2;

/// How far a link has come in one source partition. It lives in the target and is committed atomically with the
/// output that it stands for.
///
/// Its encoding is a JSON object, so that a person can read it with any tool. Its version is the field `v`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The version of this encoding.
    pub v: u32,
    /// The next source offset to read. Everything before it is done: written, filtered, or a hole.
    pub next_offset: i64,
    /// The source topic. Another one under the same name is another topic.
    pub source_topic_id: TopicId,
    /// The first offset that the source partition still had when this was written.
    pub source_log_start: i64,
    /// Since when the broker led the source partition that had the last record which was read, where that is known: a leader that took over without it has
    /// another log from there on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_leader_epoch: Option<i32>,
    /// The target topic that the source topic maps to (routes aside).
    pub target_topic_id: TopicId,
    /// The end of the target partition of the same number after the commit, or, in Kafka, a lower
    /// bound of it. A shorter one has lost its tail.
    pub target_end_offset: i64,
    /// Grows with each failover or reset of the link. The higher one wins.
    pub link_epoch: u64,
    /// The revision that handled the last record before `next_offset`.
    pub revision: RevisionNumber,
    /// A record before `next_offset`, the last one as a rule. Offsets alone do not show that a log lost records and grew again.
    ///
    /// A program that does not know it commits a checkpoint without one: nothing can be compared then, and nothing is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRecord>,
    /// Why the link does not continue here. Only a reset removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// A record as the source had it when the link read it. Compaction rewrites record batches, but no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// The CRC-32C of its key, value and headers, each with its length.
    pub crc: u32,
}

impl LastRecord {
    /// What identifies `record`.
    pub fn of(record: RecordRef<'_>) -> Self {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let mut add = |bytes: Option<&[u8]>| {
            let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
            digest.update(&length.to_le_bytes());
            digest.update(bytes.unwrap_or_default());
        };
        add(record.key());
        add(record.value());
        for header in record.headers() {
            add(Some(header.name));
            add(header.value);
        }
        // The algorithm has 32 bits.
        let crc = digest.finalize() as u32;
        Self { offset: record.offset(), timestamp_ms: record.timestamp(), crc }
    }
}

/// A way in which a source or a target is not what a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The source topic was deleted and created again.
    SourceRecreated,
    /// Records are gone from the source that were not copied.
    DataLost,
    /// The source does not have records that were copied.
    SourceTruncated,
    /// The target topic was deleted and created again.
    TargetRecreated,
    /// The target does not have records that were written.
    TargetTruncated,
    /// The target does not have what the stages remembered.
    StateLost,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SourceRecreated,
        Self::DataLost,
        Self::SourceTruncated,
        Self::TargetRecreated,
        Self::TargetTruncated,
        Self::StateLost,
    ];

    /// Its code: what it is called everywhere.
    pub fn code(self) -> &'static str {
        match self {
            Self::SourceRecreated => "source-recreated",
            Self::DataLost => "data-lost",
            Self::SourceTruncated => "source-truncated",
            Self::TargetRecreated => "target-recreated",
            Self::TargetTruncated => "target-truncated",
            Self::StateLost => "state-lost",
        }
    }
}

/// A loss that was found at a partition. The logs grow, so it cannot be found again later: it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// What was found.
    pub code: Loss,
    /// The same, for a person.
    pub message: String,
    /// The first offset that is lost, and the one behind the last, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<(i64, i64)>,
    /// When it was found, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code.code())
    }
}

/// Why some bytes are not a checkpoint that this program can read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are not a checkpoint at all.
    #[error("not a checkpoint: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("a checkpoint of version {0}, and this tidegate reads up to version {VERSION_WITH_DOUBT}: use a newer one")]
    Newer(u32),
}

impl Checkpoint {
    /// The same, from where the link does not continue before a reset.
    pub fn doubted(self, doubt: Doubt) -> Self {
        Self { v: VERSION_WITH_DOUBT, doubt: Some(doubt), ..self }
    }

    /// The stored form.
    ///
    /// # Errors
    /// There is none.
    pub fn encode(&self) -> Result<Vec<u8>, NotEncodable> {
        encode("a checkpoint", self)
    }

    /// Read the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(bytes)?;
        if v > VERSION_WITH_DOUBT {
            return Err(CheckpointError::Newer(v));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, HeaderRef};

    const CRC: u32 = 3_636_589_057;

    /// The bytes that version 0.1.0 writes. They must be read for ever.
    const V1: &str = r#"{"v":1,"next_offset":42,"source_topic_id":7,"source_log_start":3,"target_topic_id":9,"target_end_offset":40,"link_epoch":2,"revision":5}"#;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            v: 1,
            next_offset: 42,
            source_topic_id: TopicId(7),
            source_log_start: 3,
            source_leader_epoch: None,
            target_topic_id: TopicId(9),
            target_end_offset: 40,
            link_epoch: 2,
            revision: RevisionNumber(5),
            last: None,
            doubt: None,
        }
    }

    #[test]
    fn version_1_is_what_it_was() {
        assert_eq!(checkpoint().encode().expect("JSON"), V1.as_bytes());
        assert_eq!(Checkpoint::decode(V1.as_bytes()).expect("readable"), checkpoint());
    }

    #[test]
    fn a_checkpoint_that_names_a_record_can_be_read_by_version_1() {
        const NAMED: &str = r#","last":{"offset":40,"timestamp_ms":-5,"crc":4294967295}}"#;
        let last = Some(LastRecord { offset: 40, timestamp_ms: -5, crc: u32::MAX });
        let named = Checkpoint { last, ..checkpoint() };
        let text = V1.replace('}', NAMED);
        assert_eq!(named.encode().expect("JSON"), text.as_bytes());
        assert_eq!(Checkpoint::decode(text.as_bytes()).expect("readable"), named);
    }

    #[test]
    fn a_doubt_is_version_2_so_that_older_programs_stop() {
        const DOUBT: &str = r#","doubt":{"code":"source-truncated","message":"it ended","lost":[40,42],"at_ms":9}}"#;
        let doubt =
            Doubt { code: Loss::SourceTruncated, message: "it ended".to_owned(), lost: Some((40, 42)), at_ms: 9 };
        let doubted = checkpoint().doubted(doubt);
        let text = V1.replace(r#""v":1"#, r#""v":2"#).replace('}', DOUBT);
        assert_eq!(doubted.encode().expect("JSON"), text.as_bytes());
        assert_eq!(Checkpoint::decode(text.as_bytes()).expect("readable"), doubted);
    }

    #[test]
    fn codes_are_stored_as_they_are_called() {
        for loss in Loss::ALL {
            assert_eq!(serde_json::to_value(loss).expect("text"), loss.code());
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let error = Checkpoint::decode(br#"{"v":3,"something":"else"}"#).expect_err("newer");
        assert!(matches!(error, CheckpointError::Newer(3)));
    }

    fn named(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> u32 {
        let mut builder = BatchBuilder::new();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| HeaderRef { name: name.as_bytes(), value: *value }).collect();
        builder.push(7, 70, key, value, headers);
        let last = LastRecord::of(builder.finish("orders", 0).record(0));
        assert_eq!((last.offset, last.timestamp_ms), (7, 70));
        last.crc
    }

    /// The value must never change: it is compared with what earlier programs stored.
    #[test]
    fn the_crc_of_a_record_is_what_it_was() {
        assert_eq!(named(Some(b"k"), Some(b"v"), &[("h", Some(b"x")), ("n", None)]), CRC);
    }

    #[test]
    fn records_that_differ_anywhere_have_another_crc() {
        let all = [
            named(None, None, &[]),
            named(Some(b""), None, &[]),
            named(None, Some(b""), &[]),
            named(Some(b"ab"), Some(b"c"), &[]),
            named(Some(b"a"), Some(b"bc"), &[]),
            named(Some(b"a"), None, &[("b", Some(b"c"))]),
            named(Some(b"a"), None, &[("b", None)]),
            named(Some(b"a"), None, &[("c", None), ("b", None)]),
            named(Some(b"a"), None, &[("b", None), ("c", None)]),
        ];
        assert_eq!(all.into_iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }
}
