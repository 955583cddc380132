//! Settings of topics: what a copy gets, and how it is kept like its source.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use super::admin::{Admin, TOPICS_AT_ONCE};
use super::error::{self, Code};
use super::limits::{Stated, Storing};
use crate::connector::{Error, SettingChanges, TopicSettings};

/// The settings that a copy of a topic gets. What depends on the cluster (replicas, throttles, `message.timestamp.type`, which would have brokers
/// write another time into the records) is not among them.
pub(super) const COPIED: [&str; 11] = [
    "cleanup.policy",
    "delete.retention.ms",
    "max.compaction.lag.ms",
    MAX_MESSAGE_BYTES,
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
    "segment.jitter.ms",
];

/// The largest record batch that a topic takes, with what is around it.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// What brokers make of the compression of record batches. A copy does not get it: it is asked for the [limits](super::limits).
const COMPRESSION_TYPE: &str = "compression.type";

/// A topic's own settings have this source in an answer; others are defaults.
const OF_THE_TOPIC: i8 = 1;

/// The type of a topic among the resources that have settings.
const TOPIC: i8 = 2;

/// The operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;

type Described = BTreeMap<Arc<str>, Result<Vec<DescribeConfigsResourceResult>, Error>>;

impl Admin {
    /// The settings that copies of topics get. Topics that are not there are left out. The inner error: why those of a topic are not known.
    pub(super) fn settings(
        &self,
        names: &[Arc<str>],
    ) -> Result<BTreeMap<Arc<str>, Result<TopicSettings, Error>>, Error> {
        let copied = |described: Vec<DescribeConfigsResourceResult>| {
            let copied = described.into_iter().filter(|setting| {
                let own = setting.config_source == OF_THE_TOPIC || setting.name.as_str() == MAX_MESSAGE_BYTES;
                own && COPIED.contains(&setting.name.as_str())
            });
            copied.filter_map(|setting| Some((setting.name.to_string(), setting.value?.to_string()))).collect()
        };
        Ok(self.describe(names)?.into_iter().map(|(name, described)| (name, described.map(copied))).collect())
    }

    /// What topics say of the record batches that they take. Those that are not there, or do not say it, are left out.
    ///
    /// # Errors
    /// The cluster does not answer, or says nothing of one of them.
    pub(super) fn stated(&self, names: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Stated>, Error> {
        let stated = |described: Vec<DescribeConfigsResourceResult>| {
            let value = |name: &str| described.iter().find(|setting| setting.name.as_str() == name)?.value.as_deref();
            let storing = value(COMPRESSION_TYPE).map_or(Storing::AsSent, Storing::named);
            Some(Stated { bytes_max: value(MAX_MESSAGE_BYTES)?.parse().ok()?, storing })
        };
        let mut all = BTreeMap::new();
        for (name, described) in self.describe(names)? {
            all.extend(stated(described?).map(|stated| (name, stated)));
        }
        Ok(all)
    }

    /// All that a cluster says of topics. Those that are not there are left out. The inner error: why it says nothing of one.
    fn describe(&self, names: &[Arc<str>]) -> Result<Described, Error> {
        let mut described = BTreeMap::new();
        for some in names.chunks(TOPICS_AT_ONCE) {
            self.describe_some(some, &mut described)?;
        }
        Ok(described)
    }

    fn describe_some(&self, names: &[Arc<str>], described: &mut Described) -> Result<(), Error> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let keys: Vec<_> = COPIED.into_iter().chain([COMPRESSION_TYPE]).map(text).collect();
        let resource = |name: &Arc<str>| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name))
                .with_configuration_keys(Some(keys.clone()))
        };
        let request = DescribeConfigsRequest::default().with_resources(names.iter().map(resource).collect());
        for found in self.ask_controller(&request)?.results {
            let name: Arc<str> = found.resource_name.as_str().into();
            match Code(found.error_code) {
                Code(0) => drop(described.insert(name, Ok(found.configs))),
                Code::UNKNOWN_TOPIC_OR_PARTITION => {}
                code => {
                    let error = error::settings_not_read(&name, code);
                    described.insert(name, Err(error));
                }
            }
        }
        Ok(())
    }

    /// Change settings of topics. Answers those that could not be changed.
    pub(super) fn change_settings(
        &self,
        changes: &BTreeMap<Arc<str>, SettingChanges>,
    ) -> Result<BTreeMap<Arc<str>, Error>, Error> {
        let mut refused = BTreeMap::new();
        let changes: Vec<_> = changes.iter().collect();
        for some in changes.chunks(TOPICS_AT_ONCE) {
            let resources = some.iter().map(|(name, changes)| resource(name, changes)).collect();
            let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
            for answer in self.ask_controller(&request)?.responses {
                let name: Arc<str> = answer.resource_name.as_str().into();
                if let Err(code) = Code(answer.error_code).check() {
                    let error = error::settings_not_changed(&name, code, answer.error_message.as_deref());
                    refused.insert(name, error);
                }
            }
        }
        self.client().limits().ask_again();
        Ok(refused)
    }
}

fn resource(topic: &Arc<str>, changes: &SettingChanges) -> AlterConfigsResource {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let configs = changes.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    });
    AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(configs.collect())
}
