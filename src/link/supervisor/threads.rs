//! The threads of a link: one for each lane, and one for the group of daemons.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::Shared;
use crate::background::{self, Unfinished};
use crate::connector::{Class, LaneGroup, Membership};
use crate::link::failure::Failure;
use crate::link::fleet::take_part;
use crate::link::lane::Lane;
use crate::link::status::{LaneState, lock};
use crate::model::culprit;
use crate::plugin::engine::CALLING_STACK_BYTES;

pub(super) fn stop(shared: &Shared, threads: Vec<JoinHandle<()>>, leaving: bool) {
    shared.orders.stop(leaving);
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// A thread for each lane and one for the group, or none.
pub(super) fn spawn_threads(
    shared: &Arc<Shared>,
    membership: Option<Box<dyn Membership>>,
    group: LaneGroup,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let mut threads = Vec::new();
    let lanes = (0..shared.config.lanes).map(|number| spawn_lane(shared, number));
    for thread in lanes.chain(membership.map(|membership| spawn_member(shared, membership, group))) {
        match thread {
            Ok(thread) => threads.push(thread),
            Err(failure) => {
                stop(shared, threads, false);
                return Err(failure);
            }
        }
    }
    Ok(threads)
}

/// After a panic the daemon takes part anew, like one that was started again: without a member the
/// others would take its lanes, and nobody would know why.
fn spawn_member(
    shared: &Arc<Shared>,
    membership: Box<dyn Membership>,
    group: LaneGroup,
) -> Result<JoinHandle<()>, Failure> {
    let (shared, mut membership) = (shared.clone(), Some(membership));
    spawn("group".to_owned(), move || {
        let work = || {
            if let Some(membership) = membership.take().or_else(|| shared.target.membership(&group)) {
                take_part(&shared, membership);
            }
        };
        let remedy = "report this; the daemon takes part again by itself";
        let tell = |unfinished: &Unfinished| {
            let message = format!("the thread that takes part in the group {unfinished}");
            shared.set_trouble(Some(Failure { class: Class::Reopen, ..Failure::fatal("internal", message, remedy) }));
        };
        background::keep_on("group", work, tell);
    })
}

fn spawn_lane(shared: &Arc<Shared>, number: u32) -> Result<JoinHandle<()>, Failure> {
    let shared = shared.clone();
    lock(&shared.lanes[number as usize]).state = LaneState::Opening;
    spawn(format!("lane-{number}"), move || {
        let lane = Lane::new(shared.clone(), number);
        if catch_unwind(AssertUnwindSafe(|| lane.run())).is_err() {
            let failure =
                Failure::fatal("internal", "the lane panicked: see the log", "report this, then start the link");
            let mut status = lock(&shared.lanes[number as usize]);
            status.state = LaneState::Failed;
            status.failure = Some(failure);
        }
        shared.orders.notify();
    })
}

/// A thread that calls plugins, as those of lanes do, and verifications.
pub(super) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    culprit::spawn_with_stack(&name, CALLING_STACK_BYTES, body).map_err(|error| {
        Failure::fatal("no-thread", format!("no thread for {name}: {error}"), "raise the limit of processes")
    })
}
