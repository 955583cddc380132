//! Which partitions the open transaction has, and what was refused because the one before is still ending.
//!
//! With transactions of version 2 a partition joins by what is written to it first: its leader asks the coordinator, which answers CONCURRENT_TRANSACTIONS as long as it ends the
//! transaction before, or adds partitions of another broker. So each partition may be refused until it is acknowledged once, whatever its broker has taken for others, and
//! what is written to it until then is kept. What is under way behind something that was refused is out of order. All of it is sent again, in order.

use std::collections::BTreeSet;

use super::outbox::Place;
use crate::connector::kafka::error::Code;

/// Records that may have to be sent again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept<B> {
    pub(super) place: Place,
    pub(super) sequence: i32,
    pub(super) batch: B,
}

/// What the answer of a broker for a partition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It has the records.
    Written,
    /// They are to be sent again.
    Again,
    /// The lane cannot go on.
    Failed(Code),
}

/// The partitions of the open transaction.
#[derive(Debug)]
pub(super) struct Joined<B> {
    partitions: BTreeSet<Place>,
    /// What is to be sent again, in order.
    refused: Vec<Kept<B>>,
}

impl<B> Default for Joined<B> {
    fn default() -> Self {
        Self { partitions: BTreeSet::new(), refused: Vec::new() }
    }
}

impl<B> Joined<B> {
    /// Whether the transaction has a partition. What is written to one before that may be refused.
    pub(super) fn has(&self, place: Place) -> bool {
        self.partitions.contains(&place)
    }

    /// The transaction has these partitions: they were registered.
    pub(super) fn add(&mut self, places: impl IntoIterator<Item = Place>) {
        self.partitions.extend(places);
    }

    /// The next transaction has none yet.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// A broker has answered what was written to a partition, of which `kept` may be sent again.
    pub(super) fn answered(&mut self, place: Place, code: Code, kept: Option<Kept<B>>) -> Meaning {
        let behind = self.refused.iter().any(|kept| kept.place == place);
        let again = code == Code::CONCURRENT_TRANSACTIONS || (behind && code == Code::OUT_OF_ORDER_SEQUENCE_NUMBER);
        match kept {
            Some(kept) if again => {
                self.refused.push(kept);
                Meaning::Again
            }
            // A broker that knows no sequence of ours takes any, even behind one that it refused.
            _ if behind => Meaning::Failed(Code::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ if code.0 != 0 => Meaning::Failed(code),
            _ => {
                self.partitions.insert(place);
                Meaning::Written
            }
        }
    }

    /// Everything is answered: what is to be sent again, in order.
    pub(super) fn take_refused(&mut self) -> Vec<Kept<B>> {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Place = (0, 0);
    const LATER: Place = (1, 7);
    const FINE: Code = Code::NONE;

    fn kept(place: Place, sequence: i32) -> Option<Kept<i32>> {
        Some(Kept { place, sequence, batch: sequence })
    }

    #[test]
    fn a_partition_that_joins_later_may_be_refused_as_the_first_one() {
        let mut joined = Joined::default();
        for place in [FIRST, LATER] {
            assert!(!joined.has(place), "it is to be kept: {place:?}");
            assert_eq!(joined.answered(place, Code::CONCURRENT_TRANSACTIONS, kept(place, 0)), Meaning::Again);
            assert_eq!(joined.answered(place, Code::OUT_OF_ORDER_SEQUENCE_NUMBER, kept(place, 5)), Meaning::Again);
            let again: Vec<_> = joined.take_refused().into_iter().map(|kept| (kept.place, kept.sequence)).collect();
            assert_eq!(again, [(place, 0), (place, 5)]);
            assert!(!joined.has(place));
            assert_eq!(joined.answered(place, FINE, kept(place, 0)), Meaning::Written);
            assert!(joined.has(place));
        }
        joined.clear();
        assert!(!joined.has(FIRST) && !joined.has(LATER), "the next transaction has none");
    }

    /// Of all that can come: what was kept, whether something was refused before, and the answer.
    #[test]
    fn nothing_is_sent_again_or_taken_out_of_order() {
        let failed = |code| Meaning::Failed(code);
        let out_of_order = Code::OUT_OF_ORDER_SEQUENCE_NUMBER;
        for (behind, is_kept, code, meaning) in [
            (false, true, FINE, Meaning::Written),
            (false, false, FINE, Meaning::Written),
            (false, true, Code::CONCURRENT_TRANSACTIONS, Meaning::Again),
            (false, false, Code::CONCURRENT_TRANSACTIONS, failed(Code::CONCURRENT_TRANSACTIONS)),
            (false, true, out_of_order, failed(out_of_order)),
            (false, true, Code::INVALID_RECORD, failed(Code::INVALID_RECORD)),
            (true, true, FINE, failed(out_of_order)),
            (true, false, FINE, failed(out_of_order)),
            (true, true, Code::CONCURRENT_TRANSACTIONS, Meaning::Again),
            (true, true, out_of_order, Meaning::Again),
            (true, true, Code::INVALID_RECORD, failed(out_of_order)),
        ] {
            let mut joined = Joined::default();
            if behind {
                joined.answered(FIRST, Code::CONCURRENT_TRANSACTIONS, kept(FIRST, 0));
            }
            // What was refused of one partition says nothing of another.
            assert_eq!(joined.answered(LATER, FINE, kept(LATER, 0)), Meaning::Written);
            let kept = kept(FIRST, 1).filter(|_| is_kept);
            assert_eq!(joined.answered(FIRST, code, kept), meaning, "behind {behind}, kept {is_kept}: {code}");
        }
    }
}
