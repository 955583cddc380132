//! What runs: clusters and links, which come and go while the daemon runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::definitions::Stored;
use super::lock;
use crate::background::{self, Errand, Unfinished};
use crate::config::{ClusterConfig, DefinitionSettings, Isolation, LinkConfig};
use crate::connector::{self, Cluster, Topic};
use crate::link::Link;
use crate::link::failure::Failure;
use crate::link::probe::Probe;
use crate::model::culprit::{self, Work};
use crate::model::{ClusterId, Culprit, Json, LinkId};
use crate::store::{NotEnforced, Store};

/// Who says what a link is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ManagedBy {
    /// The configuration file; this is what stands there of it.
    File(serde_json::Value),
    /// A definition that came through the API, read with these settings of the daemon.
    Api { stored: Stored, settings: DefinitionSettings },
    /// A failback of another link.
    Failback,
}

/// A link with the threads that look after it.
pub(super) struct Hosted {
    link: Arc<Link>,
    pub(super) managed_by: ManagedBy,
    duties: Mutex<Vec<JoinHandle<()>>>,
}

impl Hosted {
    /// Have a link do what it was last told, and look after it.
    pub(super) fn begin(link: Link, managed_by: ManagedBy) -> Arc<Self> {
        let link = Arc::new(link);
        let working = Work::with(&link, link.culprit());
        // Before requests can find the link, so that no record is accepted which its guard should refuse.
        if let Err(failure) = link.stand_by() {
            tracing::error!(
                link = &*link.config().id,
                code = failure.code,
                "what stands by is guarded as before: {failure}"
            );
        }
        let begun = DUTIES.into_iter().filter_map(|(name, duty)| begin_duty(&link, name, duty));
        let duties = Mutex::new(begun.collect());
        drop(working);
        Arc::new(Self { link, managed_by, duties })
    }

    /// The link, to work with: what the thread does meanwhile is work for its definition.
    pub(super) fn link(&self) -> Work<Link> {
        Work::with(&self.link, self.link.culprit())
    }

    /// Its configuration.
    pub(super) fn config(&self) -> &LinkConfig {
        self.link.config()
    }

    /// Let its lanes commit, and end its threads. What it was told and what it claims stay as they are: see [`Hosted::give_way_to`].
    pub(super) fn end(&self) {
        let link = self.link();
        link.dismiss();
        let duties = std::mem::take(&mut *self.duties.lock().unwrap_or_else(PoisonError::into_inner));
        duties.into_iter().for_each(|duty| drop(duty.join()));
        link.halt();
    }

    /// The same, unless a cluster of the link says nothing: then what waits for it is left behind. Whoever opens the lanes next fences them, and what hangs is
    /// told to end.
    pub(super) fn end_or_leave(self: &Arc<Self>) {
        let (it, begun) = (self.clone(), Instant::now());
        let ending = Errand::begin("end", move || it.end());
        while ending.done_by(Instant::now() + LOOK_EVERY).is_none() {
            let link = self.link();
            link.probe_clusters(LOOK_EVERY);
            if begun.elapsed() >= END_PATIENCE && !link.silent_clusters(LOOK_EVERY).is_empty() {
                tracing::warn!(
                    link = &*link.config().id,
                    code = "cluster-silent",
                    "left behind: a cluster does not answer"
                );
                return;
            }
        }
    }

    /// End it for good, or because another one is to be begun with its id: `next`. It gives up what it claims at its target, unless the next one writes there, too. A
    /// target that does not answer holds up nobody.
    pub(super) fn give_way_to(self: &Arc<Self>, next: Option<&LinkConfig>) {
        self.end_or_leave();
        if next.is_none_or(|next| next.target != self.config().target) {
            let it = self.clone();
            background::begin("release", move || it.link().release_topics(), |_| {});
        }
    }
}

type Duty = fn(&Link);

/// What is done for a link beside its lanes, each on a thread: until [`Link::dismiss`], but for the
/// first.
const DUTIES: [(&str, Duty); 6] = [
    ("resume", Link::resume_desired),
    ("warden", Link::guard),
    ("topics", Link::follow),
    ("groups", Link::follow_groups),
    ("heartbeats", Link::beat),
    ("observer", Link::observe),
];

/// A panic ends no duty: it is an event of the link, and the duty begins again.
fn begin_duty(link: &Arc<Link>, name: &'static str, duty: Duty) -> Option<JoinHandle<()>> {
    let it = link.clone();
    let tell = move |link: &Link, unfinished: &Unfinished| {
        link.note(unfinished.code(), format!("thread {name}: {unfinished}"))
    };
    let work = move || background::keep_on(name, || duty(&it), |unfinished| tell(&it, unfinished));
    let spawned = culprit::spawn(name, work);
    spawned.inspect_err(|error| tell(link, &Unfinished::NoThread(error.to_string()))).ok()
}

/// A cluster and what its configuration says.
pub(super) struct RunningCluster {
    pub(super) config: ClusterConfig,
    /// What it was defined by, if a link has brought it.
    pub(super) in_place: Option<Json>,
    /// The definition that has brought it.
    pub(super) culprit: Option<Culprit>,
    pub(super) cluster: Arc<dyn Cluster>,
    /// The same to links that read what is not committed; `None`: there is no difference.
    pub(super) uncommitted: Option<Arc<dyn Cluster>>,
    /// What is behind an embedded cluster, for what only that has: retention that we see to, and failures that last.
    pub(super) store: Option<Arc<Store>>,
    /// Whether it answers, where it is elsewhere.
    pub(super) probe: Arc<Probe>,
    /// Why the last round of retention has failed for some partitions.
    pub(super) retention_failure: Mutex<Option<Failure>>,
}

/// How long a link may take to end if its cluster says nothing, and how often is looked whether it does.
const END_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a cluster elsewhere is asked whether it answers, while somebody wants to know.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What is wrong with a cluster.
pub(super) enum Trouble {
    /// It is an embedded one that cannot be used any more.
    Failed(Failure),
    /// It is elsewhere and did not answer when it was asked last.
    Unreachable(Failure),
    /// It can be used, but for some of its partitions.
    Damaged(Failure),
}

impl RunningCluster {
    /// The cluster as a link reads it that has it as its source.
    pub(super) fn as_source(&self, isolation: Isolation) -> &Arc<dyn Cluster> {
        match isolation {
            Isolation::ReadCommitted => &self.cluster,
            Isolation::ReadUncommitted => self.uncommitted.as_ref().unwrap_or(&self.cluster),
        }
    }

    /// What is wrong with the cluster, if something is.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let Some(store) = &self.store else {
            self.ask(ASK_EVERY);
            return self.probe.answer()?.trouble.map(Trouble::Unreachable);
        };
        if let Some(failure) = store.failure() {
            return Some(Trouble::Failed(connector::Error::from(failure).into()));
        }
        lock(&self.retention_failure).clone().map(Trouble::Damaged)
    }

    /// Enforce the retention of an embedded cluster. Why that has failed for some of its partitions, if it has: this is the
    /// cluster's trouble until a round goes well.
    pub(super) fn enforce_retention(&self, now_ms: i64) -> Option<Failure> {
        let failure = retention_failure(&self.store.as_ref()?.enforce_retention(now_ms).failed);
        lock(&self.retention_failure).clone_from(&failure);
        failure
    }

    /// Ask whether it answers, unless that was done within `interval`. Waits for nobody.
    pub(super) fn ask(&self, interval: Duration) {
        culprit::work_of(self.culprit, || self.probe.ask(&self.cluster, interval));
    }

    pub(super) fn topic(&self, name: &str) -> Result<Option<Topic>, connector::Error> {
        match &self.store {
            Some(store) => Ok(store.topic(name).map(Topic::from)),
            None => Ok(self.cluster.topics()?.into_iter().find(|topic| *topic.name == *name)),
        }
    }
}

/// What is said of the partitions whose retention failed: one message, however many they are.
fn retention_failure(failed: &[NotEnforced]) -> Option<Failure> {
    let NotEnforced { topic, partition, error } = failed.first()?;
    let more = match failed.len() - 1 {
        0 => String::new(),
        more => format!(" and of {more} more partitions"),
    };
    let failure = Failure::from(connector::Error::from(error.clone()));
    let message = format!("the retention of {topic}-{partition}{more} was not enforced: {failure}");
    Some(Failure { message, ..failure })
}

/// All that runs.
#[derive(Default)]
pub(super) struct World {
    /// How often something was changed here.
    pub(super) changes: u64,
    pub(super) clusters: BTreeMap<ClusterId, Arc<RunningCluster>>,
    pub(super) links: BTreeMap<LinkId, Arc<Hosted>>,
}

impl World {
    /// Let go of clusters that links have brought and no link uses any more.
    pub(super) fn tidy(&mut self) {
        let used = |id: &ClusterId| {
            let mut links = self.links.values().map(|hosted| hosted.config());
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::connector::embedded::EmbeddedCluster;
    use crate::plugin::PluginEngine;
    use crate::store::{self, Options};

    fn hosted(dir: &Path, culprit: Culprit) -> Hosted {
        let text = "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\n\
                    [links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n";
        let (config, _) = Config::parse(text, "tidegate.toml", Path::new("")).expect("a configuration");
        let cluster = |name: &str| -> Arc<dyn Cluster> {
            Arc::new(EmbeddedCluster::new(Arc::new(Store::open(dir.join(name), Options::default()).expect("opens"))))
        };
        let engine = PluginEngine::new(None).expect("an engine");
        let link =
            Link::new(config.links["l"].clone(), "d".into(), cluster("east"), cluster("west"), engine, Vec::new());
        let link = Arc::new(link.with_culprit(Some(culprit)));
        Hosted { link, managed_by: ManagedBy::Failback, duties: Mutex::default() }
    }

    #[test]
    fn a_cluster_whose_retention_failed_says_of_which_partitions() {
        let damaged = |topic: &str, base| {
            let (path, reason) = ("east.redb".into(), "cut".to_owned());
            let error = store::Error::CorruptBatch { path, topic: topic.into(), partition: 3, base, reason };
            NotEnforced { topic: topic.into(), partition: 3, error }
        };
        let (one, other) = (damaged("orders", 7), damaged("users", 9));
        let said = |failed: &[NotEnforced]| retention_failure(failed).map(|it| (it.code, it.message));
        let message = |more: &str| {
            format!(
                "the retention of orders-3{more} was not enforced: the batch at base offset 7 of orders-3 in east.redb is damaged: cut"
            )
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(std::slice::from_ref(&one)), Some(("corrupt-batch", message(""))));
        assert_eq!(said(&[one, other]), Some(("corrupt-batch", message(" and of 1 more partitions"))));
    }

    /// Requests have no other way to a link, so none of them can forget for whom it works.
    #[test]
    fn whoever_uses_a_link_works_for_its_definition_and_so_do_the_threads_it_begins() {
        let (dir, culprit) = (tempfile::tempdir().expect("a directory"), Culprit::of("l", 1));
        let hosted = hosted(dir.path(), culprit);
        let link = hosted.link();
        let begun = culprit::spawn("begun", Culprit::now).expect("a thread");
        assert_eq!((Culprit::now(), begun.join().expect("an answer")), (Some(culprit), Some(culprit)));
        let look = Link::look(&link);
        drop(link);
        assert_eq!(Culprit::now(), None, "what a look keeps is not in use");
        let looked_at = look.link();
        assert_eq!(Culprit::now(), Some(culprit));
        drop(looked_at);
        assert_eq!(Culprit::now(), None);
    }
}
