//! The life of many links, all at once: see `drill`. `TIDEGATE_SEED` makes the deeds of a run again, `TIDEGATE_SOAK_SECONDS` says how long it goes on, and
//! `TIDEGATE_KILLS` asks for the long form.

mod drill;
mod nets;

use std::time::Duration;

use crate::harness::Site;
use drill::Drill;

#[test]
fn links_do_what_the_model_says_whatever_is_done_to_them() {
    let site = Site::new("[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n");
    let length = drill::length(12, 600);
    let is_long = length > Duration::from_secs(60);
    Drill {
        site: &site,
        clusters: ["east", "west"],
        links: if is_long { 20 } else { 8 },
        partitions: 2,
        length,
        kill_after_max: Duration::from_secs(if is_long { 15 } else { 5 }),
        hands: if is_long { 6 } else { 4 },
        records_max: 40,
    }
    .run(drill::seed());
}
