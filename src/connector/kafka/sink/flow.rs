//! The order in which a lane's requests follow each other, as a state machine without any IO.
//!
//! ```text
//!             send                              refused
//!   Idle ───────────────────────────▶ Open ───────────────▶ Refused
//!    ▲ │                              ▲ ▲ ▲                    │
//!    │ │ register (version 1)         │ │ └────────────────────┘ all is answered: send what was refused
//!    │ └─────────▶ Registering ───────┘ │
//!    │                        registered│
//!    │         commit, and all is sent and answered
//!    └───────────── ended ─── Ending ◀──┘
//! ```
//!
//! Before it ends a transaction writes what comes last: which offsets were copied to where is known only when all is answered.
//!
//! **A transaction is ended only while no request with records is unanswered**, be it by a commit or
//! by an abort: EndTxn takes a [`Leave`], and nothing but [`Flow::end`] makes one. The markers of
//! version 1 carry the epoch that the records have. A request that reaches its broker behind the
//! marker still has the right epoch and the next sequence, so brokers before Kafka 3.6 append it, and
//! the next transaction of the same producer commits it along with its own records, which are the
//! same ones. Newer brokers refuse it (KIP-890), but only where `transaction.partition.verification`
//! is not switched off. Java's producer and librdkafka wait for their requests before they abort,
//! too, and raise the epoch where they cannot.
//!
//! A lane that gives up with requests under way therefore says nothing. Whoever opens it next sends
//! InitProducerId, and that aborts with a higher epoch: its markers fence what comes late. If nobody
//! opens it, the coordinator does the same when the transaction times out. A lane does not send
//! InitProducerId on its way out to make that quicker: a coordinator that finds a transaction open
//! aborts it without a look at the epoch in the request, so a lane that was left behind would abort
//! what its successor has begun.
//!
//! After anything else than these the lane opens again, and nothing here is kept.
//!
//! What can be refused: a partition joins the transaction while the coordinator may still be ending the one before, or adding others, and then it answers CONCURRENT_TRANSACTIONS.
//! Others may be on their way behind it, so that a far cluster is not waited for, and these are out of order then. All of them are sent once more, in order: see
//! [`joined`](super::joined).

/// How output becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Transactions of version 2 (KIP-890): what is sent joins the transaction by itself, and each one has an epoch of its own.
    Version2,
    /// Older transactions: each partition is registered before anything is sent to it.
    Version1,
    /// No transactions: what is sent is visible at once, and the checkpoint follows when all of it is acknowledged.
    Idempotent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The cluster has no transaction of ours.
    Idle,
    /// Partitions are being registered. Whether the transaction was open before.
    Registering { open: bool },
    /// The transaction is open, or what opens it is on its way.
    Open,
    /// What was to open or join it was refused, and what was sent behind that is on its way.
    Refused,
    /// It is being committed or aborted.
    Ending,
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unsent {
    /// Whether anything does.
    pub(super) any: bool,
    /// Whether some of it may be sent now: record batches that are full, or are to be committed, to a broker that can take more.
    pub(super) ready: bool,
    /// Whether some of it is for a partition that the transaction does not have yet.
    pub(super) unregistered: bool,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Aborted,
}

/// Leave to end the transaction, once: all that was sent in it is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leave {
    outcome: Outcome,
}

impl Leave {
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send what is ready.
    Send,
    /// Register the partitions that the transaction does not have yet.
    Register,
    /// Everything is acknowledged: write what comes last.
    Last,
    /// Everything is acknowledged: commit.
    End,
    /// The commit is done.
    Finished,
    /// Nothing, before an answer comes or more is written.
    Wait,
}

#[derive(Debug)]
pub(super) struct Flow {
    mode: Mode,
    phase: Phase,
    /// Whether a commit was asked for and is not done.
    committing: bool,
    /// Whether what comes last in the commit is written.
    all_written: bool,
    /// The requests without an answer.
    in_flight: usize,
}

impl Flow {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, phase: Phase::Idle, committing: false, all_written: false, in_flight: 0 }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn is_committing(&self) -> bool {
        self.committing
    }

    /// Whether the cluster may hold a transaction of ours that is not ended.
    pub(super) fn is_open(&self) -> bool {
        self.mode != Mode::Idempotent && self.phase != Phase::Idle
    }

    /// Whether nothing was sent yet, in a mode with transactions, and no commit is under way.
    pub(super) fn is_unbegun(&self) -> bool {
        self.mode != Mode::Idempotent && self.phase == Phase::Idle && !self.committing
    }

    pub(super) fn step(&self, unsent: Unsent) -> Step {
        if !matches!(self.phase, Phase::Idle | Phase::Open) {
            return Step::Wait;
        }
        if unsent.ready {
            let register = self.mode == Mode::Version1 && unsent.unregistered;
            return if register { Step::Register } else { Step::Send };
        }
        if !self.committing || unsent.any || self.in_flight > 0 {
            return Step::Wait;
        }
        match (self.mode, self.phase) {
            _ if !self.all_written => Step::Last,
            (Mode::Version1 | Mode::Version2, Phase::Open) => Step::End,
            // A transaction that nothing was sent in is none.
            _ => Step::Finished,
        }
    }

    /// A request with records is sent.
    pub(super) fn sent(&mut self) {
        self.phase = Phase::Open;
        self.in_flight += 1;
    }

    /// One was answered. Whether it is time to send once more what was refused.
    pub(super) fn answered(&mut self, refused: bool) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        if refused {
            self.phase = Phase::Refused;
        }
        let again = self.phase == Phase::Refused && self.in_flight == 0;
        if again {
            self.phase = Phase::Open;
        }
        again
    }

    /// A request to register partitions was sent.
    pub(super) fn registering(&mut self) {
        self.phase = Phase::Registering { open: self.phase == Phase::Open };
    }

    /// Whether they are registered, or have to be once more.
    pub(super) fn registered(&mut self, done: bool) {
        let was_open = self.phase == Phase::Registering { open: true };
        self.phase = if done || was_open { Phase::Open } else { Phase::Idle };
    }

    /// What was written so far is to be committed.
    pub(super) fn commit(&mut self) {
        self.committing = true;
        self.all_written = false;
    }

    /// What comes last was written, to be sent.
    pub(super) fn all_written(&mut self) {
        self.all_written = true;
    }

    /// End the transaction. `None`: there is none, or the cluster has not answered all that was sent in it.
    pub(super) fn end(&mut self, outcome: Outcome) -> Option<Leave> {
        let is_whole = outcome == Outcome::Aborted || (self.committing && self.all_written);
        if !self.is_open() || self.phase != Phase::Open || self.in_flight > 0 || !is_whole {
            return None;
        }
        self.phase = Phase::Ending;
        Some(Leave { outcome })
    }

    /// The request to commit is to be sent once more.
    pub(super) fn end_again(&mut self) {
        self.phase = Phase::Open;
    }

    /// The commit is done.
    pub(super) fn finished(&mut self) {
        self.phase = Phase::Idle;
        self.committing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Unsent = Unsent { any: false, ready: false, unregistered: false };
    const READY: Unsent = Unsent { any: true, ready: true, unregistered: false };
    const NEW: Unsent = Unsent { any: true, ready: true, unregistered: true };
    /// Record batches that are not full, or a window that is.
    const HELD: Unsent = Unsent { any: true, ready: false, unregistered: false };

    #[test]
    fn requests_follow_each_other_without_waiting() {
        let mut flow = Flow::new(Mode::Version2);
        assert_eq!(flow.step(HELD), Step::Wait);
        assert!(!flow.is_open());
        for _ in 0..3 {
            assert_eq!(flow.step(NEW), Step::Send);
            flow.sent();
            assert!(flow.is_open());
        }
        assert!(!flow.answered(false));
    }

    #[test]
    fn what_was_refused_is_sent_once_more_when_all_is_answered() {
        let mut flow = Flow::new(Mode::Version2);
        (0..3).for_each(|_| flow.sent());
        assert!(!flow.answered(true));
        assert_eq!(flow.step(READY), Step::Wait, "it would overtake what was refused");
        assert!(!flow.answered(false), "of another broker");
        assert_eq!(flow.step(READY), Step::Wait);
        assert!(flow.answered(true));
        assert_eq!(flow.step(READY), Step::Send);
        flow.sent();
        assert!(flow.answered(true), "and once more");
    }

    #[test]
    fn a_commit_waits_until_all_is_sent_and_answered() {
        for mode in [Mode::Version2, Mode::Version1] {
            let mut flow = Flow::new(mode);
            flow.registering();
            flow.registered(true);
            flow.sent();
            flow.sent();
            flow.commit();
            assert_eq!(flow.step(HELD), Step::Wait);
            assert_eq!(flow.step(NOTHING), Step::Wait);
            flow.answered(false);
            assert_eq!(flow.step(NOTHING), Step::Wait);
            flow.answered(false);
            assert_eq!(flow.step(HELD), Step::Wait, "what was not sent is not committed");
            assert_eq!(flow.step(NOTHING), Step::Last, "where it is is known now");
            flow.all_written();
            assert_eq!(flow.step(READY), Step::Send);
            flow.sent();
            assert_eq!(flow.step(NOTHING), Step::Wait);
            flow.answered(false);
            assert_eq!(flow.step(NOTHING), Step::End);
            assert_eq!(flow.end(Outcome::Committed), Some(Leave { outcome: Outcome::Committed }));
            assert_eq!(flow.end(Outcome::Committed), None, "once");
            assert_eq!(flow.step(READY), Step::Wait, "the next transaction waits for the end of this one");
            flow.end_again();
            assert_eq!(flow.step(NOTHING), Step::End);
            assert!(flow.end(Outcome::Committed).is_some());
            flow.finished();
            assert!(!flow.is_committing() && !flow.is_open());
        }
    }

    #[test]
    fn nothing_is_ended_before_all_that_was_sent_is_answered() {
        for mode in [Mode::Version2, Mode::Version1] {
            for outcome in [Outcome::Aborted, Outcome::Committed] {
                let mut flow = Flow::new(mode);
                assert_eq!(flow.end(outcome), None, "there is nothing to end");
                if mode == Mode::Version1 {
                    flow.registering();
                    assert_eq!(flow.end(outcome), None, "the coordinator was asked something else");
                    flow.registered(true);
                }
                flow.commit();
                flow.all_written();
                (0..3).for_each(|_| flow.sent());
                for _ in 0..3 {
                    assert_eq!(flow.end(outcome), None, "{mode:?}: what is under way may come behind the marker");
                    flow.answered(false);
                }
                assert_eq!(flow.end(outcome), Some(Leave { outcome }));
                assert_eq!(flow.end(Outcome::Aborted), None, "it is being ended");
            }
        }
        let mut flow = Flow::new(Mode::Version2);
        (0..2).for_each(|_| flow.sent());
        flow.answered(true);
        assert_eq!(flow.end(Outcome::Aborted), None, "what is behind a refused one is under way, too");
        assert!(flow.answered(true));
        assert!(flow.end(Outcome::Aborted).is_some());
    }

    #[test]
    fn a_commit_that_was_not_asked_for_is_none() {
        let mut flow = Flow::new(Mode::Version2);
        flow.sent();
        flow.answered(false);
        assert_eq!(flow.end(Outcome::Committed), None);
        flow.commit();
        assert_eq!(flow.end(Outcome::Committed), None, "what comes last is not written");
        assert!(flow.end(Outcome::Aborted).is_some());
        let mut flow = Flow::new(Mode::Idempotent);
        flow.sent();
        flow.answered(false);
        assert_eq!(flow.end(Outcome::Aborted), None, "there is no transaction");
    }

    #[test]
    fn a_transaction_is_unbegun_until_something_is_sent_or_committed() {
        let mut flow = Flow::new(Mode::Version2);
        assert!(flow.is_unbegun());
        flow.sent();
        assert!(!flow.is_unbegun(), "what was sent opens it");
        let mut flow = Flow::new(Mode::Version1);
        flow.commit();
        assert!(!flow.is_unbegun(), "what is written now belongs to the next one");
        assert!(!Flow::new(Mode::Idempotent).is_unbegun(), "there is none");
    }

    #[test]
    fn nothing_to_commit_is_committed_at_once() {
        for mode in [Mode::Version2, Mode::Version1] {
            let mut flow = Flow::new(mode);
            flow.commit();
            assert_eq!(flow.step(NOTHING), Step::Last);
            flow.all_written();
            assert_eq!(flow.step(NOTHING), Step::Finished, "EndTxn of an empty transaction is refused");
        }
    }

    #[test]
    fn in_version_1_partitions_are_registered_before_they_are_sent_to() {
        let mut flow = Flow::new(Mode::Version1);
        assert_eq!(flow.step(NEW), Step::Register);
        flow.registering();
        assert_eq!(flow.step(NEW), Step::Wait);
        flow.registered(false);
        assert_eq!(flow.step(NEW), Step::Register);
        assert!(!flow.is_open());
        flow.registering();
        flow.registered(true);
        assert_eq!(flow.step(READY), Step::Send);
        flow.sent();
        assert_eq!(flow.step(READY), Step::Send);
        assert_eq!(flow.step(NEW), Step::Register);
        flow.registering();
        flow.registered(false);
        assert!(flow.is_open(), "what was registered before still is");
    }

    #[test]
    fn without_transactions_the_checkpoint_comes_after_the_acknowledgements() {
        let mut flow = Flow::new(Mode::Idempotent);
        assert_eq!(flow.step(NEW), Step::Send);
        flow.sent();
        flow.sent();
        assert!(!flow.is_open());
        flow.commit();
        flow.answered(false);
        assert_eq!(flow.step(NOTHING), Step::Wait);
        flow.answered(false);
        assert_eq!(flow.step(NOTHING), Step::Last);
        flow.all_written();
        assert_eq!(flow.step(READY), Step::Send);
        flow.sent();
        assert_eq!(flow.step(NOTHING), Step::Wait);
        flow.answered(false);
        assert_eq!(flow.step(NOTHING), Step::Finished);
        flow.finished();
        flow.commit();
        assert_eq!(flow.step(NOTHING), Step::Last, "each commit has its own");
    }
}
