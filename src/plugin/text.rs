//! What plugins and the compiler say, made fit to be shown.

use super::limits::LINE_BYTES_MAX;
use crate::model::text::steers;

/// A text of the plugin's, in one line, and no longer than `bytes_max` and a sign that it was cut.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    if text.contains(steers) { text.replace(steers, " ") } else { text }
}

/// An error with its causes, in one line. It may quote names that a plugin has chosen.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
    cut(lines.join("; "), LINE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_line_that_steers_nothing_and_has_an_end() {
        assert_eq!(cut("a\nb\u{1b}[2Jc\u{202e}d".to_owned(), 100), "a b [2Jc d");
        assert_eq!(cut("äöü".to_owned(), 3), "ä…");
        let error = wasmtime::Error::msg("x\u{7}\n  y").context("z".repeat(9000));
        assert_eq!(one_line(&error).len(), LINE_BYTES_MAX + '…'.len_utf8());
        assert_eq!(one_line(&wasmtime::Error::msg("x\u{7}\n  y").context("z")), "z: x ; y");
    }
}
