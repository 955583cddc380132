//! Text from outside, made fit to be shown.

/// Whether a character does something else than show itself. Control characters begin the sequences that steer a terminal, a line end can pass for something that
/// another has written, a turn of direction makes a text look like another one, and what is invisible makes two texts look alike. The two joiners that some scripts
/// need to be written at all are none of them.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with a sign in place of each character that steers, line ends and tabs excepted: what a person reads at a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_a_reader_is_replaced() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}\u{9b}31m\r\n\tb"), "a\u{fffd}]0;x\u{fffd}\u{fffd}31m\u{fffd}\n\tb");
        for c in "\u{202e}\u{202a}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{feff}\u{2028}\u{e0041}\u{7f}\0".chars() {
            assert_eq!(printable(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
        for text in ["Größe", "日本", "می‌خواهم", "👩‍👧", "a b"] {
            assert_eq!(printable(text), text);
        }
    }
}
