//! `start` of a link: where it begins in a partition that has no checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeValue;

use super::reader::{Item, Table};
use super::topics::check_topic_name;
use crate::model::TopicPartition;

/// Where a link begins in a partition that has no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is there.
    Earliest,
    /// At the next record that is written.
    Latest,
    /// Behind the last record that MirrorMaker 2 has copied; where it has copied nothing, at the first record that is there.
    MirrorMaker(MirrorMaker),
    /// At these offsets; where nothing is said, at the first record that is there. No configuration says so: a link that goes the way back begins where its
    /// records did.
    Offsets(BTreeMap<TopicPartition, i64>),
}

/// Where MirrorMaker 2 has written down how far it has come: the topic of source offsets of its Kafka Connect, in the target cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorMaker {
    /// The topic.
    pub topic: Arc<str>,
    /// What MirrorMaker 2 calls the source cluster.
    pub source: Arc<str>,
    /// The connector whose offsets count, where several share the topic; `None`: there is one that copies from this source.
    pub connector: Option<Arc<str>>,
}

impl Start {
    /// `earliest`, `latest`, or a table that names MirrorMaker 2's topic. `source` is the id of the link's source.
    pub(super) fn read(item: &Item<'_>, source: Option<&str>, target_is_kafka: bool) -> Option<Self> {
        match item.value {
            DeValue::Table(_) => Some(Self::MirrorMaker(mirror_maker(item, source, target_is_kafka)?)),
            _ => Self::read_word(item),
        }
    }

    /// `earliest` or `latest`.
    pub(super) fn read_word(item: &Item<'_>) -> Option<Self> {
        item.choice(&[("earliest", Self::Earliest), ("latest", Self::Latest)])
    }
}

fn mirror_maker(item: &Item<'_>, source: Option<&str>, target_is_kafka: bool) -> Option<MirrorMaker> {
    let mut table = item.table()?;
    let topic = table.required("mirrormaker", "write mirrormaker = \"mm2-offsets.SOURCE.internal\"");
    let alias = text(&mut table, "source");
    let connector = text(&mut table, "connector");
    table.finish();
    if !target_is_kafka {
        let message = "MirrorMaker 2 keeps its offsets in a target of Kafka, and this one is embedded";
        item.report.error_with_help(&item.place, message, "write start = \"earliest\" or \"latest\"");
        return None;
    }
    let topic = topic?;
    let name = topic.text()?;
    let name = topic.parsed(check_topic_name(name).map(|()| name.into()))?;
    let source = alias?.or(source)?.into();
    Some(MirrorMaker { topic: name, source, connector: connector?.map(Into::into) })
}

/// `None` if it is wrong, `Some(None)` if it is not there.
fn text<'a>(table: &mut Table<'a>, key: &'static str) -> Option<Option<&'a str>> {
    let Some(item) = table.item(key) else { return Some(None) };
    let text = item.text()?;
    item.parsed(if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Some(text)) })
}
