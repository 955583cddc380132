//! What stands in each line of a lane's log, whoever writes it: the lane itself, the connector under it, a plugin.

use tracing::span::EnteredSpan;

use super::supervisor::Shared;
use crate::model::RevisionNumber;

/// Until the answer is dropped, the lines of this thread are of a lane that runs a revision.
///
/// A span is made anew for each revision: one that is told another value has both in its lines. It has no parent, or it would keep all
/// those before it.
pub(super) fn of_lane(link: &Shared, lane: u32, revision: RevisionNumber) -> EnteredSpan {
    // An error, so that no filter of levels takes it away.
    tracing::error_span!(parent: None, "lane", link = &*link.config.id, lane, revision = revision.0).entered()
}
