//! The life of several links between real Kafka clusters, all at once: the same drill as with embedded clusters.

#[path = "../it/soak/drill/mod.rs"]
mod drill;

use std::time::Duration;

use crate::clusters::{Pair, Version};
use crate::harness::Site;
use drill::Drill;

for_version_2_first! {
    links_do_what_the_model_says_whatever_is_done_to_them,
}

fn links_do_what_the_model_says_whatever_is_done_to_them(version: Version) {
    // Topics and links are called the same in each run, and the clusters are for one run alone.
    let pair = Pair::start(version, [1, 1]);
    let cluster = |id: &str, brokers: String| format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = [\"{brokers}\"]\n");
    let site = Site::new(&(cluster("east", pair.source.bootstrap()) + &cluster("west", pair.target.bootstrap())));
    let length = drill::length(20, 180);
    Drill {
        site: &site,
        clusters: ["east", "west"],
        links: if length > Duration::from_secs(60) { 6 } else { 3 },
        partitions: 2,
        length,
        kill_after_max: Duration::from_secs(12),
        hands: 3,
        records_max: 20,
    }
    .run(drill::seed());
}
