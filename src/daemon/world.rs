//! What runs: clusters and links, which come and go while the daemon runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::definitions::Stored;
use crate::config::ClusterConfig;
use crate::connector::{self, Cluster, Topic};
use crate::link::Link;
use crate::link::failure::Failure;
use crate::link::probe::Probe;
use crate::model::{ClusterId, LinkId};
use crate::store::Store;

/// Who says what a link is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ManagedBy {
    /// The configuration file; this is what stands there of it.
    File(Value),
    /// Whoever uses the API.
    Api(Stored),
    /// A failback of another link.
    Failback,
}

/// A link with the threads that look after it.
pub(super) struct Hosted {
    pub(super) link: Arc<Link>,
    pub(super) managed_by: ManagedBy,
    duties: Mutex<Vec<JoinHandle<()>>>,
}

impl Hosted {
    /// Have a link do what it was last told, and look after it.
    pub(super) fn begin(link: Link, managed_by: ManagedBy) -> Arc<Self> {
        // Before requests can find the link, so that no record is accepted which its guard should refuse.
        if let Err(failure) = link.stand_by() {
            tracing::error!(
                link = &*link.config().id,
                code = failure.code,
                "what stands by is guarded as before: {failure}"
            );
        }
        let link = Arc::new(link);
        let duties = [Link::resume_desired, Link::guard, Link::follow, Link::follow_groups, Link::beat, Link::observe];
        let duty = |duty: fn(&Link)| {
            let link = link.clone();
            thread::spawn(move || duty(&link))
        };
        let duties = Mutex::new(duties.map(duty).into());
        Arc::new(Self { link, managed_by, duties })
    }

    /// Let its lanes commit, and end its threads. What it was told stays as it is.
    pub(super) fn end(&self) {
        self.link.dismiss();
        let duties = std::mem::take(&mut *self.duties.lock().unwrap_or_else(PoisonError::into_inner));
        duties.into_iter().for_each(|duty| drop(duty.join()));
        self.link.halt();
    }
}

/// A cluster and what its configuration says.
pub(super) struct RunningCluster {
    pub(super) config: ClusterConfig,
    /// What it was defined by, if a link has brought it.
    pub(super) in_place: Option<Value>,
    pub(super) cluster: Arc<dyn Cluster>,
    /// What is behind an embedded cluster, for what only that has: retention that we see to, and failures that last.
    pub(super) store: Option<Arc<Store>>,
    /// Whether it answers, where it is elsewhere.
    pub(super) probe: Arc<Probe>,
}

/// How often a cluster elsewhere is asked whether it answers, while somebody wants to know.
const ASK_EVERY: Duration = Duration::from_secs(5);

impl RunningCluster {
    /// Why the cluster cannot be used now: as an embedded one has failed, or as one elsewhere has answered last.
    pub(super) fn trouble(&self) -> Option<Failure> {
        let Some(store) = &self.store else {
            self.probe.ask(&self.cluster, ASK_EVERY);
            return self.probe.answer()?.trouble;
        };
        Some(connector::Error::from(store.failure()?).into())
    }

    pub(super) fn topic(&self, name: &str) -> Result<Option<Topic>, connector::Error> {
        match &self.store {
            Some(store) => Ok(store.topic(name).map(Topic::from)),
            None => Ok(self.cluster.topics()?.into_iter().find(|topic| *topic.name == *name)),
        }
    }
}

/// All that runs.
#[derive(Default)]
pub(super) struct World {
    pub(super) clusters: BTreeMap<ClusterId, Arc<RunningCluster>>,
    pub(super) links: BTreeMap<LinkId, Arc<Hosted>>,
}

impl World {
    /// Let go of clusters that links have brought and no link uses any more.
    pub(super) fn tidy(&mut self) {
        let used = |id: &ClusterId| {
            let mut links = self.links.values().map(|hosted| hosted.link.config());
            links.any(|link| link.source == *id || link.target == *id)
        };
        let unused: Vec<ClusterId> = self
            .clusters
            .values()
            .filter(|it| it.in_place.is_some() && !used(&it.config.id))
            .map(|it| it.config.id.clone())
            .collect();
        self.clusters.retain(|id, _| !unused.contains(id));
    }
}
