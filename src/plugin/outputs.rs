//! What a transform answered: checked, then applied to the batch that it was given.
//!
//! The new arena is the transform's arena with the input's behind it: one bulk copy, after which everything that is kept
//! needs no copy of its own, only a shift of its span.

use std::sync::Arc;

use super::instance::Reject;
use crate::model::batch::HeaderSpan;
use crate::model::{Batch, Limits, Placement, Span};

/// In place of a length or a count: keep what the input has.
const KEEP: u32 = 0xffff_fffe;
/// In place of a timestamp: keep what the input has.
const KEEP_TIMESTAMP: i64 = i64::MIN;

/// The lists that a transform answers. Their meaning is in `wit/`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Outputs {
    pub sources: Vec<u32>,
    pub arena: Vec<u8>,
    pub keys: Vec<u32>,
    pub values: Vec<u32>,
    pub header_counts: Vec<u32>,
    pub headers: Vec<u32>,
    pub timestamps: Vec<i64>,
    pub routes: Vec<u32>,
    pub partition_keys: Vec<u32>,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It breaks the contract.
    Contract(String),
    /// It stands for more bytes than the limit.
    TooLarge,
    /// It has more outputs for one input than the limit.
    TooMany,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Contract(message)
    }
}

/// The batch that `outputs` makes of `input`, and how many of its records changed: those that differ from their input, are routed,
/// or are one of several.
///
/// Ranges may overlap, and a split repeats what it keeps, so a small answer can stand for much more: what the outputs take when each has
/// bytes of its own is bounded by `limits.output_bytes` beside the input's own size.
///
/// # Errors
/// What in the answer breaks the contract, or that it is too large.
pub fn apply(
    outputs: Outputs,
    input: &Batch,
    routes: &[Arc<str>],
    rejects: &[Reject],
    limits: &Limits,
) -> Result<(Batch, usize), Fault> {
    check_sources(&outputs.sources, input.len(), rejects)?;
    let of_one = outputs.sources.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
    if of_one.unwrap_or_default() as u64 > limits.records_per_input {
        return Err(Fault::TooMany);
    }
    let count = outputs.sources.len();
    check_len("timestamps", outputs.timestamps.len(), count)?;
    check_len("routes", outputs.routes.len(), count)?;
    let columns = Columns {
        keys: ranges("keys", &outputs.keys, count, outputs.arena.len())?,
        values: ranges("values", &outputs.values, count, outputs.arena.len())?,
        partition_keys: ranges("partition-keys", &outputs.partition_keys, count, outputs.arena.len())?,
        header_counts: &outputs.header_counts,
        headers: headers(&outputs, count)?,
        timestamps: &outputs.timestamps,
        routes: &outputs.routes,
    };
    if let Some(route) = columns.routes.iter().find(|route| **route as usize > routes.len()) {
        return Err(format!("a record is routed to topic {route}, and {} are declared", routes.len()).into());
    }
    if columns.expanded_bytes(&outputs.sources, input) > limits.output_bytes + input.payload_bytes() as u64 {
        return Err(Fault::TooLarge);
    }
    if outputs.arena.len() + input.arena.len() > u32::MAX as usize {
        return Err(Fault::TooLarge);
    }
    let shift = outputs.arena.len() as u32;
    let changed = count_changed(&outputs.sources, &columns);
    let batch = columns.gather(&outputs.sources, input, shift, routes);
    let mut arena = outputs.arena;
    arena.extend_from_slice(&input.arena);
    Ok((Batch { arena: arena.into(), ..batch }, changed))
}

/// The lists by type. Empty ones mean "keep, for all".
struct Columns<'a> {
    keys: &'a [Span],
    values: &'a [Span],
    partition_keys: &'a [Span],
    header_counts: &'a [u32],
    headers: &'a [HeaderSpan],
    timestamps: &'a [i64],
    routes: &'a [u32],
}

impl Columns<'_> {
    /// The bytes of all outputs, when none shares them with another.
    fn expanded_bytes(&self, sources: &[u32], input: &Batch) -> u64 {
        let length = |span: Span| if span.is_null() { 0 } else { u64::from(span.len) };
        let header = |header: &HeaderSpan| length(header.name) + length(header.value) + size_of::<HeaderSpan>() as u64;
        let chosen = |new: &[Span], old: Span, index: usize| match new.get(index) {
            Some(span) if span.len != KEEP => length(*span),
            _ => length(old),
        };
        let kept_headers = |index: usize, source: usize| match self.header_counts.get(index) {
            Some(count) if *count != KEEP => 0,
            _ => input.header_spans(source).iter().map(header).sum(),
        };
        let output = |(index, source): (usize, usize)| {
            chosen(self.keys, input.keys[source], index)
                + chosen(self.values, input.values[source], index)
                + chosen(self.partition_keys, input.placement(source).partition_key, index)
                + kept_headers(index, source)
        };
        let outputs = sources.iter().map(|source| *source as usize).enumerate().map(output).sum::<u64>();
        outputs + self.headers.iter().map(header).sum::<u64>()
    }

    fn gather(&self, sources: &[u32], input: &Batch, shift: u32, routes: &[Arc<str>]) -> Batch {
        let shifted = |span: Span| if span.is_null() { span } else { Span { start: span.start + shift, ..span } };
        let sources = || sources.iter().map(|source| *source as usize).enumerate();
        let pick = |new: &[Span], old: &[Span]| -> Vec<Span> {
            let choose = |(index, source): (usize, usize)| match new.get(index) {
                Some(span) if span.len != KEEP => *span,
                _ => shifted(old[source]),
            };
            sources().map(choose).collect()
        };
        let timestamp = |(index, source): (usize, usize)| match self.timestamps.get(index) {
            Some(timestamp) if *timestamp != KEEP_TIMESTAMP => *timestamp,
            _ => input.timestamps[source],
        };
        let (header_ends, headers) = self.gather_headers(sources(), input, shifted);
        let (placements, topics) = self.gather_placements(sources(), input, shifted, routes);
        Batch {
            topic: input.topic.clone(),
            partition: input.partition,
            arena: input.arena.clone(),
            keys: pick(self.keys, &input.keys),
            values: pick(self.values, &input.values),
            header_ends,
            headers,
            timestamps: sources().map(timestamp).collect(),
            offsets: sources().map(|(_, source)| input.offsets[source]).collect(),
            placements,
            topics,
            first_ordinal: 0,
            next_offset: input.next_offset,
        }
    }

    fn gather_headers(
        &self,
        sources: impl Iterator<Item = (usize, usize)>,
        input: &Batch,
        shifted: impl Fn(Span) -> Span,
    ) -> (Vec<u32>, Vec<HeaderSpan>) {
        let mut ends = Vec::with_capacity(sources.size_hint().0);
        let mut headers = Vec::with_capacity(input.headers.len() + self.headers.len());
        let mut next = 0;
        for (index, source) in sources {
            match self.header_counts.get(index) {
                Some(count) if *count != KEEP => {
                    let end = next + *count as usize;
                    headers.extend_from_slice(&self.headers[next..end]);
                    next = end;
                }
                _ => headers.extend(
                    input
                        .header_spans(source)
                        .iter()
                        .map(|header| HeaderSpan { name: shifted(header.name), value: shifted(header.value) }),
                ),
            }
            ends.push(headers.len() as u32);
        }
        (ends, headers)
    }

    fn gather_placements(
        &self,
        sources: impl Iterator<Item = (usize, usize)>,
        input: &Batch,
        shifted: impl Fn(Span) -> Span,
        routes: &[Arc<str>],
    ) -> (Vec<Placement>, Arc<[Arc<str>]>) {
        if self.routes.is_empty() && self.partition_keys.is_empty() && input.placements.is_empty() {
            return (Vec::new(), Arc::default());
        }
        // Topics of earlier stages keep their numbers, this stage's come behind them.
        let first = input.topics.len() as u32;
        let topics = input.topics.iter().chain(routes).cloned().collect();
        let place = |(index, source): (usize, usize)| {
            let before = input.placement(source);
            let route = self.routes.get(index).copied().unwrap_or(0);
            let partition_key = match self.partition_keys.get(index) {
                Some(span) if span.len != KEEP && !span.is_null() => *span,
                _ => shifted(before.partition_key),
            };
            Placement { topic: if route == 0 { before.topic } else { Some(first + route - 1) }, partition_key }
        };
        (sources.map(place).collect(), topics)
    }
}

fn count_changed(sources: &[u32], columns: &Columns<'_>) -> usize {
    let touched = |index: usize| {
        columns.keys.get(index).is_some_and(|span| span.len != KEEP)
            || columns.values.get(index).is_some_and(|span| span.len != KEEP)
            || columns.header_counts.get(index).is_some_and(|count| *count != KEEP)
            || columns.timestamps.get(index).is_some_and(|timestamp| *timestamp != KEEP_TIMESTAMP)
            || columns.routes.get(index).is_some_and(|route| *route != 0)
            || columns.partition_keys.get(index).is_some_and(|span| span.len < KEEP)
    };
    let sibling = |index: usize| {
        index > 0 && sources[index - 1] == sources[index] || sources.get(index + 1) == Some(&sources[index])
    };
    (0..sources.len()).filter(|index| touched(*index) || sibling(*index)).count()
}

fn check_sources(sources: &[u32], count: usize, rejects: &[Reject]) -> Result<(), String> {
    if sources.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err("the outputs are not in the order of their inputs".to_owned());
    }
    if sources.last().is_some_and(|last| *last as usize >= count) {
        return Err(format!("an output comes from record {}, and the batch has {count}", sources[sources.len() - 1]));
    }
    match rejects.iter().find(|reject| sources.binary_search(&(reject.index as u32)).is_ok()) {
        Some(reject) => Err(format!("record {} is rejected and has outputs", reject.index)),
        None => Ok(()),
    }
}

fn check_len(name: &str, len: usize, count: usize) -> Result<(), String> {
    if len == 0 || len == count {
        return Ok(());
    }
    Err(format!("{name} has {len} entries for {count} outputs"))
}

fn ranges<'a>(name: &str, list: &'a [u32], count: usize, arena_len: usize) -> Result<&'a [Span], String> {
    let spans: &[Span] =
        bytemuck::try_cast_slice(list).map_err(|_| format!("{name} does not hold pairs of numbers"))?;
    check_len(name, spans.len(), count)?;
    match spans.iter().position(|span| span.len != KEEP && !span.fits(arena_len)) {
        Some(index) => Err(format!("{name}: the range of output {index} is outside of the arena of {arena_len} bytes")),
        None => Ok(spans),
    }
}

fn headers(outputs: &Outputs, count: usize) -> Result<&[HeaderSpan], String> {
    let headers: &[HeaderSpan] =
        bytemuck::try_cast_slice(&outputs.headers).map_err(|_| "headers does not hold four numbers each".to_owned())?;
    check_len("header-counts", outputs.header_counts.len(), count)?;
    let own = outputs.header_counts.iter().filter(|count| **count != KEEP).map(|count| u64::from(*count));
    if own.sum::<u64>() != headers.len() as u64 {
        return Err("header-counts and headers do not agree".to_owned());
    }
    let fits = |span: Span| span.fits(outputs.arena.len());
    if headers.iter().any(|header| header.name.is_null() || !fits(header.name) || !fits(header.value)) {
        return Err("a header's name is null, or its range is outside of the arena".to_owned());
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits { output_bytes: 1000, records_per_input: 100, ..Limits::default() }
    }
    use crate::model::{BatchBuilder, HeaderRef};

    fn input() -> Batch {
        let mut builder = BatchBuilder::new();
        for index in 0..3 {
            let value = format!("v{index}");
            let header = HeaderRef { name: b"h", value: Some(b"x") };
            builder.push(index, 100 + index, Some(b"k"), Some(value.as_bytes()), [header]);
        }
        builder.finish("orders", 1)
    }

    fn reject(index: usize) -> Reject {
        Reject { index, offset: 0, code: String::new(), message: String::new() }
    }

    #[test]
    fn keeps_sets_drops_splits_and_routes() {
        let outputs = Outputs {
            sources: vec![0, 2, 2],
            arena: b"newname".to_vec(),
            keys: vec![0, KEEP, 0, u32::MAX, 0, 3],
            values: vec![0, KEEP, 0, 3, 0, u32::MAX],
            header_counts: vec![KEEP, 0, 1],
            headers: vec![3, 4, 0, u32::MAX],
            timestamps: vec![KEEP_TIMESTAMP, 7, KEEP_TIMESTAMP],
            routes: vec![0, 1, 2],
            partition_keys: vec![0, u32::MAX, 0, KEEP, 0, 3],
        };
        let (batch, changed) =
            apply(outputs, &input(), &["a".into(), "b".into()], &[reject(1)], &limits()).expect("valid");
        let records: Vec<_> = batch
            .records()
            .map(|record| {
                let headers: Vec<_> = record.headers().map(|header| (header.name, header.value)).collect();
                (record.offset(), record.key(), record.value(), headers, record.timestamp())
            })
            .collect();
        assert_eq!(
            records,
            [
                (0, Some(&b"k"[..]), Some(&b"v0"[..]), vec![(&b"h"[..], Some(&b"x"[..]))], 100),
                (2, None, Some(b"new"), vec![], 7),
                (2, Some(b"new"), None, vec![(b"name", None)], 102),
            ]
        );
        let topics: Vec<_> = (0..3).map(|index| batch.placement(index).topic).collect();
        assert_eq!(topics, [None, Some(0), Some(1)]);
        assert_eq!(batch.placement(2).partition_key.get(&batch.arena), Some(&b"new"[..]));
        assert_eq!(changed, 2);
    }

    #[test]
    fn empty_lists_keep_everything() {
        let outputs = Outputs { sources: vec![0, 1, 2], ..Outputs::default() };
        let (batch, changed) = apply(outputs, &input(), &[], &[], &limits()).expect("valid");
        assert_eq!(batch.record(2).value(), Some(&b"v2"[..]));
        assert_eq!((batch.len(), changed, batch.placements.len()), (3, 0, 0));
    }

    #[test]
    fn what_breaks_the_contract_is_refused() {
        let good = || Outputs { sources: vec![0, 1], arena: b"ab".to_vec(), ..Outputs::default() };
        for (name, outputs) in [
            ("order", Outputs { sources: vec![1, 0], ..good() }),
            ("source", Outputs { sources: vec![0, 3], ..good() }),
            ("rejected", Outputs { sources: vec![1, 2], ..good() }),
            ("odd", Outputs { keys: vec![0, 1, 2], ..good() }),
            ("count", Outputs { keys: vec![0, 1], ..good() }),
            ("range", Outputs { values: vec![0, 1, 1, 2], ..good() }),
            ("wraps", Outputs { values: vec![0, 1, u32::MAX, 2], ..good() }),
            ("timestamps", Outputs { timestamps: vec![1], ..good() }),
            ("route", Outputs { routes: vec![0, 2], ..good() }),
            ("header counts", Outputs { header_counts: vec![1, 1], headers: vec![0, 1, 0, 1], ..good() }),
            ("header name", Outputs { header_counts: vec![1, 0], headers: vec![0, u32::MAX, 0, 1], ..good() }),
            ("header range", Outputs { header_counts: vec![1, 0], headers: vec![0, 1, 2, 1], ..good() }),
            ("partition key", Outputs { partition_keys: vec![0, 3, 0, 0], ..good() }),
        ] {
            assert!(
                matches!(apply(outputs, &input(), &["a".into()], &[reject(2)], &limits()), Err(Fault::Contract(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_small_answer_that_stands_for_much_is_refused() {
        let wide = || Outputs { sources: vec![0; 100], arena: vec![b'x'; 20], ..Outputs::default() };
        for (name, outputs) in [
            ("kept values, headers and keys", wide()),
            ("the same new value", Outputs { values: [0, 20].repeat(100), ..wide() }),
            ("the same partition key", Outputs { partition_keys: [0, 20].repeat(100), ..wide() }),
            ("the same header", Outputs { header_counts: vec![1; 100], headers: [0, 20, 0, 20].repeat(100), ..wide() }),
        ] {
            let refused = apply(outputs, &input(), &[], &[], &Limits { output_bytes: 200, ..limits() });
            assert_eq!(refused.err(), Some(Fault::TooLarge), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_refused_or_sound(
            sources in prop::collection::vec(0..5_u32, 0..5),
            arena in prop::collection::vec(any::<u8>(), 0..8),
            lists in prop::collection::vec(prop::collection::vec(prop_oneof![0..9_u32, Just(KEEP), Just(u32::MAX)], 0..12), 6),
        ) {
            let mut lists = lists.into_iter();
            let mut next = || lists.next().unwrap_or_default();
            let outputs = Outputs {
                sources, arena, keys: next(), values: next(), header_counts: next(), headers: next(),
                timestamps: vec![], routes: next(), partition_keys: next(),
            };
            if let Ok((batch, _)) = apply(outputs, &input(), &["a".into()], &[], &limits()) {
                for (index, record) in batch.records().enumerate() {
                    let _ = (record.key(), record.value(), record.headers().count());
                    let _ = batch.placement(index).partition_key.get(&batch.arena);
                }
            }
        }
    }
}
