//! What is chosen, and what is planned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::notices::{About, FoundBy, Notice, Notices};
use super::owner::{Owner, Owners};
use super::plan::{Action, SettingChange, Survey, TopicPlan, plan};
use super::{Chosen, Found, Names, Selection, select};
use crate::config::{Config, Kept, LinkConfig};
use crate::connector::{Acl, AclTopics, Operation, Topic, TopicSettings};
use crate::link::events::Events;
use crate::link::failure::Failure;
use crate::model::TopicId;

/// A link with these keys, from `east` to `west`.
fn link(keys: &str) -> LinkConfig {
    let kafka = |id: &str| format!("[clusters.{id}]\nkind = 'kafka'\nbrokers = ['{id}:9092']\n");
    let target = if keys.contains("target =") { "" } else { "target = 'west'\n" };
    let text = format!("{}{}[links.l]\nsource = 'east'\n{target}{keys}\n", kafka("east"), kafka("west"));
    let (config, _) = Config::parse(&text, "tidegate.toml", Path::new("")).expect("a configuration");
    config.links["l"].clone()
}

fn topics(names: &[&str]) -> Vec<Topic> {
    let topic = |name: &&str| Topic { name: (*name).into(), id: TopicId(1), partitions: 4 };
    names.iter().map(topic).collect()
}

fn targets(selection: &Selection) -> Vec<&str> {
    selection.chosen.iter().map(|chosen| &*chosen.target).collect()
}

/// What is chosen by a link that has copied nothing.
fn select_new(config: &LinkConfig, topics: Vec<Topic>, names: &mut Names) -> Selection {
    select(config, topics, names, &Found::default(), || Ok(BTreeSet::new())).expect("nothing fails")
}

fn codes(selection: &Selection) -> Vec<(&str, &str)> {
    selection.refused.iter().map(|refused| (refused.code, &*refused.message)).collect()
}

fn left_out(selection: &Selection) -> Vec<(&str, &str, &str)> {
    selection.left_out.iter().map(|notice| (&*notice.topic, notice.code, &*notice.message)).collect()
}

#[test]
fn topics_are_chosen_and_renamed_and_internal_ones_left_out() {
    let link = link("topics = ['/.*/']\ntopic_prefix = 'p.'\nrename = [{ match = 'prod\\.(.*)', to = 'dr.$1' }]");
    let there = topics(&["__consumer_offsets", "mm2-offsets.west.internal", "orders", "prod.audit"]);
    let selection = select_new(&link, there, &mut Names::default());
    assert_eq!((targets(&selection), codes(&selection)), (vec!["p.orders", "p.dr.audit"], vec![]));
}

#[test]
fn a_name_is_matched_once() {
    let link = link("topics = ['a', 'c']");
    let mut names = Names::default();
    select_new(&link, topics(&["a", "b"]), &mut names);
    assert_eq!(names.of, HashMap::from([("a".into(), Ok(Some("a".into()))), ("b".into(), Ok(None))]));
    // What is remembered is what counts, and what is gone is forgotten.
    names.of.insert("b".into(), Ok(Some("remembered".into())));
    let selection = select_new(&link, topics(&["b", "c"]), &mut names);
    assert_eq!(targets(&selection), ["remembered", "c"]);
    assert_eq!(names.of.len(), 2);
    // A link has come that keeps one of them for itself: all are matched again.
    let other = self::link("topics = ['t']\ndead_letters = 'c'");
    let other = LinkConfig { id: "other".into(), ..other };
    link.kept.replace(Arc::new(vec![Kept::of(&other)]));
    let selection = select_new(&link, topics(&["b", "c"]), &mut names);
    let said = "topic c is left out: its copy would be \"c\", where links.other puts dead letters";
    assert_eq!((targets(&selection), left_out(&selection)), (vec![], vec![("c", "invalid-topic-name", said)]));
}

/// Two topics would become one: what becomes of them goes by which of them was copied, and by nothing else.
#[test]
fn of_two_topics_that_would_become_one_only_what_was_copied_goes_on() {
    let collides = link("topics = ['/.*/']\nrename = [{ match = 'a.*', to = 'a' }]");
    let of = |there: &[&str], copied: &[&str]| {
        let copied = copied.iter().map(|name| Arc::from(*name)).collect();
        select(&collides, topics(there), &mut Names::default(), &Found::default(), || Ok(copied)).expect("chosen")
    };
    let selected = |copied: &[&str]| of(&["a-1", "a-2", "a-3", "b"], copied);
    let newer =
        "change `rename`, so that each topic has a name of its own, or leave one of them out with topics_exclude";
    for (copied, chosen, left, said) in [
        (&[][..], &["b"][..], &["a-1", "a-2", "a-3"][..], "a-1, a-2, a-3 would all become a: none of them is copied"),
        (&["b"], &["b"], &["a-1", "a-2", "a-3"], "a-1, a-2, a-3 would all become a: none of them is copied"),
        (
            &["a-2"],
            &["a-2", "b"],
            &["a-1", "a-3"],
            "a-1, a-3 would become a, as a-2 does, which was copied first: only that is copied",
        ),
    ] {
        let selection = selected(copied);
        let sources: Vec<&str> = selection.chosen.iter().map(|chosen| &*chosen.topic.name).collect();
        assert_eq!(sources, chosen, "{copied:?}");
        assert_eq!(left_out(&selection), left.iter().map(|topic| (*topic, "topics-collide", said)).collect::<Vec<_>>());
        assert_eq!(codes(&selection), [], "{copied:?}: nothing else stops");
        assert!(copied != ["a-2"] || selection.left_out.iter().all(|notice| notice.remedy == newer));
    }
    let both = selected(&["a-1", "a-3"]);
    assert_eq!(codes(&both), [("topics-collide", "a-1, a-3 were copied, and would all become a")]);
    // One that is not seen for a moment has its copy still.
    let hidden = of(&["a-1", "b"], &["a-2"]);
    let said = "a-1 would become a, as a-2 does, which was copied first: only that is copied";
    assert_eq!((targets(&hidden), left_out(&hidden)), (vec!["b"], vec![("a-1", "topics-collide", said)]));
    assert_eq!(targets(&of(&["a-1", "b"], &["a-1", "b"])), ["a", "b"]);
    let excluded = link("topics = ['/.*/']\ntopics_exclude = ['a-2']\nrename = [{ match = 'a.*', to = 'a' }]");
    let copied = || Ok(BTreeSet::from(["a-2".into()]));
    let left = select(&excluded, topics(&["a-1"]), &mut Names::default(), &Found::default(), copied).expect("chosen");
    assert_eq!(targets(&left), ["a"], "a person has let go of it");
}

/// Checkpoints are read from the target: not where no two names can become one, nor for what is read already.
#[test]
fn what_was_copied_is_asked_only_where_topics_may_become_one() {
    let asked = || panic!("nobody needs to know");
    let plain = link("topics = ['/.*/']\ntopic_prefix = 'dr.'");
    let chosen = select(&plain, topics(&["a", "b"]), &mut Names::default(), &Found::default(), asked).expect("chosen");
    assert_eq!(targets(&chosen), ["dr.a", "dr.b"]);
    let renames = link("topics = ['/.*/']\nrename = [{ match = 'a.*', to = 'a' }]");
    let read = topics(&["a-1", "b"]).into_iter().map(|topic| (topic.name.clone(), Chosen { topic, target: "".into() }));
    let read = Found { topics: read.collect(), ..Found::default() };
    let chosen = select(&renames, topics(&["a-1", "b"]), &mut Names::default(), &read, asked).expect("chosen");
    assert_eq!(targets(&chosen), ["a", "b"]);
}

#[test]
fn what_stands_by_for_another_link_is_left_to_it() {
    let link = link("topics = ['/.*/']\ntopic_prefix = 'dr.'");
    let mut selection = select_new(&link, topics(&["orders", "other"]), &mut Names::default());
    selection.leave_to(&link, &BTreeMap::from([("dr.orders".into(), "standby".into()), ("x".into(), "y".into())]));
    assert_eq!(targets(&selection), ["dr.other"]);
    let said = "topic orders is left out: its copy would be \"dr.orders\", which stands by for links.standby: only that writes to it";
    assert_eq!((left_out(&selection), codes(&selection)), (vec![("orders", "standing-by", said)], vec![]));
}

/// One topic that cannot be copied keeps no other one from being copied.
#[test]
fn topics_that_cannot_be_copied_are_left_out_and_named() {
    let turns = "target = 'east'\ntopics = ['/a.*/', 'ok']\nrename = [{ match = 'a1{40}', to = 'a2' }, { match = '.*', to = 'b' }]";
    let twice = "topics = ['/a+/', 'ok']\nrename = [{ match = '(a+)', to = '$1$1' }]";
    let both = "type = 'active-active'\ntopics = ['/.*/']\nrename = [{ match = '(.*)', to = 'dr.$1' }]\n\
                reverse.rename = [{ match = 'dr\\.([a-z]*)', to = '$1' }]";
    let (ones, long, grown) = (format!("a{}", "1".repeat(40)), "a".repeat(125), format!("{}t", "p.".repeat(8)));
    for (keys, topic, code, said) in [
        (turns, &*ones, "would-loop", "its copy would be \"a2\", which the link itself reads"),
        (twice, &*long, "invalid-topic-name", "a topic's name has 1 to 249 characters and is neither . nor .."),
        ("topics = ['/.*/']", "l.dead-letters", "invalid-topic-name", "where the link puts dead letters"),
        (
            "topics = ['/x/']\ntopic_prefix = '__tidegate.'",
            "x",
            "invalid-topic-name",
            "which a program keeps for itself",
        ),
        (
            "topics = ['/.*/']\ntopic_prefix = 'p.'",
            &*grown,
            "name-grows",
            "with one more \"p.\": links add it again and again",
        ),
        (both, "a-b", "name-does-not-return", "its copy would be \"dr.a-b\", and come back as \"dr.a-b\""),
    ] {
        let there = topics(&[topic, "ok"]);
        let config = link(keys);
        let selection = select_new(&config, there, &mut Names::default());
        assert_eq!(codes(&selection), [], "{keys}");
        let [(of, found, message)] = left_out(&selection)[..] else { panic!("{keys}: {:?}", left_out(&selection)) };
        assert_eq!((of, found), (topic, code), "{keys}");
        assert!(message.starts_with(&format!("topic {topic} is left out: ")) && message.ends_with(said), "{message}");
        assert_eq!(selection.chosen.len(), usize::from(config.lets_in("ok")), "{keys}");
    }
}

fn settings(settings: &[(&str, &str)]) -> TopicSettings {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of<V>(topic: &str, value: V) -> BTreeMap<Arc<str>, V> {
    BTreeMap::from([(topic.into(), value)])
}

fn planned(link: &LinkConfig, survey: &Survey) -> TopicPlan {
    let chosen = select_new(link, topics(&["orders"]), &mut Names::default()).chosen;
    plan(link, &chosen, survey).remove(0)
}

fn change(from: Option<&str>, to: Option<&str>) -> SettingChange {
    SettingChange { from: from.map(str::to_owned), to: to.map(str::to_owned) }
}

#[test]
fn a_topic_is_made_with_partitions_and_settings() {
    let link = link("topics = ['orders']\ntopic_prefix = 'p.'\nreplication_factor = 3\nsync_topic_configs = false");
    let source_settings = of("orders", settings(&[("retention.ms", "7")]));
    let planned = planned(&link, &Survey { source_settings, ..Survey::default() });
    assert_eq!(planned.action, Action::Make { partitions: 4 });
    assert_eq!(planned.settings, BTreeMap::from([("retention.ms".to_owned(), change(None, Some("7")))]));
    let made = planned.to_be_made(&link.following).expect("a target");
    assert_eq!((&*made.topic, made.partitions, made.replication_factor), ("p.orders", 4, Some(3)));
    assert_eq!(made.settings, settings(&[("retention.ms", "7")]));
    assert_eq!(planned.to_be_changed(), None);
}

#[test]
fn partitions_grow_and_never_shrink() {
    let link = link("topics = ['orders']");
    for (has, action) in [
        (2, Action::AddPartitions { from: 2, to: 4 }),
        (4, Action::Keep { partitions: 4 }),
        (6, Action::Keep { partitions: 6 }),
    ] {
        let planned = planned(&link, &Survey { targets: of("orders", has), ..Survey::default() });
        assert_eq!(planned.action, action);
        assert_eq!(planned.to_be_made(&link.following).map(|made| made.partitions), (has < 4).then_some(4));
        assert_eq!(planned.is_done(), has >= 4);
    }
}

#[test]
fn settings_are_set_changed_and_set_back() {
    let survey = Survey {
        targets: of("orders", 4),
        source_settings: of(
            "orders",
            settings(&[("cleanup.policy", "compact"), ("retention.ms", "7"), ("segment.ms", "1")]),
        ),
        owners: Owners::known([("orders".into(), Owner::Us)]),
        source_knows: &["cleanup.policy", "retention.bytes", "retention.ms", "segment.ms"],
        target_settings: of(
            "orders",
            settings(&[
                ("max.message.bytes", "9"),
                ("retention.bytes", "9"),
                ("retention.ms", "8"),
                ("segment.ms", "1"),
            ]),
        ),
        acls: None,
    };
    let planned_by = |keys: &str| planned(&link(&format!("topics = ['orders']\n{keys}")), &survey);
    let planned = planned_by("");
    let expected = [
        ("cleanup.policy", change(None, Some("compact"))),
        ("retention.bytes", change(Some("9"), None)),
        ("retention.ms", change(Some("8"), Some("7"))),
    ];
    assert_eq!(planned.settings, expected.clone().map(|(name, change)| (name.to_owned(), change)).into());
    let changes = expected.map(|(name, change)| (name.to_owned(), change.to));
    assert_eq!(planned.to_be_changed(), Some(changes.into()));
    assert!(!planned.is_done());
    for keys in ["sync_topic_configs = false", "[clusters.west.topics.orders]"] {
        assert!(planned_by(keys).is_done(), "{keys}");
    }
}

#[test]
fn nothing_is_planned_about_what_was_not_asked() {
    let survey = Survey { targets: of("orders", 4), ..Survey::default() };
    assert!(planned(&link("topics = ['orders']"), &survey).is_done());
    let source_settings = of("orders", settings(&[("retention.ms", "7")]));
    assert!(planned(&link("topics = ['orders']"), &Survey { source_settings, ..survey }).is_done());
}

fn acl(topics: AclTopics, operation: Operation, allow: bool) -> Acl {
    Acl { topics, principal: "User:ann".into(), host: "*".into(), operation, allow }
}

#[test]
fn acls_that_concern_a_topic_are_added_to_its_copy_and_nobody_may_write_there() {
    use AclTopics::{Every, Literal, Prefixed};
    use Operation::{All, Describe, Read, Write};
    let link = link("topics = ['orders']\ntopic_prefix = 'p.'\nsync_topic_acls = true");
    let copied = |source: &[Acl], target: &[Acl]| {
        let acls = Some((source.iter().cloned().collect(), target.iter().cloned().collect()));
        planned(&link, &Survey { targets: of("p.orders", 4), acls, ..Survey::default() }).acls
    };
    let copy = |operation, allow| acl(Literal("p.orders".into()), operation, allow);
    for (source, expected) in [
        (acl(Literal("orders".into()), Read, true), Some(copy(Read, true))),
        (acl(Prefixed("ord".into()), Describe, true), Some(copy(Describe, true))),
        (acl(Every, Describe, false), Some(copy(Describe, false))),
        (acl(Literal("orders".into()), All, true), Some(copy(Read, true))),
        (acl(Literal("orders".into()), All, false), Some(copy(All, false))),
        (acl(Literal("orders".into()), Write, true), None),
        (acl(Literal("orders".into()), Write, false), Some(copy(Write, false))),
        (acl(Literal("order".into()), Read, true), None),
        (acl(Prefixed("p.".into()), Read, true), None),
    ] {
        assert_eq!(copied(std::slice::from_ref(&source), &[]), expected.into_iter().collect::<Vec<_>>(), "{source:?}");
    }
    let read = acl(Literal("orders".into()), Read, true);
    assert_eq!(copied(&[read.clone(), acl(Every, Read, true)], &[]), [copy(Read, true)]);
    assert_eq!(copied(&[read], &[copy(Read, true)]), []);
    // What the target has more stays.
    assert_eq!(copied(&[], &[copy(Read, true)]), []);
}

#[test]
fn a_notice_is_an_event_once_and_stays_until_it_is_over() {
    let (notices, events) = (Notices::default(), Events::default());
    let topics: BTreeSet<Arc<str>> = ["a".into(), "b".into()].into();
    let refused = |topic: &Arc<str>| Notice::of(topic, Failure::fatal("refused", format!("{topic}"), ""));
    let all = || topics.iter().map(refused).collect::<Vec<_>>();
    notices.replace(About::Targets, all(), &events);
    notices.replace(About::Targets, all(), &events);
    notices.source_gone(&"a".into(), &events);
    let kinds = || events.all().iter().map(|event| event.kind).collect::<Vec<_>>();
    assert_eq!(kinds(), ["refused", "refused", "source-topic-deleted"]);
    notices.replace(About::Targets, all().split_off(1), &events);
    let shown = || notices.all().iter().map(|notice| (notice.code, notice.topic.to_string())).collect::<Vec<_>>();
    assert_eq!(shown(), [("source-topic-deleted", "a".to_owned()), ("refused", "b".to_owned())]);
    notices.source_is_there(&"a".into());
    notices.replace(About::Targets, all(), &events);
    assert_eq!(shown(), [("refused", "a".to_owned()), ("refused", "b".to_owned())]);
    assert_eq!(kinds().len(), 4);
}

#[test]
fn a_notice_leaves_with_the_work_that_has_found_it_out() {
    let (notices, events) = (Notices::default(), Events::default());
    let notice = |code| vec![Notice::of(&"a".into(), Failure::fatal(code, code, ""))];
    for (about, code) in [
        (About::Targets, "of-all"),
        (About::Settings, "settings"),
        (About::Acls, "acls"),
        (About::Groups, "groups"),
        (About::Heartbeats, "heartbeats"),
    ] {
        notices.replace(about, notice(code), &events);
    }
    let shown = || notices.all().iter().map(|notice| notice.code).collect::<Vec<_>>();
    notices.leave_to_others(FoundBy::Leader);
    assert_eq!(shown(), ["of-all", "heartbeats"]);
    notices.leave_to_others(FoundBy::Lanes);
    assert_eq!(shown(), ["of-all"]);
}

#[test]
fn a_topic_that_is_gone_is_not_said_to_be_missing_too() {
    let (notices, events) = (Notices::default(), Events::default());
    notices.source_gone(&"a".into(), &events);
    let missing = |topic: &str| Notice::of(&topic.into(), Failure::fatal("source-topic-missing", topic, ""));
    notices.missing(vec![missing("a"), missing("b")], &events);
    let shown = || notices.all().iter().map(|notice| (notice.code, notice.topic.to_string())).collect::<Vec<_>>();
    assert_eq!(shown(), [("source-topic-deleted", "a".to_owned()), ("source-topic-missing", "b".to_owned())]);
    notices.missing(Vec::new(), &events);
    assert_eq!(shown(), [("source-topic-deleted", "a".to_owned())]);
}

#[test]
fn five_thousand_topics_are_chosen_from_in_no_time() {
    let link = link("topics = ['/(topic|other)-[0-9]{1,5}(\\.x)?/']");
    let names: Vec<String> = (0..5_000).map(|number| format!("topic-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut known = Names::default();
    let first = select_new(&link, topics(&names), &mut known);
    assert_eq!(first.chosen.len(), 5_000);
    let again: Vec<Chosen> = select_new(&link, topics(&names), &mut known).chosen;
    assert_eq!(again, first.chosen);
}
