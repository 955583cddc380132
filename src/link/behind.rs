//! Where a link begins that copies back to where records came from.
//!
//! Links that go both ways mark what they copy, and so neither copies what the other one has
//! brought. Records that were copied before a link marked them have no mark: the link the other way
//! begins behind them. A link stores where these end before it runs its first revision that marks
//! ([`Link::note_unmarked`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::genesis::{self, GENESIS, Genesis, of_lanes};
use super::revision::{History, RevisionRecord};
use super::supervisor::{Link, history_of};
use crate::config::Start;
use crate::connector::Cluster;
use crate::model::json_error::without_values;
use crate::model::{LinkId, TopicId, TopicPartition, encode};

/// Where unmarked records end: by `<topic>-<partition>`, the offset behind the last one.
type Ends = BTreeMap<String, i64>;

/// What a link stores before it marks.
#[derive(Serialize, Deserialize)]
struct Unmarked {
    v: u32,
    ends: Ends,
}

/// The version of what is stored.
const VERSION: u32 = 1;

/// Where a link begins because of others.
#[derive(Default)]
pub(super) struct Behind {
    /// The links that had copied to the source what came from the target.
    pub(super) links: Vec<String>,
    pub(super) ends: Ends,
}

impl Link {
    /// Store where the records end that the link has written without a mark, if `next` is the first
    /// revision that marks.
    pub(super) fn note_unmarked(&self, history: &History, next: &RevisionRecord) -> Result<(), Failure> {
        let before = history.revisions().iter().rev().find(|revision| revision.number < next.number);
        if !marks(next) || before.is_none_or(marks) {
            return Ok(());
        }
        let ends = ends_of(&**self.target(), &self.config().id)?;
        let text = encode("where unmarked records end", &Unmarked { v: VERSION, ends })?;
        // Another daemon may have been first, and its lanes may run already.
        self.replace(&key(next), None, &text).map(drop)
    }

    /// Where the link has to begin because links from its target have written to its source without
    /// marking it.
    pub(super) fn behind_others(&self) -> Result<Behind, Failure> {
        let config = self.config();
        let may_double = config.builtins.provenance.is_some() && config.start == Start::Earliest;
        let mut behind = Behind::default();
        if !may_double || config.start_is_said {
            return Ok(behind);
        }
        for (link, bytes) in self.source().metadata_of_all(GENESIS)? {
            let comes_from_target = |genesis: &Genesis| *genesis.source == *config.target;
            if link == config.id || !genesis::decode(&bytes).is_ok_and(|genesis| comes_from_target(&genesis)) {
                continue;
            }
            let ends = unmarked_by(&**self.source(), &link)?;
            if !ends.is_empty() {
                behind.links.push(link.to_string());
            }
            for (partition, end) in ends {
                let known = behind.ends.entry(partition).or_default();
                *known = end.max(*known);
            }
        }
        Ok(behind)
    }
}

fn marks(revision: &RevisionRecord) -> bool {
    revision.builtins.provenance.as_ref().is_some_and(|it| it.mark.is_some())
}

/// Where the records end that a link has written to a cluster without a mark.
fn unmarked_by(cluster: &dyn Cluster, link: &LinkId) -> Result<Ends, Failure> {
    loop {
        let history = history_of(cluster, link)?;
        // In this order: what is copied after a revision that marks was stored is not taken for
        // unmarked.
        let ends = ends_of(cluster, link)?;
        let revisions = history.revisions();
        let Some(unmarked) = revisions.iter().rposition(|revision| !marks(revision)).filter(|_| !ends.is_empty())
        else {
            return Ok(Ends::new());
        };
        if revisions[..=unmarked].iter().any(|revision| !marks(revision) && !revision.stages.is_empty()) {
            return Err(unknown(link, "a plugin may have sent them to any partition"));
        }
        match revisions.get(unmarked + 1) {
            Some(first) => {
                let stored = cluster.metadata(link, &key(first))?;
                return stored
                    .map_or_else(|| Err(unknown(link, "an older tidegate wrote them")), |it| decode(link, &it));
            }
            None if history_of(cluster, link)?.revisions().len() == revisions.len() => return Ok(ends),
            None => {}
        }
    }
}

/// Where a link has written to, by its checkpoints: the ends of the partitions that it copies to.
fn ends_of(cluster: &dyn Cluster, link: &LinkId) -> Result<Ends, Failure> {
    let checkpoints = of_lanes(cluster, link, |generation| Ok(cluster.checkpoints(link, generation)?))?;
    let names: BTreeMap<TopicId, Arc<str>> =
        cluster.topics()?.into_iter().map(|topic| (topic.id, topic.name)).collect();
    let end = |(partition, checkpoint): (TopicPartition, crate::model::Checkpoint)| {
        let name = names.get(&checkpoint.target_topic_id)?;
        Some((TopicPartition::new(name.clone(), partition.partition).to_string(), checkpoint.target_end_offset))
    };
    Ok(checkpoints.into_iter().filter_map(end).collect())
}

fn key(first_that_marks: &RevisionRecord) -> String {
    format!("unmarked-before-{}", first_that_marks.number.0)
}

fn decode(link: &LinkId, bytes: &[u8]) -> Result<Ends, Failure> {
    let unreadable = |why: String| {
        let message = format!("where unmarked records of link {link} end: {why}");
        Failure::fatal("unmarked-unreadable", message, "restore the source, or use a newer tidegate")
    };
    let stored: Unmarked =
        serde_json::from_slice(bytes).map_err(|error| unreadable(without_values(&error.to_string())))?;
    match stored.v {
        newer if newer > VERSION => Err(unreadable(format!("version {newer}: a newer tidegate wrote it"))),
        _ => Ok(stored.ends),
    }
}

fn unknown(link: &LinkId, why: &str) -> Failure {
    let message = format!(
        "link {link} has copied records to the source before it marked them, and where they end is unknown: {why}"
    );
    let remedy = "write `start` for the link that begins there: \"latest\", or \"earliest\" to copy those records back";
    Failure::fatal("start-unknown", message, remedy)
}
