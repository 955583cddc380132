//! What tests bring from elsewhere: once for the workspace, whole or not at all.

use std::fs::{self, File};
use std::path::Path;

use crate::Result;

/// A file of this name says that everything in its directory is there, and what was asked for.
const WHOLE: &str = "brought";

/// Bring what is wanted into a directory, unless it is there. A test that comes at the same time, also one of another process, waits.
///
/// What an earlier attempt has left of itself, and what was brought when something else was wanted, is removed first.
///
/// # Errors
/// The directory cannot be written to, or what `bring` says.
pub fn once(dir: &Path, wanted: &[u8], bring: impl FnOnce() -> Result<()>) -> Result<()> {
    let _alone = alone(dir)?;
    let cannot = |error| format!("cannot write to {}: {error}", dir.display());
    let whole = dir.join(WHOLE);
    if fs::read(&whole).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(cannot)?;
    }
    fs::create_dir_all(dir).map_err(cannot)?;
    bring()?;
    fs::write(whole, wanted).map_err(cannot)
}

/// Wait until nobody else is at work on a path, and keep others away from it until the answer is dropped.
///
/// # Errors
/// The lock, a file beside the path, cannot be made.
pub(crate) fn alone(path: &Path) -> Result<File> {
    let lock = path.with_added_extension("lock");
    let cannot = |error| format!("cannot lock {}: {error}", lock.display());
    fs::create_dir_all(lock.parent().unwrap_or(path)).map_err(cannot)?;
    let file = File::create(&lock).map_err(cannot)?;
    file.lock().map_err(cannot)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::once;

    fn new_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("brought-{name}-{}", std::process::id()));
        let _of_an_earlier_run = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn those_who_come_at_once_find_it_whole_and_one_has_brought_it() {
        let dir = new_dir("at-once");
        let times = AtomicUsize::new(0);
        let bring = || {
            times.fetch_add(1, Ordering::Relaxed);
            fs::write(dir.join("first"), "1").expect("written");
            thread::yield_now();
            fs::write(dir.join("last"), "2").expect("written");
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    once(&dir, b"1.0", bring).expect("brought");
                    assert_eq!(fs::read(dir.join("last")).expect("whole"), b"2");
                });
            }
        });
        assert_eq!(times.into_inner(), 1);
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn half_of_it_and_another_version_are_brought_again() {
        let dir = new_dir("half");
        let half = || {
            fs::write(dir.join("half"), "").expect("written");
            Err("the network is gone".to_owned())
        };
        assert_eq!(once(&dir, b"1.0", half), Err("the network is gone".to_owned()));
        once(&dir, b"1.0", || Ok(())).expect("brought");
        assert!(!dir.join("half").exists());
        once(&dir, b"1.0", || Err("it is there".to_owned())).expect("nothing to bring");
        assert!(once(&dir, b"2.0", || Err("another one".to_owned())).is_err());
        fs::remove_dir_all(dir).expect("removed");
    }
}
