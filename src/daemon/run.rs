//! From a configuration file to a running daemon, and to its end.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::check::{CheckedConfig, with_plugins};
use super::{Daemon, Error, RunningCluster, name};
use crate::api::{self, wire};
use crate::config::{ClusterConfig, ClusterKind, Config, EmbeddedConfig};
use crate::connector::embedded::EmbeddedCluster;
use crate::connector::kafka::KafkaCluster;
use crate::connector::{self, Cluster};
use crate::link::Link;
use crate::model::{ClusterId, LinkId};
use crate::plugin::PluginEngine;
use crate::store::{self, Command, Retention, Store};

/// How long after a failure a declared topic is tried again.
const DECLARE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often rates are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Every how many samples the clusters drop what their topics need not keep.
const SAMPLES_PER_RETENTION: u32 = 30;

/// Run the daemon that a configuration file describes, until SIGTERM or SIGINT. Links finish their open batch
/// and commit before this returns.
///
/// # Errors
/// What keeps the daemon from starting, all of it at once where that is possible.
pub fn run(path: &Path) -> Result<(), Error> {
    let started = Instant::now();
    let (config, warnings) = Config::load(path).map_err(refused)?;
    let data_dir = config.daemon.data_dir.clone();
    let _lock = lock(&data_dir)?;
    let engine = PluginEngine::compiling_in_child(Some(&data_dir.join("cache"))).map_err(|error| {
        Error::new(format!("{}: {error}", data_dir.join("cache").display()), "make the data directory writable")
    })?;
    let name = name::load_or_make(config.daemon.name.as_deref(), &data_dir).map_err(|error| {
        Error::new(format!("{}: {error}", data_dir.join("name").display()), "make the data directory writable")
    })?;
    let checked = with_plugins(config, warnings, &engine).map_err(refused)?;
    checked.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("no threads for the API: {error}"), "raise the limit of processes"))?;
    let listener = runtime.block_on(bind(checked.config.daemon.listen))?;
    let daemon = Arc::new(assemble(checked, name, &engine, started)?);
    let stopping = Arc::new(AtomicBool::new(false));
    let upkeep = upkeep(daemon.clone(), stopping.clone());
    let starting: Vec<_> =
        daemon.links.values().cloned().map(|link| thread::spawn(move || link.resume_desired())).collect();
    let duties = [Link::guard, Link::follow, Link::follow_groups, Link::beat];
    let on_duty = |link: &Arc<Link>| {
        let link = link.clone();
        duties.map(|duty| {
            thread::spawn({
                let link = link.clone();
                move || duty(&link)
            })
        })
    };
    let wardens: Vec<_> = daemon.links.values().flat_map(on_duty).collect();
    let served = runtime.block_on(api::serve(listener, daemon.clone(), termination()));
    starting.into_iter().for_each(|thread| drop(thread.join()));
    daemon.links.values().for_each(|link| link.dismiss());
    wardens.into_iter().for_each(|thread| drop(thread.join()));
    stopping.store(true, Ordering::Relaxed);
    upkeep.thread().unpark();
    tracing::info!("ending: links commit what they have read");
    thread::scope(|scope| daemon.links.values().for_each(|link| drop(scope.spawn(|| link.halt()))));
    drop(upkeep.join());
    served.map_err(|error| Error::new(format!("the API failed: {error}"), "see the log"))
}

fn refused(diagnostics: Vec<crate::config::Diagnostic>) -> Error {
    let error = Error::new("the configuration has errors", "mend them; `tidegate check` shows them without starting");
    Error { diagnostics, ..error }
}

/// Make the data directory and keep every other daemon out of it for as long as the answer lives.
fn lock(data_dir: &Path) -> Result<File, Error> {
    let failed = |error: io::Error| {
        Error::new(format!("data_dir {}: {error}", data_dir.display()), "name a directory that can be written")
    };
    fs::create_dir_all(data_dir).map_err(failed)?;
    let file = File::create(data_dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            format!("data_dir {} is in use by another daemon", data_dir.display()),
            "stop that daemon, or give this one a data_dir of its own",
        )),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Error::new(format!("listen on {address}: {error}"), "choose another `listen` address"))
}

fn assemble(checked: CheckedConfig, name: Arc<str>, engine: &PluginEngine, started: Instant) -> Result<Daemon, Error> {
    let clusters = checked.config.clusters.into_iter().map(|(id, config)| Ok((id, open(config)?)));
    let clusters: BTreeMap<ClusterId, RunningCluster> = clusters.collect::<Result<_, Error>>()?;
    let mut links: BTreeMap<LinkId, Arc<Link>> = BTreeMap::new();
    for ((id, config), stages) in checked.config.links.into_iter().zip(checked.stages) {
        let cluster = |id: &ClusterId| -> Result<Arc<dyn Cluster>, Error> {
            let found = clusters.get(id).map(|running| running.cluster.clone());
            found.ok_or_else(|| Error::new(format!("no cluster {id}"), "define it under [clusters]"))
        };
        let (source, target) = (cluster(&config.source)?, cluster(&config.target)?);
        let link = Link::new(config, name.clone(), source, target, engine.clone(), stages);
        links.insert(id, Arc::new(link.with_layout_max(checked.config.daemon.layout_max)));
    }
    Ok(Daemon { data_dir: checked.config.daemon.data_dir, name, started, clusters, links })
}

/// Open a cluster and make the topics that its configuration declares.
fn open(config: ClusterConfig) -> Result<RunningCluster, Error> {
    let (cluster, store): (Arc<dyn Cluster>, _) = match &config.kind {
        ClusterKind::Embedded(embedded) => {
            let store = Arc::new(open_store(&config, embedded)?);
            (Arc::new(EmbeddedCluster::new(store.clone())), Some(store))
        }
        ClusterKind::Kafka(kafka) => {
            let named = |error: connector::Error| Error::new(format!("cluster {}: {error}", config.id), error.remedy);
            let cluster = Arc::new(KafkaCluster::open(kafka).map_err(named)?);
            if !config.topics.is_empty() {
                declare(&config, cluster.clone());
            }
            (cluster, None)
        }
    };
    Ok(RunningCluster { config, cluster, store })
}

/// Make the topics that the configuration declares, as soon as the cluster can be reached.
fn declare(config: &ClusterConfig, cluster: Arc<KafkaCluster>) {
    let (id, topics) = (config.id.clone(), config.topics.clone());
    let cluster_left = Arc::downgrade(&cluster);
    drop(cluster);
    thread::spawn(move || {
        for (name, topic) in topics {
            while let Some(cluster) = cluster_left.upgrade() {
                match cluster.declare(&name, topic.partitions, topic.retention_ms, topic.retention_bytes) {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(cluster = &*id, topic = &*name, code = error.code, "{error}"),
                }
                drop(cluster);
                thread::sleep(DECLARE_AGAIN_AFTER);
            }
        }
    });
}

fn open_store(config: &ClusterConfig, embedded: &EmbeddedConfig) -> Result<Store, Error> {
    let named = |error: store::Error| Error::new(format!("cluster {}: {error}", config.id), error.remedy());
    let options = store::Options { compression_level: embedded.compression_level, ..store::Options::default() };
    let store = Store::open(&embedded.path, options).map_err(named)?;
    for (name, topic) in &config.topics {
        let retention = Retention { retention_ms: topic.retention_ms, retention_bytes: topic.retention_bytes };
        let made = store.create_topic(name, topic.partitions, retention).map_err(named)?;
        if made.retention != retention {
            store.execute(Command::SetRetention { topic: made.id, retention }).map_err(named)?;
        }
    }
    Ok(store)
}

/// Sample rates and enforce retention until the daemon ends.
fn upkeep(daemon: Arc<Daemon>, stopping: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for round in 0_u32.. {
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            daemon.links.values().for_each(|link| link.meter().sample(Instant::now(), link.counters()));
            if round % SAMPLES_PER_RETENTION == 0 {
                enforce_retention(&daemon);
            }
            thread::park_timeout(SAMPLE_INTERVAL);
        }
    })
}

fn enforce_retention(daemon: &Daemon) {
    let now = wire::Time::now().0;
    for (id, running) in &daemon.clusters {
        let Some(store) = &running.store else { continue };
        if let Err(error) = store.enforce_retention(now) {
            tracing::error!(cluster = &**id, code = error.code(), "retention: {error}");
        }
    }
}

async fn termination() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received: end the daemon with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
