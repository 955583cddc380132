//! Who may write to which topic.

use std::sync::Arc;

use super::circles::link;
use super::{CLUSTERS, config};
use crate::config::{Config, LinkConfig, Why, Writing, may_write};

/// Names that nobody from outside writes to, whoever it is.
const INTERNAL: [&str; 9] = [
    "__tidegate.meta",
    "__tidegate.other.checkpoints",
    "__tidegate.other.state.g2",
    "__tidegate.l.offsets",
    "__consumer_offsets",
    "__transaction_state",
    "tidegate.heartbeats.other",
    "tidegate.heartbeats.l",
    "mm2-offset-syncs.west.internal",
];

fn others(config: &Config) -> Vec<&LinkConfig> {
    config.links.values().collect()
}

fn codes(writers: &[Writing<'_>], topic: &str, others: &[&LinkConfig]) -> Vec<&'static str> {
    writers
        .iter()
        .map(|writer| may_write(*writer, topic, others).map_or_else(|refused| refused.code(), |()| ""))
        .collect()
}

fn ways(link: &LinkConfig) -> [Writing<'_>; 4] {
    [Writing::Copies(link), Writing::Routes(link), Writing::DeadLetters(link), Writing::Client]
}

#[test]
fn what_programs_keep_for_themselves_is_written_to_in_no_way() {
    let config = config(&(link("l", "east", "west", "'t'", "") + CLUSTERS));
    let ways = ways(&config.links["l"]);
    for topic in INTERNAL {
        assert_eq!(codes(&ways, topic, &[]), ["invalid-topic-name"; 4], "{topic}");
    }
    assert_eq!(codes(&ways, "no topic", &[]), ["invalid-topic-name"; 4]);
    for topic in ["orders", "__mine", "heartbeats", "orders.internal"] {
        assert_eq!(codes(&ways, topic, &[]), [""; 4], "{topic}");
    }
}

#[test]
fn a_link_does_not_write_where_others_keep_something() {
    let standby = "failover_config = { enabled = true }\n";
    let letters = "pipeline = [{ stage = 's', plugin = 'plugins/redact.wasm' }]\ndead_letters = 'bad'\n";
    let text = link("l", "east", "west", "'t'", "")
        + &link("standby", "east", "west", "'orders'", "dr.")
        + standby
        + &link("letters", "east", "west", "'u'", "")
        + letters
        + &link("elsewhere", "west", "east", "'other'", "dr.")
        + standby;
    let config = config(&(text + CLUSTERS));
    let (ways, all) = (ways(&config.links["l"]), others(&config));
    assert_eq!(codes(&ways, "dr.orders", &all), ["standing-by", "standing-by", "standing-by", ""]);
    let kept = "invalid-topic-name";
    assert_eq!(codes(&ways, "bad", &all), [kept, kept, kept, ""], "letters are not shared");
    assert_eq!(codes(&ways, "dr.other", &all), [""; 4], "of another cluster");
    let own = [Writing::Copies(&config.links["standby"]), Writing::Routes(&config.links["standby"])];
    assert_eq!(codes(&own, "dr.orders", &all), ["", ""], "it is its own");
}

#[test]
fn a_route_does_not_lead_back_to_where_the_link_reads() {
    let text = link("l", "east", "west", "'t'", "copy.") + &link("back", "west", "east", "'r', 'plain'", "");
    let back = |to: &str| {
        text.replace(
            "topics = ['r', 'plain']",
            &format!("topics = ['r', 'plain']\nrename = [{{ match = 'r', to = '{to}' }}]"),
        )
    };
    let refused = |text: &str| {
        let config = config(&(text.to_owned() + CLUSTERS));
        let refused = may_write(Writing::Routes(&config.links["l"]), "r", &others(&config));
        refused.err().map(|refused| (refused.code(), refused.to_string()))
    };
    let message = "the plugin would route to \"r\", and come back: records would go round for ever: \
                   \"r\" on west, links.back, \"t\" on east, links.l, and so on";
    assert_eq!(refused(&back("t")), Some(("would-loop", message.to_owned())));
    assert_eq!(refused(&back("elsewhere")), None);
    // Each leaves out what has been where it writes.
    let marked = back("t").replace("target = ", "provenance = true\ntarget = ");
    assert_eq!(refused(&marked), None);
}

/// The links that may bring it back are too many to be followed.
#[test]
fn a_route_of_which_nothing_is_known_is_refused() {
    let config = config(&super::circles::doubling());
    let others = others(&config);
    let refused = |topic: &str| {
        may_write(Writing::Routes(&config.links["first"]), topic, &others).err().map(|refused| refused.why)
    };
    assert_eq!(refused("at"), Some(Why::NotFollowed));
    assert_eq!(refused("nobody-reads-this-one"), None);
}

/// Each place that decides about copies asks with what all links keep, whatever it knows of them.
#[test]
fn copies_are_decided_with_what_all_links_keep() {
    let standby = "failover_config = { enabled = true }\n";
    let letters = "dead_letters = 'bad'\n";
    let text = link("l", "east", "west", "'/.*/'", "")
        + &link("standby", "east", "west", "'orders'", "dr.")
        + standby
        + &link("letters", "east", "west", "'u'", "p.")
        + letters
        + &link("elsewhere", "west", "east", "'other'", "dr.")
        + standby;
    let config = config(&(text + CLUSTERS));
    let l = &config.links["l"];
    let refused = |topic: &str| l.copy_of(topic).map_err(|refused| refused.why);
    assert_eq!(refused("bad"), Err(Why::DeadLettersOf("letters".into())));
    assert_eq!(refused("standby.dead-letters"), Err(Why::DeadLettersOf("standby".into())));
    assert_eq!(refused("dr.orders"), Err(Why::StandsBy("standby".into())));
    assert_eq!(refused("elsewhere.dead-letters"), Ok(Some("elsewhere.dead-letters".into())), "of another cluster");
    assert_eq!(refused("orders"), Ok(Some("orders".into())));
    assert_eq!(codes(&ways(l), "bad", &[]), [["invalid-topic-name"; 3].as_slice(), &[""]].concat());
    // A definition of the link that is newer counts instead of what was known of it.
    let newer = LinkConfig { dead_letters: "worse".to_owned(), ..config.links["letters"].clone() };
    assert_eq!(codes(&[Writing::Copies(l)], "bad", &[&newer]), [""]);
    assert_eq!(codes(&[Writing::Copies(l)], "worse", &[&newer]), ["invalid-topic-name"]);
    // All links are gone.
    l.kept.replace(Arc::default());
    assert_eq!(refused("bad"), Ok(Some("bad".into())));
}
