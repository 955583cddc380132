//! The long forms: `cargo xtask soak` and `cargo xtask breaks`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plugins::{self, Result};

/// Kills of each pipeline in the long form.
const SOAK_KILLS: &str = "50";

/// Requests that are made up for each operation of the API in the long form.
const SOAK_EXAMPLES: &str = "300";

/// Kills that have caught every break so far, with room to spare.
const BREAK_KILLS: &str = "20";

/// The crash oracle with many kills, many links at once with their model, all faults of Kafka, and many requests that are made up.
pub(crate) fn soak() -> Result<()> {
    plugins::build(&[], &crate::root().join("target/plugins"))?;
    let kills = std::env::var("TIDEGATE_KILLS").unwrap_or_else(|_| SOAK_KILLS.to_owned());
    let examples = std::env::var("TIDEGATE_EXAMPLES").unwrap_or_else(|_| SOAK_EXAMPLES.to_owned());
    let it = ["properties::", "crash::", "failover::a_daemon_that_dies", "soak::"].map(|tests| ("it", tests));
    for (target, tests) in it.into_iter().chain([("faults", "")]) {
        let arguments = ["test", "--release", "--test", target, tests, "--", "--nocapture", "--test-threads", "1"];
        crate::cargo_with(&arguments, &[("TIDEGATE_KILLS", &kills), ("TIDEGATE_EXAMPLES", &examples)])?;
    }
    Ok(())
}

/// Break a copy of the engine on purpose, in each of the ways in `tests/breaks/` or in those whose names begin so, and see an oracle turn red.
pub(crate) fn breaks(names: &[String]) -> Result<()> {
    let root = crate::root();
    let copy = root.join("target/breaks");
    let patches = patches(&root.join("tests/breaks"), names)?;
    copy_tree(&root, &copy)?;
    let mut survived = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (target, test) = caught_by(patch)?;
        eprintln!("\n» {name}: {target} {test}");
        run(Command::new("git").arg("apply").arg(patch).current_dir(&copy))?;
        let told = root.join("target/broken").join(&name).with_extension("txt");
        let caught = !oracle_passes(&root, &copy, (target, &test), &told)?;
        run(Command::new("git").args(["apply", "--reverse"]).arg(patch).current_dir(&copy))?;
        eprintln!("  {}, see {}", if caught { "caught" } else { "NOT caught" }, told.display());
        survived.extend((!caught).then_some(name));
    }
    if survived.is_empty() { Ok(()) } else { Err(format!("the oracle missed: {}", survived.join(", "))) }
}

/// The tests that turn red with a patch, by its line `# Caught by: NAME`: their target, and what
/// their names begin with. Those behind `faults::` are in `tests/faults`, those behind `lib::`
/// beside the code, the others in `tests/it`.
fn caught_by(patch: &Path) -> Result<(&'static str, String)> {
    let text = fs::read_to_string(patch).map_err(|error| format!("{}: {error}", patch.display()))?;
    let name = text.lines().find_map(|line| line.strip_prefix("# Caught by: "));
    let name = name.ok_or_else(|| format!("{} does not say what it is caught by", patch.display()))?;
    let of = ["faults", "lib"].into_iter().find_map(|of| Some((of, name.strip_prefix(of)?.strip_prefix("::")?)));
    let (of, name) = of.unwrap_or(("it", name));
    Ok((of, name.to_owned()))
}

fn patches(dir: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| name.starts_with(&**wanted));
    let is_patch = |name: &str| name.ends_with(".patch") && is_wanted(name);
    paths.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_patch));
    paths.sort();
    if paths.is_empty() { Err(format!("no patch in {} has such a name", dir.display())) } else { Ok(paths) }
}

/// A copy of what is committed, with the plugins that were built.
fn copy_tree(root: &Path, copy: &Path) -> Result<()> {
    let _absent_the_first_time = fs::remove_dir_all(copy);
    run(Command::new("git").args(["clone", "--quiet", "--local"]).arg(root).arg(copy))?;
    plugins::build(&[], &copy.join("target/plugins")).map(|_| ())
}

/// Build the broken engine, and whether the oracle finds nothing wrong with it. What the tests say goes to the file `told`. An engine
/// that does not build, and a test that is not there, are errors.
fn oracle_passes(root: &Path, copy: &Path, (of, test): (&str, &str), told: &Path) -> Result<bool> {
    let target = root.join("target/broken");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        // What is built of our own crates must not get in the way of what is sound.
        command.args(arguments).current_dir(copy).env("CARGO_TARGET_DIR", &target);
        command.env("TIDEGATE_KILLS", BREAK_KILLS);
        command
    };
    let tests: &[&str] = if of == "lib" { &["--lib"] } else { &["--test", of] };
    run(&mut cargo(&[&["test", "--release", "--no-run"], tests].concat()))?;
    let failed = |error: std::io::Error| format!("{}: {error}", told.display());
    let (out, err) = fs::File::create(told).and_then(|file| Ok((file.try_clone()?, file))).map_err(failed)?;
    let status = cargo(&[&["test", "--release"], tests, &[test]].concat()).stdout(out).stderr(err).status();
    let status = status.map_err(|error| format!("cargo: {error}"))?;
    if fs::read_to_string(told).map_err(failed)?.contains("running 0 tests") {
        return Err(format!("there is no test {test}"));
    }
    Ok(status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed")) }
}
