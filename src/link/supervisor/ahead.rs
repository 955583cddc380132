//! What a person has said here while the target cannot be told: the lanes of this daemon obey at
//! once, and nothing starts them again before the target knows.

use super::Link;
use crate::connector::Class;
use crate::link::failure::Failure;
use crate::link::orders::Desired;
use crate::link::status::lock;

/// Why an order is not done.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The target has not stored it: nothing has changed beyond this daemon.
    #[error("{0}")]
    Unstored(Failure),
    /// It is stored, and the link cannot do it.
    #[error("{0}")]
    Undone(Failure),
    /// Somebody has said otherwise since it was given.
    #[error("it was said otherwise at another daemon since")]
    Outdated,
}

impl From<OrderError> for Failure {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Unstored(failure) | OrderError::Undone(failure) => failure,
            OrderError::Outdated => {
                let failure =
                    Self::fatal("overtaken", error.to_string(), "look at the link, then give the order again");
                Self { class: Class::Reopen, ..failure }
            }
        }
    }
}

impl Link {
    /// Have it know this from the beginning: it was said before the daemon ended.
    #[must_use]
    pub fn with_ahead(self, desired: Option<Desired>) -> Self {
        *lock(&self.ahead) = desired;
        self
    }

    /// Have the lanes here do this at once, as far as that needs no cluster; it counts until the
    /// target has stored an order.
    pub fn obey_here(&self, desired: Desired) {
        *lock(&self.ahead) = Some(desired);
        self.have_lanes_obey();
    }

    /// The last that was said here is void, and this counts again, if anything: lanes that have
    /// obeyed do again what the link was told before.
    pub fn take_back(&self, ahead: Option<Desired>) {
        *lock(&self.ahead) = ahead;
        if ahead.is_some() {
            return self.have_lanes_obey();
        }
        let before = lock(&self.told).as_ref().map(|told| told.desired);
        let shared = lock(&self.view).shared.clone();
        let Some(shared) = shared.filter(|_| before.is_none_or(|before| before == Desired::Running)) else { return };
        match shared.orders.desired() {
            Desired::Running => {}
            Desired::Paused => shared.orders.set(Desired::Running),
            // Lanes that have ended are opened by the warden.
            Desired::Stopped => self.view_anew(|view| {
                let message = "an order to stop was refused";
                view.failure = Some(Failure { class: Class::Reopen, ..Failure::fatal("order-refused", message, "") });
                view.starting = true;
            }),
        }
    }

    /// What was said here and the target does not know.
    pub(in crate::link) fn ahead(&self) -> Option<Desired> {
        *lock(&self.ahead)
    }

    /// Have lanes that are up end, or wait. Nobody waits for them: what they have under way at a
    /// cluster that hangs ends when it ends.
    pub(super) fn have_lanes_obey(&self) {
        let Some(shared) = lock(&self.view).shared.clone() else { return };
        match self.ahead() {
            Some(Desired::Stopped) => shared.orders.stop(true),
            Some(Desired::Paused) if shared.orders.desired() == Desired::Running => shared.orders.set(Desired::Paused),
            _ => {}
        }
    }
}
