//! What a stateful stage remembers of one source partition, as it is stored in the target.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, NotEncodable, RevisionNumber, TopicPartition, encode};

/// The version of [`StateHead`]'s encoding that this program writes.
pub const STATE_VERSION: u32 = 1;

/// Entries that never expire have this time.
pub const NEVER: i64 = i64::MAX;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The value.
    pub value: Vec<u8>,
    /// The record time at which the entry is gone, in milliseconds since 1970-01-01 UTC; [`NEVER`] for one that stays.
    pub expires: i64,
}

impl StateRow {
    /// The stored form: the time as 8 bytes, little-endian, then the value.
    pub fn encode(&self) -> Vec<u8> {
        [&self.expires.to_le_bytes()[..], &self.value].concat()
    }

    /// Read the stored form; `None` if it is too short to be one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (expires, value) = bytes.split_first_chunk()?;
        Some(Self { expires: i64::from_le_bytes(*expires), value: value.to_vec() })
    }
}

/// What is stored once for each stage and source partition, beside the entries.
///
/// Its encoding is a JSON object with the version in the field `v`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHead {
    /// The version of this encoding.
    pub v: u32,
    /// The next source offset: that of the checkpoint which was committed with it, or the state does not belong to it.
    pub next_offset: i64,
    /// The record time, in milliseconds since 1970-01-01 UTC; the smallest number before the first record.
    pub time: i64,
    /// The version of the entries' layout: the plugin's `state-version`.
    pub layout: u32,
    /// The plugin that wrote the entries.
    pub plugin: Digest,
    /// The revision that it wrote them under.
    pub revision: RevisionNumber,
    /// The revision on trial that has no use for this state: it is what the stage remembered when the trial began, and stays as it is until
    /// the trial has ended. `next_offset` is where the trial began then, and not that of the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed: Option<RevisionNumber>,
    /// The revision on trial under which this state began: before it there was none, and there is
    /// none again if that trial is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<RevisionNumber>,
}

impl StateHead {
    /// The stored form.
    ///
    /// # Errors
    /// There is none.
    pub fn encode(&self) -> Result<Vec<u8>, NotEncodable> {
        encode("the head of a state", self)
    }

    /// Read the stored form.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let head: Self = serde_json::from_slice(bytes).map_err(|error| format!("not the head of a state: {error}"))?;
        if head.v > STATE_VERSION {
            return Err(format!("the head of a state of version {}: a newer tidegate wrote it", head.v));
        }
        Ok(head)
    }
}

/// What a stage remembered before a trial, of an entry that the revision on trial has changed.
///
/// It is stored like the state of a stage, under a name that no stage can have. Its head is that of the state when the trial began, and a row has
/// the key of the entry. Its value is one byte and then the entry's value: 1 for an entry, 0 where there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow(pub Option<StateRow>);

impl KeptRow {
    /// The name under which is stored what `stage` remembered before the trial of a revision.
    pub fn stage(stage: &str, trial: RevisionNumber) -> String {
        format!("{stage}@{}", trial.0)
    }

    /// The stage and the revision on trial, if this is such a name.
    pub fn read_stage(name: &str) -> Option<(&str, RevisionNumber)> {
        let (stage, trial) = name.split_once('@')?;
        Some((stage, RevisionNumber(trial.parse().ok()?)))
    }

    /// The stored form.
    pub fn into_row(self) -> StateRow {
        match self.0 {
            Some(StateRow { mut value, expires }) => {
                value.insert(0, 1);
                StateRow { value, expires }
            }
            None => StateRow { value: vec![0], expires: NEVER },
        }
    }

    /// Read the stored form; `None` if it is not one.
    pub fn from_row(mut row: StateRow) -> Option<Self> {
        match row.value.first() {
            Some(0) => Some(Self(None)),
            Some(1) => {
                row.value.remove(0);
                Some(Self(Some(row)))
            }
            _ => None,
        }
    }
}

/// What changes in the state of a stage for a source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The stage.
    pub stage: String,
    /// The source partition.
    pub partition: TopicPartition,
    /// The new head; `None`: there is no such state any more, and what is stored of its entries is only to be dropped. Those are in `rows`, in this change
    /// or in later ones.
    pub head: Option<StateHead>,
    /// The entries that changed; `None` for those that are gone.
    pub rows: BTreeMap<Vec<u8>, Option<StateRow>>,
}

impl StateChange {
    /// About how many bytes it brings.
    pub fn bytes(&self) -> usize {
        let row = |(key, row): (&Vec<u8>, &Option<StateRow>)| key.len() + row.as_ref().map_or(0, |row| row.value.len());
        self.rows.iter().map(row).sum()
    }
}

/// The state of a stage for a source partition, as it was committed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Its head.
    pub head: StateHead,
    /// All entries.
    pub rows: BTreeMap<Vec<u8>, StateRow>,
}

/// What is stored of the stages for a source partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredStates {
    /// The states, by stage.
    pub states: BTreeMap<String, StoredState>,
    /// The keys of entries without a head, by stage: what is left of states that were dropped.
    pub left: BTreeMap<String, Vec<Vec<u8>>>,
}

impl StoredStates {
    /// Take in what is stored under the name of a stage.
    pub fn add(&mut self, stage: String, head: Option<StateHead>, rows: BTreeMap<Vec<u8>, StateRow>) {
        match head {
            Some(head) => drop(self.states.insert(stage, StoredState { head, rows })),
            None if rows.is_empty() => {}
            None => drop(self.left.insert(stage, rows.into_keys().collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_what_it_was() {
        let digest = Digest::of(b"component");
        let (plugin, revision) = (digest, RevisionNumber(3));
        let mut head =
            StateHead { v: 1, next_offset: 42, time: 7, layout: 2, plugin, revision, departed: None, begun: None };
        let text = format!(r#"{{"v":1,"next_offset":42,"time":7,"layout":2,"plugin":"{digest}","revision":3}}"#);
        assert_eq!(String::from_utf8(head.encode().expect("JSON")).expect("text"), text);
        assert_eq!(StateHead::decode(text.as_bytes()), Ok(head.clone()));
        head.departed = Some(RevisionNumber(4));
        let text = text.replace('}', r#","departed":4}"#);
        assert_eq!(String::from_utf8(head.encode().expect("JSON")).expect("text"), text);
        assert_eq!(StateHead::decode(text.as_bytes()), Ok(head.clone()));
        (head.departed, head.begun) = (None, Some(RevisionNumber(3)));
        let text = text.replace(r#""departed":4"#, r#""begun":3"#);
        assert_eq!(String::from_utf8(head.encode().expect("JSON")).expect("text"), text);
        assert_eq!(StateHead::decode(text.as_bytes()), Ok(head));
        assert!(StateHead::decode(br#"{"v":2,"next_offset":1}"#).is_err());
    }

    #[test]
    fn a_row_is_its_time_and_its_value() {
        let row = StateRow { value: b"v".to_vec(), expires: 258 };
        assert_eq!(row.encode(), b"\x02\x01\0\0\0\0\0\0v");
        assert_eq!(StateRow::decode(&row.encode()), Some(row));
        assert_eq!(StateRow::decode(b"short"), None);
    }

    #[test]
    fn what_was_before_a_trial_has_a_name_and_a_form_of_its_own() {
        assert_eq!(KeptRow::stage("dedupe", RevisionNumber(7)), "dedupe@7");
        assert_eq!(KeptRow::read_stage("dedupe@7"), Some(("dedupe", RevisionNumber(7))));
        assert_eq!(KeptRow::read_stage("dedupe"), None);
        let was = KeptRow(Some(StateRow { value: b"v".to_vec(), expires: 258 }));
        for (row, bytes) in
            [(was, &b"\x02\x01\0\0\0\0\0\0\x01v"[..]), (KeptRow(None), b"\xff\xff\xff\xff\xff\xff\xff\x7f\0")]
        {
            assert_eq!(row.clone().into_row().encode(), bytes);
            assert_eq!(StateRow::decode(bytes).and_then(KeptRow::from_row), Some(row));
        }
        assert_eq!(KeptRow::from_row(StateRow { value: Vec::new(), expires: NEVER }), None);
    }
}
