//! What a person can make a link do in each of its states.

use std::sync::Arc;

use super::Daemon;
use super::world::Hosted;
use crate::api::wire::LinkTransition;
use crate::link::Desired;
use crate::link::supervisor::LinkState;

impl Daemon {
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
