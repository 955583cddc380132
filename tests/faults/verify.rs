//! `tidegate verify` between Kafka clusters, where markers of transactions leave holes in the offsets, and the link goes on meanwhile.

use serde_json::json;
use tidegate::api::wire::{Verdict, Verification};

use crate::clusters::{Pair, Version};
use crate::scene::{Scene, Setup};

for_each_version! {
    a_link_is_verified_while_it_runs,
}

fn a_link_is_verified_while_it_runs(version: Version) {
    let mut scene = Setup::new("verified", version, Pair::shared(version)).begin();
    scene.kill();
    scene.start();
    scene.await_progress("a kill");
    // Records come, plugins are swapped, and transactions are open.
    for _ in 0..3 {
        let (status, done) = verify(&scene);
        let report = done.report.as_ref().expect("a report");
        assert_eq!((status, done.verdict), (Some(0), Some(Verdict::Fine)), "{report:#?}");
        assert!(report.sources.len() == 4 && report.records_matched > 1000, "{report:#?}");
        println!("{}: {} of {} records agree", scene.link, report.records_matched, report.records_replayed);
        scene.await_progress("a verification");
    }
    // Somebody else writes to the target.
    scene.site.client.produce("west", &scene.link, &[json!({"partition": 2, "key": "foreign", "value": "foreign"})]);
    let (status, done) = verify(&scene);
    let report = done.report.expect("a report");
    assert_eq!((status, report.differences_total), (Some(1), 1), "{report:#?}");
    let found = &report.differences[0];
    assert_eq!(
        (found.kind.as_str(), found.target.partition, found.found.as_deref()),
        ("unexpected", 2, Some("foreign"))
    );
}

/// The exit status, and what was printed.
fn verify(scene: &Scene) -> (Option<i32>, Verification) {
    let output = scene.site.cli(&["verify", &scene.link, "--json"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let done = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{}: {error}: {out}{err}", scene.link));
    (output.status.code(), done)
}
