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

/// The most selectors that are asked whether they let a topic in, for all topics of all links together: no
/// definition keeps a core for long.
const QUESTIONS_MAX: usize = 2_000_000;

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

/// Report every circle that one of these links is part of, together with those that are known already. Topics are known as far as links or clusters name them.
pub(super) fn refuse_circles<'a>(
    links: impl Iterator<Item = &'a ReadLink>,
    known: impl Iterator<Item = &'a ReadLink>,
    clusters: &BTreeMap<ClusterId, ClusterConfig>,
    report: &Report<'_>,
) {
    let new: Vec<_> = links.collect();
    let all: Vec<_> = new.iter().copied().chain(known).collect();
    let configs: Vec<&LinkConfig> = all.iter().map(|read| &read.link).collect();
    for read in &new {
        refuse_own_dead_letters(read, report);
        refuse_names_of_others(read, &configs, report);
        refuse_names_for_others(read, &configs[new.len()..], report);
    }
    let near = Circular::of(&new, &all);
    let mut search = Search::new(near.links.iter().map(|read| &read.link));
    for read in &near.links {
        let mut followed = BTreeSet::new();
        for (selector, place) in read.link.topics.iter().zip(&read.topic_places) {
            for flow in flows(&read.link, selector, clusters) {
                if !followed.insert(flow.clone()) {
                    continue;
                }
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
    if let Some(first) = new.first().filter(|_| search.is_cut_short) {
        let message =
            "the topics of this link and of those around it are too many to be followed: records could go round";
        report.error_if_all_was_read(
            &first.target_place,
            message,
            "name topics instead of expressions, or select fewer",
        );
    }
}

/// The links that can be part of a circle with a new one, by their clusters alone: most links are part of none, and nothing of theirs is followed.
struct Circular<'a> {
    links: Vec<&'a ReadLink>,
}

impl<'a> Circular<'a> {
    fn of(new: &[&'a ReadLink], all: &[&'a ReadLink]) -> Self {
        let mut targets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for read in all {
            targets.entry(&read.link.source).or_default().insert(&read.link.target);
        }
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

/// Report a link because of which one that is known could not write any more: what it guards, or where it puts aside.
fn refuse_names_for_others(read: &ReadLink, known: &[&LinkConfig], report: &Report<'_>) {
    let new = &read.link;
    for other in known.iter().filter(|other| other.id != new.id && other.target == new.target) {
        let copies = other.topics.iter().filter_map(|selector| match selector {
            TopicSelector::Name(name) => Some((Writing::Copies(other), other.target_topic(name))),
            TopicSelector::Pattern(_) => None,
        });
        let letters = (Writing::DeadLetters(other), other.dead_letters.as_str().into());
        for (writer, topic) in copies.chain([letters]) {
            let Err(refused) = may_write(writer, &topic, &[new]) else { continue };
            if matches!(refused.why, Why::StandsBy(_) | Why::DeadLettersOf(_)) {
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

/// How other links bring what is routed to a topic back to where the link reads, if they do, and nobody leaves it out.
pub(super) fn circle_of_route(link: &LinkConfig, topic: &str, others: &[&LinkConfig]) -> Option<String> {
    let others = others.iter().copied().filter(|other| other.id != link.id);
    let search = Search::new(others.chain([link]));
    let route = Flow::Name(topic.into());
    let first = search.readers.get(&*link.target).map_or_else(Vec::new, |readers| readers.of(&route));
    let first = first.into_iter().filter(|first| first.id != link.id);
    let mut paths: Vec<_> = first.map(|link| vec![Step { link, flow: route.clone() }]).collect();
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
    /// The links that read a cluster.
    readers: BTreeMap<&'a str, Readers<'a>>,
    /// How many more selectors may be asked, see [`QUESTIONS_MAX`].
    questions_left: usize,
    /// Whether the search has ended before everything was followed.
    is_cut_short: bool,
    /// The ids of the links of each circle found, so that it is reported once and not once for each of its links.
    circles: BTreeSet<BTreeSet<&'a str>>,
}

/// The links that read a cluster, with their places in the order of all, by what lets something in.
#[derive(Default)]
struct Readers<'a> {
    by_name: BTreeMap<&'a str, Vec<(usize, &'a LinkConfig)>>,
    by_expression: BTreeMap<&'a str, Vec<(usize, &'a LinkConfig)>>,
    /// Those that have any expression.
    with_expressions: Vec<(usize, &'a LinkConfig)>,
    /// How many selectors these have.
    questions: usize,
}

impl<'a> Readers<'a> {
    fn add(&mut self, index: usize, link: &'a LinkConfig) {
        let mut has_expressions = false;
        for selector in &link.topics {
            let found = match selector {
                TopicSelector::Name(name) => self.by_name.entry(name).or_default(),
                TopicSelector::Pattern(pattern) => {
                    has_expressions = true;
                    self.by_expression.entry(pattern.expression()).or_default()
                }
            };
            found.push((index, link));
        }
        if has_expressions {
            self.with_expressions.push((index, link));
            self.questions += link.topics.len() + link.topics_exclude.len();
        }
    }

    /// Those that let a flow in, in the order of all links.
    fn of(&self, flow: &Flow) -> Vec<&'a LinkConfig> {
        let listed = |list: Option<&Vec<(usize, &'a LinkConfig)>>| list.into_iter().flatten().copied().collect();
        let mut found: Vec<(usize, &LinkConfig)> = match flow {
            Flow::Name(name) => {
                let mut named: Vec<_> = listed(self.by_name.get(&**name));
                named.extend(&self.with_expressions);
                named.retain(|(_, link)| link.selects(name));
                named
            }
            Flow::Matching(expression) => {
                let mut same: Vec<_> = listed(self.by_expression.get(&**expression));
                same.extend(self.by_expression.get(".*").into_iter().flatten());
                same
            }
        };
        found.sort_unstable_by_key(|(index, _)| *index);
        found.dedup_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, link)| link).collect()
    }
}

impl<'a> Search<'a> {
    fn new(links: impl Iterator<Item = &'a LinkConfig>) -> Self {
        let mut readers: BTreeMap<&str, Readers<'_>> = BTreeMap::new();
        for (index, link) in links.enumerate() {
            readers.entry(&link.source).or_default().add(index, link);
        }
        Self { readers, questions_left: QUESTIONS_MAX, is_cut_short: false, circles: BTreeSet::new() }
    }

    /// Follow a flow through all links behind `start`, and answer a circle that was not known yet.
    fn follow(&mut self, start: Step<'a>) -> Option<Vec<Step<'a>>> {
        let mut seen = BTreeSet::new();
        let mut paths = vec![vec![start]];
        for _ in 0..STEPS_MAX {
            let path = paths.pop()?;
            let Some(last) = path.last() else { continue };
            let questions = self.readers.get(&*last.link.target).map_or(1, |readers| 1 + 2 * readers.questions);
            let Some(left) = self.questions_left.checked_sub(questions) else {
                self.is_cut_short = true;
                return None;
            };
            self.questions_left = left;
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
            let flow = flow.filter(|flow| !matches!(flow, Flow::Name(name) if name.len() > TOPIC_NAME_BYTES_MAX));
            let found = flow.and_then(|flow| Some((self.readers.get(&*step.link.target)?.of(&flow), flow)));
            found.into_iter().flat_map(|(links, flow)| links.into_iter().map(move |link| (link, flow.clone())))
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
        match &self.flow {
            Flow::Name(name) => Some(Flow::Name(self.link.target_topic(name).into())),
            Flow::Matching(_) => {
                let keeps_names = self.link.topic_prefix.is_empty() && self.link.rename.is_empty();
                keeps_names.then(|| self.flow.clone())
            }
        }
    }

    /// What comes out for the records that are put aside, if any are.
    fn dead_letters(&self) -> Option<Flow> {
        self.link.has_dead_letters().then(|| Flow::Name(self.link.dead_letters.as_str().into()))
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
