//! A terminal that only shows what is written to it.
//!
//! Records, names, reasons and errors come from outside. To a terminal all of them go through a [`Screen`], whoever prints them; a file or another program gets the bytes as they are.

use std::io::{self, IsTerminal, Write};

use crate::model::text::printable;

/// Standard output: neutralised if it is a terminal, unless the bytes themselves are wanted.
pub(super) fn stdout(is_raw: bool) -> Box<dyn Write> {
    let out = io::stdout();
    if is_raw || !out.is_terminal() { Box::new(out) } else { Box::new(Screen::new(out)) }
}

/// Standard error. It has errors and notes for people alone, so it is neutralised wherever it goes.
pub(super) fn stderr() -> Screen<io::StderrLock<'static>> {
    Screen::new(io::stderr().lock())
}

/// Passes text on with a sign in place of what would steer a terminal or its reader, and of what is no text.
pub(super) struct Screen<W> {
    inner: W,
    /// The bytes of a character that has no end yet.
    begun: Vec<u8>,
}

impl<W: Write> Screen<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, begun: Vec::new() }
    }
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut shown = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            shown.push_str(&printable(chunk.valid()));
            let is_last = chunks.peek().is_none();
            match chunk.invalid() {
                [] => {}
                rest if is_last && may_be_continued(rest) => self.begun = rest.to_vec(),
                _ => shown.push(char::REPLACEMENT_CHARACTER),
            }
        }
        self.inner.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.begun).is_empty() {
            write!(self.inner, "{}", char::REPLACEMENT_CHARACTER)?;
        }
        self.inner.flush()
    }
}

/// Whether these bytes can be the beginning of a character.
fn may_be_continued(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let mut screen = Screen::new(Vec::new());
        parts.iter().for_each(|part| screen.write_all(part).expect("written"));
        screen.flush().expect("flushed");
        String::from_utf8(screen.inner).expect("text")
    }

    #[test]
    fn nothing_that_is_written_steers_the_terminal() {
        assert_eq!(
            shown(&[b"a\x1b]0;pwned\x07\x1b[2Jb\xff\n\tc"]),
            "a\u{fffd}]0;pwned\u{fffd}\u{fffd}[2Jb\u{fffd}\n\tc"
        );
        assert_eq!(shown(&["a\u{202e}b\u{9b}31m\r".as_bytes()]), "a\u{fffd}b\u{fffd}31m\u{fffd}");
    }

    #[test]
    fn a_character_may_come_in_parts() {
        let text = "日本 ü \u{202e}".as_bytes();
        for cut in 0..=text.len() {
            assert_eq!(shown(&[&text[..cut], &text[cut..]]), "日本 ü \u{fffd}", "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(shown(&bytes), "日本 ü \u{fffd}");
        assert_eq!(shown(&[b"a\xe6\x97"]), "a\u{fffd}");
        assert_eq!(shown(&[b"\xff\xe6", b"\x97\xa5"]), "\u{fffd}日");
    }
}
