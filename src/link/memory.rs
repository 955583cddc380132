//! What the stages of a lane remember of its source partitions: taken from the target when a partition is opened, migrated when a
//! plugin is replaced by one with another layout, and committed with the output.

use std::collections::BTreeMap;

use super::ahead;
use super::failure::Failure;
use super::pipeline::{Pipeline, Stage};
use crate::model::policy::TIME_AHEAD_MAX_MS;
use crate::model::state::STATE_VERSION;
use crate::model::time::now_ms;
use crate::model::{Checkpoint, Digest, RevisionNumber, StateChange, StateHead, StoredState, TopicPartition};
use crate::plugin::State;

/// The states of the partitions that a lane owns.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// For each partition what each stage remembers; `None` for stages without state.
    partitions: BTreeMap<TopicPartition, Vec<Option<State>>>,
    /// States of stages that are gone, or have none any more: dropped with the next commit.
    departed: Vec<StateChange>,
}

/// Who wrote a state, if that is not the present plugin.
pub(super) struct Writer {
    pub(super) plugin: Digest,
    pub(super) revision: RevisionNumber,
}

impl Memory {
    /// Take in what is stored of a partition. `writer` finds the stage that wrote a state; whether any state was migrated comes back.
    pub(super) fn open(
        &mut self,
        link: &str,
        partition: &TopicPartition,
        pipeline: &Pipeline,
        checkpoint: Option<&Checkpoint>,
        mut stored: BTreeMap<String, StoredState>,
        writer: impl Fn(&str, &Writer) -> Result<Stage, Failure>,
    ) -> Result<bool, Failure> {
        let mut migrated = false;
        let mut states = Vec::new();
        for stage in &pipeline.stages {
            let Some(layout) = stage.plugin.state_version() else {
                states.push(None);
                continue;
            };
            let Some(StoredState { head, rows }) = stored.remove(&stage.spec.name) else {
                states.push(Some(empty(stage)));
                continue;
            };
            check(&stage.spec.name, partition, &head, checkpoint)?;
            warn_of_time(link, partition, stage, head.time);
            let mut state = State::new(rows, head.time, stage.spec.limits.state_bytes);
            if head.layout != layout {
                let wrote = Writer { plugin: head.plugin, revision: head.revision };
                migrate(link, partition, &mut state, head.layout, || writer(&stage.spec.name, &wrote), stage)?;
                migrated = true;
            }
            states.push(Some(state));
        }
        self.departed.extend(stored.into_keys().map(|stage| departed(stage, partition)));
        self.partitions.insert(partition.clone(), states);
        Ok(migrated)
    }

    /// Hand everything over to another revision, migrated where [`migrates`] says so.
    ///
    /// After an error the states are of no use.
    pub(super) fn swap(&mut self, link: &str, old: &Pipeline, new: &Pipeline) -> Result<(), Failure> {
        for (partition, states) in &mut self.partitions {
            let mut before: BTreeMap<&str, (&Stage, State)> = BTreeMap::new();
            for (stage, state) in old.stages.iter().zip(std::mem::take(states)) {
                before.extend(state.map(|state| (stage.spec.name.as_str(), (stage, state))));
            }
            for stage in &new.stages {
                let Some(layout) = stage.plugin.state_version() else {
                    states.push(None);
                    continue;
                };
                let Some((wrote, mut state)) = before.remove(stage.spec.name.as_str()) else {
                    states.push(Some(empty(stage)));
                    continue;
                };
                state.set_limit(stage.spec.limits.state_bytes);
                let from = wrote.plugin.state_version().unwrap_or(layout);
                if from != layout {
                    migrate(link, partition, &mut state, from, || Ok(wrote.clone()), stage)?;
                }
                states.push(Some(state));
            }
            self.departed.extend(before.into_keys().map(|stage| departed(stage.to_owned(), partition)));
        }
        Ok(())
    }

    /// What the stages remember of a partition.
    pub(super) fn of(&mut self, partition: &TopicPartition) -> &mut [Option<State>] {
        self.partitions.get_mut(partition).map_or(&mut [], Vec::as_mut_slice)
    }

    /// The bytes that each stage keeps, all partitions together.
    pub(super) fn bytes(&self) -> Vec<u64> {
        let mut sums = Vec::new();
        for states in self.partitions.values() {
            sums.resize(states.len(), 0);
            for (sum, state) in sums.iter_mut().zip(states) {
                *sum += state.as_ref().map_or(0, State::bytes);
            }
        }
        sums
    }

    /// What has to be committed together with a checkpoint of `partition` at `next_offset`.
    pub(super) fn take_changes(
        &mut self,
        partition: &TopicPartition,
        next_offset: i64,
        pipeline: &Pipeline,
    ) -> Vec<StateChange> {
        let mut changes: Vec<StateChange> =
            self.departed.extract_if(.., |change| change.partition == *partition).collect();
        let Some(states) = self.partitions.get_mut(partition) else { return changes };
        for (stage, state) in pipeline.stages.iter().zip(states) {
            let (Some(state), Some(layout)) = (state, stage.plugin.state_version()) else { continue };
            let head = StateHead {
                v: STATE_VERSION,
                next_offset,
                time: state.time(),
                layout,
                plugin: stage.spec.plugin_digest,
                revision: pipeline.number(),
            };
            changes.push(StateChange {
                stage: stage.spec.name.clone(),
                partition: partition.clone(),
                head: Some(head),
                rows: state.take_changes(),
            });
        }
        changes
    }
}

/// Whether a stage's plugin is replaced by one with another layout.
pub(super) fn migrates(old: &Pipeline, new: &Pipeline) -> bool {
    new.stages.iter().any(|stage| {
        let before = old.stage(&stage.spec.name).and_then(|old| old.plugin.state_version());
        stage.plugin.state_version().zip(before).is_some_and(|(now, before)| now != before)
    })
}

/// Make what the stages did with a batch part of the next commit. How many changes wait for it now comes back.
pub(super) fn accept(states: &mut [Option<State>]) -> usize {
    states.iter_mut().flatten().for_each(State::accept);
    states.iter().flatten().map(State::changes).sum()
}

/// Undo what the stages did since the last batch was accepted.
pub(super) fn undo(states: &mut [Option<State>]) {
    states.iter_mut().flatten().for_each(State::undo_all);
}

fn empty(stage: &Stage) -> State {
    State::new(BTreeMap::new(), i64::MIN, stage.spec.limits.state_bytes)
}

/// A state that was poisoned before there was a bound goes on being of no use, without an error:
/// say so.
fn warn_of_time(link: &str, partition: &TopicPartition, stage: &Stage, time: i64) {
    let most_ms = stage.spec.time_ahead_max().unwrap_or(TIME_AHEAD_MAX_MS as i64);
    if let Some(hint) = ahead::hint(link, partition, time, most_ms, now_ms()) {
        tracing::warn!(link, stage = stage.spec.name, "{hint}");
    }
}

fn departed(stage: String, partition: &TopicPartition) -> StateChange {
    StateChange { stage, partition: partition.clone(), head: None, rows: BTreeMap::new() }
}

/// State and checkpoint are committed together. If they are not of the same commit, something else has written there.
fn check(
    stage: &str,
    partition: &TopicPartition,
    head: &StateHead,
    checkpoint: Option<&Checkpoint>,
) -> Result<(), Failure> {
    let next = checkpoint.map(|checkpoint| checkpoint.next_offset);
    if next == Some(head.next_offset) {
        return Ok(());
    }
    let checkpoint = next.map_or("there is none".to_owned(), |next| format!("that says {next}"));
    let stands = head.next_offset;
    let message =
        format!("the state of stage {stage} for {partition} stands at {stands}, and the checkpoint: {checkpoint}");
    Err(Failure::fatal("state-drifted", message, "restore the target's data").at_stage(stage))
}

fn migrate(
    link: &str,
    partition: &TopicPartition,
    state: &mut State,
    from: u32,
    writer: impl FnOnce() -> Result<Stage, Failure>,
    stage: &Stage,
) -> Result<(), Failure> {
    let to = stage.plugin.state_version().unwrap_or(from);
    // Only the newer one knows both layouts.
    let by = if to > from { stage.clone() } else { writer()? };
    let name = &stage.spec.name;
    tracing::info!(link, stage = name, %partition, from, to, plugin = ?by.plugin, "migrating state");
    by.instance(link)?.migrate(from, to, state).map_err(|error| {
        let plugin = format!("{} {}", by.spec.plugin_name, by.spec.plugin_version);
        let message = format!(
            "stage {name}: {plugin} cannot migrate the state of {partition} from version {from} to {to}: {error}"
        );
        Failure::fatal("state-not-migrated", message, "publish a plugin that can, or roll back").at_stage(name)
    })?;
    state.accept();
    Ok(())
}
