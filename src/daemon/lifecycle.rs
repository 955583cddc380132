//! What a person can make a link do in each of its states, and how it is done.

use std::sync::Arc;

use super::control::failure_error;
use super::definitions::{settle, wrong_state};
use super::world::Hosted;
use super::{Daemon, lock, view};
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire::{self, LinkTransition};
use crate::link::reset::{Reset, ResetError, ResetTo};
use crate::link::supervisor::{LINK_REPLACED, LinkState, OrderError};
use crate::link::{Desired, Failure};

/// How often an order may meet a change of its link before it is given up.
const CHANGES_MET_MAX: u32 = 5;

impl Daemon {
    /// Have a link do something, and answer it after that took effect. `said_ms`: when it was said, if that is not now.
    pub(super) fn steer_link(
        &self,
        link: &str,
        transition: LinkTransition,
        said_ms: Option<i64>,
    ) -> Result<wire::Link, ControlError> {
        if transition == LinkTransition::Start {
            self.try_again(link)?;
        }
        for _ in 0..CHANGES_MET_MAX {
            match self.steer_once(link, transition, said_ms)? {
                Some(hosted) => return Ok(self.view(&hosted)),
                // Whoever changes it holds this for as long as that takes.
                None => drop(lock(&self.changing)),
            }
        }
        let message = format!("link {link} is being changed, or the daemon ends");
        Err(ControlError::new(ErrorKind::Unavailable, LINK_REPLACED, message, "try again in a moment"))
    }

    /// `None`: it was just being replaced by what its definition says now.
    fn steer_once(
        &self,
        link: &str,
        transition: LinkTransition,
        said_ms: Option<i64>,
    ) -> Result<Option<Arc<Hosted>>, ControlError> {
        let mut hosted = self.find_hosted(link)?;
        settle(&hosted);
        let desired = match said_ms {
            None => checked(&hosted, transition)?,
            // What was accepted made sense when it was.
            Some(_) => wanted(transition),
        };
        if desired == Desired::Running {
            hosted = self.catch_up(hosted)?;
        }
        for one in [Some(hosted.clone()), self.other_way(&hosted)].into_iter().flatten() {
            match one.link().carry_out(desired, said_ms) {
                Err(OrderError::Unstored(failure)) if failure.code == LINK_REPLACED => return Ok(None),
                Err(OrderError::Unstored(failure)) => return Err(failure_error(failure)),
                // It is stored: what it waits for now, it waits for by itself.
                Err(OrderError::Undone(failure)) => {
                    return Err(ControlError { is_unheard: false, ..failure_error(failure) });
                }
                Err(outdated @ OrderError::Outdated) => {
                    let Failure { code, message, remedy, .. } = outdated.into();
                    return Err(ControlError::new(ErrorKind::Conflict, code, message, remedy));
                }
                Ok(()) => {}
            }
        }
        Ok(Some(hosted))
    }

    /// Have a link write no faster than so, durably.
    pub(super) fn throttle_link(
        &self,
        link: &str,
        rate: Option<Option<u64>>,
        by: &str,
    ) -> Result<wire::Throttle, ControlError> {
        let found = self.find_link(link)?;
        found.set_throttle(rate, by).map_err(failure_error)?;
        let order = found.throttle_order().map_err(failure_error)?;
        Ok(view::throttle(&found, order.as_ref()))
    }

    /// Have partitions of a link go on elsewhere.
    pub(super) fn reset_link(
        &self,
        link: &str,
        request: &wire::ResetRequest,
        by: &str,
    ) -> Result<wire::Reset, ControlError> {
        let wanted = Reset {
            topic: request.topic.as_str().into(),
            partition: request.partition,
            to: match request.to {
                wire::ResetPlace::End(wire::ResetEnd::Earliest) => ResetTo::Earliest,
                wire::ResetPlace::End(wire::ResetEnd::Latest) => ResetTo::Latest,
                wire::ResetPlace::Offset(offset) => ResetTo::Offset(offset),
            },
            forget_state: request.forget_state,
            by: by.to_owned(),
        };
        self.find_link(link)?.reset(&wanted).map(|done| view::reset(&done)).map_err(reset_error)
    }

    /// The link that goes the other way, if one goes with this one.
    pub(super) fn other_way(&self, hosted: &Hosted) -> Option<Arc<Hosted>> {
        self.world().links.get(&hosted.config().other_way_id()?).cloned()
    }

    /// Its state; of two that go both ways together, that of the one which is at work more.
    pub(super) fn state_of_both(&self, hosted: &Hosted) -> LinkState {
        let work = |state: &LinkState| match state {
            LinkState::Stopped => 0,
            LinkState::Failed | LinkState::Paused | LinkState::FailedOver => 1,
            LinkState::Starting | LinkState::Active | LinkState::Degraded => 2,
        };
        let (own, other) = (hosted.link().state().0, self.other_way(hosted).map(|other| other.link().state().0));
        other.into_iter().chain([own]).max_by_key(work).unwrap_or(own)
    }
}

/// What the link is told, if the transition has a sense now. One that leads to where the link is already has.
pub(super) fn desired(transition: LinkTransition, state: LinkState) -> Option<Desired> {
    use LinkState::{Active, Degraded, Paused, Starting};
    match (transition, state) {
        (_, LinkState::FailedOver) => None,
        (LinkTransition::Start, _) => Some(Desired::Running),
        (LinkTransition::Stop, _) => Some(Desired::Stopped),
        (LinkTransition::Pause, Active | Degraded | Starting | Paused) => Some(Desired::Paused),
        // Also one that is about to be paused again, after its definition was changed.
        (LinkTransition::Resume, Paused | Active | Degraded | Starting) => Some(Desired::Running),
        (LinkTransition::Pause | LinkTransition::Resume, _) => None,
    }
}

/// What the link is told.
///
/// # Errors
/// The transition has no sense in its state.
pub(super) fn checked(hosted: &Hosted, transition: LinkTransition) -> Result<Desired, ControlError> {
    let (link, (state, _)) = (&hosted.config().id, hosted.link().state());
    desired(transition, state).ok_or_else(|| {
        let message = format!("link {link} is {}: it cannot {transition}", view::status(state));
        let remedy = match state {
            LinkState::FailedOver => format!("`tidegate link failback {link}` gives the source its place back"),
            _ => format!("`tidegate link start {link}` starts it"),
        };
        wrong_state(message, remedy, state)
    })
}

/// Where a transition leads.
fn wanted(transition: LinkTransition) -> Desired {
    match transition {
        LinkTransition::Start | LinkTransition::Resume => Desired::Running,
        LinkTransition::Stop => Desired::Stopped,
        LinkTransition::Pause => Desired::Paused,
    }
}

/// The transitions that lead elsewhere.
pub(super) fn allowed(state: LinkState) -> Vec<&'static str> {
    let (steers, changes_places) = steers(state);
    steers.iter().map(|transition| transition.word()).chain([changes_places]).collect()
}

fn steers(state: LinkState) -> (&'static [LinkTransition], &'static str) {
    use LinkTransition::{Pause, Resume, Start, Stop};
    let steers: &[LinkTransition] = match state {
        LinkState::Stopped => &[Start],
        LinkState::Starting => &[Pause, Resume, Stop],
        LinkState::Active | LinkState::Degraded => &[Pause, Stop],
        LinkState::Paused => &[Resume, Stop],
        LinkState::Failed => &[Start, Stop],
        LinkState::FailedOver => return (&[], "failback"),
    };
    (steers, "failover")
}

fn reset_error(error: ResetError) -> ControlError {
    let (kind, code, remedy) = match &error {
        ResetError::NotFound(_) => {
            (ErrorKind::NotFound, "partition-not-found", "`tidegate link show` lists what it reads")
        }
        ResetError::Invalid(_) => {
            (ErrorKind::Invalid, "offset-not-there", "choose one of them, or say earliest or latest")
        }
        ResetError::Runs(_) => {
            (ErrorKind::Conflict, "link-running", "stop the link at all daemons, reset it, and start it again")
        }
        ResetError::Failed(failure) => return failure_error(failure.clone()),
    };
    ControlError::new(kind, code, error.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_allowed_is() {
        use LinkState::{Active, Degraded, Failed, FailedOver, Paused, Starting, Stopped};
        for state in [Stopped, Starting, Active, Degraded, Paused, Failed, FailedOver] {
            assert!(steers(state).0.iter().all(|transition| desired(*transition, state).is_some()), "{state:?}");
        }
        assert_eq!(desired(LinkTransition::Pause, Stopped), None);
        assert_eq!(desired(LinkTransition::Resume, Failed), None);
        assert_eq!(desired(LinkTransition::Start, FailedOver), None);
        assert_eq!(allowed(FailedOver), ["failback"]);
        assert_eq!(allowed(Stopped), ["start", "failover"]);
    }
}
