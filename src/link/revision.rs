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

    /// The revision that has changed a stage since the revision `basis` was the newest, if one has: by another plugin, by another configuration, or by
    /// going back.
    pub(super) fn changed_since(&self, basis: RevisionNumber, stage: &str) -> Option<RevisionNumber> {
        let spec = |revision: &RevisionRecord| revision.stages.iter().find(|spec| spec.name == stage).cloned();
        let before = spec(self.get(basis)?);
        let since = self.revisions.iter().filter(|revision| revision.number > basis);
        since.filter(|revision| revision.origin.goes_back() || spec(revision) != before).map(|it| it.number).next_back()
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
mod tests {
    use super::*;
    use crate::model::FilterSpec;

    fn stage(name: &str) -> StageSpec {
        StageSpec::example(name)
    }

    fn history(contents: &[&str]) -> History {
        let mut history = History::default();
        for content in contents {
            let publisher =
                Publisher { origin: Origin::Publish, by: "test", reason: None, undoes: None, restores: None };
            history
                .push(
                    Content { stages: vec![stage(content)], ..Content::default() },
                    publisher,
                    7,
                    &ProbationConfig::default(),
                )
                .expect("JSON");
        }
        history
    }

    #[test]
    fn numbers_only_grow() {
        let numbers: Vec<_> = history(&["a", "b", "a"]).revisions().iter().map(|revision| revision.number.0).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn whoever_publishes_hears_who_has_changed_the_stage_since() {
        let mut history = History::default();
        let mut push = |origin, stages: &[(&str, u32)]| {
            let spec = |(name, config): &(&str, u32)| StageSpec {
                config: serde_json::json!({ "n": config }).into(),
                ..stage(name)
            };
            let content = Content { stages: stages.iter().map(spec).collect(), ..Content::default() };
            let publisher = Publisher { origin, by: "test", reason: None, undoes: None, restores: None };
            history.push(content, publisher, 7, &ProbationConfig::default()).expect("JSON");
        };
        push(Origin::Toml, &[("a", 1), ("b", 1)]);
        push(Origin::Publish, &[("a", 1), ("b", 2)]);
        push(Origin::Publish, &[("a", 1), ("b", 2)]);
        push(Origin::Publish, &[("a", 2), ("b", 2)]);
        push(Origin::Rollback, &[("a", 2), ("b", 2)]);
        let changed = |basis, stage: &str| history.changed_since(RevisionNumber(basis), stage).map(|by| by.0);
        assert_eq!((changed(5, "a"), changed(5, "b")), (None, None), "nothing came after it");
        assert_eq!((changed(4, "a"), changed(4, "b")), (Some(5), Some(5)), "somebody has gone back");
        let before = History { revisions: history.revisions[..4].to_vec(), ..History::default() };
        let changed = |basis, stage: &str| before.changed_since(RevisionNumber(basis), stage).map(|by| by.0);
        assert_eq!((changed(3, "a"), changed(3, "b")), (Some(4), None), "another stage is none of its");
        assert_eq!((changed(2, "b"), changed(1, "b")), (None, Some(4)));
    }

    /// The number of what a rollback goes back to.
    fn previous(history: &History) -> Option<u64> {
        history.previous().map(|revision| revision.number.0)
    }

    /// Go back to what a rollback goes back to, or to `to`.
    fn roll_back(history: &mut History, to: Option<u64>) {
        let to = to.map_or_else(|| history.previous(), |to| history.get(RevisionNumber(to))).expect("a revision");
        let (content, restores) = (to.content(), Some(to.number));
        let publisher = Publisher { origin: Origin::Rollback, by: "test", reason: None, undoes: None, restores };
        history.push(content, publisher, 8, &ProbationConfig::default()).expect("JSON");
    }

    #[test]
    fn the_previous_revision_is_the_one_before_whatever_had_its_content_earlier() {
        for (contents, expected) in [
            (&["a"][..], None),
            (&["a", "a"], None),
            (&["a", "b"], Some(1)),
            (&["a", "b", "a"], Some(2)),
            (&["a", "b", "c", "b"], Some(3)),
            (&["a", "b", "b"], Some(1)),
            (&["a", "b", "a", "b", "b"], Some(3)),
        ] {
            assert_eq!(previous(&history(contents)), expected, "{contents:?}");
        }
    }

    #[test]
    fn each_rollback_goes_further_back_through_revisions_of_the_same_content() {
        let mut history = history(&["a", "b", "c", "b"]);
        let mut restored = Vec::new();
        while let Some(number) = previous(&history) {
            roll_back(&mut history, None);
            restored.push(number);
        }
        assert_eq!(restored, [3, 2, 1]);
        // What a person names stands where it stood as well.
        roll_back(&mut history, Some(4));
        assert_eq!(previous(&history), Some(3));
        roll_back(&mut history, Some(8));
        assert_eq!(previous(&history), Some(3), "a rollback to a rollback");
        let mut history = History::decode(&history.encode().expect("JSON")).expect("readable");
        assert_eq!(previous(&history), Some(3), "it is stored");
        let publisher = Publisher { origin: Origin::Publish, by: "test", reason: None, undoes: None, restores: None };
        let content = Content { stages: vec![stage("d")], ..Content::default() };
        history.push(content, publisher, 9, &ProbationConfig::default()).expect("JSON");
        assert_eq!(previous(&history), Some(9), "a publish stands behind what ran before it");
    }

    /// The first histories do not say what a rollback restores.
    #[test]
    fn a_rollback_that_says_nothing_restores_the_newest_of_its_content() {
        let mut history = history(&["a", "b", "c"]);
        roll_back(&mut history, None);
        history.revisions[3].restores = None;
        assert_eq!(previous(&history), Some(1));
        history.revisions[3].restores = Some(RevisionNumber(4));
        assert_eq!(previous(&history), Some(3), "a damaged one is no endless walk");
    }

    #[test]
    fn reads_what_version_1_wrote() {
        let text = r#"{"v":1,"revisions":[{"number":1,"digest":"sha256:D","at_ms":7,"by":"test","origin":"publish","stages":[{"name":"a","plugin_digest":"sha256:C","plugin_name":"p","plugin_version":"1.0.0","config":{"a":2,"b":1},"memory_bytes":1,"time_ms":2,"output_bytes":3,"log_lines_per_s":4}]}]}"#;
        let text = text
            .replace("sha256:D", &Digest::of(&serde_json::to_vec(&[stage("a")]).expect("JSON")).to_string())
            .replace("sha256:C", &Digest::of(b"component").to_string());
        assert_eq!(History::decode(text.as_bytes()).expect("readable").revisions, history(&["a"]).revisions);
        let again = History::decode(&history(&["a"]).encode().expect("JSON")).expect("readable");
        assert_eq!(again.revisions, history(&["a"]).revisions);
        assert!(history(&["a"]).encode().expect("JSON").starts_with(br#"{"v":1,"#), "a program of before can read it");
    }

    /// A file that has not changed must not undo what was published since, only because a newer
    /// program says more of it.
    #[test]
    fn a_bound_of_timestamps_is_no_change_of_the_file_behind_a_publish() {
        let content = |time_ahead_max_ms| Content {
            stages: vec![StageSpec { time_ahead_max_ms, ..stage("a") }],
            ..Content::default()
        };
        let mut history = History::default();
        let publisher = |origin| Publisher { origin, by: "test", reason: None, undoes: None, restores: None };
        history.push(content(None), publisher(Origin::Toml), 7, &ProbationConfig::default()).expect("JSON");
        assert!(history.has_from_toml(&content(None)).expect("JSON"));
        assert!(!history.has_from_toml(&content(Some(1000))).expect("JSON"), "the newest revision gets one");
        history.push(content(None), publisher(Origin::Publish), 8, &ProbationConfig::default()).expect("JSON");
        assert!(history.has_from_toml(&content(Some(1000))).expect("JSON"));
        history.push(content(Some(1000)), publisher(Origin::Toml), 9, &ProbationConfig::default()).expect("JSON");
        history.push(content(None), publisher(Origin::Publish), 10, &ProbationConfig::default()).expect("JSON");
        assert!(!history.has_from_toml(&content(Some(2000))).expect("JSON"), "that is a change");
    }

    /// A daemon that is upgraded must not find that its file says something new.
    #[test]
    fn the_digest_of_a_configuration_is_what_it_was_before_numbers_kept_their_digits() {
        let stored = r#"{"a":[1,100.0,-0.5,0.25,null,"é"],"b":{"c":18446744073709551615,"d":-9223372036854775808}}"#;
        let component = Digest::of(b"component");
        let text = format!(
            r#"[{{"name":"a","plugin_digest":"{component}","plugin_name":"p","plugin_version":"1.0.0","config":{stored},"on_error":"stop","time_ms":2,"record_time_ms":100,"memory_bytes":1,"table_elements":100000,"instances":64,"handles":10000,"output_bytes":3,"records_per_input":10000,"host_calls_per_record":1000,"log_lines_per_s":4,"metric_names":64,"state_bytes":67108864,"component_bytes":67108864}}]"#
        );
        for written in [
            stored,
            r#"{"b": {"d": -9223372036854775808, "c": 18446744073709551615}, "a": [1, 1e2, -0.50, 25e-2, null, "\u00e9"]}"#,
        ] {
            let config = Json::parse(written).expect("JSON");
            let stages = vec![StageSpec { config, ..stage("a") }];
            let content = Content { stages, ..Content::default() };
            assert_eq!(content.digest().expect("JSON"), Digest::of(text.as_bytes()), "{written}");
        }
        let config = Json::parse(&stored.replace("18446744073709551615", "18446744073709551617")).expect("JSON");
        let content = Content { stages: vec![StageSpec { config, ..stage("a") }], ..Content::default() };
        assert_ne!(content.digest().expect("JSON"), Digest::of(text.as_bytes()));
        let mut history = History::default();
        history
            .push(
                content.clone(),
                Publisher { origin: Origin::Publish, by: "test", reason: None, undoes: None, restores: None },
                7,
                &ProbationConfig::default(),
            )
            .expect("JSON");
        let read = History::decode(&history.encode().expect("JSON")).expect("readable");
        assert_eq!(read.revisions[0].content(), content, "each digit is stored");
    }

    /// A reload, or another daemon with another file, moves no trial that is under way.
    #[test]
    fn the_end_of_a_trial_is_that_of_its_publish() {
        let of = |records, time_ms| ProbationConfig { records, time_ms, ..ProbationConfig::default() };
        let pushed = |origin, probation: &ProbationConfig| {
            let mut history = history(&["a"]);
            let publisher = Publisher { origin, by: "test", reason: None, undoes: None, restores: None };
            history.push(Content::default(), publisher, 50, probation).expect("JSON");
            let stored = History::decode(&history.encode().expect("JSON")).expect("readable");
            stored.last().expect("a revision").clone()
        };
        for today in [of(10, 1), of(10, 1000), of(0, 1000)] {
            assert_eq!(pushed(Origin::Publish, &of(10, 100)).trial_ends_ms(&today), Some(150));
            assert_eq!(pushed(Origin::Publish, &of(0, 100)).trial_ends_ms(&today), None, "it never was on trial");
            assert_eq!(pushed(Origin::Rollback, &of(10, 100)).trial_ends_ms(&today), None);
            assert_eq!(history(&["a"]).last().expect("the first").trial_ends_ms(&today), None);
        }
        let before = RevisionRecord { trial_until_ms: None, ..pushed(Origin::Publish, &of(10, 100)) };
        assert_eq!(before.trial_ends_ms(&of(10, 1000)), Some(1050), "a history that does not say it");
        assert_eq!(before.trial_ends_ms(&of(0, 1000)), None);
    }

    #[test]
    fn built_ins_are_part_of_a_revision() {
        let filter = FilterSpec { key_prefix: vec!["eu-".to_owned()], ..FilterSpec::default() };
        let builtins = Builtins { filter: Some(filter), ..Builtins::default() };
        let publisher = Publisher { origin: Origin::Toml, by: "test", reason: None, undoes: None, restores: None };
        let mut history = history(&["a"]);
        history
            .push(
                Content { builtins: builtins.clone(), stages: vec![stage("a")] },
                publisher,
                8,
                &ProbationConfig::default(),
            )
            .expect("JSON");
        assert_ne!(history.revisions[0].digest, history.revisions[1].digest);
        let text = history.encode().expect("JSON");
        assert!(text.ends_with(br#""filter":{"key_prefix":["eu-"]}}]}"#), "{}", String::from_utf8_lossy(&text));
        assert!(text.starts_with(br#"{"v":2,"#), "a program of before would run it without the filter");
        let mut again = History::decode(&text).expect("readable");
        assert_eq!(again.revisions, history.revisions);
        assert_eq!(again.revisions[1].content().builtins, builtins);
        let content = again.revisions[0].content();
        again.push(content, publisher, 9, &ProbationConfig::default()).expect("JSON");
        assert_eq!(again.revisions[2].digest, again.revisions[0].digest, "a rollback has the content of before");
        assert!(again.encode().expect("JSON").starts_with(br#"{"v":2,"#));
        let unknown = String::from_utf8(text).expect("text").replace("key_prefix", "key_suffix");
        assert!(History::decode(unknown.as_bytes()).is_err(), "half a filter is none");
    }

    #[test]
    fn a_newer_history_is_named() {
        assert!(History::decode(br#"{"v":3}"#).expect_err("newer").contains("newer tidegate"));
    }
}
