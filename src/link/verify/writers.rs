//! Who else writes to the topics of the target, and how their records are told from those of the
//! link.
//!
//! Three things tell: the mark that a link of a net puts on all its records, the link that a dead
//! letter names, and the checkpoints of other links. The mark is asked of the revisions that have
//! handled records and not of the configuration: what was copied before a link marked has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::terms::Others;
use crate::config::LinkConfig;
use crate::connector::{Cluster, Error, Topic};
use crate::link::builtins::has_come_through;
use crate::link::genesis::{self, GENESIS};
use crate::link::letters::link_of;
use crate::link::pipeline::Pipeline;
use crate::model::{LinkId, RecordRef, TopicId};

/// Who writes to the topics of the target.
#[derive(Debug, Default)]
pub(super) struct Writers {
    link: String,
    source: String,
    dead_letters: String,
    /// The clusters that records of the link say they have come through.
    marks: BTreeSet<String>,
    /// Whether a revision has written records that say nothing.
    some_unmarked: bool,
    /// The other links that write to a topic records that no mark tells from those of the link.
    links: BTreeMap<Arc<str>, BTreeSet<LinkId>>,
}

impl Writers {
    pub(super) fn new(config: &LinkConfig) -> Self {
        let (link, source) = (config.id.to_string(), config.source.to_string());
        Self { link, source, dead_letters: config.dead_letters.clone(), ..Self::default() }
    }

    /// Take in a revision that has handled records; `None`: one that cannot be loaded.
    pub(super) fn add_revision(&mut self, pipeline: Option<&Pipeline>) {
        match pipeline.and_then(|pipeline| pipeline.builtins.mark()) {
            Some(mark) => drop(self.marks.insert(mark.to_owned())),
            None => self.some_unmarked = true,
        }
    }

    /// Ask the target which other links write to these of its topics. Where all records of the link
    /// say where they have come through, links of the same source say the same.
    pub(super) fn find_links(&mut self, target: &dyn Cluster, topics: &[Topic]) -> Result<(), Error> {
        let all_are_marked = !self.some_unmarked && !self.marks.is_empty();
        let others = target.metadata_of_all(GENESIS)?.into_keys().filter(|id| **id != *self.link);
        for id in others {
            // What cannot be read of another link is no reason to know less of this one.
            let Ok(Some((source, written))) = written_by(target, &id) else { continue };
            if all_are_marked && source != self.source {
                continue;
            }
            for topic in topics.iter().filter(|topic| written.contains(&topic.id)) {
                self.links.entry(topic.name.clone()).or_default().insert(id.clone());
            }
        }
        Ok(())
    }

    /// Who else may have written records of a topic.
    pub(super) fn others(&self, topic: &str) -> Others {
        if *topic == *self.dead_letters {
            return Others::Named;
        }
        match (self.links.contains_key(topic), self.marks.is_empty(), self.some_unmarked) {
            (true, false, false) => Others::NamedAndUnnamed,
            (true, ..) => Others::Unnamed,
            (false, false, false) => Others::Named,
            (false, false, true) => Others::MaybeNamed,
            (false, true, _) => Others::Nobody,
        }
    }

    /// Whether a record of a topic of the target says that another has written it.
    pub(super) fn is_foreign(&self, topic: &str, record: RecordRef<'_>) -> bool {
        if *topic == *self.dead_letters {
            return link_of(record).is_some_and(|link| link != self.link.as_bytes());
        }
        !self.marks.is_empty() && !self.marks.iter().any(|mark| has_come_through(record, mark))
    }

    /// Why records of a topic are taken for those of others.
    pub(super) fn reason(&self, topic: &str) -> String {
        if *topic == *self.dead_letters {
            return "these are dead letters of other links".to_owned();
        }
        match (self.others(topic), self.links.get(topic)) {
            (Others::Unnamed | Others::NamedAndUnnamed, Some(links)) => {
                let links: Vec<&str> = links.iter().map(|link| &**link).collect();
                format!("no source record becomes these; link {} writes to this topic too", links.join(", "))
            }
            _ => {
                let marks: Vec<&str> = self.marks.iter().map(String::as_str).collect();
                format!("these do not say tidegate.via {}: others have written them", marks.join(" or "))
            }
        }
    }
}

/// The source of a link, and the topics that it has written to, routes aside.
fn written_by(target: &dyn Cluster, link: &LinkId) -> Result<Option<(String, BTreeSet<TopicId>)>, Error> {
    let Some(stored) = genesis::read(target, link)? else { return Ok(None) };
    let checkpoints = target.checkpoints(link, stored.genesis.generation)?;
    let topics = checkpoints.into_values().map(|checkpoint| checkpoint.target_topic_id).collect();
    Ok(Some((stored.genesis.source, topics)))
}
