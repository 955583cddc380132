//! Verifications of a link: one at a time, on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::threads::spawn;
use super::{Link, history_of};
use crate::link::failure::Failure;
use crate::link::status::lock;
use crate::link::verify::{Ending, Subject, Verification};

/// The verification of a link that was begun last.
#[derive(Default)]
pub(super) struct Verifying(Mutex<Option<(Arc<Verification>, JoinHandle<()>)>>);

/// Why no verification was begun.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// One is under way.
    #[error("a verification is under way")]
    UnderWay,
    /// There is no thread for it.
    #[error(transparent)]
    Failed(Failure),
}

impl Link {
    /// Begin to verify the link. Its report describes at most `differences`.
    ///
    /// # Errors
    /// One is under way, or there is no thread for it.
    pub fn verify(&self, differences: usize) -> Result<Arc<Verification>, VerifyError> {
        let mut verifying = lock(&self.verifying.0);
        if verifying.as_ref().is_some_and(|(verification, _)| verification.ending().is_none()) {
            return Err(VerifyError::UnderWay);
        }
        let subject = Subject {
            config: self.config.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            components: self.components.apart(),
        };
        let verification = Arc::new(Verification::new());
        let it = verification.clone();
        let body = move || {
            let history = || history_of(&*subject.target, &subject.config.id);
            if catch_unwind(AssertUnwindSafe(|| it.run(&subject, &history, differences))).is_err() {
                let message = "the verification panicked: see the log";
                it.end(Ending::Failed(Failure::fatal("internal", message, "report this")));
            }
        };
        let thread = spawn("verify".to_owned(), body).map_err(VerifyError::Failed)?;
        *verifying = Some((verification.clone(), thread));
        Ok(verification)
    }

    /// The verification that was begun last, since the daemon started.
    pub fn verification(&self) -> Option<Arc<Verification>> {
        lock(&self.verifying.0).as_ref().map(|(verification, _)| verification.clone())
    }

    /// End the verification that is under way, and wait for that: the daemon ends.
    pub(super) fn end_verification(&self) {
        let Some((verification, thread)) = lock(&self.verifying.0).take() else { return };
        verification.cancel();
        drop(thread.join());
    }
}
