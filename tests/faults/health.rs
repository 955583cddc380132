//! Health and metrics while a cluster is gone: what they say, and that they say it at once.

use std::thread;
use std::time::{Duration, Instant};

use tidegate::api::wire::{HealthStatus, LinkHealth};

use crate::clusters::{Pair, Version};
use crate::harness::LINKS;
use crate::scene::{PATIENCE, REQUEST_TIMEOUT, Scene, Setup};

/// The records of a scene are of the past: that they are old is not what this is about.
const HEALTH: &str = "[links.LINK.health]\ninterval = \"1s\"\nlag_ms_max = 3153600000000\n";

/// So many answers are asked for while a broker says nothing.
const ANSWERS: u32 = 20;

for_version_2_first! {
    the_source_goes_and_comes_back,
}

fn the_source_goes_and_comes_back(version: Version) {
    let mut pair = Pair::start(version, [1, 1]);
    let scene = Setup::new("health", version, &pair).with_link(HEALTH).begin();
    await_health(&scene, "all is well", |health| health.status == HealthStatus::Healthy);
    assert_eq!(reachable(&scene, "source"), Some(true));

    pair.source.brokers_mut()[0].stop().expect("stopped");
    gone(&scene, "it was stopped");
    pair.source.brokers_mut()[0].start().expect("started");
    back(&scene, "it was started");

    pair.source.brokers()[0].pause().expect("paused");
    gone(&scene, "it was paused");
    let begun = Instant::now();
    for _ in 0..ANSWERS {
        health(&scene);
        reachable(&scene, "source");
    }
    // Whoever waited for the broker each time would take far longer, however fast the machine is.
    assert!(begun.elapsed() < REQUEST_TIMEOUT * ANSWERS / 2, "{ANSWERS} answers took {:?}", begun.elapsed());
    pair.source.brokers()[0].resume().expect("resumed");
    back(&scene, "it was resumed");
    scene.await_progress("the source was away twice");
    scene.finish();
}

/// The source is gone: the link says so in words, and the metrics in a number.
fn gone(scene: &Scene, why: &str) {
    let said = await_health(scene, why, |health| health.source_cluster_reachable == Some(false));
    assert_eq!((said.status, said.target_cluster_reachable), (HealthStatus::Unhealthy, Some(true)), "{said:?}");
    let issue = said.issues.iter().find(|issue| issue.contains("the source cluster east does not answer"));
    println!("{}: {why}: {}", scene.link, issue.unwrap_or_else(|| panic!("{said:?}")));
    assert_eq!((reachable(scene, "source"), reachable(scene, "target")), (Some(false), Some(true)));
}

fn back(scene: &Scene, why: &str) {
    let said = await_health(scene, why, |health| health.status == HealthStatus::Healthy);
    assert!(said.issues.is_empty() && said.error_rate_healthy && said.checkpoint_healthy, "{said:?}");
    assert_eq!(reachable(scene, "source"), Some(true));
}

fn health(scene: &Scene) -> LinkHealth {
    scene.site.client.read(&format!("{LINKS}/{}/health", scene.link))
}

fn await_health(scene: &Scene, why: &str, is_so: impl Fn(&LinkHealth) -> bool) -> LinkHealth {
    let begun = Instant::now();
    loop {
        let health = health(scene);
        if is_so(&health) {
            println!("{}: {why}: {} after {:.1?}", scene.link, health.status, begun.elapsed());
            return health;
        }
        if begun.elapsed() > PATIENCE {
            scene.give_up(&format!("{why}: {health:?}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What the metrics say of a cluster of the link.
fn reachable(scene: &Scene, side: &str) -> Option<bool> {
    let page = scene.site.client.get("/metrics").expect("an answer").body;
    let name = format!("tidegate_{side}_cluster_reachable{{link_id=\"{}\",", scene.link);
    let value = page.lines().find(|line| line.starts_with(&name))?.rsplit(' ').next()?;
    Some(value == "1")
}
