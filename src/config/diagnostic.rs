//! What is wrong with a configuration, and where.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use serde::Serialize;

use crate::model::text::printable;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used; a person should look at it.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong with a configuration.
///
/// Its text form is what a compiler writes: file, line, column, key and message on the first line, then the line of
/// the file with a mark below it, then the help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named when it was read.
    pub file: String,
    /// The line, from 1; 0 if the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 if the file as a whole is meant.
    pub column: usize,
    /// The dotted path of the key, for example `links.orders.pipeline[0].limits.memory`; empty for the top of the file.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What else the user can do about it.
    pub help: Option<String>,
    /// The line of the file and the number of characters to mark in it, unless the line is too long to be shown, or may hold a secret.
    #[serde(skip)]
    excerpt: Option<(String, usize)>,
}

impl Diagnostic {
    /// An error about a file as a whole: it cannot be read, for example.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            key: String::new(),
            message: message.into(),
            help: None,
            excerpt: None,
        }
    }

    /// The same with a help text.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_message(f)?;
        self.fmt_help(f)
    }
}

impl Diagnostic {
    /// The same with the line of the file. A log and an answer of the API have no line of the file in them: it may hold a secret that nothing on it gives away.
    pub fn with_line(&self) -> impl fmt::Display + '_ {
        WithLine(self)
    }

    /// The same on one line: a log has one for each event.
    pub fn in_one_line(&self) -> impl fmt::Display + '_ {
        OneLine(self)
    }

    fn fmt_help(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.help {
            Some(help) => write!(f, "\n{} = help: {help}", self.gutter()),
            None => Ok(()),
        }
    }

    fn fmt_message(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}: ", self.severity)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

struct OneLine<'a>(&'a Diagnostic);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_message(f)?;
        self.0.help.as_ref().map_or(Ok(()), |help| write!(f, " (help: {help})"))
    }
}

/// A diagnostic with the line of the file, for whoever has the file and asks what is wrong with it.
struct WithLine<'a>(&'a Diagnostic);

impl fmt::Display for WithLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diagnostic = self.0;
        diagnostic.fmt_message(f)?;
        if let Some((line, width)) = &diagnostic.excerpt {
            diagnostic.fmt_excerpt(f, line, *width)?;
        }
        diagnostic.fmt_help(f)
    }
}

impl Diagnostic {
    /// As wide as the line number.
    fn gutter(&self) -> String {
        " ".repeat(self.line.to_string().len())
    }

    fn fmt_excerpt(&self, f: &mut fmt::Formatter<'_>, line: &str, width: usize) -> fmt::Result {
        // What is not text must not reach the terminal; a tab stays, so that the mark stands where the terminal puts it.
        let shown = printable(line);
        let indent: String =
            line.chars().take(self.column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let gutter = self.gutter();
        write!(f, "\n{gutter} |\n{} | {shown}\n{gutter} | {indent}{}", self.line, "^".repeat(width))
    }
}

/// Where a value stands in a configuration, and the dotted path of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The dotted path of the key.
    pub key: String,
    /// The bytes of the text.
    pub(super) span: Range<usize>,
}

impl Place {
    /// The top of the file.
    pub(super) fn top() -> Self {
        Self { key: String::new(), span: 0..0 }
    }

    /// The value of `key` in this table.
    pub(super) fn child(&self, key: &str, span: Range<usize>) -> Self {
        let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        let key = if self.key.is_empty() { key } else { format!("{}.{key}", self.key) };
        Self { key, span }
    }

    /// The entry `index` of this array.
    pub(super) fn item(&self, index: usize, span: Range<usize>) -> Self {
        Self { key: format!("{}[{index}]", self.key), span }
    }
}

/// The longest line that is shown, in bytes: a longer one would hide the message.
const EXCERPT_BYTES_MAX: usize = 400;

/// Words of keys whose values must not be shown. They stand for all that is like them.
const SECRETS: [&str; 5] = ["password", "token", "secret", "webhook", "private key"];

/// Whether a line, or the table that is meant, may hold a secret. The key may have been misspelt, and the line may be no TOML.
fn may_hold_secret(line: &str, key: &str) -> bool {
    let line = line.to_ascii_lowercase();
    SECRETS.iter().any(|word| line.contains(word))
        || key.split('.').any(|part| part == "sasl" || part.starts_with("tokens["))
}

/// The text of a configuration file. It turns a [`Place`] into a [`Diagnostic`].
#[derive(Clone)]
pub struct Source {
    file: Arc<str>,
    text: Arc<str>,
    /// The byte that each line begins with.
    line_starts: Arc<[usize]>,
}

/// The text may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.file)
    }
}

impl Source {
    /// The text of `file`.
    pub(super) fn new(file: &str, text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text: text.into(), line_starts }
    }

    /// An error at `place`.
    pub fn error(&self, place: &Place, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, place, message.into())
    }

    /// A warning at `place`.
    pub fn warning(&self, place: &Place, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, place, message.into())
    }

    fn diagnostic(&self, severity: Severity, place: &Place, message: String) -> Diagnostic {
        let start = self.text.floor_char_boundary(place.span.start);
        let index = self.line_index(start);
        let line_start = self.line_starts[index];
        let line = self.line(start);
        let end = self.text.floor_char_boundary(place.span.end.min(line_start + line.len())).max(start);
        let width = self.text[start..end].chars().count().max(1);
        Diagnostic {
            severity,
            file: self.file.to_string(),
            line: index + 1,
            column: self.text[line_start..start].chars().count() + 1,
            key: place.key.clone(),
            message,
            help: None,
            excerpt: (line.len() <= EXCERPT_BYTES_MAX && !may_hold_secret(line, &place.key))
                .then(|| (line.to_owned(), width)),
        }
    }

    /// The line around a byte of the text.
    pub(super) fn line(&self, at: usize) -> &str {
        self.text[self.line_starts[self.line_index(at)]..].lines().next().unwrap_or_default()
    }

    /// The text at `place`.
    pub(super) fn part(&self, place: &Place) -> &str {
        self.text.get(place.span.clone()).unwrap_or_default()
    }

    /// The lines that `span` touches, from 0.
    pub(super) fn lines(&self, span: &Range<usize>) -> RangeInclusive<usize> {
        self.line_index(span.start)..=self.line_index(span.end)
    }

    /// The number of the line around a byte of the text, from 0.
    fn line_index(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, part: &str) -> Place {
        let start = text.find(part).expect("part of the text");
        Place { key: "a.b".into(), span: start..start + part.len() }
    }

    #[test]
    fn columns_count_characters() {
        let text = "x = 1\nä = \"日本\" # Ω\nö = \"日本\", falsch";
        let diagnostic = Source::new("f.toml", text).error(&place(text, "falsch"), "no");
        assert_eq!((diagnostic.line, diagnostic.column), (3, 11));
    }

    #[test]
    fn looks_like_a_compiler_wrote_it() {
        let text = "\n\n\n\n\n\n\n\n\n\tlanes = 0 # none\n";
        let diagnostic = Source::new("f.toml", text).error(&place(text, "lanes = 0"), "too few").with_help("write 1");
        let expected =
            "f.toml:10:2: error: a.b: too few\n   |\n10 | \tlanes = 0 # none\n   | \t^^^^^^^^^\n   = help: write 1";
        assert_eq!(diagnostic.with_line().to_string(), expected);
        assert_eq!(diagnostic.to_string(), "f.toml:10:2: error: a.b: too few\n   = help: write 1");
    }

    #[test]
    fn a_span_of_many_lines_is_marked_on_its_first() {
        let text = "a = [\n1,\n]";
        let shown = Source::new("f", text).warning(&place(text, "[\n1,\n]"), "w").with_line().to_string();
        assert_eq!(shown, "f:1:5: warning: a.b: w\n  |\n1 | a = [\n  |     ^");
    }

    #[test]
    fn the_end_of_the_text_has_a_place() {
        let text = "a = 1\n";
        let end = Place { key: String::new(), span: 6..6 };
        let diagnostic = Source::new("f", text).error(&end, "e");
        assert_eq!((diagnostic.line, diagnostic.column), (2, 1));
    }

    #[test]
    fn a_line_that_fills_the_screen_is_not_shown() {
        let text = format!("a = '{}' # end", "x".repeat(400));
        let diagnostic = Source::new("f", &text).error(&place(&text, "end"), "e");
        assert_eq!(diagnostic.with_line().to_string(), "f:1:410: error: a.b: e");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = "a = \u{1b}[31m";
        assert!(!Source::new("f", text).error(&place(text, "["), "e").with_line().to_string().contains('\u{1b}'));
    }

    #[test]
    fn json_has_the_place_and_no_excerpt() {
        let text = "a = 1";
        let json = serde_json::to_value(Source::new("f", text).error(&place(text, "1"), "e")).expect("serializes");
        let expected = serde_json::json!({"severity": "error", "file": "f", "line": 1, "column": 5, "key": "a.b", "message": "e", "help": null});
        assert_eq!(json, expected);
    }

    #[test]
    fn keys_that_need_quotes_have_them() {
        let place = Place::top().child("clusters", 0..0).child("east.eu", 0..0).child("x", 0..0).item(2, 0..0);
        assert_eq!(place.key, "clusters.\"east.eu\".x[2]");
    }
}
