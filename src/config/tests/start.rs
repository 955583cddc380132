//! Where a link begins, and what it leaves out.

use crate::config::{MirrorMaker, Start};

use super::{CLUSTERS, check, check_with_clusters, config};

const KAFKA: &str =
    "\n[clusters.east]\nkind = 'kafka'\nbrokers = ['a:1']\n[clusters.west]\nkind = 'kafka'\nbrokers = ['b:1']\n";

fn link(more: &str) -> String {
    format!("[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t', '/t.*/']\n{more}\n")
}

#[test]
fn a_link_may_go_on_where_mirror_maker_stopped() {
    let of = |start: &str| config(&(link(&format!("start = {start}")) + KAFKA)).links["l"].start.clone();
    let before = MirrorMaker { topic: "mm2-offsets.a.internal".into(), source: "a".into(), connector: None };
    assert_eq!(of("{ mirrormaker = 'mm2-offsets.a.internal', source = 'a' }"), Start::MirrorMaker(before.clone()));
    let named = MirrorMaker { source: "east".into(), connector: Some("mm".into()), ..before };
    assert_eq!(of("{ mirrormaker = 'mm2-offsets.a.internal', connector = 'mm' }"), Start::MirrorMaker(named));
    assert_eq!(of("'latest'"), Start::Latest);
}

#[test]
fn what_cannot_be_a_start_is_an_error() {
    check_with_clusters(
        &link("start = { mirrormaker = 'x' }"),
        &[
            "5:9 error links.l.start: MirrorMaker 2 keeps its offsets in a target of Kafka, and this one is embedded | write start = \"earliest\" or \"latest\"",
        ],
    );
    check(
        &(link("start = { source = '', topic = 'x' }") + KAFKA),
        &[
            "5:9 error links.l.start: \"mirrormaker\" is missing | write mirrormaker = \"mm2-offsets.SOURCE.internal\"",
            "5:20 error links.l.start.source: it is empty",
            "5:24 error links.l.start.topic: unknown key \"topic\" | known here: mirrormaker, source, connector",
        ],
    );
    check(
        &(link("start = { mirrormaker = 'a b' }") + KAFKA),
        &[
            "5:25 error links.l.start.mirrormaker: a topic's name cannot have ' ': letters, digits, dot, underscore and hyphen are allowed",
        ],
    );
}

#[test]
fn topics_are_left_out_whatever_else_selects_them() {
    let link = &config(&(link("topics_exclude = ['t-1', '/.*x/']") + CLUSTERS)).links["l"];
    for (topic, is_read) in [("t", true), ("t-1", false), ("t-2", true), ("tx", false), ("txy", true)] {
        assert_eq!(link.selects(topic), is_read, "{topic}");
    }
}

#[test]
fn a_topic_that_is_named_and_left_out_is_an_error() {
    check_with_clusters(
        &link("topics_exclude = ['/t/', 'b*']"),
        &[
            "4:11 error links.l.topics[0]: \"t\" is named here and left out by \"topics_exclude\" | remove it from one of them",
            "5:26 error links.l.topics_exclude[1]: a topic's name cannot have '*': letters, digits, dot, underscore and hyphen are allowed | a regular expression stands between two slashes",
        ],
    );
}
