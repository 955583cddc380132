//! `If-Match` (RFC 9110, 13.1.1): for which versions of a link a change was made.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::control::{ControlError, ControlPlane, ErrorKind};
use super::error::ApiError;

/// The versions of a link that a change was made for; `None`: whichever there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IfMatch(Option<Vec<u64>>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::read(&parts.headers).ok_or_else(|| {
            let remedy = "send `*`, or a list of ETags, each as it was answered";
            ApiError::malformed("bad-if-match", "If-Match is neither `*` nor a list of entity tags", remedy)
        })
    }
}

impl IfMatch {
    /// Read all headers of this name as one list. `None`: they are not one.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let values: Vec<&[u8]> = headers.get_all(header::IF_MATCH).iter().map(|value| value.as_bytes()).collect();
        if values.is_empty() {
            return Some(Self(None));
        }
        let list = values.join(&b","[..]);
        if list.trim_ascii() == b"*" {
            return Some(Self(None));
        }
        let mut versions = Vec::new();
        let mut rest = &list[..];
        let mut has_tags = false;
        loop {
            // A list may have elements that are empty.
            while let [b',' | b' ' | b'\t', behind @ ..] = rest {
                rest = behind;
            }
            if rest.is_empty() {
                return has_tags.then_some(Self(Some(versions)));
            }
            let (is_weak, opaque, behind) = entity_tag(rest)?;
            has_tags = true;
            // The comparison is the strong one, which no weak tag passes.
            versions.extend(version(opaque).filter(|_| !is_weak));
            rest = behind.trim_ascii_start();
            if !matches!(rest, [] | [b',', ..]) {
                return None;
            }
        }
    }

    /// The version that the link must have for the change to be made.
    ///
    /// # Errors
    /// The link has no version that was named, or cannot be looked at.
    pub(super) fn expected(&self, control: &dyn ControlPlane, link: &str) -> Result<Option<u64>, ControlError> {
        let Some(versions) = &self.0 else { return Ok(None) };
        if let [version] = versions[..] {
            return Ok(Some(version));
        }
        // Versions only grow: if this one is not that of the link any more, none that was named is.
        let present = control.definition(link)?.version;
        if versions.contains(&present) {
            return Ok(Some(present));
        }
        let message = format!("the definition of link {link} has version {present}, which If-Match does not name");
        let remedy = "somebody has changed it: look at it again, then change it";
        Err(ControlError::new(ErrorKind::Outdated, "version-outdated", message, remedy))
    }
}

/// The entity tag that a text begins with: whether it is weak, what is between its quotation marks, and
/// the rest of the text.
fn entity_tag(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let strong = text.strip_prefix(b"W/");
    let quoted = strong.unwrap_or(text).strip_prefix(b"\"")?;
    let end = quoted.iter().position(|byte| *byte == b'"')?;
    let (opaque, behind) = quoted.split_at(end);
    let is_allowed = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
    opaque.iter().all(is_allowed).then_some((strong.is_some(), opaque, &behind[1..]))
}

/// The version that has this tag. A tag is compared byte by byte, so `"01"` is none.
fn version(opaque: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(opaque).ok()?;
    text.parse::<u64>().ok().filter(|version| version.to_string() == text)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&[u8]]) -> Option<Option<Vec<u64>>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, HeaderValue::from_bytes(line).expect("a value"));
        }
        IfMatch::read(&headers).map(|read| read.0)
    }

    #[test]
    fn versions_are_read_from_lists_in_any_number_of_headers() {
        let versions = |lines: &[&[u8]]| read(lines).expect("a list").expect("tags");
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&[b"*"]), Some(None));
        assert_eq!(read(&[b" * "]), Some(None));
        assert_eq!(versions(&[b"\"7\""]), [7]);
        assert_eq!(versions(&[b"\"7\",\"8\" ,\t\"9\""]), [7, 8, 9]);
        assert_eq!(versions(&[b"\"7\"", b"\"8\", \"9\""]), [7, 8, 9]);
        assert_eq!(versions(&[b",, \"7\" ,,", b""]), [7]);
        assert_eq!(versions(&[b"\"18446744073709551615\""]), [u64::MAX]);
    }

    #[test]
    fn a_tag_that_no_version_has_is_compared_and_never_matches() {
        let none: [&[u8]; 11] = [
            b"W/\"7\"",
            b"\"+7\"",
            b"\"07\"",
            b"\"-7\"",
            b"\"\"",
            b"\"x\"",
            b"\"7,7\"",
            b"\"18446744073709551616\"",
            b"\"\xff\"",
            b"\"0x7\"",
            b"W/\"7\", \"7.0\"",
        ];
        for tag in none {
            assert_eq!(read(&[tag]), Some(Some(vec![])), "{}", tag.escape_ascii());
        }
        assert_eq!(read(&[b"W/\"7\", \"8\", \"+9\""]), Some(Some(vec![8])));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let wrong: [&[&[u8]]; 15] = [
            &[b""],
            &[b","],
            &[b"7"],
            &[b"\"7"],
            &[b"7\""],
            &[b"\"7\"\"8\""],
            &[b"\"7\" \"8\""],
            &[b"w/\"7\""],
            &[b"W/ \"7\""],
            &[b"W/7"],
            &[b"\"7 \""],
            &[b"*, \"7\""],
            &[b"*", b"*"],
            &[b"\"7\"", b"*"],
            &[b"\"7\"", b"8"],
        ];
        for lines in wrong {
            assert_eq!(read(lines), None, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn only_the_very_etag_of_a_version_names_it(version: u64, text in "[ \t]{0,2}(W/)?\"[+0-9a-z]{0,4}\"[ \t]{0,2}") {
            prop_assert_eq!(read(&[format!("\"{version}\"").as_bytes()]), Some(Some(vec![version])));
            for version in read(&[text.as_bytes()]).expect("a list").expect("tags") {
                prop_assert_eq!(text.trim(), format!("\"{version}\""));
            }
        }
    }
}
