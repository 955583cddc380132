//! `[clusters.NAME]`: what holds topics.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{ClusterId, Compression, Digest};

use super::check_id;
use super::daemon::path;
use super::diagnostic::Place;
use super::json::written;
use super::kafka::{self, KafkaConfig};
use super::reader::{Item, Table};
use super::report::Report;
use super::writing::{Writing, may_write};

/// The most partitions of a declared topic: far above what one machine makes use of, and low enough that a slip of the hand
/// does not fill the disk with empty partitions.
const PARTITIONS_MAX: u64 = 10_000;

/// A cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Its id.
    pub id: ClusterId,
    /// What it is.
    pub kind: ClusterKind,
    /// The topics to create when the daemon starts, by name.
    pub topics: BTreeMap<Arc<str>, TopicConfig>,
    /// The digest of what stands in the file; `None` for a cluster that a definition brings.
    pub written: Option<Digest>,
}

/// What a cluster is.
#[derive(Clone, Debug)]
pub enum ClusterKind {
    /// One file on this machine.
    Embedded(EmbeddedConfig),
    /// Brokers of Kafka.
    Kafka(Box<KafkaConfig>),
}

/// An embedded cluster: one file on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Its file.
    pub path: PathBuf,
    /// What record batches are compressed with, unless a link says otherwise.
    pub compression: Compression,
}

/// A topic to create when the daemon starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// The number of partitions.
    pub partitions: u32,
    /// Records older than this many milliseconds may be deleted; `None`: age does not matter.
    pub retention_ms: Option<u64>,
    /// The oldest records of a partition that has more than this many bytes may be deleted; `None`: size does not matter.
    pub retention_bytes: Option<u64>,
}

/// A cluster, and where its file is named.
struct ReadCluster {
    config: ClusterConfig,
    /// Of a cluster whose path is left out, where its id is.
    path_place: Place,
}

/// All clusters. `data_dir` is where their files are by default, `base_dir` what a path is relative to.
pub(super) fn read_clusters(table: Table<'_>, data_dir: &Path, base_dir: &Path) -> BTreeMap<ClusterId, ClusterConfig> {
    let report = table.report;
    let mut found: Vec<ReadCluster> = Vec::new();
    for (id, id_place, item) in table.named() {
        let valid = check_id("cluster", id, &id_place, report);
        let Some(table) = item.table() else { continue };
        let path_place = table.place_of("path").unwrap_or(id_place);
        let config = ClusterConfig::read(table, id, data_dir, base_dir);
        let config = config.map(|config| ClusterConfig { written: Some(written(item.value)), ..config });
        found.extend(config.filter(|_| valid).map(|config| ReadCluster { config, path_place }));
    }
    // In the order of the file: the error is about the later one of two.
    found.sort_by_key(|read| read.path_place.span.start);
    refuse_shared_files(&found, report);
    found.into_iter().map(|read| (read.config.id.clone(), read.config)).collect()
}

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    Kafka,
}

impl ClusterConfig {
    /// `None` if something is missing or wrong that has no default.
    fn read(mut table: Table<'_>, id: &str, data_dir: &Path, base_dir: &Path) -> Option<Self> {
        let kind = table.required("kind", "write kind = \"embedded\" or kind = \"kafka\"");
        let kind = kind.and_then(|item| item.choice(&[("embedded", Kind::Embedded), ("kafka", Kind::Kafka)]));
        // What does not say what it is may still have other errors.
        let guess = if table.keys().any(|key| key == "brokers") { Kind::Kafka } else { Kind::Embedded };
        let kind = match kind.unwrap_or(guess) {
            Kind::Embedded => Some(ClusterKind::Embedded(EmbeddedConfig::read(&mut table, id, data_dir, base_dir))),
            Kind::Kafka => {
                table.misplaced(&[("path", "remove it: \"brokers\" says where the cluster is")], "a Kafka cluster");
                KafkaConfig::read(&mut table, base_dir).map(Box::new).map(ClusterKind::Kafka)
            }
        };
        let topics = read_topics(table.table("topics"));
        table.finish();
        Some(Self { id: id.into(), kind: kind?, topics, written: None })
    }
}

impl ClusterConfig {
    /// A Kafka cluster that a link defines in place, under a `cluster_id` that was read. `None` as above.
    pub(super) fn read_in_place(mut table: Table<'_>, id: &ClusterId, base_dir: &Path) -> Option<Self> {
        if let Some(kind) = table.item("kind") {
            kind.choice(&[("kafka", ())]);
        }
        let kafka = KafkaConfig::read(&mut table, base_dir);
        table.finish();
        Some(Self {
            id: id.clone(),
            kind: ClusterKind::Kafka(Box::new(kafka?)),
            topics: BTreeMap::new(),
            written: None,
        })
    }
}

impl EmbeddedConfig {
    fn read(table: &mut Table<'_>, id: &str, data_dir: &Path, base_dir: &Path) -> Self {
        let keys: Vec<_> = kafka::keys().map(|key| (key, "remove it, or write kind = \"kafka\"")).collect();
        table.misplaced(&keys, "an embedded cluster");
        let own_path = table.item("path");
        let compression = kafka::read_compression(table, "compression", Compression::FAST);
        let path = own_path.as_ref().and_then(path);
        let path = path.map_or_else(|| data_dir.join(format!("{id}.redb")), |path| base_dir.join(path));
        Self { path, compression }
    }
}

fn read_topics(table: Table<'_>) -> BTreeMap<Arc<str>, TopicConfig> {
    let report = table.report;
    let mut topics = BTreeMap::new();
    for (name, name_place, item) in table.named() {
        if let Err(refused) = may_write(Writing::Client, name, &[]) {
            report.error(&name_place, refused.to_string());
        }
        if let Some(table) = item.table() {
            topics.insert(name.into(), TopicConfig::read(table));
        }
    }
    topics
}

impl TopicConfig {
    fn read(mut table: Table<'_>) -> Self {
        let partitions = table.integer("partitions", 1, 1..=PARTITIONS_MAX) as u32;
        let in_ms = table.item("retention_ms");
        let retention = table.item("retention");
        if let (Some(_), Some(retention)) = (&in_ms, &retention) {
            table.report.error(&retention.place, "\"retention_ms\" says the same: write one of the two");
        }
        let retention_ms =
            in_ms.map_or_else(|| retention?.duration_ms_in(1..=MS_MAX), |item: Item<'_>| item.integer(1..=MS_MAX));
        let retention_bytes = table.item("retention_bytes").and_then(|item| item.size(1..=BYTES_MAX));
        table.finish();
        Self { partitions, retention_ms, retention_bytes }
    }
}

/// Times are signed 64-bit milliseconds, so no longer age makes sense.
const MS_MAX: u64 = i64::MAX as u64;

/// Sizes and offsets are signed where they meet the store.
const BYTES_MAX: u64 = i64::MAX as u64;

fn refuse_shared_files(clusters: &[ReadCluster], report: &Report<'_>) {
    let mut owners: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for ReadCluster { config, path_place } in clusters {
        let ClusterKind::Embedded(EmbeddedConfig { path, .. }) = &config.kind else { continue };
        if let Some(owner) = owners.insert(identity(path), &config.id) {
            let message = format!("cluster {owner:?} has the same file {}", path.display());
            report.error_with_help(path_place, message, "give each cluster a path of its own");
        }
    }
}

/// The same for two ways to write one path, links on the file system included. The file itself and some of its directories may
/// not be there yet.
fn identity(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing: Vec<&OsStr> = Vec::new();
    let mut parents = 0;
    for ancestor in absolute.ancestors() {
        if let Ok(mut found) = ancestor.canonicalize() {
            for _ in 0..parents {
                found.pop();
            }
            found.extend(missing.iter().rev());
            return found;
        }
        match ancestor.file_name() {
            Some(_) if parents > 0 => parents -= 1,
            Some(name) => missing.push(name),
            // Only a path that ends in `..` has no name here: it takes the next one back.
            None => parents += 1,
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_one_identity() {
        let dir = tempfile::tempdir().expect("directory");
        let base = dir.path();
        std::fs::create_dir(base.join("real")).expect("directory");
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).expect("link");
        let plain = identity(&base.join("real/x/east.redb"));
        for same in [
            "./real/x/east.redb",
            "link/x/east.redb",
            "real/../real/x//east.redb",
            "real/y/../x/east.redb",
            "y/../real/x/east.redb",
        ] {
            assert_eq!(identity(&base.join(same)), plain, "{same}");
        }
        assert_ne!(identity(&base.join("real/x/west.redb")), plain);
    }
}
