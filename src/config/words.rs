//! Text that people choose freely: what a link is called, who they say that they are.

use crate::model::text::steers;

/// The most bytes of a name that is shown in lists and histories.
pub const NAME_BYTES_MAX: usize = 255;

/// A text of at most so many bytes, without characters that steer a terminal or its reader: it goes to everybody who asks.
///
/// # Errors
/// What is wrong, on one line and without the text.
pub fn words(text: &str, bytes_max: usize) -> Result<&str, String> {
    match text.chars().find(|c| steers(*c)) {
        _ if text.len() > bytes_max => Err(format!("it has {} bytes, and {bytes_max} are the limit", text.len())),
        Some(c) => Err(format!(
            "it has the character {}: control characters, line ends, invisible characters and changes of direction are not allowed",
            c.escape_unicode()
        )),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_text_has_a_bound_and_steers_nothing() {
        assert_eq!(words("Zürich → 東京", 255), Ok("Zürich → 東京"));
        assert!(words(&"x".repeat(255), 255).is_ok());
        assert_eq!(words(&"x".repeat(256), 255), Err("it has 256 bytes, and 255 are the limit".to_owned()));
        for text in ["a\nb", "\u{1b}[2J", "a\u{202e}b", "\u{7f}", "\u{9b}x", "a\u{2066}", "\0"] {
            assert!(words(text, 255).is_err(), "{text:?}");
        }
    }
}
