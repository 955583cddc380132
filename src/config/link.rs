//! `[links.ID]`: what is copied from where to where, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::model::{Builtins, ClusterId, Compression, Digest, Limits, LinkId, OnError, Provenance};

use super::both_ways::{Topology, Ways, default_letters};
use super::breaker::BreakerConfig;
use super::check_link_id;
use super::cluster::ClusterConfig;
use super::diagnostic::Place;
use super::failover::FailoverConfig;
use super::filter::read_filter;
use super::following::Following;
use super::groups::GroupSync;
use super::health::HealthConfig;
use super::json::written;
use super::kafka::read_own_compression;
use super::neighbours::Neighbours;
use super::probation::ProbationConfig;
use super::reader::{Item, Table, suggest};
use super::rename::Rename;
use super::report::Report;
use super::rules::{self, Subject};
use super::selectors::{read_exclude, read_rename, read_topics};
use super::stage::{StageConfig, read_pipeline};
use super::start::Start;
use super::topics::{TOPIC_NAME_BYTES_MAX, TopicSelector, check_topic_characters, check_topic_name};
use super::transform::{Names, read_transform, settled};
use super::words::{NAME_BYTES_MAX, words};
use super::writing::{KeptByAll, Refused, Why};

/// The most lanes of a link: each is a thread and a transaction in the target.
pub const LANES_MAX: u64 = 1024;

/// Where a link that is defined by itself says what its clusters are: source and target.
pub(super) const IN_PLACE: [&str; 2] = ["source_cluster", "target_cluster"];

/// The rates that a link can be held to, in bytes a second.
pub const THROTTLE_RATES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;

/// How often heartbeats may be sent, in milliseconds.
const HEARTBEATS_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// A link.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its id.
    pub id: LinkId,
    /// Which way records go.
    pub topology: Topology,
    /// Whether it is the other way of a link that goes both ways.
    pub is_reverse: bool,
    /// Its name for people.
    pub name: String,
    /// The cluster that it reads.
    pub source: ClusterId,
    /// The cluster that it writes.
    pub target: ClusterId,
    /// The topics that it reads; at least one entry.
    pub topics: Vec<TopicSelector>,
    /// Those of them that it leaves out.
    pub topics_exclude: Vec<TopicSelector>,
    /// What topics are called in the target: the first rule that matches counts, and where none does a topic keeps its name.
    pub rename: Vec<Rename>,
    /// What the other way renames, if a topic has to return under the name that it went under.
    pub rename_back: Option<Vec<Rename>>,
    /// What stands before a topic's name in the target, after it was renamed.
    pub topic_prefix: String,
    /// How the topics of the target follow those of the source.
    pub following: Following,
    /// Which consumer groups go along to the target.
    pub groups: GroupSync,
    /// How often a heartbeat goes through each lane; `None`: never.
    pub heartbeat_interval: Option<Duration>,
    /// The topic of the target that records go to which a stage could not handle, if the stage is configured so.
    pub dead_letters: String,
    /// The topics of dead letters of both ways, which neither way copies; none for a link that goes one way.
    pub letters_kept: Vec<Arc<str>>,
    /// The number of lanes.
    pub lanes: u32,
    /// Whether it starts with the daemon when nobody has started or stopped it yet.
    pub autostart: bool,
    /// Where it begins in a partition that has no checkpoint.
    pub start: Start,
    /// Whether somebody has said so for this way. Where nobody has, a link between clusters that both are written
    /// to begins behind what was copied without a mark.
    pub start_is_said: bool,
    /// How it moves records.
    pub config: TransferConfig,
    /// When so many records are bad that it must not go on.
    pub breaker: BreakerConfig,
    /// How a new revision is watched.
    pub probation: ProbationConfig,
    /// What happens to the records before the first stage. The variables that are always the same in a link are texts already.
    pub builtins: Builtins,
    /// When its target takes the source's place, and who is told.
    pub failover: FailoverConfig,
    /// When it is not well.
    pub health: HealthConfig,
    /// What happens to the records on the way.
    pub pipeline: Vec<StageConfig>,
    /// The digest of what stands in the file; `None` for a link of a definition.
    pub written: Option<Digest>,
    /// The links that are known around it, if it marks what it copies.
    pub neighbours: Arc<Neighbours>,
    /// What all links that are known keep for themselves.
    pub kept: KeptByAll,
}

/// `[links.ID.config]`: how a link moves records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferConfig {
    /// The most records of a batch.
    pub batch_size: u32,
    /// A lane commits when its output has about this many bytes.
    pub max_bytes: u64,
    /// A lane commits when it has read about this many records; `None`: their number does not matter.
    pub max_messages: Option<u64>,
    /// A lane commits after this many milliseconds, if there is anything to commit.
    pub checkpoint_interval_ms: u64,
    /// What the record batches that it writes are compressed with; `None`: as the target cluster says.
    pub compression: Option<Compression>,
    /// The most bytes of keys, values and headers that it writes in a second, all lanes and daemons together; `None`: as fast as it can.
    pub throttle_rate: Option<u64>,
    /// Whether output and checkpoint must be one transaction.
    pub enable_exactly_once: bool,
    /// Which transactions of the source are read.
    pub isolation: Isolation,
    /// A transaction of the target that is older than this many milliseconds may be aborted. The search for a record that a
    /// plugin cannot handle takes a quarter of it at most, so that what was searched can still be committed.
    pub transaction_timeout_ms: u64,
}

/// Which transactions of a source are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those that are committed, and nothing behind the first open one.
    ReadCommitted,
    /// All: records of aborted transactions, too, and no transaction is waited for.
    ReadUncommitted,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            batch_size: 1000,
            max_bytes: 10 << 20,
            max_messages: None,
            checkpoint_interval_ms: 100,
            compression: None,
            throttle_rate: None,
            enable_exactly_once: true,
            isolation: Isolation::ReadCommitted,
            transaction_timeout_ms: 60_000,
        }
    }
}

impl LinkConfig {
    /// Whether a stage puts records aside.
    pub fn has_dead_letters(&self) -> bool {
        self.pipeline.iter().any(|stage| stage.on_error == OnError::DeadLetter)
    }
}

/// Where a link is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In the configuration file. It names its clusters under `source` and `target`, and the files of its plugins.
    File,
    /// In a definition of its own. It has tables `source_cluster` and `target_cluster`, whose `cluster_id` counts here, and names plugins by their
    /// digests. It waits to be started.
    Definition,
}

/// What is around the links, and they refer to.
pub(super) struct Around<'a> {
    /// Where the links are written.
    pub(super) form: Form,
    /// The ids of clusters that occur in the file.
    pub(super) clusters: &'a [&'a str],
    /// Those of them that are of Kafka.
    pub(super) kafka: &'a BTreeSet<&'a str>,
    /// Those of them that have no error, by id.
    pub(super) known: &'a BTreeMap<ClusterId, ClusterConfig>,
    /// What the plugins of a stage may use unless the stage says otherwise.
    pub(super) limits: &'a Limits,
    /// What paths are relative to.
    pub(super) base_dir: &'a Path,
}

/// A link, and where parts of it were written.
pub(super) struct ReadLink {
    pub(super) link: LinkConfig,
    /// The entries of its `topics`.
    pub(super) topic_places: Vec<Place>,
    /// Its `dead_letters`, or the link where it has none.
    pub(super) dead_letters_place: Place,
    /// Its target.
    pub(super) target_place: Place,
    /// The link that goes the other way, if one does.
    pub(super) reverse: Option<Box<ReadLink>>,
}

/// All links.
pub(super) fn read_links(table: Table<'_>, around: &Around<'_>) -> BTreeMap<LinkId, ReadLink> {
    let report = table.report;
    let (mut links, mut reverses) = (BTreeMap::new(), Vec::new());
    for (id, id_place, item) in table.named() {
        let valid = check_link_id(id, &id_place, report);
        let Some(table) = item.table() else { continue };
        if let Some(mut read) = ReadLink::read(table, id, around).filter(|_| valid) {
            read.link.written = Some(written(item.value));
            if let Some(mut reverse) = read.reverse.take() {
                reverse.link.written = read.link.written;
                reverses.push((id_place, *reverse));
            }
            links.insert(id.into(), read);
        }
    }
    for (place, reverse) in reverses {
        if links.contains_key(&reverse.link.id) {
            let message = format!("another link has the id of its other way, {:?}", &*reverse.link.id);
            report.error_with_help(&place, message, "choose another id for that link");
        }
        links.insert(reverse.link.id.clone(), reverse);
    }
    links
}

impl Form {
    /// The ids of source and target.
    fn clusters<'a>(self, table: &mut Table<'a>) -> [Option<Item<'a>>; 2] {
        match self {
            Self::File => [
                table.required("source", "write source = \"the id of a cluster\""),
                table.required("target", "write target = \"the id of a cluster\""),
            ],
            // What else is in these tables was read before.
            Self::Definition => IN_PLACE.map(|key| {
                let cluster = table.required(key, "write {\"cluster_id\": \"the id of a cluster\"}")?;
                let mut cluster = cluster.table_again()?;
                cluster.required("cluster_id", "write \"cluster_id\": \"the id of a cluster\"")
            }),
        }
    }
}

impl ReadLink {
    /// A link that was read before.
    pub(super) fn known(link: LinkConfig) -> Self {
        Self {
            topic_places: vec![Place::top(); link.topics.len()],
            dead_letters_place: Place::top(),
            target_place: Place::top(),
            reverse: None,
            link,
        }
    }

    /// `None` if something is missing or wrong that has no default.
    pub(super) fn read(mut table: Table<'_>, id: &str, around: &Around<'_>) -> Option<Self> {
        let report = table.report;
        let ways = Ways::read(&mut table, around);
        if around.form == Form::Definition {
            // Whoever defines the link has looked at it.
            table.item("id");
        }
        let name =
            table.item("name").and_then(|item| item.parsed(words(item.text()?, NAME_BYTES_MAX).map(str::to_owned)));
        let name = name.unwrap_or_else(|| id.to_owned());
        let [source, target] = around.form.clusters(&mut table);
        let topic_prefix = table.item("topic_prefix").map_or(Some(""), |item| topic_prefix(&item));
        let rename = table.item("rename").map(|item| read_rename(&item)).unwrap_or_default();
        let topics = table.required("topics", "write topics = [\"a-topic\", \"/a regular expression/\"]");
        let exclude = table.item("topics_exclude").map(|item| read_exclude(&item)).unwrap_or_default();
        let dead_letters = table.item("dead_letters");
        let lanes = read_lanes(&mut table);
        let autostart = table.flag("autostart", around.form == Form::File);
        let is_kafka = |item: &Option<Item<'_>>| {
            let id = item.as_ref().map(|item| item.value);
            matches!(id, Some(DeValue::String(id)) if around.kafka.contains(&**id))
        };
        let target_is_kafka = is_kafka(&target);
        let source_id =
            source.as_ref().and_then(|item| if let DeValue::String(id) = item.value { Some(&**id) } else { None });
        let start = table.item("start");
        let start_is_said = start.is_some();
        let start = start.map_or(Some(Start::Earliest), |item| Start::read(&item, source_id, target_is_kafka));
        let following = Following::read(&mut table, target_is_kafka, target_is_kafka && is_kafka(&source));
        let groups = GroupSync::read(&mut table, target_is_kafka && is_kafka(&source));
        let heartbeat = table.item("heartbeat_interval").and_then(|item| item.duration_ms_in(HEARTBEATS_MS));
        let config = TransferConfig::read(table.table("config"), is_kafka(&source), target_is_kafka);
        let breaker = BreakerConfig::read(table.table("breaker"));
        let probation = ProbationConfig::read(table.table("probation"));
        let filter = table.item("filter").and_then(|item| read_filter(&item));
        let transform = table.item("transform").and_then(|item| read_transform(&item));
        let provenance = table.flag("provenance", ways.topology.is_both_ways());
        let failover = FailoverConfig::read(table.table("failover_config"), around.base_dir);
        let health = HealthConfig::read(table.table("health"));
        let pipeline = table.item("pipeline").map(|item| read_pipeline(&item, around)).unwrap_or_default();
        let place_of = |item: &Option<Item<'_>>| item.as_ref().map_or(&table.place, |item| &item.place).clone();
        let (dead_letters_place, target_place) = (place_of(&dead_letters), place_of(&target));
        let written = table.written();
        table.finish();

        // All before any `?`, so that all their errors are reported.
        let source = source.and_then(|item| cluster(&item, around.clusters));
        let target = target.and_then(|item| cluster(&item, around.clusters));
        let (topics, topic_places) = topics.map(|item| read_topics(&item)).unwrap_or_default();
        let dead_letters = dead_letters.map_or_else(|| Some(default_letters(id)), |item| topic_name(&item));
        let (source, target) = (source?, target?);
        let names = Names { link: id, source: &source, target: &target };
        let provenance = provenance.then(|| Provenance {
            leave_out: target.to_string(),
            mark: Some(source.to_string()),
            returned: None,
        });
        let builtins = Builtins { filter, transform: transform.clone().map(|spec| settled(spec, &names)), provenance };
        let link = LinkConfig {
            id: id.into(),
            topology: ways.topology,
            is_reverse: false,
            name,
            source,
            target,
            topics,
            topics_exclude: exclude,
            rename,
            rename_back: None,
            topic_prefix: topic_prefix?.to_owned(),
            following,
            groups,
            heartbeat_interval: heartbeat.map(Duration::from_millis),
            dead_letters: dead_letters?,
            letters_kept: Vec::new(),
            lanes,
            autostart,
            start: start?,
            start_is_said,
            config,
            breaker,
            probation,
            builtins,
            failover,
            health,
            pipeline,
            written: None,
            neighbours: Arc::default(),
            kept: KeptByAll::default(),
        };
        let mut read = Self { link, topic_places, dead_letters_place, target_place, reverse: None };
        ways.make_reverse(&mut read, transform, report);
        read.check_names(report);
        let back = read.link.topology.is_both_ways() || read.link.failover.enabled;
        let targets = std::iter::once(&read.link.target).chain(Some(&read.link.source).filter(|_| back));
        let targets = targets.filter_map(|id| around.known.get(id)).collect();
        rules::check(&Subject { link: &read.link, targets }, &written);
        Some(read)
    }

    /// Whether topics that are named get names that can be, and each one of its own.
    fn check_names(&self, report: &Report<'_>) {
        let errors = report.error_count();
        for (selector, place) in self.link.topics.iter().zip(&self.topic_places) {
            let TopicSelector::Name(name) = selector else { continue };
            if self.link.letters_kept.iter().any(|letters| **letters == **name) {
                let message = format!("{name:?} has the dead letters of the link, which neither of its ways copies");
                report.error_with_help(place, message, "remove it, or copy it with a link of its own");
            } else if self.link.excludes(name) {
                let message = format!("{name:?} is named here and left out by \"topics_exclude\"");
                report.error_with_help(place, message, "remove it from one of them");
            }
            let target = self.link.target_topic(name);
            if let Err(Refused { why: Why::Strays(back), .. }) = self.link.copy_of(name) {
                let message = format!("{name:?} becomes {target:?} and would come back as {back:?}");
                report.error_with_help(place, message, "change reverse.rename, so that it undoes `rename`");
            }
        }
        self.check_copies("rename", report);
        // What is wrong with both ways is said once.
        if let Some(reverse) = self.reverse.as_ref().filter(|_| report.error_count() == errors) {
            reverse.check_copies("reverse.rename", report);
        }
    }

    /// Whether the copies of topics that are named get names that can be, and each one of its own. `key` is what gives them their names.
    fn check_copies(&self, key: &str, report: &Report<'_>) {
        let side = if self.link.is_reverse { "source" } else { "target" };
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        for (selector, place) in self.link.topics.iter().zip(&self.topic_places) {
            let TopicSelector::Name(name) = selector else { continue };
            let target = self.link.target_topic(name);
            if target.len() > TOPIC_NAME_BYTES_MAX {
                let message = format!("in the {side} the name is longer than {TOPIC_NAME_BYTES_MAX} characters");
                report.error(place, message);
            } else if let Err(message) = check_topic_name(&target) {
                report.error(place, format!("in the {side} it would be {target:?}: {message}"));
            }
            if let Some(other) = taken.get(&target).filter(|other| ***other != **name) {
                let message = format!("{other:?} and {name:?} would both become {target:?}");
                report.error_with_help(
                    place,
                    message,
                    format!("change `{key}`, so that each topic has a name of its own"),
                );
            }
            taken.insert(target, name);
        }
    }
}

/// The number of lanes. `concurrent_partitions` says the same, since each lane copies one partition at a time.
fn read_lanes(table: &mut Table<'_>) -> u32 {
    let range = 1..=LANES_MAX;
    let config = table.peek("config").and_then(|item| item.table_again());
    let concurrent = config.and_then(|config| config.peek("concurrent_partitions"));
    let lanes = table.item("lanes");
    if let (Some(_), Some(concurrent)) = (&lanes, &concurrent) {
        let message = "\"lanes\" of the link says the same: write one of the two";
        concurrent.report.error(&concurrent.place, message);
    }
    lanes.or(concurrent).and_then(|item| item.integer(range)).unwrap_or(1) as u32
}

impl TransferConfig {
    fn read(mut table: Table<'_>, source_is_kafka: bool, target_is_kafka: bool) -> Self {
        if let Some(item) = table.item("enable_idempotence") {
            // Writing is idempotent in any case.
            if item.flag() == Some(false) {
                item.report.warning(
                    &item.place,
                    "this changes nothing: records are always written idempotently",
                    "remove it",
                );
            }
        }
        // The link has read it: see `read_lanes`.
        table.item("concurrent_partitions");
        let compression = read_own_compression(&mut table);
        let default = Self::default();
        let config = Self {
            batch_size: table.integer("batch_size", default.batch_size.into(), 1..=100_000) as u32,
            max_bytes: table.size("max_bytes", default.max_bytes, 1 << 10..=1 << 30),
            max_messages: table.item("max_messages").and_then(|item| item.integer(1..=u32::MAX.into())),
            checkpoint_interval_ms: table.integer("checkpoint_interval_ms", default.checkpoint_interval_ms, 1..=60_000),
            compression,
            throttle_rate: table.item("throttle_rate_bytes_per_sec").and_then(|item| item.size(THROTTLE_RATES)),
            enable_exactly_once: exactly_once(&mut table, target_is_kafka).unwrap_or(default.enable_exactly_once),
            isolation: isolation(&mut table, source_is_kafka).unwrap_or(default.isolation),
            transaction_timeout_ms: table.integer(
                "transaction_timeout_ms",
                default.transaction_timeout_ms,
                10_000..=900_000,
            ),
        };
        table.finish();
        config
    }
}

fn isolation(table: &mut Table<'_>, source_is_kafka: bool) -> Option<Isolation> {
    let item = table.item("isolation_level")?;
    let levels = [("read_committed", Isolation::ReadCommitted), ("read_uncommitted", Isolation::ReadUncommitted)];
    let level = item.choice(&levels)?;
    if level == Isolation::ReadUncommitted && !source_is_kafka {
        let message = "this changes nothing: an embedded cluster shows no record before it is committed";
        item.report.warning(&item.place, message, "remove it");
    }
    Some(level)
}

/// What the link says of exactly once, if it says anything.
fn exactly_once(table: &mut Table<'_>, target_is_kafka: bool) -> Option<bool> {
    let item = table.item("enable_exactly_once")?;
    let flag = item.flag()?;
    if !flag && !target_is_kafka {
        item.report.warning(
            &item.place,
            "this changes nothing: an embedded cluster commits output and checkpoint together anyway",
            "remove it",
        );
    }
    Some(flag)
}

/// The id of a cluster that is there.
pub(super) fn cluster(item: &Item<'_>, clusters: &[&str]) -> Option<ClusterId> {
    let id = item.text()?;
    if !clusters.contains(&id) {
        let help = match clusters {
            [] => format!("write a table [clusters.{id}]"),
            clusters => suggest(id, clusters.iter().copied()),
        };
        item.report.error_if_all_was_read(&item.place, format!("there is no cluster {id:?}"), help);
        return None;
    }
    Some(id.into())
}

fn topic_prefix<'a>(item: &Item<'a>) -> Option<&'a str> {
    let prefix = item.text()?;
    item.parsed(check_topic_characters(prefix).map(|()| prefix))
}

pub(super) fn topic_name(item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    item.parsed(check_topic_name(name).map(|()| name.to_owned()))
}
