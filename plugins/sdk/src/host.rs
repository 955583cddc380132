//! What the host offers: log lines and metrics. Nothing else can leave a plugin but its results.
//!
//! Outside of WebAssembly, in a plugin's own tests, log lines go to standard error and metrics nowhere.

/// Write a line to the daemon's log, for the plugin's author.
pub fn debug(message: &str) {
    imports::log(Level::Debug, message);
}

/// Write a line to the daemon's log, for the operator in good times.
pub fn info(message: &str) {
    imports::log(Level::Info, message);
}

/// Write a line to the daemon's log: something is odd, the plugin goes on.
pub fn warn(message: &str) {
    imports::log(Level::Warn, message);
}

/// Write a line to the daemon's log: something failed.
pub fn error(message: &str) {
    imports::log(Level::Error, message);
}

/// Add to a counter of this stage. The name is lower case words with underscores.
pub fn count(name: &str, delta: u64) {
    imports::count(name, delta);
}

/// Set a gauge of this stage. The name is lower case words with underscores.
pub fn gauge(name: &str, value: f64) {
    imports::gauge(name, value);
}

/// Tell the host which record of the batch is being worked on.
pub(crate) fn working_on(index: u32) {
    imports::working_on(index);
}

use crate::bindings::host::Level;

#[cfg(target_arch = "wasm32")]
use crate::bindings::host as imports;

#[cfg(not(target_arch = "wasm32"))]
mod imports {
    use super::Level;

    #[allow(clippy::print_stderr, reason = "there is no daemon that could log it")]
    pub(super) fn log(level: Level, message: &str) {
        eprintln!("{level:?} {message}");
    }

    pub(super) fn count(_name: &str, _delta: u64) {}

    pub(super) fn gauge(_name: &str, _value: f64) {}

    pub(super) fn working_on(index: u32) {
        #[cfg(test)]
        super::HINT.set(Some(index));
        #[cfg(not(test))]
        let _nobody_asks = index;
    }
}

#[cfg(test)]
std::thread_local! {
    /// What the tests of this crate see of [`working_on`].
    pub(crate) static HINT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}
