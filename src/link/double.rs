//! A cluster for tests that panics whatever it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::connector::{
    Cluster, Copying, Error, LaneSettings, PartitionRange, RevisionStart, SettingChanges, Sink, Source, Target, Topic,
    TopicSettings,
};
use crate::model::{Batch, Checkpoint, Digest, LinkId, TopicPartition};

/// Panics; but a probe is answered if it is told to.
#[derive(Default)]
pub(super) struct Panics {
    pub(super) answers_probes: bool,
}

const HOW: &str = "a fault that a test has put here";

impl Cluster for Panics {
    fn probe(&self) -> Result<(), Error> {
        assert!(self.answers_probes, "{HOW}");
        Ok(())
    }

    fn topics(&self) -> Result<Vec<Topic>, Error> {
        panic!("{HOW}")
    }

    fn ranges(&self, _: &str) -> Result<Vec<PartitionRange>, Error> {
        panic!("{HOW}")
    }

    fn range(&self, _: &TopicPartition) -> Result<PartitionRange, Error> {
        panic!("{HOW}")
    }

    fn timestamp_at(&self, _: &TopicPartition, _: i64) -> Result<Option<i64>, Error> {
        panic!("{HOW}")
    }

    fn topology_version(&self) -> u64 {
        panic!("{HOW}")
    }

    fn create_topic(&self, _: &str, _: u32) -> Result<Topic, Error> {
        panic!("{HOW}")
    }

    fn make_topics(&self, _: &[Target]) -> Result<Vec<Result<Topic, Error>>, Error> {
        panic!("{HOW}")
    }

    fn produce(&self, _: &TopicPartition, _: &Batch) -> Result<i64, Error> {
        panic!("{HOW}")
    }

    fn topic_settings(&self, _: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error> {
        panic!("{HOW}")
    }

    fn settings_known(&self) -> &'static [&'static str] {
        panic!("{HOW}")
    }

    fn change_settings(&self, _: &BTreeMap<Arc<str>, SettingChanges>) -> Result<BTreeMap<Arc<str>, Error>, Error> {
        panic!("{HOW}")
    }

    fn record_bytes_max(&self, _: &str) -> Result<usize, Error> {
        panic!("{HOW}")
    }

    fn is_atomic(&self, _: bool) -> bool {
        panic!("{HOW}")
    }

    fn checkpoints(&self, _: &LinkId, _: u32) -> Result<BTreeMap<TopicPartition, Checkpoint>, Error> {
        panic!("{HOW}")
    }

    fn revision_starts(&self, _: &LinkId, _: u32) -> Result<Vec<RevisionStart>, Error> {
        panic!("{HOW}")
    }

    fn copy_lanes(&self, _: &Copying, _: &mut dyn FnMut(u32) -> Result<(), Error>) -> Result<(), Error> {
        panic!("{HOW}")
    }

    fn metadata(&self, _: &LinkId, _: &str) -> Result<Option<Vec<u8>>, Error> {
        panic!("{HOW}")
    }

    fn metadata_of_all(&self, _: &str) -> Result<BTreeMap<LinkId, Vec<u8>>, Error> {
        panic!("{HOW}")
    }

    fn put_metadata(&self, _: &LinkId, _: &str, _: &[u8]) -> Result<(), Error> {
        panic!("{HOW}")
    }

    fn replace_metadata(&self, _: &LinkId, _: &str, _: Option<&[u8]>, _: &[u8]) -> Result<bool, Error> {
        panic!("{HOW}")
    }

    fn metadata_version(&self) -> Result<u64, Error> {
        panic!("{HOW}")
    }

    fn artifact(&self, _: &Digest) -> Result<Option<Vec<u8>>, Error> {
        panic!("{HOW}")
    }

    fn put_artifact(&self, _: &Digest, _: &[u8]) -> Result<(), Error> {
        panic!("{HOW}")
    }

    fn source(&self) -> Result<Box<dyn Source>, Error> {
        panic!("{HOW}")
    }

    fn sink(&self, _: &LaneSettings) -> Result<Box<dyn Sink>, Error> {
        panic!("{HOW}")
    }
}
