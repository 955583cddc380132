//! The name of a daemon: what the others call it that run the same links.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::files::private;

/// Where the data directory keeps it.
const FILE: &str = "name";

/// The most bytes of the file that are read: a name has 63.
const NAME_BYTES_MAX: u64 = 256;

/// The most characters of a host's name in it: the whole fits an id.
const HOST_CHARACTERS_MAX: usize = 40;

/// The name that the configuration gives, or the one that the data directory keeps, which is made if there is none: it must be the same after a restart, and
/// another one on another machine.
pub(super) fn load_or_make(configured: Option<&str>, data_dir: &Path) -> io::Result<Arc<str>> {
    if let Some(name) = configured {
        return Ok(name.into());
    }
    let path = data_dir.join(FILE);
    let mut known = String::new();
    match private::read(&path).and_then(|file| file.take(NAME_BYTES_MAX).read_to_string(&mut known)) {
        Ok(_) if is_name(known.trim()) => return Ok(known.trim().into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut random = [0; 4];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let host = rustix::system::uname();
    let host: String = host.nodename().to_string_lossy().chars().filter(|c| is_allowed(*c)).collect();
    let host: String = host.chars().take(HOST_CHARACTERS_MAX).collect();
    let name = format!("{}-{:08x}", if host.is_empty() { "daemon" } else { &host }, u32::from_be_bytes(random));
    let mut file = private::create(&path)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    Ok(name.into())
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.chars().all(is_allowed)
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_and_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = load_or_make(None, dir.path()).expect("made");
        assert!(is_name(&made), "{made}");
        assert_eq!(load_or_make(None, dir.path()).expect("read"), made);
        assert_eq!(&*load_or_make(Some("east-1"), dir.path()).expect("configured"), "east-1");
        fs::write(dir.path().join(FILE), "not a name\n").expect("written");
        assert_ne!(load_or_make(None, dir.path()).expect("made anew"), made);
    }
}
