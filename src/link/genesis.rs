//! What is written about a link before its first commit, and what can change of it: its layout, and its lanes.
//!
//! All daemons that run a link obey it. Whoever changes it compares and writes ([`Cluster::replace_metadata`]), so of two who do it at once one is second.
//! **Invariant:** whoever opens a lane looks here after having fenced (`Shared::confirm`).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::behind::{Behind, MARKS_UNDER_WAY};
use super::events::Event;
use super::failover::FailedOver;
use super::failover::standby::standby;
use super::failure::Failure;
use super::lane::now_ms;
use super::supervisor::{Link, Shared};
use crate::config::{LANES_MAX, LinkConfig, Start};
use crate::connector::{Class, Cluster, Error, Patience, Topic};
use crate::model::layout::{FIRST_GENERATION, LAYOUT_NEWEST, LAYOUT_OF_FAILOVER};
use crate::model::{LinkId, TopicPartition, encode};

/// Where the genesis is kept in the target.
pub(super) const GENESIS: &str = "genesis";

/// The code of a link whose lanes are about to become others.
pub(super) const UNDER_WAY: &str = "relane-under-way";

/// The code of lanes that have become others.
const RELANED: &str = "relaned";

/// The code of a link that is newer than this daemon.
const NEWER_LAYOUT: &str = "newer-layout";

/// The code of a link whose target has taken its source's place.
pub const FAILED_OVER: &str = "failed-over";

/// What is said to lanes that do not count any more.
const OUTLIVED: [&str; 4] = [UNDER_WAY, RELANED, NEWER_LAYOUT, FAILED_OVER];

/// Whether this is no failure: the link goes on by itself when it may.
pub(super) fn only_waits(code: &str) -> bool {
    [UNDER_WAY, FAILED_OVER, MARKS_UNDER_WAY].contains(&code)
}

/// What is written about a link before its first commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Genesis {
    /// The layout of the link, and so of this.
    #[serde(rename = "v")]
    pub layout: u32,
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
    /// The links that had copied to the source what came from the target, before they marked it: the link begins behind their records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) behind: Vec<String>,
    /// The generation of the lanes: another one whenever their number changes. Since layout 2.
    #[serde(default = "first_generation", skip_serializing_if = "is_first_generation")]
    pub generation: u32,
    /// What the lanes are to become. As long as this is here, nobody runs a lane. Since layout 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relane: Option<Relane>,
    /// The last generation that was tried, if it is not that of the lanes. Since layout 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried: Option<u32>,
    /// That the target has taken the source's place. As long as this is here, nobody runs a lane. Since layout 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailedOver>,
    /// How often the target has taken the source's place. Since layout 3.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub link_epoch: u32,
}

/// How many partitions an event names.
const ENDS_NAMED_MAX: usize = 10;

/// What the lanes of a link are to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relane {
    /// How many there are to be.
    pub lanes: u32,
    /// The generation that is tried, or was tried last.
    pub(super) generation: u32,
    /// The daemon that does it.
    pub daemon: String,
    /// Since when it does, in milliseconds since 1970-01-01 UTC.
    pub since_ms: i64,
    /// How many of the old lanes are copied.
    pub copied: u32,
    /// How often it has said that it comes on: others see by this that it does, however long a lane takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) steps: u32,
}

fn first_generation() -> u32 {
    FIRST_GENERATION
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_first_generation(generation: &u32) -> bool {
    *generation == FIRST_GENERATION
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Genesis {
    /// Refuse what this daemon may not run.
    pub(super) fn check_layout(&self, layout_max: u32) -> Result<(), Error> {
        if self.layout <= layout_max {
            return Ok(());
        }
        let (message, remedy) = if self.layout > LAYOUT_NEWEST {
            let message = format!("the link has layout {}, and this tidegate knows {LAYOUT_NEWEST}", self.layout);
            (message, "use the newer tidegate on this machine too")
        } else {
            let message = format!("the link has layout {}, and this daemon is set to {layout_max}", self.layout);
            (message, "remove `layout_max` under [daemon], and restart this daemon")
        };
        Err(Error { class: Class::Fatal, code: NEWER_LAYOUT, message, remedy })
    }

    /// Refuse to run lanes that are about to become others, or of a link whose target has taken the source's place.
    pub(super) fn check_settled(&self) -> Result<(), Error> {
        if let Some(over) = &self.failover {
            return Err(over.as_error());
        }
        let Some(relane) = &self.relane else { return Ok(()) };
        let Relane { lanes, daemon, copied, .. } = relane;
        let message = format!("{} lanes become {lanes}: daemon {daemon} has copied {copied} of them", self.lanes);
        let remedy = "nothing: the link goes on by itself when that is done";
        Err(Error { class: Class::Reopen, code: UNDER_WAY, message, remedy })
    }

    /// This, if the link can be run here.
    fn checked(self, config: &LinkConfig, layout_max: u32) -> Result<Self, Failure> {
        self.check_layout(layout_max)?;
        if *self.source != *config.source {
            let message = format!("the link was made for source {}, and reads {} now", self.source, config.source);
            return Err(Failure::fatal("source-changed", message, "set `source` to what it was, or make a new link"));
        }
        self.check_settled()?;
        Ok(self)
    }

    /// Where the link begins in a partition, if this says so. Where MirrorMaker 2 has copied before counts for ever: a partition that nobody writes to has
    /// no checkpoint, and a file that has lost its `start` by then must not copy it twice.
    pub(super) fn start_of(&self, partition: &TopicPartition, start: &Start) -> Option<i64> {
        let counts =
            self.mirrormaker.is_some() || !self.behind.is_empty() || matches!(start, Start::Latest | Start::Offsets(_));
        self.ends.get(&partition.to_string()).copied().filter(|_| counts)
    }

    /// Whether MirrorMaker 2 has copied records of a partition.
    pub(super) fn is_taken_over(&self, partition: &TopicPartition) -> bool {
        self.mirrormaker.is_some() && self.ends.contains_key(&partition.to_string())
    }

    /// Whether lanes that were opened under this are those of `now` too. Lanes of an earlier link epoch are not: what
    /// has come back from the target since then is left out by those of today alone.
    pub(super) fn has_lanes_of(&self, now: &Self) -> bool {
        let is_settled = now.relane.is_none() && now.failover.is_none();
        self.generation == now.generation && self.link_epoch == now.link_epoch && is_settled
    }

    /// The last generation that has been tried, whatever came of it.
    fn last_tried(&self) -> u32 {
        let tried = [self.tried, self.relane.as_ref().map(|relane| relane.generation)];
        tried.into_iter().flatten().fold(self.generation, u32::max)
    }

    /// With another number of lanes to come, which `daemon` sees to.
    pub(super) fn to_be_relaned(&self, lanes: u32, daemon: &str, now_ms: i64) -> Self {
        let generation = self.last_tried();
        let relane = Relane { lanes, generation, daemon: daemon.to_owned(), since_ms: now_ms, copied: 0, steps: 0 };
        Self { relane: Some(relane), ..self.clone() }
    }

    /// With `daemon` trying it, in a generation that nobody has tried before.
    pub(super) fn tried_by(&self, daemon: &str, now_ms: i64) -> Option<Self> {
        let lanes = self.relane.as_ref()?.lanes;
        let generation = self.last_tried().checked_add(1)?;
        let relane = Relane { lanes, generation, daemon: daemon.to_owned(), since_ms: now_ms, copied: 0, steps: 0 };
        Some(Self { relane: Some(relane), ..self.clone() })
    }

    /// One step later, with so many of the old lanes copied.
    pub(super) fn with_copied(&self, copied: u32) -> Self {
        let relane = self.relane.clone();
        let relane = relane.map(|relane| Relane { copied, steps: relane.steps.wrapping_add(1), ..relane });
        Self { relane, ..self.clone() }
    }

    /// With the lanes that were to come.
    pub(super) fn relaned(&self) -> Self {
        let (lanes, generation) = match &self.relane {
            Some(relane) => (relane.lanes, relane.generation),
            None => (self.lanes, self.generation),
        };
        Self { lanes, generation, relane: None, tried: None, ..self.clone() }
    }

    /// With the lanes that are, after all. What was tried must not be tried again: somebody may still be writing it.
    pub(super) fn called_off(&self) -> Self {
        let tried = Some(self.last_tried()).filter(|tried| *tried != self.generation);
        Self { relane: None, tried, ..self.clone() }
    }

    /// With the target taking the source's place. Daemons that do not know that layout let go of their lanes, which is what they are to do.
    pub(super) fn failing_over(&self, over: FailedOver) -> Self {
        let layout = self.layout.max(LAYOUT_OF_FAILOVER);
        Self { layout, link_epoch: over.epoch, failover: Some(over), ..self.clone() }
    }

    /// With the source in its place again.
    pub(super) fn returned(&self) -> Self {
        Self { failover: None, ..self.clone() }
    }

    /// With a newer layout.
    pub(super) fn upgraded(&self, layout: u32) -> Self {
        Self { layout, ..self.clone() }
    }
}

/// A genesis with the bytes that it was read from: who replaces it has to say them.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) genesis: Genesis,
    bytes: Vec<u8>,
}

impl Stored {
    /// What it was read from.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What the target has.
pub(super) fn read(target: &dyn Cluster, link: &LinkId) -> Result<Option<Stored>, Error> {
    let Some(bytes) = target.metadata(link, GENESIS)? else { return Ok(None) };
    Ok(Some(Stored { genesis: decode(&bytes)?, bytes }))
}

/// The genesis of a link, from its stored form.
pub(super) fn decode(bytes: &[u8]) -> Result<Genesis, Error> {
    let unreadable = |what: String| Error {
        class: Class::Fatal,
        code: "genesis-unreadable",
        message: format!("the link's genesis: {what}"),
        remedy: "restore the target",
    };
    let genesis: Genesis = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    let lanes = genesis.relane.iter().map(|relane| relane.lanes).fold(genesis.lanes, u32::max);
    if u64::from(lanes) > LANES_MAX {
        return Err(unreadable(format!("it has {lanes} lanes, more than {LANES_MAX}")));
    }
    Ok(genesis)
}

/// Read what the lanes of a link have written of themselves. Should they become others meanwhile, it is read again: topics of earlier generations may be gone.
pub(super) fn of_lanes<T>(
    target: &dyn Cluster,
    link: &LinkId,
    read_lanes: impl Fn(u32) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let generation = || -> Result<u32, Failure> {
        Ok(read(target, link)?.map_or(FIRST_GENERATION, |stored| stored.genesis.generation))
    };
    loop {
        let before = generation()?;
        let found = read_lanes(before);
        if generation()? == before {
            return found;
        }
    }
}

impl Shared {
    /// Whether the lanes that run here are still those of the link. Asked by whoever has fenced a lane and before it does anything with it: so either
    /// whoever changes the lanes has fenced it later, or it finds out here.
    pub(super) fn confirm(&self) -> Result<(), Error> {
        confirm(&*self.target, &self.config.id, &self.genesis, self.layout_max).inspect_err(|error| {
            self.outlived.fetch_or(OUTLIVED.contains(&error.code), Relaxed);
            self.orders.notify();
            self.alarm.ring();
        })
    }
}

/// See [`Shared::confirm`].
pub(super) fn confirm(target: &dyn Cluster, link: &LinkId, genesis: &Genesis, layout_max: u32) -> Result<(), Error> {
    let Some(Stored { genesis: now, .. }) = read(target, link)? else { return Ok(()) };
    now.check_layout(layout_max)?;
    now.check_settled()?;
    if genesis.has_lanes_of(&now) {
        return Ok(());
    }
    let message = if genesis.link_epoch == now.link_epoch {
        format!("the link has {} other lanes now (generation {})", now.lanes, now.generation)
    } else {
        format!("the link has failed over and back since the lanes were opened (link epoch {})", now.link_epoch)
    };
    let remedy = "nothing: the daemon opens those of its lanes";
    Err(Error { class: Class::Reopen, code: RELANED, message, remedy })
}

impl Link {
    /// What the target has, if it has anything.
    pub(super) fn stored_genesis(&self) -> Result<Option<Stored>, Failure> {
        Ok(read(&**self.target(), &self.config().id)?)
    }

    /// What the link was made with, and what has become of that; `None` if it was never started.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn known_genesis(&self) -> Result<Option<Genesis>, Failure> {
        Ok(self.stored_genesis()?.map(|stored| stored.genesis))
    }

    /// Change it, unless somebody else was faster.
    pub(super) fn replace_genesis(&self, known: &Stored, genesis: Genesis) -> Result<Option<Stored>, Failure> {
        let bytes = encode("the genesis", &genesis)?;
        let replaced = self.put_genesis(Some(&known.bytes), &genesis, &bytes)?;
        Ok(replaced.then_some(Stored { genesis, bytes }))
    }

    /// Store it if `known` is what is stored now. In the same step its topics begin to stand by, or do not any more, where the target can see to that.
    fn put_genesis(&self, known: Option<&[u8]>, genesis: &Genesis, bytes: &[u8]) -> Result<bool, Failure> {
        let Some(standbys) = self.target().standbys() else { return self.replace(GENESIS, known, bytes) };
        let standby = standby(self.config(), Some(genesis));
        let replaced = standbys.replace(&self.config().id, GENESIS, known, Some(bytes), standby)?;
        self.expect_news();
        Ok(replaced)
    }

    /// What the link was made with, if it can be run here; it is made if the target does not know it.
    pub(super) fn genesis(&self) -> Result<Genesis, Failure> {
        self.refuse_beside_failover()?;
        if let Some(stored) = self.stored_genesis()? {
            let checked = stored.genesis.checked(self.config(), self.layout_max());
            return checked.map_err(|failure| self.with_last_try(failure));
        }
        let Behind { links: behind, ends } = self.behind_others()?;
        let (ends, mirrormaker) = match &self.config().start {
            Start::Earliest => (ends, None),
            Start::Latest => (self.source_ends()?, None),
            Start::MirrorMaker(before) => {
                let next = self.target().mirrormaker_offsets(before)?;
                let next = next.into_iter().map(|(partition, next)| (partition.to_string(), next));
                (next.collect(), Some(before.topic.to_string()))
            }
            Start::Offsets(offsets) => {
                let text = |(partition, offset): (&TopicPartition, &i64)| (partition.to_string(), *offset);
                (offsets.iter().map(text).collect(), None)
            }
        };
        let genesis = Genesis {
            layout: self.layout_max(),
            at_ms: now_ms(),
            lanes: self.config().lanes,
            source: self.config().source.to_string(),
            ends,
            mirrormaker,
            behind,
            generation: FIRST_GENERATION,
            relane: None,
            tried: None,
            failover: None,
            link_epoch: 0,
        };
        let bytes = encode("the genesis", &genesis)?;
        if self.put_genesis(None, &genesis, &bytes)? {
            self.announce_behind(&genesis);
            return Ok(genesis);
        }
        // Another daemon that runs the link was first.
        self.genesis()
    }

    /// Refuse to run as the other way of a link that has failed over: a failback would copy the same
    /// records once more.
    fn refuse_beside_failover(&self) -> Result<(), Failure> {
        let config = self.config();
        let Some(forward) = config.other_way_id().filter(|_| config.is_reverse) else { return Ok(()) };
        let stored = read(&**self.source(), &forward)?;
        if stored.is_none_or(|stored| stored.genesis.failover.is_none()) {
            return Ok(());
        }
        let message =
            format!("link {forward} has failed over, so it has no other way: a failback copies what its target has");
        let remedy = "make the link one-way again and fail it back; then let it go both ways";
        Err(Failure { class: Class::Reopen, ..Failure::fatal(FAILED_OVER, message, remedy) })
    }

    /// Say which records the link leaves out because it begins behind those of others: clients may
    /// have written among them.
    fn announce_behind(&self, genesis: &Genesis) {
        if genesis.behind.is_empty() {
            return;
        }
        let ends = genesis.ends.iter().filter(|(_, end)| **end > 0);
        let ends: Vec<String> = ends.map(|(partition, end)| format!("{partition} at {end}")).collect();
        let more = ends.len().saturating_sub(ENDS_NAMED_MAX);
        let message = format!(
            "the link begins behind what {} copied without marks ({}{}): it does not copy what clients wrote before that",
            genesis.behind.join(", "),
            ends[..ends.len() - more].join(", "),
            if more > 0 { format!(", and {more} partitions more") } else { String::new() },
        );
        tracing::warn!(link = &*self.config().id, "{message}");
        self.events.push(Event::new("begins-behind", message));
    }

    fn source_ends(&self) -> Result<BTreeMap<String, i64>, Failure> {
        let topics = self.source().topics()?.into_iter().filter(|topic| self.config().selects(&topic.name));
        let of =
            |topic: Topic| (0..topic.partitions).map(move |number| TopicPartition::new(topic.name.clone(), number));
        let partitions: Vec<TopicPartition> = topics.flat_map(of).collect();
        let ranges = self.source().ranges_of(&partitions, Patience::Long);
        partitions.iter().zip(ranges).map(|(partition, range)| Ok((partition.to_string(), range?.end))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis() -> Genesis {
        let ends = BTreeMap::from([("orders-0".to_owned(), 7)]);
        let source = "east".to_owned();
        Genesis {
            layout: 1,
            at_ms: 5,
            lanes: 4,
            source,
            ends,
            mirrormaker: None,
            behind: Vec::new(),
            generation: 1,
            relane: None,
            tried: None,
            failover: None,
            link_epoch: 0,
        }
    }

    /// The bytes that links have in the world. They must be read for ever, and layout 1 must look so to older daemons.
    #[test]
    fn layouts_are_what_they_were() {
        let one = r#"{"v":1,"at_ms":5,"lanes":4,"source":"east","ends":{"orders-0":7}}"#;
        assert_eq!(serde_json::to_string(&genesis()).expect("text"), one);
        assert_eq!(serde_json::from_str::<Genesis>(one).expect("readable"), genesis());
        let two = genesis().upgraded(2).to_be_relaned(12, "a", 9).tried_by("b", 10).expect("tried").with_copied(3);
        let text = r#"{"v":2,"at_ms":5,"lanes":4,"source":"east","ends":{"orders-0":7},"relane":{"lanes":12,"generation":2,"daemon":"b","since_ms":10,"copied":3,"steps":1}}"#;
        assert_eq!(serde_json::to_string(&two).expect("text"), text);
        assert_eq!(serde_json::from_str::<Genesis>(text).expect("readable"), two);
        let done = r#"{"v":2,"at_ms":5,"lanes":12,"source":"east","ends":{"orders-0":7},"generation":2}"#;
        assert_eq!(serde_json::to_string(&two.relaned()).expect("text"), done);
    }

    /// Daemons that wait compare the record: a step in which no lane was copied shows as well.
    #[test]
    fn each_step_of_a_relane_shows() {
        let tried = genesis().upgraded(2).to_be_relaned(12, "a", 9).tried_by("b", 10).expect("tried");
        let first = tried.with_copied(0);
        assert_ne!(first.relane, tried.relane);
        assert_ne!(first.with_copied(0).relane, first.relane);
    }

    #[test]
    fn no_generation_is_tried_twice() {
        let tried = |genesis: &Genesis| genesis.relane.as_ref().map(|relane| relane.generation);
        let asked = genesis().to_be_relaned(12, "a", 1);
        let first = asked.tried_by("a", 2).expect("asked for");
        let second = first.tried_by("b", 3).expect("asked for");
        assert_eq!((tried(&asked), tried(&first), tried(&second)), (Some(1), Some(2), Some(3)));
        let off = second.called_off();
        assert_eq!((off.lanes, off.generation, &off.relane), (4, 1, &None));
        let again = off.to_be_relaned(3, "a", 4).tried_by("a", 5).expect("asked for");
        assert_eq!(tried(&again), Some(4));
        let done = again.relaned();
        assert_eq!((done.lanes, done.generation, &done.relane), (3, 4, &None));
        let next = done.to_be_relaned(5, "a", 6).tried_by("a", 7).expect("asked for");
        assert_eq!(tried(&next), Some(5));
        assert_eq!(asked.called_off(), genesis(), "nobody has tried anything");
        assert_eq!(genesis().tried_by("a", 1), None, "nobody has asked for anything");
    }

    #[test]
    fn lanes_count_only_as_long_as_they_are_neither_others_nor_to_become_others() {
        let before = genesis();
        let marked = before.to_be_relaned(12, "a", 1);
        assert!(before.has_lanes_of(&before.upgraded(2)));
        assert!(!before.has_lanes_of(&marked));
        let done = marked.tried_by("a", 2).expect("asked for").relaned();
        assert!(!before.has_lanes_of(&done));
        assert!(done.has_lanes_of(&done));
        let back = Genesis { link_epoch: 1, ..before.clone() };
        assert!(!before.has_lanes_of(&back), "it has failed over and back");
        assert!(back.has_lanes_of(&back));
        assert_eq!(marked.check_settled().expect_err("under way").class, Class::Reopen);
    }

    #[test]
    fn a_newer_layout_says_whether_the_program_or_its_setting_is_too_old() {
        let refused = |layout: u32, layout_max| genesis().upgraded(layout).check_layout(layout_max);
        assert!(refused(2, 2).is_ok());
        let set = refused(2, 1).expect_err("set so");
        assert!(set.remedy.contains("layout_max"), "{set:?}");
        let old = refused(LAYOUT_NEWEST + 1, LAYOUT_NEWEST).expect_err("too old");
        assert!(old.remedy.contains("newer tidegate"), "{old:?}");
    }
}
