//! What is written about a link once, before its first commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::lane::now_ms;
use crate::config::{LinkConfig, Start};
use crate::connector::{Cluster, Topic};
use crate::model::{LinkId, TopicPartition};

/// Where the genesis is kept in the target.
pub(super) const GENESIS: &str = "genesis";

/// The version of [`Genesis`]'s encoding that this program writes.
pub(super) const GENESIS_VERSION: u32 = 1;

/// What is written about a link before its first commit. What it says can never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Genesis {
    pub(super) v: u32,
    /// When the link was made, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The number of lanes: it decides which lane owns which partition.
    pub lanes: u32,
    /// The source cluster.
    pub source: String,
    /// Where the link begins, by `<topic>-<partition>`: for one that starts at `latest` the end of each partition at genesis; for one that goes on where
    /// MirrorMaker 2 stopped the offset behind the last record that was copied.
    pub(super) ends: BTreeMap<String, i64>,
    /// MirrorMaker 2's topic of offsets, if it had copied before the link did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mirrormaker: Option<String>,
}

impl Genesis {
    /// What was written of a link, if anything was.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn stored(target: &dyn Cluster, link: &LinkId) -> Result<Option<Self>, Failure> {
        let Some(bytes) = target.metadata(link, GENESIS)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::fatal("genesis-unreadable", format!("the link's genesis: {error}"), "restore the target")
        })
    }

    /// What is written of a link that begins now.
    ///
    /// # Errors
    /// A cluster does not say where the link is to begin.
    pub(super) fn now(config: &LinkConfig, source: &dyn Cluster, target: &dyn Cluster) -> Result<Self, Failure> {
        let (ends, mirrormaker) = match &config.start {
            Start::Earliest => (BTreeMap::new(), None),
            Start::Latest => (source_ends(config, source)?, None),
            Start::MirrorMaker(before) => {
                let next = target.mirrormaker_offsets(before)?;
                let next = next.into_iter().map(|(partition, next)| (partition.to_string(), next));
                (next.collect(), Some(before.topic.to_string()))
            }
        };
        let source = config.source.to_string();
        Ok(Self { v: GENESIS_VERSION, at_ms: now_ms(), lanes: config.lanes, source, ends, mirrormaker })
    }

    /// Where the link begins in a partition, if this says so. Where MirrorMaker 2 has copied before counts for ever: a partition that nobody writes to has
    /// no checkpoint, and a file that has lost its `start` by then must not copy it twice.
    pub(super) fn start_of(&self, partition: &TopicPartition, start: &Start) -> Option<i64> {
        let counts = self.mirrormaker.is_some() || *start == Start::Latest;
        self.ends.get(&partition.to_string()).copied().filter(|_| counts)
    }

    /// Whether MirrorMaker 2 has copied records of a partition.
    pub(super) fn is_taken_over(&self, partition: &TopicPartition) -> bool {
        self.mirrormaker.is_some() && self.ends.contains_key(&partition.to_string())
    }

    /// This, if the link is still what it was made as.
    pub(super) fn checked(self, config: &LinkConfig) -> Result<Self, Failure> {
        if self.v > GENESIS_VERSION {
            let message = format!("the link has layout version {}: a newer tidegate made it", self.v);
            return Err(Failure::fatal("newer-layout", message, "use the newer tidegate"));
        }
        if self.lanes != config.lanes {
            let message = format!("the link was made with {} lanes, and has {} now", self.lanes, config.lanes);
            return Err(Failure::fatal("lanes-changed", message, "set `lanes` to what it was, or make a new link"));
        }
        if *self.source != *config.source {
            let message = format!("the link was made for source {}, and reads {} now", self.source, config.source);
            return Err(Failure::fatal("source-changed", message, "set `source` to what it was, or make a new link"));
        }
        Ok(self)
    }
}

fn source_ends(config: &LinkConfig, source: &dyn Cluster) -> Result<BTreeMap<String, i64>, Failure> {
    let topics = source.topics()?.into_iter().filter(|topic| config.selects(&topic.name));
    let of = |topic: Topic| (0..topic.partitions).map(move |number| TopicPartition::new(topic.name.clone(), number));
    let partitions: Vec<TopicPartition> = topics.flat_map(of).collect();
    let ranges = source.ranges_of(&partitions)?;
    Ok(partitions.iter().map(ToString::to_string).zip(ranges.into_iter().map(|range| range.end)).collect())
}
