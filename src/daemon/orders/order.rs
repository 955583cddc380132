//! What a person has a link do, in a form that outlives the process.

use serde::{Deserialize, Serialize};

use crate::api::wire::{FailoverEvent, Link, LinkTransition, Relaned, Reset, ResetRequest, Throttle};
use crate::link::Desired;

/// An order to a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(in crate::daemon) enum Order {
    /// Start, stop, pause or resume it.
    Steer { transition: LinkTransition },
    /// Have it write no faster than so; as it is configured, if `is_configured`.
    Throttle { is_configured: bool, rate: Option<u64> },
    /// Have partitions go on elsewhere.
    Reset { request: ResetRequest },
    /// Have it run with so many lanes.
    Relane { lanes: u32 },
    /// Have its target take the source's place.
    FailOver { drain_ms: Option<u64> },
    /// Give the source its place back.
    FailBack,
    /// Leave the target in the source's place after all.
    CallOffFailback,
    /// Delete its definition.
    Delete { expected: Option<u64> },
}

/// What comes of an order that is carried out.
#[derive(Debug)]
pub(in crate::daemon) enum Done {
    Steered(Box<Link>),
    Throttled(Throttle),
    Reset(Reset),
    Relaned(Relaned),
    ChangesPlaces(FailoverEvent),
    Deleted,
}

impl Order {
    /// Whether this makes an earlier order void: it decides the same thing.
    pub(super) fn replaces(&self, earlier: &Self) -> bool {
        use Order::{CallOffFailback, Delete, FailBack, FailOver, Relane, Reset, Steer, Throttle};
        match (self, earlier) {
            // Whatever else it was to do, it is not there any more.
            (Delete { .. }, _) => true,
            (Steer { .. }, Steer { .. } | Delete { .. }) => true,
            (Throttle { .. }, Throttle { .. }) | (Relane { .. }, Relane { .. }) => true,
            (Reset { request: new }, Reset { request: old }) => {
                new.topic == old.topic && (new.partition.is_none() || new.partition == old.partition)
            }
            (FailOver { .. } | FailBack | CallOffFailback, FailOver { .. } | FailBack | CallOffFailback) => true,
            _ => false,
        }
    }

    /// What the link is to do from now on, whether its target knows that or not.
    pub(super) fn desired(&self) -> Option<Desired> {
        match self {
            Self::Steer { transition: LinkTransition::Stop } | Self::Delete { .. } => Some(Desired::Stopped),
            Self::Steer { transition: LinkTransition::Pause } => Some(Desired::Paused),
            Self::Steer { transition: LinkTransition::Start | LinkTransition::Resume } => Some(Desired::Running),
            _ => None,
        }
    }

    /// Whether the source has to answer, too.
    pub(super) fn asks_source(&self) -> bool {
        matches!(self, Self::Reset { .. } | Self::FailBack | Self::CallOffFailback)
    }

    /// Whether it changes what is kept of definitions, wherever that is.
    pub(super) fn asks_home(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::Steer { transition: LinkTransition::Start })
    }

    /// The order in a word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Steer { transition } => transition.word(),
            Self::Throttle { .. } => "throttle",
            Self::Reset { .. } => "reset",
            Self::Relane { .. } => "relane",
            Self::FailOver { .. } => "failover",
            Self::FailBack => "failback",
            Self::CallOffFailback => "call-off-failback",
            Self::Delete { .. } => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{ResetEnd, ResetPlace};

    fn reset(topic: &str, partition: Option<u32>) -> Order {
        let to = ResetPlace::End(ResetEnd::Latest);
        Order::Reset { request: ResetRequest { topic: topic.to_owned(), partition, to, forget_state: false } }
    }

    #[test]
    fn a_contrary_order_replaces_the_one_before_and_nothing_else() {
        let steer = |transition| Order::Steer { transition };
        let (start, stop) = (steer(LinkTransition::Start), steer(LinkTransition::Stop));
        let (relane, delete) = (Order::Relane { lanes: 2 }, Order::Delete { expected: None });
        let over = Order::FailOver { drain_ms: None };
        assert!(start.replaces(&stop) && stop.replaces(&start) && Order::FailBack.replaces(&over));
        assert!(!start.replaces(&relane) && !relane.replaces(&start) && !over.replaces(&stop));
        assert!(delete.replaces(&relane) && start.replaces(&delete) && !relane.replaces(&delete));
        assert!(reset("t", None).replaces(&reset("t", Some(1))) && !reset("t", Some(1)).replaces(&reset("t", None)));
        assert!(!reset("t", Some(1)).replaces(&reset("t", Some(2))) && !reset("t", None).replaces(&reset("u", None)));
    }
}
