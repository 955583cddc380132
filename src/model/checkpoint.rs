//! How far a link has come in one source partition.

use serde::{Deserialize, Serialize};

use super::{NotEncodable, RevisionNumber, TopicId, encode};

/// The version of [`Checkpoint`]'s encoding that this program writes.
pub const CHECKPOINT_VERSION: u32 = 1;

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
    /// The end of the target partition of the same number after the commit. A shorter one has lost its tail.
    pub target_end_offset: i64,
    /// Grows with each failover or reset of the link. The higher one wins.
    pub link_epoch: u64,
    /// The revision that handled the last record before `next_offset`.
    pub revision: RevisionNumber,
}

/// Why some bytes are not a checkpoint that this program can read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are not a checkpoint at all.
    #[error("not a checkpoint: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("a checkpoint of version {0}, and this tidegate reads up to version {CHECKPOINT_VERSION}: use a newer one")]
    Newer(u32),
}

impl Checkpoint {
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
        if v > CHECKPOINT_VERSION {
            return Err(CheckpointError::Newer(v));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }

    #[test]
    fn version_1_is_what_it_was() {
        assert_eq!(checkpoint().encode().expect("JSON"), V1.as_bytes());
        assert_eq!(Checkpoint::decode(V1.as_bytes()).expect("readable"), checkpoint());
    }

    #[test]
    fn a_newer_version_is_named() {
        let error = Checkpoint::decode(br#"{"v":2,"something":"else"}"#).expect_err("newer");
        assert!(matches!(error, CheckpointError::Newer(2)));
    }
}
