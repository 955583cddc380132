//! Files that somebody named: secrets, certificates, components, the configuration itself.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Open a regular file.
///
/// # Errors
/// It cannot be opened, or it is something else. A file on a file system that does not answer (hung NFS) makes this wait: the system offers no other way.
pub fn open(path: &Path) -> io::Result<File> {
    // Asked before it is opened, since opening alone makes some devices act; and again of what was opened.
    regular(std::fs::metadata(path)?.file_type())?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Read a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// The same, or it is larger. Never more than `bytes_max` bytes are kept.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 <= bytes_max {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} KiB", bytes_max.div_ceil(1 << 10))))
}

fn regular(found: FileType) -> io::Result<()> {
    let what = match found {
        _ if found.is_file() => return Ok(()),
        _ if found.is_dir() => "a directory",
        _ if found.is_fifo() => "a pipe",
        _ if found.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_and_nobody_waits() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, Kind::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).expect("a link");
        for (path, what) in [
            (&*pipe, "it is a pipe, not a regular file"),
            (&link, "it is a pipe, not a regular file"),
            (dir.path(), "it is a directory, not a regular file"),
            (Path::new("/dev/zero"), "it is a device, not a regular file"),
        ] {
            assert_eq!(read(path, 10).map_err(|error| error.to_string()), Err(what.to_owned()), "{}", path.display());
        }
    }

    #[test]
    fn a_file_has_a_bound() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        std::fs::write(&path, [b'x'; 1025]).expect("a file");
        assert_eq!(read(&path, 1025).expect("read").len(), 1025);
        assert_eq!(read(&path, 1024).expect_err("too large").to_string(), "it has more than 1 KiB");
        assert_eq!(read(&dir.path().join("none"), 1).expect_err("missing").kind(), io::ErrorKind::NotFound);
    }
}
