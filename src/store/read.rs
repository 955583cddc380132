//! Reading: topics, records, checkpoints and the rest. Every read sees one durable commit.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable};

use super::command::{StoredPartition, StoredTopic};
use super::error::Error;
use super::retention::Age;
use super::stored::{self, StoredHeader};
use super::tables::{
    ARTIFACTS, BATCHES, CHECKPOINTS, EPOCHS, METADATA, REVISION_STARTS, STANDBY_TOPICS, STANDBYS, STATE, STATE_HEADS,
    open, open_newer,
};
use super::writer::unpoisoned;
use super::{Shared, Store};
use crate::model::{
    Batch, Checkpoint, Digest, LinkId, RevisionNumber, Standby, StandbyTopics, StateHead, StateRow, StoredStates,
    TopicId, TopicPartition,
};

/// Where the records of an epoch end in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// Behind the last of them.
    At(i64),
    /// The partition has none: its file is another one, or an older copy of it.
    Unknown,
}

impl Store {
    /// All topics, by name.
    pub fn topics(&self) -> Vec<StoredTopic> {
        unpoisoned(self.shared.catalog.read()).topics.values().cloned().collect()
    }

    /// The topic with this name.
    pub fn topic(&self, name: &str) -> Option<StoredTopic> {
        unpoisoned(self.shared.catalog.read()).topics.get(name).cloned()
    }

    /// What is in a partition.
    ///
    /// # Errors
    /// If there is no such topic or partition.
    pub fn range(&self, topic: TopicId, partition: u32) -> Result<StoredPartition, Error> {
        self.find(topic, partition).map(|(_, state)| state)
    }

    fn find(&self, id: TopicId, partition: u32) -> Result<(Arc<str>, StoredPartition), Error> {
        let catalog = unpoisoned(self.shared.catalog.read());
        let topic = catalog.topic(id).ok_or(Error::UnknownTopicId(id))?;
        if partition >= topic.partitions {
            let partitions = topic.partitions;
            return Err(Error::UnknownPartition { topic: topic.name.clone(), partition, partitions });
        }
        Ok((topic.name.clone(), catalog.partitions.get(&(id, partition)).copied().unwrap_or_default()))
    }

    /// The records from `offset` to the end of the stored batch that holds it, or `None` at the end of the partition.
    /// They take about [`stored::STORED_BYTES_MAX`] at most, or are one record.
    ///
    /// # Errors
    /// If there is no such partition, `offset` is below its log start or beyond its end, or the batch is damaged.
    pub fn read(&self, topic: TopicId, partition: u32, offset: i64) -> Result<Option<Batch>, Error> {
        let place = self.place(topic, partition, offset)?;
        if offset == place.state.end {
            return Ok(None);
        }
        let batch = self.with_stored(&place, offset, |base, bytes| {
            stored::decode(bytes, base, &place.name, partition)
                .map_err(|damage| place.corrupt(&self.shared, base, damage))
        })?;
        match usize::try_from(offset - batch.offsets.first().copied().unwrap_or(offset)) {
            Ok(0) => Ok(Some(batch)),
            Ok(skip) if skip < batch.len() => Ok(Some(batch.slice(skip..batch.len()))),
            _ => Err(place.corrupt(&self.shared, offset, "no stored batch holds the offset")),
        }
    }

    /// The timestamp of the record at `offset`, or `None` at the end of the partition.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn timestamp_at(&self, topic: TopicId, partition: u32, offset: i64) -> Result<Option<i64>, Error> {
        Ok(self.read(topic, partition, offset)?.and_then(|batch| batch.timestamps.first().copied()))
    }

    /// The epoch in which the record at `offset` was appended; `None` if that was before there were epochs.
    ///
    /// # Errors
    /// If the read fails.
    pub fn epoch_at(&self, topic: TopicId, partition: u32, offset: i64) -> Result<Option<u32>, Error> {
        let epochs = self.epochs(topic, partition)?;
        Ok(epochs.into_iter().take_while(|(start, _)| *start <= offset).last().map(|(_, epoch)| epoch))
    }

    /// Where the records of an epoch end.
    ///
    /// # Errors
    /// If there is no such partition, or the read fails.
    pub fn end_of_epoch(&self, topic: TopicId, partition: u32, epoch: u32) -> Result<EpochEnd, Error> {
        let end = self.range(topic, partition)?.end;
        let epochs = self.epochs(topic, partition)?;
        let Some(at) = epochs.iter().rposition(|(_, known)| *known == epoch) else { return Ok(EpochEnd::Unknown) };
        Ok(EpochEnd::At(epochs.get(at + 1).map_or(end, |(start, _)| *start)))
    }

    /// The offsets where epochs begin in a partition, in order.
    fn epochs(&self, topic: TopicId, partition: u32) -> Result<Vec<(i64, u32)>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let table = open(&transaction, EPOCHS, &self.shared.path)?;
            let all = (topic.0, partition, i64::MIN)..=(topic.0, partition, i64::MAX);
            let rows = table.range(all).map_err(|error| self.shared.read_failed(error))?;
            rows.map(|row| {
                let (key, epoch) = row.map_err(|error| self.shared.read_failed(error))?;
                Ok((key.value().2, epoch.value()))
            })
            .collect()
        })
    }

    /// Check that a reader can go on from `offset`.
    ///
    /// # Errors
    /// If there is no such partition, or `offset` is below its log start or beyond its end.
    pub fn check_offset(&self, topic: TopicId, partition: u32, offset: i64) -> Result<(), Error> {
        self.place(topic, partition, offset).map(|_| ())
    }

    fn place(&self, topic: TopicId, partition: u32, offset: i64) -> Result<Place, Error> {
        let (name, state) = self.find(topic, partition)?;
        if offset < state.log_start {
            return Err(Error::DataLost { topic: name, partition, asked: offset, log_start: state.log_start });
        }
        if offset > state.end {
            return Err(Error::OffsetBeyondEnd { topic: name, partition, asked: offset, end: state.end });
        }
        Ok(Place { topic, name, partition, state })
    }

    /// Call `visit` with the stored batch that has the highest base offset up to `offset`.
    fn with_stored<T>(
        &self,
        place: &Place,
        offset: i64,
        visit: impl FnOnce(i64, &[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let found = self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let batches = open(&transaction, BATCHES, &self.shared.path)?;
            let (topic, partition) = (place.topic.0, place.partition);
            let row = batches
                .range((topic, partition, i64::MIN)..=(topic, partition, offset))
                .and_then(|mut range| range.next_back().transpose())
                .map_err(|error| self.shared.read_failed(error))?;
            row.map(|(key, value)| visit(key.value().2, value.value())).transpose()
        })?;
        match found {
            Some(value) => Ok(value),
            // Retention may have come between the look at the range and this one.
            None => {
                self.place(place.topic, place.partition, offset)?;
                Err(place.corrupt(&self.shared, offset, "no stored batch holds the offset"))
            }
        }
    }

    /// The oldest stored batches of a partition, `count` of them, and as many more as it takes until `decides` is true of one. They decide what is deleted, so
    /// their checksums are looked at.
    pub(super) fn oldest(
        &self,
        topic: &StoredTopic,
        partition: u32,
        count: usize,
        decides: impl Fn(&Age) -> bool,
    ) -> Result<Vec<Age>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let batches = open(&transaction, BATCHES, &self.shared.path)?;
            let id = topic.id;
            let rows = batches
                .range((id.0, partition, i64::MIN)..=(id.0, partition, i64::MAX))
                .map_err(|error| self.shared.read_failed(error))?;
            let state = self.range(id, partition)?;
            let place = Place { topic: id, name: topic.name.clone(), partition, state };
            let (mut ages, mut is_decided) = (Vec::new(), false);
            for row in rows {
                if ages.len() >= count && is_decided {
                    break;
                }
                let (key, value) = row.map_err(|error| self.shared.read_failed(error))?;
                let (base, bytes) = (key.value().2, value.value());
                let header =
                    StoredHeader::read_checked(bytes).map_err(|damage| place.corrupt(&self.shared, base, damage))?;
                let end = base.saturating_add(i64::from(header.records));
                let (bytes, max_timestamp, arrival) = (bytes.len() as u64, header.max_timestamp, header.arrival);
                let age = Age { end, bytes, max_timestamp, arrival };
                is_decided |= decides(&age);
                ages.push(age);
            }
            Ok(ages)
        })
    }

    /// All checkpoints of a link, by source partition.
    ///
    /// # Errors
    /// If one is damaged or newer than this program, or the read fails.
    pub fn checkpoints(&self, link: &str) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let table = open(&transaction, CHECKPOINTS, &self.shared.path)?;
            let rows = table.range((link, "", 0)..).map_err(|error| self.shared.read_failed(error))?;
            let mut checkpoints = BTreeMap::new();
            for row in rows {
                let (key, value) = row.map_err(|error| self.shared.read_failed(error))?;
                let (of, topic, partition) = key.value();
                if of != link {
                    break;
                }
                let checkpoint = Checkpoint::decode(value.value()).map_err(|error| {
                    let what = format!("the checkpoint of link {link} for {topic}-{partition}");
                    Error::corrupt(&self.shared.path, what, error)
                })?;
                checkpoints.insert(TopicPartition::new(topic, partition), checkpoint);
            }
            Ok(checkpoints)
        })
    }

    /// What the stages of a link remember of a source partition as of the last durable commit, and what is left of what they no longer do.
    ///
    /// # Errors
    /// If it is damaged or newer than this program, or the read fails.
    pub fn states(&self, link: &str, partition: &TopicPartition) -> Result<StoredStates, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let damaged = |stage: &str, error: String| {
                let what = format!("the state of link {link}, stage {stage} for {partition}");
                Error::corrupt(&self.shared.path, what, error)
            };
            let mut found: BTreeMap<String, (Option<StateHead>, BTreeMap<_, _>)> = BTreeMap::new();
            let heads = open(&transaction, STATE_HEADS, &self.shared.path)?;
            let first = (link, &*partition.topic, partition.partition, "");
            for row in heads.range(first..).map_err(|error| self.shared.read_failed(error))? {
                let (key, value) = row.map_err(|error| self.shared.read_failed(error))?;
                let (of_link, topic, number, stage) = key.value();
                if (of_link, topic, number) != (first.0, first.1, first.2) {
                    break;
                }
                let head = StateHead::decode(value.value()).map_err(|error| damaged(stage, error))?;
                found.insert(stage.to_owned(), (Some(head), BTreeMap::new()));
            }
            let rows = open(&transaction, STATE, &self.shared.path)?;
            let first = (link, &*partition.topic, partition.partition, "", &b""[..]);
            for row in rows.range(first..).map_err(|error| self.shared.read_failed(error))? {
                let (key, value) = row.map_err(|error| self.shared.read_failed(error))?;
                let (of_link, topic, number, stage, name) = key.value();
                if (of_link, topic, number) != (first.0, first.1, first.2) {
                    break;
                }
                let row = StateRow::decode(value.value());
                let row = row.ok_or_else(|| damaged(stage, format!("the entry {name:?} is too short")))?;
                match found.get_mut(stage) {
                    Some((_, rows)) => drop(rows.insert(name.to_vec(), row)),
                    None => drop(found.insert(stage.to_owned(), (None, BTreeMap::from([(name.to_vec(), row)])))),
                }
            }
            let mut states = StoredStates::default();
            found.into_iter().for_each(|(stage, (head, rows))| states.add(stage, head, rows));
            Ok(states)
        })
    }

    /// Where each revision of a link began: revision, source partition, first offset; ordered by revision.
    ///
    /// # Errors
    /// If the read fails.
    pub fn revision_starts(&self, link: &str) -> Result<Vec<(RevisionNumber, TopicPartition, i64)>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let table = open(&transaction, REVISION_STARTS, &self.shared.path)?;
            let rows = table.range((link, 0, "", 0)..).map_err(|error| self.shared.read_failed(error))?;
            let mut starts = Vec::new();
            for row in rows {
                let (key, value) = row.map_err(|error| self.shared.read_failed(error))?;
                let (of, revision, topic, partition) = key.value();
                if of != link {
                    break;
                }
                starts.push((RevisionNumber(revision), TopicPartition::new(topic, partition), value.value()));
            }
            Ok(starts)
        })
    }

    /// What was stored about a link under `key`.
    ///
    /// # Errors
    /// If the read fails.
    pub fn metadata(&self, link: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let table = open(&transaction, METADATA, &self.shared.path)?;
            let value = table.get((link, key)).map_err(|error| self.shared.read_failed(error))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    /// What was stored under `key`, by link.
    ///
    /// # Errors
    /// If the read fails.
    pub fn metadata_of_all(&self, key: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let table = open(&transaction, METADATA, &self.shared.path)?;
            let mut found = BTreeMap::new();
            for row in table.range(("", "")..).map_err(|error| self.shared.read_failed(error))? {
                let (at, value) = row.map_err(|error| self.shared.read_failed(error))?;
                let (link, name) = at.value();
                if name == key {
                    found.insert(link.into(), value.value().to_vec());
                }
            }
            Ok(found)
        })
    }

    /// The links that have topics which stand by, or did before they were promoted.
    ///
    /// # Errors
    /// If the read fails.
    pub fn standbys(&self) -> Result<Vec<LinkId>, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let Some(table) = open_newer(&transaction, STANDBYS, &self.shared.path)? else { return Ok(Vec::new()) };
            let rows = table.iter().map_err(|error| self.shared.read_failed(error))?;
            rows.map(|row| Ok(row.map_err(|error| self.shared.read_failed(error))?.0.value().into())).collect()
        })
    }

    /// The topics that take no records of a link, because they stand by for others: each with one of these.
    ///
    /// # Errors
    /// If the read fails.
    pub fn guarded_by_others(&self, link: &str) -> Result<BTreeMap<Arc<str>, LinkId>, Error> {
        self.shared.reading(|| {
            let failed = |error| self.shared.read_failed(error);
            let transaction = self.shared.begin_read()?;
            let path = &self.shared.path;
            let Some(guards) = open_newer(&transaction, STANDBYS, path)? else { return Ok(BTreeMap::new()) };
            let Some(table) = open_newer(&transaction, STANDBY_TOPICS, path)? else { return Ok(BTreeMap::new()) };
            let (mut guarded, mut own) = (BTreeMap::<Arc<str>, LinkId>::new(), BTreeSet::new());
            for row in table.iter().map_err(failed)? {
                let (key, _) = row.map_err(failed)?;
                let (topic, of) = key.value();
                let standby = guards.get(of).map_err(failed)?.map(|standby| standby.value());
                if of == link {
                    own.insert(Arc::<str>::from(topic));
                } else if standby == Some(Standby::Guarded.number()) {
                    guarded.entry(topic.into()).or_insert_with(|| of.into());
                }
            }
            guarded.retain(|topic, _| !own.contains(topic));
            Ok(guarded)
        })
    }

    /// The topics of a link that stand by, or did before they were promoted.
    ///
    /// # Errors
    /// If the read fails.
    pub fn standby_topics(&self, link: &str) -> Result<StandbyTopics, Error> {
        self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let mut found = StandbyTopics::new();
            let Some(table) = open_newer(&transaction, STANDBY_TOPICS, &self.shared.path)? else { return Ok(found) };
            for row in table.iter().map_err(|error| self.shared.read_failed(error))? {
                let (key, source) = row.map_err(|error| self.shared.read_failed(error))?;
                let (topic, of) = key.value();
                if of == link {
                    found.insert(topic.into(), source.value().into());
                }
            }
            Ok(found)
        })
    }

    /// The plugin component with this digest.
    ///
    /// # Errors
    /// If its bytes have another digest, or the read fails.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.shared.reading(|| {
            let transaction = self.shared.begin_read()?;
            let table = open(&transaction, ARTIFACTS, &self.shared.path)?;
            let value = table.get(digest.as_bytes()).map_err(|error| self.shared.read_failed(error))?;
            Ok(value.map(|value| value.value().to_vec()))
        })?;
        match bytes {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                let what = format!("the plugin {digest}");
                Err(Error::corrupt(&self.shared.path, what, "its bytes have another digest"))
            }
            bytes => Ok(bytes),
        }
    }
}

impl Shared {
    fn begin_read(&self) -> Result<redb::ReadTransaction, Error> {
        self.database.begin_read().map_err(|error| self.read_failed(error))
    }

    fn read_failed(&self, error: impl std::fmt::Display) -> Error {
        // After a failed write the storage library answers reads with "previous error": say which.
        if self.stopped.get().is_some() { self.stopped() } else { Error::read(&self.path, error) }
    }

    /// The storage library asserts on pages that only damage can bring forth: make that an error of this read.
    fn reading<T>(&self, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(Error::corrupt(&self.path, "the structure", "the storage library gave up on it")))
    }
}

/// A partition as a reader found it.
struct Place {
    topic: TopicId,
    name: Arc<str>,
    partition: u32,
    state: StoredPartition,
}

impl Place {
    fn corrupt(&self, shared: &Shared, base: i64, reason: impl std::fmt::Display) -> Error {
        Error::CorruptBatch {
            path: shared.path.clone(),
            topic: self.name.clone(),
            partition: self.partition,
            base,
            reason: reason.to_string(),
        }
    }
}
