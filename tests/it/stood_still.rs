//! Daemons that stood still while others failed a link over and back. Each is a `Link` of its own on the same two
//! clusters, with all that it has kept from before; nothing looks after it until it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidegate::config::{Config, LinkConfig};
use tidegate::connector::embedded::EmbeddedCluster;
use tidegate::connector::{Cluster, Source};
use tidegate::link::failover::{FailedOver, Phase, Reason, Wanted};
use tidegate::link::{Desired, Link};
use tidegate::model::{BatchBuilder, TopicPartition};
use tidegate::plugin::PluginEngine;
use tidegate::store::{Options, Store};

use crate::harness::{Site, wait_until};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";

/// Two clusters, and a link from one to the other.
struct Scene {
    /// The directory of the clusters.
    site: Site,
    engine: PluginEngine,
    east: Arc<EmbeddedCluster>,
    west: Arc<EmbeddedCluster>,
    config: LinkConfig,
}

fn open(site: &Site, name: &str) -> Arc<EmbeddedCluster> {
    let store = Store::open(site.path(name), Options::default()).expect("opens");
    Arc::new(EmbeddedCluster::new(Arc::new(store)))
}

impl Scene {
    fn new(more: &str) -> Self {
        let site = Site::new(CLUSTERS);
        let text =
            format!("{CLUSTERS}[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"t\"]\nlanes = 2\n{more}");
        let (config, _) = Config::parse(&text, "test", &site.path("")).expect("a configuration");
        let config = config.links.into_values().next().expect("a link");
        let (east, west) = (open(&site, "east.redb"), open(&site, "west.redb"));
        east.create_topic("t", 2).expect("a topic");
        Self { engine: PluginEngine::new(None).expect("an engine"), east, west, config, site }
    }

    /// The link as a daemon of this name runs it.
    fn link(&self, daemon: &str) -> Arc<Link> {
        let (source, target) = (self.east.clone(), self.west.clone());
        Arc::new(Link::new(self.config.clone(), daemon.into(), source, target, self.engine.clone(), Vec::new()))
    }

    /// The failback link as a daemon of this name runs it.
    fn back(&self, daemon: &str, forward: &Link, over: &FailedOver) -> Arc<Link> {
        let (config, source, target) = (forward.way_back(over).expect("known"), self.west.clone(), self.east.clone());
        Arc::new(Link::new(config, daemon.into(), source, target, self.engine.clone(), Vec::new()))
    }
}

/// A record for each partition.
fn write(cluster: &EmbeddedCluster, value: &str) {
    for number in 0..2 {
        let mut records = BatchBuilder::new();
        records.push(0, 1, None, Some(format!("{value}-{number}").as_bytes()), std::iter::empty());
        cluster.produce(&TopicPartition::new("t", number), &records.finish("t", number)).expect("written");
    }
}

/// How often each value is at a cluster.
fn values(cluster: &EmbeddedCluster) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut source: Box<dyn Source> = cluster.source().expect("a source");
    (0..2).for_each(|number| source.seek(&TopicPartition::new("t", number), 0).expect("there"));
    while let Some(batch) = source.poll(100, 1 << 20, Duration::ZERO).expect("readable") {
        for record in batch.records() {
            let value = String::from_utf8(record.value().expect("a value").to_vec()).expect("text");
            *counts.entry(value).or_default() += 1;
        }
    }
    counts
}

fn once(values: &[&str]) -> BTreeMap<String, usize> {
    values.iter().flat_map(|value| (0..2).map(move |number| (format!("{value}-{number}"), 1))).collect()
}

fn is_at(cluster: &EmbeddedCluster, value: &str) -> bool {
    let found = values(cluster);
    once(&[value]).keys().all(|value| found.contains_key(value))
}

fn fail_over(link: &Link) -> FailedOver {
    let wanted = Wanted { reason: Reason::Manual, because: None, by: "ann".to_owned(), drain: Duration::ZERO };
    link.fail_over(&wanted).expect("failed over");
    link.failed_over().expect("failed over")
}

/// Give the source its place back, once `back` has copied `value` there.
fn fail_back(link: &Link, back: &Link, to: &EmbeddedCluster, value: &str) {
    back.order(Desired::Running).expect("runs");
    wait_until("it is back", || is_at(to, value));
    back.order(Desired::Stopped).expect("stopped");
    let shut_out = back.shut_out(&link.failed_over().expect("failed over")).expect("shut out");
    link.turn_return(Phase::Closing).expect("ours");
    link.end_return(shut_out, Vec::new(), Vec::new()).expect("done");
}

/// After a failover or several.
#[test]
fn lanes_of_before_a_failover_do_not_copy_what_has_come_back() {
    for rounds in 1..=2 {
        let scene = Scene::new("");
        let (east, west) = (&*scene.east, &*scene.west);
        let (other, still) = (scene.link("a"), scene.link("b"));
        let mut all = vec!["first".to_owned()];
        write(east, "first");
        still.order(Desired::Running).expect("runs");
        wait_until("it is copied", || is_at(west, "first"));
        still.order(Desired::Paused).expect("paused");

        for round in 1..=rounds {
            fail_over(&other);
            let there = format!("there-{round}");
            write(west, &there);
            let over = other.begin_return(Reason::Manual, "ann").expect("begun");
            fail_back(&other, &scene.back("a", &other, &over), east, &there);
            all.push(there);
        }
        assert_eq!(still.failed_over(), None, "it has heard of nothing");

        still.order(Desired::Running).expect("runs");
        all.push("after".to_owned());
        write(east, "after");
        let it = still.clone();
        let warden = thread::spawn(move || it.guard());
        wait_until("the link runs again", || is_at(west, "after"));
        let expected = once(&all.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((values(east), values(west)), (expected.clone(), expected), "{rounds} rounds");
        still.dismiss();
        warden.join().expect("ended");
        still.halt();
    }
}

/// Neither lanes that were open all the time nor those that open later copy what the link itself has written since.
#[test]
fn a_failback_that_is_over_is_not_gone_on_with() {
    for is_open in [true, false] {
        let scene = Scene::new("");
        let (east, west) = (&*scene.east, &*scene.west);
        let link = scene.link("a");
        write(east, "first");
        link.order(Desired::Running).expect("runs");
        wait_until("it is copied", || is_at(west, "first"));
        fail_over(&link);
        write(west, "there");
        let over = link.begin_return(Reason::Manual, "ann").expect("begun");
        let still = scene.back("b", &link, &over);
        if is_open {
            still.order(Desired::Running).expect("runs");
            wait_until("it is back", || is_at(east, "there"));
            still.order(Desired::Paused).expect("paused");
        }
        fail_back(&link, &scene.back("a", &link, &over), east, "there");

        write(east, "after");
        link.order(Desired::Running).expect("runs");
        let it = link.clone();
        let warden = thread::spawn(move || it.guard());
        wait_until("the link runs again", || is_at(west, "after"));
        still.order(Desired::Running).expect("told");
        let is_refused = || match still.lanes() {
            lanes if is_open => {
                lanes.iter().all(|lane| lane.failure.as_ref().is_some_and(|it| it.code == "failed-over"))
            }
            _ => still.state().1.is_some_and(|failure| failure.code == "failed-over"),
        };
        let all = once(&["first", "there", "after"]);
        wait_until("its lanes are refused", || is_refused() || values(east) != all);
        assert_eq!((values(east), values(west)), (all.clone(), all), "open: {is_open}");
        still.halt();
        link.dismiss();
        warden.join().expect("ended");
        link.halt();
    }
}

/// A daemon that dies between the end of a failback link and the end of the failback leaves it shut: the next one goes on.
#[test]
fn a_failback_link_that_was_shut_out_is_let_in_by_whose_turn_it_is() {
    let scene = Scene::new("");
    let (east, west) = (&*scene.east, &*scene.west);
    let (first, second) = (scene.link("a"), scene.link("b"));
    write(east, "first");
    first.order(Desired::Running).expect("runs");
    wait_until("it is copied", || is_at(west, "first"));
    let over = fail_over(&first);
    first.begin_return(Reason::Manual, "ann").expect("begun");
    let back = scene.back("a", &first, &over);
    back.shut_out(&over).expect("shut out");
    write(west, "there");
    second.begin_return(Reason::Manual, "bob").expect("taken over");
    assert_eq!(back.let_in(&first).expect_err("it is another one's turn").code, "relane-under-way");

    let back = scene.back("b", &second, &second.failed_over().expect("failed over"));
    back.let_in(&second).expect("let in");
    fail_back(&second, &back, east, "there");
    let all = once(&["first", "there"]);
    assert_eq!((values(east), values(west)), (all.clone(), all));
    [&first, &second, &back].iter().for_each(|link| link.halt());
}

/// Marks say the id of a target, and another one may have it by now: what has come back from the one before is not there.
#[test]
fn what_has_come_back_from_an_earlier_target_of_the_same_id_is_copied() {
    for first in [Desired::Paused, Desired::Running] {
        let scene = Scene::new("");
        let run = |scene: &Scene, first: Desired, there: &str, after: &str| {
            let (east, west, link) = (&*scene.east, &*scene.west, scene.link("a"));
            link.order(first).expect("told");
            if first == Desired::Running {
                wait_until("it is copied", || is_at(west, "first"));
            }
            fail_over(&link);
            write(west, there);
            let over = link.begin_return(Reason::Manual, "ann").expect("begun");
            fail_back(&link, &scene.back("a", &link, &over), east, there);
            link.order(Desired::Running).expect("told");
            let it = link.clone();
            let warden = thread::spawn(move || it.guard());
            write(east, after);
            wait_until("the link runs again", || is_at(west, after));
            link.dismiss();
            warden.join().expect("ended");
            link.halt();
        };
        write(&scene.east, "first");
        run(&scene, Desired::Running, "there-1", "after-1");
        // A link that is paused fails over before it has copied anything there.
        let west = open(&scene.site, "another.redb");
        let scene = Scene { west, ..scene };
        run(&scene, first, "there-2", "after-2");
        let all = once(&["first", "there-1", "after-1", "there-2", "after-2"]);
        assert_eq!((values(&scene.east), values(&scene.west)), (all.clone(), all), "{first:?}");
    }
}

/// Whether writers can be locked out is what the guards say, and no matter of the kind of cluster.
#[test]
fn a_target_refuses_others_only_where_it_has_guards() {
    let refuses = |more: &str, topics: &[&str]| {
        let link = Scene::new(more).link("a");
        link.stand_by().expect("done");
        link.refuses_others(topics.iter().copied()).expect("readable")
    };
    let enabled = "failover_config = { enabled = true }\n";
    assert!(refuses(enabled, &["t"]));
    assert!(!refuses(enabled, &["t", "other"]), "one of them is not guarded");
    assert!(!refuses("", &["t"]), "without failover nothing is");
}

/// Who takes a failback over, or begins one by itself, has decided that on what it has seen: a person may have decided otherwise since.
#[test]
fn a_failback_that_was_called_off_is_not_begun_again_by_who_takes_it_over() {
    let scene = Scene::new("");
    let (first, second) = (scene.link("a"), scene.link("b"));
    write(&scene.east, "first");
    first.order(Desired::Running).expect("runs");
    wait_until("it is copied", || is_at(&scene.west, "first"));
    let over = fail_over(&first);
    let seen = first.begin_return(Reason::Manual, "ann").expect("begun");
    second.begin_return_of(&over, Reason::SourceBack, "tidegate").expect("nothing to do");
    let phase = || second.failovers().expect("readable").1.map(|over| (over.phase, over.daemon));
    assert_eq!(phase(), Some((Phase::Returning, "a".to_owned())), "it has begun already");
    first.call_off_return().expect("called off");
    second.begin_return_of(&seen, seen.reason, &seen.by).expect("nothing to do");
    assert_eq!(phase(), Some((Phase::Over, "a".to_owned())), "it is called off");
    let seen = first.begin_return(Reason::Manual, "ann").expect("begun");
    second.begin_return_of(&seen, seen.reason, &seen.by).expect("taken over");
    assert_eq!(phase(), Some((Phase::Returning, "b".to_owned())));
    [&first, &second].iter().for_each(|link| link.halt());
}

/// Consumer groups that come back have had nothing of what the source has beside: they go on before that, whoever moves them and whenever.
#[test]
fn groups_that_come_back_go_on_before_what_the_source_has_beside() {
    for beside in [true, false] {
        let scene = Scene::new("");
        let link = scene.link("a");
        write(&scene.east, "first");
        link.order(Desired::Running).expect("runs");
        wait_until("it is copied", || is_at(&scene.west, "first"));
        let over = fail_over(&link);
        let unread = || {
            link.begin_return(Reason::Manual, "ann").expect("begun");
            let unread = scene.back("a", &link, &over).config().groups.unread.clone();
            link.call_off_return().expect("called off");
            unread.into_iter().map(|(at, offset)| (at.partition, offset)).collect::<Vec<_>>()
        };
        if beside {
            write(&scene.east, "beside");
        }
        let expected = vec![(0, 1), (1, 1)];
        assert_eq!(unread(), if beside { expected.clone() } else { Vec::new() });
        // What is written between two failbacks is beside, too.
        write(&scene.east, "later");
        assert_eq!(unread(), expected, "{beside}");
        link.halt();
    }
}
