//! Lags, as many one by one as there may be, and the others together.

use std::collections::BTreeMap;

use super::table;
use crate::api::exposition::Page;
use crate::link::lag::{Lag, Lags};
use crate::model::TopicPartition;

/// Stands for all partitions of a topic, and for all topics: no topic of Kafka has such a name.
const ALL: &str = "*";

/// The lags of a link. A topic is told partition by partition as long as that makes no more than `most` partitions; of one that would make more the
/// worst and the sum are told. Of `most` topics, that is: what is left is told as one.
pub(super) fn put(page: &mut Page, link: &str, lags: &Lags, most: usize) {
    let mut room = most;
    let mut folded: BTreeMap<&str, (usize, Lag)> = BTreeMap::new();
    let partitions: Vec<(&TopicPartition, &Lag)> = lags.partitions.iter().collect();
    for topic in partitions.chunk_by(|(one, _), (other, _)| one.topic == other.topic) {
        if topic.len() <= room {
            room -= topic.len();
            for (name, lag) in topic {
                put_lag(page, [link, &name.topic, &name.partition.to_string()], **lag);
            }
        } else if let Some((first, lag)) = topic.first() {
            let sum = topic.iter().skip(1).fold(**lag, |sum, (_, lag)| together(sum, **lag));
            let name = if folded.len() < most { &*first.topic } else { ALL };
            let (count, known) = folded.entry(name).or_insert((0, Lag { records: 0, ms: Some(0) }));
            (*count, *known) = (*count + topic.len(), together(*known, sum));
        }
    }
    for (topic, (_, lag)) in &folded {
        put_lag(page, [link, topic, ALL], *lag);
    }
    let folded: usize = folded.values().map(|(count, _)| count).sum();
    page.put(&table::PARTITIONS_FOLDED, &[link], folded as f64);
}

/// The worst and the sum. What is not known of one is not known of both.
fn together(one: Lag, other: Lag) -> Lag {
    Lag { records: one.records + other.records, ms: one.ms.zip(other.ms).map(|(one, other)| one.max(other)) }
}

fn put_lag(page: &mut Page, labels: [&str; 3], lag: Lag) {
    page.put(&table::LAG_RECORDS, &labels, lag.records as f64);
    if let Some(ms) = lag.ms {
        page.put(&table::LAG_MS, &labels, ms as f64);
    }
}
