//! The patches in `tests/breaks/`: faults that the code had or could have, and what catches each. A test of the house reads them here, too.

use std::fs;
use std::path::{Path, PathBuf};

/// What a patch says in front of its first difference.
const CAUGHT_BY: &str = "# Caught by: ";

/// A fault, as a difference to the code.
#[derive(Debug)]
pub(crate) struct Patch {
    pub(crate) path: PathBuf,
    /// The tests that turn red with it.
    pub(crate) caught_by: Tests,
}

/// Tests of one target of cargo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) target: Target,
    /// What their names begin with.
    pub(crate) name: String,
}

/// Where tests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Beside the code.
    Lib,
    /// In a folder of this name below `tests`.
    Folder(&'static str),
}

/// The folders whose names stand in front of a test. What has none of these, nor `lib`, is in `tests/it`.
const FOLDERS: [&str; 2] = ["faults", "hostile"];

impl Patch {
    /// The name of its file without what follows the dot.
    pub(crate) fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Tests {
    /// `lib::a::b`, `faults::a::b`, `hostile::a::b`, or `a::b` for those in `tests/it`.
    fn named(text: &str) -> Self {
        let (first, rest) = text.split_once("::").unwrap_or(("", text));
        let folder = FOLDERS.into_iter().find(|folder| *folder == first);
        let (target, name) = match folder {
            Some(folder) => (Target::Folder(folder), rest),
            None if first == "lib" => (Target::Lib, rest),
            None => (Target::Folder("it"), text),
        };
        Self { target, name: name.to_owned() }
    }
}

/// All patches in a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read, or one of them does not say what it is caught by.
pub(crate) fn all(dir: &Path) -> Result<Vec<Patch>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<Patch, String> {
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut head = text.lines().take_while(|line| line.starts_with('#'));
    let said = head.find_map(|line| line.strip_prefix(CAUGHT_BY));
    let caught_by = said.ok_or_else(|| format!("{} does not say `{CAUGHT_BY}TEST`", path.display()))?;
    Ok(Patch { caught_by: Tests::named(caught_by), path })
}
