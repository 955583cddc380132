//! Links that go both ways.

use std::collections::BTreeMap;

use serde_json::json;

use super::circles::link;
use super::{CLUSTERS, base_dir, check_with_clusters, config, parse, show};
use crate::config::{Config, Defined, DefinitionSettings, LinkConfig, Start, Surroundings, json_path, read_definition};
use crate::model::{Digest, Json, Limits};

const PAIR: &str = "type = 'active-active'\n";

const STAGE: &str = "pipeline = [{ stage = 's', plugin = 'plugins/redact.wasm' }]\n";

fn pair(topics: &str, prefix: &str, more: &str) -> String {
    link("l", "east", "west", topics, prefix) + PAIR + more
}

/// Both ways of a link, of which warnings are of no interest.
fn ways(topics: &str, prefix: &str, more: &str) -> [LinkConfig; 2] {
    let (config, _) = parse(&(pair(topics, prefix, more) + CLUSTERS)).map_err(|found| show(&found)).expect("a link");
    ["l", "l.reverse"].map(|id| config.links[id].clone())
}

fn messages(text: &str) -> Vec<String> {
    let found = parse(&format!("{text}{CLUSTERS}")).map_or_else(|found| found, |(_, warnings)| warnings);
    found.into_iter().map(|found| format!("{} {}: {}", found.severity, found.key, found.message)).collect()
}

#[test]
fn the_reverse_way_does_what_is_said_of_it() {
    let [forward, reverse] = ways("'t'", "", "");
    assert_eq!((&*reverse.source, &*reverse.target, reverse.is_reverse), ("west", "east", true));
    assert_eq!((reverse.start.clone(), reverse.start_is_said, forward.start_is_said), (Start::Earliest, false, false));
    let more = format!(
        "{STAGE}start = 'earliest'\nfilter = {{ key_prefix = 'a' }}\ntransform = {{ remove_headers = ['h'] }}\n\
         [links.l.reverse]\npipeline = []\nfilter = {{}}\nstart = 'latest'\n\
         transform = {{ add_headers = {{ by = '${{link}} ${{source.cluster}}' }} }}\n"
    );
    let text = pair("'t'", "", &more);
    assert_eq!(messages(&text), Vec::<String>::new());
    let config = config(&(text + CLUSTERS));
    let (forward, reverse) = (&config.links["l"], &config.links["l.reverse"]);
    assert_eq!((forward.pipeline.len(), reverse.pipeline.len()), (1, 0));
    assert!(forward.builtins.filter.is_some() && reverse.builtins.filter.is_none());
    let added = &reverse.builtins.transform.as_ref().expect("a transform").add_headers;
    assert_eq!(added["by"], "l.reverse west");
    assert_eq!((&reverse.start, reverse.start_is_said), (&Start::Latest, true));
    assert_eq!((&forward.start, forward.start_is_said), (&Start::Earliest, true));
}

#[test]
fn what_applies_to_both_ways_unsaid_is_a_warning() {
    let more = format!("{STAGE}filter = {{ key_prefix = 'a' }}\ntransform = {{ remove_headers = ['h'] }}\n");
    let warning = |key: &str, none: &str| {
        let line = 7 + ["pipeline", "filter", "transform"].iter().position(|it| *it == key).expect("a key");
        let column = key.len() + 4;
        format!(
            "{line}:{column} warning links.l.{key}: `{key}` applies to both ways: also to records that are written to west and go \
             to east | write reverse.{key} = {none} if the reverse way has none, or repeat it there"
        )
    };
    let expected = [warning("pipeline", "[]"), warning("filter", "{}"), warning("transform", "{}")];
    check_with_clusters(&pair("'t'", "", &more), &expected.each_ref().map(String::as_str));
    let [forward, reverse] = ways("'t'", "", &more);
    assert_eq!((reverse.pipeline.len(), &reverse.builtins.filter), (1, &forward.builtins.filter));
    let said = more + "reverse = { pipeline = [], filter = {}, transform = {} }\n";
    check_with_clusters(&pair("'t'", "", &said), &[]);
}

#[test]
fn a_link_that_goes_one_way_has_no_reverse() {
    let text = link("l", "east", "west", "'t'", "") + "reverse = { start = 'latest' }\n";
    let message = "the link goes one way: there is no reverse way that this could be about";
    let help = "write type = \"active-active\" or \"star\", or remove `reverse`";
    check_with_clusters(&text, &[&format!("6:11 error links.l.reverse: {message} | {help}")]);
    let unknown = pair("'t'", "", "reverse = { topics = ['u'] }\n");
    assert_eq!(messages(&unknown), ["error links.l.reverse.topics: unknown key \"topics\""]);
    let taken_over = pair("'t'", "", "reverse = { start = { mirrormaker = 'x' } }\n");
    let message = "expected \"earliest\" or \"latest\", found a table";
    assert_eq!(messages(&taken_over), [format!("error links.l.reverse.start: {message}")]);
}

/// What holds for the stages of a link holds for those of its reverse way.
#[test]
fn stages_of_the_reverse_way_are_checked_like_all_others() {
    let stage =
        "reverse.pipeline = [{ stage = 's', plugin = 'plugins/redact.wasm', limits = { output_bytes = 1024 } }]\n";
    let text = pair("'t'", "", stage) + "config = { batch_size = 2000 }\n";
    let found = messages(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("error links.l.reverse.pipeline[0].limits.output_bytes: "), "{found:?}");
}

#[test]
fn each_way_has_its_own_dead_letters_and_neither_copies_any() {
    for (more, letters) in [
        ("", ["l.dead-letters", "l.reverse.dead-letters"]),
        ("dead_letters = 'bad'\n", ["bad", "bad.reverse"]),
        ("dead_letters = 'x.dead-letters'\n", ["x.dead-letters", "x.reverse.dead-letters"]),
        ("dead_letters = 'bad'\nreverse.dead_letters = 'worse'\n", ["bad", "worse"]),
        ("reverse.dead_letters = 'l.dead-letters'\n", ["l.dead-letters"; 2]),
    ] {
        for names in
            ["", "rename = [{ match = '(.*)', to = 'dr.$1' }]\nreverse.rename = [{ match = 'dr\\.(.*)', to = '$1' }]\n"]
        {
            let ways = ways("'/.*/'", "", &format!("{more}{names}"));
            assert_eq!(ways.each_ref().map(|way| &*way.dead_letters), letters, "{more}");
            for way in &ways {
                assert!(letters.iter().all(|topic| !way.selects(topic)), "{more}");
                assert!(way.selects(if way.is_reverse && !names.is_empty() { "dr.t" } else { "t" }), "{more}");
            }
        }
    }
    let named = pair("'t', 'l.reverse.dead-letters'", "", "");
    let message = "\"l.reverse.dead-letters\" has the dead letters of the link, which neither of its ways copies";
    assert_eq!(messages(&named), [format!("error links.l.topics[1]: {message}")]);
    let long = pair("'t'", "", &format!("dead_letters = '{}'\n", "x".repeat(245)));
    assert_eq!(messages(&long).len(), 1);
    assert!(messages(&long)[0].starts_with("error links.l.dead_letters: dead letters of the reverse way would go to"));
}

#[test]
fn no_two_links_share_dead_letters_of_a_cluster() {
    let letters = "dead_letters = 'dlq'\n";
    let text = link("a", "east", "west", "'t'", "") + letters + &link("b", "east", "west", "'u'", "") + letters;
    let message = |other: &str| format!("dead letters would go to \"dlq\", where links.{other} puts dead letters");
    let expected =
        [("a", "b"), ("b", "a")].map(|(id, other)| format!("error links.{id}.dead_letters: {}", message(other)));
    assert_eq!(messages(&text), expected);
    let elsewhere = link("a", "east", "west", "'t'", "") + letters + &link("b", "west", "east", "'u'", "") + letters;
    assert_eq!(messages(&elsewhere), Vec::<String>::new(), "of another cluster");
    // Those of the reverse way are at the source.
    let reverse = pair("'t'", "", letters) + &link("b", "west", "east", "'u'", "") + "dead_letters = 'dlq.reverse'\n";
    assert_eq!(messages(&reverse).len(), 2, "{:?}", messages(&reverse));
    // The file has to go together with links that are not of it.
    let known = config(&(link("b", "east", "west", "'u'", "") + letters + CLUSTERS)).links["b"].clone();
    let file = link("a", "east", "west", "'t'", "") + letters + CLUSTERS;
    let found = Config::parse_beside(&file, "tidegate.toml", &base_dir(), &[known]).expect_err("shared");
    assert!(found.iter().all(|found| found.message.contains("links.b")) && !found.is_empty(), "{}", show(&found));
}

#[test]
fn links_of_the_file_make_no_circle_with_others() {
    let known = config(&(link("back", "west", "east", "'/.*/'", "") + CLUSTERS)).links["back"].clone();
    let file = link("there", "east", "west", "'t'", "") + CLUSTERS;
    let found = Config::parse_beside(&file, "tidegate.toml", &base_dir(), &[known]).expect_err("a circle");
    assert!(found[0].message.starts_with("records would go round for ever: "), "{}", show(&found));
}

#[test]
fn names_come_back_as_they_went() {
    let there = "rename = [{ match = '^(.*)$', to = 'dr.$1' }]\n";
    let back = "reverse.rename = [{ match = 'dr\\.(.*)', to = '$1' }]\n";
    let message = "the link renames topics and goes both ways: each round would make another name";
    let found = messages(&pair("'/.*/'", "", there));
    assert!(found.contains(&format!("error links.l.rename: {message}")), "{found:?}");
    for topics in ["'t'", "'/.*/'", "'/t.*/', 'u'"] {
        let [forward, reverse] = ways(topics, "", &format!("{there}{back}"));
        assert_eq!((forward.copy_of("t"), reverse.copy_of("dr.t")), (Ok(Some("dr.t".into())), Ok(Some("t".into()))));
        assert!(!reverse.selects("t"), "{topics}");
        // All that one way copies the other one copies back.
        for topic in ["t", "u", "tt", "dr.t", "x"].into_iter().filter(|topic| forward.selects(topic)) {
            assert_eq!(reverse.copy_of(&forward.target_topic(topic)), Ok(Some(topic.to_owned())), "{topics}: {topic}");
        }
    }
    // What is excluded is so by the name that it has where the link reads it.
    let [forward, reverse] = ways("'/.*/'", "", &format!("{there}{back}topics_exclude = ['/s.*/', 'u']\n"));
    assert!(!forward.selects("s1") && !reverse.selects("dr.s1") && !reverse.selects("dr.u") && reverse.selects("dr.t"));
    let other =
        pair("'t', 'u'", "", "rename = [{ match = 't', to = 'v' }]\nreverse.rename = [{ match = 'v', to = 'w' }]\n");
    let message = "\"t\" becomes \"v\" and would come back as \"w\"";
    assert_eq!(messages(&other), [format!("error links.l.topics[0]: {message}")]);
    let one_sided = pair("'t'", "", "reverse.rename = [{ match = 't', to = 'v' }]\n");
    assert_eq!(messages(&one_sided), ["error links.l.topics[0]: \"t\" becomes \"t\" and would come back as \"v\""]);
    // Behind a prefix copies are told by it.
    let [forward, reverse] = ways("'/.*/'", "p.", there);
    for way in [&forward, &reverse] {
        assert_eq!((way.copy_of("t"), way.copy_of("p.dr.t")), (Ok(Some("p.dr.t".to_owned())), Ok(None)));
    }
}

fn define(more: serde_json::Value, links: &[LinkConfig]) -> Result<Defined, Vec<String>> {
    let clusters = config(CLUSTERS).clusters;
    let settings = DefinitionSettings { limits: Limits::default(), secrets_dir: None, insecure_plaintext: false };
    let around = Surroundings { clusters: &clusters, in_place: &BTreeMap::new(), links, settings: &settings };
    let whole: Json = json!({
        "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "west"}, "topics": ["t"], "type": "active-active",
    })
    .into();
    let (Json::Object(mut definition), Json::Object(more)) = (whole, more.into()) else { panic!("two objects") };
    definition.extend(more);
    read_definition("l", &definition, &around)
        .map_err(|found| found.iter().map(|found| format!("{}: {}", json_path(found), found.message)).collect())
}

#[test]
fn a_definition_says_the_same_of_its_reverse_way() {
    let plugin = Digest::of(b"plugin").to_string();
    // What TOML cannot say reaches the plugin all the same.
    let stage = json!({"stage": "s", "plugin": plugin, "config": {"null": null, "n": 18_446_744_073_709_551_615_u64}});
    let defined =
        define(json!({"reverse": {"pipeline": [stage], "start": "latest", "filter": null}}), &[]).expect("a link");
    let reverse = defined.reverse.expect("a reverse way");
    assert_eq!((defined.link.pipeline.len(), reverse.pipeline.len()), (0, 1));
    assert_eq!(reverse.pipeline[0].config.value.to_string(), r#"{"n":18446744073709551615,"null":null}"#);
    assert!(reverse.start_is_said);
    let wrong = define(json!({"reverse": {"dead_letters": "no topic"}}), &[]).expect_err("no name");
    assert!(wrong[0].starts_with("$.reverse.dead_letters: "), "{wrong:?}");
    let known =
        config(&(link("b", "west", "east", "'u'", "") + "dead_letters = 'l.reverse.dead-letters'\n" + CLUSTERS));
    let shared = define(json!({}), &[known.links["b"].clone()]).expect_err("shared letters");
    assert!(shared.iter().any(|found| found.contains("links.b")), "{shared:?}");
}
