//! Every folder in `examples/` does what its README says: the commands are read from there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use kafka_brokers::{Cluster, Options};

use crate::harness::{Site, binary, comes_true};

fn run_example(name: &str, link: &str) {
    run_example_with(name, link, |config| config.to_owned());
}

/// Run an example whose configuration depends on the machine.
fn run_example_with(name: &str, link: &str, adapt: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a file of the example");
    let (readme, expected) = (read("README.md"), read("expected.jsonl"));
    assert!(readme.contains(&expected), "{name}: the README shows something else than expected.jsonl");

    let site = Site::new("");
    let listen = format!("data_dir = \"./data\"\nlisten = \"127.0.0.1:{}\"", site.port);
    let config = adapt(&read("tidegate.toml"));
    site.write_config(&config.replace("data_dir = \"./data\"", &listen).replace("../../target/plugins", "PLUGINS"));
    let _daemon = site.start();

    produce(&site, &commands(&readme, "produce"), folder.join("records.jsonl"));
    site.client.await_caught_up(link);
    let found = || -> String { commands(&readme, "consume").iter().map(|words| printed(&site, words)).collect() };
    // A broker may show a transaction a moment after it has taken it.
    let _is_shown = comes_true(std::time::Duration::from_secs(60), || found() == expected);
    assert_eq!(found(), expected, "{name}");
    for words in [commands(&readme, "dlq"), commands(&readme, "link")].concat() {
        let found = printed(&site, &words);
        assert!(lasting(&readme).contains(&lasting(&found)), "{name}: the README shows something else than\n{found}");
    }
}

/// A text without what differs from day to day: times and digests.
fn lasting(text: &str) -> String {
    let line = |line: &str| line.split(' ').map(lasting_word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn lasting_word(word: &str) -> &str {
    match word {
        time if time.len() == 24 && time.ends_with('Z') && time.contains('T') => "TIME",
        digest if digest.starts_with("sha256:") => "DIGEST",
        other => other,
    }
}

/// The arguments of every `$ tidegate <command> …` in a README, up to a redirection.
fn commands(readme: &str, command: &str) -> Vec<Vec<String>> {
    let lines = readme.lines().filter_map(|line| line.strip_prefix("$ tidegate "));
    let words = lines.map(|line| line.split_whitespace().take_while(|word| *word != "<").map(str::to_owned).collect());
    words.filter(|words: &Vec<String>| words.first().is_some_and(|first| first == command)).collect()
}

fn produce(site: &Site, produces: &[Vec<String>], records: PathBuf) {
    let [words] = produces else { panic!("the README produces once") };
    let input = File::open(records).expect("records.jsonl");
    let status = Command::new(binary()).args(words).env("TIDEGATE_URL", &site.client.url).stdin(input).output();
    assert!(status.expect("the command runs").status.success());
}

fn printed(site: &Site, words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = site.cli(&words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn filter_and_mask() {
    run_example("filter-and-mask", "orders");
}

#[test]
fn kafka_to_kafka() {
    let start = || Cluster::start(&Options::default()).expect("a cluster");
    let (source, target) = (start(), start());
    run_example_with("kafka-to-kafka", "payments", |config| {
        config.replace("127.0.0.1:19092", &source.bootstrap()).replace("127.0.0.1:29092", &target.bootstrap())
    });
}

#[test]
fn route_by_type() {
    run_example("route-by-type", "by-type");
}

#[test]
fn selective_copy() {
    run_example("selective-copy", "customers");
}

#[test]
fn poison_and_dead_letters() {
    run_example("poison-and-dead-letters", "lines");
}

#[test]
fn deduplicate() {
    run_example("deduplicate", "once");
}

#[test]
fn explode_array() {
    run_example("explode-array", "lines");
}
