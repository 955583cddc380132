//! What stages remember in a real cluster: of partitions that begin in a trial, and when the topic
//! of it is lost.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate::api::wire::{LinkStatus, Reset, Swap};

use crate::clusters::{Pair, Version};
use crate::follow::Scene;
use crate::harness::{Daemon, LINKS, plugin, wait_until};
use crate::scene::await_failure_of;

at!(version_2, Two: a_partition_that_begins_in_a_trial_has_no_state_when_that_is_undone, the_state_topic_is_lost, lanes_do_not_become_others_without_their_states);
at!(version_1, One: a_partition_that_begins_in_a_trial_has_no_state_when_that_is_undone, the_state_topic_is_lost);

/// The name of a link, and the beginning of the names of its topics.
fn name(fault: &str, version: Version) -> &'static str {
    format!("{fault}-{}", version.name()).leak()
}

/// A link of these topics whose stage `once` drops what it has seen, by the key.
fn scene(name: &'static str, topics: &[&str], version: Version) -> Scene {
    let keys = format!(
        "topics = {topics:?}\nlanes = 2\n[[links.{name}.pipeline]]\nstage = \"once\"\nplugin = \"PLUGINS/dedupe.wasm\"\n\
         config = {{ by = \"key\", max_age_ms = 3600000 }}"
    );
    Scene::new(Pair::shared(version), name, &keys)
}

/// Records of these keys, each of which names another one as `x`.
fn naming(keys: std::ops::Range<u64>, named: std::ops::Range<u64>) -> Vec<Value> {
    let value = |named: u64| json!({"x": format!("k{named}")}).to_string();
    let record = |(key, named)| json!({"key": format!("k{key}"), "timestamp": 1_000_000 + key, "value": value(named)});
    keys.zip(named).map(record).collect()
}

fn produce(scene: &Scene, topic: &str, records: &[Value]) {
    wait_until("the daemon knows the topic", || !scene.site.client.ends("east", topic).is_empty());
    scene.site.client.produce("east", topic, records);
    scene.site.client.await_caught_up(scene.name);
}

/// How often each key is in a topic of the target.
fn copies(scene: &Scene, topic: &str) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for record in scene.site.client.records("west", topic, 0) {
        *copies.entry(String::from_utf8_lossy(&record.key.unwrap_or_default()).into_owned()).or_default() += 1;
    }
    copies
}

fn await_running(scene: &Scene) {
    wait_until("the link runs", || scene.site.client.link(scene.name).status == LinkStatus::Active);
}

fn again(scene: &Scene, daemon: Daemon) -> Daemon {
    daemon.kill();
    let daemon = scene.site.start();
    await_running(scene);
    daemon
}

fn a_partition_that_begins_in_a_trial_has_no_state_when_that_is_undone(version: Version) {
    for restarts in [false, true] {
        let name = name(if restarts { "begun-again" } else { "begun" }, version);
        let topics = [name, format!("{name}.later").leak()];
        let scene = scene(name, &topics, version);
        scene.create(topics[0], 1, &[]);
        let daemon = scene.site.start();
        produce(&scene, topics[0], &naming(1000..1100, 2000..2100));
        let config = json!({"by": {"pointer": "/x"}, "max_age_ms": 3_600_000}).to_string();
        let file = plugin("dedupe").display().to_string();
        let _swap: Swap = scene.site.cli_json(&["plugin", "publish", name, "once", &file, "--config", &config]);
        scene.create(topics[1], 1, &[]);
        produce(&scene, topics[1], &naming(200..300, 0..100));
        let daemon = if restarts { again(&scene, daemon) } else { daemon };
        let _swap: Swap = scene.site.cli_json(&["plugin", "rollback", name]);
        for named in [5000..5100, 6000..6100] {
            produce(&scene, topics[1], &naming(0..100, named));
        }
        let copies = copies(&scene, topics[1]);
        let wrong = (0..100).filter(|key| copies.get(&format!("k{key}")) != Some(&1)).count();
        assert_eq!(wrong, 0, "it goes by what the trial has seen, or by nothing: {copies:?}");
        daemon.terminate();
    }
}

/// How the topic of states is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lost {
    /// While the link runs.
    Running,
    /// While no daemon runs.
    Stopped,
    /// The same, and an empty one is there in its place.
    MadeAgain,
    /// The same as while no daemon runs, of the second generation of lanes.
    Relaned,
}

fn the_state_topic_is_lost(version: Version) {
    for lost in [Lost::Running, Lost::Stopped, Lost::MadeAgain, Lost::Relaned] {
        println!("{lost:?}");
        let name = name(&format!("stateless-{lost:?}").to_lowercase(), version);
        let topics = [name, format!("{name}.other").leak()];
        let scene = scene(name, &topics, version);
        topics.iter().for_each(|topic| scene.create(topic, 1, &[]));
        let daemon = scene.site.start();
        topics.iter().for_each(|topic| produce(&scene, topic, &naming(0..100, 0..100)));
        if lost == Lost::Relaned {
            relane(&scene, 3);
            wait_until("it has other lanes", || scene.site.client.link(name).lanes.len() == 3);
            await_running(&scene);
        }
        let daemon = lose_states(&scene, daemon, lost);

        let trouble = await_failure_of(&scene.site, name, "state-lost");
        assert!(trouble.message.contains(&state_topic(&scene, lost)), "{trouble:?}");
        assert!(trouble.remedy.contains("--forget-state"), "{trouble:?}");
        // It is stored of each partition, and goes away with no start.
        daemon.kill();
        let daemon = scene.site.start();
        await_failure_of(&scene.site, name, "state-lost");
        for topic in topics {
            let reset = ["link", "reset", name, "--topic", topic, "--to", "latest", "--forget-state"];
            let refused = scene.site.cli(&reset[..reset.len() - 1]);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("--forget-state"), "{said}");
            await_failure_of(&scene.site, name, "state-lost");
            let done: Reset = scene.site.cli_json(&reset);
            assert!(done.because.is_some_and(|because| because.contains("state-lost")));
        }
        await_running(&scene);
        for _ in 0..2 {
            topics.iter().for_each(|topic| produce(&scene, topic, &naming(0..100, 0..100)));
        }
        let daemon = again(&scene, daemon);
        topics.iter().for_each(|topic| produce(&scene, topic, &naming(0..100, 0..100)));
        for topic in topics {
            let copies = copies(&scene, topic);
            let wrong = (0..100).filter(|key| copies.get(&format!("k{key}")) != Some(&2)).count();
            assert_eq!(wrong, 0, "once before the loss and once after it: {copies:?}");
        }
        daemon.terminate();
    }
}

fn relane(scene: &Scene, lanes: u32) {
    let path = format!("{LINKS}/{}/relane?by=test", scene.name);
    let answer = scene.site.client.post(&path, format!("{{\"lanes\":{lanes}}}")).expect("an answer");
    assert!(answer.status < 300, "{}", answer.body);
}

fn state_topic(scene: &Scene, lost: Lost) -> String {
    format!("__tidegate.{}.state{}", scene.name, if lost == Lost::Relaned { ".g2" } else { "" })
}

/// Delete the topic of states, and wait until it is gone.
fn delete(scene: &Scene, topic: &str) {
    kafka_oracle::delete(&scene.target(), topic).expect("deleted");
    wait_until("it is gone", || kafka_oracle::leader(&scene.target(), topic, 0).ok().flatten().is_none());
}

/// Lose the topic of states. The daemon runs afterwards.
fn lose_states(scene: &Scene, daemon: Daemon, lost: Lost) -> Daemon {
    let running = match lost {
        Lost::Running => Some(daemon),
        Lost::Stopped | Lost::MadeAgain | Lost::Relaned => {
            daemon.terminate();
            None
        }
    };
    let (target, topic) = (scene.target(), state_topic(scene, lost));
    delete(scene, &topic);
    if lost == Lost::MadeAgain {
        let settings = [("cleanup.policy", "compact")];
        wait_until("it can be made again", || kafka_oracle::create(&target, &topic, 2, &settings).is_ok());
    }
    match running {
        Some(daemon) => {
            scene.site.client.produce("east", scene.name, &naming(100..101, 0..1));
            daemon
        }
        None => scene.site.start(),
    }
}

/// Other lanes would begin with nothing, and not know it.
fn lanes_do_not_become_others_without_their_states(version: Version) {
    let name = name("stateless-relane", version);
    let scene = scene(name, &[name], version);
    scene.create(name, 1, &[]);
    let daemon = scene.site.start();
    produce(&scene, name, &naming(0..100, 0..100));
    let stopped = scene.site.cli(&["link", "stop", name]);
    assert!(stopped.status.success());
    delete(&scene, &state_topic(&scene, Lost::Stopped));
    relane(&scene, 3);
    wait_until("it is refused", || {
        scene.events("relane-failed").iter().any(|event| event.code.as_deref() == Some("state-lost"))
    });
    relane(&scene, 2);
    let _told = scene.site.cli(&["link", "start", name]);
    await_failure_of(&scene.site, name, "state-lost");
    daemon.terminate();
}
