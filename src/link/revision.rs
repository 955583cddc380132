//! Revisions: numbered pipelines, and the history of a link.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::ProbationConfig;
use crate::model::{Builtins, Digest, Json, Limits, NotEncodable, OnError, RevisionNumber, encode};

/// The newest version of [`History`]'s encoding.
const HISTORY_VERSION: u32 = 2;
/// The version of a history without built-ins. A program that knows no other would run the revisions of one with built-ins without them.
const VERSION_WITHOUT_BUILTINS: u32 = 1;

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
    pub config: Json,
    /// What becomes of a record that it cannot handle. The first histories had no word for it, and stopped.
    #[serde(default = "stop")]
    pub on_error: OnError,
    /// How far ahead of the record time and of the clock a record's timestamp may be, in
    /// milliseconds: it counts for a plugin with state. The first histories had no bound, and where
    /// they have none there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ahead_max_ms: Option<u64>,
    /// What the plugin may use.
    #[serde(flatten)]
    pub limits: Limits,
}

fn stop() -> OnError {
    OnError::Stop
}

impl StageSpec {
    /// Whether a stage would handle records in another way.
    pub(super) fn works_otherwise(&self, other: &Self) -> bool {
        self.plugin_digest != other.plugin_digest || self.config != other.config
    }

    /// The bound of timestamps, for comparing with them.
    pub fn time_ahead_max(&self) -> Option<i64> {
        self.time_ahead_max_ms.map(|most| i64::try_from(most).unwrap_or(i64::MAX))
    }
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

impl Origin {
    fn goes_back(self) -> bool {
        matches!(self, Self::Rollback | Self::Automatic)
    }
}

/// What a revision does to records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// The built-ins, before the first stage.
    pub builtins: Builtins,
    /// The stages, in order.
    pub stages: Vec<StageSpec>,
}

/// A revision as the history keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// Its number.
    pub number: RevisionNumber,
    /// The digest of its content.
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
    /// The revision whose trial this one ends: the stages remember again what they did when that trial began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<RevisionNumber>,
    /// The earlier revision whose content it publishes again. Several revisions can have the same
    /// content, so the content does not say which. The first histories did not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<RevisionNumber>,
    /// Until when it is on trial, in milliseconds since 1970-01-01 UTC; `at_ms` if it is not. It is that of the publish, whatever the configuration says later: daemons and
    /// lanes that judged by their own would drop what another one brings back. The first histories did not have it; nor has what goes back, or is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_until_ms: Option<i64>,
    /// Its stages, in order.
    pub stages: Vec<StageSpec>,
    /// Its built-ins, before the first stage.
    #[serde(flatten)]
    pub builtins: Builtins,
}

impl RevisionRecord {
    /// What it does to records.
    pub fn content(&self) -> Content {
        Content { builtins: self.builtins.clone(), stages: self.stages.clone() }
    }

    /// Whether it does to records what `other` does. Marks aside: these are a property of the link,
    /// which a rollback does not change.
    fn works_as(&self, other: &Self) -> bool {
        let works =
            |it: &Self| Content { builtins: Builtins { provenance: None, ..it.builtins.clone() }, ..it.content() };
        self.digest == other.digest || works(self) == works(other)
    }

    /// Whether it says of records which cluster they come through.
    pub(super) fn marks(&self) -> bool {
        self.builtins.provenance.as_ref().is_some_and(|it| it.mark.is_some())
    }

    /// Until when it is on trial, in milliseconds since 1970-01-01 UTC; `None` if it is not: what goes back is not, nor is the first revision.
    ///
    /// This says the same to all daemons, and after a restart: that its probation was passed before, one of them knows alone and only while it runs.
    /// `probation` counts for a revision of a history that does not say it.
    pub fn trial_ends_ms(&self, probation: &ProbationConfig) -> Option<i64> {
        let ends = || trial_until(self.origin, self.number, self.at_ms, probation);
        self.trial_until_ms.or_else(ends).filter(|ends| *ends > self.at_ms)
    }
}

/// What a revision that is published says of the end of its trial.
fn trial_until(origin: Origin, number: RevisionNumber, at_ms: i64, probation: &ProbationConfig) -> Option<i64> {
    (!origin.goes_back() && number.0 > 1).then(|| at_ms.saturating_add(probation.trial_ms() as i64))
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
    /// The revision whose trial it ends.
    pub undoes: Option<RevisionNumber>,
    /// The earlier revision whose content it publishes again.
    pub restores: Option<RevisionNumber>,
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

/// What of a history is read first: a newer one may have another form.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { v: VERSION_WITHOUT_BUILTINS, revisions: Vec::new(), stored: None }
    }
}

impl History {
    /// Read the stored form.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let unreadable = |error| format!("the link's history: {error}");
        let Version { v } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if v > HISTORY_VERSION {
            return Err(format!("the link's history has version {v}: a newer tidegate wrote it"));
        }
        let history: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        Ok(Self { stored: Some(bytes.to_vec()), ..history })
    }

    /// What it was read from; `None` if there was no history.
    pub fn stored(&self) -> Option<&[u8]> {
        self.stored.as_deref()
    }

    /// The stored form.
    ///
    /// # Errors
    /// There is none.
    pub fn encode(&self) -> Result<Vec<u8>, NotEncodable> {
        encode("the link's history", self)
    }

    /// All revisions, oldest first.
    pub fn revisions(&self) -> &[RevisionRecord] {
        &self.revisions
    }

    /// The newest revision.
    pub fn last(&self) -> Option<&RevisionRecord> {
        self.revisions.last()
    }

    /// The revision that a publish of a stage changes, which was asked for when `basis` was the newest: the newest now, with what others have made of other stages
    /// since. After a rollback that nobody has asked for it is `basis`: whoever publishes then may be about to mend what that was because of.
    ///
    /// Errors: the revision by which somebody has changed the stage since, by another plugin, by another configuration, or by going back.
    pub(super) fn to_change(&self, basis: RevisionNumber, stage: &str) -> Result<&RevisionRecord, RevisionNumber> {
        let spec = |revision: &RevisionRecord| revision.stages.iter().find(|spec| spec.name == stage).cloned();
        let (Some(before), Some(last)) = (self.get(basis), self.last()) else { return Err(basis) };
        let since = || self.revisions.iter().filter(|revision| revision.number > basis);
        let is_automatic = |revision: &RevisionRecord| revision.origin == Origin::Automatic;
        let is_change = |revision: &&RevisionRecord| match revision.origin {
            Origin::Automatic => false,
            Origin::Rollback => true,
            Origin::Toml | Origin::Publish => spec(revision) != spec(before),
        };
        match (since().rfind(is_change), since().any(is_automatic)) {
            (Some(by), _) => Err(by.number),
            (None, false) => Ok(last),
            (None, true) if since().all(is_automatic) => Ok(before),
            // Somebody else has built on what came back: the two do not go together.
            (None, true) => Err(last.number),
        }
    }

    /// The revision of this number.
    pub fn get(&self, number: RevisionNumber) -> Option<&RevisionRecord> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// The newest revision that came from the configuration file.
    pub fn last_from_toml(&self) -> Option<&RevisionRecord> {
        self.revisions.iter().rev().find(|revision| revision.origin == Origin::Toml)
    }

    /// Whether the file says `content`, and said so when a revision was last taken from it.
    ///
    /// # Errors
    /// The content cannot be encoded.
    pub fn has_from_toml(&self, content: &Content) -> Result<bool, NotEncodable> {
        let (Some(last), Some(taken)) = (self.last(), self.last_from_toml()) else { return Ok(false) };
        if taken.digest == content.digest()? {
            return Ok(true);
        }
        // Revisions of before have no bound of timestamps. That the file has one now is no word
        // against what was published since.
        Ok(last.number != taken.number && taken.digest == content.clone().without_bounds().digest()?)
    }

    /// The revisions whose trial was undone by the one of this number, or before it: for whoever takes over from any of them, whether or not anybody has run the
    /// revisions in between.
    pub fn undone_by(&self, number: RevisionNumber) -> BTreeSet<RevisionNumber> {
        let until = self.revisions.iter().take_while(|revision| revision.number <= number);
        until.filter_map(|revision| revision.undoes).collect()
    }

    /// The stages that work otherwise under `record` than under the revision before it, or were not
    /// there: what they remember after it is its doing.
    pub fn changed_by(&self, record: &RevisionRecord) -> BTreeSet<String> {
        let before = self.revisions.iter().rev().find(|revision| revision.number < record.number);
        let before = before.map_or(&[][..], |before| &before.stages);
        let is_same = |spec: &StageSpec| before.iter().any(|old| old.name == spec.name && !old.works_otherwise(spec));
        record.stages.iter().filter(|spec| !is_same(spec)).map(|spec| spec.name.clone()).collect()
    }

    /// What a rollback goes back to if it is not told: the newest revision before the present one
    /// that has other content.
    ///
    /// A rollback stands where the revision stands that it restores, so that saying it again goes
    /// further back, and not forth to what was just left.
    pub fn previous(&self) -> Option<&RevisionRecord> {
        let present = self.original(self.last()?);
        let mut before = self.revisions.iter().rev().filter(|revision| revision.number < present.number);
        before.find(|revision| !revision.works_as(present))
    }

    /// The revision that first published what `revision` restores, or `revision` itself.
    fn original<'h>(&'h self, mut revision: &'h RevisionRecord) -> &'h RevisionRecord {
        while let Some(earlier) = self.restored_by(revision) {
            revision = earlier;
        }
        revision
    }

    /// The revision whose content a rollback publishes again.
    pub fn restored_by(&self, rollback: &RevisionRecord) -> Option<&RevisionRecord> {
        let mut before = self.revisions.iter().rev().filter(|earlier| earlier.number < rollback.number);
        match rollback.restores {
            Some(restored) => before.find(|earlier| earlier.number == restored),
            // The first histories do not say it: the newest one of this content is the likeliest.
            None if rollback.origin.goes_back() => before.find(|earlier| earlier.works_as(rollback)),
            None => None,
        }
    }

    /// Append a revision; it gets the next number. `probation` says how long it is on trial.
    ///
    /// # Errors
    /// The content cannot be encoded.
    pub fn push(
        &mut self,
        content: Content,
        publisher: Publisher<'_>,
        at_ms: i64,
        probation: &ProbationConfig,
    ) -> Result<&RevisionRecord, NotEncodable> {
        let number = RevisionNumber(self.last().map_or(1, |last| last.number.0 + 1));
        let digest = content.digest()?;
        let Content { builtins, stages } = content;
        if !builtins.is_empty() {
            self.v = HISTORY_VERSION;
        }
        let Publisher { origin, by, reason, undoes, restores } = publisher;
        let (by, reason) = (by.to_owned(), reason.map(str::to_owned));
        let trial_until_ms = trial_until(origin, number, at_ms, probation);
        self.revisions.push(RevisionRecord {
            number,
            digest,
            at_ms,
            by,
            origin,
            reason,
            undoes,
            restores,
            trial_until_ms,
            stages,
            builtins,
        });
        Ok(&self.revisions[self.revisions.len() - 1])
    }
}

impl Content {
    /// The digest of everything that decides what is done to a record. Without built-ins it is that of the stages alone, as it was before there
    /// were any.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn digest(&self) -> Result<Digest, NotEncodable> {
        // One value has one text (`model::json`), so the same content has the same digest.
        let text = match self.builtins.is_empty() {
            true => encode("the stages of a revision", &self.stages),
            false => encode("the content of a revision", &(&self.builtins, &self.stages)),
        };
        Ok(Digest::of(&text?))
    }

    /// The same as a program said it that knew no bound of timestamps.
    fn without_bounds(mut self) -> Self {
        self.stages.iter_mut().for_each(|stage| stage.time_ahead_max_ms = None);
        self
    }
}

#[cfg(test)]
impl StageSpec {
    /// A stage for tests.
    pub(super) fn example(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            plugin_digest: Digest::of(b"component"),
            plugin_name: "p".to_owned(),
            plugin_version: "1.0.0".to_owned(),
            config: serde_json::json!({"b": 1, "a": 2}).into(),
            on_error: OnError::Stop,
            time_ahead_max_ms: None,
            limits: Limits { memory_bytes: 1, time_ms: 2, output_bytes: 3, log_lines_per_s: 4, ..Limits::default() },
        }
    }
}

#[cfg(test)]
mod tests;
