//! How the topics of a link's target follow those of its source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::reader::Table;

/// How soon news of the source are to be seen when nobody says otherwise, in milliseconds.
const REFRESH_MS: u64 = 30_000;

/// More often would be a burden for the brokers, and more rarely a slip of the hand.
const REFRESHES_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// How a link keeps the topics of its target like those of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// New topics and partitions are found within this time, and settings are compared as often.
    pub refresh: Duration,
    /// Whether settings follow after a topic was made.
    pub settings: bool,
    /// Whether ACLs on topics follow.
    pub acls: bool,
    /// How many replicas topics get that are made in the target; `None`: what the cluster's configuration says.
    pub replication_factor: Option<i16>,
    /// Topics that the file declares in the target: it says what their settings are, and the link does not touch them.
    pub declared: BTreeSet<Arc<str>>,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            refresh: Duration::from_millis(REFRESH_MS),
            settings: true,
            acls: false,
            replication_factor: None,
            declared: BTreeSet::new(),
        }
    }
}

impl Following {
    /// The same, but topics are made at most: their settings are somebody else's.
    pub fn making_only(&self) -> Self {
        Self { refresh: self.refresh, settings: false, ..Self::default() }
    }

    /// `both_kafka`: source and target; what embedded clusters do not have is a warning.
    pub(super) fn read(table: &mut Table<'_>, target_is_kafka: bool, both_kafka: bool) -> Self {
        let default = Self::default();
        let refresh = table.duration_ms("topic_refresh", REFRESH_MS, REFRESHES_MS);
        let settings = table.flag("sync_topic_configs", default.settings);
        let acls = table.item("sync_topic_acls");
        let replicas = table.item("replication_factor");
        let unused = [(&acls, both_kafka, "ACLs"), (&replicas, target_is_kafka, "replicas")];
        for (item, used, what) in unused {
            if let Some(item) = item.as_ref().filter(|_| !used) {
                item.report.warning(
                    &item.place,
                    format!("this changes nothing: an embedded cluster has no {what}"),
                    "remove it",
                );
            }
        }
        let acls = acls.and_then(|item| item.flag()).unwrap_or(default.acls);
        let replicas = replicas.and_then(|item| item.integer(1..=i16::MAX as u64));
        Self {
            refresh: Duration::from_millis(refresh),
            settings,
            acls: acls && both_kafka,
            replication_factor: replicas.map(|replicas| replicas as i16),
            declared: default.declared,
        }
    }
}
