//! The project's own tasks: `cargo xtask TASK`.

#![allow(clippy::print_stderr, reason = "this talks to a person at a terminal")]

mod breaks;
mod demo;
mod fuzz;
mod kafka;
mod patch;
mod plugins;
mod soak;
mod test;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use plugins::Result;

const USAGE: &str = "\
usage: cargo xtask TASK

  demo                   a million records through two plugins, a swap, a kill, and a check of every record
  test                   everything that must be green: formatting, clippy, documentation, plugins, tests
  soak                   the crash oracle with 50 kills -9 of each pipeline, 20 links at once with their model, all faults of Kafka, 300 made-up
                         requests for each operation of the API, and all breaks (TIDEGATE_KILLS, TIDEGATE_EXAMPLES, TIDEGATE_SOAK_SECONDS, TIDEGATE_SEED)
  breaks [NAME …]        break a copy of what is committed on purpose and see a test turn red; all, or those whose names begin so
  docs                   write what docs/configuration.md has from the code: values and defaults of keys
  fuzz [SECONDS]         let a fuzzer at what reads bytes of brokers, 60 seconds each; installs cargo-fuzz if it is missing
  kafka up               start two Kafka clusters of one broker each, to try links between them; Ctrl-C ends them
  kafka down             end the clusters of a `kafka up` in another terminal
  plugins [NAME …]       build the plugins in plugins/ (all, or those named) into target/plugins/
  plugins --path DIR     build the plugins of the package or workspace in DIR into target/plugins/";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((task, [])) if task == "demo" => demo::run(),
        Some((task, [])) if task == "test" => test::run(),
        Some((task, [])) if task == "docs" => docs(),
        Some((task, [])) if task == "soak" => soak::soak(),
        Some((task, names)) if task == "breaks" => breaks::breaks(names),
        Some((task, rest)) if task == "fuzz" && rest.len() < 2 => fuzz::run(rest.first()),
        Some((task, rest)) if task == "kafka" => kafka::run(rest),
        Some((task, rest)) if task == "plugins" => plugins(rest),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The task `plugins`.
fn plugins(arguments: &[String]) -> Result<()> {
    let out_dir = root().join("target/plugins");
    let built = match arguments {
        [option, dir] if option == "--path" => plugins::build_at(Path::new(dir), &out_dir)?,
        [option, ..] if option.starts_with('-') => return Err(USAGE.to_owned()),
        names => plugins::build(names, &out_dir)?,
    };
    for path in built {
        eprintln!("{}", path.display());
    }
    Ok(())
}

/// The task `docs`. A test compares the document with the code; here it writes.
fn docs() -> Result<()> {
    let test = ["test", "--release", "--workspace", "--lib", "config::tests::reference"];
    cargo_with(&test, &[("TIDEGATE_WRITE_DOCS", "1")])
}

/// Run cargo on this workspace.
fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_with(arguments, &[])
}

/// Run cargo on this workspace with more variables in its environment.
fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" "))) }
}

/// The root of this workspace.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
