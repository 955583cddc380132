//! Releases the topics that deleted links guarded, or whose settings they kept.

use super::{Daemon, lock};
use crate::config::forward_id;
use crate::link::topics::release_claims;
use crate::model::LinkId;
use crate::store::Command;

impl Daemon {
    /// Release the topics of links that do not exist any more, or have another target. The caller holds `changing`.
    pub(super) fn release_standbys(&self) {
        if !self.has_read_definitions() {
            // A link that is not known yet may be among them.
            return;
        }
        for running in self.clusters() {
            let Some(store) = &running.store else { continue };
            let stands_by = |id: &str| {
                let hosted = self.world().links.get(id).cloned();
                let is_there = hosted.is_some_and(|hosted| {
                    let link = hosted.config();
                    link.target == running.config.id && link.failover.enabled
                });
                is_there || self.may_come_back(id)
            };
            let gone = store.standbys().map(|links| links.into_iter().filter(|id| !stands_by(id)).collect::<Vec<_>>());
            let released = gone.and_then(|gone| {
                gone.into_iter().try_for_each(|link| store.execute(Command::Release { link }).map(drop))
            });
            if let Err(error) = released {
                tracing::warn!(cluster = &*running.config.id, code = error.code(), "what stands by: {error}");
            }
            let is_gone = |id: &LinkId| !self.world().links.contains_key(id) && !self.may_come_back(id);
            if let Err(failure) = release_claims(&*running.cluster, is_gone) {
                tracing::warn!(cluster = &*running.config.id, code = failure.code, "claims on topics: {failure}");
            }
        }
    }

    /// Whether a link that does not run here, or the one whose other way it is, is defined all the same.
    fn may_come_back(&self, id: &str) -> bool {
        let is_defined = |id: &str| self.unusable(id).is_some() || lock(&self.unhosted).contains(id);
        is_defined(id) || forward_id(id).is_some_and(is_defined)
    }
}
