//! Which clusters records have come through: what keeps them from going in a circle.
//!
//! Each link adds its source, and leaves out what has come through its target. Where a record was first written would not be enough: one that comes in from
//! outside would go round for ever between two clusters that are not its own.

use super::returned::was_brought_by;
use crate::model::{Batch, Provenance, RecordRef, VIA_HEADER};

/// Leaves out what has come through the target. What the rest has come through is written last, by the seal.
#[derive(Debug)]
pub(super) struct Via {
    spec: Provenance,
}

impl Via {
    pub(super) fn new(spec: &Provenance) -> Self {
        Self { spec: spec.clone() }
    }

    /// Drop the records that have come through the target, and those that this failback has brought there before. How many.
    pub(super) fn leave_out(&self, batch: &mut Batch) -> u64 {
        let is_there = |record: RecordRef<'_>| {
            has_come_through(record, &self.spec.leave_out)
                || self.returned().is_some_and(|failover| was_brought_by(record, |it| it == failover.as_bytes()))
        };
        drop_those(batch, is_there)
    }

    /// The cluster that each record has come through from now on.
    pub(super) fn mark(&self) -> Option<&str> {
        self.spec.mark.as_deref()
    }

    /// The failover whose failback brings each record back.
    pub(super) fn returned(&self) -> Option<&str> {
        self.spec.returned.as_deref()
    }
}

/// Whether a record has come through a cluster.
pub(in crate::link) fn has_come_through(record: RecordRef<'_>, cluster: &str) -> bool {
    let names = |name: &[u8]| name == VIA_HEADER.as_bytes();
    record.headers().any(|header| names(header.name) && header.value == Some(cluster.as_bytes()))
}

/// Drop these records. How many.
pub(super) fn drop_those(batch: &mut Batch, is_dropped: impl Fn(RecordRef<'_>) -> bool) -> u64 {
    // What tells them is in headers.
    if batch.headers.is_empty() {
        return 0;
    }
    let keep: Vec<u8> = batch.records().map(|record| u8::from(!is_dropped(record))).collect();
    batch.retain(&keep);
    (keep.len() - batch.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::super::seal::Kept;
    use super::*;
    use crate::model::{BatchBuilder, HeaderRef};

    fn seal(via: &Via, batch: &mut Batch) {
        let mark = via.mark().map(|mark| HeaderRef { name: VIA_HEADER.as_bytes(), value: Some(mark.as_bytes()) });
        Kept::of(&batch.clone()).seal(mark.as_slice(), batch);
    }

    fn via(leave_out: &str, mark: Option<&str>) -> Via {
        Via::new(&Provenance { leave_out: leave_out.to_owned(), mark: mark.map(str::to_owned), returned: None })
    }

    /// The clusters that each record has come through.
    fn ways(batch: &Batch) -> Vec<Vec<String>> {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or(b"null")).into_owned();
        let way = |record: RecordRef<'_>| {
            let headers = record.headers().filter(|header| header.name == VIA_HEADER.as_bytes());
            headers.map(|header| text(header.value)).collect()
        };
        batch.records().map(way).collect()
    }

    /// Records that have come through these clusters.
    fn batch(ways: &[&[&str]]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, way) in (0..).zip(ways) {
            let tag = HeaderRef { name: b"tag", value: Some(b"x") };
            let headers = way.iter().map(|via| HeaderRef { name: VIA_HEADER.as_bytes(), value: Some(via.as_bytes()) });
            builder.push(offset, 0, None, Some(b"v"), headers.chain([tag]));
        }
        builder.finish("orders", 0)
    }

    #[test]
    fn what_was_there_is_left_out_and_the_rest_has_come_through_here() {
        let mut records = batch(&[&[], &["west"], &["north"], &["north", "west"], &["east"], &["east", "north"]]);
        let next_offset = records.next_offset;
        let via = via("west", Some("east"));
        assert_eq!(via.leave_out(&mut records), 2);
        seal(&via, &mut records);
        assert_eq!(ways(&records), [vec!["east"], vec!["north", "east"], vec!["east"], vec!["east", "north"]]);
        assert_eq!(records.next_offset, next_offset);
        assert!(records.records().all(|record| record.last_header(b"tag").is_some()));
    }

    #[test]
    fn what_has_no_headers_is_marked_too_and_an_unmarked_link_adds_nothing() {
        let mut builder = BatchBuilder::new();
        builder.push(7, 0, Some(b"k"), None, std::iter::empty());
        let mut records = builder.finish("orders", 0);
        assert_eq!(via("west", None).leave_out(&mut records), 0);
        seal(&via("west", None), &mut records);
        assert_eq!(ways(&records), [Vec::<String>::new()]);
        seal(&via("west", Some("east")), &mut records);
        assert_eq!(ways(&records), [vec!["east"]]);
        let mut none = BatchBuilder::new().finish("orders", 0);
        seal(&via("west", Some("east")), &mut none);
        assert_eq!(none.len(), 0);
    }

    /// All ways through a net of links, both ways between all clusters: none is endless, and each cluster gets each record.
    #[test]
    fn nothing_goes_round_in_any_net() {
        let clusters = ["a", "b", "c", "d"];
        let mut seen = std::collections::BTreeSet::new();
        let mut under_way = vec![("a", batch(&[&[]]))];
        let mut steps = 0;
        while let Some((at, records)) = under_way.pop() {
            seen.insert(at);
            for to in clusters.into_iter().filter(|to| *to != at) {
                steps += 1;
                assert!(steps < 1000, "it goes round");
                let (mut copy, link) = (records.clone(), via(to, Some(at)));
                link.leave_out(&mut copy);
                seal(&link, &mut copy);
                if !copy.is_empty() {
                    under_way.push((to, copy));
                }
            }
        }
        assert_eq!(seen.len(), clusters.len());
    }
}
