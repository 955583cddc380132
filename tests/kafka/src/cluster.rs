//! A cluster of one broker or of several, from formatting its storage to removing it.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::broker::Broker;
use crate::{Jars, Release, Result, access, jars};

/// How many clusters this process has started: each has an id of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// What a cluster is to be like. The default is one broker with the features of its release.
#[derive(Clone, Debug)]
pub struct Options {
    /// What runs.
    pub release: Release,
    /// How many brokers, each in a rack of its own: `rack-1` and so on. Three or more keep their internal topics three times, fewer once.
    pub brokers: u8,
    /// The finalized `transaction.version`, if it is not to be that of the release: with 0 and 1 a cluster is what an upgrade makes of an older one until
    /// somebody raises its features. It is not an older one, whose brokers know less.
    pub transaction_version: Option<u8>,
    /// Settings of every broker, which replace those of the same name. Clients have the listener `CLIENT` to themselves, so
    /// `listener.security.protocol.map` can put TLS and passwords on it.
    pub settings: Vec<(String, String)>,
    /// Names of further listeners of every broker, each on a free port: [`Broker::listener`]. `settings` says how they are secured.
    pub listeners: Vec<String>,
    /// SCRAM users that are known from the beginning, as `StorageTool --add-scram` wants them: `SCRAM-SHA-512=[name=a,password=b]`.
    pub scram: Vec<String>,
    /// Names and passwords of users for SASL PLAIN on `CLIENT`. If there are any, they may do only what [`Cluster::grant`] lets them; whoever is on
    /// another listener has no name and may do everything.
    pub users: Vec<(String, String)>,
    /// Put a [`crate::Proxy`] in front of each broker, on a listener `PROXIED` beside `CLIENT`: whoever begins at
    /// [`Cluster::proxied_bootstrap`] reaches every broker through its proxy, in the clear.
    pub proxied: bool,
    /// Options of Java for every broker, after the harness's own and stronger: `-Xmx1g`, `-XX:TieredStopAtLevel=4`.
    pub java_options: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            release: Release::default(),
            brokers: 1,
            transaction_version: None,
            settings: Vec::new(),
            listeners: Vec::new(),
            scram: Vec::new(),
            users: Vec::new(),
            proxied: false,
            java_options: Vec::new(),
        }
    }
}

/// A running cluster. When it is dropped, its processes and its directory are gone.
#[derive(Debug)]
pub struct Cluster {
    /// Dropped before the directory that they write to.
    brokers: Vec<Broker>,
    dir: TempDir,
    jars: Jars,
}

impl Cluster {
    /// Start a cluster on free ports of 127.0.0.1, and wait until every broker serves and knows all others.
    ///
    /// Errors: the programs cannot be found (see [`Jars::find`]), or a broker does not start; then nothing is left of the cluster.
    pub fn start(options: &Options) -> Result<Self> {
        let Options { release, transaction_version, .. } = options;
        if transaction_version.is_some() && !release.has_transaction_version() {
            return Err(format!("Kafka {} has no feature transaction.version; leave it out", release.number()));
        }
        let jars = Jars::find(*release)?;
        let dir = directory()?;
        let brokers = (1..=options.brokers)
            .map(|node| {
                let (dir, java_options) = (dir.path().join(node.to_string()), options.java_options.clone());
                Broker::plan(node.into(), dir, jars.clone(), java_options, &options.listeners)
            })
            .collect::<Result<_>>()?;
        let mut cluster = Self { brokers, dir, jars };
        if options.proxied {
            cluster.brokers.iter_mut().try_for_each(Broker::plan_proxy)?;
        }
        cluster.format(options)?;
        for broker in &mut cluster.brokers {
            broker.launch()?;
        }
        let nodes: Vec<i32> = cluster.brokers.iter().map(Broker::node).collect();
        for broker in &mut cluster.brokers {
            broker.await_serving(&nodes)?;
        }
        Ok(cluster)
    }

    /// Where clients connect first: `127.0.0.1:PORT`, of all brokers, with commas between.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| broker.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The same through the proxies. None: the cluster was not started with [`Options::proxied`].
    pub fn proxied_bootstrap(&self) -> Option<String> {
        let addresses: Option<Vec<String>> =
            self.brokers.iter().map(|broker| Some(broker.proxy()?.address().to_string())).collect();
        addresses.map(|addresses| addresses.join(","))
    }

    /// The same on the listener of the brokers themselves: always in the clear, without passwords and allowed everything, for an oracle of a cluster whose
    /// clients are not.
    pub fn internal_bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| broker.internal_address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The brokers, in the order of their numbers, which begin with 1.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The brokers, to be stopped, killed and started.
    pub fn brokers_mut(&mut self) -> &mut [Broker] {
        &mut self.brokers
    }

    /// The directory of the data, the configurations and the logs: one folder a broker. It goes with the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The programs that the brokers run, and their tools.
    pub fn jars(&self) -> &Jars {
        &self.jars
    }

    /// Make the storage of all brokers at once.
    fn format(&mut self, options: &Options) -> Result<()> {
        let settings = self.settings(options);
        let mut arguments = vec!["--cluster-id".to_owned(), cluster_id()];
        if let Some(version) = options.transaction_version {
            arguments.extend(["--feature".to_owned(), format!("transaction.version={version}")]);
        }
        arguments.extend(options.scram.iter().flat_map(|user| ["--add-scram".to_owned(), user.clone()]));
        for broker in &mut self.brokers {
            broker.configure(&settings)?;
            broker.format(&arguments)?;
        }
        self.brokers.iter_mut().try_for_each(Broker::await_formatted)
    }

    /// What all brokers have in common. The last line of a name is the one that counts.
    fn settings(&self, options: &Options) -> String {
        let voters = self.brokers.iter().map(Broker::voter).collect::<Vec<_>>().join(",");
        let (replicas, in_sync) = if options.brokers < 3 { (1, 1) } else { (3, 2) };
        let mut text = format!(
            "controller.quorum.voters={voters}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=INTERNAL\n\
             listener.security.protocol.map=CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n\
             offsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             default.replication.factor={replicas}\n\
             group.initial.rebalance.delay.ms=0\n\
             auto.create.topics.enable=false\n"
        );
        // The first transaction and the first group wait until all partitions of these topics were made.
        text.push_str("offsets.topic.num.partitions=6\ntransaction.state.log.num.partitions=6\n");
        // Of the heap, the cleaner alone would take 128 MiB.
        text.push_str("log.cleaner.dedupe.buffer.size=8388608\n");
        if !options.users.is_empty() {
            text.push_str(&access::settings(&options.users));
        }
        for (name, value) in &options.settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        text
    }
}

/// Sixteen bytes in Base64, as Kafka wants the id of a cluster.
fn cluster_id() -> String {
    format!("tidegate{:010}{:03}A", process::id(), STARTED.fetch_add(1, Ordering::Relaxed) % 1000)
}

/// An empty directory, named after this process so that others know when it is left over.
fn directory() -> Result<TempDir> {
    let clusters = jars::home().join("clusters");
    let made = fs::create_dir_all(&clusters).and_then(|()| {
        remove_left_over(&clusters)?;
        tempfile::Builder::new().prefix(&format!("{}-", process::id())).tempdir_in(&clusters)
    });
    made.map_err(|error| format!("cannot make a directory in {}: {error}", clusters.display()))
}

/// Remove the directories of processes that were killed. Their brokers have ended with them.
fn remove_left_over(clusters: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(clusters)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            // Somebody else may be removing it too.
            let _gone = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_killed_processes_left_is_removed() {
        let clusters = tempfile::tempdir().expect("a directory");
        let ours = clusters.path().join(format!("{}-a", process::id()));
        // Above every id that Linux gives to a process.
        let left_over = clusters.path().join("4194305-b");
        for dir in [&ours, &left_over] {
            fs::create_dir_all(dir.join("1/data")).expect("a directory");
        }
        remove_left_over(clusters.path()).expect("removed");
        assert!(ours.exists() && !left_over.exists());
    }
}
