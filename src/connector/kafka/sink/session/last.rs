//! What is written last in a commit, when brokers have answered all else: where everything went.

use super::{Session, error};
use crate::connector::kafka::records::Encoder;
use crate::connector::kafka::sink::Topics;
use crate::connector::kafka::sink::flow::Mode;
use crate::connector::kafka::sink::outbox::Place;
use crate::connector::{Commit, Error};
use crate::model::time::now_ms;
use crate::model::{Batch, BatchBuilder, TopicPartition};

/// What is written when all else of a commit is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Last {
    /// Without transactions: how far the lane has come.
    pub(super) records: Vec<(Place, Batch)>,
    /// What was copied of these source partitions.
    pub(super) copied: Vec<Copied>,
}

/// How far a commit goes in a source partition.
#[derive(Debug)]
pub(super) struct Copied {
    of: TopicPartition,
    epoch: u64,
    /// Where the link begins with the partition, if it does now.
    begin: Option<i64>,
    next: i64,
}

/// A record that says nothing.
const JOIN: &[u8] = b"join";

impl Session {
    /// A transaction begins: have the partition that is written last join it now, beside the others. It takes brokers several milliseconds, and the commit would wait for it.
    pub(super) fn join(&mut self, encoder: &mut Encoder, topics: &Topics) -> Result<(), Error> {
        let Some(place) = self.offsets.filter(|_| self.flow.mode() == Mode::Version2 && !self.flow.is_open()) else {
            return Ok(());
        };
        let mut builder = BatchBuilder::new();
        builder.push(0, now_ms(), Some(JOIN), None, std::iter::empty());
        self.push_all(vec![(place, builder.finish("", 0))], encoder, topics)?;
        self.sending.flush_one(encoder, place).map_err(error::not_encoded)
    }

    /// All else is acknowledged: add what comes last.
    pub(super) fn push_last(&mut self, encoder: &mut Encoder, topics: &Topics) -> Result<(), Error> {
        let Last { records, copied } = std::mem::take(&mut self.last);
        self.push_all(records, encoder, topics)?;
        if let Some(place) = self.offsets {
            let name = |(topic, partition): Place| TopicPartition::new(topics.list[topic].name.clone(), partition);
            let mut builder = BatchBuilder::new();
            for Copied { of, epoch, begin, next } in copied {
                self.ledger.take(&of, (begin, next), epoch, name).write(&of, now_ms(), &mut builder);
            }
            self.push_all(vec![(place, builder.finish("", 0))], encoder, topics)?;
        }
        self.ledger.forget();
        self.sending.flush(encoder).map_err(error::not_encoded)?;
        self.flow.all_written();
        Ok(())
    }
}

/// How far a commit goes in each source partition.
pub(super) fn copied(commit: &Commit) -> Vec<Copied> {
    let begin =
        |of: &TopicPartition| commit.started.iter().find(|start| start.partition == *of).map(|start| start.offset);
    let copied = commit.checkpoints.iter().map(|(of, checkpoint)| Copied {
        of: of.clone(),
        epoch: checkpoint.link_epoch,
        begin: begin(of),
        next: checkpoint.next_offset,
    });
    copied.collect()
}
