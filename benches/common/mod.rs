//! What the benches share: records, medians, and the native twin of the plugin `byte-filter`.

#![allow(
    dead_code,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each bench uses a part; a bench may fail loudly"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidegate::connector::{
    Cluster, Copying, Error, LaneSettings, PartitionRange, RevisionStart, SettingChanges, Sink, Source, Target, Topic,
    TopicSettings,
};
use tidegate::link::StageSpec;
use tidegate::model::{
    Batch, BatchBuilder, Checkpoint, Digest, Json, JsonObject, Limits, LinkId, OnError, TopicPartition,
};

/// The component of a plugin that `cargo xtask plugins` has built.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/plugins/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask plugins` first", path.display()))
}

/// A stage that runs the plugin `byte-filter`, and its component.
pub(crate) fn byte_filter() -> (StageSpec, Arc<[u8]>) {
    let bytes: Arc<[u8]> = component("byte-filter").into();
    let spec = StageSpec {
        name: "filter".to_owned(),
        plugin_digest: Digest::of(&bytes),
        plugin_name: "byte-filter".to_owned(),
        plugin_version: "0.1.0".to_owned(),
        config: Json::Object(JsonObject::new()),
        on_error: OnError::DeadLetter,
        time_ahead_max_ms: None,
        limits: Limits::default(),
    };
    (spec, bytes)
}

/// A batch of `count` records with values of `len` bytes.
pub(crate) fn batch(count: usize, len: usize, first_offset: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ first_offset as u64;
    let mut value = vec![0; len];
    for index in 0..count {
        for byte in &mut value {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = b'a' + (state >> 59) as u8;
        }
        builder.push(first_offset + index as i64, 1_700_000_000_000, Some(b"key"), Some(&value), []);
    }
    builder.finish("orders", 0)
}

/// What the plugin `byte-filter` decides, natively.
pub(crate) fn native_filter(batch: &mut Batch) {
    let keep: Vec<u8> = batch
        .records()
        .map(|record| u8::from(record.value().and_then(<[u8]>::last).is_some_and(|byte| byte % 8 != 0)))
        .collect();
    batch.retain(&keep);
}

/// A daemon with the configuration in `dir`.
pub(crate) fn spawn(dir: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("run").current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a daemon")
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// The CPU time that this process has used.
pub(crate) fn process_cpu_time() -> Duration {
    cpu_time(ClockId::ProcessCPUTime)
}

/// The CPU time that this thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    cpu_time(ClockId::ThreadCPUTime)
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A cluster whose sources filter natively: a link that reads it does the plugin's work without the plugin.
pub(crate) struct Filtered(pub(crate) Arc<dyn Cluster>);

struct FilteredSource(Box<dyn Source>);

impl Source for FilteredSource {
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        self.0.seek(partition, offset)
    }

    fn forget(&mut self, partition: &TopicPartition) {
        self.0.forget(partition);
    }

    fn poll(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Option<Batch>, Error> {
        let mut batch = self.0.poll(max_records, max_bytes, wait)?;
        batch.iter_mut().for_each(native_filter);
        Ok(batch)
    }
}

impl Cluster for Filtered {
    fn probe(&self) -> Result<(), Error> {
        self.0.probe()
    }
    fn topics(&self) -> Result<Vec<Topic>, Error> {
        self.0.topics()
    }
    fn range(&self, partition: &TopicPartition) -> Result<PartitionRange, Error> {
        self.0.range(partition)
    }
    fn timestamp_at(&self, partition: &TopicPartition, offset: i64) -> Result<Option<i64>, Error> {
        self.0.timestamp_at(partition, offset)
    }
    fn topology_version(&self) -> u64 {
        self.0.topology_version()
    }
    fn create_topic(&self, name: &str, partitions: u32) -> Result<Topic, Error> {
        self.0.create_topic(name, partitions)
    }
    fn produce(&self, partition: &TopicPartition, batch: &Batch) -> Result<i64, Error> {
        self.0.produce(partition, batch)
    }
    fn is_atomic(&self, enable_exactly_once: bool) -> bool {
        self.0.is_atomic(enable_exactly_once)
    }
    fn checkpoints(&self, link: &LinkId, generation: u32) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error> {
        self.0.checkpoints(link, generation)
    }
    fn ranges(&self, topic: &str) -> Result<Vec<PartitionRange>, Error> {
        self.0.ranges(topic)
    }
    fn make_topics(&self, targets: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error> {
        self.0.make_topics(targets)
    }
    fn topic_settings(&self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error> {
        self.0.topic_settings(topics)
    }
    fn settings_known(&self) -> &'static [&'static str] {
        self.0.settings_known()
    }
    fn change_settings(
        &self,
        changes: &BTreeMap<Arc<str>, SettingChanges>,
    ) -> Result<BTreeMap<Arc<str>, Error>, Error> {
        self.0.change_settings(changes)
    }
    fn record_bytes_max(&self, topic: &str) -> Result<usize, Error> {
        self.0.record_bytes_max(topic)
    }
    fn revision_starts(&self, link: &LinkId, generation: u32) -> Result<Vec<RevisionStart>, Error> {
        self.0.revision_starts(link, generation)
    }
    fn copy_lanes(&self, copying: &Copying, copied: &mut dyn FnMut(u32) -> Result<(), Error>) -> Result<(), Error> {
        self.0.copy_lanes(copying, copied)
    }
    fn metadata(&self, link: &LinkId, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.metadata(link, key)
    }
    fn replace_metadata(&self, link: &LinkId, key: &str, known: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        self.0.replace_metadata(link, key, known, value)
    }

    fn metadata_version(&self) -> Result<u64, Error> {
        self.0.metadata_version()
    }

    fn metadata_of_all(&self, key: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        self.0.metadata_of_all(key)
    }

    fn put_metadata(&self, link: &LinkId, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.put_metadata(link, key, value)
    }
    fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        self.0.artifact(digest)
    }
    fn put_artifact(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.0.put_artifact(digest, bytes)
    }
    fn source(&self) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(FilteredSource(self.0.source()?)))
    }
    fn sink(&self, lane: &LaneSettings) -> Result<Box<dyn Sink>, Error> {
        self.0.sink(lane)
    }
}
