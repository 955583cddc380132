//! Walks over JSON text: checks all of it, keeps none of it.
//!
//! A plugin that looks at one field spends nearly all of its time passing over the others, so this is made for that: strings
//! are read eight bytes at a time, and nothing is allocated whatever the document.

use std::ops::Range;

use crate::json::NotJson;

/// How deep arrays and objects may be nested in a part that is passed over: one bit each in [`end_of_nested`].
const DEPTH_MAX: u32 = 127;

/// A place in a JSON text.
///
/// All that runs for each byte or token is inlined, and what is not takes and gives places by value. So a place stays in a
/// register, which makes half of the speed in WebAssembly.
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The beginning of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0 }
    }

    /// The next byte that is not blank.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Nothing but blanks is left.
    #[inline(always)]
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        self.peek().map_or(Ok(()), |_| Err(expected("the end", self.at)))
    }

    /// Pass over an object. `member` gets each name, as it is written between the quotes, and the place of each value.
    #[inline(always)]
    pub(crate) fn object(&mut self, mut member: impl FnMut(&'a [u8], Range<usize>)) -> Result<(), NotJson> {
        self.expect(b'{', "an object")?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = self.name()?;
            member(&self.bytes[name], self.value()?);
            if !self.eat(b',') {
                return self.expect(b'}', "`,` or `}`");
            }
        }
    }

    /// Pass over an array. `element` gets the place of each element.
    #[inline(always)]
    pub(crate) fn array(&mut self, mut element: impl FnMut(Range<usize>)) -> Result<(), NotJson> {
        self.expect(b'[', "an array")?;
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            element(self.value()?);
            if !self.eat(b',') {
                return self.expect(b']', "`,` or `]`");
            }
        }
    }

    /// Pass over a value. The answer is its place.
    #[inline(always)]
    pub(crate) fn value(&mut self) -> Result<Range<usize>, NotJson> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{' | b'[') => self.at = end_of_nested(*self)?,
            _ => self.scalar()?,
        }
        Ok(start..self.at)
    }

    /// Pass over a string, a number or a word.
    #[inline(always)]
    fn scalar(&mut self) -> Result<(), NotJson> {
        match self.byte() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                self.at = end_of_word(*self)?;
                Ok(())
            }
        }
    }

    /// Pass over a name and its colon.
    #[inline(always)]
    fn name(&mut self) -> Result<Range<usize>, NotJson> {
        self.peek();
        let name = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    /// Pass over a string. The answer is the place of what is between the quotes.
    #[inline(always)]
    fn string(&mut self) -> Result<Range<usize>, NotJson> {
        if self.byte() != Some(b'"') {
            return Err(expected("a string", self.at));
        }
        self.at += 1;
        let start = self.at;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => self.at = end_of_escape(*self)?,
                _ => return Err(expected("the end of a string", self.at)),
            }
        }
        self.at += 1;
        Ok(start..self.at - 1)
    }

    /// Pass over a number.
    #[inline(always)]
    fn number(&mut self) -> Result<(), NotJson> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if let Some(b'.' | b'e' | b'E') = self.byte() {
            self.at = end_of_fraction(*self)?;
        }
        Ok(())
    }

    /// Pass over one digit or more.
    #[inline(always)]
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { Err(expected("a digit", self.at)) } else { Ok(()) }
    }

    #[inline(always)]
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Pass over `byte` if it is the next that is not blank.
    #[inline(always)]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), NotJson> {
        if self.eat(byte) { Ok(()) } else { Err(expected(what, self.at)) }
    }
}

/// Where the array or object ends that begins here.
fn end_of_nested(mut json: Scanner<'_>) -> Result<usize, NotJson> {
    // One bit for each array (0) and object (1) that is open, the innermost lowest, below a mark.
    let mut open = 1_u128;
    loop {
        let first = json.peek();
        if let Some(b'{' | b'[') = first {
            json.at += 1;
            let is_object = first == Some(b'{');
            if !json.eat(if is_object { b'}' } else { b']' }) {
                if open.ilog2() == DEPTH_MAX {
                    return Err(expected("less nesting", json.at));
                }
                open = open << 1 | u128::from(is_object);
                if is_object {
                    json.name()?;
                }
                continue;
            }
        } else {
            json.scalar()?;
        }
        while open != 1 && !json.eat(b',') {
            json.expect(if open & 1 == 1 { b'}' } else { b']' }, "`,` or the end of an object or array")?;
            open >>= 1;
        }
        if open == 1 {
            return Ok(json.at);
        }
        if open & 1 == 1 {
            json.name()?;
        }
    }
}

/// Where the word ends that begins here: `true`, `false` or `null`.
fn end_of_word(json: Scanner<'_>) -> Result<usize, NotJson> {
    let rest = json.bytes.get(json.at..).unwrap_or_default();
    let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()));
    word.map(|word| json.at + word.len()).ok_or_else(|| expected("a value", json.at))
}

/// Where the escape ends whose backslash is here.
fn end_of_escape(json: Scanner<'_>) -> Result<usize, NotJson> {
    match json.bytes.get(json.at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(json.at + 2),
        Some(b'u') => {
            let digits = json.bytes.get(json.at + 2..json.at + 6);
            let right = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            if right { Ok(json.at + 6) } else { Err(expected("four hexadecimal digits", json.at + 2)) }
        }
        _ => Err(expected("an escape", json.at)),
    }
}

/// Where the number ends whose point or exponent is here.
fn end_of_fraction(mut json: Scanner<'_>) -> Result<usize, NotJson> {
    if json.byte() == Some(b'.') {
        json.at += 1;
        json.digits()?;
    }
    if let Some(b'e' | b'E') = json.byte() {
        json.at += 1;
        json.at += usize::from(matches!(json.byte(), Some(b'+' | b'-')));
        json.digits()?;
    }
    Ok(json.at)
}

#[cold]
fn expected(what: &'static str, at: usize) -> NotJson {
    NotJson::new(format!("expected {what} at byte {at}"))
}

/// How many bytes at the beginning are neither a quote, nor a backslash, nor a control character.
#[inline(always)]
fn plain(bytes: &[u8]) -> usize {
    /// 1 in each byte.
    const ONES: u64 = u64::MAX / 0xff;
    let is = |chunk: u64, byte: u8| {
        let zero = chunk ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let chunk = u64::from_le_bytes(*chunk);
        let control = chunk.wrapping_sub(ONES * 0x20) & !chunk;
        // The high bit of a byte says that it is one of them. A borrow can set it wrongly, but only above a right one.
        let found = (is(chunk, b'"') | is(chunk, b'\\') | control) & (ONES * 0x80);
        if found != 0 {
            return 8 * index + found.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    8 * chunks.len() + special.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn plain_ends_at_the_first_special_byte() {
        for length in 0..40 {
            for special in [b'"', b'\\', 0, 0x1f] {
                for (before, after) in [(b'x', special), (0x20, b'"'), (0xff, 0), (0x7f, b'\\'), (b'!', 0x80)] {
                    let mut bytes = vec![before; length];
                    bytes.push(special);
                    bytes.extend([after; 9]);
                    assert_eq!(plain(&bytes), length, "{bytes:x?}");
                    assert_eq!(plain(&bytes[..length]), length);
                }
            }
        }
    }

    /// What this takes for JSON must be what the rest of the world does. Documents are made by changing single bytes of one
    /// that has everything.
    #[test]
    fn agrees_with_serde_json_on_what_is_json() {
        let whole =
            "{\"a\\u00e9\\n\":[1,-0.5e+10,{},[],{\"\":null}],\"b\":true ,\"c\" : false,\"d\":\"\\\"x\\\\\u{e9}\"}";
        let mut accepted = 0;
        for at in 0..=whole.len() {
            for insert in "\"\\{}[],:-+.eE019tfnul xau/\n\u{1}".chars().map(Some).chain([None]) {
                for remove in 0..3 {
                    let (Some(head), Some(tail)) = (whole.get(..at), whole.get(at + remove..)) else { continue };
                    let text: String = head.chars().chain(insert).chain(tail.chars()).collect();
                    let mut scanner = Scanner::new(&text);
                    let scanned = scanner.value().map(|place| place.len()).and_then(|len| scanner.end().map(|()| len));
                    let expect = serde_json::from_str::<IgnoredAny>(&text).ok().map(|_| text.trim().len());
                    assert_eq!(scanned.ok(), expect, "{text}");
                    accepted += usize::from(expect.is_some());
                }
            }
        }
        assert!(accepted > 500, "only {accepted} were JSON");
    }

    #[test]
    fn nesting_has_a_limit() {
        for (depth, right) in [(127, true), (128, false), (1_000_000, false)] {
            let text = "[".repeat(depth) + "1" + &"]".repeat(depth);
            assert_eq!(Scanner::new(&text).value().is_ok(), right, "{depth}");
        }
    }
}
