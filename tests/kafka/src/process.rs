//! Child processes that cannot outlive this one.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// A command to start, and where to answer.
type Order = (Command, Sender<io::Result<Child>>);

/// The thread that starts all children: the system ends a child when the **thread** that started it ends, and a test's thread ends
/// before a cluster does that several tests share.
static STARTER: OnceLock<Sender<Order>> = OnceLock::new();

/// Start a child in a process group of its own, so that Ctrl-C at the terminal reaches its owner alone. It is killed when this process ends, however
/// that happens.
///
/// Errors: it cannot be started.
pub fn start(mut command: Command) -> io::Result<Child> {
    let owner = Pid::from_raw(process::id().cast_signed());
    command.process_group(0);
    // SAFETY: between fork and exec only system calls may be made that are safe in a signal handler; these two are, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The owner may have ended before the signal was asked for.
            if getppid() == owner { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    let starter = STARTER.get_or_init(|| {
        let (send, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Whoever ordered waits for the answer.
                let _received = answer.send(command.spawn());
            }
        });
        send
    });
    let (send, answer) = channel();
    starter.send((command, send)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

/// Send a signal to a child that has not been waited for.
///
/// Errors: the system refuses it.
pub(crate) fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(Pid::from_child(child), signal)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Duration;

    use super::start;

    /// How long a test waits for what must come. Only what is broken ever takes this long.
    const LOOKS_MAX: u32 = 3000;

    fn runs(pid: u32) -> bool {
        // Behind the name in parentheses stands the state: one that nobody has waited for is a zombie.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
    }

    /// Not a test: the process that the next one kills. It starts a child on a thread that ends, and prints its id if it still answers.
    #[test]
    #[ignore = "started by another test"]
    #[allow(clippy::zombie_processes, reason = "this process is killed")]
    fn owner_of_a_child() {
        let starter = thread::spawn(|| {
            let mut command = Command::new("sh");
            command.args(["-c", "read line; echo $line; exec sleep 60"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let child = start(command);
            let thread = fs::read_link("/proc/thread-self").expect("this thread");
            (child.expect("a child"), Path::new("/proc").join(thread))
        });
        let (mut child, thread) = starter.join().expect("the thread that starts");
        while thread.exists() {
            thread::yield_now();
        }
        // Only a child that was not killed answers.
        writeln!(child.stdin.take().expect("a pipe"), "child {}", child.id()).expect("a child that reads");
        let mut answer = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut answer).expect("an answer");
        assert!(!answer.is_empty(), "the child was killed");
        println!("\n{answer}");
        thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_child_outlives_the_thread_that_started_it_and_not_the_process() {
        let this = std::env::current_exe().expect("this program");
        let arguments = ["--exact", "process::tests::owner_of_a_child", "--ignored", "--nocapture"];
        let mut owner = Command::new(this);
        owner.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut owner = owner.spawn().expect("the owner");
        let lines = BufReader::new(owner.stdout.take().expect("a pipe")).lines();
        let mut pids = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("child ")?.parse().ok());
        let child = pids.next().expect("the child has ended with the thread");
        owner.kill().and_then(|()| owner.wait()).expect("killed");
        let ended = (0..LOOKS_MAX).any(|_| {
            thread::sleep(Duration::from_millis(10));
            !runs(child)
        });
        assert!(ended, "the child outlives its owner");
    }
}
