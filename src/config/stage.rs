//! `[[links.ID.pipeline]]`: the stages that a link's records go through.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::given;
use crate::model::digest::NotADigest;
use crate::model::limits::COMPONENT_BYTES_MAX;
use crate::model::policy::TIME_AHEAD_MAX_MS;
use crate::model::{Digest, Limits, OnError};

use super::daemon::path;
use super::diagnostic::Place;
use super::json::PluginConfig;
use super::limits::read_limits;
use super::link::{Around, Form};
use super::reader::{Item, Table};

const DAY_MS: u64 = 86_400_000;
/// Clocks differ by a second easily; who wants no bound says a hundred years.
const TIME_AHEAD_RANGE_MS: RangeInclusive<u64> = 1000..=36_500 * DAY_MS;

/// One stage: a plugin with its configuration.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Its name, unique in the link.
    pub name: Arc<str>,
    /// The component.
    pub plugin: PluginSource,
    /// Where `plugin` was written: errors about the component belong there.
    pub plugin_place: Place,
    /// The digest that the component must have. The file had it when the configuration was read.
    pub digest: Option<Digest>,
    /// What the plugin is configured with.
    pub config: PluginConfig,
    /// What becomes of a record that the plugin rejects or traps on.
    pub on_error: OnError,
    /// How far ahead of the record time and of the clock a record's timestamp may be for a plugin
    /// with state, in milliseconds.
    pub time_ahead_max_ms: u64,
    /// What the plugin may use.
    pub limits: Limits,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// A file. It was there, and could be read, when the configuration was read.
    File(PathBuf),
    /// What was stored with this digest for links that are defined by themselves.
    Stored(Digest),
}

impl fmt::Display for PluginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stored(digest) => digest.fmt(f),
        }
    }
}

/// All stages of a link, in order.
pub(super) fn read_pipeline(item: &Item<'_>, around: &Around<'_>) -> Vec<StageConfig> {
    let mut stages: Vec<StageConfig> = Vec::new();
    for item in item.items("an array of tables, each under [[ ]]").into_iter().flatten() {
        let Some(table) = item.table() else { continue };
        let Some((stage, name_place)) = StageConfig::read(table, around) else { continue };
        if stages.iter().any(|earlier| earlier.name == stage.name) {
            let message = format!("stage {:?} occurs twice", stage.name);
            item.report.error_with_help(&name_place, message, "give each stage of the link a name of its own");
        }
        stages.push(stage);
    }
    stages
}

impl StageConfig {
    /// The stage and the place of its name. `None` if something is missing that has no default.
    fn read(mut table: Table<'_>, around: &Around<'_>) -> Option<(Self, Place)> {
        let name = table.required("stage", "write stage = \"a-name\"");
        let plugin = table.required("plugin", "write plugin = \"path/to/plugin.wasm\"");
        let digest = table.item("digest").and_then(|item| digest(&item));
        let on_error = table.item("on_error").and_then(|item| item.choice(&OnError::ALL)).unwrap_or_default();
        let time_ahead_max_ms = table.duration_ms("time_ahead_max", TIME_AHEAD_MAX_MS, TIME_AHEAD_RANGE_MS);
        let config = table.item("config").map(|item| match around.form {
            Form::File => PluginConfig::read(&item),
            Form::Definition => PluginConfig::parse(&item),
        });
        let limits = read_limits(table.table("limits"), around.limits);
        let place = table.place.clone();
        table.finish();

        let source = plugin.as_ref().and_then(|item| match around.form {
            Form::File => plugin_file(item, around.base_dir, digest.as_ref()).map(PluginSource::File),
            Form::Definition => stored_plugin(item),
        });
        let (name, plugin) = (name?, plugin?);
        let stage = Self {
            name: stage_name(&name)?,
            plugin: source?,
            plugin_place: plugin.place,
            digest: digest.map(|(digest, _)| digest),
            config: config.unwrap_or_else(|| Some(PluginConfig::empty(place)))?,
            on_error,
            time_ahead_max_ms,
            limits,
        };
        Some((stage, name.place))
    }
}

fn stage_name(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?;
    let allowed = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let name = if allowed && (1..=63).contains(&text.len()) { Ok(text.into()) } else { Err(()) };
    item.parsed(
        name.map_err(|()| {
            format!("{text:?} is not a name of a stage: use 1 to 63 lower-case letters, digits and hyphens")
        }),
    )
}

fn digest(item: &Item<'_>) -> Option<(Digest, Place)> {
    let digest = item.text()?.parse().map_err(|error: NotADigest| error.to_string());
    Some((item.parsed(digest)?, item.place.clone()))
}

fn stored_plugin(item: &Item<'_>) -> Option<PluginSource> {
    let digest = item.text()?.parse();
    if digest.is_err() {
        let help = "store the component with `tidegate plugin store FILE`, which answers its digest";
        item.report.error_with_help(&item.place, "a definition names a plugin by its digest: sha256:…", help);
    }
    digest.ok().map(PluginSource::Stored)
}

/// The path of the component, which is there, can be read, and has the digest that it is pinned to.
fn plugin_file(item: &Item<'_>, base_dir: &Path, pin: Option<&(Digest, Place)>) -> Option<PathBuf> {
    let file = base_dir.join(path(item)?);
    let read = match pin {
        Some((pin, place)) => {
            given::read(&file, COMPONENT_BYTES_MAX as u64).map(|bytes| Some((*pin, Digest::of(&bytes), place)))
        }
        None => given::open(&file).map(|_| None),
    };
    match read {
        Ok(None) => Some(file),
        Ok(Some((pin, found, _))) if pin == found => Some(file),
        Ok(Some((_, found, place))) => {
            let help = format!("if the new file is the one you want, write digest = \"{found}\"");
            item.report.error_with_help(place, format!("{} has another digest", file.display()), help);
            None
        }
        Err(error) => {
            let help = "the path is relative to the configuration file; build the plugin, or correct the path";
            item.report.error_with_help(&item.place, format!("cannot read {}: {error}", file.display()), help);
            None
        }
    }
}
