//! What a transform makes.

use crate::bindings::types;
use crate::record::{Header, NULL};
use crate::transform::Route;

/// A length or a count that stands for "keep what the input has".
pub(crate) const KEEP: u32 = u32::MAX - 1;

/// A timestamp that stands for "keep what the input has".
pub(crate) const KEEP_TIMESTAMP: i64 = i64::MIN;

/// The outputs of a batch.
///
/// Columns that no output has set stay empty, so an untouched part of a record costs nothing and never comes
/// back to the host.
#[derive(Debug, Default)]
pub struct Outputs {
    input: u32,
    sources: Vec<u32>,
    arena: Vec<u8>,
    keys: Vec<[u32; 2]>,
    values: Vec<[u32; 2]>,
    header_counts: Vec<u32>,
    headers: Vec<[u32; 4]>,
    timestamps: Vec<i64>,
    routes: Vec<u32>,
    partition_keys: Vec<[u32; 2]>,
}

/// How much there was before an input.
pub(crate) struct Mark {
    outputs: usize,
    arena: usize,
    headers: usize,
}

impl Outputs {
    /// Add an output that is like the input: same key, value, headers, timestamp, topic and partition. Change it with what
    /// this answers. A record for which nothing is emitted is dropped.
    pub fn emit(&mut self) -> Output<'_> {
        self.sources.push(self.input);
        Output { outputs: self }
    }

    /// Room for `outputs` outputs.
    pub(crate) fn with_capacity(outputs: usize) -> Self {
        Self { sources: Vec::with_capacity(outputs), ..Self::default() }
    }

    /// What is emitted from here on comes from the input `index`.
    pub(crate) fn begin(&mut self, index: u32) -> Mark {
        self.input = index;
        Mark { outputs: self.sources.len(), arena: self.arena.len(), headers: self.headers.len() }
    }

    /// Forget what was emitted since `mark`.
    pub(crate) fn take_back(&mut self, mark: &Mark) {
        self.sources.truncate(mark.outputs);
        self.arena.truncate(mark.arena);
        self.keys.truncate(mark.outputs);
        self.values.truncate(mark.outputs);
        self.header_counts.truncate(mark.outputs);
        self.headers.truncate(mark.headers);
        self.timestamps.truncate(mark.outputs);
        self.routes.truncate(mark.outputs);
        self.partition_keys.truncate(mark.outputs);
    }

    /// The contract's outputs.
    pub(crate) fn finish(mut self, rejects: Vec<types::Reject>) -> types::Outputs {
        let count = self.sources.len();
        fill(&mut self.keys, count, [0, KEEP]);
        fill(&mut self.values, count, [0, KEEP]);
        fill(&mut self.header_counts, count, KEEP);
        fill(&mut self.timestamps, count, KEEP_TIMESTAMP);
        fill(&mut self.routes, count, 0);
        fill(&mut self.partition_keys, count, [0, NULL]);
        types::Outputs {
            sources: self.sources,
            arena: self.arena,
            keys: self.keys.into_flattened(),
            values: self.values.into_flattened(),
            header_counts: self.header_counts,
            headers: self.headers.into_flattened(),
            timestamps: self.timestamps,
            routes: self.routes,
            partition_keys: self.partition_keys.into_flattened(),
            rejects,
        }
    }

    /// Copy bytes into the arena. In 32-bit memory every length and start fits a `u32`.
    fn store(&mut self, bytes: Option<&[u8]>) -> [u32; 2] {
        let Some(bytes) = bytes else { return [0, NULL] };
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        [start, bytes.len() as u32]
    }
}

/// Give a column that is not empty an entry for each output.
fn fill<T: Clone>(column: &mut Vec<T>, count: usize, keep: T) {
    if !column.is_empty() {
        column.resize(count, keep);
    }
}

/// Set the entry of the last output. Entries before it that nobody set are `keep`.
fn set<T: Clone>(column: &mut Vec<T>, count: usize, keep: T, entry: T) {
    column.resize(count - 1, keep);
    column.push(entry);
}

/// One output of a transform, which can still be changed. What is set twice has the second value.
#[derive(Debug)]
pub struct Output<'a> {
    outputs: &'a mut Outputs,
}

impl Output<'_> {
    /// Set the key; `None` is null.
    pub fn key(&mut self, key: Option<&[u8]>) -> &mut Self {
        let range = self.outputs.store(key);
        set(&mut self.outputs.keys, self.outputs.sources.len(), [0, KEEP], range);
        self
    }

    /// Set the value; `None` is null (a tombstone).
    pub fn value(&mut self, value: Option<&[u8]>) -> &mut Self {
        let range = self.outputs.store(value);
        set(&mut self.outputs.values, self.outputs.sources.len(), [0, KEEP], range);
        self
    }

    /// Set all headers. To add one, chain it to those of the record.
    pub fn headers<'h>(&mut self, headers: impl IntoIterator<Item = Header<'h>>) -> &mut Self {
        let outputs = &mut *self.outputs;
        let count = outputs.sources.len();
        if let Some(before) = outputs.header_counts.get(count - 1).filter(|before| **before != KEEP) {
            outputs.headers.truncate(outputs.headers.len() - *before as usize);
        }
        let start = outputs.headers.len();
        for header in headers {
            let [name_start, name_len] = outputs.store(Some(header.name));
            let [value_start, value_len] = outputs.store(header.value);
            outputs.headers.push([name_start, name_len, value_start, value_len]);
        }
        let own = (outputs.headers.len() - start) as u32;
        set(&mut outputs.header_counts, count, KEEP, own);
        self
    }

    /// Set the timestamp, in milliseconds since 1970-01-01 UTC. The smallest `i64` cannot be set: it means "as it was".
    pub fn timestamp(&mut self, timestamp: i64) -> &mut Self {
        set(&mut self.outputs.timestamps, self.outputs.sources.len(), KEEP_TIMESTAMP, timestamp);
        self
    }

    /// Send the record to another topic.
    pub fn route(&mut self, route: Route) -> &mut Self {
        set(&mut self.outputs.routes, self.outputs.sources.len(), 0, route.0);
        self
    }

    /// Let Kafka's default partitioner (murmur2) pick the partition for this key. The record's own key stays as it is.
    pub fn partition_key(&mut self, key: &[u8]) -> &mut Self {
        let range = self.outputs.store(Some(key));
        set(&mut self.outputs.partition_keys, self.outputs.sources.len(), [0, NULL], range);
        self
    }
}
