//! Filters: records pass or are dropped.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{Batch, Setup, Verdicts};
use crate::config::ConfigError;
use crate::export::Stage;
use crate::record::{Column, Record, Records, Reject};

/// A plugin that lets records pass or drops them. It cannot change them.
///
/// The verdict must depend on the record and the configuration alone: batches are cut anywhere, an instance may be
/// replaced between two of them, and the same record may be asked about again. That is why [`Filter::keep`] takes
/// `&self`; use a `Cell` or `RefCell` for a cache.
pub trait Filter: Sized + 'static {
    /// The configuration. Put `#[serde(deny_unknown_fields)]` on it, so that a misspelt key is an error.
    /// [`NoConfig`](crate::NoConfig) is for a plugin that has nothing to configure.
    type Config: DeserializeOwned + JsonSchema;

    /// What [`Filter::keep`] looks at.
    const NEEDS: &'static [Column];

    /// Make the filter.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration and that its type cannot express.
    fn new(config: Self::Config) -> Result<Self, Vec<ConfigError>>;

    /// Whether the record passes.
    ///
    /// # Errors
    /// The record cannot be judged.
    fn keep(&self, record: &Record<'_>) -> Result<bool, Reject>;
}

/// The work of the contract's `lifecycle.configure`.
pub(crate) fn configure<F>(
    stage: String,
    plugin: Result<F, Vec<ConfigError>>,
) -> Result<(Stage<F>, Setup), Vec<ConfigError>> {
    Ok((Stage { name: stage, plugin: plugin? }, Setup { routes: Vec::new() }))
}

/// The work of the contract's `filtering.filter`.
pub(crate) fn run<F: Filter>(stage: &Stage<F>, batch: Batch) -> Verdicts {
    judge(&Records::new(batch, &stage.name, F::NEEDS), |record| stage.plugin.keep(record))
}

/// Ask `keep` about each record.
pub(crate) fn judge(records: &Records, mut keep: impl FnMut(&Record<'_>) -> Result<bool, Reject>) -> Verdicts {
    let mut verdicts = Verdicts { keep: Vec::with_capacity(records.len()), rejects: Vec::new() };
    records.each(|record| match keep(record) {
        Ok(passes) => verdicts.keep.push(u8::from(passes)),
        Err(reject) => {
            verdicts.keep.push(0);
            verdicts.rejects.push(reject.at(record.index()));
        }
    });
    verdicts
}
