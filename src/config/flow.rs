//! Follows what is copied from link to link, by name: the search behind [`circle`](super::circle).
//!
//! A flow takes the way that its name has: the functions that tell which topics a running link
//! copies, and under which names, tell it here. What another link keeps for itself ends no flow: that
//! link may go. Everything is bounded by the number of questions
//! and of edges.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::link::LinkConfig;
use super::topics::{TOPIC_NAME_BYTES_MAX, TopicSelector};

/// The most selectors that are asked whether they let a topic in, for all topics of all links
/// together: no definition keeps a core for long.
const QUESTIONS_MAX: usize = 2_000_000;

/// The most steps from link to link that are followed.
const EDGES_MAX: usize = 500_000;

/// What a search answers. It is bounded, so it may end before it has found what there is.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Answer<T> {
    /// Everything was followed, and there is nothing.
    Nothing,
    /// This.
    Found(T),
    /// The search has ended before everything was followed.
    NotKnown,
}

/// What is on its way from link to link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flow {
    /// A topic.
    Name(Arc<str>),
    /// Whatever topics match an expression, under the names that they have at the source.
    Matching(Arc<str>),
}

/// How a flow has come to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It was copied, under a name that follows from the one before.
    Copied,
    /// As dead letters or by a route, under a name that is always the same.
    Fixed,
}

/// A link that a flow goes through, and what comes in.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    pub(super) link: &'a LinkConfig,
    pub(super) flow: Flow,
    came: Came,
}

/// What is wrong with links together.
#[derive(Debug)]
pub(super) enum Fault<'a> {
    /// Records come back to where they were read: each step leads to the next one, and the last to
    /// the first.
    Circle(Vec<Step<'a>>),
    /// A flow comes back to the first link under another name, which the last step has.
    Growth(Vec<Step<'a>>),
}

impl<'a> Fault<'a> {
    pub(super) fn steps(&self) -> &[Step<'a>] {
        match self {
            Self::Circle(steps) | Self::Growth(steps) => steps,
        }
    }
}

/// Two ways on which a record comes to the same topic, as the links that it goes through.
#[derive(Debug)]
pub(super) struct Twice<'a> {
    pub(super) topic: Arc<str>,
    pub(super) ways: [Vec<&'a LinkConfig>; 2],
}

impl<'a> Step<'a> {
    pub(super) fn new(link: &'a LinkConfig, flow: Flow) -> Self {
        Self { link, flow, came: Came::Copied }
    }

    fn key(&self) -> (&'a str, Flow) {
        (&self.link.id, self.flow.clone())
    }

    /// What comes out for the records that go on. `None` if that cannot be said.
    fn output(&self) -> Option<Flow> {
        match &self.flow {
            Flow::Name(name) => {
                let target = self.link.target_topic(name);
                (target.len() <= TOPIC_NAME_BYTES_MAX).then(|| Flow::Name(target.into()))
            }
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

/// Whether a link says which clusters records come through, so that another one can leave them out.
pub(super) fn marks(link: &LinkConfig) -> bool {
    link.builtins.provenance.as_ref().is_some_and(|it| it.mark.is_some())
}

/// Whether a link gives topics other names.
fn renames(link: &LinkConfig) -> bool {
    !link.topic_prefix.is_empty() || !link.rename.is_empty()
}

/// The links that read a cluster, with their places in the order of all, by what lets something in.
#[derive(Default)]
struct Readers<'a> {
    by_name: HashMap<&'a str, Vec<usize>>,
    by_expression: HashMap<&'a str, Vec<usize>>,
    /// Those that have any expression.
    with_expressions: Vec<usize>,
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
            found.push(index);
        }
        if has_expressions {
            self.with_expressions.push(index);
            self.questions += link.topics.len() + link.topics_exclude.len();
        }
    }

    /// Those that may let a flow in.
    fn candidates(&self, flow: &Flow) -> BTreeSet<usize> {
        let listed = |list: Option<&Vec<usize>>| list.into_iter().flatten().copied().collect::<Vec<_>>();
        match flow {
            Flow::Name(name) => {
                listed(self.by_name.get(&**name)).into_iter().chain(self.with_expressions.iter().copied()).collect()
            }
            Flow::Matching(expression) => {
                let same = listed(self.by_expression.get(&**expression));
                same.into_iter().chain(listed(self.by_expression.get(".*"))).collect()
            }
        }
    }
}

/// Links, and who reads what of whom.
pub(super) struct Net<'a> {
    links: Vec<&'a LinkConfig>,
    readers: HashMap<&'a str, Readers<'a>>,
    /// What was asked already.
    known: HashMap<(&'a str, Flow), Rc<[usize]>>,
    /// A topic that a plugin of a link routes to.
    route: Option<(&'a str, Arc<str>)>,
    questions_left: usize,
    edges_left: usize,
    /// Whether the search has ended before everything was followed.
    is_cut_short: bool,
}

impl<'a> Net<'a> {
    pub(super) fn new(links: impl Iterator<Item = &'a LinkConfig>) -> Self {
        let links: Vec<&LinkConfig> = links.collect();
        let mut readers: HashMap<&str, Readers<'_>> = HashMap::new();
        for (index, link) in links.iter().enumerate() {
            readers.entry(&link.source).or_default().add(index, link);
        }
        Self {
            links,
            readers,
            known: HashMap::new(),
            route: None,
            questions_left: QUESTIONS_MAX,
            edges_left: EDGES_MAX,
            is_cut_short: false,
        }
    }

    /// The steps behind a topic that a link routes to.
    pub(super) fn routed(&mut self, link: &'a LinkConfig, topic: &str) -> Vec<Step<'a>> {
        self.route = Some((&link.id, topic.into()));
        let mut steps = self.fixed(link, Flow::Name(topic.into()));
        steps.retain(|step| step.link.id != link.id);
        steps
    }

    /// The faults behind these steps that `concern` whoever asks, each with the number of the step
    /// that led to it. Links that are in a fault together are in one.
    pub(super) fn faults(
        &mut self,
        starts: &[Step<'a>],
        concern: impl Fn(&Fault<'a>) -> bool,
    ) -> Answer<Vec<(usize, Fault<'a>)>> {
        let mut found = Faults::default();
        let graph = self.explore(starts, &mut found);
        for node in 0..graph.nodes.len() {
            let link = graph.nodes[node].0.link;
            // All links on the way have to do their part: one that says nothing of where a record
            // has come through lets the next round begin.
            if (!marks(link) || link.source == link.target)
                && let Some(circle) = self.circle(&graph, node)
            {
                found.add(graph.nodes[node].1, Fault::Circle(circle));
            }
        }
        let mut found = found.found;
        found.retain(|(_, fault)| concern(fault));
        if found.is_empty() { self.nothing_found() } else { Answer::Found(found) }
    }

    /// What is said where nothing was found.
    fn nothing_found<T>(&self) -> Answer<T> {
        if self.is_cut_short { Answer::NotKnown } else { Answer::Nothing }
    }

    /// All steps that there are behind these, and how they follow each other. Names that grow are
    /// faults, and not followed.
    fn explore(&mut self, starts: &[Step<'a>], faults: &mut Faults<'a>) -> Graph<'a> {
        let mut graph = Graph::default();
        // A selector lets in what the link leaves out, too.
        let is_copied = |step: &Step<'_>| match &step.flow {
            Flow::Name(name) => step.link.may_come_to_copy(name),
            Flow::Matching(_) => true,
        };
        for (root, start) in starts.iter().enumerate().filter(|(_, start)| is_copied(start)) {
            graph.node(start.clone(), root);
            let mut next = graph.next.len();
            while next < graph.nodes.len() {
                let (step, root) = graph.nodes[next].clone();
                let growth = if renames(step.link) { self.growth(&step) } else { None };
                let steps = if growth.is_some() { Vec::new() } else { self.next(&step) };
                if let Some(growth) = growth {
                    faults.add(root, Fault::Growth(growth));
                }
                let following = steps.into_iter().map(|step| graph.node(step, root)).collect();
                graph.next.push(following);
                next += 1;
            }
        }
        graph
    }

    /// How a flow comes back to a link under another name, if one does behind this step.
    fn growth(&mut self, start: &Step<'a>) -> Option<Vec<Step<'a>>> {
        let mut tree: Vec<(Step<'a>, Option<usize>)> = vec![(start.clone(), None)];
        let mut seen = HashSet::from([start.key()]);
        let mut at = 0;
        while at < tree.len() {
            for next in self.next(&tree[at].0.clone()) {
                if let Some(circle) = renamed(&tree, at, &next) {
                    return Some(circle);
                }
                if seen.insert(next.key()) {
                    tree.push((next, Some(at)));
                }
            }
            at += 1;
        }
        None
    }

    /// The shortest way from a step back to itself.
    fn circle(&mut self, graph: &Graph<'a>, node: usize) -> Option<Vec<Step<'a>>> {
        let mut before: HashMap<usize, usize> = HashMap::new();
        let mut waiting = std::collections::VecDeque::from([node]);
        while let Some(at) = waiting.pop_front() {
            for next in &graph.next[at] {
                self.spend_edges(1)?;
                if *next == node {
                    let mut way = vec![at];
                    while let Some(earlier) = way.last().and_then(|last| before.get(last)) {
                        way.push(*earlier);
                    }
                    return Some(way.into_iter().rev().map(|node| graph.nodes[node].0.clone()).collect());
                }
                if !before.contains_key(next) {
                    before.insert(*next, at);
                    waiting.push_back(*next);
                }
            }
        }
        None
    }

    /// Two ways of links that all mark and are `among` those asked about, on which records of a
    /// topic come to the same topic elsewhere.
    pub(super) fn twice(
        &mut self,
        cluster: &'a str,
        topic: &Arc<str>,
        among: impl Fn(&LinkConfig) -> bool,
    ) -> Answer<Twice<'a>> {
        let mut ways: Vec<(Arc<str>, Vec<&'a LinkConfig>)> = vec![(topic.clone(), Vec::new())];
        let mut there: HashMap<(&'a str, Arc<str>), usize> = HashMap::from([((cluster, topic.clone()), 0)]);
        let mut at = 0;
        while at < ways.len() {
            let (name, way) = ways[at].clone();
            let here = way.last().map_or(cluster, |link| &link.target);
            for index in self.readers_of(here, &Flow::Name(name.clone())).iter() {
                let link = self.links[*index];
                // What has come through a cluster does not come there again: it names the sources
                // of the links before.
                let was_there = way.iter().any(|earlier| earlier.source == link.target);
                if !marks(link) || !among(link) || was_there {
                    continue;
                }
                let target: Arc<str> = link.target_topic(&name).into();
                let longer: Vec<_> = way.iter().copied().chain([link]).collect();
                match there.get(&(&*link.target, target.clone())) {
                    Some(other) => {
                        return Answer::Found(Twice { topic: target, ways: [ways[*other].1.clone(), longer] });
                    }
                    None => {
                        there.insert((&*link.target, target.clone()), ways.len());
                        ways.push((target, longer));
                    }
                }
            }
            at += 1;
        }
        self.nothing_found()
    }

    /// The links that read what comes out of a step, and what goes into each.
    fn next(&mut self, step: &Step<'a>) -> Vec<Step<'a>> {
        let link = step.link;
        let mut found: Vec<Step<'a>> = Vec::new();
        if let Some(flow) = step.output() {
            let readers = self.readers_of(&link.target, &flow);
            found.extend(readers.iter().map(|index| Step::new(self.links[*index], flow.clone())));
        }
        // A link that reads its own dead letters is reported by itself.
        let letters = step.dead_letters().map(|flow| self.fixed(link, flow)).unwrap_or_default();
        let route = self.route.clone().filter(|(id, _)| **id == *link.id);
        let routed = route.map(|(_, topic)| self.fixed(link, Flow::Name(topic))).unwrap_or_default();
        found.extend(letters.into_iter().chain(routed).filter(|next| next.link.id != link.id));
        found
    }

    /// The links that read what a link writes under a name that is always the same.
    fn fixed(&mut self, link: &'a LinkConfig, flow: Flow) -> Vec<Step<'a>> {
        let readers = self.readers_of(&link.target, &flow);
        let step = |index: &usize| Step { came: Came::Fixed, ..Step::new(self.links[*index], flow.clone()) };
        readers.iter().map(step).collect()
    }

    /// The links that copy a flow from a cluster, in the order of all.
    fn readers_of(&mut self, cluster: &'a str, flow: &Flow) -> Rc<[usize]> {
        let found = match self.known.get(&(cluster, flow.clone())) {
            Some(found) => found.clone(),
            None => {
                let found: Rc<[usize]> = self.ask(cluster, flow).into();
                self.known.insert((cluster, flow.clone()), found.clone());
                found
            }
        };
        if self.spend_edges(found.len()).is_some() { found } else { Rc::new([]) }
    }

    fn ask(&mut self, cluster: &str, flow: &Flow) -> Vec<usize> {
        let Some(readers) = self.readers.get(cluster) else { return Vec::new() };
        let Some(left) = self.questions_left.checked_sub(1 + readers.questions) else {
            self.is_cut_short = true;
            return Vec::new();
        };
        self.questions_left = left;
        let copies = |index: &usize| match flow {
            Flow::Name(name) => self.links[*index].may_come_to_copy(name),
            Flow::Matching(_) => true,
        };
        readers.candidates(flow).into_iter().filter(copies).collect()
    }

    /// `None` if there are no more.
    fn spend_edges(&mut self, edges: usize) -> Option<()> {
        match self.edges_left.checked_sub(edges) {
            Some(left) => self.edges_left = left,
            None => self.is_cut_short = true,
        }
        (!self.is_cut_short).then_some(())
    }
}

/// The steps from where the link of `next` took in another name than now, if it did, and only
/// copies were made since.
fn renamed<'a>(tree: &[(Step<'a>, Option<usize>)], at: usize, next: &Step<'a>) -> Option<Vec<Step<'a>>> {
    let mut circle = vec![next.clone()];
    let mut at = Some(at);
    while let Some(step) = at.filter(|_| circle.last().is_some_and(|step| step.came == Came::Copied)) {
        let (step, before) = &tree[step];
        circle.push(step.clone());
        if step.link.id == next.link.id {
            circle.reverse();
            return (step.flow != next.flow).then_some(circle);
        }
        at = *before;
    }
    None
}

/// Steps and which follow which.
#[derive(Default)]
struct Graph<'a> {
    /// With the number of the start that led there.
    nodes: Vec<(Step<'a>, usize)>,
    next: Vec<Vec<usize>>,
    numbers: HashMap<(&'a str, Flow), usize>,
}

impl<'a> Graph<'a> {
    fn node(&mut self, step: Step<'a>, root: usize) -> usize {
        let number = *self.numbers.entry(step.key()).or_insert(self.nodes.len());
        if number == self.nodes.len() {
            self.nodes.push((step, root));
        }
        number
    }
}

/// Faults, of each set of links one.
#[derive(Default)]
struct Faults<'a> {
    found: Vec<(usize, Fault<'a>)>,
    links: HashSet<BTreeSet<&'a str>>,
}

impl<'a> Faults<'a> {
    fn add(&mut self, root: usize, fault: Fault<'a>) {
        if self.links.insert(fault.steps().iter().map(|step| &*step.link.id).collect()) {
            self.found.push((root, fault));
        }
    }
}
