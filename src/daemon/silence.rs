//! Which clusters do not answer, for requests that must not wait for them.

use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use super::world::{Hosted, RunningCluster};
use crate::api::control::{About, Silent};
use crate::api::wire::Time;
use crate::link::probe::Silence;
use crate::model::ClusterId;

/// A cluster whose probe waits for so long is silent, if nobody says how long it may take.
const PATIENCE: Duration = Duration::from_secs(1);

impl Daemon {
    /// See [`ControlPlane::silent`](crate::api::ControlPlane::silent). What runs is looked at for a
    /// moment only.
    pub(super) fn silent_clusters(&self, about: &About, probe: Option<Duration>) -> Vec<Silent> {
        let mut found = match about {
            About::Link(id) => {
                let hosted = self.world().links.get(&**id).cloned();
                hosted.iter().flat_map(|hosted| of_link(hosted, probe)).collect()
            }
            About::Cluster(id) => {
                let running = self.world().clusters.get(&**id).cloned();
                running.and_then(|running| of_cluster(&running, probe)).into_iter().collect()
            }
            About::All => self.links().iter().flat_map(|hosted| of_link(hosted, probe)).collect::<Vec<_>>(),
        };
        // Links have clusters in common. Each link has asked at another time.
        found.sort_by(|one, other| (&one.cluster, one.since).cmp(&(&other.cluster, other.since)));
        found.dedup_by(|one, other| one.cluster == other.cluster);
        found
    }
}

fn of_link(hosted: &Arc<Hosted>, probe: Option<Duration>) -> Vec<Silent> {
    let link = hosted.link();
    if let Some(interval) = probe {
        link.probe_clusters(interval);
    }
    let silent = link.silent_clusters(probe.unwrap_or(PATIENCE));
    silent.into_iter().map(|(id, silence)| named(&id, silence)).collect()
}

fn of_cluster(running: &RunningCluster, probe: Option<Duration>) -> Option<Silent> {
    if let Some(interval) = probe {
        running.ask(interval);
    }
    Some(named(&running.config.id, running.probe.silence(probe.unwrap_or(PATIENCE))?))
}

fn named(cluster: &ClusterId, Silence { since_ms, why }: Silence) -> Silent {
    Silent { cluster: cluster.to_string(), since: Time(since_ms), why }
}
