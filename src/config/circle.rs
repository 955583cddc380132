//! Links that read what they write: records would go round for ever. And spokes of two hubs: records would come twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::ClusterId;

use super::cluster::ClusterConfig;
use super::diagnostic::Place;
use super::link::{LinkConfig, ReadLink, Topology};
use super::report::Report;
use super::topics::{TOPIC_NAME_BYTES_MAX, TopicSelector};
use super::writing::{Refused, Why, Writing, may_write};

/// The most steps that are followed from one topic. Sensible links need a few; every two links with different
/// prefixes that follow each other double the number of names.
const STEPS_MAX: usize = 10_000;

/// Whether the link would read what it writes to this topic of its target. For topics that are found while the link runs, and
/// for topics that plugins route to: what the configuration names itself was checked when it was read.
pub fn would_loop(link: &LinkConfig, target_topic: &str) -> bool {
    link.source == link.target && link.selects(target_topic)
}

/// A name that topics may well have. It is followed where an expression lets it in: of an expression alone nobody can say what becomes of its topics behind a prefix, and
/// one that takes every name takes those with a prefix, too.
const ANY_TOPIC: &str = "any-topic";

/// What is on its way from link to link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Flow {
    /// A topic.
    Name(Arc<str>),
    /// Whatever topics match an expression, under the names that they have at the source.
    Matching(Arc<str>),
}

/// A link that a flow went through, and what came in.
#[derive(Clone)]
struct Step<'a> {
    link: &'a LinkConfig,
    flow: Flow,
}

/// Report every circle of links. Topics are known as far as links or clusters name them.
pub(super) fn refuse_circles<'a>(
    links: impl Iterator<Item = &'a ReadLink>,
    clusters: &BTreeMap<ClusterId, ClusterConfig>,
    report: &Report<'_>,
) {
    let links: Vec<_> = links.collect();
    let all: Vec<&LinkConfig> = links.iter().map(|read| &read.link).collect();
    let mut search = Search { links: &all, circles: BTreeSet::new() };
    for read in &links {
        refuse_own_dead_letters(read, report);
        refuse_names_of_others(read, &all, report);
        for (selector, place) in read.link.topics.iter().zip(&read.topic_places) {
            for flow in flows(&read.link, selector, clusters) {
                if let Some(circle) = search.follow(Step { link: &read.link, flow }) {
                    let help = match &*circle {
                        [_] => "set a topic_prefix, or choose other topics",
                        _ => {
                            "set `provenance = true` for all of these links, or a topic_prefix, or choose other topics"
                        }
                    };
                    report.error_if_all_was_read(place, describe(&circle), help);
                }
            }
        }
    }
}

/// Report every spoke that has two hubs, and every hub that is a spoke of its own spokes. What is left are trees: there is one way only from each cluster
/// of one to each other.
pub(super) fn refuse_second_hubs<'a>(
    links: impl Iterator<Item = &'a ReadLink>,
    known: impl Iterator<Item = &'a LinkConfig>,
    report: &Report<'_>,
) {
    let is_spoke = |link: &&LinkConfig| link.topology == Topology::Star && !link.is_reverse;
    let mut hubs: BTreeMap<&ClusterId, &LinkConfig> = known.filter(is_spoke).map(|link| (&link.target, link)).collect();
    for read in links.filter(|read| is_spoke(&&read.link)) {
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
pub(super) fn refuse_doubles<'a>(
    links: impl Iterator<Item = &'a ReadLink>,
    known: impl Iterator<Item = &'a LinkConfig>,
    report: &Report<'_>,
) {
    let goes_both_ways = |link: &&LinkConfig| link.topology == Topology::ActiveActive && !link.is_reverse;
    let mut before: Vec<&LinkConfig> = known.filter(goes_both_ways).collect();
    for read in links.filter(|read| goes_both_ways(&&read.link)) {
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
        TopicSelector::Name(name) => link.selects(name),
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
        refuse(Writing::Copies(link), &link.target_topic(name), all, place, report);
    }
    // Also where no stage puts anything aside: records that are too large for their topics go there.
    refuse(Writing::DeadLetters(link), &link.dead_letters, all, &read.dead_letters_place, report);
}

fn refuse(writer: Writing<'_>, topic: &str, all: &[&LinkConfig], place: &Place, report: &Report<'_>) {
    match may_write(writer, topic, all) {
        // Of names that cannot be, and of links that go round, it is said elsewhere.
        Ok(()) | Err(Refused { why: Why::Loop | Why::Name(_), .. }) => {}
        Err(refused) => report.error_if_all_was_read(place, refused.to_string(), writer.remedy()),
    }
}

/// How other links bring what is routed to a topic back to where the link reads, if they do, and nobody leaves it out.
pub(super) fn circle_of_route(link: &LinkConfig, topic: &str, others: &[&LinkConfig]) -> Option<String> {
    let mut links: Vec<&LinkConfig> = others.iter().copied().filter(|other| other.id != link.id).collect();
    let route = Flow::Name(topic.into());
    let reads = |other: &&&LinkConfig| other.source == link.target && lets_in(other, &route);
    let mut paths: Vec<Vec<Step<'_>>> =
        links.iter().filter(reads).map(|first| vec![Step { link: first, flow: route.clone() }]).collect();
    links.push(link);
    let search = Search { links: &links, circles: BTreeSet::new() };
    let mut seen = BTreeSet::new();
    for _ in 0..STEPS_MAX {
        let path = paths.pop()?;
        for (next, flow) in search.next(path.last()?) {
            let is_back = next.id == link.id;
            let is_new = seen.insert((&next.id, flow.clone()));
            let longer: Vec<_> = path.iter().cloned().chain([Step { link: next, flow }]).collect();
            match is_back {
                true if !ends_by_itself(&longer) => return Some(describe(&longer)),
                false if is_new => paths.push(longer),
                _ => {}
            }
        }
    }
    None
}

/// What a selector lets in: itself, and the declared topics that it matches.
fn flows(link: &LinkConfig, selector: &TopicSelector, clusters: &BTreeMap<ClusterId, ClusterConfig>) -> Vec<Flow> {
    let declared = clusters.get(&link.source).into_iter().flat_map(|cluster| cluster.topics.keys());
    match selector {
        TopicSelector::Name(name) => vec![Flow::Name(name.clone())],
        TopicSelector::Pattern(pattern) => {
            let names = declared.cloned().chain([ANY_TOPIC.into()]);
            let names = names.filter(|name| pattern.matches(name) && link.selects(name));
            std::iter::once(Flow::Matching(pattern.expression().into())).chain(names.map(Flow::Name)).collect()
        }
    }
}

struct Search<'a> {
    links: &'a [&'a LinkConfig],
    /// The ids of the links of each circle found, so that it is reported once and not once for each of its links.
    circles: BTreeSet<BTreeSet<&'a str>>,
}

impl<'a> Search<'a> {
    /// Follow a flow through all links behind `start`, and answer a circle that was not known yet.
    fn follow(&mut self, start: Step<'a>) -> Option<Vec<Step<'a>>> {
        let mut seen = BTreeSet::new();
        let mut paths = vec![vec![start]];
        for _ in 0..STEPS_MAX {
            let path = paths.pop()?;
            let Some(last) = path.last() else { continue };
            for (link, flow) in self.next(last) {
                if let Some(first) = path.iter().position(|step| step.link.id == link.id) {
                    let circle = &path[first..];
                    if ends_by_itself(circle) {
                        continue;
                    }
                    if self.circles.insert(circle.iter().map(|step| &*step.link.id).collect()) {
                        return Some(circle.to_vec());
                    }
                } else if seen.insert((&link.id, flow.clone())) {
                    paths.push(path.iter().cloned().chain([Step { link, flow }]).collect());
                }
            }
        }
        None
    }

    /// The links that read what comes out of a step, and what goes into each.
    fn next(&self, step: &Step<'a>) -> Vec<(&'a LinkConfig, Flow)> {
        let readers = |flow: Option<Flow>| {
            let lets_in = |link: &LinkConfig, flow: &Flow| link.source == step.link.target && lets_in(link, flow);
            flow.into_iter().flat_map(move |flow| {
                let links = self.links.iter().copied().filter(|link| lets_in(link, &flow));
                links.map(|link| (link, flow.clone())).collect::<Vec<_>>()
            })
        };
        // A link that reads its own dead letters is reported by itself.
        let of_others = readers(step.dead_letters()).filter(|(link, _)| link.id != step.link.id);
        readers(step.output()).chain(of_others).collect()
    }
}

/// Whether records that go round are left out by the link that would bring them back to where they were. All have to do their part: a link that says nothing of where a
/// record has come through lets the next round begin.
fn ends_by_itself(circle: &[Step<'_>]) -> bool {
    let marks = |step: &Step<'_>| step.link.builtins.provenance.as_ref().is_some_and(|it| it.mark.is_some());
    circle.len() > 1 && circle.iter().all(marks)
}

impl Step<'_> {
    /// What comes out for the records that go on. `None` if that cannot be said.
    fn output(&self) -> Option<Flow> {
        let flow = match &self.flow {
            Flow::Name(name) => Some(Flow::Name(self.link.target_topic(name).into())),
            Flow::Matching(_) => {
                let keeps_names = self.link.topic_prefix.is_empty() && self.link.rename.is_empty();
                keeps_names.then(|| self.flow.clone())
            }
        };
        let too_long = |flow: &Flow| matches!(flow, Flow::Name(name) if name.len() > TOPIC_NAME_BYTES_MAX);
        flow.filter(|flow| !too_long(flow))
    }

    /// What comes out for the records that are put aside, if any are.
    fn dead_letters(&self) -> Option<Flow> {
        self.link.has_dead_letters().then(|| Flow::Name(self.link.dead_letters.as_str().into()))
    }
}

fn lets_in(link: &LinkConfig, flow: &Flow) -> bool {
    match flow {
        Flow::Name(name) => link.selects(name),
        Flow::Matching(expression) => link.topics.iter().any(|selector| match selector {
            TopicSelector::Pattern(pattern) => [&**expression, ".*"].contains(&pattern.expression()),
            TopicSelector::Name(_) => false,
        }),
    }
}

fn describe(circle: &[Step<'_>]) -> String {
    let show = |flow: &Flow| match flow {
        Flow::Name(name) => format!("{name:?}"),
        Flow::Matching(expression) => format!("/{expression}/"),
    };
    if let [Step { link, flow }] = circle {
        let written = match flow {
            Flow::Name(name) => format!("{name:?} goes to {:?}", link.target_topic(name)),
            Flow::Matching(_) => format!("topics of {} keep their names", show(flow)),
        };
        return format!("the link would read what it writes: {written} on the same cluster");
    }
    let steps =
        circle.iter().map(|step| format!("{} on {}, links.{}, ", show(&step.flow), step.link.source, step.link.id));
    format!("records would go round for ever: {}and so on", steps.collect::<String>())
}
