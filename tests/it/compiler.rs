//! Compilation in a process of its own: what comes through it, and what ends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tidegate::plugin::PluginEngine;

use crate::harness::{binary, plugin, plugin_bytes, wait_until};

/// A component that takes the compiler minutes: one function of `megabytes`, near the most that a function may have, with values
/// that live to its end.
fn bomb(megabytes: usize) -> Vec<u8> {
    let step = "(local.set 0 (i32.mul (i32.add (local.get 0) (local.get 1)) (local.get 2)))
        (if (local.get 0) (then (local.set 1 (i32.load (local.get 2)))))
        (local.set 2 (i32.xor (local.get 1) (local.get 0)))\n";
    // A step has some 30 bytes.
    let body = step.repeat(megabytes * (1 << 20) / 34);
    let text = format!("(component (core module (memory 1) (func (param i32 i32 i32) {body})))");
    wat::parse_str(text).expect("a component")
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("plugin.wasm");
    fs::write(&path, bytes).expect("a file");
    (dir, path)
}

/// `tidegate plugin inspect`, by way of a shell that sets limits first.
fn inspect(limits: &str, file: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} exec \"$0\" plugin inspect --json \"$1\"")]).arg(binary()).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(output: &Output, part: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: ") && error.contains(part), "expected {part:?} in: {error}");
}

#[test]
fn a_plugin_is_the_same_whichever_process_compiled_it() {
    let here = PluginEngine::new(None).expect("an engine").load(&plugin_bytes("route")).expect("a plugin");
    let there = inspect("", &plugin("route")).output().expect("the command runs");
    let there: Value = serde_json::from_slice(&there.stdout).expect("an inspection");
    assert_eq!(there["digest"], here.digest().to_string());
    assert_eq!(there["name"], here.description().name);
    assert_eq!(there["imports"], Value::from(here.imports().to_vec()));
    assert_eq!(there["exports"], Value::from(here.exports().to_vec()));
}

#[test]
fn a_refusal_is_the_same_whichever_process_compiled_it() {
    let whole = plugin_bytes("route");
    let truncated = &whole[..whole.len() / 2];
    let here = PluginEngine::new(None).expect("an engine").load(truncated).expect_err("refused").to_string();
    assert!(here.contains("not a valid component"), "{here}");
    let (_dir, path) = file(truncated);
    refused(&inspect("", &path).output().expect("the command runs"), &here);
}

#[test]
fn a_component_that_takes_the_compiler_too_long_is_refused() {
    let (_dir, path) = file(&bomb(7));
    refused(
        &inspect("ulimit -St 1;", &path).output().expect("the command runs"),
        "takes more than 1 s of CPU time to compile",
    );
}

#[test]
fn a_component_that_takes_the_compiler_too_much_memory_is_refused() {
    let (_dir, path) = file(&bomb(7));
    refused(
        &inspect("ulimit -Sv 307200;", &path).output().expect("the command runs"),
        "takes more than 300 MiB of memory to compile",
    );
}

#[test]
fn a_compiler_that_is_killed_is_reported() {
    let (_dir, path) = file(&bomb(7));
    let inspecting = inspect("", &path).spawn().expect("the command runs");
    let mut compiler = None;
    wait_until("it compiles", || {
        compiler = compiler_of(&inspecting);
        compiler.is_some()
    });
    rustix::process::kill_process(compiler.expect("found"), rustix::process::Signal::KILL).expect("a compiler to kill");
    let output = inspecting.wait_with_output().expect("it ends");
    refused(&output, "the compiler failed: it ended with signal: 9");
}

#[test]
fn a_compiler_shares_nothing_with_whoever_started_it_and_ends_with_it() {
    let (_dir, path) = file(&bomb(7));
    let mut inspecting = inspect("exec 9</dev/null;", &path).spawn().expect("the command runs");
    let mut compiler = None;
    wait_until("it compiles", || {
        compiler = compiler_of(&inspecting).filter(|pid| is_limited(*pid) && is_compiling(*pid));
        compiler.is_some()
    });
    let compiler = compiler.expect("found");
    inspecting.kill().expect("a process to kill");
    inspecting.wait().expect("it ends");
    wait_until("the compiler ends", || !Path::new(&format!("/proc/{}", compiler.as_raw_nonzero())).exists());
}

/// The compiling child of a process. For a moment after its start it still looks like its parent.
fn compiler_of(process: &Child) -> Option<rustix::process::Pid> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.id())).ok()?;
    let pid = children.split_whitespace().next()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let pid = rustix::process::Pid::from_raw(pid.parse().ok()?);
    pid.filter(|_| command.starts_with(b"tidegate\0compile-plugin\0"))
}

/// Whether a compiler is beyond reading its input, which would end early when nobody writes it any more: it has taken many times the memory.
fn is_compiling(pid: rustix::process::Pid) -> bool {
    let pages = fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).is_some_and(|pages: u64| pages > 25_000)
}

/// Whether a compiler has set its limits, with no environment and no file open but the three that it talks through.
fn is_limited(pid: rustix::process::Pid) -> bool {
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap_or_default();
    let limited = |name: &str, soft: &str| {
        let mut lines = limits.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().is_some_and(|line| line.split_whitespace().next() == Some(soft))
    };
    let environment = fs::read(format!("{proc}/environ")).unwrap_or_default();
    let open = fs::read_dir(format!("{proc}/fd")).map_or(0, Iterator::count);
    limited("Max cpu time", "60")
        && limited("Max address space", "1073741824")
        && limited("Max core file size", "0")
        && environment.is_empty()
        && open == 3
}
