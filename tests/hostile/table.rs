//! What a row is, and the rows together.

use std::fmt;

use crate::template::Template;
use crate::{answering, calling, loading};

/// What the operator sees of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// `plugin publish` refuses it, and these words are in the message.
    Refused(&'static str),
    /// It is refused when a stage is configured with it, with these words.
    Unconfigurable(&'static str),
    /// Every record that it is given is put aside with this code, and these words are in the message.
    Poison(&'static str, &'static str),
    /// It works. At least so many log lines, and so many changes of metrics, are dropped and counted.
    Dropped { log_lines: u64, metrics: u64 },
    /// It works, and hurts nobody but itself.
    Harmless,
    /// It cannot migrate what the plugin before it remembers: the link stops with these words before the first record, and goes on with
    /// the plugin before it.
    Unmigratable(&'static str),
}

/// A hostile plugin.
pub struct Row {
    pub name: &'static str,
    make: Box<dyn Fn() -> Vec<u8>>,
    pub seen: Seen,
}

impl Row {
    pub fn new(name: &'static str, make: impl Fn() -> Vec<u8> + 'static, seen: Seen) -> Self {
        Self { name, make: Box::new(make), seen }
    }

    pub fn of(name: &'static str, template: Template, seen: Seen) -> Self {
        Self::new(name, move || template.bytes(), seen)
    }

    pub fn component(&self) -> Vec<u8> {
        (self.make)()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.seen)
    }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    [loading::malformed(), loading::strangers(), loading::bombs(), loading::descriptions()]
        .into_iter()
        .chain([
            calling::mistakes(),
            calling::time(),
            calling::room(),
            calling::realloc(),
            calling::host(),
            calling::state(),
        ])
        .chain([answering::ranges(), answering::configuring(), answering::filters(), answering::transforms()])
        .flatten()
        .collect()
}

#[test]
fn there_are_at_least_forty_and_no_two_have_one_name() {
    let mut names: Vec<&str> = rows().iter().map(|row| row.name).collect();
    assert!(names.len() >= 40);
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
