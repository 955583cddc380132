//! Two who change the same thing at the same time: one is first, and the other one knows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use tidegate::config::{Config, LinkConfig};
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::connector::{
    Cluster, Copying, Error, LaneSettings, PartitionRange, RevisionStart, SettingChanges, Sink, Source, Target, Topic,
    TopicSettings,
};
use tidegate::link::supervisor::{NewPlugin, PublishError};
use tidegate::link::{Desired, Link, StageSpec};
use tidegate::model::{Batch, Checkpoint, Digest, Json, LinkId, OnError, RevisionNumber, TopicPartition};
use tidegate::plugin::PluginEngine;
use tidegate::store::{Options, Store};

use crate::harness::{Site, plugin_bytes};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";

fn open(site: &Site, name: &str) -> Arc<EmbeddedCluster> {
    let store = Store::open(site.path(name), Options::default()).expect("opens");
    Arc::new(EmbeddedCluster::new(Arc::new(store)))
}

#[test]
fn of_those_who_replace_at_once_one_is_first() {
    let site = Site::new(CLUSTERS);
    let (cluster, link) = (open(&site, "west.redb"), LinkId::from("l"));
    for round in 0..20_u32 {
        let (before, now) = (Barrier::new(8), round.to_string());
        let known = (round > 0).then_some(now.as_bytes());
        let replace = |number: u32| {
            before.wait();
            // All of them want something else, as two who relane a link do.
            let value = if number == 0 { (round + 1).to_string() } else { format!("{}, by {number}", round + 1) };
            let replaced = cluster.replace_metadata(&link, "genesis", known, value.as_bytes()).expect("stored");
            (replaced, value)
        };
        let done: Vec<(bool, String)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || replace(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("joined")).collect()
        });
        let first: Vec<&String> = done.iter().filter(|(replaced, _)| *replaced).map(|(_, value)| value).collect();
        let stored = cluster.metadata(&link, "genesis").expect("readable").expect("there");
        assert_eq!(first, [&String::from_utf8(stored).expect("text")], "round {round}");
        cluster.put_metadata(&link, "genesis", (round + 1).to_string().as_bytes()).expect("stored");
    }
}

/// A cluster at which somebody else does something just before the history of a link is read for the n-th time.
struct Meanwhile {
    cluster: Arc<EmbeddedCluster>,
    reads_left: AtomicU32,
    then: Box<dyn Fn() + Send + Sync>,
}

fn stage(name: &str) -> (StageSpec, Arc<[u8]>) {
    let bytes: Arc<[u8]> = plugin_bytes("json-filter").into();
    let spec = StageSpec {
        name: name.to_owned(),
        plugin_digest: Digest::of(&bytes),
        plugin_name: "json-filter".to_owned(),
        plugin_version: "0.1.0".to_owned(),
        config: Json::parse(r#"{"pointer":"/n","at_least":0}"#).expect("JSON"),
        on_error: OnError::DeadLetter,
        time_ahead_max_ms: None,
        limits: tidegate::model::Limits::default(),
    };
    (spec, bytes)
}

/// Two clusters, and a link between them that daemons share.
struct Scene {
    _site: Site,
    engine: PluginEngine,
    config: LinkConfig,
    east: Arc<EmbeddedCluster>,
    west: Arc<EmbeddedCluster>,
}

impl Scene {
    fn new() -> Self {
        let site = Site::new(CLUSTERS);
        let text = format!("{CLUSTERS}[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n");
        let (config, _) = Config::parse(&text, "test", &site.path("")).expect("a configuration");
        let config = config.links.into_values().next().expect("a link");
        let (east, west) = (open(&site, "east.redb"), open(&site, "west.redb"));
        Self { engine: PluginEngine::new(None).expect("an engine"), config, east, west, _site: site }
    }

    /// The link as a daemon of this name runs it, with these stages in its file.
    fn link(&self, daemon: &str, target: Arc<dyn Cluster>, stages: Vec<(StageSpec, Arc<[u8]>)>) -> Link {
        Link::new(self.config.clone(), daemon.into(), self.east.clone(), target, self.engine.clone(), stages)
    }
}

fn publish(link: &Link, stage: &str, by: &str) {
    let config = Json::parse(r#"{"pointer":"/n","at_least":1}"#).expect("JSON");
    let component = plugin_bytes("json-filter");
    let new = NewPlugin { stage, component: &component, config: Some(&config), by, others: &[], is_wanted: &|| true };
    link.publish(new).expect("published");
}

/// Two daemons of a fleet publish for different stages. Whenever the one reads, the other may have published just before: nothing is undone.
#[test]
fn what_another_daemon_publishes_at_the_same_time_is_not_undone() {
    for read in 1..=8 {
        let scene = Scene::new();
        let west = scene.west.clone();
        let link =
            |daemon: &str, target: Arc<dyn Cluster>| scene.link(daemon, target, vec![stage("one"), stage("two")]);
        let other = link("b", west.clone());
        let then = Box::new(move || publish(&other, "two", "b"));
        let meanwhile = Arc::new(Meanwhile { cluster: west, reads_left: AtomicU32::new(read), then });
        let one = link("a", meanwhile.clone());
        publish(&one, "one", "a");
        if meanwhile.reads_left.load(SeqCst) > 0 {
            assert!(read > 2, "it reads twice at least");
            return;
        }
        let history = one.history().expect("readable");
        let last = history.last().expect("published");
        let found: Vec<_> = last.stages.iter().map(|stage| stage.config.get("at_least").map(Json::to_string)).collect();
        assert_eq!(found, [Some("1".to_owned()), Some("1".to_owned())], "somebody published before read {read}");
    }
}

/// Somebody goes back from what runs, and another daemon has published just before that is looked at again: what is before the new one is not what was wanted.
#[test]
fn a_rollback_leaves_the_revision_that_ran_when_it_was_asked_for() {
    let scene = Scene::new();
    let west = scene.west.clone();
    let link = |daemon: &str, target: Arc<dyn Cluster>| scene.link(daemon, target, vec![stage("one"), stage("two")]);
    publish(&link("a", west.clone()), "one", "a");
    let other = link("b", west.clone());
    let then = Box::new(move || publish(&other, "two", "b"));
    let meanwhile = Arc::new(Meanwhile { cluster: west, reads_left: AtomicU32::new(2), then });
    let one = link("a", meanwhile);
    let refused = one.rollback(None, "a").expect_err("another one runs");
    assert!(matches!(refused, PublishError::Left { by: RevisionNumber(3) }), "{refused}");
    assert_eq!(one.rollback(None, "a").expect("it is seen now").record.restores, Some(RevisionNumber(2)));
}

/// Somebody starts a link before its daemon has looked at what was said of it: it is as slow as it was made all the same.
#[test]
fn a_link_that_is_started_at_once_is_as_slow_as_it_was_made() {
    let scene = Scene::new();
    let link = || scene.link("a", scene.west.clone(), Vec::new());
    link().set_throttle(Some(Some(1_000)), "ann").expect("set");
    let again = link();
    again.order(Desired::Running).expect("runs");
    assert_eq!(again.throttle().rate(), Some(1_000));
    again.halt();
}

/// A stopped link takes what its file says by now as the ground of a publish: the publish is not in its own way.
#[test]
fn a_publish_to_a_link_whose_file_has_changed_is_in_nobodys_way() {
    let scene = Scene::new();
    let link = |at_least: u32| {
        let (mut spec, bytes) = stage("one");
        spec.config = Json::parse(&format!(r#"{{"pointer":"/n","at_least":{at_least}}}"#)).expect("JSON");
        scene.link("a", scene.west.clone(), vec![(spec, bytes)])
    };
    publish(&link(5), "one", "a");
    let changed = link(6);
    publish(&changed, "one", "a");
    let history = changed.history().expect("readable");
    let at_least = |config: &Json| config.get("at_least").map(Json::to_string);
    let found: Vec<_> = history.revisions().iter().filter_map(|record| at_least(&record.stages[0].config)).collect();
    assert_eq!(found, ["5", "1", "6", "1"]);
}

impl Cluster for Meanwhile {
    fn metadata(&self, link: &LinkId, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let is_read = key == "revisions";
        let left = |left: u32| left.checked_sub(1).filter(|_| is_read);
        if self.reads_left.fetch_update(SeqCst, SeqCst, left) == Ok(1) {
            (self.then)();
        }
        self.cluster.metadata(link, key)
    }

    fn probe(&self) -> Result<(), Error> {
        self.cluster.probe()
    }
    fn topics(&self) -> Result<Vec<Topic>, Error> {
        Cluster::topics(&*self.cluster)
    }
    fn range(&self, partition: &TopicPartition) -> Result<PartitionRange, Error> {
        self.cluster.range(partition)
    }
    fn timestamp_at(&self, partition: &TopicPartition, offset: i64) -> Result<Option<i64>, Error> {
        self.cluster.timestamp_at(partition, offset)
    }
    fn topology_version(&self) -> u64 {
        self.cluster.topology_version()
    }
    fn create_topic(&self, name: &str, partitions: u32) -> Result<Topic, Error> {
        self.cluster.create_topic(name, partitions)
    }
    fn produce(&self, partition: &TopicPartition, batch: &Batch) -> Result<i64, Error> {
        self.cluster.produce(partition, batch)
    }
    fn is_atomic(&self, enable_exactly_once: bool) -> bool {
        self.cluster.is_atomic(enable_exactly_once)
    }
    fn checkpoints(&self, link: &LinkId, generation: u32) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error> {
        self.cluster.checkpoints(link, generation)
    }
    fn ranges(&self, topic: &str) -> Result<Vec<PartitionRange>, Error> {
        self.cluster.ranges(topic)
    }
    fn make_topics(&self, targets: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error> {
        self.cluster.make_topics(targets)
    }
    fn topic_settings(&self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error> {
        self.cluster.topic_settings(topics)
    }
    fn settings_known(&self) -> &'static [&'static str] {
        self.cluster.settings_known()
    }
    fn change_settings(
        &self,
        changes: &BTreeMap<Arc<str>, SettingChanges>,
    ) -> Result<BTreeMap<Arc<str>, Error>, Error> {
        self.cluster.change_settings(changes)
    }
    fn record_bytes_max(&self, topic: &str) -> Result<usize, Error> {
        self.cluster.record_bytes_max(topic)
    }
    fn revision_starts(&self, link: &LinkId, generation: u32) -> Result<Vec<RevisionStart>, Error> {
        self.cluster.revision_starts(link, generation)
    }
    fn copy_lanes(&self, copying: &Copying, copied: &mut dyn FnMut(u32) -> Result<(), Error>) -> Result<(), Error> {
        self.cluster.copy_lanes(copying, copied)
    }
    fn replace_metadata(&self, link: &LinkId, key: &str, known: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        self.cluster.replace_metadata(link, key, known, value)
    }
    fn metadata_version(&self) -> Result<u64, Error> {
        self.cluster.metadata_version()
    }
    fn metadata_of_all(&self, key: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        self.cluster.metadata_of_all(key)
    }
    fn put_metadata(&self, link: &LinkId, key: &str, value: &[u8]) -> Result<(), Error> {
        self.cluster.put_metadata(link, key, value)
    }
    fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        self.cluster.artifact(digest)
    }
    fn put_artifact(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.cluster.put_artifact(digest, bytes)
    }
    fn source(&self) -> Result<Box<dyn Source>, Error> {
        self.cluster.source()
    }
    fn sink(&self, lane: &LaneSettings) -> Result<Box<dyn Sink>, Error> {
        self.cluster.sink(lane)
    }
}
