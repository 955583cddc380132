//! The links and clusters that a link which marks shares records with.
//!
//! A mark says which clusters a record has come through. Records that were copied without a mark say
//! nothing, so a link that begins has to know where such records are that reach it, or have reached
//! its target, on another way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flow::marks;
use super::link::LinkConfig;
use super::writing::KeptByAll;
use crate::model::{ClusterId, LinkId};

/// The links between clusters that are joined by links which mark, as far as whoever reads the
/// configuration knows them.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    links: Vec<Neighbour>,
}

#[derive(Clone, Debug)]
struct Neighbour {
    id: LinkId,
    source: ClusterId,
    target: ClusterId,
    marks: bool,
}

impl Neighbour {
    fn of(link: &LinkConfig) -> Self {
        Self { id: link.id.clone(), source: link.source.clone(), target: link.target.clone(), marks: marks(link) }
    }
}

impl Neighbours {
    /// The clusters.
    pub fn clusters(&self) -> BTreeSet<&ClusterId> {
        self.links.iter().flat_map(|link| [&link.source, &link.target]).collect()
    }

    /// Whether a link is one of them and brings records from `source` to `target` that come there
    /// on no other way, or one that does not mark: then two ways are no fault.
    pub fn has_only_way(&self, link: &str, source: &str, target: &str) -> bool {
        let is_it = |it: &&Neighbour| *it.id == *link && *it.source == *source && *it.target == *target;
        self.links.iter().find(is_it).is_some_and(|it| !it.marks || !self.is_round_about(source, target))
    }

    /// Whether there is a way from one cluster to another one beside the links between them.
    fn is_round_about(&self, from: &str, to: &str) -> bool {
        let is_between = |it: &Neighbour| {
            let ends = [&*it.source, &*it.target];
            ends.contains(&from) && ends.contains(&to)
        };
        let others: Vec<&Neighbour> = self.links.iter().filter(|it| it.marks && !is_between(it)).collect();
        let mut reached = BTreeSet::from([from]);
        let mut count = 0;
        while reached.len() > count {
            count = reached.len();
            for it in &others {
                if reached.contains(&*it.source) || reached.contains(&*it.target) {
                    reached.extend([&*it.source, &*it.target]);
                }
            }
        }
        reached.contains(to)
    }
}

/// Have each of these links know its neighbours among them and `known`, and what all of them keep for themselves.
pub(super) fn introduce<'a>(new: impl Iterator<Item = &'a mut LinkConfig>, known: &[LinkConfig]) {
    let mut new: Vec<&mut LinkConfig> = new.collect();
    let all: Vec<&LinkConfig> = new.iter().map(|link| &**link).chain(known).collect();
    let found = neighbours_of(&all);
    let kept = KeptByAll::of(all.into_iter());
    for (link, neighbours) in new.iter_mut().zip(found) {
        link.neighbours = neighbours;
        link.kept = kept.clone();
    }
}

/// The neighbours of each of these links.
pub fn neighbours_of(links: &[&LinkConfig]) -> Vec<Arc<Neighbours>> {
    let all: Vec<Neighbour> = links.iter().map(|link| Neighbour::of(link)).collect();
    // Clusters that links which mark join are parts; two that a link joins become one.
    let mut part_of: BTreeMap<&ClusterId, usize> = BTreeMap::new();
    let mut parts: Vec<Vec<&ClusterId>> = Vec::new();
    for it in all.iter().filter(|it| it.marks) {
        let [one, other] = [&it.source, &it.target].map(|cluster| {
            *part_of.entry(cluster).or_insert_with(|| {
                parts.push(vec![cluster]);
                parts.len() - 1
            })
        });
        if one != other {
            let (keeps, gives) = if parts[one].len() >= parts[other].len() { (one, other) } else { (other, one) };
            let moved = std::mem::take(&mut parts[gives]);
            part_of.extend(moved.iter().map(|cluster| (*cluster, keeps)));
            parts[keeps].extend(moved);
        }
    }
    let part = |it: &Neighbour| part_of.get(&it.source).filter(|part| part_of.get(&it.target) == Some(*part)).copied();
    let mut neighbours: BTreeMap<usize, Neighbours> = BTreeMap::new();
    for it in &all {
        if let Some(part) = part(it) {
            neighbours.entry(part).or_default().links.push(it.clone());
        }
    }
    let neighbours: BTreeMap<usize, Arc<Neighbours>> =
        neighbours.into_iter().map(|(part, links)| (part, Arc::new(links))).collect();
    let of = |it: &Neighbour| neighbours.get(&part(it).filter(|_| it.marks)?).cloned();
    all.iter().map(|it| of(it).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// Links as `id source target`, those that mark with a star before it.
    fn links(of: &[&str]) -> Vec<LinkConfig> {
        let mut text: String =
            ["a", "b", "c", "d", "e"].map(|id| format!("[clusters.{id}]\nkind = \"embedded\"\n")).concat();
        for (number, link) in of.iter().enumerate() {
            let words: Vec<&str> = link.trim_start_matches('*').split(' ').collect();
            let marks = link.starts_with('*');
            text += &format!(
                "[links.{}]\nsource = \"{}\"\ntarget = \"{}\"\ntopics = [\"t{number}\"]\nprovenance = {marks}\n",
                words[0], words[1], words[2]
            );
        }
        let (config, _) = Config::parse(&text, "test", Path::new("")).unwrap_or_else(|found| panic!("{found:?}"));
        config.links.into_values().collect()
    }

    #[test]
    fn links_that_mark_join_clusters_and_others_do_not() {
        let found = links(&["*ab a b", "*bc b c", "cd c d", "*de d e", "ac a c", "*ba b a"]);
        let clusters = |id: &str| {
            let link = found.iter().find(|link| *link.id == *id).expect("the link");
            link.neighbours.clusters().iter().map(|cluster| cluster.to_string()).collect::<Vec<_>>()
        };
        for id in ["ab", "bc", "ba"] {
            assert_eq!(clusters(id), ["a", "b", "c"], "{id}");
        }
        assert_eq!(clusters("de"), ["d", "e"]);
        assert!(clusters("cd").is_empty() && clusters("ac").is_empty(), "they mark nothing");
    }

    #[test]
    fn a_way_is_the_only_one_where_no_other_goes_around() {
        let star = &links(&["*ab a b", "*ba b a", "*ac a c", "*ca c a", "bc b c"])[0].neighbours;
        assert!(star.has_only_way("ab", "a", "b") && star.has_only_way("ca", "c", "a"));
        assert!(star.has_only_way("bc", "b", "c"), "one that does not mark may be a second one");
        assert!(!star.has_only_way("old", "b", "c") && !star.has_only_way("old", "a", "b"), "it is gone");
        assert!(!star.has_only_way("ab", "b", "a"), "it goes the other way");
        let ring = &links(&["*ab a b", "*bc b c", "*ca c a"])[0].neighbours;
        assert!(!ring.has_only_way("ab", "a", "b"), "by c");
    }
}
