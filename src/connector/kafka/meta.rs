//! What a target remembers of links, and the components of plugins: one compacted topic, read from its beginning and then followed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::admin::Admin;
use super::client::{Client, Isolation, lock};
use super::error;
use super::layout::{self, LINKS, META};
use super::log::{self, Budget};
use super::records::Encoder;
use super::sink::alone;
use super::table::{ROW_BYTES_MAX, Table, Upto, row_too_large};
use crate::connector::{Class, Error};
use crate::model::limits::COMPONENT_BYTES_MAX;
use crate::model::{Batch, BatchBuilder, Codec, Compression, Digest, LinkId, TopicPartition};

/// A part of a component: well below what any topic takes as one record.
const PART_BYTES: usize = 512 << 10;

/// The parts of the largest component.
const PARTS_MAX: usize = COMPONENT_BYTES_MAX / PART_BYTES;

/// What it takes to find a component: all of the topic is read for it.
const COMPONENT_BUDGET: Budget =
    Budget { patience: Duration::from_secs(10), total: Duration::from_secs(600), bytes: COMPONENT_BYTES_MAX };

/// How long what has been read may be shown to who does not need the newest.
const AGE_MAX: Duration = Duration::from_millis(500);

/// How long it is tried to be the only one who writes, and how soon again.
const REPLACE_PATIENCE: Duration = Duration::from_secs(20);
const REPLACE_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The topic, and what has been read of it. Components are not kept: they are large, and asked for once.
#[derive(Debug)]
pub(super) struct Meta {
    client: Arc<Client>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    table: Table,
    read: Option<Instant>,
}

impl Known {
    fn follow(&mut self, client: &Client, admin: &Admin) -> Result<(), Error> {
        self.table.follow(client, admin, Upto::Now)?;
        self.read = Some(Instant::now());
        Ok(())
    }
}

impl Meta {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, known: Mutex::new(Known { table: Table::new(META, LINKS), read: None }) }
    }

    /// What is stored under `key`.
    pub(super) fn get(&self, admin: &Admin, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut known = lock(&self.known);
        known.follow(&self.client, admin)?;
        Ok(known.table.rows().get(key).cloned())
    }

    /// What is stored under a name, by link.
    pub(super) fn of_all(&self, admin: &Admin, name: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        let mut known = lock(&self.known);
        known.follow(&self.client, admin)?;
        let rows = known.table.rows().iter();
        Ok(rows.filter_map(|(key, value)| Some((layout::link_of(key, name)?.into(), value.clone()))).collect())
    }

    /// A number that changes when something is stored for a link, known about half a second later.
    pub(super) fn version(&self, admin: &Admin) -> Result<u64, Error> {
        let mut known = lock(&self.known);
        if known.read.is_none_or(|read| read.elapsed() > AGE_MAX) {
            known.follow(&self.client, admin)?;
        }
        Ok(known.table.version())
    }

    /// Store a value under a key if `known` is what is there. Whether it was.
    ///
    /// Of two who do this at once one is the first: both take the same transactional id, which ends the transaction of the other, and look at what is there
    /// only then.
    pub(super) fn replace(
        &self,
        admin: &Arc<Admin>,
        link: &LinkId,
        key: &str,
        known: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, Error> {
        check_size(key, value)?;
        let deadline = Instant::now() + REPLACE_PATIENCE;
        let batch = record(key, value);
        loop {
            let mut is_done = false;
            let allowed = || {
                let now = self.get(admin, key)?;
                is_done = now.as_deref() == Some(value);
                Ok(now.as_deref() == known)
            };
            match alone::write(&self.client, admin, link, &partition(), &batch, allowed) {
                // The answer to an earlier try may have been lost.
                Ok(replaced) => return Ok(replaced || is_done),
                Err(error) if error.class == Class::Fatal || Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(REPLACE_AGAIN_AFTER),
            }
        }
    }

    /// Store values under keys, durably.
    pub(super) fn put<'a>(
        &self,
        admin: &Admin,
        pairs: impl IntoIterator<Item = (String, &'a [u8])>,
    ) -> Result<(), Error> {
        admin.ensure(&META.into(), 1, &layout::settings())?;
        let mut encoder = Encoder::new(Compression::usual(Codec::Zstd));
        for (key, value) in pairs {
            check_size(&key, value)?;
            let batch = record(&key, value);
            let encoded = admin.limit(META)?.encode(&mut encoder, &batch, 0..1).map_err(error::not_encoded)?;
            self.client.produce(&partition(), encoded)?;
        }
        Ok(())
    }

    /// A component of a plugin.
    pub(super) fn component(&self, admin: &Admin, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        if admin.find(&META.into())?.is_none() {
            return Ok(None);
        }
        let (prefix, partition) = (layout::component_prefix(digest), partition());
        let range = self.client.range(&partition, Isolation::ReadUncommitted)?;
        let mut parts = Parts::default();
        let mut next = range.log_start;
        log::read(&self.client, &partition, &mut next, range.end, COMPONENT_BUDGET, |record| {
            let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
            if let Some(at) = key.and_then(|key| layout::component_part(key.strip_prefix(&prefix)?)) {
                parts.take(at, record.value());
            }
            Ok(parts.bytes)
        })?;
        let Some(bytes) = parts.joined() else { return Ok(None) };
        Ok((Digest::of(&bytes) == *digest).then_some(bytes))
    }

    /// Store a component of a plugin, durably.
    pub(super) fn put_component(&self, admin: &Admin, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let parts = bytes.chunks(PART_BYTES);
        let count = parts.len();
        let pairs = parts.enumerate().map(|(part, bytes)| (layout::component_key(digest, part, count), bytes));
        self.put(admin, pairs)
    }
}

/// What was found of a component.
#[derive(Debug, Default)]
struct Parts {
    found: BTreeMap<usize, Vec<u8>>,
    /// How many there are, as the last one says.
    count: Option<usize>,
    bytes: usize,
}

impl Parts {
    /// Take one of several. What is larger than any is none of ours.
    fn take(&mut self, (part, count): (usize, usize), value: Option<&[u8]>) {
        let is_ours = count <= PARTS_MAX && part < count;
        let Some(value) = value.filter(|value| is_ours && value.len() <= PART_BYTES) else { return };
        self.count = Some(count);
        self.bytes += value.len();
        self.bytes -= self.found.insert(part, value.to_vec()).map_or(0, |before| before.len());
    }

    /// All of it, if no part is missing.
    fn joined(self) -> Option<Vec<u8>> {
        (Some(self.found.len()) == self.count).then(|| self.found.into_values().flatten().collect())
    }
}

/// Refuse to store what would not be read again.
fn check_size(key: &str, value: &[u8]) -> Result<(), Error> {
    let bytes = key.len() + value.len();
    if bytes <= ROW_BYTES_MAX { Ok(()) } else { Err(Error { class: Class::Fatal, ..row_too_large(META, key, bytes) }) }
}

fn record(key: &str, value: &[u8]) -> Batch {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut builder = BatchBuilder::new();
    builder.push(0, now.as_millis() as i64, Some(key.as_bytes()), Some(value), std::iter::empty());
    builder.finish(META, 0)
}

fn partition() -> TopicPartition {
    TopicPartition::new(META, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_read_up_to_the_largest_and_no_further() {
        let mut parts = Parts::default();
        let part = vec![1; PART_BYTES];
        // Written twice, as after a publish that was tried again.
        for number in [0, 1].into_iter().chain(0..PARTS_MAX) {
            parts.take((number, PARTS_MAX), Some(&part));
        }
        // None of these is a part that we have written.
        parts.take((PARTS_MAX, PARTS_MAX + 1), Some(&part));
        parts.take((0, usize::MAX), Some(&part));
        parts.take((0, PARTS_MAX), Some(&[&part[..], b"!"].concat()));
        parts.take((0, PARTS_MAX), None);
        assert_eq!(parts.bytes, COMPONENT_BYTES_MAX);
        assert_eq!(parts.joined().map(|bytes| bytes.len()), Some(COMPONENT_BYTES_MAX));
    }

    #[test]
    fn a_component_without_all_its_parts_is_none() {
        let mut parts = Parts::default();
        assert_eq!(Parts::default().joined(), None);
        parts.take((1, 2), Some(b"b"));
        assert_eq!(parts.bytes, 1);
        parts.take((0, 2), Some(b"a"));
        assert_eq!(parts.joined().as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn what_would_not_be_read_again_is_not_stored() {
        let error = check_size("link/a/history", &vec![0; ROW_BYTES_MAX]).expect_err("too large");
        assert_eq!((error.class, error.code), (Class::Fatal, "own-row-too-large"));
        check_size("link/a/history", &vec![0; ROW_BYTES_MAX - 14]).expect("as large as may be");
    }
}
