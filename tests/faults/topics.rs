//! Topics that are deleted, made again, foreign or cut short, and a disk that is full.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kafka_oracle::Foreign;

use crate::clusters::{Pair, Version, options};
use crate::harness::wait_until;
use crate::identity::record;
use crate::scene::{LANES, PARTITIONS, Setup, long};

for_each_version! {
    the_target_topic_is_made_again,
    the_checkpoint_topic_is_lost,
    the_checkpoint_topic_is_foreign,
    retention_overtakes_a_stopped_link,
    the_disk_of_the_target_is_full,
}

fn the_target_topic_is_made_again(version: Version) {
    let pair = Pair::shared(version);
    let scene = Setup::new("again", version, pair).begin();
    let target = pair.target.bootstrap();
    kafka_oracle::delete(&target, &scene.link).expect("deleted");
    // The link may be the first to make it.
    let _made = kafka_oracle::create(&target, &scene.link, PARTITIONS, &[]);
    let trouble = scene.await_failure("target-recreated");
    assert!(trouble.message.contains(&scene.link), "{trouble:?}");
    // It is no state that goes away with a start.
    scene.post("start");
    scene.await_failure("target-recreated");
}

fn the_checkpoint_topic_is_lost(version: Version) {
    let pair = Pair::shared(version);
    let mut scene = Setup::new("lost", version, pair).begin();
    let target = pair.target.bootstrap();
    let topic = format!("__tidegate.{}.checkpoints", scene.link);
    kafka_oracle::delete(&target, &topic).expect("deleted");
    let trouble = scene.await_failure("checkpoints-lost");
    assert!(trouble.message.contains(&scene.link), "{trouble:?}");
    // An empty one is not taken for a new beginning either.
    let settings = [("cleanup.policy", "compact")];
    kafka_oracle::create(&target, &topic, LANES as i32, &settings).expect("made again");
    scene.kill();
    scene.start();
    scene.await_failure("checkpoints-lost");
}

/// What is in the topic before the link has ever been there, of another link or of no link at all.
fn the_checkpoint_topic_is_foreign(version: Version) {
    let pair = Pair::shared(version);
    let target = pair.target.bootstrap();
    let genesis = format!(r#"{{"v":1,"link":"other","lane":0,"lanes":{LANES},"source":"east"}}"#);
    let newer = format!(r#"{{"v":99,"link":"newer","lane":0,"lanes":{LANES},"source":"east"}}"#);
    let contents = [
        ("foreign", "genesis", genesis, "checkpoints-foreign"),
        ("newer", "genesis", newer, "newer-layout"),
        ("junk", "what", "is this".to_owned(), "checkpoints-unreadable"),
    ];
    for (name, key, value, code) in contents {
        let topic = format!("__tidegate.{name}-{}.checkpoints", version.name());
        kafka_oracle::create(&target, &topic, LANES as i32, &[("cleanup.policy", "compact")]).expect("a topic");
        let foreign = Foreign::take(&target, &format!("foreign-{topic}"), Duration::from_secs(60)).expect("an id");
        let written = kafka_oracle::Record { value: Some(value.into_bytes()), ..record(key) };
        foreign.hang(&topic, 0, &written).and_then(|()| foreign.commit()).expect("written");
        let scene = Setup::new(name, version, pair).with_plugins(false).prepare();
        let trouble = scene.await_code(code);
        assert!(trouble.message.contains(&topic), "{trouble:?}");
    }
}

fn retention_overtakes_a_stopped_link(version: Version) {
    let pair = Pair::shared(version);
    let mut scene = Setup::new("overtaken", version, pair).with_plugins(false).begin();
    scene.await_progress("nothing");
    scene.post("stop");
    let written = scene.writer.records();
    wait_until("more is written", || scene.writer.records() > written + 3_000);
    for partition in 0..PARTITIONS {
        kafka_oracle::delete_records(&pair.source.bootstrap(), &scene.link, partition).expect("deleted");
    }
    scene.post("start");
    let trouble = scene.await_failure("data-lost");
    assert!(trouble.message.contains(&scene.link), "{trouble:?}");
    let (place, lost) = (trouble.place.expect("a place"), trouble.lost.expect("offsets"));
    assert_eq!((&*place.topic, place.offset), (&*scene.link, lost.from));
    assert!(lost.from < lost.to, "{lost:?}");
    // A restart changes nothing.
    scene.kill();
    scene.start();
    scene.await_failure("data-lost");

    let before = kafka_oracle::read(&pair.target.bootstrap(), &scene.link).expect("the target");
    let reset = scene.reset("{\"topic\":\"TOPIC\",\"to\":\"earliest\"}");
    assert!(reset.because.is_some_and(|because| because.contains("data-lost")));
    let moved = reset.partitions.iter().find(|moved| moved.partition == place.partition).expect("the partition");
    assert_eq!((moved.from, moved.to), (Some(lost.from), lost.to));
    scene.await_progress("a reset");
    scene.writer.stop().expect("the writer");
    wait_until("the target has what is left of the source", || {
        let source = kafka_oracle::read(&pair.source.bootstrap(), &scene.link).expect("the source");
        let target = kafka_oracle::read(&pair.target.bootstrap(), &scene.link).expect("the target");
        (0..PARTITIONS).all(|partition| {
            let records = |content: &kafka_oracle::Content| -> Vec<kafka_oracle::Record> {
                content.0.get(&partition).into_iter().flatten().map(|placed| placed.record.clone()).collect()
            };
            records(&target) == [records(&before), records(&source)].concat()
        })
    });
}

/// A broker whose only disk is full ends. With space it is started again, and the link goes on by itself.
fn the_disk_of_the_target_is_full(version: Version) {
    if long().is_none() {
        println!("in the long form alone: set TIDEGATE_KILLS");
        return;
    }
    let Some(disk) = Disk::mount() else {
        println!("not tried: a small file system can be mounted by root alone");
        return;
    };
    let mut target = options(version, 1);
    target.settings.push(("log.dirs".to_owned(), disk.0.path().display().to_string()));
    let source = kafka_brokers::Cluster::start(&options(version, 1)).expect("a source");
    let target = kafka_brokers::Cluster::start(&target).expect("a target");
    let mut pair = Pair::of(source, target);
    let scene = Setup::new("full", version, &pair).begin();
    scene.await_progress("nothing");
    let filler = disk.0.path().join("filler");
    // Whatever is left: the write that does not fit any more ends it.
    let _full = fs::write(&filler, vec![0; 1 << 30]);
    crate::harness::wait_until("the lanes have noticed", || scene.failures() > 0);
    let broker = &mut pair.target.brokers_mut()[0];
    broker.kill().expect("gone");
    fs::remove_file(&filler).expect("space");
    broker.start().expect("back");
    scene.await_progress("the disk was full");
    scene.finish();
    drop(pair);
    drop(disk);
}

/// A file system of its own, in memory.
struct Disk(tempfile::TempDir);

impl Disk {
    const SIZE: &str = "size=256m";

    /// `None`: we may not.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", Self::SIZE, "tmpfs"]).arg(dir.path()).output();
        done.is_ok_and(|done| done.status.success()).then_some(Self(dir))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A broker that still writes to it has it for some moments more.
        let _ended = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
