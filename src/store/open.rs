//! Making and opening the file.

use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};

use super::apply::{Failure, Tables};
use super::error::Error;
use crate::files::{given, private};

use super::tables::{LAYOUT, LAYOUT_VERSION, META, NEXT_TOPIC_ID};

/// How every file of the storage library begins.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Open the file at `path`, or make it.
pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Database, Error> {
    let directory = directory_of(path);
    private::create_dir(&directory).map_err(|error| failed(path, error))?;
    if !path.try_exists().map_err(|error| failed(path, error))? {
        create(path, &directory)?;
    }
    check_magic(path)?;
    let database = open_database(path, cache_bytes)?;
    check_layout(&database, path)?;
    Ok(database)
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn failed(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Open { path: path.to_owned(), reason: reason.to_string() }
}

/// Make the file under another name and give it its own when it is whole: who is killed in between leaves
/// no half file under `path`. Two who try at once cannot overwrite each other, because a link never does.
fn create(path: &Path, directory: &Path) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = directory.join(name);
    let _ = fs::remove_file(&new);
    let result = initialise(&new, path).and_then(|()| match fs::hard_link(&new, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(path, error)),
        _ => Ok(()),
    });
    let _ = fs::remove_file(&new);
    result?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed(path, error))
}

fn initialise(new: &Path, path: &Path) -> Result<(), Error> {
    let file = private::create_new(new).map_err(|error| failed(path, error))?;
    let backend = FileBackend::new(file).map_err(|error| failed(path, error))?;
    let database =
        Builder::new().set_cache_size(0).create_with_backend(backend).map_err(|error| failed(path, error))?;
    let mut transaction = database.begin_write().map_err(|error| failed(path, error))?;
    transaction.set_quick_repair(true);
    Tables::open(&transaction).map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Storage(reason) => failed(path, reason),
    })?;
    {
        let mut meta = transaction.open_table(META).map_err(|error| failed(path, error))?;
        for (key, value) in [(LAYOUT, LAYOUT_VERSION), (NEXT_TOPIC_ID, 1)] {
            meta.insert(key, value).map_err(|error| failed(path, error))?;
        }
    }
    transaction.commit().map_err(|error| failed(path, error))?;
    database.close().map_err(|error| failed(path, error))
}

fn check_magic(path: &Path) -> Result<(), Error> {
    let mut start = Vec::new();
    // Followed if it is a link: `path` is for the operator to choose.
    let file = given::open(path).map_err(|error| failed(path, error))?;
    private::tighten(&file).map_err(|error| failed(path, error))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(|error| failed(path, error))?;
    if start == MAGIC { Ok(()) } else { Err(Error::NotAStore(path.to_owned())) }
}

fn open_database(path: &Path, cache_bytes: usize) -> Result<Database, Error> {
    let open = || Builder::new().set_cache_size(cache_bytes).open(path);
    // The storage library asserts on files that only damage can bring forth; the daemon has to say so instead.
    let opened = catch_unwind(AssertUnwindSafe(open))
        .map_err(|_| Error::corrupt(path, "the structure", "the storage library gave up on it"))?;
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Error::InUse(path.to_owned()),
        DatabaseError::Storage(StorageError::Corrupted(reason)) => Error::corrupt(path, "the structure", reason),
        error => failed(path, error),
    })
}

fn check_layout(database: &Database, path: &Path) -> Result<(), Error> {
    let not_a_store = || Error::NotAStore(path.to_owned());
    let transaction = database.begin_read().map_err(|error| failed(path, error))?;
    let meta = transaction.open_table(META).map_err(|_| not_a_store())?;
    let layout = meta.get(LAYOUT).map_err(|error| failed(path, error))?.ok_or_else(not_a_store)?.value();
    match layout {
        0 => Err(not_a_store()),
        LAYOUT_VERSION => Ok(()),
        found => Err(Error::NewerLayout { path: path.to_owned(), found, readable: LAYOUT_VERSION }),
    }
}
