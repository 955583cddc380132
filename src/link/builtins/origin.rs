//! Where records were first written: what keeps them from going in a circle.

use crate::model::batch::HeaderSpan;
use crate::model::{Batch, ORIGIN_HEADER, OriginSpec, RecordRef, Span};

/// Leaves out what has come from the target, and says of the rest where it was first written.
#[derive(Debug)]
pub(super) struct Origin {
    spec: OriginSpec,
}

impl Origin {
    pub(super) fn new(spec: &OriginSpec) -> Self {
        Self { spec: spec.clone() }
    }

    /// Drop the records that were first written to the target. How many.
    pub(super) fn leave_out(&self, batch: &mut Batch) -> u64 {
        if batch.headers.is_empty() {
            return 0;
        }
        let from_there =
            |record: RecordRef<'_>| origin(record).is_some_and(|from| from == self.spec.leave_out.as_bytes());
        let keep: Vec<u8> = batch.records().map(|record| u8::from(!from_there(record))).collect();
        batch.retain(&keep);
        (keep.len() - batch.len()) as u64
    }

    /// Put the header behind the others of each record that has none. Its bytes are there once for a batch.
    pub(super) fn mark(&self, batch: &mut Batch) {
        let Some(mark) = &self.spec.mark else { return };
        if batch.records().all(|record| origin(record).is_some()) {
            return;
        }
        batch.compact_if_sparse();
        let base = batch.arena.len() as u32;
        let name = Span { start: base, len: ORIGIN_HEADER.len() as u32 };
        let header = HeaderSpan { name, value: Span { start: base + name.len, len: mark.len() as u32 } };
        let mut headers = Vec::with_capacity(batch.headers.len() + batch.len());
        let mut header_ends = Vec::with_capacity(batch.len());
        for (index, record) in batch.records().enumerate() {
            headers.extend_from_slice(batch.header_spans(index));
            headers.extend(origin(record).is_none().then_some(header));
            header_ends.push(headers.len() as u32);
        }
        batch.replace_headers(headers, header_ends, [ORIGIN_HEADER.as_bytes(), mark.as_bytes()].concat().as_slice());
    }
}

/// The first one counts: who adds another one behind it does not take the record away from where it was written.
fn origin(record: RecordRef<'_>) -> Option<&[u8]> {
    let header = record.headers().find(|header| header.name == ORIGIN_HEADER.as_bytes())?;
    Some(header.value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, HeaderRef};

    fn header(value: Option<&[u8]>) -> HeaderRef<'_> {
        HeaderRef { name: ORIGIN_HEADER.as_bytes(), value }
    }

    fn origins(batch: &Batch) -> Vec<Option<&[u8]>> {
        batch.records().map(origin).collect()
    }

    /// One record for each origin, none included.
    fn batch(origins: &[Option<&str>]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, origin) in (0..).zip(origins) {
            let other = HeaderRef { name: b"tag", value: Some(b"x") };
            let headers = [Some(other), origin.map(|origin| header(Some(origin.as_bytes())))];
            builder.push(offset, 0, None, Some(b"v"), headers.into_iter().flatten());
        }
        builder.finish("orders", 0)
    }

    #[test]
    fn what_comes_from_the_target_is_left_out_and_the_rest_keeps_or_gets_its_origin() {
        let spec = OriginSpec { leave_out: "west".to_owned(), mark: Some("east".to_owned()) };
        let origin = Origin::new(&spec);
        let mut records = batch(&[None, Some("west"), Some("north"), None, Some("")]);
        let next_offset = records.next_offset;
        assert_eq!(origin.leave_out(&mut records), 1);
        origin.mark(&mut records);
        let expected: [&[u8]; 4] = [b"east", b"north", b"east", b""];
        assert_eq!(origins(&records), expected.map(Some));
        assert_eq!(records.next_offset, next_offset);
        assert_eq!(records.records().map(|record| record.headers().count()).collect::<Vec<_>>(), [2; 4]);
        assert!(records.records().all(|record| record.last_header(b"tag").is_some()));
    }

    #[test]
    fn what_has_no_headers_is_marked_too_and_an_unmarked_link_adds_nothing() {
        let mut builder = BatchBuilder::new();
        builder.push(7, 0, Some(b"k"), None, std::iter::empty());
        let mut records = builder.finish("orders", 0);
        let spec = |mark: Option<&str>| OriginSpec { leave_out: "west".to_owned(), mark: mark.map(str::to_owned) };
        let unmarked = Origin::new(&spec(None));
        assert_eq!(unmarked.leave_out(&mut records), 0);
        unmarked.mark(&mut records);
        assert_eq!(origins(&records), [None]);
        Origin::new(&spec(Some("east"))).mark(&mut records);
        assert_eq!(origins(&records), [Some(&b"east"[..])]);
        let mut none = BatchBuilder::new().finish("orders", 0);
        Origin::new(&spec(Some("east"))).mark(&mut none);
        assert_eq!(none.len(), 0);
    }

    #[test]
    fn the_first_origin_counts() {
        let mut builder = BatchBuilder::new();
        builder.push(0, 0, None, None, [header(Some(b"west")), header(Some(b"east"))]);
        builder.push(1, 0, None, None, [header(None)]);
        let mut records = builder.finish("orders", 0);
        let origin = Origin::new(&OriginSpec { leave_out: "west".to_owned(), mark: Some("north".to_owned()) });
        assert_eq!(origin.leave_out(&mut records), 1);
        origin.mark(&mut records);
        assert_eq!(origins(&records), [Some(&b""[..])]);
    }
}
