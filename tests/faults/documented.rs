//! The interface as it is documented for operators, between real Kafka clusters that a link brings itself.

#[path = "../it/documented/lines.rs"]
mod lines;

use serde_json::json;

use crate::clusters::{Pair, Version};
use crate::harness::Site;

for_version_2_first! {
    every_documented_line_does_what_it_says_between_kafka_clusters,
}

fn every_documented_line_does_what_it_says_between_kafka_clusters(version: Version) {
    let pair = Pair::shared(version);
    let site = Site::new("");
    let _daemon = site.start();
    let cluster = |id: &str, brokers: String| {
        json!({
            "cluster_id": id, "brokers": [brokers],
            "connection_timeout": "30s", "request_timeout": "10s", "max_retries": 3,
        })
    };
    lines::play(&lines::Ground {
        site: &site,
        source: cluster("us-west-1", pair.source.bootstrap()),
        target: cluster("us-east-1", pair.target.bootstrap()),
        run: format!("documented{}", version.name()),
    });
}
