//! Reads partitions each by itself, as they are needed.
//!
//! A source of a cluster reads all its partitions in turn, whether anybody wants their records or not. So each partition has a reader of its own here; those
//! that were not used for long are closed, and opened again at their place.

use std::sync::Arc;
use std::time::Duration;

use crate::connector::{Cluster, Error, Source, poll_or_fail};
use crate::model::{Batch, TopicPartition};

/// So many partitions of a cluster are open at once: each may hold an answer of a broker.
const OPEN_MAX: usize = 16;

/// The most records and bytes that are read at once.
const RECORDS_MAX: usize = 1000;
const BYTES_MAX: usize = 1 << 20;

/// How long a read waits before somebody looks whether it is still wanted.
const WAIT: Duration = Duration::from_millis(100);

/// Readers of the partitions of a cluster.
pub(super) struct Readers {
    cluster: Arc<dyn Cluster>,
    /// The one used last is the last.
    open: Vec<Reader>,
}

struct Reader {
    partition: TopicPartition,
    next: i64,
    source: Box<dyn Source>,
}

impl Readers {
    pub(super) fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self { cluster, open: Vec::new() }
    }

    /// Records of a partition from an offset on, or none if none came for a moment.
    pub(super) fn read(&mut self, partition: &TopicPartition, from: i64) -> Result<Option<Batch>, Error> {
        let at = self.open.iter().position(|reader| reader.partition == *partition && reader.next == from);
        let mut reader = match at {
            Some(at) => self.open.remove(at),
            None => self.open(partition, from)?,
        };
        // A reader that has failed is not used again.
        let batch = poll_or_fail(&mut *reader.source, RECORDS_MAX, BYTES_MAX, WAIT)?;
        if let Some(batch) = &batch {
            reader.next = batch.next_offset;
        }
        self.open.push(reader);
        Ok(batch)
    }

    fn open(&mut self, partition: &TopicPartition, from: i64) -> Result<Reader, Error> {
        self.open.retain(|reader| reader.partition != *partition);
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        let mut source = self.cluster.source()?;
        source.seek(partition, from)?;
        Ok(Reader { partition: partition.clone(), next: from, source })
    }
}
