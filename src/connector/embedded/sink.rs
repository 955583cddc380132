//! Writes the output of a lane into an embedded store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{find, retention};
use crate::connector::{Class, Commit, Error, LaneSettings, Opened, Sink, Target, Topic, check_target};
use crate::model::partition::partition_of_key;
use crate::model::time::now_ms;
use crate::model::{Batch, LinkId, StoredStates, TopicId, TopicPartition};
use crate::store::{Append, Command, CommitLane, Compressor, Outcome, Packer, Store, StoredTopic, Ticket};

/// A writer for one lane.
///
/// Records are packed, and compressed a mebibyte at a time, as they are written; a commit hands all of it to the
/// store as one command. So what the open transaction holds in memory is about what it will take on the disk.
#[derive(Debug)]
pub struct EmbeddedSink {
    store: Arc<Store>,
    link: LinkId,
    lane: u32,
    compressor: Compressor,
    /// `None` until the lane is opened, and after an error.
    epoch: Option<u64>,
    /// The error since the lane was opened.
    failure: Option<Error>,
    pending: HashMap<(TopicId, u32), Packer>,
    committing: Option<Ticket>,
}

impl EmbeddedSink {
    pub(super) fn new(store: Arc<Store>, settings: &LaneSettings) -> Self {
        let compressor = store.compressor(settings.compression);
        let (link, lane) = (settings.link.clone(), settings.lane);
        Self { store, link, lane, compressor, epoch: None, failure: None, pending: HashMap::new(), committing: None }
    }

    /// After an error nothing goes on before the lane is opened again: the transaction may be half written.
    fn failed(&mut self, error: impl Into<Error>) -> Error {
        let error = error.into();
        self.epoch = None;
        self.failure.get_or_insert(error).clone()
    }

    fn epoch(&self) -> Result<u64, Error> {
        self.epoch.ok_or_else(|| {
            let not_open = || Error {
                class: Class::Reopen,
                code: "not-open",
                message: format!("lane {} of link {} is not open", self.lane, self.link),
                remedy: "open the lane again",
            };
            self.failure.clone().unwrap_or_else(not_open)
        })
    }

    /// A topic that records go to.
    fn target(&self, name: &Arc<str>) -> Result<StoredTopic, Error> {
        check_target(&self.link, name)?;
        find(&self.store, name)
    }

    /// Answers the indices of the records that are too large for a store.
    fn write_all(&mut self, batch: &Batch, topic: &StoredTopic) -> Vec<usize> {
        let place = (topic.id, batch.partition % topic.partitions);
        let packer = self.pending.entry(place).or_insert_with(|| Packer::new(now_ms()));
        let records = batch.records().enumerate();
        records.filter_map(|(index, record)| packer.push(record, &mut self.compressor).err().map(|_| index)).collect()
    }

    /// The same for records that say where they go.
    fn write_placed(&mut self, batch: &Batch, target: &StoredTopic) -> Result<Vec<usize>, Error> {
        let mut left_out = Vec::new();
        let routed: Vec<_> = batch.topics.iter().map(|topic| self.target(topic)).collect::<Result<_, _>>()?;
        for (index, record) in batch.records().enumerate() {
            let placement = batch.placement(index);
            let topic = placement.topic.map_or(target, |topic| &routed[topic as usize]);
            let partition = match placement.partition_key.get(&batch.arena) {
                Some(key) => partition_of_key(key, topic.partitions),
                None => batch.partition % topic.partitions,
            };
            let packer = self.pending.entry((topic.id, partition)).or_insert_with(|| Packer::new(now_ms()));
            if packer.push(record, &mut self.compressor).is_err() {
                left_out.push(index);
            }
        }
        Ok(left_out)
    }

    fn take_appends(&mut self) -> Vec<Append> {
        let mut pending: Vec<_> = self.pending.drain().collect();
        // A map has no order of its own, and the same work has to make the same command.
        pending.sort_unstable_by_key(|(place, _)| *place);
        let compressor = &mut self.compressor;
        pending
            .into_iter()
            .map(|((topic, partition), packer)| Append { topic, partition, batches: packer.finish(compressor) })
            .collect()
    }
}

impl Sink for EmbeddedSink {
    fn open(&mut self, allowed: &dyn Fn() -> Result<(), Error>) -> Result<Opened, Error> {
        (self.epoch, self.failure) = (None, None);
        self.pending.clear();
        // A commit under way is before this command in the store's queue: it counts, or it was refused.
        self.committing = None;
        let command = Command::OpenLane { link: self.link.clone(), lane: self.lane };
        if let Outcome::Opened(epoch) = self.store.execute(command)? {
            self.epoch = Some(epoch);
        }
        allowed().inspect_err(|_| self.epoch = None)?;
        let checkpoints = self.store.checkpoints(&self.link)?;
        let revision = checkpoints.values().map(|checkpoint| checkpoint.revision).max();
        Ok(Opened { checkpoints, revision, states_lost: None })
    }

    fn prepare(&mut self, targets: &[Target]) -> Result<Vec<Topic>, Error> {
        let make =
            |target: &Target| self.store.create_topic(&target.topic, target.partitions, retention(&target.settings));
        let prepare = |target: &Target| {
            check_target(&self.link, &target.topic)?;
            Ok(make(target)?.into())
        };
        targets.iter().map(prepare).collect()
    }

    fn states(&mut self, partition: &TopicPartition) -> Result<StoredStates, Error> {
        Ok(self.store.states(&self.link, partition)?)
    }

    fn write(&mut self, batch: &Batch, target: &Arc<str>) -> Result<Vec<usize>, Error> {
        self.epoch()?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let written = self.target(target).and_then(|topic| {
            if batch.placements.is_empty() {
                Ok(self.write_all(batch, &topic))
            } else {
                self.write_placed(batch, &topic)
            }
        });
        written.map_err(|error| self.failed(error))
    }

    fn pending_bytes(&self) -> usize {
        self.pending.values().map(Packer::bytes).sum()
    }

    fn begin_commit(&mut self, commit: Commit) -> Result<(), Error> {
        let epoch = self.epoch()?;
        if self.committing() {
            return Err(self.failed(Error {
                class: Class::Reopen,
                code: "commit-under-way",
                message: format!("lane {} of link {} has a commit under way", self.lane, self.link),
                remedy: "finish the commit first",
            }));
        }
        let starts = commit.started.into_iter().map(|start| ((start.partition, start.revision), start.offset));
        let command = Command::CommitLane(CommitLane {
            link: self.link.clone(),
            lane: self.lane,
            epoch,
            appends: self.take_appends(),
            checkpoints: commit.checkpoints,
            verbatim: commit.verbatim,
            states: commit.states,
            revision_starts: starts.collect(),
        });
        self.committing = Some(self.store.submit(command));
        Ok(())
    }

    fn committing(&self) -> bool {
        self.committing.is_some()
    }

    fn finish_commit(&mut self, wait: Duration) -> Result<bool, Error> {
        let Some(ticket) = &self.committing else { return self.epoch().map(|_| true) };
        let Some(answer) = ticket.wait(wait) else { return Ok(false) };
        self.committing = None;
        answer.map(|_| true).map_err(|error| self.failed(error))
    }
}
