//! A topic that cannot be copied stops only itself, when it comes and when the daemon begins again.

use serde_json::json;
use tidegate::api::wire::{Event, LinkStatus};

use crate::harness::{LINKS, Site, wait_until};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\n[clusters.other]\nkind = \"embedded\"\n\
    [clusters.west]\nkind = \"embedded\"\n";

const LINK: &str = "[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"/.*/\"]\ntopic_prefix = \"p.\"\n\
    rename = [{ match = \"a-.*\", to = \"a\" }]\ntopic_refresh = \"100ms\"\nlanes = 2\n";

/// Its copies stand by for it, and its expression says nothing of names.
const STANDBY: &str = "[links.standby]\nsource = \"other\"\ntarget = \"west\"\ntopics = [\"/s.*/\"]\n\
    topic_prefix = \"p.\"\ntopic_refresh = \"100ms\"\nfailover_config = { enabled = true }\n";

fn create(site: &Site, cluster: &str, topic: &str) {
    let answer = site.client.post(&format!("/api/v1/clusters/{cluster}/topics"), json!({ "name": topic }).to_string());
    assert_eq!(answer.expect("an answer").status, 201, "{topic}");
}

fn write(site: &Site, topic: &str, value: &str) {
    site.client.produce("east", topic, &[json!({ "partition": 0, "value": value })]);
}

fn copied(site: &Site, topic: &str) -> Vec<String> {
    let is_there = site.client.topics("west").iter().any(|it| it.name == topic);
    let records = if is_there { site.client.records("west", topic, 0) } else { Vec::new() };
    records.into_iter().map(|record| String::from_utf8(record.value.expect("a value")).expect("a text")).collect()
}

fn left_out(site: &Site) -> Vec<(String, String)> {
    let notices = site.client.link("copy").notices.into_iter();
    notices.map(|notice| (notice.topic.unwrap_or_default(), notice.code)).collect()
}

#[test]
fn a_topic_that_cannot_be_copied_stops_only_itself() {
    let site = Site::new(&[CLUSTERS, LINK, STANDBY].concat());
    let mut daemon = site.start();
    let long = "n".repeat(248);
    create(&site, "other", "s");
    wait_until("it stands by", || site.client.topics("west").iter().any(|topic| topic.name == "p.s"));
    for topic in ["a-1", "good"] {
        create(&site, "east", topic);
        write(&site, topic, "first");
    }
    wait_until("both are copied", || copied(&site, "p.a") == ["first"] && copied(&site, "p.good") == ["first"]);
    for topic in ["a-2", &long, "s"] {
        create(&site, "east", topic);
        write(&site, topic, "never copied");
    }
    let expected = [("a-2", "topics-collide"), (&*long, "invalid-topic-name"), ("s", "standing-by")];
    let expected = expected.map(|(topic, code)| (topic.to_owned(), code.to_owned()));
    let mut values = vec!["first".to_owned()];
    for round in ["while it runs", "after a restart"] {
        wait_until("each is named", || left_out(&site) == expected);
        for topic in ["a-1", "good"] {
            write(&site, topic, round);
        }
        values.push(round.to_owned());
        wait_until("the others go on", || copied(&site, "p.a") == values && copied(&site, "p.good") == values);
        let link = site.client.link("copy");
        assert_eq!((link.status, link.error), (LinkStatus::Active, None), "{round}");
        let events: Vec<Event> = site.client.read(&format!("{LINKS}/copy/events"));
        assert!(events.iter().all(|event| event.kind != "lane-failed"), "{round}: {events:?}");
        daemon.kill();
        daemon = site.start();
    }
    assert_eq!(copied(&site, "p.s"), Vec::<String>::new());
}

/// A link with dead letters comes while another one copies to their topic: who may write to the source of that could forge some.
#[test]
fn what_a_link_keeps_for_itself_no_other_one_copies() {
    let site = Site::new(&[CLUSTERS, LINK].concat());
    let _daemon = site.start();
    for topic in ["bad", "good"] {
        create(&site, "east", topic);
        write(&site, topic, "before");
    }
    wait_until("both are copied", || copied(&site, "p.bad") == ["before"] && copied(&site, "p.good") == ["before"]);
    let definition = json!({
        "id": "letters", "source_cluster": { "cluster_id": "other" }, "target_cluster": { "cluster_id": "west" },
        "topics": ["x"], "dead_letters": "p.bad", "autostart": false,
    });
    let answer = site.client.post(LINKS, definition.to_string()).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    wait_until("it is left out", || left_out(&site) == [("bad".to_owned(), "invalid-topic-name".to_owned())]);
    wait_until("no lane reads it", || {
        let lanes = site.client.link("copy").lanes;
        lanes.iter().flat_map(|lane| &lane.partitions).all(|partition| partition.topic != "bad")
    });
    write(&site, "bad", "forged");
    write(&site, "good", "after");
    wait_until("the other one goes on", || copied(&site, "p.good") == ["before", "after"]);
    assert_eq!(
        (site.client.link("copy").status, copied(&site, "p.bad")),
        (LinkStatus::Active, vec!["before".to_owned()])
    );
    assert_eq!(site.client.delete(&format!("{LINKS}/letters")).expect("an answer").status, 204);
    wait_until("it is copied again", || copied(&site, "p.bad") == ["before", "forged"]);
}

/// Which of two topics came first nobody can say after a restart, unless one of them was copied.
#[test]
fn of_topics_that_collide_from_the_beginning_none_is_copied() {
    let site = Site::new(&[CLUSTERS, LINK, "autostart = false\n"].concat());
    let _daemon = site.start();
    for topic in ["a-1", "a-2", "good"] {
        create(&site, "east", topic);
        write(&site, topic, "first");
    }
    assert_eq!(site.client.post(&format!("{LINKS}/copy/start"), "").expect("an answer").status, 200);
    wait_until("the other one is copied", || copied(&site, "p.good") == ["first"]);
    let both = ["a-1", "a-2"].map(|topic| (topic.to_owned(), "topics-collide".to_owned()));
    assert_eq!(left_out(&site), both);
    assert!(copied(&site, "p.a").is_empty());
}
