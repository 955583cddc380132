//! How topics follow: names, internal topics, and what is read of it.

use std::time::Duration;

use crate::config::Following;

use super::{CLUSTERS, check_with_clusters, config};

fn link(topics: &str, more: &str) -> String {
    format!("[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = [{topics}]\n{more}\n")
}

#[test]
fn a_link_follows_every_half_minute_unless_it_says_otherwise() {
    let of = |more: &str| config(&(link("'t'", more) + CLUSTERS)).links["l"].following.clone();
    assert_eq!(of(""), Following::default());
    assert_eq!(Following::default().refresh, Duration::from_secs(30));
    let set = Following { refresh: Duration::from_millis(200), settings: false, ..Following::default() };
    assert_eq!(of("topic_refresh = '200ms'\nsync_topic_configs = false"), set);
}

#[test]
fn declared_topics_of_the_target_are_the_files_own() {
    let text =
        link("'t'", "") + "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\ntopics.t = {}\n";
    let declared = &config(&text).links["l"].following.declared;
    assert_eq!(declared.iter().map(|name| &**name).collect::<Vec<_>>(), ["t"]);
}

#[test]
fn what_embedded_clusters_do_not_have_is_a_warning() {
    check_with_clusters(
        &link("'t'", "replication_factor = 3\nsync_topic_acls = true"),
        &[
            "5:22 warning links.l.replication_factor: this changes nothing: an embedded cluster has no replicas | remove it",
            "6:19 warning links.l.sync_topic_acls: this changes nothing: an embedded cluster has no ACLs | remove it",
        ],
    );
}

#[test]
fn the_first_rule_that_matches_gives_the_name_and_the_prefix_stands_before_it() {
    let more =
        "topic_prefix = 'p-'\nrename = [{ match = '^prod\\.(.*)$', to = 'dr.$1' }, { match = 'p.*', to = 'other' }]";
    let link = &config(&(link("'/.*/'", more) + CLUSTERS)).links["l"];
    for (topic, target) in [("prod.orders", "p-dr.orders"), ("payments", "p-other"), ("orders", "p-orders")] {
        assert_eq!(link.target_topic(topic), target);
    }
}

#[test]
fn a_rule_that_cannot_be_is_an_error() {
    check_with_clusters(
        &link("'t'", "rename = [{ match = '(', to = 'a' }, { match = 'a', to = '$1' }, { match = 'a' }]"),
        &[
            "5:21 error links.l.rename[0].match: not a regular expression: unclosed group",
            "5:58 error links.l.rename[1].to: the expression has no group 1",
            "5:66 error links.l.rename[2]: \"to\" is missing | write to = \"the new name\", with $1 for what the first group has matched",
        ],
    );
}

#[test]
fn topics_that_would_become_one_are_an_error() {
    check_with_clusters(
        &link("'a-1', 'a-2'", "rename = [{ match = 'a-.*', to = 'a' }]"),
        &[
            "4:18 error links.l.topics[1]: \"a-1\" and \"a-2\" would both become \"a\" | change `rename`, so that each topic has a name of its own",
        ],
    );
}

/// Both ways of a link add a prefix, so they may rename otherwise.
#[test]
fn topics_that_would_become_one_on_the_reverse_way_are_an_error() {
    let two_way = "type = 'active-active'\ntopic_prefix = 'p.'\nreverse.rename = [{ match = 'a-.*', to = 'a' }]";
    let message = "\"a-1\" and \"a-2\" would both become \"p.a\"";
    let help = "change `reverse.rename`, so that each topic has a name of its own";
    check_with_clusters(
        &link("'a-1', 'a-2'", two_way),
        &[&format!("4:18 error links.l.topics[1]: {message} | {help}")],
    );
    let long = format!(
        "type = 'active-active'\ntopic_prefix = 'p.'\nreverse.rename = [{{ match = 'b', to = '{}' }}]",
        "b".repeat(249)
    );
    let message = "in the source the name is longer than 249 characters";
    check_with_clusters(&link("'a', 'b'", &long), &[&format!("4:16 error links.l.topics[1]: {message}")]);
}

#[test]
fn a_rule_that_makes_a_circle_is_an_error() {
    let text = "[links.l]\nsource = 'east'\ntarget = 'east'\ntopics = ['a', 'b']\nrename = [{ match = 'a', to = 'b' }, { match = 'b', to = 'c' }]\n";
    check_with_clusters(
        text,
        &[
            "4:11 error links.l.topics[0]: the link would read what it writes: \"a\" goes to \"b\" on the same cluster | set a topic_prefix, or choose other topics",
        ],
    );
}

#[test]
fn an_internal_topic_that_is_named_is_an_error() {
    check_with_clusters(
        &link("'__consumer_offsets', 'mine'", ""),
        &[
            "4:11 error links.l.topics[0]: __consumer_offsets is internal: a program keeps it for itself, and a copy of it would be of no use | remove it",
        ],
    );
}
