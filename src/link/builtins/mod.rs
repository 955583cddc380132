//! The built-ins of a link: its own filter and transform, which records go through before the first stage.
//!
//! They are part of a revision, as its stages are. They work on the flat batch: the filter selects and copies nothing, the transform puts
//! what it adds behind the arena, once for a batch. What they do depends on the record alone, but for `${now}`.
//!
//! **Invariant:** what has come through the target, or was brought back from it, is left out before
//! everything else, and the seal is put on after everything else, stages included. So no filter,
//! transform or plugin decides where a record comes from.
//!
//! Reading order: `filter`, `transform`, `provenance`, `returned`, `seal`.

mod filter;
mod provenance;
mod returned;
mod seal;
#[cfg(test)]
mod tests;
mod transform;

use crate::model::{self, Batch, HeaderRef, RETURNED_HEADER, VIA_HEADER};
use filter::Filter;
use provenance::Via;
pub(in crate::link) use provenance::has_come_through;
pub(super) use returned::Returned;
pub(super) use seal::Kept;
use transform::Transform;

/// The built-ins of a revision, ready for work.
#[derive(Debug, Default)]
pub struct Builtins {
    filter: Option<Filter>,
    transform: Option<Transform>,
    via: Option<Via>,
    returned: Returned,
}

/// What the built-ins did with a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Records that the filter dropped, and those that are at the target because they came from it.
    pub filtered: u64,
    /// Records that the transform changed.
    pub transformed: u64,
}

impl Builtins {
    /// Make them ready.
    ///
    /// # Errors
    /// What is wrong with an expression or a text, on one line. What the configuration has read is right.
    pub fn new(spec: &model::Builtins) -> Result<Self, String> {
        let filter = spec.filter.as_ref().map(Filter::new).transpose()?;
        let transform = spec.transform.as_ref().map(Transform::new).transpose()?;
        Ok(Self { filter, transform, via: spec.provenance.as_ref().map(Via::new), returned: Returned::default() })
    }

    /// The same, behind what leaves out what the link's failbacks have brought.
    #[must_use]
    pub(super) fn behind(self, returned: Returned) -> Self {
        Self { returned, ..self }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.filter.is_none() && self.transform.is_none() && self.via.is_none() && self.returned.is_empty()
    }

    /// Let a batch go through them, before the first stage. `now` is in milliseconds since 1970-01-01 UTC, and asked for if it is needed.
    pub fn apply(&self, batch: &mut Batch, now: impl FnOnce() -> i64) -> Done {
        // What has come from the target is nobody's business here.
        let returned = self.returned.leave_out(batch) + self.via.as_ref().map_or(0, |via| via.leave_out(batch));
        let filtered = self.filter.as_ref().map_or(0, |filter| filter.apply(batch));
        let transformed = self.transform.as_ref().map_or(0, |transform| transform.apply(batch, now));
        Done { filtered: returned + filtered, transformed }
    }

    /// The cluster that every record has come through that leaves the link.
    pub(super) fn mark(&self) -> Option<&str> {
        self.via.as_ref().and_then(Via::mark)
    }

    /// The headers that every record has that leaves the link.
    pub(super) fn marks(&self) -> Vec<HeaderRef<'_>> {
        let returned = self.via.as_ref().and_then(Via::returned);
        [(VIA_HEADER, self.mark()), (RETURNED_HEADER, returned)]
            .into_iter()
            .filter_map(|(name, value)| Some(HeaderRef { name: name.as_bytes(), value: Some(value?.as_bytes()) }))
            .collect()
    }

    /// Whether they change headers, with a transform of a revision from before names were reserved perhaps any.
    pub(super) fn change_headers(&self) -> bool {
        self.transform.is_some()
    }

    /// The names of added headers that hold the time of processing.
    pub fn timed_headers(&self) -> impl Iterator<Item = &str> {
        self.transform.iter().flat_map(Transform::timed_headers)
    }
}
