//! Topics that come, grow, change and go while a link copies them. It does not matter to them which version transactions have.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::{Cluster, Options, Resource, authorizer};
use kafka_oracle::{Codec, Plan, Writer, settings};
use tidegate::api::wire::{self, Event, PlannedAction};

use crate::clusters::{Pair, Version, options};
use crate::harness::{Daemon, LINKS, Site, wait_until};
use crate::scene::{PATIENCE, await_failure_of, long};

/// How many topics are too many in the short form.
const MANY: usize = 500;
/// The same in the long form.
const MANY_LONG: usize = 5_000;

/// A link between two clusters, without a topic of its own.
pub struct Scene {
    source: String,
    target: String,
    pub name: &'static str,
    pub site: Site,
}

impl Scene {
    pub fn new(pair: &Pair, name: &'static str, keys: &str) -> Self {
        Self::between(&pair.source, &pair.target, name, keys)
    }

    /// `keys` are those of the link beside its clusters. It looks for topics all the time.
    pub fn between(source: &Cluster, target: &Cluster, name: &'static str, keys: &str) -> Self {
        let (source, target) = (source.bootstrap(), target.bootstrap());
        let cluster = |id: &str, bootstrap: &str| {
            let brokers: Vec<&str> = bootstrap.split(',').collect();
            format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = {brokers:?}\n")
        };
        let clusters = cluster("east", &source) + &cluster("west", &target);
        let link = format!("[links.{name}]\nsource = \"east\"\ntarget = \"west\"\ntopic_refresh = \"200ms\"\n{keys}\n");
        Self { source, target, name, site: Site::new(&(clusters + &link)) }
    }

    pub fn source(&self) -> String {
        self.source.clone()
    }

    pub fn target(&self) -> String {
        self.target.clone()
    }

    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        kafka_oracle::create(&self.source(), topic, partitions, settings).expect("a topic");
    }

    /// Write some records to each partition of a topic.
    pub fn write(&self, topic: &str, partitions: i32) {
        let mut writer = self.writer(topic, partitions, Some(2_000), None);
        writer.join().expect("written");
    }

    fn writer(&self, topic: &str, partitions: i32, records_max: Option<u64>, rate: Option<u64>) -> Writer {
        Writer::start(Plan { rate, records_max, ..self.writing(topic, partitions) })
    }

    /// Writing to a topic of the source, without an end.
    pub fn writing(&self, topic: &str, partitions: i32) -> Plan {
        Plan {
            bootstrap: self.source(),
            topic: topic.to_owned(),
            partitions,
            seed: 7,
            transactions: true,
            codecs: vec![Codec::Lz4],
            rate: None,
            records_max: None,
        }
    }

    /// Wait until one topic is the copy of another.
    pub fn await_copy(&self, source: &str, target: &str) {
        let expected = kafka_oracle::read(&self.source(), source).expect("the source");
        wait_until("the copy is there", || kafka_oracle::read(&self.target(), target).is_ok());
        kafka_oracle::await_copy(&expected, &self.target(), target, PATIENCE).expect("a copy");
    }

    fn await_settings(&self, topic: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut last = None;
        let begun = Instant::now();
        while last.as_ref() != Some(&expected) {
            assert!(begun.elapsed() < PATIENCE, "{topic} has {last:?} and not {expected:?}");
            last = settings(&self.target(), topic).ok();
        }
    }

    fn is_at_target(&self, topic: &str) -> bool {
        kafka_oracle::leader(&self.target(), topic, 0).is_ok()
    }

    fn plan(&self) -> wire::Plan {
        self.site.cli_json(&["link", "plan", self.name])
    }

    /// What the plan would do for a topic of the source.
    fn planned(&self, topic: &str) -> Option<wire::PlannedTopic> {
        self.plan().topics.into_iter().find(|planned| planned.source == topic)
    }

    pub fn events(&self, kind: &str) -> Vec<Event> {
        let mut events: Vec<Event> = self.site.client.read(&format!("{LINKS}/{}/events", self.name));
        events.retain(|event| event.kind == kind);
        events
    }

    /// The topics of the notices of a kind.
    fn noticed(&self, code: &str) -> Vec<String> {
        let notices = self.site.client.link(self.name).notices.into_iter();
        notices.filter(|notice| notice.code == code).map(|notice| notice.topic.unwrap_or_default()).collect()
    }
}

fn shared() -> &'static Pair {
    Pair::shared(Version::Two)
}

#[test]
fn topics_and_partitions_that_come_later_are_copied_from_their_start() {
    let scene = Scene::new(shared(), "later", "topics = [\"/later\\\\..*/\"]\nstart = \"latest\"\nlanes = 2");
    scene.create("later.before", 2, &[]);
    scene.write("later.before", 2);
    let daemon = scene.site.start();
    // Written before anybody can have found it.
    scene.create("later.after", 3, &[("max.message.bytes", "2000000"), ("message.timestamp.type", "CreateTime")]);
    scene.write("later.after", 3);
    scene.await_copy("later.after", "later.after");
    // What was there before the link is none of its business.
    let before = kafka_oracle::read(&scene.target(), "later.before").expect("made");
    assert_eq!((before.0.len(), before.records()), (2, 0));
    let copied = settings(&scene.target(), "later.after").expect("settings");
    assert_eq!(copied.get("max.message.bytes").map(String::as_str), Some("2000000"));
    assert_eq!(copied.get("message.timestamp.type"), None);

    kafka_oracle::widen(&scene.source(), "later.after", 6).expect("widened");
    scene.write("later.after", 6);
    scene.await_copy("later.after", "later.after");
    assert_eq!(kafka_oracle::read(&scene.target(), "later.after").expect("read").0.len(), 6);
    assert_eq!(scene.events("lane-failed"), []);
    daemon.terminate();
}

#[test]
fn settings_follow_and_go_back_to_the_default() {
    let scene = Scene::new(shared(), "settings", "topics = [\"set-a\"]");
    scene.create("set-a", 1, &[("cleanup.policy", "compact"), ("retention.ms", "86400000")]);
    let _daemon = scene.site.start();
    // The largest record batch is what the source takes, whatever its default is.
    let bytes = ("max.message.bytes", "1048588");
    scene.await_settings("set-a", &[("cleanup.policy", "compact"), bytes, ("retention.ms", "86400000")]);
    kafka_oracle::set(&scene.source(), "set-a", &[("retention.ms", "90000000"), ("min.insync.replicas", "1")])
        .expect("changed");
    scene.await_settings("set-a", &[bytes, ("retention.ms", "90000000")]);
    assert!(!scene.events("topic-settings-changed").is_empty());
    // Somebody changes the copy by hand.
    kafka_oracle::set(&scene.target(), "set-a", &[("retention.ms", "1"), ("segment.ms", "60000")]).expect("changed");
    scene.await_settings("set-a", &[("retention.ms", "90000000")]);
}

#[test]
fn settings_are_left_alone_where_the_link_says_so() {
    let keys = "topics = [\"/alone-.*/\"]\nsync_topic_configs = false";
    let scene = Scene::new(shared(), "alone", keys);
    scene.create("alone-a", 1, &[("retention.ms", "86400000")]);
    let _daemon = scene.site.start();
    wait_until("it is made", || scene.is_at_target("alone-a"));
    let made = settings(&scene.target(), "alone-a").expect("settings");
    assert_eq!(made.get("retention.ms").map(String::as_str), Some("86400000"));
    kafka_oracle::set(&scene.source(), "alone-a", &[("retention.ms", "90000000")]).expect("changed");
    // A topic that comes later is there: so the link has looked since.
    scene.create("alone-b", 1, &[]);
    wait_until("the next is made", || scene.is_at_target("alone-b"));
    assert_eq!(settings(&scene.target(), "alone-a").expect("settings"), made);
    assert!(scene.planned("alone-a").is_some_and(|planned| planned.settings.is_empty()));
}

#[test]
fn internal_topics_are_left_out() {
    let internal = ["mm2-offset-syncs.left.internal", "left.checkpoints.internal"];
    let keys = "topics = [\"/(__consumer_offsets|__transaction_state|__tidegate.*|mm2-.*|left\\\\..*)/\"]";
    let scene = Scene::new(shared(), "left", keys);
    internal.iter().for_each(|topic| scene.create(topic, 1, &[]));
    scene.create("left.mine", 1, &[]);
    // In transactions, so there is a topic of the cluster's own.
    scene.write("left.mine", 1);
    let _daemon = scene.site.start();
    scene.await_copy("left.mine", "left.mine");
    assert_eq!(scene.plan().topics.iter().map(|topic| &*topic.source).collect::<Vec<_>>(), ["left.mine"]);
    let left_out = scene.plan().notices.into_iter().filter(|notice| notice.code == "internal-topic");
    let left_out: Vec<String> = left_out.filter_map(|notice| notice.topic).collect();
    for topic in internal.iter().chain(&["__transaction_state"]) {
        assert!(left_out.iter().any(|known| known == topic), "{topic}: {left_out:?}");
    }
    assert!(internal.iter().all(|topic| !scene.is_at_target(topic)));
}

#[test]
fn topics_are_renamed_and_two_never_become_one() {
    let keys =
        "topics = [\"/ren-.*/\"]\ntopic_prefix = \"p.\"\nrename = [{ match = \"^ren-([0-9]).*$\", to = \"dr.$1\" }]";
    let scene = Scene::new(shared(), "renamed", keys);
    scene.create("ren-1", 2, &[]);
    scene.create("ren-other", 2, &[]);
    ["ren-1", "ren-other"].iter().for_each(|topic| scene.write(topic, 2));
    let daemon = scene.site.start();
    scene.await_copy("ren-1", "p.dr.1");
    scene.await_copy("ren-other", "p.ren-other");
    scene.create("ren-1-too", 1, &[]);
    wait_until("it is left out", || scene.noticed("topics-collide") == ["ren-1-too"]);
    let planned = scene.plan().notices.into_iter().find(|notice| notice.code == "topics-collide").expect("a notice");
    assert!(planned.message.contains("ren-1-too would become p.dr.1, as ren-1 does"), "{planned:?}");
    // Whatever came first is known from what was copied, also to a daemon that begins.
    daemon.kill();
    let _daemon = scene.site.start();
    ["ren-1", "ren-other"].iter().for_each(|topic| scene.write(topic, 2));
    scene.await_copy("ren-1", "p.dr.1");
    scene.await_copy("ren-other", "p.ren-other");
    wait_until("it is left out still", || scene.noticed("topics-collide") == ["ren-1-too"]);
}

#[test]
fn a_topic_that_is_deleted_at_the_source_is_reported_and_stays_at_the_target() {
    let scene = Scene::new(shared(), "deleted", "topics = [\"/del-.*/\"]\nlanes = 2");
    let topics = ["del-a", "del-b"];
    topics.iter().for_each(|topic| {
        scene.create(topic, 4, &[]);
        scene.write(topic, 4);
    });
    let daemon = scene.site.start();
    topics.iter().for_each(|topic| scene.await_copy(topic, topic));
    let copied = kafka_oracle::read(&scene.target(), "del-a").expect("the copy");
    kafka_oracle::delete(&scene.source(), "del-a").expect("deleted");
    wait_until("it is noticed", || scene.noticed("source-topic-deleted") == ["del-a"]);
    // Every lane lets go of its partitions, and goes on with the others.
    wait_until("nobody reads it", || {
        let lanes = scene.site.client.link(scene.name).lanes;
        lanes.iter().flat_map(|lane| &lane.partitions).all(|partition| partition.topic != "del-a")
    });
    scene.write("del-b", 4);
    scene.await_copy("del-b", "del-b");
    assert_eq!(scene.events("source-topic-deleted").len(), 1);
    assert_eq!(scene.events("lane-failed"), []);
    assert!(scene.plan().notices.iter().any(|notice| notice.code == "source-topic-deleted"));
    assert_eq!(kafka_oracle::compare(&copied, &kafka_oracle::read(&scene.target(), "del-a").expect("it")), Ok(()));
    // A daemon that was not there when it was deleted knows it from the checkpoints.
    daemon.terminate();
    let _daemon = scene.site.start();
    wait_until("it is noticed again", || scene.noticed("source-topic-deleted") == ["del-a"]);
    scene.write("del-b", 4);
    scene.await_copy("del-b", "del-b");
    scene.create("del-a", 4, &[]);
    await_failure_of(&scene.site, scene.name, "source-recreated");
}

#[test]
fn acls_follow_and_nobody_else_may_write() {
    let with_authorizer = || {
        let mut options = options(Version::Two, 1);
        options.settings.extend(authorizer());
        Cluster::start(&options).expect("a cluster")
    };
    let pair = Pair::of(with_authorizer(), with_authorizer());
    let keys = "topics = [\"/acl-.*/\"]\ntopic_prefix = \"p.\"\nsync_topic_acls = true";
    let scene = Scene::new(&pair, "acls", keys);
    scene.create("acl-a", 1, &[]);
    let grant = |user: &str, operation: &str, topic: &str| {
        pair.source.grant(user, &[operation], Resource::Topic(topic)).expect("granted");
    };
    grant("ann", "Read", "acl-a");
    grant("bob", "All", "*");
    grant("carl", "Write", "acl-a");
    grant("dora", "Read", "other");
    let _daemon = scene.site.start();
    wait_until("nothing is left to do", || {
        scene.planned("acl-a").is_some_and(|planned| planned.action == PlannedAction::Keep && planned.acls.is_empty())
    });
    let acls = pair.target.acls("p.acl-a").expect("listed");
    for (user, operation, is_there) in [
        ("ann", "READ", true),
        ("bob", "READ", true),
        ("bob", "ALL", false),
        ("carl", "WRITE", false),
        ("dora", "READ", false),
    ] {
        let line =
            |line: &str| line.contains(&format!("User:{user},")) && line.contains(&format!("operation={operation},"));
        assert_eq!(acls.lines().any(line), is_there, "{user} {operation}: {acls}");
    }
    assert!(!scene.events("acls-added").is_empty());
    grant("eve", "Describe", "acl-a");
    wait_until("the new one follows", || pair.target.acls("p.acl-a").is_ok_and(|acls| acls.contains("User:eve,")));
}

#[test]
fn a_cluster_without_an_authorizer_is_said_so_and_the_link_goes_on() {
    let scene = Scene::new(shared(), "unguarded", "topics = [\"unguarded\"]\nsync_topic_acls = true");
    scene.create("unguarded", 1, &[]);
    let _daemon = scene.site.start();
    wait_until("it is noticed", || scene.noticed("no-authorizer").len() == 1);
    scene.write("unguarded", 1);
    scene.await_copy("unguarded", "unguarded");
    assert!(scene.plan().notices.iter().any(|notice| notice.code == "no-authorizer"));
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let scene = Scene::new(shared(), "planned", "topics = [\"/plan-.*/\", \"absent\"]\nautostart = false");
    scene.create("plan-new", 3, &[("retention.ms", "86400000")]);
    scene.create("plan-narrow", 4, &[("cleanup.policy", "compact")]);
    kafka_oracle::create(&scene.target(), "plan-narrow", 2, &[("segment.ms", "60000")]).expect("a topic");
    let _daemon = scene.site.start();
    let made = scene.planned("plan-new").expect("planned");
    assert_eq!((made.action, made.partitions_from, made.partitions_to), (PlannedAction::Make, None, 3));
    assert!(made.settings.iter().any(|it| it.name == "retention.ms" && it.to.as_deref() == Some("86400000")));
    let widened = scene.planned("plan-narrow").expect("planned");
    let partitions = (widened.action, widened.partitions_from, widened.partitions_to);
    assert_eq!(partitions, (PlannedAction::AddPartitions, Some(2), 4));
    let change = |name: &str| {
        let change = widened.settings.iter().find(|change| change.name == name);
        change.map(|change| (change.from.as_deref(), change.to.as_deref()))
    };
    assert_eq!(change("cleanup.policy"), Some((None, Some("compact"))));
    assert_eq!(change("segment.ms"), Some((Some("60000"), None)));
    assert!(scene.plan().notices.iter().any(|notice| notice.code == "source-topic-missing"));
    assert!(!scene.is_at_target("plan-new"));
    assert_eq!(kafka_oracle::read(&scene.target(), "plan-narrow").expect("read").0.len(), 2);

    assert!(scene.site.cli(&["link", "start", scene.name]).status.success());
    wait_until("nothing is left to do", || {
        let done = |topic: &wire::PlannedTopic| topic.action == PlannedAction::Keep && topic.settings.is_empty();
        scene.plan().topics.iter().all(done)
    });
    scene.write("plan-narrow", 4);
    scene.await_copy("plan-narrow", "plan-narrow");
}

/// What is measured is printed; only "never" fails.
#[test]
fn thousands_of_new_topics_do_not_stall_the_lanes() {
    let many = if long().is_some() { MANY_LONG } else { MANY };
    // In the 256 MiB that brokers have otherwise, one of so many topics does nothing any more but collect garbage.
    let options = Options { java_options: vec!["-Xmx1g".to_owned()], ..options(Version::Two, 1) };
    let cluster = || Cluster::start(&options).expect("a cluster");
    let pair = Pair::of(cluster(), cluster());
    let scene = Scene::new(&pair, "many", "topics = [\"/many-(live|[0-9]+)/\"]\nlanes = 2\nsync_topic_configs = true");
    scene.create("many-live", 2, &[]);
    let writer = scene.writer("many-live", 2, None, Some(1_000));
    let daemon = scene.site.start();
    let quiet = gap_until(&scene, |records| records > 5_000);
    let names: Vec<String> = (0..many).map(|number| format!("many-{number}")).collect();
    let begun = Instant::now();
    kafka_oracle::create_all(&scene.source(), &names, 1).expect("topics");
    let created = begun.elapsed();
    let busy = gap_until(&scene, |_| taken_in(&scene) > many);
    let taken = begun.elapsed();
    println!(
        "{many} topics: made by the test in {created:.1?}, taken in after {taken:.1?}; the longest gap between commits: {busy:.1?}, before {quiet:.1?}"
    );
    let last = names.last().expect("a topic");
    scene.write(last, 1);
    scene.await_copy(last, last);
    assert_eq!(scene.events("lane-failed"), []);
    writer.stop().expect("the writer");
    scene.await_copy("many-live", "many-live");
    let begun = Instant::now();
    daemon.terminate();
    let again: Daemon = scene.site.start();
    wait_until("all are read again", || taken_in(&scene) > many);
    println!("{many} topics: started again after {:.1?}", begun.elapsed());
    again.terminate();
}

fn taken_in(scene: &Scene) -> usize {
    scene.site.client.link(scene.name).lanes.iter().map(|lane| lane.partitions.len()).sum()
}

/// The longest time in which nothing was committed, until something holds that the number of records may decide.
fn gap_until(scene: &Scene, mut holds: impl FnMut(u64) -> bool) -> Duration {
    let (mut records, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    let begun = Instant::now();
    let mut looked = Instant::now();
    loop {
        let now: wire::LinkMetrics = scene.site.client.read(&format!("{LINKS}/{}/metrics", scene.name));
        let now = now.summary.total_messages_replicated;
        if now > records {
            longest = longest.max(since.elapsed());
            (records, since) = (now, Instant::now());
        }
        if looked.elapsed() > Duration::from_millis(500) {
            if holds(records) {
                return longest;
            }
            looked = Instant::now();
        }
        assert!(begun.elapsed() < 20 * PATIENCE, "{records} records");
        thread::sleep(Duration::from_millis(10));
    }
}
