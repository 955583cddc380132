//! What a target remembers of links, and the components of plugins: one compacted topic, read from its beginning and then followed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::admin::Admin;
use super::client::{Client, EARLIEST, Isolation, LATEST, lock};
use super::error;
use super::layout::{self, META};
use super::log;
use super::records::{Codec, Compression, Encoder};
use crate::connector::Error;
use crate::model::{BatchBuilder, Digest, TopicPartition};

/// A part of a component: well below what any topic takes as one record.
const PART_BYTES: usize = 512 << 10;

/// How long a broker may take to show what is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The topic, and what has been read of it. Components are not kept: they are large, and asked for once.
#[derive(Debug)]
pub(super) struct Meta {
    client: Arc<Client>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    next: i64,
    values: HashMap<String, Vec<u8>>,
}

impl Meta {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// What is stored under `key`.
    pub(super) fn get(&self, admin: &Admin, key: &str) -> Result<Option<Vec<u8>>, Error> {
        if admin.find(&META.into())?.is_none() {
            return Ok(None);
        }
        let mut known = lock(&self.known);
        self.follow(&mut known)?;
        Ok(known.values.get(key).cloned())
    }

    /// Read what is new.
    fn follow(&self, known: &mut Known) -> Result<(), Error> {
        let partition = partition();
        let end = self.client.offset(&partition, LATEST, Isolation::ReadUncommitted)?;
        if end < known.next {
            // The topic was made again.
            *known = Known::default();
        }
        if end == known.next {
            return Ok(());
        }
        let start = known.next.max(self.client.offset(&partition, EARLIEST, Isolation::ReadUncommitted)?);
        let values = &mut known.values;
        let read = log::read(&self.client, &partition, start..end, Isolation::ReadCommitted, PATIENCE, |record| {
            let Some(key) = record.key().and_then(|key| std::str::from_utf8(key).ok()) else { return Ok(()) };
            match record.value() {
                Some(value) if key.starts_with("link/") => drop(values.insert(key.to_owned(), value.to_vec())),
                Some(_) => {}
                None => drop(values.remove(key)),
            }
            Ok(())
        });
        known.next = read?;
        Ok(())
    }

    /// Store values under keys, durably.
    pub(super) fn put<'a>(
        &self,
        admin: &Admin,
        pairs: impl IntoIterator<Item = (String, &'a [u8])>,
    ) -> Result<(), Error> {
        admin.ensure(&META.into(), 1, &layout::settings())?;
        let mut encoder = Encoder::new(Compression::new(Codec::Zstd, None).map_err(error::not_encoded)?);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        for (key, value) in pairs {
            let mut builder = BatchBuilder::new();
            builder.push(0, now.as_millis() as i64, Some(key.as_bytes()), Some(value), std::iter::empty());
            let batch = builder.finish(META, 0);
            let encoded = encoder.encode(&batch, 0..1, admin.batch_bytes_max(META)?).map_err(error::not_encoded)?;
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
        let start = self.client.offset(&partition, EARLIEST, Isolation::ReadUncommitted)?;
        let end = self.client.offset(&partition, LATEST, Isolation::ReadUncommitted)?;
        let (mut found, mut count) = (BTreeMap::new(), usize::MAX);
        log::read(&self.client, &partition, start..end, Isolation::ReadCommitted, PATIENCE, |record| {
            let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
            let part = key.and_then(|key| layout::component_part(key.strip_prefix(&prefix)?));
            if let (Some((part, parts)), Some(value)) = (part, record.value()) {
                found.insert(part, value.to_vec());
                count = parts;
            }
            Ok(())
        })?;
        if found.len() != count {
            return Ok(None);
        }
        let bytes: Vec<u8> = found.into_values().flatten().collect();
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

fn partition() -> TopicPartition {
    TopicPartition::new(META, 0)
}
