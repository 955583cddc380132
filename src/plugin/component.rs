//! A component that was compiled and checked.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::bindings::{self, filtering, lifecycle, migrating, transforming};
use super::engine::PluginEngine;
use super::host::HostState;
use super::instance::{Instance, Trap};
use super::limits::{COMPONENT_BYTES_MAX, LABEL_BYTES_MAX, LINE_BYTES_MAX, MEMORIES_MAX};
use super::metrics::StageMetrics;
use super::text::{cut, one_line};
use crate::model::text::steers;
use crate::model::{Digest, Limits};

/// What is said where no instance can be made because of others.
pub(super) const NO_ROOM: &str =
    "the daemon has no room for another instance: those of all its links have as many memories as there may be";

const PACKAGE: &str = "tidegate:plugin/";
const VERSION: &str = "0.1.0";

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Lets records pass or drops them.
    Filter,
    /// Makes 0 to N records of each.
    Transform,
    /// A filter that remembers.
    StatefulFilter,
    /// A transform that remembers.
    StatefulTransform,
}

impl World {
    /// Whether a plugin of the other world can take this one's place: state may come and go, the work stays the same.
    pub fn does_the_work_of(self, other: Self) -> bool {
        let filters = |world| matches!(world, Self::Filter | Self::StatefulFilter);
        filters(self) == filters(other)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Transform => "transform",
            Self::StatefulFilter => "stateful-filter",
            Self::StatefulTransform => "stateful-transform",
        })
    }
}

/// The parts of a record that a plugin reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Columns {
    pub key: bool,
    pub value: bool,
    pub headers: bool,
    pub timestamp: bool,
    pub offset: bool,
}

impl Columns {
    /// The names of the columns that are read.
    pub fn names(self) -> Vec<&'static str> {
        [
            ("key", self.key),
            ("value", self.value),
            ("headers", self.headers),
            ("timestamp", self.timestamp),
            ("offset", self.offset),
        ]
        .into_iter()
        .filter_map(|(name, read)| read.then_some(name))
        .collect()
    }
}

/// What a plugin says about itself.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it reads.
    pub needs: Columns,
    /// JSON Schema of its configuration.
    pub config_schema: String,
}

/// Why some bytes are not a plugin that can run here.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Larger than any plugin.
    #[error("too large: {bytes} bytes, and a component may have {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// The size.
        bytes: usize,
    },
    /// A module, not a component.
    #[error("a core WebAssembly module, not a component: build it against wit/ and encode it as a component")]
    CoreModule,
    /// Not WebAssembly.
    #[error("not a WebAssembly component")]
    NotWasm,
    /// Does not validate or compile.
    #[error("not a valid component: {0}")]
    Malformed(String),
    /// Takes more than a compilation may.
    #[error("takes more than {0} to compile")]
    CompileLimit(String),
    /// The compiler failed, which says little about the component.
    #[error("the compiler failed: {0}")]
    Compiler(String),
    /// Declares more than any plugin may have.
    #[error("asks for more than a plugin may have: {0}")]
    Demand(String),
    /// Can run, but not now: all links together have as many memories of plugins as the daemon has room for.
    #[error("{NO_ROOM}")]
    NoRoom,
    /// Exports none of the worlds.
    #[error("exports neither {PACKAGE}filtering@{VERSION} nor {PACKAGE}transforming@{VERSION}: it exports {0}")]
    NoWorld(String),
    /// Is made for another version of the contract.
    #[error("is built for {0}, and this tidegate serves version {VERSION} of the contract")]
    OtherVersion(String),
    /// Exports both worlds.
    #[error("exports both filtering and transforming: a plugin has one world")]
    TwoWorlds,
    /// Wants something that is not offered.
    #[error(
        "imports {0}, which is not offered: a plugin can import {PACKAGE}host and, if it has state, {PACKAGE}state"
    )]
    Import(String),
    /// Wants state, and does not say how it is migrated.
    #[error("imports {0} and does not export {PACKAGE}migrating@{VERSION}: a stateful plugin has both")]
    Stateful(String),
    /// Counts versions of state from 0.
    #[error("says that its state has version 0: versions begin with 1")]
    StateVersion,
    /// An export has another type, or an import another signature.
    #[error("does not fit the contract: {0}")]
    Signature(String),
    /// Describes itself in a way that would do harm where it is shown.
    #[error("its {0}")]
    Description(String),
    /// Failed when it was asked to describe itself.
    #[error("fails in describe: {0}")]
    Describe(Trap),
}

/// A compiled and checked component. Instances of it are made per lane.
pub struct Plugin {
    engine: PluginEngine,
    pre: InstancePre<HostState>,
    pub(super) lifecycle: lifecycle::GuestIndices,
    pub(super) work: WorkIndices,
    pub(super) migrating: Option<migrating::GuestIndices>,
    state_version: Option<u32>,
    digest: Digest,
    size_bytes: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    description: Description,
}

/// Where the work's exports are in the component.
pub(super) enum WorkIndices {
    Filter(filtering::GuestIndices),
    Transform(transforming::GuestIndices),
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({} {} {})", self.description.name, self.description.version, self.digest)
    }
}

impl Plugin {
    pub(super) fn new(
        engine: &PluginEngine,
        component: Component,
        digest: Digest,
        size_bytes: usize,
    ) -> Result<Self, Refusal> {
        let exports: Vec<String> =
            component.component_type().exports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        let stateful = exports.contains(&interface("migrating"));
        let imports = check_imports(engine, &component, stateful)?;
        check_memories(&component)?;
        let work = check_exports(&exports)?;
        let signature = |error: wasmtime::Error| Refusal::Signature(one_line(&error));
        let mut linker = Linker::new(engine.wasmtime());
        bindings::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut HostState| state)
            .and_then(|()| bindings::host::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut HostState| state))
            .and_then(|()| bindings::state::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut HostState| state))
            .map_err(signature)?;
        let pre = linker.instantiate_pre(&component).map_err(signature)?;
        let work = match work {
            Work::Filtering => WorkIndices::Filter(filtering::GuestIndices::new(&pre).map_err(signature)?),
            Work::Transforming => WorkIndices::Transform(transforming::GuestIndices::new(&pre).map_err(signature)?),
        };
        let migrating = stateful.then(|| migrating::GuestIndices::new(&pre).map_err(signature)).transpose()?;
        let lifecycle = lifecycle::GuestIndices::new(&pre).map_err(signature)?;
        let description = Description {
            name: String::new(),
            version: String::new(),
            needs: Columns::default(),
            config_schema: String::new(),
        };
        let engine = engine.clone();
        let state_version = None;
        let mut plugin = Self {
            engine,
            pre,
            lifecycle,
            work,
            migrating,
            state_version,
            digest,
            size_bytes,
            imports,
            exports,
            description,
        };
        (plugin.description, plugin.state_version) = Instance::describe(&plugin)?;
        check_label("name", &plugin.description.name)?;
        check_label("version", &plugin.description.version)?;
        if plugin.state_version == Some(0) {
            return Err(Refusal::StateVersion);
        }
        Ok(plugin)
    }

    /// A new instance, configured for a stage.
    ///
    /// # Errors
    /// The configuration is refused, or the plugin trapped.
    pub fn configure(
        self: &Arc<Self>,
        stage: &Arc<str>,
        config: &str,
        limits: &Limits,
        metrics: &Arc<StageMetrics>,
    ) -> Result<Instance, super::ConfigError> {
        Instance::configure(self, stage, config, limits, metrics)
    }

    /// What the plugin does.
    pub fn world(&self) -> World {
        match (&self.work, &self.migrating) {
            (WorkIndices::Filter(_), None) => World::Filter,
            (WorkIndices::Transform(_), None) => World::Transform,
            (WorkIndices::Filter(_), Some(_)) => World::StatefulFilter,
            (WorkIndices::Transform(_), Some(_)) => World::StatefulTransform,
        }
    }

    /// The version of the layout of its state; `None` for a plugin without any.
    pub fn state_version(&self) -> Option<u32> {
        self.state_version
    }

    /// The digest of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the component, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What it imports, by interface and function.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// What it exports, by interface.
    pub fn exports(&self) -> &[String] {
        &self.exports
    }

    /// What it says about itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    pub(super) fn engine(&self) -> &PluginEngine {
        &self.engine
    }

    pub(super) fn pre(&self) -> &InstancePre<HostState> {
        &self.pre
    }
}

/// Refuse what is not a component before the compiler sees it.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes: bytes.len() });
    }
    // Magic, then version and layer: a module is 01 00 00 00, a component 0d 00 01 00.
    match bytes.split_at_checked(8) {
        Some((b"\0asm\x01\0\0\0", _)) => Err(Refusal::CoreModule),
        Some((header, _)) if header.starts_with(b"\0asm") && header[6] == 1 => Ok(()),
        _ => Err(Refusal::NotWasm),
    }
}

/// Refuse a component that would take the room of many.
fn check_memories(component: &Component) -> Result<(), Refusal> {
    let memories = component.resources_required().map_or(0, |required| required.num_memories);
    if memories <= MEMORIES_MAX {
        return Ok(());
    }
    Err(Refusal::Demand(format!("it has {memories} memories, and a plugin may have {MEMORIES_MAX}")))
}

fn interface(name: &str) -> String {
    format!("{PACKAGE}{name}@{VERSION}")
}

fn check_imports(engine: &PluginEngine, component: &Component, stateful: bool) -> Result<Vec<String>, Refusal> {
    let offered = [interface("host"), interface("types"), interface("state")];
    let mut functions = Vec::new();
    for (name, import) in component.component_type().imports(engine.wasmtime()) {
        if !offered.iter().any(|offered| offered == name) {
            return Err(Refusal::Import(cut(name.to_owned(), LINE_BYTES_MAX)));
        }
        if name == offered[2] && !stateful {
            return Err(Refusal::Stateful(name.to_owned()));
        }
        if let ComponentItem::ComponentInstance(instance) = import.ty {
            let items = instance.exports(engine.wasmtime());
            functions.extend(
                items
                    .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(function, _)| format!("{name}#{function}")),
            );
        }
    }
    Ok(functions)
}

/// What a plugin does with records.
enum Work {
    Filtering,
    Transforming,
}

fn check_exports(exports: &[String]) -> Result<Work, Refusal> {
    let has = |name: &str| exports.contains(&interface(name));
    match (has("filtering"), has("transforming")) {
        (true, true) => Err(Refusal::TwoWorlds),
        (true, false) => Ok(Work::Filtering),
        (false, true) => Ok(Work::Transforming),
        (false, false) => {
            Err(match exports.iter().find(|name| name.starts_with(PACKAGE) && !name.ends_with(VERSION)) {
                Some(other) => Refusal::OtherVersion(cut(other.clone(), LINE_BYTES_MAX)),
                None if exports.is_empty() => Refusal::NoWorld("nothing".to_owned()),
                None => Refusal::NoWorld(cut(exports.join(", "), LINE_BYTES_MAX)),
            })
        }
    }
}

/// Refuse a text that would fill or steer every terminal, log and page where it is shown.
fn check_label(what: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > LABEL_BYTES_MAX {
        return Err(Refusal::Description(format!("{what} has {} bytes, and may have {LABEL_BYTES_MAX}", text.len())));
    }
    if text.contains(steers) {
        return Err(Refusal::Description(format!("{what} has control characters")));
    }
    Ok(())
}
