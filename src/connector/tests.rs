//! The last line before a topic that programs keep for themselves, of both kinds of clusters. No broker is there: names are refused before one is asked.

use std::sync::Arc;

use super::embedded::EmbeddedCluster;
use super::kafka::KafkaCluster;
use super::*;
use crate::config::{ClusterKind, Config};
use crate::model::BatchBuilder;
use crate::store::{Options, Store};

const REFUSED: [&str; 7] = [
    "__tidegate.meta",
    "__tidegate.l.checkpoints",
    "__tidegate.other.state",
    "__consumer_offsets",
    "__transaction_state",
    "mm2-offset-syncs.west.internal",
    "tidegate.heartbeats.other",
];

fn kafka() -> KafkaCluster {
    let text = "[clusters.west]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n";
    let (config, _) = Config::parse(text, "tidegate.toml", std::path::Path::new("")).expect("a configuration");
    let ClusterKind::Kafka(kafka) = &config.clusters["west"].kind else { unreachable!("it is of Kafka") };
    KafkaCluster::open(kafka).expect("opens")
}

fn lane() -> LaneSettings {
    LaneSettings {
        link: "l".into(),
        lane: 0,
        lanes: 1,
        generation: 1,
        layout: 1,
        source: "east".into(),
        transaction_timeout: Duration::from_secs(60),
        exactly_once: true,
        compression: None,
    }
}

fn target(topic: &str) -> Target {
    Target { topic: topic.into(), partitions: 1, settings: TopicSettings::new(), replication_factor: None }
}

#[test]
fn no_cluster_makes_or_writes_to_what_programs_keep_for_themselves() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Store::open(directory.path().join("east.redb"), Options::default()).expect("opens"));
    let embedded = EmbeddedCluster::new(store.clone());
    let clusters: [&dyn Cluster; 2] = [&embedded, &kafka()];
    let mut builder = BatchBuilder::new();
    builder.push(0, 0, None, Some(b"x"), std::iter::empty());
    let batch = builder.finish("orders", 0);
    for topic in REFUSED {
        // Somebody has made it all the same.
        store.create_topic(topic, 1, crate::store::Retention::default()).expect("made");
        for (number, cluster) in clusters.into_iter().enumerate() {
            let mut refused = Vec::new();
            let mut sink = cluster.sink(&lane()).expect("a sink");
            refused.push(sink.prepare(&[target("orders"), target(topic)]).map(drop));
            if number == 0 {
                sink.open(&|| Ok(())).expect("opens");
                refused.push(sink.write(&batch, &topic.into()).map(drop));
            }
            // Heartbeats are sent by name.
            if !crate::config::is_heartbeat(topic) {
                refused.push(cluster.create_topic(topic, 1).map(drop));
                refused.push(
                    cluster
                        .make_topics(&[target(topic)])
                        .map(|made| made.into_iter().find_map(Result::err))
                        .and_then(|made| made.map_or(Ok(()), Err)),
                );
                refused.push(cluster.produce(&TopicPartition::new(topic, 0), &batch).map(drop));
            }
            for (way, refused) in refused.into_iter().enumerate() {
                assert_eq!(refused.expect_err(topic).code, "invalid-topic-name", "{topic} at {number}, way {way}");
            }
        }
    }
    let mut sink = embedded.sink(&lane()).expect("a sink");
    sink.prepare(&[target("orders"), target("tidegate.heartbeats.l")]).expect("these are its own");
}
