use std::ops::Bound;

use redb::{BackendError, StorageBackend};

use super::*;

/// A disk that fails from some moment on.
#[derive(Debug)]
struct Failing {
    file: redb::backends::FileBackend,
    broken: Arc<AtomicBool>,
}

impl Failing {
    fn check(&self) -> Result<(), std::io::Error> {
        if self.broken.load(Ordering::SeqCst) { Err(std::io::Error::other("no space left")) } else { Ok(()) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.check()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.file.write(offset, data)
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[test]
fn a_failed_sync_stops_the_store_for_good() {
    let home = Home::new();
    drop(home.open());
    let broken = Arc::new(AtomicBool::new(false));
    let file = std::fs::File::options().read(true).write(true).open(home.path()).expect("opens");
    let file = redb::backends::FileBackend::new(file).expect("backend");
    let backend = Failing { file, broken: broken.clone() };
    let database = redb::Builder::new().create_with_backend(backend).expect("opens");
    let store = Store::start(&home.path(), database, Options::default()).expect("starts");
    let orders = topic(&store, "orders", 1);
    produce(&store, orders, 0..3);
    broken.store(true, Ordering::SeqCst);
    let failed = store.execute(Command::Append(vec![append(&store, orders, 0, 3..6)])).expect_err("failed");
    assert_eq!(failed.code(), "store-stopped");
    assert!(failed.to_string().contains("no space left"), "{failed}");
    assert_eq!(store.range(orders, 0).expect("there").end, 3, "what is not durable is not shown");
    broken.store(false, Ordering::SeqCst);
    let later = store.execute(Command::Append(vec![append(&store, orders, 0, 3..6)])).expect_err("stopped");
    assert_eq!(later, failed);
    drop(store);
    let store = home.open();
    assert_eq!(values(&store, orders, 0, 0)[..3], expected(0..3));
    let end = store.range(orders, 0).expect("there").end;
    assert_eq!(produce(&store, orders, end..end + 1), Outcome::Appended(vec![end]));
}
