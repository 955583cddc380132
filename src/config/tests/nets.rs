//! Random nets of links: whatever is accepted makes finitely many topics and brings each record
//! once.
//!
//! The model below knows nothing of the search that accepts or refuses: it has topics and records
//! in clusters, and each link copies what it finds, by the functions that running links use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;

use super::parse;
use crate::config::{Config, LinkConfig};

/// Topics that are in every cluster at first.
const SEEDS: [&str; 5] = ["t", "u", "tt", "p.t", "orders-eu"];

/// Text that links add to names, and how often a name of [`SEEDS`] has it already.
const ADDED: [(&str, usize); 4] = [("p.", 1), ("q.", 0), ("dr.", 0), (".old", 0)];

/// So many records and topics are more than any net of a test makes that comes to an end.
const ENDLESS: usize = 20_000;

const TOPICS: [&str; 9] = [
    "'t'",
    "'t', 'u'",
    "'/.*/'",
    "'/t.*/'",
    "'/.*t/'",
    "'/(p\\..*)|t/'",
    "'/.*orders.*/'",
    "'/.*eu.*/'",
    "'u', '/[^.]*/'",
];

const NAMES: [&str; 11] = [
    "",
    "",
    "topic_prefix = 'p.'",
    "topic_prefix = 'q.'",
    "rename = [{ match = '^(.*)$', to = 'dr.$1' }]",
    "rename = [{ match = '^(.*)$', to = 'dr.$1' }]\nreverse.rename = [{ match = 'dr\\.(.*)', to = '$1' }]",
    "rename = [{ match = 't', to = 'u' }]",
    "rename = [{ match = 't', to = 'u' }, { match = 'u', to = 't' }]\nreverse.rename = [{ match = 't', to = 'u' }, { match = 'u', to = 't' }]",
    "rename = [{ match = 'dr\\.(.*)', to = '$1' }]",
    "rename = [{ match = '(.*)', to = '$1.old' }]\nreverse.rename = [{ match = '(.*)\\.old', to = '$1' }]",
    "rename = [{ match = 't', to = 'dr.t' }]\ntopic_prefix = 'p.'",
];

const MORE: [&str; 7] = [
    "",
    "",
    "topics_exclude = ['/p\\..*/']",
    "topics_exclude = ['/q\\..*/', '/dr\\..*/']",
    "pipeline = [{ stage = 's', plugin = 'plugins/redact.wasm' }]",
    "pipeline = [{ stage = 's', plugin = 'plugins/redact.wasm' }]\ndead_letters = 'bad'",
    "topics_exclude = ['/.*dead-letters/']\npipeline = [{ stage = 's', plugin = 'plugins/redact.wasm' }]",
];

const KINDS: [&str; 5] = ["", "provenance = true", "provenance = true", "type = 'active-active'", "type = 'star'"];

/// A link between clusters of these numbers.
fn any_link() -> impl Strategy<Value = (usize, usize, String)> {
    let parts = (select(&TOPICS[..]), select(&NAMES[..]), select(&MORE[..]), select(&KINDS[..]));
    (0..5_usize, 0..5_usize, parts).prop_map(|(from, to, (topics, names, more, kind))| {
        // Only a link that goes both ways has a reverse way.
        let is_of_use = |line: &&str| kind.starts_with("type") || !line.starts_with("reverse.");
        let names: Vec<&str> = names.lines().filter(is_of_use).collect();
        (from, to, format!("topics = [{topics}]\n{}\n{more}\n{kind}\n", names.join("\n")))
    })
}

fn any_net() -> impl Strategy<Value = String> {
    (2..=5_usize, prop::collection::vec(any_link(), 1..=6)).prop_map(|(clusters, links)| {
        let mut text = String::new();
        for (number, (from, to, link)) in links.into_iter().enumerate() {
            let (from, to) = (from % clusters, to % clusters);
            text += &format!("[links.l{number}]\nsource = 'c{from}'\ntarget = 'c{to}'\n{link}");
        }
        text + &(0..clusters).map(|number| format!("[clusters.c{number}]\nkind = 'embedded'\n")).collect::<String>()
    })
}

/// All topics that come about, by cluster. `Err`: they do not come to an end.
fn all_topics(config: &Config) -> Result<BTreeSet<(String, String)>, String> {
    let seeds = config.clusters.keys().flat_map(|cluster| SEEDS.map(|topic| (cluster.to_string(), topic.to_owned())));
    let mut topics: BTreeSet<(String, String)> = seeds.collect();
    let mut waiting: VecDeque<(String, String)> = topics.iter().cloned().collect();
    while let Some((cluster, topic)) = waiting.pop_front() {
        for link in config.links.values().filter(|link| *link.source == *cluster) {
            let Ok(Some(copy)) = link.copy_of(&topic) else { continue };
            let letters = link.has_dead_letters().then(|| link.dead_letters.clone());
            for made in std::iter::once(copy).chain(letters) {
                let made = (link.target.to_string(), made);
                if topics.insert(made.clone()) {
                    waiting.push_back(made);
                }
            }
        }
        if topics.len() > ENDLESS {
            return Err(format!("topics without end, among them {:?}", topics.last()));
        }
    }
    Ok(topics)
}

/// A record somewhere.
#[derive(Clone)]
struct Copy {
    cluster: String,
    topic: String,
    /// The clusters that it says it has come through.
    via: BTreeSet<String>,
    /// Whether all that it has come through mark, and hand on all that they get.
    is_sure: bool,
}

/// What a link makes of a record: a copy, and a dead letter at worst.
fn made(link: &LinkConfig, record: &Copy) -> Vec<Copy> {
    let Ok(Some(topic)) = link.copy_of(&record.topic) else { return Vec::new() };
    let provenance = link.builtins.provenance.as_ref();
    if provenance.is_some_and(|it| record.via.contains(&it.leave_out)) {
        return Vec::new();
    }
    let mark = provenance.and_then(|it| it.mark.clone());
    let is_sure = record.is_sure && mark.is_some() && link.pipeline.is_empty();
    let via = record.via.iter().cloned().chain(mark).collect();
    let copy = Copy { cluster: link.target.to_string(), topic, via, is_sure };
    let letter = Copy { topic: link.dead_letters.clone(), is_sure: false, ..copy.clone() };
    std::iter::once(copy).chain(link.has_dead_letters().then_some(letter)).collect()
}

/// Follow a record that is written to a topic of a cluster.
fn follow(config: &Config, cluster: &str, topic: &str) -> Result<(), String> {
    let written = Copy { cluster: cluster.to_owned(), topic: topic.to_owned(), via: BTreeSet::new(), is_sure: true };
    let mut there = BTreeMap::from([((cluster.to_owned(), topic.to_owned()), 1)]);
    let (mut waiting, mut copies) = (VecDeque::from([written]), 0);
    while let Some(record) = waiting.pop_front() {
        for link in config.links.values().filter(|link| *link.source == *record.cluster) {
            for copy in made(link, &record) {
                copies += 1;
                if copies > ENDLESS {
                    return Err(format!("a record of {topic} on {cluster} goes round, in {}", link.id));
                }
                if copy.is_sure {
                    let count = there.entry((copy.cluster.clone(), copy.topic.clone())).or_insert(0);
                    *count += 1;
                    if *count > 1 {
                        let (at, name) = (&copy.cluster, &copy.topic);
                        return Err(format!("a record of {topic} on {cluster} comes to {name} on {at} twice"));
                    }
                }
                waiting.push_back(copy);
            }
        }
    }
    Ok(())
}

/// What is wrong with links that were accepted.
fn fault(config: &Config) -> Result<(), String> {
    let topics = all_topics(config)?;
    for (text, at_first) in ADDED {
        let adds = |link: &&LinkConfig| {
            link.topic_prefix == text
                || link.rename.iter().any(|rule| rule.apply("t").is_some_and(|to| to.contains(text)))
        };
        let most = at_first + config.links.values().filter(adds).count();
        if let Some((at, name)) = topics.iter().find(|(_, name)| name.matches(text).count() > most) {
            return Err(format!("{name} on {at} has {text:?} more often than there are links that add it"));
        }
    }
    topics.iter().filter(|(_, topic)| SEEDS.contains(&&**topic)).try_for_each(|(at, topic)| follow(config, at, topic))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_comes_to_an_end_and_brings_each_record_once(text in any_net()) {
        if let Ok((config, _)) = parse(&text) {
            prop_assert_eq!(fault(&config), Ok(()), "{}", text);
        }
    }
}

/// The property above says something: some nets are accepted in which links meet, and the model
/// finds what is wrong with those that are refused.
#[test]
fn nets_are_accepted_and_refused() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut accepted, mut refused) = (0, BTreeMap::<String, usize>::new());
    for _ in 0..60 {
        let text = any_net().new_tree(&mut runner).expect("a net").current();
        match parse(&text) {
            Ok((config, _)) if config.links.len() > 2 => accepted += 1,
            Ok(_) => {}
            Err(found) => {
                for kind in found.iter().filter_map(|it| it.message.split(':').next()) {
                    *refused.entry(kind.to_owned()).or_default() += 1;
                }
            }
        }
    }
    for kind in ["records would go round for ever", "each round would make topics under other names"] {
        assert!(refused.contains_key(kind), "{kind}: {refused:?}");
    }
    assert!(accepted > 0, "{accepted} accepted, {refused:?}");
}
