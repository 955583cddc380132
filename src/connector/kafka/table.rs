//! A compacted topic of ours as a table: read from its beginning once, and then followed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::admin::Admin;
use super::client::{Client, Isolation, LATEST};
use super::log;
use crate::connector::Error;
use crate::model::TopicPartition;

/// How long a broker may take to show what is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a table ends for who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Upto {
    /// At all that is there: an open transaction is waited for.
    Now,
    /// Before the first open transaction.
    Committed,
}

/// What has been read of a topic.
#[derive(Debug)]
pub(super) struct Table {
    topic: Arc<str>,
    /// What the keys of rows begin with that are kept.
    prefix: &'static str,
    id: Uuid,
    /// The offset to read next, of each partition.
    next: Vec<i64>,
    /// Grows with each row that changes.
    version: u64,
    rows: HashMap<String, Vec<u8>>,
}

impl Table {
    /// The table of a topic, of which nothing has been read yet. Keys that are no text, or do not begin with `prefix`, are left out.
    pub(super) fn new(topic: &str, prefix: &'static str) -> Self {
        Self { topic: topic.into(), prefix, id: Uuid::nil(), next: Vec::new(), version: 0, rows: HashMap::new() }
    }

    pub(super) fn rows(&self) -> &HashMap<String, Vec<u8>> {
        &self.rows
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Read what is new. A topic that is not there has no rows, and one that was made again has other ones.
    ///
    /// # Errors
    /// A broker does not answer, or a transaction hangs.
    pub(super) fn follow(&mut self, client: &Client, admin: &Admin, upto: Upto) -> Result<(), Error> {
        let Some((id, partitions)) = admin.find(&self.topic)? else {
            self.begin_anew(Uuid::nil());
            return Ok(());
        };
        if id != self.id {
            self.begin_anew(id);
        }
        self.next.resize(partitions as usize, 0);
        let isolation = match upto {
            Upto::Now => Isolation::ReadUncommitted,
            Upto::Committed => Isolation::ReadCommitted,
        };
        let of_topic = (0..partitions).map(|partition| TopicPartition::new(self.topic.clone(), partition));
        let ends = client.offsets(&of_topic.collect::<Vec<_>>(), LATEST, isolation)?;
        for (partition, end) in ends {
            self.follow_partition(client, &partition, end)?;
        }
        Ok(())
    }

    fn follow_partition(&mut self, client: &Client, partition: &TopicPartition, end: i64) -> Result<(), Error> {
        let Some(next) = self.next.get_mut(partition.partition as usize) else { return Ok(()) };
        if end <= *next {
            return Ok(());
        }
        let start = match *next {
            0 => client.range(partition, Isolation::ReadUncommitted)?.log_start,
            next => next,
        };
        let (rows, prefix, version) = (&mut self.rows, self.prefix, &mut self.version);
        *next = log::read(client, partition, start..end, Isolation::ReadCommitted, PATIENCE, |record| {
            let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
            let Some(key) = key.filter(|key| key.starts_with(prefix)) else { return Ok(()) };
            *version += 1;
            match record.value() {
                Some(value) => drop(rows.insert(key.to_owned(), value.to_vec())),
                None => drop(rows.remove(key)),
            }
            Ok(())
        })?;
        Ok(())
    }

    fn begin_anew(&mut self, id: Uuid) {
        if !self.rows.is_empty() {
            self.version += 1;
        }
        self.id = id;
        self.next.clear();
        self.rows.clear();
    }
}
