//! Every kind of damage, at the beginning, in the middle and at the end of what a link has written,
//! for every kind of link: `verify` never calls that fine, and calls nothing a difference where
//! there is no damage.

use std::fs;

use serde_json::{Value, json};
use tidegate::api::wire::{Letter, Verdict, Verification, VerificationReport, VerificationState};
use tidegate::model::TopicPartition;

use crate::harness::{LINKS, Site, wait_until};
use crate::verify::{Content, Copy, rewrite};

/// A link, its topic in the target, and the link that shares it.
struct Kind {
    link: &'static str,
    topic: &'static str,
    /// Whether others may write there too, and leave no name.
    is_shared: bool,
}

const fn kind(link: &'static str, topic: &'static str, is_shared: bool) -> Kind {
    Kind { link, topic, is_shared }
}

const KINDS: [Kind; 11] = [
    kind("plain", "plain", false),
    kind("loose", "loose", false),
    kind("filter", "filter", false),
    kind("transform", "transform", false),
    kind("stage", "stage", false),
    kind("route", "route", false),
    kind("few", "few", false),
    // Who has written what says nothing of it cannot be told.
    kind("marked", "marked", true),
    kind("pair", "pair", true),
    kind("fan", "fan", true),
    kind("marked-fan", "marked-fan", true),
];

/// All links whose target is rewritten.
const LINKS_TO_WEST: [&str; 13] = [
    "plain",
    "loose",
    "filter",
    "transform",
    "stage",
    "route",
    "few",
    "marked",
    "pair",
    "fan",
    "fan-too",
    "marked-fan",
    "marked-fan-too",
];

const TABLES: &str = r#"
    [links.loose.config]
    enable_exactly_once = false
    [links.filter.filter]
    exclude_patterns = ["\"n\":3"]
    [links.transform.transform]
    add_headers = { by = "${link} ${offset}", at = "${now}" }
    [[links.stage.pipeline]]
    stage = "count"
    plugin = "PLUGINS/counter.wasm"
    config = { keep_ms = 1000000000, fragile = false }
    [[links.route.pipeline]]
    stage = "route"
    plugin = "PLUGINS/route.wasm"
    config = { pointer = "/x", routes = {}, partition_by = "/k" }
"#;

/// Records of each partition.
const RECORDS: usize = 12;

fn config() -> String {
    let mut text = String::new();
    for cluster in ["east", "north"] {
        text += &format!("[clusters.{cluster}]\nkind = \"embedded\"\n");
        for Kind { topic, .. } in KINDS {
            text += &format!("topics.{topic}.partitions = 2\n");
        }
    }
    text += "[clusters.west]\nkind = \"embedded\"\ntopics.few.partitions = 1\n";
    for link in LINKS_TO_WEST {
        let (source, topic) = link.strip_suffix("-too").map_or(("east", link), |topic| ("north", topic));
        let marks = match link {
            "marked" | "marked-fan" | "marked-fan-too" => "provenance = true\n",
            "pair" => "type = \"active-active\"\n",
            _ => "",
        };
        text += &format!(
            "[links.{link}]\nsource = \"{source}\"\ntarget = \"west\"\ntopics = [\"{topic}\"]\nsync_topic_configs = false\n{marks}"
        );
    }
    text + TABLES
}

fn records(writer: &str) -> Vec<Value> {
    let record = |n: usize| {
        let value = json!({"w": writer, "p": n % 2, "n": n, "k": format!("key-{}", n % 3)}).to_string();
        json!({"partition": n % 2, "key": format!("{n}"), "value": value, "headers": [["n", n.to_string()]]})
    };
    (0..2 * RECORDS).map(record).collect()
}

fn verify(site: &Site, link: &str) -> (Verdict, VerificationReport) {
    let path = format!("{LINKS}/{link}/verification");
    assert_eq!(site.client.post(&path, "").expect("an answer").status, 202);
    let mut done: Option<Verification> = None;
    wait_until("it is verified", || {
        done = Some(site.client.read(&path));
        done.as_ref().is_some_and(|done| done.state != VerificationState::Running)
    });
    let done = done.expect("looked at");
    (done.verdict.expect("a verdict"), done.report.expect("a report"))
}

/// What the report counts of others.
fn of_others(report: &VerificationReport) -> u64 {
    report.not_covered.iter().map(|entry| entry.records.expect("a number")).sum()
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Lost,
    Doubled,
    Foreign,
    Changed,
    Moved,
    Reordered,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Beginning,
    Middle,
    End,
}

/// Damage what a link has written of one source partition. Whether that was possible.
fn plant(damage: Damage, at: Where, topic: &str, content: &mut Content) -> bool {
    let is_own = |record: &Copy| {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or_default();
        value["w"] == "east" && value["p"] == 0
    };
    let own = |records: &Vec<Copy>| -> Vec<usize> {
        records.iter().enumerate().filter(|(_, record)| is_own(record)).map(|(index, _)| index).collect()
    };
    let partitions: Vec<TopicPartition> = content.records.keys().filter(|it| *it.topic == *topic).cloned().collect();
    let place = partitions.iter().max_by_key(|it| own(&content.records[*it]).len()).expect("a partition").clone();
    let records = content.records.get_mut(&place).expect("a partition");
    let own = own(records);
    assert!(own.len() >= 4, "{topic}: {own:?}");
    let (pick, next) = match at {
        Where::Beginning => (own[0], own[1]),
        Where::Middle => (own[own.len() / 2], own[own.len() / 2 + 1]),
        Where::End => (own[own.len() - 1], own[own.len() - 2]),
    };
    match damage {
        Damage::Lost => drop(records.remove(pick)),
        Damage::Doubled => records.insert(pick + 1, records[pick].clone()),
        Damage::Foreign => {
            let foreign = Copy { key: None, value: Some(b"foreign".to_vec()), headers: Vec::new(), timestamp: 1 };
            records.insert(if at == Where::End { pick + 1 } else { pick }, foreign);
        }
        Damage::Changed => records[pick].value.as_mut().expect("a value")[1] ^= 1,
        Damage::Reordered => records.swap(pick, next),
        Damage::Moved => {
            let Some(other) = partitions.iter().find(|it| **it != place) else { return false };
            let record = records.remove(pick);
            let others = content.records.get_mut(other).expect("a partition");
            let to = match at {
                Where::Beginning => 0,
                Where::Middle => others.len() / 2,
                Where::End => others.len(),
            };
            others.insert(to, record);
        }
    }
    true
}

#[test]
fn no_damage_is_fine_and_nothing_else_is_a_difference() {
    let site = Site::new(&config());
    let daemon = site.start();
    for Kind { topic, .. } in KINDS {
        site.client.produce("east", topic, &records("east"));
    }
    for topic in ["fan", "marked-fan"] {
        site.client.produce("north", topic, &records("north"));
    }
    site.client.produce("west", "pair", &records("west"));
    for link in LINKS_TO_WEST.into_iter().chain(["pair.reverse"]) {
        site.client.await_caught_up(link);
    }
    for link in LINKS_TO_WEST {
        assert!(site.cli(&["link", "stop", link]).status.success());
    }
    daemon.terminate();
    let (west, whole) = (site.path("data/west.redb"), site.path("whole.redb"));
    fs::rename(&west, &whole).expect("the target is kept");

    rewrite(&whole, &west, &LINKS_TO_WEST, |_| {});
    let daemon = site.start();
    let mut before = Vec::new();
    for Kind { link, .. } in KINDS {
        let (verdict, report) = verify(&site, link);
        let others = of_others(&report);
        let expected = match link {
            "pair" | "fan" | "marked-fan" => 2 * RECORDS as u64,
            _ => 0,
        };
        assert_eq!((report.differences_total, others), (0, expected), "{link}: {report:#?}");
        assert_eq!(verdict, if others > 0 { Verdict::NotCovered } else { Verdict::Fine }, "{link}");
        before.push(others);
    }
    daemon.terminate();

    for damage in [Damage::Lost, Damage::Doubled, Damage::Foreign, Damage::Changed, Damage::Moved, Damage::Reordered] {
        for at in [Where::Beginning, Where::Middle, Where::End] {
            let mut planted = Vec::new();
            rewrite(&whole, &west, &LINKS_TO_WEST, |content| {
                planted = KINDS.iter().map(|kind| plant(damage, at, kind.topic, content)).collect();
            });
            let daemon = site.start();
            for ((kind, is_there), before) in KINDS.iter().zip(planted).zip(&before).filter(|((_, is), _)| *is) {
                let (verdict, report) = verify(&site, kind.link);
                let what = format!("{damage:?} at the {at:?} of {} ({is_there}): {report:#?}", kind.link);
                if kind.is_shared && matches!(damage, Damage::Foreign) {
                    assert_eq!((verdict, of_others(&report)), (Verdict::NotCovered, before + 1), "{what}");
                } else {
                    assert_eq!(verdict, Verdict::Differences, "{what}");
                }
            }
            daemon.terminate();
        }
    }
}

/// Links of a file with a table for each, between clusters with one topic.
fn site(links: &str) -> Site {
    Site::new(&with_clusters(links))
}

fn with_clusters(links: &str) -> String {
    let cluster = |id: &str| format!("[clusters.{id}]\nkind = \"embedded\"\ntopics.in.partitions = 2\n");
    ["east", "west"].map(cluster).concat() + links
}

fn values(numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers.map(|n| json!({"partition": n % 2, "value": json!({ "a": n }).to_string()})).collect()
}

/// Whether output and checkpoint are one transaction is a property of the target. So what is no
/// output of the link is a difference, although the source has more.
#[test]
fn what_a_target_commits_together_is_compared_whatever_the_configuration_says() {
    let link =
        "[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\nconfig.enable_exactly_once = false\n";
    let site = site(link);
    let _daemon = site.start();
    site.client.produce("east", "in", &values(0..10));
    site.client.await_caught_up("l");
    assert!(site.cli(&["link", "stop", "l"]).status.success());
    site.client.produce("east", "in", &values(10..20));
    let (verdict, report) = verify(&site, "l");
    assert_eq!((verdict, report.records_matched, report.exactly_once), (Verdict::Fine, 10, true), "{report:#?}");
    site.client.produce(
        "west",
        "in",
        &[json!({"partition": 0, "value": "foreign"}), json!({"partition": 1, "value": "too"})],
    );
    let (_, report) = verify(&site, "l");
    let kinds: Vec<_> = report.differences.iter().map(|found| &*found.kind).collect();
    assert_eq!((kinds, report.not_covered.len()), (vec!["unexpected"; 2], 0), "{report:#?}");
    let note = report.differences[0].note.as_deref().expect("a note");
    assert!(note.contains("another link or producer may have written it"), "{note}");
}

/// A mark is expected of what a revision has handled that marks, and of nothing else.
#[test]
fn what_was_copied_before_a_link_marked_is_compared() {
    let link = "[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\n";
    let clusters =
        "[clusters.east]\nkind = \"embedded\"\ntopics.in.partitions = 2\n[clusters.west]\nkind = \"embedded\"\n";
    let site = Site::new(&format!("{clusters}{link}"));
    let _daemon = site.start();
    site.client.produce("east", "in", &values(0..10));
    site.client.await_caught_up("l");
    let mut copied = 10;
    for marks in [true, false] {
        site.configure(&format!("{clusters}{link}provenance = {marks}\n"));
        assert!(site.cli(&["reload"]).status.success());
        wait_until("it runs again", || site.client.is_ready());
        site.client.produce("east", "in", &values(copied..copied + 10));
        site.client.await_caught_up("l");
        copied += 10;
        let (verdict, report) = verify(&site, "l");
        assert_eq!((verdict, report.records_matched), (Verdict::Fine, copied as u64), "{report:#?}");
    }
    // What others write looks like what was copied without a mark, and is counted.
    site.client.produce("west", "in", &[json!({"value": "foreign"})]);
    let (verdict, report) = verify(&site, "l");
    assert_eq!((verdict, report.differences_total, of_others(&report)), (Verdict::NotCovered, 0, 1), "{report:#?}");
}

/// Two links of one source say the same of where their records have come through.
#[test]
fn records_of_another_link_with_the_same_mark_are_no_differences() {
    let link = |id: &str, topic: &str| {
        format!(
            "[links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"{topic}\"]\nprovenance = true\n\
             rename = [{{ match = \".*\", to = \"all\" }}]\n"
        )
    };
    let site = site(&(link("l", "in") + &link("m", "more")));
    let _daemon = site.start();
    site.client.post("/api/v1/clusters/east/topics", r#"{"name":"more","partitions":2}"#).expect("an answer");
    site.client.produce("east", "in", &values(0..10));
    site.client.produce("east", "more", &values(100..104));
    wait_until("both are copied", || {
        site.client.topics("west").iter().any(|topic| topic.name == "all")
            && site.client.ends("west", "all").iter().sum::<i64>() == 14
    });
    // What says that it has come through another cluster is of neither.
    let foreign = json!({"value": "foreign", "partition": 0});
    site.client.produce("west", "all", &[foreign]);
    for (link, own) in [("l", 10), ("m", 4)] {
        site.client.await_caught_up(link);
        let (verdict, report) = verify(&site, link);
        assert_eq!((verdict, report.differences_total), (Verdict::NotCovered, 0), "{link}: {report:#?}");
        assert_eq!((report.records_matched, of_others(&report)), (own, 15 - own), "{link}: {report:#?}");
    }
}

/// A filter takes no header away, and no other plugin can.
#[test]
fn a_stage_in_a_net_makes_no_differences() {
    let stage = "[[links.l.pipeline]]\nstage = \"f\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = { pointer = \"/a\", exists = true }\n";
    let site = site(&format!(
        "[links.l]\ntype = \"active-active\"\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\n{stage}"
    ));
    let _daemon = site.start();
    site.client.produce("east", "in", &values(0..4));
    site.client.produce("west", "in", &values(10..16));
    wait_until("both have all", || {
        ["east", "west"].iter().all(|cluster| site.client.ends(cluster, "in").iter().sum::<i64>() == 10)
    });
    for (link, others) in [("l", 6), ("l.reverse", 4)] {
        site.client.await_caught_up(link);
        let (verdict, report) = verify(&site, link);
        assert_eq!((verdict, report.differences_total, of_others(&report)), (Verdict::NotCovered, 0, others));
    }
}

/// A link puts its records aside in a topic that another one had before it.
#[test]
fn dead_letters_of_another_link_are_its_own() {
    let link = |id: &str| {
        format!(
            "[links.{id}]\nsource = \"{}\"\ntarget = \"{}\"\ntopics = [\"in\"]\ntopic_prefix = \"{id}-\"\ndead_letters = \"aside\"\n\
             [[links.{id}.pipeline]]\nstage = \"f\"\nplugin = \"PLUGINS/json-filter.wasm\"\nconfig = {{ pointer = \"/a\", exists = true }}\n",
            "east", "west"
        )
    };
    let site = site(&link("one"));
    let daemon = site.start();
    site.client.produce(
        "east",
        "in",
        &[json!({"value": "bad"}), json!({"value": "worse"}), json!({"value": "{\"a\":1}"})],
    );
    site.client.await_caught_up("one");
    daemon.terminate();
    site.configure(&with_clusters(&link("two")));
    let _daemon = site.start();
    site.client.await_caught_up("two");
    let (verdict, report) = verify(&site, "two");
    assert_eq!((verdict, report.differences_total, of_others(&report)), (Verdict::NotCovered, 0, 2), "{report:#?}");
    assert!(report.not_covered.iter().all(|entry| entry.reason == "these are dead letters of other links"));
    let answered: Vec<Letter> = site.client.read(&format!("{LINKS}/two/dead-letters"));
    let listed: Vec<Letter> = site.cli_json(&["dlq", "list", "two"]);
    for letters in [answered, listed] {
        let links: Vec<_> = letters.iter().map(|letter| letter.reason.clone().expect("a reason").link).collect();
        assert_eq!(links, ["two"; 2]);
    }
}
