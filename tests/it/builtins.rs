//! Links that filter and transform without plugins: killed amid records, with another filter in the file, rolled back, and verified.

use serde_json::{Value, json};
use tidegate::api::wire::{self, Header, Revision, RevisionOrigin, Swap, Verdict, Verification};

use crate::harness::{Site, plugin, wait_until};

const RECORDS: u64 = 3000;
const KILLS: u64 = 4;

/// One link with built-ins alone, and one with a stage behind them, which rejects what is no JSON.
fn config(filter: &str, by: &str) -> String {
    let link = |id: &str, prefix: &str| {
        format!(
            "[links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\ntopic_prefix = \"{prefix}\"\nlanes = 2\n\
             [links.{id}.config]\ncheckpoint_interval_ms = 2\nbatch_size = 7\n\
             [links.{id}.filter]\n{filter}\n\
             [links.{id}.transform]\nadd_headers = {{ by = \"{by} of ${{link}}: ${{topic}}-${{partition}}@${{offset}}\", at = \"${{now}}\" }}\n\
             remove_headers = [\"internal-id\"]\nheader_transforms = {{ region = \"us -> eu\" }}\n"
        )
    };
    format!(
        "[clusters.east]\nkind = \"embedded\"\ntopics.in.partitions = 2\n[clusters.west]\nkind = \"embedded\"\n{}{}\
         [links.staged.breaker]\nrejected_percent = 100\n[links.staged.probation]\nrecords = 0\n\
         [[links.staged.pipeline]]\nstage = \"keep\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = {{ pointer = \"/n\", at_least = 0 }}\n",
        link("plain", "plain-"),
        link("staged", "staged-"),
    )
}

const FIRST: &str = "exclude_patterns = ['\"n\":\\d*5}']\n\
                     where = { or = [ { key_prefix = \"eu-\" }, { header = \"tier\", equals = \"premium\" } ] }";
const SECOND: &str = "include_patterns = [\"^eu-\"]";

fn records(range: std::ops::Range<u64>) -> Vec<Value> {
    let record = |n: u64| {
        let value = match n % 20 {
            7 => Value::Null,
            11 => json!("nonsense"),
            _ => json!(json!({ "n": n }).to_string()),
        };
        let tier = if n.is_multiple_of(4) { "premium" } else { "free" };
        let area = if n.is_multiple_of(3) { "eu" } else { "us" };
        json!({
            "partition": n % 2, "key": format!("{area}-{n}"), "value": value,
            "headers": [["tier", tier], ["internal-id", n.to_string()], ["region", area]],
        })
    };
    range.map(record).collect()
}

fn has(record: &wire::Record, name: &str, value: &str) -> bool {
    record
        .headers
        .iter()
        .any(|header| header.name == name.as_bytes() && header.value.as_deref() == Some(value.as_bytes()))
}

/// Whether a record passes the filter of the file that this name was in.
fn passes(by: &str, record: &wire::Record) -> bool {
    let key = record.key.clone().expect("a key");
    let of_europe = key.starts_with(b"eu-");
    match by {
        "first" => {
            (of_europe || has(record, "tier", "premium"))
                && !record.value.as_ref().is_some_and(|value| value.ends_with(b"5}"))
        }
        // A tombstone has no value, so that nothing is said of it.
        _ => of_europe || record.value.is_none(),
    }
}

/// What a link makes of a record; the time is taken out.
fn transformed(link: &str, by: &str, partition: u32, record: &wire::Record) -> wire::Record {
    let header = |name: &str, value: String| Header { name: name.into(), value: Some(value.into_bytes()) };
    // Whatever region it was of.
    let region = header("region", "eu".to_owned());
    let tier = record.headers[0].clone();
    let by = format!("{by} of {link}: in-{partition}@{}", record.offset.expect("an offset"));
    wire::Record {
        topic: None,
        offset: None,
        headers: vec![tier, region, header("at", String::new()), header("by", by)],
        ..record.clone()
    }
}

/// The same without what is different in every run: whether the time was one.
fn without_time(mut record: wire::Record) -> (wire::Record, bool) {
    let mut was_time = false;
    for header in record.headers.iter_mut().filter(|header| header.name == b"at") {
        let text = String::from_utf8(header.value.take().expect("a value")).expect("text");
        was_time = text.parse::<wire::Time>().is_ok_and(|time| time <= wire::Time::now());
        header.value = Some(Vec::new());
    }
    (wire::Record { topic: None, offset: None, ..record }, was_time)
}

fn history(site: &Site, link: &str) -> Vec<Revision> {
    site.cli_json(&["plugin", "history", link])
}

/// Everything that is in the target is what the revisions, by the names in their files, make of the source.
fn check(site: &Site, link: &str, revisions: &[&str]) {
    let history = history(site, link);
    assert_eq!(history.len(), revisions.len(), "{history:#?}");
    for partition in 0..2 {
        let starts: Vec<i64> = history
            .iter()
            .map(|revision| {
                revision.first_offsets.iter().find(|first| first.partition == partition).expect("a start").offset
            })
            .collect();
        let by = |record: &wire::Record| {
            let at = starts.iter().rposition(|start| *start <= record.offset.expect("an offset")).expect("a revision");
            revisions[at]
        };
        let source = site.client.records("east", "in", partition);
        let passing: Vec<_> = source.iter().filter(|record| passes(by(record), record)).collect();
        let expected = |records: &[&wire::Record]| -> Vec<wire::Record> {
            records.iter().map(|record| transformed(link, by(record), partition, record)).collect()
        };
        let is_text =
            |text: &[u8], record: &wire::Record| record.value.as_ref().is_some_and(|value| value.starts_with(text));
        // The stage drops tombstones, and rejects what is no JSON.
        let is_good = |record: &&&wire::Record| link == "plain" || is_text(b"{", record);
        let good: Vec<_> = passing.iter().filter(is_good).copied().collect();
        let bad: Vec<_> = passing.iter().filter(|record| is_text(b"nonsense", record)).copied().collect();
        let found = site.client.records("west", &format!("{link}-in"), partition);
        let (found, times): (Vec<_>, Vec<_>) = found.into_iter().map(without_time).unzip();
        assert!(times.iter().all(|was_time| *was_time));
        assert!(found == expected(&good), "{link}-{partition}: {} records, and not {}", found.len(), good.len());
        if link == "staged" {
            // A letter holds the record as the stage was given it.
            let letters = site.client.records("west", "staged.dead-letters", partition).into_iter().map(without_time);
            let cut =
                |(record, _): (wire::Record, bool)| wire::Record { headers: record.headers[..4].to_vec(), ..record };
            let letters: Vec<_> = letters.map(cut).collect();
            assert!(letters == expected(&bad), "{link}-{partition}: {} letters, and not {}", letters.len(), bad.len());
        }
    }
}

fn verify(site: &Site, link: &str) {
    let done: Verification = site.cli_json(&["verify", link]);
    assert_eq!(done.verdict, Some(Verdict::Fine), "{done:#?}");
}

fn both(site: &Site, records: &[Value], revisions: &[&str]) {
    site.client.produce("east", "in", records);
    for link in ["plain", "staged"] {
        site.client.await_caught_up(link);
        check(site, link, revisions);
        verify(site, link);
    }
}

#[test]
fn built_ins_hold_through_kills_changes_of_the_file_and_rollbacks() {
    let site = Site::new(&config(FIRST, "first"));
    let daemon = site.start();
    site.client.produce("east", "in", &records(0..RECORDS));
    let copied =
        || site.client.ends("west", "plain-in").iter().chain(&site.client.ends("west", "staged-in")).sum::<i64>();
    let mut daemon = Some(daemon);
    for _ in 0..KILLS {
        let before = copied();
        wait_until("more is copied", || {
            copied() > before || ["plain", "staged"].iter().all(|link| site.client.is_caught_up(link))
        });
        daemon.take().expect("a daemon").kill();
        daemon = Some(site.start());
    }
    both(&site, &[], &["first"]);

    // Another filter and another header in the file are another revision.
    daemon.take().expect("a daemon").terminate();
    site.configure(&config(SECOND, "second"));
    let daemon = site.start();
    let later = records(RECORDS..RECORDS + 200);
    both(&site, &later, &["first", "second"]);
    let link = site.client.link("plain");
    let eu = |n: &u64| n.is_multiple_of(3) || n % 20 == 7;
    let passed = (RECORDS..RECORDS + 200).filter(eu).count() as u64;
    let counters = link.counters;
    assert_eq!((counters.records_in, counters.records_filtered), (200, 200 - passed), "{counters:?}");
    assert_eq!((counters.records_transformed, counters.records_out), (passed, passed), "{counters:?}");
    assert_eq!(link.builtins.filter, Some(json!({"include_patterns": ["^eu-"]})));

    // What a plugin is published to keeps them, and a rollback brings all of a revision back.
    let file = plugin("json-filter").display().to_string();
    let published: Swap =
        site.cli_json(&["plugin", "publish", "staged", "keep", &file, "--config", r#"{"pointer":"/n","at_least":1}"#]);
    let revisions = history(&site, "staged");
    assert_eq!(revisions[2].builtins, revisions[1].builtins);
    assert_ne!(revisions[2].digest, revisions[1].digest);
    let back: Swap = site.cli_json(&["plugin", "rollback", "staged", "--to", "1"]);
    assert_eq!((published.revision, back.revision, back.digest), (3, 4, revisions[0].digest));
    daemon.terminate();
    let daemon = site.start();
    site.client.produce("east", "in", &records(RECORDS + 200..RECORDS + 300));
    site.client.await_caught_up("staged");
    check(&site, "staged", &["first", "second", "second", "first"]);
    verify(&site, "staged");
    let revisions = history(&site, "staged");
    assert_eq!((revisions[3].origin, &revisions[3].builtins), (RevisionOrigin::Rollback, &revisions[0].builtins));

    let text = |words: &[&str]| String::from_utf8(site.cli(words).stdout).expect("text");
    assert!(text(&["plugin", "history", "staged"]).contains("  filter, transform, keep=json-filter "));
    let shown = text(&["link", "show", "plain"]);
    assert!(
        shown.contains("\n  filter    {\"include_patterns\":[\"^eu-\"]}\n  transform {\"add_headers\":{"),
        "{shown}"
    );
    daemon.terminate();
}
