//! A link that is defined by itself, as a JSON object: by a request, not by the configuration file.
//!
//! It is read by what reads the file, so both know the same keys and say the same about them. What differs: `source_cluster` and `target_cluster` are tables,
//! which either name a cluster of the file by `cluster_id` alone or say what the cluster is; a plugin is named by its digest, since a path says nothing to
//! other daemons; and files may be used of one directory only, because whoever may define a link need not be trusted with everything that the daemon can read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::circle::refuse_together;
use super::cluster::{ClusterConfig, ClusterKind};
use super::diagnostic::{Diagnostic, Place, Source};
use super::link::{self, Around, IN_PLACE, LinkConfig, ReadLink};
use super::neighbours::introduce;
use super::reader::Table;
use super::report::{Files, Null, Report, Within};
use crate::model::{ClusterId, Json, JsonNumber, JsonObject, Limits, LinkId};

/// The deepest nesting of a definition, without what plugins are configured with.
const DEPTH_MAX: usize = 32;

/// Where the stages are, and what the plugin of each is configured with.
const PIPELINES: [&str; 2] = ["pipeline", "reverse.pipeline"];
const CONFIG: &str = "config";

/// What the daemon's own settings say about every definition: another value makes another link of
/// the same definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionSettings {
    /// What the plugins of a stage may use unless the stage says otherwise.
    pub limits: Limits,
    /// The directory of files with secrets and certificates that a definition may use; `None`: it may use none.
    pub secrets_dir: Option<PathBuf>,
    /// Whether passwords and tokens may be sent in the clear to other machines.
    pub insecure_plaintext: bool,
}

/// What a definition may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The clusters that are there already, by id.
    pub clusters: &'a BTreeMap<ClusterId, ClusterConfig>,
    /// Those of them that other definitions have brought, each with what it was defined by.
    pub in_place: &'a BTreeMap<ClusterId, Json>,
    /// The other links.
    pub links: &'a [LinkConfig],
    /// The settings of the daemon.
    pub settings: &'a DefinitionSettings,
}

impl<'a> Surroundings<'a> {
    fn secrets_dir(&self) -> Option<&'a Path> {
        self.settings.secrets_dir.as_deref()
    }
}

/// A link, and what it brings with it.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The link.
    pub link: LinkConfig,
    /// The link that goes the other way, if one does.
    pub reverse: Option<LinkConfig>,
    /// The clusters that it defines in place, by id, each with what it is defined by.
    pub clusters: BTreeMap<ClusterId, (ClusterConfig, Json)>,
    /// The text that places are of.
    pub source: Source,
    /// What a person should look at.
    pub warnings: Vec<Diagnostic>,
}

/// Read the definition of the link `id`.
///
/// # Errors
/// Everything that is wrong, warnings too. The keys of diagnostics are paths in the definition.
pub fn read_definition(
    id: &str,
    definition: &JsonObject,
    around: &Surroundings<'_>,
) -> Result<Defined, Vec<Diagnostic>> {
    let mut form = Form::default();
    let table = form.table(definition, &Place::top(), 0);
    let written = toml::to_string(&table);
    let text = written.as_deref().unwrap_or_default();
    let source = Source::new(id, text);
    let (tree, syntax_errors) = DeTable::parse_recoverable(text);
    let files =
        Files::Within(Within { dir: around.secrets_dir(), sends_in_the_clear: around.settings.insecure_plaintext });
    let report = Report::new(&source, &syntax_errors).with_files(files).with_nulls(form.nulls);
    if let Err(error) = &written {
        report.error(&Place::top(), format!("the definition cannot be written as TOML: {error}"));
    }
    for (place, message) in form.misfits {
        report.error(&place, message);
    }
    let read = read(id, Table::root(tree.get_ref(), &report), definition, around);
    let warnings = report.finish()?;
    // Whatever is missing was reported.
    let (mut links, clusters) = read.ok_or_else(Vec::new)?;
    let reverse = (links.len() > 1).then(|| links.pop()).flatten();
    let link = links.pop().ok_or_else(Vec::new)?;
    Ok(Defined { link, reverse, clusters, source, warnings })
}

type InPlace = BTreeMap<ClusterId, (ClusterConfig, Json)>;

fn read(
    id: &str,
    table: Table<'_>,
    definition: &JsonObject,
    around: &Surroundings<'_>,
) -> Option<(Vec<LinkConfig>, InPlace)> {
    let report = table.report;
    super::check_link_id(id, &Place::top().child("id", 0..0), report);
    let mut clusters = around.clusters.clone();
    let (in_place, brought) = read_in_place(&table, definition, around);
    clusters.extend(in_place.iter().map(|(id, (cluster, _))| (id.clone(), cluster.clone())));
    // A cluster with an error is there all the same: one error is enough.
    let ids: Vec<&str> = clusters.keys().chain(&brought).map(|id| &**id).collect();
    let is_kafka = |cluster: &&ClusterConfig| matches!(cluster.kind, ClusterKind::Kafka(_));
    let kafka = clusters.values().filter(is_kafka).map(|cluster| &cluster.id);
    let kafka: BTreeSet<&str> = kafka.chain(&brought).map(|id| &**id).collect();
    let around_link = Around {
        form: link::Form::Definition,
        clusters: &ids,
        kafka: &kafka,
        known: &clusters,
        limits: &around.settings.limits,
        base_dir: around.secrets_dir().unwrap_or(Path::new("")),
    };
    let mut read = ReadLink::read(table, id, &around_link)?;
    let others: Vec<ReadLink> = around.links.iter().cloned().map(ReadLink::known).collect();
    let reverse = read.reverse.take().map(|reverse| *reverse);
    let new: Vec<&ReadLink> = std::iter::once(&read).chain(&reverse).collect();
    refuse_together(&new, &others.iter().collect::<Vec<_>>(), &clusters, report);
    let links = std::iter::once(read).chain(reverse).map(|ReadLink { mut link, .. }| {
        let declared = clusters.get(&link.target).into_iter().flat_map(|cluster| cluster.topics.keys());
        link.following.declared = declared.cloned().collect();
        link
    });
    let mut links: Vec<LinkConfig> = links.collect();
    introduce(links.iter_mut(), around.links);
    Some((links, in_place))
}

/// The clusters that the link says more of than their ids: those that can be, and the ids of all.
fn read_in_place(
    table: &Table<'_>,
    definition: &JsonObject,
    around: &Surroundings<'_>,
) -> (InPlace, BTreeSet<ClusterId>) {
    let (mut found, mut brought) = (InPlace::new(), BTreeSet::new());
    for key in IN_PLACE {
        let Some(mut item) = table.peek(key).and_then(|item| item.table()) else { continue };
        let written = definition.get(key).cloned().unwrap_or_default();
        let Some((id, place)) = item.item("cluster_id").and_then(|id| Some((id.text()?, id.place))) else { continue };
        if !super::check_id("cluster", id, &place, table.report) || item.keys().all(|key| key == "cluster_id") {
            continue;
        }
        let id = ClusterId::from(id);
        brought.insert(id.clone());
        if around.clusters.contains_key(&id) && around.in_place.get(&id) != Some(&written) {
            let message = match around.in_place.contains_key(&id) {
                true => format!("another link defines the cluster {id:?} otherwise", id = &*id),
                false => format!("the configuration file of the daemon defines the cluster {id:?}", id = &*id),
            };
            let help = "leave out everything but cluster_id, or choose another cluster_id";
            table.report.error_with_help(&place, message, help);
        }
        let base_dir = around.secrets_dir().unwrap_or(Path::new(""));
        if let Some(cluster) = ClusterConfig::read_in_place(item, &id, base_dir) {
            match found.get(&id) {
                Some((_, other)) if *other != written => {
                    let message = "source and target are the same cluster, and it is defined in two ways";
                    table.report.error(&place, message);
                }
                _ => drop(found.insert(id, (cluster, written))),
            }
        }
    }
    (found, brought)
}

/// A definition in the form of the file, and what that form cannot say.
#[derive(Default)]
struct Form {
    /// Where something is wrong, and what.
    misfits: Vec<(Place, String)>,
    /// Where it says null.
    nulls: Vec<Null>,
}

impl Form {
    /// An object as a table. Null is left out: whether it says that nothing is set, or nothing that makes sense, the reader of the table knows.
    fn table(&mut self, object: &JsonObject, place: &Place, depth: usize) -> toml::Table {
        let mut table = toml::Table::new();
        for (key, value) in object {
            let at = place.child(key, 0..0);
            if value.is_null() {
                self.nulls.push(Null { around: place.key.clone(), key: key.clone(), place: at });
            } else if let Some(value) = self.value(value, &at, depth + 1) {
                table.insert(key.clone(), value);
            }
        }
        table
    }

    fn value(&mut self, value: &Json, place: &Place, depth: usize) -> Option<toml::Value> {
        if depth > DEPTH_MAX {
            return self.misfit(place, format!("nested too deeply: {DEPTH_MAX} levels are the limit"));
        }
        match value {
            Json::Null => self.misfit(place, "expected a value, found null"),
            Json::Bool(flag) => Some(toml::Value::Boolean(*flag)),
            Json::String(text) => Some(toml::Value::String(text.clone())),
            Json::Number(number) => self.number(number, place),
            Json::Array(values) if PIPELINES.contains(&&*place.key) => Some(toml::Value::Array(
                values.iter().enumerate().filter_map(|(at, stage)| self.stage(stage, &place.item(at, 0..0))).collect(),
            )),
            Json::Array(values) => {
                let values = values.iter().enumerate();
                let value = |(index, value)| self.value(value, &place.item(index, 0..0), depth + 1);
                Some(toml::Value::Array(values.filter_map(value).collect()))
            }
            Json::Object(object) => Some(toml::Value::Table(self.table(object, place, depth))),
        }
    }

    /// A stage, with the configuration of its plugin as the text of its JSON: TOML has no null and no number of more than 64 bits.
    fn stage(&mut self, stage: &Json, place: &Place) -> Option<toml::Value> {
        let Json::Object(stage) = stage else { return self.value(stage, place, 2) };
        let mut stage = stage.clone();
        let config = match stage.remove(CONFIG) {
            Some(Json::Object(config)) => Some(Json::Object(config).to_string()),
            Some(Json::Null) | None => None,
            Some(other) => {
                let found = kind(&other);
                self.misfit(&place.child(CONFIG, 0..0), format!("expected an object, found {found}"))
            }
        };
        let mut table = self.table(&stage, place, 2);
        table.extend(config.map(|config| (CONFIG.to_owned(), toml::Value::String(config))));
        Some(toml::Value::Table(table))
    }

    /// What no setting is as large as, or as exact, is wrong anyway.
    fn number(&mut self, number: &JsonNumber, place: &Place) -> Option<toml::Value> {
        let text = number.as_str();
        if let Ok(number) = text.parse() {
            return Some(toml::Value::Integer(number));
        }
        match text.parse() {
            Ok(number) if f64::is_finite(number) && text.contains(['.', 'e', 'E']) => Some(toml::Value::Float(number)),
            _ => self.misfit(place, format!("{text} is out of range: numbers have 64 bits, one of them for the sign")),
        }
    }

    fn misfit<T>(&mut self, place: &Place, message: impl Into<String>) -> Option<T> {
        self.misfits.push((place.clone(), message.into()));
        None
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// The path in its definition of what a diagnostic is about, as JSONPath writes it.
pub fn json_path(diagnostic: &Diagnostic) -> String {
    match &*diagnostic.key {
        "" => "$".to_owned(),
        key => format!("$.{key}"),
    }
}

/// The id of a link that was defined without one.
pub fn new_id() -> LinkId {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("link-{}", &random[..12]).as_str().into()
}
