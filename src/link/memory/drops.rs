//! States that there are no more, as long as anything is stored of them.
//!
//! The head of a state goes with the commit that ends it: from then on what is left is no state,
//! and cannot be taken for one. The entries go with that commit and with those that follow, some at
//! a time, since a transaction must not grow with what a stage has remembered. Whoever opens the
//! lane after a crash finds what is left, and goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{StateChange, TopicPartition};

/// How many entries a commit drops at most. They are some megabytes, and there is no hurry.
pub(in crate::link) const DROPS_OF_COMMIT: usize = 50_000;

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::link) struct Drops {
    gone: BTreeMap<TopicPartition, BTreeMap<String, Gone>>,
}

#[derive(Debug, Default)]
struct Gone {
    /// Whether its head is still stored.
    has_head: bool,
    /// The keys of its entries, as far as they may be stored.
    keys: Vec<Arc<[u8]>>,
}

impl Drops {
    /// A state is no more: its head goes with the next commit of the partition, and then its
    /// entries.
    pub(in crate::link) fn end(&mut self, partition: &TopicPartition, stage: String, keys: Vec<Arc<[u8]>>) {
        let gone = self.of(partition, stage);
        gone.has_head = true;
        gone.keys.extend(keys);
    }

    /// Entries were found without a head.
    pub(in crate::link) fn found(&mut self, partition: &TopicPartition, stage: String, keys: Vec<Vec<u8>>) {
        self.of(partition, stage).keys.extend(keys.into_iter().map(Arc::from));
    }

    fn of(&mut self, partition: &TopicPartition, stage: String) -> &mut Gone {
        self.gone.entry(partition.clone()).or_default().entry(stage).or_default()
    }

    /// Another state begins under this name. Its head replaces what there is, and it has to remove
    /// these entries with its first commit, or they would be taken for its own.
    pub(in crate::link) fn succeed(&mut self, partition: &TopicPartition, stage: &str) -> Vec<Arc<[u8]>> {
        let gone = self.gone.get_mut(partition).and_then(|stages| stages.remove(stage));
        gone.map(|gone| gone.keys).unwrap_or_default()
    }

    /// The heads that go with the next commit of a partition.
    pub(in crate::link) fn take_heads(&mut self, partition: &TopicPartition) -> Vec<StateChange> {
        let stages = self.gone.get_mut(partition).into_iter().flatten();
        let ended = stages.filter_map(|(stage, gone)| std::mem::take(&mut gone.has_head).then_some(stage));
        ended.map(|stage| change(partition, stage, Vec::new())).collect()
    }

    /// The entries that go with the next commit: `most` of them, and only of states without a head.
    pub(in crate::link) fn take_entries(&mut self, most: usize) -> Vec<StateChange> {
        let (mut room, mut changes) = (most, Vec::new());
        self.gone.retain(|partition, stages| {
            stages.retain(|stage, gone| {
                if gone.has_head {
                    return true;
                }
                let keys = gone.keys.split_off(gone.keys.len().saturating_sub(room));
                room -= keys.len();
                if !keys.is_empty() {
                    changes.push(change(partition, stage, keys));
                }
                !gone.keys.is_empty()
            });
            !stages.is_empty()
        });
        changes
    }

    /// Whether there are entries that the next commit can drop, whatever partitions it is of.
    pub(in crate::link) fn has_entries(&self) -> bool {
        self.gone.values().flat_map(BTreeMap::values).any(|gone| !gone.has_head)
    }
}

fn change(partition: &TopicPartition, stage: &str, keys: Vec<Arc<[u8]>>) -> StateChange {
    let rows = keys.into_iter().map(|key| (key.to_vec(), None)).collect();
    StateChange { stage: stage.to_owned(), partition: partition.clone(), head: None, rows }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::state::NEVER;
    use crate::model::{Digest, RevisionNumber, StateHead, StateRow, StoredStates};

    const MOST: usize = 3;

    fn place(partition: u32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn head() -> StateHead {
        let (plugin, revision) = (Digest::of(b"component"), RevisionNumber(1));
        StateHead { v: 1, next_offset: 1, time: 1, layout: 1, plugin, revision, departed: None, begun: None }
    }

    fn row() -> StateRow {
        StateRow { value: Vec::new(), expires: NEVER }
    }

    /// What a target stores: heads and entries by partition and stage, changed by single keys only,
    /// as a compacted log is.
    #[derive(Clone, Debug, Default)]
    struct Target {
        heads: BTreeSet<(u32, String)>,
        entries: BTreeSet<(u32, String, Vec<u8>)>,
    }

    impl Target {
        fn commit(&mut self, changes: Vec<StateChange>) {
            for StateChange { stage, partition, head, rows } in changes {
                let of = (partition.partition, stage);
                match head {
                    Some(_) => drop(self.heads.insert(of.clone())),
                    None => drop(self.heads.remove(&of)),
                }
                for (key, row) in rows {
                    let entry = (of.0, of.1.clone(), key);
                    match row {
                        Some(_) => drop(self.entries.insert(entry)),
                        None => drop(self.entries.remove(&entry)),
                    }
                }
            }
        }

        /// What whoever opens a partition finds.
        fn states(&self, partition: u32) -> StoredStates {
            let mut states = StoredStates::default();
            for stage in ["a", "b"] {
                let entries = self.entries.iter().filter(|(of, name, _)| (*of, &**name) == (partition, stage));
                let rows = entries.map(|(_, _, key)| (key.clone(), row())).collect();
                let head = self.heads.contains(&(partition, stage.to_owned())).then(head);
                states.add(stage.to_owned(), head, rows);
            }
            states
        }
    }

    /// A lane, as far as it begins states and ends them.
    struct Lane {
        drops: Drops,
        /// The keys of the states that there are, and what their next commit has to change.
        states: BTreeMap<(u32, String), OfState>,
    }

    type OfState = (BTreeSet<Vec<u8>>, BTreeMap<Vec<u8>, Option<StateRow>>);

    impl Lane {
        fn open(target: &Target) -> Self {
            let (mut drops, mut states) = (Drops::default(), BTreeMap::new());
            for partition in 0..2 {
                let found = target.states(partition);
                found.left.into_iter().for_each(|(stage, keys)| drops.found(&place(partition), stage, keys));
                for (stage, stored) in found.states {
                    states.insert((partition, stage), (stored.rows.into_keys().collect(), BTreeMap::new()));
                }
            }
            Self { drops, states }
        }

        fn end(&mut self, of: (u32, String)) {
            let Some((keys, waiting)) = self.states.remove(&of) else { return };
            let keys = keys.into_iter().chain(waiting.into_keys()).map(Arc::from).collect();
            self.drops.end(&place(of.0), of.1, keys);
        }

        fn begin(&mut self, of: (u32, String), keys: u8) {
            if self.states.contains_key(&of) {
                return;
            }
            let before = self.drops.succeed(&place(of.0), &of.1);
            let mut waiting: BTreeMap<_, _> = before.into_iter().map(|key| (key.to_vec(), None)).collect();
            let keys: BTreeSet<Vec<u8>> = (0..keys).map(|key| vec![key]).collect();
            waiting.extend(keys.iter().map(|key| (key.clone(), Some(row()))));
            self.states.insert(of, (keys, waiting));
        }

        /// What a commit of a partition changes.
        fn changes(&mut self, partition: u32) -> Vec<StateChange> {
            let mut changes = self.drops.take_heads(&place(partition));
            for ((_, stage), (_, waiting)) in self.states.iter_mut().filter(|((of, _), _)| *of == partition) {
                let (stage, rows) = (stage.clone(), std::mem::take(waiting));
                changes.push(StateChange { stage, partition: place(partition), head: Some(head()), rows });
            }
            let dropped = self.drops.take_entries(MOST);
            assert!(dropped.iter().map(|change| change.rows.len()).sum::<usize>() <= MOST, "too much for a commit");
            changes.extend(dropped);
            changes
        }
    }

    proptest! {
        /// Whatever ends and begins, and whenever the lane dies: a state has its own entries only,
        /// and in the end nothing is left of the others.
        #[test]
        fn nothing_is_left_of_what_was_dropped_and_nothing_else_is_dropped(
            steps in prop::collection::vec((0..5_u8, 0..2_u32, "[ab]", 0..12_u8), 1..40),
        ) {
            let mut target = Target::default();
            let mut lane = Lane::open(&target);
            for (step, partition, stage, keys) in steps {
                match step {
                    0 => lane.begin((partition, stage), keys),
                    1 => lane.end((partition, stage)),
                    2 | 3 => {
                        target.commit(lane.changes(partition));
                        for ((_, stage), (keys, _)) in lane.states.iter().filter(|((of, _), _)| *of == partition) {
                            let stored = target.states(partition).states.remove(stage).expect("its state");
                            prop_assert_eq!(&stored.rows.into_keys().collect::<BTreeSet<_>>(), keys);
                        }
                    }
                    // It dies: nothing is committed of what was not, and the next one opens.
                    _ => lane = Lane::open(&target),
                }
            }
            target.commit(lane.changes(0));
            target.commit(lane.changes(1));
            while lane.drops.has_entries() {
                target.commit(lane.changes(0));
            }
            for partition in 0..2 {
                let found = target.states(partition);
                prop_assert_eq!(found.left, BTreeMap::new(), "left behind");
                for (stage, stored) in found.states {
                    let (keys, _) = lane.states.remove(&(partition, stage)).expect("a state that there is");
                    prop_assert_eq!(stored.rows.into_keys().collect::<BTreeSet<_>>(), keys);
                }
            }
            prop_assert!(lane.states.is_empty(), "states are missing");
        }
    }
}
