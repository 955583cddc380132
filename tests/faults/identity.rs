//! Foreign producers: one that takes a lane's transactional id, and transactions that hang where a lane has to read.

use std::thread;
use std::time::Duration;

use kafka_oracle::{Foreign, Record};

use crate::clusters::{Pair, Version};
use crate::harness::wait_until;
use crate::scene::{Scene, Setup};

for_each_version! {
    a_foreign_producer_takes_the_transactional_id,
    a_foreign_transaction_hangs_on_the_checkpoints,
    a_foreign_transaction_hangs_on_the_target_topic,
}

/// Longer than anything here takes.
const HANGS: Duration = Duration::from_secs(600);

fn a_foreign_producer_takes_the_transactional_id(version: Version) {
    let pair = Pair::shared(version);
    let scene = Setup::new("taken", version, pair).begin();
    let take = || Foreign::take(&pair.target.bootstrap(), &format!("tidegate.{}.0", scene.link), HANGS);
    take().expect("the id");
    wait_until("lane 0 has noticed", || scene.codes().contains("contended"));
    scene.await_progress("the id was taken once");
    for _ in 0..5 {
        take().expect("the id");
        thread::sleep(Duration::from_millis(500));
    }
    scene.await_progress("the id was taken again and again");
    scene.finish();
}

/// Kill the daemon, have a transaction hang on a topic of the target, and start the daemon again.
fn restart_with_hanging(scene: &mut Scene, pair: &Pair, topic: &str) -> Foreign {
    scene.kill();
    let foreign = Foreign::take(&pair.target.bootstrap(), &format!("foreign-{topic}"), HANGS).expect("an id");
    foreign.hang(topic, 0, &record("foreign")).expect("written");
    scene.start();
    foreign
}

fn a_foreign_transaction_hangs_on_the_checkpoints(version: Version) {
    let pair = Pair::shared(version);
    let mut scene = Setup::new("hanging", version, pair).begin();
    let topic = format!("__tidegate.{}.checkpoints", scene.link);
    let foreign = restart_with_hanging(&mut scene, pair, &topic);
    let trouble = scene.await_code("hanging-transaction");
    assert!(trouble.message.contains(&topic), "{trouble:?}");
    foreign.abort().expect("aborted");
    scene.await_progress("it was aborted");
    scene.finish();
}

/// Nobody sees what is behind it, so nothing comes meanwhile. The link must not take that for a loss.
fn a_foreign_transaction_hangs_on_the_target_topic(version: Version) {
    let pair = Pair::shared(version);
    let mut scene = Setup::new("held", version, pair).begin();
    let topic = scene.link.clone();
    // Behind it there must be something that was committed.
    let foreign = Foreign::take(&pair.target.bootstrap(), &format!("foreign-{topic}"), HANGS).expect("an id");
    foreign.hang(&topic, 0, &record("foreign")).expect("written");
    let copied = |scene: &Scene| -> i64 {
        let lanes = scene.site.client.link(&scene.link).lanes;
        lanes.iter().flat_map(|lane| &lane.partitions).filter_map(|partition| partition.target_offset).sum()
    };
    let before = copied(&scene);
    wait_until("more is committed", || copied(&scene) > before + 3_000);
    scene.kill();
    scene.start();
    wait_until("more is committed after a restart", || {
        let link = scene.site.client.link(&scene.link);
        assert_ne!(link.status, tidegate::api::wire::LinkStatus::Failed, "{:?}", link.error);
        copied(&scene) > before + 6_000
    });
    foreign.abort().expect("aborted");
    scene.await_progress("it was aborted");
    scene.finish();
}

pub fn record(key: &str) -> Record {
    let value = Some(b"{}".to_vec());
    Record { key: Some(key.as_bytes().to_vec()), value, headers: Vec::new(), timestamp: 1_700_000_000_000 }
}
