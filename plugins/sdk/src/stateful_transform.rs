//! Transforms that remember.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{self, Batch};
use crate::config::ConfigError;
use crate::export::Stage;
use crate::outputs::Outputs;
use crate::record::{Column, Record, Records, Reject};
use crate::state::{self, MigrationState, State};
use crate::transform::{self, Routes};

/// A transform that remembers.
///
/// What it makes must depend on the record, the configuration and the [`State`] alone. Fields of the plugin are a cache: the
/// instance also works on records of other partitions, and on records that come again after a batch was dropped. What is
/// cached must hold for all of them.
pub trait StatefulTransform: Sized + 'static {
    /// The configuration; see [`Transform::Config`](crate::Transform::Config).
    type Config: DeserializeOwned + JsonSchema;

    /// What [`StatefulTransform::transform`] looks at. What it only passes on need not be here, and [`State::time`] needs none
    /// of it.
    const NEEDS: &'static [Column];

    /// The version of the layout of the state, from 1. Raise it with each version of the plugin that cannot read what the one
    /// before has written, and write [`StatefulTransform::migrate`].
    const STATE_VERSION: u32 = 1;

    /// Make the transform, and declare the topics that it may route records to.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration and that its type cannot express.
    fn new(config: Self::Config, routes: &mut Routes) -> Result<Self, Vec<ConfigError>>;

    /// Make 0 to N outputs of the record and of what is remembered: one call of [`Outputs::emit`] for each.
    ///
    /// # Errors
    /// The record cannot be transformed. What was emitted, put and deleted for it is taken back.
    fn transform(&self, record: &Record<'_>, state: &State<'_>, outputs: &mut Outputs) -> Result<(), Reject>;

    /// Turn the state of one partition from the layout `from` into the layout `to`. One of the two is
    /// [`StatefulTransform::STATE_VERSION`], and the higher: a plugin migrates forward when it comes, and back when it is
    /// rolled back. Without this method, no other version is taken over.
    ///
    /// # Errors
    /// Why it cannot be done, for the operator. The plugin is then not replaced.
    fn migrate(&self, from: u32, to: u32, state: &MigrationState) -> Result<(), String> {
        let _nothing_to_read = state;
        Err(state::refusal(from, to))
    }
}

/// The work of the contract's `transforming.transform`.
pub(crate) fn run<T: StatefulTransform>(stage: &Stage<T>, batch: Batch) -> types::Outputs {
    let records = Records::new(batch, &stage.name, T::NEEDS);
    transform::make(&records, |record, outputs| {
        state::with(record.index(), |state| stage.plugin.transform(record, state, outputs))
    })
}
