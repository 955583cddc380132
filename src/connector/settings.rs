//! Settings of topics, and which of them two clusters can compare.

use std::collections::{BTreeMap, BTreeSet};

/// Settings of a topic by their names in Kafka (`retention.ms`, `cleanup.policy`, …). No limit is a
/// value, as in Kafka: `-1`. A setting that is left out has the default of its cluster, if topics of
/// that cluster have such a setting: see [`Cluster::settings_known`](super::Cluster::settings_known).
pub type TopicSettings = BTreeMap<String, String>;

/// What changes in the settings of a topic, by their names in Kafka; `None`: the cluster's default
/// comes back.
pub type SettingChanges = BTreeMap<String, Option<String>>;

/// Kafka's name of what becomes of old records: `delete`, `compact`, or both.
const CLEANUP_POLICY: &str = "cleanup.policy";

/// Whether a topic with these settings is compacted.
pub fn is_compacted(settings: &TopicSettings) -> bool {
    settings.get(CLEANUP_POLICY).is_some_and(|policies| has_policy(policies, "compact"))
}

/// Whether the retention in these settings counts. Kafka ignores it where a topic is only
/// compacted.
pub fn is_retention_in_force(settings: &TopicSettings) -> bool {
    settings.get(CLEANUP_POLICY).is_none_or(|policies| has_policy(policies, "delete"))
}

fn has_policy(policies: &str, policy: &str) -> bool {
    policies.split(',').any(|one| one.trim() == policy)
}

/// The settings in which a copy differs from what it is to have. `wanted`: what the copy would show
/// if it were like its source. A setting that the source does not know (`source_knows`) belongs to
/// the copy: the source says nothing of it because it cannot, and not because it has the default.
pub fn differing<'a>(wanted: &'a TopicSettings, has: &'a TopicSettings, source_knows: &[&str]) -> BTreeSet<&'a String> {
    let compared = has.keys().filter(|name| source_knows.contains(&name.as_str()));
    wanted.keys().chain(compared).filter(|name| wanted.get(*name) != has.get(*name)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connector::embedded::EmbeddedCluster;
    use crate::connector::{Cluster, Target};
    use crate::store::{Options, Store};

    /// Settings that topics of Kafka have.
    const OF_KAFKA: [&str; 5] =
        ["cleanup.policy", "max.message.bytes", "retention.bytes", "retention.ms", "segment.ms"];

    /// A topic of a cluster of either kind.
    enum Side {
        /// Its own settings. It always says how large a record batch may be, too.
        Kafka(TopicSettings),
        Embedded {
            cluster: EmbeddedCluster,
            _dir: tempfile::TempDir,
        },
    }

    fn settings(settings: &[(&str, &str)]) -> TopicSettings {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn of<V>(value: V) -> BTreeMap<Arc<str>, V> {
        BTreeMap::from([("orders".into(), value)])
    }

    impl Side {
        fn kafka(own: &[(&str, &str)]) -> Self {
            Self::Kafka(settings(own))
        }

        /// A topic that is made with these settings.
        fn embedded(own: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let store = Store::open(dir.path().join("store"), Options::default()).expect("opens");
            let cluster = EmbeddedCluster::new(Arc::new(store));
            let settings = settings(own);
            let made = Target { topic: "orders".into(), partitions: 1, settings, replication_factor: None };
            let made = cluster.make_topics(&[made]).expect("an answer");
            assert!(made.iter().all(Result::is_ok), "{made:?}");
            Self::Embedded { cluster, _dir: dir }
        }

        fn knows(&self) -> &'static [&'static str] {
            match self {
                Self::Kafka(_) => &OF_KAFKA,
                Self::Embedded { cluster, .. } => cluster.settings_known(),
            }
        }

        fn says(&self) -> TopicSettings {
            match self {
                Self::Kafka(own) => {
                    settings(&[("max.message.bytes", "1048588")]).into_iter().chain(own.clone()).collect()
                }
                Self::Embedded { cluster, .. } => {
                    let mut said = cluster.topic_settings(&["orders".into()]).expect("settings");
                    said.remove("orders").expect("the topic").expect("its settings")
                }
            }
        }

        fn keeps(&self, wanted: &TopicSettings) -> TopicSettings {
            match self {
                Self::Kafka(_) => wanted.clone(),
                Self::Embedded { cluster, .. } => cluster.settings_kept(wanted),
            }
        }

        /// Become like a source, as far as it can be. What has changed.
        fn follow(&mut self, source: &Self) -> SettingChanges {
            let (wanted, has) = (self.keeps(&source.says()), self.says());
            let names = differing(&wanted, &has, source.knows()).into_iter();
            let changes: SettingChanges = names.map(|name| (name.clone(), wanted.get(name).cloned())).collect();
            match self {
                Self::Kafka(own) => changes.clone().into_iter().for_each(|(name, value)| match value {
                    Some(value) => drop(own.insert(name, value)),
                    None => drop(own.remove(&name)),
                }),
                Self::Embedded { cluster, .. } => {
                    assert!(cluster.change_settings(&of(changes.clone())).expect("changed").is_empty());
                }
            }
            changes
        }
    }

    /// Whatever the clusters are: one refresh makes a copy what it is to be, and the next one has
    /// nothing to do. What the source does not know stays as it is.
    #[test]
    fn clusters_compare_only_the_settings_that_both_know() {
        let of_kafka = [
            [].as_slice(),
            &[("retention.ms", "-1")],
            &[("retention.ms", "7"), ("segment.ms", "5")],
            &[("retention.bytes", "9"), ("max.message.bytes", "77"), ("cleanup.policy", "compact,delete")],
            &[("cleanup.policy", "compact"), ("retention.ms", "7"), ("retention.bytes", "9")],
        ];
        let of_embedded = [[].as_slice(), &[("retention.ms", "7")], &[("retention.bytes", "9"), ("retention.ms", "8")]];
        let all = || {
            let kafka = of_kafka.iter().map(|own| (Side::kafka(own), own));
            kafka.chain(of_embedded.iter().map(|own| (Side::embedded(own), own)))
        };
        for (source, said) in all() {
            for (mut target, had) in all() {
                let before = target.says();
                let first = target.follow(&source);
                let after = target.says();
                assert_eq!(target.follow(&source), SettingChanges::new(), "{said:?} to {had:?}: {first:?}");
                for (name, value) in before.iter().filter(|(name, _)| !source.knows().contains(&name.as_str())) {
                    assert_eq!(after.get(name), Some(value), "{said:?} to {had:?}: {name} is no setting of the source");
                }
                for (name, value) in target.keeps(&source.says()) {
                    assert_eq!(after.get(&name), Some(&value), "{said:?} to {had:?}: {name}");
                }
            }
        }
    }

    /// The embedded source has no word for the first two, and says of the last one that there is no limit:
    /// the default of Kafka's brokers is a week.
    #[test]
    fn a_copy_in_kafka_of_an_embedded_topic_keeps_what_a_person_has_set() {
        let own = [("cleanup.policy", "compact"), ("max.message.bytes", "77"), ("retention.ms", "-1")];
        let mut target = Side::kafka(&own);
        target.follow(&Side::embedded(&[]));
        let expected = own.into_iter().chain([("retention.bytes", "-1")]).collect::<Vec<_>>();
        assert_eq!(target.says(), settings(&expected));
    }

    /// Kafka ignores the retention of a topic that is only compacted, so a copy that cannot be
    /// compacted loses nothing by it.
    #[test]
    fn a_copy_that_cannot_be_compacted_keeps_every_record() {
        let limits = [("retention.ms", "7"), ("retention.bytes", "9")];
        for (policies, kept) in [
            ("compact", ["-1", "-1"]),
            ("delete", ["9", "7"]),
            ("compact,delete", ["9", "7"]),
            ("delete, compact", ["9", "7"]),
        ] {
            let own: Vec<_> = limits.into_iter().chain([("cleanup.policy", policies)]).collect();
            let mut target = Side::embedded(&[("retention.ms", "3")]);
            target.follow(&Side::kafka(&own));
            let said = |side: &Side| side.says().into_values().collect::<Vec<_>>();
            assert_eq!(said(&target), kept, "{policies}");
            assert_eq!(said(&Side::embedded(&own)), kept, "made with {policies}");
        }
    }
}
