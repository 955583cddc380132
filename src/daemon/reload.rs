//! The configuration file, read anew while the daemon runs: what has changed is done, and a file with an error changes nothing.
//!
//! What is compared is what stands in the file, and the components that it names: a link that is the same goes on untouched. What a process cannot change
//! while it runs is named, and waits for a restart.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use super::check::{CheckedConfig, CheckedStage, load};
use super::control::faults_of_file;
use super::run::open_cluster;
use super::world::{Hosted, ManagedBy, RunningCluster};
use super::{Daemon, Error, lock};
use crate::api::control::{ControlError, ErrorKind};
use crate::api::{Prepared, wire};
use crate::config::{ClusterConfig, ClusterKind, Config, DaemonConfig, LinkConfig};
use crate::model::{ClusterId, LinkId};

impl Daemon {
    /// Run a link of the configuration file.
    pub(super) fn host_of_file(&self, config: LinkConfig, stages: Vec<CheckedStage>) -> Result<(), Error> {
        let (id, written) = (config.id.clone(), written(&config, &stages));
        let hosted = Hosted::begin(self.link_of(config, stages, None)?, ManagedBy::File(written));
        self.world_to_change().links.insert(id, hosted);
        Ok(())
    }

    /// Read the configuration file anew, and do what has changed in it.
    pub(super) fn reload_file(&self) -> Result<wire::Reloaded, ControlError> {
        let _changing = lock(&self.changing);
        let CheckedConfig { config, stages, warnings } = self.accept_file()?;
        warnings.iter().for_each(|warning| tracing::warn!("{}", warning.in_one_line()));
        let (settings, needs_restart) = renewed(&self.settings(), config.daemon.clone());
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        let mut done = wire::Reloaded { needs_restart, ..wire::Reloaded::default() };
        let changed = self.changed_clusters(&config, &mut done);
        let links: Vec<(LinkConfig, Vec<CheckedStage>)> = config.links.into_values().zip(stages).collect();
        lock(&self.unhosted).retain(|id| links.iter().any(|(link, _)| link.id == *id));
        self.end_changed(&links, &changed, &mut done);
        self.change_clusters(config.clusters.into_values(), &changed, &mut done);
        for (link, stages) in links {
            let id = link.id.to_string();
            if self.world().links.contains_key(&*id) {
                continue;
            }
            lock(&self.unhosted).remove(&*id);
            match self.host_of_file(link, stages) {
                Ok(()) if done.changed.contains(&id) => {}
                Ok(()) => done.added.push(id),
                Err(error) => {
                    lock(&self.unhosted).insert(id.as_str().into());
                    done.failed.push(format!("links.{id}: {error}"));
                }
            }
        }
        self.renew_definitions(&changed, &mut done);
        self.introduce_links();
        self.release_standbys();
        let wire::Reloaded { added, changed, removed, needs_restart, failed } = &done;
        tracing::info!(?added, ?changed, ?removed, ?needs_restart, ?failed, "the configuration file was read anew");
        Ok(done)
    }

    /// The file, if it is right and goes together with what was defined through the API; the API
    /// follows it. Otherwise nothing has changed.
    fn accept_file(&self) -> Result<CheckedConfig, ControlError> {
        let loaded = load(&self.file, &self.engine, &self.links_of_api()).map_err(|found| faults_of_file(&found));
        let accepted = loaded.and_then(|checked| {
            self.refuse_taken(&checked.config)?;
            self.renew_access(&checked.config.daemon)?;
            Ok(checked)
        });
        // The plugins of the file were compiled within the memory that it allows.
        accepted.inspect_err(|_| self.engine.set_compile_memory(self.settings().compile_memory))
    }

    /// The links that are not of the file and stay whatever it says: it has to go together with them.
    fn links_of_api(&self) -> Vec<LinkConfig> {
        let stays = |hosted: &Arc<Hosted>| matches!(hosted.managed_by, ManagedBy::Api { .. });
        self.links().into_iter().filter(stays).map(|hosted| hosted.config().clone()).collect()
    }

    /// Have the API follow what the file says of it. It goes on where it listens, whatever the file says of that: so that is where it must be safe.
    fn renew_access(&self, config: &DaemonConfig) -> Result<(), ControlError> {
        let listen = self.settings().listen;
        if let Some((message, remedy)) = config.api.refuses(listen) {
            let message = format!("the API listens on {listen} until a restart: {message}");
            return Err(ControlError::new(ErrorKind::Conflict, "api-exposed", message, remedy));
        }
        let renewed = Prepared::new(&config.api).and_then(|prepared| self.access.put(prepared));
        renewed.map_err(|error| ControlError::new(ErrorKind::Conflict, error.code, error.message, error.remedy))
    }

    /// A link or cluster of the file must not take the id of one that was defined through the API.
    fn refuse_taken(&self, config: &Config) -> Result<(), ControlError> {
        let world = self.world();
        let is_taken = |id: &&LinkId| match world.links.get(*id) {
            Some(hosted) => matches!(hosted.managed_by, ManagedBy::Api { .. }),
            None => self.unusable(id).is_some(),
        };
        let is_brought = |id: &&ClusterId| world.clusters.get(*id).is_some_and(|there| there.in_place.is_some());
        if let Some(id) = config.clusters.keys().find(is_brought) {
            let message =
                format!("the file defines cluster {id}, which a link that was defined through the API brings");
            let remedy = "give the cluster in the file another id, or delete the links that use the other one";
            return Err(ControlError::new(ErrorKind::Conflict, "cluster-exists", message, remedy));
        }
        let Some(id) = config.links.keys().find(is_taken) else { return Ok(()) };
        let message = format!("the file defines link {id}, which was defined through the API");
        let remedy = "delete that link, or give the one in the file another id";
        Err(ControlError::new(ErrorKind::Conflict, "link-exists", message, remedy))
    }

    /// The clusters that are not what they were, and can be changed while the daemon runs.
    fn changed_clusters(&self, config: &Config, done: &mut wire::Reloaded) -> BTreeSet<ClusterId> {
        let mut changed = BTreeSet::new();
        for running in self.clusters() {
            let id = &running.config.id;
            match config.clusters.get(id) {
                _ if running.in_place.is_some() => {}
                Some(now) if now.written == running.config.written => {}
                Some(now) if is_kafka(now) && is_kafka(&running.config) => drop(changed.insert(id.clone())),
                Some(_) => done.needs_restart.push(format!("clusters.{id}")),
                None if self.is_used_by_api(id) => {
                    done.failed.push(format!("clusters.{id} stays: links that were defined through the API use it"));
                }
                None => drop(changed.insert(id.clone())),
            }
        }
        changed
    }

    fn is_used_by_api(&self, cluster: &ClusterId) -> bool {
        let is_one = |hosted: &Arc<Hosted>| {
            let link = hosted.config();
            matches!(hosted.managed_by, ManagedBy::Api { .. }) && (link.source == *cluster || link.target == *cluster)
        };
        self.settings().metadata.as_ref() == Some(cluster) || self.links().iter().any(is_one)
    }

    /// End the links that are not what they were, or whose clusters are not.
    fn end_changed(
        &self,
        links: &[(LinkConfig, Vec<CheckedStage>)],
        clusters: &BTreeSet<ClusterId>,
        done: &mut wire::Reloaded,
    ) {
        for hosted in self.links() {
            let ManagedBy::File(before) = &hosted.managed_by else { continue };
            let config = hosted.config();
            let now = links.iter().find(|(link, _)| link.id == config.id);
            let is_same = now.is_some_and(|(link, stages)| written(link, stages) == *before);
            let stays = is_same && !clusters.contains(&config.source) && !clusters.contains(&config.target);
            if stays {
                continue;
            }
            hosted.give_way_to(now.map(|(link, _)| link));
            self.world_to_change().links.remove(&config.id);
            if now.is_some() { &mut done.changed } else { &mut done.removed }.push(config.id.to_string());
        }
    }

    /// Close the clusters that changed or are gone, and open those that changed or are new.
    fn change_clusters(
        &self,
        clusters: impl Iterator<Item = ClusterConfig>,
        changed: &BTreeSet<ClusterId>,
        done: &mut wire::Reloaded,
    ) {
        self.world_to_change().clusters.retain(|id, _| !changed.contains(id));
        for config in clusters {
            let id = config.id.clone();
            if self.world().clusters.contains_key(&id) {
                continue;
            }
            match open_cluster(config) {
                Ok(opened) => drop(self.world_to_change().clusters.insert(id, Arc::<RunningCluster>::new(opened))),
                Err(error) => done.failed.push(format!("clusters.{id}: {error}")),
            }
        }
    }

    /// Have the links that were defined through the API follow the clusters and settings of the
    /// file. Their definitions are known here: the cluster that keeps them need not answer.
    fn renew_definitions(&self, clusters: &BTreeSet<ClusterId>, done: &mut wire::Reloaded) {
        if self.settings().metadata.as_ref().is_some_and(|metadata| clusters.contains(metadata)) {
            self.forget_version();
        }
        for hosted in self.links() {
            let ManagedBy::Api { stored, .. } = &hosted.managed_by else { continue };
            let id = &hosted.config().id;
            // Both ways of a link have one definition.
            if hosted.config().is_reverse || self.is_current(&hosted) {
                continue;
            }
            match self.renew(id, stored) {
                Ok(()) => done.changed.push(id.to_string()),
                Err(error) => done.failed.push(format!("links.{id} goes on as before: {error}")),
            }
        }
    }
}

fn is_kafka(cluster: &ClusterConfig) -> bool {
    matches!(cluster.kind, ClusterKind::Kafka(_))
}

/// What stands in the file of a link, and the components that it names.
fn written(config: &LinkConfig, stages: &[CheckedStage]) -> serde_json::Value {
    let digests: Vec<_> = stages.iter().map(|(spec, _)| spec.plugin_digest).collect();
    let limits: Vec<_> = stages.iter().map(|(spec, _)| &spec.limits).collect();
    serde_json::json!([config.written, digests, limits])
}

/// The settings that count from now on, and the keys that have changed and count after a restart.
/// It is decided for every key: there is no `..`.
fn renewed(before: &DaemonConfig, now: DaemonConfig) -> (DaemonConfig, Vec<String>) {
    fn keep<T: Clone + PartialEq>(waiting: &mut Vec<String>, key: &str, before: &T, now: &T) -> T {
        if before != now {
            waiting.push(format!("daemon.{key}"));
        }
        before.clone()
    }
    let mut waiting = Vec::new();
    let settings = DaemonConfig {
        data_dir: keep(&mut waiting, "data_dir", &before.data_dir, &now.data_dir),
        name: keep(&mut waiting, "name", &before.name, &now.name),
        layout_max: keep(&mut waiting, "layout_max", &before.layout_max, &now.layout_max),
        listen: keep(&mut waiting, "listen", &before.listen, &now.listen),
        metadata: keep(&mut waiting, "metadata", &before.metadata, &now.metadata),
        log_format: keep(&mut waiting, "log_format", &before.log_format, &now.log_format),
        otlp: keep(&mut waiting, "otlp", &before.otlp, &now.otlp),
        api: now.api,
        secrets_dir: now.secrets_dir,
        metrics_partitions_max: now.metrics_partitions_max,
        limits: now.limits,
        compile_memory: now.compile_memory,
        shutdown_timeout: now.shutdown_timeout,
        definitions_insecure_plaintext: now.definitions_insecure_plaintext,
        definitions_max: now.definitions_max,
    };
    (settings, waiting)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(more: &str) -> DaemonConfig {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("secrets")).expect("a directory");
        let text = format!("[daemon]\n{more}\n[clusters.east]\nkind = 'embedded'\n");
        let read = Config::parse(&text, "tidegate.toml", dir.path());
        let daemon = read.unwrap_or_else(|errors| panic!("{more}: {errors:?}")).0.daemon;
        // Two directories are no difference.
        let moved = |path: &Path| path.strip_prefix(dir.path()).unwrap_or(path).to_owned();
        DaemonConfig {
            data_dir: moved(&daemon.data_dir),
            secrets_dir: daemon.secrets_dir.as_deref().map(moved),
            ..daemon
        }
    }

    /// No key is passed over in silence: what a change says counts at once, or is named.
    #[test]
    fn every_key_of_the_process_counts_at_once_or_is_named() {
        let keys = [
            ("data_dir", "'elsewhere'", true),
            ("name", "'other'", true),
            ("layout_max", "1", true),
            ("listen", "'127.0.0.1:1'", true),
            ("metadata", "'east'", true),
            ("log_format", "'json'", true),
            ("otlp", "{ endpoint = 'http://127.0.0.1:1' }", true),
            ("api", "{ connections_max = 5 }", false),
            ("secrets_dir", "'secrets'", false),
            ("metrics_partitions_max", "5", false),
            ("limits", "{ time_ms = 77 }", false),
            ("compile_memory", "'2GiB'", false),
            ("shutdown_timeout", "'7s'", false),
            ("definitions_insecure_plaintext", "true", false),
            ("definitions_max", "1", false),
        ];
        let shown = |settings: &DaemonConfig| format!("{settings:?}");
        let before = settings("");
        for (key, value, waits) in keys {
            let now = settings(&format!("{key} = {value}"));
            assert_ne!(shown(&before), shown(&now), "{key}");
            for (one, other) in [(&before, &now), (&now, &before)] {
                let (counts, waiting) = renewed(one, other.clone());
                let expected = if waits { one } else { other };
                assert_eq!(shown(&counts), shown(expected), "{key}");
                let named = if waits { vec![format!("daemon.{key}")] } else { Vec::new() };
                assert_eq!(waiting, named, "{key}");
            }
        }
        let mut known: Vec<&str> = keys.map(|(key, ..)| key).to_vec();
        known.sort_unstable();
        let error = Config::parse("[daemon]\nport = 1\n", "tidegate.toml", Path::new("")).expect_err("unknown");
        let help = error.iter().find_map(|error| error.help.as_deref()?.strip_prefix("known here: ")).expect("keys");
        let mut all: Vec<&str> = help.split(", ").collect();
        all.sort_unstable();
        assert_eq!(known, all, "a new key belongs into this table");
    }
}
