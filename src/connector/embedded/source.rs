//! Reads partitions of an embedded store in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::find;
use crate::connector::pieces::Pieces;
use crate::connector::{Error, Source};
use crate::model::{Batch, TopicId, TopicPartition};
use crate::store::Store;

/// The longest that one poll waits: a bound that keeps the arithmetic of instants sound.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A reader of an embedded store.
///
/// A turn of a partition is one stored batch, about a mebibyte at most: it is decoded once, and given out in as
/// many pieces as [`Source::poll`] asks for before the next partition has its turn.
#[derive(Debug)]
pub struct EmbeddedSource {
    store: Arc<Store>,
    /// The partition at the front has the next turn.
    positions: VecDeque<Position>,
    /// What is left of the stored batch whose turn it is.
    current: Option<Pieces>,
}

#[derive(Debug)]
struct Position {
    partition: TopicPartition,
    topic: TopicId,
    offset: i64,
}

impl EmbeddedSource {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, positions: VecDeque::new(), current: None }
    }

    /// Give the next partition that has records its turn. Whether there is one.
    fn next_turn(&mut self) -> Result<bool, Error> {
        for _ in 0..self.positions.len() {
            let Some(mut position) = self.positions.pop_front() else { break };
            let read = self.store.read(position.topic, position.partition.partition, position.offset);
            if let Ok(Some(batch)) = &read {
                position.offset = batch.next_offset;
            }
            self.positions.push_back(position);
            if let Some(batch) = read? {
                self.current = Some(Pieces::new(batch));
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Source for EmbeddedSource {
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        let topic = find(&self.store, &partition.topic)?.id;
        // An offset that is not there is an error of this call, not of the next poll.
        self.store.check_offset(topic, partition.partition, offset)?;
        self.forget(partition);
        self.positions.push_back(Position { partition: partition.clone(), topic, offset });
        Ok(())
    }

    /// Every time that the file is opened is an epoch.
    fn leader_epoch(&self, partition: &TopicPartition, next_offset: i64) -> Option<i32> {
        let topic = find(&self.store, &partition.topic).ok()?.id;
        let epoch = self.store.epoch_at(topic, partition.partition, next_offset - 1).ok().flatten()?;
        i32::try_from(epoch).ok()
    }

    fn forget(&mut self, partition: &TopicPartition) {
        self.positions.retain(|position| position.partition != *partition);
        self.current.take_if(|current| {
            let batch = current.batch();
            batch.topic == partition.topic && batch.partition == partition.partition
        });
    }

    fn poll(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Option<Batch>, Error> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        loop {
            // Before the look at the partitions, so that what comes after the look ends the wait.
            let version = self.store.version();
            if self.current.is_some() || self.next_turn()? {
                return Ok(Pieces::give(&mut self.current, max_records, max_bytes));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.store.wait_for_change(version, left);
        }
    }
}
