//! Links that go both ways: `type`, and `[links.ID.reverse]`, which says what the reverse way does differently.
//!
//! One definition makes two links. The reverse way is the forward way turned round. What cannot
//! simply be turned round (names, dead letters, stages, the start) is decided here and nowhere else.

use toml::de::DeValue;

use crate::model::{Builtins, FilterSpec, LinkId, Provenance, TransformSpec};

use super::diagnostic::Place;
use super::filter::read_filter;
use super::link::{Around, Isolation, LinkConfig, ReadLink, TransferConfig, topic_name};
use super::reader::{Table, Written};
use super::rename::Rename;
use super::report::Report;
use super::rules::{self, Subject};
use super::selectors::read_rename;
use super::stage::{StageConfig, read_pipeline};
use super::start::Start;
use super::topics::{TopicSelector, check_topic_name};
use super::transform::{Names, read_transform, settled};

/// What the id of the reverse way ends with.
const REVERSE: &str = ".reverse";

/// What the name of a topic of dead letters ends with unless the link names it.
const DEAD_LETTERS: &str = ".dead-letters";

/// What stands in the id of a link that fails another one back, before a number.
const BACK: &str = ".back";

/// The id of the link on which `link` fails back for the `number`th epoch.
pub fn failback_id(link: &str, number: u32) -> String {
    format!("{link}{BACK}{number}")
}

/// The link that fails back on the link `id`, and the number.
pub fn failback_of(id: &str) -> Option<(&str, u32)> {
    let (link, number) = id.rsplit_once(BACK)?;
    number.parse().ok().filter(|parsed| failback_id(link, *parsed) == id).map(|number| (link, number))
}

/// The id of the forward way, of the id of a reverse way.
pub fn forward_id(id: &str) -> Option<&str> {
    id.strip_suffix(REVERSE)
}

/// Which way records go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// From source to target.
    #[default]
    ActivePassive,
    /// Both ways: another link goes with this one, the other way.
    ActiveActive,
    /// Both ways between a hub, the source, and one of its spokes, the target. No cluster is a spoke twice, so that there is one way only from each
    /// cluster to each other one.
    Star,
}

impl Topology {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActivePassive => "active-passive",
            Self::ActiveActive => "active-active",
            Self::Star => "star",
        }
    }

    /// Whether records go both ways.
    pub fn is_both_ways(self) -> bool {
        self != Self::ActivePassive
    }
}

impl LinkConfig {
    /// Whether clients write to both clusters of the link: another way brings back what is written to
    /// the target, so neither cluster ever takes the other's place.
    pub fn goes_both_ways(&self) -> bool {
        self.topology.is_both_ways() || self.builtins.provenance.is_some()
    }

    /// The id of the link that goes the other way, if one goes with this one.
    pub fn other_way_id(&self) -> Option<LinkId> {
        match forward_id(&self.id).filter(|_| self.is_reverse) {
            Some(forward) => Some(forward.into()),
            None => self.topology.is_both_ways().then(|| reverse_id(&self.id)),
        }
    }
}

fn reverse_id(forward: &str) -> LinkId {
    format!("{forward}{REVERSE}").as_str().into()
}

/// The topic of dead letters of the reverse way: `a.dead-letters` makes `a.reverse.dead-letters`, and `bad` makes `bad.reverse`.
fn reverse_letters(forward: &str) -> String {
    match forward.strip_suffix(DEAD_LETTERS) {
        Some(id) => format!("{id}{REVERSE}{DEAD_LETTERS}"),
        None => format!("{forward}{REVERSE}"),
    }
}

/// The topic of dead letters of a link that names none.
pub(super) fn default_letters(id: &str) -> String {
    format!("{id}{DEAD_LETTERS}")
}

/// What a link says of its ways.
pub(super) struct Ways<'a> {
    pub(super) topology: Topology,
    /// Where `type` stands.
    place: Option<Place>,
    reverse: Reverse<'a>,
    /// Where the link says what the reverse way does, too, unless `reverse` says otherwise.
    shared: [(&'static str, Option<Place>); 3],
    /// Where the link says how topics are renamed.
    rename: Option<Place>,
}

/// `[links.ID.reverse]`: what the reverse way does differently. `None`: it does the same.
#[derive(Default)]
struct Reverse<'a> {
    written: Option<Written<'a>>,
    pipeline: Option<Vec<StageConfig>>,
    filter: Option<Option<FilterSpec>>,
    transform: Option<Option<TransformSpec>>,
    rename: Option<Vec<Rename>>,
    dead_letters: Option<(Option<String>, Place)>,
    start: Option<Option<Start>>,
}

impl<'a> Reverse<'a> {
    fn read(mut table: Table<'a>, around: &Around<'_>) -> Self {
        let reverse = Self {
            written: Some(table.written()),
            pipeline: table.item("pipeline").map(|item| read_pipeline(&item, around)),
            filter: table.item("filter").map(|item| read_filter(&item)),
            transform: table.item("transform").map(|item| read_transform(&item)),
            rename: table.item("rename").map(|item| read_rename(&item)),
            dead_letters: table.item("dead_letters").map(|item| (topic_name(&item), item.place)),
            start: table.item("start").map(|item| match item.value {
                DeValue::Table(_) => item.wrong_type("\"earliest\" or \"latest\""),
                _ => Start::read_word(&item),
            }),
        };
        table.finish();
        reverse
    }

    /// The reverse way of a link, and where it is written.
    fn of(
        self,
        link: &LinkConfig,
        names: BothNames,
        letters: String,
        transform: Option<TransformSpec>,
    ) -> (LinkConfig, Option<Written<'a>>) {
        let id = reverse_id(&link.id);
        let variables = Names { link: &id, source: &link.target, target: &link.source };
        let builtins = Builtins {
            filter: self.filter.unwrap_or_else(|| link.builtins.filter.clone()),
            transform: self.transform.unwrap_or(transform).map(|spec| settled(spec, &variables)),
            provenance: Some(Provenance {
                leave_out: link.source.to_string(),
                mark: Some(link.target.to_string()),
                returned: None,
            }),
        };
        let start = self.start.flatten();
        let reverse = LinkConfig {
            is_reverse: true,
            name: format!("{}, the other way", link.name),
            // What this daemon has aborted there is nobody's record.
            config: TransferConfig { isolation: Isolation::ReadCommitted, ..link.config.clone() },
            source: link.target.clone(),
            target: link.source.clone(),
            topics: names.turned(link, &link.topics),
            topics_exclude: names.turned(link, &link.topics_exclude),
            rename_back: names.has_to_return.then(|| link.rename.clone()),
            rename: names.reverse,
            dead_letters: letters,
            start_is_said: start.is_some(),
            start: start.unwrap_or_else(|| link.start.clone()),
            builtins,
            pipeline: self.pipeline.unwrap_or_else(|| link.pipeline.clone()),
            id,
            ..link.clone()
        };
        (reverse, self.written)
    }

    fn has(&self, key: &str) -> bool {
        match key {
            "pipeline" => self.pipeline.is_some(),
            "filter" => self.filter.is_some(),
            _ => self.transform.is_some(),
        }
    }
}

impl<'a> Ways<'a> {
    pub(super) fn read(table: &mut Table<'a>, around: &Around<'_>) -> Self {
        let topologies = [Topology::ActivePassive, Topology::ActiveActive, Topology::Star]
            .map(|topology| (topology.name(), topology));
        let item = table.item("type");
        let place = item.as_ref().map(|item| item.place.clone());
        let topology = item.map(|item| item.choice(&topologies));
        let reverse = table.item("reverse").and_then(|item| item.table());
        let reverse = reverse.map(|table| Reverse::read(table, around)).unwrap_or_default();
        let goes_one_way = matches!(topology, None | Some(Some(Topology::ActivePassive)));
        if let Some(written) = reverse.written.as_ref().filter(|_| goes_one_way) {
            let message = "the link goes one way: there is no reverse way that this could be about";
            let help = "write type = \"active-active\" or \"star\", or remove `reverse`";
            table.report.error_with_help(&written.place, message, help);
        }
        Self {
            topology: topology.flatten().unwrap_or_default(),
            place,
            reverse,
            shared: ["pipeline", "filter", "transform"].map(|key| (key, table.place_of(key))),
            rename: table.place_of("rename"),
        }
    }

    /// Make the reverse way of a link that goes both ways, and have the link know of it. `transform` is as it was written, with its variables.
    pub(super) fn make_reverse(self, read: &mut ReadLink, transform: Option<TransformSpec>, report: &Report<'_>) {
        let Some(place) = self.place.as_ref().filter(|_| self.topology.is_both_ways()) else { return };
        refuse_one_way_settings(&read.link, place, report);
        self.warn_of_shared(&read.link, report);
        let names = self.names(&mut read.link, report);
        let (letters, letters_place) = self.letters(read, report);
        leave_out(&mut read.link, &letters);
        let has_stages = self.reverse.pipeline.is_some();
        let (reverse, written) = self.reverse.of(&read.link, names, letters, transform);
        if let Some(written) = written.filter(|_| has_stages) {
            rules::check_stages(&Subject { link: &reverse, targets: Vec::new() }, &written);
        }
        let reverse = ReadLink {
            topic_places: read.topic_places.clone(),
            dead_letters_place: letters_place,
            target_place: read.target_place.clone(),
            reverse: None,
            link: reverse,
        };
        read.reverse = Some(Box::new(reverse));
    }

    /// Say of what works on both ways that it does: a stage that was written for one way rarely fits the other.
    fn warn_of_shared(&self, link: &LinkConfig, report: &Report<'_>) {
        let is_there = |key: &str| match key {
            "pipeline" => !link.pipeline.is_empty(),
            "filter" => link.builtins.filter.is_some(),
            _ => link.builtins.transform.is_some(),
        };
        for (key, place) in &self.shared {
            let is_said = self.reverse.has(key);
            let Some(place) = place.as_ref().filter(|_| is_there(key) && !is_said) else { continue };
            let none = if *key == "pipeline" { "[]" } else { "{}" };
            let message = format!(
                "`{key}` applies to both ways: also to records that are written to {} and go to {}",
                link.target, link.source
            );
            let help = format!("write reverse.{key} = {none} if the reverse way has none, or repeat it there");
            report.warning(place, message, help);
        }
    }

    /// What both ways call topics.
    fn names(&self, link: &mut LinkConfig, report: &Report<'_>) -> BothNames {
        let said = self.reverse.rename.clone();
        let is_said = said.is_some();
        let reverse = said.unwrap_or_else(|| link.rename.clone());
        let has_to_return = link.topic_prefix.is_empty() && !(link.rename.is_empty() && reverse.is_empty());
        if has_to_return && !is_said {
            if let Some(place) = &self.rename {
                let message = "the link renames topics and goes both ways: each round would make another name";
                let help = "write reverse.rename, which undoes `rename`, or a topic_prefix instead";
                report.error_with_help(place, message, help);
            }
            // One error is enough: nothing is said of single topics then.
            return BothNames { reverse, has_to_return: false };
        }
        if has_to_return {
            link.rename_back = Some(reverse.clone());
        }
        BothNames { reverse, has_to_return }
    }

    /// The topic of dead letters of the reverse way, and where it is written.
    fn letters(&self, read: &ReadLink, report: &Report<'_>) -> (String, Place) {
        let said = self.reverse.dead_letters.clone();
        let (name, place) = said.unwrap_or_else(|| (None, read.dead_letters_place.clone()));
        let name = name.unwrap_or_else(|| reverse_letters(&read.link.dead_letters));
        if let Err(message) = check_topic_name(&name) {
            let help = "write reverse.dead_letters = \"a-topic\"";
            report.error_with_help(
                &place,
                format!("dead letters of the reverse way would go to {name:?}: {message}"),
                help,
            );
        }
        (name, place)
    }
}

/// What the ways of a link call topics.
struct BothNames {
    /// What the reverse way renames.
    reverse: Vec<Rename>,
    /// Whether a topic has one name on each side.
    has_to_return: bool,
}

impl BothNames {
    /// Selectors for the reverse way: what the link names has another name where that reads it. Expressions stay: see `LinkConfig::lets_in`.
    fn turned(&self, link: &LinkConfig, selectors: &[TopicSelector]) -> Vec<TopicSelector> {
        let turned = |selector: &TopicSelector| match selector {
            TopicSelector::Name(name) if self.has_to_return && !link.is_letters(name) => {
                TopicSelector::Name(link.target_topic(name).into())
            }
            selector => selector.clone(),
        };
        selectors.iter().map(turned).collect()
    }
}

/// Have a link leave out what its other way has brought, as far as names tell, and the dead letters of both ways on either side.
fn leave_out(link: &mut LinkConfig, reverse_letters: &str) {
    link.letters_kept = [link.dead_letters.as_str(), reverse_letters].map(Into::into).into();
    if !link.topic_prefix.is_empty()
        && let Ok(copies) = TopicSelector::parse(&format!("/{}.*/", regex::escape(&link.topic_prefix)))
    {
        link.topics_exclude.push(copies);
    }
}

/// Report settings of a link that goes both ways which only make sense one way.
fn refuse_one_way_settings(link: &LinkConfig, place: &Place, report: &Report<'_>) {
    if link.builtins.provenance.is_none() {
        report.error_with_help(place, "records would go round for ever without provenance", "remove `provenance`");
    }
    if matches!(link.start, Start::MirrorMaker(_)) {
        let message = "a link that goes on where MirrorMaker 2 stopped goes one way";
        let help = "write two links with `provenance = true`, each with its own `start`";
        report.error_with_help(place, message, help);
    }
}
