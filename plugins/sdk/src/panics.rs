//! What becomes known of a panic before it turns into a trap, which says nothing.

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::Once;

use crate::host;

std::thread_local! {
    /// The index of the record that is being worked on. It is kept for each record, because the host is only told after a
    /// panic: a call for each record would cost more than many plugins do.
    static WORKING_ON: Cell<Option<u32>> = const { Cell::new(None) };
}

/// From here on the record `index` is worked on, or none.
#[inline]
pub(crate) fn working_on(index: Option<u32>) {
    WORKING_ON.set(index);
}

/// Have panics reported to the host. Outside of WebAssembly they are left to whoever runs the tests.
pub(crate) fn report_them() {
    static ONCE: Once = Once::new();
    if cfg!(target_arch = "wasm32") {
        ONCE.call_once(|| std::panic::set_hook(Box::new(report)));
    }
}

/// Say which record it was, then what happened and where.
pub(crate) fn report(panic: &PanicHookInfo<'_>) {
    if let Some(index) = WORKING_ON.get() {
        host::working_on(index);
    }
    host::error(&panic.to_string());
}

#[cfg(test)]
mod tests {
    use std::panic::{self, AssertUnwindSafe};

    use crate::bindings::types::Batch;
    use crate::export::{self, Slot};
    use crate::{Column, ConfigError, Filter, NoConfig, Record, Reject, State, StatefulFilter, host};

    fn batch(count: u32) -> Batch {
        let offsets = (0..i64::from(count)).collect();
        let empty = Vec::new;
        Batch {
            topic: String::new(),
            partition: 0,
            count,
            arena: Vec::new(),
            keys: empty(),
            values: empty(),
            header_ends: empty(),
            headers: empty(),
            timestamps: Vec::new(),
            offsets,
            first_ordinal: 0,
        }
    }

    /// Panics at offset 2.
    struct Panics;

    impl Filter for Panics {
        type Config = NoConfig;
        const NEEDS: &'static [Column] = &[Column::Offset];

        fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
            Ok(Self)
        }

        fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
            assert_ne!(record.offset(), 2);
            Ok(true)
        }
    }

    impl StatefulFilter for Panics {
        type Config = NoConfig;
        const NEEDS: &'static [Column] = &[Column::Offset];

        fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
            Ok(Self)
        }

        fn keep(&self, record: &Record<'_>, _: &State<'_>) -> Result<bool, Reject> {
            Filter::keep(self, record)
        }
    }

    /// What the host was told of the record when `work` panicked.
    fn hint(work: impl FnOnce()) -> Option<u32> {
        host::HINT.set(None);
        panic::set_hook(Box::new(super::report));
        let panicked = panic::catch_unwind(AssertUnwindSafe(work)).is_err();
        let _ours = panic::take_hook();
        assert!(panicked, "it was to panic");
        host::HINT.get()
    }

    #[test]
    fn a_panic_tells_the_host_which_record_was_worked_on() {
        let slot = Slot::<Panics>::new();
        export::configure_filter(&slot, String::new(), "{}").expect("a configuration");
        export::filter(&slot, batch(2));
        assert_eq!(host::HINT.get(), None, "without a panic the host is told nothing");
        assert_eq!(hint(|| drop(export::filter(&slot, batch(4)))), Some(2));
        assert_eq!(hint(|| drop(export::stateful_filter(&slot, batch(4)))), Some(2));
        export::filter(&slot, batch(2));
        assert_eq!(hint(|| assert!(slot.get().is_none(), "between two batches")), None);
    }
}
