//! What the readers ask of a text, key by key.

use std::collections::BTreeMap;

use crate::config::diagnostic::Place;
use crate::config::report::{Asked, Unit};

/// What was asked, by the dotted paths of keys.
#[derive(Default)]
pub(in crate::config) struct Survey(BTreeMap<String, Key>);

/// What was asked of a key.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Key {
    /// Whether a table was asked for it. Entries of arrays are read, and nobody asks for them.
    pub(super) is_asked: bool,
    /// The kinds of value that it may have.
    pub(super) kinds: Vec<String>,
    /// What counts without it, where the reader says that itself.
    pub(super) default: Option<String>,
    /// Between what its number has to be, if it is one.
    pub(super) range: Option<(Unit, u64, u64)>,
}

impl Survey {
    pub(in crate::config) fn note(&mut self, (place, asked): (Place, Asked)) {
        let key = self.0.entry(place.key).or_default();
        match asked {
            Asked::Key => key.is_asked = true,
            Asked::Default(default) => key.default = Some(default),
            Asked::Kind(kind) => key.note_kind(kind),
            Asked::Range(unit, low, high) => key.range = Some((unit, low, high)),
        }
    }

    /// The key at a path.
    pub(super) fn key(&self, path: &str) -> Option<&Key> {
        self.0.get(path).filter(|key| key.is_asked)
    }

    /// The paths of all numbers, each with what it has to be between.
    pub(super) fn ranges(&self) -> Vec<(String, Unit, u64, u64)> {
        let ranges = self.0.iter().filter_map(|(path, key)| Some((path, key.range?)));
        ranges.map(|(path, (unit, low, high))| (path.clone(), unit, low, high)).collect()
    }

    /// The paths of all keys that were asked for.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, key)| key.is_asked).map(|(path, _)| &**path)
    }
}

impl Key {
    /// A text that is read as something else is that: the last word counts.
    fn note_kind(&mut self, kind: String) {
        self.kinds.retain(|known| known != "text" && !kind.starts_with(&**known));
        if (kind != "text" && !self.kinds.iter().any(|known| known.starts_with(&kind))) || self.kinds.is_empty() {
            self.kinds.push(kind);
        }
    }
}
