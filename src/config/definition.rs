//! A link that is defined by itself, as a JSON object: by a request, not by the configuration file.
//!
//! It is read by what reads the file, so both know the same keys and say the same about them. What differs: `source_cluster` and `target_cluster` are tables,
//! which either name a cluster of the file by `cluster_id` alone or say what the cluster is; a plugin is named by its digest, since a path says nothing to
//! other daemons; and files may be used of one directory only, because whoever may define a link need not be trusted with everything that the daemon can read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use toml::de::DeTable;

use super::circle::{refuse_circles, refuse_doubles, refuse_second_hubs};
use super::cluster::{ClusterConfig, ClusterKind};
use super::diagnostic::{Diagnostic, Place, Source};
use super::link::{Around, Form, IN_PLACE, LinkConfig, ReadLink};
use super::reader::Table;
use super::report::{Files, Report};
use crate::model::{ClusterId, Limits, LinkId};

/// The deepest nesting of a definition.
const DEPTH_MAX: usize = 32;

/// What a definition may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The clusters that are there already, by id.
    pub clusters: &'a BTreeMap<ClusterId, ClusterConfig>,
    /// Those of them that other definitions have brought, each with what it was defined by.
    pub in_place: &'a BTreeMap<ClusterId, Value>,
    /// The other links.
    pub links: &'a [LinkConfig],
    /// What the plugins of a stage may use unless the stage says otherwise.
    pub limits: &'a Limits,
    /// The directory of files with secrets and certificates that a definition may use; `None`: it may use none.
    pub secrets_dir: Option<&'a Path>,
}

/// A link, and what it brings with it.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The link.
    pub link: LinkConfig,
    /// The link that goes the other way, if one does.
    pub reverse: Option<LinkConfig>,
    /// The clusters that it defines in place, by id, each with what it is defined by.
    pub clusters: BTreeMap<ClusterId, (ClusterConfig, Value)>,
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
    definition: &Map<String, Value>,
    around: &Surroundings<'_>,
) -> Result<Defined, Vec<Diagnostic>> {
    let mut misfits = Vec::new();
    let table = table_of(definition, &Place::top(), 0, &mut misfits);
    let written = toml::to_string(&table);
    let text = written.as_deref().unwrap_or_default();
    let source = Source::new(id, text);
    let (tree, syntax_errors) = DeTable::parse_recoverable(text);
    let report = Report::new(&source, &syntax_errors).with_files(Files::Within(around.secrets_dir));
    if let Err(error) = &written {
        report.error(&Place::top(), format!("the definition cannot be written as TOML: {error}"));
    }
    for (place, message) in misfits {
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

type InPlace = BTreeMap<ClusterId, (ClusterConfig, Value)>;

fn read(
    id: &str,
    table: Table<'_>,
    definition: &Map<String, Value>,
    around: &Surroundings<'_>,
) -> Option<(Vec<LinkConfig>, InPlace)> {
    let report = table.report;
    super::check_id("link", id, &Place::top().child("id", 0..0), report);
    let mut clusters = around.clusters.clone();
    let (in_place, brought) = read_in_place(&table, definition, around);
    clusters.extend(in_place.iter().map(|(id, (cluster, _))| (id.clone(), cluster.clone())));
    // A cluster with an error is there all the same: one error is enough.
    let ids: Vec<&str> = clusters.keys().chain(&brought).map(|id| &**id).collect();
    let is_kafka = |cluster: &&ClusterConfig| matches!(cluster.kind, ClusterKind::Kafka(_));
    let kafka = clusters.values().filter(is_kafka).map(|cluster| &cluster.id);
    let kafka: BTreeSet<&str> = kafka.chain(&brought).map(|id| &**id).collect();
    let around_link = Around {
        form: Form::Definition,
        clusters: &ids,
        kafka: &kafka,
        limits: around.limits,
        base_dir: around.secrets_dir.unwrap_or(Path::new("")),
    };
    let read = ReadLink::read(table, id, &around_link)?;
    let others: Vec<ReadLink> = around.links.iter().cloned().map(ReadLink::known).collect();
    let reverse = read.reverse.clone().map(ReadLink::known);
    refuse_circles(std::iter::once(&read).chain(&reverse).chain(&others), &clusters, report);
    refuse_second_hubs(std::iter::once(&read), around.links.iter(), report);
    refuse_doubles(std::iter::once(&read), around.links.iter(), report);
    let links = std::iter::once(read.link).chain(read.reverse).map(|mut link| {
        let declared = clusters.get(&link.target).into_iter().flat_map(|cluster| cluster.topics.keys());
        link.following.declared = declared.cloned().collect();
        link
    });
    Some((links.collect(), in_place))
}

/// The clusters that the link says more of than their ids: those that can be, and the ids of all.
fn read_in_place(
    table: &Table<'_>,
    definition: &Map<String, Value>,
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
        let base_dir = around.secrets_dir.unwrap_or(Path::new(""));
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

/// An object as a TOML table. What is null is left out: it says that nothing is set.
fn table_of(
    object: &Map<String, Value>,
    place: &Place,
    depth: usize,
    misfits: &mut Vec<(Place, String)>,
) -> toml::Table {
    let present = object.iter().filter(|(_, value)| !value.is_null());
    let entry = |(key, value): (&String, &Value)| {
        Some((key.clone(), value_of(value, &place.child(key, 0..0), depth + 1, misfits)?))
    };
    present.filter_map(entry).collect()
}

fn value_of(value: &Value, place: &Place, depth: usize, misfits: &mut Vec<(Place, String)>) -> Option<toml::Value> {
    let wrong = |message: &str| (place.clone(), message.to_owned());
    if depth > DEPTH_MAX {
        misfits.push(wrong(&format!("nested too deeply: {DEPTH_MAX} levels are the limit")));
        return None;
    }
    match value {
        Value::Null => {
            misfits.push(wrong("expected a value, found null"));
            None
        }
        Value::Bool(flag) => Some(toml::Value::Boolean(*flag)),
        Value::String(text) => Some(toml::Value::String(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Some(toml::Value::Integer(number)),
            (None, Some(float)) if !number.is_u64() => Some(toml::Value::Float(float)),
            _ => {
                misfits
                    .push(wrong(&format!("{number} is out of range: numbers have 64 bits, one of them for the sign")));
                None
            }
        },
        Value::Array(values) => {
            let value = |(index, value)| value_of(value, &place.item(index, 0..0), depth + 1, misfits);
            Some(toml::Value::Array(values.iter().enumerate().filter_map(value).collect()))
        }
        Value::Object(object) => Some(toml::Value::Table(table_of(object, place, depth, misfits))),
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
