//! What the stages of a lane remember of its source partitions: taken from the target when a partition is opened, migrated when a
//! plugin is replaced by one with another layout, and committed with the output.

mod drops;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ahead;
use super::failure::Failure;
use super::pipeline::{Pipeline, Stage};
use crate::model::policy::TIME_AHEAD_MAX_MS;
use crate::model::state::STATE_VERSION;
use crate::model::time::now_ms;
use crate::model::{
    Checkpoint, Digest, KeptRow, RevisionNumber, StateChange, StateHead, StoredState, StoredStates, TopicPartition,
};
use crate::plugin::State;
pub(super) use drops::{DROPS_OF_COMMIT, Drops};

/// Until a stage has taken a state over, the limit is nobody's.
const STATE_BYTES_OF_STAGE: u64 = u64::MAX;

/// The states of the partitions that a lane owns.
#[derive(Debug, Default)]
pub(super) struct Memory {
    partitions: BTreeMap<TopicPartition, Remembered>,
    /// States of stages that are gone, or have none any more, and what was kept for a trial that has ended.
    drops: Drops,
    /// Whether anything is kept for a trial.
    keeps: bool,
}

/// What the stages remember of a partition.
#[derive(Debug, Default)]
struct Remembered {
    /// By stage; `None` for stages without state.
    states: Vec<Option<State>>,
    /// What stages remembered before the revision on trial changed it, by stage. It is stored, so a trial can be undone after a restart too.
    kept: BTreeMap<String, Kept>,
    /// The revision on trial under which a state began, by stage: before it there was nothing, and
    /// there is nothing again if it is undone. The head of the state says it.
    begun: BTreeMap<String, RevisionNumber>,
}

/// What a stage remembered when a trial began.
#[derive(Debug)]
struct Kept {
    /// The revision on trial.
    trial: RevisionNumber,
    /// The head of the state then.
    head: StateHead,
    /// The state itself, if the revision on trial has none in this stage. Otherwise the stage's present state keeps what it changes.
    departed: Option<State>,
    is_stored: bool,
}

impl Kept {
    /// The name that it is stored under.
    fn name(&self, stage: &str) -> String {
        if self.departed.is_some() { stage.to_owned() } else { KeptRow::stage(stage, self.trial) }
    }

    /// It is kept no more. `state`: what the stage has now, which keeps it unless it departed.
    fn end(self, drops: &mut Drops, partition: &TopicPartition, stage: &str, state: Option<&State>) {
        let keys = match &self.departed {
            // Under its own name, whether or not it was stored that it departed.
            Some(departed) => departed.stored_keys(),
            None if self.is_stored => state.map_or_else(Vec::new, State::stored_kept_keys),
            None => return,
        };
        drops.end(partition, self.name(stage), keys);
    }
}

/// A state that a revision takes over.
struct Before {
    /// Its head; the offset and the time in it may be those of before.
    head: StateHead,
    /// The state; `None` if it is in `kept`.
    state: Option<State>,
    kept: Option<Kept>,
}

/// A revision that takes over what the one before remembers.
pub(super) struct Heir<'p> {
    pub(super) link: &'p str,
    pub(super) pipeline: &'p Pipeline,
    /// Whether what it changes is kept, because it may be undone.
    pub(super) is_on_trial: bool,
}

/// Who wrote a state, if that is not the present plugin.
pub(super) struct Writer {
    pub(super) plugin: Digest,
    pub(super) revision: RevisionNumber,
}

impl Writer {
    fn of(head: &StateHead) -> Self {
        Self { plugin: head.plugin, revision: head.revision }
    }
}

impl Memory {
    /// Take in what is stored of a partition. `writer` finds the stage that wrote a state; whether any state was migrated comes back.
    pub(super) fn open(
        &mut self,
        heir: &Heir<'_>,
        partition: &TopicPartition,
        checkpoint: Option<&Checkpoint>,
        stored: StoredStates,
        writer: impl Fn(&str, &Writer) -> Result<Stage, Failure>,
    ) -> Result<bool, Failure> {
        let (mut before, mut aside) = (BTreeMap::new(), Vec::new());
        stored.left.into_iter().for_each(|(name, keys)| self.drops.found(partition, name, keys));
        for (name, StoredState { head, rows }) in stored.states {
            if let Some((stage, trial)) = KeptRow::read_stage(&name) {
                aside.push((name.clone(), stage.to_owned(), trial, head, rows));
                continue;
            }
            let state = State::new(rows, head.time, STATE_BYTES_OF_STAGE);
            let before_it = match head.departed {
                Some(trial) => {
                    let kept = Kept { trial, head: head.clone(), departed: Some(state), is_stored: true };
                    Before { head, state: None, kept: Some(kept) }
                }
                None => {
                    if heir.is_on_trial || heir.has_state(&name) {
                        check(&name, partition, &head, checkpoint)?;
                    }
                    if let Some(stage) = heir.pipeline.stage(&name) {
                        warn_of_time(heir.link, partition, stage, head.time);
                    }
                    Before { head, state: Some(state), kept: None }
                }
            };
            before.insert(name, before_it);
        }
        for (name, stage, trial, head, rows) in aside {
            let found = before
                .get_mut(&stage)
                .and_then(|before: &mut Before| before.state.as_mut().zip(Some(&mut before.kept)));
            let Some((state, kept)) = found.filter(|(_, kept)| kept.is_none()) else {
                self.drops.end(partition, name, rows.into_keys().map(Arc::from).collect());
                continue;
            };
            let rows = rows.into_iter().map(|(key, row)| Some((key, KeptRow::from_row(row)?.0)));
            let rows: Option<Vec<_>> = rows.collect();
            state.keep_on(rows.ok_or_else(|| damaged(&stage, partition))?, head.time);
            *kept = Some(Kept { trial, head, departed: None, is_stored: true });
        }
        // The history would say exactly what another revision has changed in a stage; it is asked when that matters.
        let changes = |_: &Stage, head: &StateHead| head.revision != heir.pipeline.number();
        self.inherit(heir, partition, before, None, changes, writer)
    }

    /// Hand everything over to another revision. `next_offset` is how far a partition has come. Whether any state was migrated comes back.
    ///
    /// After an error the states are of no use.
    pub(super) fn swap(
        &mut self,
        old: &Pipeline,
        heir: &Heir<'_>,
        next_offset: impl Fn(&TopicPartition) -> i64,
        writer: impl Fn(&str, &Writer) -> Result<Stage, Failure>,
    ) -> Result<bool, Failure> {
        let mut migrated = false;
        self.keeps = false;
        let wrote = |name: &str, writer_of: &Writer| match old.stage(name) {
            Some(stage) if writer_of.revision == old.number() => Ok(stage.clone()),
            _ => writer(name, writer_of),
        };
        for (partition, Remembered { states, kept, begun }) in std::mem::take(&mut self.partitions) {
            let next_offset = next_offset(&partition);
            let mut before = BTreeMap::new();
            for (name, kept) in kept {
                before.insert(name, Before { head: kept.head.clone(), state: None, kept: Some(kept) });
            }
            for (stage, state) in old.stages.iter().zip(states) {
                let (Some(state), Some(layout)) = (state, stage.plugin.state_version()) else { continue };
                let begun = begun.get(&stage.spec.name).copied();
                let head = StateHead { begun, ..head_of(&state, layout, stage, old.number(), next_offset) };
                let kept = before.remove(&stage.spec.name).and_then(|before: Before| before.kept);
                before.insert(stage.spec.name.clone(), Before { head, state: Some(state), kept });
            }
            let changes = |stage: &Stage, head: &StateHead| {
                // After an undone trial it is as another revision has left it.
                head.revision != old.number()
                    || old.stage(&stage.spec.name).is_none_or(|old| old.spec.works_otherwise(&stage.spec))
            };
            migrated |= self.inherit(heir, &partition, before, Some(next_offset), changes, wrote)?;
        }
        Ok(migrated)
    }

    /// Let a revision take over what the one before remembers of a partition. `changes` says whether a stage may work otherwise than what wrote a state.
    fn inherit(
        &mut self,
        heir: &Heir<'_>,
        partition: &TopicPartition,
        before: BTreeMap<String, Before>,
        next_offset: Option<i64>,
        changes: impl Fn(&Stage, &StateHead) -> bool,
        writer: impl Fn(&str, &Writer) -> Result<Stage, Failure>,
    ) -> Result<bool, Failure> {
        let (number, mut migrated) = (heir.pipeline.number(), false);
        let mut after = Remembered::default();
        // Trials end, or are undone, before anything is taken over: also for a stage that is gone, or has no state now.
        let mut settled = BTreeMap::new();
        for (name, before) in before {
            let before = self.settle(heir, partition, &name, before, &writer)?;
            settled.extend(before.map(|before| (name, before)));
        }
        let mut before = settled;
        for stage in &heir.pipeline.stages {
            let name = &stage.spec.name;
            let Some(layout) = stage.plugin.state_version() else {
                after.states.push(None);
                continue;
            };
            let Some(Before { head, state: Some(mut state), mut kept }) = before.remove(name) else {
                let mut state = empty(stage);
                state.succeed(self.drops.succeed(partition, name));
                after.states.push(Some(state));
                if heir.is_on_trial && heir.pipeline.changed.contains(name) {
                    after.begun.insert(name.clone(), number);
                }
                continue;
            };
            after.begun.extend(head.begun.map(|trial| (name.clone(), trial)));
            state.set_limit(stage.spec.limits.state_bytes);
            // What began under this very trial has nothing before it that could be kept.
            if heir.is_on_trial && kept.is_none() && head.begun.is_none() && changes(stage, &head) {
                state.keep();
                state.succeed_kept(self.drops.succeed(partition, &KeptRow::stage(name, number)));
                let head = StateHead { time: state.time(), ..head.clone() };
                kept = Some(Kept { trial: number, head, departed: None, is_stored: false });
            }
            if head.layout != layout {
                migrate(heir.link, partition, &mut state, head.layout, || writer(name, &Writer::of(&head)), stage)?;
                migrated = true;
            }
            after.kept.extend(kept.map(|kept| (name.clone(), kept)));
            after.states.push(Some(state));
        }
        for (name, before) in before {
            let kept = match before {
                Before { kept: Some(kept), state: None, .. } => kept,
                Before { head, state: Some(mut state), kept } => {
                    kept.into_iter().for_each(|kept| kept.end(&mut self.drops, partition, &name, Some(&state)));
                    state.forget_kept();
                    if !heir.is_on_trial {
                        self.drops.end(partition, name, state.stored_keys());
                        continue;
                    }
                    let next_offset = next_offset.unwrap_or(head.next_offset);
                    let head = StateHead { departed: Some(number), next_offset, time: state.time(), ..head };
                    Kept { trial: number, head, departed: Some(state), is_stored: false }
                }
                // Nothing of it is stored.
                Before { .. } => continue,
            };
            after.kept.insert(name, kept);
        }
        self.keeps |= !after.kept.is_empty() || !after.begun.is_empty();
        self.partitions.insert(partition.clone(), after);
        Ok(migrated)
    }

    /// What there is of a stage for the heir to take over, once every trial but its own has ended. This is where a trial is undone.
    fn settle(
        &mut self,
        heir: &Heir<'_>,
        partition: &TopicPartition,
        name: &str,
        before: Before,
        writer: &impl Fn(&str, &Writer) -> Result<Stage, Failure>,
    ) -> Result<Option<Before>, Failure> {
        let Some(before) = self.settle_begun(heir, partition, name, before) else { return Ok(None) };
        let (head, state, kept) = match before {
            Before { head, state, kept: Some(kept) } if kept.trial != heir.pipeline.number() => (head, state, kept),
            unchanged => return Ok(Some(unchanged)),
        };
        let is_undone = heir.undoes(kept.trial);
        match (state, kept) {
            (None, Kept { departed: Some(state), head, .. }) if is_undone => {
                let head = StateHead { departed: None, ..head };
                Ok(Some(Before { head, state: Some(state), kept: None }))
            }
            // The trial has ended in another way, and the state with it.
            (None, kept) => {
                kept.end(&mut self.drops, partition, name, None);
                Ok(None)
            }
            (Some(mut state), kept) => {
                let spec_of = |head: &StateHead| writer(name, &Writer::of(head)).map(|stage| stage.spec);
                // A stage that the trial has not changed has gone on as ever.
                let is_restored = is_undone && spec_of(&head)?.works_otherwise(&spec_of(&kept.head)?);
                let head = if is_restored { kept.head.clone() } else { head };
                kept.end(&mut self.drops, partition, name, Some(&state));
                if is_restored {
                    state.restore();
                } else {
                    state.forget_kept();
                }
                Ok(Some(Before { head, state: Some(state), kept: None }))
            }
        }
    }

    /// The same for a state that began under a trial: undone, nothing is left of it.
    fn settle_begun(
        &mut self,
        heir: &Heir<'_>,
        partition: &TopicPartition,
        name: &str,
        before: Before,
    ) -> Option<Before> {
        let Some(trial) = before.head.begun.filter(|trial| *trial != heir.pipeline.number()) else {
            return Some(before);
        };
        if heir.undoes(trial) {
            let keys = before.state.as_ref().map_or_else(Vec::new, State::stored_keys);
            self.drops.end(partition, name.to_owned(), keys);
            return None;
        }
        Some(Before { head: StateHead { begun: None, ..before.head }, ..before })
    }

    /// Whether anything is kept for a trial that may be undone.
    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    /// The trial of the pipeline has ended: keep nothing any more. The partitions come back of which something has to be dropped.
    pub(super) fn end_trial(&mut self, pipeline: &Pipeline) -> Vec<TopicPartition> {
        self.keeps = false;
        let mut partitions = Vec::new();
        for (partition, Remembered { states, kept, begun }) in &mut self.partitions {
            let (ended, begun) = (std::mem::take(kept), std::mem::take(begun));
            if ended.is_empty() && begun.is_empty() {
                continue;
            }
            for (name, kept) in ended {
                let of_stage = pipeline.stages.iter().zip(&*states).find(|(stage, _)| stage.spec.name == name);
                kept.end(&mut self.drops, partition, &name, of_stage.and_then(|(_, state)| state.as_ref()));
            }
            states.iter_mut().flatten().for_each(State::forget_kept);
            partitions.push(partition.clone());
        }
        partitions
    }

    /// Whether more is to be dropped than goes with the commits of its partitions.
    pub(super) fn has_drops(&self) -> bool {
        self.drops.has_entries()
    }

    /// What else is to be dropped with the next commit. To be asked after [`Self::take_changes`].
    pub(super) fn take_drops(&mut self) -> Vec<StateChange> {
        self.drops.take_entries(DROPS_OF_COMMIT)
    }

    /// What the stages remember of a partition.
    pub(super) fn of(&mut self, partition: &TopicPartition) -> &mut [Option<State>] {
        self.partitions.get_mut(partition).map_or(&mut [], |remembered| remembered.states.as_mut_slice())
    }

    /// The bytes that each stage keeps, all partitions together.
    pub(super) fn bytes(&self) -> Vec<u64> {
        let mut sums = Vec::new();
        for Remembered { states, .. } in self.partitions.values() {
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
        let mut changes = self.drops.take_heads(partition);
        let Some(Remembered { states, kept, begun }) = self.partitions.get_mut(partition) else { return changes };
        let mut change = |stage: String, head: StateHead, rows| {
            changes.push(StateChange { stage, partition: partition.clone(), head: Some(head), rows });
        };
        for (stage, state) in pipeline.stages.iter().zip(states) {
            let (Some(state), Some(layout)) = (state, stage.plugin.state_version()) else { continue };
            let begun = begun.get(&stage.spec.name).copied();
            let head = StateHead { begun, ..head_of(state, layout, stage, pipeline.number(), next_offset) };
            change(stage.spec.name.clone(), head, state.take_changes());
            let Some(kept) = kept.get_mut(&stage.spec.name) else { continue };
            let rows = state.take_kept_changes();
            if !rows.is_empty() || !kept.is_stored {
                change(kept.name(&stage.spec.name), kept.head.clone(), rows);
                kept.is_stored = true;
            }
        }
        for (stage, kept) in kept {
            if let Some(state) = kept.departed.as_mut().filter(|_| !kept.is_stored) {
                change(stage.clone(), kept.head.clone(), state.take_changes());
                kept.is_stored = true;
            }
        }
        changes
    }
}

impl Heir<'_> {
    /// Whether a trial was undone before it, or is by it: whoever takes over may have passed by the revision that undid it.
    fn undoes(&self, trial: RevisionNumber) -> bool {
        self.pipeline.undone.contains(&trial)
    }

    fn has_state(&self, stage: &str) -> bool {
        self.pipeline.stage(stage).is_some_and(|stage| stage.plugin.state_version().is_some())
    }
}

fn head_of(state: &State, layout: u32, stage: &Stage, revision: RevisionNumber, next_offset: i64) -> StateHead {
    let (time, plugin) = (state.time(), stage.spec.plugin_digest);
    StateHead { v: STATE_VERSION, next_offset, time, layout, plugin, revision, departed: None, begun: None }
}

/// Whether a stage's plugin may find state with another layout: that of the plugin that it replaces, or of one before that, where a trial is undone.
pub(super) fn migrates(old: &Pipeline, new: &Pipeline) -> bool {
    new.undone.contains(&old.number())
        || new.stages.iter().any(|stage| {
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

fn damaged(stage: &str, partition: &TopicPartition) -> Failure {
    let message = format!("what stage {stage} remembered of {partition} before a trial has another form");
    Failure::fatal("state-drifted", message, "restore the target's data").at_stage(stage)
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
