//! Links that would read what they write.

use crate::config::{Config, LinkConfig, would_loop};

use super::{CLUSTERS, base_dir, check, check_with_clusters, config, parse};

pub(super) fn link(id: &str, from: &str, to: &str, topics: &str, prefix: &str) -> String {
    format!("[links.{id}]\nsource = '{from}'\ntarget = '{to}'\ntopics = [{topics}]\ntopic_prefix = '{prefix}'\n")
}

const HELP: &str = "set a topic_prefix, or choose other topics";
const HELP_OF_SEVERAL: &str =
    "set `provenance = true` for all of these links, or a topic_prefix, or choose other topics";
const HELP_OF_NAMES: &str =
    "leave out with topics_exclude what the other links have copied, or have names return as they went";

#[test]
fn a_link_onto_itself_is_refused() {
    for (topics, prefix, message) in [
        (
            "'t'",
            "",
            "4:11 error links.l.topics[0]: the link would read what it writes: \"t\" goes to \"t\" on the same cluster",
        ),
        (
            "'x', 't', 'p.t'",
            "p.",
            "4:16 error links.l.topics[1]: the link would read what it writes: \"t\" goes to \"p.t\" on the same cluster",
        ),
        (
            "'t', '/p.*/'",
            "p.",
            "4:11 error links.l.topics[0]: the link would read what it writes: \"t\" goes to \"p.t\" on the same cluster",
        ),
        (
            "'/a.*/'",
            "",
            "4:11 error links.l.topics[0]: the link would read what it writes: topics of /a.*/ keep their names on the same cluster",
        ),
    ] {
        check_with_clusters(&link("l", "east", "east", topics, prefix), &[&format!("{message} | {HELP}")]);
    }
}

#[test]
fn a_link_in_place_to_other_topics_is_fine() {
    check_with_clusters(&link("l", "east", "east", "'t', '/a.*/'", "copy."), &[]);
}

#[test]
fn declared_topics_are_looked_at() {
    let text = link("l", "north", "north", "'/.*s/'", "p.");
    let cluster = "[clusters.north]\nkind = 'embedded'\n[clusters.north.topics.orders]\n";
    let message = "the link would read what it writes: \"orders\" goes to \"p.orders\" on the same cluster";
    check_with_clusters(&format!("{text}{cluster}"), &[&format!("4:11 error links.l.topics[0]: {message} | {HELP}")]);
}

#[test]
fn records_do_not_go_back_and_forth() {
    for (there, back) in
        [("'t'", "'t'"), ("'t'", "'/t|u/'"), ("'/t.*/'", "'t'"), ("'/t.*/'", "'/t.*/'"), ("'/t.*/'", "'/.*/'")]
    {
        let text = link("there", "east", "west", there, "") + &link("back", "west", "east", back, "");
        let source = format!("{text}{CLUSTERS}");
        let found = super::parse(&source).expect_err("a circle");
        assert_eq!(found.len(), 1, "{there} {back}: {}", super::show(&found));
        assert!(found[0].message.starts_with("records would go round for ever: "), "{}", found[0]);
    }
    let text = link("there", "east", "west", "'t'", "") + &link("back", "west", "east", "'t'", "");
    let message = "records would go round for ever: \"t\" on west, links.back, \"t\" on east, links.there, and so on";
    check_with_clusters(&text, &[&format!("9:11 error links.back.topics[0]: {message} | {HELP_OF_SEVERAL}")]);
}

/// All links have to say where records have come through.
#[test]
fn provenance_ends_a_circle() {
    let marked = |id: &str, from: &str, to: &str| link(id, from, to, "'t'", "") + "provenance = true\n";
    let plain = |id: &str, from: &str, to: &str| link(id, from, to, "'t'", "");
    let north = "[clusters.north]\nkind = 'embedded'\n";
    check_with_clusters(&(marked("there", "east", "west") + &marked("back", "west", "east")), &[]);
    let ring = marked("a", "east", "west") + &marked("b", "west", "north") + &marked("c", "north", "east") + north;
    check_with_clusters(&ring, &[]);
    for one in ["there", "back"] {
        let of = |id: &str, from: &str, to: &str| if id == one { plain(id, from, to) } else { marked(id, from, to) };
        let text = of("there", "east", "west") + &of("back", "west", "east");
        let found = super::parse(&format!("{text}{CLUSTERS}")).expect_err("a circle");
        assert!(found[0].message.starts_with("records would go round for ever: "), "{}", found[0]);
    }
    let found = super::parse(&format!("{}{CLUSTERS}", marked("l", "east", "east"))).expect_err("onto itself");
    assert!(found[0].message.starts_with("the link would read what it writes"), "{}", found[0]);
}

#[test]
fn a_prefix_breaks_the_circle() {
    for (there, back) in [("'t'", "'t'"), ("'/t.*/'", "'/t.*/'")] {
        let text = link("there", "east", "west", there, "") + &link("back", "west", "east", back, "copy.");
        check_with_clusters(&text, &[]);
    }
}

/// A prefix on both sides is of no use where every name is read: what comes back has two, and so on.
#[test]
fn what_comes_back_with_a_prefix_has_to_be_left_out() {
    let text = link("there", "east", "west", "'/.*/'", "e.") + &link("back", "west", "east", "'/.*/'", "w.");
    let message = "each round would make topics under other names: \"any-topic\" on west, links.back, \
                   \"w.any-topic\" on east, links.there, \"e.w.any-topic\" on west, links.back, and so on";
    let error = |line: u32| format!("{line}:11 error links.back.topics[0]: {message} | {HELP_OF_NAMES}");
    check_with_clusters(&text, &[&error(9)]);
    // A mark ends records, and no name.
    check_with_clusters(&text.replace("topic_prefix", "provenance = true\ntopic_prefix"), &[&error(10)]);
    let excluded = |prefix: &str| format!("topics_exclude = ['/{prefix}\\..*/']\n");
    let text = link("there", "east", "west", "'/.*/'", "e.")
        + &excluded("w")
        + &link("back", "west", "east", "'/.*/'", "w.")
        + &excluded("e");
    check_with_clusters(&text, &[]);
    // Also where a topic is declared that is left out.
    let declared = "[clusters.north]\nkind = 'embedded'\n[clusters.north.topics.'w.any']\n";
    let text = link("there", "north", "west", "'/.*/'", "e.")
        + &excluded("w")
        + &link("back", "west", "north", "'/.*/'", "w.")
        + &excluded("e");
    check_with_clusters(&(text + declared), &[]);
}

#[test]
fn a_circle_of_three_links_is_one_error() {
    let text = link("a", "east", "west", "'t'", "p.")
        + &link("b", "west", "north", "'p.t'", "")
        + &link("c", "north", "east", "'/.*/'", "");
    let message = "records would go round for ever: \"p.t\" on west, links.b, \"p.t\" on north, links.c, \"p.t\" on east, links.d, and so on";
    let text = text + &link("d", "east", "west", "'p.t'", "") + "[clusters.north]\nkind = 'embedded'\n";
    check_with_clusters(&text, &[&format!("4:11 error links.a.topics[0]: {message} | {HELP_OF_SEVERAL}")]);
}

/// Links whose names double with every cluster: no search follows them to the end.
pub(super) fn doubling() -> String {
    let mut text = link("first", "c0", "c1", "'t'", "");
    for from in 0..60 {
        let to = from + 1;
        text += &format!("[clusters.c{from}]\nkind = 'embedded'\n");
        for prefix in ["a", "b"] {
            text += &link(&format!("{prefix}{from}"), &format!("c{from}"), &format!("c{to}"), "'/.*t/'", prefix);
        }
    }
    format!("{text}[clusters.c60]\nkind = 'embedded'\n")
}

#[test]
fn names_that_double_with_every_cluster_end_the_search() {
    check(&doubling(), &[]);
}

/// Only links that mark are asked whether records come twice: they are many here, and the two that
/// do it come last.
#[test]
fn two_ways_among_too_many_topics_are_not_taken_for_none() {
    let topics: Vec<String> = (0..50).map(|number| format!("'t{number}'")).collect();
    let mut text = link("zz1", "x", "y", "'z'", "") + "provenance = true\n";
    text += &(link("zz2", "x", "y", "'z'", "") + "provenance = true\n");
    text += "[clusters.x]\nkind = 'embedded'\n[clusters.y]\nkind = 'embedded'\n[clusters.hub]\nkind = 'embedded'\n";
    for spoke in 0..80 {
        text += &format!("[clusters.c{spoke}]\nkind = 'embedded'\n");
        text += &link(&format!("l{spoke}"), "hub", &format!("c{spoke}"), &topics.join(", "), "");
        text += "type = 'star'\n";
    }
    let found = parse(&text).map(|_| ()).expect_err("not known");
    assert_eq!(found.len(), 1, "{}", super::show(&found));
    assert!(found[0].message.ends_with("too many to be followed: records could come twice"), "{}", found[0].message);
}

/// What a link keeps for itself is free when the link is gone, so it ends no circle.
#[test]
fn a_circle_through_what_another_link_keeps_is_one() {
    let clusters = format!("{CLUSTERS}[clusters.north]\nkind = 'embedded'\n");
    let keeper = link("keeper", "east", "west", "'orders'", "") + "dead_letters = 'dl'\n";
    let all = link("all", "north", "west", "'/.*/'", "");
    let known: Vec<LinkConfig> = config(&(keeper + &all + &clusters)).links.into_values().collect();
    assert!(known.iter().find(|link| &*link.id == "all").is_some_and(|all| all.copy_of("dl").is_err()), "it is kept");
    let back = link("back", "west", "north", "'dl'", "") + &clusters;
    let found = Config::parse_beside(&back, "tidegate.toml", &base_dir(), &known).map(|_| ()).expect_err("a circle");
    assert_eq!(found.len(), 1, "{}", super::show(&found));
    assert!(found[0].message.starts_with("records would go round for ever: \"dl\" on "), "{}", found[0].message);
}

#[test]
fn a_prefix_that_is_wrong_is_not_taken_for_none() {
    let text = link("l", "east", "east", "'t'", "copy ");
    let message = "a topic's name cannot have ' ': letters, digits, dot, underscore and hyphen are allowed";
    check_with_clusters(&text, &[&format!("5:16 error links.l.topic_prefix: {message}")]);
    let unreadable = text.replace("'copy '", "copy");
    check_with_clusters(&unreadable, &["5:16 error : string values must be quoted, expected literal string"]);
}

#[test]
fn topics_found_later_can_be_asked_about() {
    let text = link("inside", "east", "east", "'/a.*/'", "b.") + &link("across", "east", "west", "'/a.*/'", "");
    let config = config(&format!("{text}{CLUSTERS}"));
    let (inside, across) = (&config.links["inside"], &config.links["across"]);
    assert!(!would_loop(inside, "b.ab"));
    assert!(would_loop(inside, "ab"));
    assert!(!would_loop(across, "ab"));
}

/// A link with a stage.
fn staged(id: &str, from: &str, to: &str, topics: &str, more: &str) -> String {
    let stage = "pipeline = [{ stage = 's', plugin = 'plugins/redact.wasm' }]\n";
    link(id, from, to, topics, "copy.") + stage + more
}

#[test]
fn a_link_does_not_read_its_own_dead_letters() {
    let message = "the link would read its own dead letters from";
    let help = "set dead_letters to a topic that it does not read, or choose other topics";
    let error = |place, topic| format!("{place}: {message} {topic:?} | {help}");
    let default = staged("l", "east", "east", "'t', '/l.*letters/'", "");
    check_with_clusters(&default, &[&error("1:1 error links.l", "l.dead-letters")]);
    let written = staged("l", "east", "east", "'t'", "dead_letters = 't'\n");
    check_with_clusters(&written, &[&error("7:16 error links.l.dead_letters", "t")]);

    check_with_clusters(&staged("l", "east", "east", "'/l.*letters/'", "dead_letters = 'bad'\n"), &[]);
    check_with_clusters(&staged("l", "east", "west", "'/l.*letters/'", ""), &[]);
    // Nothing is put aside here.
    check_with_clusters(&default.replace("redact.wasm'", "redact.wasm', on_error = 'skip'"), &[]);
    check_with_clusters(&link("l", "east", "east", "'/l.*letters/'", "copy."), &[]);
}

#[test]
fn no_link_writes_where_something_else_is_kept() {
    let help = "choose another `rename`, `topic_prefix` or `dead_letters`";
    let ours = link("l", "east", "west", "'meta'", "__tidegate.");
    let message = "its copy would be \"__tidegate.meta\", which a program keeps for itself";
    check_with_clusters(&ours, &[&format!("4:11 error links.l.topics[0]: {message} | {help}")]);
    let letters = staged("l", "east", "west", "'t'", "dead_letters = 'copy.t'\n");
    let message = "its copy would be \"copy.t\", where the link puts dead letters";
    check_with_clusters(&letters, &[&format!("4:11 error links.l.topics[0]: {message} | {help}")]);
    let letters = staged("l", "east", "west", "'t'", "dead_letters = '__tidegate.meta'\n");
    let message = "\"__tidegate.meta\" is a topic that a program keeps for itself";
    check_with_clusters(&letters, &[&format!("7:16 error links.l.dead_letters: {message} | choose another name")]);
    // Records that are too large go there whatever stages do.
    let skips = letters.replace("redact.wasm'", "redact.wasm', on_error = 'skip'");
    check_with_clusters(&skips, &[&format!("7:16 error links.l.dead_letters: {message} | choose another name")]);
}

#[test]
fn another_link_may_read_dead_letters_but_not_bring_them_back() {
    let there = |topics| staged("there", "east", "west", topics, "");
    let back = link("back", "west", "east", "'/there\\.dead-letters/'", "");
    check_with_clusters(&(there("'t'") + &back), &[]);
    let message = "records would go round for ever: \"there.dead-letters\" on west, links.back, \"there.dead-letters\" on east, links.there, and so on";
    let both = there("'t', '/there.*/'") + &back;
    check_with_clusters(&both, &[&format!("10:11 error links.back.topics[0]: {message} | {HELP_OF_SEVERAL}")]);
    check_with_clusters(&both.replace("redact.wasm'", "redact.wasm', on_error = 'stop'"), &[]);
    // Letters have one name, so none grows, and their marks end them.
    check_with_clusters(&both.replace("topic_prefix", "provenance = true\ntopic_prefix"), &[]);
}

#[test]
fn no_two_links_go_both_ways_with_one_topic() {
    let both =
        |id: &str, from: &str, to: &str, topics: &str| link(id, from, to, topics, "") + "type = 'active-active'\n";
    let first = both("a", "east", "west", "'t', '/u.*/'");
    for (second, is_double) in [
        (both("b", "west", "east", "'t'"), true),
        (both("b", "east", "west", "'u1'"), true),
        (both("b", "east", "west", "'/u.*/'"), true),
        (both("b", "west", "east", "'v'"), false),
    ] {
        let found = super::parse(&format!("{first}{second}{CLUSTERS}"));
        let errors = found.map_or_else(|errors| errors, |_| Vec::new());
        let messages: Vec<&str> = errors.iter().map(|error| &*error.message).collect();
        let is_told = messages.iter().any(|message| message.ends_with("to each other already, by links.a"));
        assert_eq!((is_told, messages.is_empty()), (is_double, !is_double), "{second}: {messages:?}");
    }
}

/// Whatever is written anywhere comes everywhere on one way.
#[test]
fn the_hub_of_a_spoke_is_one() {
    let star = |id: &str, hub: &str, spoke: &str| link(id, hub, spoke, "'t'", "") + "type = 'star'\n";
    let others = "[clusters.north]\nkind = 'embedded'\n[clusters.south]\nkind = 'embedded'\n";
    let tree = star("a", "east", "west") + &star("b", "east", "north") + &star("c", "north", "south");
    check_with_clusters(&(tree.clone() + others), &[]);
    let of_the_same_hub = link("d", "east", "west", "'u'", "") + "type = 'star'\n";
    check_with_clusters(&(tree.clone() + &of_the_same_hub + others), &[]);
    for (hub, spoke, by) in [("west", "south", "c"), ("south", "east", "b"), ("south", "north", "b")] {
        let found = super::parse(&format!("{tree}{}{others}{CLUSTERS}", star("d", hub, spoke))).expect_err("two ways");
        let message = format!("{spoke} and {hub} have a way to each other already, by links.{by}");
        assert_eq!((found.len(), &found[0].message), (1, &message), "{}", super::show(&found));
        assert_eq!(found[0].key, "links.d.target");
    }
}

#[test]
fn a_circle_is_found_among_many_links_with_many_topics() {
    let topics = |from: usize| (from..from + 500).map(|number| format!("'t{number}'")).collect::<Vec<_>>().join(", ");
    let clusters: String = (0..20).map(|id| format!("[clusters.c{id}]\nkind = 'embedded'\n")).collect();
    // Each link has its own topics, so nothing goes round, until the last one has some of the first.
    let ring: String = (0..19)
        .map(|id| link(&format!("l{id}"), &format!("c{id}"), &format!("c{}", id + 1), &topics(id * 500), ""))
        .collect();
    let apart = link("back", "c1", "c0", &topics(50_000), "");
    check(&format!("{clusters}{ring}{apart}"), &[]);
    let closed = link("back", "c1", "c0", &format!("{}, 't7'", topics(50_000)), "");
    let last = format!("{clusters}{ring}{closed}");
    let found = parse(&last).map(|_| ()).expect_err("a circle");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.starts_with("records would go round for ever: \"t7\" on c"), "{}", found[0].message);
}

/// Two ways to one topic: what one link brings, another one has brought.
#[test]
fn records_do_not_come_twice_in_a_mesh() {
    let north = "[clusters.north]\nkind = 'embedded'\n";
    let pair =
        |id: &str, from: &str, to: &str, more: &str| link(id, from, to, "'t'", "") + "type = 'active-active'\n" + more;
    let mesh = |more: &str| {
        pair("a", "east", "west", more)
            + &pair("b", "west", "north", "")
            + &pair("c", "north", "east", "")
            + north
            + CLUSTERS
    };
    let found = parse(&mesh("")).map(|_| ()).expect_err("two ways");
    let (first, rest) = (&found[0], &found[1..]);
    assert!(rest.is_empty(), "{}", super::show(&found));
    assert!(first.message.contains("and again by links."), "{}", first.message);
    // Each way may have its part of the records.
    let (_, warnings) =
        parse(&mesh("filter = { key_prefix = 'a' }\nreverse.filter = { key_prefix = 'a' }\n")).expect("a mesh");
    assert!(warnings.iter().all(|it| it.message.contains("and again by links.")) && !warnings.is_empty());
    // A way that may have its part does not hide two that have all.
    let marked = "provenance = true\n";
    let all = |id: &str| link(id, "east", "west", "'t'", "") + marked;
    let part = link("b", "east", "west", "'t'", "") + marked + "filter = { key_prefix = 'a' }\n";
    for text in [all("a") + &part + &all("c"), all("c") + &part + &all("a")] {
        let found = parse(&(text + CLUSTERS)).map(|_| ()).expect_err("two ways");
        assert!(found[0].message.contains("and again by links."), "{}", super::show(&found));
    }
    // From a cluster to itself both ways do the same.
    let itself = link("l", "east", "east", "'t'", "p.") + "type = 'active-active'\n";
    let found = parse(&(itself + CLUSTERS)).map(|_| ()).expect_err("two ways");
    assert!(found[0].message.contains("and again by links.l.reverse"), "{}", found[0].message);
    // The search for hubs above it had no end.
    let itself = link("l", "east", "east", "'t'", "p.") + "type = 'star'\n";
    let spoke = link("m", "east", "west", "'t'", "p.") + "type = 'star'\n";
    assert!(parse(&(itself + &spoke + CLUSTERS)).is_err());
    // A chain has one way to each cluster, and links that do not mark may share a topic.
    let chain = pair("a", "east", "west", "") + &pair("b", "west", "north", "") + north;
    check_with_clusters(&chain, &[]);
    let two = link("a", "east", "west", "'t'", "") + &link("b", "east", "west", "'t'", "");
    check_with_clusters(&two, &[]);
}

/// Expressions with nothing but an overlap let names grow, too.
#[test]
fn names_that_two_expressions_have_in_common_are_followed() {
    let text =
        link("there", "east", "west", "'/.*orders.*/'", "e.") + &link("back", "west", "east", "'/.*eu.*/'", "w.");
    for text in [text.clone(), text.replace("topic_prefix", "provenance = true\ntopic_prefix")] {
        let found = parse(&(text + CLUSTERS)).map(|_| ()).expect_err("names grow");
        assert!(found[0].message.starts_with("each round would make topics under other names: "), "{}", found[0]);
        assert!(!found[0].help.as_ref().expect("a help").contains("provenance"));
    }
}

/// What natural expressions have in common is found, however different they look.
#[test]
fn expressions_that_overlap_make_a_circle() {
    let check = |links: &[(&str, &str, &str, &str)]| {
        let text: String = links
            .iter()
            .enumerate()
            .map(|(number, (from, to, topics, prefix))| link(&format!("l{number}"), from, to, topics, prefix))
            .collect();
        let text = format!("{text}{CLUSTERS}[clusters.north]\nkind = 'embedded'\n");
        super::parse(&text).map(|_| ()).map_err(|found| super::show(&found))
    };
    let both = |there: &str, back: &str| check(&[("east", "west", there, ""), ("west", "east", back, "")]);
    for (there, back) in [
        ("'/orders-\\d+/'", "'/.*-2024/'"),
        ("'/.*-(eu|us)/'", "'/pay[a-m]+-.{2}/'"),
        ("'/[a-f]{3}[0-9]+/'", "'/.*(17|18)/'"),
        ("'/(?i)ORDERS/'", "'/[a-z]{6}/'"),
        ("'/\\borders\\b.*/'", "'/.*-2024\\b/'"),
        ("'/\\p{Lu}+-x/'", "'/[A-C]{4}.*/'"),
        ("'x', '/a.*c/'", "'y', '/a[^.]+.*c/'"),
    ] {
        let found = both(there, back).expect_err("a circle");
        assert!(found.contains("records would go round for ever"), "{there} {back}: {found}");
    }
    for (there, back) in [
        ("'/orders-\\d+/'", "'/.*-[a-z]+/'"),
        ("'/a.*b/'", "'/a.*c/'"),
        ("'/[a-f]{3}[0-9]+/'", "'/[a-f]{4}.*/'"),
        ("'/(..)+/'", "'/(..)*./'"),
    ] {
        both(there, back).unwrap_or_else(|found| panic!("{there} {back}: {found}"));
    }
    // What is left out counts: also what dead letters are called.
    let excluded = "'/.*-2024/']\ntopics_exclude = ['/.*[0-9]-2024/', '/orders-2024/'";
    let text = link("there", "east", "west", "'/orders-\\d+/'", "") + &link("back", "west", "east", excluded, "");
    super::check_with_clusters(&text, &[]);
    // A ring of three, of which no two are a circle.
    let ring = [("east", "west", "'/a.*/'", ""), ("west", "north", "'/.*b.*/'", ""), ("north", "east", "'/.*c/'", "")];
    assert!(check(&ring).expect_err("a ring").contains("records would go round for ever"));
    assert_eq!(check(&[ring[0], ring[1], ("north", "east", "'/b.*/'", "")]), Ok(()));
    // A name that comes back with a prefix, and does not stop at that.
    let grows = check(&[("east", "west", "'/.*-\\d{4}/'", "e."), ("west", "east", "'/e\\..*[02]{2}/'", "")]);
    assert!(grows.expect_err("growth").contains("under other names"));
    assert_eq!(
        check(&[("east", "west", "'/[a-d].*-\\d{4}/'", "e."), ("west", "east", "'/e\\..*[02]{2}/'", "")]),
        Ok(())
    );
}

/// Expressions that take long to compare are not compared to the end: `check` answers.
#[test]
fn hostile_expressions_do_not_hold_up_the_check() {
    let wide = |letter: char| format!("'/(.*{letter}.{{60}}|{letter}x)*y/'");
    let mut text = String::from(CLUSTERS);
    for (number, letter) in ('a'..='l').enumerate() {
        text += &link(&format!("there{number}"), "east", "west", &wide(letter), &format!("p{number}."));
        text += &link(&format!("back{number}"), "west", "east", &wide(letter), &format!("q{number}."));
    }
    let found = match super::parse(&text) {
        Ok((_, warnings)) => warnings,
        Err(found) => found,
    };
    // Whether there is such a name is not known, which is not to say that there is none.
    assert!(found.iter().any(|it| it.message.contains("take too long to be compared")), "{}", super::show(&found));
}
