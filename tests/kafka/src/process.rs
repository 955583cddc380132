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
pub(crate) fn start(mut command: Command) -> io::Result<Child> {
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
