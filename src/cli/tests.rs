//! The commands against the real API, with a daemon in memory behind it.

mod dlq;
mod groups;
mod import;
mod lanes;
mod show;
mod verify;

use std::io::{self, Write};
use std::sync::Arc;

use clap::Parser as _;
use serde_json::{Value, json};

use super::args::{Cli, Command};
use super::client::Client;
use super::failure::Failure;
use super::{dispatch, produce};
use crate::api::fake::Fake;
use crate::api::wire::Record;

pub(super) struct Scene {
    fake: Arc<Fake>,
    pub(super) url: String,
}

impl Scene {
    pub(super) fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let url = format!("http://{}", fake.clone().serve());
        Self { fake, url }
    }

    fn command(&self, words: &[&str]) -> Command {
        let line = [&["tidegate"], words, &["--url", &self.url]].concat();
        Cli::try_parse_from(line).expect("usage").command
    }

    pub(super) fn run(&self, words: &[&str]) -> Result<String, Failure> {
        let mut out = Vec::new();
        dispatch(self.command(words), &mut out).map(|()| String::from_utf8(out).expect("text"))
    }

    fn produce(&self, words: &[&str], input: &[u8]) -> Result<String, Failure> {
        let Command::Produce(args) = self.command(words) else { unreachable!("{words:?}") };
        let mut out = Vec::new();
        produce::produce(&Client::new(&args.daemon)?, &args, input, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn put(&self, partition: usize, value: &str) {
        let value = Some(value.as_bytes().to_vec());
        self.fake.put("t", partition, Record { value, ..Record::default() });
    }
}

#[track_caller]
pub(super) fn told(done: Result<String, Failure>) -> (String, String) {
    match done {
        Err(Failure::Told { message, help }) => (message, help),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_daemon_that_is_not_there_is_told_how_to_start() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let scene = Scene { fake: Arc::default(), url };
    let (message, help) = told(scene.run(&["status"]));
    assert!(message.starts_with(&format!("cannot reach the daemon at {}: ", scene.url)), "{message}");
    assert!(help.contains("`tidegate run`"), "{help}");
}

#[test]
fn a_url_that_is_none_is_refused() {
    for url in ["", "127.0.0.1:8081", "ftp://host", "http://", "https://"] {
        let scene = Scene { fake: Arc::default(), url: url.into() };
        let (message, _) = told(scene.run(&["status"]));
        assert_eq!(message, format!("not the URL of a daemon: {url}"));
    }
}

#[test]
fn a_refusal_is_passed_on_with_its_remedy() {
    let scene = Scene::new();
    let expect = ("there is no link nope".to_owned(), "look at the list".to_owned());
    assert_eq!(told(scene.run(&["link", "show", "nope"])), expect);
}

#[test]
fn names_of_any_kind_reach_the_daemon() {
    let scene = Scene::new();
    for name in ["a/b", "ü %2F?#", "..", "&x=1"] {
        scene.run(&["topic", "create", "east", name, "--partitions", "2"]).expect(name);
        let described = scene.run(&["topic", "describe", "east", name]).expect(name);
        assert!(described.starts_with(&format!("{name}: ")), "{described}");
    }
}

#[test]
fn a_link_is_shown_and_steered() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["link", "start", "orders"]).expect("started"), "orders is active\n");
    let shown = scene.run(&["link", "show", "orders"]).expect("shown");
    let partition = shown.lines().find(|line| line.starts_with("orders  ")).expect("a partition");
    assert_eq!(partition.split_whitespace().collect::<Vec<_>>(), ["orders", "0", "0", "7", "10", "3", "-"]);
    let shown: Value =
        serde_json::from_str(&scene.run(&["link", "show", "orders", "--json"]).expect("json")).expect("json");
    assert_eq!((&shown["status"], &shown["type"]), (&json!("active"), &json!("active-passive")));
    for words in [["status"].as_slice(), &["link", "list"], &["topic", "list", "east"]] {
        let human = scene.run(words).expect("human");
        let json = scene.run(&[words, &["--json"]].concat()).expect("json");
        assert!(serde_json::from_str::<Value>(&human).is_err() && serde_json::from_str::<Value>(&json).is_ok());
    }
}

#[test]
fn a_plugin_is_published_and_rolled_back() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("redact.wasm");
    std::fs::write(&file, b"\0asm").expect("written");
    let file = file.to_str().expect("text");
    let publish = ["plugin", "publish", "orders", "mask", file];
    scene.run(&[&publish[..], &["--config", r#"{"a b":"&c=1"}"#]].concat()).expect("published");
    let said = scene.run(&publish).expect("published");
    assert_eq!(said, "revision 2 of orders runs on every lane\n");
    scene.run(&["plugin", "rollback", "orders", "--to", "1"]).expect("rolled back");
    let history: Value =
        serde_json::from_str(&scene.run(&["plugin", "history", "orders", "--json"]).expect("history")).expect("json");
    assert_eq!(history[2]["stages"][0]["config"], json!({"a b": "&c=1"}));
    assert_eq!(history[2]["origin"], "rollback");
    assert_eq!(scene.run(&["plugin", "history", "orders"]).expect("history").lines().count(), 5);
    let (message, _) = told(scene.run(&["plugin", "publish", "orders", "mask", "/nowhere.wasm"]));
    assert!(message.starts_with("cannot read /nowhere.wasm: "), "{message}");
}

#[test]
fn what_was_produced_is_consumed() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 2);
    let lines = (0..2_500).map(|number| format!("{number}\n")).collect::<String>();
    let said = scene.produce(&["produce", "east", "t", "--partition", "1"], lines.as_bytes()).expect("produced");
    assert_eq!(said, "2500 records: 2500 in partition 1 from offset 0\n");
    assert_eq!(scene.run(&["consume", "east", "t"]).expect("consumed"), lines);
    let some = scene.run(&["consume", "east", "t", "--partition", "1", "--offset", "2498"]).expect("consumed");
    assert_eq!(some, "2498\n2499\n");
    assert_eq!(scene.run(&["consume", "east", "t", "--max", "2"]).expect("consumed"), "0\n1\n");
    assert_eq!(scene.run(&["consume", "east", "t", "--max", "0"]).expect("consumed"), "");
    let (message, _) = told(scene.run(&["consume", "east", "t", "--partition", "2"]));
    assert_eq!(message, "t has 2 partitions, numbered from 0");
    let (message, _) = told(scene.run(&["consume", "east", "t", "--partition", "0", "--offset", "1"]));
    assert_eq!(message, "offset 1 is not in partition 0, which has 0 to 0");
}

#[test]
fn json_records_come_out_as_they_went_in() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    let line = concat!(
        r#"{"topic":"t","partition":0,"offset":0,"timestamp":5,"key_base64":"/w==","value":null,"#,
        r#""headers":[["a","1"],["a",null],{"name":"raw","value_base64":"/w=="}]}"#,
        "\n"
    );
    let said = scene.produce(&["produce", "east", "t", "--json"], line.as_bytes()).expect("produced");
    assert_eq!(serde_json::from_str::<Value>(&said).expect("json")["records"], 1);
    assert_eq!(scene.run(&["consume", "east", "t", "--json"]).expect("consumed"), line);
    assert_eq!(scene.run(&["consume", "east", "t"]).expect("consumed"), "null\n");
}

#[test]
fn a_bad_line_says_what_was_acknowledged_before_it() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    let input = "{\"value\":\"a\"}\n\n{\"value\":\"b\"}\n{\"value\":5}\n{}\n";
    let (message, _) = told(scene.produce(&["produce", "east", "t", "--json"], input.as_bytes()));
    assert!(message.starts_with("line 4: not a record: "), "{message}");
    assert!(message.ends_with("; 2 records were acknowledged, up to line 3"), "{message}");
    assert_eq!(scene.fake.records("t", 0).len(), 2);
}

#[test]
fn a_line_that_the_daemon_refuses_is_named_by_its_number_in_the_input() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    let input = format!("{}\n\n{{\"partition\":7}}\n", "{}\n".repeat(1_001));
    let (message, _) = told(scene.produce(&["produce", "east", "t", "--json"], input.as_bytes()));
    let expect = "line 1004: there is no partition 7: t has 1 from 0; 1000 records were acknowledged, up to line 1000";
    assert_eq!(message, expect);
}

#[test]
fn a_disk_that_fills_up_halfway_is_told_with_what_is_durable() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 2);
    scene.fake.break_partition(1);
    let input = "{\"partition\":0}\n{\"partition\":1}\n{\"partition\":0}\n";
    let (message, help) = told(scene.produce(&["produce", "east", "t", "--json"], input.as_bytes()));
    let expect = "the disk is full; no record was acknowledged; of lines 1 to 3, 2 more are in partitions 0";
    assert_eq!((message.as_str(), help.as_str()), (expect, "make room"));
}

#[test]
fn following_takes_partitions_in_turn_and_starts_at_the_end() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 2);
    scene.put(0, "old");
    let fake = scene.fake.clone();
    let writer = std::thread::spawn(move || {
        // Both partitions were asked once, so the start is settled.
        fake.wait_for_reads(2);
        for (partition, value) in [(1, "b"), (0, "a")] {
            fake.put("t", partition, Record { value: Some(value.into()), ..Record::default() });
        }
    });
    let followed = scene.run(&["consume", "east", "t", "--follow", "--max", "2"]).expect("followed");
    writer.join().expect("written");
    let mut lines: Vec<&str> = followed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a", "b"]);
}

#[test]
fn without_follow_the_end_is_the_one_at_the_beginning() {
    /// Whenever something was printed, there is one more record.
    struct Feeder<'a>(&'a Scene, usize);

    impl Write for Feeder<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes == b"\n" {
                self.1 += 1;
                self.0.put(0, "new");
            }
            assert!(self.1 <= 1_500, "an endless walk");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    // More than a page, so that the last page holds records from after the beginning.
    (0..1_500).for_each(|_| scene.put(0, "x"));
    let mut feeder = Feeder(&scene, 0);
    dispatch(scene.command(&["consume", "east", "t"]), &mut feeder).expect("consumed");
    assert_eq!(feeder.1, 1_500);
}

#[test]
fn nobody_reading_is_no_failure_to_tell() {
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    scene.put(0, "x");
    for words in
        [["consume", "east", "t"].as_slice(), &["consume", "east", "t", "--json"], &["status", "--json"], &["status"]]
    {
        assert_eq!(dispatch(scene.command(words), &mut Closed), Err(Failure::BrokenPipe), "{words:?}");
    }
}
