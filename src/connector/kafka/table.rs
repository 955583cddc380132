//! A compacted topic of ours as a table: read from its beginning once, and then followed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::admin::Admin;
use super::client::{Client, Isolation, LATEST};
use super::log::{self, Budget};
use crate::connector::{Class, Error};
use crate::model::TopicPartition;

/// What a table takes each time it is followed: what is left is read the next time. Who asks holds up others meanwhile.
const BUDGET: Budget = Budget {
    patience: Duration::from_secs(10),
    total: Duration::from_secs(30),
    bytes: TABLE_BYTES_MAX + KEYS_BYTES_MAX,
};

/// The largest row, its key included, in bytes. The longest that Tidegate stores is the history of a link: some KiB for each revision.
pub(super) const ROW_BYTES_MAX: usize = 16 << 20;

/// All rows together. Of 1,000 links with long histories, or of a link with 100,000 partitions, there are some 100 MB.
const TABLE_BYTES_MAX: usize = 256 << 20;

/// What an entry counts beside its key and its value.
const ENTRY_BYTES: usize = 96;

/// The keys of rows that are left out.
const KEYS_BYTES_MAX: usize = 16 << 20;

/// The longest key that Tidegate writes: it names a topic, and some words and numbers beside it. A longer one is not ours.
const KEY_BYTES_MAX: usize = 1024;

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
    /// What they take, in bytes.
    bytes: usize,
    /// The keys of rows that are too large to be kept, with their sizes.
    left_out: HashMap<String, usize>,
    /// What those keys take, in bytes.
    left_out_bytes: usize,
}

impl Table {
    /// The table of a topic, of which nothing has been read yet. Keys that are no text, or do not begin with `prefix`, are left out.
    pub(super) fn new(topic: &str, prefix: &'static str) -> Self {
        Self {
            topic: topic.into(),
            prefix,
            id: Uuid::nil(),
            next: Vec::new(),
            version: 0,
            rows: HashMap::new(),
            bytes: 0,
            left_out: HashMap::new(),
            left_out_bytes: 0,
        }
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
    /// A broker does not answer, a transaction hangs, or the topic has more than is kept of it.
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
        self.check_whole()
    }

    fn follow_partition(&mut self, client: &Client, partition: &TopicPartition, end: i64) -> Result<(), Error> {
        let at = partition.partition as usize;
        let Some(mut next) = self.next.get(at).copied() else { return Ok(()) };
        if end <= next {
            return Ok(());
        }
        if next == 0 {
            next = client.range(partition, Isolation::ReadUncommitted)?.log_start;
        }
        let read = log::read(client, partition, &mut next, end, BUDGET, |record| {
            self.take(record.key(), record.value());
            Ok(self.bytes + self.left_out_bytes)
        });
        self.next[at] = next;
        read
    }

    /// Take what a record says. A row that is too large, alone or with the others, is left out: so it can still be replaced or deleted.
    fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.filter(|key| key.len() <= KEY_BYTES_MAX).and_then(|key| std::str::from_utf8(key).ok());
        let Some(key) = key.filter(|key| key.starts_with(self.prefix)) else { return };
        self.version += 1;
        if let Some(before) = self.rows.remove(key) {
            self.bytes -= ENTRY_BYTES + key.len() + before.len();
        }
        if self.left_out.remove(key).is_some() {
            self.left_out_bytes -= ENTRY_BYTES + key.len();
        }
        let Some(value) = value else { return };
        let bytes = key.len() + value.len();
        if bytes > ROW_BYTES_MAX || self.bytes + ENTRY_BYTES + bytes > TABLE_BYTES_MAX {
            self.left_out_bytes += ENTRY_BYTES + key.len();
            self.left_out.insert(key.to_owned(), bytes);
            return;
        }
        self.bytes += ENTRY_BYTES + bytes;
        self.rows.insert(key.to_owned(), value.to_vec());
    }

    /// Whether every row is kept.
    fn check_whole(&self) -> Result<(), Error> {
        let Some((key, bytes)) = self.left_out.iter().max_by_key(|(_, bytes)| **bytes) else { return Ok(()) };
        Err(if *bytes > ROW_BYTES_MAX { row_too_large(&self.topic, key, *bytes) } else { self.too_large(key) })
    }

    fn too_large(&self, key: &str) -> Error {
        Error {
            class: Class::Reopen,
            code: "own-topic-too-large",
            message: format!(
                "the rows of {} have more than {TABLE_BYTES_MAX} bytes together: {key:?} and {} others are left out",
                self.topic,
                self.left_out.len() - 1
            ),
            remedy: "let nothing but tidegate write to the topic, and write a tombstone for each key in it that tidegate has not written",
        }
    }

    fn begin_anew(&mut self, id: Uuid) {
        if !self.rows.is_empty() {
            self.version += 1;
        }
        self.id = id;
        self.next.clear();
        self.rows.clear();
        self.bytes = 0;
        self.left_out.clear();
        self.left_out_bytes = 0;
    }
}

/// The error that a row of a topic of ours is larger than any.
pub(super) fn row_too_large(topic: &str, key: &str, bytes: usize) -> Error {
    Error {
        class: Class::Reopen,
        code: "own-row-too-large",
        message: format!("{key:?} in {topic} has {bytes} bytes, and a row may have {ROW_BYTES_MAX}"),
        remedy: "if something else has written it, write a tombstone for the key, and let nothing but tidegate write to the topic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new("__tidegate.meta", "link/")
    }

    fn code(table: &Table) -> Option<&'static str> {
        table.check_whole().err().map(|error| {
            assert!(error.message.contains("__tidegate.meta"), "{error}");
            error.code
        })
    }

    #[test]
    fn a_row_is_kept_up_to_its_bound_and_a_larger_one_can_be_deleted() {
        let (key, mut table) = ("link/a/history", table());
        let largest = vec![0; ROW_BYTES_MAX - key.len()];
        table.take(Some(key.as_bytes()), Some(&largest));
        assert_eq!((code(&table), table.rows()[key].len()), (None, largest.len()));
        table.take(Some(b"link/b/history"), Some(b"short"));
        table.take(Some(key.as_bytes()), Some(&[&largest[..], b"!"].concat()));
        assert_eq!(
            (code(&table), table.bytes, table.rows().len()),
            (Some("own-row-too-large"), ENTRY_BYTES + 14 + 5, 1)
        );
        for value in [None, Some(&b"again"[..])] {
            table.take(Some(key.as_bytes()), value);
            assert_eq!((code(&table), table.left_out_bytes), (None, 0));
        }
        assert_eq!(table.bytes, 2 * (ENTRY_BYTES + 14 + 5));
    }

    #[test]
    fn rows_are_kept_up_to_what_they_may_have_together() {
        let mut table = table();
        let key = |number: usize| format!("link/l{number:03}/x").into_bytes();
        let row = vec![7; ROW_BYTES_MAX - key(0).len() - ENTRY_BYTES];
        let most = TABLE_BYTES_MAX / ROW_BYTES_MAX;
        // What was replaced does not count.
        for number in [0, 1].into_iter().chain(0..most) {
            table.take(Some(&key(number)), Some(&row));
        }
        assert_eq!((code(&table), table.bytes), (None, TABLE_BYTES_MAX));
        table.take(Some(&key(most)), Some(b""));
        assert_eq!((code(&table), table.bytes), (Some("own-topic-too-large"), TABLE_BYTES_MAX));
        table.take(Some(&key(0)), None);
        table.take(Some(&key(most)), Some(b""));
        assert_eq!((code(&table), table.rows().len()), (None, most));
        table.begin_anew(Uuid::nil());
        assert_eq!((table.bytes, table.rows().len()), (0, 0));
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let mut table = table();
        let long = [&b"link/"[..], &[b'x'; KEY_BYTES_MAX]].concat();
        for key in [None, Some(&b"component/1/0/1"[..]), Some(b"link/\xff/x"), Some(&long[..])] {
            table.take(key, Some(&[0; 100]));
        }
        assert_eq!((table.version(), table.bytes, table.left_out_bytes, code(&table)), (0, 0, 0, None));
    }
}
