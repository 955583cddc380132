//! Links that read what they write: records would go round for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::ClusterId;

use super::cluster::ClusterConfig;
use super::link::{LinkConfig, ReadLink};
use super::report::Report;
use super::topics::{TOPIC_NAME_BYTES_MAX, TopicSelector};

/// The most steps that are followed from one topic. Sensible links need a few; every two links with different
/// prefixes that follow each other double the number of names.
const STEPS_MAX: usize = 10_000;

/// Whether the link would read what it writes to this topic of its target. For topics that are found while the link runs, and
/// for topics that plugins route to: what the configuration names itself was checked when it was read.
pub fn would_loop(link: &LinkConfig, target_topic: &str) -> bool {
    link.source == link.target && link.selects(target_topic)
}

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
    let mut search = Search { links: &links, circles: BTreeSet::new() };
    for read in &links {
        for (selector, place) in read.link.topics.iter().zip(&read.topic_places) {
            for flow in flows(&read.link, selector, clusters) {
                if let Some(circle) = search.follow(Step { link: &read.link, flow }) {
                    report.error_if_all_was_read(
                        place,
                        describe(&circle),
                        "set a topic_prefix, or choose other topics",
                    );
                }
            }
        }
    }
}

/// What a selector lets in: itself, and the declared topics that it matches.
fn flows(link: &LinkConfig, selector: &TopicSelector, clusters: &BTreeMap<ClusterId, ClusterConfig>) -> Vec<Flow> {
    let declared = clusters.get(&link.source).into_iter().flat_map(|cluster| cluster.topics.keys());
    match selector {
        TopicSelector::Name(name) => vec![Flow::Name(name.clone())],
        TopicSelector::Pattern(pattern) => std::iter::once(Flow::Matching(pattern.expression().into()))
            .chain(declared.filter(|topic| pattern.matches(topic)).map(|topic| Flow::Name(topic.clone())))
            .collect(),
    }
}

struct Search<'a> {
    links: &'a [&'a ReadLink],
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
            let Some((cluster, flow)) = path.last().and_then(Step::output) else { continue };
            let readers = self.links.iter().map(|read| &read.link).filter(|link| link.source == *cluster);
            for link in readers.filter(|link| lets_in(link, &flow)) {
                if let Some(first) = path.iter().position(|step| step.link.id == link.id) {
                    let circle = &path[first..];
                    if self.circles.insert(circle.iter().map(|step| &*step.link.id).collect()) {
                        return Some(circle.to_vec());
                    }
                } else if seen.insert((&link.id, flow.clone())) {
                    let step = Step { link, flow: flow.clone() };
                    paths.push(path.iter().cloned().chain([step]).collect());
                }
            }
        }
        None
    }
}

impl<'a> Step<'a> {
    /// What comes out, and where. `None` if that cannot be said.
    fn output(&self) -> Option<(&'a ClusterId, Flow)> {
        let flow = match &self.flow {
            Flow::Name(name) => Some(Flow::Name(self.link.target_topic(name).into())),
            Flow::Matching(_) => self.link.topic_prefix.is_empty().then(|| self.flow.clone()),
        };
        let too_long = |flow: &Flow| matches!(flow, Flow::Name(name) if name.len() > TOPIC_NAME_BYTES_MAX);
        Some((&self.link.target, flow.filter(|flow| !too_long(flow))?))
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
