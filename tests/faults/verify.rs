//! `tidegate verify` between Kafka clusters, where markers of transactions leave holes in the offsets, and the link goes on meanwhile.

use kafka_oracle::{Codec, Header, Plan, Writer};
use serde_json::json;
use tidegate::api::wire::{Verdict, Verification};

use crate::clusters::{Pair, Version};
use crate::harness::Site;
use crate::scene::{PATIENCE, Scene, Setup};

for_each_version! {
    a_link_is_verified_while_it_runs,
    a_filter_without_plugins_sees_every_record,
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

/// A link without stages hands large record batches on as they are, and this one must not.
fn a_filter_without_plugins_sees_every_record(version: Version) {
    let pair = Pair::shared(version);
    let name = format!("built-ins-{}", version.name());
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    kafka_oracle::create(&source, &name, 1, &[]).expect("a topic");
    let codecs = vec![Codec::None, Codec::Lz4];
    let (bootstrap, topic, records_max) = (source.clone(), name.clone(), Some(5_000));
    let plan = Plan { bootstrap, topic, partitions: 1, seed: 3, transactions: true, codecs, rate: None, records_max };
    Writer::start(plan).join().expect("written");
    let link = |id: &str, tables: &str| {
        format!(
            "[links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{name:?}]\ntopic_prefix = \"{id}.\"\n\
             [links.{id}.config]\ntransaction_timeout_ms = 10000\n{tables}\n"
        )
    };
    let added =
        "[links.add.transform]\nadd_headers = { copied = \"${topic}-${partition}\" }\nremove_headers = [\"again\"]\n";
    let timed = "[links.timed.filter]\ninclude_patterns = [\"again and\"]\n\
                 [links.timed.transform]\nadd_headers = { at = \"${now}\" }\n";
    let clusters = format!(
        "[clusters.east]\nkind = \"kafka\"\nbrokers = [{source:?}]\n[clusters.west]\nkind = \"kafka\"\nbrokers = [{target:?}]\n"
    );
    let only = "[links.only.filter]\nexclude_patterns = [\"^[a-z]\"]\n";
    let site = Site::new(&(clusters + &link("only", only) + &link("add", added) + &link("timed", timed)));
    let daemon = site.start();
    let written = kafka_oracle::read(&source, &name).expect("the source");
    let begins =
        |part: &Option<Vec<u8>>| part.as_ref().and_then(|part| part.first()).is_some_and(u8::is_ascii_lowercase);
    let filtered = written.map(|record| {
        let copies = usize::from(!begins(&record.key) && !begins(&record.value));
        vec![record.clone(); copies]
    });
    let changed = written.map(|record| {
        let mut record = record.clone();
        record.headers.retain(|header| header.key != "again");
        record.headers.push(Header { key: "copied".to_owned(), value: Some(format!("{name}-0").into_bytes()) });
        vec![record]
    });
    kafka_oracle::await_copy(&filtered, &target, &format!("only.{name}"), PATIENCE).expect("a copy");
    kafka_oracle::await_copy(&changed, &target, &format!("add.{name}"), PATIENCE).expect("a copy");
    for link in ["only", "add", "timed"] {
        site.client.await_caught_up(link);
        let (status, done) = verify_link(&site, link);
        assert_eq!((status, done.verdict), (Some(0), Some(Verdict::Fine)), "{done:#?}");
    }
    daemon.terminate();
}

/// The exit status, and what was printed.
fn verify(scene: &Scene) -> (Option<i32>, Verification) {
    verify_link(&scene.site, &scene.link)
}

pub fn verify_link(site: &Site, link: &str) -> (Option<i32>, Verification) {
    let output = site.cli(&["verify", link, "--json"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let done = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{link}: {error}: {out}{err}"));
    (output.status.code(), done)
}
