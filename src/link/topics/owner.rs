//! Which link keeps the settings of a topic of the target like those of its source.
//!
//! Two links that copy settings to one topic, or to each other's, would overwrite them for ever. So
//! ownership is state of the target: a link claims a topic there, and of several claims the first
//! one counts. A claim names the *root* of the topic: the topic whose settings it gets, through all
//! links between.
//!
//! - A link claims the topics that it creates, before it does.
//! - A link whose records go one way also claims a topic that it finds and that no link has
//!   claimed.
//! - A link whose records may come back (`provenance`, both ways) claims nothing that it finds: it
//!   cannot tell which side was there first.
//! - A link never claims the root of its own source: settings do not go round.
//!
//! What is decided is pure ([`decide`]); clusters are asked in [`Owners`] and by `follow`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Chosen;
use super::notices::Notice;
use super::plan::TopicPlan;
use crate::config::LinkConfig;
use crate::connector::Cluster;
use crate::link::failure::Failure;
use crate::link::supervisor::Link;
use crate::model::json_error::without_values;
use crate::model::time::now_ms;
use crate::model::{Digest, LinkId, encode};

/// The version of what is stored.
const VERSION: u32 = 1;

/// The claims of a link are stored in so many parts, so that none is too large for a record.
const PARTS: u8 = 16;

/// Who keeps the settings of a topic of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This link.
    Us,
    /// Another link.
    Link(LinkId),
    /// No link.
    Nobody,
}

/// A topic of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Root {
    cluster: String,
    topic: String,
}

/// That a link keeps the settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// The topic whose settings it gets.
    root: Root,
    /// Since when, in milliseconds since 1970-01-01 UTC. The first claim counts.
    at_ms: i64,
}

/// A part of what a link claims, as it is stored.
#[derive(Serialize, Deserialize)]
struct Part {
    v: u32,
    topics: BTreeMap<String, Claim>,
}

/// The claims on topics of a cluster.
#[derive(Default)]
struct Claims {
    by_topic: BTreeMap<String, BTreeMap<LinkId, Claim>>,
    /// The links whose claims cannot be read, by part: a newer tidegate may have stored them. They
    /// may have claimed any topic of that part, and keep no link from its work.
    unreadable: BTreeMap<u8, LinkId>,
}

impl Claims {
    fn read<'a>(cluster: &dyn Cluster, topics: impl Iterator<Item = &'a str>) -> Result<Self, Failure> {
        let parts: BTreeSet<u8> = topics.map(part_of).collect();
        let mut claims = Self::default();
        for part in parts {
            for (link, bytes) in cluster.metadata_of_all(&key(part))? {
                let Ok(topics) = decode(&link, &bytes) else {
                    claims.unreadable.insert(part, link);
                    continue;
                };
                for (topic, claim) in topics {
                    claims.by_topic.entry(topic).or_default().insert(link.clone(), claim);
                }
            }
        }
        Ok(claims)
    }

    /// The link whose claim was first, and the claim.
    fn first(&self, topic: &str) -> Option<(&LinkId, &Claim)> {
        self.by_topic.get(topic)?.iter().min_by_key(|(link, claim)| (claim.at_ms, *link))
    }

    /// A link that may have claimed the topic.
    fn unreadable(&self, topic: &str) -> Option<&LinkId> {
        self.unreadable.get(&part_of(topic))
    }
}

/// Who keeps the settings of the copy of a topic, and the root that the link should claim it for,
/// if it should. `at_source`: `None` if the source does not say what is claimed there.
fn decide(
    config: &LinkConfig,
    chosen: &Chosen,
    is_there: bool,
    at_target: &Claims,
    at_source: Option<&Claims>,
) -> (Owner, Option<Root>) {
    let source = at_source.and_then(|claims| claims.first(&chosen.topic.name));
    let goes_round = |root: &Root| *root.cluster == *config.target && *root.topic == *chosen.target;
    let round = source.filter(|(_, claim)| goes_round(&claim.root));
    match at_target.first(&chosen.target) {
        // Two links that have claimed each other's topic at the same time: the first one keeps it.
        Some((link, claim)) if round.is_some_and(|(other, first)| (first.at_ms, other) < (claim.at_ms, link)) => {
            return (Owner::Nobody, None);
        }
        Some((link, _)) if *link == config.id => return (Owner::Us, None),
        Some((link, _)) => return (Owner::Link(link.clone()), None),
        None => {}
    }
    if let Some(link) = at_target.unreadable(&chosen.target) {
        return (if *link == config.id { Owner::Nobody } else { Owner::Link(link.clone()) }, None);
    }
    let may_come_back = config.builtins.provenance.is_some();
    let at_source = at_source.filter(|claims| claims.unreadable(&chosen.topic.name).is_none());
    if at_source.is_none() || round.is_some() || (is_there && may_come_back) {
        return (Owner::Nobody, None);
    }
    let own = || Root { cluster: config.source.to_string(), topic: chosen.topic.name.to_string() };
    (Owner::Us, Some(source.map_or_else(own, |(_, claim)| claim.root.clone())))
}

/// Who keeps the settings of which topic of the target.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(BTreeMap<Arc<str>, Owner>);

/// Whether what may be claimed is claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claiming {
    /// It is, and of two who do so at the same time both find out who was first.
    Now,
    /// It is not: the link would.
    Later,
}

impl Owners {
    /// Ask the clusters. `is_there`: whether the topics are in the target, or are about to be
    /// created.
    pub(super) fn find<'a>(
        config: &LinkConfig,
        source: &dyn Cluster,
        target: &dyn Cluster,
        chosen: impl Iterator<Item = &'a Chosen> + Clone,
        is_there: impl Fn(&Chosen) -> bool,
        claiming: Claiming,
    ) -> Result<Self, Failure> {
        let chosen = chosen.filter(|chosen| !config.following.declared.contains(&chosen.target));
        let at_source = match config.builtins.provenance {
            // Nothing comes back from the target: there is no need to ask.
            None => Some(Claims::default()),
            Some(_) => Claims::read(source, chosen.clone().map(|chosen| &*chosen.topic.name)).ok(),
        };
        loop {
            let at_target = Claims::read(target, chosen.clone().map(|chosen| &*chosen.target))?;
            let (mut owners, mut claims) = (Self::default(), BTreeMap::new());
            for chosen in chosen.clone() {
                let (owner, root) = decide(config, chosen, is_there(chosen), &at_target, at_source.as_ref());
                owners.0.insert(chosen.target.clone(), owner);
                claims.extend(root.map(|root| (chosen.target.to_string(), root)));
            }
            if claims.is_empty() || claiming == Claiming::Later {
                return Ok(owners);
            }
            claim(target, &config.id, claims)?;
        }
    }

    pub(super) fn of(&self, topic: &str) -> &Owner {
        self.0.get(topic).unwrap_or(&Owner::Nobody)
    }

    /// The owners of these topics.
    #[cfg(test)]
    pub(super) fn known(owners: impl IntoIterator<Item = (Arc<str>, Owner)>) -> Self {
        Self(owners.into_iter().collect())
    }
}

/// Store what the link claims, with what it claims already.
fn claim(target: &dyn Cluster, link: &LinkId, claims: BTreeMap<String, Root>) -> Result<(), Failure> {
    let mut parts: BTreeMap<u8, BTreeMap<String, Claim>> = BTreeMap::new();
    for (topic, root) in claims {
        parts.entry(part_of(&topic)).or_default().insert(topic, Claim { root, at_ms: now_ms() });
    }
    for (part, claims) in parts {
        change(target, link, part, |topics| {
            for (topic, claim) in &claims {
                topics.entry(topic.clone()).or_insert_with(|| claim.clone());
            }
        })?;
    }
    Ok(())
}

/// Change a part of what a link claims.
fn change(
    target: &dyn Cluster,
    link: &LinkId,
    part: u8,
    change: impl Fn(&mut BTreeMap<String, Claim>),
) -> Result<(), Failure> {
    loop {
        let known = target.metadata(link, &key(part))?;
        let before = known.as_deref().map(|bytes| decode(link, bytes)).transpose()?.unwrap_or_default();
        let mut topics = before.clone();
        change(&mut topics);
        if topics == before {
            return Ok(());
        }
        let text = encode("the topics that a link keeps", &Part { v: VERSION, topics })?;
        if target.replace_metadata(link, &key(part), known.as_deref(), &text)? {
            return Ok(());
        }
    }
}

/// Give up all claims of links that are gone from a cluster.
///
/// # Errors
/// The cluster cannot be read or written.
pub fn release_claims(target: &dyn Cluster, is_gone: impl Fn(&LinkId) -> bool) -> Result<(), Failure> {
    for part in 0..PARTS {
        for link in target.metadata_of_all(&key(part))?.keys().filter(|link| is_gone(link)) {
            change(target, link, part, BTreeMap::clear)?;
        }
    }
    Ok(())
}

impl Link {
    /// Give up its claims, because the link is gone: others may keep the settings of the topics
    /// that it has written.
    pub fn release_topics(&self) {
        let id = &self.config().id;
        if let Err(failure) = release_claims(&**self.target(), |link| link == id) {
            tracing::warn!(link = &**id, code = failure.code, "its topics stay claimed: {failure}");
        }
    }
}

/// What is said of a copy whose settings differ and that the link leaves as it is.
pub(super) fn left(config: &LinkConfig, plan: &TopicPlan, owner: &Owner) -> Notice {
    let TopicPlan { source, target, settings_left, .. } = plan;
    let names = settings_left.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let why = match owner {
        Owner::Link(link) => format!("link {link} keeps its settings"),
        Owner::Us | Owner::Nobody => "the link did not create it, and records go both ways".to_owned(),
    };
    Notice {
        code: "topic-settings-differ",
        topic: target.clone(),
        message: format!(
            "topic {target} of {} has other settings than topic {source} of {} ({names}), and stays so: {why}",
            config.target, config.source
        ),
        remedy: format!("change the settings by hand, or declare the topic under [clusters.{}.topics]", config.target),
    }
}

fn part_of(topic: &str) -> u8 {
    Digest::of(topic.as_bytes()).hex().bytes().next().map_or(0, |digit| (digit as char).to_digit(16).unwrap_or(0) as u8)
}

fn key(part: u8) -> String {
    format!("topics-{part:x}")
}

fn decode(link: &LinkId, bytes: &[u8]) -> Result<BTreeMap<String, Claim>, Failure> {
    let unreadable = |why: String| {
        let message = format!("the topics that link {link} keeps: {why}");
        Failure::fatal("claims-unreadable", message, "restore the target, or use a newer tidegate")
    };
    let part: Part = serde_json::from_slice(bytes).map_err(|error| unreadable(without_values(&error.to_string())))?;
    match part.v {
        newer if newer > VERSION => Err(unreadable(format!("version {newer}: a newer tidegate wrote them"))),
        _ => Ok(part.topics),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::Topic;
    use crate::model::TopicId;

    fn link(says: &str) -> LinkConfig {
        let text = format!(
            "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\n\
             [links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n{says}\n"
        );
        let (config, _) =
            crate::config::Config::parse(&text, "tidegate.toml", std::path::Path::new("")).expect("a configuration");
        config.links["l"].clone()
    }

    /// Claims on `t`: of which link, for the topic of which cluster, and when.
    fn claims(of: &[(&str, &str, i64)]) -> Claims {
        let claim = |(link, root, at_ms): &(&str, &str, i64)| {
            let root = Root { cluster: (*root).to_owned(), topic: "t".to_owned() };
            (LinkId::from(*link), Claim { root, at_ms: *at_ms })
        };
        let by_topic = BTreeMap::from([("t".to_owned(), of.iter().map(claim).collect())]);
        Claims { by_topic, ..Claims::default() }
    }

    /// Who owns `t` at the target, and the cluster of the root that is claimed.
    fn decided(
        says: &str,
        is_there: bool,
        at_target: &[(&str, &str, i64)],
        at_source: Option<&[(&str, &str, i64)]>,
    ) -> (Owner, Option<String>) {
        let chosen = Chosen { topic: Topic { name: "t".into(), id: TopicId(1), partitions: 1 }, target: "t".into() };
        let at_source = at_source.map(claims);
        let (owner, root) = decide(&link(says), &chosen, is_there, &claims(at_target), at_source.as_ref());
        (owner, root.map(|root| root.cluster))
    }

    #[test]
    fn a_link_claims_what_it_creates_and_one_way_also_what_it_finds() {
        let east = Some("east".to_owned());
        for says in ["", "provenance = true"] {
            assert_eq!(decided(says, false, &[], Some(&[])), (Owner::Us, east.clone()), "{says}");
        }
        assert_eq!(decided("", true, &[], Some(&[])), (Owner::Us, east));
        assert_eq!(decided("provenance = true", true, &[], Some(&[])), (Owner::Nobody, None));
        assert_eq!(decided("provenance = true", false, &[], None), (Owner::Nobody, None), "the source does not say");
    }

    #[test]
    fn the_first_claim_counts() {
        let ours = ("l", "east", 5);
        assert_eq!(decided("", true, &[ours, ("m", "north", 6)], Some(&[])), (Owner::Us, None));
        assert_eq!(decided("", true, &[ours, ("m", "north", 4)], Some(&[])), (Owner::Link("m".into()), None));
        assert_eq!(decided("", true, &[ours, ("k", "north", 5)], Some(&[])), (Owner::Link("k".into()), None));
        assert_eq!(decided("", true, &[("m", "north", 9)], Some(&[])), (Owner::Link("m".into()), None));
    }

    #[test]
    fn settings_do_not_go_round() {
        let says = "provenance = true";
        let root = |at_source| decided(says, false, &[], Some(at_source));
        assert_eq!(root(&[("k", "north", 3)]), (Owner::Us, Some("north".to_owned())), "through another link");
        assert_eq!(root(&[("l.reverse", "west", 3)]), (Owner::Nobody, None), "the source is a copy of the target");
        let both = |ours, theirs| decided(says, true, &[("l", "east", ours)], Some(&[("m", "west", theirs)])).0;
        assert_eq!((both(3, 4), both(4, 3), both(4, 4)), (Owner::Us, Owner::Nobody, Owner::Us));
    }

    #[test]
    fn claims_that_cannot_be_read_hold_up_nobody() {
        let chosen = Chosen { topic: Topic { name: "t".into(), id: TopicId(1), partitions: 1 }, target: "t".into() };
        let unreadable =
            |link: &str| Claims { unreadable: BTreeMap::from([(part_of("t"), link.into())]), ..Claims::default() };
        let none = Claims::default();
        let owner =
            |at_target: &Claims, at_source: &Claims| decide(&link(""), &chosen, true, at_target, Some(at_source));
        assert_eq!(owner(&unreadable("m"), &none), (Owner::Link("m".into()), None));
        assert_eq!(owner(&unreadable("l"), &none), (Owner::Nobody, None));
        assert_eq!(owner(&none, &unreadable("m")), (Owner::Nobody, None));
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let topics = BTreeMap::from([(
            "t".to_owned(),
            Claim { root: Root { cluster: "east".into(), topic: "t".into() }, at_ms: 7 },
        )]);
        let text = r#"{"v":1,"topics":{"t":{"root":{"cluster":"east","topic":"t"},"at_ms":7}}}"#;
        assert_eq!(encode("claims", &Part { v: 1, topics: topics.clone() }).expect("text"), text.as_bytes());
        assert_eq!(decode(&"l".into(), text.as_bytes()).expect("claims"), topics);
        let newer = decode(&"l".into(), br#"{"v":2,"topics":{}}"#).expect_err("newer");
        assert_eq!(newer.code, "claims-unreadable");
    }
}
