//! Partitions that stand still while the others of their lane go on: what is told of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Session;
use crate::link::events::Event;
use crate::link::failure::Failure;
use crate::link::status::lock;
use crate::model::TopicPartition;

/// How often is looked which partitions stand still.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a lane looks.
#[derive(Debug)]
pub(super) struct Looks {
    look_at: Instant,
}

impl Looks {
    /// That of a lane that has opened at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { look_at: now }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.look_at;
        if is_due {
            self.look_at = now + LOOK_EVERY;
        }
        is_due
    }
}

/// What has changed: partitions that go on, and those that stand still for another reason than before or did not stand still.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    goes_on: Vec<TopicPartition>,
    stands: Vec<(TopicPartition, Failure)>,
}

/// Compare what stands still now with what stood still `before`, which may have been before the
/// lane was opened again. A partition goes on only if it `is_read`.
fn changes(
    before: &BTreeMap<TopicPartition, Failure>,
    now: &BTreeMap<TopicPartition, Failure>,
    is_read: impl Fn(&TopicPartition) -> bool,
) -> Changes {
    let goes_on = before.keys().filter(|partition| !now.contains_key(*partition) && is_read(partition));
    let is_news = |(partition, why): &(&TopicPartition, &Failure)| {
        before.get(*partition).is_none_or(|before| before.code != why.code)
    };
    let stands = now.iter().filter(is_news).map(|(partition, why)| (partition.clone(), why.clone()));
    Changes { goes_on: goes_on.cloned().collect(), stands: stands.collect() }
}

impl Session {
    /// Say which partitions stand still, and which go on again.
    pub(super) fn note_stalled(&mut self, now: Instant) {
        if !self.looks.is_due(now) {
            return;
        }
        // The topic of heartbeats is read too, and is none of the link's.
        let stalled = self.source.stalled(now).into_iter();
        let stalled = stalled.filter(|stalled| self.positions.contains_key(&stalled.partition));
        let stalled = stalled.chain(self.awaited.stalled(now));
        let stalled: BTreeMap<_, _> = stalled.map(|stalled| (stalled.partition, stalled.why.into())).collect();
        let mut status = lock(&self.link.lanes[self.lane as usize]);
        let is_ours = |partition: &_| self.positions.contains_key(partition) || self.awaited.contains(partition);
        status.stalled.retain(|partition, _| is_ours(partition));
        // One that waits to be read at all says nothing of how it is.
        let is_read = |partition: &_| self.positions.contains_key(partition) && self.source.is_read(partition);
        // Of what is not read it is known what was seen before.
        status.open_transactions.retain(|partition, _| is_ours(partition) && !is_read(partition));
        status.open_transactions.extend(self.source.open_transactions());
        let Changes { goes_on, stands } = changes(&status.stalled, &stalled, is_read);
        for partition in &goes_on {
            status.stalled.remove(partition);
        }
        status.stalled.extend(stalled);
        drop(status);
        for partition in goes_on {
            tracing::info!(%partition, "{partition} goes on");
            self.link.events.push(Event::new("partition-goes-on", format!("{partition} is copied again")));
        }
        for (partition, why) in stands {
            tracing::warn!(%partition, code = why.code, remedy = why.remedy, "{partition} stands still: {why}");
            let message = format!("{partition} stands still: {why}");
            self.link
                .events
                .push(Event { code: Some(why.code.to_owned()), ..Event::new("partition-stalled", message) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(partitions: &[(u32, &'static str)]) -> BTreeMap<TopicPartition, Failure> {
        let name = |(number, code): &(u32, &'static str)| {
            (TopicPartition::new("t", *number), Failure::fatal(code, "it does", "wait"))
        };
        partitions.iter().map(name).collect()
    }

    /// What is told if all partitions but these are read.
    fn news(before: &[(u32, &'static str)], now: &[(u32, &'static str)], not_read: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let is_read = |partition: &TopicPartition| !not_read.contains(&partition.partition);
        let changes = changes(&stands(before), &stands(now), is_read);
        let goes_on = changes.goes_on.iter().map(|partition| partition.partition).collect();
        (goes_on, changes.stands.iter().map(|(partition, _)| partition.partition).collect())
    }

    #[test]
    fn each_change_is_told_once() {
        assert_eq!(news(&[], &[(1, "a")], &[]), (vec![], vec![1]));
        assert_eq!(news(&[(1, "a")], &[(1, "a")], &[]), (vec![], vec![]));
        assert_eq!(news(&[(1, "a")], &[(1, "b")], &[]), (vec![], vec![1]), "for another reason");
        assert_eq!(news(&[(1, "a"), (2, "a")], &[(2, "a")], &[]), (vec![1], vec![]));
    }

    /// However often a lane opens again, and however long its source takes to name what stands
    /// still.
    #[test]
    fn nothing_goes_on_that_is_not_read() {
        assert_eq!(news(&[(1, "a"), (2, "a")], &[], &[1]), (vec![2], vec![]));
        assert_eq!(news(&[(1, "a")], &[(1, "b")], &[1]), (vec![], vec![1]), "it is news why");
    }

    #[test]
    fn it_is_looked_once_in_a_while() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        assert!(looks.is_due(now));
        assert!(!looks.is_due(now + LOOK_EVERY / 2));
        assert!(looks.is_due(now + LOOK_EVERY));
    }
}
