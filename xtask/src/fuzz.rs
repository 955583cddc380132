//! `cargo xtask fuzz`: what reads bytes from outside is given bytes that a fuzzer makes up.

use std::process::Command;

use crate::plugins::Result;

/// The programs in `tests/fuzz`.
const TARGETS: [&str; 4] = ["record-batches", "answer", "fetch-answer", "own-record"];

/// How long each runs if nobody says otherwise, in seconds.
const SECONDS: &str = "60";

/// More than anything that is read may take, in MiB.
const MEMORY_MIB: &str = "512";

/// Let the fuzzer at each target for some seconds. What it learned stays in `tests/fuzz/corpus`.
pub(crate) fn run(seconds: Option<&String>) -> Result<()> {
    let seconds = seconds.map_or(SECONDS, String::as_str);
    seconds.parse::<u32>().map_err(|_| format!("{seconds} is not a number of seconds"))?;
    install()?;
    for target in TARGETS {
        eprintln!("\n» {target}: {seconds} s");
        let time = format!("-max_total_time={seconds}");
        let memory = [format!("-rss_limit_mb={MEMORY_MIB}"), format!("-malloc_limit_mb={MEMORY_MIB}")];
        // Without a sanitizer: the code has no unsafe block of its own here, and so the stable compiler will do.
        let fuzz = ["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", target, "--"];
        crate::cargo(&[&fuzz[..], &[&time, &memory[0], &memory[1]]].concat())?;
    }
    Ok(())
}

fn install() -> Result<()> {
    let there = Command::new("cargo").args(["fuzz", "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    eprintln!("installing cargo-fuzz");
    crate::cargo(&["install", "cargo-fuzz", "--locked"])
}
