//! Who gets which lane: pure, so that it can be tested without a broker.

use std::collections::BTreeMap;

/// A daemon that wants lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What the group calls it.
    pub(super) id: String,
    /// The lanes that it has.
    pub(super) owned: Vec<u32>,
    /// The generation in which it got them: of two who claim a lane the later one has it.
    pub(super) generation: i32,
}

/// Share `lanes` lanes out: everybody gets as many, or one more, and as few as possible move.
///
/// Who has most keeps most, so the shares that are one larger go to those who would have to give one away otherwise.
pub(super) fn share(lanes: u32, candidates: &[Candidate]) -> BTreeMap<String, Vec<u32>> {
    let mut owners: BTreeMap<u32, &Candidate> = BTreeMap::new();
    for candidate in candidates {
        for lane in candidate.owned.iter().filter(|lane| **lane < lanes) {
            let owner = owners.entry(*lane).or_insert(candidate);
            if (candidate.generation, &candidate.id) > (owner.generation, &owner.id) {
                *owner = candidate;
            }
        }
    }
    let mut shares: BTreeMap<String, Vec<u32>> = candidates.iter().map(|one| (one.id.clone(), Vec::new())).collect();
    for (lane, owner) in owners {
        shares.entry(owner.id.clone()).or_default().push(lane);
    }
    let mut by_size: Vec<(String, Vec<u32>)> = shares.into_iter().collect();
    by_size.sort_by_key(|(id, owned)| (std::cmp::Reverse(owned.len()), id.clone()));
    let (size, larger) = (lanes as usize / by_size.len().max(1), lanes as usize % by_size.len().max(1));
    let size_of = |index: usize| size + usize::from(index < larger);
    let mut free: Vec<u32> = (0..lanes).collect();
    for (index, (_, owned)) in by_size.iter_mut().enumerate() {
        owned.truncate(size_of(index));
        free.retain(|lane| !owned.contains(lane));
    }
    let mut free = free.into_iter();
    for (index, (_, owned)) in by_size.iter_mut().enumerate() {
        let missing = size_of(index) - owned.len();
        owned.extend(free.by_ref().take(missing));
        owned.sort_unstable();
    }
    by_size.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: &str, owned: &[u32]) -> Candidate {
        Candidate { id: id.to_owned(), owned: owned.to_vec(), generation: 1 }
    }

    fn candidates(shares: &BTreeMap<String, Vec<u32>>) -> Vec<Candidate> {
        shares.iter().map(|(id, owned)| candidate(id, owned)).collect()
    }

    /// How many lanes are not where they were.
    fn moves(before: &BTreeMap<String, Vec<u32>>, after: &BTreeMap<String, Vec<u32>>) -> usize {
        let kept = |(id, lanes): (&String, &Vec<u32>)| {
            lanes.iter().filter(|lane| before.get(id).is_some_and(|had| had.contains(lane))).count()
        };
        before.values().map(Vec::len).sum::<usize>() - after.iter().map(kept).sum::<usize>()
    }

    #[test]
    fn who_is_alone_has_all_lanes() {
        assert_eq!(share(3, &[candidate("a", &[])]), BTreeMap::from([("a".to_owned(), vec![0, 1, 2])]));
    }

    #[test]
    fn a_newcomer_gets_its_share_and_nothing_else_moves() {
        let two = share(12, &[candidate("a", &[]), candidate("b", &[])]);
        let mut three = candidates(&two);
        three.push(candidate("c", &[]));
        let after = share(12, &three);
        assert_eq!(after["c"].len(), 4);
        assert_eq!(moves(&two, &after), 4);
    }

    #[test]
    fn the_later_of_two_claims_counts() {
        let stale = Candidate { generation: 3, ..candidate("a", &[0, 1]) };
        let fresh = Candidate { generation: 4, ..candidate("b", &[0, 1]) };
        let shares = share(2, &[stale, fresh]);
        assert_eq!((&shares["a"][..], &shares["b"][..]), (&[1][..], &[0][..]));
    }

    #[test]
    fn more_daemons_than_lanes_leave_some_without() {
        let shares = share(2, &[candidate("a", &[]), candidate("b", &[1]), candidate("c", &[])]);
        assert_eq!(shares["b"], [1]);
        assert_eq!(shares.values().map(Vec::len).sum::<usize>(), 2);
    }

    proptest! {
        #[test]
        fn every_lane_has_one_owner_shares_are_even_and_who_stays_keeps(
            lanes in 1_u32..40, before in 1_usize..7, leaving in any::<Vec<bool>>(), joining in 0_usize..4,
            claims in prop::collection::vec((0_usize..7, 0_u32..50, 0_i32..3), 0..60),
        ) {
            // Any claims at all are resolved.
            let claimed: Vec<Candidate> = (0..before).map(|index| {
                let mine = claims.iter().filter(|(of, ..)| of % before == index);
                let generation = mine.clone().map(|(_, _, generation)| *generation).max().unwrap_or(0);
                Candidate { id: format!("m{index}"), owned: mine.map(|(_, lane, _)| *lane).collect(), generation }
            }).collect();
            let first = share(lanes, &claimed);
            // Then some go and some come.
            let mut next = candidates(&first);
            let mut index = 0;
            next.retain(|_| { index += 1; index == 1 || !leaving.get(index).copied().unwrap_or(false) });
            let stayed = next.len();
            next.extend((0..joining).map(|index| candidate(&format!("n{index}"), &[])));
            let second = share(lanes, &next);
            for shares in [&first, &second] {
                let mut all: Vec<u32> = shares.values().flatten().copied().collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..lanes).collect::<Vec<_>>());
                let sizes = shares.values().map(Vec::len);
                prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            }
            if joining == 0 {
                let stay: BTreeMap<_, _> = first.iter().filter(|(id, _)| second.contains_key(*id)).map(|(id, had)| (id.clone(), had.clone())).collect();
                prop_assert_eq!(moves(&stay, &second), 0, "who stays keeps what it has");
            } else if stayed == before {
                let least = lanes as usize / (before + joining);
                let newcomers = (0..joining).map(|index| second[&format!("n{index}")].len()).sum::<usize>();
                prop_assert!(moves(&first, &second) == newcomers && newcomers >= least * joining);
            }
        }
    }
}
