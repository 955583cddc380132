//! `cargo xtask kafka`: two real Kafka clusters on loopback, for a person who wants to try links between them.
//!
//! `up` stays in the foreground and holds a lock while it runs; `down` finds it by the lock and ends it as Ctrl-C does.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::PathBuf;

use kafka_brokers::{Cluster, Jars, Options, Release};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::plugins::Result;

const USAGE: &str = "\
usage: cargo xtask kafka up|down

  up     start two Kafka clusters of one broker each on 127.0.0.1, print where they listen, and run until Ctrl-C; then they and
         their data are gone. The first time, Maven brings Apache Kafka into target/kafka/ (Java 17 and Maven are needed; as root on
         Debian they are installed)
  down   end the clusters of an `up` that runs elsewhere, and wait until they are gone";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [task] if task == "up" => up(),
        [task] if task == "down" => down(),
        [option] if ["--help", "-h", "help"].contains(&option.as_str()) => {
            eprintln!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn up() -> Result<()> {
    let lock = take_lock()?.ok_or("the clusters are up already; end them with `cargo xtask kafka down`")?;
    write_pid(&lock).map_err(|error| format!("cannot write {}: {error}", lock_file().display()))?;
    eprintln!("starting two Kafka clusters; the first time this takes a minute");
    Jars::find(Release::default())?;
    let source = Cluster::start(&Options::default())?;
    let target = Cluster::start(&Options::default())?;
    // Before this, a signal ends this process at once, and the system ends what it has started.
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| format!("cannot await Ctrl-C: {error}"))?;
    eprintln!(
        "source  {}\ntarget  {}\nCtrl-C ends both and removes their data",
        source.bootstrap(),
        target.bootstrap()
    );
    signals.forever().next();
    eprintln!("ending");
    Ok(())
}

fn down() -> Result<()> {
    if take_lock()?.is_some() {
        return Err("no clusters are up; start them with `cargo xtask kafka up`".to_owned());
    }
    let mut lock = open()?;
    let mut text = String::new();
    lock.read_to_string(&mut text).map_err(|error| format!("cannot read {}: {error}", lock_file().display()))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw).ok_or("the clusters are just starting; try again")?;
    let process = format!("process {}", pid.as_raw_nonzero());
    kill_process(pid, Signal::TERM).map_err(|error| format!("cannot end {process}: {error}"))?;
    lock.lock().map_err(|error| format!("cannot wait for {process}: {error}"))
}

/// The lock that `up` holds while it runs; none if an `up` has it.
fn take_lock() -> Result<Option<File>> {
    let lock = open()?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {}: {error}", lock_file().display())),
    }
}

fn open() -> Result<File> {
    let opened = fs::create_dir_all(kafka_brokers::home())
        .and_then(|()| File::options().create(true).read(true).write(true).truncate(false).open(lock_file()));
    opened.map_err(|error| format!("cannot open {}: {error}", lock_file().display()))
}

/// Say in the lock which process holds it.
fn write_pid(mut lock: &File) -> std::io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn lock_file() -> PathBuf {
    kafka_brokers::home().join("up")
}
