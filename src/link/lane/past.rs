//! What a lane knows of the past: the record that a checkpoint names, and the losses that were found.
//!
//! A loss shows when what was copied is compared with what is there now. Logs grow, so the same comparison may find nothing an hour
//! later. So whoever finds a loss stores it in the checkpoint, in a transaction of the lane that holds the fence, and only a reset removes it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::trial::is_on_trial;
use super::{COMMIT_PATIENCE, Position, Session, now_ms};
use crate::connector::{Class, Commit, Encoded, EpochEnd, Error, PartitionRange, Topic};
use crate::link::failure::{Failure, Lost, Place};
use crate::link::pipeline::Pipeline;
use crate::model::checkpoint::CHECKPOINT_VERSION;
use crate::model::{Batch, Checkpoint, Doubt, LastRecord, Loss, RevisionNumber, TopicPartition};

/// What sources say when records are gone, or a topic is another one.
const LOSSES: [&str; 4] = ["data-lost", "source-truncated", "source-recreated", "offset-beyond-end"];

/// What helps when records are gone, or a topic is another one. The loss is stored: data that was restored does not remove it.
const RESET: &str = "restore the cluster's data if you can, then say where to continue: `tidegate link reset LINK --topic TOPIC --to earliest|latest|OFFSET`";

/// What helps when the stages have lost what they remember. A restored topic is another one.
const FORGET: &str = "say where to continue, with stages that remember nothing: `tidegate link reset LINK --topic TOPIC --to earliest|latest|OFFSET --forget-state`";

/// What a lane has read of a partition at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) records: u64,
    pub(super) next_offset: i64,
    pub(super) last: Option<LastRecord>,
}

impl Read {
    pub(super) fn of(batch: &Batch) -> Self {
        Self { records: batch.len() as u64, next_offset: batch.next_offset, last: last_of(batch) }
    }
}

fn last_of(batch: &Batch) -> Option<LastRecord> {
    Some(LastRecord::of(batch.record(batch.len().checked_sub(1)?)))
}

/// What a batch says of a record that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It ends before the record.
    NotYet,
    /// It has the record, or none at its offset: compaction, retention or a transaction that was aborted may be why.
    Nothing,
    /// It has another record at its offset.
    Another(LastRecord),
}

fn look_for(last: &LastRecord, batch: &Batch) -> Seen {
    if batch.next_offset <= last.offset {
        return Seen::NotYet;
    }
    let found = batch.offsets.binary_search(&last.offset).ok().map(|index| LastRecord::of(batch.record(index)));
    found.filter(|found| found != last).map_or(Seen::Nothing, Seen::Another)
}

/// Leave out what was read before. `None` if nothing is left.
fn from_offset(batch: Batch, next: i64) -> Option<Batch> {
    if batch.next_offset <= next {
        return None;
    }
    let old = batch.offsets.partition_point(|offset| *offset < next);
    Some(if old == 0 { batch } else { batch.slice(old..batch.len()) })
}

/// A partition at which a loss was found.
#[derive(Debug)]
pub(super) struct Doubted {
    partition: TopicPartition,
    checkpoint: Checkpoint,
    failure: Failure,
    is_stored: bool,
}

impl Doubted {
    /// A loss that is to be stored.
    pub(super) fn found(partition: &TopicPartition, checkpoint: Checkpoint, doubt: Doubt) -> Self {
        let failure = failure(partition, checkpoint.next_offset, &doubt);
        Self { partition: partition.clone(), checkpoint: checkpoint.doubted(doubt), failure, is_stored: false }
    }

    /// A loss that is stored.
    pub(super) fn stored(partition: &TopicPartition, checkpoint: &Checkpoint) -> Option<Self> {
        let doubt = checkpoint.doubt.as_ref()?;
        let failure = failure(partition, checkpoint.next_offset, doubt);
        Some(Self { partition: partition.clone(), checkpoint: checkpoint.clone(), failure, is_stored: true })
    }
}

pub(super) fn doubt(code: Loss, message: String, lost: Option<(i64, i64)>) -> Doubt {
    Doubt { code, message, lost, at_ms: now_ms() }
}

fn failure(partition: &TopicPartition, next: i64, doubt: &Doubt) -> Failure {
    let place = Place { topic: partition.topic.to_string(), partition: partition.partition, offset: next };
    let lost = doubt.lost.map(|(from, to)| Lost { from, to });
    let remedy = if doubt.code == Loss::StateLost { FORGET } else { RESET };
    Failure { place: Some(place), lost, ..Failure::fatal(doubt.code.code(), doubt.message.clone(), remedy) }
}

/// Where a source partition and its target begin and end.
#[derive(Clone, Copy)]
pub(super) struct Ranges {
    /// What a reader can see.
    pub(super) source: PartitionRange,
    /// Where it ends with what open transactions have written: a reader of uncommitted records has
    /// copied that too. Known where the lane goes on behind what a reader can see.
    pub(super) log_end: i64,
    /// Where its log ends up to the leader that the checkpoint names.
    pub(super) epoch_end: EpochEnd,
    pub(super) target_end: i64,
}

/// Compare the checkpoint with what source and target are now: loss is a state with a name, never a jump.
pub(super) fn check(
    partition: &TopicPartition,
    checkpoint: &Checkpoint,
    ranges: Ranges,
    topic: &Topic,
    target: &Topic,
) -> Option<Doubt> {
    let Ranges { source, log_end, epoch_end, target_end } = ranges;
    let next = checkpoint.next_offset;
    let source_end = match epoch_end {
        EpochEnd::At(end) => end.min(log_end),
        EpochEnd::Unknown | EpochEnd::Unsaid => log_end,
    };
    let (loss, message, lost) = if let Some(recreated) = check_source_id(partition, checkpoint, topic) {
        return Some(recreated);
    } else if next < source.log_start {
        let start = source.log_start;
        let message = format!("{partition}: records {next} to {} are gone from the source", start - 1);
        (Loss::DataLost, message, Some((next, start)))
    } else if next > source_end {
        let last = next - 1;
        let message = format!(
            "{partition}: records {source_end} to {last} were copied, and the source does not have them any more"
        );
        (Loss::SourceTruncated, message, Some((source_end, next)))
    } else if epoch_end == EpochEnd::Unknown {
        let message = format!(
            "the source of {partition} is not the one that was copied, or was restored from a copy that is older"
        );
        (Loss::SourceTruncated, message, None)
    } else {
        return check_target(partition, checkpoint, target, Some(target_end));
    };
    Some(doubt(loss, message, lost))
}

/// The same for a partition of which the source says nothing yet: as much of it as is known.
pub(super) fn check_without_source(
    partition: &TopicPartition,
    checkpoint: &Checkpoint,
    topic: &Topic,
    target: &Topic,
    target_end: Option<i64>,
) -> Option<Doubt> {
    check_source_id(partition, checkpoint, topic).or_else(|| check_target(partition, checkpoint, target, target_end))
}

fn check_source_id(partition: &TopicPartition, checkpoint: &Checkpoint, topic: &Topic) -> Option<Doubt> {
    let message = || format!("the source topic of {partition} was deleted and made again");
    let is_another = checkpoint.source_topic_id.is_another(topic.id);
    is_another.then(|| doubt(Loss::SourceRecreated, message(), None))
}

fn check_target(
    partition: &TopicPartition,
    checkpoint: &Checkpoint,
    target: &Topic,
    target_end: Option<i64>,
) -> Option<Doubt> {
    if checkpoint.target_topic_id.is_another(target.id) {
        let message = format!("the target topic {} of {partition} was deleted and made again", target.name);
        return Some(doubt(Loss::TargetRecreated, message, None));
    }
    let (had, has) = (checkpoint.target_end_offset, target_end?);
    let message = || format!("the target partition of {partition} ended at {had} and ends at {has} now");
    (had > has).then(|| doubt(Loss::TargetTruncated, message(), Some((has, had))))
}

/// Refuse a pipeline that is older than what the target was written under.
pub(super) fn check_revision(committed: Option<RevisionNumber>, pipeline: &Pipeline) -> Result<(), Failure> {
    match committed {
        Some(committed) if committed > pipeline.number() => Err(Failure::fatal(
            "revision-unknown",
            format!("the target was written under revision {committed}, and {} is the newest known", pipeline.number()),
            "the link's history in the target is damaged: restore the target",
        )),
        _ => Ok(()),
    }
}

/// The failure of a source. Whether anything is lost that was copied, and what, shows when the lane opens: what was read ahead is not.
pub(super) fn looked_at_again(error: Error) -> Failure {
    let failure = Failure::from(error);
    if LOSSES.contains(&failure.code) { Failure { class: Class::Reopen, ..failure } } else { failure }
}

pub(super) fn checkpoint(position: &Position, next_offset: i64, revision: RevisionNumber) -> Checkpoint {
    Checkpoint {
        v: CHECKPOINT_VERSION,
        next_offset,
        source_topic_id: position.source_id,
        source_log_start: position.log_start,
        source_leader_epoch: position.leader_epoch,
        target_topic_id: position.target_id,
        // The sink knows it when it commits.
        target_end_offset: 0,
        link_epoch: position.link_epoch,
        revision,
        last: position.last,
        doubt: None,
    }
}

impl Position {
    /// Take in the epoch of what was read. While the record of the checkpoint has not been compared, none is: this may be another log.
    /// Which of two is newer cannot be told by them: those of an embedded cluster are random.
    pub(super) fn take_epoch(&mut self, epoch: Option<i32>) {
        if self.awaited.is_none() && epoch.is_some() {
            self.leader_epoch = epoch;
        }
    }
}

impl Session {
    /// Compare what comes first of a partition with the record that its checkpoint names, and leave out what was read before. `None`
    /// if there is nothing new.
    pub(super) fn check_past(&mut self, partition: &TopicPartition, batch: Batch) -> Result<Option<Batch>, Failure> {
        let Some(position) = self.positions.get_mut(partition) else { return Ok(Some(batch)) };
        let newest = position.next - 1;
        let Some(last) = &position.awaited else {
            if position.last.is_none_or(|last| last.offset < newest)
                && let Ok(index) = batch.offsets.binary_search(&newest)
            {
                // The checkpoint names none, as a reset leaves it, or an older one, as a lane that was killed does: the next one names this.
                position.last = Some(LastRecord::of(batch.record(index)));
                self.transaction.touch(partition, position.next);
            }
            return Ok(from_offset(batch, position.next));
        };
        match look_for(last, &batch) {
            Seen::NotYet => {}
            Seen::Nothing => {
                position.awaited = None;
                if batch.next_offset < newest {
                    // What lies between was copied: however much it is, nothing of it is read but the newest, to be named.
                    let sought = self.source.seek(partition, newest).map_err(looked_at_again);
                    return self.settle(sought).map(|()| None);
                }
                return self.check_past(partition, batch);
            }
            Seen::Another(found) => {
                let LastRecord { offset, timestamp_ms, .. } = *last;
                let message = format!(
                    "{partition}: the record at offset {offset} is not the one that was copied (timestamps {} and {timestamp_ms}): the source lost records, and others were written since",
                    found.timestamp_ms
                );
                let doubt = doubt(Loss::SourceTruncated, message, Some((offset, position.next)));
                let target_end_offset = self.checkpoints.get(partition).map_or(0, |before| before.target_end_offset);
                let revision = position.revision.unwrap_or(self.transaction.revision);
                let checkpoint = Checkpoint { target_end_offset, ..checkpoint(position, position.next, revision) };
                self.doubted.push(Doubted::found(partition, checkpoint, doubt));
                self.store_doubts()?;
            }
        }
        Ok(self.positions.get(partition).and_then(|position| from_offset(batch, position.next)))
    }

    /// Whether a record batch has something in it that is read for comparison alone.
    pub(super) fn has_past(&self, partition: &TopicPartition, encoded: &Encoded) -> bool {
        let from = encoded.records.base_offset();
        self.positions.get(partition).is_some_and(|position| position.awaited.is_some() || from < position.next)
    }

    /// Move a partition's position behind what was read.
    pub(super) fn advance(&mut self, partition: &TopicPartition, read: Read) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        position.next = read.next_offset;
        if read.last.is_some() {
            position.last = read.last;
            self.unnamed.forget(partition);
        }
    }

    /// Name records of what has passed encoded, in the checkpoints of the open transaction: also of partitions of which nothing has come since the one before.
    pub(super) fn name_records(&mut self, all: bool) {
        let taken = self.unnamed.take(all, Instant::now());
        self.name_first_of(taken);
    }

    /// Name the first records of what has passed encoded.
    pub(super) fn name_first_of(&mut self, passed: Vec<(TopicPartition, Encoded)>) {
        for (partition, encoded) in passed {
            // What cannot be decoded was passed all the same: the record that was named before stands.
            if let (Some(position), Ok(Some(first))) = (self.positions.get_mut(&partition), encoded.first_record())
                && let Some(last) = last_of(&first)
            {
                position.last = Some(last);
                self.transaction.touch(&partition, position.next);
            }
        }
    }

    /// The target has lost what the stages of the lane remembered: store that of every partition,
    /// so that none goes on as if they had seen nothing of it, and fail with the first.
    pub(super) fn doubt_states(&mut self, why: &str) -> Result<(), Failure> {
        let pipeline = self.run.pipeline();
        let has_state = pipeline.stages.iter().any(|stage| stage.plugin.state_version().is_some());
        if has_state || is_on_trial(pipeline, &self.link) {
            let undoubted = self.checkpoints.iter().filter(|(_, checkpoint)| checkpoint.doubt.is_none());
            self.doubted.extend(undoubted.map(|(partition, checkpoint)| {
                let message = format!("what the stages remember of {partition} is lost: {why}");
                Doubted::found(partition, checkpoint.clone(), doubt(Loss::StateLost, message, None))
            }));
        }
        let found = self.store_found_doubts()?;
        self.sink.begin_states()?;
        found.map_or(Ok(()), Err)
    }

    /// Store the losses that were found, and fail with the first of them. What precedes is committed: it is whole.
    pub(super) fn store_doubts(&mut self) -> Result<(), Failure> {
        self.store_found_doubts()?.map_or(Ok(()), Err)
    }

    /// Store the losses that were found. The failure of the first of them comes back.
    fn store_found_doubts(&mut self) -> Result<Option<Failure>, Failure> {
        let doubted = std::mem::take(&mut self.doubted);
        let Some(failure) = doubted.first().map(|first| first.failure.clone()) else { return Ok(None) };
        let new = doubted.into_iter().filter(|doubted| !doubted.is_stored);
        let checkpoints: BTreeMap<_, _> = new.map(|doubted| (doubted.partition, doubted.checkpoint)).collect();
        if !checkpoints.is_empty() {
            self.drain()?;
            self.sink.begin_commit(Commit { checkpoints, verbatim: true, ..Commit::default() })?;
            while !self.sink.finish_commit(COMMIT_PATIENCE)? {
                tracing::warn!("a commit takes unusually long");
            }
        }
        Ok(Some(failure))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BatchBuilder, TopicId};

    fn batch(records: &BTreeMap<i64, u8>, next_offset: i64) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, value) in records {
            builder.push(*offset, i64::from(*value / 2), None, Some(&[*value]), []);
        }
        let mut batch = builder.finish("orders", 0);
        batch.next_offset = next_offset;
        batch
    }

    fn name(offset: i64, value: u8) -> LastRecord {
        LastRecord::of(batch(&BTreeMap::from([(offset, value)]), offset + 1).record(0))
    }

    proptest! {
        /// Whatever the holes and the cut: a record that is there and differs is found, and nothing else is.
        #[test]
        fn another_record_is_found_and_a_hole_says_nothing(
            records in prop::collection::btree_map(0_i64..20, 0_u8..4, 0..20), hole in 0_i64..3, at in 0_i64..25, value in 0_u8..4,
        ) {
            let next = records.keys().last().map_or(0, |last| last + 1) + hole;
            let seen = look_for(&name(at, value), &batch(&records, next));
            let expected = match records.get(&at) {
                Some(found) if *found != value => Seen::Another(name(at, *found)),
                Some(_) => Seen::Nothing,
                None if at < next => Seen::Nothing,
                None => Seen::NotYet,
            };
            prop_assert_eq!(seen, expected);
        }

        /// What was read before is left out, and nothing else is.
        #[test]
        fn what_was_read_before_is_left_out(
            records in prop::collection::btree_map(0_i64..20, 0_u8..4, 0..20), hole in 0_i64..3, from in 0_i64..25,
        ) {
            let next = records.keys().last().map_or(0, |last| last + 1) + hole;
            let left = from_offset(batch(&records, next), from);
            let expected: Vec<i64> = records.keys().copied().filter(|offset| *offset >= from).collect();
            prop_assert_eq!(left.is_some(), next > from);
            if let Some(left) = left {
                prop_assert_eq!((left.next_offset, &left.offsets), (next, &expected));
            }
        }
    }

    const NEXT: i64 = 20;

    fn topic(id: u64) -> Topic {
        Topic { name: "orders".into(), id: TopicId(id), partitions: 1 }
    }

    /// All up to [`NEXT`] was copied, and the target ended at 30 then.
    fn checkpoint_of(source: &Topic, target: &Topic) -> Checkpoint {
        Checkpoint {
            v: CHECKPOINT_VERSION,
            next_offset: NEXT,
            source_topic_id: source.id,
            source_log_start: 0,
            source_leader_epoch: None,
            target_topic_id: target.id,
            target_end_offset: 30,
            link_epoch: 0,
            revision: RevisionNumber(1),
            last: None,
            doubt: None,
        }
    }

    fn checked(change: impl FnOnce(&mut Checkpoint, &mut Ranges, &mut Topic, &mut Topic)) -> Option<Loss> {
        let (mut source, mut target) = (topic(1), topic(2));
        let source_range = PartitionRange { log_start: 5, end: NEXT };
        let mut ranges = Ranges { source: source_range, log_end: NEXT, epoch_end: EpochEnd::Unsaid, target_end: 30 };
        let mut checkpoint = checkpoint_of(&source, &target);
        change(&mut checkpoint, &mut ranges, &mut source, &mut target);
        let partition = TopicPartition::new("orders", 0);
        check(&partition, &checkpoint, ranges, &source, &target).map(|doubt| doubt.code)
    }

    #[test]
    fn every_loss_has_its_name_and_no_loss_has_none() {
        assert_eq!(checked(|_, _, _, _| {}), None);
        assert_eq!(
            checked(|_, ranges, _, _| ranges.source.log_start = NEXT),
            None,
            "nothing is left, and nothing lost"
        );
        assert_eq!(checked(|_, _, source, _| source.id = TopicId(9)), Some(Loss::SourceRecreated));
        assert_eq!(checked(|_, ranges, _, _| ranges.source.log_start = NEXT + 1), Some(Loss::DataLost));
        assert_eq!(checked(|_, ranges, _, _| ranges.log_end = NEXT - 1), Some(Loss::SourceTruncated));
        assert_eq!(checked(|_, ranges, _, _| ranges.epoch_end = EpochEnd::At(NEXT)), None);
        assert_eq!(checked(|_, ranges, _, _| ranges.epoch_end = EpochEnd::At(NEXT - 1)), Some(Loss::SourceTruncated));
        assert_eq!(checked(|_, ranges, _, _| ranges.epoch_end = EpochEnd::Unknown), Some(Loss::SourceTruncated));
        assert_eq!(checked(|_, _, _, target| target.id = TopicId(9)), Some(Loss::TargetRecreated));
        assert_eq!(checked(|_, ranges, _, _| ranges.target_end = 29), Some(Loss::TargetTruncated));
    }

    /// Where a leader is missing, what the others of the lane write later must not hide what the
    /// target has lost.
    #[test]
    fn what_is_known_without_the_source_is_compared() {
        let partition = TopicPartition::new("orders", 0);
        let (source, target) = (topic(1), topic(2));
        let checkpoint = checkpoint_of(&source, &target);
        let early = |source: &Topic, target: &Topic, target_end| {
            check_without_source(&partition, &checkpoint, source, target, target_end).map(|doubt| doubt.code)
        };
        assert_eq!(early(&source, &target, Some(30)), None);
        assert_eq!(early(&source, &target, None), None, "nobody has said where it ends");
        assert_eq!(early(&source, &target, Some(29)), Some(Loss::TargetTruncated));
        assert_eq!(early(&topic(9), &target, None), Some(Loss::SourceRecreated));
        assert_eq!(early(&source, &topic(9), None), Some(Loss::TargetRecreated));
    }

    /// Old clusters have no topic ids, and get them when they are upgraded.
    #[test]
    fn a_topic_without_an_id_is_not_another_one() {
        assert_eq!(checked(|_, _, source, target| (source.id, target.id) = (TopicId::NIL, TopicId::NIL)), None);
        let unknown = |checkpoint: &mut Checkpoint| {
            (checkpoint.source_topic_id, checkpoint.target_topic_id) = (TopicId::NIL, TopicId::NIL);
        };
        assert_eq!(checked(|checkpoint, _, _, _| unknown(checkpoint)), None);
    }
}
