//! Transforms: records are kept, changed, dropped, split and routed.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{self, Batch, Setup};
use crate::config::ConfigError;
use crate::export::Stage;
use crate::outputs::Outputs;
use crate::record::{Column, Record, Records, Reject};

/// A plugin that keeps, changes, drops, splits and routes records.
///
/// What it makes must depend on the record and the configuration alone: batches are cut anywhere, an instance may be
/// replaced between two of them, and the same record may come again. That is why [`Transform::transform`] takes
/// `&self`; use a `Cell` or `RefCell` for a cache.
pub trait Transform: Sized + 'static {
    /// The configuration. Put `#[serde(deny_unknown_fields)]` on it, so that a misspelt key is an error.
    /// [`NoConfig`](crate::NoConfig) is for a plugin that has nothing to configure.
    type Config: DeserializeOwned + JsonSchema;

    /// What [`Transform::transform`] looks at. What it only passes on need not be here.
    const NEEDS: &'static [Column];

    /// Make the transform, and declare the topics that it may route records to.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration and that its type cannot express.
    fn new(config: Self::Config, routes: &mut Routes) -> Result<Self, Vec<ConfigError>>;

    /// Make 0 to N outputs of the record: one call of [`Outputs::emit`] for each.
    ///
    /// # Errors
    /// The record cannot be transformed. What was emitted for it before is taken back.
    fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject>;
}

/// A topic that a transform declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route(pub(crate) u32);

/// The topics that a transform may route records to.
#[derive(Debug, Default)]
pub struct Routes {
    topics: Vec<String>,
}

impl Routes {
    /// Declare a topic. Declaring it again gives the same route.
    pub fn declare(&mut self, topic: impl Into<String>) -> Route {
        let topic = topic.into();
        let index = self.topics.iter().position(|known| *known == topic).unwrap_or_else(|| {
            self.topics.push(topic);
            self.topics.len() - 1
        });
        Route(index as u32 + 1)
    }
}

/// The work of the contract's `lifecycle.configure`.
pub(crate) fn configure<T>(
    stage: String,
    make: impl FnOnce(&mut Routes) -> Result<T, Vec<ConfigError>>,
) -> Result<(Stage<T>, Setup), Vec<ConfigError>> {
    let mut routes = Routes::default();
    let plugin = make(&mut routes)?;
    Ok((Stage { name: stage, plugin }, Setup { routes: routes.topics }))
}

/// The work of the contract's `transforming.transform`.
pub(crate) fn run<T: Transform>(stage: &Stage<T>, batch: Batch) -> types::Outputs {
    make(&Records::new(batch, &stage.name, T::NEEDS), |record, outputs| stage.plugin.transform(record, outputs))
}

/// Collect what `transform` makes of each record.
pub(crate) fn make(
    records: &Records,
    mut transform: impl FnMut(&Record<'_>, &mut Outputs) -> Result<(), Reject>,
) -> types::Outputs {
    let mut outputs = Outputs::with_capacity(records.len());
    let mut rejects = Vec::new();
    records.each(|record| {
        let mark = outputs.begin(record.index());
        if let Err(reject) = transform(record, &mut outputs) {
            outputs.take_back(&mark);
            rejects.push(reject.at(record.index()));
        }
    });
    outputs.finish(rejects)
}
