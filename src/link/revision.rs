//! Revisions: numbered pipelines, and the history of a link.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Limits, OnError, RevisionNumber};

/// The version of [`History`]'s encoding that this program writes.
const HISTORY_VERSION: u32 = 1;

/// One stage of a revision: everything that decides what it does to a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Its name in the link.
    pub name: String,
    /// The component.
    pub plugin_digest: Digest,
    /// What the plugin calls itself.
    pub plugin_name: String,
    /// The plugin's own version.
    pub plugin_version: String,
    /// What it is configured with.
    pub config: Value,
    /// What becomes of a record that it cannot handle. The first histories had no word for it, and stopped.
    #[serde(default = "stop")]
    pub on_error: OnError,
    /// What the plugin may use.
    #[serde(flatten)]
    pub limits: Limits,
}

fn stop() -> OnError {
    OnError::Stop
}

/// Where a revision came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file.
    Toml,
    /// A publish to the running daemon.
    Publish,
    /// An earlier revision, published again.
    Rollback,
    /// An earlier revision, brought back because the one after it did not pass its probation, or opened a breaker.
    Automatic,
}

/// A revision as the history keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// Its number.
    pub number: RevisionNumber,
    /// The digest of its stages.
    pub digest: Digest,
    /// When it was published, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Who published it.
    pub by: String,
    /// Where it came from.
    pub origin: Origin,
    /// Why it was published, where somebody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its stages, in order.
    pub stages: Vec<StageSpec>,
}

/// Who publishes, and why.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'a> {
    /// Where the revision comes from.
    pub origin: Origin,
    /// Who it is.
    pub by: &'a str,
    /// Why, if there is a reason to tell.
    pub reason: Option<&'a str>,
}

/// All revisions of a link, oldest first. It is stored in the target as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    v: u32,
    revisions: Vec<RevisionRecord>,
    /// What it was read from, if it was: what a longer one is to replace.
    #[serde(skip)]
    stored: Option<Vec<u8>>,
}

impl Default for History {
    fn default() -> Self {
        Self { v: HISTORY_VERSION, revisions: Vec::new(), stored: None }
    }
}

impl History {
    /// Read the stored form.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("the link's history: {error}"))?;
        let version = value["v"].as_u64().unwrap_or(0);
        if version > u64::from(HISTORY_VERSION) {
            return Err(format!("the link's history has version {version}: a newer tidegate wrote it"));
        }
        let history: Self = serde_json::from_value(value).map_err(|error| format!("the link's history: {error}"))?;
        Ok(Self { stored: Some(bytes.to_vec()), ..history })
    }

    /// What it was read from; `None` if there was no history.
    pub fn stored(&self) -> Option<&[u8]> {
        self.stored.as_deref()
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// All revisions, oldest first.
    pub fn revisions(&self) -> &[RevisionRecord] {
        &self.revisions
    }

    /// The newest revision.
    pub fn last(&self) -> Option<&RevisionRecord> {
        self.revisions.last()
    }

    /// The revision of this number.
    pub fn get(&self, number: RevisionNumber) -> Option<&RevisionRecord> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// The newest revision that came from the configuration file.
    pub fn last_from_toml(&self) -> Option<&RevisionRecord> {
        self.revisions.iter().rev().find(|revision| revision.origin == Origin::Toml)
    }

    /// What a rollback goes back to if it is not told: the content before the present one.
    ///
    /// After a rollback that is the content before the one rolled back to, so that saying it again goes further back.
    pub fn previous(&self) -> Option<&RevisionRecord> {
        let present = self.last()?;
        let first_of_content =
            self.revisions.iter().position(|revision| revision.digest == present.digest).unwrap_or_default();
        self.revisions[..first_of_content].last()
    }

    /// Append a revision; it gets the next number.
    pub fn push(&mut self, stages: Vec<StageSpec>, publisher: Publisher<'_>, at_ms: i64) -> &RevisionRecord {
        let number = RevisionNumber(self.last().map_or(1, |last| last.number.0 + 1));
        let digest = digest_of(&stages);
        let (by, reason) = (publisher.by.to_owned(), publisher.reason.map(str::to_owned));
        self.revisions.push(RevisionRecord { number, digest, at_ms, by, origin: publisher.origin, reason, stages });
        &self.revisions[self.revisions.len() - 1]
    }
}

/// The digest of a pipeline: of everything that decides what it does to a record.
pub fn digest_of(stages: &[StageSpec]) -> Digest {
    // Objects of serde_json are sorted by key, so the same content has the same text.
    Digest::of(&serde_json::to_vec(stages).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str) -> StageSpec {
        StageSpec {
            name: name.to_owned(),
            plugin_digest: Digest::of(b"component"),
            plugin_name: "p".to_owned(),
            plugin_version: "1.0.0".to_owned(),
            config: serde_json::json!({"b": 1, "a": 2}),
            on_error: OnError::Stop,
            limits: Limits { memory_bytes: 1, time_ms: 2, output_bytes: 3, log_lines_per_s: 4, ..Limits::default() },
        }
    }

    fn history(contents: &[&str]) -> History {
        let mut history = History::default();
        for content in contents {
            let publisher = Publisher { origin: Origin::Publish, by: "test", reason: None };
            history.push(vec![stage(content)], publisher, 7);
        }
        history
    }

    #[test]
    fn numbers_only_grow() {
        let numbers: Vec<_> = history(&["a", "b", "a"]).revisions().iter().map(|revision| revision.number.0).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn previous_goes_back_content_by_content() {
        for (contents, previous) in
            [(&["a"][..], None), (&["a", "b"], Some("a")), (&["a", "b", "c", "b"], Some("a")), (&["a", "b", "a"], None)]
        {
            let history = history(contents);
            assert_eq!(history.previous().map(|revision| &*revision.stages[0].name), previous, "{contents:?}");
        }
    }

    #[test]
    fn reads_what_version_1_wrote() {
        let text = r#"{"v":1,"revisions":[{"number":1,"digest":"sha256:D","at_ms":7,"by":"test","origin":"publish","stages":[{"name":"a","plugin_digest":"sha256:C","plugin_name":"p","plugin_version":"1.0.0","config":{"a":2,"b":1},"memory_bytes":1,"time_ms":2,"output_bytes":3,"log_lines_per_s":4}]}]}"#;
        let text = text
            .replace("sha256:D", &digest_of(&[stage("a")]).to_string())
            .replace("sha256:C", &Digest::of(b"component").to_string());
        assert_eq!(History::decode(text.as_bytes()).expect("readable").revisions, history(&["a"]).revisions);
        let again = History::decode(&history(&["a"]).encode()).expect("readable");
        assert_eq!(again.revisions, history(&["a"]).revisions);
    }

    #[test]
    fn a_newer_history_is_named() {
        assert!(History::decode(br#"{"v":2}"#).expect_err("newer").contains("newer tidegate"));
    }
}
