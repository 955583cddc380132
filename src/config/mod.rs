//! The configuration file: TOML text to validated settings, every error at once, each with its place.
//!
//! Invariants
//! - A [`Config`] that exists is right: every reference leads somewhere, every number is within its limits, every
//!   plugin's file was there, could be read and had the digest it is pinned to. What only the plugin itself can say (is it a
//!   component, does it take its configuration) is asked elsewhere, and attached to the [`Place`]s that are kept.
//! - Reading never stops at the first error, and never panics, whatever the text.
//! - Relative paths are relative to the directory of the file, whatever the current directory is.
//! - An unknown key is an error: a slip of the hand must not become a default.
//! - A [`Secret`] is shown by nothing: not by `Debug`, not by an error, and not by the line that a
//!   diagnostic shows. One that leaves the process is a [`Credential`], which can be read only for
//!   the peer that gets it.
//!
//! Reading order: [`daemon`] with [`api`], [`cluster`] with [`kafka`], [`tuning`], [`proxy`], [`sasl`] and [`aws`], [`secret`] and [`credential`], [`link`] with [`topics`], [`both_ways`], `names`, [`rename`], [`start`], [`following`], [`groups`], [`breaker`], [`probation`] and [`health`], [`stage`] hold the settings, each with its
//! own part of the file; `limits` reads what plugins may use; `filter` and [`transform`], with [`patterns`] and [`template`], read what a link does without plugins; [`circle`] looks at links together (`flow` follows what they copy, `overlap` and `sample` find names that expressions match), and [`writing`] says who may write to which topic; `rules` has the settings that do not fit each other. `reader` walks the TOML tree for them and remembers which keys are known; `report` collects what
//! is wrong, as [`diagnostic`]s.

pub mod api;
pub mod aws;
pub mod both_ways;
pub mod breaker;
pub mod circle;
pub mod cluster;
pub mod credential;
pub mod daemon;
pub mod definition;
pub mod diagnostic;
pub mod failover;
mod filter;
mod flow;
pub mod following;
pub mod groups;
pub mod health;
pub mod json;
pub mod kafka;
mod limits;
pub mod link;
mod names;
mod neighbours;
pub mod otlp;
mod overlap;
pub mod patterns;
pub mod probation;
pub mod proxy;
mod reader;
pub mod redaction;
pub mod rename;
mod report;
mod rules;
mod sample;
pub mod sasl;
pub mod secret;
pub mod selectors;
pub mod stage;
pub mod start;
pub mod template;
#[cfg(test)]
mod tests;
pub mod topics;
pub mod transform;
pub mod tuning;
mod units;
pub mod words;
pub mod writing;

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use crate::model::{ClusterId, LinkId};

pub use api::{ApiConfig, ApiLimits, ApiTls, AuditConfig, ClientConfig, Role, Subject, TokenConfig};
pub use aws::{AwsIdentity, AwsSource};
pub use both_ways::{Topology, failback_id, failback_of, forward_id};
pub use breaker::{BreakerAction, BreakerConfig};
pub use circle::would_loop;
pub use cluster::{ClusterConfig, ClusterKind, EmbeddedConfig, TopicConfig};
pub use credential::{Bound, Credential, Peer, Withheld, is_near};
pub use daemon::{DaemonConfig, LogFormat};
pub use definition::{Defined, DefinitionSettings, Surroundings, json_path, new_id, read_definition};
pub use diagnostic::{Diagnostic, Place, Severity, Source};
pub use failover::{FailoverConfig, Webhook};
pub use following::Following;
pub use groups::{GroupSelection, GroupSelector, GroupSync, is_own_group};
pub use health::HealthConfig;
pub use json::PluginConfig;
pub use kafka::{KafkaConfig, SecurityConfig, TlsConfig, TlsIdentity};
pub use link::{Isolation, LANES_MAX, LinkConfig, THROTTLE_RATES, TransferConfig};
pub use neighbours::{Neighbours, neighbours_of};
pub use otlp::OtlpConfig;
pub use patterns::Patterns;
pub use probation::ProbationConfig;
pub use proxy::{ProxyConfig, ProxyKind};
pub use rename::Rename;
pub use sasl::{Bearer, Login, SaslConfig, TokenEndpoint, TokenSource};
pub use secret::Secret;
pub use selectors::{ENTRIES_MAX, Room};
pub use stage::{PluginSource, StageConfig};
pub use start::{MirrorMaker, Start};
pub use template::{Piece, Template, Variable};
pub use topics::{TopicPattern, TopicSelector, check_topic_name, heartbeat_topic, is_heartbeat, is_internal};
pub use transform::parse_mapping;
pub use tuning::Tuning;
pub use units::{parse_duration, parse_size, show_duration};
pub use writing::{Kept, KeptByAll, Refused, Why, Writing, may_write};

use crate::files::given;

use link::ReadLink;
use reader::Table;
use report::{Files, Report};

/// The file that is read when none is named, in the current directory.
pub const DEFAULT_FILE: &str = "tidegate.toml";

/// The most bytes of a file. A thousand links fit; a data file that was named by mistake is not read into memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The settings of a daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process.
    pub daemon: DaemonConfig,
    /// The clusters, by id.
    pub clusters: BTreeMap<ClusterId, ClusterConfig>,
    /// The links, by id.
    pub links: BTreeMap<LinkId, LinkConfig>,
    /// The text that all this was read from: it makes diagnostics of the places that are kept.
    pub source: Source,
}

impl Config {
    /// Read a file: the settings and the warnings about them.
    ///
    /// # Errors
    /// Everything that is wrong, warnings too, in the order of the file.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        Self::load_beside(path, &[])
    }

    /// The same beside links that are not of the file: what does not go together with one of them is wrong with the file.
    ///
    /// # Errors
    /// The same.
    pub fn load_beside(path: &Path, known: &[LinkConfig]) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let file = path.display().to_string();
        let bytes = given::read(path, FILE_BYTES_MAX).map_err(|error| vec![unreadable(&file, &error)])?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse_beside(&text, &file, path.parent().unwrap_or(Path::new("")), known),
            Err(error) => Err(vec![not_utf8(&file, &error)]),
        }
    }

    /// Read a text: the settings and the warnings about them. `file` is what diagnostics call it, `base_dir` what
    /// paths are relative to. Files of plugins are looked at.
    ///
    /// # Errors
    /// Everything that is wrong, warnings too, in the order of the text.
    pub fn parse(text: &str, file: &str, base_dir: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        Self::parse_beside(text, file, base_dir, &[])
    }

    /// The same beside links that are not of the text.
    ///
    /// # Errors
    /// The same.
    pub fn parse_beside(
        text: &str,
        file: &str,
        base_dir: &Path,
        known: &[LinkConfig],
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let source = Source::new(file, text);
        let (tree, syntax_errors) = DeTable::parse_recoverable(text);
        let report = Report::new(&source, &syntax_errors);
        let (daemon, clusters, links) = read(Table::root(tree.get_ref(), &report), base_dir, known);
        let warnings = report.finish()?;
        Ok((Self { daemon, clusters, links, source }, warnings))
    }

    /// Read a text as on a machine that has every certificate, key, secret and variable that it names: the warnings about it.
    ///
    /// # Errors
    /// Everything that is wrong, warnings too, in the order of the text.
    pub fn rehearse(text: &str, file: &str) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let source = Source::new(file, text);
        let (tree, syntax_errors) = DeTable::parse_recoverable(text);
        let report = Report::new(&source, &syntax_errors).with_files(Files::Rehearsed);
        read(Table::root(tree.get_ref(), &report), Path::new(""), &[]);
        report.finish()
    }
}

type Parts = (DaemonConfig, BTreeMap<ClusterId, ClusterConfig>, BTreeMap<LinkId, LinkConfig>);

/// `known`: links that the daemon runs and that are not of the file.
fn read(mut root: Table<'_>, base_dir: &Path, known: &[LinkConfig]) -> Parts {
    let table = root.table("clusters");
    let cluster_ids: Vec<&str> = table.keys().collect();
    let daemon = DaemonConfig::read(root.table("daemon"), &cluster_ids, base_dir);
    let clusters = cluster::read_clusters(table, &daemon.data_dir, base_dir);
    // Of a cluster with an error nobody knows what it has not.
    let is_embedded = |id: &str| clusters.get(id).is_some_and(|it| matches!(it.kind, ClusterKind::Embedded(_)));
    let kafka = cluster_ids.iter().copied().filter(|id| !is_embedded(id)).collect();
    let around = link::Around {
        form: link::Form::File,
        clusters: &cluster_ids,
        kafka: &kafka,
        known: &clusters,
        limits: &daemon.limits,
        base_dir,
    };
    let links = link::read_links(root.table("links"), &around);
    if !root.keys().any(|key| key == "clusters" || key == "links") {
        let help = "write a table [clusters.east] with kind = \"embedded\"";
        root.report.warning(&root.place, "there is no cluster, so the daemon has nothing to do", help);
    }
    let others = known;
    let known: Vec<ReadLink> = known.iter().cloned().map(ReadLink::known).collect();
    circle::refuse_together(
        &links.values().collect::<Vec<_>>(),
        &known.iter().collect::<Vec<_>>(),
        &clusters,
        root.report,
    );
    root.finish();
    let mut links: BTreeMap<LinkId, LinkConfig> = links.into_iter().map(|(id, read)| (id, read.link)).collect();
    for link in links.values_mut() {
        let declared = clusters.get(&link.target).into_iter().flat_map(|cluster| cluster.topics.keys());
        link.following.declared = declared.cloned().collect();
    }
    neighbours::introduce(links.values_mut(), others);
    (daemon, clusters, links)
}

/// Whether a link or a cluster may have this id. It is part of file names, URLs and transactional ids.
fn check_id(what: &str, id: &str, place: &Place, report: &Report<'_>) -> bool {
    let valid = is_id(id);
    if !valid {
        let message =
            format!("{id:?} is not an id of a {what}: use 1 to 63 letters, digits, dots, underscores and hyphens");
        report.error(place, message);
    }
    valid
}

/// Whether a link that a person defines may have this id.
fn check_link_id(id: &str, place: &Place, report: &Report<'_>) -> bool {
    let made_for = match (forward_id(id), failback_of(id)) {
        (Some(link), _) => format!("is the id of the reverse way of {link:?}"),
        (None, Some((link, _))) => format!("is the id of a link on which {link:?} fails back"),
        (None, None) => return check_id("link", id, place, report),
    };
    let help =
        "the daemon makes such links itself: choose an id that ends neither with .reverse nor with .back and a number";
    report.error_with_help(place, format!("{id:?} {made_for}"), help);
    false
}

/// Whether a link, a cluster or the owner of a token may be called so.
pub fn is_id(id: &str) -> bool {
    let allowed = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    allowed && (1..=63).contains(&id.len()) && id != "." && id != ".."
}

fn unreadable(file: &str, error: &std::io::Error) -> Diagnostic {
    let help = match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("write {DEFAULT_FILE} in the current directory, or name another file with --config")
        }
        std::io::ErrorKind::PermissionDenied => "let the user that runs this read the file".to_owned(),
        _ => "name a configuration file with --config".to_owned(),
    };
    Diagnostic::of_file(file, format!("cannot read the configuration: {error}")).with_help(help)
}

fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> Diagnostic {
    let at = error.utf8_error().valid_up_to();
    // What comes before is text, so the place can be shown.
    let before = String::from_utf8_lossy(&error.as_bytes()[..at]);
    let place = Place { span: at..at, ..Place::top() };
    Source::new(file, &before).error(&place, "not UTF-8 from here on").with_help("save the file as UTF-8")
}
