//! Reads a message field by field, without believing any number in it: nothing is made room for before it is there.

/// What is left of a message. Everything is `None` where it ends early.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    /// A text with its length before it, as a number of 16 bits.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::try_from(self.i16()?).ok()?;
        self.take(bytes)
    }

    /// Bytes with their length before them, as a number of 32 bits; where that is negative there are none.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Hand each tagged field to `each`, which says whether it can be read.
    pub(crate) fn tags(&mut self, mut each: impl FnMut(u32, Fields<'a>) -> Option<()>) -> Option<()> {
        for _ in 0..self.varint()? {
            let (tag, bytes) = (self.varint()?, self.varint()?);
            each(tag, Fields(self.take(bytes as usize)?))?;
        }
        Some(())
    }
}
