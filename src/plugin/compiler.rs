//! Compilation in a process of its own. A compilation cannot be interrupted, and a component can be made to take hours and all memory
//! of the machine; a process can be limited and ended.
//!
//! Both ends are in this file. The daemon starts its own program with [`COMMAND`] and the bytes of memory that it may have, an empty environment and `/` as its directory. The component
//! goes in on standard input, and the serialized code comes out on standard output with exit status 0. Otherwise
//! one line on standard error says why, and the status is `MALFORMED` for what is wrong with the component.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use wasmtime::Engine;
use wasmtime::error::OutOfMemory;

use super::component::Refusal;
use super::engine::config;
use super::limits::COMPONENT_BYTES_MAX;
use super::text::one_line;

/// The command that this program answers by compiling one component.
pub const COMMAND: &str = "compile-plugin";

/// Exit status: the component is not valid.
const MALFORMED: u8 = 3;
/// Exit status: something else went wrong.
const FAILED: u8 = 4;

/// CPU time of a compilation, in seconds. An interpreter of 12 MiB takes 10 to 20.
const CPU_S_MAX: u64 = 60;
/// Address space of the compiling process, in bytes, unless the configuration says otherwise. An interpreter of 12 MiB takes less. Where the daemon and its children share a limit of memory
/// (a container, a unit), a compilation must not take so much that the daemon is killed.
pub const MEMORY_BYTES: u64 = 1 << 30;
/// Wall-clock time of a compilation. Only a machine that is much too busy comes here: the limit of CPU time is what ends bombs.
const WALL_TIME_MAX: Duration = Duration::from_secs(300);
/// Compiled code, in bytes: eight times the largest component. Real plugins have two to four times their component.
const CODE_BYTES_MAX: usize = 8 * COMPONENT_BYTES_MAX;
/// What is read of a compiler's last words, in bytes.
const STDERR_BYTES_MAX: u64 = 16 << 10;
/// How much the compiler lets lanes go before it.
const NICENESS: i32 = 10;

/// What is said when memory is refused: by Rust's allocator before it aborts, by the compiler's own when it panics, and by the system.
const OUT_OF_MEMORY: [&str; 4] = ["memory allocation of", "out of memory", "out-of-memory", "Cannot allocate memory"];

/// Compiles components, each in a process of its own.
#[derive(Debug)]
pub(super) struct Compiler {
    /// Compilations wait for each other, so that many publishes take no more from the lanes than one.
    turn: Mutex<()>,
    /// What a compiling process may have of address space.
    memory_bytes: AtomicU64,
}

impl Default for Compiler {
    fn default() -> Self {
        Self { turn: Mutex::default(), memory_bytes: AtomicU64::new(MEMORY_BYTES) }
    }
}

/// How a compiling process ended.
struct Ended {
    status: ExitStatus,
    code: Vec<u8>,
    words: String,
    out_of_time: bool,
}

impl Compiler {
    /// From now on a compiling process may have so many bytes of address space.
    pub(super) fn set_memory(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The serialized code of a component.
    pub(super) fn compile(&self, component: &[u8]) -> Result<Vec<u8>, Refusal> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = limit(Resource::As, self.memory_bytes.load(Ordering::Relaxed));
        let ended =
            run_child(component, memory).map_err(|error| Refusal::Compiler(format!("cannot start it: {error}")))?;
        judge(ended, memory)
    }
}

fn run_child(component: &[u8], memory: u64) -> io::Result<Ended> {
    let mut child = Command::new(this_program()?)
        .arg0("tidegate")
        .arg(COMMAND)
        .arg(memory.to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ended = converse(&mut child, component);
    if ended.is_err() {
        let _it_may_have_ended = child.kill().and_then(|()| child.wait());
    }
    ended
}

/// The file of the running program, even when another one was installed in its place: the two might not understand each other.
fn this_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// Hand the component over and take the answer. All three pipes move at once, so none can wait for another.
fn converse(child: &mut Child, component: &[u8]) -> io::Result<Ended> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("a pipe is missing"));
    };
    let (send, answer) = channel();
    thread::scope(|scope| {
        // A child that has ended does not read on: its status says why, not this.
        scope.spawn(move || drop(stdin.write_all(component)));
        scope.spawn(move || drop(send.send(read_up_to(stdout, CODE_BYTES_MAX as u64 + 1))));
        let words = scope.spawn(move || read_up_to(stderr, STDERR_BYTES_MAX));
        let answered = answer.recv_timeout(WALL_TIME_MAX);
        let out_of_time = matches!(answered, Err(RecvTimeoutError::Timeout));
        let code = answered.unwrap_or_else(|_| Ok(Vec::new()));
        if out_of_time || code.as_ref().map_or(true, |code| code.len() > CODE_BYTES_MAX) {
            child.kill()?;
        }
        let status = child.wait()?;
        let words = words.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        Ok(Ended { status, code: code?, words: String::from_utf8_lossy(&words).into_owned(), out_of_time })
    })
}

fn read_up_to(pipe: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The code, or what the end of the process means.
fn judge(ended: Ended, memory: u64) -> Result<Vec<u8>, Refusal> {
    let takes = |what: String| Err(Refusal::CompileLimit(what));
    if ended.out_of_time {
        return takes(format!("{} s of time", WALL_TIME_MAX.as_secs()));
    }
    if ended.code.len() > CODE_BYTES_MAX {
        return takes(format!("{CODE_BYTES_MAX} bytes for its code"));
    }
    let words = ended.words.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let signal = ended.status.signal();
    if signal == Some(Signal::XCPU.as_raw()) {
        return takes(format!("{} s of CPU time", limit(Resource::Cpu, CPU_S_MAX)));
    }
    match ended.status.code() {
        Some(0) => Ok(ended.code),
        Some(status) if status == i32::from(MALFORMED) => Err(Refusal::Malformed(words)),
        _ if OUT_OF_MEMORY.iter().any(|phrase| words.contains(phrase)) => {
            takes(format!("{} MiB of memory", memory >> 20))
        }
        Some(status) if status == i32::from(FAILED) => Err(Refusal::Compiler(words)),
        _ if words.is_empty() => Err(Refusal::Compiler(format!("it ended with {}", ended.status))),
        _ => Err(Refusal::Compiler(format!("it ended with {}: {words}", ended.status))),
    }
}

/// What a compiling process may have of a resource: no more than this process was given.
fn limit(resource: Resource, wanted: u64) -> u64 {
    getrlimit(resource).current.map_or(wanted, |given| given.min(wanted))
}

/// Compile the component on standard input to serialized code on standard output, within limits: what [`COMMAND`] does.
pub fn compile_plugin(memory: Option<u64>) -> ExitCode {
    let done = limit_this_process(memory.unwrap_or(MEMORY_BYTES))
        .map_err(internal)
        .and_then(|()| compile_input())
        .and_then(|code| {
            let mut out = io::stdout().lock();
            out.write_all(&code).and_then(|()| out.flush()).map_err(internal)
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, message)) => {
            let _nobody_to_tell = writeln!(io::stderr(), "{message}");
            ExitCode::from(status)
        }
    }
}

fn internal(error: impl Into<io::Error>) -> (u8, String) {
    (FAILED, error.into().to_string())
}

fn compile_input() -> Result<Vec<u8>, (u8, String)> {
    let mut component = Vec::new();
    io::stdin().lock().take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut component).map_err(internal)?;
    let mut config = config();
    // Threads would have arenas of address space of their own, as many as the machine has cores, and take more from the lanes.
    config.parallel_compilation(false);
    let engine = Engine::new(&config).map_err(|error| (FAILED, one_line(&error)))?;
    engine.precompile_component(&component).map_err(|error| {
        let of_the_machine = error.is::<OutOfMemory>() || error.is::<io::Error>();
        (if of_the_machine { FAILED } else { MALFORMED }, one_line(&error))
    })
}

fn limit_this_process(memory: u64) -> io::Result<()> {
    close_inherited()?;
    let cpu = limit(Resource::Cpu, CPU_S_MAX);
    // The soft limit is the one that says why; the hard one would kill without a word.
    bound(Resource::Cpu, cpu, cpu.saturating_add(1))?;
    let memory = limit(Resource::As, memory);
    bound(Resource::As, memory, memory)?;
    bound(Resource::Core, 0, 0)?;
    rustix::process::nice(NICENESS)?;
    // Whoever waited for the code is gone when the daemon is killed.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

fn bound(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |given| given.min(hard));
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })?)
}

/// Close what whoever started the daemon left open: the daemon's own files do not come here.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // SAFETY: this process has one thread and has opened nothing yet but the directory that was listed, which is closed by now;
        // so no value owns any of these numbers.
        unsafe { rustix::io::close(number) };
    }
    Ok(())
}
