//! `cargo xtask breaks`: the code is broken on purpose, and a test has to see it each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::patch::{self, Patch, Target};
use crate::plugins::{self, Result};

/// Kills that have caught every break so far, with room to spare.
const KILLS: &str = "20";

/// Our own crate is built once for each break, and its speed is not what is tested.
const QUICK_BUILD: [&str; 2] = ["--config", "profile.release.package.tidegate.opt-level=1"];

/// What became of a break.
enum Fate {
    Caught,
    /// The tests passed all the same.
    Missed,
    /// It could not be tried.
    Untried(String),
}

/// Break a copy of what is committed, in each of the ways in `tests/breaks/` or in those whose names begin so, and see a test turn red. All are tried, whatever
/// becomes of one.
///
/// # Errors
/// What was not caught or could not be tried, by name.
pub(crate) fn breaks(names: &[String]) -> Result<()> {
    let root = crate::root();
    let mut patches = patch::all(&root.join("tests/breaks"))?;
    patches.retain(|patch| names.is_empty() || names.iter().any(|wanted| patch.name().starts_with(&**wanted)));
    if patches.is_empty() {
        return Err("no patch in tests/breaks has such a name".to_owned());
    }
    let copy = Copy::make(&root)?;
    let (mut fates, mut bad) = (Vec::new(), 0);
    for patch in &patches {
        eprintln!("\n» {}: {:?} {}", patch.name(), patch.caught_by.target, patch.caught_by.name);
        let said = match copy.try_out(patch).unwrap_or_else(Fate::Untried) {
            Fate::Caught => "caught".to_owned(),
            Fate::Missed => "NOT caught".to_owned(),
            Fate::Untried(why) => format!("NOT tried: {why}"),
        };
        bad += usize::from(said != "caught");
        eprintln!("  {said}");
        fates.push(format!("  {}: {said}", patch.name()));
    }
    eprintln!("\n{} breaks; what the tests said is in {}\n{}", fates.len(), copy.told.display(), fates.join("\n"));
    if bad == 0 { Ok(()) } else { Err(format!("{bad} of {} breaks were not caught", fates.len())) }
}

/// What is committed, to be broken, with the plugins that were built.
struct Copy {
    dir: PathBuf,
    /// What is built of it: its own crates must not get in the way of what is sound.
    target: PathBuf,
    /// Where what the tests say is kept.
    told: PathBuf,
}

impl Copy {
    fn make(root: &Path) -> Result<Self> {
        let target = root.join("target/broken");
        let copy = Self { dir: root.join("target/breaks"), told: target.join("told"), target };
        let _absent_the_first_time = fs::remove_dir_all(&copy.dir);
        run(Command::new("git").args(["clone", "--quiet", "--local"]).arg(root).arg(&copy.dir))?;
        plugins::build(&[], &copy.dir.join("target/plugins"))?;
        fs::create_dir_all(&copy.told).map_err(|error| format!("{}: {error}", copy.told.display()))?;
        Ok(copy)
    }

    fn try_out(&self, patch: &Patch) -> Result<Fate> {
        let git = || {
            let mut git = Command::new("git");
            git.current_dir(&self.dir);
            git
        };
        run(git().args(["reset", "--quiet", "--hard"]))?;
        // Tests leave something behind when they fail. What is built is ignored, and stays.
        run(git().args(["clean", "--quiet", "-d", "--force"]))?;
        run(git().arg("apply").arg(&patch.path))?;
        run(self.cargo(patch).arg("--no-run"))?;
        let told = self.told.join(patch.name()).with_extension("txt");
        let failed = |error: std::io::Error| format!("{}: {error}", told.display());
        let (out, err) = fs::File::create(&told).and_then(|file| Ok((file.try_clone()?, file))).map_err(failed)?;
        let passed = self.cargo(patch).stdout(out).stderr(err).status().map_err(failed)?.success();
        let said = fs::read_to_string(&told).map_err(failed)?;
        // Other packages have no such test.
        let ran = said.lines().any(|line| line.starts_with("running ") && !line.starts_with("running 0 "));
        Ok(match (ran, passed) {
            (false, _) => Fate::Untried(format!("there is no test {}", patch.caught_by.name)),
            (_, true) => Fate::Missed,
            (_, false) => Fate::Caught,
        })
    }

    /// What runs the tests that are to catch a break.
    fn cargo(&self, patch: &Patch) -> Command {
        let mut cargo = Command::new("cargo");
        // All packages, as the test command builds them: the features of what they depend on are the same.
        cargo.args(["test", "--release", "--workspace"]).args(QUICK_BUILD).current_dir(&self.dir).stdin(Stdio::null());
        match patch.caught_by.target {
            Target::Lib => cargo.arg("--lib"),
            Target::Folder(name) => cargo.args(["--test", name]),
        };
        cargo.arg(&patch.caught_by.name);
        cargo.envs([("CARGO_INCREMENTAL", "1"), ("TIDEGATE_KILLS", KILLS)]).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    let what = || command.get_args().take(2).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if status.success() { Ok(()) } else { Err(format!("`{} {}` failed", command.get_program().display(), what())) }
}
