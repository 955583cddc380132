//! Compiled code on disk, so that a restart does not compile again.
//!
//! Compiled code is machine code: whoever can put a file here could run anything in the daemon. So each file starts with an
//! HMAC-SHA-256 over the rest and its name, with a key that only this data directory has (mode 0600), and the bytes that were
//! checked are the bytes that are loaded.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::files::private;

const MAC_BYTES: usize = 32;

/// Files of compiled code under one directory.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
}

impl Cache {
    /// The cache in `dir`, which is made if it is missing, as is its key.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        private::create_dir(dir)?;
        private::tighten_all(dir)?;
        Ok(Self { key: load_or_make_key(&dir.join("key"))?, dir: dir.to_owned() })
    }

    /// The code stored under `name`; `None` if there is none or it was not written here.
    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = read(&self.dir.join(name)).ok()?;
        let code = bytes.split_off(MAC_BYTES.min(bytes.len()));
        match self.mac(name, &code).verify_slice(&bytes) {
            Ok(()) => Some(code),
            Err(_) => {
                tracing::warn!(file = name, "compiled code in the cache was not written by this daemon: ignored");
                None
            }
        }
    }

    /// Store `code` under `name`. A cache that cannot be written is only slower, so this is not an error.
    pub(super) fn put(&self, name: &str, code: &[u8]) {
        if let Err(error) = self.try_put(name, code) {
            tracing::warn!(%error, file = name, "compiled code could not be cached");
        }
    }

    fn try_put(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let part = self.dir.join(format!("{name}.{}.part", std::process::id()));
        let mut file = private::create(&part)?;
        file.write_all(&self.mac(name, code).finalize().into_bytes())?;
        file.write_all(code)?;
        drop(file);
        fs::rename(part, self.dir.join(name))
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        #[allow(clippy::expect_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        mac.update(code);
        mac
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    private::read(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn load_or_make_key(path: &Path) -> io::Result<[u8; 32]> {
    if let Ok(bytes) = read(path)
        && let Ok(key) = bytes.try_into()
    {
        return Ok(key);
    }
    let mut key = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut file = private::create(path)?;
    file.write_all(&key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_put() {
        let dir = tempfile::tempdir().expect("a directory");
        Cache::open(dir.path()).expect("a cache").put("a", b"code");
        assert_eq!(Cache::open(dir.path()).expect("the same").get("a").as_deref(), Some(&b"code"[..]));
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path()).expect("a cache");
        cache.put("a", b"code");
        let mut bytes = fs::read(dir.path().join("a")).expect("the file");
        fs::write(dir.path().join("b"), &bytes).expect("a copy under another name");
        *bytes.last_mut().expect("not empty") ^= 1;
        fs::write(dir.path().join("a"), &bytes).expect("one bit flipped");
        fs::write(dir.path().join("c"), b"short").expect("too short");
        for name in ["a", "b", "c", "missing"] {
            assert_eq!(cache.get(name), None, "{name}");
        }
    }
}
