//! The configuration file, read anew while the daemon runs: what has changed is done, and a file with an error changes nothing.
//!
//! What is compared is what stands in the file, and the components that it names: a link that is the same goes on untouched. What a process cannot change
//! while it runs is named, and waits for a restart.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use super::check::{CheckedConfig, CheckedStage, load};
use super::control::faults;
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
        let CheckedConfig { config, stages, warnings } =
            load(&self.file, &self.engine, &self.links_of_api()).map_err(|found| faults(&found))?;
        self.refuse_taken(&config)?;
        self.renew_access(&config.daemon)?;
        warnings.iter().for_each(|warning| tracing::warn!("{}", warning.in_one_line()));
        let mut done = wire::Reloaded {
            needs_restart: needs_restart(&self.settings(), &config.daemon),
            ..wire::Reloaded::default()
        };
        let kept = self.settings();
        let settings = DaemonConfig {
            data_dir: kept.data_dir.clone(),
            name: kept.name.clone(),
            listen: kept.listen,
            layout_max: kept.layout_max,
            metadata: kept.metadata.clone(),
            otlp: kept.otlp.clone(),
            ..config.daemon.clone()
        };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
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
                    done.needs_restart.push(format!("links.{id}: {error}"));
                }
            }
        }
        self.introduce_links();
        self.release_standbys();
        tracing::info!(added = ?done.added, changed = ?done.changed, removed = ?done.removed, needs_restart = ?done.needs_restart, "the configuration file was read anew");
        Ok(done)
    }

    /// The links that are not of the file and stay whatever it says: it has to go together with them.
    fn links_of_api(&self) -> Vec<LinkConfig> {
        let stays = |hosted: &Arc<Hosted>| matches!(hosted.managed_by, ManagedBy::Api(_));
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

    /// A link of the file must not take the id of one that was defined through the API.
    fn refuse_taken(&self, config: &Config) -> Result<(), ControlError> {
        let world = self.world();
        let is_taken = |id: &&LinkId| match world.links.get(*id) {
            Some(hosted) => matches!(hosted.managed_by, ManagedBy::Api(_)),
            None => self.unusable(id).is_some(),
        };
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
                    done.needs_restart.push(format!("clusters.{id}: links that were defined through the API use it"));
                }
                None => drop(changed.insert(id.clone())),
            }
        }
        changed
    }

    fn is_used_by_api(&self, cluster: &ClusterId) -> bool {
        let is_one = |hosted: &Arc<Hosted>| {
            let link = hosted.config();
            matches!(hosted.managed_by, ManagedBy::Api(_)) && (link.source == *cluster || link.target == *cluster)
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
            hosted.end();
            if now.is_none() {
                hosted.release_topics();
            }
            self.world_to_change().links.remove(&config.id);
            if now.is_some() { &mut done.changed } else { &mut done.removed }.push(config.id.to_string());
        }
    }

    /// Close the clusters that changed or are gone, and open those that changed or are new. Links that were defined through the API get the new ones when
    /// they are defined anew.
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
                Err(error) => done.needs_restart.push(format!("clusters.{id}: {error}")),
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

/// The keys of the process that have changed and are looked at when it starts.
fn needs_restart(before: &DaemonConfig, now: &DaemonConfig) -> Vec<String> {
    let keys = [
        ("daemon.data_dir", before.data_dir != now.data_dir),
        ("daemon.name", before.name != now.name),
        ("daemon.otlp", before.otlp != now.otlp),
        ("daemon.listen", before.listen != now.listen),
        ("daemon.layout_max", before.layout_max != now.layout_max),
        ("daemon.metadata", before.metadata != now.metadata),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
}
