//! Reads a message field by field, without believing any number in it. This is the only reader of what brokers and members of groups send: nothing is reserved for
//! what a message claims, only for what it has been seen to hold.
//!
//! Bounds, whatever the bytes are
//! - A length is refused that exceeds the bytes that are left. Each element of a list takes at least one byte, so a list cannot be longer than its message.
//! - A list grows as its elements are read. All lists of a message together take no more than [`MEMORY_PER_BYTE`] bytes of memory for each byte of the message,
//!   and [`MEMORY_MIN`], and never more than [`MEMORY_MAX`]; as lists grow by doubling, twice that is the most that is ever allocated.
//! - Texts and bytes are not copied: they are parts of the message.
//!
//! What the crate `kafka-protocol` has instead reserves as many elements as an array claims, so an answer of 21 bytes aborts the process.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{BrokerId, GroupId, ProducerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// The memory that lists may take, in bytes for each byte of the message. Sound answers need 10 at most: a listed group takes 152 bytes, and about 30 on the wire.
pub(super) const MEMORY_PER_BYTE: usize = 16;

/// The memory that lists may take however short the message is, in bytes.
pub(super) const MEMORY_MIN: usize = 64 << 10;

/// The memory that lists may take however long the message is, in bytes. The partitions of a cluster of a million take half of it.
pub(super) const MEMORY_MAX: usize = 256 << 20;

/// How many elements a list has room for at first, if it claims that many.
const ELEMENTS_AT_FIRST: usize = 16;

/// What is wrong with a message. It quotes nothing of it, since a message may hold secrets and control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it ends early")]
    EndsEarly,
    #[error("it has {0} bytes left over")]
    LeftOver(usize),
    #[error("it claims a length of {claimed} where {left} bytes are left")]
    TooLong { claimed: u64, left: usize },
    #[error(
        "its lists would take more than {MEMORY_PER_BYTE} times its size in memory, or more than {MEMORY_MAX} bytes"
    )]
    TooLarge,
    #[error("it has a length that is negative, or none where one is needed")]
    NoLength,
    #[error("it has a number of more than 32 bits where a length is needed")]
    NoVarint,
    #[error("it has a text that is not UTF-8")]
    NotText,
    #[error("it has an offset or number that cannot be")]
    Impossible,
}

/// How a length is written in messages without varints.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    /// Two bytes, before texts.
    Short,
    /// Four bytes, before bytes and lists.
    Long,
}

/// A message, from where it has been read to its end.
pub(crate) trait Fields: Sized {
    /// The bytes of a number of a fixed size.
    fn number<const N: usize>(&mut self) -> Result<[u8; N], Flaw>;
    /// A length of something that takes at least as many bytes; `None` is null.
    fn length(&mut self, width: Width) -> Result<Option<usize>, Flaw>;
    /// The next bytes.
    fn take(&mut self, bytes: usize) -> Result<Bytes, Flaw>;
    /// Account for memory that a list takes.
    fn reserve(&mut self, bytes: usize) -> Result<(), Flaw>;
    /// Hand each tagged field to `each`, if such a message has any.
    fn tags(&mut self, each: impl FnMut(u32, Reader) -> Result<(), Flaw>) -> Result<(), Flaw>;
    /// Pass over the rest.
    fn skip_rest(&mut self);

    /// A field, as messages of this version have it.
    fn read<T: Field>(&mut self, version: i16) -> Result<T, Flaw> {
        T::read(self, version)
    }

    /// A list, whose elements `each` reads; `None` is null.
    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T, Flaw>) -> Result<Option<Vec<T>>, Flaw> {
        let Some(count) = self.length(Width::Long)? else { return Ok(None) };
        let mut list = Vec::with_capacity(count.min(ELEMENTS_AT_FIRST));
        for _ in 0..count {
            self.reserve(size_of::<T>())?;
            list.push(each(self)?);
        }
        Ok(Some(list))
    }
}

/// Something that a message holds.
pub(crate) trait Field: Sized {
    fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw>;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn read<F: Fields>(from: &mut F, _: i16) -> Result<Self, Flaw> {
                from.number().map(Self::from_be_bytes)
            }
        }
    )*};
}
numbers!(i8 i16 i32 i64);

impl Field for bool {
    fn read<F: Fields>(from: &mut F, _: i16) -> Result<Self, Flaw> {
        from.number::<1>().map(|byte| byte != [0])
    }
}

impl Field for Uuid {
    fn read<F: Fields>(from: &mut F, _: i16) -> Result<Self, Flaw> {
        from.number().map(Self::from_bytes)
    }
}

impl Field for Option<StrBytes> {
    fn read<F: Fields>(from: &mut F, _: i16) -> Result<Self, Flaw> {
        let Some(length) = from.length(Width::Short)? else { return Ok(None) };
        StrBytes::from_utf8(from.take(length)?).map(Some).map_err(|_| Flaw::NotText)
    }
}

impl Field for Option<Bytes> {
    fn read<F: Fields>(from: &mut F, _: i16) -> Result<Self, Flaw> {
        let Some(length) = from.length(Width::Long)? else { return Ok(None) };
        from.take(length).map(Some)
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw> {
        from.list(|from| from.read(version))
    }
}

impl Field for Option<TopicName> {
    fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw> {
        Ok(from.read::<Option<StrBytes>>(version)?.map(TopicName))
    }
}

macro_rules! never_null {
    ($($field:ty)*) => {$(
        impl Field for $field {
            fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw> {
                from.read::<Option<Self>>(version)?.ok_or(Flaw::NoLength)
            }
        }
    )*};
}
never_null!(StrBytes Bytes TopicName);

impl<T: Field> Field for Vec<T> {
    fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw> {
        from.read::<Option<Self>>(version)?.ok_or(Flaw::NoLength)
    }
}

macro_rules! named {
    ($($name:ident)*) => {$(
        impl Field for $name {
            fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw> {
                from.read(version).map(Self)
            }
        }
    )*};
}
named!(BrokerId GroupId ProducerId);

/// Reads the fields of structures in the order of the wire: `field @ versions` where not every version that we speak has it. Tagged fields are passed over.
macro_rules! structures {
    ($($structure:path { $($field:ident $(@ $versions:expr)?),* })*) => {$(
        impl $crate::connector::kafka::wire::Field for $structure {
            fn read<F: $crate::connector::kafka::wire::Fields>(
                from: &mut F,
                version: i16,
            ) -> Result<Self, $crate::connector::kafka::wire::Flaw> {
                let mut structure = Self::default();
                $(if true $(&& ($versions).contains(&version))? {
                    structure.$field = from.read(version)?;
                })*
                from.tags(|_, _| Ok(()))?;
                Ok(structure)
            }
        }
    )*};
}
pub(crate) use structures;

/// Reads what has arrived.
#[derive(Debug)]
pub(crate) struct Reader {
    left: Bytes,
    /// Whether lengths are varints, and structures have tagged fields (KIP-482).
    is_flexible: bool,
    /// What lists may still take, in bytes.
    memory: usize,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes, is_flexible: bool) -> Self {
        let memory = bytes.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_MIN).min(MEMORY_MAX);
        Self { left: bytes, is_flexible, memory }
    }

    /// The rest, with varints for lengths or without.
    pub(super) fn then(self, is_flexible: bool) -> Self {
        Self { is_flexible, ..self }
    }

    /// All of it must have been read.
    pub(super) fn finish(self) -> Result<(), Flaw> {
        if self.left.is_empty() { Ok(()) } else { Err(Flaw::LeftOver(self.left.len())) }
    }

    fn varint(&mut self) -> Result<u32, Flaw> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.number()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| Flaw::NoVarint);
            }
        }
        Err(Flaw::NoVarint)
    }

    fn checked(&self, claimed: u64) -> Result<usize, Flaw> {
        let left = self.left.len();
        usize::try_from(claimed).ok().filter(|length| *length <= left).ok_or(Flaw::TooLong { claimed, left })
    }
}

impl Fields for Reader {
    fn number<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let number = *self.left.first_chunk().ok_or(Flaw::EndsEarly)?;
        self.left.advance(N);
        Ok(number)
    }

    fn length(&mut self, width: Width) -> Result<Option<usize>, Flaw> {
        let length = match width {
            _ if self.is_flexible => i64::from(self.varint()?) - 1,
            Width::Short => i16::from_be_bytes(self.number()?).into(),
            Width::Long => i32::from_be_bytes(self.number()?).into(),
        };
        match u64::try_from(length) {
            Ok(length) => self.checked(length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(Flaw::NoLength),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, Flaw> {
        if bytes > self.left.len() {
            return Err(Flaw::EndsEarly);
        }
        Ok(self.left.split_to(bytes))
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Flaw> {
        self.memory = self.memory.checked_sub(bytes).ok_or(Flaw::TooLarge)?;
        Ok(())
    }

    fn tags(&mut self, mut each: impl FnMut(u32, Reader) -> Result<(), Flaw>) -> Result<(), Flaw> {
        if !self.is_flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let (tag, length) = (self.varint()?, self.varint()?);
            let length = self.checked(length.into())?;
            each(tag, Reader::new(self.take(length)?, true))?;
        }
        Ok(())
    }

    fn skip_rest(&mut self) {
        self.left.clear();
    }
}
