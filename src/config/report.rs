//! Collects what is wrong while a file is read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::diagnostic::{Diagnostic, Place, Severity, Source};

/// The most errors of one file. Nobody reads more, and a data file that was named by mistake has one for each line.
const ERRORS_MAX: usize = 1000;

/// Which files and variables a text may use that it names.
#[derive(Clone, Copy)]
pub(super) enum Files<'a> {
    /// All, and they must be there.
    Any,
    /// None is looked at: the text is read as on a machine that has all of them.
    Rehearsed,
    /// Files in this directory; without one, nothing.
    Within(Within<'a>),
}

/// What a definition may use of this machine.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    /// The directory of the files that it may name; `None`: it may name none.
    pub(super) dir: Option<&'a Path>,
    /// Whether it may have secrets sent in the clear to other machines.
    pub(super) sends_in_the_clear: bool,
}

/// The diagnostics of one file so far. Reading goes on after an error, so that all of them are reported at once.
pub(super) struct Report<'a> {
    source: &'a Source,
    found: RefCell<Vec<(usize, Diagnostic)>>,
    errors: Cell<usize>,
    /// The lines with a syntax error. The tree there is a guess, so nothing else is said about them.
    broken_lines: BTreeSet<usize>,
    /// The byte from which on the tree is a guess.
    trusted_until: usize,
    files: Files<'a>,
    /// Where a definition says null, which TOML cannot.
    nulls: Vec<Null>,
    /// What the readers have asked of each key: the tests compare the reference with it.
    #[cfg(test)]
    survey: RefCell<super::tests::survey::Survey>,
}

/// A key that a definition says null of.
pub(super) struct Null {
    /// The path of the table around it.
    pub(super) around: String,
    /// The key.
    pub(super) key: String,
    pub(super) place: Place,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the tests read it")]
pub(super) enum Unit {
    /// As it is.
    None,
    /// As it is, or a text with a unit of size.
    Bytes,
    /// A text with a unit of time.
    Ms,
}

/// What a reader asks of a key.
#[allow(dead_code, reason = "the tests read it")]
pub(super) enum Asked {
    /// Whether it is there.
    Key,
    /// A value, and this one where it is not.
    Default(String),
    /// A value of this kind.
    Kind(String),
    /// A number of this unit, from the first to the second.
    Range(Unit, u64, u64),
}

impl<'a> Report<'a> {
    /// Begins with the syntax errors.
    pub(super) fn new(source: &'a Source, syntax_errors: &[toml::de::Error]) -> Self {
        let mut report = Self {
            source,
            found: RefCell::default(),
            errors: Cell::new(0),
            broken_lines: BTreeSet::new(),
            trusted_until: usize::MAX,
            files: Files::Any,
            nulls: Vec::new(),
            #[cfg(test)]
            survey: RefCell::default(),
        };
        let mut errors: Vec<_> = syntax_errors.iter().map(|it| (it.span().unwrap_or_default(), it.message())).collect();
        errors.sort_by_key(|(span, _)| span.start);
        let is_open = errors.iter().any(|(_, message)| says_unclosed(message));
        for (span, message) in errors {
            report.syntax_error(span, message, is_open);
        }
        report
    }

    /// The same for a text that may use only such files.
    pub(super) fn with_files(self, files: Files<'a>) -> Self {
        Self { files, ..self }
    }

    /// The same for a text that says null here.
    pub(super) fn with_nulls(self, nulls: Vec<Null>) -> Self {
        Self { nulls, ..self }
    }

    /// Where a table says null.
    pub(super) fn nulls_in<'r>(&'r self, table: &'r Place) -> impl Iterator<Item = &'r Null> {
        self.nulls.iter().filter(|null| null.around == table.key)
    }

    /// Which files and variables the text may use.
    pub(super) fn files(&self) -> Files<'a> {
        self.files
    }

    /// A reader asks something of a key. Only the tests want to know.
    pub(super) fn note(&self, asking: impl FnOnce() -> (Place, Asked)) {
        #[cfg(test)]
        self.survey.borrow_mut().note(asking());
        #[cfg(not(test))]
        let _nobody_asks = asking;
    }

    /// What was asked so far.
    #[cfg(test)]
    pub(super) fn into_survey(self) -> super::tests::survey::Survey {
        self.survey.into_inner()
    }

    /// The first error of a line is the cause of the others. When a bracket is open, everything behind it is taken for its
    /// content, and when a header cannot be read, the keys behind it belong nowhere: nothing more is said then.
    fn syntax_error(&mut self, span: Range<usize>, message: &str, is_open: bool) {
        let lines = self.source.lines(&span);
        if span.start >= self.trusted_until || self.broken_lines.contains(lines.start()) {
            return;
        }
        let is_duplicate = message == "duplicate key";
        let is_header = !is_duplicate && self.source.line(span.start).trim_start().starts_with('[');
        let message = message.lines().next().unwrap_or_default();
        let place = Place { span, ..Place::top() };
        let mut diagnostic = match is_duplicate {
            true => self.source.error(&place, format!("{message} {}", self.source.part(&place))),
            false => self.source.error(&place, message),
        };
        if is_header || (is_open && is_about_brackets(message)) {
            self.trusted_until = place.span.start;
            diagnostic =
                diagnostic.with_help("what stands behind this was not checked; is a bracket before it not closed?");
        }
        self.keep(&place, diagnostic);
        self.broken_lines.extend(lines);
    }

    /// How many errors there are so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.get()
    }

    /// Something is wrong at `place`.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>) {
        self.push(place, self.source.error(place, message));
    }

    /// Something is wrong at `place`, and `help` says what else can be done.
    pub(super) fn error_with_help(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(place, self.source.error(place, message).with_help(help));
    }

    /// Something is wrong at `place` because of what stands elsewhere, or does not. After a syntax error that may be the part that
    /// could not be read, so nothing is said then.
    pub(super) fn error_if_all_was_read(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        if self.broken_lines.is_empty() {
            self.error_with_help(place, message, help);
        }
    }

    /// Something at `place` can be used, but a person should look at it.
    pub(super) fn warning(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(place, self.source.warning(place, message).with_help(help));
    }

    fn push(&self, place: &Place, diagnostic: Diagnostic) {
        if !self.is_broken(place) {
            self.keep(place, diagnostic);
        }
    }

    fn keep(&self, place: &Place, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        if self.errors.get() <= ERRORS_MAX {
            self.found.borrow_mut().push((place.span.start, diagnostic));
        }
    }

    fn is_broken(&self, place: &Place) -> bool {
        if self.broken_lines.is_empty() {
            return false;
        }
        // A value that could not be read has no span.
        place.span.is_empty()
            || place.span.start >= self.trusted_until
            || self.broken_lines.range(self.source.lines(&place.span)).next().is_some()
    }

    /// All diagnostics in the order of the file: as an error if there is one among them.
    pub(super) fn finish(self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(start, _)| *start);
        let found: Vec<_> = found.into_iter().map(|(_, diagnostic)| diagnostic).collect();
        if self.errors.get() > 0 { Err(found) } else { Ok(found) }
    }
}

/// Whether an array or an inline table has no end. The messages are those of the TOML parser.
fn says_unclosed(message: &str) -> bool {
    ["unclosed array,", "unclosed inline table,"].iter().any(|it| message.starts_with(it))
}

fn is_about_brackets(message: &str) -> bool {
    says_unclosed(message) || ["missing comma", "in array", "inline table"].iter().any(|it| message.contains(it))
}
