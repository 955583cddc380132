//! Filters that remember.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{Batch, Verdicts};
use crate::config::ConfigError;
use crate::export::Stage;
use crate::filter;
use crate::record::{Column, Record, Records, Reject};
use crate::state::{self, MigrationState, State};

/// A filter that remembers.
///
/// The verdict must depend on the record, the configuration and the [`State`] alone. Fields of the plugin are a cache: the
/// instance also works on records of other partitions, and on records that come again after a batch was dropped. What is
/// cached must hold for all of them.
pub trait StatefulFilter: Sized + 'static {
    /// The configuration; see [`Filter::Config`](crate::Filter::Config).
    type Config: DeserializeOwned + JsonSchema;

    /// What [`StatefulFilter::keep`] looks at. [`State::time`] needs none of it.
    const NEEDS: &'static [Column];

    /// The version of the layout of the state, from 1. Raise it with each version of the plugin that cannot read what the one
    /// before has written, and write [`StatefulFilter::migrate`].
    const STATE_VERSION: u32 = 1;

    /// Make the filter.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration and that its type cannot express.
    fn new(config: Self::Config) -> Result<Self, Vec<ConfigError>>;

    /// Whether the record passes.
    ///
    /// # Errors
    /// The record cannot be judged. What was put and deleted for it is taken back.
    fn keep(&self, record: &Record<'_>, state: &State<'_>) -> Result<bool, Reject>;

    /// Turn the state of one partition from the layout `from` into the layout `to`. One of the two is
    /// [`StatefulFilter::STATE_VERSION`], and the higher: a plugin migrates forward when it comes, and back when it is
    /// rolled back. Without this method, no other version is taken over.
    ///
    /// # Errors
    /// Why it cannot be done, for the operator. The plugin is then not replaced.
    fn migrate(&self, from: u32, to: u32, state: &MigrationState) -> Result<(), String> {
        let _nothing_to_read = state;
        Err(state::refusal(from, to))
    }
}

/// The work of the contract's `filtering.filter`.
pub(crate) fn run<F: StatefulFilter>(stage: &Stage<F>, batch: Batch) -> Verdicts {
    let records = Records::new(batch, &stage.name, F::NEEDS);
    filter::judge(&records, |record| state::with(record.index(), |state| stage.plugin.keep(record, state)))
}
