//! The order in which a lane's requests follow each other, as a state machine without any IO.
//!
//! ```text
//!            send (version 2)              answered
//!   Idle ─────────────────────▶ First ───────────────▶ Open ──▶ send, as many as the window holds
//!    ▲ │                          │ again                ▲ │
//!    │ │ register (version 1)     ▼                      │ │ commit, and all is answered
//!    │ └─────────▶ Registering ─ Idle, once more         │ ▼
//!    │                  └────────── registered ──────────┘ Ending
//!    └───────────────────────── ended ─────────────────────┘
//! ```
//!
//! After anything else than these the lane opens again, and nothing here is kept.
//!
//! Why the first request of a transaction goes alone, once for the cluster: the coordinator may still be ending the transaction before, and
//! answers CONCURRENT_TRANSACTIONS. Alone it can simply be sent once more; with others behind it, these would be out of order.

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
    /// The first request of a transaction is on its way, alone.
    First,
    /// Partitions are being registered. Whether the transaction was open before.
    Registering { open: bool },
    /// The transaction is open.
    Open,
    /// It is being committed.
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

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send what is ready: to one broker if the transaction is not open yet.
    Send,
    /// Register the partitions that the transaction does not have yet.
    Register,
    /// Everything is acknowledged: write the checkpoints.
    Checkpoint,
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
    /// Without transactions: whether the checkpoints of the commit are written.
    checkpointed: bool,
    /// The requests without an answer.
    in_flight: usize,
}

impl Flow {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, phase: Phase::Idle, committing: false, checkpointed: false, in_flight: 0 }
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

    /// Whether the next request is the first of a transaction.
    pub(super) fn sends_first(&self) -> bool {
        self.mode == Mode::Version2 && self.phase == Phase::Idle
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
            (Mode::Idempotent, _) if !self.checkpointed => Step::Checkpoint,
            (Mode::Version1 | Mode::Version2, Phase::Open) => Step::End,
            // A transaction that nothing was sent in is none.
            _ => Step::Finished,
        }
    }

    /// A request with records was sent.
    pub(super) fn sent(&mut self) {
        self.phase = if self.sends_first() { Phase::First } else { Phase::Open };
        self.in_flight += 1;
    }

    /// Its records are there.
    pub(super) fn answered(&mut self) {
        self.phase = Phase::Open;
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The first request was refused because the transaction before it is still ending: whether it can be sent once more.
    pub(super) fn again(&mut self) -> bool {
        let first = self.phase == Phase::First;
        if first {
            self.phase = Phase::Idle;
            self.in_flight = 0;
        }
        first
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
        self.checkpointed = false;
    }

    /// The checkpoints were written, to be sent as what comes last.
    pub(super) fn checkpointed(&mut self) {
        self.checkpointed = true;
    }

    /// The request to commit was sent.
    pub(super) fn ending(&mut self) {
        self.phase = Phase::Ending;
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
    fn in_version_2_the_first_request_goes_alone() {
        let mut flow = Flow::new(Mode::Version2);
        assert_eq!(flow.step(HELD), Step::Wait);
        assert_eq!(flow.step(NEW), Step::Send);
        assert!(flow.sends_first() && !flow.is_open());
        flow.sent();
        assert_eq!(flow.step(READY), Step::Wait);
        assert!(flow.is_open());
        flow.answered();
        assert_eq!(flow.step(READY), Step::Send);
        flow.sent();
        assert_eq!(flow.step(READY), Step::Send, "the others follow each other");
    }

    #[test]
    fn the_first_request_is_sent_once_more_and_no_other_is() {
        let mut flow = Flow::new(Mode::Version2);
        flow.sent();
        assert!(flow.again());
        assert_eq!(flow.step(READY), Step::Send);
        assert!(flow.sends_first());
        flow.sent();
        flow.answered();
        flow.sent();
        assert!(!flow.again(), "others may be behind it");
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
            flow.answered();
            assert_eq!(flow.step(NOTHING), Step::Wait);
            flow.answered();
            assert_eq!(flow.step(HELD), Step::Wait, "what was not sent is not committed");
            assert_eq!(flow.step(NOTHING), Step::End);
            flow.ending();
            assert_eq!(flow.step(READY), Step::Wait, "the next transaction waits for the end of this one");
            flow.end_again();
            assert_eq!(flow.step(NOTHING), Step::End);
            flow.ending();
            flow.finished();
            assert!(!flow.is_committing() && !flow.is_open());
        }
    }

    #[test]
    fn nothing_to_commit_is_committed_at_once() {
        for mode in [Mode::Version2, Mode::Version1] {
            let mut flow = Flow::new(mode);
            flow.commit();
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
        flow.answered();
        assert_eq!(flow.step(NOTHING), Step::Wait);
        flow.answered();
        assert_eq!(flow.step(NOTHING), Step::Checkpoint);
        flow.checkpointed();
        assert_eq!(flow.step(READY), Step::Send);
        flow.sent();
        assert_eq!(flow.step(NOTHING), Step::Wait);
        flow.answered();
        assert_eq!(flow.step(NOTHING), Step::Finished);
        flow.finished();
        flow.commit();
        assert_eq!(flow.step(NOTHING), Step::Checkpoint, "each commit has its own");
    }
}
