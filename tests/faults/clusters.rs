//! Two clusters for a scene: those of one broker are shared by all scenes of a version.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use kafka_brokers::{Cluster, Options};

/// Of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Partitions are added to a transaction, and the epoch stays.
    One,
    /// KIP-890: each transaction has an epoch of its own.
    Two,
}

impl Version {
    /// The version, for names.
    pub fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// What makes a cluster have it: 0 is the first version in the words of the broker.
    fn feature(self) -> Option<u8> {
        (self == Self::One).then_some(0)
    }
}

/// A source and a target.
pub struct Pair {
    pub source: Cluster,
    pub target: Cluster,
    /// Held by the scene that is at work on the proxies.
    network: Mutex<()>,
}

/// The pairs that scenes share, by version. Their brokers end with this process.
static SHARED: [OnceLock<Pair>; 2] = [const { OnceLock::new() }; 2];

impl Pair {
    /// Start clusters of so many brokers, at once.
    pub fn start(version: Version, brokers: [u8; 2]) -> Self {
        let [source, target] = std::thread::scope(|scope| {
            brokers
                .map(|brokers| scope.spawn(move || Cluster::start(&options(version, brokers)).expect("a cluster")))
                .map(|cluster| cluster.join().expect("a cluster"))
        });
        Self::of(source, target)
    }

    /// Clusters that are there.
    pub fn of(source: Cluster, target: Cluster) -> Self {
        Self { source, target, network: Mutex::default() }
    }

    /// Clusters of one broker each, with proxies.
    pub fn shared(version: Version) -> &'static Self {
        SHARED[usize::from(version.number()) - 1].get_or_init(|| Self::start(version, [1, 1]))
    }

    /// Keep other scenes away from the proxies.
    pub fn network(&self) -> MutexGuard<'_, ()> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the clusters of all scenes are like.
pub fn options(version: Version, brokers: u8) -> Options {
    // A transaction that timed out is to be seen soon: by default it is looked for every 10 s.
    let settings = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000")];
    Options {
        brokers,
        transaction_version: version.feature(),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        proxied: true,
        ..Options::default()
    }
}
