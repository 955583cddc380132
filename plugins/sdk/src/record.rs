//! Records, borrowed from the batch that the host handed over.

use crate::bindings::types::{Batch, Columns};
use crate::{panics, random};

/// A length in a range that stands for null.
pub(crate) const NULL: u32 = u32::MAX;

/// A part of a record that a plugin can ask for.
///
/// What is not asked for is not copied into the plugin: a filter that looks at keys costs the same whatever the size of
/// the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// [`Record::key`].
    Key,
    /// [`Record::value`].
    Value,
    /// [`Record::headers`].
    Headers,
    /// [`Record::timestamp`].
    Timestamp,
    /// [`Record::offset`], [`Record::ordinal`] and [`Record::random`].
    Offset,
}

impl Column {
    /// The contract's flags for `columns`.
    pub(crate) fn flags(columns: &[Self]) -> Columns {
        columns.iter().fold(Columns::empty(), |flags, column| {
            flags
                | match column {
                    Self::Key => Columns::KEY,
                    Self::Value => Columns::VALUE,
                    Self::Headers => Columns::HEADERS,
                    Self::Timestamp => Columns::TIMESTAMP,
                    Self::Offset => Columns::OFFSET,
                }
        })
    }
}

/// A batch with what its records have in common.
pub(crate) struct Records {
    batch: Batch,
    needs: Columns,
    seed: u64,
}

impl Records {
    /// The records of `batch`, handed to the stage `stage`, which asked for the columns `needs`.
    pub(crate) fn new(batch: Batch, stage: &str, needs: &[Column]) -> Self {
        let seed = random::seed(stage, &batch.topic, batch.partition);
        Self { batch, needs: Column::flags(needs), seed }
    }

    /// The number of records.
    pub(crate) fn len(&self) -> usize {
        self.batch.count as usize
    }

    /// Do `work` with each record, in order.
    pub(crate) fn each(&self, mut work: impl FnMut(&Record<'_>)) {
        let mut before = None;
        let mut ordinal = self.batch.first_ordinal;
        for index in 0..self.len() {
            let offset = self.batch.offsets.get(index).copied();
            if index > 0 {
                ordinal = if offset == before { ordinal + 1 } else { 0 };
            }
            before = offset;
            panics::working_on(Some(index as u32));
            work(&Record { records: self, index, ordinal });
        }
        panics::working_on(None);
    }

    /// The bytes of a range.
    fn bytes(&self, start: u32, len: u32) -> Option<&[u8]> {
        (len != NULL).then(|| &self.batch.arena[start as usize..][..len as usize])
    }

    /// The bytes of the range with the number `index` in `column`.
    fn range(&self, column: &[u32], index: usize) -> Option<&[u8]> {
        let range = &column[2 * index..][..2];
        self.bytes(range[0], range[1])
    }
}

/// One record of a source partition.
///
/// # Panics
/// Asking for a column that is not in the plugin's `NEEDS` panics, which stops the call: it can only be a mistake in
/// the plugin, and null would be a wrong answer. The daemon's log says where it was.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    records: &'a Records,
    index: usize,
    ordinal: u32,
}

impl<'a> Record<'a> {
    /// The key, or `None` for null. Needs [`Column::Key`].
    #[track_caller]
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.check(Columns::KEY);
        self.records.range(&self.records.batch.keys, self.index)
    }

    /// The value, or `None` for null (a tombstone). Needs [`Column::Value`].
    #[track_caller]
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.check(Columns::VALUE);
        self.records.range(&self.records.batch.values, self.index)
    }

    /// The headers, in order, duplicates included. Needs [`Column::Headers`].
    #[track_caller]
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'a>> + use<'a> {
        self.check(Columns::HEADERS);
        let records = self.records;
        let ends = &records.batch.header_ends;
        let start = if self.index == 0 { 0 } else { ends[self.index - 1] };
        let ranges = &records.batch.headers[4 * start as usize..4 * ends[self.index] as usize];
        ranges.chunks_exact(4).map(|range| Header {
            name: records.bytes(range[0], range[1]).unwrap_or_default(),
            value: records.bytes(range[2], range[3]),
        })
    }

    /// The last header with this name. Needs [`Column::Headers`].
    #[track_caller]
    pub fn header(&self, name: &[u8]) -> Option<Header<'a>> {
        self.headers().filter(|header| header.name == name).last()
    }

    /// Milliseconds since 1970-01-01 UTC. This is a plugin's only clock. Needs [`Column::Timestamp`].
    #[track_caller]
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.check(Columns::TIMESTAMP);
        self.records.batch.timestamps[self.index]
    }

    /// The offset in the source partition. Needs [`Column::Offset`].
    #[track_caller]
    #[inline]
    pub fn offset(&self) -> i64 {
        self.check(Columns::OFFSET);
        self.records.batch.offsets[self.index]
    }

    /// The record's place among the records that an earlier stage split from the same source record, from 0. A record
    /// that was not split has 0. Needs [`Column::Offset`].
    #[track_caller]
    #[inline]
    pub fn ordinal(&self) -> u32 {
        self.check(Columns::OFFSET);
        self.ordinal
    }

    /// The source topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        &self.records.batch.topic
    }

    /// The source partition.
    #[inline]
    pub fn partition(&self) -> u32 {
        self.records.batch.partition
    }

    /// A number that looks random, and is always the same for the same stage, topic, partition, offset and ordinal. Where
    /// one is not enough, seed a generator with it. Needs [`Column::Offset`].
    #[track_caller]
    pub fn random(&self) -> u64 {
        random::of_record(self.records.seed, self.offset(), self.ordinal)
    }

    /// The index in the batch.
    pub(crate) fn index(&self) -> u32 {
        self.index as u32
    }

    #[track_caller]
    #[inline]
    fn check(&self, column: Columns) {
        assert!(self.records.needs.contains(column), "this column is not in the plugin's NEEDS: {column:?}");
    }
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name: any bytes.
    pub name: &'a [u8],
    /// The value: any bytes, or null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header with a value that is not null.
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self { name, value: Some(value) }
    }
}

/// Why a plugin cannot handle a record. The stage's `on_error` says what becomes of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// A short, stable word, for example `not-json`. It becomes a metric label, so there should be few of them.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
}

impl Reject {
    /// A reject with a code and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The contract's reject of the record `index`.
    pub(crate) fn at(self, index: u32) -> crate::bindings::types::Reject {
        crate::bindings::types::Reject { index, code: self.code.to_owned(), message: self.message }
    }
}
