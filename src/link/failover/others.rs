//! What others may have written to the target: it had the source's place.

use std::collections::BTreeMap;
use std::ops::Range;

use super::record::{Positions, places_of_all};
use crate::connector::Cluster;
use crate::link::failure::Failure;
use crate::model::{LinkId, TopicPartition};

/// Offsets of partitions of the target, oldest first.
pub(in crate::link) type Others = BTreeMap<TopicPartition, Vec<Range<i64>>>;

/// From where a failover has left a target to where the failback has found it; to its end if nobody has written down where that was.
pub(in crate::link) fn written_by_others(target: &dyn Cluster, link: &LinkId) -> Result<Others, Failure> {
    let mut others = Others::new();
    for (left, found) in places_of_all(target, link)? {
        add(&mut others, &left, found.as_ref());
    }
    Ok(others)
}

fn add(others: &mut Others, left: &Positions, found: Option<&Positions>) {
    for (name, topic) in &left.topics {
        let ends = found.map(|found| found.topics.get(name).map(|topic| &*topic.target_ends).unwrap_or_default());
        let partitions = topic.target_ends.len().max(ends.map_or(0, <[i64]>::len));
        for number in 0..partitions {
            // A partition that was not there yet was made by others.
            let from = topic.target_ends.get(number).copied().unwrap_or(0);
            let to = ends.map_or(i64::MAX, |ends| ends.get(number).copied().unwrap_or(from));
            if from < to {
                others.entry(TopicPartition::new(&*topic.target, number as u32)).or_default().push(from..to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::failover::TopicPositions;

    fn positions(target_ends: &[i64]) -> Positions {
        let topic = TopicPositions {
            target: "copy".to_owned(),
            target_ends: target_ends.to_vec(),
            ..TopicPositions::default()
        };
        Positions::new([("orders".to_owned(), topic)].into())
    }

    fn added(left: &[i64], found: Option<&[i64]>) -> Vec<(u32, Range<i64>)> {
        let mut others = Others::new();
        add(&mut others, &positions(left), found.map(positions).as_ref());
        others.into_iter().flat_map(|(at, ranges)| ranges.into_iter().map(move |it| (at.partition, it))).collect()
    }

    #[test]
    fn others_have_what_is_between_a_failover_and_its_failback() {
        assert_eq!(added(&[5, 7], Some(&[9, 7])), [(0, 5..9)]);
        assert_eq!(added(&[5], Some(&[5, 3])), [(1, 0..3)], "they have made a partition");
        assert_eq!(added(&[5, 7], None), [(0, 5..i64::MAX), (1, 7..i64::MAX)], "it has not come back");
    }
}
