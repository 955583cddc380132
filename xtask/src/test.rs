//! `cargo xtask test`: everything that must be green.

use std::time::Instant;

use crate::plugins::{self, Result};

/// Formatting, plugins, lints, documentation, tests; in the order in which mistakes are cheapest to find.
pub(crate) fn run() -> Result<()> {
    step("formatting", || crate::cargo(&["fmt", "--all", "--check"]))?;
    step("plugins", || plugins::build(&[], &crate::root().join("target/plugins")).map(|_| ()))?;
    step("clippy", || {
        crate::cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"])
    })?;
    step("documentation", || {
        crate::cargo_with(&["doc", "--release", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "--deny warnings")])
    })?;
    // Most tests wait for brokers more than they work.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get() * 3 / 2).to_string();
    // A test says itself what it found and what led there: a backtrace only pushes that out of sight.
    let how = [("RUST_TEST_THREADS", &*threads), ("RUST_BACKTRACE", "0")];
    step("tests", || crate::cargo_with(&["test", "--release", "--workspace", "--no-fail-fast"], &how))
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n» {name}");
    let begun = Instant::now();
    work().map_err(|error| format!("{name}: {error}"))?;
    eprintln!("  {name}: good, after {:.0?}", begun.elapsed());
    Ok(())
}
