//! The patches in `tests/breaks/` go on being of use: each still breaks the code as it is now, and names tests that there are.

#[allow(unreachable_pub, reason = "a module of another crate")]
#[path = "../../xtask/src/patch.rs"]
mod patch;

use std::fs;
use std::path::Path;
use std::process::Command;

use patch::{Patch, Target, Tests};

/// Modules that macros make, in `tests/faults/main.rs`.
const MADE: [&str; 3] = ["version_1", "version_2", "upgraded"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn patches() -> Vec<Patch> {
    let patches = patch::all(&root().join("tests/breaks")).unwrap_or_else(|error| panic!("{error}"));
    assert!(patches.len() > 15, "the patches were not found");
    patches
}

#[test]
fn every_patch_applies_to_the_code_as_it_is() {
    let mut rotten = Vec::new();
    for patch in patches() {
        let mut git = Command::new("git");
        let checked = git.args(["apply", "--check"]).arg(&patch.path).current_dir(root()).output().expect("git");
        if !checked.status.success() {
            rotten.push(format!("{}: {}", patch.name(), String::from_utf8_lossy(&checked.stderr).trim()));
        }
    }
    assert!(
        rotten.is_empty(),
        "write these anew, with the same fault in the code as it is now:\n{}",
        rotten.join("\n")
    );
}

#[test]
fn every_patch_names_tests_that_there_are() {
    let strangers = patches().into_iter().filter(|patch| !is_there(&patch.caught_by));
    let strangers: Vec<String> = strangers.map(|patch| format!("{}: {:?}", patch.name(), patch.caught_by)).collect();
    assert!(strangers.is_empty(), "no such test:\n{}", strangers.join("\n"));
}

/// Whether there is a test whose name begins so, as far as the text of its module tells.
fn is_there(tests: &Tests) -> bool {
    let (mut dir, file) = match tests.target {
        Target::Lib => (root().join("src"), "lib.rs"),
        Target::Folder(folder) => (root().join("tests").join(folder), "main.rs"),
    };
    let mut text = fs::read_to_string(dir.join(file)).expect("the first file of a target");
    let (modules, test) = tests.name.rsplit_once("::").unwrap_or(("", &tests.name));
    for name in modules.split("::").filter(|name| !name.is_empty()) {
        let files = [dir.join(name).with_extension("rs"), dir.join(name).join("mod.rs")];
        if let Some(file) = files.into_iter().find(|file| file.exists()) {
            text = fs::read_to_string(file).expect("a module");
            dir.push(name);
        } else if !MADE.contains(&name) && !text.contains(&format!("mod {name} {{")) {
            return false;
        }
    }
    text.contains(&format!("fn {test}"))
}

#[test]
fn a_test_that_is_gone_is_missed() {
    let named = |target, name: &str| is_there(&Tests { target, name: name.to_owned() });
    let it = Target::Folder("it");
    assert!(named(it, "breaks::a_test_that_is_gone_is"));
    assert!(named(Target::Folder("faults"), "network::version_1::connections_to_the_target_fail"));
    assert!(named(Target::Lib, "connector::kafka::sink::flow::tests::nothing_is_ended_before"));
    assert!(!named(it, concat!("breaks::a_test_that_", "was_never_there")));
    assert!(!named(it, "broken::a_test_that_is_gone_is"));
    assert!(!named(Target::Lib, "breaks::a_test_that_is_gone_is"));
}
