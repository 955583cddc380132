//! The record of crashes: which definitions of links the process died of.
//!
//! A definition that ends the process would end it again at each start. So when the process aborts (memory that cannot be had, a stack that is full, a panic in a
//! panic), a signal handler writes down for which link the thread worked, if it did. A definition that was written down [`CRASHES_MAX`] times is not hosted any
//! more. An end from outside (SIGKILL, a power cut) writes nothing, so it is held against no link.
//!
//! Layout of the file `crashes` in the data directory: the line [`HEADER`], then a line for each crash with 16 hexadecimal digits, see [`Culprit`]. A
//! definition that is changed is another one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::Signal;

use super::lock;
use crate::files::private;
use crate::model::Culprit;

const FILE: &str = "crashes";

const HEADER: &str = "tidegate crashes 1\n";

/// How often the process may die of a definition.
const CRASHES_MAX: usize = 2;

pub(super) struct Crashes {
    file: Mutex<File>,
    /// The lines of the file.
    lines: Mutex<Vec<u8>>,
}

impl Crashes {
    /// Read what was written down, and have further crashes of this process written down.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn watch(data_dir: &Path) -> io::Result<Self> {
        let crashes = Self::open(&data_dir.join(FILE))?;
        write_down_aborts(lock(&crashes.file).try_clone()?)?;
        Ok(crashes)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let mut file = private::append(path)?;
        let mut lines = Vec::new();
        file.read_to_end(&mut lines)?;
        if lines.is_empty() {
            lines.extend(HEADER.as_bytes());
            file.write_all(&lines)?;
        }
        Ok(Self { file: Mutex::new(file), lines: Mutex::new(lines) })
    }

    /// Whether the process died too often of a definition.
    pub(super) fn forbid(&self, culprit: Culprit) -> bool {
        let lines = lock(&self.lines);
        lines.split_inclusive(|byte| *byte == b'\n').filter(|line| *line == culprit.line()).count() >= CRASHES_MAX
    }

    /// Give a definition another chance.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn forgive(&self, culprit: Culprit) -> io::Result<()> {
        let mut lines = lock(&self.lines);
        let others = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| *line != culprit.line());
        let others = others.collect::<Vec<_>>().concat();
        let mut file = lock(&self.file);
        // The signal handler goes on at the end, wherever that is.
        file.set_len(0)?;
        file.write_all(&others)?;
        file.sync_data()?;
        *lines = others;
        Ok(())
    }
}

/// Have a signal handler write down for whom the thread works that aborts the process.
fn write_down_aborts(file: File) -> io::Result<()> {
    static DYING: AtomicBool = AtomicBool::new(false);
    let write_down = move || {
        // `abort` sends the signal once more, and then ends the process without asking.
        if DYING.swap(true, Relaxed) {
            return;
        }
        if let Some(culprit) = Culprit::now() {
            let _unwritten = rustix::io::write(&file, culprit.line());
        }
        // A signal that came from outside ends the process as well.
        std::process::abort();
    };
    // SAFETY: the action does what a signal handler may do: it reads a constant and a thread's own cell, writes to a file, and aborts.
    unsafe { signal_hook_registry::register(Signal::ABORT.as_raw(), write_down) }.map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_written_down_is_read_until_it_is_forgiven() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let (evil, other) = (Culprit::of("evil", 1), Culprit::of("other", 1));
        assert!(!Crashes::open(&path).expect("opened").forbid(evil));
        let line = |culprit: Culprit| String::from_utf8(culprit.line().to_vec()).expect("digits");
        // The bytes of version 1, the last line cut by a power cut.
        std::fs::write(&path, [HEADER, &line(evil), &line(other), &line(evil), &line(other)[..7]].concat())
            .expect("a file");
        let crashes = Crashes::open(&path).expect("opened");
        assert!(crashes.forbid(evil) && !crashes.forbid(other));
        crashes.forgive(evil).expect("written");
        assert!(!crashes.forbid(evil));
        let crashes = Crashes::open(&path).expect("opened");
        assert!(!crashes.forbid(evil) && !crashes.forbid(other));
    }

    const DIR: &str = "TIDEGATE_TEST_CRASH_DIR";

    /// Not a test of its own: the process of the test below that dies.
    #[test]
    fn die_of_a_link() {
        let Ok(dir) = std::env::var(DIR) else { return };
        let _crashes = Crashes::watch(dir.as_ref()).expect("watched");
        let dying = Culprit::of("evil", 1).blamed_for(|| {
            crate::model::culprit::spawn("lane", || {
                // As `handle_alloc_error` does where memory cannot be had.
                let layout = std::alloc::Layout::array::<u8>(1 << 40).expect("a size");
                std::alloc::handle_alloc_error(layout)
            })
        });
        drop(dying.expect("a thread").join());
    }

    #[test]
    fn a_process_that_aborts_says_whose_work_it_did() {
        let dir = tempfile::tempdir().expect("a directory");
        for died in 1..=2 {
            let test = "daemon::crashes::tests::die_of_a_link";
            let mut child = Command::new(std::env::current_exe().expect("this program"));
            let ended = child.args([test, "--exact"]).env(DIR, dir.path()).output().expect("it runs");
            assert_eq!(ended.status.signal(), Some(Signal::ABORT.as_raw()), "{ended:?}");
            let crashes = Crashes::open(&dir.path().join(FILE)).expect("opened");
            assert_eq!(crashes.forbid(Culprit::of("evil", 1)), died == 2);
            assert!(!crashes.forbid(Culprit::of("evil", 2)), "it was changed");
        }
    }
}
