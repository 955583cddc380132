//! What the export macros stand on. Not part of the interface for authors.

use std::cell::OnceCell;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{self, Batch, Description, Setup, Verdicts};
use crate::config::{self, ConfigError};
use crate::record::Column;
use crate::{
    Filter, StatefulFilter, StatefulTransform, Transform, filter, panics, state, stateful_filter, stateful_transform,
    transform,
};

/// A configured plugin.
pub struct Stage<P> {
    pub(crate) name: String,
    pub(crate) plugin: P,
}

/// Where an instance keeps its plugin between calls.
pub type Slot<P> = OnceCell<Stage<P>>;

/// Describe a filter.
pub fn describe_filter<F: Filter>(name: &str, version: &str) -> Description {
    describe::<F::Config>(name, version, F::NEEDS)
}

/// Describe a transform.
pub fn describe_transform<T: Transform>(name: &str, version: &str) -> Description {
    describe::<T::Config>(name, version, T::NEEDS)
}

/// Describe a stateful filter.
pub fn describe_stateful_filter<F: StatefulFilter>(name: &str, version: &str) -> Description {
    describe::<F::Config>(name, version, F::NEEDS)
}

/// Describe a stateful transform.
pub fn describe_stateful_transform<T: StatefulTransform>(name: &str, version: &str) -> Description {
    describe::<T::Config>(name, version, T::NEEDS)
}

/// What the contract's `configure` answers.
pub type Configured = Result<Setup, Vec<types::ConfigError>>;

/// Configure a filter.
pub fn configure_filter<F: Filter>(slot: &Slot<F>, stage: String, config: &str) -> Configured {
    configure(slot, config, |config| filter::configure(stage, F::new(config)))
}

/// Configure a transform.
pub fn configure_transform<T: Transform>(slot: &Slot<T>, stage: String, config: &str) -> Configured {
    configure(slot, config, |config| transform::configure(stage, |routes| T::new(config, routes)))
}

/// Configure a stateful filter.
pub fn configure_stateful_filter<F: StatefulFilter>(slot: &Slot<F>, stage: String, config: &str) -> Configured {
    configure(slot, config, |config| filter::configure(stage, F::new(config)))
}

/// Configure a stateful transform.
pub fn configure_stateful_transform<T: StatefulTransform>(slot: &Slot<T>, stage: String, config: &str) -> Configured {
    configure(slot, config, |config| transform::configure(stage, |routes| T::new(config, routes)))
}

/// Run a filter over a batch.
pub fn filter<F: Filter>(slot: &Slot<F>, batch: Batch) -> Verdicts {
    filter::run(configured(slot), batch)
}

/// Run a transform over a batch.
pub fn transform<T: Transform>(slot: &Slot<T>, batch: Batch) -> types::Outputs {
    transform::run(configured(slot), batch)
}

/// Run a stateful filter over a batch.
pub fn stateful_filter<F: StatefulFilter>(slot: &Slot<F>, batch: Batch) -> Verdicts {
    stateful_filter::run(configured(slot), batch)
}

/// Run a stateful transform over a batch.
pub fn stateful_transform<T: StatefulTransform>(slot: &Slot<T>, batch: Batch) -> types::Outputs {
    stateful_transform::run(configured(slot), batch)
}

/// Migrate the state of a stateful filter.
pub fn migrate_stateful_filter<F: StatefulFilter>(slot: &Slot<F>, from: u32, to: u32) -> Result<(), String> {
    state::between_batches(|state| configured(slot).plugin.migrate(from, to, state))
}

/// Migrate the state of a stateful transform.
pub fn migrate_stateful_transform<T: StatefulTransform>(slot: &Slot<T>, from: u32, to: u32) -> Result<(), String> {
    state::between_batches(|state| configured(slot).plugin.migrate(from, to, state))
}

fn describe<C: JsonSchema>(name: &str, version: &str, needs: &[Column]) -> Description {
    panics::report_them();
    Description {
        name: name.to_owned(),
        version: version.to_owned(),
        needs: Column::flags(needs),
        config_schema: schemars::schema_for!(C).to_value().to_string(),
    }
}

fn configure<P, C: DeserializeOwned>(
    slot: &Slot<P>,
    config: &str,
    make: impl FnOnce(C) -> Result<(Stage<P>, Setup), Vec<ConfigError>>,
) -> Configured {
    panics::report_them();
    let (stage, setup) = config::read(config).and_then(make).map_err(|errors| {
        errors
            .into_iter()
            .map(|error| types::ConfigError { path: error.path, message: error.message })
            .collect::<Vec<_>>()
    })?;
    assert!(slot.set(stage).is_ok(), "`configure` was called twice");
    Ok(setup)
}

fn configured<P>(slot: &Slot<P>) -> &Stage<P> {
    slot.get().expect("the host calls `configure` first")
}

/// Export a [`Filter`] as the plugin of this crate. Its name and version are those of the crate.
#[macro_export]
macro_rules! export_filter {
    ($plugin:ty) => {
        const _: () = {
            $crate::__export_lifecycle!($plugin, describe_filter, configure_filter);

            impl $crate::bindings::filtering::exports::tidegate::plugin::filtering::Guest for Exported {
                fn filter(batch: $crate::bindings::types::Batch) -> $crate::bindings::types::Verdicts {
                    SLOT.with(|slot| $crate::export::filter(slot, batch))
                }
            }

    $crate::bindings::filtering::export_filtering!(Exported with_types_in $crate::bindings::filtering);
        };
    };
}

/// Export a [`Transform`] as the plugin of this crate. Its name and version are those of the crate.
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        const _: () = {
            $crate::__export_lifecycle!($plugin, describe_transform, configure_transform);

            impl $crate::bindings::transforming::exports::tidegate::plugin::transforming::Guest for Exported {
                fn transform(batch: $crate::bindings::types::Batch) -> $crate::bindings::types::Outputs {
                    SLOT.with(|slot| $crate::export::transform(slot, batch))
                }
            }

    $crate::bindings::transforming::export_transforming!(Exported with_types_in $crate::bindings::transforming);
        };
    };
}

/// Export a [`StatefulFilter`] as the plugin of this crate. Its name and version are those of the crate.
#[macro_export]
macro_rules! export_stateful_filter {
    ($plugin:ty) => {
        const _: () = {
            $crate::__export_lifecycle!($plugin, describe_stateful_filter, configure_stateful_filter);
            $crate::__export_migrating!($plugin, StatefulFilter, migrate_stateful_filter);

            impl $crate::bindings::filtering::exports::tidegate::plugin::filtering::Guest for Exported {
                fn filter(batch: $crate::bindings::types::Batch) -> $crate::bindings::types::Verdicts {
                    SLOT.with(|slot| $crate::export::stateful_filter(slot, batch))
                }
            }

    $crate::bindings::filtering::export_filtering!(Exported with_types_in $crate::bindings::filtering);
        };
    };
}

/// Export a [`StatefulTransform`] as the plugin of this crate. Its name and version are those of the crate.
#[macro_export]
macro_rules! export_stateful_transform {
    ($plugin:ty) => {
        const _: () = {
            $crate::__export_lifecycle!($plugin, describe_stateful_transform, configure_stateful_transform);
            $crate::__export_migrating!($plugin, StatefulTransform, migrate_stateful_transform);

            impl $crate::bindings::transforming::exports::tidegate::plugin::transforming::Guest for Exported {
                fn transform(batch: $crate::bindings::types::Batch) -> $crate::bindings::types::Outputs {
                    SLOT.with(|slot| $crate::export::stateful_transform(slot, batch))
                }
            }

    $crate::bindings::transforming::export_transforming!(Exported with_types_in $crate::bindings::transforming);
        };
    };
}

/// What both stateful worlds export.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_migrating {
    ($plugin:ty, $trait:ident, $migrate:ident) => {
        impl $crate::bindings::migrating::exports::tidegate::plugin::migrating::Guest for Exported {
            fn state_version() -> u32 {
                <$plugin as $crate::$trait>::STATE_VERSION
            }

            fn migrate_state(from: u32, to: u32) -> Result<(), String> {
                SLOT.with(|slot| $crate::export::$migrate(slot, from, to))
            }
        }

        $crate::bindings::migrating::export_migrating!(Exported with_types_in $crate::bindings::migrating);
    };
}

/// What all worlds export.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_lifecycle {
    ($plugin:ty, $describe:ident, $configure:ident) => {
        ::std::thread_local! {
            static SLOT: $crate::export::Slot<$plugin> = const { $crate::export::Slot::new() };
        }

        struct Exported;

        impl $crate::bindings::lifecycle::exports::tidegate::plugin::lifecycle::Guest for Exported {
            fn describe() -> $crate::bindings::types::Description {
                $crate::export::$describe::<$plugin>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            }

            fn configure(
                stage: String,
                config: String,
            ) -> $crate::export::Configured {
                SLOT.with(|slot| $crate::export::$configure(slot, stage, &config))
            }
        }

        $crate::bindings::lifecycle::export_lifecycle!(Exported with_types_in $crate::bindings::lifecycle);
    };
}
