//! The daemon's own files: everything in the data directory, and the stores of embedded clusters.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The permission of everybody but the owner to write.
const OTHERS_WRITE: u32 = 0o022;

/// Make a directory, and those above it that are missing. One that is there stays as it is.
///
/// # Errors
/// It cannot be made.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Make a file that must not be there yet, to be read and written.
///
/// # Errors
/// It cannot be made, or it is there.
pub fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create_new(true))
}

/// Make a file, or empty the one that is there.
///
/// # Errors
/// It cannot be written, or it is a symbolic link.
pub fn create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// Open a file to be read and appended to, and make it if it is missing.
///
/// # Errors
/// It cannot be written, or it is a symbolic link.
pub fn append(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).append(true).create(true))
}

/// Open a file that is there, to be read.
///
/// # Errors
/// It cannot be read, or it is a symbolic link.
pub fn read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Have the names in a directory be durable: of what was made or renamed there.
///
/// # Errors
/// The system cannot write it.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What we keep is never behind a link: whoever can put one there must not choose what we read or write. A pipe in its place keeps nobody waiting.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed()).open(path).map_err(|error| {
        let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        let message = "it is a symbolic link, which the daemon does not follow here";
        if is_link { io::Error::new(error.kind(), message) } else { error }
    })?;
    tighten(&file)?;
    Ok(file)
}

/// Take away what others may do with a file or a directory of ours, if an older version or another program let them. Of what belongs to another user it stays as it is.
///
/// # Errors
/// The system does not allow it.
pub fn tighten(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    let mode = found.mode() & 0o7777;
    if mode & OTHERS == 0 || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode & !OTHERS))
}

/// The same for every file that is directly in a directory of ours, links excepted, and for the directory.
///
/// # Errors
/// The directory cannot be read, or the system does not allow it.
pub fn tighten_all(dir: &Path) -> io::Result<()> {
    tighten(&File::open(dir)?)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            match read(&entry.path()) {
                // Another process may take a file away meanwhile.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What others may do in a directory that should be ours alone, if anything.
pub fn openness(dir: &Path) -> Option<&'static str> {
    let mode = std::fs::metadata(dir).ok()?.mode();
    match mode {
        _ if mode & OTHERS_WRITE != 0 => Some("other users may write there"),
        _ if mode & OTHERS != 0 => Some("other users may enter it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("something there").mode() & 0o7777
    }

    #[test]
    fn a_file_that_is_open_to_others_is_tightened_when_it_is_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        for opened in [read, append, create] {
            let path = dir.path().join("f");
            fs::write(&path, "old").expect("a file");
            fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("open to all");
            opened(&path).expect("opened");
            assert_eq!(mode(&path), 0o600);
        }
        let nested = dir.path().join("a/b");
        create_dir(&nested).expect("made");
        assert_eq!((mode(&nested), mode(&dir.path().join("a"))), (0o700, 0o700));
        assert_eq!(openness(&nested), None);
        fs::set_permissions(&nested, Permissions::from_mode(0o755)).expect("open to all");
        assert_eq!(openness(&nested), Some("other users may enter it"));
        fs::set_permissions(&nested, Permissions::from_mode(0o777)).expect("open to all");
        assert_eq!(openness(&nested), Some("other users may write there"));
        fs::write(nested.join("f"), "x").expect("a file");
        fs::set_permissions(nested.join("f"), Permissions::from_mode(0o644)).expect("open to all");
        tighten_all(&nested).expect("tightened");
        assert_eq!((mode(&nested), mode(&nested.join("f"))), (0o700, 0o600));
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        fs::write(&victim, "theirs").expect("a file");
        fs::set_permissions(&victim, Permissions::from_mode(0o644)).expect("readable");
        std::os::unix::fs::symlink(&victim, &link).expect("a link");
        for opened in [read, append, create, create_new] {
            let error = opened(&link).expect_err("a link").to_string();
            assert_eq!(error, "it is a symbolic link, which the daemon does not follow here");
        }
        assert_eq!((fs::read_to_string(&victim).expect("text"), mode(&victim)), ("theirs".to_owned(), 0o644));
    }
}
