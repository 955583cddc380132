//! What stages remembered before a revision on trial is kept, so that it can be undone whole.
//!
//! A rollback says in the history which trial it undoes, so all daemons and `verify` do the same. Lanes keep what they need for that until no such
//! rollback can come any more.

use std::time::Instant;

use super::transaction::Transaction;
use super::{Session, now_ms};
use crate::link::failure::Failure;
use crate::link::memory::{Heir, Writer};
use crate::link::pipeline::Pipeline;
use crate::model::{StateChange, TopicPartition};

/// How long after the end of a trial what was kept for it is dropped, in milliseconds: a rollback that another daemon has stored just before is heard of
/// within seconds.
const SPREAD_MS: i64 = 30_000;

impl Session {
    /// Let a revision take over what the stages remember. Whether any state was migrated comes back.
    pub(super) fn hand_over_memory(&mut self, old: &Pipeline, new: &Pipeline) -> Result<bool, Failure> {
        let (link, positions) = (&self.link, &self.positions);
        let heir = Heir { link: &link.config.id, pipeline: new, is_on_trial: is_on_trial(new, link) };
        let next_offset = |partition: &TopicPartition| positions.get(partition).map_or(0, |position| position.next);
        let writer = |stage: &str, writer: &Writer| link.stage_of(stage, writer.plugin, writer.revision);
        self.memory.swap(old, &heir, next_offset, writer)
    }

    /// Drop what is kept for a trial, once it is certain that nobody undoes it any more; and go on dropping what was remembered and is not any more.
    pub(super) fn end_trial(&mut self) {
        if self.memory.has_drops() {
            self.transaction.begun.get_or_insert_with(Instant::now);
        }
        let pipeline = self.run.pipeline();
        if !self.memory.keeps() || pipeline.watch.is_held() || is_on_trial(pipeline, &self.link) {
            return;
        }
        for partition in self.memory.end_trial(pipeline) {
            if let Some(position) = self.positions.get(&partition) {
                self.transaction.touch(&partition, position.next);
            }
        }
    }

    /// What changes in the state of stages with the commit of a transaction.
    pub(super) fn take_states(&mut self, transaction: &Transaction) -> Vec<StateChange> {
        let (memory, pipeline) = (&mut self.memory, self.run.pipeline());
        let moved = transaction.moved.iter();
        let mut states: Vec<StateChange> = moved
            .flat_map(|(partition, progress)| memory.take_changes(partition, progress.next_offset, pipeline))
            .collect();
        states.extend(memory.take_drops());
        states
    }
}

/// Whether what a revision does may be undone, or was a moment ago. The history and the clock alone say so, as for whoever goes back: what is asked of anything else may
/// have another answer after a restart, and then a rollback undoes what nobody keeps any more.
pub(super) fn is_on_trial(pipeline: &Pipeline, link: &super::Shared) -> bool {
    let ends = pipeline.record.trial_ends_ms(&link.config.probation);
    ends.is_some_and(|ends| now_ms() <= ends.saturating_add(SPREAD_MS))
}
