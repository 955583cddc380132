//! What a history is, and what it says.

use super::*;
use crate::model::FilterSpec;

fn stage(name: &str) -> StageSpec {
    StageSpec::example(name)
}

fn history(contents: &[&str]) -> History {
    let mut history = History::default();
    for content in contents {
        let publisher = Publisher { origin: Origin::Publish, by: "test", reason: None, undoes: None, restores: None };
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
    let to_change = |history: &History, basis, stage: &str| {
        history.to_change(RevisionNumber(basis), stage).map(|revision| revision.number.0).map_err(|by| by.0)
    };
    let of = |stage: &'static str| move |history: &History, basis| to_change(history, basis, stage);
    let (a, b) = (of("a"), of("b"));
    assert_eq!((a(&history, 5), b(&history, 5)), (Ok(5), Ok(5)), "nothing came after it");
    assert_eq!((a(&history, 4), b(&history, 4)), (Err(5), Err(5)), "somebody has gone back");
    let before = History { revisions: history.revisions[..4].to_vec(), ..History::default() };
    assert_eq!((a(&before, 3), b(&before, 3)), (Err(4), Ok(4)), "another stage is none of its");
    assert_eq!((b(&before, 2), b(&before, 1)), (Ok(4), Err(4)));
    assert_eq!(a(&before, 0), Err(0), "what it was like is forgotten");
    let mut automatic = History { revisions: history.revisions[2..].to_vec(), ..History::default() };
    automatic.revisions[2].origin = Origin::Automatic;
    assert_eq!(b(&automatic, 4), Ok(4), "nobody has asked for that: what is mended is what was published");
    assert_eq!(b(&automatic, 3), Err(5), "somebody has published in between");
    assert_eq!(b(&automatic, 5), Ok(5));
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
