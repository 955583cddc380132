//! Two clusters for a scene: those of one broker are shared by all scenes of a version.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use kafka_brokers::{Cluster, Options, Release};

/// Which Kafka a cluster is, and with it which transactions it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// An old Kafka: partitions are added to a transaction, the epoch stays, and brokers believe what a producer sends them.
    One,
    /// The newest Kafka as an upgrade of the brokers leaves it until somebody raises its features: transactions as of old, brokers that verify
    /// them, and newer requests, some of which such a cluster must not be sent.
    Upgraded,
    /// The newest Kafka. KIP-890: each transaction has an epoch of its own.
    Two,
}

impl Version {
    /// For names.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Upgraded => "upgraded",
            Self::Two => "2",
        }
    }

    fn release(self) -> Release {
        match self {
            Self::One => Release::V3_5_2,
            Self::Upgraded | Self::Two => Release::V4_3_1,
        }
    }

    /// The feature that is not that of the release: 0 is the first version in the words of the broker.
    fn feature(self) -> Option<u8> {
        (self == Self::Upgraded).then_some(0)
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
static SHARED: [OnceLock<Pair>; 3] = [const { OnceLock::new() }; 3];

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
        SHARED[version as usize].get_or_init(|| Self::start(version, [1, 1]))
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
        release: version.release(),
        brokers,
        transaction_version: version.feature(),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        proxied: true,
        ..Options::default()
    }
}
