//! What stands beside a link: lanes, stages, checkpoints, dead letters, events.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tidegate::api::wire::{Checkpoint, Event, Lane, Letter, Stage, StageRevision};

use crate::harness::{LINKS, Site, binary, percent_encoded, plugin_bytes};

const FLOW: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.in]
    partitions = 2
    [clusters.west]
    kind = "embedded"
    [links.flow]
    source = "east"
    target = "west"
    topics = ["in"]
    lanes = 2
    [links.flow.breaker]
    rejected_percent = 100
    trapped_percent = 100
    [[links.flow.pipeline]]
    stage = "obey"
    plugin = "PLUGINS/obey.wasm"
"#;

fn produce(site: &Site, what: &[&str]) {
    let record = |(number, what): (usize, &&str)| json!({"partition": number % 2, "value": json!({"do": what, "n": number}).to_string()});
    site.client.produce("east", "in", &what.iter().enumerate().map(record).collect::<Vec<_>>());
    site.client.await_caught_up("flow");
}

fn read<T: serde::de::DeserializeOwned>(site: &Site, what: &str) -> T {
    site.client.read(&format!("{LINKS}/flow/{what}"))
}

/// Give the stage another configuration.
fn publish(site: &Site) {
    let config = percent_encoded(r#"{"reject_every":0}"#);
    let path = format!("{LINKS}/flow/stages/obey/revisions?by=ann&config={config}");
    assert_eq!(site.client.post(&path, plugin_bytes("obey")).expect("an answer").status, 201);
}

#[test]
fn a_link_tells_its_parts_one_by_one() {
    let site = Site::new(FLOW);
    let daemon = site.start();
    produce(&site, &["keep", "reject", "keep", "keep", "reject", "keep"]);
    let link = site.client.link("flow");
    let lanes: Vec<Lane> = read(&site, "lanes");
    assert_eq!(
        lanes.iter().map(|lane| &lane.partitions).collect::<Vec<_>>(),
        link.lanes.iter().map(|lane| &lane.partitions).collect::<Vec<_>>()
    );

    let checkpoints: Vec<Checkpoint> = read(&site, "checkpoints");
    let at: Vec<_> = checkpoints
        .iter()
        .map(|at| (&*at.topic, at.partition, at.next_offset, at.target_end_offset, at.revision))
        .collect();
    assert_eq!(at, [("in", 0, 3, 2, 1), ("in", 1, 3, 2, 1)], "a record of each partition was put aside");
    for at in &checkpoints {
        assert!(link.lanes[at.lane as usize].partitions.iter().any(|partition| partition.partition == at.partition));
        assert_eq!(at.daemon, link.lanes[at.lane as usize].daemon);
        assert!(at.lane_committed_at.is_some());
    }
    let printed: Vec<Checkpoint> = site.cli_json(&["link", "checkpoints", "flow"]);
    assert_eq!(printed, checkpoints);

    let letters: Vec<Letter> = read(&site, "dead-letters");
    let of: Vec<_> = letters
        .iter()
        .map(|letter| {
            (letter.record.partition, letter.record.offset, &*letter.reason.as_ref().expect("a reason").stage)
        })
        .collect();
    assert_eq!(of, [(Some(0), Some(2), "obey"), (Some(1), Some(0), "obey")]);

    let stage: Stage = read(&site, "stages/obey");
    assert_eq!((stage.records_in, stage.rejected), (6, 2));
    publish(&site);
    let had: Vec<StageRevision> = read(&site, "stages/obey/revisions");
    assert_eq!(
        had.iter().map(|had| (had.number, &*had.plugin, &*had.by)).collect::<Vec<_>>()[1..],
        [(2, "obey", "ann")]
    );
    daemon.terminate();
}

/// `link events --follow`, whose lines are read one by one.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(site: &Site) -> Self {
        let mut command = Command::new(binary());
        command.args(["link", "events", "flow", "--follow", "--json"]).env("TIDEGATE_URL", &site.client.url);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    fn await_kind(&mut self, kind: &str) -> Event {
        let events = self.lines.by_ref().map(|line| serde_json::from_str(&line.expect("a line")).expect("an event"));
        events.into_iter().find(|event: &Event| event.kind == kind).expect("the stream goes on")
    }
}

#[test]
fn events_are_followed_until_the_daemon_ends() {
    let site = Site::new(FLOW);
    let daemon = site.start();
    produce(&site, &["reject"]);
    let mut follower = Follower::start(&site);
    let before = follower.await_kind("record-not-handled");
    produce(&site, &["reject"]);
    let again = follower.await_kind("record-not-handled");
    assert_eq!((before.count, again.count), (1, 2), "what happens again comes again");
    publish(&site);
    follower.await_kind("published");
    let all: Value = read(&site, "events");
    assert!(all.as_array().expect("a list").iter().all(|event| event["id"].is_string()));
    // A stream is no request that the end of the daemon waits for.
    daemon.terminate();
    let status = follower.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "there is no daemon any more");
}
