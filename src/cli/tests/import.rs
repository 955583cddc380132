//! `import`: what goes where.

use std::fs;
use std::path::Path;

use clap::Parser as _;

use super::told;
use crate::api::wire;
use crate::cli::args::Cli;
use crate::cli::dispatch;
use crate::cli::failure::Failure;

const FILE: &str = "clusters = east, west\nbootstrap.servers = k:9092\neast->west.enabled = true\noffset.lag.max = 7\n\
                    east.security.protocol = SASL_PLAINTEXT\neast.sasl.mechanism = PLAIN\n\
                    east.sasl.jaas.config = M required username=\"u\" password=\"geheim\";\n";

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("mm2.properties"), FILE).expect("a file");
    dir
}

fn run(dir: &Path, words: &[&str]) -> Result<String, Failure> {
    let path = |name: &&str| dir.join(name).display().to_string();
    let words = words.iter().map(|word| if word.contains('.') { path(word) } else { (*word).to_owned() });
    let line = ["tidegate", "import", "mm2"].map(str::to_owned).into_iter().chain(words);
    let mut out = Vec::new();
    dispatch(Cli::try_parse_from(line).expect("usage").command, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

#[test]
fn the_configuration_is_printed_or_written_and_never_a_secret() {
    let dir = site();
    let printed = run(dir.path(), &["mm2.properties"]).expect("done");
    assert!(printed.starts_with("# Made by `tidegate import mm2` from mm2.properties.\n"), "{printed}");
    let said = run(dir.path(), &["mm2.properties", "--out", "tidegate.toml"]).expect("done");
    assert!(said.contains("not carried over: offset.lag.max (line 4): "), "{said}");
    assert!(said.contains("to do: east.sasl.jaas.config (line 7): "), "{said}");
    assert!(said.contains("tidegate check --config"), "{said}");
    assert_eq!(fs::read_to_string(dir.path().join("tidegate.toml")).expect("the file"), printed);
    let json = run(dir.path(), &["mm2.properties", "--json"]).expect("done");
    let import: wire::Import = serde_json::from_str(&json).expect("an import");
    assert_eq!(import.configuration, printed);
    let lag = import.findings.iter().find(|finding| finding.key == "offset.lag.max").expect("a finding");
    assert_eq!((lag.line, &*lag.what), (Some(4), "not-carried-over"));
    for text in [printed, said, json] {
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let dir = site();
    fs::write(dir.path().join("tidegate.toml"), "mine").expect("a file");
    let (message, help) = told(run(dir.path(), &["mm2.properties", "--out", "tidegate.toml"]));
    assert!(message.starts_with("cannot write ") && help.contains("name another file"), "{message}; {help}");
    assert_eq!(fs::read_to_string(dir.path().join("tidegate.toml")).expect("the file"), "mine");
}

#[test]
fn a_file_that_is_none_is_refused_with_its_name() {
    let dir = site();
    let (message, _) = told(run(dir.path(), &["nowhere.properties"]));
    assert!(message.starts_with("cannot read ") && message.contains("nowhere.properties"), "{message}");
    fs::write(dir.path().join("other.properties"), "name = connector").expect("a file");
    let (message, help) = told(run(dir.path(), &["other.properties"]));
    assert!(message.contains("other.properties: the file names no clusters"), "{message}");
    assert!(help.contains("connect-mirror-maker.sh"), "{help}");
}
