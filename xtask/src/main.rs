//! The project's own tasks: `cargo xtask TASK`.

#![allow(clippy::print_stderr, reason = "this talks to a person at a terminal")]

mod plugins;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plugins::Result;

const USAGE: &str = "\
usage: cargo xtask TASK

  plugins [NAME …]       build the plugins in plugins/ (all, or those named) into target/plugins/
  plugins --path DIR     build the plugins of the package or workspace in DIR into target/plugins/";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
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

/// The root of this workspace.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
