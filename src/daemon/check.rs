//! A configuration and all that it names, without starting anything.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::api::{Prepared, wire};
use crate::config::{
    ApiConfig, ClusterConfig, ClusterKind, Config, Diagnostic, LinkConfig, PluginSource, Source, StageConfig,
};
use crate::connector;
use crate::files::given;
use crate::link::StageSpec;
use crate::link::pipeline::{check_limits, check_routes};
use crate::model::limits::COMPONENT_BYTES_MAX;
use crate::model::{Digest, Json, Limits};
use crate::plugin::{ConfigError, Plugin, PluginEngine, StageMetrics};

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the daemon would start with it.
    pub passed: bool,
}

/// A stage that was read, compiled and configured once.
pub(super) type CheckedStage = (StageSpec, Arc<[u8]>);

/// A configuration whose plugins work.
pub(super) struct CheckedConfig {
    pub(super) config: Config,
    /// The stages of each link, in the order of `config.links`.
    pub(super) stages: Vec<Vec<CheckedStage>>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Validate a configuration file and every plugin it names.
pub fn check(path: &Path) -> Checked {
    let engine = match PluginEngine::compiling_in_child(None) {
        Ok(engine) => engine,
        Err(error) => {
            let diagnostic = Diagnostic::of_file(path.display().to_string(), format!("no WebAssembly engine: {error}"));
            return Checked { diagnostics: vec![diagnostic], passed: false };
        }
    };
    match load(path, &engine, &[]) {
        Ok(checked) => Checked { diagnostics: checked.warnings, passed: true },
        Err(diagnostics) => Checked { diagnostics, passed: false },
    }
}

/// Read a configuration beside links that are not of the file, and compile and configure its plugins.
pub(super) fn load(path: &Path, engine: &PluginEngine, known: &[LinkConfig]) -> Result<CheckedConfig, Vec<Diagnostic>> {
    let (config, warnings) = Config::load_beside(path, known)?;
    with_plugins(config, warnings, engine, known)
}

/// Compile and configure the plugins of a configuration, and read the certificates of its clusters.
pub(super) fn with_plugins(
    config: Config,
    warnings: Vec<Diagnostic>,
    engine: &PluginEngine,
    known: &[LinkConfig],
) -> Result<CheckedConfig, Vec<Diagnostic>> {
    engine.set_compile_memory(config.daemon.compile_memory);
    let mut errors: Vec<_> =
        config.clusters.values().filter_map(|cluster| check_cluster(&config.source, cluster)).collect();
    errors.extend(check_api(&config.source, &config.daemon.api));
    let mut stages = Vec::new();
    let all: Vec<&LinkConfig> = config.links.values().chain(known).collect();
    for link in config.links.values() {
        let check = |stage| {
            let checked = check_stage(&config.source, (link, &all), stage, engine, &read_component);
            checked.map_err(|found| add_new(&mut errors, found)).ok()
        };
        stages.push(link.pipeline.iter().filter_map(check).collect());
    }
    if errors.is_empty() {
        return Ok(CheckedConfig { config, stages, warnings });
    }
    let mut all = warnings;
    all.append(&mut errors);
    all.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    Err(all)
}

/// Add what is not known yet: of a stage that both ways of a link have it is said once.
pub(super) fn add_new(errors: &mut Vec<Diagnostic>, found: Vec<Diagnostic>) {
    for diagnostic in found {
        if !errors.contains(&diagnostic) {
            errors.push(diagnostic);
        }
    }
}

/// What is wrong with the certificates of a cluster.
pub(super) fn check_cluster(source: &Source, cluster: &ClusterConfig) -> Option<Diagnostic> {
    let ClusterKind::Kafka(kafka) = &cluster.kind else { return None };
    let error = connector::kafka::check(kafka).err()?;
    Some(source.error(&kafka.security.place, error.message).with_help(error.remedy))
}

/// What is wrong with the certificates and tokens of the API.
fn check_api(source: &Source, api: &ApiConfig) -> Option<Diagnostic> {
    let error = Prepared::new(api).err()?;
    Some(source.error(&api.place, error.message).with_help(error.remedy))
}

/// Read, compile and configure the plugin of a stage of a link, and look where it may write beside others. `component` gets its bytes.
pub(super) fn check_stage(
    source: &Source,
    (link, others): (&LinkConfig, &[&LinkConfig]),
    stage: &StageConfig,
    engine: &PluginEngine,
    component: &dyn Fn(&PluginSource) -> Result<Vec<u8>, String>,
) -> Result<CheckedStage, Vec<Diagnostic>> {
    let plugin_error = |message: String| vec![source.error(&stage.plugin_place, message)];
    let file = &stage.plugin;
    let bytes = component(file).map_err(|error| plugin_error(format!("{file}: {error}")))?;
    // The pin was compared when the configuration was read; the file may be another one by now.
    if stage.digest.is_some_and(|pinned| pinned != Digest::of(&bytes)) {
        return Err(plugin_error(format!("{file} has just changed: it has not the digest that is pinned")));
    }
    let plugin = engine.load(&bytes).map_err(|refusal| plugin_error(format!("{file}: {refusal}")))?;
    check_limits(&stage.limits, &plugin).map_err(plugin_error)?;
    let spec = spec(stage, &plugin);
    let metrics = Arc::<StageMetrics>::default();
    let configured = plugin.configure(&stage.name, &stage.config.value.to_string(), &spec.limits, &metrics);
    let instance = configured.map_err(|error| config_errors(source, stage, &error))?;
    check_routes(link, instance.routes(), others).map_err(|refused| plugin_error(refused.to_string()))?;
    Ok((spec, bytes.into()))
}

/// The bytes of a component that a file holds.
pub(super) fn read_component(of: &PluginSource) -> Result<Vec<u8>, String> {
    match of {
        PluginSource::File(path) => given::read(path, COMPONENT_BYTES_MAX as u64).map_err(|error| error.to_string()),
        PluginSource::Stored(_) => Err("a configuration file names files".to_owned()),
    }
}

fn config_errors(source: &Source, stage: &StageConfig, error: &ConfigError) -> Vec<Diagnostic> {
    match error {
        ConfigError::Refused(faults) => faults
            .iter()
            .map(|fault| source.error(stage.config.place(&fault.path), format!("refused by the plugin: {fault}")))
            .collect(),
        ConfigError::Trapped(_) | ConfigError::NoRoom => vec![source.error(&stage.plugin_place, error.to_string())],
    }
}

fn spec(stage: &StageConfig, plugin: &Plugin) -> StageSpec {
    let description = plugin.description();
    StageSpec {
        name: stage.name.to_string(),
        plugin_digest: plugin.digest(),
        plugin_name: description.name.clone(),
        plugin_version: description.version.clone(),
        config: stage.config.value.clone(),
        on_error: stage.on_error,
        time_ahead_max_ms: Some(stage.time_ahead_max_ms),
        limits: stage.limits.clone(),
    }
}

/// What a plugin's file says about itself.
///
/// # Errors
/// The file cannot be read, or is not a plugin.
pub fn inspect(path: &Path) -> Result<wire::Inspection, Error> {
    let file = path.display();
    let bytes = given::read(path, COMPONENT_BYTES_MAX as u64)
        .map_err(|error| Error::new(format!("{file}: {error}"), "name a component's file"))?;
    let engine = PluginEngine::compiling_in_child(None)
        .map_err(|error| Error::new(format!("no WebAssembly engine: {error}"), ""))?;
    inspect_bytes(&engine, &bytes)
        .map_err(|refusal| Error::new(format!("{file}: {refusal}"), "wit/README.md says what a plugin is"))
}

/// What a component says about itself.
pub(super) fn inspect_bytes(engine: &PluginEngine, bytes: &[u8]) -> Result<wire::Inspection, String> {
    let plugin = engine.load(bytes).map_err(|refusal| refusal.to_string())?;
    let description = plugin.description();
    Ok(wire::Inspection {
        world: plugin.world().to_string(),
        state_version: plugin.state_version(),
        name: description.name.clone(),
        version: description.version.clone(),
        needs: description.needs.names().into_iter().map(str::to_owned).collect(),
        config_schema: Json::parse(&description.config_schema).unwrap_or_default(),
        imports: plugin.imports().to_vec(),
        exports: plugin.exports().to_vec(),
        size_bytes: plugin.size_bytes() as u64,
        digest: plugin.digest(),
        limits: Limits::default(),
    })
}
