//! Walks over JSON text: checks all of it, keeps none of it.
//!
//! A plugin that looks at one field spends nearly all of its time passing over the others, so this is made for that: strings
//! are read eight bytes at a time, and nothing is allocated whatever the document.

use crate::json::NotJson;

/// How deep arrays and objects may be nested in a part that is passed over: one bit each in [`Scanner::value`].
const DEPTH_MAX: u32 = 127;

/// A place in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The beginning of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not blank.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        self.peek().map_or(Ok(()), |_| self.error("the end"))
    }

    /// Pass over an object. `member` gets each name, as it is written between the quotes, and each value.
    #[inline]
    pub(crate) fn object(&mut self, mut member: impl FnMut(&'a str, &'a str)) -> Result<(), NotJson> {
        self.expect(b'{', "an object")?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = self.name()?;
            member(name, self.value()?);
            if !self.eat(b',') {
                return self.expect(b'}', "`,` or `}`");
            }
        }
    }

    /// Pass over an array. `element` gets each element.
    #[inline]
    pub(crate) fn array(&mut self, mut element: impl FnMut(&'a str)) -> Result<(), NotJson> {
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

    /// Pass over a value. The answer is how it is written.
    pub(crate) fn value(&mut self) -> Result<&'a str, NotJson> {
        // One bit for each array (0) and object (1) that is open, the innermost lowest, below a mark.
        let mut open = 1_u128;
        self.peek();
        let start = self.at;
        loop {
            let opened = match self.peek() {
                Some(b'"') => self.string().map(|_| false)?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|()| false)?,
                Some(b'{') => !self.is_empty(b'}'),
                Some(b'[') => !self.is_empty(b']'),
                _ => self.literal().map(|()| false)?,
            };
            if opened {
                if open.ilog2() == DEPTH_MAX {
                    return self.error("less nesting");
                }
                let is_object = self.text.as_bytes()[self.at - 1] == b'{';
                open = open << 1 | u128::from(is_object);
                if is_object {
                    self.name()?;
                }
                continue;
            }
            while open != 1 && !self.eat(b',') {
                self.expect(if open & 1 == 1 { b'}' } else { b']' }, "`,` or the end of an object or array")?;
                open >>= 1;
            }
            if open == 1 {
                return Ok(&self.text[start..self.at]);
            }
            if open & 1 == 1 {
                self.name()?;
            }
        }
    }

    /// Pass over the bracket that opens an object or array, and the one that closes it if it comes next.
    fn is_empty(&mut self, close: u8) -> bool {
        self.at += 1;
        let after = self.at;
        let empty = self.eat(close);
        if !empty {
            self.at = after;
        }
        empty
    }

    /// Pass over a name and its colon.
    #[inline]
    fn name(&mut self) -> Result<&'a str, NotJson> {
        self.peek();
        let name = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    /// Pass over a string. The answer is what is between the quotes.
    #[inline]
    fn string(&mut self) -> Result<&'a str, NotJson> {
        if self.byte() != Some(b'"') {
            return self.error("a string");
        }
        self.at += 1;
        let start = self.at;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return self.error("the end of a string"),
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at - 1])
    }

    /// Pass over a backslash and what it escapes.
    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.error("four hexadecimal digits");
                }
                self.at += 5;
            }
            _ => return self.error("an escape"),
        }
        Ok(())
    }

    /// Pass over a number.
    fn number(&mut self) -> Result<(), NotJson> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Pass over one digit or more.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { self.error("a digit") } else { Ok(()) }
    }

    /// Pass over `true`, `false` or `null`.
    fn literal(&mut self) -> Result<(), NotJson> {
        let rest = &self.text.as_bytes()[self.at..];
        let Some(word) = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes())) else {
            return self.error("a value");
        };
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Pass over `byte` if it is the next that is not blank.
    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn expect(&mut self, byte: u8, what: &str) -> Result<(), NotJson> {
        if self.eat(byte) { Ok(()) } else { self.error(what) }
    }

    #[cold]
    fn error<T>(&self, expected: &str) -> Result<T, NotJson> {
        Err(NotJson::new(format!("expected {expected} at byte {}", self.at)))
    }
}

/// How many bytes at the beginning are neither a quote, nor a backslash, nor a control character.
#[inline]
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
                    let scanned = scanner.value().map(str::len).and_then(|len| scanner.end().map(|()| len));
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
