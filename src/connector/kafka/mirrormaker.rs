//! What MirrorMaker 2 has written down of how far it has come: the topic of source offsets of its Kafka Connect.
//!
//! The topic is compacted and has one record for each partition of each connector. Its key is the JSON array of the connector's name and of an object,
//! `["MirrorSourceConnector",{"cluster":"east","partition":0,"topic":"orders"}]`; its value is `{"offset":N}`, where N is the last record that was
//! copied, or nothing. Connectors of other kinds have other objects, and are passed over. With exactly once each record is of the transaction
//! that has copied the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::admin::Admin;
use super::client::{Client, Isolation};
use super::log::{self, Budget};
use crate::config::MirrorMaker;
use crate::connector::{Class, Error};
use crate::model::TopicPartition;
use crate::model::batch::RecordRef;
use crate::model::json_error::without_values;

/// What the topic takes: it has some 100 bytes for each partition that was copied. An open transaction of a MirrorMaker 2 that was killed is in the way for longer than the patience:
/// the link tries again.
const BUDGET: Budget = Budget { patience: Duration::from_secs(10), total: Duration::from_secs(600), bytes: 256 << 20 };

/// What an entry counts beside its key.
const ENTRY_BYTES: usize = 256;

/// The offset to go on at, of each partition of the source.
///
/// # Errors
/// See [`crate::connector::Cluster::mirrormaker_offsets`].
pub(super) fn offsets(
    client: &Client,
    admin: &Admin,
    from: &MirrorMaker,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    client.refresh()?;
    let Some((_, partitions)) = admin.find(&from.topic)? else {
        return Err(missing(format!("there is no topic {} in the target", from.topic)));
    };
    let partitions: Vec<_> = (0..partitions).map(|number| TopicPartition::new(from.topic.clone(), number)).collect();
    // With what is in an open transaction: it may be about to be committed.
    let ranges = client.ranges(&partitions, Isolation::ReadUncommitted)?;
    let mut book = Book::new(from);
    for (partition, range) in &ranges {
        let mut next = range.log_start;
        log::read(client, partition, &mut next, range.end, BUDGET, |record| {
            book.take(&record)?;
            Ok(book.bytes)
        })?;
    }
    book.close()
}

/// What an entry takes: what is in its key stands beside it once more.
fn entry_bytes(key: &[u8]) -> usize {
    ENTRY_BYTES + 2 * key.len()
}

/// What has been read of the topic.
struct Book<'m> {
    from: &'m MirrorMaker,
    /// By the key as it stands in the topic: the last record of a key counts.
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The source clusters that were met.
    sources: BTreeSet<String>,
    /// What both take, in bytes.
    bytes: usize,
}

/// How far a connector has come in a partition.
struct Entry {
    connector: String,
    partition: TopicPartition,
    next: i64,
}

/// The object in the key.
#[derive(Deserialize)]
struct SourcePartition {
    cluster: String,
    topic: String,
    partition: u32,
}

#[derive(Deserialize)]
struct SourceOffset {
    offset: i64,
}

impl<'m> Book<'m> {
    fn new(from: &'m MirrorMaker) -> Self {
        Self { from, entries: BTreeMap::new(), sources: BTreeSet::new(), bytes: 0 }
    }

    fn take(&mut self, record: &RecordRef<'_>) -> Result<(), Error> {
        let key = record.key().unwrap_or_default();
        let Ok((connector, partition)) = serde_json::from_slice::<(String, SourcePartition)>(key) else {
            return Ok(());
        };
        let SourcePartition { cluster, topic, partition } = partition;
        let counts = *cluster == *self.from.source && self.from.connector.as_deref().is_none_or(|it| *it == *connector);
        let bytes = ENTRY_BYTES + cluster.len();
        if self.sources.insert(cluster) {
            self.bytes += bytes;
        }
        if !counts {
            return Ok(());
        }
        let offset: Option<SourceOffset> = match record.value().map(serde_json::from_slice) {
            Some(Ok(offset)) => offset,
            Some(Err(error)) => return Err(unreadable(self.from, &error)),
            None => None,
        };
        // A negative one is none: so it is for MirrorMaker 2.
        match offset.filter(|offset| offset.offset >= 0) {
            Some(SourceOffset { offset }) => {
                let partition = TopicPartition::new(Arc::from(topic), partition);
                let next = offset.saturating_add(1);
                if self.entries.insert(key.to_vec(), Entry { connector, partition, next }).is_none() {
                    self.bytes += entry_bytes(key);
                }
            }
            None if self.entries.remove(key).is_some() => self.bytes -= entry_bytes(key),
            None => {}
        }
        Ok(())
    }

    fn close(self) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        if self.entries.is_empty() {
            return Err(missing(self.what_is_there()));
        }
        let mut offsets: BTreeMap<TopicPartition, Entry> = BTreeMap::new();
        for entry in self.entries.into_values() {
            match offsets.get(&entry.partition) {
                Some(other) if other.next != entry.next => return Err(ambiguous(self.from, other, &entry)),
                _ => drop(offsets.insert(entry.partition.clone(), entry)),
            }
        }
        Ok(offsets.into_iter().map(|(partition, entry)| (partition, entry.next)).collect())
    }

    fn what_is_there(&self) -> String {
        let MirrorMaker { topic, source, connector } = self.from;
        let of = connector.as_ref().map(|connector| format!(" of connector {connector}")).unwrap_or_default();
        let there: Vec<_> = self.sources.iter().map(|source| format!("{source:?}")).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        format!("topic {topic} has no offset of cluster {source:?}{of}; the clusters in it are: {there}")
    }
}

fn missing(message: String) -> Error {
    let remedy = "name MirrorMaker 2's topic of offsets and what it calls the source in the link's `start`, and let the user read the topic; \
                  if MirrorMaker 2 has copied nothing, write start = \"earliest\"";
    Error { class: Class::Fatal, code: "mirrormaker-offsets-missing", message, remedy }
}

/// Nothing of the record is said: this may be a topic of somebody else's.
fn unreadable(from: &MirrorMaker, error: &serde_json::Error) -> Error {
    let why = without_values(&error.to_string());
    let message = format!("topic {}: a record is no offset of MirrorMaker 2: {why}", from.topic);
    let remedy = "is this MirrorMaker 2's topic of offsets? Name it in the link's `start`";
    Error { class: Class::Fatal, code: "mirrormaker-offsets-unreadable", message, remedy }
}

fn ambiguous(from: &MirrorMaker, one: &Entry, other: &Entry) -> Error {
    let Entry { connector, partition, next } = one;
    let message = format!(
        "topic {}: connector {connector} goes on with {partition} at {next}, and connector {} at {}",
        from.topic, other.connector, other.next
    );
    let remedy = "write the one that counts as `connector` into the link's `start`";
    Error { class: Class::Fatal, code: "mirrormaker-offsets-ambiguous", message, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BatchBuilder;

    fn from(connector: Option<&str>) -> MirrorMaker {
        MirrorMaker { topic: "offsets".into(), source: "east".into(), connector: connector.map(Into::into) }
    }

    fn read(from: &MirrorMaker, records: &[(&str, Option<&str>)]) -> Result<Vec<(String, i64)>, Error> {
        let mut builder = BatchBuilder::new();
        for (key, value) in records {
            builder.push(0, 0, Some(key.as_bytes()), value.map(str::as_bytes), std::iter::empty());
        }
        let (batch, mut book) = (builder.finish("offsets", 0), Book::new(from));
        (0..batch.len()).try_for_each(|index| book.take(&batch.record(index)))?;
        Ok(book.close()?.into_iter().map(|(partition, next)| (partition.to_string(), next)).collect())
    }

    fn key(connector: &str, cluster: &str, partition: u32) -> String {
        format!(r#"["{connector}",{{"cluster":"{cluster}","partition":{partition},"topic":"t"}}]"#)
    }

    const OFFSET: Option<&str> = Some(r#"{"offset":41}"#);

    #[test]
    fn a_link_goes_on_behind_the_last_record_that_was_copied() {
        let records = [
            (&*key("M", "east", 0), Some(r#"{"offset":7}"#)),
            (&*key("M", "east", 0), OFFSET),
            (&*key("M", "west", 0), Some(r#"{"offset":99}"#)),
            (&*key("M", "east", 1), Some(r#"{"offset":0}"#)),
            // A checkpoint connector, and a heartbeat connector.
            (r#"["C",{"group":"g","partition":0,"topic":"t"}]"#, Some(r#"{"offset":0}"#)),
            (r#"["H",{"sourceClusterAlias":"east","targetClusterAlias":"west"}]"#, Some(r#"{"offset":0}"#)),
            ("no JSON", Some("no JSON")),
        ];
        let read = read(&from(None), &records).expect("offsets");
        assert_eq!(read, [("t-0".to_owned(), 42), ("t-1".to_owned(), 1)]);
    }

    #[test]
    fn a_tombstone_a_null_and_a_negative_offset_are_none() {
        let none = [None, Some("null"), Some(r#"{"offset":-1}"#)];
        for value in none {
            let records =
                [(&*key("M", "east", 0), OFFSET), (&*key("M", "east", 1), OFFSET), (&*key("M", "east", 0), value)];
            assert_eq!(read(&from(None), &records).expect("offsets"), [("t-1".to_owned(), 42)], "{value:?}");
        }
    }

    #[test]
    fn a_topic_that_says_nothing_of_the_source_is_refused_with_what_it_has() {
        let error = read(&from(None), &[(&*key("M", "west", 0), OFFSET)]).expect_err("a refusal");
        assert_eq!(error.code, "mirrormaker-offsets-missing");
        assert!(error.message.ends_with("the clusters in it are: \"west\""), "{error}");
        assert!(read(&from(None), &[]).is_err());
    }

    #[test]
    fn two_connectors_that_differ_are_refused_until_one_is_named() {
        let (one, other) = (key("M", "east", 0), key("N", "east", 0));
        let records = [(&*one, OFFSET), (&*other, Some(r#"{"offset":50}"#))];
        assert_eq!(read(&from(None), &records).expect_err("a refusal").code, "mirrormaker-offsets-ambiguous");
        assert_eq!(read(&from(Some("N")), &records).expect("offsets"), [("t-0".to_owned(), 51)]);
        let alike = [(&*one, OFFSET), (&*other, OFFSET)];
        assert_eq!(read(&from(None), &alike).expect("offsets"), [("t-0".to_owned(), 42)]);
    }

    #[test]
    fn an_offset_that_is_none_of_connects_is_refused() {
        let error = read(&from(None), &[(&*key("M", "east", 0), Some("41"))]).expect_err("a refusal");
        assert_eq!(error.code, "mirrormaker-offsets-unreadable");
    }
}
