//! Links together: those that read what they write (records would go round for ever), those that bring records twice, and those that write where others keep something.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ClusterId, LinkId};

use super::both_ways::Topology;
use super::cluster::ClusterConfig;
use super::diagnostic::Place;
use super::flow::{Answer, Fault, Flow, Net, Step, Twice, marks};
use super::link::{LinkConfig, ReadLink};
use super::overlap::{self, Names};
use super::report::Report;
use super::sample::{joined, samples};
use super::topics::TopicSelector;
use super::writing::{Refused, Why, Writing, may_write};

/// Whether the link would read what it writes to this topic of its target. For topics that are found while the link runs, and
/// for topics that plugins route to: what the configuration names itself was checked when it was read.
pub fn would_loop(link: &LinkConfig, target_topic: &str) -> bool {
    link.source == link.target && link.lets_in(target_topic)
}

/// A name that topics may well have. It is followed where an expression lets it in: of an expression alone nobody can say what becomes of its topics behind a prefix, and
/// one that takes every name takes those with a prefix, too.
const ANY_TOPIC: &str = "any-topic";

/// Report what is wrong with these links together, and with those that are known already. Topics are known as far as links, expressions or clusters name them.
pub(super) fn refuse_together(
    new: &[&ReadLink],
    known: &[&ReadLink],
    clusters: &BTreeMap<ClusterId, ClusterConfig>,
    report: &Report<'_>,
) {
    let errors = report.error_count();
    let all: Vec<&ReadLink> = new.iter().chain(known).copied().collect();
    let configs: Vec<&LinkConfig> = all.iter().map(|read| &read.link).collect();
    for read in new {
        refuse_own_dead_letters(read, report);
        refuse_names_of_others(read, &configs, report);
        refuse_names_for_others(read, &configs[new.len()..], report);
    }
    refuse_circles(new, &all, clusters, report);
    refuse_second_hubs(new, known, report);
    refuse_doubles(new, known, report);
    // What was said of any of these is said of two ways, too.
    if report.error_count() == errors {
        refuse_two_ways(new, &all, clusters, report);
    }
}

/// Report every circle that one of these links is part of.
fn refuse_circles(
    new: &[&ReadLink],
    all: &[&ReadLink],
    clusters: &BTreeMap<ClusterId, ClusterConfig>,
    report: &Report<'_>,
) {
    let near = Circular::of(new, all).links;
    let starts = Starts::of(&near, clusters);
    let mut net = Net::new(near.iter().map(|read| &read.link));
    match net.faults(&starts.steps, |_| true) {
        Answer::Nothing => {}
        Answer::Found(faults) => {
            for (start, fault) in faults {
                report.error_if_all_was_read(&starts.places[start], describe(&fault), help(&fault));
            }
        }
        Answer::NotKnown => refuse_not_followed(new, "records could go round", report),
    }
    if let Some(first) = new.first().filter(|_| starts.lacks_names) {
        let message = "the expressions of this link and of those around it take too long to be compared: \
                       a name that all of them match could go round";
        report.warning(&first.target_place, message, NOT_FOLLOWED_HELP);
    }
}

/// Report that links copy too much to be followed, once for all of them.
fn refuse_not_followed(new: &[&ReadLink], what: &str, report: &Report<'_>) {
    let Some(first) = new.first() else { return };
    let message = format!("the topics of this link and of those around it are too many to be followed: {what}");
    report.error_if_all_was_read(&first.target_place, message, NOT_FOLLOWED_HELP);
}

const NOT_FOLLOWED_HELP: &str = "name topics instead of expressions, or select fewer";

/// Where flows begin: each selector of each link, and the names that it lets in.
struct Starts<'a> {
    steps: Vec<Step<'a>>,
    /// The place of the selector of each.
    places: Vec<Place>,
    /// Whether there may be names that expressions match and that were not found.
    lacks_names: bool,
}

impl<'a> Starts<'a> {
    fn of(links: &[&'a ReadLink], clusters: &BTreeMap<ClusterId, ClusterConfig>) -> Self {
        let (names, lacks_names) = match names_of_expressions(links) {
            Names::All(names) => (names, false),
            Names::Some(names) => (names, true),
        };
        let mut starts = Self { steps: Vec::new(), places: Vec::new(), lacks_names };
        for read in links {
            let link = &read.link;
            let declared = clusters.get(&link.source).into_iter().flat_map(|cluster| cluster.topics.keys());
            let has_expressions = link.topics.iter().any(|selector| matches!(selector, TopicSelector::Pattern(_)));
            // Asked once for each link, and not for each of its selectors.
            let names = declared.map(|name| &**name).chain(names.iter().map(String::as_str));
            let mut names: Vec<&str> = names.filter(|name| has_expressions && link.lets_in(name)).collect();
            let mut followed = BTreeSet::new();
            for (selector, place) in link.topics.iter().zip(&read.topic_places) {
                // The first expression stands for all of them.
                let names = match selector {
                    TopicSelector::Name(_) => Vec::new(),
                    TopicSelector::Pattern(_) => std::mem::take(&mut names),
                };
                for flow in flows(selector, &names) {
                    let is_new = match &flow {
                        Flow::Name(name) => followed.insert(name.clone()),
                        Flow::Matching(_) => true,
                    };
                    if is_new {
                        starts.steps.push(Step::new(link, flow));
                        starts.places.push(place.clone());
                    }
                }
            }
        }
        starts
    }
}

/// Names that stand for what expressions match: one that topics may well have, and those that are made of all expressions of the links.
fn names_of_expressions(links: &[&ReadLink]) -> Names {
    let selecting = |link: &'_ ReadLink| {
        let patterns = link.link.topics.iter().filter_map(|selector| match selector {
            TopicSelector::Pattern(pattern) => Some(pattern.expression().to_owned()),
            TopicSelector::Name(_) => None,
        });
        patterns.collect::<Vec<_>>()
    };
    let expressions: BTreeSet<String> = links.iter().flat_map(|read| selecting(read)).collect();
    if expressions.is_empty() {
        return Names::All(Vec::new());
    }
    let renamed = links.iter().flat_map(|read| &read.link.rename).filter_map(|rule| rule.expression());
    let renamed: BTreeSet<String> = renamed.flat_map(samples).collect();
    let mut names = vec![ANY_TOPIC.to_owned()];
    names.extend(joined(&expressions.iter().map(String::as_str).collect()));
    names.extend(renamed);
    let configs: Vec<&LinkConfig> = links.iter().map(|read| &read.link).collect();
    overlap::names(&configs).with(names)
}

/// What a selector lets in: itself, and, for an expression, these names that its link lets in.
fn flows(selector: &TopicSelector, names: &[&str]) -> Vec<Flow> {
    match selector {
        TopicSelector::Name(name) => vec![Flow::Name(name.clone())],
        TopicSelector::Pattern(pattern) => {
            let names = names.iter().map(|name| Flow::Name((*name).into()));
            std::iter::once(Flow::Matching(pattern.expression().into())).chain(names).collect()
        }
    }
}

/// The links that can be part of a circle with a new one, by their clusters alone: most links are part of none, and nothing of theirs is followed.
struct Circular<'a> {
    links: Vec<&'a ReadLink>,
}

impl<'a> Circular<'a> {
    fn of(new: &[&'a ReadLink], all: &[&'a ReadLink]) -> Self {
        let targets = targets(all);
        let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for read in all {
            let from: &str = &read.link.target;
            reached.entry(from).or_insert_with(|| reach(from, &targets));
        }
        let leads = |one: &ReadLink, other: &ReadLink| reached[&*one.link.target].contains(&*other.link.source);
        let mut circular: Vec<&ReadLink> = Vec::new();
        for read in new.iter().filter(|read| leads(read, read)) {
            // Those of one circle have the same links around them, so one of each is enough.
            if !circular.iter().any(|known| leads(read, known) && leads(known, read)) {
                circular.push(read);
            }
        }
        let near = |read: &&&ReadLink| circular.iter().any(|new| leads(read, new) && leads(new, read));
        Self { links: all.iter().filter(near).copied().collect() }
    }
}

/// Where links lead from each cluster.
fn targets<'a>(links: &[&'a ReadLink]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut targets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for read in links {
        targets.entry(&read.link.source).or_default().insert(&read.link.target);
    }
    targets
}

/// The clusters that records at one can come to, that one included.
fn reach<'a>(from: &'a str, targets: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let (mut found, mut waiting) = (BTreeSet::from([from]), vec![from]);
    while let Some(next) = waiting.pop() {
        waiting.extend(targets.get(next).into_iter().flatten().copied().filter(|target| found.insert(target)));
    }
    found
}

/// Report every spoke that has two hubs, and every hub that is a spoke of its own spokes. What is left are trees: there is one way only from each cluster
/// of one to each other.
fn refuse_second_hubs(new: &[&ReadLink], known: &[&ReadLink], report: &Report<'_>) {
    // A cluster that is its own hub has no end above it; that it reads what it writes is said elsewhere.
    let is_spoke = |read: &&&ReadLink| {
        let link = &read.link;
        link.topology == Topology::Star && !link.is_reverse && link.source != link.target
    };
    let known = known.iter().filter(is_spoke).map(|read| (&read.link.target, &read.link));
    let mut hubs: BTreeMap<&ClusterId, &LinkConfig> = known.collect();
    for read in new.iter().filter(is_spoke) {
        let (hub, spoke) = (&read.link.source, &read.link.target);
        let mut above = std::iter::successors(hubs.get(hub), |link| hubs.get(&link.source));
        let other = hubs.get(spoke).filter(|other| other.source != *hub);
        if let Some(other) = other.or_else(|| above.find(|link| link.source == *spoke)) {
            let message = format!("{spoke} and {hub} have a way to each other already, by links.{}", other.id);
            let help = "records would come twice: a cluster is a spoke of one hub, and not the hub of its own hub";
            report.error_if_all_was_read(&read.target_place, message, help);
        } else {
            hubs.insert(spoke, &read.link);
        }
    }
}

/// Report every link that goes both ways between two clusters where another one does so with the same topics: each would take what the other has brought.
fn refuse_doubles(new: &[&ReadLink], known: &[&ReadLink], report: &Report<'_>) {
    let goes_both_ways = |read: &&&ReadLink| read.link.topology == Topology::ActiveActive && !read.link.is_reverse;
    let mut before: Vec<&LinkConfig> = known.iter().filter(goes_both_ways).map(|read| &read.link).collect();
    for read in new.iter().filter(goes_both_ways) {
        let link = &read.link;
        let (one, other) = (&link.source, &link.target);
        let is_double = |it: &&&LinkConfig| {
            let (from, to) = (&it.source, &it.target);
            ((from, to) == (one, other) || (to, from) == (one, other)) && share_topics(it, link)
        };
        if let Some(double) = before.iter().find(is_double) {
            let message = format!("{one} and {other} have a way to each other already, by links.{}", double.id);
            let help = "records would come twice: leave out of one of them the topics that both have";
            report.error_if_all_was_read(&read.target_place, message, help);
        }
        before.push(link);
    }
}

/// Whether two links have a topic in common under one name at the target, as far as names tell: of two expressions only that they are the same.
fn share_topics(one: &LinkConfig, other: &LinkConfig) -> bool {
    let has = |link: &LinkConfig, selector: &TopicSelector| match selector {
        TopicSelector::Name(name) => link.lets_in(name),
        TopicSelector::Pattern(_) => link.topics.contains(selector),
    };
    one.topic_prefix == other.topic_prefix
        && (one.topics.iter().any(|topic| has(other, topic)) || other.topics.iter().any(|topic| has(one, topic)))
}

/// Report a link that would read the records that it put aside.
fn refuse_own_dead_letters(read: &ReadLink, report: &Report<'_>) {
    let link = &read.link;
    if link.has_dead_letters() && would_loop(link, &link.dead_letters) {
        let message = format!("the link would read its own dead letters from {:?}", link.dead_letters);
        let help = "set dead_letters to a topic that it does not read, or choose other topics";
        report.error_if_all_was_read(&read.dead_letters_place, message, help);
    }
}

/// Report a link that would write records where something else is kept: what programs keep for themselves, what was put aside, or what stands by for others.
fn refuse_names_of_others(read: &ReadLink, all: &[&LinkConfig], report: &Report<'_>) {
    let link = &read.link;
    for (selector, place) in link.topics.iter().zip(&read.topic_places) {
        let TopicSelector::Name(name) = selector else { continue };
        if !link.lets_in(name) {
            continue;
        }
        refuse(Writing::Copies(link), &link.target_topic(name), all, place, report);
    }
    // Also where no stage puts anything aside: records that are too large for their topics go there.
    refuse(Writing::DeadLetters(link), &link.dead_letters, all, &read.dead_letters_place, report);
}

/// Report a link because of which one that is known could not write any more: what it guards, or where it puts aside.
fn refuse_names_for_others(read: &ReadLink, known: &[&LinkConfig], report: &Report<'_>) {
    let new = &read.link;
    for other in known.iter().filter(|other| other.id != new.id && other.target == new.target) {
        let copies = other.named_topics().map(|name| (Writing::Copies(other), other.target_topic(name)));
        let letters = (Writing::DeadLetters(other), other.dead_letters.as_str().into());
        for (writer, topic) in copies.chain([letters]) {
            let Err(refused) = may_write(writer, &topic, &[new]) else { continue };
            if matches!(&refused.why, Why::StandsBy(link) | Why::DeadLettersOf(link) if *link == new.id) {
                let message = format!("links.{} could not write any more: {refused}", other.id);
                report.error_if_all_was_read(
                    &read.target_place,
                    message,
                    "choose other topics, or another `topic_prefix` or `dead_letters`",
                );
                break;
            }
        }
    }
}

fn refuse(writer: Writing<'_>, topic: &str, all: &[&LinkConfig], place: &Place, report: &Report<'_>) {
    match may_write(writer, topic, all) {
        // Of names that cannot be, and of links that go round, it is said elsewhere.
        Ok(()) | Err(Refused { why: Why::Loop | Why::Name(_), .. }) => {}
        Err(refused) => report.error_if_all_was_read(place, refused.to_string(), writer.remedy()),
    }
}

/// Report links of which each marks and that bring records of a topic to another one on two ways: nobody leaves out what comes by the second.
fn refuse_two_ways(
    new: &[&ReadLink],
    all: &[&ReadLink],
    clusters: &BTreeMap<ClusterId, ClusterConfig>,
    report: &Report<'_>,
) {
    // Two ways that no new link is part of were looked at before.
    let new: Vec<&ReadLink> = new.iter().copied().filter(|read| marks(&read.link)).collect();
    if new.is_empty() {
        return;
    }
    let marking: Vec<&ReadLink> = all.iter().copied().filter(|read| marks(&read.link)).collect();
    let any_chooses = marking.iter().any(|read| chooses(&read.link));
    let starts = Starts::of(&marking, clusters);
    let mut net = Net::new(marking.iter().map(|read| &read.link));
    let targets = targets(&marking);
    let mut leads_to_new: BTreeMap<&str, bool> = BTreeMap::new();
    let (mut asked, mut told) = (BTreeSet::new(), BTreeSet::new());
    for step in &starts.steps {
        let Flow::Name(topic) = &step.flow else { continue };
        if !asked.insert((&step.link.source, topic.clone())) {
            continue;
        }
        let source = &step.link.source;
        let leads = leads_to_new.entry(source).or_insert_with(|| {
            let reached = reach(source, &targets);
            new.iter().any(|read| reached.contains(&*read.link.source))
        });
        if !*leads {
            continue;
        }
        // Two ways that pass all records are an error, also beside one that chooses.
        let twice = match net.twice(source, topic, |link| !chooses(link)) {
            Answer::Nothing if any_chooses => net.twice(source, topic, |_| true),
            answer => answer,
        };
        let twice = match twice {
            Answer::Nothing => continue,
            Answer::Found(twice) => twice,
            Answer::NotKnown => return refuse_not_followed(&new, "records could come twice", report),
        };
        let links = || twice.ways.iter().flatten().copied();
        let is_part = |read: &&&ReadLink| links().any(|link| link.id == read.link.id);
        let Some(read) = new.iter().rfind(is_part) else { continue };
        // Of both ways of a link it is said once.
        let forward = |link: &LinkConfig| {
            if link.is_reverse { link.other_way_id() } else { None }.unwrap_or_else(|| link.id.clone())
        };
        if told.insert(links().map(forward).collect::<BTreeSet<_>>()) {
            tell_of_two_ways(&twice, (&step.link.source, topic), &read.target_place, report);
        }
    }
}

/// Whether a link may leave records out, by what they hold.
fn chooses(link: &LinkConfig) -> bool {
    link.builtins.filter.is_some() || !link.pipeline.is_empty()
}

fn tell_of_two_ways(twice: &Twice<'_>, (cluster, topic): (&ClusterId, &str), place: &Place, report: &Report<'_>) {
    let ways = twice.ways.each_ref().map(|way| {
        let links: Vec<String> = way.iter().map(|link| format!("links.{}", link.id)).collect();
        links.join(" and ")
    });
    let target = twice.ways.iter().find_map(|way| way.last()).map_or("", |link| &*link.target);
    let [one, other] = ways;
    let message = format!(
        "records of {topic:?} on {cluster} come to {:?} on {target} by {one}, and again by {other}",
        &*twice.topic
    );
    match twice.ways.iter().flatten().any(|link| chooses(link)) {
        // Each of them may copy another part of the records.
        true => report.warning(place, message, "see that no record passes the filters and stages of both ways"),
        false => {
            let help =
                "connect the clusters as a star, or leave the topic out of one of these links with topics_exclude";
            report.error_if_all_was_read(place, message, help);
        }
    }
}

/// How other links bring what is routed to a topic back to where it was read or routed to, if they do, and nobody leaves it out.
pub(super) fn circle_of_route(link: &LinkConfig, topic: &str, others: &[&LinkConfig]) -> Answer<String> {
    let others = others.iter().copied().filter(|other| other.id != link.id);
    let mut net = Net::new(others.chain([link]));
    let starts = net.routed(link, topic);
    let is_about = |fault: &Fault<'_>| fault.steps().iter().any(|step| step.link.id == link.id);
    match net.faults(&starts, is_about) {
        Answer::Found(faults) => faults.first().map_or(Answer::Nothing, |(_, fault)| Answer::Found(describe(fault))),
        Answer::Nothing => Answer::Nothing,
        Answer::NotKnown => Answer::NotKnown,
    }
}

fn show(flow: &Flow) -> String {
    match flow {
        Flow::Name(name) => format!("{name:?}"),
        Flow::Matching(expression) => format!("/{expression}/"),
    }
}

fn describe(fault: &Fault<'_>) -> String {
    let steps = fault.steps();
    let ids: BTreeSet<&LinkId> = steps.iter().map(|step| &step.link.id).collect();
    if let ([Step { link, flow, .. }, ..], 1) = (steps, ids.len()) {
        let written = match flow {
            Flow::Name(name) => format!("{name:?} goes to {:?}", link.target_topic(name)),
            Flow::Matching(_) => format!("topics of {} keep their names", show(flow)),
        };
        return format!("the link would read what it writes: {written} on the same cluster");
    }
    let steps =
        steps.iter().map(|step| format!("{} on {}, links.{}, ", show(&step.flow), step.link.source, step.link.id));
    let what = match fault {
        Fault::Circle(_) => "records would go round for ever",
        Fault::Growth(_) => "each round would make topics under other names",
    };
    format!("{what}: {}and so on", steps.collect::<String>())
}

fn help(fault: &Fault<'_>) -> &'static str {
    match fault {
        Fault::Circle(steps) if steps.len() > 1 => {
            "set `provenance = true` for all of these links, or a topic_prefix, or choose other topics"
        }
        // Marks end records, and not names.
        Fault::Growth(steps) if steps.iter().any(|step| step.link.id != steps[0].link.id) => {
            "leave out with topics_exclude what the other links have copied, or have names return as they went"
        }
        Fault::Circle(_) | Fault::Growth(_) => "set a topic_prefix, or choose other topics",
    }
}
