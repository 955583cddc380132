//! Where a link begins and goes on that copies back to where records came from.
//!
//! Links that go both ways mark what they copy, and so neither copies what the other one has
//! brought. Records that were copied before a link marked them have no mark: the link the other way
//! begins behind them. A link stores where these end before it runs its first revision that marks
//! ([`Link::note_unmarked`]), and marks from then on ([`Link::with_marks`]).
//!
//! Three things are looked at:
//! - A link that begins ([`Link::behind_others`]) begins behind what links from its target have
//!   written to its source.
//! - A lane that opens ([`Shared::check_behind`]) does not go on through such records. They came
//!   while the link did not run, and clients may have written among them: a person decides.
//! - A link that begins does not where records without a mark have come between its neighbours on
//!   another way ([`Link::refuse_strange_past`]): they would come twice, and which records these are
//!   cannot be told. What is seen are the clusters of its neighbours and topics that have one name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::genesis::{self, GENESIS, Genesis, of_lanes};
use super::reset::resets_of;
use super::revision::{Content, History, RevisionRecord};
use super::supervisor::{Link, Shared, history_of};
use crate::config::{LinkConfig, Start};
use crate::connector::{Class, Cluster, PartitionRange, Patience, RevisionStart};
use crate::model::json_error::without_values;
use crate::model::partition::lane_of;
use crate::model::{Builtins, Checkpoint, LinkId, RevisionNumber, TopicId, TopicPartition, encode};

/// The code of a link that begins when all lanes of another one mark.
pub(super) const MARKS_UNDER_WAY: &str = "marks-under-way";

/// Where unmarked records end: by `<topic>-<partition>`, the offset behind the last one.
type Ends = BTreeMap<String, i64>;

/// What a link stores before it marks.
#[derive(Serialize, Deserialize)]
struct Unmarked {
    v: u32,
    ends: Ends,
    /// The checkpoints that stood for these ends, by source partition. Lanes of other daemons may
    /// have gone on without a mark until they heard of the new revision. The first versions did not
    /// say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<BTreeMap<String, i64>>,
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

/// What a link has written without a mark to where another one reads.
pub(super) struct Past {
    link: LinkId,
    /// When the first revision that did so was published.
    since_ms: i64,
    /// When one was published that marks.
    until_ms: Option<i64>,
    /// The topics that go back under the names that they had.
    topics: BTreeSet<Arc<str>>,
    /// Where the records end.
    ends: Result<Known, &'static str>,
    /// The partitions of which a person, or the genesis, has said since where the link goes on.
    decided: BTreeSet<String>,
}

/// Where unmarked records end, as far as it is known.
struct Known {
    ends: Ends,
    /// The partitions whose end lies behind, or may: it moves as long as the link goes on.
    late: BTreeSet<String>,
}

/// A partition that a link has copied.
struct Copied {
    from: TopicPartition,
    to: TopicPartition,
    checkpoint: Checkpoint,
    /// All records that the link had written when this was asked are before this offset.
    end: i64,
}

impl Link {
    /// `content` with the marks of the link. These end circles, so they are a property of the link
    /// and not of a revision, which a person may roll back: all revisions from now on have what the
    /// configuration says. A link that has marked once goes on, also if its configuration asks no
    /// more: another link may read what it writes, now or later, and its records that have come
    /// from the target may not be read to their end.
    pub(super) fn with_marks(&self, history: &History, content: Content) -> Content {
        let before = || history.revisions().iter().rev().find(|revision| revision.marks());
        let said = self.config().builtins.provenance.clone();
        let provenance = said.or_else(|| before()?.builtins.provenance.clone());
        Content { builtins: Builtins { provenance, ..content.builtins }, ..content }
    }

    /// Refuse to run if the target has another id than in the marks so far. Marks name clusters by
    /// their ids and stay in the records, so the link would copy back what has come from its target.
    pub(super) fn refuse_renamed_target(&self, history: &History) -> Result<(), Failure> {
        let Some(now) = &self.config().builtins.provenance else { return Ok(()) };
        let before = history.revisions().iter().rev().find(|revision| revision.marks());
        let Some(before) = before.and_then(|revision| revision.builtins.provenance.as_ref()) else { return Ok(()) };
        if before.leave_out == now.leave_out {
            return Ok(());
        }
        let message = format!(
            "the link has marked records for target {}, which is {} now: it would copy back what came from there",
            before.leave_out, now.leave_out
        );
        Err(Failure::fatal("target-renamed", message, "give the cluster its former id, or make a new link"))
    }

    /// Store where the records end that the link has written without a mark, if the newest revision
    /// of `history`, which is about to be stored, is the first one that marks.
    pub(super) fn note_unmarked(&self, history: &History) -> Result<(), Failure> {
        let [.., before, next] = history.revisions() else { return Ok(()) };
        if !next.marks() || before.marks() {
            return Ok(());
        }
        let copied = copied_by(&**self.target(), &self.config().id)?;
        let reached = copied.iter().map(|it| (it.from.to_string(), it.checkpoint.next_offset)).collect();
        let unmarked = Unmarked { v: VERSION, ends: ends_of(&copied), next: Some(reached) };
        let text = encode("where unmarked records end", &unmarked)?;
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
        self.refuse_strange_past()?;
        for past in pasts(config, &**self.source())? {
            let Known { ends, .. } = past.ends.map_err(|why| unknown(&past.link, why))?;
            if !ends.is_empty() {
                behind.links.push(past.link.to_string());
            }
            for (partition, end) in ends {
                let known = behind.ends.entry(partition).or_default();
                *known = end.max(*known);
            }
        }
        Ok(behind)
    }

    /// Refuse to begin where another link has copied records between clusters of this one's
    /// neighbours without a mark, and they come between them on another way, too.
    fn refuse_strange_past(&self) -> Result<(), Failure> {
        let config = self.config();
        let around = self.around.load();
        let neighbours = &around.neighbours;
        for (at, cluster) in &around.clusters {
            for (link, bytes) in cluster.metadata_of_all(GENESIS)? {
                let Ok(Genesis { source: from, .. }) = genesis::decode(&bytes) else { continue };
                let is_behind = *from == *config.target && *at == config.source;
                let is_near = around.clusters.contains_key(&*from);
                if is_behind || !is_near || neighbours.has_only_way(&link, &from, at) {
                    continue;
                }
                if history_of(&**cluster, &link)?.revisions().iter().all(RevisionRecord::marks) {
                    continue;
                }
                let keeps = |it: &Copied| it.from.topic == it.to.topic && config.selects(&it.from.topic);
                if let Some(copied) = copied_by(&**cluster, &link)?.into_iter().find(keeps) {
                    return Err(strange(&link, &from, at, &copied.from.topic));
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Refuse to go on at `next` where a link from the target has written records without a mark
    /// behind it. Those that were there when the link began have counted then.
    pub(super) fn check_behind(
        &self,
        partition: &TopicPartition,
        next: i64,
        range: PartitionRange,
    ) -> Result<(), Failure> {
        let pasts = match self.behind.get() {
            Some(pasts) => pasts,
            None => {
                let found = self.new_pasts()?;
                self.behind.get_or_init(|| found)
            }
        };
        for past in pasts.iter().filter(|past| past.topics.contains(&partition.topic)) {
            let key = partition.to_string();
            let end = past.ends.as_ref().map_or(range.end, |known| known.ends.get(&key).copied().unwrap_or_default());
            let end = end.min(range.end);
            if next < end && !past.decided.contains(&key) {
                return Err(in_between(&past.link, partition, next, end));
            }
        }
        Ok(())
    }

    /// What links from the target have written without a mark since this one began.
    fn new_pasts(&self) -> Result<Vec<Past>, Failure> {
        if self.slot.load().record.builtins.provenance.is_none() {
            return Ok(Vec::new());
        }
        let mut found = pasts(&self.config, &*self.source)?;
        found.retain(|past| !past.has_counted(&self.genesis, self.config.start_is_said));
        if found.is_empty() {
            return Ok(found);
        }
        let resets = resets_of(&*self.target, &self.config.id)?;
        for past in &mut found {
            let since = past.until_ms.unwrap_or(past.since_ms);
            let later = resets.iter().filter(|reset| reset.at_ms >= since).flat_map(|reset| &reset.partitions);
            past.decided.extend(later.map(|moved| format!("{}-{}", moved.topic, moved.partition)));
            if past.is_older_than(&self.genesis) {
                // The link began behind what was there by then.
                past.decided.extend(past.ends.iter().flat_map(|known| known.late.iter().cloned()));
            }
        }
        Ok(found)
    }
}

impl Past {
    fn is_older_than(&self, genesis: &Genesis) -> bool {
        self.since_ms <= genesis.at_ms
    }

    /// Whether the link began with all of this known, or that did not matter. One that began behind
    /// it may have been gone since, and more have come.
    fn has_counted(&self, genesis: &Genesis, start_is_said: bool) -> bool {
        let began_behind = genesis.behind.iter().any(|link| *link == *self.link);
        let has_ended = self.until_ms.is_some() && (self.ends.is_err() || !began_behind);
        self.is_older_than(genesis) && (start_is_said || has_ended)
    }
}

/// What links from the target of a link have written to its source without a mark, and it would
/// copy back.
fn pasts(config: &LinkConfig, source: &dyn Cluster) -> Result<Vec<Past>, Failure> {
    let mut found = Vec::new();
    for (link, bytes) in source.metadata_of_all(GENESIS)? {
        let comes_from_target = |genesis: &Genesis| *genesis.source == *config.target;
        if link != config.id && genesis::decode(&bytes).is_ok_and(|genesis| comes_from_target(&genesis)) {
            found.extend(past_of(config, source, &link)?);
        }
    }
    Ok(found)
}

/// The same of one of these links.
fn past_of(config: &LinkConfig, source: &dyn Cluster, link: &LinkId) -> Result<Option<Past>, Failure> {
    loop {
        let history = history_of(source, link)?;
        if history.revisions().iter().all(RevisionRecord::marks) {
            // Nothing is asked of partitions then: one that cannot be read would keep all others
            // from being copied.
            return Ok(None);
        }
        // In this order: what is copied after a revision that marks was stored is not taken for
        // unmarked.
        let mut copied = copied_by(source, link)?;
        copied.retain(|it| config.selects(&it.to.topic) && config.target_topic(&it.to.topic) == *it.from.topic);
        let revisions = history.revisions();
        let last = revisions.iter().rposition(|revision| !revision.marks());
        let Some(last) = last.filter(|_| !copied.is_empty()) else { return Ok(None) };
        let first = revisions[..last].iter().rposition(RevisionRecord::marks).map_or(0, |marks| marks + 1);
        let next = revisions.get(last + 1);
        let ends = if revisions[..=last].iter().any(|revision| !revision.marks() && !revision.stages.is_empty()) {
            Err("a plugin may have sent them to any partition")
        } else if let Some(next) = next {
            match source.metadata(link, &key(next))? {
                Some(stored) => Ok(settled(source, link, next.number, decode(link, &stored)?, &copied)?),
                None => Err("an older tidegate wrote them"),
            }
        } else {
            Ok(Known { ends: ends_of(&copied), late: BTreeSet::new() })
        };
        if next.is_none() {
            if history_of(source, link)?.revisions().len() != revisions.len() {
                continue;
            }
            if !source.daemons(link)?.is_empty() {
                return Err(under_way(link));
            }
        }
        return Ok(Some(Past {
            link: link.clone(),
            since_ms: revisions[first].at_ms,
            until_ms: next.map(|next| next.at_ms),
            topics: copied.into_iter().map(|it| it.to.topic).collect(),
            ends,
            decided: BTreeSet::new(),
        }));
    }
}

/// Where unmarked records end, when no lane writes any more of them: `first` is the revision that
/// marks.
fn settled(
    source: &dyn Cluster,
    link: &LinkId,
    first: RevisionNumber,
    stored: Unmarked,
    copied: &[Copied],
) -> Result<Known, Failure> {
    let lanes = genesis::read(source, link)?.map_or(1, |stored| stored.genesis.lanes);
    let running: BTreeSet<u32> =
        source.daemons(link)?.into_values().flat_map(|daemon| daemon.lanes.into_iter()).collect();
    // A lane goes over to a revision with all of its partitions.
    let newest = |lane: u32| {
        let of_lane = copied.iter().filter(|it| lane_of(&it.from, lanes) == lane);
        of_lane.map(|it| it.checkpoint.revision).max()
    };
    if running.into_iter().any(|lane| newest(lane).is_some_and(|newest| newest < first)) {
        return Err(under_way(link));
    }
    let starts = of_lanes(source, link, |generation| Ok(source.revision_starts(link, generation)?))?;
    Ok(ends_before(first, stored, &starts, copied))
}

/// Where the records end that were copied before the revision `first`. Where lanes of other daemons
/// have gone on after the ends were read, it is where the partition ended when it was committed last.
fn ends_before(first: RevisionNumber, stored: Unmarked, starts: &[RevisionStart], copied: &[Copied]) -> Known {
    let Unmarked { ends, next, .. } = stored;
    let mut known = Known { ends, late: BTreeSet::new() };
    let Some(reached) = next else { return known };
    for Copied { from, to, checkpoint, end: copied_to } in copied {
        let of_it = || starts.iter().filter(|start| start.partition == *from);
        let begun = of_it().filter(|start| start.revision >= first).map(|start| start.offset).min();
        let reached = reached.get(&from.to_string()).copied();
        let is_exact = match (begun, reached) {
            (Some(begun), Some(reached)) => begun <= reached,
            (Some(_), None) => of_it().all(|start| start.revision >= first),
            (None, Some(reached)) => checkpoint.next_offset <= reached,
            (None, None) => false,
        };
        if !is_exact {
            let end = known.ends.entry(to.to_string()).or_default();
            *end = (*copied_to).max(*end);
            known.late.insert(to.to_string());
        }
    }
    known
}

/// What a link has copied to a cluster, by its checkpoints.
fn copied_by(cluster: &dyn Cluster, link: &LinkId) -> Result<Vec<Copied>, Failure> {
    let checkpoints = of_lanes(cluster, link, |generation| Ok(cluster.checkpoints(link, generation)?))?;
    let topics: BTreeMap<TopicId, (Arc<str>, u32)> =
        cluster.topics()?.into_iter().map(|topic| (topic.id, (topic.name, topic.partitions))).collect();
    let copied = |(from, checkpoint): (TopicPartition, Checkpoint)| {
        let (name, partitions) = topics.get(&checkpoint.target_topic_id)?;
        let to = TopicPartition::new(name.clone(), from.partition % (*partitions).max(1));
        let end = checkpoint.target_end_offset;
        Some(Copied { from, to, checkpoint, end })
    };
    let mut copied: Vec<Copied> = checkpoints.into_iter().filter_map(copied).collect();
    if !cluster.knows_target_ends() {
        // Records of clients that came behind the last commit cannot be told from those of the commit.
        let partitions: Vec<TopicPartition> = copied.iter().map(|it| it.to.clone()).collect();
        for (copied, end) in copied.iter_mut().zip(cluster.log_ends(&partitions, Patience::Long)) {
            copied.end = end?.max(copied.end);
        }
    }
    Ok(copied)
}

/// The ends of the partitions that were copied to.
fn ends_of(copied: &[Copied]) -> Ends {
    let mut ends = Ends::new();
    for Copied { to, end: copied_to, .. } in copied {
        let end = ends.entry(to.to_string()).or_default();
        *end = (*copied_to).max(*end);
    }
    ends
}

fn key(first_that_marks: &RevisionRecord) -> String {
    format!("unmarked-before-{}", first_that_marks.number.0)
}

fn decode(link: &LinkId, bytes: &[u8]) -> Result<Unmarked, Failure> {
    let unreadable = |why: String| {
        let message = format!("where unmarked records of link {link} end: {why}");
        Failure::fatal("unmarked-unreadable", message, "restore the source, or use a newer tidegate")
    };
    let stored: Unmarked =
        serde_json::from_slice(bytes).map_err(|error| unreadable(without_values(&error.to_string())))?;
    match stored.v {
        newer if newer > VERSION => Err(unreadable(format!("version {newer}: a newer tidegate wrote it"))),
        _ => Ok(stored),
    }
}

/// The code of a link that does not know where to begin or to go on.
const START_UNKNOWN: &str = "start-unknown";

fn unknown(link: &LinkId, why: &str) -> Failure {
    let message = format!(
        "link {link} has copied records to the source before it marked them, and where they end is unknown: {why}"
    );
    let remedy = "write `start` for the link that begins there: \"latest\", or \"earliest\" to copy those records back";
    Failure::fatal(START_UNKNOWN, message, remedy)
}

fn in_between(link: &LinkId, partition: &TopicPartition, next: i64, end: i64) -> Failure {
    let last = end - 1;
    let message = format!(
        "link {link} has copied records to {partition} without marks since this link ran last: those from {next} to {last} would go back"
    );
    let remedy = "reset the link: `--to latest` leaves all of these records out, also those of clients; `--to earliest` or an offset copies them back";
    Failure::fatal(START_UNKNOWN, message, remedy)
}

fn strange(link: &LinkId, from: &str, to: &str, topic: &str) -> Failure {
    let message = format!(
        "link {link} has copied records of {topic} from {from} to {to} without marks, and they would come there twice: these clusters are now linked on another way too"
    );
    let remedy = "write `start` for this link, and for the other way `reverse.start`: \"latest\" once the others have caught up, or \"earliest\" to copy everything";
    Failure::fatal(START_UNKNOWN, message, remedy)
}

fn under_way(link: &LinkId) -> Failure {
    let message = format!("daemons still run lanes of link {link} that do not mark what they copy");
    let remedy = "nothing: this link goes on when they mark; if it never does, give all daemons of that link the same configuration";
    Failure { class: Class::Reopen, ..Failure::fatal(MARKS_UNDER_WAY, message, remedy) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::CHECKPOINT_VERSION;

    const MARKS: RevisionNumber = RevisionNumber(3);

    fn copied(partition: u32, next_offset: i64, end: i64, revision: u64) -> Copied {
        let checkpoint = Checkpoint {
            v: CHECKPOINT_VERSION,
            next_offset,
            source_topic_id: TopicId(1),
            source_log_start: 0,
            source_leader_epoch: None,
            target_topic_id: TopicId(2),
            target_end_offset: end,
            link_epoch: 0,
            revision: RevisionNumber(revision),
            last: None,
            doubt: None,
        };
        let place = TopicPartition::new("t", partition);
        Copied { from: place.clone(), to: place, checkpoint, end }
    }

    fn start(partition: u32, revision: u64, offset: i64) -> RevisionStart {
        RevisionStart { partition: TopicPartition::new("t", partition), revision: RevisionNumber(revision), offset }
    }

    /// Lanes of other daemons go on without a mark until they hear of the revision that marks.
    #[test]
    fn what_was_written_after_the_ends_were_read_has_no_mark_either() {
        let stored = |next: Option<&[(u32, i64)]>| Unmarked {
            v: VERSION,
            ends: [0, 1].map(|partition| (format!("t-{partition}"), 100)).into(),
            next: next.map(|next| next.iter().map(|(number, next)| (format!("t-{number}"), *next)).collect()),
        };
        let known: &[(u32, i64)] = &[(0, 10), (1, 10)];
        let end = |next, starts: &[RevisionStart], copied: Copied| {
            let partition = copied.to.to_string();
            ends_before(MARKS, stored(next), starts, &[copied]).ends.get(&partition).copied()
        };
        // The first offset with a mark is the one that the checkpoint named.
        assert_eq!(end(Some(known), &[start(0, 1, 0), start(0, 3, 10)], copied(0, 50, 140, 3)), Some(100));
        // Another daemon went on to 12 without one.
        assert_eq!(end(Some(known), &[start(0, 1, 0), start(0, 3, 12)], copied(0, 50, 140, 3)), Some(140));
        assert_eq!(end(Some(known), &[start(0, 1, 0)], copied(0, 12, 102, 1)), Some(102));
        assert_eq!(end(Some(known), &[start(0, 1, 0)], copied(0, 10, 100, 1)), Some(100), "it is idle");
        // A partition that had no checkpoint then.
        assert_eq!(end(Some(known), &[start(7, 3, 0)], copied(7, 5, 5, 3)), None, "all of it is marked");
        assert_eq!(end(Some(known), &[start(7, 2, 0), start(7, 3, 2)], copied(7, 5, 5, 3)), Some(5));
        assert_eq!(end(None, &[start(0, 3, 12)], copied(0, 50, 140, 3)), Some(100), "an older program says no more");
    }

    /// What links have in the world.
    #[test]
    fn what_was_stored_first_can_be_read() {
        let read = decode(&"l".into(), br#"{"v":1,"ends":{"t-0":7}}"#).expect("readable");
        assert_eq!((read.ends.get("t-0"), read.next), (Some(&7), None));
        assert!(decode(&"l".into(), br#"{"v":2,"ends":{}}"#).is_err());
    }
}
