//! The text of the configuration: tables of keys, with comments.

use crate::import::Finding;
use crate::model::text::steers;

/// A line of a table.
pub(super) enum Line {
    Key(&'static str, String),
    Comment(String),
}

/// A text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A number of seconds, as TOML has a duration, if it is one of those that can be.
pub(super) fn seconds(text: &str, most: u64) -> Option<String> {
    let seconds = text.parse::<u64>().ok().filter(|seconds| (1..=most).contains(seconds))?;
    Some(quoted(&format!("{seconds}s")))
}

/// An entry of a list, and what it is for.
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) comment: Option<String>,
}

impl Entry {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), comment: None }
    }

    pub(super) fn because(text: impl Into<String>, comment: impl Into<String>) -> Self {
        Self { text: text.into(), comment: Some(comment.into()) }
    }
}

/// A list; one that says what it is for has a line for each entry.
pub(super) fn list(entries: &[Entry]) -> String {
    if entries.iter().all(|entry| entry.comment.is_none()) {
        let entries: Vec<String> = entries.iter().map(|entry| quoted(&entry.text)).collect();
        return format!("[{}]", entries.join(", "));
    }
    let entry = |entry: &Entry| {
        let comment = entry.comment.as_ref().map(|comment| format!("  # {}", one_line(comment))).unwrap_or_default();
        format!("    {},{comment}\n", quoted(&entry.text))
    };
    format!("[\n{}]", entries.iter().map(entry).collect::<String>())
}

/// A table with its header, and before it what was found about it.
pub(super) fn table(header: &str, lines: &[Line], findings: &[Finding]) -> String {
    let mut text = comments(findings);
    text.push_str(&format!("[{header}]\n"));
    for line in lines {
        match line {
            Line::Key(key, value) => text.push_str(&format!("{key} = {value}\n")),
            Line::Comment(comment) => text.push_str(&format!("# {}\n", one_line(comment))),
        }
    }
    text.push('\n');
    text
}

/// Findings as comments, one a line.
pub(super) fn comments(findings: &[Finding]) -> String {
    let comment = |finding: &Finding| {
        let Finding { key, line, what, why, remedy } = finding;
        let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
        format!("# {}: {}{line}: {}{}\n", what.heading(), one_line(key), one_line(why), one_line(&remedy))
    };
    findings.iter().map(comment).collect()
}

/// A key of a table, quoted if it has to be.
pub(super) fn key(text: &str) -> String {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { text.to_owned() } else { quoted(text) }
}

/// What stands in a comment must not end it.
fn one_line(text: &str) -> String {
    text.replace(steers, " ")
}
