//! What failbacks of the link have brought from its target to its source: it is at the target, and is not copied once more.
//!
//! A failback puts the id of its failover on what it brings. The id is random, so it belongs to one
//! link and one target. Which clusters a record has come through would say less: other links of
//! the same two clusters bring records on the same way, and those are for this link to copy.

use std::collections::{BTreeMap, BTreeSet};

use super::provenance::{drop_those, has_come_through};
use crate::model::{Batch, ClusterId, RETURNED_HEADER, RecordRef, TopicPartition};

/// Leaves out what failbacks of the link have brought.
#[derive(Clone, Debug, Default)]
pub(in crate::link) struct Returned {
    /// The failovers whose failbacks put their ids on records.
    failovers: BTreeSet<String>,
    /// What the others have brought, if there are others.
    unnamed: Option<Unnamed>,
}

/// What failbacks have brought that an older tidegate began. It says only that it has come through the target.
#[derive(Clone, Debug)]
struct Unnamed {
    target: ClusterId,
    /// By source partition, the offset of the first that can be; 0 where none is known. What lies before has come from
    /// another target of the same id, that this one was put in the place of.
    from: BTreeMap<TopicPartition, i64>,
}

impl Returned {
    /// What failbacks of these failovers have brought.
    pub(in crate::link) fn by(failovers: BTreeSet<String>) -> Self {
        Self { failovers, unnamed: None }
    }

    /// And what has come through the target, from these offsets on.
    #[must_use]
    pub(in crate::link) fn and_unnamed(self, target: ClusterId, from: BTreeMap<TopicPartition, i64>) -> Self {
        Self { unnamed: Some(Unnamed { target, from }), ..self }
    }

    /// Whether nothing has come back.
    pub(in crate::link) fn is_empty(&self) -> bool {
        self.failovers.is_empty() && self.unnamed.is_none()
    }

    /// Drop these records. How many.
    pub(super) fn leave_out(&self, batch: &mut Batch) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        let unnamed = self.unnamed.as_ref().map(|it| (&*it.target, it.from.get(&partition).copied().unwrap_or(0)));
        let is_ours = |failover: &[u8]| std::str::from_utf8(failover).is_ok_and(|it| self.failovers.contains(it));
        drop_those(batch, |record| {
            let is_unnamed = |(target, from)| record.offset() >= from && has_come_through(record, target);
            was_brought_by(record, is_ours) || unnamed.is_some_and(is_unnamed)
        })
    }
}

/// Whether a record says that the failback of such a failover has brought it.
pub(super) fn was_brought_by(record: RecordRef<'_>, is_it: impl Fn(&[u8]) -> bool) -> bool {
    let names = |name: &[u8]| name == RETURNED_HEADER.as_bytes();
    record.headers().any(|header| names(header.name) && header.value.is_some_and(&is_it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, HeaderRef, VIA_HEADER};

    /// Records that have come through the target, brought by these failovers.
    fn batch(brought: &[Option<&[&str]>]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, failovers) in (0..).zip(brought) {
            let header = |name: &'static str, value: &'static str| HeaderRef {
                name: name.as_bytes(),
                value: Some(value.as_bytes()),
            };
            let via = failovers.map(|_| header(VIA_HEADER, "west"));
            let failovers = failovers.unwrap_or_default().iter();
            let returned =
                failovers.map(|it| HeaderRef { name: RETURNED_HEADER.as_bytes(), value: Some(it.as_bytes()) });
            builder.push(offset, 0, None, Some(b"v"), via.into_iter().chain(returned));
        }
        builder.finish("orders", 0)
    }

    fn left(returned: &Returned, brought: &[Option<&[&str]>]) -> Vec<i64> {
        let mut records = batch(brought);
        let next_offset = records.next_offset;
        let dropped = returned.leave_out(&mut records);
        assert_eq!((records.len() + dropped as usize, records.next_offset), (brought.len(), next_offset));
        records.offsets
    }

    fn by(failovers: &[&str]) -> Returned {
        Returned::by(failovers.iter().map(|it| (*it).to_owned()).collect())
    }

    #[test]
    fn what_other_links_have_brought_through_the_same_clusters_stays() {
        let all: [Option<&[&str]>; 6] =
            [None, Some(&[]), Some(&["ours"]), Some(&["theirs"]), Some(&["theirs", "ours", "x"]), Some(&["our"])];
        assert_eq!(left(&by(&["ours"]), &all), [0, 1, 3, 5]);
        assert_eq!(left(&by(&["ours", "theirs"]), &all), [0, 1, 5], "two failovers");
        assert_eq!(left(&by(&[]), &all), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_an_older_tidegate_has_brought_is_told_by_the_cluster_from_an_offset_on() {
        let from = |partition| BTreeMap::from([(TopicPartition::new("orders", partition), 2)]);
        let all: [Option<&[&str]>; 5] = [Some(&[]), Some(&["ours"]), Some(&[]), None, Some(&["theirs"])];
        let unnamed = |target: &str, partition| by(&["ours"]).and_unnamed(target.into(), from(partition));
        assert_eq!(left(&unnamed("west", 0), &all), [0, 3]);
        assert_eq!(left(&unnamed("west", 1), &all), [3], "of another partition");
        assert_eq!(left(&unnamed("north", 0), &all), [0, 2, 3, 4]);
    }
}
