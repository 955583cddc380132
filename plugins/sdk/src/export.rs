//! What the export macros stand on. Not part of the interface for authors.

use std::cell::OnceCell;
use std::sync::Once;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{self, Batch, Description, Setup, Verdicts};
use crate::config::{self, ConfigError};
use crate::record::Column;
use crate::{Filter, Transform, filter, host, transform};

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

/// Configure a filter.
pub fn configure_filter<F: Filter>(
    slot: &Slot<F>,
    stage: String,
    config: &str,
) -> Result<Setup, Vec<types::ConfigError>> {
    configure(slot, config, |config| filter::configure::<F>(stage, config))
}

/// Configure a transform.
pub fn configure_transform<T: Transform>(
    slot: &Slot<T>,
    stage: String,
    config: &str,
) -> Result<Setup, Vec<types::ConfigError>> {
    configure(slot, config, |config| transform::configure::<T>(stage, config))
}

/// Run a filter over a batch.
pub fn filter<F: Filter>(slot: &Slot<F>, batch: Batch) -> Verdicts {
    filter::run(configured(slot), batch)
}

/// Run a transform over a batch.
pub fn transform<T: Transform>(slot: &Slot<T>, batch: Batch) -> types::Outputs {
    transform::run(configured(slot), batch)
}

fn describe<C: JsonSchema>(name: &str, version: &str, needs: &[Column]) -> Description {
    log_panics();
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
) -> Result<Setup, Vec<types::ConfigError>> {
    log_panics();
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

/// A panic becomes a trap that says nothing: log what it is and where before that.
fn log_panics() {
    static ONCE: Once = Once::new();
    if cfg!(target_arch = "wasm32") {
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| host::error(&panic.to_string()))));
    }
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

/// What both worlds export.
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
            ) -> Result<$crate::bindings::types::Setup, Vec<$crate::bindings::types::ConfigError>> {
                SLOT.with(|slot| $crate::export::$configure(slot, stage, &config))
            }
        }

        $crate::bindings::lifecycle::export_lifecycle!(Exported with_types_in $crate::bindings::lifecycle);
    };
}
