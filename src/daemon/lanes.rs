//! The layout of a link and the number of its lanes: what a person may change, and how that is shown.

use super::control::failure_error;
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire;
use crate::config::LANES_MAX;
use crate::link::Link;
use crate::link::genesis::Genesis;
use crate::link::relane::RelaneError;
use crate::link::upgrade::{Known, UpgradeError};

pub(super) fn upgrade(link: &Link, dry_run: bool, by: &str) -> Result<wire::Upgrade, ControlError> {
    let done = link.upgrade(dry_run, by).map_err(upgrade_error)?;
    let daemons = known_layouts(&done.daemons);
    Ok(wire::Upgrade { link: link.config().id.to_string(), from: done.from, to: done.to, dry_run, daemons })
}

/// Refuse a number of lanes that no link can have.
pub(super) fn check(lanes: u32) -> Result<(), ControlError> {
    if (1..=LANES_MAX).contains(&u64::from(lanes)) {
        return Ok(());
    }
    let message = format!("a link has 1 to {LANES_MAX} lanes, and not {lanes}");
    Err(ControlError::new(ErrorKind::Invalid, "invalid-lanes", message, "choose another number"))
}

pub(super) fn relane(link: &Link, lanes: u32, by: &str) -> Result<wire::Relaned, ControlError> {
    let id = &link.config().id;
    let done = link.relane(lanes, by).map_err(|error| relane_error(id, error))?;
    Ok(wire::Relaned { link: id.to_string(), from: done.from, to: done.to, done: done.is_done })
}

pub(super) fn known_layouts(known: &Known) -> Vec<wire::KnownLayout> {
    known.iter().map(|(name, layout)| wire::KnownLayout { daemon: name.to_string(), layout: *layout }).collect()
}

pub(super) fn progress(genesis: &Genesis) -> Option<wire::RelaneProgress> {
    let relane = genesis.relane.as_ref()?;
    Some(wire::RelaneProgress {
        from: genesis.lanes,
        to: relane.lanes,
        daemon: relane.daemon.clone(),
        since: wire::Time(relane.since_ms),
        copied: relane.copied,
    })
}

fn upgrade_error(error: UpgradeError) -> ControlError {
    let (code, remedy) = match &error {
        UpgradeError::NotStarted(_) => ("link-not-made", "start the link"),
        UpgradeError::Outdated { .. } => (
            "daemons-outdated",
            "install this tidegate on their machines too, or remove `layout_max` under [daemon] there, and restart them",
        ),
        UpgradeError::Gathering => {
            ("daemons-gathering", "try again in a moment; `tidegate link show` lists the daemons")
        }
        UpgradeError::Failed(failure) => return failure_error(failure.clone()),
    };
    ControlError::new(ErrorKind::Conflict, code, error.to_string(), remedy)
}

fn relane_error(link: &str, error: RelaneError) -> ControlError {
    let (code, remedy) = match error {
        RelaneError::NotStarted => ("link-not-made", "set `lanes` where the link is defined, and start it".to_owned()),
        RelaneError::LayoutTooOld(_) => ("layout-too-old", format!("upgrade it first: `tidegate link upgrade {link}`")),
        RelaneError::UnderWay(lanes) => {
            let remedy = format!("wait for that, or call it off: say as many lanes as it has; or say {lanes}");
            ("relane-under-way", remedy)
        }
        RelaneError::Upgrade(error) => return upgrade_error(error),
        RelaneError::Failed(failure) => return failure_error(failure),
    };
    ControlError::new(ErrorKind::Conflict, code, error.to_string(), remedy)
}
