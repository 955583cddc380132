//! The last thing that happens to what a link writes: headers with reserved names become what they
//! were in the source record, and the marks of the link join them.
//!
//! Whatever works on a record in between, a plugin or a transform, can neither take a mark away nor
//! forge one: nothing that it leaves under such names is believed. An output belongs to the source
//! record of its offset, so what it gets depends on no other record of the batch.

use bytes::Bytes;

use crate::model::batch::HeaderSpan;
use crate::model::{Batch, HeaderRef, RETURNED_HEADER, RecordRef, Span, VIA_HEADER, is_reserved_header};

/// The most marks that a record keeps, and the most headers with other reserved names. Each output of a
/// record gets them again, outside of all limits of plugins, and no net of clusters needs as many.
const KEPT_MAX: usize = 256;

/// Whether a header ends circles. Of those the last ones count: a link puts its own behind all others.
fn is_mark(name: &[u8]) -> bool {
    [VIA_HEADER, RETURNED_HEADER].iter().any(|mark| mark.as_bytes() == name)
}

/// The headers with reserved names of a batch, as it was read.
#[derive(Debug, Default)]
pub(in crate::link) struct Kept {
    arena: Bytes,
    /// The records that have any, by offset.
    records: Vec<(i64, Vec<HeaderSpan>)>,
}

impl Kept {
    /// Those of a batch whose offsets are all different.
    pub(in crate::link) fn of(batch: &Batch) -> Self {
        let mut records = Vec::new();
        if !batch.headers.is_empty() {
            for (index, offset) in batch.offsets.iter().enumerate() {
                let kept = kept_of(&batch.arena, batch.header_spans(index));
                if !kept.is_empty() {
                    records.push((*offset, kept));
                }
            }
        }
        Self { arena: batch.arena.clone(), records }
    }

    fn spans(&self, offset: i64) -> &[HeaderSpan] {
        let at = self.records.binary_search_by_key(&offset, |(offset, _)| *offset);
        at.map_or(&[], |at| &self.records[at].1)
    }

    fn headers(&self, offset: i64) -> impl Iterator<Item = HeaderRef<'_>> {
        let value = |span: Span| span.get(&self.arena);
        self.spans(offset)
            .iter()
            .map(move |header| HeaderRef { name: value(header.name).unwrap_or_default(), value: value(header.value) })
    }

    /// Whether a record has what it had in the source.
    fn is_intact(&self, record: RecordRef<'_>) -> bool {
        record.headers().filter(|header| is_reserved_header(header.name)).eq(self.headers(record.offset()))
    }

    /// Those of these marks that the source record at an offset lacks.
    fn lacks<'m>(&self, offset: i64, marks: &'m [HeaderRef<'m>]) -> impl Iterator<Item = usize> {
        let lacks = move |mark: &HeaderRef<'m>| !self.headers(offset).any(|header| header == *mark);
        marks.iter().enumerate().filter(move |(_, mark)| lacks(mark)).map(|(index, _)| index)
    }

    /// Give the records of a batch, which may be made of those that were read in any way, the
    /// headers with reserved names that they had, and behind all others those of `marks` that they
    /// lack.
    pub(in crate::link) fn seal(&self, marks: &[HeaderRef<'_>], batch: &mut Batch) {
        let has_all = |offset: i64| self.lacks(offset, marks).next().is_none();
        if batch.records().all(|record| self.is_intact(record) && has_all(record.offset())) {
            return;
        }
        batch.compact_if_sparse();
        let mut more = More { base: batch.arena.len(), bytes: Vec::new() };
        // The bytes of the marks are there once for a batch, those of a source record once for all
        // that was made of it.
        let spans: Vec<HeaderSpan> = marks.iter().map(|mark| more.header(*mark)).collect();
        let mut restored: (Option<i64>, Vec<HeaderSpan>) = (None, Vec::new());
        let mut headers = Vec::with_capacity(batch.headers.len() + batch.len() * marks.len());
        let mut header_ends = Vec::with_capacity(batch.len());
        for (index, record) in batch.records().enumerate() {
            let (offset, own) = (record.offset(), batch.header_spans(index));
            if self.is_intact(record) {
                headers.extend_from_slice(own);
            } else {
                let is_free = |header: &&HeaderSpan| !header.name.get(&batch.arena).is_some_and(is_reserved_header);
                headers.extend(own.iter().filter(is_free).copied());
                if restored.0 != Some(offset) {
                    restored = (Some(offset), self.headers(offset).map(|header| more.header(header)).collect());
                }
                headers.extend_from_slice(&restored.1);
            }
            headers.extend(self.lacks(offset, marks).map(|mark| spans[mark]));
            header_ends.push(headers.len() as u32);
        }
        batch.replace_headers(headers, header_ends, &more.bytes);
    }
}

/// The headers of a record that it keeps, in their order: its last marks, and the first of the others with reserved names.
fn kept_of(arena: &[u8], headers: &[HeaderSpan]) -> Vec<HeaderSpan> {
    let name = |header: &HeaderSpan| header.name.get(arena).filter(|name| is_reserved_header(name));
    let reserved = || headers.iter().filter_map(|header| Some((header, is_mark(name(header)?))));
    let marks = reserved().filter(|(_, is_mark)| *is_mark).count();
    let (mut marks_to_skip, mut others) = (marks.saturating_sub(KEPT_MAX), 0);
    let mut is_kept = |is_mark: bool| match is_mark {
        true if marks_to_skip > 0 => {
            marks_to_skip -= 1;
            false
        }
        true => true,
        false => {
            others += 1;
            others <= KEPT_MAX
        }
    };
    reserved().filter(|(_, is_mark)| is_kept(*is_mark)).map(|(header, _)| *header).collect()
}

/// What is put behind the arena of a batch.
struct More {
    /// The bytes of the arena before.
    base: usize,
    bytes: Vec<u8>,
}

impl More {
    fn header(&mut self, header: HeaderRef<'_>) -> HeaderSpan {
        HeaderSpan { name: self.put(header.name), value: header.value.map_or(Span::NULL, |value| self.put(value)) }
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.base + self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span { start: start as u32, len: bytes.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::BatchBuilder;

    /// A name, and a value or null.
    type Header = (&'static str, Option<&'static str>);

    fn batch(records: &[(i64, Vec<Header>)]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, headers) in records {
            let header =
                |(name, value): &'_ Header| HeaderRef { name: name.as_bytes(), value: value.map(str::as_bytes) };
            builder.push(*offset, 0, None, Some(b"v"), headers.iter().map(header));
        }
        builder.finish("orders", 0)
    }

    fn headers(batch: &Batch) -> Vec<Vec<(String, Option<String>)>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |header: HeaderRef<'_>| (text(header.name), header.value.map(text));
        batch.records().map(|record| record.headers().map(header).collect()).collect()
    }

    fn marks(marks: &[(&'static str, &'static str)]) -> Vec<HeaderRef<'static>> {
        let mark = |(name, value): &(&'static str, &'static str)| HeaderRef {
            name: name.as_bytes(),
            value: Some(value.as_bytes()),
        };
        marks.iter().map(mark).collect()
    }

    fn some_headers() -> impl Strategy<Value = Vec<Header>> {
        let name = prop_oneof![
            Just(VIA_HEADER),
            Just(RETURNED_HEADER),
            Just("tidegate.dlq.link"),
            Just("tidegate."),
            Just("tag"),
            Just("tidegate"),
            Just("")
        ];
        let value = prop_oneof![Just(Some("east")), Just(Some("west")), Just(Some("")), Just(None)];
        prop::collection::vec((name, value), 0..5)
    }

    /// Of one small record a stage makes thousands.
    #[test]
    fn the_headers_that_outputs_get_again_are_bounded() {
        let read = batch(&[(7, vec![("tidegate.x", None); KEPT_MAX + 50]), (8, vec![("tidegate.x", None); 3])]);
        let mut made = batch(&[(7, vec![]), (7, vec![("tag", Some("a"))]), (8, vec![])]);
        Kept::of(&read).seal(&marks(&[(VIA_HEADER, "east")]), &mut made);
        let counts: Vec<usize> = made.records().map(|record| record.headers().count()).collect();
        assert_eq!(counts, [KEPT_MAX + 1, KEPT_MAX + 2, 4]);
    }

    /// A ring of links, and a record that brings more headers than are kept: it is known when it comes back.
    #[test]
    fn what_ends_a_circle_is_kept_whatever_else_a_record_brings() {
        for brought in ["tidegate.x", VIA_HEADER, RETURNED_HEADER] {
            let mut record = batch(&[(0, vec![(brought, Some("foreign")); 2 * KEPT_MAX])]);
            for cluster in ["east", "north", "west"] {
                let read = record.clone();
                Kept::of(&read).seal(&marks(&[(VIA_HEADER, cluster)]), &mut record);
            }
            for cluster in ["east", "north", "west"] {
                let mark = (VIA_HEADER.to_owned(), Some(cluster.to_owned()));
                assert!(headers(&record)[0].contains(&mark), "{brought}: {cluster}");
            }
        }
    }

    proptest! {
        /// Whatever was made of records: what is reserved is what it was, the rest is what was
        /// made, and each mark is there once.
        #[test]
        fn nothing_that_is_made_of_a_record_changes_what_is_reserved(
            read in prop::collection::vec(some_headers(), 1..6),
            made in prop::collection::vec((0..6_i64, some_headers(), any::<bool>()), 0..12),
            marked in prop::sample::subsequence(vec![(VIA_HEADER, "east"), (RETURNED_HEADER, "east")], 0..=2),
        ) {
            let source: Vec<_> = (0..).zip(read.clone()).collect();
            let mut outputs: Vec<_> = made.into_iter().map(|(at, headers, keeps)| {
                let at = at.min(read.len() as i64 - 1);
                (at, if keeps { read[at as usize].clone() } else { headers })
            }).collect();
            outputs.sort_by_key(|(at, _)| *at);
            let mut sealed = batch(&outputs);
            Kept::of(&batch(&source)).seal(&marks(&marked), &mut sealed);
            for (now, (at, before)) in headers(&sealed).into_iter().zip(&outputs) {
                let owned = |(name, value): &Header| ((*name).to_owned(), value.map(str::to_owned));
                let split = |headers: Vec<(String, Option<String>)>| -> (Vec<_>, Vec<_>) {
                    headers.into_iter().partition(|(name, _)| name.starts_with("tidegate."))
                };
                let (mut reserved, _) = split(read[*at as usize].iter().map(owned).collect());
                let (_, free) = split(before.iter().map(owned).collect());
                for (name, value) in &marked {
                    let mark = owned(&(*name, Some(*value)));
                    if !reserved.contains(&mark) {
                        reserved.push(mark);
                    }
                }
                prop_assert_eq!(split(now), (reserved, free));
            }
        }
    }

    #[test]
    fn what_is_intact_stays_in_its_place() {
        let records = [(0, vec![("tidegate.via", Some("north")), ("tag", None)]), (1, vec![])];
        let read = batch(&records);
        let mut same = read.clone();
        Kept::of(&read).seal(&[], &mut same);
        assert_eq!((headers(&same), same.arena.len()), (headers(&read), read.arena.len()));
        Kept::of(&read).seal(&marks(&[(VIA_HEADER, "east"), (RETURNED_HEADER, "id")]), &mut same);
        let names: Vec<Vec<_>> =
            headers(&same).into_iter().map(|it| it.into_iter().map(|(name, _)| name).collect()).collect();
        assert_eq!(
            names,
            [
                vec!["tidegate.via", "tag", "tidegate.via", "tidegate.returned"],
                vec!["tidegate.via", "tidegate.returned"]
            ]
        );
    }
}
