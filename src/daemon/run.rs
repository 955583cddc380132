//! From a configuration file to a running daemon, and to its end.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{self, Arc, Mutex, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::check::{CheckedConfig, with_plugins};
use super::crashes::Crashes;
use super::definitions::{self, Definitions, Holds};
use super::ending::Ending;
use super::orders::Orders;
use super::{Daemon, Error, RunningCluster, World, name};
use crate::api::{self, Access, Prepared, wire};
use crate::background;
use crate::config::{ClusterConfig, ClusterKind, Config, DaemonConfig, EmbeddedConfig};
use crate::connector::embedded::EmbeddedCluster;
use crate::connector::kafka::KafkaCluster;
use crate::connector::{self, Cluster};
use crate::files::private;
use crate::model::Repeats;
use crate::plugin::PluginEngine;
use crate::plugin::engine::CALLING_STACK_BYTES;
use crate::store::{self, Command, Retention, Store};

/// The stack of a thread that answers requests: they call plugins too, and read definitions.
const REQUEST_STACK_BYTES: usize = CALLING_STACK_BYTES + (1 << 20);

/// The store of definitions of links, in the data directory.
const OWN_STORE: &str = "links.redb";

/// How long after a failure a declared topic is tried again.
const DECLARE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often the end of the daemon looks whether a change of links that is under way is over.
const ATTEMPT_EVERY: Duration = Duration::from_millis(10);

/// How often rates are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Every how many samples the clusters drop what their topics need not keep.
const SAMPLES_PER_RETENTION: u32 = 30;

/// Run the daemon that a configuration file describes, until SIGTERM or SIGINT. Links finish their open batch
/// and commit before this returns, as far as that is possible within `shutdown_timeout`. Definitions that `holds` names are not run. `start_log` is told how the file wants the log, and where spans go, before anything is logged.
///
/// # Errors
/// What keeps the daemon from starting, all of it at once where that is possible.
pub fn run(path: &Path, holds: Holds, start_log: impl FnOnce(&DaemonConfig) -> Result<(), Error>) -> Result<(), Error> {
    let started = Instant::now();
    let (config, warnings) = Config::load(path).map_err(refused)?;
    start_log(&config.daemon)?;
    let data_dir = config.daemon.data_dir.clone();
    let _lock = lock(&data_dir)?;
    let engine = PluginEngine::compiling_in_child(Some(&data_dir.join("cache"))).map_err(|error| {
        Error::new(format!("{}: {error}", data_dir.join("cache").display()), "make the data directory writable")
    })?;
    let name = name::load_or_make(config.daemon.name.as_deref(), &data_dir).map_err(|error| {
        Error::new(format!("{}: {error}", data_dir.join("name").display()), "make the data directory writable")
    })?;
    let checked = with_plugins(config, warnings, &engine, &[]).map_err(refused)?;
    checked.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.in_one_line()));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Requests publish plugins, and read JSON, whose depth its reader limits.
        .thread_stack_size(REQUEST_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("no threads for the API: {error}"), "raise the limit of processes"))?;
    let listener = runtime.block_on(bind(checked.config.daemon.listen))?;
    let access = Arc::new(open_access(&checked.config.daemon)?);
    let daemon = Arc::new(assemble(checked, path, holds, name, engine, access.clone(), started)?);
    daemon.orders.begin(&daemon);
    let stopping = Arc::new(AtomicBool::new(false));
    let no_thread = |error| Error::new(format!("no thread: {error}"), "raise the limit of processes");
    let upkeep = upkeep(daemon.clone(), stopping.clone()).map_err(no_thread)?;
    let following = follow(daemon.clone(), stopping.clone()).map_err(no_thread)?;
    let attending = attend(daemon.clone(), stopping.clone()).map_err(no_thread)?;
    runtime.spawn(reload_on_hangup(daemon.clone()));
    let ending = Arc::new(OnceLock::new());
    runtime.block_on(api::serve(listener, access, daemon.clone(), termination(daemon.clone(), ending.clone())));
    let ending = *ending.get_or_init(|| Ending::new(Instant::now(), daemon.settings().shutdown_timeout));
    tracing::info!("ending: links commit what they have read");
    stopping.store(true, Ordering::Relaxed);
    let changes_end = Instant::now() + ending.grace();
    for thread in [upkeep, following, attending] {
        thread.thread().unpark();
        if within(changes_end, || thread.is_finished().then_some(())).is_some() {
            drop(thread.join());
        }
    }
    // Whoever changes links at the last moment is waited for, but not one who waits for a file or a compiler: a change that is not done by now is done at the next start, or
    // was never written down.
    let _changing = within(changes_end, || match daemon.changing.try_lock() {
        Ok(changing) => Some(changing),
        Err(sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(sync::TryLockError::WouldBlock) => None,
    });
    ending.end_links(daemon.links());
    // Requests that nobody waits for any more may still work.
    runtime.shutdown_background();
    Ok(())
}

/// What an attempt gives, if it gives something by then.
fn within<T>(until: Instant, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        match attempt() {
            None if Instant::now() < until => thread::sleep(ATTEMPT_EVERY),
            gained => return gained,
        }
    }
}

fn open_access(config: &DaemonConfig) -> Result<Access, Error> {
    let opened = Prepared::new(&config.api).and_then(|prepared| Access::new(prepared, &config.data_dir));
    opened.map_err(|error| Error::new(error.message, error.remedy))
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
    private::create_dir(data_dir).map_err(failed)?;
    let file = private::create(&data_dir.join("lock")).map_err(failed)?;
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

fn assemble(
    checked: CheckedConfig,
    path: &Path,
    holds: Holds,
    name: Arc<str>,
    engine: PluginEngine,
    access: Arc<Access>,
    started: Instant,
) -> Result<Daemon, Error> {
    let CheckedConfig { config, stages, .. } = checked;
    let data_dir = &config.daemon.data_dir;
    let crashes = Crashes::watch(data_dir).map_err(|error| {
        Error::new(
            format!("the record of crashes in {}: {error}", data_dir.display()),
            "make it writable, or remove it",
        )
    })?;
    let orders = Orders::open(data_dir)?;
    let open = |(id, config)| Ok((id, Arc::new(open_cluster(config)?)));
    let clusters = config.clusters.into_iter().map(open).collect::<Result<_, Error>>()?;
    let daemon = Daemon {
        data_dir: config.daemon.data_dir.clone(),
        file: path.to_owned(),
        name,
        started,
        engine,
        settings: RwLock::new(Arc::new(config.daemon)),
        world: RwLock::new(World { clusters, ..World::default() }),
        definitions: Definitions::new(holds),
        orders,
        crashes,
        regions: Arc::default(),
        unhosted: Mutex::default(),
        access,
        repeats: Repeats::default(),
        changing: Mutex::default(),
    };
    for (link, stages) in config.links.into_values().zip(stages) {
        daemon.host_of_file(link, stages)?;
    }
    Ok(daemon)
}

/// Open a cluster and make the topics that its configuration declares.
pub(super) fn open_cluster(config: ClusterConfig) -> Result<RunningCluster, Error> {
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
    let uncommitted = cluster.uncommitted();
    let opened = RunningCluster {
        config,
        in_place: None,
        culprit: None,
        cluster,
        uncommitted,
        store,
        probe: Arc::default(),
        retention_failure: Mutex::default(),
    };
    // Whoever asks for its state finds that it was asked already.
    opened.trouble();
    Ok(opened)
}

/// The store that keeps definitions of links where no cluster was named for it. Without `make`, only if it is there.
pub(super) fn open_own_store(data_dir: &Path, make: bool) -> Result<Option<Arc<dyn Cluster>>, Error> {
    let path = data_dir.join(OWN_STORE);
    if !make && !path.exists() {
        return Ok(None);
    }
    let store = Store::open(&path, store::Options::default())
        .map_err(|error| Error::new(format!("{}: {error}", path.display()), error.remedy()))?;
    Ok(Some(Arc::new(EmbeddedCluster::new(Arc::new(store)))))
}

/// Make the topics that the configuration declares, as soon as the cluster can be reached.
fn declare(config: &ClusterConfig, cluster: Arc<KafkaCluster>) {
    let (id, topics) = (config.id.clone(), config.topics.clone());
    let cluster_left = Arc::downgrade(&cluster);
    drop(cluster);
    let repeats = Repeats::default();
    let declare = move || {
        for (name, topic) in topics {
            while let Some(cluster) = cluster_left.upgrade() {
                match cluster.declare(&name, topic.partitions, topic.retention_ms, topic.retention_bytes) {
                    Ok(()) => break,
                    Err(error) => {
                        if let Some(news) = repeats.news(format!("{name}: {error}"), Instant::now()) {
                            let (code, repeated) = (error.code, news.repeated);
                            tracing::warn!(cluster = &*id, topic = &*name, code, repeated, "{error}");
                        }
                    }
                }
                drop(cluster);
                thread::sleep(DECLARE_AGAIN_AFTER);
            }
        }
    };
    background::begin("declare", declare, |_| {});
}

fn open_store(config: &ClusterConfig, embedded: &EmbeddedConfig) -> Result<Store, Error> {
    let named = |error: store::Error| Error::new(format!("cluster {}: {error}", config.id), error.remedy());
    let options = store::Options { compression: embedded.compression, ..store::Options::default() };
    let store = Store::open(&embedded.path, options).map_err(named)?;
    for (name, topic) in &config.topics {
        let retention = Retention { retention_ms: topic.retention_ms, retention_bytes: topic.retention_bytes };
        let made = store.create_topic(name, topic.partitions, retention).map_err(named)?;
        if made.retention != retention {
            let (retention_ms, retention_bytes) = (Some(retention.retention_ms), Some(retention.retention_bytes));
            let change = Command::ChangeRetention { topic: made.id, retention_ms, retention_bytes };
            store.execute(change).map_err(named)?;
        }
    }
    Ok(store)
}

/// Sample rates and enforce retention until the daemon ends.
fn upkeep(daemon: Arc<Daemon>, stopping: Arc<AtomicBool>) -> io::Result<thread::JoinHandle<()>> {
    let mut round = 0_u32;
    keep_on("upkeep", stopping, SAMPLE_INTERVAL, move || {
        round = round.wrapping_add(1);
        for hosted in daemon.links() {
            hosted.link().meter().sample(Instant::now(), hosted.link().counters());
        }
        if round % SAMPLES_PER_RETENTION == 1 {
            enforce_retention(&daemon);
        }
    })
}

fn enforce_retention(daemon: &Daemon) {
    let now = wire::Time::now().0;
    for running in daemon.clusters() {
        let id = &running.config.id;
        if let Some(failure) = running.enforce_retention(now)
            && let Some(news) = daemon.repeats.news(format!("cluster {id}: {failure}"), Instant::now())
        {
            tracing::error!(cluster = &**id, code = failure.code, repeated = news.repeated, "{failure}");
        }
    }
}

/// Do what other daemons say of links, until the daemon ends.
fn follow(daemon: Arc<Daemon>, stopping: Arc<AtomicBool>) -> io::Result<thread::JoinHandle<()>> {
    keep_on("follow", stopping, definitions::LOOK_EVERY, move || daemon.follow_definitions())
}

/// Look after links that change places, until the daemon ends. On a thread of its own: when one is due is counted in seconds, and definitions may be in a cluster that
/// hangs.
fn attend(daemon: Arc<Daemon>, stopping: Arc<AtomicBool>) -> io::Result<thread::JoinHandle<()>> {
    keep_on("regions", stopping, definitions::LOOK_EVERY, move || daemon.attend_regions())
}

/// Do something every `interval` until the daemon ends, whatever comes of it.
fn keep_on(
    name: &'static str,
    stopping: Arc<AtomicBool>,
    interval: Duration,
    mut work: impl FnMut() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let rounds = move || {
        while !stopping.load(Ordering::Relaxed) {
            work();
            thread::park_timeout(interval);
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(move || background::keep_on(name, rounds, |_| {}))
}

/// Read the configuration file anew whenever SIGHUP comes.
async fn reload_on_hangup(daemon: Arc<Daemon>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("SIGHUP cannot be received: `tidegate reload` does the same");
        return;
    };
    while hangup.recv().await.is_some() {
        let daemon = daemon.clone();
        let reloaded = tokio::task::spawn_blocking(move || daemon.reload_file()).await;
        match reloaded {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!(code = error.code, "nothing has changed: {error}");
                let faults = error.faults.iter();
                faults.for_each(|fault| tracing::error!("{}: {}: {}", fault.place, fault.path, fault.message));
            }
            Err(panic) => tracing::error!(code = "internal", "the configuration was not read anew: {panic}"),
        }
    }
}

/// Wait for the signal to end: how long requests under way may take from then on.
async fn termination(daemon: Arc<Daemon>, ending: Arc<OnceLock<Ending>>) -> Duration {
    signal_to_end().await;
    // What the file says now counts.
    ending.get_or_init(|| Ending::new(Instant::now(), daemon.settings().shutdown_timeout)).grace()
}

async fn signal_to_end() {
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
